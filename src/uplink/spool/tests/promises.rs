//! One promise a test.

use super::super::*;
use super::rig::*;
use crate::config::WhenSpoolFull::DropOldest;

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
