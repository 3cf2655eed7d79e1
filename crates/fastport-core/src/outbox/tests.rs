mod exact;

use alloc::sync::Arc;
use std::vec;

use fastport_wire::field::MAX_BODY;
use fastport_wire::frame::DataFlags;
use proptest::prelude::*;

use super::gaps::GAP_FRAMES_MAX;
use super::*;
use crate::budget::Budget;

struct Rig {
    outbox: Outbox,
    buffers: Buffers,
    ledger: Ledger,
}

impl Rig {
    fn new(limit: usize, when_full: WhenFull, is_resumable: bool) -> Self {
        let buffers = Buffers::new(Arc::new(Budget::new(1 << 20)));
        let outbox = Outbox::new(limit, when_full, is_resumable);
        Self { outbox, buffers, ledger: Ledger::default() }
    }

    fn publish(&mut self, topic: u32, number: u8, is_counted: bool) {
        let frame = data(topic, number, is_counted);
        self.ledger.routed += 1;
        let run = Run { bytes: &frame, messages: 1, is_counted, topic: id(topic) };
        self.outbox.push_run(&mut self.buffers, &mut self.ledger, &run).expect("budget");
    }

    /// Publishes messages with the numbers from `first` on, from where others might write them, too.
    fn publish_shared(&mut self, topic: u32, first: u8, messages: u8, is_counted: bool) {
        let numbers = (0..messages).map(|number| first.wrapping_add(number));
        let frames: Vec<u8> = numbers.flat_map(|number| data(topic, number, is_counted)).collect();
        self.ledger.routed += u64::from(messages);
        let run = Run { bytes: &frames, messages: messages.into(), is_counted, topic: id(topic) };
        let Self { outbox, buffers, ledger } = self;
        let span = buffers.share(&frames).expect("budget");
        let preface = &mut Preface::default();
        outbox.push_shared_after(buffers, ledger, preface, &run, Some(span)).expect("budget");
        buffers.let_go(span);
    }

    fn write(&mut self, at_most: usize) -> Vec<u8> {
        let bytes = self.outbox.output(&mut self.buffers, &mut self.ledger);
        let written = bytes[..at_most.min(bytes.len())].to_vec();
        self.outbox.advance(&mut self.buffers, &mut self.ledger, written.len());
        written
    }

    fn write_all(&mut self) -> Vec<Seen> {
        let bytes = self.write(usize::MAX);
        see(&bytes)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Message(u32, u8),
    Gap(u64, GapCause),
    Other,
}

fn id(number: u32) -> TopicId {
    TopicId::new(number).expect("not 0")
}

fn data(topic: u32, number: u8, is_counted: bool) -> Vec<u8> {
    let flags = if is_counted { DataFlags::COUNTED } else { DataFlags::NONE };
    let payload = [number; 8];
    let frame = Frame::Data { flags, topic: id(topic), payload: &payload };
    let mut bytes = vec![0; frame.encoded_len()];
    frame.encode(&mut bytes).expect("encoded_len bytes");
    bytes
}

fn see(mut bytes: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Ok(Some((frame, taken))) = Frame::decode(bytes, MAX_BODY) {
        bytes = &bytes[taken..];
        seen.push(match frame {
            Frame::Data { topic, payload, .. } => Seen::Message(topic.get(), payload[0]),
            Frame::Gap { count, cause, .. } => Seen::Gap(count, cause),
            _ => Seen::Other,
        });
    }
    assert!(bytes.is_empty(), "the output ends with a whole frame");
    seen
}

#[test]
fn an_idle_outbox_owns_no_buffer() {
    let mut rig = Rig::new(1000, WhenFull::DropOldest, false);
    rig.publish(1, 1, false);
    assert_eq!(rig.write_all(), [Seen::Message(1, 1)]);
    assert_eq!(rig.outbox.figures().bytes, 0);
    assert_eq!(rig.ledger.delivered, 1);
}

#[test]
fn the_oldest_are_dropped_and_their_reader_is_told_in_their_place() {
    let mut rig = Rig::new(50, WhenFull::DropOldest, false);
    for number in 0..10 {
        rig.publish(1, number, false);
    }
    let seen = rig.write_all();
    let Some(&Seen::Gap(lost, GapCause::Overflow)) = seen.first() else { panic!("{seen:?}") };
    let first = u8::try_from(lost).expect("few");
    let rest: Vec<_> = (first..10).map(|number| Seen::Message(1, number)).collect();
    assert_eq!(seen[1..], rest);
    assert_eq!((rig.ledger.delivered, rig.ledger.dropped_total()), (10 - lost, lost));
}

#[test]
fn a_frame_that_is_half_written_is_not_dropped() {
    let mut rig = Rig::new(50, WhenFull::DropOldest, false);
    rig.publish(1, 0, false);
    let mut bytes = rig.write(5);
    for number in 1..20 {
        rig.publish(1, number, false);
    }
    bytes.extend(rig.write(usize::MAX));
    let seen = see(&bytes);
    assert_eq!(seen[0], Seen::Message(1, 0));
    assert!(matches!(seen[1], Seen::Gap(_, GapCause::Overflow)));
    assert_eq!(seen.last(), Some(&Seen::Message(1, 19)));
}

#[test]
fn after_a_stall_the_newest_of_each_topic_is_left() {
    let mut rig = Rig::new(1000, WhenFull::Latest, false);
    rig.publish(1, 0, false);
    let mut bytes = rig.write(5);
    for number in 1..5 {
        rig.publish(1, number, false);
        rig.publish(2, number, false);
    }
    bytes.extend(rig.write(usize::MAX));
    let expected = [
        Seen::Message(1, 0),
        Seen::Gap(6, GapCause::Superseded),
        Seen::Message(1, 4),
        Seen::Message(2, 4),
    ];
    assert_eq!(see(&bytes), expected);
}

#[test]
fn under_latest_a_topic_takes_the_room_of_its_own_past_and_of_no_other() {
    let mut rig = Rig::new(60, WhenFull::Latest, false);
    rig.publish(1, 0, false);
    let mut bytes = rig.write(5);
    rig.publish(2, 1, false);
    rig.publish(3, 2, false);
    let run: Vec<u8> = (3..6).flat_map(|number| data(3, number, false)).collect();
    let Rig { outbox, buffers, ledger } = &mut rig;
    let topic = TopicId::new(3).expect("not 0");
    let run = Run { bytes: &run, messages: 3, is_counted: false, topic };
    let fits = outbox.room(ledger);
    assert!(run.bytes.len() > fits, "the test is about a run without room: {fits}");
    outbox.push_run(buffers, ledger, &run).expect("within the budget");
    bytes.extend(rig.write(usize::MAX));
    let seen = see(&bytes);
    let messages = seen.iter().filter(|seen| matches!(seen, Seen::Message(..)));
    let expected = [Seen::Message(1, 0), Seen::Message(2, 1), Seen::Message(3, 5)];
    assert!(messages.eq(expected.iter()), "{seen:?}");
    let gaps = seen.iter().map(|seen| match seen {
        Seen::Gap(count, cause) => {
            assert_eq!(*cause, GapCause::Superseded);
            *count
        }
        _ => 0,
    });
    assert_eq!(gaps.sum::<u64>(), 3);
}

#[test]
fn under_hold_nothing_counted_is_dropped() {
    let mut rig = Rig::new(40, WhenFull::Hold, true);
    rig.publish(1, 0, true);
    rig.publish(1, 1, true);
    assert!(rig.outbox.room(&mut rig.ledger) < data(1, 2, true).len() * 2);
    assert_eq!(rig.write_all(), [Seen::Message(1, 0), Seen::Message(1, 1)]);
    assert_eq!(rig.ledger.delivered, 0, "not before the reader has them");
    let Rig { outbox, buffers, ledger } = &mut rig;
    assert_eq!(outbox.acknowledge(buffers, ledger, 2), Ok(()));
    assert_eq!((ledger.delivered, outbox.room(ledger)), (2, 40));
}

#[test]
fn under_close_an_overflow_shows() {
    let mut rig = Rig::new(20, WhenFull::Close, false);
    rig.publish(1, 0, false);
    assert!(!rig.outbox.has_overflowed());
    rig.publish(1, 1, false);
    assert!(rig.outbox.has_overflowed());
    assert_eq!(rig.ledger.dropped_total(), 1);
}

#[test]
fn acknowledging_too_much_or_less_than_before_is_refused() {
    let mut rig = Rig::new(1000, WhenFull::Hold, true);
    for number in 0..3 {
        rig.publish(1, number, true);
    }
    rig.write_all();
    let Rig { outbox, buffers, ledger } = &mut rig;
    assert_eq!(outbox.acknowledge(buffers, ledger, 4), Err(BadAck));
    assert_eq!(outbox.acknowledge(buffers, ledger, 2), Ok(()));
    assert_eq!(outbox.acknowledge(buffers, ledger, 1), Err(BadAck));
    assert_eq!(outbox.acknowledge(buffers, ledger, 2), Ok(()));
}

#[test]
fn after_a_reconnect_only_counted_frames_that_are_missing_come_again() {
    let mut rig = Rig::new(1000, WhenFull::Hold, true);
    rig.publish(1, 0, true);
    rig.publish(1, 1, false);
    rig.publish(1, 2, true);
    rig.publish(1, 3, true);
    rig.write_all();
    rig.publish(2, 4, false);
    rig.outbox
        .resume(&mut rig.buffers, &mut rig.ledger, 1)
        .expect("the reader's count is possible");
    let Rig { outbox, buffers, .. } = &mut rig;
    let ping = Frame::Ping { token: &[] };
    let announced = outbox.announce_waiting(buffers, |_, out| {
        let at = out.len();
        out.resize(at + ping.encoded_len(), 0);
        ping.encode(&mut out[at..]).expect("encoded_len bytes");
    });
    assert_eq!(announced, Ok(()));
    let expected =
        [Seen::Other, Seen::Message(1, 2), Seen::Message(1, 3), Seen::Other, Seen::Message(2, 4)];
    assert_eq!(rig.write_all(), expected);
    let Rig { outbox, buffers, ledger } = &mut rig;
    assert_eq!(outbox.acknowledge(buffers, ledger, 3), Ok(()));
    assert_eq!((ledger.delivered, ledger.queued()), (5, 0));
}

#[test]
fn what_was_forgotten_before_a_reconnect_is_a_gap() {
    let mut rig = Rig::new(60, WhenFull::DropOldest, true);
    for number in 0..4 {
        rig.publish(1, number, true);
    }
    rig.write_all();
    for number in 4..7 {
        rig.publish(1, number, true);
    }
    rig.outbox
        .resume(&mut rig.buffers, &mut rig.ledger, 1)
        .expect("the reader's count is possible");
    let seen = rig.write_all();
    assert_eq!(seen[0], Seen::Gap(3, GapCause::LinkLost));
    assert_eq!(seen.last(), Some(&Seen::Message(1, 6)));
    assert_eq!(rig.ledger.dropped[GapCause::LinkLost as usize], 3);
}

#[derive(Debug, Clone)]
enum Step {
    Publish { topic: u32, is_counted: bool },
    PublishShared { topic: u32, is_counted: bool, messages: u8 },
    Ping,
    Own,
    Write(usize),
    Ack(u64),
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u32..4, any::<bool>()).prop_map(|(topic, is_counted)| Step::Publish { topic, is_counted }),
        4 => (1u32..4, any::<bool>(), 1u8..4).prop_map(|(topic, is_counted, messages)| {
            Step::PublishShared { topic, is_counted, messages }
        }),
        1 => Just(Step::Ping),
        1 => Just(Step::Own),
        3 => (0usize..120).prop_map(Step::Write),
        2 => (0u64..8).prop_map(Step::Ack),
        1 => Just(Step::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// A reader that gets whole frames only, and loses what a cut link had not carried whole.
    #[test]
    fn all_adds_up_whatever_happens(
        steps in proptest::collection::vec(step(), 1..120),
        policy in 0usize..4, is_resumable: bool, limit in 60usize..200,
    ) {
        let when_full = WhenFull::ALL[policy];
        let mut rig = Rig::new(limit, when_full, is_resumable);
        let mut received: Vec<(u32, u8)> = Vec::new();
        let (mut stream, mut counted_received, mut number) = (Vec::new(), 0u64, 0u8);
        let mut told = 0;
        let mut acked = 0;
        let mut pings = 0;
        for step in steps {
            match step {
                Step::Publish { topic, is_counted } => {
                    let length = data(topic, number, is_counted).len();
                    let must_wait = when_full == WhenFull::Hold && is_counted
                        && rig.outbox.room(&mut rig.ledger) < length;
                    if !must_wait {
                        rig.publish(topic, number, is_counted);
                        number = number.wrapping_add(1);
                    }
                }
                Step::PublishShared { topic, is_counted, messages } => {
                    let length = data(topic, number, is_counted).len() * usize::from(messages);
                    let must_wait = when_full == WhenFull::Hold && is_counted
                        && rig.outbox.room(&mut rig.ledger) < length;
                    if !must_wait {
                        rig.publish_shared(topic, number, messages, is_counted);
                        number = number.wrapping_add(messages);
                    }
                }
                Step::Ping => {
                    let ping = Frame::Ping { token: &[] };
                    prop_assert_eq!(rig.outbox.push_frame(&mut rig.buffers, &ping), Ok(()));
                    pings += 2;
                }
                Step::Own => rig.outbox.own(&mut rig.buffers),
                Step::Write(at_most) => stream.extend(rig.write(at_most)),
                Step::Ack(fewer) => {
                    acked = counted_received.saturating_sub(fewer).max(acked);
                    let Rig { outbox, buffers, ledger } = &mut rig;
                    prop_assert_eq!(outbox.acknowledge(buffers, ledger, acked), Ok(()));
                }
                Step::Cut => {
                    stream.clear();
                    acked = counted_received;
                    if is_resumable {
                        prop_assert_eq!(rig.outbox.resume(&mut rig.buffers, &mut rig.ledger, counted_received), Ok(()));
                    } else {
                        let Rig { outbox, buffers, ledger } = &mut rig;
                        outbox.discard(buffers, ledger, GapCause::ReaderGone);
                        rig.outbox = Outbox::new(limit, when_full, is_resumable);
                        (counted_received, acked) = (0, 0);
                    }
                }
            }
            let mut at = 0;
            while let Ok(Some((frame, taken))) = Frame::decode(&stream[at..], MAX_BODY) {
                at += taken;
                match frame {
                    Frame::Data { flags, topic, payload } => {
                        received.push((topic.get(), payload[0]));
                        counted_received += u64::from(flags.contains(DataFlags::COUNTED));
                    }
                    Frame::Gap { count, .. } => told += count,
                    _ => {}
                }
            }
            stream.drain(..at);
            let ledger = &rig.ledger;
            prop_assert_eq!(ledger.queued(), rig.outbox.figures().queued);
            prop_assert!(rig.outbox.held() <= limit + 2 * GAP_FRAMES_MAX + pings);
            let Outbox { bytes, .. } = &rig.outbox;
            prop_assert!(bytes.capacity() - bytes.len() >= rig.outbox.piece_bytes());
            prop_assert_eq!(rig.buffers.budget().used(), bytes.capacity() + rig.buffers.spare_bytes());
            prop_assert!(told <= ledger.dropped_total());
        }
        // order per topic, nothing twice (numbers wrap after 256, more than a run has)
        for topic in 1..4 {
            let of_topic: Vec<u8> = received.iter().filter(|seen| seen.0 == topic).map(|seen| seen.1).collect();
            prop_assert!(of_topic.is_sorted_by(|a, b| a < b), "{:?}", of_topic);
        }
        if when_full == WhenFull::Hold && is_resumable {
            let Rig { outbox, buffers, ledger } = &mut rig;
            outbox.resume(buffers, ledger, counted_received).expect("the reader's own count");
            let rest = rig.write_all();
            prop_assert!(rest.iter().all(|seen| !matches!(seen, Seen::Gap(_, GapCause::LinkLost))));
        }
    }
}
