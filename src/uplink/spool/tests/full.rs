//! What happens when there is no room, one promise a test.

use super::super::*;
use super::rig::*;
use crate::config::WhenSpoolFull::{DropOldest, Latest, SlowPublisher};

#[test]
fn when_full_the_oldest_make_room_and_a_gap_is_in_their_place() {
    let place = Place::with_disk(Limits::LEAST_DISK);
    let mut spool = place.open();
    let appended = fill(&mut spool, "a", DropOldest, 3000);
    let lane = spool.figures(at(0)).unwrap().lanes[1];
    let dropped = lane.dropped[GapCause::Overflow as usize];
    assert!(dropped > 0 && lane.held > 500, "{lane:?}");
    assert_eq!(lane.appended, appended);
    let rows = rows(&mut spool, Lane::Normal);
    assert_eq!(rows[0], format!("0 gap a {dropped} overflow"));
    assert!(rows[1].starts_with(&format!("1 a {dropped} ")), "{}", rows[1]);
    assert_eq!(rows.len() as u64, lane.held + 1);
}

#[test]
fn when_full_only_the_newest_of_each_topic_is_kept_under_latest() {
    let place = Place::with_disk(Limits::LEAST_DISK);
    let mut spool = place.open();
    append(&mut spool, Lane::Normal, &[made("keep", &[b'x'; 900], SlowPublisher)]);
    append(&mut spool, Lane::Normal, &[made("rare", b"once", Latest)]);
    fill(&mut spool, "often", Latest, 2000);
    let lane = spool.figures(at(0)).unwrap().lanes[1];
    let superseded = lane.dropped[GapCause::Superseded as usize];
    assert!(superseded > 0);
    assert_eq!(lane.dropped.iter().sum::<u64>(), superseded, "nothing else had to go");
    let rows = rows(&mut spool, Lane::Normal);
    assert!(rows[0].starts_with("1 keep x"));
    assert_eq!(rows[1], "2 rare once");
    assert_eq!(rows[2], format!("2 gap often {superseded} superseded"));
}

#[test]
fn a_full_spool_takes_nothing_of_a_batch_that_must_not_be_dropped() {
    let place = Place::with_disk(Limits::LEAST_DISK);
    let mut spool = place.open();
    let message = made("a", &[b'x'; 900], SlowPublisher);
    let entries = vec![message.entry(); 20];
    let mut taken = 0;
    while spool.append(at(0), Lane::Normal, &entries, None).unwrap() != Appended::DiskFull {
        taken += 20;
        assert!(taken < 2000);
    }
    let lane = spool.figures(at(0)).unwrap().lanes[1];
    assert_eq!((lane.appended, lane.held), (taken, taken));
    // others give way to it
    let other = made("b", b"1", DropOldest);
    let appended = spool.append(at(0), Lane::Normal, &vec![other.entry(); 9], None).unwrap();
    assert!(matches!(appended, Appended::Taken { .. }));
    // and once there is room it is taken
    rows(&mut spool, Lane::Normal);
    spool.acknowledge(at(0), Lane::Normal, taken / 2).unwrap();
    let appended = spool.append(at(0), Lane::Normal, &entries, None).unwrap();
    assert_eq!(appended, Appended::Taken { dropped: 0 });
}

#[test]
fn what_may_have_been_sent_is_never_dropped() {
    let place = Place::with_disk(Limits::LEAST_DISK);
    let mut spool = place.open();
    fill(&mut spool, "a", DropOldest, 400);
    let sent = rows(&mut spool, Lane::Normal);
    spool.end(at(0), Lane::Normal).unwrap();
    drop(spool);
    let mut spool = place.open();
    fill(&mut spool, "a", DropOldest, 2000);
    let now = rows(&mut spool, Lane::Normal);
    assert_eq!(now[..sent.len()], sent);
    assert!(now[sent.len()].contains("gap a "), "{}", now[sent.len()]);
}

#[test]
fn a_full_spool_of_what_was_sent_drops_what_comes() {
    let place = Place::with_disk(Limits::LEAST_DISK);
    let mut spool = place.open();
    let message = made("a", &[b'x'; 900], SlowPublisher);
    while spool.append(at(0), Lane::Normal, &vec![message.entry(); 20], None).unwrap()
        != Appended::DiskFull
    {}
    let late = made("b", &[b'x'; 20_000], DropOldest);
    let appended = spool.append(at(0), Lane::Normal, &vec![late.entry(); 4], None).unwrap();
    assert_eq!(appended, Appended::Taken { dropped: 4 });
    let rows = rows(&mut spool, Lane::Normal);
    assert!(rows.last().unwrap().ends_with(" gap b 4 overflow"), "{:?}", rows.last());
}

#[test]
fn a_less_urgent_lane_does_not_displace_a_more_urgent_one() {
    let place = Place::with_disk(Limits::LEAST_DISK);
    let mut spool = place.open();
    fill(&mut spool, "a", DropOldest, 3000);
    let held = spool.counts(at(0), Lane::Normal).unwrap().held;
    let bulk = made("b", &[b'x'; 20_000], DropOldest);
    let appended = spool.append(at(0), Lane::Bulk, &vec![bulk.entry(); 4], None).unwrap();
    assert!(matches!(appended, Appended::Taken { dropped: 3.. }), "{appended:?}");
    assert_eq!(spool.counts(at(0), Lane::Normal).unwrap().held, held);
    let appended = spool.append(at(0), Lane::Alarm, &vec![bulk.entry(); 4], None).unwrap();
    assert_eq!(appended, Appended::Taken { dropped: 0 });
    assert!(spool.counts(at(0), Lane::Normal).unwrap().held < held);
}

#[test]
fn a_message_too_large_for_a_batch_is_refused_with_its_size() {
    let place = Place::with_disk(Limits::LEAST_DISK);
    let mut spool = place.open();
    let large = made("a", &[0; 200_000], DropOldest);
    let error = spool.append(at(0), Lane::Normal, &[large.entry()], None).unwrap_err();
    assert!(matches!(error, SpoolError::BatchTooLarge { bytes: 200_000.., .. }), "{error}");
    assert!(spool.batch_bytes() > 100_000);
}

#[test]
fn flash_bytes_are_counted_and_capped_for_the_day() {
    let place = Place::new();
    let limits = Limits { flash_per_day: 1_000_000, ..place.limits.clone() };
    let open = |now| Spool::open(&place.path(), limits.clone(), "boot-1", now).unwrap().0;
    let mut spool = open(at(0));
    let must_stay = made("a", &[b'x'; 10_000], SlowPublisher);
    let may_go = made("b", &[b'x'; 10_000], DropOldest);
    let mut taken = 0;
    while spool.append(at(0), Lane::Normal, &[must_stay.entry()], None).unwrap()
        == (Appended::Taken { dropped: 0 })
    {
        taken += 1;
        assert!(taken < 100);
    }
    assert!(taken > 20, "{taken}");
    let appended = spool.append(at(0), Lane::Normal, &[must_stay.entry()], None).unwrap();
    assert_eq!(appended, Appended::FlashSpent);
    // there is a little left to account for what is dropped
    let appended = spool.append(at(0), Lane::Normal, &[may_go.entry()], None).unwrap();
    assert_eq!(appended, Appended::Taken { dropped: 1 });
    let written = spool.figures(at(0)).unwrap().flash_today;
    assert!((taken * 10_000..=1_000_000).contains(&written), "{written} for {taken}");
    drop(spool);
    let mut spool = open(at(0));
    let known = spool.figures(at(0)).unwrap().flash_today;
    assert!(known + 20_000 > written, "{known} of {written}");
    let appended = spool.append(at(0), Lane::Normal, &[must_stay.entry()], None).unwrap();
    assert_eq!(appended, Appended::FlashSpent);
    let tomorrow = at(86_400_000);
    spool.expire(tomorrow).unwrap();
    let appended = spool.append(tomorrow, Lane::Normal, &[must_stay.entry()], None).unwrap();
    assert_eq!(appended, Appended::Taken { dropped: 0 });
}

#[test]
fn rows_that_are_gone_make_room_before_any_is_dropped() {
    let place = Place::with_disk(Limits::LEAST_DISK);
    let mut spool = place.open();
    let mut sent = 0;
    for _ in 0..20 {
        fill(&mut spool, "a", DropOldest, 200);
        let last = rows(&mut spool, Lane::Normal).len() as u64 + sent;
        // one is always left, so the lane is never empty
        spool.acknowledge(at(0), Lane::Normal, last - 1).unwrap();
        sent = last - 1;
    }
    let lane = spool.figures(at(0)).unwrap().lanes[1];
    assert_eq!((lane.held, lane.dropped.iter().sum::<u64>()), (1, 0));
}

#[test]
fn an_empty_spool_gives_its_bytes_back() {
    let place = Place::new();
    let mut spool = place.open();
    let appended = fill(&mut spool, "a", DropOldest, 5000);
    assert!(spool.figures(at(0)).unwrap().bytes > 4_000_000);
    rows(&mut spool, Lane::Normal);
    spool.acknowledge(at(0), Lane::Normal, appended).unwrap();
    let bytes = spool.figures(at(0)).unwrap().bytes;
    assert!(bytes < 200_000, "{bytes}");
    append(&mut spool, Lane::Normal, &[made("a", b"1", DropOldest)]);
    assert_eq!(rows(&mut spool, Lane::Normal), [format!("{} a 1", appended + 1)]);
}

#[test]
fn topics_that_nothing_uses_make_room() {
    let place = Place::with_disk(Limits::LEAST_DISK);
    let mut spool = place.open();
    for round in 0..400 {
        let many: Vec<_> = (0..20)
            .map(|n| made(&format!("a/long/name/of/{round}/{n}"), &[b'x'; 300], DropOldest))
            .collect();
        append(&mut spool, Lane::Normal, &many);
    }
    assert!(spool.figures(at(0)).unwrap().lanes[1].held > 500);
}
