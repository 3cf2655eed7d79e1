//! What must hold for any bytes that are taken for a session's journal: the body of the fuzz target
//! `journal`, and on a stable compiler of the test `journal` in fastport-core.

use std::sync::Arc;

use fastport_core::budget::Budget;
use fastport_core::retention::Retention;
use fastport_core::rights::Rights;
use fastport_core::session::{Limits, Session, StreamLimits};
use fastport_core::time::Instant;
use fastport_wire::control::WhenFull;

/// Limits of a small session.
pub(crate) const LIMITS: Limits = Limits {
    peers: 16,
    topics: 64,
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
    retention: Retention { messages: 4, age_ms: 10_000, bytes: 4096 },
    when_full: WhenFull::DropOldest,
};

/// Input: records. They are applied up to the first that makes no sense; what that gives is a session
/// within its budget, that another is made from by its own snapshot, and that leaves nothing behind.
pub(crate) fn journal(data: &[u8]) {
    let budget = Arc::new(Budget::new(BUDGET));
    let now = Instant::from_millis(1000);
    let (first, _) = restore(&budget, now, data);
    let mut snapshot = Vec::new();
    let (mut first, peers) = first;
    let copied = first.snapshot(|piece| {
        snapshot.extend_from_slice(piece);
        Ok::<_, ()>(())
    });
    assert_eq!(copied, Ok(()));
    let other = Arc::new(Budget::new(2 * BUDGET));
    let ((second, again), is_sound) = restore(&other, now, &snapshot);
    assert!(is_sound, "a snapshot is a journal");
    assert_eq!(again, peers);
    let (one, two) = (first.figures(), second.figures());
    assert_eq!((one.lingering, one.topics), (two.lingering, two.topics));
    assert!(budget.used() <= budget.limit());
    for (mut session, budget) in [(first, budget), (second, other)] {
        session.handle_timeout(Instant::from_millis(u64::MAX / 8));
        drop(session);
        assert_eq!(budget.used(), 0);
    }
}

fn restore(budget: &Arc<Budget>, now: Instant, records: &[u8]) -> ((Session, usize), bool) {
    let mut session = Session::new(LIMITS, Arc::clone(budget), now);
    let everything = Arc::new(Rights::everything());
    let mut rights = |identity: &str| (identity != "gone").then(|| Arc::clone(&everything));
    let (restored, applied) = session.restore(now, records, &mut rights);
    ((session, restored.peers), applied.is_ok())
}

const BUDGET: usize = 256 * 1024;
