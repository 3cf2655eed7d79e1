//! Frames on their way from a WebSocket's messages to the hub.

use std::ops::Range;

use fastport_wire::field::MAX_BODY;
use fastport_wire::frame;

use super::super::door::Door;
use super::super::drive::{Desk, Event, Turn};

/// Frames that were read and not handed over, one after another in the scratch buffer.
pub(super) struct Region {
    start: usize,
    end: usize,
    /// Where the next frame begins, as far as was looked: beyond `end` where the one before it is not
    /// all there. `None`: it cannot be told, and who reads the frames will find out.
    next_frame: Option<usize>,
    /// They go on with a long frame that is put together at the desk.
    is_long: bool,
}

impl Region {
    /// What waits at the desk, and what is read behind it: from `start` on, since it was copied in
    /// front of that where it is not `is_long`.
    pub(super) fn behind(desk: &Desk, start: usize, is_long: bool) -> Self {
        let next_frame = if is_long { left_of_frame(desk.pending.bytes()) } else { Some(0) };
        Self { start: 0, end: start, next_frame, is_long }
    }

    /// None yet, at `at`, where a frame begins.
    pub(super) const fn at(at: usize) -> Self {
        Self { start: at, end: at, next_frame: Some(at), is_long: false }
    }

    /// All of `bytes`, which begin with a frame.
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { start: 0, end: bytes.len(), next_frame: Some(0), is_long: false }
    }

    /// Whether nothing was read; there may be something at the desk.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether there is nothing to hand over, at the desk neither.
    pub(super) fn is_void(&self) -> bool {
        self.is_empty() && !self.is_long
    }

    /// Takes up what lies further behind in `buffer`.
    pub(super) fn append(&mut self, buffer: &mut [u8], at: Range<usize>) {
        if self.is_empty() {
            let skipped = at.start - self.start;
            self.next_frame = self.next_frame.map(|next| next + skipped);
            (self.start, self.end) = (at.start, at.end);
            return;
        }
        let end = self.end + at.len();
        buffer.copy_within(at, self.end);
        self.end = end;
    }

    /// Whether more is needed for the last frame.
    pub(super) fn ends_inside_a_frame(&mut self, buffer: &[u8]) -> bool {
        while let Some(next) = self.next_frame {
            if next >= self.end {
                return next > self.end;
            }
            match frame::head(buffer.get(next..self.end).unwrap_or_default(), MAX_BODY) {
                Ok(Some(head)) => self.next_frame = Some(next + head.total()),
                Ok(None) => return true,
                Err(_) => self.next_frame = None,
            }
        }
        false
    }

    /// Hands all of it to the hub.
    pub(super) fn hand_over(&mut self, buffer: &[u8], desk: &mut Desk, door: &Door) -> Turn {
        let bytes = buffer.get(self.start..self.end).unwrap_or_default();
        if self.is_long {
            return desk.handle_long(bytes, door);
        }
        desk.pending.expect(bytes.len());
        desk.handle(bytes, door)
    }

    /// As [`Region::hand_over`], where nothing may come behind it.
    pub(super) fn hand_over_and_end(
        &mut self,
        buffer: &[u8],
        desk: &mut Desk,
        door: &Door,
    ) -> Turn {
        if !self.is_empty() {
            match self.hand_over(buffer, desk, door) {
                Turn::Over(Event::Asked(_)) | Turn::Moved | Turn::Idle => {}
                over => return over,
            }
        }
        Turn::Over(Event::Finished)
    }
}

/// How many bytes are to come of the frame that `pending` holds the start of; `None`: it holds more
/// than that.
fn left_of_frame(pending: &[u8]) -> Option<usize> {
    let head = frame::head(pending, MAX_BODY).ok().flatten()?;
    head.total().checked_sub(pending.len())
}
