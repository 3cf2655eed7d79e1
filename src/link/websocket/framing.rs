//! WebSocket frames (RFC 6455, section 5.2), read where they lie and written without a copy.
//!
//! It holds no payload: who reads gets the bytes of a message as they come, and puts together what
//! has to be.

use std::ops::Range;

/// What the peer's bytes are not: WebSocket as a server may get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Violation;

/// What comes next in a peer's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// A part of a message, unmasked, where it lies; maybe empty.
    Message { at: Range<usize>, is_text: bool, is_last: bool },
    /// A ping's payload, unmasked.
    Ping(Range<usize>),
    /// A pong.
    Pong,
    /// The peer closes; what it says to that, unmasked.
    Close(Range<usize>),
    /// What is left is not enough to go on: a frame's head, or a control frame that is not all there.
    Nothing,
}

/// Reads a peer's frames.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Of a message's frame that has begun: payload bytes that have not come.
    left: u64,
    /// The mask of the next of them first.
    mask: [u8; 4],
    is_inside_frame: bool,
    is_final: bool,
    /// The message that has begun is text, or not.
    message: Option<bool>,
}

impl Reader {
    /// Takes what comes next in `bytes` from `at` on, unmasks it in place, and moves `at` behind it.
    ///
    /// # Errors
    /// [`Violation`]; the link is then of no use any more.
    #[inline]
    pub(super) fn next(&mut self, bytes: &mut [u8], at: &mut usize) -> Result<Piece, Violation> {
        if !self.is_inside_frame {
            let Some(head) = Head::parse(bytes.get(*at..).unwrap_or_default())? else {
                return Ok(Piece::Nothing);
            };
            if head.opcode >= opcode::CLOSE {
                return self.next_control(&head, bytes, at);
            }
            let is_text = match (head.opcode, self.message) {
                (opcode::TEXT, None) => true,
                (opcode::BINARY, None) => false,
                (opcode::CONTINUATION, Some(is_text)) => is_text,
                _ => return Err(Violation),
            };
            (self.message, self.is_final) = (Some(is_text), head.is_final);
            (self.left, self.mask, self.is_inside_frame) = (head.payload, head.mask, true);
            *at += head.length;
        }
        let here = bytes.len() - *at;
        let length = usize::try_from(self.left).map_or(here, |left| left.min(here));
        if length == 0 && self.left > 0 {
            return Ok(Piece::Nothing);
        }
        let range = *at..*at + length;
        unmask(bytes.get_mut(range.clone()).unwrap_or_default(), self.mask);
        self.mask.rotate_left(length % 4);
        self.left -= length as u64;
        *at = range.end;
        self.is_inside_frame = self.left > 0;
        let is_last = self.is_final && !self.is_inside_frame;
        let is_text = self.message == Some(true);
        if is_last {
            self.message = None;
        }
        Ok(Piece::Message { at: range, is_text, is_last })
    }

    fn next_control(
        &self,
        head: &Head,
        bytes: &mut [u8],
        at: &mut usize,
    ) -> Result<Piece, Violation> {
        let length = match usize::try_from(head.payload) {
            Ok(length) if length <= MAX_CONTROL && head.is_final => length,
            _ => return Err(Violation),
        };
        let range = *at + head.length..*at + head.length + length;
        let Some(payload) = bytes.get_mut(range.clone()) else { return Ok(Piece::Nothing) };
        unmask(payload, head.mask);
        *at = range.end;
        match head.opcode {
            opcode::CLOSE => Ok(Piece::Close(range)),
            opcode::PING => Ok(Piece::Ping(range)),
            opcode::PONG => Ok(Piece::Pong),
            _ => Err(Violation),
        }
    }
}

/// The head of a peer's frame.
struct Head {
    opcode: u8,
    is_final: bool,
    mask: [u8; 4],
    payload: u64,
    /// Of the head itself.
    length: usize,
}

impl Head {
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let Some((&[first, second], rest)) = bytes.split_first_chunk() else { return Ok(None) };
        // no extension was agreed on, and who connects has to mask
        if first & RESERVED != 0 || second & MASKED == 0 {
            return Err(Violation);
        }
        let (payload, rest) = match second & !MASKED {
            LENGTH_16 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            LENGTH_64 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            length => (u64::from(length), rest),
        };
        let Some((&mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        Ok(Some(Self {
            opcode: first & OPCODE,
            is_final: first & FINAL != 0,
            mask,
            payload,
            length: bytes.len() - rest.len(),
        }))
    }
}

/// Takes the mask off, 64 bytes at a time.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (long, rest) = bytes.as_chunks_mut::<64>();
    for chunk in long {
        for word in chunk.as_chunks_mut().0 {
            *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
    }
    let (chunks, rest) = rest.as_chunks_mut();
    for chunk in chunks {
        *chunk = (u64::from_ne_bytes(*chunk) ^ wide).to_ne_bytes();
    }
    let (half, rest) = rest.as_chunks_mut();
    for chunk in half {
        *chunk = (u32::from_ne_bytes(*chunk) ^ u32::from_ne_bytes(mask)).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip([a, b, c]) {
        *byte ^= mask;
    }
}

/// The head of a whole message, or control frame, that is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentHead {
    bytes: [u8; MAX_SENT_HEAD],
    length: usize,
}

impl SentHead {
    pub(super) fn new(opcode: u8, payload: usize) -> Self {
        let mut bytes = [0; MAX_SENT_HEAD];
        let (start, rest) = bytes.split_at_mut(2);
        let (second, length) = match (u8::try_from(payload), u16::try_from(payload)) {
            (Ok(length), _) if usize::from(length) <= MAX_CONTROL => (length, 2),
            (_, Ok(length)) => {
                rest[..2].copy_from_slice(&length.to_be_bytes());
                (LENGTH_16, 4)
            }
            _ => {
                rest.copy_from_slice(&(payload as u64).to_be_bytes());
                (LENGTH_64, 10)
            }
        };
        start.copy_from_slice(&[FINAL | opcode, second]);
        Self { bytes, length }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// What a frame is (RFC 6455, section 11.8).
pub(super) mod opcode {
    pub(in super::super) const CONTINUATION: u8 = 0;
    pub(in super::super) const TEXT: u8 = 1;
    pub(in super::super) const BINARY: u8 = 2;
    pub(in super::super) const CLOSE: u8 = 8;
    pub(in super::super) const PING: u8 = 9;
    pub(in super::super) const PONG: u8 = 10;
}

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
/// In place of a length: it follows in 16 bits, or in 64.
const LENGTH_16: u8 = 126;
const LENGTH_64: u8 = 127;
/// A control frame's payload, and the longest length that needs no more bytes.
const MAX_CONTROL: usize = 125;
const MAX_SENT_HEAD: usize = 10;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
    use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

    use super::*;

    /// A client's frame, its head as tungstenite writes it.
    fn frame(opcode: OpCode, is_final: bool, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader { is_final, opcode, mask: Some(mask), ..FrameHeader::default() };
        let mut bytes = Vec::new();
        header.format(payload.len() as u64, &mut bytes).expect("a vector takes all");
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    /// What a reader makes of bytes that come in pieces: messages, and control frames' payloads.
    fn read(bytes: &[u8], steps: &[usize]) -> Result<Vec<(char, Vec<u8>)>, Violation> {
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        let (mut message, mut rest) = (Vec::new(), bytes);
        let mut held: Vec<u8> = Vec::new();
        let mut steps = steps.iter().cycle();
        while !rest.is_empty() {
            let step = steps.next().map_or(rest.len(), |&step| step.min(rest.len()));
            held.extend_from_slice(&rest[..step]);
            rest = &rest[step..];
            let mut at = 0;
            loop {
                match reader.next(&mut held, &mut at)? {
                    Piece::Message { at, is_text, is_last } => {
                        message.extend_from_slice(&held[at]);
                        if is_last {
                            let kind = if is_text { 't' } else { 'b' };
                            found.push((kind, std::mem::take(&mut message)));
                        }
                    }
                    Piece::Ping(at) => found.push(('p', held[at].to_vec())),
                    Piece::Close(at) => found.push(('c', held[at].to_vec())),
                    Piece::Pong => {}
                    Piece::Nothing => break,
                }
            }
            held.drain(..at);
            assert!(held.len() < 14 + MAX_CONTROL, "no more is held than a control frame");
        }
        Ok(found)
    }

    proptest! {
        #[test]
        fn what_a_client_masks_is_read_however_it_is_cut(
            messages in proptest::collection::vec(
                (any::<bool>(), any::<[u8; 4]>(), proptest::collection::vec(any::<u8>(), 0..300), 1..5_usize),
                1..6,
            ),
            long in 0..70_000_usize,
            steps in proptest::collection::vec(1..400_usize, 1..5),
        ) {
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            let mut add = |is_text, mask, payload: &[u8], parts: usize| {
                let kind = OpCode::Data(if is_text { Data::Text } else { Data::Binary });
                let size = (payload.len() / parts).max(1);
                let mut chunks: Vec<_> = payload.chunks(size).collect();
                if chunks.is_empty() {
                    chunks.push(&[]);
                }
                for (number, chunk) in chunks.iter().enumerate() {
                    let opcode = if number == 0 { kind } else { OpCode::Data(Data::Continue) };
                    bytes.extend(frame(opcode, number + 1 == chunks.len(), mask, chunk));
                    // control frames may stand between a message's parts
                    bytes.extend(frame(OpCode::Control(Control::Ping), true, mask, &mask));
                    expected.push(('p', mask.to_vec()));
                }
                let ping = expected.pop().expect("one for each part");
                expected.push((if is_text { 't' } else { 'b' }, payload.to_vec()));
                expected.push(ping);
            };
            for (is_text, mask, payload, parts) in &messages {
                add(*is_text, *mask, payload, *parts);
            }
            add(false, [1, 2, 3, 4], &vec![7; long], 1);
            prop_assert_eq!(read(&bytes, &steps).expect("all is right"), expected);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes, &[3]).map(|_| ()).unwrap_or_default();
        }
    }

    #[test]
    fn what_a_client_may_not_send_is_refused() {
        let masked = |first: u8, length: u8| vec![first, 0x80 | length, 0, 0, 0, 0];
        for (what, bytes) in [
            ("no mask", vec![0x82, 0]),
            ("a reserved bit", masked(0xc2, 0)),
            ("an unknown kind", masked(0x83, 0)),
            ("an unknown control frame", masked(0x8b, 0)),
            ("a ping in parts", masked(0x09, 0)),
            ("a long ping", vec![0x89, 0xfe, 0, 126, 0, 0, 0, 0]),
            ("a part of nothing", masked(0x80, 0)),
            ("a message in a message", [masked(0x02, 0), masked(0x81, 0)].concat()),
        ] {
            assert_eq!(read(&bytes, &[]), Err(Violation), "{what}");
        }
    }

    #[test]
    fn heads_have_the_shortest_length() {
        for (payload, expected) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 0xff, 0xff]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(SentHead::new(opcode::BINARY, payload).as_bytes(), expected);
        }
    }
}
