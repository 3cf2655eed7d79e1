//! NATS core, as little of it as a load generator needs.

use super::{Event, Protocol, ProtocolError};

/// Where the handshake stands: a PING sent after CONNECT or SUB is answered once the server has
/// taken it in, so the PONG that comes back confirms it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaiting {
    Nothing,
    Connect,
    Subscribe,
}

pub struct Nats {
    awaiting: Awaiting,
    next_sid: u64,
}

impl Nats {
    pub fn new() -> Self {
        Nats { awaiting: Awaiting::Nothing, next_sid: 1 }
    }
}

/// `a/+/#` in NATS' own form, `a.*.>`.
fn subject(topic: &str) -> String {
    topic
        .chars()
        .map(|c| match c {
            '/' => '.',
            '+' => '*',
            '#' => '>',
            c => c,
        })
        .collect()
}

fn put_decimal(n: usize, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut n = n;
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn decimal(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0usize, |n, d| {
        d.is_ascii_digit().then_some(())?;
        n.checked_mul(10)?.checked_add(usize::from(d - b'0'))
    })
}

/// The end of the control line that starts `input`, without its CR LF.
#[inline]
fn line_end(input: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', input).map(|lf| lf.saturating_sub(1))
}

impl Protocol for Nats {
    /// `PUB <subject> ` up to the payload's size.
    type Topic = Vec<u8>;

    fn connect(&mut self, client_id: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",");
        out.extend_from_slice(b"\"version\":\"0\",\"protocol\":1,\"name\":\"");
        out.extend_from_slice(client_id.as_bytes());
        out.extend_from_slice(b"\"}\r\nPING\r\n");
        self.awaiting = Awaiting::Connect;
    }

    fn subscribe(&mut self, filter: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"SUB ");
        out.extend_from_slice(subject(filter).as_bytes());
        out.push(b' ');
        put_decimal(self.next_sid as usize, out);
        out.extend_from_slice(b"\r\nPING\r\n");
        self.next_sid += 1;
        self.awaiting = Awaiting::Subscribe;
    }

    fn declare(&mut self, topic: &str, _out: &mut Vec<u8>) -> Option<Vec<u8>> {
        Some(format!("PUB {} ", subject(topic)).into_bytes())
    }

    #[inline]
    fn encode_publish(&mut self, topic: &Vec<u8>, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(topic);
        put_decimal(payload.len(), out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
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
            let Some(end) = line_end(rest) else { break };
            let line = &rest[..end];
            if rest[end] != b'\r' {
                return Err(ProtocolError("NATS control line not closed by CR LF".into()));
            }
            if line.starts_with(b"MSG ") {
                let size = line
                    .rsplit(|&b| b == b' ')
                    .next()
                    .and_then(decimal)
                    .ok_or_else(|| ProtocolError("NATS MSG without a size".into()))?;
                let start = end + 2;
                if rest.len() < start + size + 2 {
                    break;
                }
                if &rest[start + size..start + size + 2] != b"\r\n" {
                    return Err(ProtocolError("NATS payload not closed by CR LF".into()));
                }
                sink(Event::Delivery { payload: &rest[start..start + size] });
                used += start + size + 2;
                continue;
            }
            if line == b"PING" {
                replies.extend_from_slice(b"PONG\r\n");
            } else if line == b"PONG" {
                match std::mem::replace(&mut self.awaiting, Awaiting::Nothing) {
                    Awaiting::Connect => sink(Event::Connected),
                    Awaiting::Subscribe => sink(Event::Subscribed),
                    Awaiting::Nothing => {}
                }
            } else if line.starts_with(b"INFO ") || line == b"+OK" {
                // Nothing in it that this client needs.
            } else {
                return Err(ProtocolError(format!("NATS: {}", String::from_utf8_lossy(line))));
            }
            used += end + 2;
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::testing::{assert_split_safe, events};

    #[test]
    fn topics_and_filters_are_mapped() {
        assert_eq!(subject("plant/7/line/+/temp"), "plant.7.line.*.temp");
        assert_eq!(subject("plant/#"), "plant.>");
    }

    #[test]
    fn a_publish_has_the_form_of_the_protocol() {
        let mut client = Nats::new();
        let topic = client.declare("plant/7", &mut Vec::new()).unwrap();
        let mut wire = Vec::new();
        client.encode_publish(&topic, b"hello", &mut wire);
        client.encode_publish(&topic, b"", &mut wire);
        assert_eq!(wire, b"PUB plant.7 5\r\nhello\r\nPUB plant.7 0\r\n\r\n");
    }

    #[test]
    fn a_session_is_walked_and_pings_are_answered() {
        let wire =
            b"INFO {\"x\":1}\r\nPONG\r\nPING\r\nMSG a.b 1 4\r\n\r\n\r\n\r\nMSG a 1 r.x 2\r\nok\r\n";
        let mut client = Nats::new();
        client.connect("c", &mut Vec::new());
        let (seen, replies) = events(&mut client, wire);
        assert_eq!(seen, ["C".to_string(), "D[13, 10, 13, 10]".into(), "D[111, 107]".into()]);
        assert_eq!(replies, b"PONG\r\n");
        client.subscribe("a", &mut Vec::new());
        assert_eq!(events(&mut client, b"PONG\r\n").0, ["S"]);
        assert_split_safe(
            || {
                let mut client = Nats::new();
                client.connect("c", &mut Vec::new());
                client
            },
            wire,
        );
    }

    #[test]
    fn refusals_and_garbage_are_errors() {
        for bytes in
            [&b"-ERR 'no'\r\n"[..], b"MSG a 1 x\r\n", b"MSG a 1 1\r\nabc\r\n", b"WHAT\r\n", b"\n"]
        {
            let mut sink = |_: Event<'_>| {};
            assert!(Nats::new().parse(bytes, &mut Vec::new(), &mut sink).is_err());
        }
    }
}
