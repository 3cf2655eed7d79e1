//! MQTT 3.1.1, as little of it as a load generator needs: clean sessions, QoS 0 and 1.

use super::{Event, Protocol, ProtocolError};

const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBACK: u8 = 4;
const SUBACK: u8 = 9;
const PINGRESP: u8 = 13;

const KEEP_ALIVE_S: u16 = 600;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    AtMostOnce = 0,
    AtLeastOnce = 1,
}

pub struct Mqtt {
    qos: Qos,
    packet_id: u16,
}

impl Mqtt {
    pub fn new(qos: Qos) -> Self {
        Mqtt { qos, packet_id: 0 }
    }

    /// Packet identifiers run 1..=65535. The driver keeps far fewer in flight, so none is reused
    /// while it still waits for its acknowledgement.
    fn next_packet_id(&mut self) -> u16 {
        self.packet_id = self.packet_id.checked_add(1).unwrap_or(1);
        self.packet_id
    }
}

fn put_remaining_length(mut n: usize, out: &mut Vec<u8>) {
    loop {
        let byte = (n % 128) as u8;
        n /= 128;
        if n == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

/// The fixed header's remaining length: `Ok(None)` while it is not all here.
fn remaining_length(input: &[u8]) -> Result<Option<(usize, usize)>, ProtocolError> {
    let mut value = 0usize;
    for (i, &byte) in input.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((value, i + 1)));
        }
    }
    if input.len() >= 4 {
        return Err(ProtocolError("MQTT remaining length of more than 4 bytes".into()));
    }
    Ok(None)
}

fn put_string(s: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(s.len() as u16).to_be_bytes());
    out.extend_from_slice(s.as_bytes());
}

impl Protocol for Mqtt {
    /// The topic with its length prefix.
    type Topic = Vec<u8>;

    fn connect(&mut self, client_id: &str, out: &mut Vec<u8>) {
        out.push(0x10);
        put_remaining_length(10 + 2 + client_id.len(), out);
        put_string("MQTT", out);
        out.push(4); // protocol level of 3.1.1
        out.push(0x02); // clean session
        out.extend_from_slice(&KEEP_ALIVE_S.to_be_bytes());
        put_string(client_id, out);
    }

    fn subscribe(&mut self, filter: &str, out: &mut Vec<u8>) {
        let id = self.next_packet_id();
        out.push(0x82);
        put_remaining_length(2 + 2 + filter.len() + 1, out);
        out.extend_from_slice(&id.to_be_bytes());
        put_string(filter, out);
        out.push(self.qos as u8);
    }

    fn declare(&mut self, topic: &str, _out: &mut Vec<u8>) -> Option<Vec<u8>> {
        let mut prefixed = Vec::with_capacity(2 + topic.len());
        put_string(topic, &mut prefixed);
        Some(prefixed)
    }

    #[inline]
    fn encode_publish(&mut self, topic: &Vec<u8>, payload: &[u8], out: &mut Vec<u8>) {
        out.push(0x30 | ((self.qos as u8) << 1));
        match self.qos {
            Qos::AtMostOnce => {
                put_remaining_length(topic.len() + payload.len(), out);
                out.extend_from_slice(topic);
            }
            Qos::AtLeastOnce => {
                let id = self.next_packet_id();
                put_remaining_length(topic.len() + 2 + payload.len(), out);
                out.extend_from_slice(topic);
                out.extend_from_slice(&id.to_be_bytes());
            }
        }
        out.extend_from_slice(payload);
    }

    #[inline]
    fn parse(
        &mut self,
        input: &[u8],
        replies: &mut Vec<u8>,
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<usize, ProtocolError> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let Some(&first) = rest.first() else { break };
            let Some((len, len_bytes)) = remaining_length(&rest[1..])? else { break };
            let start = 1 + len_bytes;
            if rest.len() < start + len {
                break;
            }
            let body = &rest[start..start + len];
            match first >> 4 {
                PUBLISH => {
                    let short = || ProtocolError("MQTT PUBLISH too short".into());
                    let prefix = body.get(..2).ok_or_else(short)?;
                    let topic_end = 2 + usize::from(u16::from_be_bytes([prefix[0], prefix[1]]));
                    let payload = if first & 0x06 == 0 {
                        body.get(topic_end..).ok_or_else(short)?
                    } else {
                        let id = body.get(topic_end..topic_end + 2).ok_or_else(short)?;
                        replies.extend_from_slice(&[0x40, 2, id[0], id[1]]);
                        &body[topic_end + 2..]
                    };
                    sink(Event::Delivery { payload });
                }
                PUBACK => sink(Event::Acked(1)),
                CONNACK => match body {
                    [_, 0] => sink(Event::Connected),
                    _ => return Err(ProtocolError(format!("MQTT CONNACK refused: {body:?}"))),
                },
                SUBACK => match body {
                    [_, _, granted] if *granted == self.qos as u8 => sink(Event::Subscribed),
                    _ => return Err(ProtocolError(format!("MQTT SUBACK refused: {body:?}"))),
                },
                PINGRESP => {}
                other => return Err(ProtocolError(format!("MQTT packet type {other}"))),
            }
            used += start + len;
        }
        Ok(used)
    }

    fn acks_publishes(&self) -> bool {
        self.qos == Qos::AtLeastOnce
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::testing::{assert_split_safe, events};

    #[test]
    fn remaining_length_round_trips_at_its_edges() {
        for n in [0, 1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, 268_435_455] {
            let mut out = Vec::new();
            put_remaining_length(n, &mut out);
            assert_eq!(remaining_length(&out), Ok(Some((n, out.len()))));
        }
        assert_eq!(remaining_length(&[0x80]), Ok(None));
        assert!(remaining_length(&[0x80, 0x80, 0x80, 0x80]).is_err());
    }

    #[test]
    fn a_publish_is_parsed_back_as_a_delivery() {
        for qos in [Qos::AtMostOnce, Qos::AtLeastOnce] {
            let mut client = Mqtt::new(qos);
            let topic = client.declare("plant/7/line/3/temp", &mut Vec::new()).unwrap();
            let mut wire = Vec::new();
            client.encode_publish(&topic, &[7; 200], &mut wire);
            client.encode_publish(&topic, b"", &mut wire);
            let (seen, replies) = events(&mut Mqtt::new(qos), &wire);
            assert_eq!(seen, vec![format!("D{:?}", [7u8; 200]), "D[]".to_string()]);
            let acks: &[u8] = match qos {
                Qos::AtMostOnce => &[],
                Qos::AtLeastOnce => &[0x40, 2, 0, 1, 0x40, 2, 0, 2],
            };
            assert_eq!(replies, acks);
            assert_split_safe(|| Mqtt::new(qos), &wire);
        }
    }

    #[test]
    fn the_handshake_bytes_are_those_of_the_standard() {
        let mut client = Mqtt::new(Qos::AtLeastOnce);
        let mut out = Vec::new();
        client.connect("ab", &mut out);
        assert_eq!(out, b"\x10\x0e\x00\x04MQTT\x04\x02\x02\x58\x00\x02ab");
        out.clear();
        client.subscribe("a/#", &mut out);
        assert_eq!(out, b"\x82\x08\x00\x01\x00\x03a/#\x01");
        let (seen, _) =
            events(&mut client, b"\x20\x02\x00\x00\x90\x03\x00\x01\x01\x40\x02\x00\x01");
        assert_eq!(seen, ["C", "S", "A1"]);
    }

    #[test]
    fn refusals_and_garbage_are_errors() {
        let mut sink = |_: Event<'_>| {};
        let mut parse = |bytes: &[u8]| {
            Mqtt::new(Qos::AtLeastOnce).parse(bytes, &mut Vec::new(), &mut sink).is_err()
        };
        assert!(parse(b"\x20\x02\x00\x05"));
        assert!(parse(b"\x90\x03\x00\x01\x80"));
        assert!(parse(b"\x30\x01\x00"));
        assert!(parse(b"\x32\x03\x00\x01a"));
        assert!(parse(b"\xf0\x00"));
    }
}
