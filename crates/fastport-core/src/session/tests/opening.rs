//! Topics that are opened and closed.

use super::*;

#[test]
fn open_says_what_it_refuses() {
    let mut rig = Rig::new(Limits { open_topics: 1, topics: 2, ..limits() });
    let peer = rig.attach(allowed(1, &["a/#"], &[]));
    assert_eq!(refusal(&rig.open_with(peer, "b", None)), Some(ErrorCode::Forbidden));
    assert_eq!(refusal(&rig.open_with(peer, "a/+", None)), Some(ErrorCode::BadTopic));
    assert_eq!(refusal(&rig.open_with(peer, "a", Some(&[]))), Some(ErrorCode::BadReadings));
    let id = rig.open(peer, "a");
    assert_eq!(rig.open(peer, "a"), id, "opening again gives the same id");
    assert_eq!(refusal(&rig.open_with(peer, "a/b", None)), Some(ErrorCode::LimitReached));
    let others = [2, 3].map(|epoch| rig.attach(admission(epoch)));
    rig.open(others[0], "b");
    let seen = rig.open_with(others[1], "c", None);
    assert_eq!(refusal(&seen), Some(ErrorCode::LimitReached), "topics of the session");
}

#[test]
fn what_is_retained_under_one_schema_is_not_given_out_under_another() {
    let limits = Limits { retention: Retention { messages: 9, ..limits().retention }, ..limits() };
    let mut rig = Rig::new(limits);
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    let past = |rig: &mut Rig| {
        let seen = rig.history(reader, control::History { topic: "a", ..Default::default() });
        numbers(&seen)
    };
    rig.open_with(publisher, "a", Some(&schema(1)));
    let id = rig.open(publisher, "a");
    let flags = DataFlags::READINGS.with(DataFlags::KEEP);
    rig.give_all(publisher, &data(id, flags, &[1]));
    assert_eq!(past(&mut rig), [1]);
    rig.open_with(publisher, "a", Some(&schema(1)));
    assert_eq!(past(&mut rig), [1], "it is the same schema");
    rig.open_with(publisher, "a", Some(&schema(2)));
    assert_eq!(past(&mut rig), NOTHING);
    assert_eq!((rig.session.figures().retained, rig.session.figures().evicted), (0, 1));
}

#[test]
fn two_publishers_agree_on_a_schema_or_the_second_is_refused() {
    let mut rig = Rig::new(Limits { open_topics: 1, ..limits() });
    let [one, two] = [1, 2].map(|epoch| rig.attach(admission(epoch)));
    rig.open_with(one, "a", Some(&schema(1)));
    let seen = rig.open_with(two, "a", Some(&schema(2)));
    assert_eq!(refusal(&seen), Some(ErrorCode::Conflict));
    // what was refused is not open and takes no place
    rig.open(two, "b");
    let seen = rig.open_with(one, "a", Some(&schema(2)));
    assert!(matches!(seen.last(), Some(Seen::Ok { .. })), "alone it may change: {seen:?}");
}

#[test]
fn a_closed_topic_may_be_opened_again_but_not_published_on() {
    let mut rig = Rig::new(Limits { open_topics: 1, ..limits() });
    let peer = rig.attach(admission(1));
    let id = rig.open(peer, "a");
    let close = |rig: &mut Rig| {
        let request = Some(rig.next_request());
        let close = control::CloseTopic { request, id: id.get(), ..Default::default() };
        rig.give_all(peer, &control(close));
        rig.take(peer)
    };
    assert!(matches!(close(&mut rig)[..], [Seen::Ok { .. }]));
    assert_eq!(refusal(&close(&mut rig)), Some(ErrorCode::UnknownId));
    assert_eq!(rig.open(peer, "a"), id);
    close(&mut rig);
    rig.give(peer, &plain(id, &[1]));
    assert_eq!(refusal(&rig.take(peer)), Some(ErrorCode::UnknownId));
    assert!(rig.is_last(peer));
}

#[test]
fn ids_of_topics_nobody_uses_make_room_for_others() {
    let mut rig = Rig::new(Limits { topics: 2, open_topics: 2, ..limits() });
    let peer = rig.attach(admission(1));
    for round in 0..100 {
        rig.emit(peer, &std::format!("t/{round}"), DataFlags::NONE, &[1]);
    }
    assert!(rig.session.figures().topics <= 2);
    let kept = rig.open(peer, "kept");
    assert_eq!(rig.open(peer, "kept"), kept);
}

#[test]
fn topics_that_nobody_remembers_do_not_hold_the_memory() {
    let mut rig = Rig::with_budget(Limits { topics: 100_000, ..limits() }, 64 * 1024);
    let peer = rig.attach(admission(1));
    for round in 0..2000 {
        let seen = rig.emit(peer, &std::format!("t/{round}"), DataFlags::NONE, &[1]);
        assert_eq!(refusal(&seen), None, "round {round}");
    }
    assert!(rig.session.figures().topics < 400);
}

#[test]
fn topics_that_nobody_remembers_make_room_for_messages_in_time() {
    let mut rig = Rig::with_budget(Limits { stall_ms: 1000, ..limits() }, 40 * 1024);
    let [peer, reader] = [1, 2].map(|epoch| rig.attach(admission(epoch)));
    rig.subscribe(reader, "kept");
    let kept = rig.open(peer, "kept");
    let mut limits = *rig.session.limits();
    limits.topics = 100_000;
    rig.session.set_limits(limits);
    while rig.budget.used() + 500 < rig.budget.limit() {
        let name = std::format!("t/{}", rig.session.figures().topics);
        assert_eq!(refusal(&rig.emit(peer, &name, DataFlags::NONE, &[1])), None);
    }
    rig.give_all(peer, &plain(kept, &[7; 1000]));
    assert_eq!(rig.dropped(GapCause::Budget), 1, "the test is about memory that is used up");
    rig.pass(2000);
    rig.take_until_drained(reader);
    rig.give_all(peer, &plain(kept, &[8; 1000]));
    assert_eq!(numbers(&rig.take(reader)), [8]);
}

#[test]
fn an_id_that_is_not_given_again_is_charged_until_all_are_gone() {
    let mut rig = Rig::new(Limits { topics: 10, ..limits() });
    let peer = rig.attach(admission(1));
    let before = rig.budget.used();
    for round in 0..600 {
        rig.emit(peer, &std::format!("t/{round}"), DataFlags::NONE, &[1]);
    }
    assert!(rig.budget.used() >= before + 590 * size_of::<usize>());
    let now = rig.now().mono;
    rig.session.detach(now, peer);
    assert_eq!(rig.budget.used(), 0);
}
