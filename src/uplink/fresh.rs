//! What comes while rows wait on disk and does not ask for delivery: no count is its, so it may overtake
//! them. The order of counted messages is theirs alone.

use std::collections::VecDeque;

use super::filler::ROW;
use super::spool::{Body, Row};

/// Messages that go before the rows of the disk, in their own order.
#[derive(Default)]
pub(super) struct Fresh {
    waiting: VecDeque<Row>,
    bytes: usize,
    /// Sent since the last row of the disk was.
    overtook: u32,
}

impl Fresh {
    /// Bytes that are wanted yet. The last message may be longer.
    pub(super) fn room(&self) -> usize {
        MOST.saturating_sub(self.bytes)
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Takes over messages.
    pub(super) fn append(&mut self, rows: &mut VecDeque<Row>) {
        self.bytes += rows.iter().map(bytes).sum::<usize>();
        self.waiting.append(rows);
    }

    /// The first, unless it is the turn of a row of the disk that waits.
    pub(super) fn next(&self, has_rows: bool) -> Option<&Row> {
        self.waiting.front().filter(|_| self.overtook < OVERTAKE || !has_rows)
    }

    /// The first is done with.
    pub(super) fn done(&mut self) {
        let done = self.waiting.pop_front();
        self.bytes -= done.as_ref().map_or(0, bytes);
        self.overtook = self.overtook.saturating_add(1);
    }

    /// A row of the disk is done with.
    pub(super) fn row_done(&mut self) {
        self.overtook = 0;
    }
}

/// What a message takes while it waits.
fn bytes(row: &Row) -> usize {
    match &row.body {
        Body::Message { payload, .. } => payload.len() + ROW,
        Body::Gap { .. } => ROW,
    }
}

/// Bytes that wait, without the last message's.
const MOST: usize = 16 * 1024;
/// Messages for each row of the disk, at most.
const OVERTAKE: u32 = 3;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fastport_wire::frame::DataFlags;

    use super::*;
    use crate::uplink::spool::{Stamp, Topic};

    fn message(length: usize) -> Row {
        let topic = Arc::new(Topic { name: "t".into(), schema: None });
        let (flags, stamp) = (DataFlags::default(), Stamp::Boot(0));
        let body = Body::Message { topic, flags, stamp, payload: vec![0; length] };
        Row { seq: 0, central_count: 0, body }
    }

    #[test]
    fn one_row_of_the_disk_follows_on_three_messages() {
        let mut fresh = Fresh::default();
        fresh.append(&mut (0..10).map(message).collect());
        let mut order = Vec::new();
        for _ in 0..8 {
            let is_fresh = fresh.next(true).is_some();
            order.push(is_fresh);
            if is_fresh { fresh.done() } else { fresh.row_done() }
        }
        assert_eq!(order, [true, true, true, false, true, true, true, false]);
        // nobody waits for them
        (0..4).for_each(|_| fresh.done());
        assert!(fresh.next(false).is_none());
        assert_eq!((fresh.len(), fresh.room()), (0, MOST));
    }

    #[test]
    fn with_no_rows_at_hand_all_of_them_go() {
        let mut fresh = Fresh::default();
        fresh.append(&mut (0..10).map(message).collect());
        for left in (0..10).rev() {
            assert!(fresh.next(false).is_some());
            fresh.done();
            assert_eq!(fresh.len(), left);
        }
    }

    #[test]
    fn what_waits_has_a_limit() {
        let mut fresh = Fresh::default();
        fresh.append(&mut VecDeque::from([message(MOST)]));
        assert_eq!(fresh.room(), 0);
        fresh.done();
        assert_eq!(fresh.room(), MOST);
    }
}
