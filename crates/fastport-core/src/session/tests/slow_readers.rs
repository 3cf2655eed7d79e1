//! Readers that do not keep up.

use super::*;

#[test]
fn a_slow_reader_loses_the_oldest_and_is_told_while_others_lose_nothing() {
    let mut slow = Slow::new(with_policy(1, WhenFull::DropOldest));
    slow.publish(0..50, DataFlags::NONE);
    let seen = slow.rig.take(slow.slow);
    let found = numbers(&seen);
    assert_eq!(found, (50 - u8::try_from(found.len()).expect("few")..50).collect::<Vec<_>>());
    assert_eq!(gaps(&seen) + found.len() as u64, 50);
    assert_eq!(slow.rig.dropped(GapCause::Overflow), gaps(&seen));
    assert_eq!(slow.rig.ledger().queued(), 0);
}

#[test]
fn under_latest_a_slow_reader_gets_the_newest_of_each_topic() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Latest));
    slow.publish(0..1, DataFlags::NONE);
    slow.rig.take_some(slow.slow, 1);
    slow.publish(1..50, DataFlags::NONE);
    let Slow { mut rig, slow, .. } = slow;
    let rest = rig.take_bytes(slow);
    let seen = see(&[
        frame(&Frame::Topic { id: slow_topic(), name: "a", schema: None })[..1].to_vec(),
        rest,
    ]
    .concat());
    assert_eq!(numbers(&seen), [49]);
    assert_eq!(gaps(&seen), 49);
    assert_eq!(rig.dropped(GapCause::Superseded) + rig.dropped(GapCause::Overflow), 49);
}

fn slow_topic() -> TopicId {
    TopicId::new(1).expect("not 0")
}

#[test]
fn under_hold_the_publisher_waits_and_nothing_counted_is_lost() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Hold));
    let mut heard = Vec::new();
    let mut next = 0;
    while next < 50 {
        let taken = slow.publish(next..50, DataFlags::COUNTED);
        next = if taken == u8::MAX { 50 } else { next + taken };
        if next < 50 {
            assert!(taken > 0, "{next}");
            while slow.rig.session.poll_wake().is_some() {}
            heard.extend(numbers(&slow.rig.take(slow.slow)));
            assert!(slow.rig.is_woken(slow.publisher));
        }
    }
    heard.extend(numbers(&slow.rig.take(slow.slow)));
    assert_eq!(heard, (0..50).collect::<Vec<_>>());
    assert_eq!((slow.rig.ledger().dropped_total(), slow.rig.ledger().queued()), (0, 0));
}

#[test]
fn under_hold_what_goes_before_a_message_takes_none_of_its_room() {
    let mut rig = Rig::new(Limits { outbox: 60, payload: 10, ..limits() });
    let publisher = rig.attach(admission(1));
    let flags = features::TIME;
    let reader = rig.attach(Admission { flags, ..with_policy(2, WhenFull::Hold) });
    rig.subscribe(reader, "#");
    let ids = ["a/rather/long/name", "b/rather/long/name", "c/rather/long/name"]
        .map(|name| rig.open(publisher, name));
    let mut heard = Vec::new();
    for number in 0..30u8 {
        let bytes = counted(ids[usize::from(number % 3)], &[number; 10]);
        while rig.give(publisher, &bytes).is_blocked {
            let seen = rig.take(reader);
            assert!(!seen.is_empty(), "it waits for nothing");
            heard.extend(numbers(&seen));
        }
        rig.pass(1);
    }
    heard.extend(numbers(&rig.take(reader)));
    assert_eq!(heard, (0..30).collect::<Vec<_>>());
    assert_eq!(rig.ledger().dropped_total(), 0);
}

#[test]
fn under_hold_messages_that_ask_for_no_delivery_are_dropped_and_told() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Hold));
    slow.publish(0..50, DataFlags::NONE);
    let seen = slow.rig.take_until_drained(slow.slow);
    assert_eq!(numbers(&seen).len() as u64 + gaps(&seen), 50);
    assert_eq!(numbers(&seen)[0], 0);
}

#[test]
fn a_publisher_is_woken_when_the_reader_it_waits_for_unsubscribes() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Hold));
    assert!(slow.publish(0..50, DataFlags::COUNTED) < 50);
    let Slow { mut rig, publisher, slow, .. } = slow;
    while rig.session.poll_wake().is_some() {}
    let request = rig.next_request();
    let topic = "a";
    rig.give_all(slow, &control(control::Unsubscribe { request, topic, ..Default::default() }));
    assert!(rig.is_woken(publisher));
}

#[test]
fn a_publisher_is_woken_when_the_reader_it_waits_for_acknowledges() {
    let held = Admission { linger: Some(10), ..with_policy(1, WhenFull::Hold) };
    let mut slow = Slow::new(held);
    let taken = slow.publish(0..50, DataFlags::COUNTED);
    let Slow { mut rig, publisher, slow, id, .. } = slow;
    rig.take(slow);
    let next = counted(id, &[taken; 47]);
    assert!(rig.give(publisher, &next).is_blocked, "written is not enough");
    while rig.session.poll_wake().is_some() {}
    rig.give_all(slow, &ack(taken.into()));
    assert!(rig.is_woken(publisher));
    rig.give_all(publisher, &next);
}

#[test]
fn a_publisher_is_woken_when_the_reader_it_waits_for_is_gone() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Hold));
    let taken = slow.publish(0..50, DataFlags::COUNTED);
    let Slow { mut rig, publisher, slow, quick, id } = slow;
    let now = rig.now().mono;
    rig.session.detach(now, slow);
    assert!(rig.is_woken(publisher));
    rig.give_all(publisher, &counted(id, &[taken; 47]));
    assert_eq!(numbers(&rig.take(quick)), [taken]);
}

#[test]
fn a_reader_that_is_being_closed_holds_nobody_up() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Hold));
    let taken = slow.publish(0..50, DataFlags::COUNTED);
    let Slow { mut rig, publisher, slow, id, .. } = slow;
    rig.give(slow, &[0xb0, 0]);
    assert!(rig.is_woken(publisher));
    rig.give_all(publisher, &counted(id, &[taken; 47]));
    assert_eq!(rig.dropped(GapCause::ReaderGone), 1);
    let seen = rig.take(slow);
    assert_eq!(refusal(&seen), Some(ErrorCode::BadFrame), "nothing comes behind it: {seen:?}");
}

#[test]
fn a_message_that_no_outbox_can_hold_is_not_waited_for() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Hold));
    slow.rig.session.set_limits(Limits { payload: 2000, ..limits() });
    let long = counted(slow.id, &[7; 1500]);
    let mut rounds = 0;
    while slow.rig.give(slow.publisher, &long).is_blocked {
        slow.rig.take(slow.slow);
        rounds += 1;
        assert!(rounds < 10, "it waits for ever");
    }
    assert_eq!(gaps(&slow.rig.take_until_drained(slow.slow)), 1);
}

#[test]
fn an_outbox_is_never_too_small_for_one_message() {
    let mut rig = Rig::new(Limits { outbox: 10, payload: 500, ..limits() });
    let publisher = rig.attach(admission(1));
    for policy in 0..4 {
        let reader = rig.attach(with_policy(2, WhenFull::ALL[policy]));
        rig.subscribe(reader, "a");
        let id = rig.open(publisher, "a");
        rig.give_all(publisher, &counted(id, &[9; 500]));
        assert_eq!(numbers(&rig.take(reader)), [9]);
        let now = rig.now().mono;
        rig.session.detach(now, reader);
    }
    assert_eq!(rig.ledger().dropped_total(), 0);
}

#[test]
fn who_waits_for_memory_is_woken_though_nothing_tells_of_it() {
    let mut rig = Rig::with_budget(limits(), 30_000);
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(with_policy(2, WhenFull::Hold));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    // another session has it all
    let budget = Arc::clone(&rig.budget);
    let rest = budget.limit() - budget.used();
    assert!(budget.try_take(rest));
    let bytes = counted(id, &[1; 1000]);
    assert!(rig.give(publisher, &bytes).is_blocked);
    while rig.session.poll_wake().is_some() {}
    budget.give_back(rest);
    rig.pass(2000);
    assert!(rig.is_woken(publisher));
    rig.give_all(publisher, &bytes);
    assert_eq!(numbers(&rig.take(reader)), [1]);
}

#[test]
fn under_close_a_slow_reader_is_told_and_closed() {
    let mut slow = Slow::new(Admission { linger: Some(10), ..with_policy(1, WhenFull::Close) });
    slow.publish(0..50, DataFlags::NONE);
    let Slow { mut rig, slow, .. } = slow;
    assert!(rig.is_last(slow));
    let seen = rig.take(slow);
    assert!(matches!(
        seen.iter().rfind(|seen| !matches!(seen, Seen::Gap { .. })),
        Some(Seen::Bye(ByeReason::TooSlow))
    ));
    let now = rig.now().mono;
    rig.session.detach(now, slow);
    assert_eq!(rig.session.figures().lingering, 0);
    let ledger = rig.ledger();
    assert_eq!((ledger.routed, ledger.queued()), (100, 0));
}

#[test]
fn under_close_a_reader_that_missed_something_does_not_resume() {
    let mut slow = Slow::new(Admission { linger: Some(10), ..with_policy(1, WhenFull::Close) });
    let now = slow.rig.now();
    slow.rig.session.detach(now.mono, slow.slow);
    slow.publish(0..50, DataFlags::NONE);
    let back = Admission { linger: Some(10), ..with_policy(1, WhenFull::Close) };
    let key = slow.rig.session.attach(now, back).expect("room");
    let seen = slow.rig.take_until_drained(key);
    let [Seen::Welcome { resumed: false, taken: 0 }, Seen::Gap { topic: None, count, cause }] =
        seen[..]
    else {
        panic!("{seen:?}")
    };
    let ledger = slow.rig.ledger();
    assert_eq!((cause, ledger.queued()), (GapCause::LinkLost, 0));
    assert_eq!(count, ledger.routed - ledger.delivered, "it is told of all that it did not get");
}

#[test]
fn a_peer_that_only_asks_and_does_not_read_is_not_read_either() {
    for policy in 0..4 {
        let mut rig = Rig::new(Limits { outbox: 500, ..limits() });
        let peer = rig.attach(with_policy(1, WhenFull::ALL[policy]));
        let mut asked = 0;
        loop {
            let progress = rig.give(peer, &frame(&Frame::Ping { token: &[1; 16] }));
            if progress.is_blocked {
                break;
            }
            asked += 1;
            assert!(asked < 100, "it is read for ever");
        }
        while rig.session.poll_wake().is_some() {}
        assert_eq!(rig.take(peer).len(), asked);
        assert!(rig.is_woken(peer), "{:?}", WhenFull::ALL[policy]);
        rig.give_all(peer, &frame(&Frame::Ping { token: &[] }));
    }
}

#[test]
fn a_choked_peer_is_woken_even_if_only_outdated_messages_went() {
    let mut slow = Slow::new(with_policy(1, WhenFull::Latest));
    slow.publish(0..5, DataFlags::NONE);
    slow.rig.take_some(slow.slow, 1);
    let ping = frame(&Frame::Ping { token: &[1; 16] });
    slow.publish(5..10, DataFlags::NONE);
    while !slow.rig.give(slow.slow, &ping).is_blocked {}
    let Slow { mut rig, slow, .. } = slow;
    while rig.session.poll_wake().is_some() {}
    rig.take_bytes(slow);
    assert!(rig.is_woken(slow));
}

#[test]
fn a_publisher_that_does_not_read_piles_up_no_acknowledgements() {
    let mut rig = Rig::new(Limits { outbox: 200, payload: 100, ..limits() });
    let publisher = rig.attach(admission(1));
    let id = rig.open(publisher, "a");
    for _ in 0..10_000 {
        rig.give_all(publisher, &counted(id, &[1]));
    }
    assert!(rig.session.output(publisher).expect("there").bytes.len() < 2000);
    let mut last = None;
    while rig.session.has_output(publisher) {
        last = rig.take(publisher).pop();
    }
    assert_eq!(last, Some(Seen::Ack { taken: 10_000, durable: None, central: None }));
}

#[test]
fn a_reader_that_does_not_read_piles_up_no_clocks() {
    for policy in 0..4 {
        let flags = features::TIME;
        let mut slow = Slow::new(Admission { flags, ..with_policy(1, WhenFull::ALL[policy]) });
        for number in 0..2000u32 {
            let [number, ..] = number.to_le_bytes();
            slow.rig.give_all(slow.publisher, &plain(slow.id, &[number; 47]));
            slow.rig.take(slow.quick);
            slow.rig.pass(1);
        }
        let held = slow.rig.session.output(slow.slow).expect("there").bytes.len();
        assert!(held < 1500, "{held} bytes under {:?}", WhenFull::ALL[policy]);
    }
}
