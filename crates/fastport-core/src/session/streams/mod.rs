//! Streams through a session: files, and what else is larger than a message.
//!
//! Each receiver of an offered stream takes it from its sender by itself, from where it wants: a
//! *flow* with a window of its own. It promises: no more of a flow is here than its window, which is
//! reserved in the budget before the sender may send; a receiver that does not read stops its own
//! flow alone; messages go before chunks, and flows take turns by the chunk. Nothing of a stream
//! outlives the link of either end.

mod flows;
mod offers;
mod output;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use fastport_wire::TopicId;
use fastport_wire::control::{self, Control, ErrorCode};
use hashbrown::HashMap;

use super::Session;
use crate::stream::{Lane, Ring};

pub(super) use self::flows::Chunk;

/// What streams may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// Offers of one sender at once, and flows to one receiver at once.
    pub per_peer: usize,
    /// Offers of a session at once, and flows.
    pub per_session: usize,
    /// Bytes of a stream.
    pub size: u64,
    /// Bytes of a flow that may be here.
    pub window: usize,
}

impl StreamLimits {
    /// For a small board: eight receivers' windows take an eighth of a budget of 16 MiB. 256 KiB are
    /// 5 MiB a second over 50 ms.
    pub const DEFAULT: Self =
        Self { per_peer: 8, per_session: 64, size: 16 << 30, window: 256 * 1024 };
}

/// Figures of a session's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamFigures {
    /// Offers that stand.
    pub offers: usize,
    /// Flows under way.
    pub flows: usize,
    /// Flows since the start.
    pub begun: u64,
    /// Of them, those whose receivers said that they have it all.
    pub completed: u64,
    /// Of them, those that ended before.
    pub cancelled: u64,
    /// Offers and flows that were refused for a limit or for want of memory.
    pub refused: u64,
    /// Bytes of streams that were written to receivers.
    pub bytes: u64,
}

/// The streams of a session.
#[derive(Debug, Default)]
pub(super) struct Streams {
    /// by their number towards receivers
    offers: BTreeMap<u32, Offer>,
    /// by their number towards senders
    flows: HashMap<u32, Flow>,
    /// by receiver and the offer's number
    by_receiver: HashMap<(u32, u32), u32>,
    /// by receiver; those with something to write
    lanes: HashMap<u32, Lane>,
    last_number: u32,
    figures: StreamFigures,
}

/// A stream that a peer offers.
#[derive(Debug)]
struct Offer {
    sender: u32,
    /// The sender's number.
    id: u32,
    topic: TopicId,
    name: Option<Box<str>>,
    size: Option<u64>,
    digest: Option<[u8; DIGEST_BYTES]>,
    flags: Option<u32>,
    data: Option<Box<[u8]>>,
}

/// One receiver's part of a stream.
///
/// `drained <= at <= credited <= drained + window`, `credited <= allowed`
#[derive(Debug)]
struct Flow {
    offer: u32,
    sender: u32,
    receiver: u32,
    ring: Ring,
    window: u64,
    /// Where the sender's next chunk lies.
    at: u64,
    /// How far the sender may send.
    credited: u64,
    /// How far the receiver takes it.
    allowed: u64,
    /// How far it is written to the receiver's link.
    drained: u64,
    /// Where it ends at the latest.
    end: u64,
    /// Nothing follows from the sender.
    is_complete: bool,
    /// It is over, but for the rest of a chunk that is begun.
    is_over: bool,
}

impl Streams {
    /// A number that no offer and no flow has.
    fn new_number(&mut self) -> u32 {
        loop {
            self.last_number = self.last_number.wrapping_add(1).max(1);
            let number = self.last_number;
            if !self.offers.contains_key(&number) && !self.flows.contains_key(&number) {
                return number;
            }
        }
    }

    fn flow_to(&self, receiver: u32, offer: u32) -> Option<u32> {
        self.by_receiver.get(&(receiver, offer)).copied()
    }

    fn offer_of(&self, sender: u32, id: u32) -> Option<u32> {
        let mut offers = self.offers.iter();
        offers
            .find(|(_, offer)| (offer.sender, offer.id) == (sender, id))
            .map(|(&number, _)| number)
    }
}

impl Session {
    /// The figures of its streams.
    pub(super) fn stream_figures(&self) -> StreamFigures {
        self.streams.as_ref().map_or_else(StreamFigures::default, |streams| StreamFigures {
            offers: streams.offers.len(),
            flows: streams.by_receiver.len(),
            ..streams.figures
        })
    }

    /// Takes what a peer says of streams.
    pub(super) fn handle_stream(&mut self, index: u32, message: &Control<'_>) {
        match message {
            Control::Offer(offer) => {
                if let Err(code) = self.offer(index, offer) {
                    self.streams_mut().figures.refused += 1;
                    self.say_cancel(index, offer.id, Some(WHOLE), Some(code));
                }
            }
            Control::Accept(accept) => self.accept(index, accept),
            Control::Decline(decline) => self.decline(index, decline),
            Control::Cancel(cancel) => self.cancel(index, cancel),
            _ => {}
        }
    }

    /// The peer's link is gone, or its state: so are its streams.
    pub(super) fn end_streams_of(&mut self, index: u32) {
        let Some(streams) = &self.streams else { return };
        let flows: alloc::vec::Vec<u32> = streams
            .flows
            .iter()
            .filter(|(_, flow)| flow.receiver == index)
            .map(|(&number, _)| number)
            .collect();
        let offers: alloc::vec::Vec<u32> = streams
            .offers
            .iter()
            .filter(|(_, offer)| offer.sender == index)
            .map(|(&number, _)| number)
            .collect();
        for number in flows {
            self.end_flow(number, Some(ErrorCode::Unavailable), Told::Sender);
            // what is begun will not be finished
            self.forget_flow(number);
        }
        for number in offers {
            self.withdraw(number, Some(ErrorCode::Unavailable));
        }
        if let Some(streams) = &mut self.streams {
            streams.lanes.remove(&index);
        }
    }

    fn streams_mut(&mut self) -> &mut Streams {
        self.streams.get_or_insert_default()
    }

    fn say_cancel(&mut self, to: u32, id: u32, stream: Option<u32>, code: Option<ErrorCode>) {
        let code = code.map(ErrorCode::number);
        self.send_if_attached(
            to,
            &control::Cancel { id, code, stream, ..Default::default() }.into(),
        );
    }

    /// Says something of streams to a peer that has a link; to another it is of no use.
    fn send_if_attached(&mut self, to: u32, message: &Control<'_>) {
        if self.at(to).is_some_and(|peer| matches!(peer.link, super::Link::Attached { .. })) {
            self.send(to, message);
        }
    }

    /// Whether a peer reads what it is sent: to one that does not, nothing is said that can wait.
    fn takes_more(&self, index: u32) -> bool {
        self.at(index).is_some_and(|peer| {
            matches!(peer.link, super::Link::Attached { .. }) && !peer.outbox.is_choked()
        })
    }
}

/// Who is told that a flow is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Sender,
    Receiver,
    Both,
    Nobody,
}

/// In place of a part's number: all of what the sender offered.
const WHOLE: u32 = 0;
/// Of SHA-256.
const DIGEST_BYTES: usize = 32;
/// The most bytes that a sealed offer has inside: a name of 255 bytes, the rest, and the seal.
const DATA_MAX: usize = 400;
/// The most bytes of a file's name.
const NAME_MAX: usize = 255;
/// What an offer or a flow costs in the tables beside itself.
const ENTRY_OVERHEAD: usize = 128;
