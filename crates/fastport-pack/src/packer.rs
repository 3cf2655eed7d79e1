//! From frames to PACK frames, where it pays.

use alloc::vec;
use alloc::vec::Vec;

use fastport_wire::field::{MAX_BODY, kind};
use fastport_wire::{frame, varint};

/// The sending side of a link: takes whole frames, gives the bytes to write.
///
/// Its user asks in turn: [`Packer::output`] is written and [`Packer::advance`]d; when there is none,
/// [`Packer::take`] takes frames and [`Packer::pack`] makes the next output; what it does not take
/// goes out as it is, as much as [`Packer::direct`] says.
#[derive(Debug, Default)]
pub struct Packer {
    /// taken, and not looked at
    raw: Vec<u8>,
    /// to be written from `start` on. start <= output.len()
    output: Vec<u8>,
    start: usize,
    /// bytes to come of a frame that goes out as it is and was begun
    begun: usize,
    /// the first frame goes out by itself: before it the other side does not know
    is_first_due: bool,
    /// bytes that go out as they are, since it did not pay
    resting: usize,
    /// for how many it rests when it does not pay again
    rest_next: usize,
}

impl Packer {
    /// For a link on which both sides know that they may.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For a link whose first frame says that they may.
    #[must_use]
    pub fn after_first() -> Self {
        Self { is_first_due: true, ..Self::default() }
    }

    /// The bytes to write next.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.output.get(self.start..).unwrap_or_default()
    }

    /// Notes that so many bytes of the output were written; without any left it owns no memory.
    pub fn advance(&mut self, written: usize) {
        self.start += written;
        if self.start >= self.output.len() {
            (self.output, self.start) = (Vec::new(), 0);
        }
    }

    /// Takes whole frames from the front of `frames`, at most `most` bytes and [`BATCH`]; how many
    /// bytes. 0: the output is not written, or what is next goes out as it is.
    pub fn take(&mut self, frames: &[u8], most: usize) -> usize {
        if self.begun > 0 || !self.output.is_empty() || !self.raw.is_empty() {
            return 0;
        }
        let length = whole_frames(frames, most.min(BATCH), self.is_first_due);
        let taken = frames.get(..length).unwrap_or_default();
        self.raw.extend_from_slice(taken);
        self.is_first_due &= taken.is_empty();
        length
    }

    /// Makes output of what was taken: a PACK of it where that is shorter by a tenth, else as it is.
    pub fn pack(&mut self) {
        let raw = core::mem::take(&mut self.raw);
        if raw.is_empty() {
            return;
        }
        self.start = 0;
        self.output = if raw.len() < LEAST {
            raw
        } else if self.resting > 0 {
            self.resting = self.resting.saturating_sub(raw.len());
            raw
        } else if let Some(packed) = packed(&raw) {
            self.rest_next = 0;
            packed
        } else {
            self.rest_next = (self.rest_next * 2).clamp(REST_FIRST, REST_MOST);
            self.resting = self.rest_next;
            raw
        };
    }

    /// How many bytes at the front of `frames`, of which [`Packer::take`] took none, are to go out as
    /// they are: of one frame, that is longer than a batch.
    #[must_use]
    pub fn direct(&self, frames: &[u8]) -> usize {
        let is_busy = !self.output.is_empty() || !self.raw.is_empty();
        match frame::head(frames, MAX_BODY) {
            _ if is_busy => 0,
            _ if self.begun > 0 => self.begun.min(frames.len()),
            Ok(Some(head)) => head.total().min(frames.len()),
            _ => frames.len(),
        }
    }

    /// So many bytes of what [`Packer::direct`] said were written of `frames`.
    pub fn passed(&mut self, frames: &[u8], written: usize) {
        if written == 0 {
            return;
        }
        if self.begun == 0 {
            let head = frame::head(frames, MAX_BODY).ok().flatten();
            self.begun = head.map_or(written, |head| head.total());
        }
        self.begun = self.begun.saturating_sub(written);
        self.is_first_due = false;
    }
}

/// A PACK of these frames, if it is shorter by a tenth.
fn packed(frames: &[u8]) -> Option<Vec<u8>> {
    let most = lz4_flex::block::get_maximum_output_size(frames.len());
    let mut block = vec![0; most];
    let length = lz4_flex::block::compress_into(frames, &mut block).ok()?;
    let block = block.get(..length)?;
    let body = varint::len(frames.len() as u64) + length;
    let total = 1 + varint::len(body as u64) + body;
    if total > frames.len() - frames.len() / 10 {
        return None;
    }
    let mut out = Vec::with_capacity(total);
    out.push(kind::PACK << 4);
    for number in [body, frames.len()] {
        let mut bytes = [0; varint::MAX_LEN];
        let length = varint::encode(number as u64, &mut bytes).ok()?;
        out.extend_from_slice(bytes.get(..length)?);
    }
    out.extend_from_slice(block);
    Some(out)
}

/// How far the whole frames at the front of `bytes` reach within `most`; `only_first`: the first.
fn whole_frames(bytes: &[u8], most: usize, only_first: bool) -> usize {
    let mut length = 0;
    while let Some(rest) = bytes.get(length..).filter(|rest| !rest.is_empty()) {
        let Ok(Some(head)) = frame::head(rest, MAX_BODY) else { break };
        if length + head.total() > most || head.total() > rest.len() || head.kind() == kind::PACK {
            break;
        }
        length += head.total();
        if only_first && head.kind() != kind::PADDING {
            break;
        }
    }
    length
}

/// The most bytes that are taken at once: what a link holds twice for a moment, and less than half a
/// millisecond of work on a small board.
pub const BATCH: usize = 32 * 1024;
/// With fewer bytes than these there is little that comes twice.
const LEAST: usize = 256;
/// Bytes for which it rests when it did not pay, at first and at most.
const REST_FIRST: usize = 16 * 1024;
const REST_MOST: usize = 1024 * 1024;
