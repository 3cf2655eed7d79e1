use std::sync::atomic::{AtomicBool, Ordering};

use fastport_core::retention::Retention;
use fastport_core::session::{Admission, Limits, StreamLimits};
use fastport_wire::control::{self, Control, WhenFull, features};
use fastport_wire::frame::DataFlags;
use fastport_wire::{Frame, field};

use super::super::seated::admission;
use super::*;
use crate::hub::{Room, Seat};
use crate::status::Status;
use crate::store::{Figures, Lived, Missing, Position, Trimmed};

/// What a store in memory holds, and whether it fails.
#[derive(Debug, Default)]
struct Held {
    parts: Mutex<Vec<Part>>,
    positions: Mutex<std::collections::HashMap<String, Position>>,
    fails: AtomicBool,
    commits_and_fails: AtomicBool,
}

#[derive(Debug)]
struct Memory(Arc<Held>);

fn failed() -> StoreError {
    StoreError::Full { place: "memory".to_owned() }
}

impl Store for Memory {
    fn position(&mut self, session: &str) -> Result<Option<Position>, StoreError> {
        Ok(self.0.positions.lock().expect("no panic").get(session).copied())
    }

    fn missing_at(&mut self, _: &str, _: Position) -> Result<Missing, StoreError> {
        Ok(Missing::default())
    }

    fn set_position(&mut self, session: &str, position: Position) -> Result<(), StoreError> {
        self.0.positions.lock().expect("no panic").insert(session.to_owned(), position);
        Ok(())
    }

    fn commit(&mut self, _: Lived, parts: &[Part]) -> Result<(), StoreError> {
        if self.0.fails.load(Ordering::Relaxed) {
            return Err(failed());
        }
        for part in parts {
            let known = self.position(&part.session)?;
            if known.is_none_or(|known| known.serial < part.position.serial) {
                self.0.parts.lock().expect("no panic").push(part.clone());
                self.set_position(&part.session, part.position)?;
            }
        }
        match self.0.commits_and_fails.swap(false, Ordering::Relaxed) {
            true => Err(failed()),
            false => Ok(()),
        }
    }

    fn lived(&mut self) -> Result<Lived, StoreError> {
        Ok(Lived::default())
    }

    fn trim(&mut self, _: Lived, _: Keep) -> Result<Trimmed, StoreError> {
        Ok(Trimmed::default())
    }

    fn figures(&mut self) -> Result<Figures, StoreError> {
        Ok(Figures::default())
    }
}

fn limits() -> Limits {
    Limits {
        peers: 100,
        topics: 100,
        outbox: 4096,
        payload: 1024,
        sealed: false,
        subscriptions: 8,
        open_topics: 8,
        keepalive: 0,
        linger: 60,
        gateway_linger: 600,
        stall_ms: 0,
        streams: StreamLimits::DEFAULT,
        retention: Retention { messages: 0, age_ms: 10_000, bytes: 4096 },
        when_full: WhenFull::DropOldest,
    }
}

struct Rig {
    hub: Arc<Hub>,
    held: Arc<Held>,
    keeper: Arc<Keeper>,
    _rooms: tokio::sync::mpsc::Receiver<Arc<Room>>,
}

/// A publisher of session `home` that wants to know what is stored.
struct Publisher(Seat);

impl Rig {
    fn new(outbox: usize) -> Self {
        let (hub, rooms) = Hub::new(1 << 20, 100, limits(), Arc::new(Status::default()));
        hub.open_room("home", limits()).expect("room");
        let held = Arc::new(Held::default());
        let keep = Keep { age: Duration::from_secs(1), bytes: 1 };
        let options = Options { keep, commit: Duration::from_millis(50), outbox };
        let of_keeper = Arc::clone(&held);
        let open = move || Ok(Box::new(Memory(Arc::clone(&of_keeper))) as Box<dyn Store>);
        let keeper = Keeper::start(Arc::clone(&hub), options, open).expect("it opens");
        Self { hub, held, keeper, _rooms: rooms }
    }

    fn publisher(&self) -> Publisher {
        let admission = Admission {
            identity: "p".into(),
            name: "p".into(),
            flags: features::ACK_CENTRAL | features::ACK_DURABLE,
            when_full: None,
            own: None,
            linger: Some(60),
            ..admission(1, 0, 0)
        };
        let seat = self.hub.attach("home", admission).expect("room");
        let publisher = Publisher(seat);
        let mut body = [0; 64];
        let open = control::Open { request: 1, topic: "a", ..Default::default() };
        let length = Control::from(open).encode(&mut body).expect("room");
        publisher.say(&Frame::Control(&body[..length]));
        publisher
    }

    fn payloads(&self) -> Vec<u8> {
        let parts = self.held.parts.lock().expect("no panic");
        parts.iter().flat_map(|part| part.payloads.clone()).collect()
    }

    /// Runs the keeper until `is_so`.
    async fn run_until(&self, mut is_so: impl FnMut() -> bool) {
        let waiting = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = self.keeper.run() => panic!("nobody stopped it"),
            waited = timeout(Duration::from_secs(20), waiting) => waited.expect("in time"),
        }
    }
}

impl Publisher {
    fn say(&self, frame: &Frame<'_>) -> usize {
        let mut bytes = vec![0; frame.encoded_len()];
        let length = frame.encode(&mut bytes).expect("room");
        self.0.handle_bytes(&bytes[..length]).expect("the link is there").progress.consumed
    }

    fn publish(&self, payload: &[u8]) -> bool {
        let topic = fastport_wire::TopicId::new(1).expect("not 0");
        self.say(&Frame::Data { flags: DataFlags::COUNTED, topic, payload }) > 0
    }

    /// The last ACK: taken, durable, central.
    fn acked(&self) -> Option<(u64, u64, u64)> {
        self.say(&Frame::Ping { token: &[] });
        let mut last = None;
        let read = self.0.write_with(|output| {
            let mut rest = output.bytes;
            while let Ok(Some((frame, length))) = Frame::decode(rest, field::MAX_BODY) {
                if let Frame::Ack { taken, durable, central, .. } = frame {
                    last = Some((taken, durable.unwrap_or(taken), central.unwrap_or(taken)));
                }
                rest = &rest[length..];
            }
            (output.bytes.len(), ())
        });
        read.expect("the link is there");
        last
    }
}

#[tokio::test]
async fn what_is_stored_is_told_and_nothing_before() {
    let rig = Rig::new(4096);
    let publisher = rig.publisher();
    rig.held.fails.store(true, Ordering::Relaxed);
    assert!(publisher.publish(b"1") && publisher.publish(b"2"));
    let errors = || rig.hub.status().central.store_errors.get();
    rig.run_until(|| errors() > 0).await;
    assert_eq!(publisher.acked(), Some((2, 0, 0)));
    // the task was dropped amid a try, as after a panic: it begins with a store that is opened anew
    rig.held.fails.store(false, Ordering::Relaxed);
    rig.run_until(|| publisher.acked() == Some((2, 2, 2))).await;
    assert_eq!(rig.payloads(), b"12");
}

#[tokio::test]
async fn a_commit_of_which_nobody_knows_whether_it_was_made_is_made_once() {
    let rig = Rig::new(4096);
    let publisher = rig.publisher();
    rig.held.commits_and_fails.store(true, Ordering::Relaxed);
    publisher.publish(b"1");
    rig.run_until(|| publisher.acked() == Some((1, 1, 1))).await;
    publisher.publish(b"2");
    rig.run_until(|| publisher.acked() == Some((2, 2, 2))).await;
    assert_eq!(rig.payloads(), b"12");
    assert_eq!(rig.hub.status().central.store_errors.get(), 1);
}

#[tokio::test]
async fn while_the_store_fails_publishers_are_slowed_and_nothing_is_lost() {
    let rig = Rig::new(4096);
    let publisher = rig.publisher();
    rig.held.fails.store(true, Ordering::Relaxed);
    let mut published = 0u8;
    while publisher.publish(&[published; 500]) {
        published += 1;
        assert!(published < 100, "nobody is slowed");
    }
    rig.run_until(|| rig.hub.status().central.is_failing.get() == 1).await;
    assert!(!publisher.publish(&[published; 500]), "what is read is not stored");
    rig.held.fails.store(false, Ordering::Relaxed);
    let all = u64::from(published);
    rig.run_until(|| publisher.acked().is_some_and(|(.., central)| central == all)).await;
    assert!(publisher.publish(&[published; 500]));
    let stored: Vec<u8> = rig.payloads().chunks(500).map(|chunk| chunk[0]).collect();
    assert_eq!(stored, (0..published).collect::<Vec<u8>>());
}

#[tokio::test]
async fn a_session_that_comes_later_is_stored_as_well() {
    let rig = Rig::new(4096);
    rig.hub.open_room("garden", limits()).expect("room");
    rig.keeper.note_room();
    let garden = || rig.hub.room("garden").is_some_and(|room| room.figures().peers == 1);
    rig.run_until(garden).await;
    rig.hub.close_room("garden");
    let publisher = rig.publisher();
    publisher.publish(b"1");
    rig.run_until(|| publisher.acked() == Some((1, 1, 1))).await;
}

#[tokio::test]
async fn what_was_taken_is_stored_before_the_end() {
    let rig = Rig::new(4096);
    let publisher = rig.publisher();
    publisher.publish(b"1");
    let (stopped, ()) = tokio::join!(rig.keeper.stop(Duration::from_secs(20)), rig.keeper.run());
    assert!(stopped);
    assert_eq!(rig.payloads(), b"1");
}
