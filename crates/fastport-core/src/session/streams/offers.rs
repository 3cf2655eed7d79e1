//! What is offered, to whom, and until when.

use alloc::vec::Vec;

use fastport_wire::control::{self, ErrorCode, features, offers};
use fastport_wire::{Topic as TopicName, TopicId};

use super::{DATA_MAX, DIGEST_BYTES, ENTRY_OVERHEAD, NAME_MAX, Offer, Session, Told, WHOLE};

impl Session {
    /// Takes an offer, and passes it on to the readers of its topic.
    pub(super) fn offer(
        &mut self,
        index: u32,
        offer: &control::Offer<'_>,
    ) -> Result<(), ErrorCode> {
        let name = TopicName::parse(offer.topic).map_err(|_| ErrorCode::BadTopic)?;
        let peer = self.at(index).ok_or(ErrorCode::Unavailable)?;
        if !peer.rights.may_publish(name) {
            return Err(ErrorCode::Forbidden);
        }
        let digest: Option<[u8; DIGEST_BYTES]> = match offer.digest {
            Some(digest) => Some(digest.try_into().map_err(|_| ErrorCode::BadControl)?),
            None => None,
        };
        if offer.id == 0 || offer.name.is_some_and(|name| name.len() > NAME_MAX) {
            return Err(ErrorCode::BadControl);
        }
        if offer.data.is_some_and(|data| data.len() > DATA_MAX) {
            return Err(ErrorCode::BadControl);
        }
        let is_sealed = offer.flags.unwrap_or(0) & offers::SEALED != 0;
        if self.limits.sealed && !is_sealed {
            return Err(ErrorCode::Unsealed);
        }
        let limits = self.limits.streams;
        if offer.size.is_some_and(|size| size > limits.size) {
            return Err(ErrorCode::PayloadTooLong);
        }
        let streams = self.streams_mut();
        if streams.offer_of(index, offer.id).is_some() {
            return Err(ErrorCode::Conflict);
        }
        let of_sender = streams.offers.values().filter(|known| known.sender == index).count();
        if of_sender >= limits.per_peer || streams.offers.len() >= limits.per_session {
            return Err(ErrorCode::LimitReached);
        }
        let topic = self.find_or_make_topic(name).ok_or(ErrorCode::LimitReached)?;
        let offer = Offer {
            sender: index,
            id: offer.id,
            topic,
            name: offer.name.map(Into::into),
            size: offer.size,
            digest,
            flags: offer.flags,
            data: offer.data.map(Into::into),
        };
        if !self.make_room(offer.charge()) {
            return Err(ErrorCode::LimitReached);
        }
        if let Some(topic) = self.topics.get_mut(topic) {
            // it is not forgotten meanwhile
            topic.publishers += 1;
        }
        let streams = self.streams_mut();
        let number = streams.new_number();
        streams.offers.insert(number, offer);
        self.tell_of_offer(number);
        Ok(())
    }

    /// An offer is no more: its receivers are told, and their flows end.
    pub(super) fn withdraw(&mut self, number: u32, code: Option<ErrorCode>) {
        let Some(streams) = &mut self.streams else { return };
        let Some(offer) = streams.offers.remove(&number) else { return };
        let of_offer = streams.by_receiver.iter().filter(|((_, offer), _)| *offer == number);
        let flows: Vec<(u32, u32)> = of_offer.map(|(&(peer, _), &flow)| (peer, flow)).collect();
        for &(_, flow) in &flows {
            self.end_flow(flow, None, Told::Nobody);
        }
        self.buffers.budget().give_back(offer.charge());
        for reader in self.readers_of_offers(offer.topic, offer.sender) {
            let has_flow = flows.iter().any(|&(peer, _)| peer == reader);
            // one that does not read will find out when it accepts
            if has_flow || self.takes_more(reader) {
                self.say_cancel(reader, number, None, code);
            }
        }
        self.topics.close(offer.topic);
    }

    /// Tells a peer of the offers that stand, of the topics that `selects` says; those that it reads.
    pub(in crate::session) fn offer_standing(
        &mut self,
        index: u32,
        selects: impl Fn(TopicName<'_>) -> bool,
    ) {
        let Some(streams) = &self.streams else { return };
        if streams.offers.is_empty() || !self.wants_offers(index) {
            return;
        }
        let mut numbers = Vec::new();
        for (&number, offer) in &streams.offers {
            let topic = self.topics.get(offer.topic);
            let is_for = topic
                .is_some_and(|topic| topic.is_read_by(index) && topic.name().is_some_and(&selects));
            if is_for && offer.sender != index {
                numbers.push(number);
            }
        }
        for number in numbers {
            self.say_offer(index, number);
        }
    }

    /// DECLINE: its sender is told, as far as it listens.
    pub(super) fn decline(&mut self, index: u32, decline: &control::Decline<'_>) {
        let Some(offer) = self.streams.as_ref().and_then(|all| all.offers.get(&decline.id)) else {
            return;
        };
        let (sender, id, topic) = (offer.sender, offer.id, offer.topic);
        let reads = self.topics.get(topic).is_some_and(|topic| topic.is_read_by(index));
        if reads && self.takes_more(sender) {
            let code = decline.code;
            self.send(sender, &control::Decline { id, code, ..Default::default() }.into());
        }
    }

    /// CANCEL, of a receiver's own part, or by a sender.
    pub(super) fn cancel(&mut self, index: u32, cancel: &control::Cancel<'_>) {
        let code = cancel.code.and_then(ErrorCode::from_number);
        let Some(streams) = &self.streams else { return };
        if cancel.stream == Some(WHOLE) {
            if let Some(number) = streams.offer_of(index, cancel.id) {
                self.withdraw(number, code);
            }
            return;
        }
        if let Some(stream) = cancel.stream {
            let is_own = streams.flows.get(&stream).is_some_and(|flow| flow.sender == index);
            if is_own {
                self.end_flow(stream, code, Told::Receiver);
            }
            return;
        }
        if let Some(flow) = streams.flow_to(index, cancel.id) {
            self.end_flow(flow, code, Told::Sender);
        }
    }

    fn tell_of_offer(&mut self, number: u32) {
        let Some(offer) = self.streams.as_ref().and_then(|all| all.offers.get(&number)) else {
            return;
        };
        for reader in self.readers_of_offers(offer.topic, offer.sender) {
            self.say_offer(reader, number);
        }
    }

    /// The peers that are told of offers on a topic, but for the one that offers.
    fn readers_of_offers(&self, topic: TopicId, sender: u32) -> Vec<u32> {
        let readers = self.topics.get(topic).map_or(&[][..], |topic| topic.readers.as_slice());
        let readers = readers.iter().map(|reader| reader.peer);
        readers.filter(|&peer| peer != sender && self.wants_offers(peer)).collect()
    }

    fn wants_offers(&self, index: u32) -> bool {
        self.at(index).is_some_and(|peer| peer.flags & features::STREAMS != 0)
    }

    /// Passes an offer on. A peer that does not read gets it when it subscribes or comes back.
    fn say_offer(&mut self, index: u32, number: u32) {
        if !self.takes_more(index) {
            return;
        }
        let Some(offer) = self.streams.as_ref().and_then(|all| all.offers.get(&number)) else {
            return;
        };
        let Some(topic) = self.topics.get(offer.topic) else { return };
        let message = control::Offer {
            topic: &topic.name,
            id: number,
            name: offer.name.as_deref(),
            size: offer.size,
            digest: offer.digest.as_ref().map(|digest| &digest[..]),
            flags: offer.flags,
            data: offer.data.as_deref(),
            ..Default::default()
        };
        let mut frames = Vec::new();
        super::super::push_control(&mut frames, &message.into());
        if let Ok(Some((frame, _))) = fastport_wire::Frame::decode(&frames, frames.len()) {
            self.send_frame(index, &frame);
        }
    }
}

impl Offer {
    /// What it is charged with.
    fn charge(&self) -> usize {
        let name = self.name.as_ref().map_or(0, |name| name.len());
        let data = self.data.as_ref().map_or(0, |data| data.len());
        size_of::<Self>() + name + data + ENTRY_OVERHEAD
    }
}
