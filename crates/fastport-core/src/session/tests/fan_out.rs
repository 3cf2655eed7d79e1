//! From one publisher to every reader.

use super::*;

#[test]
fn every_reader_gets_the_published_bytes_as_they_are() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let readers = [2, 3].map(|epoch| rig.attach(admission(epoch)));
    readers.iter().for_each(|&reader| rig.subscribe(reader, "a/b"));
    let id = rig.open(publisher, "a/b");
    let flags = DataFlags::SEALED.with(DataFlags::COUNTED);
    let bytes = [plain(id, b"one"), data(id, flags, b"two"), plain(id, b"")].concat();
    rig.give_all(publisher, &bytes);
    for reader in readers {
        let seen = rig.take_bytes(reader);
        let announced = frame(&Frame::Topic { id, name: "a/b", schema: None });
        assert_eq!(seen, [announced, bytes.clone()].concat());
    }
    assert_eq!((rig.ledger().published, rig.ledger().routed, rig.ledger().delivered), (3, 6, 6));
}

#[test]
fn a_topic_is_announced_before_its_first_message_and_once_a_link() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    rig.subscribe(reader, "#");
    let id = rig.open(publisher, "a");
    assert_eq!(rig.take(reader), []);
    rig.give_all(publisher, &plain(id, &[1]));
    assert_eq!(rig.take(reader), [Seen::Topic(1, "a".into()), Seen::Data(1, vec![1])]);
    rig.give_all(publisher, &plain(id, &[2]));
    assert_eq!(rig.take(reader), [Seen::Data(1, vec![2])]);
}

#[test]
fn a_resumed_link_hears_each_topic_again() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(lingering(2));
    rig.subscribe(reader, "#");
    let (a, b) = (rig.open(publisher, "a"), rig.open(publisher, "b"));
    rig.give_all(publisher, &[counted(a, &[1]), plain(b, &[2])].concat());
    assert_eq!(rig.take(reader).len(), 4);
    let now = rig.now();
    rig.session.detach(now.mono, reader);
    let reader = rig.session.attach(now, lingering(2)).expect("room");
    let seen = rig.take(reader);
    let expected = [
        Seen::Welcome { resumed: true, taken: 0 },
        Seen::Topic(1, "a".into()),
        Seen::Data(1, vec![1]),
    ];
    assert_eq!(seen, expected);
    rig.give_all(publisher, &plain(b, &[3]));
    assert_eq!(rig.take(reader), [Seen::Topic(2, "b".into()), Seen::Data(2, vec![3])]);
}

#[test]
fn a_schema_that_comes_later_is_announced_before_the_next_message() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    rig.give_all(publisher, &plain(id, &[1]));
    rig.take(reader);
    let seen = rig.open_with(publisher, "a", Some(&schema(1)));
    assert!(matches!(seen.last(), Some(Seen::Ok { .. })), "{seen:?}");
    rig.give_all(publisher, &plain(id, &[2]));
    assert_eq!(rig.take(reader), [Seen::Topic(1, "a".into()), Seen::Data(1, vec![2])]);
}
