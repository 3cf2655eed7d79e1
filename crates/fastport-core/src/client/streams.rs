//! Streams from the other end: what a client offers and sends, and what it takes.
//!
//! Nothing of a stream outlives a link but the offers themselves, which are made again after each
//! WELCOME. Who reads files and writes them, and how far they are, is the caller's.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use fastport_wire::Frame;
use fastport_wire::control::{self, Control, ErrorCode};
use fastport_wire::field::MAX_CHUNK;

use super::{Client, Event};
use crate::session::CONTROL_MAX;
use crate::stream::{Lane, Ring, Turn, ring_bytes};

/// What a client offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOffer {
    /// On which topic.
    pub topic: Box<str>,
    /// A file's name, at most 255 bytes.
    pub name: Option<Box<str>>,
    /// Its length.
    pub size: u64,
    /// SHA-256 of all of it, where it is known.
    pub digest: Option<[u8; 32]>,
    /// [`fastport_wire::control::offers`].
    pub flags: u32,
    /// What a sealed offer says, sealed.
    pub data: Option<Box<[u8]>>,
}

/// What of a part may be put in now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartRoom {
    /// Where its next chunk lies.
    pub at: u64,
    /// How many bytes there is room for: <= granted
    pub length: usize,
    /// How many its receiver takes.
    pub granted: u64,
}

/// A chunk cannot be put in now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkError {
    /// The part is no more.
    Gone,
    /// There is no room, or the receiver has not granted so much.
    NotNow,
}

/// The streams of a client.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// by the client's own numbers
    offers: BTreeMap<u32, NewOffer>,
    last_offer: u32,
    /// by the relay's numbers: one for each receiver of an offer
    parts: BTreeMap<u32, Part>,
    lane: Lane,
    /// by the relay's numbers
    taken: BTreeMap<u32, Taken>,
}

/// What goes to one receiver. at <= credited <= size
#[derive(Debug)]
struct Part {
    offer: u32,
    ring: Ring,
    at: u64,
    credited: u64,
}

/// What comes. at <= granted
#[derive(Debug, Clone, Copy)]
struct Taken {
    at: u64,
    granted: u64,
    is_complete: bool,
}

impl Streams {
    /// The link is gone, and with it all that went over it.
    pub(super) fn lose_link(&mut self) {
        self.parts.clear();
        self.taken.clear();
        self.lane = Lane::default();
    }

    /// Bytes that wait to be written.
    pub(super) fn is_idle(&self) -> bool {
        self.lane.is_empty()
    }

    fn drop_part(&mut self, stream: u32) {
        let Some(part) = self.parts.get_mut(&stream) else { return };
        part.ring.cut();
        if part.ring.is_begun() {
            // nothing more is put in; the rest of the chunk has to go out
            (part.offer, part.credited) = (0, part.at);
            return;
        }
        self.parts.remove(&stream);
        self.lane.leave(stream);
    }
}

impl Client {
    /// Offers a stream; the number names it from now on. The offer stands, over reconnects, until
    /// [`Client::withdraw`].
    pub fn offer(&mut self, offer: NewOffer) -> u32 {
        let streams = &mut self.streams;
        streams.last_offer = streams.last_offer.wrapping_add(1).max(1);
        let id = streams.last_offer;
        self.say_offer(id, &offer);
        self.streams.offers.insert(id, offer);
        id
    }

    /// Takes an offer back; its parts end.
    pub fn withdraw(&mut self, offer: u32, code: Option<ErrorCode>) {
        if self.streams.offers.remove(&offer).is_none() {
            return;
        }
        self.drop_parts_of(offer);
        self.say_cancel(offer, Some(WHOLE), code);
    }

    /// Ends one receiver's part.
    pub fn cancel_part(&mut self, stream: u32, code: Option<ErrorCode>) {
        let Some(part) = self.streams.parts.get(&stream).filter(|part| part.offer != 0) else {
            return;
        };
        let offer = part.offer;
        self.streams.drop_part(stream);
        self.say_cancel(offer, Some(stream), code);
    }

    /// What may be put into a part now; `None`: the part is no more.
    #[must_use]
    pub fn part_room(&self, stream: u32) -> Option<PartRoom> {
        let part = self.streams.parts.get(&stream).filter(|part| part.offer != 0)?;
        let granted = part.credited - part.at;
        let length = usize::try_from(granted).unwrap_or(usize::MAX).min(part.ring.stream_room());
        Some(PartRoom { at: part.at, length, granted })
    }

    /// Puts the next chunk of a part behind those that wait for the link.
    ///
    /// # Errors
    /// [`ChunkError`]; it is then not in.
    pub fn send_chunk(
        &mut self,
        stream: u32,
        bytes: &[u8],
        is_last: bool,
        is_sealed: bool,
    ) -> Result<(), ChunkError> {
        let streams = &mut self.streams;
        let own = |part: &&mut Part| part.offer != 0;
        let part = streams.parts.get_mut(&stream).filter(own).ok_or(ChunkError::Gone)?;
        let after = part.at + bytes.len() as u64;
        if after > part.credited || bytes.len() > MAX_CHUNK {
            return Err(ChunkError::NotNow);
        }
        let was_empty = part.ring.is_empty();
        let offset = part.at;
        let frame = Frame::Chunk { stream, offset, last: is_last, sealed: is_sealed, bytes };
        part.ring.push(&frame).map_err(|_| ChunkError::NotNow)?;
        part.at = after;
        if was_empty {
            streams.lane.enter(stream);
        }
        Ok(())
    }

    /// Takes an offered stream from `offset` on.
    pub fn accept(&mut self, id: u32, offset: u64) {
        let taken = Taken { at: offset, granted: offset, is_complete: false };
        self.streams.taken.insert(id, taken);
        self.say_stream(&control::Accept { id, offset: Some(offset), ..Default::default() }.into());
    }

    /// Lets the sender send so many bytes more.
    pub fn grant(&mut self, id: u32, bytes: u64) {
        let Some(taken) = self.streams.taken.get_mut(&id) else { return };
        taken.granted = taken.granted.saturating_add(bytes);
        if self.is_ready() {
            self.push(&Frame::Credit { stream: id, bytes });
        }
    }

    /// Says that all of a stream, `size` bytes, is here and was found sound.
    pub fn has_all(&mut self, id: u32, size: u64) {
        self.streams.taken.remove(&id);
        self.say_stream(&control::Accept { id, offset: Some(size), ..Default::default() }.into());
    }

    /// Refuses an offered stream.
    pub fn decline(&mut self, id: u32, code: ErrorCode) {
        let code = Some(code.number());
        self.say_stream(&control::Decline { id, code, ..Default::default() }.into());
    }

    /// Ends a stream that was taken.
    pub fn stop_taking(&mut self, id: u32, code: Option<ErrorCode>) {
        if self.streams.taken.remove(&id).is_some() {
            self.say_cancel(id, None, code);
        }
    }

    /// After a handshake: the relay knows of no offer.
    pub(super) fn offer_again(&mut self) {
        let offers: Vec<(u32, NewOffer)> =
            self.streams.offers.iter().map(|(&id, offer)| (id, offer.clone())).collect();
        for (id, offer) in offers {
            self.say_offer(id, &offer);
        }
    }

    /// What the lane has to write, where the outbox has nothing or a chunk is begun.
    pub(super) fn stream_turn(&mut self) -> Option<Turn> {
        self.streams.lane.pass();
        if !self.streams.lane.is_begun() && self.outbox.unsent() > 0 {
            return None;
        }
        self.streams.lane.begin()
    }

    pub(super) fn stream_output(&self, turn: Turn) -> &[u8] {
        let part = self.streams.parts.get(&turn.stream);
        part.map_or(
            &[],
            |part| {
                if turn.is_rest { part.ring.rest_of_begun() } else { part.ring.front(0) }
            },
        )
    }

    /// Notes that so much of a stream's chunk was written; whether it was a stream's.
    pub(super) fn advance_stream(&mut self, written: usize) -> bool {
        let streams = &mut self.streams;
        let Some(stream) = streams.lane.take_writing() else { return false };
        let Some(part) = streams.parts.get_mut(&stream) else { return false };
        part.ring.advance(written);
        streams.lane.end(part.ring.is_begun());
        if part.ring.is_empty() {
            streams.lane.leave(stream);
            if part.offer == 0 {
                streams.parts.remove(&stream);
            }
        }
        true
    }

    pub(super) fn handle_stream(
        &mut self,
        message: &Control<'_>,
        tell: &mut impl FnMut(Event<'_>),
    ) {
        match *message {
            Control::Offer(control::Offer {
                id, topic, name, size, digest, flags, data, ..
                // one that is taken is known
            }) if !self.streams.taken.contains_key(&id) => {
                let flags = flags.unwrap_or(0);
                tell(Event::Offered { id, topic, name, size, digest, flags, data });
            }
            Control::Accept(accept) => self.handle_accept(&accept, tell),
            Control::Decline(control::Decline { id, code, .. })
                if self.streams.offers.contains_key(&id) =>
            {
                let code = code.and_then(ErrorCode::from_number);
                tell(Event::Declined { offer: id, code });
            }
            Control::Cancel(cancel) => self.handle_cancel(&cancel, tell),
            _ => {}
        }
    }

    fn handle_accept(&mut self, accept: &control::Accept<'_>, tell: &mut impl FnMut(Event<'_>)) {
        let (id, offset) = (accept.id, accept.offset.unwrap_or(0));
        let Some(offer) = self.streams.offers.get(&id) else { return };
        let Some(stream) = accept.stream else { return };
        if offset == offer.size {
            self.streams.drop_part(stream);
            return tell(Event::HasAll { offer: id, stream });
        }
        let is_well = offset < offer.size && !self.streams.parts.contains_key(&stream);
        if !is_well || self.streams.parts.len() >= MOST_PARTS {
            let code = if is_well { ErrorCode::LimitReached } else { ErrorCode::Unexpected };
            return self.say_cancel(id, Some(stream), Some(code));
        }
        let ring = Ring::new(Vec::new(), ring_bytes(SEND_WINDOW));
        let part = Part { offer: id, ring, at: offset, credited: offset };
        self.streams.parts.insert(stream, part);
        tell(Event::Taken { offer: id, stream, offset });
    }

    fn handle_cancel(&mut self, cancel: &control::Cancel<'_>, tell: &mut impl FnMut(Event<'_>)) {
        let (id, code) = (cancel.id, cancel.code.and_then(ErrorCode::from_number));
        match cancel.stream {
            None => {
                self.streams.taken.remove(&id);
                tell(Event::Withdrawn { id, code });
            }
            Some(WHOLE) => {
                self.streams.offers.remove(&id);
                self.drop_parts_of(id);
                tell(Event::OfferRefused { offer: id, code });
            }
            Some(stream) => {
                self.streams.drop_part(stream);
                tell(Event::PartEnded { offer: id, stream, code });
            }
        }
    }

    pub(super) fn handle_credit(
        &mut self,
        stream: u32,
        bytes: u64,
        tell: &mut impl FnMut(Event<'_>),
    ) {
        let Some(part) = self.streams.parts.get_mut(&stream).filter(|part| part.offer != 0) else {
            return;
        };
        let Some(offer) = self.streams.offers.get(&part.offer) else { return };
        part.credited = part.credited.saturating_add(bytes).min(offer.size);
        tell(Event::Credited { offer: part.offer, stream });
    }

    pub(super) fn handle_chunk(&mut self, frame: &Frame<'_>, tell: &mut impl FnMut(Event<'_>)) {
        let Frame::Chunk { stream: id, offset, last, sealed, bytes } = *frame else { return };
        // others were on their way when it ended
        let Some(taken) = self.streams.taken.get_mut(&id) else { return };
        let after = taken.at.saturating_add(bytes.len() as u64);
        if offset != taken.at || after > taken.granted || taken.is_complete {
            let code = Some(ErrorCode::Unexpected);
            self.stop_taking(id, code);
            return tell(Event::Withdrawn { id, code });
        }
        (taken.at, taken.is_complete) = (after, last);
        tell(Event::Chunk { id, offset, is_last: last, is_sealed: sealed, bytes });
    }

    fn drop_parts_of(&mut self, offer: u32) {
        let parts = self.streams.parts.iter().filter(|(_, part)| part.offer == offer);
        let parts: Vec<u32> = parts.map(|(&stream, _)| stream).collect();
        parts.into_iter().for_each(|stream| self.streams.drop_part(stream));
    }

    fn say_offer(&mut self, id: u32, offer: &NewOffer) {
        let message = control::Offer {
            topic: &offer.topic,
            id,
            name: offer.name.as_deref(),
            size: Some(offer.size),
            digest: offer.digest.as_ref().map(|digest| &digest[..]),
            flags: (offer.flags != 0).then_some(offer.flags),
            data: offer.data.as_deref(),
            ..Default::default()
        };
        self.say_stream(&message.into());
    }

    fn say_cancel(&mut self, id: u32, stream: Option<u32>, code: Option<ErrorCode>) {
        let code = code.map(ErrorCode::number);
        self.say_stream(&control::Cancel { id, code, stream, ..Default::default() }.into());
    }

    /// Says something of a stream; without a link there is none.
    fn say_stream(&mut self, message: &Control<'_>) {
        let mut body = [0; CONTROL_MAX];
        if self.is_ready()
            && let Ok(length) = message.encode(&mut body)
        {
            self.push(&Frame::Control(body.get(..length).unwrap_or_default()));
        }
    }
}

/// In place of a part's number: all of what is offered.
const WHOLE: u32 = 0;
/// What of a part waits for the link.
const SEND_WINDOW: usize = 128 * 1024;
/// Receivers at once: each has a window.
const MOST_PARTS: usize = 256;
