use fastport_core::time::Instant;
use fastport_wire::control;

use super::*;

const TIME: u64 = 1_700_000_000_000;
/// A minute after the boot.
const NOW: Now = Now { mono: Instant::from_millis(0), unix_ms: TIME, boot_ms: 60_000 };

fn bytes_of(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut all = Vec::new();
    for frame in frames {
        let mut bytes = vec![0; frame.encoded_len()];
        let length = frame.encode(&mut bytes).expect("room was made");
        all.extend_from_slice(&bytes[..length]);
    }
    all
}

fn id(number: u32) -> TopicId {
    TopicId::new(number).expect("not 0")
}

fn topic(number: u32, name: &str) -> Frame<'_> {
    Frame::Topic { id: id(number), name, schema: None }
}

fn counted(number: u32, payload: &[u8]) -> Frame<'_> {
    Frame::Data { flags: DataFlags::COUNTED, topic: id(number), payload }
}

fn gap(count: u64, cause: GapCause) -> Frame<'static> {
    Frame::Gap { topic: Some(id(1)), count, cause }
}

fn tap(count: u64) -> Tap {
    let position = Position { epoch: 7, count, serial: 3 };
    let mut missing = Missing::default();
    missing.insert(("a".into(), GapCause::Expired as u8), 5);
    let mut tap = Tap::new("home", position, missing);
    tap.handle(NOW, &welcome(true)).expect("frames");
    tap
}

fn welcome(resumed: bool) -> Vec<u8> {
    let mut body = [0; 64];
    let message = control::Welcome { version: 2, resumed, ..Default::default() };
    let length = Control::from(message).encode(&mut body).expect("room");
    bytes_of(&[Frame::Control(&body[..length])])
}

fn counts(epoch: u64, acked: u64, total: u64) -> Option<Counts> {
    Some(Counts { epoch, acked, total, taken: 0, held: 0, waits_since: None, note: [0; 4] })
}

fn stored(epoch: u64, count: u64) -> Option<Position> {
    Some(Position { epoch, count, serial: 9 })
}

#[test]
fn a_stream_goes_on_where_the_store_is_as_far_as_the_session_can() {
    let start = |known, stored| {
        let start = Start::choose(known, stored, 1000);
        let Position { epoch, count, .. } = start.position;
        (epoch, count, start.is_new_to_store, start.is_at_odds)
    };
    // a first start; a session without a journal after a restart
    assert_eq!(start(None, None), (1000, 0, true, false));
    assert_eq!(start(None, stored(7, 5)), (1000, 0, true, false));
    // committed, and the session was not told
    assert_eq!(start(counts(7, 3, 9), stored(7, 5)), (7, 5, false, false));
    assert_eq!(start(counts(7, 5, 5), stored(7, 5)), (7, 5, false, false));
    // an older copy of the store, or of the journal
    assert_eq!(start(counts(7, 6, 9), stored(7, 5)), (7, 6, true, true));
    assert_eq!(start(counts(7, 3, 4), stored(7, 5)), (7, 3, true, true));
    // another store, and a new one
    assert_eq!(start(counts(7, 3, 9), stored(8, 5)), (7, 3, true, true));
    assert_eq!(start(counts(7, 3, 9), None), (7, 3, true, false));
    assert_eq!(Start::choose(None, stored(7, 5), 1000).position.serial, 9);
}

#[test]
fn messages_are_stored_with_names_times_and_the_count_they_reach() {
    let mut tap = tap(10);
    let bytes = bytes_of(&[
        topic(1, "a"),
        topic(2, "b"),
        counted(2, b"x"),
        // not set when it was taken
        Frame::Time { unix_ms: 5000 },
        Frame::Data { flags: DataFlags::KEEP, topic: id(1), payload: b"yz" },
        Frame::Time { unix_ms: TIME - 1 },
        counted(2, b""),
    ]);
    // in any pieces
    for piece in bytes.chunks(3) {
        tap.handle(NOW, piece).expect("frames");
    }
    let part = tap.take().expect("something came");
    assert_eq!(part.position, Position { epoch: 7, count: 12, serial: 4 });
    assert_eq!((&*part.session, &part.payloads[..]), ("home", &b"xyz"[..]));
    let names: Vec<&str> = part.topics.iter().map(|topic| &*topic.name).collect();
    assert_eq!(names, ["b", "a"]);
    let expected = [
        Entry::Message { topic: 0, flags: 1, stamp: NOT_KNOWN, payload: 0..1 },
        Entry::Message { topic: 1, flags: 2, stamp: TIME - 55_000, payload: 1..3 },
        Entry::Message { topic: 0, flags: 1, stamp: TIME - 1, payload: 3..3 },
    ];
    assert_eq!(part.entries, expected);
    assert_eq!(tap.take(), None);
    // the next batch names its topics again
    tap.handle(NOW, &bytes_of(&[counted(1, b"q")])).expect("a frame");
    let part = tap.take().expect("something came");
    assert_eq!((part.topics.len(), part.position.count, part.position.serial), (1, 13, 5));
}

#[test]
fn gaps_that_are_stored_already_are_not_stored_again() {
    let mut tap = tap(10);
    let frames = [
        topic(1, "a"),
        gap(4, GapCause::Expired),
        gap(3, GapCause::Expired),
        gap(2, GapCause::Overflow),
        counted(1, b""),
        gap(6, GapCause::Expired),
    ];
    tap.handle(NOW, &bytes_of(&frames)).expect("frames");
    let entries = tap.take().expect("something came").entries;
    let gaps: Vec<_> = entries
        .into_iter()
        .filter_map(|entry| match entry {
            Entry::Gap { messages, cause, place, .. } => Some((messages, cause, place)),
            Entry::Message { .. } => None,
        })
        .collect();
    let (expired, overflow) = (GapCause::Expired, GapCause::Overflow);
    assert_eq!(gaps, [(2, expired, 10), (2, overflow, 10), (6, expired, 11)]);
}

#[test]
fn what_is_stored_of_one_topic_is_not_taken_for_anothers_gap() {
    let mut tap = tap(10);
    // they come in another order than the store has them in
    let said = [
        topic(1, "a"),
        topic(2, "b"),
        Frame::Gap { topic: Some(id(2)), count: 4, cause: GapCause::Expired },
        gap(5, GapCause::Expired),
    ];
    tap.handle(NOW, &bytes_of(&said)).expect("frames");
    let part = tap.take().expect("a gap is to be stored");
    let names = part.entries.iter().map(|entry| match entry {
        Entry::Gap { topic: Some(topic), messages, .. } => (&*part.topics[*topic].name, *messages),
        other => panic!("{other:?}"),
    });
    assert_eq!(names.collect::<Vec<_>>(), [("b", 4)]);
}

#[test]
fn what_is_stored_is_not_stored_again_where_other_names_are_said() {
    let of = |topic: Option<u32>, count| Frame::Gap {
        topic: topic.map(id),
        count,
        cause: GapCause::Expired,
    };
    let cases = [
        // two topics were stored, one of several is said, and the reverse
        (vec![("a", 3), ("b", 4)], vec![of(None, 7)], 0),
        (vec![("", 7)], vec![of(Some(1), 3), of(Some(2), 4)], 0),
        // a topic that is no more
        (vec![("a", 3), ("b", 4)], vec![of(Some(1), 3), of(Some(9), 4)], 0),
        // what came behind it is stored
        (vec![("a", 3), ("b", 4)], vec![of(None, 9), of(Some(2), 5)], 7),
        (vec![("a", 3), ("", 4)], vec![of(Some(1), 5), of(None, 4)], 2),
    ];
    for (stored, said, expected) in cases {
        let cause = GapCause::Expired as u8;
        let missing = stored.iter().map(|&(name, count)| ((name.into(), cause), count));
        let position = Position { epoch: 7, count: 10, serial: 3 };
        let mut tap = Tap::new("home", position, missing.collect());
        tap.handle(NOW, &welcome(true)).expect("frames");
        tap.handle(NOW, &bytes_of(&[topic(1, "a"), topic(2, "b")])).expect("frames");
        tap.handle(NOW, &bytes_of(&said)).expect("frames");
        let entries = tap.take().map_or_else(Vec::new, |part| part.entries);
        let fresh = entries.iter().map(|entry| match entry {
            Entry::Gap { messages, .. } => *messages,
            Entry::Message { .. } => 0,
        });
        assert_eq!(fresh.sum::<u64>(), expected, "{stored:?} {said:?}");
    }
}

#[test]
fn a_session_that_knows_nothing_of_the_stream_counts_from_nothing() {
    let mut tap = tap(10);
    tap.handle(NOW, &welcome(false)).expect("frames");
    tap.handle(NOW, &bytes_of(&[topic(1, "a"), counted(1, b"")])).expect("frames");
    assert!(!tap.is_resumed());
    assert_eq!(tap.position().count, 1);
}

#[test]
fn what_is_no_stream_for_a_store_is_refused() {
    assert_eq!(
        tap(0).handle(NOW, &bytes_of(&[counted(9, b"")])),
        Err(TapError::UnknownTopic(id(9)))
    );
    assert!(matches!(tap(0).handle(NOW, &[0xff, 0]), Err(TapError::Wire(_))));
}
