//! All of a session's state as records.

use alloc::vec::Vec;

use super::record::Record;
use crate::session::peer::{Link, Peer};
use crate::session::{Note, Session};

impl Session {
    /// Writes all that the journal is about, in pieces of some 64 KiB; they make sense together only.
    ///
    /// # Errors
    /// Those of `write`, which is then not called again.
    pub fn snapshot<E>(&mut self, mut write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut out = Vec::new();
        let mut flush = |out: &mut Vec<u8>, least: usize| {
            if out.len() <= least {
                return Ok(());
            }
            let written = write(out);
            out.clear();
            written
        };
        Record::Ids { count: self.topics.ids() }.encode(&mut out);
        for (id, topic) in self.topics.iter() {
            let schema = topic.schema().unwrap_or_default();
            Record::Topic { id, name: &topic.name, schema }.encode(&mut out);
            if let Some(last) = topic.log().and_then(|log| log.last()) {
                let (unix_ms, frame) = (last.unix_ms, last.frames);
                Record::Keep { topic: id, unix_ms, frame }.encode(&mut out);
            }
            flush(&mut out, PIECE)?;
        }
        let indexes = || 0..u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
        let lasting: Vec<u32> =
            indexes().filter(|&index| self.at(index).is_some_and(Peer::is_lasting)).collect();
        for &index in &lasting {
            self.push_peer(index, &mut out);
            flush(&mut out, PIECE)?;
            self.push_state(index, &mut out);
            flush(&mut out, PIECE)?;
        }
        // publishers that they name are there by now
        for &index in &lasting {
            self.push_marks(index, &mut out);
            flush(&mut out, PIECE)?;
        }
        flush(&mut out, 0)
    }

    fn push_peer(&self, index: u32, out: &mut Vec<u8>) {
        let Some(peer) = self.at(index) else { return };
        Record::Peer(peer.to_record(index)).encode(out);
        if peer.is_known {
            Record::Known { peer: index }.encode(out);
        }
        if let Some(tiers) = peer.tiers.as_ref().filter(|tiers| tiers.note != Note::default()) {
            Record::Note { peer: index, note: tiers.note }.encode(out);
        }
        for &id in &peer.open_topics {
            Record::Open { peer: index, id }.encode(out);
        }
        for subscription in peer.cold.subscriptions.as_slice() {
            if let Some(filter) = subscription.filter(&self.topics) {
                let (filter, no_local) = (filter.as_str(), subscription.no_local);
                Record::Subscribe { peer: index, no_local, filter }.encode(out);
            }
        }
        for &(_, tier) in self.members.iter().filter(|&&(member, _)| member == index) {
            Record::Member { peer: index, tier }.encode(out);
        }
    }

    /// How far a peer is, and what it has still to get.
    pub(super) fn push_state(&mut self, index: u32, out: &mut Vec<u8>) {
        let Self { peers, buffers, ledger, .. } = self;
        let peer = peers.get_mut(index as usize).and_then(|slot| slot.peer.as_mut());
        let Some(peer) = peer else { return };
        peer.outbox.settle_all(buffers, ledger);
        Record::Counts(peer.to_counts(index)).encode(out);
        for (topic, cause, count) in peer.said() {
            Record::Said { peer: index, topic, cause, count }.encode(out);
        }
        if !peer.must_not_lose() {
            return;
        }
        let mut frames = Vec::new();
        peer.outbox.visit_kept(|frame| {
            if frames.len() + frame.len() > PIECE && !frames.is_empty() {
                Record::Pushed { peer: index, frames: &frames }.encode(out);
                frames.clear();
            }
            frames.extend_from_slice(frame);
        });
        if !frames.is_empty() {
            Record::Pushed { peer: index, frames: &frames }.encode(out);
        }
        // while it has a link, that is not known for long
        if let Some(tiers) = peer.tiers.as_ref().filter(|_| peer.is_own)
            && matches!(peer.link, Link::Lingering { .. })
        {
            Record::Sent { peer: index, count: tiers.sent }.encode(out);
        }
    }

    fn push_marks(&self, index: u32, out: &mut Vec<u8>) {
        let Some(tiers) = self.at(index).and_then(|peer| peer.tiers.as_ref()) else { return };
        let is_here = |publisher: u32, serial: u64| {
            let peer = self.at(publisher).filter(|peer| peer.is_lasting());
            peer.is_some_and(|peer| peer.cold.serial == serial)
        };
        for mark in tiers.marks.iter().filter(|mark| is_here(mark.publisher, mark.serial)) {
            let (publisher, tier) = (mark.publisher, mark.tier);
            let (at, length, count) = (mark.at, mark.length, mark.count);
            Record::Mark { peer: index, publisher, tier, at, length, count }.encode(out);
        }
        for handed in tiers.handed.iter().filter(|it| is_here(it.publisher, it.serial)) {
            let (publisher, from, to) = (handed.publisher, handed.from, handed.to);
            Record::Handed { peer: index, publisher, from, to }.encode(out);
        }
    }
}

/// What is written at once: a snapshot is not in memory as a whole.
const PIECE: usize = 64 * 1024;
