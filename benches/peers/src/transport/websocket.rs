//! A client's side of RFC 6455, as little of it as a load generator needs: binary messages of one
//! frame each, pongs, no extensions.

use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};
use memchr::memmem;

pub struct WebSocket {
    addr: SocketAddr,
    open: bool,
    /// The mask of the next frame. The RFC wants masks that a page cannot foresee; all that matters
    /// here is that the relay has to take them off.
    mask: u32,
}

impl WebSocket {
    pub fn new(addr: SocketAddr) -> Self {
        WebSocket { addr, open: false, mask: 0x9e37_79b9 }
    }

    /// Whether the relay has agreed to speak WebSocket.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Appends the request.
    pub fn ask(&self, wire: &mut Vec<u8>) {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Protocol: fastport.2\r\n\r\n",
            self.addr
        );
        wire.extend_from_slice(request.as_bytes());
    }

    /// Appends `plain` as one binary message.
    pub fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        self.put_frame(BINARY, plain, wire);
    }

    fn put_frame(&mut self, kind: u8, payload: &[u8], wire: &mut Vec<u8>) {
        self.mask = self.mask.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        wire.push(FINAL | kind);
        match payload.len() {
            length @ 0..=125 => wire.push(MASKED | length as u8),
            length @ 126..=0xffff => {
                wire.push(MASKED | LENGTH_16);
                wire.extend_from_slice(&(length as u16).to_be_bytes());
            }
            length => {
                wire.push(MASKED | LENGTH_64);
                wire.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        let mask = self.mask.to_ne_bytes();
        wire.extend_from_slice(&mask);
        let start = wire.len();
        wire.extend_from_slice(payload);
        mask_bytes(mask, &mut wire[start..]);
    }

    /// As [`super::Transport::open`].
    pub fn open(
        &mut self,
        input: &[u8],
        wire: &mut Vec<u8>,
        parse: &mut impl FnMut(&[u8]) -> Result<usize>,
    ) -> Result<usize> {
        let mut used = 0;
        if !self.open {
            let Some(end) = memmem::find(input, b"\r\n\r\n") else { return Ok(0) };
            let answer = String::from_utf8_lossy(&input[..end]);
            ensure!(
                answer.starts_with("HTTP/1.1 101 ") && answer.contains(ACCEPT),
                "no WebSocket: {answer}"
            );
            self.open = true;
            used = end + 4;
        }
        while let Some((kind, start, end)) = frame(&input[used..])? {
            let payload = &input[used + start..used + end];
            match kind {
                BINARY => {
                    let parsed = parse(payload)?;
                    ensure!(parsed == payload.len(), "a frame is spread over WebSocket messages");
                }
                PING => self.put_frame(PONG, payload, wire),
                PONG => {}
                other => bail!("WebSocket frame of kind {other}"),
            }
            used += end;
        }
        Ok(used)
    }
}

/// Kind, start and end of the payload of the frame that starts `input`, once it is all there.
fn frame(input: &[u8]) -> Result<Option<(u8, usize, usize)>> {
    let Some((&[first, second], rest)) = input.split_first_chunk() else { return Ok(None) };
    ensure!(first & 0xf0 == FINAL, "a WebSocket message in pieces, or with an extension");
    ensure!(second & MASKED == 0, "a masked WebSocket frame from a server");
    let (length, start) = match second {
        LENGTH_16 => match rest.first_chunk() {
            Some(&bytes) => (usize::from(u16::from_be_bytes(bytes)), 4),
            None => return Ok(None),
        },
        LENGTH_64 => match rest.first_chunk() {
            Some(&bytes) => (usize::try_from(u64::from_be_bytes(bytes))?, 10),
            None => return Ok(None),
        },
        short => (usize::from(short), 2),
    };
    ensure!(length <= MAX_MESSAGE, "a WebSocket message of {length} bytes");
    Ok((input.len() - start >= length).then_some((first & 0x0f, start, start + length)))
}

/// Exclusive-or with the mask over and over, eight bytes at a time.
fn mask_bytes(mask: [u8; 4], bytes: &mut [u8]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let mut eight = [0; 8];
        eight.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(eight) ^ wide).to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

const BINARY: u8 = 0x2;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
/// The last, here the only, frame of a message.
const FINAL: u8 = 0x80;
const MASKED: u8 = 0x80;
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
/// More than a relay has reason to send at once.
const MAX_MESSAGE: usize = 1 << 28;
/// Key and answer of the example in RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> WebSocket {
        WebSocket::new(SocketAddr::from(([127, 0, 0, 1], 80)))
    }

    #[test]
    fn masked_bytes_are_those_of_the_rfc() {
        // RFC 6455, section 5.7: "Hello", masked
        let mut bytes = *b"Hello";
        mask_bytes([0x37, 0xfa, 0x21, 0x3d], &mut bytes);
        assert_eq!(bytes, [0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        let mut long = [7; 21];
        mask_bytes([1, 2, 3, 4], &mut long);
        assert_eq!(long[16..], [6, 5, 4, 3, 6]);
    }

    #[test]
    fn a_message_is_whole_at_every_length() {
        for length in [0, 125, 126, 0xffff, 0x1_0000] {
            let mut wire = Vec::new();
            socket().seal(&vec![9; length], &mut wire);
            let masked = wire.len() - length;
            let mask = wire[masked - 4..masked].try_into().unwrap();
            mask_bytes(mask, &mut wire[masked..]);
            wire.drain(masked - 4..masked);
            wire[1] &= !MASKED;
            let (kind, start, end) = frame(&wire).unwrap().unwrap();
            assert_eq!((kind, end - start, end), (BINARY, length, wire.len()));
            assert!(wire[start..].iter().all(|&byte| byte == 9));
            assert_eq!(frame(&wire[..wire.len() - 1]).unwrap(), None);
        }
    }

    #[test]
    fn the_upgrade_comes_before_the_messages_and_pings_are_answered() {
        let mut socket = socket();
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        let mut take = |bytes: &[u8]| {
            plain.push(bytes.to_vec());
            Ok(bytes.len())
        };
        assert_eq!(socket.open(b"HTTP/1.1 101 S", &mut wire, &mut take).unwrap(), 0);
        let answer = format!("HTTP/1.1 101 Switching Protocols\r\nX: {ACCEPT}\r\n\r\n");
        let input = [answer.as_bytes(), b"\x82\x02ab\x89\x01p\x82\x05x"].concat();
        let used = socket.open(&input, &mut wire, &mut take).unwrap();
        assert_eq!(used, input.len() - 3);
        assert_eq!(plain, [b"ab"]);
        assert_eq!(wire[..2], [FINAL | PONG, MASKED | 1]);
    }

    #[test]
    fn what_is_no_agreement_and_what_is_in_pieces_is_refused() {
        let mut take = |bytes: &[u8]| Ok(bytes.len());
        let wire = &mut Vec::new();
        assert!(socket().open(b"HTTP/1.1 403 No\r\n\r\n", wire, &mut take).is_err());
        let mut open = socket();
        open.open = true;
        assert!(open.open(b"\x02\x01a", wire, &mut take).is_err());
        assert!(open.open(b"\x82\x81aaaab", wire, &mut take).is_err());
        assert!(open.open(b"\x88\x00", wire, &mut take).is_err());
    }
}
