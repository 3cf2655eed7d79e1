//! Peers that come back.

use super::*;

#[test]
fn a_reader_that_comes_back_gets_the_counted_frames_it_lacks_and_no_other_twice() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(lingering(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    let (one, two) = ([counted(id, &[1]), plain(id, &[2]), counted(id, &[3])], counted(id, &[4]));
    rig.give_all(publisher, &one.concat());
    assert_eq!(numbers(&rig.take(reader)), [1, 2, 3]);
    let now = rig.now();
    rig.session.detach(now.mono, reader);
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (1, 1));
    assert_eq!(rig.session.output(reader), Err(Gone));
    rig.give_all(publisher, &two);
    let reader = rig.session.attach(now, Admission { taken: 1, ..lingering(2) }).expect("room");
    let seen = rig.take(reader);
    assert_eq!(numbers(&seen), [3, 4]);
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (2, 0));
    rig.give_all(reader, &ack(3));
    assert_eq!((rig.ledger().routed, rig.ledger().delivered), (4, 4));
}

#[test]
fn a_publisher_that_comes_back_hears_what_was_taken() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(lingering(1));
    let reader = rig.attach(admission(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    let frames: Vec<_> = (0..5).map(|number| counted(id, &[number])).collect();
    let cut = frames[..3].concat().len() + 2;
    assert_eq!(rig.give(publisher, &frames.concat()[..cut]).consumed, cut - 2);
    let now = rig.now();
    rig.session.detach(now.mono, publisher);
    let publisher = rig.session.attach(now, lingering(1)).expect("room");
    assert_eq!(rig.take(publisher), [Seen::Welcome { resumed: true, taken: 3 }]);
    // what was open is still open
    rig.give_all(publisher, &frames[3..].concat());
    assert_eq!(numbers(&rig.take(reader)), [0, 1, 2, 3, 4]);
    assert_eq!(rig.take(publisher), [Seen::Ack { taken: 5, durable: None, central: None }]);
}

#[test]
fn welcome_is_the_first_frame_also_where_something_was_lost() {
    let mut slow =
        Slow::new(Admission { linger: Some(10), ..with_policy(1, WhenFull::DropOldest) });
    slow.publish(0..5, DataFlags::COUNTED);
    let now = slow.rig.now();
    let seen = slow.rig.take(slow.slow);
    assert_eq!(numbers(&seen), [0, 1, 2, 3, 4]);
    slow.rig.session.detach(now.mono, slow.slow);
    slow.publish(5..50, DataFlags::COUNTED);
    let back = Admission { linger: Some(10), taken: 2, ..with_policy(1, WhenFull::DropOldest) };
    let key = slow.rig.session.attach(now, back).expect("room");
    slow.publish(50..60, DataFlags::COUNTED);
    let seen = slow.rig.take(key);
    assert!(matches!(seen[0], Seen::Welcome { resumed: true, .. }), "{seen:?}");
    assert!(matches!(seen[1], Seen::Topic(1, _)), "{seen:?}");
    assert_eq!(2 + gaps(&seen) + numbers(&seen).len() as u64, 60);
    assert!(slow.rig.dropped(GapCause::LinkLost) > 0);
}

#[test]
fn a_gap_names_no_topic_that_its_reader_has_not_heard_of() {
    let mut rig = Rig::new(Limits { outbox: 125, payload: 20, ..limits() });
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(with_policy(2, WhenFull::Latest));
    rig.subscribe(reader, "#");
    let [a, b] = ["a", "b"].map(|name| rig.open(publisher, name));
    rig.give_all(publisher, &plain(a, &[0; 9]));
    let mut bytes = rig.take_some(reader, 7);
    rig.give_all(publisher, &plain(a, &[1; 9]));
    for number in 2..9 {
        rig.give_all(publisher, &plain(b, &[number; 9]));
    }
    bytes.extend(rig.take_bytes(reader));
    let mut known = Vec::new();
    for seen in see(&bytes) {
        match seen {
            Seen::Topic(id, _) => known.push(id),
            Seen::Gap { topic: Some(id), .. } | Seen::Data(id, _) => {
                assert!(known.contains(&id), "{id} in {:?}", see(&bytes));
            }
            _ => {}
        }
    }
}

#[test]
fn who_does_not_come_back_in_time_is_booked_as_gone() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(lingering(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    rig.give_all(publisher, &[counted(id, &[1]), plain(id, &[2])].concat());
    rig.take(reader);
    rig.give_all(publisher, &plain(id, &[3]));
    let now = rig.now().mono;
    rig.session.detach(now, reader);
    rig.pass(9_000);
    assert_eq!(rig.session.figures().lingering, 1);
    rig.pass(2_000);
    assert_eq!(rig.session.figures().lingering, 0);
    let ledger = rig.ledger();
    assert_eq!((ledger.routed, ledger.delivered), (3, 1));
    assert_eq!(rig.dropped(GapCause::ReaderGone), 2);
    rig.give_all(publisher, &plain(id, &[4]));
    assert_eq!(rig.ledger().routed, 3);
}

#[test]
fn a_wish_for_signs_of_life_is_limited() {
    for (limit, wish, granted) in [
        (60, None, 60),
        (60, Some(20), 20),
        (60, Some(61), 60),
        (60, Some(0), 60),
        (60, Some(1), 2),
        (1, Some(5), 1),
        (0, None, 0),
        (0, Some(0), 0),
        (0, Some(20), 20),
        (0, Some(u32::MAX), 3600),
    ] {
        let mut rig = Rig::new(Limits { keepalive: limit, ..limits() });
        let wish_of = Admission { keepalive: wish, ..admission(1) };
        let peer = rig.session.attach(rig.now(), wish_of).expect("room");
        let bytes = rig.take_bytes(peer);
        let Ok(Some((Frame::Control(body), _))) = Frame::decode(&bytes, MAX_BODY) else { panic!() };
        let Ok(Control::Welcome(welcome)) = Control::decode(body) else { panic!("{body:x?}") };
        assert_eq!(welcome.keepalive, Some(granted), "{wish:?} of {limit}");
    }
}

#[test]
fn a_wish_to_linger_is_limited() {
    let mut rig = Rig::new(Limits { linger: 5, ..limits() });
    let peer = rig.attach(Admission { linger: Some(u32::MAX), ..admission(1) });
    let now = rig.now().mono;
    rig.session.detach(now, peer);
    rig.pass(6_000);
    assert_eq!(rig.session.figures().lingering, 0);
}

#[test]
fn a_newer_link_of_the_same_name_replaces_the_old_one() {
    let mut rig = Rig::new(limits());
    let named = |epoch| Admission { name: "panel".into(), ..lingering(epoch) };
    let old = rig.attach(named(1));
    rig.subscribe(old, "a");
    let new = rig.attach(named(2));
    let now = rig.now();
    assert_eq!(rig.session.output(old), Err(Gone));
    assert_eq!(rig.session.handle_bytes(now, old, &[0]), Err(Gone));
    assert!(rig.session.has_output(old), "its link is to look, and finds itself gone");
    assert!(rig.is_woken(old));
    rig.session.detach(now.mono, old);
    assert!(rig.session.output(new).is_ok(), "the old link's end is not the new one's");
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (1, 0));
    let other = rig.attach(Admission { identity: "somebody".into(), ..named(3) });
    assert!(rig.session.output(new).is_ok(), "another identity's name is another name");
    assert!(rig.session.output(other).is_ok());
}

#[test]
fn a_resume_takes_over_from_a_link_that_is_still_there() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let old = rig.attach(lingering(2));
    rig.subscribe(old, "a");
    let id = rig.open(publisher, "a");
    rig.give_all(publisher, &counted(id, &[1]));
    let new = rig.session.attach(rig.now(), lingering(2)).expect("room");
    assert_eq!(rig.session.output(old), Err(Gone));
    assert!(rig.is_woken(old));
    assert_eq!(numbers(&rig.take(new)), [1]);
    let now = rig.now().mono;
    rig.session.detach(now, old);
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (2, 0));
}

#[test]
fn a_peer_whose_count_cannot_be_begins_anew() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(lingering(1));
    let now = rig.now();
    rig.session.detach(now.mono, peer);
    let peer = rig.session.attach(now, Admission { taken: 5, ..lingering(1) }).expect("room");
    assert_eq!(rig.take(peer), [Seen::Welcome { resumed: false, taken: 0 }]);
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (1, 0));
}

#[test]
fn peers_that_chose_the_same_epoch_do_not_disturb_each_other() {
    let mut rig = Rig::new(limits());
    let named = |name: &str| Admission { name: name.into(), ..lingering(7) };
    let keys = ["one", "two"].map(|name| rig.attach(named(name)));
    let now = rig.now();
    keys.iter().for_each(|&key| rig.session.detach(now.mono, key));
    for name in ["one", "two"] {
        let key = rig.session.attach(now, named(name)).expect("room");
        assert_eq!(rig.take(key), [Seen::Welcome { resumed: true, taken: 0 }]);
    }
}

#[test]
fn a_peer_that_says_bye_leaves_nothing() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(lingering(1));
    let now = rig.now().mono;
    rig.give(peer, &control(control::Bye::default()));
    assert!(rig.is_last(peer));
    rig.session.detach(now, peer);
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (0, 0));
}

#[test]
fn a_peer_that_says_it_restarts_finds_its_state() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(lingering(1));
    rig.open(peer, "a");
    let now = rig.now();
    let code = ByeReason::ShuttingDown.number();
    rig.give(peer, &control(control::Bye { code, ..Default::default() }));
    assert!(rig.is_last(peer));
    rig.session.detach(now.mono, peer);
    let peer = rig.session.attach(now, lingering(1)).expect("room");
    assert_eq!(rig.take(peer), [Seen::Welcome { resumed: true, taken: 0 }]);
}

#[test]
fn what_is_published_behind_a_bye_is_not_delivered_to_who_does_not_come_back() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(lingering(1));
    let reader = rig.attach(admission(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    rig.session.close_all(ByeReason::ShuttingDown, Some(1000));
    let now = rig.now();
    rig.session.detach(now.mono, publisher);
    let publisher = rig.session.attach(now, lingering(1)).expect("room");
    rig.give_all(publisher, &plain(id, &[1]));
    assert!(matches!(rig.take(reader)[..], [Seen::Bye { .. }]), "BYE is the last frame");
    assert_eq!(rig.dropped(GapCause::ReaderGone), 1);
}

#[test]
fn who_comes_back_with_fewer_rights_has_no_more_than_those() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let peer = rig.attach(lingering(2));
    ["a", "b", "+"].iter().for_each(|filter| rig.subscribe(peer, filter));
    let [a, b] = ["a", "b"].map(|name| {
        rig.open(peer, name);
        rig.open(publisher, name)
    });
    let now = rig.now();
    rig.session.detach(now.mono, peer);
    let back = Admission { linger: Some(10), ..allowed(2, &["b"], &["b"]) };
    let peer = rig.session.attach(now, back).expect("room");
    assert_eq!(rig.take(peer), [Seen::Welcome { resumed: true, taken: 0 }]);
    rig.give_all(publisher, &[plain(a, &[1]), plain(b, &[2])].concat());
    assert_eq!(numbers(&rig.take(peer)), [2]);
    rig.give_all(peer, &plain(b, &[3]));
    assert_eq!(numbers(&rig.take(peer)), [3]);
    rig.give(peer, &plain(a, &[4]));
    assert_eq!(refusal(&rig.take(peer)), Some(ErrorCode::UnknownId));
}

#[test]
fn without_memory_to_say_welcome_a_state_waits_for_a_better_time() {
    let mut rig = Rig::with_budget(limits(), 100_000);
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(lingering(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    let now = rig.now();
    rig.session.detach(now.mono, reader);
    rig.give_all(publisher, &counted(id, &[1; 1000]));
    let budget = Arc::clone(&rig.budget);
    rig.session.evict_oldest();
    let rest = budget.limit() - budget.used();
    assert!(budget.try_take(rest));
    assert_eq!(rig.session.attach(now, lingering(2)), Err(AttachError::NoBudget));
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (1, 1));
    budget.give_back(rest);
    let reader = rig.session.attach(now, lingering(2)).expect("room");
    assert_eq!(numbers(&rig.take(reader)), [1]);
}

#[test]
fn a_resume_for_which_memory_almost_suffices_comes_to_an_end() {
    for free in 0..1200 {
        let mut rig = Rig::with_budget(limits(), 100_000);
        let publisher = rig.attach(admission(1));
        let reader = rig.attach(lingering(2));
        rig.subscribe(reader, "#");
        let now = rig.now();
        rig.session.detach(now.mono, reader);
        for topic in ["a/rather/long/name", "another/rather/long/name", "c"] {
            let id = rig.open(publisher, topic);
            rig.give_all(publisher, &counted(id, &[1; 300]));
            rig.take(publisher);
        }
        let rest = rig.budget.limit() - rig.budget.used() - free;
        assert!(rig.budget.try_take(rest));
        if let Ok(reader) = rig.session.attach(now, lingering(2)) {
            assert_eq!(numbers(&rig.take(reader)), [1, 1, 1]);
        }
        assert_eq!((rig.ledger().dropped_total(), rig.session.figures().topics), (0, 3));
        rig.budget.give_back(rest);
    }
}

#[test]
fn a_peer_gets_in_where_only_the_past_is_in_its_way() {
    let retention = Retention { messages: 1000, age_ms: 10_000, bytes: 1 << 20 };
    let mut rig = Rig::with_budget(Limits { retention, ..limits() }, 30_000);
    let publisher = rig.attach(lingering(1));
    let id = rig.open(publisher, "a");
    for _ in 0..100 {
        rig.give_all(publisher, &plain(id, &[1; 777]));
    }
    let now = rig.now();
    rig.session.detach(now.mono, publisher);
    for epoch in 1..20 {
        let key = rig.session.attach(now, lingering(epoch)).expect("what is retained gives way");
        assert_eq!(rig.take(key).len(), 1);
    }
}

#[test]
fn a_state_whose_peer_may_take_it_for_another_is_not_resumed() {
    let mut rig = Rig::new(limits());
    // a publisher comes back to a relay that was restarted, and does not hear of that: it would send
    // again what the old relay took, on ids that are not open
    let first = rig.session.attach(rig.now(), lingering(1)).expect("room");
    let second = rig.session.attach(rig.now(), lingering(1)).expect("room");
    assert_eq!(rig.session.output(first), Err(Gone));
    assert_eq!(rig.take(second), [Seen::Welcome { resumed: false, taken: 0 }]);
    let now = rig.now();
    rig.session.detach(now.mono, second);
    assert_eq!(rig.session.figures().lingering, 0);
    let third = rig.session.attach(now, lingering(1)).expect("room");
    assert_eq!(rig.take(third), [Seen::Welcome { resumed: false, taken: 0 }]);
    rig.give_all(third, &[0]);
    let fourth = rig.session.attach(now, lingering(1)).expect("room");
    assert_eq!(rig.take(fourth), [Seen::Welcome { resumed: true, taken: 0 }]);
}

#[test]
fn two_that_wait_for_each_other_get_each_others_acknowledgements() {
    let mut rig = Rig::new(Limits { outbox: 530, payload: 100, ..limits() });
    let held = |epoch| Admission { linger: Some(10), ..with_policy(epoch, WhenFull::Hold) };
    let peers = [1, 2].map(|epoch| rig.attach(held(epoch)));
    rig.subscribe(peers[0], "b");
    rig.subscribe(peers[1], "a");
    let ids = [rig.open(peers[0], "a"), rig.open(peers[1], "b")];
    let mut sent: [Vec<u8>; 2] = Default::default();
    for (peer, id) in [0, 1].into_iter().zip(ids) {
        sent[peer].extend((0..30).flat_map(|number| counted(id, &[number; 40])));
    }
    let (mut heard, mut rounds) = ([0u64; 2], 0);
    while heard != [30, 30] {
        for peer in [0, 1] {
            let consumed = rig.give(peers[peer], &sent[peer].clone()).consumed;
            sent[peer].drain(..consumed);
            let seen = rig.take(peers[peer]);
            heard[peer] += numbers(&seen).len() as u64;
            // behind all that it has to say
            sent[peer].extend(ack(heard[peer]));
        }
        rounds += 1;
        assert!(rounds < 50, "they wait for ever: {heard:?}");
    }
    assert_eq!(rig.ledger().dropped_total(), 0);
    for peer in [0, 1] {
        rig.give_all(peers[peer], &sent[peer].clone());
    }
    assert_eq!(rig.ledger().queued(), 0);
}
