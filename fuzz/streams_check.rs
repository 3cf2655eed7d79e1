//! What must hold for any bytes that peers send of streams, in any order with links that write and
//! are lost: the body of the fuzz target `streams`, and on a stable compiler of the test `streams` in
//! fastport-core.

use std::sync::Arc;

use fastport_core::budget::Budget;
use fastport_core::retention::Retention;
use fastport_core::rights::Rights;
use fastport_core::session::{Admission, Limits, PeerKey, Session, StreamLimits};
use fastport_core::time::{Instant, Now};
use fastport_wire::Frame;
use fastport_wire::control::{WhenFull, features};
use fastport_wire::field::MAX_BODY;

const LIMITS: Limits = Limits {
    peers: 16,
    topics: 64,
    outbox: 4096,
    payload: 1024,
    subscriptions: 8,
    open_topics: 8,
    keepalive: 0,
    linger: 60,
    gateway_linger: 600,
    stall_ms: 0,
    sealed: false,
    streams: StreamLimits { per_peer: 4, per_session: 6, size: 1 << 20, window: 8192 },
    retention: Retention { messages: 0, age_ms: 10_000, bytes: 4096 },
    when_full: WhenFull::DropOldest,
};

/// What a step's first byte says: whose it is, and what happens.
const GIVE: u8 = 0;
const WRITE: u8 = 1;
const LOSE: u8 = 2;

/// Three peers of a session.
struct Scene {
    session: Session,
    now: Now,
    peers: [PeerKey; PEERS],
    /// what their links were written and do not hold whole frames yet
    written: [Vec<u8>; PEERS],
}

/// Input: steps. Each is a byte with the peer (low two bits) and what happens (next two), and a
/// length: bytes to give that follow, or how many times 64 bytes the link writes. What links write is
/// whole frames, the budget is kept, and all of it comes back.
pub(crate) fn streams(data: &[u8]) {
    let budget = Arc::new(Budget::new(BUDGET));
    let now = Now { mono: Instant::from_millis(1000), unix_ms: 1_700_000_000_000, boot_ms: 1000 };
    let mut session = Session::new(LIMITS, Arc::clone(&budget), now.mono);
    let peers = [0, 1, 2].map(|place| attach(&mut session, now, place));
    let mut scene = Scene { session, now, peers, written: Default::default() };
    let mut rest = data;
    while let Some((&[step, length], after)) = rest.split_first_chunk::<2>() {
        rest = after;
        let place = usize::from(step & 3) % PEERS;
        match step >> 2 & 3 {
            GIVE => {
                let (bytes, after) = rest.split_at(rest.len().min(length.into()));
                rest = after;
                scene.give(place, bytes);
            }
            WRITE => scene.write(place, usize::from(length) * 64),
            LOSE => scene.lose(place),
            _ => {}
        }
        assert!(budget.used() <= budget.limit());
    }
    drop(scene);
    assert_eq!(budget.used(), 0, "all is given back");
}

impl Scene {
    fn give(&mut self, place: usize, bytes: &[u8]) {
        // what is held back for want of room is as good as not sent
        let given = self.session.handle_bytes(self.now, self.peers[place], bytes);
        if given.is_err() {
            self.lose(place);
        }
    }

    fn write(&mut self, place: usize, most: usize) {
        let Ok(output) = self.session.output(self.peers[place]) else { return self.lose(place) };
        let (length, is_last) = (output.bytes.len().min(most), output.is_last);
        let is_all = length == output.bytes.len();
        let written = &mut self.written[place];
        written.extend_from_slice(&output.bytes[..length]);
        while let Some((_, length)) = Frame::decode(written, MAX_BODY).expect("the relay's frames")
        {
            written.drain(..length);
        }
        if length > 0 {
            self.session.advance(self.peers[place], length);
        }
        if is_last && is_all {
            self.lose(place);
        }
    }

    fn lose(&mut self, place: usize) {
        self.session.detach(self.now.mono, self.peers[place]);
        self.written[place].clear();
        self.peers[place] = attach(&mut self.session, self.now, place);
    }
}

fn attach(session: &mut Session, now: Now, place: usize) -> PeerKey {
    let admission = Admission {
        identity: "".into(),
        name: "".into(),
        rights: Arc::new(Rights::everything()),
        epoch: place as u64 + 1,
        taken: 0,
        flags: features::STREAMS,
        when_full: None,
        keepalive: None,
        linger: Some(10),
        proof: None,
        own: None,
    };
    session.attach(now, admission).expect("there is room for three")
}

const PEERS: usize = 3;
/// Enough for the peers and two windows or three.
const BUDGET: usize = 128 * 1024;
