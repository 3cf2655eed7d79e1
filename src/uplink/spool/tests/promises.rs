//! One promise a test.

use std::time::Duration;

use super::super::*;
use super::rig::*;
use crate::config::WhenSpoolFull::{DropOldest, SlowPublisher};

#[test]
fn what_was_appended_is_read_in_order_after_a_reopening() {
    let place = Place::new();
    let mut spool = place.open();
    spool.start_at(at(0), Lane::Normal, 7, 40).unwrap();
    append(&mut spool, Lane::Normal, &[made("a", b"1", DropOldest), made("b", b"2", DropOldest)]);
    append(&mut spool, Lane::Alarm, &[made("a", b"!", DropOldest)]);
    append(&mut spool, Lane::Normal, &[made("a", b"3", DropOldest)]);
    drop(spool);
    let mut spool = place.open();
    assert_eq!(rows(&mut spool, Lane::Normal), ["41 a 1", "42 b 2", "43 a 3"]);
    assert_eq!(rows(&mut spool, Lane::Alarm), ["1 a !"]);
    assert_eq!(spool.acknowledge(at(0), Lane::Normal, 42).unwrap(), []);
    assert_eq!(rows(&mut spool, Lane::Normal), ["43 a 3"]);
    let counts = spool.counts(at(0), Lane::Normal).unwrap();
    assert_eq!((counts.epoch, counts.head_count, counts.held), (Some(7), 42, 1));
}

#[test]
fn what_the_local_outbox_gave_is_noted_with_the_batch() {
    let place = Place::new();
    let mut spool = place.open();
    assert_eq!(spool.counts(at(0), Lane::Bulk).unwrap().local, None);
    let local = Local { epoch: u64::MAX, count: 12 };
    let message = made("a", b"1", DropOldest);
    spool.append(at(0), Lane::Bulk, &[message.entry()], Some(local)).unwrap();
    drop(spool);
    let mut spool = place.open();
    assert_eq!(spool.counts(at(0), Lane::Bulk).unwrap().local, Some(local));
    assert_eq!(spool.counts(at(0), Lane::Alarm).unwrap().local, None);
}

#[test]
fn a_step_of_the_clock_drops_nothing_and_keeps_nothing_for_longer() {
    const TEN_YEARS: u64 = 315_576_000_000;
    let place = Place::new();
    let hour = Duration::from_secs(3600);
    let mut spool = place.open();
    append(&mut spool, Lane::Normal, &[Made { max_age: hour, ..made("a", b"1", DropOldest) }]);
    drop(spool);
    // the machine was started again, ten minutes later
    let in_boot_2 = |boot_ms: u64, beyond: u64| Moment {
        boot_ms,
        unix_ms: Some(UNIX + 600_000 + boot_ms + beyond),
    };
    let start = in_boot_2(1000, 0);
    let opened = Spool::open(&place.path(), place.limits.clone(), "boot-2", start);
    let (mut spool, _) = opened.unwrap();
    spool.expire(start).unwrap();
    for boot_ms in [60_000, 120_000] {
        spool.expire(in_boot_2(boot_ms, TEN_YEARS)).unwrap();
        assert_eq!(spool.counts(in_boot_2(boot_ms, TEN_YEARS), Lane::Normal).unwrap().held, 1);
    }
    spool.expire(in_boot_2(3_200_000, TEN_YEARS)).unwrap();
    assert_eq!(spool.counts(in_boot_2(3_200_000, 0), Lane::Normal).unwrap().held, 0);
}

#[test]
fn what_is_too_old_is_not_sent_and_a_gap_says_so() {
    let place = Place::new();
    let mut spool = place.open();
    let short = Made { max_age: Duration::from_secs(60), ..made("a", b"1", SlowPublisher) };
    append(&mut spool, Lane::Normal, &[short, made("b", b"2", DropOldest)]);
    let mut cursor = spool.begin(at(0), Lane::Normal).unwrap();
    let read = spool.read(at(61_000), Lane::Normal, &mut cursor, 9, 9999).unwrap();
    assert_eq!(words(&read), ["0 gap a 1 expired", "1 b 2"]);
    // what was dropped before it does not come back, whatever happens to the power
    assert!(!spool.inner.as_ref().unwrap().memory.owes_sync);
}

#[test]
fn what_the_central_instance_has_keeps_its_count_however_old_it_is() {
    let place = Place::new();
    let mut spool = place.open();
    let short = || Made { max_age: Duration::from_secs(60), ..made("a", b"1", DropOldest) };
    append(&mut spool, Lane::Normal, &[short(), short(), made("b", b"3", DropOldest)]);
    let (mut cursor, _) = spool.resume(at(61_000), Lane::Normal, 2).unwrap();
    let read = spool.read(at(61_000), Lane::Normal, &mut cursor, 9, 9999).unwrap();
    assert_eq!(words(&read), ["3 b 3"]);
    assert_eq!(spool.figures(at(61_000)).unwrap().lanes[1].acknowledged, 2);
}

#[test]
fn a_lane_that_is_known_to_be_central_is_empty() {
    let place = Place::new();
    let mut spool = place.open();
    let gap = Entry::Gap { topic: Some("a"), count: 2, cause: GapCause::Other };
    append(&mut spool, Lane::Normal, &[made("a", b"1", DropOldest), made("a", b"2", DropOldest)]);
    spool.append(at(0), Lane::Normal, &[gap], None).unwrap();
    spool.settle(at(0), Lane::Normal).unwrap();
    let counts = spool.counts(at(0), Lane::Normal).unwrap();
    assert_eq!((counts.head_count, counts.held, counts.has_rows), (2, 0, false));
}

#[test]
fn the_clocks_steps_make_nothing_old() {
    let place = Place::new();
    let mut spool = place.open();
    let message = Made { max_age: Duration::from_secs(3600), ..made("a", b"1", DropOldest) };
    append(&mut spool, Lane::Normal, &[message]);
    let decade = 315_360_000_000;
    for unix_ms in [Some(UNIX + decade), None, Some(UNIX - decade)] {
        let now = Moment { unix_ms, boot_ms: BOOT + 20_000 };
        assert_eq!(spool.expire(now).unwrap(), 0);
    }
    let later = Moment { boot_ms: BOOT + 3_700_000, unix_ms: Some(UNIX) };
    assert_eq!(spool.expire(later).unwrap(), 1);
}

#[test]
fn rows_of_an_earlier_boot_age_too() {
    let place = Place::new();
    let mut spool = place.open();
    let message = Made { max_age: Duration::from_secs(3600), ..made("a", b"1", DropOldest) };
    append(&mut spool, Lane::Normal, &[message]);
    drop(spool);
    let open = |boot_ms, unix_ms| {
        let now = Moment { boot_ms, unix_ms };
        let mut spool = Spool::open(&place.path(), place.limits.clone(), "boot-2", now).unwrap().0;
        spool.expire(now).unwrap()
    };
    assert_eq!(open(9_000, None), 0);
    assert_eq!(open(9_000, Some(UNIX + 3_599_000)), 0);
    assert_eq!(open(9_000, Some(UNIX + 3_601_000)), 1);
}

#[test]
fn stamps_of_a_boot_without_clock_become_right_when_it_is_set() {
    let place = Place::new();
    let dark = Moment { boot_ms: 5_000, unix_ms: None };
    let open =
        |boot: &str, now| Spool::open(&place.path(), place.limits.clone(), boot, now).unwrap();
    let stamps = |spool: &mut Spool, now| {
        let mut cursor = spool.begin(now, Lane::Normal).unwrap();
        let rows = spool.read(now, Lane::Normal, &mut cursor, 9, 9999).unwrap();
        let stamp = |row: Row| match row.body {
            Body::Message { stamp, .. } => stamp,
            Body::Gap { .. } => panic!("a gap"),
        };
        rows.into_iter().map(stamp).collect::<Vec<_>>()
    };
    let message = Made { stamp: Stamp::Boot(4_000), ..made("a", b"1", DropOldest) };
    let mut spool = open("dark", dark).0;
    spool.append(dark, Lane::Normal, &[message.entry()], None).unwrap();
    assert_eq!(stamps(&mut spool, dark), [Stamp::Boot(4_000)]);
    drop(spool);
    // in the next boot the clock is set after a while
    let early = Moment { boot_ms: 1_000, unix_ms: None };
    let mut spool = open("lit", early).0;
    spool.append(early, Lane::Normal, &[message.entry()], None).unwrap();
    let other = Stamp::OtherBoot { boot: "dark".into(), ms: 4_000 };
    assert_eq!(stamps(&mut spool, early), [other.clone(), Stamp::Boot(4_000)]);
    let lit = Moment { boot_ms: 11_000, unix_ms: Some(UNIX) };
    assert_eq!(stamps(&mut spool, lit), [other.clone(), Stamp::Unix(UNIX - 7_000)]);
    drop(spool);
    // and is known in the boot after that
    let mut spool = open("third", early).0;
    assert_eq!(stamps(&mut spool, early), [other, Stamp::Unix(UNIX - 7_000)]);
}

#[test]
fn a_publisher_hears_of_what_is_central_in_all_lanes() {
    let place = Place::new();
    let mut spool = place.open();
    let device = Publisher { identity: "d".into(), name: "1".into(), epoch: 3 };
    let of =
        |count| Made { publisher: Some((device.clone(), count)), ..made("a", b"x", DropOldest) };
    append(&mut spool, Lane::Alarm, &[of(1), of(4)]);
    append(&mut spool, Lane::Normal, &[of(2), of(3), of(5)]);
    rows(&mut spool, Lane::Alarm);
    rows(&mut spool, Lane::Normal);
    let confirmed = |count| vec![Confirmed { publisher: device.clone(), count }];
    // 2 is not there yet
    assert_eq!(spool.acknowledge(at(0), Lane::Alarm, 2).unwrap(), confirmed(1));
    assert_eq!(spool.acknowledge(at(0), Lane::Normal, 2).unwrap(), confirmed(3));
    assert_eq!(spool.acknowledge(at(0), Lane::Normal, 3).unwrap(), confirmed(5));
}

#[test]
fn a_publisher_whose_last_messages_were_dropped_hears_so_when_all_before_them_is_there() {
    let place = Place::new();
    let mut spool = place.open();
    let device = Publisher { identity: "d".into(), name: "1".into(), epoch: 3 };
    let of = |count, max_age| Made {
        publisher: Some((device.clone(), count)),
        max_age: Duration::from_secs(max_age),
        ..made("a", b"x", DropOldest)
    };
    append(&mut spool, Lane::Normal, &[of(1, 3600), of(2, 1)]);
    append(&mut spool, Lane::Normal, &[of(3, 1)]);
    assert_eq!(spool.expire(at(20_000)).unwrap(), 2);
    let mut cursor = spool.begin(at(20_000), Lane::Normal).unwrap();
    let last = spool.read(at(20_000), Lane::Normal, &mut cursor, 9, 999).unwrap().pop().unwrap();
    let confirmed = |count| vec![Confirmed { publisher: device.clone(), count }];
    assert_eq!(spool.acknowledge(at(20_000), Lane::Normal, 1).unwrap(), confirmed(1));
    assert_eq!(spool.forget_gaps(at(20_000), Lane::Normal, last.seq).unwrap(), confirmed(3));
}

#[test]
fn what_publishers_were_to_hear_is_told_again_after_the_spool_was_emptied() {
    let place = Place::new();
    let mut spool = place.open();
    let device = Publisher { identity: "d".into(), name: "1".into(), epoch: 3 };
    let publisher = Some((device.clone(), 9));
    let message = Made { publisher, ..made("a", &[b'x'; 900], DropOldest) };
    append(&mut spool, Lane::Normal, &vec![message; 1500]);
    rows(&mut spool, Lane::Normal);
    let confirmed = vec![Confirmed { publisher: device, count: 9 }];
    assert_eq!(spool.acknowledge(at(0), Lane::Normal, 1500).unwrap(), confirmed);
    assert!(spool.figures(at(0)).unwrap().bytes < 200_000, "emptied");
    drop(spool);
    assert_eq!(place.open().confirmed(at(0)).unwrap(), confirmed);
}

#[test]
fn a_first_message_that_is_refused_is_dropped_and_takes_no_count() {
    let place = Place::new();
    let mut spool = place.open();
    let messages = ["1", "2", "3"].map(|text| made("a", text.as_bytes(), SlowPublisher));
    append(&mut spool, Lane::Normal, &messages);
    rows(&mut spool, Lane::Normal);
    spool.acknowledge(at(0), Lane::Normal, 1).unwrap();
    assert!(spool.refuse_first(at(0), Lane::Normal).unwrap().is_some());
    assert_eq!(rows(&mut spool, Lane::Normal), ["2 a 3"]);
    let lane = spool.figures(at(0)).unwrap().lanes[1];
    assert_eq!((lane.held, lane.acknowledged), (1, 1));
    assert_eq!(lane.dropped[GapCause::Other as usize], 1);
    assert!(spool.refuse_first(at(0), Lane::Normal).unwrap().is_some());
    assert_eq!(spool.refuse_first(at(0), Lane::Normal).unwrap(), None);
}

#[test]
fn a_count_beyond_what_was_sent_is_refused() {
    let place = Place::new();
    let mut spool = place.open();
    append(&mut spool, Lane::Normal, &vec![made("a", b"x", DropOldest); 3]);
    let mut cursor = spool.begin(at(0), Lane::Normal).unwrap();
    spool.read(at(0), Lane::Normal, &mut cursor, 2, 9999).unwrap();
    let error = spool.acknowledge(at(0), Lane::Normal, 3).unwrap_err();
    assert!(matches!(error, SpoolError::BeyondSent { count: 3, most: 2, .. }), "{error}");
    assert_eq!(spool.acknowledge(at(0), Lane::Normal, 2).unwrap(), []);
    assert_eq!(spool.acknowledge(at(0), Lane::Normal, 1).unwrap(), [], "an old count says nothing");
}

#[test]
fn gaps_at_the_start_are_forgotten_when_told() {
    let place = Place::new();
    let mut spool = place.open();
    let gap = |topic, count| Entry::Gap { topic: Some(topic), count, cause: GapCause::Budget };
    let message = made("a", b"1", DropOldest);
    let entries = [gap("a", 2), gap("b", 1), gap("a", 5), message.entry(), gap("c", 1)];
    spool.append(at(0), Lane::Normal, &entries, None).unwrap();
    let all = ["0 gap a 7 budget", "0 gap b 1 budget", "1 a 1", "1 gap c 1 budget"];
    assert_eq!(rows(&mut spool, Lane::Normal), all);
    spool.forget_gaps(at(0), Lane::Normal, u64::MAX / 2).unwrap();
    assert_eq!(rows(&mut spool, Lane::Normal), all[2..]);
    spool.acknowledge(at(0), Lane::Normal, 1).unwrap();
    assert!(spool.counts(at(0), Lane::Normal).unwrap().has_rows);
    spool.forget_gaps(at(0), Lane::Normal, u64::MAX / 2).unwrap();
    assert!(!spool.counts(at(0), Lane::Normal).unwrap().has_rows);
}

#[test]
fn a_lane_with_rows_keeps_its_counts_and_begins_an_epoch_when_told() {
    let place = Place::new();
    let mut spool = place.open();
    spool.start_at(at(0), Lane::Normal, 1, 100).unwrap();
    append(&mut spool, Lane::Normal, &vec![made("a", b"x", DropOldest); 2]);
    let error = spool.start_at(at(0), Lane::Normal, 2, 0).unwrap_err();
    assert!(matches!(error, SpoolError::NotEmpty(Lane::Normal)));
    spool.restart(at(0), Lane::Normal, 2).unwrap();
    assert_eq!(rows(&mut spool, Lane::Normal), ["1 a x", "2 a x"]);
}
