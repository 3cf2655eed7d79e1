//! What is charged to the budget, and given back.

use super::*;

/// A session in which everything that is charged happens.
fn busy(rig: &mut Rig) -> [PeerKey; 3] {
    let publisher = rig.attach(lingering(1));
    let named = Admission { name: "panel".into(), identity: "ann".into(), ..admission(2) };
    let readers = [rig.attach(named), rig.attach(lingering(3))];
    for filter in ["a", "a/+", "b/#"] {
        readers.iter().for_each(|&reader| rig.subscribe(reader, filter));
    }
    rig.open_with(publisher, "a", Some(&schema(1)));
    let ids = ["a", "a/b", "b", "b/c", "c"].map(|name| rig.open(publisher, name));
    rig.open_with(publisher, "a", Some(&schema(2)));
    for (number, &id) in (0..).zip(ids.iter().cycle().take(50)) {
        rig.give_all(publisher, &counted(id, &[number; 40]));
    }
    rig.give_all(publisher, &data(ids[4], DataFlags::KEEP, &[1; 40]));
    rig.give_all(publisher, &data(ids[4], DataFlags::KEEP, &[]));
    rig.unsubscribe(readers[0], "a/+");
    rig.take_some(readers[0], 100);
    [publisher, readers[0], readers[1]]
}

#[test]
fn when_all_are_gone_and_all_is_forgotten_no_memory_is_in_use() {
    for messages in [0, 20] {
        let mut rig = Rig::new(keeping(messages));
        let keys = busy(&mut rig);
        assert!(rig.budget.used() > 0);
        let now = rig.now().mono;
        keys.iter().for_each(|&key| rig.session.detach(now, key));
        rig.pass(11_000);
        assert_eq!(rig.session.figures().peers + rig.session.figures().lingering, 0);
        rig.pass(11_000);
        assert_eq!(rig.session.figures().topics, 0);
        assert_eq!(rig.budget.used(), 0);
        assert_eq!(rig.ledger().queued(), 0);
    }
}

#[test]
fn a_session_that_is_dropped_gives_all_back() {
    let mut rig = Rig::new(keeping(20));
    busy(&mut rig);
    let Rig { session, budget, .. } = rig;
    assert!(budget.used() > 0);
    drop(session);
    assert_eq!(budget.used(), 0);
}

#[test]
fn a_session_that_empties_can_be_filled_for_ever() {
    let mut rig = Rig::new(Limits { topics: 4, ..limits() });
    for round in 0..1000 {
        let peer = rig.attach(admission(round));
        for name in ["a", "b", "c", "d"] {
            rig.open(peer, name);
        }
        let now = rig.now().mono;
        rig.session.detach(now, peer);
    }
    assert_eq!(rig.session.figures().topics, 0);
}

#[test]
fn every_reader_of_every_topic_is_charged() {
    let mut rig = Rig::new(Limits { topics: 2000, open_topics: 2000, ..limits() });
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    for number in 0..1000 {
        rig.open(publisher, &std::format!("t/{number}"));
    }
    let before = rig.budget.used();
    rig.subscribe(reader, "#");
    assert!(rig.budget.used() >= before + 1000 * size_of::<topics::Reader>());
    rig.unsubscribe(reader, "#");
    assert!(rig.budget.used() <= before);
}

#[test]
fn the_place_of_a_peer_is_used_again_and_nothing_of_it_is_inherited() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let old = rig.attach(Admission { keepalive: Some(2), ..with_policy(2, WhenFull::Hold) });
    rig.subscribe(old, "a");
    let id = rig.open(old, "b");
    let now = rig.now().mono;
    rig.session.detach(now, old);
    let new = rig.attach(admission(3));
    assert_eq!(new.index(), old.index());
    assert_ne!(new, old);
    rig.pass(60_000);
    assert_eq!(rig.take(new), [], "the old one's keepalive is not the new one's");
    let a = rig.open(publisher, "a");
    rig.give_all(publisher, &counted(a, &[1]));
    assert_eq!(rig.take(new), []);
    rig.give(new, &plain(id, &[1]));
    assert_eq!(refusal(&rig.take(new)), Some(ErrorCode::UnknownId));
}

#[test]
fn an_ack_waits_for_company_and_not_for_long() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let topic = rig.open(publisher, "a");
    let frame = data(topic, DataFlags::COUNTED, b"x");
    rig.give_alone(publisher, &frame);
    rig.pass(1);
    rig.give_alone(publisher, &frame);
    assert_eq!(rig.take(publisher), [], "more may come");
    rig.pass(ACK_DELAY_MS / 2 - 2);
    assert_eq!(rig.take(publisher), []);
    rig.pass(ACK_DELAY_MS / 2 + 1);
    assert_eq!(rig.take(publisher), [Seen::Ack { taken: 2, durable: None, central: None }]);
    rig.pass(10 * ACK_DELAY_MS);
    assert_eq!(rig.take(publisher), [], "once");
}

#[test]
fn who_asks_by_ping_has_its_ack_before_the_pong() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let topic = rig.open(publisher, "a");
    rig.give_alone(publisher, &data(topic, DataFlags::COUNTED, b"x"));
    rig.give_alone(publisher, &frame(&Frame::Ping { token: b"t" }));
    let ack = Seen::Ack { taken: 1, durable: None, central: None };
    assert_eq!(rig.take(publisher), [ack, Seen::Pong(b"t".to_vec())]);
}

#[test]
fn what_is_written_anyhow_takes_the_ack_along() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let topic = rig.open(publisher, "a");
    rig.subscribe(publisher, "a");
    rig.give_alone(publisher, &data(topic, DataFlags::COUNTED, b"x"));
    let seen = rig.take(publisher);
    assert!(matches!(seen[..], [.., Seen::Data { .. }, Seen::Ack { taken: 1, .. }]), "{seen:?}");
}

#[test]
fn much_is_acknowledged_at_once() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let topic = rig.open(publisher, "a");
    rig.give_alone(publisher, &data(topic, DataFlags::COUNTED, b"x").repeat(1000));
    let ack = Seen::Ack { taken: 1000, durable: None, central: None };
    assert_eq!(rig.take(publisher), [ack]);
}

#[test]
fn a_reader_without_room_is_asked_for_its_ack_once() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(Admission {
        when_full: Some(WhenFull::Hold),
        name: "r".into(),
        linger: Some(10),
        ..admission(2)
    });
    rig.subscribe(reader, "a");
    let topic = rig.open(publisher, "a");
    let many = data(topic, DataFlags::COUNTED, &[0; 100]).repeat(200);
    let progress = rig.give(publisher, &many);
    assert!(progress.is_blocked);
    let rest = &many[progress.consumed..];
    assert_eq!(rig.give(publisher, rest).consumed, 0);
    let seen = rig.take(reader);
    let pings = seen.iter().filter(|seen| matches!(seen, Seen::Ping)).count();
    assert_eq!(pings, 1, "{seen:?}");
}
