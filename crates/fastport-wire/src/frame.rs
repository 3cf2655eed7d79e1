//! Frames: one byte of type and flags, a LEB128 length of what follows, the body.
//!
//! [`split`] finds a frame's end without reading its body; [`Frame::decode`] reads it. Both are
//! total: bytes give a frame, a wish for more bytes, or one error.

use core::num::NonZeroU32;

use crate::field::{
    MAX_BODY, MAX_LENGTH_BYTES, MAX_TOKEN, ack_flag, chunk_flag, data_flag, kind, ping_flag,
    topic_flag,
};
use crate::{WireError, varint};

/// What the relay calls a topic of a session: the same for all its peers, never 0, never given to
/// another topic within the session's epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(NonZeroU32);

impl TopicId {
    /// The id of that number; `None` for 0.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    #[inline]
    fn take(bytes: &mut &[u8]) -> Result<Self, WireError> {
        u32::try_from(varint::take(bytes)?).ok().and_then(Self::new).ok_or(WireError::BadId)
    }
}

/// The flags of a DATA frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DataFlags(u8);

impl DataFlags {
    /// No flag set.
    pub const NONE: Self = Self(0);
    /// See [`data_flag::COUNTED`].
    pub const COUNTED: Self = Self(data_flag::COUNTED);
    /// See [`data_flag::KEEP`].
    pub const KEEP: Self = Self(data_flag::KEEP);
    /// See [`data_flag::SEALED`].
    pub const SEALED: Self = Self(data_flag::SEALED);
    /// See [`data_flag::READINGS`].
    pub const READINGS: Self = Self(data_flag::READINGS);

    /// The flags of those low four bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0xf)
    }

    /// The low four bits of the frame's first byte.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Why messages did not reach a reader. The numbers are the wire's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum GapCause {
    /// A newer value of the topic took the message's place (policy `latest`).
    Superseded = 0,
    /// The reader's outbox was full.
    Overflow = 1,
    /// The relay's memory budget was used up.
    Budget = 2,
    /// The message grew older than its reader or rule wanted.
    Expired = 3,
    /// The reader went away and did not come back in time.
    ReaderGone = 4,
    /// The frame may have been lost with a link, and its copy was no longer held.
    LinkLost = 5,
    /// A cause that this version has no name for.
    Other = 6,
}

impl GapCause {
    /// All causes, by number.
    pub const ALL: [Self; 7] = [
        Self::Superseded,
        Self::Overflow,
        Self::Budget,
        Self::Expired,
        Self::ReaderGone,
        Self::LinkLost,
        Self::Other,
    ];

    /// The cause of that number; [`GapCause::Other`] for one not known here.
    #[must_use]
    pub fn from_number(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Other)
    }

    /// The name used in JSON, logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::Overflow => "overflow",
            Self::Budget => "budget",
            Self::Expired => "expired",
            Self::ReaderGone => "reader-gone",
            Self::LinkLost => "link-lost",
            Self::Other => "other",
        }
    }
}

/// One frame; its bytes stay where they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame<'a> {
    /// One CBOR control message, see [`crate::control`].
    Control(&'a [u8]),
    /// A published message.
    Data {
        /// Counted, keep, sealed, readings.
        flags: DataFlags,
        /// The topic.
        topic: TopicId,
        /// What was published.
        payload: &'a [u8],
    },
    /// How many counted frames of this link epoch the sender of the ACK has.
    Ack {
        /// In its memory.
        taken: u64,
        /// On its disk; sent where it was asked for.
        durable: Option<u64>,
        /// At the central instance; sent where it was asked for.
        central: Option<u64>,
        /// Counted frames beyond `taken` are to be sent again; on serial lines only.
        repeat: bool,
    },
    /// The relay's clock, for the data frames after it.
    Time {
        /// Milliseconds since 1970-01-01T00:00:00Z.
        unix_ms: u64,
    },
    /// Asks for a PONG with the same token.
    Ping {
        /// At most 16 bytes.
        token: &'a [u8],
    },
    /// The answer to a PING.
    Pong {
        /// The PING's token.
        token: &'a [u8],
    },
    /// What a topic id stands for; sent before its first use towards a peer.
    Topic {
        /// The id.
        id: TopicId,
        /// The name; well formed as a topic only if its reader checks it.
        name: &'a str,
        /// The schema of its readings, see [`crate::readings`].
        schema: Option<&'a [u8]>,
    },
    /// A piece of a stream.
    Chunk {
        /// The stream, as in its OFFER.
        stream: u32,
        /// Where the bytes lie in the stream.
        offset: u64,
        /// Nothing comes after them.
        last: bool,
        /// They are sealed end to end.
        sealed: bool,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// How many more bytes of a stream the receiver can take.
    Credit {
        /// The stream.
        stream: u32,
        /// Bytes beyond those granted before.
        bytes: u64,
    },
    /// Messages that will not come.
    Gap {
        /// Of that topic; `None`: of several.
        topic: Option<TopicId>,
        /// How many.
        count: u64,
        /// Why.
        cause: GapCause,
    },
    /// Several frames, compressed: how long they are, then an LZ4 block. Read by `fastport-pack`.
    Pack(&'a [u8]),
}

/// Where a frame lies in the bytes it was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Type in the high, flags in the low four bits.
    pub first: u8,
    /// How many bytes stand before the body: 2 to [`crate::field::MAX_HEAD`]; 1 for padding.
    pub head: usize,
    /// How many bytes the body has: 0 to [`MAX_BODY`].
    pub body: usize,
}

impl Head {
    /// The frame's type, see [`kind`].
    #[inline]
    #[must_use]
    pub const fn kind(self) -> u8 {
        self.first >> 4
    }

    /// The frame's flags.
    #[inline]
    #[must_use]
    pub const fn flags(self) -> u8 {
        self.first & 0xf
    }

    /// How many bytes the whole frame has.
    #[inline]
    #[must_use]
    pub const fn total(self) -> usize {
        self.head + self.body
    }
}

/// Reads the head of the frame at the front of `bytes`; the body need not be there yet.
///
/// `Ok(None)` asks for more bytes. A padding byte is a head with nothing behind it.
///
/// # Errors
/// [`WireError::TooLong`] when the body is over `max_body` or [`MAX_BODY`];
/// [`WireError::BadNumber`] for a length not in its shortest form; [`WireError::UnknownKind`].
#[inline]
pub fn head(bytes: &[u8], max_body: usize) -> Result<Option<Head>, WireError> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    if first == 0 {
        return Ok(Some(Head { first, head: 1, body: 0 }));
    }
    if !(kind::CONTROL..=kind::PACK).contains(&(first >> 4)) {
        return Err(match first >> 4 {
            kind::PADDING => WireError::BadFlags(first),
            unknown => WireError::UnknownKind(unknown),
        });
    }
    let (body, length) = match rest.first() {
        None => return Ok(None),
        Some(&byte) if byte < 0x80 => (usize::from(byte), 1),
        Some(_) => {
            let window = rest.get(..MAX_LENGTH_BYTES).unwrap_or(rest);
            match varint::decode(window)? {
                Some((body, length)) => {
                    (usize::try_from(body).map_err(|_| WireError::TooLong)?, length)
                }
                None if window.len() < MAX_LENGTH_BYTES => return Ok(None),
                None => return Err(WireError::TooLong),
            }
        }
    };
    if body > max_body || body > MAX_BODY {
        return Err(WireError::TooLong);
    }
    Ok(Some(Head { first, head: 1 + length, body }))
}

/// Finds the frame at the front of `bytes`: its head and its body. What follows it begins at
/// [`Head::total`].
///
/// `Ok(None)` asks for more bytes.
///
/// # Errors
/// As [`head`].
#[inline]
pub fn split(bytes: &[u8], max_body: usize) -> Result<Option<(Head, &[u8])>, WireError> {
    let Some(head) = head(bytes, max_body)? else { return Ok(None) };
    Ok(bytes.get(head.head..head.total()).map(|body| (head, body)))
}

impl<'a> Frame<'a> {
    /// Reads the first frame of `bytes`, skipping padding; returns it and how many bytes both took.
    ///
    /// `Ok(None)` asks for more bytes.
    ///
    /// # Errors
    /// As [`head`], and for a body that is not what its type says.
    pub fn decode(bytes: &'a [u8], max_body: usize) -> Result<Option<(Self, usize)>, WireError> {
        let mut rest = bytes;
        while let Some((&0, after)) = rest.split_first() {
            rest = after;
        }
        let padding = bytes.len() - rest.len();
        let Some((head, body)) = split(rest, max_body)? else { return Ok(None) };
        Ok(Some((Self::from_parts(head, body)?, padding + head.total())))
    }

    /// Reads a frame from its head and body, as [`split`] gives them; padding is no frame.
    ///
    /// # Errors
    /// For a body that is not what its type says.
    pub fn from_parts(head: Head, body: &'a [u8]) -> Result<Self, WireError> {
        let allowed = match head.kind() {
            kind::DATA => 0xf,
            kind::ACK => ack_flag::DURABLE | ack_flag::CENTRAL | ack_flag::REPEAT,
            kind::PING => ping_flag::PONG,
            kind::TOPIC => topic_flag::READINGS,
            kind::CHUNK => chunk_flag::LAST | chunk_flag::SEALED,
            _ => 0,
        };
        let flags = head.flags();
        if flags & !allowed != 0 {
            return Err(WireError::BadFlags(flags));
        }
        let mut rest = body;
        let frame = match head.kind() {
            kind::CONTROL => return Ok(Self::Control(body)),
            kind::PACK => return Ok(Self::Pack(body)),
            kind::DATA => {
                let topic = TopicId::take(&mut rest)?;
                return Ok(Self::Data { flags: DataFlags(flags), topic, payload: rest });
            }
            kind::ACK => {
                let taken = varint::take(&mut rest)?;
                let mut count_if =
                    |flag: u8| (flags & flag != 0).then(|| varint::take(&mut rest)).transpose();
                let durable = count_if(ack_flag::DURABLE)?;
                let central = count_if(ack_flag::CENTRAL)?;
                Self::Ack { taken, durable, central, repeat: flags & ack_flag::REPEAT != 0 }
            }
            kind::TIME => Self::Time { unix_ms: varint::take(&mut rest)? },
            kind::PING if body.len() > MAX_TOKEN => return Err(WireError::TooLong),
            kind::PING if flags & ping_flag::PONG != 0 => return Ok(Self::Pong { token: body }),
            kind::PING => return Ok(Self::Ping { token: body }),
            kind::TOPIC => {
                let id = TopicId::take(&mut rest)?;
                let name = take_text(&mut rest)?;
                let has_schema = flags & topic_flag::READINGS != 0;
                let schema = has_schema.then(|| core::mem::take(&mut rest));
                Self::Topic { id, name, schema }
            }
            kind::CHUNK => {
                let stream = take_u32(&mut rest)?;
                let offset = varint::take(&mut rest)?;
                let last = flags & chunk_flag::LAST != 0;
                let sealed = flags & chunk_flag::SEALED != 0;
                return Ok(Self::Chunk { stream, offset, last, sealed, bytes: rest });
            }
            kind::CREDIT => {
                Self::Credit { stream: take_u32(&mut rest)?, bytes: varint::take(&mut rest)? }
            }
            kind::GAP => {
                let topic = TopicId::new(take_u32(&mut rest)?);
                let count = varint::take(&mut rest)?;
                let (&cause, after) = rest.split_first().ok_or(WireError::Truncated)?;
                rest = after;
                Self::Gap { topic, count, cause: GapCause::from_number(cause) }
            }
            unknown => return Err(WireError::UnknownKind(unknown)),
        };
        if rest.is_empty() { Ok(frame) } else { Err(WireError::Trailing) }
    }

    /// How many bytes [`Frame::encode`] writes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let body = self.body_len();
        1 + varint::len(body as u64) + body
    }

    /// Writes the frame to the front of `out`; returns how many bytes it took.
    ///
    /// # Errors
    /// [`WireError::NoRoom`] when `out` is shorter than [`Frame::encoded_len`];
    /// [`WireError::TooLong`] when a field is longer than the wire allows.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, WireError> {
        let body = self.body_len();
        let token_len = match self {
            Self::Ping { token } | Self::Pong { token } => token.len(),
            _ => 0,
        };
        if body > MAX_BODY || token_len > MAX_TOKEN {
            return Err(WireError::TooLong);
        }
        let total = self.encoded_len();
        let mut out = Writer { out: out.get_mut(..total).ok_or(WireError::NoRoom)?, at: 0 };
        out.byte(self.first_byte())?;
        out.number(body as u64)?;
        match *self {
            Self::Control(bytes)
            | Self::Ping { token: bytes }
            | Self::Pong { token: bytes }
            | Self::Pack(bytes) => out.bytes(bytes)?,
            Self::Data { topic, payload, .. } => {
                out.number(topic.get().into())?;
                out.bytes(payload)?;
            }
            Self::Ack { taken, durable, central, .. } => {
                out.number(taken)?;
                for count in [durable, central].into_iter().flatten() {
                    out.number(count)?;
                }
            }
            Self::Time { unix_ms } => out.number(unix_ms)?,
            Self::Topic { id, name, schema } => {
                out.number(id.get().into())?;
                out.number(name.len() as u64)?;
                out.bytes(name.as_bytes())?;
                out.bytes(schema.unwrap_or_default())?;
            }
            Self::Chunk { stream, offset, bytes, .. } => {
                out.number(stream.into())?;
                out.number(offset)?;
                out.bytes(bytes)?;
            }
            Self::Credit { stream, bytes } => {
                out.number(stream.into())?;
                out.number(bytes)?;
            }
            Self::Gap { topic, count, cause } => {
                out.number(topic.map_or(0, TopicId::get).into())?;
                out.number(count)?;
                out.byte(cause as u8)?;
            }
        }
        Ok(total)
    }

    /// Type in the high, flags in the low four bits.
    #[must_use]
    pub fn first_byte(&self) -> u8 {
        let flag_if = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let (kind, flags) = match self {
            Self::Control(_) => (kind::CONTROL, 0),
            Self::Data { flags, .. } => (kind::DATA, flags.bits()),
            Self::Ack { durable, central, repeat, .. } => (
                kind::ACK,
                flag_if(durable.is_some(), ack_flag::DURABLE)
                    | flag_if(central.is_some(), ack_flag::CENTRAL)
                    | flag_if(*repeat, ack_flag::REPEAT),
            ),
            Self::Time { .. } => (kind::TIME, 0),
            Self::Ping { .. } => (kind::PING, 0),
            Self::Pong { .. } => (kind::PING, ping_flag::PONG),
            Self::Topic { schema, .. } => {
                (kind::TOPIC, flag_if(schema.is_some(), topic_flag::READINGS))
            }
            Self::Chunk { last, sealed, .. } => (
                kind::CHUNK,
                flag_if(*last, chunk_flag::LAST) | flag_if(*sealed, chunk_flag::SEALED),
            ),
            Self::Credit { .. } => (kind::CREDIT, 0),
            Self::Gap { .. } => (kind::GAP, 0),
            Self::Pack(_) => (kind::PACK, 0),
        };
        kind << 4 | flags
    }

    fn body_len(&self) -> usize {
        let number = |value: u32| varint::len(value.into());
        match *self {
            Self::Control(bytes)
            | Self::Ping { token: bytes }
            | Self::Pong { token: bytes }
            | Self::Pack(bytes) => bytes.len(),
            Self::Data { topic, payload, .. } => number(topic.get()) + payload.len(),
            Self::Ack { taken, durable, central, .. } => {
                varint::len(taken) + durable.map_or(0, varint::len) + central.map_or(0, varint::len)
            }
            Self::Time { unix_ms } => varint::len(unix_ms),
            Self::Topic { id, name, schema } => {
                let name = varint::len(name.len() as u64) + name.len();
                number(id.get()) + name + schema.map_or(0, <[u8]>::len)
            }
            Self::Chunk { stream, offset, bytes, .. } => {
                number(stream) + varint::len(offset) + bytes.len()
            }
            Self::Credit { stream, bytes } => number(stream) + varint::len(bytes),
            Self::Gap { topic, count, .. } => {
                number(topic.map_or(0, TopicId::get)) + varint::len(count) + 1
            }
        }
    }
}

#[inline]
fn take_u32(bytes: &mut &[u8]) -> Result<u32, WireError> {
    u32::try_from(varint::take(bytes)?).map_err(|_| WireError::BadId)
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, WireError> {
    let length = usize::try_from(varint::take(bytes)?).map_err(|_| WireError::Truncated)?;
    let (text, rest) = bytes.split_at_checked(length).ok_or(WireError::Truncated)?;
    *bytes = rest;
    core::str::from_utf8(text).map_err(|_| WireError::BadText)
}

/// Writes fields one after another into a slice of the right length.
struct Writer<'a> {
    out: &'a mut [u8],
    /// 0 <= at <= out.len()
    at: usize,
}

impl Writer<'_> {
    fn byte(&mut self, byte: u8) -> Result<(), WireError> {
        self.bytes(&[byte])
    }

    fn number(&mut self, value: u64) -> Result<(), WireError> {
        let rest = self.out.get_mut(self.at..).ok_or(WireError::NoRoom)?;
        self.at += varint::encode(value, rest)?;
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        let end = self.at + bytes.len();
        self.out.get_mut(self.at..end).ok_or(WireError::NoRoom)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::*;

    fn id(number: u32) -> TopicId {
        TopicId::new(number).expect("tests use ids over 0")
    }

    fn round_trip(frame: Frame<'_>, bytes: &[u8]) {
        let mut out = [0; 64];
        let length = frame.encode(&mut out).expect("64 bytes are enough");
        assert_eq!(&out[..length], bytes, "{frame:?}");
        assert_eq!(Frame::decode(bytes, MAX_BODY), Ok(Some((frame, bytes.len()))));
    }

    #[test]
    fn each_frame_has_these_bytes() {
        let flags = DataFlags::COUNTED.with(DataFlags::READINGS);
        round_trip(Frame::Control(&[0xa0]), &[0x10, 1, 0xa0]);
        round_trip(Frame::Data { flags, topic: id(5), payload: &[1, 2] }, &[0x29, 3, 5, 1, 2]);
        let ack = |taken, durable, central, repeat| Frame::Ack { taken, durable, central, repeat };
        round_trip(ack(300, None, None, false), &[0x30, 2, 0xac, 2]);
        round_trip(ack(3, Some(2), Some(1), false), &[0x33, 3, 3, 2, 1]);
        round_trip(ack(3, None, Some(1), false), &[0x32, 2, 3, 1]);
        round_trip(ack(3, None, None, true), &[0x34, 1, 3]);
        round_trip(Frame::Time { unix_ms: 128 }, &[0x40, 2, 0x80, 1]);
        round_trip(Frame::Ping { token: &[] }, &[0x50, 0]);
        round_trip(Frame::Pong { token: &[9] }, &[0x51, 1, 9]);
        round_trip(Frame::Topic { id: id(1), name: "a/b", schema: None }, b"\x60\x05\x01\x03a/b");
        round_trip(
            Frame::Topic { id: id(1), name: "a", schema: Some(&[7]) },
            b"\x68\x04\x01\x01a\x07",
        );
        round_trip(
            Frame::Chunk { stream: 1, offset: 2, last: true, sealed: true, bytes: &[3] },
            &[0x75, 3, 1, 2, 3],
        );
        round_trip(Frame::Credit { stream: 1, bytes: 200 }, &[0x80, 3, 1, 0xc8, 1]);
        round_trip(
            Frame::Gap { topic: None, count: 4, cause: GapCause::Overflow },
            &[0x90, 3, 0, 4, 1],
        );
    }

    #[test]
    fn padding_is_skipped() {
        let bytes = [0, 0, 0x50, 0];
        assert_eq!(Frame::decode(&bytes, 64), Ok(Some((Frame::Ping { token: &[] }, 4))));
        assert_eq!(Frame::decode(&[0, 0], 64), Ok(None));
    }

    #[test]
    fn each_fault_has_its_name() {
        for (bytes, error) in [
            (&[0x0f, 0][..], WireError::BadFlags(0x0f)),
            (&[0xb0, 0], WireError::UnknownKind(0xb)),
            (&[0x50, 65], WireError::TooLong),
            (&[0x50, 0xff, 0xff, 0xff, 0xff], WireError::TooLong),
            (&[0x50, 0x80, 0x00], WireError::BadNumber),
            (&[0x58, 0], WireError::BadFlags(8)),
            (&[0x50, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], WireError::TooLong),
            (&[0x20, 1, 0], WireError::BadId),
            (&[0x20, 0], WireError::Truncated),
            (&[0x40, 2, 1, 1], WireError::Trailing),
            (&[0x60, 3, 1, 1, 0xff], WireError::BadText),
            (&[0x60, 3, 1, 9, b'a'], WireError::Truncated),
            (&[0x90, 2, 1, 1], WireError::Truncated),
        ] {
            assert_eq!(Frame::decode(bytes, 64), Err(error), "{bytes:x?}");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_body_comes() {
        assert_eq!(head(&[0x20, 0x81, 0x01], 128), Err(WireError::TooLong));
        assert_eq!(head(&[0x20, 0x80], 128), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_frame_that_encodes_to_them_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let Ok(Some((frame, taken))) = Frame::decode(&bytes, MAX_BODY) else { return Ok(()) };
            // the number of an unknown cause is not kept
            if matches!(frame, Frame::Gap { cause: GapCause::Other, .. }) {
                return Ok(());
            }
            let padding = bytes.iter().take_while(|&&byte| byte == 0).count();
            let mut out = [0; 96];
            let length = frame.encode(&mut out).expect("not longer than what it came from");
            prop_assert_eq!(&out[..length], &bytes[padding..taken]);
        }

        #[test]
        fn every_data_frame_comes_back(
            bits in 0u8..16, number in 1u32.., payload in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let frame = Frame::Data { flags: DataFlags::from_bits(bits), topic: id(number), payload: &payload };
            let mut out = vec![0; frame.encoded_len()];
            let length = frame.encode(&mut out).expect("encoded_len bytes are enough");
            prop_assert_eq!(Frame::decode(&out, MAX_BODY), Ok(Some((frame, length))));
            for cut in 0..length {
                prop_assert_eq!(Frame::decode(&out[..cut], MAX_BODY), Ok(None));
            }
        }
    }
}
