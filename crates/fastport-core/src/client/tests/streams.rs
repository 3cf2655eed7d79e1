//! Two clients, a session between them, and a stream over links that are cut at any byte.

use alloc::vec;
use alloc::vec::Vec;

use fastport_wire::control::features;
use fastport_wire::field::MAX_CHUNK;
use proptest::prelude::*;

use super::super::requests::Past;
use super::super::{ChunkError, NewOffer, Options};
use super::{Rig, at, options, session};
use crate::session::Session;
use crate::time::Now;

/// What a client is told of streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Offered(u32),
    Withdrawn(u32),
    Chunk { id: u32, offset: u64, bytes: Vec<u8> },
    Taken { stream: u32, offset: u64 },
    HasAll,
    Lost,
}

/// The two programs, as they would be.
struct Programs {
    sender: Rig,
    receiver: Rig,
    /// the sender's part: where the relay says that the receiver is
    part: Option<u32>,
    /// the receiver's stream
    taken: Option<u32>,
    have: Vec<u8>,
    is_delivered: bool,
}

fn file() -> Vec<u8> {
    (0..SIZE).map(|place| u8::try_from(place % 251).expect("below 251")).collect()
}

impl Programs {
    fn new(session: &mut Session, now: Now) -> Self {
        let options = |epoch| Options { flags: features::STREAMS, ..options(epoch, "") };
        let (mut sender, mut receiver) = (Rig::new(options(1)), Rig::new(options(2)));
        for rig in [&mut sender, &mut receiver] {
            rig.connect(now);
            rig.settle(session, now);
        }
        receiver.client.subscribe("f", 0, Past::default());
        let offer = NewOffer {
            topic: "f".into(),
            name: None,
            size: SIZE,
            digest: None,
            flags: 0,
            data: None,
        };
        sender.client.offer(offer);
        let (part, taken) = (None, None);
        Self { sender, receiver, part, taken, have: Vec::new(), is_delivered: false }
    }

    fn work(&mut self) {
        for told in core::mem::take(&mut self.receiver.streams) {
            match told {
                Told::Offered(id) => {
                    self.taken = Some(id);
                    if self.have.len() as u64 == SIZE {
                        self.receiver.client.has_all(id, SIZE);
                    } else {
                        self.receiver.client.accept(id, self.have.len() as u64);
                        self.receiver.client.grant(id, WINDOW);
                    }
                }
                Told::Chunk { id, offset, bytes } => {
                    assert_eq!(self.taken, Some(id));
                    assert_eq!(offset, self.have.len() as u64, "in order and without holes");
                    self.have.extend(&bytes);
                    self.receiver.client.grant(id, bytes.len() as u64);
                    if self.have.len() as u64 == SIZE {
                        self.receiver.client.has_all(id, SIZE);
                    }
                }
                // the next offer may come before the last is withdrawn
                Told::Withdrawn(id) if self.taken != Some(id) => {}
                Told::Withdrawn(_) | Told::Lost => self.taken = None,
                Told::Taken { .. } | Told::HasAll => panic!("it offers nothing"),
            }
        }
        for told in core::mem::take(&mut self.sender.streams) {
            match told {
                Told::Taken { stream, offset } => {
                    assert!(offset <= self.have.len() as u64);
                    self.part = Some(stream);
                }
                Told::HasAll => self.is_delivered = true,
                Told::Lost => self.part = None,
                _ => {}
            }
        }
        if let Some(stream) = self.part {
            self.send(stream);
        }
    }

    fn send(&mut self, stream: u32) {
        let client = &mut self.sender.client;
        while let Some(room) = client.part_room(stream).filter(|room| room.length > 0) {
            let from = usize::try_from(room.at).expect("a small file");
            let length = room.length.min(MAX_CHUNK).min(5000);
            let bytes = &file()[from..from + length];
            let last = room.at + length as u64 == SIZE;
            assert_eq!(client.send_chunk(stream, bytes, last, false), Ok(()), "there is room");
            let more = vec![0; MAX_CHUNK + 1];
            let refused = client.send_chunk(stream, &more, false, false);
            assert_eq!(refused, Err(ChunkError::NotNow));
        }
    }
}

proptest! {
    /// However the bytes trickle and whichever link is cut: the file arrives, whole.
    #[test]
    fn a_stream_arrives_over_links_that_are_cut(
        steps in proptest::collection::vec((0u8..8, 1usize..30_000, 1usize..30_000), 0..120),
    ) {
        let now = at(0);
        let mut session = session(now);
        let mut programs = Programs::new(&mut session, now);
        for (what, up, down) in steps {
            let Programs { sender, receiver, .. } = &mut programs;
            for rig in [&mut *sender, &mut *receiver] {
                if !rig.is_linked() {
                    rig.connect(now);
                }
            }
            match what {
                0 => sender.cut(&mut session, now),
                1 => receiver.cut(&mut session, now),
                2 | 3 => sender.pump(&mut session, now, up, down),
                4 | 5 => receiver.pump(&mut session, now, up, down),
                _ => {
                    sender.pump(&mut session, now, up, down);
                    receiver.pump(&mut session, now, up, down);
                }
            }
            programs.work();
        }
        for _ in 0..400 {
            let Programs { sender, receiver, .. } = &mut programs;
            for rig in [&mut *sender, &mut *receiver] {
                if !rig.is_linked() {
                    rig.connect(now);
                }
                rig.pump(&mut session, now, usize::MAX, usize::MAX);
            }
            programs.work();
        }
        prop_assert!(programs.have == file(), "{} of {SIZE} bytes", programs.have.len());
        prop_assert!(programs.is_delivered);
        prop_assert_eq!(session.figures().streams.flows, 0);
    }
}

const SIZE: u64 = 200_000;
const WINDOW: u64 = 20_000;
