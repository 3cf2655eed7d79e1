//! What a time of day that is not set, or that jumps, does to messages: nothing.

use super::*;
use crate::time::{CLOCK_FLOOR_MS, NOT_KNOWN};

const TEN_YEARS: u64 = 315_576_000_000;

fn with_times(epoch: u64) -> Admission {
    Admission { flags: features::TIME, ..admission(epoch) }
}

/// A part of the daemon's own.
fn own(epoch: u64) -> Admission {
    Admission {
        identity: "$own".into(),
        own: Some(crate::session::Own { outbox: 4096 }),
        when_full: Some(WhenFull::Hold),
        linger: Some(u32::MAX),
        ..with_times(epoch)
    }
}

/// Messages, each with the time that holds for it.
fn timed(seen: &[Seen]) -> Vec<(u8, Option<u64>)> {
    let mut time = None;
    let mut messages = Vec::new();
    for seen in seen {
        match seen {
            Seen::Time(unix_ms) => time = Some(*unix_ms).filter(|&it| it != NOT_KNOWN),
            Seen::Data(_, payload) => messages.push((payload[0], time)),
            _ => {}
        }
    }
    messages
}

fn welcome_clock(rig: &mut Rig, epoch: u64) -> Option<u64> {
    let key = rig.session.attach(rig.now(), admission(epoch)).expect("room");
    let bytes = rig.session.output(key).expect("it is there").bytes.to_vec();
    let Ok(Some((Frame::Control(body), _))) = Frame::decode(&bytes, MAX_BODY) else {
        panic!("{bytes:x?}")
    };
    let Ok(Control::Welcome(welcome)) = Control::decode(body) else { panic!("{body:x?}") };
    welcome.clock
}

#[test]
fn a_step_of_the_clock_neither_expires_what_is_retained_nor_keeps_it() {
    for step in [TEN_YEARS.cast_signed(), -TEN_YEARS.cast_signed()] {
        let mut rig = Rig::new(keeping(10));
        let (publisher, reader) = (rig.attach(admission(1)), rig.attach(admission(2)));
        let id = rig.open(publisher, "a");
        rig.give_all(publisher, &plain(id, &[1]));
        rig.pass(4000);
        rig.day = rig.day.and_then(|day| day.checked_add_signed(step));
        rig.give_all(publisher, &plain(id, &[2]));
        rig.pass(100);
        let ask = |rig: &mut Rig, age| {
            let history = control::History { topic: "a", age, ..Default::default() };
            numbers(&rig.history(reader, history))
        };
        assert_eq!(ask(&mut rig, None), [1, 2], "{step}");
        assert_eq!(ask(&mut rig, Some(5000)), [1, 2], "{step}");
        assert_eq!(ask(&mut rig, Some(1000)), [2], "{step}");
        rig.pass(8000);
        assert_eq!(ask(&mut rig, None), [2], "{step}");
        rig.pass(8000);
        assert_eq!(ask(&mut rig, None), NOTHING, "{step}");
    }
}

#[test]
fn peers_are_told_no_time_of_day_before_there_is_one() {
    let mut rig = Rig::new(limits());
    rig.day = None;
    assert_eq!(welcome_clock(&mut rig, 9), None);
    let (publisher, reader) = (rig.attach(admission(1)), rig.attach(with_times(2)));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    rig.give_all(publisher, &plain(id, &[1]));
    let seen = rig.take(reader);
    assert!(!seen.iter().any(|seen| matches!(seen, Seen::Time(_))), "{seen:?}");
    rig.day = Some(DAY);
    rig.give_all(publisher, &plain(id, &[2]));
    let now = rig.now().unix_ms;
    assert_eq!(timed(&rig.take(reader)), [(2, Some(now))]);
    assert_eq!(welcome_clock(&mut rig, 10), Some(now));
    // and a time that holds no more is taken back
    rig.day = None;
    rig.give_all(publisher, &plain(id, &[3]));
    assert_eq!(rig.take(reader)[0], Seen::Time(NOT_KNOWN));
}

#[test]
fn what_came_before_the_clock_was_set_has_its_time_once_it_is() {
    let mut rig = Rig::new(keeping(10));
    rig.day = None;
    let publisher = rig.attach(admission(1));
    let id = rig.open(publisher, "a");
    let first = rig.clock;
    rig.give_all(publisher, &data(id, DataFlags::KEEP, &[1]));
    rig.pass(3000);
    let reader = rig.attach(with_times(2));
    let history = control::History { topic: "a", ..Default::default() };
    assert_eq!(timed(&rig.history(reader, history)), [(1, None)]);
    rig.day = Some(DAY);
    assert_eq!(timed(&rig.history(reader, history)), [(1, Some(DAY + first))]);
    rig.pass(60_000);
    // not in the past any more, and still the last value
    let reader = rig.attach(with_times(3));
    let subscribe = control::Subscribe { topic: "a", ..Default::default() };
    assert_eq!(timed(&rig.subscribe_with(reader, subscribe)), [(1, Some(DAY + first))]);
}

#[test]
fn the_daemons_own_parts_are_told_of_stamps_that_are_no_time_of_day() {
    let mut rig = Rig::new(limits());
    rig.day = None;
    let (publisher, reader) = (rig.attach(admission(1)), rig.attach(own(2)));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    rig.give_all(publisher, &counted(id, &[1]));
    let [(1, Some(stamp))] = timed(&rig.take(reader))[..] else { panic!("a stamp is missing") };
    assert!(stamp < CLOCK_FLOOR_MS);
    rig.pass(1000);
    assert_eq!(rig.now().known(stamp), None);
    rig.day = Some(DAY);
    assert_eq!(rig.now().known(stamp), Some(rig.now().unix_ms - 1000));
}

#[test]
fn a_stamp_of_another_boot_becomes_no_time_of_this_one() {
    for is_other in [false, true] {
        let mut rig = Rig::new(limits());
        rig.session.start_journal();
        rig.day = None;
        let (publisher, reader) = (rig.attach(lingering(1)), rig.attach(own(2)));
        rig.subscribe(reader, "a");
        let id = rig.open(publisher, "a");
        let stamp = rig.now().boot_ms;
        rig.give_all(publisher, &data(id, DataFlags::COUNTED.with(DataFlags::KEEP), &[1]));
        let journal = rig.session.journaled().to_vec();
        let next = Session::new(*rig.session.limits(), Arc::clone(&rig.budget), rig.now().mono);
        rig.session = next;
        let mut rights = |_: &str| Some(Arc::new(Rights::everything()));
        let now = rig.now().mono;
        let mut restoring = crate::session::Restoring::new(&mut rig.session, now, &mut rights);
        if is_other {
            restoring.note_other_boot();
        }
        restoring.apply(&journal).expect("they are the session's");
        restoring.finish();
        let expected = if is_other { None } else { Some(stamp) };
        let back = rig.session.attach(rig.now(), own(2)).expect("room");
        assert_eq!(timed(&rig.take(back)), [(1, expected)], "{is_other}");
        rig.day = Some(DAY);
        let expected = expected.map(|_| rig.now().unix_ms);
        let other = rig.attach(with_times(3));
        let subscribe = control::Subscribe { topic: "a", ..Default::default() };
        assert_eq!(timed(&rig.subscribe_with(other, subscribe)), [(1, expected)], "{is_other}");
    }
}
