//! The numbers of the wire: frame types, flags, limits.

/// Frame types: the high four bits of the first byte.
pub mod kind {
    /// A zero byte between frames; skipped.
    pub const PADDING: u8 = 0x0;
    /// One CBOR control message.
    pub const CONTROL: u8 = 0x1;
    /// A published message.
    pub const DATA: u8 = 0x2;
    /// Counts of counted frames.
    pub const ACK: u8 = 0x3;
    /// The relay's clock.
    pub const TIME: u8 = 0x4;
    /// Are you there, and the answer.
    pub const PING: u8 = 0x5;
    /// What a topic id stands for.
    pub const TOPIC: u8 = 0x6;
    /// A piece of a stream.
    pub const CHUNK: u8 = 0x7;
    /// Room for more of a stream.
    pub const CREDIT: u8 = 0x8;
    /// Messages that will not come.
    pub const GAP: u8 = 0x9;
    /// Several frames, compressed; on links where both sides said that they take it.
    pub const PACK: u8 = 0xa;
}

/// DATA flags: the low four bits of the first byte.
pub mod data_flag {
    /// The frame is counted: it asks for delivery and will be acknowledged.
    pub const COUNTED: u8 = 0x1;
    /// The relay keeps it as the topic's last value.
    pub const KEEP: u8 = 0x2;
    /// The payload is sealed end to end.
    pub const SEALED: u8 = 0x4;
    /// The payload is readings under the topic's schema.
    pub const READINGS: u8 = 0x8;
}

/// ACK flags: which counts follow the first, and what is asked.
pub mod ack_flag {
    /// The count of frames durable at the relay follows.
    pub const DURABLE: u8 = 0x1;
    /// The count of frames held by the central instance follows.
    pub const CENTRAL: u8 = 0x2;
    /// What was counted beyond the first count is to be sent again; on serial lines only.
    pub const REPEAT: u8 = 0x4;
}

/// PING flags.
pub mod ping_flag {
    /// The frame is the answer.
    pub const PONG: u8 = 0x1;
}

/// TOPIC flags.
pub mod topic_flag {
    /// The topic's schema follows its name.
    pub const READINGS: u8 = 0x8;
}

/// CHUNK flags.
pub mod chunk_flag {
    /// Nothing of the stream comes after these bytes.
    pub const LAST: u8 = 0x1;
    /// The bytes are sealed end to end.
    pub const SEALED: u8 = 0x4;
}

/// The most bytes a frame may have behind its length.
pub const MAX_BODY: usize = 16 * 1024 * 1024;
/// The most bytes of its stream that a CHUNK may have: what a message behind it waits for at most.
pub const MAX_CHUNK: usize = 16 * 1024;
/// The most bytes that a CHUNK's body has beside them: two numbers.
pub const MAX_CHUNK_HEAD: usize = 5 + 10;
/// The most bytes a frame's length may take.
pub const MAX_LENGTH_BYTES: usize = 4;
/// The most bytes before a frame's body: type and flags, then the length.
pub const MAX_HEAD: usize = 1 + MAX_LENGTH_BYTES;
/// The most bytes that the frames in a PACK have, and the most that its body has.
pub const MAX_PACK: usize = 64 * 1024;
/// The most bytes of an echo token in a PING.
pub const MAX_TOKEN: usize = 16;
