//! What gateways say of the messages they pass on.

use super::*;

fn gateway(epoch: u64) -> Admission {
    Admission { rights: Arc::new(Rights::everything().of_gateway()), ..lingering(epoch) }
}

fn with_times(epoch: u64) -> Admission {
    Admission { flags: features::TIME, ..admission(epoch) }
}

fn time(unix_ms: u64) -> Vec<u8> {
    frame(&Frame::Time { unix_ms })
}

fn gap(topic: TopicId, count: u64, cause: GapCause) -> Vec<u8> {
    frame(&Frame::Gap { topic: Some(topic), count, cause })
}

fn seen_gap(topic: TopicId, count: u64, cause: GapCause) -> Seen {
    Seen::Gap { topic: Some(topic.get()), count, cause }
}

fn code_of(seen: &[Seen]) -> Option<ErrorCode> {
    seen.iter().find_map(|seen| match seen {
        Seen::Error { request: None, code } => Some(*code),
        _ => None,
    })
}

/// A gateway with an open topic, and a reader that wants times.
fn rig() -> (Rig, PeerKey, PeerKey, TopicId) {
    let mut rig = Rig::new(keeping(8));
    let (gateway, reader) = (rig.attach(gateway(1)), rig.attach(with_times(2)));
    let topic = rig.open(gateway, "a");
    rig.subscribe(reader, "#");
    (rig, gateway, reader, topic)
}

#[test]
fn a_gateways_messages_are_delivered_with_the_time_at_which_it_took_them() {
    let (mut rig, gateway, reader, topic) = rig();
    let clock = rig.now().unix_ms;
    rig.give_all(gateway, &plain(topic, &[0]));
    let stamped =
        [time(DAY + 5000), plain(topic, &[1]), plain(topic, &[2]), time(DAY + 4000)].concat();
    rig.give_all(gateway, &stamped);
    rig.give_all(gateway, &plain(topic, &[3]));
    let id = topic.get();
    let seen = rig.take(reader);
    let expected = [
        Seen::Topic(id, "a".into()),
        Seen::Time(clock),
        Seen::Data(id, vec![0]),
        Seen::Time(DAY + 5000),
        Seen::Data(id, vec![1]),
        Seen::Data(id, vec![2]),
        Seen::Time(DAY + 4000),
        Seen::Data(id, vec![3]),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn history_says_when_the_gateway_took_a_message() {
    let (mut rig, gateway, reader, topic) = rig();
    rig.give_all(gateway, &[time(DAY + 5000), plain(topic, &[1])].concat());
    rig.take(reader);
    let late = rig.attach(with_times(3));
    let seen = rig.history(late, control::History { topic: "#", ..Default::default() });
    assert!(seen.contains(&Seen::Time(DAY + 5000)), "{seen:?}");
}

#[test]
fn a_new_link_of_a_gateway_begins_with_the_relays_clock() {
    let (mut rig, first, reader, topic) = rig();
    rig.give_all(first, &[time(DAY + 5000), counted(topic, &[1])].concat());
    rig.session.detach(rig.now().mono, first);
    let again = rig.attach(gateway(1));
    rig.give_all(again, &counted(topic, &[2]));
    let times = |seen: Vec<Seen>| -> Vec<Seen> {
        seen.into_iter().filter(|seen| matches!(seen, Seen::Time(_))).collect()
    };
    assert_eq!(times(rig.take(reader)), [Seen::Time(DAY + 5000), Seen::Time(rig.now().unix_ms)]);
}

#[test]
fn what_a_gateway_dropped_is_told_in_its_place_and_is_in_the_ledger() {
    let (mut rig, gateway, reader, topic) = rig();
    let cause = GapCause::Expired;
    rig.give_all(
        gateway,
        &[counted(topic, &[1]), gap(topic, 7, cause), counted(topic, &[2])].concat(),
    );
    let id = topic.get();
    let seen: Vec<Seen> =
        rig.take(reader).into_iter().filter(|seen| !matches!(seen, Seen::Time(_))).collect();
    let expected = [
        Seen::Topic(id, "a".into()),
        Seen::Data(id, vec![1]),
        seen_gap(topic, 7, cause),
        Seen::Data(id, vec![2]),
    ];
    assert_eq!(seen, expected);
    let ledger = rig.ledger();
    assert_eq!((ledger.published, ledger.reported, rig.dropped(cause)), (2, 7, 7));
    assert_eq!((ledger.routed, ledger.delivered, ledger.queued()), (9, 2, 0));
}

#[test]
fn a_gap_is_told_also_where_no_message_follows_and_names_its_topic() {
    let (mut rig, gateway, reader, topic) = rig();
    rig.give_all(gateway, &gap(topic, 7, GapCause::Expired));
    let expected = [Seen::Topic(topic.get(), "a".into()), seen_gap(topic, 7, GapCause::Expired)];
    assert_eq!(rig.take(reader), expected);
}

#[test]
fn a_gap_that_is_said_again_after_a_reconnect_is_counted_once() {
    let (mut rig, first, reader, topic) = rig();
    let cause = GapCause::Overflow;
    rig.give_all(first, &[counted(topic, &[1]), gap(topic, 7, cause)].concat());
    assert_eq!(gaps(&rig.take_until_drained(reader)), 7);
    rig.session.detach(rig.now().mono, first);
    let again = rig.attach(gateway(1));
    // it has grown meanwhile
    rig.give_all(again, &gap(topic, 9, cause));
    assert_eq!(rig.take(reader), [seen_gap(topic, 2, cause)]);
    rig.give_all(again, &gap(topic, 8, cause));
    assert_eq!(rig.take(reader), []);
    // of another cause it is another one
    rig.give_all(again, &gap(topic, 3, GapCause::Expired));
    assert_eq!(rig.take(reader), [seen_gap(topic, 3, GapCause::Expired)]);
    // behind the next message it is a new one
    rig.give_all(again, &[counted(topic, &[2]), gap(topic, 9, cause)].concat());
    let seen = rig.take_until_drained(reader);
    assert!(seen.contains(&seen_gap(topic, 9, cause)), "{seen:?}");
    assert_eq!((rig.ledger().reported, rig.dropped(cause)), (21, 18));
}

#[test]
fn only_a_gateway_may_say_times_and_gaps() {
    for is_gap in [false, true] {
        let mut rig = Rig::new(limits());
        let peer = rig.attach(admission(1));
        let topic = rig.open(peer, "a");
        let said = if is_gap { gap(topic, 1, GapCause::Expired) } else { time(1) };
        rig.give(peer, &said);
        assert_eq!(code_of(&rig.take(peer)), Some(ErrorCode::Unexpected));
    }
}

#[test]
fn a_gateway_speaks_of_topics_only_that_it_opened() {
    for topic in [None, TopicId::new(77)] {
        let (mut rig, gateway, ..) = rig();
        let said = frame(&Frame::Gap { topic, count: 1, cause: GapCause::Expired });
        rig.give(gateway, &said);
        assert_eq!(code_of(&rig.take(gateway)), Some(ErrorCode::UnknownId));
    }
}

#[test]
fn a_gateway_cannot_pile_up_gaps_in_one_place() {
    let mut rig = Rig::new(Limits { topics: 1000, open_topics: 1000, ..limits() });
    let gateway = rig.attach(gateway(1));
    let mut refused = None;
    for number in 0..=256 {
        let topic = rig.open(gateway, &std::format!("t/{number}"));
        rig.give(gateway, &gap(topic, 1, GapCause::Expired));
        refused = code_of(&rig.take(gateway));
        assert!(refused.is_none() || number == 256, "{number}");
    }
    assert_eq!(refused, Some(ErrorCode::LimitReached));
}

/// A reader that tells by its own count what it has: one of the daemon's own parts.
fn store(epoch: u64, taken: u64) -> Admission {
    let own = Some(Own { outbox: 4096 });
    Admission {
        identity: "$store".into(),
        name: "store".into(),
        own,
        when_full: Some(WhenFull::Hold),
        taken,
        ..with_times(epoch)
    }
}

/// What a reader got of messages, gaps and times.
fn stream(rig: &mut Rig, key: PeerKey) -> Vec<Seen> {
    let seen = rig.take_until_drained(key).into_iter();
    seen.filter(|seen| matches!(seen, Seen::Data(..) | Seen::Gap { .. } | Seen::Time(_))).collect()
}

/// Goes on in another life, from the journal alone.
fn crash(rig: &mut Rig, journal: &[u8]) {
    let next = Session::new(*rig.session.limits(), Arc::clone(&rig.budget), rig.now().mono);
    rig.session = next;
    let mut rights = |_: &str| Some(Arc::new(Rights::everything().of_gateway()));
    let (restored, applied) = rig.session.restore(rig.now().mono, journal, &mut rights);
    assert_eq!((applied, restored.dropped_peers), (Ok(()), 0));
    rig.session.start_journal();
}

fn snapshot(rig: &mut Rig) -> Vec<u8> {
    let mut journal = Vec::new();
    let write = |records: &[u8]| {
        journal.extend_from_slice(records);
        Ok::<_, ()>(())
    };
    rig.session.snapshot(write).expect("it is written to memory");
    journal
}

/// How the life of the reader, or of the session, ends.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Reader,
    Session,
    AfterSnapshot,
}

#[test]
fn gaps_and_times_that_a_store_has_not_stored_come_again_whatever_ends() {
    for end in [End::Reader, End::Session, End::AfterSnapshot] {
        for acked in 0..=3 {
            let mut rig = Rig::new(limits());
            rig.session.start_journal();
            let (gateway, reader) = (rig.attach(gateway(1)), rig.attach(store(2, 0)));
            let topic = rig.open(gateway, "a");
            rig.subscribe(reader, "#");
            let cause = GapCause::Expired;
            let said = [
                time(DAY + 5000),
                counted(topic, &[1]),
                gap(topic, 7, cause),
                counted(topic, &[2]),
                time(DAY + 6000),
                counted(topic, &[3]),
                gap(topic, 8, cause),
            ];
            rig.give_all(gateway, &said.concat());
            let (data, gap_of) = (
                |number: u8| Seen::Data(topic.get(), vec![number]),
                |count| seen_gap(topic, count, cause),
            );
            let all = [
                Seen::Time(DAY + 5000),
                data(1),
                gap_of(7),
                data(2),
                Seen::Time(DAY + 6000),
                data(3),
                gap_of(8),
            ];
            assert_eq!(stream(&mut rig, reader), all);
            if acked > 0 {
                rig.give_all(reader, &ack(acked));
            }
            match end {
                End::Reader => rig.session.detach(rig.now().mono, reader),
                End::Session => {
                    let journal = rig.session.journaled().to_vec();
                    crash(&mut rig, &journal);
                }
                End::AfterSnapshot => {
                    let journal = snapshot(&mut rig);
                    crash(&mut rig, &journal);
                }
            }
            let now = rig.now();
            let again = rig.session.attach(now, store(2, acked)).expect("its state is here");
            let expected = match acked {
                0 => all.to_vec(),
                1 => {
                    vec![
                        gap_of(7),
                        Seen::Time(DAY + 5000),
                        data(2),
                        Seen::Time(DAY + 6000),
                        data(3),
                        gap_of(8),
                    ]
                }
                2 => vec![Seen::Time(DAY + 6000), data(3), gap_of(8)],
                _ => vec![gap_of(8)],
            };
            let seen = stream(&mut rig, again);
            let order = |seen: &[Seen]| -> Vec<Seen> {
                // a TIME may stand on either side of a GAP
                let mut of_gaps = seen.to_vec();
                of_gaps.retain(|seen| !matches!(seen, Seen::Time(_)));
                of_gaps
            };
            let times = |seen: &[Seen]| -> Vec<(u64, u8)> {
                let mut time = 0;
                let mut times = Vec::new();
                for seen in seen {
                    match seen {
                        Seen::Time(unix_ms) => time = *unix_ms,
                        Seen::Data(_, payload) => times.push((time, payload[0])),
                        _ => {}
                    }
                }
                times
            };
            assert_eq!(order(&seen), order(&expected), "{end:?} {acked}");
            assert_eq!(times(&seen), times(&expected), "{end:?} {acked}");
        }
    }
}

#[test]
fn a_gap_that_is_said_again_after_a_crash_is_counted_once() {
    for is_snapshot in [false, true] {
        let mut rig = Rig::new(limits());
        rig.session.start_journal();
        let (first, reader) = (rig.attach(gateway(1)), rig.attach(store(2, 0)));
        let topic = rig.open(first, "a");
        rig.subscribe(reader, "#");
        let cause = GapCause::Expired;
        rig.give_all(first, &[counted(topic, &[1]), gap(topic, 7, cause)].concat());
        let journal = match is_snapshot {
            true => snapshot(&mut rig),
            false => rig.session.journaled().to_vec(),
        };
        crash(&mut rig, &journal);
        let again = rig.attach(gateway(1));
        let now = rig.now();
        let reader = rig.session.attach(now, store(2, 0)).expect("its state is here");
        rig.give_all(again, &[gap(topic, 9, cause), counted(topic, &[2])].concat());
        assert_eq!(gaps(&rig.take_until_drained(reader)), 9);
    }
}

#[test]
fn gaps_of_an_exact_reader_take_no_more_room_than_topics_and_causes_do() {
    let mut rig = Rig::new(limits());
    let (gateway, reader) = (rig.attach(gateway(1)), rig.attach(store(2, 0)));
    let topic = rig.open(gateway, "a");
    rig.subscribe(reader, "#");
    let mut used = 0;
    for count in 1..1000 {
        rig.give_all(gateway, &[gap(topic, count, GapCause::Expired), plain(topic, &[])].concat());
        rig.take_until_drained(reader);
        if count == 10 {
            used = rig.budget.used();
        }
    }
    assert!(rig.budget.used() <= used + 64, "{used} became {}", rig.budget.used());
}

#[test]
fn gaps_of_two_topics_with_nothing_between_them_keep_their_names_whatever_ends() {
    for end in [End::Reader, End::Session, End::AfterSnapshot] {
        // read before the end or not, and what the reader has of the message before them
        for (is_read, acked) in [(false, 0), (true, 0), (true, 1)] {
            let mut rig = Rig::new(limits());
            rig.session.start_journal();
            let (first, reader) = (rig.attach(gateway(1)), rig.attach(store(2, 0)));
            let [a, b] = ["a", "b"].map(|name| rig.open(first, name));
            rig.subscribe(reader, "#");
            let cause = GapCause::Expired;
            let said = [counted(a, &[1]), gap(a, 3, cause), gap(b, 3, cause), gap(a, 5, cause)];
            rig.give_all(first, &said.concat());
            let mut expected =
                vec![Seen::Data(a.get(), vec![1]), seen_gap(a, 5, cause), seen_gap(b, 3, cause)];
            let without_times = |mut seen: Vec<Seen>| {
                seen.retain(|seen| !matches!(seen, Seen::Time(_)));
                seen
            };
            if is_read {
                assert_eq!(without_times(stream(&mut rig, reader)), expected);
            }
            if acked > 0 {
                rig.give_all(reader, &ack(acked));
                expected.remove(0);
            }
            match end {
                End::Reader => rig.session.detach(rig.now().mono, reader),
                End::Session => {
                    let journal = rig.session.journaled().to_vec();
                    crash(&mut rig, &journal);
                }
                End::AfterSnapshot => {
                    let journal = snapshot(&mut rig);
                    crash(&mut rig, &journal);
                }
            }
            // a message behind them comes before the reader is back
            let again = rig.attach(gateway(1));
            rig.give_all(again, &counted(a, &[2]));
            expected.push(Seen::Data(a.get(), vec![2]));
            let now = rig.now();
            let reader = rig.session.attach(now, store(2, acked)).expect("its state is here");
            let seen = without_times(stream(&mut rig, reader));
            assert_eq!(seen, expected, "{end:?} {is_read} {acked}");
        }
    }
}

#[test]
fn gaps_of_more_topics_than_are_told_apart_add_up() {
    let topics = 1030;
    let mut rig = Rig::new(Limits { topics: 2000, open_topics: 2000, ..limits() });
    let reader = rig.attach(store(2, 0));
    rig.subscribe(reader, "#");
    for epoch in 10..15 {
        let from = Admission { name: std::format!("{epoch}").into(), ..gateway(epoch) };
        let gateway = rig.attach(from);
        for number in 0..topics / 5 {
            let topic = rig.open(gateway, &std::format!("t/{epoch}/{number}"));
            rig.give_all(gateway, &gap(topic, 2, GapCause::Expired));
        }
    }
    let seen = rig.take_until_drained(reader);
    assert_eq!(gaps(&seen), 2 * topics);
    let unnamed = seen.iter().filter(|seen| matches!(seen, Seen::Gap { topic: None, .. }));
    assert_eq!(unnamed.count(), 1);
}
