//! `[limits]`: what traffic, peers and addresses may use.

use std::time::Duration;

use fastport_wire::field::{MAX_BODY, MAX_HEAD};

use super::schema::{Fields, Reload, Visit, within};
use super::value::{Bytes, Seconds};

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// All memory that grows with traffic, together. 16 MiB: leaves a board of 64 MiB its system,
    /// and holds minutes of readings.
    pub memory: Bytes,
    /// Peers at once.
    pub peers: u32,
    /// Peers at once from one address, loopback apart; 0: no limit. A tenth of all, so that one
    /// machine that goes wrong leaves the others their places.
    pub peers_per_address: u32,
    /// Sessions at once, from configuration, credentials and peers together.
    pub sessions: u32,
    /// Links at once that have not proven who they are.
    pub handshakes: u32,
    /// The longest time from connection to WELCOME. 10 s: three round trips on a bad modem link.
    pub handshake_timeout: Duration,
    /// What may wait for one peer. 256 KiB: 4 payloads of the longest kind, or some
    /// 20 000 small readings.
    pub outbox: Bytes,
    /// The longest payload.
    pub payload: Bytes,
    /// Topics of one session.
    pub topics: u32,
    /// Subscriptions of one peer.
    pub subscriptions_per_peer: u32,
    /// Topics that one peer has open for publishing.
    pub topics_per_peer: u32,
    /// The longest time between signs of life that a peer may ask for, and the one for a peer that
    /// does not ask; 0: links are never asked.
    pub keepalive: Seconds,
    /// The longest time for which the state of a peer is held after its link is gone.
    pub linger: Seconds,
    /// The same for gateways. 30 days: an outage that nobody mends in that time is no outage.
    pub gateway_linger: Seconds,
    /// The longest time for which a link may take nothing of what waits for it. 30 s: longer than
    /// a radio link pauses, shorter than memory should be held for somebody who is gone.
    pub stall_timeout: Duration,
    /// `[limits.stream]`.
    pub stream: StreamLimits,
    /// `[limits.source]`.
    pub source: SourceLimits,
    /// `[limits.rate]`.
    pub rate: Rates,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Bytes::mib(16),
            peers: 10_000,
            peers_per_address: 1_000,
            sessions: 64,
            handshakes: 64,
            handshake_timeout: Duration::from_secs(10),
            outbox: Bytes::kib(256),
            payload: Bytes::kib(64),
            topics: 100_000,
            subscriptions_per_peer: 256,
            topics_per_peer: 4_096,
            keepalive: Seconds(60),
            linger: Seconds(60),
            gateway_linger: Seconds(30 * DAY.0),
            stall_timeout: Duration::from_secs(30),
            stream: StreamLimits::default(),
            source: SourceLimits::default(),
            rate: Rates::default(),
        }
    }
}

impl Limits {
    /// The bytes that a DATA frame has beside its payload, at most.
    pub const FRAME_OVERHEAD: Bytes = Bytes((MAX_HEAD + MAX_TOPIC_ID) as u64);
    /// The longest payload that the wire can carry.
    pub const MAX_PAYLOAD: Bytes = Bytes((MAX_BODY - MAX_TOPIC_ID) as u64);
}

impl Fields for Limits {
    fn fields(&mut self, visit: &mut dyn Visit) {
        use Reload::{Live, Restart};
        let minute = Duration::from_secs(60);
        let handshake_timeout = Duration::from_millis(100)..=5 * minute;
        visit.key("memory", Restart, &mut within(&mut self.memory, Bytes::mib(1)..=MAX_MEMORY));
        visit.key("peers", Live, &mut within(&mut self.peers, 1..=1_000_000));
        visit.key("peers_per_address", Live, &mut self.peers_per_address);
        visit.key("sessions", Live, &mut within(&mut self.sessions, 1..=10_000));
        visit.key("handshakes", Restart, &mut within(&mut self.handshakes, 1..=100_000));
        visit.key(
            "handshake_timeout",
            Live,
            &mut within(&mut self.handshake_timeout, handshake_timeout),
        );
        visit.key("outbox", Live, &mut within(&mut self.outbox, Bytes::kib(1)..=MAX_MEMORY));
        visit.key("payload", Live, &mut within(&mut self.payload, Bytes(1)..=Self::MAX_PAYLOAD));
        visit.key("topics", Live, &mut within(&mut self.topics, 1..=10_000_000));
        visit.key(
            "subscriptions_per_peer",
            Live,
            &mut within(&mut self.subscriptions_per_peer, 1..=100_000),
        );
        visit.key("topics_per_peer", Live, &mut within(&mut self.topics_per_peer, 1..=1_000_000));
        visit.key("keepalive", Live, &mut within(&mut self.keepalive, Seconds(0)..=DAY));
        visit.key("linger", Live, &mut within(&mut self.linger, Seconds(0)..=DAY));
        let gateways = Seconds(0)..=Seconds(3_650 * DAY.0);
        visit.key("gateway_linger", Live, &mut within(&mut self.gateway_linger, gateways));
        let stall = Duration::from_secs(1)..=60 * minute;
        visit.key("stall_timeout", Live, &mut within(&mut self.stall_timeout, stall));
        visit.table("stream", &mut self.stream);
        visit.table("source", &mut self.source);
        visit.table("rate", &mut self.rate);
    }
}

/// `[limits.stream]`: what streams may use, that is files on their way. What a payload may have is no
/// limit for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Streams that one peer may offer at once, and take at once.
    pub per_peer: u32,
    /// Streams that may be offered at once in a session, and taken. 64: with all of them at a stand,
    /// as many windows as the memory budget by default has room for.
    pub per_session: u32,
    /// The longest stream. 16 GiB: an image of a board's card.
    pub size: Bytes,
    /// What the relay holds for each receiver, out of `limits.memory`. 256 KiB: 5 MiB a second over
    /// a round trip of 50 ms.
    pub window: Bytes,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self { per_peer: 8, per_session: 64, size: Bytes::mib(16 * 1024), window: Bytes::kib(256) }
    }
}

impl Fields for StreamLimits {
    fn fields(&mut self, visit: &mut dyn Visit) {
        use Reload::Live;
        let window = Bytes::kib(32)..=Bytes::mib(64);
        visit.key("per_peer", Live, &mut within(&mut self.per_peer, 0..=10_000));
        visit.key("per_session", Live, &mut within(&mut self.per_session, 0..=100_000));
        visit.key("size", Live, &mut within(&mut self.size, Bytes(1)..=MAX_MEMORY));
        visit.key("window", Live, &mut within(&mut self.window, window));
    }
}

/// `[limits.source]`: what one source address may try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceLimits {
    /// Connection attempts a second, loopback apart; 0: no limit.
    pub attempts: u32,
    /// Connection attempts at once. 100: the devices behind one router come back together after a
    /// power cut.
    pub attempts_burst: u32,
    /// Failed proofs a minute, loopback too; 0: no limit. 12: nobody who mistypes notices, and a
    /// guesser has six million a year.
    pub failed_proofs: u32,
    /// Failed proofs at once.
    pub failed_proofs_burst: u32,
    /// Addresses that are remembered; about 100 bytes each.
    pub addresses: u32,
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self {
            attempts: 20,
            attempts_burst: 100,
            failed_proofs: 12,
            failed_proofs_burst: 20,
            addresses: 4_096,
        }
    }
}

impl Fields for SourceLimits {
    fn fields(&mut self, visit: &mut dyn Visit) {
        use Reload::{Live, Restart};
        let most = 1_000_000;
        visit.key("attempts", Live, &mut within(&mut self.attempts, 0..=most));
        visit.key("attempts_burst", Live, &mut within(&mut self.attempts_burst, 1..=most));
        visit.key("failed_proofs", Live, &mut within(&mut self.failed_proofs, 0..=most));
        visit.key(
            "failed_proofs_burst",
            Live,
            &mut within(&mut self.failed_proofs_burst, 1..=most),
        );
        visit.key("addresses", Restart, &mut within(&mut self.addresses, 16..=most));
    }
}

/// `[limits.rate]`: what may be published in a second. Over it a link is read more slowly, not
/// closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Of one peer.
    pub peer: Rate,
    /// Of all peers of one identity.
    pub identity: Rate,
    /// Of all peers from one address.
    pub address: Rate,
}

impl Fields for Rates {
    fn fields(&mut self, visit: &mut dyn Visit) {
        visit.table("peer", &mut self.peer);
        visit.table("identity", &mut self.identity);
        visit.table("address", &mut self.address);
    }
}

/// A rate. Without limits by default: outboxes and the memory budget protect the board, and what a
/// sensor sends is for its integrator to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Messages a second; 0: no limit.
    pub messages: u32,
    /// Bytes a second; 0: no limit.
    pub bytes: Bytes,
    /// The time for which an unused allowance is saved up: after a pause, that many seconds' worth
    /// may come at once.
    pub burst: Duration,
}

impl Default for Rate {
    fn default() -> Self {
        Self { messages: 0, bytes: Bytes(0), burst: Duration::from_secs(2) }
    }
}

impl Fields for Rate {
    fn fields(&mut self, visit: &mut dyn Visit) {
        let burst = Duration::from_millis(100)..=Duration::from_secs(3_600);
        visit.key("messages", Reload::Live, &mut self.messages);
        visit.key("bytes", Reload::Live, &mut within(&mut self.bytes, Bytes(0)..=MAX_MEMORY));
        visit.key("burst", Reload::Live, &mut within(&mut self.burst, burst));
    }
}

/// A topic id is a LEB128 number of at most 32 bits.
const MAX_TOPIC_ID: usize = 5;
/// More than any board has; keeps sums of sizes far from overflow.
const MAX_MEMORY: Bytes = Bytes(1 << 40);
const DAY: Seconds = Seconds(86_400);
