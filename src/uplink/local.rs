//! A lane's place in the local session: the peer `$uplink` with the lane's name.

use std::sync::Arc;

use fastport_core::handshake::Refusal;
use fastport_core::rights::Rights;
use fastport_core::session::{Admission, Counts, Own, Publisher};
use fastport_wire::Frame;
use fastport_wire::control::{self, Control, Tier, WhenFull, features, options};

use super::rules::Rules;
use super::spool;
use crate::config::Lane;
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
}

impl Place {
    /// The place of a lane that keeps `outbox` bytes.
    #[must_use]
    pub(super) fn new(
        hub: Arc<Hub>,
        session: &str,
        rules: &Rules,
        lane: Lane,
        outbox: usize,
    ) -> Self {
        // filters of the configuration are well formed
        let rights = Rights::in_order(["#"], rules.reads(lane)).unwrap_or_default();
        let filters = rules.up_filters(lane).map(|filter| filter.as_str().into()).collect();
        Self { hub, session: session.into(), lane, rights: Arc::new(rights), filters, outbox }
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
        Ok(seat)
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
