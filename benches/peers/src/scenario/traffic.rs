//! What publishers and subscribers of a throughput run tell each other: how far each has come, and so
//! how much each publisher may send.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use tokio::sync::Notify;

use super::case::Case;
use super::stamp::Stamp;

/// What publishers and subscribers tell each other; all run on one thread.
pub struct Shared {
    pub case: Case,
    pub stop: Cell<bool>,
    /// Per publisher.
    pub sent: Vec<Cell<u64>>,
    pub acked: Vec<Cell<u64>>,
    /// Messages that the pace has released so far.
    released: Vec<Cell<u64>>,
    /// Messages given up as lost, so that a publisher is not stalled for good.
    pub forgiven: Vec<Cell<u64>>,
    pub waiting: Vec<Cell<bool>>,
    pub wake: Vec<Notify>,
    /// Per publisher and subscriber: the sequence number expected next.
    expected: Vec<Cell<u64>>,
    pub received: Cell<u64>,
    pub out_of_order: Cell<u64>,
    pub publisher_bytes: Cell<u64>,
    pub subscriber_bytes: Cell<u64>,
    pub errors: RefCell<Vec<String>>,
}

impl Shared {
    pub fn new(case: &Case) -> Self {
        let cells = |n: usize| (0..n).map(|_| Cell::new(0)).collect::<Vec<Cell<u64>>>();
        Shared {
            case: *case,
            stop: Cell::new(false),
            sent: cells(case.publishers),
            acked: cells(case.publishers),
            released: cells(case.publishers),
            forgiven: cells(case.publishers),
            waiting: (0..case.publishers).map(|_| Cell::new(false)).collect(),
            wake: (0..case.publishers).map(|_| Notify::new()).collect(),
            expected: cells(case.publishers * case.subscribers),
            received: Cell::new(0),
            out_of_order: Cell::new(0),
            publisher_bytes: Cell::new(0),
            subscriber_bytes: Cell::new(0),
            errors: RefCell::new(Vec::new()),
        }
    }

    /// How many more messages this publisher may send now: the slowest subscriber decides.
    pub fn credit(&self, publisher: usize, acks: bool) -> u64 {
        let row = &self.expected[publisher * self.case.subscribers..][..self.case.subscribers];
        let mut through = row.iter().map(Cell::get).min().unwrap_or(0);
        if acks {
            through = through.min(self.acked[publisher].get());
        }
        let through = through.max(self.forgiven[publisher].get());
        let sent = self.sent[publisher].get();
        let room = self.case.window.saturating_sub(sent.saturating_sub(through));
        match self.case.rate {
            None => room,
            Some(_) => room.min(self.released[publisher].get().saturating_sub(sent)),
        }
    }

    /// Releases, publisher after publisher, what the rate has made due by now.
    pub fn release(&self, rate: u64, elapsed: Duration, so_far: &mut u64) {
        let due = (elapsed.as_secs_f64() * rate as f64) as u64;
        while *so_far < due {
            add(&self.released[*so_far as usize % self.case.publishers], 1);
            *so_far += 1;
        }
    }

    pub fn wake_publishers(&self, acks: bool) {
        for publisher in 0..self.case.publishers {
            if self.waiting[publisher].get() && self.credit(publisher, acks) >= self.case.batch {
                self.waiting[publisher].set(false);
                self.wake[publisher].notify_one();
            }
        }
    }

    #[inline]
    pub fn delivered(&self, subscriber: usize, payload: &[u8]) {
        let Some(stamp) = Stamp::read(payload) else {
            self.out_of_order.set(self.out_of_order.get() + 1);
            return;
        };
        let index = stamp.publisher as usize * self.case.subscribers + subscriber;
        let Some(expected) = self.expected.get(index) else {
            self.out_of_order.set(self.out_of_order.get() + 1);
            return;
        };
        if stamp.sequence != expected.get() {
            self.out_of_order.set(self.out_of_order.get() + 1);
        }
        expected.set(expected.get().max(stamp.sequence + 1));
        self.received.set(self.received.get() + 1);
    }

    pub fn acked_total(&self) -> u64 {
        self.acked.iter().map(Cell::get).sum()
    }

    pub fn sent_total(&self) -> u64 {
        self.sent.iter().map(Cell::get).sum()
    }

    pub fn fail(&self, who: &str, error: anyhow::Error) {
        self.errors.borrow_mut().push(format!("{who}: {error:#}"));
    }
}

/// Adds to a counter.
pub fn add(cell: &Cell<u64>, n: u64) {
    cell.set(cell.get() + n);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::stamp;

    fn case(publishers: usize, subscribers: usize) -> Case {
        let case = Case::named("fan-in-single").unwrap();
        Case { publishers, subscribers, window: 64, ..case }
    }

    #[test]
    fn the_slowest_subscriber_and_the_acks_bound_a_publisher() {
        let case = Case { window: 10, ..case(1, 2) };
        let shared = Shared::new(&case);
        assert_eq!(shared.credit(0, true), 10);
        shared.sent[0].set(8);
        assert_eq!(shared.credit(0, false), 2);
        shared.expected[0].set(8);
        shared.expected[1].set(3);
        assert_eq!(shared.credit(0, false), 5);
        assert_eq!(shared.credit(0, true), 2);
        shared.forgiven[0].set(8);
        assert_eq!(shared.credit(0, true), 10);
    }

    #[test]
    fn a_rate_releases_messages_to_publishers_in_turn() {
        let case = Case { rate: Some(1000), ..case(2, 1) };
        let shared = Shared::new(&case);
        assert_eq!(shared.credit(0, false), 0);
        let mut so_far = 0;
        shared.release(1000, Duration::from_millis(3), &mut so_far);
        assert_eq!((shared.credit(0, false), shared.credit(1, false)), (2, 1));
        shared.release(1000, Duration::from_millis(4), &mut so_far);
        assert_eq!((shared.credit(0, false), shared.credit(1, false)), (2, 2));
    }

    #[test]
    fn gaps_and_repeats_are_counted() {
        let shared = Shared::new(&case(1, 1));
        let mut payload = stamp::blank(32);
        for sequence in [0, 1, 3, 3] {
            Stamp { sent_ns: 0, publisher: 0, sequence }.write(&mut payload);
            shared.delivered(0, &payload);
        }
        shared.delivered(0, b"short");
        assert_eq!(shared.received.get(), 4);
        assert_eq!(shared.out_of_order.get(), 3);
        assert_eq!(shared.expected[0].get(), 4);
    }
}
