//! Replays the corpus of the fuzz target `journal`, and journals with a byte changed or cut off.
//!
//! `UPDATE=1 cargo test -p fastport-core --test journal` writes the seeds again.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use fastport_core::budget::Budget;
use fastport_core::rights::Rights;
use fastport_core::session::{Admission, Own, PeerKey, Session};
use fastport_core::time::{Instant, Now};
use fastport_wire::control::{self, Control, Tier, WhenFull, features};
use fastport_wire::frame::DataFlags;
use fastport_wire::{Frame, TopicId};

#[path = "../../../fuzz/journal_check.rs"]
mod journal_check;

use self::journal_check::{LIMITS, journal};

const NOW: Now =
    Now { mono: Instant::from_millis(1000), unix_ms: 1_700_000_000_000, boot_ms: 1000 };

#[test]
fn every_input_of_the_corpus_is_survived() {
    if std::env::var_os("UPDATE").is_some() {
        let (records, snapshot) = journals();
        fs::create_dir_all(corpus()).expect("the repository can be written");
        fs::write(corpus().join("seed-records"), records).expect("as above");
        fs::write(corpus().join("seed-snapshot"), snapshot).expect("as above");
    }
    let mut count = 0;
    for entry in fs::read_dir(corpus()).expect("the corpus is in the repository") {
        let path = entry.expect("readable").path();
        eprintln!("{}", path.display()); // shown where the check fails
        journal(&fs::read(path).expect("readable"));
        count += 1;
    }
    assert!(count >= 2, "{count} inputs");
}

#[test]
fn a_journal_with_a_byte_changed_or_cut_off_makes_no_session_that_breaks() {
    let (records, snapshot) = journals();
    for whole in [records, snapshot] {
        journal(&whole);
        for at in 0..whole.len() {
            journal(&whole[..at]);
            for change in [0x01, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= change;
                journal(&changed);
            }
        }
    }
}

/// The records of a session in which a little of everything happens, and its snapshot.
fn journals() -> (Vec<u8>, Vec<u8>) {
    let budget = Arc::new(Budget::new(1 << 20));
    let mut session = Session::new(LIMITS, budget, NOW.mono);
    session.start_journal();
    let lane = attach(&mut session, "$uplink", "alarm", 9, WhenFull::Hold);
    session.make_member(lane, Tier::Central);
    session.set_note(lane, Default::default());
    let reader = attach(&mut session, "panel", "", 2, WhenFull::Hold);
    let loose = attach(&mut session, "chart", "", 3, WhenFull::Latest);
    let publisher = attach(&mut session, "pump", "a", 1, WhenFull::DropOldest);
    for (key, filter) in [(lane, "#"), (reader, "plant/+"), (loose, "plant/a")] {
        let subscribe = control::Subscribe { request: 1, topic: filter, ..Default::default() };
        give(&mut session, key, &message(subscribe));
    }
    let open = |topic| control::Open { request: 2, topic, ..Default::default() };
    give(&mut session, publisher, &message(open("plant/a")));
    let id = TopicId::new(1).expect("not 0");
    let flags = DataFlags::COUNTED.with(DataFlags::KEEP);
    for number in 0..4 {
        give(
            &mut session,
            publisher,
            &frame(&Frame::Data { flags, topic: id, payload: &[number] }),
        );
    }
    let taken = |taken| frame(&Frame::Ack { taken, durable: None, central: None, repeat: false });
    write_all(&mut session, reader);
    give(&mut session, reader, &taken(2));
    write_all(&mut session, lane);
    let marks = session.take_marks(lane, 3);
    give(&mut session, lane, &taken(3));
    session.confirm(lane, &marks[0].publisher, Tier::Central, 2);
    let unsubscribe = control::Unsubscribe { request: 3, topic: "plant/a", ..Default::default() };
    give(&mut session, loose, &message(unsubscribe));
    session.detach(NOW.mono, reader);
    let back = admission("panel", "", 2, WhenFull::Hold);
    session.attach(NOW, Admission { taken: 3, ..back }).expect("room");
    give(&mut session, loose, &message(control::Bye::default()));
    session.detach(NOW.mono, loose);
    let mut snapshot = Vec::new();
    let copied = session.snapshot(|piece| {
        snapshot.extend_from_slice(piece);
        Ok::<_, ()>(())
    });
    assert_eq!(copied, Ok(()));
    (session.journaled().to_vec(), snapshot)
}

fn admission(identity: &str, name: &str, epoch: u64, when_full: WhenFull) -> Admission {
    Admission {
        identity: identity.into(),
        name: name.into(),
        rights: Arc::new(Rights::everything()),
        epoch,
        taken: 0,
        flags: features::TIME,
        when_full: Some(when_full),
        keepalive: None,
        linger: Some(60),
        proof: None,
        own: identity.starts_with('$').then_some(Own { outbox: 8192 }),
    }
}

fn attach(
    session: &mut Session,
    identity: &str,
    name: &str,
    epoch: u64,
    when_full: WhenFull,
) -> PeerKey {
    let key = session.attach(NOW, admission(identity, name, epoch, when_full)).expect("room");
    give(session, key, &[0]);
    key
}

fn give(session: &mut Session, key: PeerKey, bytes: &[u8]) {
    let progress = session.handle_bytes(NOW, key, bytes).expect("the link is there");
    assert_eq!(progress.consumed, bytes.len());
}

fn write_all(session: &mut Session, key: PeerKey) {
    while session.has_output(key) {
        let length = session.output(key).expect("the link is there").bytes.len();
        session.advance(key, length);
    }
}

fn message<'a>(message: impl Into<Control<'a>>) -> Vec<u8> {
    let mut body = [0; 512];
    let length = message.into().encode(&mut body).expect("512 bytes are enough");
    frame(&Frame::Control(&body[..length]))
}

fn frame(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = vec![0; frame.encoded_len()];
    frame.encode(&mut bytes).expect("it has the room");
    bytes
}

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/journal")
}
