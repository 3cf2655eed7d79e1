//! One receiver's part of a stream: taken, granted, carried, ended.

use alloc::vec::Vec;

use fastport_wire::Frame;
use fastport_wire::control::{self, ErrorCode};
use fastport_wire::field::MAX_CHUNK;

use super::{ENTRY_OVERHEAD, Flow, Session, Told};
use crate::stream::{Ring, ring_bytes};

impl Session {
    /// ACCEPT: a receiver takes a stream, or has all of it.
    pub(super) fn accept(&mut self, index: u32, accept: &control::Accept<'_>) {
        let offset = accept.offset.unwrap_or(0);
        match self.take_stream(index, accept.id, offset) {
            Ok(()) => {}
            Err(code) => {
                if code == ErrorCode::LimitReached {
                    self.streams_mut().figures.refused += 1;
                }
                self.say_cancel(index, accept.id, None, Some(code));
            }
        }
    }

    fn take_stream(&mut self, index: u32, number: u32, offset: u64) -> Result<(), ErrorCode> {
        let limits = self.limits.streams;
        let streams = self.streams.as_ref().ok_or(ErrorCode::UnknownId)?;
        let offer = streams.offers.get(&number).ok_or(ErrorCode::UnknownId)?;
        let (sender, id) = (offer.sender, offer.id);
        let end = offer.size.unwrap_or(limits.size);
        let reads = self.topics.get(offer.topic).is_some_and(|topic| topic.is_read_by(index));
        if !reads || sender == index {
            return Err(ErrorCode::UnknownId);
        }
        let known = streams.flow_to(index, number);
        if let Some(flow) = known.and_then(|known| streams.flows.get(&known)) {
            let has_all = flow.is_complete && offset == flow.at || Some(offset) == offer.size;
            if !has_all {
                return Err(ErrorCode::Unexpected);
            }
        }
        if offset > end {
            return Err(ErrorCode::Unexpected);
        }
        if let Some(known) = known {
            self.complete(known, sender, id, offset);
            return Ok(());
        }
        let has_all = offer.size == Some(offset);
        let of_receiver = streams.by_receiver.keys().filter(|(peer, _)| *peer == index).count();
        let is_full =
            of_receiver >= limits.per_peer || streams.by_receiver.len() >= limits.per_session;
        // a sender that does not read would pile up what is said to it
        if is_full || !self.takes_more(sender) {
            return Err(ErrorCode::LimitReached);
        }
        if has_all {
            let stream = Some(self.streams_mut().new_number());
            self.streams_mut().figures.begun += 1;
            self.streams_mut().figures.completed += 1;
            self.say_accepted(sender, id, stream, offset);
            return Ok(());
        }
        let ring = self.make_ring(limits.window)?;
        let window = limits.window as u64;
        let streams = self.streams_mut();
        let stream = streams.new_number();
        let flow = Flow {
            offer: number,
            sender,
            receiver: index,
            ring,
            window,
            at: offset,
            credited: offset,
            allowed: offset,
            drained: offset,
            end,
            is_complete: false,
            is_over: false,
        };
        streams.flows.insert(stream, flow);
        streams.by_receiver.insert((index, number), stream);
        streams.figures.begun += 1;
        self.say_accepted(sender, id, Some(stream), offset);
        Ok(())
    }

    /// The memory for a flow's window.
    fn make_ring(&mut self, window: usize) -> Result<Ring, ErrorCode> {
        let capacity = ring_bytes(window);
        if !self.make_room(size_of::<Flow>() + ENTRY_OVERHEAD) {
            return Err(ErrorCode::LimitReached);
        }
        let mut buffer = Vec::new();
        loop {
            if self.buffers.reserve_within(&mut buffer, capacity, 2 * capacity).is_ok() {
                return Ok(Ring::new(buffer, capacity));
            }
            if !self.evict_oldest() {
                self.buffers.budget().give_back(size_of::<Flow>() + ENTRY_OVERHEAD);
                return Err(ErrorCode::LimitReached);
            }
        }
    }

    fn say_accepted(&mut self, sender: u32, id: u32, stream: Option<u32>, offset: u64) {
        let offset = Some(offset);
        let message = control::Accept { id, offset, stream, ..Default::default() };
        self.send_if_attached(sender, &message.into());
    }

    /// A receiver has all of a stream.
    fn complete(&mut self, stream: u32, sender: u32, id: u32, offset: u64) {
        self.end_flow(stream, None, Told::Nobody);
        let figures = &mut self.streams_mut().figures;
        // where it was not over already
        figures.cancelled = figures.cancelled.saturating_sub(1);
        figures.completed += 1;
        self.say_accepted(sender, id, Some(stream), offset);
    }

    /// CREDIT from a receiver.
    pub(in crate::session) fn handle_credit(&mut self, index: u32, number: u32, bytes: u64) {
        let Some(streams) = &mut self.streams else { return };
        let Some(stream) = streams.flow_to(index, number) else { return };
        if let Some(flow) = streams.flows.get_mut(&stream) {
            flow.allowed = flow.allowed.saturating_add(bytes).min(flow.end);
            self.grant(stream);
        }
    }

    /// CHUNK from a sender.
    pub(in crate::session) fn handle_chunk(&mut self, index: u32, chunk: &Chunk<'_>) {
        let Some(streams) = &mut self.streams else { return };
        let is_unsealed = self.limits.sealed && !chunk.is_sealed;
        let own = |flow: &&mut Flow| flow.sender == index && !flow.is_over;
        // others were on their way when it ended
        let Some(flow) = streams.flows.get_mut(&chunk.stream).filter(own) else { return };
        let after = flow.at.saturating_add(chunk.bytes.len() as u64);
        let is_well =
            chunk.offset == flow.at && after <= flow.credited && chunk.bytes.len() <= MAX_CHUNK;
        if !is_well || flow.is_complete || (chunk.bytes.is_empty() && !chunk.is_last) {
            return self.end_flow(chunk.stream, Some(ErrorCode::Unexpected), Told::Both);
        }
        if is_unsealed {
            return self.end_flow(chunk.stream, Some(ErrorCode::Unsealed), Told::Both);
        }
        let was_empty = flow.ring.is_empty();
        let frame = Frame::Chunk {
            stream: flow.offer,
            offset: chunk.offset,
            last: chunk.is_last,
            sealed: chunk.is_sealed,
            bytes: chunk.bytes,
        };
        if flow.ring.push(&frame).is_err() {
            // within the window: so they are too short
            return self.end_flow(chunk.stream, Some(ErrorCode::LimitReached), Told::Both);
        }
        flow.at = after;
        flow.is_complete = chunk.is_last;
        let receiver = flow.receiver;
        if was_empty {
            streams.lanes.entry(receiver).or_default().enter(chunk.stream);
        }
        self.wake(receiver);
    }

    /// Lets the sender send as much as the receiver takes, and the window has room for.
    pub(super) fn grant(&mut self, stream: u32) {
        let Some(flow) = self.streams.as_ref().and_then(|all| all.flows.get(&stream)) else {
            return;
        };
        let (sender, window) = (flow.sender, flow.window);
        let most = flow.allowed.min(flow.drained.saturating_add(window));
        let more = most.saturating_sub(flow.credited);
        // many small ones cost more than they bring
        let is_worth_it = most == flow.allowed || more >= window / GRANT_SHARE;
        if flow.is_over || flow.is_complete || more == 0 || !is_worth_it {
            return;
        }
        if !self.takes_more(sender) {
            // it is told when it reads again, see `grant_all`
            return;
        }
        if let Some(flow) = self.streams_mut().flows.get_mut(&stream) {
            flow.credited = most;
        }
        self.send_frame(sender, &Frame::Credit { stream, bytes: more });
    }

    /// A sender that did not read does again.
    pub(in crate::session) fn grant_all(&mut self, sender: u32) {
        let Some(streams) = &self.streams else { return };
        let of_sender = streams.flows.iter().filter(|(_, flow)| flow.sender == sender);
        let flows: Vec<u32> = of_sender.map(|(&stream, _)| stream).collect();
        for stream in flows {
            self.grant(stream);
        }
    }

    /// Ends a flow. The rest of a chunk that is begun is still to be written.
    pub(super) fn end_flow(&mut self, stream: u32, code: Option<ErrorCode>, told: Told) {
        let Some(streams) = &mut self.streams else { return };
        let Some(flow) = streams.flows.get_mut(&stream).filter(|flow| !flow.is_over) else {
            return;
        };
        flow.is_over = true;
        flow.ring.cut();
        let (offer, sender, receiver) = (flow.offer, flow.sender, flow.receiver);
        let is_begun = flow.ring.is_begun();
        streams.by_receiver.remove(&(receiver, offer));
        streams.figures.cancelled += 1;
        let id = streams.offers.get(&offer).map(|offer| offer.id);
        if !is_begun {
            self.forget_flow(stream);
        }
        if let (Some(id), Told::Sender | Told::Both) = (id, told) {
            self.say_cancel(sender, id, Some(stream), code);
        }
        if matches!(told, Told::Receiver | Told::Both) {
            self.say_cancel(receiver, offer, None, code);
        }
    }

    /// Frees a flow that is over.
    pub(super) fn forget_flow(&mut self, stream: u32) {
        let Some(streams) = &mut self.streams else { return };
        let Some(flow) = streams.flows.remove(&stream) else { return };
        if let Some(lane) = streams.lanes.get_mut(&flow.receiver) {
            lane.leave(stream);
            if lane.is_empty() {
                streams.lanes.remove(&flow.receiver);
            }
        }
        let mut buffer = flow.ring.into_buffer();
        self.buffers.release(&mut buffer);
        self.buffers.budget().give_back(size_of::<Flow>() + ENTRY_OVERHEAD);
    }
}

/// A CHUNK frame.
#[derive(Debug, Clone, Copy)]
pub(in crate::session) struct Chunk<'a> {
    pub(in crate::session) stream: u32,
    pub(in crate::session) offset: u64,
    pub(in crate::session) is_last: bool,
    pub(in crate::session) is_sealed: bool,
    pub(in crate::session) bytes: &'a [u8],
}

/// A sender is granted more when it is this share of the window, or all that the receiver takes.
const GRANT_SHARE: u64 = 4;
