//! Gateways that are away for long.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

/// A lane of an uplink: it wants to be waited for without end.
fn lane(epoch: u64) -> Admission {
    Admission {
        identity: "gw".into(),
        name: std::format!("lane-{epoch}").into(),
        rights: Arc::new(Rights::everything().of_gateway()),
        linger: Some(u32::MAX),
        ..with_policy(epoch, WhenFull::Hold)
    }
}

fn back(rig: &mut Rig, admission: Admission) -> (PeerKey, Vec<Seen>) {
    let key = rig.session.attach(rig.now(), admission).expect("room");
    let seen = rig.take_until_drained(key);
    rig.give_all(key, &[0]);
    (key, seen)
}

fn is_resumed(seen: &[Seen]) -> bool {
    matches!(seen.first(), Some(Seen::Welcome { resumed: true, .. }))
}

fn leave(rig: &mut Rig, key: PeerKey) {
    let now = rig.now().mono;
    rig.session.detach(now, key);
}

/// As a machine that slept.
fn jump(rig: &mut Rig, seconds: u32) {
    rig.clock += u64::from(seconds) * 1000;
    let now = rig.now().mono;
    rig.session.handle_timeout(now);
}

/// The same session, made from what is left of it on disk.
fn restart(rig: &mut Rig) {
    let mut journal = Vec::new();
    let copied = rig.session.snapshot(|piece| {
        journal.extend_from_slice(piece);
        Ok::<_, ()>(())
    });
    assert_eq!(copied, Ok(()));
    let now = rig.now().mono;
    let mut next = Session::new(*rig.session.limits(), Arc::clone(&rig.budget), now);
    let mut rights = |identity: &str| {
        let rights = Rights::everything();
        Some(Arc::new(if identity == "gw" { rights.of_gateway() } else { rights }))
    };
    let (_, applied) = next.restore(now, &journal, &mut rights);
    assert_eq!(applied, Ok(()));
    rig.session = next;
    rig.session.start_journal();
}

#[test]
fn a_gateway_is_held_for_as_long_as_its_limit_says_up_to_the_numbers_end() {
    for gateway_linger in [61, 2_592_000, 315_360_000, u32::MAX] {
        for away in [gateway_linger - 1, gateway_linger] {
            let mut rig = Rig::new(Limits { gateway_linger, ..limits() });
            let key = rig.attach(lane(1));
            leave(&mut rig, key);
            jump(&mut rig, away);
            rig.pass(500);
            let is_there = away < gateway_linger;
            assert_eq!(rig.session.figures().lingering, usize::from(is_there));
            let (_, seen) = back(&mut rig, lane(1));
            assert_eq!(is_resumed(&seen), is_there, "{away} of {gateway_linger}");
            assert_eq!(rig.session.figures().forgotten, 0);
        }
    }
}

#[test]
fn a_gateway_that_wants_less_gets_less() {
    let mut rig = Rig::new(limits());
    let short = || Admission { linger: Some(10), ..lane(1) };
    let key = rig.attach(short());
    leave(&mut rig, key);
    // nor does a restart make it longer
    rig.session.start_journal();
    restart(&mut rig);
    jump(&mut rig, 11);
    assert_eq!(rig.session.figures().lingering, 0);
}

#[test]
fn a_grant_of_a_lower_limit_grows_when_the_gateway_comes_back_and_at_a_restart() {
    for restarts in [false, true] {
        let mut rig = Rig::new(Limits { gateway_linger: 60, ..limits() });
        rig.session.start_journal();
        let mut key = rig.attach(lane(1));
        rig.session.set_limits(limits());
        if !restarts {
            leave(&mut rig, key);
            key = back(&mut rig, lane(1)).0;
        }
        leave(&mut rig, key);
        if restarts {
            restart(&mut rig);
        }
        jump(&mut rig, 599);
        let (_, seen) = back(&mut rig, lane(1));
        assert!(is_resumed(&seen), "{seen:?}");
    }
}

#[test]
fn publishers_wait_for_a_full_gateway_as_long_as_for_anybody_and_no_longer() {
    for restarts in [false, true] {
        let mut slow = Slow::new(lane(1));
        slow.rig.session.start_journal();
        let taken = slow.publish(0..50, DataFlags::COUNTED);
        let Slow { mut rig, publisher, slow, id, .. } = slow;
        leave(&mut rig, slow);
        let next = counted(id, &[taken; 47]);
        rig.pass(59_000);
        assert!(rig.give(publisher, &next).is_blocked);
        while rig.session.poll_wake().is_some() {}
        rig.pass(2_000);
        assert!(rig.is_woken(publisher));
        rig.give_all(publisher, &next);
        rig.give_all(publisher, &counted(id, &[taken + 1; 47]));
        assert_eq!(rig.dropped(GapCause::Overflow), 2);
        if restarts {
            restart(&mut rig);
        }
        jump(&mut rig, 500);
        let (_, seen) = back(&mut rig, lane(1));
        assert!(is_resumed(&seen), "{seen:?}");
        assert_eq!(numbers(&seen), (0..taken).collect::<Vec<_>>());
        assert_eq!(gaps(&seen), 2, "it is told of what did not fit: {seen:?}");
    }
}

#[test]
fn a_newcomer_takes_the_place_of_the_gateway_that_is_away_for_longest() {
    let mut rig = Rig::new(Limits { peers: 3, ..limits() });
    for epoch in 1..=3 {
        let key = rig.attach(lane(epoch));
        leave(&mut rig, key);
        rig.pass(30_000);
    }
    // away for 90, 60 and 30 s: others are held for 60
    rig.attach(admission(4));
    assert_eq!((rig.session.figures().forgotten, rig.session.figures().lingering), (1, 2));
    let refused = rig.session.attach(rig.now(), admission(5));
    assert_eq!(refused, Err(AttachError::TooManyPeers), "nobody else is away for that long");
    for epoch in [2, 3] {
        let (_, seen) = back(&mut rig, lane(epoch));
        assert!(is_resumed(&seen), "{seen:?}");
    }
}

#[test]
fn where_memory_is_short_what_waits_for_the_longest_away_makes_room() {
    let limits = Limits { outbox: 1 << 16, ..limits() };
    let mut rig = Rig::with_budget(limits, 150_000);
    let publisher = rig.attach(admission(100));
    let id = rig.open(publisher, "a");
    for epoch in 1..=4 {
        let key = rig.attach(lane(epoch));
        if epoch > 1 {
            rig.subscribe(key, "a");
        }
        leave(&mut rig, key);
        rig.pass(1_000);
    }
    let message = counted(id, &[7; 1000]);
    let mut published = 0u64;
    while !rig.give(publisher, &message).is_blocked {
        published += 1;
        assert!(published < 1000, "there is memory for all");
    }
    rig.pass(55_000);
    assert!(rig.give(publisher, &message).is_blocked, "they may come back");
    assert_eq!(rig.session.figures().forgotten, 0);
    let mut seconds = 0;
    while rig.give(publisher, &message).is_blocked {
        rig.pass(1_000);
        seconds += 1;
        assert!(seconds < 5, "it waits for ever");
    }
    // the first to go has nothing that waits for it; of the others it is the one that went first
    assert_eq!(rig.session.figures().forgotten, 1);
    assert_eq!(rig.dropped(GapCause::ReaderGone), published);
    let is_there = |epoch| rig.session.counts("gw", &std::format!("lane-{epoch}")).is_some();
    assert_eq!([1, 2, 3, 4].map(is_there), [true, false, true, true]);
}

proptest! {
    #[test]
    fn whatever_the_outage_nothing_comes_twice_and_no_command_is_lost(
        outages in proptest::collection::vec((0u32..599, 0usize..6, 0usize..6, any::<bool>()), 1..12),
    ) {
        let mut rig = Rig::new(limits());
        rig.session.start_journal();
        let mut operator = rig.attach(admission(100));
        let mut gateway = rig.attach(lane(1));
        rig.subscribe(gateway, "cmd");
        let up = rig.open(gateway, "up");
        let (mut sent, mut heard, mut published) = (0u64, 0u64, 0u64);
        let mut waiting = VecDeque::new();
        for (away, messages, commands, restarts) in outages {
            // taken there, and the link is cut before the ACK
            for _ in 0..messages {
                rig.give_all(gateway, &counted(up, &[1]));
                published += 1;
            }
            leave(&mut rig, gateway);
            for half in [away / 2, away - away / 2] {
                let id = rig.open(operator, "cmd");
                for _ in 0..commands {
                    let number = u8::try_from(sent % 251).expect("less than 251");
                    rig.give_all(operator, &counted(id, &[number]));
                    waiting.push_back(number);
                    sent += 1;
                }
                jump(&mut rig, half);
                if restarts {
                    restart(&mut rig);
                    operator = rig.attach(admission(100));
                }
            }
            let (key, seen) = back(&mut rig, Admission { taken: heard, ..lane(1) });
            gateway = key;
            prop_assert_eq!(&seen[0], &Seen::Welcome { resumed: true, taken: published });
            prop_assert_eq!(numbers(&seen), waiting.drain(..).collect::<Vec<_>>());
            prop_assert_eq!(gaps(&seen), 0);
            heard = sent;
            rig.give_all(gateway, &ack(heard));
        }
        prop_assert_eq!(rig.ledger().dropped_total(), 0);
    }
}
