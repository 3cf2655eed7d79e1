//! One session behind its lock, its peers' wakers, and its timer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use fastport_core::budget::Budget;
use fastport_core::rights::Rights;
use fastport_core::session::{
    Admission, AttachError, Counts, Figures, Limits, PeerKey, PublishError, Publisher, Session,
};
use fastport_core::time::{Instant, Now};
use fastport_wire::control::{ByeReason, Tier};
use fastport_wire::frame::{DataFlags, GapCause};
use serde_json::json;
use tokio::sync::Notify;

use super::journal::Journal;
use crate::clock::Clock;
use crate::status::Status;

/// A session.
#[derive(Debug)]
pub struct Room {
    name: Box<str>,
    inner: Mutex<Inner>,
    clock: Clock,
    status: Arc<Status>,
    /// tells the timer's task that it sleeps too long
    sooner: Notify,
    /// tells who waits for a peer that one has come
    arrivals: Notify,
    /// the session has ended; its peers may not know yet
    is_closed: AtomicBool,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) session: Session,
    /// by the peers' index: whose link it is, and how it is woken
    wakers: Vec<Option<(PeerKey, Waker)>>,
    /// when the timer's task wakes up by itself
    armed: Option<Instant>,
    pub(super) journal: Option<Journal>,
}

impl Room {
    pub(super) fn new(
        name: &str,
        limits: Limits,
        budget: Arc<Budget>,
        clock: Clock,
        status: Arc<Status>,
    ) -> Arc<Self> {
        let session = Session::new(limits, budget, clock.mono());
        let inner = Inner { session, wakers: Vec::new(), armed: None, journal: None };
        Arc::new(Self {
            name: name.into(),
            inner: Mutex::new(inner),
            clock,
            status,
            sooner: Notify::new(),
            arrivals: Notify::new(),
            is_closed: AtomicBool::new(false),
        })
    }

    /// The session's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The daemon's counters.
    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// The session's figures.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.lock().session.figures()
    }

    /// Applies other limits.
    pub fn set_limits(&self, limits: Limits) {
        self.with(|session| session.set_limits(limits));
    }

    /// Publishes a message of the daemon's own.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn publish_own(
        &self,
        topic: &str,
        schema: Option<&[u8]>,
        flags: DataFlags,
        payload: &[u8],
    ) -> Result<(), PublishError> {
        let now = self.clock.now();
        self.with(|session| session.publish_own(now, topic, schema, flags, payload))
    }

    /// Waits until a peer is there.
    ///
    /// Cancel-safe: it changes nothing.
    pub async fn occupied(&self) {
        loop {
            // before the look: who comes in between is not missed
            let arrival = self.arrivals.notified();
            if self.figures().peers > 0 {
                return;
            }
            arrival.await;
        }
    }

    /// Runs the session's timer until the session ends.
    ///
    /// Cancel-safe: what was due and not done is done when it runs again.
    pub async fn run_timer(&self) {
        while !self.is_closed.load(Ordering::Relaxed) {
            let next = {
                let mut inner = self.lock();
                let retry = Self::journal_retry(&inner);
                let next = inner.session.next_timeout().into_iter().chain(retry).min();
                inner.armed = next;
                next
            };
            let due = async {
                match next {
                    Some(next) => tokio::time::sleep_until(self.clock.at(next)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {
                    self.with(|session| session.handle_timeout(self.clock.mono()));
                    self.retry_journal();
                }
                () = self.sooner.notified() => {}
            }
        }
    }

    /// Tells all peers but the daemon's own parts why their links are closed, and closes them.
    pub fn close_guests(
        &self,
        reason: ByeReason,
        retry_ms: &mut dyn FnMut(&Rights) -> Option<u32>,
    ) {
        self.with(|session| session.close_guests(reason, retry_ms));
    }

    /// Ends all peers of an identity that is no more.
    pub fn remove_identity(&self, identity: &str) {
        self.with(|session| session.remove_identity(identity));
    }

    /// Ends the session: its peers are told why, and lose their links.
    pub(super) fn close(&self, reason: ByeReason) {
        // first: who comes in after the others were told finds it set
        self.is_closed.store(true, Ordering::Relaxed);
        self.with(|session| session.close_all(reason, None));
        self.end_journal();
        self.sooner.notify_one();
    }

    /// Has the timer's task look when to wake up.
    pub(super) fn wake_timer(&self) {
        self.sooner.notify_one();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// The most bytes that a payload may have.
    #[must_use]
    pub fn payload_max(&self) -> usize {
        self.lock().session.limits().payload
    }

    /// Whether payloads must be sealed.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        self.lock().session.limits().sealed
    }

    pub(super) fn attach(&self, now: Now, admission: Admission) -> Result<PeerKey, AttachError> {
        let key = self.with(|session| session.attach(now, admission))?;
        self.arrivals.notify_waiters();
        Ok(key)
    }

    pub(super) fn detach(&self, key: PeerKey) {
        let now = self.clock.mono();
        let mut inner = self.lock();
        if let Some(place) = inner.wakers.get_mut(key.index()) {
            // a link that took this one's place has registered already, and stays
            place.take_if(|(whose, _)| *whose == key);
        }
        inner.session.detach(now, key);
        self.settle(&mut inner, None);
    }

    /// How far the peer of that identity and name is, with a link or without; see
    /// [`Session::counts`].
    #[must_use]
    pub fn counts(&self, identity: &str, name: &str) -> Option<Counts> {
        self.lock().session.counts(identity, name)
    }

    /// Lets go of what has waited too long for one of the daemon's own parts, with a link or without; see
    /// [`Session::expire`]. How far it is then.
    pub fn expire(
        &self,
        (identity, name): (&str, &str),
        max_age: &mut dyn FnMut(&str) -> u64,
    ) -> Option<Counts> {
        let now = self.clock.mono();
        self.with(|session| {
            let key = session.key(identity, name)?;
            session.expire(now, key, max_age);
            session.counts_of(key)
        })
    }

    /// Says for a member, with a link or without, that `tier` holds a publisher's frames up to
    /// `count`; see [`Session::confirm`].
    pub fn confirm(
        &self,
        (identity, name): (&str, &str),
        publisher: &Publisher,
        tier: Tier,
        count: u64,
    ) {
        self.with(|session| {
            if let Some(key) = session.key(identity, name) {
                session.confirm(key, publisher, tier, count);
            }
        });
    }

    pub(super) fn make_member(&self, key: PeerKey, tier: Tier) {
        self.with(|session| session.make_member(key, tier));
    }

    pub(super) fn now(&self) -> Now {
        self.clock.now()
    }

    /// Notes whom to wake for a peer.
    pub(super) fn register(&self, key: PeerKey, waker: &Waker) {
        let mut inner = self.lock();
        let index = key.index();
        if index >= inner.wakers.len() {
            inner.wakers.resize(index + 1, None);
        }
        let Some(place) = inner.wakers.get_mut(index) else { return };
        match place {
            Some((whose, known)) if *whose == key && known.will_wake(waker) => {}
            _ => *place = Some((key, waker.clone())),
        }
    }

    /// Works on the session, then wakes the peers that have something to do.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Session) -> T) -> T {
        let mut inner = self.lock();
        let done = work(&mut inner.session);
        self.settle(&mut inner, None);
        done
    }

    /// Takes the session's lock and keeps it for so long.
    #[cfg(feature = "faults")]
    pub fn hold_for(&self, time: std::time::Duration) {
        let _held = self.lock();
        let until = std::time::Instant::now() + time;
        while let Some(left) = until.checked_duration_since(std::time::Instant::now()) {
            std::thread::park_timeout(left);
        }
    }

    /// Takes the session's lock and keeps it: what a deadlock comes to.
    #[cfg(feature = "faults")]
    pub fn hold_for_ever(&self) {
        let _held = self.lock();
        loop {
            std::thread::park();
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // a panic in core is a bug, but the session's tables are whole between its steps
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the peers that have something to do, but for the one that is `awake` and looks anyhow.
    pub(super) fn settle(&self, inner: &mut Inner, awake: Option<PeerKey>) {
        if inner.journal.is_some() {
            self.write_journal(inner);
        }
        let awake = awake.map(PeerKey::index);
        while let Some(index) = inner.session.poll_wake() {
            if Some(index) == awake {
                continue;
            }
            if let Some((_, waker)) = inner.wakers.get(index).and_then(Option::as_ref) {
                waker.wake_by_ref();
            }
        }
        let next = inner.session.next_timeout();
        if next.is_some_and(|next| inner.armed.is_none_or(|armed| next < armed)) {
            inner.armed = next;
            self.sooner.notify_one();
        }
    }

    pub(super) fn figures_json(&self) -> serde_json::Value {
        let figures = self.figures();
        let Figures { peers, lingering, forgotten, topics, retained, evicted, ledger, streams } =
            figures;
        let dropped: serde_json::Map<_, _> = GapCause::ALL
            .into_iter()
            .zip(ledger.dropped)
            .filter(|&(_, count)| count > 0)
            .map(|(cause, count)| (cause.name().to_owned(), count.into()))
            .collect();
        json!({
            "peers": peers,
            "lingering": lingering,
            "forgotten": forgotten,
            "topics": topics,
            "retained": retained,
            "evicted": evicted,
            "published": ledger.published,
            "reported": ledger.reported,
            "routed": ledger.routed,
            "delivered": ledger.delivered,
            "queued": ledger.queued(),
            "dropped": dropped,
            "streams": {
                "offered": streams.offers,
                "under_way": streams.flows,
                "begun": streams.begun,
                "completed": streams.completed,
                "cancelled": streams.cancelled,
                "refused": streams.refused,
                "bytes": streams.bytes,
            },
            "journal_failing": self.lock().session.is_frozen(),
        })
    }
}
