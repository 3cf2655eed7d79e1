//! The protocol of the floor relay (`floor.rs`): frames that can be copied through unread.
//!
//! A frame is one byte of kind, two bytes of little-endian body length, and the body. A publish's
//! body is one byte of topic length, the topic, and the payload.

use super::{Event, Protocol, ProtocolError};

pub const HEADER: usize = 3;
pub const HELLO: u8 = 1;
pub const SUBSCRIBE: u8 = 2;
pub const PUBLISH: u8 = 3;

/// The kind and whole length of the frame that starts `input`, once it is all there.
#[inline]
pub fn frame(input: &[u8]) -> Option<(u8, usize)> {
    let header = input.get(..HEADER)?;
    let len = HEADER + usize::from(u16::from_le_bytes([header[1], header[2]]));
    (input.len() >= len).then_some((header[0], len))
}

pub fn put_header(kind: u8, body: usize, out: &mut Vec<u8>) {
    let [lo, hi] = (body as u16).to_le_bytes();
    out.extend_from_slice(&[kind, lo, hi]);
}

pub struct Raw;

impl Raw {
    pub fn new() -> Self {
        Raw
    }
}

impl Protocol for Raw {
    /// The topic with its length prefix.
    type Topic = Vec<u8>;

    fn connect(&mut self, _client_id: &str, out: &mut Vec<u8>) {
        put_header(HELLO, 0, out);
    }

    fn subscribe(&mut self, filter: &str, out: &mut Vec<u8>) {
        put_header(SUBSCRIBE, filter.len(), out);
        out.extend_from_slice(filter.as_bytes());
    }

    fn declare(&mut self, topic: &str, _out: &mut Vec<u8>) -> Option<Vec<u8>> {
        let mut prefixed = vec![topic.len() as u8];
        prefixed.extend_from_slice(topic.as_bytes());
        Some(prefixed)
    }

    #[inline]
    fn encode_publish(&mut self, topic: &Vec<u8>, payload: &[u8], out: &mut Vec<u8>) {
        put_header(PUBLISH, topic.len() + payload.len(), out);
        out.extend_from_slice(topic);
        out.extend_from_slice(payload);
    }

    #[inline]
    fn parse(
        &mut self,
        input: &[u8],
        _replies: &mut Vec<u8>,
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<usize, ProtocolError> {
        let mut used = 0;
        while let Some((kind, len)) = frame(&input[used..]) {
            let body = &input[used + HEADER..used + len];
            match kind {
                PUBLISH => {
                    let payload = body
                        .first()
                        .and_then(|&topic| body.get(1 + usize::from(topic)..))
                        .ok_or_else(|| ProtocolError("raw PUBLISH too short".into()))?;
                    sink(Event::Delivery { payload });
                }
                HELLO => sink(Event::Connected),
                SUBSCRIBE => sink(Event::Subscribed),
                other => return Err(ProtocolError(format!("raw frame kind {other}"))),
            }
            used += len;
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::testing::{assert_split_safe, events};

    #[test]
    fn a_publish_is_parsed_back_as_a_delivery() {
        let mut client = Raw::new();
        let topic = client.declare("plant/7", &mut Vec::new()).unwrap();
        let mut wire = Vec::new();
        client.encode_publish(&topic, b"hi", &mut wire);
        assert_eq!(wire, b"\x03\x0a\x00\x07plant/7hi");
        assert_eq!(events(&mut client, &wire).0, ["D[104, 105]"]);
        assert_split_safe(Raw::new, &wire);
    }

    #[test]
    fn garbage_is_an_error() {
        let mut sink = |_: Event<'_>| {};
        assert!(Raw.parse(b"\x03\x00\x00", &mut Vec::new(), &mut sink).is_err());
        assert!(Raw.parse(b"\x09\x00\x00", &mut Vec::new(), &mut sink).is_err());
    }
}
