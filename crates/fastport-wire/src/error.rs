//! What can be wrong with bytes, and the codes that name it to the other side.

use core::fmt;

/// Why bytes are not what they should be, or do not fit where they should go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum WireError {
    /// A number is over its width or not in its shortest form.
    BadNumber,
    /// A frame, message or packet ends before its last field.
    Truncated,
    /// A frame is longer than this side accepts, or than the wire's 16 MiB.
    TooLong,
    /// A frame type this version does not have.
    UnknownKind(u8),
    /// Flags that the frame type does not have.
    BadFlags(u8),
    /// Bytes stand behind a frame's last field.
    Trailing,
    /// Topic id 0, or an id over 32 bits.
    BadId,
    /// A text field is not UTF-8.
    BadText,
    /// A control message is not a CBOR map of the known shape, or lacks a field it must have.
    BadControl,
    /// A control message with an `op` that this version does not have.
    UnknownOp(u8),
    /// JSON text is not an object of the known shape.
    BadJson,
    /// A topic or filter is not well formed.
    BadTopic(crate::topic::TopicError),
    /// A schema or readings payload is not well formed.
    BadReadings,
    /// A packet's CRC does not match: damaged, or a counted frame before it was lost.
    BadChecksum,
    /// The output is too short for what should be written.
    NoRoom,
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadNumber => f.write_str("number over its width or not in shortest form"),
            Self::Truncated => f.write_str("ends before its last field"),
            Self::TooLong => f.write_str("frame longer than allowed"),
            Self::UnknownKind(kind) => write!(f, "unknown frame type {kind}"),
            Self::BadFlags(flags) => write!(f, "flags {flags:#x} not allowed on this frame"),
            Self::Trailing => f.write_str("bytes behind the last field"),
            Self::BadId => f.write_str("id is 0 or over 32 bits"),
            Self::BadText => f.write_str("text is not UTF-8"),
            Self::BadControl => f.write_str("control message is not of a known shape"),
            Self::UnknownOp(op) => write!(f, "unknown control message {op}"),
            Self::BadJson => f.write_str("JSON is not a message of a known shape"),
            Self::BadTopic(error) => write!(f, "{error}"),
            Self::BadReadings => f.write_str("schema or readings not well formed"),
            Self::BadChecksum => f.write_str("checksum does not match"),
            Self::NoRoom => f.write_str("output too short"),
        }
    }
}

impl core::error::Error for WireError {}

impl From<crate::topic::TopicError> for WireError {
    fn from(error: crate::topic::TopicError) -> Self {
        Self::BadTopic(error)
    }
}
