//! A reader's outbox: the frames that its link has still to write, and those that it may have to
//! write again after a reconnect.
//!
//! It promises: never more than its limit of message bytes; nothing leaves it unseen (every message
//! is delivered, queued, or dropped with a cause in the ledger and a GAP frame towards the reader);
//! control frames are not dropped. It never writes anything itself.

mod exact;
mod frames;
mod gaps;
mod journal;
mod pieces;
mod resume;
mod room;
mod shed;

use alloc::boxed::Box;
use alloc::vec::Vec;

use fastport_wire::control::WhenFull;
use fastport_wire::field::{data_flag, kind};
use fastport_wire::frame::GapCause;
use fastport_wire::{Frame, TopicId};

use self::exact::Exact;
use self::gaps::Gaps;
pub(crate) use self::journal::{RestoreError, count_frames};
use self::pieces::Pieces;
pub(crate) use self::pieces::SHARED_BYTES;
pub use self::shed::{Shed, Waiting};
use crate::budget::{Buffers, NoBudget, Span};
use crate::ledger::Ledger;

/// Published frames of one topic with the same flags, one after another, as they came.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Whole DATA frames.
    pub bytes: &'a [u8],
    /// How many.
    pub messages: u32,
    /// Whether they are counted.
    pub is_counted: bool,
    /// Their topic.
    pub topic: TopicId,
}

/// What a reader has to know before a message. It goes in with the first message that does, and is
/// then taken out of here: a reader that takes no messages piles up no prefaces either.
#[derive(Debug, Clone, Copy, Default)]
pub struct Preface<'a> {
    /// The TOPIC frame, where the topic was not announced on this link.
    pub topic: Option<Frame<'a>>,
    /// The relay's clock, where it changed.
    pub unix_ms: Option<u64>,
}

impl Preface<'_> {
    /// How many bytes it takes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.frames().into_iter().flatten().map(|frame| frame.encoded_len()).sum()
    }

    fn frames(&self) -> [Option<Frame<'_>>; 2] {
        [self.topic, self.unix_ms.map(|unix_ms| Frame::Time { unix_ms })]
    }
}

/// An ACK for more than was sent, or for less than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadAck;

/// What an outbox holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Bytes in memory that hold frames.
    pub bytes: usize,
    /// Messages not yet written, or written and not yet acknowledged where that is awaited.
    pub queued: u64,
    /// Counted frames that the reader has acknowledged.
    pub acked: u64,
}

/// See the module's text.
///
/// ```text
/// bytes: |  done  | written, unacknowledged | written | not written |
///        0       kept                    settled     sent          len
/// ```
///
/// Behind these may lie pieces that are shared with other outboxes. Whatever looks at frames
/// makes them its own first.
#[derive(Debug)]
pub struct Outbox {
    bytes: Vec<u8>,
    /// The first byte that may be needed again; a frame's start. 0 <= kept <= settled
    kept: usize,
    /// A frame's start; all before it is written and booked. settled <= sent
    settled: usize,
    /// All before it is written; may lie inside a frame. sent <= bytes.len()
    sent: usize,
    limit: usize,
    when_full: WhenFull,
    is_resumable: bool,
    is_stalled: bool,
    has_overflowed: bool,
    /// Made from a journal, and its reader has not come back yet.
    is_restored: bool,
    /// See [`Outbox::keep_exact`].
    exact: Option<Box<Exact>>,
    /// messages from `settled` on
    waiting: u64,
    waiting_counted: u64,
    /// counted frames in kept..settled; 0 unless resumable
    unacked: u64,
    /// counted frames of the epoch before `kept`
    released: u64,
    /// the last count the reader acknowledged: <= released + unacked
    acked: u64,
    gaps: Option<Box<Gaps>>,
    pieces: Option<Box<Pieces>>,
}

impl Outbox {
    /// An empty outbox of at most `limit` bytes of messages. One that `is_resumable` keeps counted
    /// frames until they are acknowledged.
    #[must_use]
    pub fn new(limit: usize, when_full: WhenFull, is_resumable: bool) -> Self {
        Self {
            bytes: Vec::new(),
            kept: 0,
            settled: 0,
            sent: 0,
            limit,
            when_full,
            is_resumable,
            is_stalled: false,
            has_overflowed: false,
            is_restored: false,
            exact: None,
            waiting: 0,
            waiting_counted: 0,
            unacked: 0,
            released: 0,
            acked: 0,
            gaps: None,
            pieces: None,
        }
    }

    /// Lets it hold more or fewer bytes from now on.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// What happens when it is full.
    #[must_use]
    pub fn when_full(&self) -> WhenFull {
        self.when_full
    }

    /// Bytes that are still to be written.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.bytes.len() - self.sent + self.unwritten_piece_bytes()
    }

    /// Bytes of messages that wait, or wait to be acknowledged.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.unsent() == 0 && self.gaps.is_none()
    }

    /// How many counted frames of the epoch have come in, written or not.
    #[must_use]
    pub fn counted_total(&self) -> u64 {
        self.released + self.unacked + self.waiting_counted
    }

    /// Whether more waits than messages alone may: answers pile up at a reader that does not read.
    #[must_use]
    pub fn is_choked(&self) -> bool {
        self.unsent() > self.limit
    }

    /// Whether a message found no room under [`WhenFull::Close`].
    #[must_use]
    pub fn has_overflowed(&self) -> bool {
        self.has_overflowed
    }

    /// What it holds.
    #[must_use]
    pub fn figures(&self) -> Figures {
        Figures {
            bytes: self.bytes.capacity(),
            queued: self.waiting + self.unacked,
            acked: self.acked,
        }
    }

    /// Puts a frame that is no message behind what waits.
    ///
    /// # Errors
    /// [`NoBudget`]; the frame is then not in.
    pub fn push_frame(&mut self, buffers: &mut Buffers, frame: &Frame<'_>) -> Result<(), NoBudget> {
        let length = frame.encoded_len();
        self.reserve(buffers, length)?;
        self.own(buffers);
        let at = self.bytes.len();
        self.bytes.resize(at + length, 0);
        let room = self.bytes.get_mut(at..).unwrap_or_default();
        frame.encode(room).map_err(|_| NoBudget).map(|_| ())
    }

    /// Puts messages behind what waits; what finds no room goes by the policy.
    ///
    /// # Errors
    /// [`NoBudget`]: nothing happened; free some memory and try again, or [`Outbox::skip_run`].
    #[inline]
    pub fn push_run(
        &mut self,
        buffers: &mut Buffers,
        ledger: &mut Ledger,
        run: &Run<'_>,
    ) -> Result<(), NoBudget> {
        self.push_run_after(buffers, ledger, &mut Preface::default(), run)
    }

    /// As [`Outbox::push_run`], with what has to come before the messages.
    ///
    /// # Errors
    /// As [`Outbox::push_run`].
    #[inline]
    pub fn push_run_after(
        &mut self,
        buffers: &mut Buffers,
        ledger: &mut Ledger,
        preface: &mut Preface<'_>,
        run: &Run<'_>,
    ) -> Result<(), NoBudget> {
        self.push_shared_after(buffers, ledger, preface, run, None)
    }

    /// As [`Outbox::push_run_after`], with the place where the run's bytes are shared: they may be
    /// left there.
    ///
    /// # Errors
    /// As [`Outbox::push_run`].
    #[inline]
    pub fn push_shared_after(
        &mut self,
        buffers: &mut Buffers,
        ledger: &mut Ledger,
        preface: &mut Preface<'_>,
        run: &Run<'_>,
        span: Option<Span>,
    ) -> Result<(), NoBudget> {
        let more = preface.encoded_len() + run.bytes.len();
        // of a run of one topic, `Latest` wants only the last where there is no room for all
        let is_thinned = self.when_full == WhenFull::Latest && run.messages > 1;
        if !self.has_room(more) && (is_thinned || !self.make_room(buffers, ledger, more, run.topic))
        {
            if run.messages > 1 {
                return self.push_one_by_one(buffers, ledger, preface, run);
            }
            self.announce_missing(buffers, preface);
            self.skip_run_after(ledger, preface, run, GapCause::Overflow);
            return Ok(());
        }
        if self.gaps.is_some() {
            self.tell_gaps_at_back(buffers)?;
        }
        self.reserve(buffers, more)?;
        for frame in preface.frames().into_iter().flatten() {
            self.push_frame(buffers, &frame)?;
        }
        *preface = Preface::default();
        match span {
            Some(span) if self.shares(run) => self.push_piece(buffers, span, run),
            _ => {
                self.own(buffers);
                self.bytes.extend_from_slice(run.bytes);
            }
        }
        self.waiting += u64::from(run.messages);
        if run.is_counted {
            self.waiting_counted += u64::from(run.messages);
        }
        Ok(())
    }

    /// Books messages as dropped that could not be put in.
    pub fn skip_run(&mut self, ledger: &mut Ledger, run: &Run<'_>, cause: GapCause) {
        self.skip_run_after(ledger, &Preface::default(), run, cause);
    }

    /// As [`Outbox::skip_run`]; a topic that would have been announced first is not named.
    pub fn skip_run_after(
        &mut self,
        ledger: &mut Ledger,
        preface: &Preface<'_>,
        run: &Run<'_>,
        cause: GapCause,
    ) {
        let topic = preface.topic.is_none().then_some(run.topic);
        self.note_missing(ledger, topic, run.messages.into(), cause);
    }

    /// Whether `more` bytes of messages fit without dropping any. Under [`WhenFull::Hold`] a
    /// publisher is asked to wait when they do not.
    #[must_use]
    pub fn room(&mut self, ledger: &mut Ledger) -> usize {
        self.settle(ledger);
        self.limit.saturating_sub(self.held())
    }

    /// Whether it holds nothing: what does not fit now never will.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held() == 0
    }

    /// Makes sure that a later [`Outbox::push_run`] of `more` bytes will not fail.
    ///
    /// # Errors
    /// [`NoBudget`].
    pub fn reserve(&mut self, buffers: &mut Buffers, more: usize) -> Result<(), NoBudget> {
        let more = more + self.piece_bytes();
        if self.bytes.capacity() - self.bytes.len() >= more {
            return Ok(());
        }
        if self.kept > self.bytes.len() / 2 {
            self.compact();
        }
        // growing by doubling would make it as large
        let spacious = 2 * self.limit;
        buffers.reserve_within(&mut self.bytes, more, spacious).or_else(|NoBudget| {
            self.compact();
            buffers.reserve_within(&mut self.bytes, more, spacious)
        })
    }

    /// Gives back what was reserved and is not used.
    pub fn shrink(&mut self, buffers: &mut Buffers) {
        self.own(buffers);
        self.compact();
        buffers.shrink(&mut self.bytes);
    }

    /// The bytes to write next. After a stall, [`WhenFull::Latest`] first drops what is out of date.
    pub fn output<'a>(&'a mut self, buffers: &'a mut Buffers, ledger: &mut Ledger) -> &'a [u8] {
        if self.is_stalled && self.when_full == WhenFull::Latest {
            self.own(buffers);
            self.settle(ledger);
            self.keep_newest(ledger, None);
            self.is_stalled = false;
        }
        if self.gaps.is_some() {
            self.own(buffers);
            self.settle(ledger);
            // without room in the budget the reader is told at the next write
            self.tell_gaps(buffers).unwrap_or_default();
        }
        match self.next_piece() {
            Some(span) if self.sent == self.bytes.len() => buffers.shared(span),
            _ => self.bytes.get(self.sent..).unwrap_or_default(),
        }
    }

    /// Notes that `written` bytes of [`Outbox::output`] were written.
    pub fn advance(&mut self, buffers: &mut Buffers, ledger: &mut Ledger, written: usize) {
        if self.sent < self.bytes.len() || self.next_piece().is_none() {
            self.sent = self.bytes.len().min(self.sent + written);
            if self.sent < self.bytes.len() {
                self.own(buffers);
                self.is_stalled = true;
                return;
            }
            let (messages, counted) = self.in_unwritten_pieces();
            self.book(ledger, self.waiting - messages, self.waiting_counted - counted);
            self.settled = self.sent;
        } else if !self.advance_piece(buffers, ledger, written) {
            self.is_stalled = true;
            return;
        }
        self.is_stalled = false;
        if self.unacked == 0 && self.next_piece().is_none() {
            self.empty(buffers);
        }
    }

    /// Books messages as written.
    fn book(&mut self, ledger: &mut Ledger, messages: u64, counted: u64) {
        self.waiting -= messages;
        self.waiting_counted -= counted;
        if self.is_resumable {
            ledger.delivered += messages - counted;
            self.unacked += counted;
        } else {
            ledger.delivered += messages;
            self.released += counted;
        }
    }

    /// Notes that the reader has `count` counted frames of the epoch.
    ///
    /// # Errors
    /// [`BadAck`] when it cannot have, or had more before.
    pub fn acknowledge(
        &mut self,
        buffers: &mut Buffers,
        ledger: &mut Ledger,
        count: u64,
    ) -> Result<(), BadAck> {
        self.settle(ledger);
        if count < self.acked || count > self.released + self.unacked {
            return Err(BadAck);
        }
        self.acked = count;
        let newly = count.saturating_sub(self.released);
        if newly == 0 {
            return Ok(());
        }
        ledger.delivered += newly;
        self.released = count;
        if self.exact.is_some() {
            self.acknowledge_exact(buffers, newly);
            return Ok(());
        }
        let own = self.unacked - self.unacked_in_pieces();
        self.unacked -= newly;
        if newly < own {
            self.kept = self.start_of_counted(newly);
            return Ok(());
        }
        self.kept = self.settled;
        self.release_pieces(buffers, newly - own);
        if self.unsent() == 0 && self.unacked == 0 {
            self.empty(buffers);
        }
        Ok(())
    }

    /// Puts whole frames that are no messages before all that waits; nothing of it may be written yet.
    ///
    /// # Errors
    /// [`NoBudget`].
    pub fn push_front(&mut self, buffers: &mut Buffers, frames: &[u8]) -> Result<(), NoBudget> {
        self.own(buffers);
        self.insert(buffers, self.sent, frames)
    }

    /// Books all that is left as dropped, and frees it.
    pub fn discard(&mut self, buffers: &mut Buffers, ledger: &mut Ledger, cause: GapCause) {
        self.settle(ledger);
        self.drop_pieces(buffers);
        ledger.drop_messages(cause, self.waiting + self.unacked);
        (self.waiting, self.waiting_counted, self.unacked) = (0, 0, 0);
        self.gaps = None;
        self.forget_told_gaps();
        self.sent = self.bytes.len();
        self.empty(buffers);
    }

    fn held(&self) -> usize {
        self.bytes.len() - self.kept + self.piece_bytes()
    }

    #[inline]
    fn has_room(&self, more: usize) -> bool {
        self.held() + more <= self.limit
    }

    #[inline(always)]
    fn empty(&mut self, buffers: &mut Buffers) {
        // what is written of pieces is acknowledged, or needs not be
        self.drop_pieces(buffers);
        if self.keep_told_gaps() {
            return;
        }
        self.bytes.clear();
        buffers.release(&mut self.bytes);
        (self.kept, self.settled, self.sent) = (0, 0, 0);
    }

    /// Books the whole frames that were written since the last time.
    fn settle(&mut self, ledger: &mut Ledger) {
        while self.settled < self.sent {
            let Some((head, _)) = self.frame_at(self.settled) else { break };
            if self.settled + head.total() > self.sent {
                break;
            }
            self.settled += head.total();
            if head.kind() != kind::DATA {
                continue;
            }
            self.waiting -= 1;
            let is_counted = head.flags() & data_flag::COUNTED != 0;
            self.waiting_counted -= u64::from(is_counted);
            match (is_counted, self.is_resumable) {
                (true, true) => self.unacked += 1,
                (true, false) => {
                    self.released += 1;
                    ledger.delivered += 1;
                }
                (false, _) => ledger.delivered += 1,
            }
        }
        if self.unacked == 0 && !self.has_told_gaps() {
            self.move_kept(self.settled);
        }
    }

    fn insert(&mut self, buffers: &mut Buffers, at: usize, frames: &[u8]) -> Result<(), NoBudget> {
        let behind = self.bytes.len() - at;
        self.reserve(buffers, frames.len())?;
        debug_assert!(self.pieces.is_none(), "frames are looked at before they are put in");
        // reserving may have moved all to the front
        let at = self.bytes.len() - behind;
        self.bytes.splice(at..at, frames.iter().copied());
        Ok(())
    }

    fn compact(&mut self) {
        self.bytes.drain(..self.kept);
        self.settled -= self.kept;
        self.sent -= self.kept;
        self.kept = 0;
    }
}

#[cfg(test)]
mod tests;
