//! Links that are silent or stand still.

use super::*;

#[test]
fn a_peer_that_is_not_read_is_not_silent_and_is_told_that_its_link_lives() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(Admission { keepalive: Some(2), ..lingering(1) });
    for _ in 0..30 {
        for _ in 0..2 {
            rig.pass(1_000);
            rig.session.hold_off(rig.now().mono, peer);
        }
        // within each time after which it would ask
        let seen = rig.take(peer);
        assert!(!seen.is_empty() && seen.iter().all(|seen| *seen == Seen::Ping), "{seen:?}");
    }
    // once it is read again its own signs count
    rig.pass(2_500);
    assert_eq!(rig.take(peer), [Seen::Ping]);
    rig.pass(2_000);
    assert_eq!(rig.take(peer), [Seen::Bye(ByeReason::Silent)]);
}

#[test]
fn an_identity_that_is_no_more_has_no_peers() {
    let mut rig = Rig::new(limits());
    let of = |identity: &str, epoch| Admission { identity: identity.into(), ..lingering(epoch) };
    let (anna, away, bert) =
        (rig.attach(of("anna", 1)), rig.attach(of("anna", 2)), rig.attach(of("bert", 3)));
    rig.session.detach(rig.now().mono, away);
    rig.session.remove_identity("anna");
    assert_eq!(rig.take(anna), [Seen::Bye(ByeReason::Removed)]);
    rig.session.detach(rig.now().mono, anna);
    assert_eq!(rig.take(bert), []);
    let figures = rig.session.figures();
    assert_eq!((figures.peers, figures.lingering), (1, 0));
}

#[test]
fn a_silent_peer_is_asked_and_then_closed() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(Admission { keepalive: Some(10), ..lingering(1) });
    rig.pass(9_500);
    assert_eq!(rig.take(peer), []);
    rig.pass(1_000);
    assert_eq!(rig.take(peer), [Seen::Ping]);
    rig.pass(9_000);
    assert_eq!(rig.take(peer), []);
    rig.pass(1_000);
    assert_eq!(rig.take(peer), [Seen::Bye(ByeReason::Silent)]);
    assert!(rig.is_last(peer));
    let now = rig.now().mono;
    rig.session.detach(now, peer);
    assert_eq!(rig.session.figures().lingering, 1, "it may come back");
}

#[test]
fn a_peer_that_says_something_stays() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(Admission { keepalive: Some(10), ..admission(1) });
    for _ in 0..20 {
        rig.pass(10_500);
        assert_eq!(rig.take(peer), [Seen::Ping]);
        rig.give_all(peer, &frame(&Frame::Pong { token: &[] }));
        rig.pass(4_000);
        rig.give_all(peer, &[0]);
    }
}

#[test]
fn a_link_that_takes_no_bytes_is_closed_when_its_time_is_up() {
    for keepalive in [0, 2] {
        let mut rig = Rig::new(Limits { stall_ms: 30_000, ..limits() });
        let publisher = rig.attach(admission(1));
        let reader = rig.attach(Admission { keepalive: Some(keepalive), ..admission(2) });
        rig.subscribe(reader, "a");
        let id = rig.open(publisher, "a");
        for _ in 0..7 {
            rig.pass(1_000);
            rig.give_all(reader, &[0]);
        }
        rig.give_all(publisher, &plain(id, &[1]));
        for _ in 0..29 {
            rig.pass(1_000);
            rig.give_all(reader, &[0]);
            assert!(!matches!(rig.session.output(reader), Ok(Output { is_last: true, .. })));
        }
        for _ in 0..32 {
            rig.pass(1_000);
            rig.give_all(reader, &[0]);
        }
        assert!(rig.is_last(reader));
        assert_eq!(rig.take(reader).last(), Some(&Seen::Bye(ByeReason::TooSlow)));
    }
}

#[test]
fn a_link_that_takes_a_byte_now_and_then_has_not_stalled() {
    let mut rig = Rig::new(Limits { stall_ms: 3_000, outbox: 100, ..limits() });
    let reader = rig.attach(admission(2));
    for _ in 0..10 {
        rig.give_all(reader, &frame(&Frame::Ping { token: &[1; 8] }));
    }
    for _ in 0..50 {
        rig.pass(2_000);
        assert_eq!(rig.take_some(reader, 1).len(), 1);
        assert!(!rig.is_last(reader));
    }
}

#[test]
fn without_a_stall_limit_no_link_is_closed_for_it() {
    let mut rig = Rig::new(limits());
    let reader = rig.attach(Admission { keepalive: Some(2), ..admission(2) });
    rig.give_all(reader, &frame(&Frame::Ping { token: &[] }));
    for _ in 0..100 {
        rig.pass(1_000);
        rig.give_all(reader, &[0]);
        assert!(!rig.is_last(reader));
    }
}
