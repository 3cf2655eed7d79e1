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
    let clock = rig.clock;
    rig.give_all(gateway, &plain(topic, &[0]));
    let stamped = [time(5000), plain(topic, &[1]), plain(topic, &[2]), time(4000)].concat();
    rig.give_all(gateway, &stamped);
    rig.give_all(gateway, &plain(topic, &[3]));
    let id = topic.get();
    let seen = rig.take(reader);
    let expected = [
        Seen::Topic(id, "a".into()),
        Seen::Time(clock),
        Seen::Data(id, vec![0]),
        Seen::Time(5000),
        Seen::Data(id, vec![1]),
        Seen::Data(id, vec![2]),
        Seen::Time(4000),
        Seen::Data(id, vec![3]),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn history_says_when_the_gateway_took_a_message() {
    let (mut rig, gateway, reader, topic) = rig();
    rig.give_all(gateway, &[time(5000), plain(topic, &[1])].concat());
    rig.take(reader);
    let late = rig.attach(with_times(3));
    let seen = rig.history(late, control::History { topic: "#", ..Default::default() });
    assert!(seen.contains(&Seen::Time(5000)), "{seen:?}");
}

#[test]
fn a_new_link_of_a_gateway_begins_with_the_relays_clock() {
    let (mut rig, first, reader, topic) = rig();
    rig.give_all(first, &[time(5000), counted(topic, &[1])].concat());
    rig.session.detach(rig.now().mono, first);
    let again = rig.attach(gateway(1));
    rig.give_all(again, &counted(topic, &[2]));
    let times = |seen: Vec<Seen>| -> Vec<Seen> {
        seen.into_iter().filter(|seen| matches!(seen, Seen::Time(_))).collect()
    };
    assert_eq!(times(rig.take(reader)), [Seen::Time(5000), Seen::Time(rig.clock)]);
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
