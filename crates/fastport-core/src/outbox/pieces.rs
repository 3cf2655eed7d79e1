//! Runs that lie behind an outbox's own bytes, and are shared with other outboxes.
//!
//! A stream to many readers is written from one place: its bytes are copied into an outbox only when
//! something else than writing and acknowledging them in order happens ([`Outbox::own`]). There is
//! room for them in the outbox's own buffer all the time, so that this cannot fail.

use fastport_wire::field::MAX_BODY;
use fastport_wire::frame;

use super::frames::is_counted;
use super::{Outbox, Run};
use crate::budget::{Buffers, Span};
use crate::ledger::Ledger;

/// The pieces in order: those that are written and not acknowledged, then those not written.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    list: [Piece; PIECES],
    count: usize,
    /// written <= count; where it is not 0, all of the outbox's own bytes are written and booked
    written: usize,
    /// of all pieces
    bytes: usize,
    /// of those that are not written
    unwritten_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    span: Span,
    messages: u32,
    counted: u32,
}

impl Default for Piece {
    fn default() -> Self {
        Self { span: Span { chunk: 0, start: 0, end: 0 }, messages: 0, counted: 0 }
    }
}

impl Pieces {
    fn written(&self) -> &[Piece] {
        self.list.get(..self.written).unwrap_or_default()
    }

    fn unwritten(&self) -> &[Piece] {
        self.list.get(self.written..self.count).unwrap_or_default()
    }

    fn remove(&mut self, at: usize) {
        self.list.copy_within(at + 1..self.count, at);
        self.count -= 1;
    }
}

impl Outbox {
    /// Bytes of all pieces.
    #[inline]
    pub(super) fn piece_bytes(&self) -> usize {
        self.pieces.as_ref().map_or(0, |pieces| pieces.bytes)
    }

    /// Bytes of pieces that are not written.
    #[inline]
    pub(super) fn unwritten_piece_bytes(&self) -> usize {
        self.pieces.as_ref().map_or(0, |pieces| pieces.unwritten_bytes)
    }

    /// Whether a run is to stay where it is shared. A reader that does not read holds no others'
    /// buffers; a short run is shared only behind others.
    #[inline]
    pub(super) fn shares(&self, run: &Run<'_>) -> bool {
        !self.is_stalled && (self.pieces.is_some() || run.bytes.len() >= SHARED_BYTES)
    }

    /// Puts a run behind all that waits, where its bytes are shared; its room is reserved.
    pub(super) fn push_piece(&mut self, buffers: &mut Buffers, span: Span, run: &Run<'_>) {
        if self.pieces.as_ref().is_some_and(|pieces| pieces.count == PIECES) && !self.extends(span)
        {
            self.own(buffers);
        }
        let pieces = self.pieces.get_or_insert_default();
        pieces.bytes += span.len();
        pieces.unwritten_bytes += span.len();
        let counted = if run.is_counted { run.messages } else { 0 };
        if pieces.written < pieces.count
            && let Some(last) = pieces.list.get_mut(pieces.count - 1)
            && last.span.chunk == span.chunk
            && last.span.end == span.start
        {
            last.span.end = span.end;
            last.messages += run.messages;
            last.counted += counted;
            return;
        }
        if let Some(place) = pieces.list.get_mut(pieces.count) {
            *place = Piece { span, messages: run.messages, counted };
            pieces.count += 1;
            buffers.hold(span);
        }
    }

    /// Whether the span goes on where the last piece ends.
    fn extends(&self, span: Span) -> bool {
        let last = self.pieces.as_ref().and_then(|pieces| pieces.unwritten().last());
        last.is_some_and(|last| last.span.chunk == span.chunk && last.span.end == span.start)
    }

    /// The piece to write next; nothing of the outbox's own is to be written before it.
    #[inline]
    pub(super) fn next_piece(&self) -> Option<Span> {
        Some(self.pieces.as_ref()?.unwritten().first()?.span)
    }

    /// Messages, and counted ones, of pieces that are not written.
    pub(super) fn in_unwritten_pieces(&self) -> (u64, u64) {
        let unwritten = self.pieces.iter().flat_map(|pieces| pieces.unwritten());
        unwritten.fold((0, 0), |(messages, counted), piece| {
            (messages + u64::from(piece.messages), counted + u64::from(piece.counted))
        })
    }

    /// Notes that `written` bytes of the next piece were written; whether that was all of it.
    pub(super) fn advance_piece(
        &mut self,
        buffers: &mut Buffers,
        ledger: &mut Ledger,
        written: usize,
    ) -> bool {
        let Some(pieces) = &mut self.pieces else { return true };
        let Some(&Piece { span, messages, counted }) = pieces.unwritten().first() else {
            return true;
        };
        if written < span.len() {
            self.own(buffers);
            self.sent += written;
            return false;
        }
        pieces.unwritten_bytes -= span.len();
        if self.is_resumable && counted > 0 {
            pieces.written += 1;
        } else {
            pieces.remove(pieces.written);
            pieces.bytes -= span.len();
            buffers.let_go(span);
        }
        self.book(ledger, messages.into(), counted.into());
        true
    }

    /// Lets go of the pieces of which the reader has `count` counted frames, all of the outbox's own
    /// being done with; of the piece that it has in part, what it has.
    pub(super) fn release_pieces(&mut self, buffers: &mut Buffers, mut count: u64) {
        let Some(pieces) = &mut self.pieces else { return };
        while let Some(first) = pieces.list.first_mut().filter(|_| pieces.written > 0 && count > 0)
        {
            if count < first.counted.into() {
                let length = length_of_counted(buffers.shared(first.span), count);
                pieces.bytes -= length;
                first.span.start += u32::try_from(length).unwrap_or(0);
                // less than `first.counted`
                first.counted -= u32::try_from(count).unwrap_or(0);
                return;
            }
            let span = first.span;
            count -= u64::from(first.counted);
            pieces.remove(0);
            pieces.written -= 1;
            pieces.bytes -= span.len();
            buffers.let_go(span);
        }
        if pieces.count == 0 {
            self.pieces = None;
        }
    }

    /// Counted frames of pieces that are written.
    pub(super) fn unacked_in_pieces(&self) -> u64 {
        let written = self.pieces.iter().flat_map(|pieces| pieces.written());
        written.map(|piece| u64::from(piece.counted)).sum()
    }

    /// Copies what it shares with others to the end of its own bytes: it may be long until that is
    /// written or acknowledged.
    #[inline]
    pub fn own(&mut self, buffers: &mut Buffers) {
        if self.pieces.is_some() {
            self.own_pieces(buffers);
        }
    }

    #[cold]
    fn own_pieces(&mut self, buffers: &mut Buffers) {
        let Some(pieces) = self.pieces.take() else { return };
        let Pieces { list, count, written, .. } = *pieces;
        for (at, piece) in list.iter().take(count).enumerate() {
            self.bytes.extend_from_slice(buffers.shared(piece.span));
            if at < written {
                self.sent = self.bytes.len();
                self.settled = self.sent;
            }
            buffers.let_go(piece.span);
        }
    }

    /// Lets go of all pieces.
    pub(super) fn drop_pieces(&mut self, buffers: &mut Buffers) {
        let Some(pieces) = self.pieces.take() else { return };
        let Pieces { list, count, .. } = *pieces;
        list.iter().take(count).for_each(|piece| buffers.let_go(piece.span));
    }
}

/// How many bytes the first `count` counted frames take, and what lies before them.
fn length_of_counted(bytes: &[u8], mut count: u64) -> usize {
    let mut at = 0;
    while count > 0 {
        let rest = bytes.get(at..).unwrap_or_default();
        let Ok(Some((head, _))) = frame::split(rest, MAX_BODY) else { break };
        at += head.total();
        count -= u64::from(is_counted(head));
    }
    at
}

/// Bytes of a run that are worth it; tests have no long ones.
pub(crate) const SHARED_BYTES: usize = if cfg!(test) { 64 } else { 4096 };
/// Pieces that an outbox may have: each keeps a buffer from being freed.
const PIECES: usize = 4;
