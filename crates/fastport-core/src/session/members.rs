//! Members: readers that keep what they read, or send it on. Their ACKs are what publishers mean when
//! they wait for more than the relay's memory.

use alloc::vec::Vec;

use fastport_wire::TopicId;
use fastport_wire::control::{Tier, features};

use super::peer::{Mark, Peer};
use super::{PeerKey, Session};

impl Session {
    /// Says that a reader keeps what it reads, or sends it on: its ACKs speak for `tier`. It should
    /// hold ([`fastport_wire::control::WhenFull::Hold`]) and linger: what it drops, or leaves behind
    /// when its state ends, is in the ledger, but is not held back from its publishers' counts.
    pub fn make_member(&mut self, key: PeerKey, tier: Tier) {
        if self.peer_mut(key).is_ok() && !self.members.contains(&(key.index, tier)) {
            self.members.push((key.index, tier));
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
            let tiers = peer.tiers_mut();
            if at != tiers.counted_before + length {
                // not for it, or dropped and booked
                continue;
            }
            let mark = Mark { at, length, count, publisher: from, serial, tier };
            if !tiers.marks.back_mut().is_some_and(|last| last.extend(&mark)) {
                tiers.marks.push_back(mark);
            }
        }
    }

    /// A member has committed the first `count` counted frames of its epoch.
    pub(super) fn commit(&mut self, member: u32, count: u64) {
        let mut publishers = Vec::new();
        while let Some((mark, held)) = self.at_mut(member).and_then(|peer| peer.take_mark(count)) {
            if self.note_held(&mark, held) {
                publishers.push(mark.publisher);
            }
        }
        publishers.sort_unstable();
        publishers.dedup();
        publishers.into_iter().for_each(|publisher| self.send_ack(publisher));
    }

    /// Notes that a member holds the publisher's frames up to `held`; whether the publisher is to be
    /// told. All members of the tier count that have frames of it to commit.
    fn note_held(&mut self, mark: &Mark, held: u64) -> bool {
        let is_of_publisher =
            |other: &&Mark| (other.publisher, other.serial) == (mark.publisher, mark.serial);
        let of_tier = || self.members.iter().filter(|&&(_, tier)| tier == mark.tier);
        let mut least_missing = u64::MAX;
        // a single member commits in the publisher's order
        if of_tier().count() > 1 {
            let members = of_tier().filter_map(|&(member, _)| self.at(member));
            for tiers in members.filter_map(|peer| peer.tiers.as_ref()) {
                let mut marks = tiers.marks.iter().filter(|other| other.tier == mark.tier);
                let pending = marks.find(is_of_publisher).map(|first| first.count - first.length);
                least_missing = least_missing.min(pending.unwrap_or(u64::MAX));
            }
        }
        let publisher = self.at_mut(mark.publisher).filter(|peer| peer.cold.serial == mark.serial);
        let Some(publisher) = publisher else { return false };
        let of_publisher = publisher.tiers_mut().held_mut(mark.tier);
        of_publisher.furthest = of_publisher.furthest.max(held);
        of_publisher.count = of_publisher.furthest.min(least_missing).max(of_publisher.count);
        let wanted = match mark.tier {
            Tier::Central => features::ACK_CENTRAL,
            _ => features::ACK_DURABLE,
        };
        publisher.owes_ack |= publisher.flags & wanted != 0;
        publisher.owes_ack
    }
}

impl Peer {
    /// Of a member that has committed `count` frames: the next mark of which it now holds
    /// something, and how far it holds the publisher's frames.
    fn take_mark(&mut self, count: u64) -> Option<(Mark, u64)> {
        let marks = &mut self.tiers.as_mut()?.marks;
        let mark = marks.front_mut()?;
        if mark.at <= count {
            let mark = marks.pop_front()?;
            return Some((mark, mark.count));
        }
        let left = mark.at - count;
        if left >= mark.length {
            return None;
        }
        mark.length = left;
        Some((*mark, mark.count - left))
    }
}
