//! A lane's place in the local session: the peer `$uplink` with the lane's name.

use std::sync::Arc;
use std::time::Duration;

use fastport_core::handshake::Refusal;
use fastport_core::rights::Rights;
use fastport_core::session::{Admission, Counts, Own, Policy, Publisher};
use fastport_wire::control::{self, Control, Tier, WhenFull, features, options};
use fastport_wire::{Frame, Topic};

use super::rules::Rules;
use super::run::millis;
use super::spool;
use crate::config::{self, Lane, WhenSpoolFull};
use crate::hub::{Hub, Seat};

/// See the module's text.
#[derive(Clone)]
pub(super) struct Place {
    hub: Arc<Hub>,
    session: Box<str>,
    lane: Lane,
    rights: Arc<Rights>,
    filters: Arc<[Box<str>]>,
    outbox: usize,
    keeps: Keeps,
}

/// What of the lane's messages is kept.
#[derive(Clone)]
struct Keeps {
    /// When memory is full, by topics; none for a lane whose messages go to the disk: until they are
    /// there, publishers wait.
    policy: Option<Policy>,
    rules: Arc<Rules>,
    /// Where a rule says nothing.
    max_age: Duration,
}

/// What happens to a topic's messages when a lane's memory is full.
fn policy(rules: &Arc<Rules>) -> Policy {
    let rules = Arc::clone(rules);
    Arc::new(move |topic| match Topic::parse(topic).map(|topic| rules.when_full(topic)) {
        Ok(WhenSpoolFull::DropOldest) => WhenFull::DropOldest,
        Ok(WhenSpoolFull::Latest) => WhenFull::Latest,
        _ => WhenFull::Hold,
    })
}

impl Place {
    /// The place of a lane whose memory is `spool`'s; `has_disk`: what memory has no room for goes there.
    #[must_use]
    pub(super) fn new(
        hub: Arc<Hub>,
        session: &str,
        rules: &Arc<Rules>,
        lane: Lane,
        (spool, has_disk): (&config::Spool, bool),
    ) -> Self {
        let outbox = spool.memory.as_usize();
        let keeps = Keeps {
            policy: (!has_disk).then(|| policy(rules)),
            rules: Arc::clone(rules),
            max_age: spool.max_age,
        };
        // filters of the configuration are well formed
        let rights = Rights::in_order(["#"], rules.reads(lane)).unwrap_or_default();
        let filters = rules.up_filters(lane).map(|filter| filter.as_str().into()).collect();
        let (session, rights) = (session.into(), Arc::new(rights));
        Self { hub, session, lane, rights, filters, outbox, keeps }
    }

    /// The hub.
    #[must_use]
    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Bytes that the lane keeps in memory.
    #[must_use]
    pub(super) fn outbox(&self) -> usize {
        self.outbox
    }

    /// Says that the central instance has a publisher's messages up to `count`.
    pub(super) fn confirm(&self, publisher: &Publisher, count: u64) {
        if let Some(room) = self.hub.room(&self.session) {
            room.confirm((IDENTITY, self.lane.name()), publisher, Tier::Central, count);
        }
    }

    /// As [`Place::confirm`], as the spool names publishers.
    pub(super) fn confirm_row(&self, publisher: &spool::Publisher, count: u64) {
        let publisher = Publisher {
            identity: publisher.identity.as_str().into(),
            name: publisher.name.as_str().into(),
            epoch: publisher.epoch,
        };
        self.confirm(&publisher, count);
    }

    /// Makes safe from a loss of power what the session has: what goes to the disk must not be known
    /// there only.
    ///
    /// # Errors
    /// The disk's.
    pub(super) async fn sync(&self) -> std::io::Result<()> {
        match self.hub.room(&self.session) {
            Some(room) => room.sync_journal().await,
            None => Ok(()),
        }
    }

    /// The longest payload of the session.
    #[must_use]
    pub(super) fn payload_limit(&self) -> usize {
        self.hub.room(&self.session).map_or(0, |room| room.payload_max())
    }

    /// Whether the session takes sealed payloads only.
    #[must_use]
    pub(super) fn is_sealed(&self) -> bool {
        self.hub.room(&self.session).is_some_and(|room| room.is_sealed())
    }

    /// How far the lane is, with a link or without; `None`: it was never there.
    #[must_use]
    pub(super) fn counts(&self) -> Option<Counts> {
        self.hub.room(&self.session)?.counts(IDENTITY, self.lane.name())
    }

    /// Takes the place: what follows what the lane has acknowledged comes from the seat.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(super) fn enter(&self, random: u64) -> Result<Seat, Refusal> {
        let known = self.counts();
        let admission = Admission {
            identity: IDENTITY.into(),
            name: self.lane.name().into(),
            rights: Arc::clone(&self.rights),
            epoch: known.map_or(random, |counts| counts.epoch),
            taken: known.map_or(0, |counts| counts.acked),
            flags: features::TIME,
            when_full: Some(WhenFull::Hold),
            keepalive: Some(0),
            linger: None,
            proof: None,
            own: Some(Own { outbox: self.outbox }),
        };
        let seat = self.hub.attach(&self.session, admission)?;
        seat.make_member(Tier::Central);
        if let Some(policy) = &self.keeps.policy {
            seat.set_policy(Arc::clone(policy));
        }
        Ok(seat)
    }

    /// Lets go of what has waited in memory for longer than its rule wants; how far the lane is then.
    pub(super) fn expire(&self) -> Option<Counts> {
        let room = self.hub.room(&self.session)?;
        let Keeps { rules, max_age, .. } = &self.keeps;
        let mut max_age = |topic: &str| {
            let carried = Topic::parse(topic).ok().and_then(|topic| rules.up(topic));
            let own = carried.and_then(|carried| carried.rule.max_age);
            millis(own.unwrap_or(*max_age))
        };
        room.expire((IDENTITY, self.lane.name()), &mut max_age)
    }

    /// Makes the place where there is none, and has the session note what the lane reads: from then
    /// on that is kept for it, link or no link.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(super) fn settle(&self, random: u64) -> Result<(), Refusal> {
        let seat = self.enter(random)?;
        let mut bytes = Vec::new();
        for (request, filter) in (1..).zip(self.filters.iter()) {
            let flags = Some(options::NO_LOCAL | options::NO_LAST);
            let subscribe =
                control::Subscribe { request, topic: filter, flags, ..Default::default() };
            push(&mut bytes, &subscribe.into());
        }
        // even a lane that reads nothing has to say something, to be remembered
        let status = control::Unsubscribe { request: NO_FILTER, topic: "-", ..Default::default() };
        push(&mut bytes, &status.into());
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let Ok(taken) = seat.handle_bytes(rest) else { break };
            if taken.progress.consumed == 0 {
                break;
            }
            rest = rest.get(taken.progress.consumed..).unwrap_or_default();
        }
        Ok(())
    }
}

fn push(bytes: &mut Vec<u8>, message: &Control<'_>) {
    let mut body = [0; control::BODY_ROOM];
    // a filter has at most 255 bytes
    let length = message.encode(&mut body).unwrap_or_default();
    let frame = Frame::Control(body.get(..length).unwrap_or_default());
    let at = bytes.len();
    bytes.resize(at + frame.encoded_len(), 0);
    let length = frame.encode(bytes.get_mut(at..).unwrap_or_default()).unwrap_or_default();
    bytes.truncate(at + length);
}

/// Whose the lanes are.
pub const IDENTITY: &str = "$uplink";
/// The request that unsubscribes from nothing.
const NO_FILTER: u32 = u32::MAX;
