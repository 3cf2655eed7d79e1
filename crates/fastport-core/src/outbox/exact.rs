//! An outbox whose reader is one of the daemon's own parts: what it is told beside messages is kept
//! with them.
//!
//! A GAP frame that was written may be lost with a crash of the reader, and a TIME frame holds for
//! counted frames that are written again. So both stay as long as the counted frame behind them is
//! not acknowledged. Such a reader tells by its own count what it has already.

use alloc::vec::Vec;

use fastport_wire::field::kind;
use fastport_wire::frame::GapCause;
use fastport_wire::{Frame, TopicId};

use super::{Outbox, Preface};
use crate::budget::{Buffers, NoBudget};

/// What lies before, or among, the bytes that are kept.
#[derive(Debug, Default)]
pub(super) struct Exact {
    /// The last TIME frame before them.
    time: Option<u64>,
    /// There are GAP frames among them that were written.
    has_told_gaps: bool,
}

impl Outbox {
    /// Keeps GAP and TIME frames with the counted frames they belong to.
    pub fn keep_exact(&mut self) {
        self.exact.get_or_insert_default();
    }

    pub(super) fn has_told_gaps(&self) -> bool {
        self.exact.as_ref().is_some_and(|exact| exact.has_told_gaps)
    }

    /// What it holds is of no use any more.
    pub(super) fn forget_told_gaps(&mut self) {
        if let Some(exact) = &mut self.exact {
            **exact = Exact::default();
        }
    }

    /// Announces the topic of a message that is dropped, so that it can be named.
    #[cold]
    pub(super) fn announce_missing(&mut self, buffers: &mut Buffers, preface: &mut Preface<'_>) {
        if self.exact.is_some()
            && let Some(topic) = preface.topic
            && self.push_frame(buffers, &topic).is_ok()
        {
            preface.topic = None;
        }
    }

    /// GAP frames were put in.
    pub(super) fn note_told_gaps(&mut self) {
        if let Some(exact) = &mut self.exact {
            exact.has_told_gaps = true;
        }
    }

    /// The bytes before `to` are not needed any more.
    pub(super) fn move_kept(&mut self, to: usize) {
        if self.exact.is_some() {
            self.note_time_before(to);
        }
        self.kept = to;
    }

    #[cold]
    fn note_time_before(&mut self, end: usize) {
        let frames = self.frames(self.kept).take_while(|&(at, ..)| at < end);
        let times = frames.filter_map(|(_, head, body)| match Frame::from_parts(head, body) {
            Ok(Frame::Time { unix_ms }) => Some(unix_ms),
            _ => None,
        });
        if let Some(time) = times.last()
            && let Some(exact) = &mut self.exact
        {
            exact.time = Some(time);
        }
    }

    /// The reader has `newly` more counted frames.
    pub(super) fn acknowledge_exact(&mut self, buffers: &mut Buffers, newly: u64) {
        if self.has_told_gaps() || self.unacked_in_pieces() == 0 {
            self.own(buffers);
        }
        let own = self.unacked - self.unacked_in_pieces();
        self.unacked -= newly;
        if newly <= own {
            // not further: a GAP behind the last of them is not acknowledged
            self.move_kept(self.start_of_counted(newly));
        } else {
            self.move_kept(self.settled);
            self.release_pieces(buffers, newly - own);
        }
        if self.unsent() == 0 && self.unacked == 0 {
            self.empty(buffers);
        }
    }

    /// All is written, and no counted frame is unacknowledged: throws away all but the GAP frames that
    /// may be needed again; whether there are any.
    pub(super) fn keep_told_gaps(&mut self) -> bool {
        if self.exact.is_none() {
            return false;
        }
        self.note_time_before(self.bytes.len());
        let mut told: Vec<(Option<TopicId>, GapCause, u64)> = Vec::new();
        for (_, head, body) in self.frames(self.kept).filter(|_| self.has_told_gaps()) {
            let Ok(Frame::Gap { topic, count, cause }) = Frame::from_parts(head, body) else {
                continue;
            };
            match told.iter_mut().find(|known| (known.0, known.1) == (topic, cause)) {
                Some(known) => known.2 += count,
                None => told.push((topic, cause, count)),
            }
        }
        if let Some(exact) = &mut self.exact {
            exact.has_told_gaps = !told.is_empty();
        }
        if told.is_empty() {
            return false;
        }
        // together they are no longer than they were
        self.bytes.clear();
        for (topic, cause, count) in told {
            crate::session::push_frame(&mut self.bytes, &Frame::Gap { topic, count, cause });
        }
        (self.kept, self.settled, self.sent) = (0, self.bytes.len(), self.bytes.len());
        true
    }

    /// The TIME frame that holds for the first of what is kept, where none is there.
    pub(super) fn time_before_kept(&self) -> Option<Frame<'static>> {
        let unix_ms = self.exact.as_ref()?.time?;
        let first = self.frames(self.kept).next();
        let has_own = first.is_some_and(|(_, head, _)| head.kind() == kind::TIME);
        (first.is_some() && !has_own).then_some(Frame::Time { unix_ms })
    }

    /// Puts in front of what is written again the TIME that holds for it. Nothing of it is written.
    pub(super) fn restore_time(&mut self, buffers: &mut Buffers) -> Result<(), NoBudget> {
        let Some(time) = self.time_before_kept() else { return Ok(()) };
        let mut bytes = Vec::new();
        crate::session::push_frame(&mut bytes, &time);
        self.insert(buffers, self.kept, &bytes)
    }
}
