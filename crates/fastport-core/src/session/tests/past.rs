//! What a session keeps of the past.

use super::*;

#[test]
fn the_last_value_comes_first_and_an_empty_one_clears_it() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let id = rig.open(publisher, "a");
    let kept = |payload: &[u8]| data(id, DataFlags::KEEP, payload);
    rig.give_all(publisher, &[kept(&[1]), kept(&[2]), plain(id, &[3])].concat());
    let heard = |rig: &mut Rig, flags| {
        let reader = rig.attach(admission(2));
        let topic = "a";
        numbers(
            &rig.subscribe_with(reader, control::Subscribe { topic, flags, ..Default::default() }),
        )
    };
    assert_eq!(heard(&mut rig, None), [2]);
    assert_eq!(heard(&mut rig, Some(options::NO_LAST)), NOTHING);
    rig.give_all(publisher, &kept(&[]));
    assert_eq!(heard(&mut rig, None), NOTHING);
}

#[test]
fn history_is_by_count_and_age_and_says_when_each_was() {
    let mut rig = Rig::new(keeping(10));
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(Admission { flags: features::TIME, ..admission(2) });
    let id = rig.open(publisher, "a");
    let start = rig.now().unix_ms;
    for number in 0..4 {
        rig.give_all(publisher, &plain(id, &[number]));
        rig.pass(100);
    }
    let ask = |rig: &mut Rig, count, age| {
        let seen =
            rig.history(reader, control::History { topic: "+", count, age, ..Default::default() });
        let found = numbers(&seen);
        let expected = Seen::Ok { id: None, count: Some(found.len() as u64), text: None };
        assert_eq!(seen.last(), Some(&expected));
        found
    };
    assert_eq!(ask(&mut rig, None, None), [0, 1, 2, 3]);
    assert_eq!(ask(&mut rig, Some(2), None), [2, 3]);
    assert_eq!(ask(&mut rig, None, Some(200)), [2, 3]);
    assert_eq!(ask(&mut rig, Some(1), Some(200)), [3]);
    assert_eq!(ask(&mut rig, Some(0), None), NOTHING);
    let seen =
        rig.history(reader, control::History { topic: "a", count: Some(2), ..Default::default() });
    let expected = [
        Seen::Topic(1, "a".into()),
        Seen::Time(start + 200),
        Seen::Data(1, vec![2]),
        Seen::Time(start + 300),
        Seen::Data(1, vec![3]),
    ];
    assert_eq!(seen[..5], expected);
}

#[test]
fn a_subscription_may_begin_in_the_past() {
    let mut rig = Rig::new(keeping(10));
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    let id = rig.open(publisher, "a");
    (0..5).for_each(|number| rig.give_all(publisher, &plain(id, &[number])));
    let from_past = control::Subscribe { topic: "a", count: Some(3), ..Default::default() };
    assert_eq!(numbers(&rig.subscribe_with(reader, from_past)), [2, 3, 4]);
    rig.give_all(publisher, &plain(id, &[5]));
    assert_eq!(numbers(&rig.take(reader)), [5]);
    assert_eq!(rig.ledger().queued(), 0);
}

#[test]
fn the_clock_is_told_to_those_who_ask_when_it_changed() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(Admission { flags: features::TIME, ..admission(2) });
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    let start = rig.now().unix_ms;
    rig.give_all(publisher, &[plain(id, &[1]), plain(id, &[2])].concat());
    rig.give_all(publisher, &plain(id, &[3]));
    rig.pass(5);
    rig.give_all(publisher, &plain(id, &[4]));
    let expected = [
        Seen::Topic(1, "a".into()),
        Seen::Time(start),
        Seen::Data(1, vec![1]),
        Seen::Data(1, vec![2]),
        Seen::Data(1, vec![3]),
        Seen::Time(start + 5),
        Seen::Data(1, vec![4]),
    ];
    assert_eq!(rig.take(reader), expected);
}

#[test]
fn retained_messages_expire_by_themselves() {
    let mut rig = Rig::new(keeping(10));
    let publisher = rig.attach(admission(1));
    let id = rig.open(publisher, "a");
    rig.give_all(publisher, &plain(id, &[1]));
    rig.pass(6000);
    rig.give_all(publisher, &plain(id, &[2]));
    rig.pass(3000);
    assert_eq!(rig.session.figures().retained, 2);
    rig.pass(2000);
    assert_eq!(rig.session.figures().retained, 1);
    rig.pass(6000);
    assert_eq!(rig.session.figures().retained, 0);
    assert_eq!(rig.session.next_timeout(), None);
}

#[test]
fn no_age_and_no_end_are_ages_too() {
    for (age_ms, retained) in [(0, 0), (u64::MAX, 1)] {
        let retention = Retention { messages: 10, age_ms, bytes: 4096 };
        let mut rig = Rig::with_budget(Limits { retention, ..limits() }, 16 * 1024);
        let publisher = rig.attach(admission(1));
        let id = rig.open(publisher, "a");
        rig.give_all(publisher, &plain(id, &[1]));
        let now = rig.now().mono;
        rig.session.handle_timeout(now);
        rig.pass(1_000_000);
        assert_eq!(rig.session.figures().retained, retained);
        while rig.session.evict_oldest() {}
        assert_eq!(rig.session.figures().retained, 0);
    }
}

#[test]
fn a_full_budget_evicts_the_oldest_first() {
    for age_ms in [10_000, 1_000_000] {
        let retention = Retention { messages: 100, age_ms, bytes: 4096 };
        let mut rig = Rig::with_budget(Limits { retention, ..limits() }, 20_000);
        let publisher = rig.attach(admission(1));
        let ids = ["a", "b", "c", "d", "e", "f"].map(|name| rig.open(publisher, name));
        // a is written to all the time, yet what it has is never the oldest for long
        for round in 0..50u8 {
            let id = ids[usize::from(round) % ids.len()];
            rig.give_all(publisher, &plain(id, &[round; 900]));
            rig.pass(700);
            let mut held = Vec::new();
            for id in ids {
                let log = rig.session.topics.get(id).and_then(|topic| topic.log());
                let Some(log) = log else { continue };
                log.replay(u64::MAX, Instant::default(), |entry| held.push(entry.frames[4]));
            }
            held.sort_unstable();
            assert!(held.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{held:?}");
            if age_ms > 100_000 {
                assert_eq!(held.last(), Some(&round));
            }
            assert!(rig.budget.used() <= rig.budget.limit());
        }
        let figures = rig.session.figures();
        assert!(figures.evicted > 0 || age_ms < 100_000);
    }
}

#[test]
fn what_makes_room_for_its_own_topic_is_counted_once() {
    let retention = Retention { messages: 100, age_ms: 10_000, bytes: 1 << 20 };
    let mut rig = Rig::with_budget(Limits { retention, ..limits() }, 12_000);
    let publisher = rig.attach(admission(1));
    let id = rig.open(publisher, "a");
    for number in 0..40 {
        rig.give_all(publisher, &data(id, DataFlags::KEEP, &[number; 1000]));
        rig.pass(1);
        let log = rig.session.topics.get(id).and_then(|topic| topic.log());
        let mut held = Vec::new();
        if let Some(log) = log {
            log.replay(u64::MAX, Instant::default(), |entry| held.push(entry.frames[4]));
        }
        assert!(held.is_sorted_by(|a, b| a < b), "nothing is retained twice: {held:?}");
        assert_eq!(rig.session.figures().retained, held.len() as u64);
    }
    assert!(rig.session.figures().evicted > 0);
    rig.pass(20_000);
    assert_eq!(rig.session.figures().retained, 0);
}
