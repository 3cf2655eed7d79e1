//! An outbox of one of the daemon's own parts, against a reader that keeps what it got whatever ends.

use alloc::collections::BTreeMap;

use super::*;

/// Topic and cause.
type Of = (Option<u32>, u8);

/// What a reader has of missing messages: behind how many counted ones, and of what.
type Missing = BTreeMap<(u64, Of), u64>;

#[derive(Debug, Clone)]
enum Act {
    Publish { topic: u32, is_shared: bool },
    Missing { topic: Option<u32>, cause: usize, count: u64 },
    Write(usize),
    Ack(u64),
    Cut,
    Crash,
}

fn act() -> impl Strategy<Value = Act> {
    let topic = prop_oneof![1 => Just(None), 6 => (1u32..4).prop_map(Some)];
    prop_oneof![
        3 => (1u32..4, any::<bool>()).prop_map(|(topic, is_shared)| Act::Publish { topic, is_shared }),
        4 => (topic, 0usize..2, 1u64..5).prop_map(|(topic, cause, count)| {
            Act::Missing { topic, cause, count }
        }),
        3 => (0usize..120).prop_map(Act::Write),
        2 => (0u64..4).prop_map(Act::Ack),
        1 => Just(Act::Cut),
        1 => Just(Act::Crash),
    ]
}

/// A reader that has in one transaction what came, and how many counted messages of it.
#[derive(Default)]
struct Reader {
    stream: Vec<u8>,
    count: u64,
    numbers: Vec<u8>,
    missing: Missing,
    began_at: u64,
    /// of what is missing there, what may be said again
    again: BTreeMap<Of, u64>,
}

impl Reader {
    fn read(&mut self, bytes: &[u8]) {
        self.stream.extend_from_slice(bytes);
        let mut at = 0;
        while let Ok(Some((frame, taken))) = Frame::decode(&self.stream[at..], MAX_BODY) {
            at += taken;
            match frame {
                Frame::Data { payload, .. } => {
                    self.numbers.push(payload[0]);
                    self.count += 1;
                }
                Frame::Gap { topic, count, cause } => {
                    let of = (topic.map(TopicId::get), cause as u8);
                    let is_again = self.count == self.began_at;
                    let known = self.again.get_mut(&of).filter(|_| is_again);
                    let said_before = known.map_or(0, |known| {
                        let said_before = count.min(*known);
                        *known -= said_before;
                        said_before
                    });
                    if count > said_before {
                        *self.missing.entry((self.count, of)).or_default() += count - said_before;
                    }
                }
                _ => {}
            }
        }
        self.stream.drain(..at);
    }

    /// A new link, on which it will be told again what it was told behind its last message.
    fn come_back(&mut self) {
        self.stream.clear();
        self.began_at = self.count;
        let here = self.missing.iter().filter(|((place, _), _)| *place == self.count);
        self.again = here.map(|((_, of), &count)| (*of, count)).collect();
    }
}

fn exact(limit: usize) -> Outbox {
    let mut outbox = Outbox::new(limit, WhenFull::Hold, true);
    outbox.keep_exact();
    outbox
}

impl Rig {
    /// The outbox is made again from its journal.
    fn crash(&mut self, limit: usize) {
        let Self { outbox, buffers, ledger } = self;
        outbox.settle_all(buffers, ledger);
        let mut journal = Vec::new();
        outbox.visit_kept(|frame| journal.extend_from_slice(frame));
        let mut again = exact(limit);
        again.restore_at(buffers, outbox.released(), outbox.figures().acked);
        outbox.discard(buffers, ledger, GapCause::ReaderGone);
        again.restore_frames(buffers, &journal, |time| time).expect("budget");
        again.finish_restore();
        *outbox = again;
        *ledger = Ledger::default();
        ledger.routed = outbox.figures().queued;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn what_is_missing_is_told_by_name_in_its_place_and_once_whatever_ends(
        acts in proptest::collection::vec(act(), 1..80), limit in 60usize..200,
    ) {
        let mut rig = Rig::new(limit, WhenFull::Hold, true);
        rig.outbox.keep_exact();
        let (mut reader, mut missing) = (Reader::default(), Missing::new());
        let (mut number, mut acked) = (0u8, 0);
        for act in acts {
            match act {
                Act::Publish { topic, is_shared } => {
                    if rig.outbox.room(&mut rig.ledger) < data(topic, number, true).len() {
                        continue;
                    }
                    if is_shared {
                        rig.publish_shared(topic, number, 1, true);
                    } else {
                        rig.publish(topic, number, true);
                    }
                    number += 1;
                }
                Act::Missing { topic, cause, count } => {
                    let place = rig.outbox.counted_total();
                    let cause = GapCause::ALL[cause];
                    rig.outbox.tell_missing(topic.map(id), count, cause);
                    *missing.entry((place, (topic, cause as u8))).or_default() += count;
                }
                Act::Write(at_most) => {
                    let written = rig.write(at_most);
                    reader.read(&written);
                }
                Act::Ack(fewer) => {
                    acked = reader.count.saturating_sub(fewer).max(acked);
                    let Rig { outbox, buffers, ledger } = &mut rig;
                    prop_assert_eq!(outbox.acknowledge(buffers, ledger, acked), Ok(()));
                }
                Act::Cut | Act::Crash => {
                    if matches!(act, Act::Crash) {
                        rig.crash(limit);
                    }
                    reader.come_back();
                    acked = reader.count;
                    let Rig { outbox, buffers, ledger } = &mut rig;
                    prop_assert_eq!(outbox.resume(buffers, ledger, reader.count), Ok(()));
                }
            }
        }
        while !rig.outbox.is_drained() {
            let written = rig.write(usize::MAX);
            reader.read(&written);
        }
        prop_assert!(reader.numbers.iter().copied().eq(0..number), "{:?}", reader.numbers);
        prop_assert_eq!(reader.missing, missing);
    }
}
