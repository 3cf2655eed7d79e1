//! How a journal lies in a file: a head, then pieces with their length and checksum.
//!
//! ```text
//! head:   magic 8 | boot id 16 | start u64 | crc32 u32 | 0 u32      numbers little-endian
//! piece:  length u32, not 0 | crc32 of length and body u32 | body
//! ```
//!
//! The first piece is at `start`; what lies before it counts no more.

use std::fmt;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;

use crc::{CRC_32_ISO_HDLC, Crc};
use fastport_core::session::BadRecord;
use rustix::io::Errno;

use crate::clock;

/// What was found in a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// How far it is sound.
    pub bytes: u64,
    /// It was written since the machine was started.
    pub is_of_this_boot: bool,
    /// What ended it, if not its end.
    pub damage: Option<Damage>,
}

/// What is wrong with a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// It does not begin as a journal of this version.
    Head,
    /// A piece is cut short, as when the process ended while it was written.
    CutShort {
        /// Where it begins.
        at: u64,
    },
    /// A piece is not what was written.
    Checksum {
        /// Where it begins.
        at: u64,
    },
    /// A piece is sound, and its records make no sense here.
    Records {
        /// Where it begins.
        at: u64,
    },
    /// The file cannot be read.
    Unreadable {
        /// Where.
        at: u64,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("no head of a journal"),
            Self::CutShort { at } => write!(f, "cut short in the piece at byte {at}"),
            Self::Checksum { at } => write!(f, "wrong checksum of the piece at byte {at}"),
            Self::Records { at } => write!(f, "records without sense in the piece at byte {at}"),
            Self::Unreadable { at } => write!(f, "unreadable at byte {at}"),
        }
    }
}

/// The head of a journal whose first piece is at `start`.
pub(super) fn head(start: u64) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&MAGIC);
    head[8..24].copy_from_slice(&boot_id());
    head[24..32].copy_from_slice(&start.to_le_bytes());
    let crc = CRC.checksum(&head[..32]);
    head[32..36].copy_from_slice(&crc.to_le_bytes());
    head
}

/// Writes a piece at `at`; returns where the next one goes. When it fails, the file ends where it
/// ended before, as far as that works.
pub(super) fn write_piece(file: &File, at: u64, body: &[u8]) -> io::Result<u64> {
    let length = u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    if length == 0 {
        return Ok(at);
    }
    let mut head = [0; PIECE_HEAD];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..].copy_from_slice(&checksum(length, body).to_le_bytes());
    let written = write_both(file, at, &head, body);
    if let Err(error) = written {
        // where this fails, too, the piece is overwritten by the next, or found cut short
        file.set_len(at).unwrap_or_default();
        return Err(error);
    }
    Ok(at + PIECE_HEAD as u64 + u64::from(length))
}

/// Writes what mostly goes at once.
fn write_both(file: &File, at: u64, head: &[u8], body: &[u8]) -> io::Result<()> {
    let slices = [IoSlice::new(head), IoSlice::new(body)];
    let written = match rustix::io::pwritev(file, &slices, at) {
        Err(Errno::INTR) => 0,
        written => written?,
    };
    let of_body = written.saturating_sub(head.len());
    let rest = head.get(written..).unwrap_or_default();
    file.write_all_at(rest, at + written as u64)?;
    let at = at + (head.len() + of_body) as u64;
    file.write_all_at(body.get(of_body..).unwrap_or_default(), at)
}

/// Whether a journal was begun since the machine was started; not, where it has no head.
pub(super) fn is_of_this_boot(file: &File) -> bool {
    let mut head = [0; HEAD];
    let is_read = file.read_exact_at(&mut head, 0).is_ok();
    is_read && parse_head(&head).is_some_and(|(_, boot)| boot == boot_id())
}

/// Reads a journal, giving each piece's body to `apply`.
pub(super) fn read(file: &File, apply: &mut dyn FnMut(&[u8]) -> Result<(), BadRecord>) -> Found {
    let mut found = Found { bytes: 0, is_of_this_boot: false, damage: Some(Damage::Head) };
    let mut head = [0; HEAD];
    let Ok(end) = file.metadata().map(|metadata| metadata.len()) else { return found };
    if file.read_exact_at(&mut head, 0).is_err() {
        return found;
    }
    let Some((start, boot)) = parse_head(&head).filter(|&(start, _)| start >= HEAD as u64) else {
        return found;
    };
    (found.is_of_this_boot, found.bytes) = (boot == boot_id(), start);
    let mut body = Vec::new();
    found.damage = loop {
        let at = found.bytes;
        if at == end {
            break None;
        }
        let piece = match read_piece(file, at, end, &mut body) {
            Ok(piece) => piece,
            Err(damage) => break Some(damage),
        };
        if apply(&body).is_err() {
            break Some(Damage::Records { at });
        }
        found.bytes = piece;
    };
    found
}

/// Reads the piece at `at`; returns where the next one is.
fn read_piece(file: &File, at: u64, end: u64, body: &mut Vec<u8>) -> Result<u64, Damage> {
    let mut head = [0; PIECE_HEAD];
    let start = at + PIECE_HEAD as u64;
    if start > end {
        return Err(Damage::CutShort { at });
    }
    file.read_exact_at(&mut head, at).map_err(|_| Damage::Unreadable { at })?;
    let [a, b, c, d, crc @ ..] = head;
    let (length, crc) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(crc));
    let next = start + u64::from(length);
    if next > end {
        return Err(Damage::CutShort { at });
    }
    if length == 0 {
        return Err(Damage::Checksum { at });
    }
    // not more than the file has
    body.resize(length as usize, 0);
    file.read_exact_at(body, start).map_err(|_| Damage::Unreadable { at })?;
    if checksum(length, body) != crc {
        return Err(Damage::Checksum { at });
    }
    Ok(next)
}

fn parse_head(head: &[u8; HEAD]) -> Option<(u64, [u8; 16])> {
    let (magic, rest) = head.split_first_chunk::<8>()?;
    let (boot, rest) = rest.split_first_chunk::<16>()?;
    let (start, rest) = rest.split_first_chunk::<8>()?;
    let (crc, _) = rest.split_first_chunk::<4>()?;
    let is_whole = CRC.checksum(head.get(..32)?) == u32::from_le_bytes(*crc);
    (*magic == MAGIC && is_whole).then(|| (u64::from_le_bytes(*start), *boot))
}

fn checksum(length: u32, body: &[u8]) -> u32 {
    let mut digest = CRC.digest();
    digest.update(&length.to_le_bytes());
    digest.update(body);
    digest.finalize()
}

/// What the kernel calls this start of the machine; zeros: it does not say.
fn boot_id() -> [u8; 16] {
    let text = clock::boot_id();
    let mut digits = text.bytes().filter_map(|byte| char::from(byte).to_digit(16));
    std::array::from_fn(|_| {
        let mut digit = || digits.next().and_then(|digit| u8::try_from(digit).ok()).unwrap_or(0);
        digit() << 4 | digit()
    })
}

/// The last byte is the version: one that it does not know, the daemon does not read.
const MAGIC: [u8; 8] = *b"fpjourn\x01";
pub(super) const HEAD: usize = 40;
pub(super) const PIECE_HEAD: usize = 8;
const CRC: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);
