//! Members: readers that keep what they read, or send it on. Their ACKs are what publishers mean when
//! they wait for more than the relay's memory.

use alloc::vec::Vec;

use fastport_wire::TopicId;
use fastport_wire::control::{Tier, features};

use super::own::Publisher;
use super::peer::{Cold, Handed, Mark, Peer, Tiers};
use super::{PeerKey, Session};

/// What a member was handed: with the first `at` counted frames of its epoch it has the first
/// `count` of the publisher's, as far as they are for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spooled {
    /// Whose frames.
    pub publisher: Publisher,
    /// How far, by the publisher's count.
    pub count: u64,
    /// How far, by the member's.
    pub at: u64,
}

impl Session {
    /// Says that a reader keeps what it reads, or sends it on: its ACKs speak for `tier`. It should
    /// hold ([`fastport_wire::control::WhenFull::Hold`]) and linger: what it drops, or leaves behind
    /// when its state ends, is in the ledger, but is not held back from its publishers' counts.
    pub fn make_member(&mut self, key: PeerKey, tier: Tier) {
        if self.peer_mut(key).is_ok() && !self.members.contains(&(key.index, tier)) {
            self.members.push((key.index, tier));
            self.record_member(key.index, tier);
        }
    }

    /// Notes what each member has before a run goes out.
    pub(super) fn note_before_run(&mut self) {
        for at in 0..self.members.len() {
            let Some(&(member, _)) = self.members.get(at) else { break };
            if let Some(peer) = self.at_mut(member) {
                peer.tiers_mut().counted_before = peer.outbox.counted_total();
            }
        }
    }

    /// Notes at each member that got the run what its commit will mean to the publisher.
    pub(super) fn mark_members(&mut self, from: u32, id: TopicId, messages: u32) {
        let length = u64::from(messages);
        let Some(publisher) = self.at(from) else { return };
        let (count, serial) = (publisher.taken, publisher.cold.serial);
        for place in 0..self.members.len() {
            let Some(&(member, tier)) = self.members.get(place) else { break };
            let reads = self.topics.get(id).is_some_and(|topic| topic.is_read_by(member));
            let Some(peer) = self.at_mut(member).filter(|_| reads) else { continue };
            let at = peer.outbox.counted_total();
            let got = at - peer.tiers_mut().counted_before;
            let mark = Mark { at, length, count, publisher: from, serial, tier };
            if got == length {
                peer.push_mark(mark);
            } else if got == 0 && member != from && self.lets_go_of(member, id) {
                self.note_over(member, Mark { length: 0, ..mark });
            }
            // else not for it, or dropped and booked
        }
    }

    /// A publisher's frames are dropped: what it waits for is over once those before them are where they
    /// have to be.
    fn note_over(&mut self, member: u32, mark: Mark) {
        self.record_over(member, &mark);
        self.push_over(member, mark);
    }

    /// As [`Session::note_over`], also while a journal is read.
    pub(super) fn push_over(&mut self, member: u32, mark: Mark) {
        let Some(peer) = self.at_mut(member) else { return };
        peer.push_mark(mark);
        self.end_waits(member);
    }

    /// A member has committed the first `count` counted frames of its epoch.
    pub(super) fn commit(&mut self, member: u32, count: u64) {
        let mut publishers = Vec::new();
        while let Some((mark, held)) = self.at_mut(member).and_then(|peer| peer.take_mark(count)) {
            if self.note_held(mark.publisher, mark.serial, mark.tier, held) {
                publishers.push(mark.publisher);
            }
        }
        publishers.sort_unstable();
        publishers.dedup();
        publishers.into_iter().for_each(|publisher| self.send_ack(publisher));
    }

    /// Hands a member what its ACKs of the first `count` counted frames of its epoch would have said
    /// of the central instance: it moves the frames to where they outlive the session, acknowledges
    /// them, and says [`Session::confirm`] once they are at the central instance.
    pub fn take_marks(&mut self, key: PeerKey, count: u64) -> Vec<Spooled> {
        if self.peer_mut(key).is_err() {
            return Vec::new();
        }
        self.record_take(key.index, count);
        let taken = self.hand_over(key.index, count);
        taken.iter().filter_map(|mark| self.to_spooled(mark)).collect()
    }

    /// Takes a member's marks for the central instance up to `count`, and notes that it has them.
    pub(super) fn hand_over(&mut self, member: u32, count: u64) -> Vec<Mark> {
        let mut taken = Vec::new();
        let Some(tiers) = self.at_mut(member).and_then(|peer| peer.tiers.as_mut()) else {
            return taken;
        };
        tiers.marks.retain_mut(|mark| {
            let Some(part) = mark.split(count).filter(|_| mark.tier == Tier::Central) else {
                return true;
            };
            let is_whole = part.at == mark.at;
            mark.length = mark.at - part.at;
            taken.push(part);
            !is_whole
        });
        self.note_handed(member, &taken);
        taken
    }

    /// What [`Session::take_marks`] would hand out, which stays where it is.
    #[must_use]
    pub fn marks(&self, key: PeerKey, count: u64) -> Vec<Spooled> {
        let slot = self.peers.get(key.index()).filter(|slot| slot.generation == key.generation);
        let tiers = slot.and_then(|slot| slot.peer.as_ref()?.tiers.as_ref());
        let marks = tiers.into_iter().flat_map(|tiers| tiers.marks.iter());
        let of_central = marks.filter(|mark| mark.tier == Tier::Central);
        of_central
            .filter_map(|mark| mark.split(count))
            .filter_map(|mark| self.to_spooled(&mark))
            .collect()
    }

    /// Notes at a member what it was handed: it counts as missing until it is confirmed.
    fn note_handed(&mut self, member: u32, marks: &[Mark]) {
        let Some(peer) = self.at_mut(member) else { return };
        let mut handed = core::mem::take(&mut peer.tiers_mut().handed);
        // whose publishers are gone nobody asks for
        let is_here = |publisher: u32, serial: u64| {
            self.at(publisher).is_some_and(|peer| peer.cold.serial == serial)
        };
        handed.retain(|handed| is_here(handed.publisher, handed.serial));
        for mark in marks.iter().filter(|mark| is_here(mark.publisher, mark.serial)) {
            match handed.binary_search_by_key(&mark.publisher, |known| known.publisher) {
                Ok(place) => {
                    if let Some(known) = handed.get_mut(place) {
                        known.to = mark.count;
                    }
                }
                Err(place) => {
                    let &Mark { publisher, serial, count, length, .. } = mark;
                    let from = count - length;
                    handed.insert(place, Handed { publisher, serial, from, to: count });
                }
            }
        }
        if let Some(peer) = self.at_mut(member) {
            peer.tiers_mut().handed = handed;
        }
    }

    fn to_spooled(&self, mark: &Mark) -> Option<Spooled> {
        let peer = self.at(mark.publisher).filter(|peer| peer.cold.serial == mark.serial)?;
        let Cold { identity, name, epoch, .. } = &*peer.cold;
        let publisher = Publisher { identity: identity.clone(), name: name.clone(), epoch: *epoch };
        Some(Spooled { publisher, count: mark.count, at: mark.at })
    }

    /// A member says that `tier` holds the publisher's frames up to `count`, as far as they went
    /// through it; see [`Session::take_marks`]. A publisher that is no more is told nothing.
    pub fn confirm(&mut self, key: PeerKey, publisher: &Publisher, tier: Tier, count: u64) {
        let Some(index) = self.find_publisher(key, publisher) else { return };
        self.record_confirm(key.index, index, tier, count);
        if self.confirm_at(key.index, index, tier, count) {
            self.send_ack(index);
        }
    }

    /// As [`Session::confirm`]; whether the publisher is to be told.
    pub(super) fn confirm_at(&mut self, member: u32, index: u32, tier: Tier, count: u64) -> bool {
        let Some(publisher) = self.at(index) else { return false };
        let (serial, count) = (publisher.cold.serial, count.min(publisher.taken));
        let tiers = self.at_mut(member).and_then(|peer| peer.tiers.as_mut());
        if let Some(tiers) = tiers.filter(|_| tier == Tier::Central) {
            tiers.handed.retain_mut(|handed| {
                if (handed.publisher, handed.serial) == (index, serial) {
                    handed.from = handed.from.max(count);
                }
                handed.from < handed.to
            });
        }
        self.note_held(index, serial, tier, count)
    }

    /// Where a publisher is that may come back, or of which the member still holds something.
    fn find_publisher(&self, key: PeerKey, publisher: &Publisher) -> Option<u32> {
        let Publisher { identity, name, epoch } = publisher.clone();
        let named = self.by_epoch.get(&(epoch, identity, name));
        let member = self.at(key.index).filter(|_| named.is_none());
        let handed = member.and_then(|member| {
            let mut handed = member.tiers.as_ref()?.handed.iter();
            let is_it = |cold: &Cold| {
                (cold.epoch, &cold.identity, &cold.name)
                    == (publisher.epoch, &publisher.identity, &publisher.name)
            };
            let found = handed.find(|handed| {
                let peer = self.at(handed.publisher);
                peer.is_some_and(|peer| peer.cold.serial == handed.serial && is_it(&peer.cold))
            })?;
            Some(found.publisher)
        });
        named.copied().or(handed)
    }

    /// Notes that a member holds a publisher's frames up to `held`; whether the publisher is to be
    /// told. All members of the tier count that have frames of it to commit.
    fn note_held(&mut self, publisher: u32, serial: u64, tier: Tier, held: u64) -> bool {
        let is_of_publisher =
            |other: &&Mark| (other.publisher, other.serial) == (publisher, serial);
        let of_tier = || self.members.iter().filter(|&&(_, offered)| offered == tier);
        let mut least_missing = u64::MAX;
        // a single member commits in the publisher's order
        if of_tier().count() > 1 {
            let members = of_tier().filter_map(|&(member, _)| self.at(member));
            for tiers in members.filter_map(|peer| peer.tiers.as_ref()) {
                let mut marks = tiers.marks.iter().filter(|other| other.tier == tier);
                let pending = marks.find(is_of_publisher).map(|first| first.count - first.length);
                let handed = tiers.handed.iter().filter(|_| tier == Tier::Central);
                let handed = handed
                    .filter(|handed| (handed.publisher, handed.serial) == (publisher, serial))
                    .map(|handed| handed.from);
                least_missing = handed.chain(pending).fold(least_missing, u64::min);
            }
        }
        let peer = self.at_mut(publisher).filter(|peer| peer.cold.serial == serial);
        let Some(peer) = peer else { return false };
        let of_publisher = peer.tiers_mut().held_mut(tier);
        of_publisher.furthest = of_publisher.furthest.max(held);
        of_publisher.count = of_publisher.furthest.min(least_missing).max(of_publisher.count);
        let wanted = match tier {
            Tier::Central => features::ACK_CENTRAL,
            _ => features::ACK_DURABLE,
        };
        peer.owes_ack |= peer.flags & wanted != 0;
        peer.owes_ack
    }
}

impl Tiers {
    pub(super) fn push_mark(&mut self, mark: Mark) {
        // of frames that are no more, one for each publisher
        let mut here = self.marks.iter_mut().rev().take_while(|last| last.at == mark.at);
        if mark.length == 0
            && let Some(known) = here.find(|known| known.is_over_like(&mark))
        {
            known.count = mark.count;
        } else if !self.marks.back_mut().is_some_and(|last| last.extend(&mark)) {
            self.marks.push_back(mark);
        }
    }
}

impl Peer {
    /// Notes at a member what a commit will mean to a publisher.
    pub(super) fn push_mark(&mut self, mark: Mark) {
        self.tiers_mut().push_mark(mark);
    }

    /// Of a member that has committed `count` frames: the next mark of which it now holds
    /// something, and how far it holds the publisher's frames.
    fn take_mark(&mut self, count: u64) -> Option<(Mark, u64)> {
        let marks = &mut self.tiers.as_mut()?.marks;
        let mark = marks.front_mut()?;
        if mark.at <= count {
            let mark = marks.pop_front()?;
            return Some((mark, mark.count));
        }
        let part = mark.split(count)?;
        mark.length = mark.at - part.at;
        Some((part, part.count))
    }
}
