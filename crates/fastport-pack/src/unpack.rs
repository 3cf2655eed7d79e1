//! From PACK frames to the frames in them.

use alloc::vec::Vec;
use core::fmt;

use fastport_wire::field::{MAX_BODY, MAX_PACK, kind};
use fastport_wire::{WireError, frame, varint};

/// What stands at the front of bytes that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Other frames, up to the next PACK or to the end: the last of them may not be whole.
    Frames(&'a [u8]),
    /// A whole PACK.
    Pack {
        /// For [`unpack`].
        body: &'a [u8],
        /// Bytes of the frame.
        total: usize,
    },
    /// The beginning of a PACK, or nothing.
    Beginning,
}

/// Why a PACK is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackError {
    /// Its body has so many bytes, over [`MAX_PACK`].
    TooLong(usize),
    /// It has flags.
    Flags(u8),
    /// It does not say in the right way how long its frames are: 1 to [`MAX_PACK`].
    Length,
    /// Its block is not one of LZ4, or not of the length it says.
    Block,
    /// There is a PACK in it.
    Nested,
    /// What is in it ends inside a frame.
    Cut,
    /// What is in it are no frames.
    Frame(WireError),
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(f, "PACK of {bytes} bytes, at most {MAX_PACK}"),
            Self::Flags(flags) => write!(f, "flags {flags:#x} not allowed on PACK"),
            Self::Length => write!(f, "PACK does not hold 1 to {MAX_PACK} bytes"),
            Self::Block => f.write_str("PACK's block is not LZ4 of the length it says"),
            Self::Nested => f.write_str("PACK in a PACK"),
            Self::Cut => f.write_str("PACK ends inside a frame"),
            Self::Frame(error) => write!(f, "in a PACK: {error}"),
        }
    }
}

impl core::error::Error for PackError {}

/// What stands at the front of `bytes`, which begin with a frame.
///
/// # Errors
/// [`PackError`] for a PACK's head.
pub fn first_part(bytes: &[u8]) -> Result<Part<'_>, PackError> {
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        // whoever takes the frames says what is wrong with them
        let Ok(Some(head)) = frame::head(rest, MAX_BODY) else { break };
        if head.kind() != kind::PACK {
            at += head.total();
            continue;
        }
        if at > 0 {
            return Ok(Part::Frames(bytes.get(..at).unwrap_or(bytes)));
        }
        if head.flags() != 0 {
            return Err(PackError::Flags(head.flags()));
        }
        if head.body > MAX_PACK {
            return Err(PackError::TooLong(head.body));
        }
        let body = rest.get(head.head..head.total());
        return Ok(body.map_or(Part::Beginning, |body| Part::Pack { body, total: head.total() }));
    }
    Ok(if bytes.is_empty() { Part::Beginning } else { Part::Frames(bytes) })
}

/// Takes out what a PACK holds: `frames` has it then, and nothing else.
///
/// # Errors
/// [`PackError`]; `frames` has then nothing of use.
pub fn unpack(body: &[u8], frames: &mut Vec<u8>) -> Result<(), PackError> {
    frames.clear();
    let mut block = body;
    let length = varint::take(&mut block).map_err(|_| PackError::Length)?;
    let length = usize::try_from(length).map_err(|_| PackError::Length)?;
    if length == 0 || length > MAX_PACK {
        return Err(PackError::Length);
    }
    frames.resize(length, 0);
    match lz4_flex::block::decompress_into(block, frames) {
        Ok(written) if written == length => check(frames),
        _ => Err(PackError::Block),
    }
}

/// Whether these are whole frames, and none of them a PACK.
fn check(frames: &[u8]) -> Result<(), PackError> {
    let mut rest = frames;
    while !rest.is_empty() {
        let head = frame::head(rest, MAX_BODY).map_err(PackError::Frame)?;
        let head = head.ok_or(PackError::Cut)?;
        if head.kind() == kind::PACK {
            return Err(PackError::Nested);
        }
        rest = rest.get(head.total()..).ok_or(PackError::Cut)?;
    }
    Ok(())
}
