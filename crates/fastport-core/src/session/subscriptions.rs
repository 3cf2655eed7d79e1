//! What peers read: their subscriptions, and the topics that these make them readers of.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use fastport_wire::control::{self, ErrorCode, options};
use fastport_wire::{Filter, TopicId};

use super::Session;
use super::peer::{Subscription, no_local};
use super::requests::Past;
use super::topics::{self, READER_BYTES};
use crate::rights::Rights;
use crate::time::{Instant, Now};

impl Session {
    pub(super) fn subscribe(
        &mut self,
        now: Now,
        index: u32,
        subscribe: &control::Subscribe<'_>,
    ) -> Result<(), ErrorCode> {
        let filter = Filter::parse(subscribe.topic).map_err(|_| ErrorCode::BadTopic)?;
        let flags = subscribe.flags.unwrap_or(0);
        let no_local = flags & options::NO_LOCAL != 0;
        let named = self.add_subscription(index, filter, no_local)?;
        if let Err(code) = self.start_reading(index, filter, named) {
            self.drop_subscription(index, filter);
            return Err(code);
        }
        self.record_subscribe(index, filter.as_str(), no_local);
        let past = Past {
            count: subscribe.count.unwrap_or(if subscribe.age.is_some() { u64::MAX } else { 0 }),
            since: subscribe.age.map_or(Instant::default(), |age| now.mono.before(age)),
            with_last: flags & options::NO_LAST == 0,
        };
        let count = Some(self.replay(now, index, filter, past));
        let request = subscribe.request;
        self.send(index, &control::Ok { request, count, ..Default::default() }.into());
        self.offer_standing(index, |name| filter.matches(name));
        Ok(())
    }

    /// Notes a subscription, if it is new; the topic that it names. That is made, so that there is
    /// a place to note its reader: until there is one, nothing may be swept.
    fn add_subscription(
        &mut self,
        index: u32,
        filter: Filter<'_>,
        no_local: bool,
    ) -> Result<Option<TopicId>, ErrorCode> {
        let limit = self.limits.subscriptions;
        let peer = self.at(index).ok_or(ErrorCode::Unavailable)?;
        let limit = if peer.is_own { usize::MAX } else { limit };
        if !peer.rights.may_subscribe(filter) {
            return Err(ErrorCode::Forbidden);
        }
        self.insert_subscription(index, filter, no_local, limit)
    }

    pub(super) fn insert_subscription(
        &mut self,
        index: u32,
        filter: Filter<'_>,
        no_local: bool,
        limit: usize,
    ) -> Result<Option<TopicId>, ErrorCode> {
        let named = self.named_by(filter);
        let peer = self.at_mut(index).ok_or(ErrorCode::Unavailable)?;
        let mut all = peer.cold.subscriptions.as_mut_slice().iter_mut();
        if let Some(known) = all.find(|known| known.is_for(filter, named)) {
            known.no_local = no_local;
            return Ok(named);
        }
        if peer.cold.subscriptions.as_slice().len() >= limit {
            return Err(ErrorCode::LimitReached);
        }
        let named = match filter.as_topic() {
            Some(name) => Some(self.find_or_make_topic(name).ok_or(ErrorCode::LimitReached)?),
            None => None,
        };
        let subscription = Subscription::new(filter, named, no_local);
        if !self.make_room(subscription.charge()) {
            return Err(ErrorCode::LimitReached);
        }
        if let Some(peer) = self.at_mut(index) {
            peer.cold.subscriptions.push(subscription);
        }
        if named.is_none() {
            self.matcher.insert(filter, index);
        }
        Ok(named)
    }

    /// The topic that a filter names, if it names one that there is.
    fn named_by(&self, filter: Filter<'_>) -> Option<TopicId> {
        self.topics.find(filter.as_topic()?)
    }

    /// Makes a peer a reader of the topics that a subscription selects.
    pub(super) fn start_reading(
        &mut self,
        index: u32,
        filter: Filter<'_>,
        named: Option<TopicId>,
    ) -> Result<(), ErrorCode> {
        let ids: Vec<TopicId> = match named {
            Some(id) => [id].into(),
            None => {
                self.is_costly = true;
                let rights = &self.at(index).ok_or(ErrorCode::Unavailable)?.rights;
                let selected = self.topics.iter().filter(|(_, topic)| {
                    topic.name().is_some_and(|name| filter.matches(name) && rights.may_read(name))
                });
                selected.map(|(id, _)| id).collect()
            }
        };
        if self.add_readers(index, &ids) { Ok(()) } else { Err(ErrorCode::LimitReached) }
    }

    /// Makes a peer a reader of topics that it may read and its subscriptions select; whether there
    /// was memory for that.
    fn add_readers(&mut self, index: u32, ids: &[TopicId]) -> bool {
        let reads = |id: &&TopicId| self.topics.get(**id).is_some_and(|t| !t.is_read_by(index));
        let new = ids.iter().filter(reads).count();
        if !self.make_room(new * READER_BYTES) {
            return false;
        }
        let Self { peers, topics, .. } = self;
        let peer = peers.get(index as usize).and_then(|slot| slot.peer.as_deref());
        let Some(peer) = peer else { return false };
        let common = peer.common_no_local();
        for &id in ids {
            let Some(topic) = topics.get_mut(id) else { continue };
            let no_local = common
                .or_else(|| topic.name().and_then(|name| peer.reads_no_local(Some(id), name)));
            topic.put_reader(index, peer.must_not_lose(), no_local.unwrap_or(false));
        }
        true
    }

    /// Ends a subscription as if it had not been.
    pub(super) fn drop_subscription(&mut self, index: u32, filter: Filter<'_>) -> bool {
        let named = self.named_by(filter);
        let Some(peer) = self.at_mut(index) else { return false };
        let all = peer.cold.subscriptions.as_slice();
        let Some(place) = all.iter().position(|known| known.is_for(filter, named)) else {
            return false;
        };
        let mut others = peer.cold.subscriptions.take();
        let subscription = others.swap_remove(place);
        self.record_unsubscribe(index, filter.as_str());
        self.buffers.budget().give_back(subscription.charge());
        self.stop_reading(index, &subscription, &others);
        if let Some(peer) = self.at_mut(index) {
            peer.cold.subscriptions = others.into();
        }
        true
    }

    pub(super) fn unsubscribe(
        &mut self,
        index: u32,
        unsubscribe: &control::Unsubscribe<'_>,
    ) -> Result<(), ErrorCode> {
        let filter = Filter::parse(unsubscribe.topic).map_err(|_| ErrorCode::BadTopic)?;
        // one that there is not has ended, too
        if self.drop_subscription(index, filter) {
            // it may have been what publishers waited for
            self.wake_blocked();
        }
        let request = unsubscribe.request;
        self.send(index, &control::Ok { request, ..Default::default() }.into());
        Ok(())
    }

    /// Takes a peer off the topics that its subscription selects and none of its others.
    pub(super) fn stop_reading(
        &mut self,
        index: u32,
        ended: &Subscription,
        others: &[Subscription],
    ) {
        let ids: Vec<TopicId> = match ended.named() {
            Some(id) => [id].into(),
            None => {
                let Some(filter) = ended.filter(&self.topics) else { return };
                self.is_costly = true;
                self.matcher.remove(filter, index);
                let selected = self
                    .topics
                    .iter()
                    .filter(|(_, topic)| topic.name().is_some_and(|name| filter.matches(name)));
                selected.map(|(id, _)| id).collect()
            }
        };
        let mut freed = 0;
        for id in ids {
            let Some(topic) = self.topics.get_mut(id) else { continue };
            let others = topic.name().and_then(|name| no_local(others, Some(id), name));
            match (others, topic.reader_mut(index)) {
                (Some(no_local), Some(reader)) => reader.no_local = no_local,
                (None, Some(_)) => {
                    topic.remove_reader(index);
                    freed += READER_BYTES;
                }
                (_, None) => {}
            }
        }
        if freed > 0 {
            self.topics.note_quieter();
        }
        self.buffers.budget().give_back(freed);
    }

    /// Applies the rights that a peer came back with; whether there was memory for what they allow.
    pub(super) fn adopt_rights(&mut self, index: u32, rights: &Arc<Rights>) -> bool {
        let Some(peer) = self.at_mut(index) else { return true };
        if *peer.rights == **rights {
            return true;
        }
        let old = core::mem::replace(&mut peer.rights, Arc::clone(rights));
        let open = peer.open_topics.clone();
        let subscriptions = peer.cold.subscriptions.take();
        for id in open {
            let name = self.topics.get(id).and_then(|topic| topic.name());
            if !name.is_some_and(|name| rights.may_publish(name)) {
                self.close_id(index, id);
            }
        }
        let (kept, ended): (Vec<_>, Vec<_>) = subscriptions.into_iter().partition(|subscription| {
            // of a topic's name this is whether it may be read, so who keeps one stays its reader
            let filter = subscription.filter(&self.topics);
            filter.is_some_and(|filter| rights.may_subscribe(filter))
        });
        for subscription in ended {
            if let Some(filter) = subscription.filter(&self.topics) {
                // what it borrows from changes below
                let filter: Box<str> = filter.as_str().into();
                self.record_unsubscribe(index, &filter);
            }
            self.buffers.budget().give_back(subscription.charge());
            self.stop_reading(index, &subscription, &kept);
        }
        let selected = |id: TopicId, topic: &topics::Topic| {
            topic
                .name()
                .and_then(|name| no_local(&kept, Some(id), name).map(|_| rights.may_read(name)))
        };
        let mut allowed = Vec::new();
        let mut forbidden = Vec::new();
        for (id, topic) in self.topics.iter() {
            match selected(id, topic) {
                Some(true) => allowed.push(id),
                Some(false) if topic.is_read_by(index) => forbidden.push(id),
                _ => {}
            }
        }
        if let Some(peer) = self.at_mut(index) {
            peer.cold.subscriptions = kept.into();
        }
        for &id in &forbidden {
            if let Some(topic) = self.topics.get_mut(id) {
                topic.remove_reader(index);
            }
        }
        self.topics.note_quieter();
        self.buffers.budget().give_back(forbidden.len() * READER_BYTES);
        let is_done = self.add_readers(index, &allowed);
        if let Some(peer) = self.at_mut(index).filter(|_| !is_done) {
            // to be tried again with the next link
            peer.rights = old;
        }
        is_done
    }
}
