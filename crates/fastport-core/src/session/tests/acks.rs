//! Acknowledgements of all tiers.

use super::*;

#[test]
fn a_batch_is_acknowledged_once() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let id = rig.open(publisher, "a");
    let batch = [counted(id, &[1]), plain(id, &[2]), counted(id, &[3])].concat();
    rig.give_all(publisher, &batch);
    let expected = |taken| [Seen::Ack { taken, durable: None, central: None }];
    assert_eq!(rig.take(publisher), expected(2));
    rig.give_all(publisher, &plain(id, &[4]));
    assert_eq!(rig.take(publisher), []);
    rig.give_all(publisher, &batch);
    assert_eq!(rig.take(publisher), expected(4));
}

/// A member that keeps topic `a`, a publisher that wants to know of it.
fn with_member(tier: Tier) -> (Rig, PeerKey, PeerKey, TopicId) {
    let mut rig = Rig::new(limits());
    let member = rig.attach(Admission { linger: Some(10), ..with_policy(9, WhenFull::Hold) });
    rig.session.make_member(member, tier);
    rig.subscribe(member, "a/#");
    let flags = features::ACK_DURABLE | features::ACK_CENTRAL;
    let publisher = rig.attach(Admission { flags, ..lingering(1) });
    let id = rig.open(publisher, "a");
    (rig, member, publisher, id)
}

#[test]
fn a_tier_nobody_offers_is_refused() {
    let (mut rig, _, publisher, id) = with_member(Tier::Durable);
    let mut open = |tier: u8| {
        let (request, tier) = (rig.next_request(), Some(tier));
        let open = control::Open { request, topic: "a", tier, ..Default::default() };
        rig.give_all(publisher, &control(open));
        rig.take(publisher).pop()
    };
    let refused = |seen| matches!(seen, Some(Seen::Error { code: ErrorCode::TierNotOffered, .. }));
    assert!(refused(open(Tier::Central.number())));
    assert!(refused(open(77)));
    let granted = Seen::Ok { id: Some(id.get()), count: None, text: None };
    assert_eq!(open(Tier::Durable.number()), Some(granted));
}

#[test]
fn durable_is_what_a_member_has_acknowledged() {
    for tier in [Tier::Durable, Tier::Central] {
        let (mut rig, member, publisher, id) = with_member(tier);
        let told = |taken, count| {
            let [durable, central] = if tier == Tier::Durable {
                [(count != taken).then_some(count), Some(0)]
            } else {
                [Some(0), (count != taken).then_some(count)]
            };
            [Seen::Ack { taken, durable, central }]
        };
        rig.give_all(publisher, &[counted(id, &[1]), counted(id, &[2])].concat());
        assert_eq!(rig.take(publisher), told(2, 0));
        rig.take(member);
        rig.give_all(member, &ack(1));
        assert_eq!(rig.take(publisher), told(2, 1));
        rig.give_all(publisher, &counted(id, &[3]));
        assert_eq!(rig.take(publisher), told(3, 1));
        rig.take(member);
        rig.give_all(member, &ack(2));
        assert_eq!(rig.take(publisher), told(3, 2));
        rig.give_all(member, &ack(3));
        assert_eq!(rig.take(publisher), told(3, 3));
    }
}

#[test]
fn durable_grows_while_the_publisher_does_not_pause() {
    let (mut rig, member, publisher, id) = with_member(Tier::Durable);
    let mut durable = 0;
    for number in 0..50u8 {
        rig.give_all(publisher, &counted(id, &[number]));
        rig.take(member);
        rig.give_all(member, &ack(u64::from(number).saturating_sub(3)));
        for seen in rig.take(publisher) {
            let Seen::Ack { taken, durable: told, .. } = seen else { continue };
            durable = told.unwrap_or(taken);
        }
    }
    assert_eq!(durable, 46);
}

#[test]
fn durable_is_not_ahead_of_the_slowest_member_that_has_to_keep_it() {
    let mut rig = Rig::new(limits());
    let members = [8, 9].map(|epoch| {
        let member = rig.attach(with_policy(epoch, WhenFull::Hold));
        rig.session.make_member(member, Tier::Durable);
        member
    });
    rig.subscribe(members[0], "a");
    rig.subscribe(members[1], "b");
    let publisher = rig.attach(Admission { flags: features::ACK_DURABLE, ..admission(1) });
    let [a, b] = ["a", "b"].map(|name| rig.open(publisher, name));
    rig.give_all(publisher, &[counted(a, &[1]), counted(b, &[2]), counted(a, &[3])].concat());
    members.iter().for_each(|&member| assert!(!rig.take(member).is_empty()));
    rig.take(publisher);
    let mut durable_after = |member: usize, count| {
        rig.give_all(members[member], &ack(count));
        match rig.take(publisher).last() {
            Some(&Seen::Ack { taken, durable, .. }) => durable.unwrap_or(taken),
            _ => 0,
        }
    };
    assert_eq!(durable_after(1, 1), 0, "the first is not kept yet");
    assert_eq!(durable_after(0, 1), 2);
    assert_eq!(durable_after(0, 2), 3);
}

#[test]
fn what_was_durable_is_said_again_after_a_reconnect() {
    let (mut rig, member, publisher, id) = with_member(Tier::Durable);
    rig.give_all(publisher, &[counted(id, &[1]), counted(id, &[2])].concat());
    rig.take(publisher);
    rig.take(member);
    let now = rig.now();
    rig.session.detach(now.mono, publisher);
    rig.give_all(member, &ack(1));
    let back = Admission { flags: features::ACK_DURABLE, ..lingering(1) };
    let publisher = rig.session.attach(now, back).expect("room");
    let expected = [
        Seen::Welcome { resumed: true, taken: 2 },
        Seen::Ack { taken: 2, durable: Some(1), central: None },
    ];
    assert_eq!(rig.take(publisher), expected);
}

#[test]
fn a_commit_for_a_peer_that_is_gone_is_not_another_ones() {
    let (mut rig, member, publisher, id) = with_member(Tier::Durable);
    rig.give_all(publisher, &[counted(id, &[1]), counted(id, &[2])].concat());
    rig.take(member);
    rig.give(publisher, &control(control::Bye::default()));
    let now = rig.now().mono;
    rig.session.detach(now, publisher);
    // the same device again, with the same epoch, in the same place
    let publisher = rig.attach(Admission { flags: features::ACK_DURABLE, ..lingering(1) });
    let id = rig.open(publisher, "a");
    rig.give_all(member, &ack(2));
    rig.give_all(publisher, &counted(id, &[3]));
    let expected = [Seen::Ack { taken: 1, durable: Some(0), central: None }];
    assert_eq!(rig.take(publisher), expected);
}

#[test]
fn the_daemons_own_parts_are_waited_for_and_not_limited() {
    let limits = Limits { peers: 1, open_topics: 1, subscriptions: 1, stall_ms: 1000, ..limits() };
    let mut rig = Rig::new(limits);
    let publisher = rig.attach(lingering(1));
    let id = rig.open(publisher, "a");
    let lane = rig.attach(own(9, "alarm"));
    for topic in ["a", "b", "c/#"] {
        rig.subscribe(lane, topic);
        rig.open(lane, &topic.replace('#', "x"));
    }
    // more than others' outboxes hold
    for number in 0..100u8 {
        rig.give_all(publisher, &counted(id, &[&[number][..], &[0; 99]].concat()));
        rig.take(publisher);
    }
    rig.pass(5000);
    assert!(rig.session.output(lane).is_ok_and(|output| !output.is_last), "not closed as slow");
    let now = rig.now().mono;
    rig.session.detach(now, lane);
    rig.pass(u64::from(limits.linger) * 1000 * 100);
    let counts = rig.session.counts("$uplink", "alarm").expect("it lingers for ever");
    assert_eq!((counts.epoch, counts.acked, counts.total, counts.taken), (9, 0, 100, 0));
    let back = rig.session.attach(rig.now(), own(9, "alarm")).expect("room");
    assert_eq!(rig.take(back).first(), Some(&Seen::Welcome { resumed: true, taken: 0 }));
}

#[test]
fn what_is_not_counted_does_not_wait_for_an_own_part_that_is_away() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(lingering(1));
    let id = rig.open(publisher, "a");
    let lane = rig.attach(own(9, "alarm"));
    rig.subscribe(lane, "a");
    let now = rig.now().mono;
    rig.session.detach(now, lane);
    rig.give_all(publisher, &[plain(id, &[1]), plain(id, &[2]), counted(id, &[3])].concat());
    assert_eq!(rig.dropped(GapCause::LinkLost), 2);
    let back = rig.session.attach(rig.now(), own(9, "alarm")).expect("room");
    let seen = rig.take_until_drained(back);
    assert_eq!(gaps(&seen), 2);
    assert!(seen.contains(&Seen::Data(id.get(), vec![3])), "{seen:?}");
}

#[test]
fn an_own_part_opens_a_topic_at_once_and_looks_at_its_marks() {
    let (mut rig, member, publisher, id) = with_member(Tier::Central);
    let opened = rig.session.open_on(member, "down", None).expect("allowed");
    rig.give_all(member, &counted(opened, &[1]));
    assert_eq!(rig.session.open_on(member, "a+b", None), Err(ErrorCode::BadTopic));
    rig.give_all(publisher, &counted(id, &[1]));
    rig.take(member);
    assert_eq!(rig.session.marks(member, 1).len(), 1);
    assert_eq!(rig.session.marks(member, 1), rig.session.take_marks(member, 1));
    assert_eq!(rig.session.marks(member, 1), []);
}

#[test]
fn a_note_is_found_again() {
    let mut rig = Rig::new(limits());
    let lane = rig.attach(own(9, "bulk"));
    rig.session.set_note(lane, [7, u64::MAX, 0, 1]);
    let now = rig.now().mono;
    rig.session.detach(now, lane);
    assert_eq!(
        rig.session.counts("$uplink", "bulk").map(|counts| counts.note),
        Some([7, u64::MAX, 0, 1])
    );
    assert_eq!(rig.session.counts("$uplink", "alarm"), None);
    assert_eq!(rig.session.counts_of(lane), None, "that link is gone");
}

#[test]
fn marks_that_are_taken_are_confirmed_by_hand() {
    let (mut rig, member, publisher, id) = with_member(Tier::Central);
    for number in 1..=3 {
        rig.give_all(publisher, &counted(id, &[number]));
    }
    rig.take(member);
    let taken = rig.session.take_marks(member, 2);
    let spooled = [Spooled {
        publisher: Publisher { identity: "".into(), name: "".into(), epoch: 1 },
        count: 2,
        at: 2,
    }];
    assert_eq!(taken, spooled);
    assert_eq!(rig.session.take_marks(member, 2), [], "they are taken once");
    rig.give_all(member, &ack(2));
    assert_eq!(central(&mut rig, publisher), Some(0), "an ACK speaks for them no more");
    rig.session.confirm(member, &spooled[0].publisher, Tier::Central, 1);
    assert_eq!(central(&mut rig, publisher), Some(1));
    rig.session.confirm(member, &spooled[0].publisher, Tier::Central, 2);
    assert_eq!(central(&mut rig, publisher), Some(2));
    rig.give_all(member, &ack(3));
    assert_eq!(central(&mut rig, publisher), Some(3), "it speaks for what was not taken");
}

#[test]
fn what_another_member_spooled_is_missing_until_it_is_confirmed() {
    let mut rig = Rig::new(limits());
    let lanes = [("alarm", "a"), ("bulk", "b")].map(|(name, topic)| {
        let lane = rig.attach(own(9, name));
        rig.session.make_member(lane, Tier::Central);
        rig.subscribe(lane, topic);
        lane
    });
    let publisher = rig.attach(Admission { flags: features::ACK_CENTRAL, ..admission(1) });
    let [a, b] = ["a", "b"].map(|name| rig.open(publisher, name));
    rig.give_all(publisher, &[counted(a, &[1]), counted(b, &[2])].concat());
    lanes.iter().for_each(|&lane| drop(rig.take(lane)));
    let spooled = rig.session.take_marks(lanes[0], 1);
    rig.give_all(lanes[0], &ack(1));
    rig.give_all(lanes[1], &ack(1));
    assert_eq!(central(&mut rig, publisher), Some(0), "the first is in the spool");
    // a publisher that cannot come back is found by what was taken
    rig.session.confirm(lanes[0], &spooled[0].publisher, Tier::Central, spooled[0].count);
    assert_eq!(central(&mut rig, publisher), Some(2));
    let nobody = Publisher { epoch: 77, ..spooled[0].publisher.clone() };
    rig.session.confirm(lanes[0], &nobody, Tier::Central, 100);
    assert_eq!(central(&mut rig, publisher), None);
}

#[test]
fn no_more_is_confirmed_than_was_taken() {
    let (mut rig, member, publisher, id) = with_member(Tier::Central);
    rig.give_all(publisher, &counted(id, &[1]));
    rig.take(member);
    let taken = rig.session.take_marks(member, 1);
    rig.session.confirm(member, &taken[0].publisher, Tier::Central, u64::MAX);
    assert_eq!(central(&mut rig, publisher), Some(1));
}
