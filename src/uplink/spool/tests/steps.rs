//! What can happen to a spool, at random.

use proptest::prelude::*;

use crate::config::WhenSpoolFull;
use crate::config::WhenSpoolFull::{DropOldest, Latest, SlowPublisher};

#[derive(Debug, Clone)]
pub(super) enum Step {
    Append { lane: usize, messages: Vec<Shape> },
    Gap { lane: usize, topic: Option<u8>, count: u64 },
    Link { lane: usize },
    Read { lane: usize, rows: usize },
    Deliver { lane: usize, rows: usize },
    Acknowledge { lane: usize },
    ForgetGaps { lane: usize },
    Cut { lane: usize },
    Restart { lane: usize },
    Wait { ms: u64 },
    Expire,
    Reopen,
    LosePower,
}

/// What a message is made from.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub(super) topic: u8,
    pub(super) bytes: usize,
    pub(super) max_age: u64,
    pub(super) publisher: u8,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let lane = || 0..3_usize;
    let messages = || prop::collection::vec(shape(), 1..25);
    prop_oneof![
        12 => (lane(), messages()).prop_map(|(lane, messages)| Step::Append { lane, messages }),
        1 => (lane(), prop::option::of(0..6_u8), 1..9_u64)
            .prop_map(|(lane, topic, count)| Step::Gap { lane, topic, count }),
        3 => lane().prop_map(|lane| Step::Link { lane }),
        5 => (lane(), 1..60_usize).prop_map(|(lane, rows)| Step::Read { lane, rows }),
        5 => (lane(), 1..60_usize).prop_map(|(lane, rows)| Step::Deliver { lane, rows }),
        4 => lane().prop_map(|lane| Step::Acknowledge { lane }),
        1 => lane().prop_map(|lane| Step::ForgetGaps { lane }),
        2 => lane().prop_map(|lane| Step::Cut { lane }),
        1 => lane().prop_map(|lane| Step::Restart { lane }),
        2 => (0..400_000_u64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Expire),
        1 => Just(Step::Reopen),
        1 => Just(Step::LosePower),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    let bytes =
        prop_oneof![4 => Just(20_usize), 3 => Just(900), 2 => Just(3_000), 2 => Just(9_000)];
    let max_age = prop_oneof![3 => Just(0_u64), 1 => Just(60), 1 => Just(600)];
    (0..6_u8, bytes, max_age, 0..3_u8).prop_map(|(topic, bytes, max_age, publisher)| Shape {
        topic,
        bytes,
        max_age,
        publisher,
    })
}

pub(super) fn when_full(topic: u8) -> WhenSpoolFull {
    [DropOldest, Latest, DropOldest, Latest, DropOldest, SlowPublisher][usize::from(topic)]
}
