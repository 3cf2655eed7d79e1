//! What the link's task and the tasks of files share: offers that stand, and what came of streams.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use fastport_core::client::Event;
use fastport_wire::control::{ErrorCode, offers};
use fastport_wire::{Filter, Topic};

use super::sealed::About;

/// Everything about files that the link's task notes. All of it is bounded: offers by
/// [`MOST_OFFERS`], bytes by what was granted.
#[derive(Default)]
pub(crate) struct Registry {
    /// counts the links: what came over an earlier one is of no use
    link: u64,
    /// by the relay's number
    standing: BTreeMap<u32, Arc<Offered>>,
    /// by the relay's number
    inboxes: HashMap<u32, Inbox>,
    /// by the client's number
    sendings: HashMap<u32, Outgoing>,
}

/// A file that is offered to this client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offered {
    pub(super) link: u64,
    pub(super) id: u32,
    pub(super) topic: Box<str>,
    pub(super) name: Option<Box<str>>,
    pub(super) size: Option<u64>,
    pub(super) digest: Option<[u8; 32]>,
    pub(super) is_directory: bool,
    /// of a sealed stream: what is said of it, sealed
    pub(super) sealed: Option<Box<[u8]>>,
}

impl Offered {
    /// What it says of the file, where it is not sealed; `None`: not enough.
    pub(super) fn about(&self) -> Option<About> {
        Some(About {
            name: self.name.clone()?,
            size: self.size?,
            digest: self.digest?,
            is_directory: self.is_directory,
        })
    }
}

/// What came of a stream and is not taken out yet.
#[derive(Default)]
struct Inbox {
    pieces: VecDeque<Piece>,
    ended: Option<Option<ErrorCode>>,
}

/// A chunk's bytes.
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    pub(super) is_last: bool,
}

/// What became of a stream.
pub(super) enum Came {
    /// These bytes, at least one.
    Pieces(Vec<Piece>),
    /// Nothing will come any more; the link is still there.
    Ended(Option<ErrorCode>),
    /// The link is gone.
    Lost,
}

/// A file that this client offers.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// receivers that are at it, by the relay's number: how far they are
    pub(super) parts: BTreeMap<u32, u64>,
    pub(super) has_all: u32,
    pub(super) declined: u32,
    /// why the last one declined or ended before the end
    pub(super) last_code: Option<ErrorCode>,
    pub(super) failed: u32,
    pub(super) refused: Option<Option<ErrorCode>>,
    /// grows with each of these changes
    pub(super) changes: u64,
}

impl Registry {
    /// Notes what came from the relay; `chunk` is what a stream's bytes lie in.
    pub(crate) fn take(&mut self, chunk: &Bytes, event: &Event<'_>) {
        match *event {
            Event::Welcome { .. } => self.begin_link(),
            Event::Offered { id, topic, name, size, digest, flags, data } => {
                if self.standing.len() >= MOST_OFFERS {
                    return;
                }
                let offered = Offered {
                    link: self.link,
                    id,
                    topic: topic.into(),
                    name: name.map(Box::from),
                    size,
                    digest: digest.and_then(|digest| digest.try_into().ok()),
                    is_directory: flags & offers::DIRECTORY != 0,
                    sealed: (flags & offers::SEALED != 0).then(|| data.unwrap_or_default().into()),
                };
                self.standing.insert(id, Arc::new(offered));
            }
            Event::Withdrawn { id, code } => {
                // the relay has no room for now, and the offer stands
                if code != Some(ErrorCode::LimitReached) {
                    self.standing.remove(&id);
                }
                if let Some(inbox) = self.inboxes.get_mut(&id) {
                    inbox.ended = Some(code);
                }
            }
            Event::Chunk { id, bytes, is_last, .. } => {
                if let Some(inbox) = self.inboxes.get_mut(&id).filter(|_| !bytes.is_empty()) {
                    inbox.pieces.push_back(Piece { bytes: chunk.slice_ref(bytes), is_last });
                }
            }
            Event::Taken { offer, stream, offset } => {
                self.change(offer, |it| {
                    it.parts.insert(stream, offset);
                });
            }
            Event::HasAll { offer, stream } => self.change(offer, |it| {
                it.parts.remove(&stream);
                it.has_all += 1;
            }),
            Event::Declined { offer, code } => self.change(offer, |it| {
                it.declined += 1;
                it.last_code = code;
            }),
            Event::PartEnded { offer, stream, code } => self.change(offer, |it| {
                it.parts.remove(&stream);
                if code != Some(ErrorCode::Unavailable) {
                    it.failed += 1;
                    it.last_code = code;
                }
            }),
            Event::OfferRefused { offer, code } => {
                self.change(offer, |it| it.refused = Some(code));
            }
            _ => {}
        }
    }

    /// The link is gone, and all that went over it.
    pub(crate) fn lose_link(&mut self) {
        self.begin_link();
    }

    fn begin_link(&mut self) {
        self.link += 1;
        self.standing.clear();
        self.inboxes.clear();
        for sending in self.sendings.values_mut() {
            sending.parts.clear();
            sending.changes += 1;
        }
    }

    /// The first offer that stands on a topic that `filter` selects and for which `is_new`.
    pub(super) fn find(
        &self,
        filter: Filter<'_>,
        is_new: impl Fn(&Offered) -> bool,
    ) -> Option<Arc<Offered>> {
        let selects =
            |offered: &Offered| Topic::parse(&offered.topic).is_ok_and(|it| filter.matches(it));
        let mut standing = self.standing.values();
        standing.find(|&offered| selects(offered) && is_new(offered)).cloned()
    }

    /// A stream is about to be taken.
    pub(super) fn open_inbox(&mut self, id: u32) {
        self.inboxes.insert(id, Inbox::default());
    }

    pub(super) fn close_inbox(&mut self, id: u32) {
        self.inboxes.remove(&id);
    }

    /// What came of a stream; `None`: nothing yet.
    pub(super) fn came(&mut self, offered: &Offered) -> Option<Came> {
        if offered.link != self.link {
            return Some(Came::Lost);
        }
        let Some(inbox) = self.inboxes.get_mut(&offered.id) else { return Some(Came::Lost) };
        if !inbox.pieces.is_empty() {
            return Some(Came::Pieces(inbox.pieces.drain(..).collect()));
        }
        inbox.ended.map(Came::Ended)
    }

    pub(super) fn link(&self) -> u64 {
        self.link
    }

    pub(super) fn begin_sending(&mut self, offer: u32) {
        self.sendings.insert(offer, Outgoing::default());
    }

    pub(super) fn end_sending(&mut self, offer: u32) {
        self.sendings.remove(&offer);
    }

    pub(super) fn sending(&mut self, offer: u32) -> Option<&mut Outgoing> {
        self.sendings.get_mut(&offer)
    }

    fn change(&mut self, offer: u32, change: impl FnOnce(&mut Outgoing)) {
        if let Some(sending) = self.sendings.get_mut(&offer) {
            change(sending);
            sending.changes += 1;
        }
    }
}

/// Offers that are remembered; a relay has 64 by default.
const MOST_OFFERS: usize = 1024;
