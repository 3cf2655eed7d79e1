//! Outboxes: appending messages, writing them, and what is kept until it is acknowledged.

use std::hint::black_box;
use std::sync::Arc;

use fastport_core::budget::{Budget, Buffers};
use fastport_core::ledger::Ledger;
use fastport_core::outbox::{Outbox, Run};
use fastport_wire::control::WhenFull;
use fastport_wire::frame::DataFlags;
use fastport_wire::{Frame, TopicId};

use crate::rig::encode;
use crate::{Path, Work};

/// The paths. A message is one that was appended.
pub const PATHS: &[Path] = &[
    Path {
        name: "outbox-32B",
        about: "32 B, appended one by one, written in one go",
        make: || Box::new(Append::new(false, usize::MAX)),
    },
    Path {
        name: "outbox-32B-counted",
        about: "the same, kept until they are acknowledged",
        make: || Box::new(Append::new(true, usize::MAX)),
    },
    Path {
        name: "outbox-32B-full",
        about: "32 B, each in place of the oldest of 64",
        make: || Box::new(Append::new(false, MESSAGES)),
    },
];

/// Appends a batch, message by message.
struct Append {
    outbox: Outbox,
    buffers: Buffers,
    ledger: Ledger,
    frame: Vec<u8>,
    topic: TopicId,
    is_counted: bool,
    /// nothing is ever written, and it is full
    is_full: bool,
    appended: u64,
    before: (Ledger, u64),
}

impl Append {
    fn new(is_counted: bool, most: usize) -> Self {
        let topic = TopicId::new(1).expect("1 is not 0");
        let flags = if is_counted { DataFlags::COUNTED } else { DataFlags::NONE };
        let frame = encode(&Frame::Data { flags, topic, payload: &[0x2e; 32] });
        let limit = frame.len().saturating_mul(most).min(OUTBOX);
        Self {
            outbox: Outbox::new(limit, WhenFull::DropOldest, is_counted),
            buffers: Buffers::new(Arc::new(Budget::new(4 * OUTBOX))),
            ledger: Ledger::default(),
            frame,
            topic,
            is_counted,
            is_full: limit < OUTBOX,
            appended: 0,
            before: (Ledger::default(), 0),
        }
    }

    fn append(&mut self) {
        let Self { outbox, buffers, ledger, frame, topic, is_counted, .. } = self;
        let run = Run { bytes: frame, messages: 1, is_counted: *is_counted, topic: *topic };
        outbox.push_run(buffers, ledger, &run).expect("the budget is four times the outbox");
        self.appended += 1;
    }

    /// Writes all, and has it acknowledged; returns what was written.
    fn write(&mut self) -> usize {
        let Self { outbox, buffers, ledger, .. } = self;
        let length = black_box(outbox.output(buffers, ledger)).len();
        outbox.advance(buffers, ledger, length);
        if self.is_counted {
            outbox.acknowledge(buffers, ledger, self.appended).expect("so many were appended");
        }
        length
    }
}

impl Work for Append {
    fn round(&mut self) {
        for _ in 0..MESSAGES {
            self.append();
        }
        if !self.is_full {
            self.write();
        }
    }

    fn messages(&self) -> u64 {
        MESSAGES as u64
    }

    fn verify(&mut self) {
        for _ in 0..MESSAGES {
            self.append();
        }
        let expected = self.frame.repeat(MESSAGES);
        assert_eq!(self.outbox.output(&mut self.buffers, &mut self.ledger), expected);
        if !self.is_full {
            assert_eq!(self.write(), expected.len());
        }
        for _ in 0..4 {
            self.round();
        }
        self.before = (self.ledger, self.outbox.figures().queued);
    }

    fn check(&self, rounds: u64) {
        let (before, queued) = self.before;
        let messages = rounds * self.messages();
        let dropped = |ledger: &Ledger| ledger.dropped.iter().sum::<u64>();
        let gone = if self.is_full {
            dropped(&self.ledger) - dropped(&before)
        } else {
            assert_eq!(dropped(&self.ledger), 0, "dropped");
            self.ledger.delivered - before.delivered
        };
        assert_eq!((gone, self.outbox.figures().queued), (messages, queued));
    }
}

/// Messages of a batch.
const MESSAGES: usize = 64;
/// As the daemon's, by default.
const OUTBOX: usize = 256 * 1024;
