//! What a journal is made of: one change of a session's state after another.
//!
//! A record is a kind, the length of what follows, and the fields: numbers in LEB128, texts and bytes
//! behind their length. Decoding is total: any bytes give records or one [`BadRecord`].

use alloc::vec::Vec;
use core::fmt;

use fastport_wire::control::{Tier, WhenFull};
use fastport_wire::frame::GapCause;
use fastport_wire::{TopicId, varint};

use crate::session::Note;

/// Bytes that are no records, or not the records of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadRecord {
    /// Where, from the start of the bytes that were given.
    pub at: usize,
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no record of a journal at byte {}", self.at)
    }
}

impl core::error::Error for BadRecord {}

/// A change. Peers are named by their place in the session that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// So many ids were given to topics.
    Ids { count: u32 },
    /// An id is a topic's, with that schema.
    Topic { id: TopicId, name: &'a str, schema: &'a [u8] },
    /// A topic's last value; one without payload clears it.
    Keep { topic: TopicId, unix_ms: u64, frame: &'a [u8] },
    /// A peer came in whose state outlives its link.
    Peer(PeerRecord<'a>),
    /// It has sent something.
    Known { peer: u32 },
    /// It came back, having `count` counted frames; `total` are then its.
    Resume { peer: u32, flags: u32, count: u64, total: u64 },
    /// It publishes on a topic.
    Open { peer: u32, id: TopicId },
    /// It does no more.
    Close { peer: u32, id: TopicId },
    /// It reads topics.
    Subscribe { peer: u32, no_local: bool, filter: &'a str },
    /// It does no more.
    Unsubscribe { peer: u32, filter: &'a str },
    /// Counted messages: to the account of `from`, and to those `holders` that got all of them.
    Run {
        from: Option<u32>,
        topic: TopicId,
        unix_ms: u64,
        messages: u32,
        holders: Numbers<'a>,
        frames: &'a [u8],
    },
    /// Counted messages, the clocks they came at, and gaps came into one outbox.
    Pushed { peer: u32, frames: &'a [u8] },
    /// A peer has `count` of `total` counted frames.
    Ack { peer: u32, count: u64, total: u64 },
    /// A peer's ACKs speak for a tier.
    Member { peer: u32, tier: Tier },
    /// See [`super::super::Session::set_note`].
    Note { peer: u32, note: Note },
    /// See [`super::super::Session::take_marks`].
    Take { peer: u32, count: u64 },
    /// See [`super::super::Session::confirm`].
    Confirm { peer: u32, publisher: u32, tier: Tier, count: u64 },
    /// A gateway said, behind what came from it so far, that messages will not come.
    Said { peer: u32, topic: TopicId, cause: GapCause, count: u64 },
    /// A peer's links have written no more than `count` of its counted frames; until it comes back.
    Sent { peer: u32, count: u64 },
    /// Messages behind a peer's first `after` counted frames are let go of: by turns so many stay and
    /// so many go.
    Shed { peer: u32, after: u64, cause: GapCause, runs: Numbers<'a> },
    /// A peer's state has ended.
    Gone { peer: u32 },
    /// Only in a snapshot: how far a peer is. What it still gets follows as [`Record::Pushed`].
    Counts(CountsRecord),
    /// A member's mark. Beside those of snapshots: only of frames that were dropped.
    Mark { peer: u32, publisher: u32, tier: Tier, at: u64, length: u64, count: u64 },
    /// Only in a snapshot: what a member was handed.
    Handed { peer: u32, publisher: u32, from: u64, to: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PeerRecord<'a> {
    pub(super) peer: u32,
    pub(super) identity: &'a str,
    pub(super) name: &'a str,
    pub(super) epoch: u64,
    pub(super) flags: u32,
    pub(super) when_full: WhenFull,
    pub(super) linger: u32,
    pub(super) keepalive: u32,
    /// Of one of the daemon's own parts: the limit of its outbox.
    pub(super) own: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CountsRecord {
    pub(super) peer: u32,
    /// From it.
    pub(super) taken: u64,
    /// To it: acked <= released
    pub(super) acked: u64,
    /// To it, before what follows.
    pub(super) released: u64,
    /// Of `taken`: count and furthest, durable and central.
    pub(super) held: [u64; 4],
}

/// Numbers in LEB128, one after another.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        let mut rest = self.0;
        // all of them were looked at when the record was decoded
        core::iter::from_fn(move || take_u32(&mut rest))
    }

    /// The numbers that `bytes` holds, which were put there by [`push_number`].
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Appends a number. Here and below: in one place, since it is asked for in fifty.
#[inline(never)]
pub(super) fn push_number(out: &mut Vec<u8>, number: u64) {
    let mut bytes = [0; varint::MAX_LEN];
    // there is room for any
    let length = varint::encode(number, &mut bytes).unwrap_or_default();
    out.extend_from_slice(bytes.get(..length).unwrap_or_default());
}

#[inline(never)]
fn push_numbers(out: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|&number| push_number(out, number));
}

#[inline(never)]
fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

impl<'a> Record<'a> {
    /// Appends the record.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind());
        let at = out.len();
        // most are shorter than 128 bytes
        out.push(0);
        self.encode_fields(out);
        let length = out.len() - at - 1;
        match u8::try_from(length).ok().filter(|&length| length < 0x80) {
            Some(length) => {
                if let Some(place) = out.get_mut(at) {
                    *place = length;
                }
            }
            None => {
                let mut head = Vec::new();
                push_number(&mut head, length as u64);
                out.splice(at..=at, head);
            }
        }
    }

    /// Takes one record off the front of `bytes`, which is not empty.
    pub(super) fn take(bytes: &mut &'a [u8]) -> Option<Self> {
        let (&kind, mut rest) = bytes.split_first()?;
        let length = usize::try_from(take_number(&mut rest)?).ok()?;
        let (fields, rest) = rest.split_at_checked(length)?;
        *bytes = rest;
        let mut fields = Fields(fields);
        let record = Self::decode_fields(kind, &mut fields)?;
        fields.0.is_empty().then_some(record)
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Ids { .. } => 1,
            Self::Topic { .. } => 2,
            Self::Keep { .. } => 3,
            Self::Peer(_) => 4,
            Self::Known { .. } => 5,
            Self::Resume { .. } => 6,
            Self::Open { .. } => 7,
            Self::Close { .. } => 8,
            Self::Subscribe { .. } => 9,
            Self::Unsubscribe { .. } => 10,
            Self::Run { .. } => 11,
            Self::Pushed { .. } => 12,
            Self::Ack { .. } => 13,
            Self::Member { .. } => 14,
            Self::Note { .. } => 15,
            Self::Take { .. } => 16,
            Self::Confirm { .. } => 17,
            Self::Gone { .. } => 18,
            Self::Counts(_) => 19,
            Self::Mark { .. } => 20,
            Self::Handed { .. } => 21,
            Self::Said { .. } => 22,
            Self::Sent { .. } => 23,
            Self::Shed { .. } => 24,
        }
    }

    fn encode_fields(&self, out: &mut Vec<u8>) {
        let numbers = push_numbers;
        match *self {
            Self::Ids { count } => push_number(out, count.into()),
            Self::Topic { id, name, schema } => {
                push_number(out, id.get().into());
                push_bytes(out, name.as_bytes());
                push_bytes(out, schema);
            }
            Self::Keep { topic, unix_ms, frame } => {
                numbers(out, &[topic.get().into(), unix_ms]);
                push_bytes(out, frame);
            }
            Self::Peer(peer) => peer.encode_fields(out),
            Self::Known { peer } | Self::Gone { peer } => push_number(out, peer.into()),
            Self::Resume { peer, flags, count, total } => {
                numbers(out, &[peer.into(), flags.into(), count, total]);
            }
            Self::Open { peer, id } | Self::Close { peer, id } => {
                numbers(out, &[peer.into(), id.get().into()]);
            }
            Self::Subscribe { peer, no_local, filter } => {
                numbers(out, &[peer.into(), no_local.into()]);
                push_bytes(out, filter.as_bytes());
            }
            Self::Unsubscribe { peer, filter } => {
                push_number(out, peer.into());
                push_bytes(out, filter.as_bytes());
            }
            Self::Run { from, topic, unix_ms, messages, holders, frames } => {
                let from = from.map_or(0, |from| u64::from(from) + 1);
                numbers(out, &[from, topic.get().into(), unix_ms, messages.into()]);
                push_bytes(out, holders.0);
                push_bytes(out, frames);
            }
            Self::Pushed { peer, frames } => {
                push_number(out, peer.into());
                push_bytes(out, frames);
            }
            Self::Ack { peer, count, total } => numbers(out, &[peer.into(), count, total]),
            Self::Said { peer, topic, cause, count } => {
                numbers(out, &[peer.into(), topic.get().into(), cause as u64, count]);
            }
            Self::Member { peer, tier } => numbers(out, &[peer.into(), tier.number().into()]),
            Self::Note { peer, note: [a, b, c, d] } => numbers(out, &[peer.into(), a, b, c, d]),
            Self::Take { peer, count } | Self::Sent { peer, count } => {
                numbers(out, &[peer.into(), count]);
            }
            Self::Shed { peer, after, cause, runs } => {
                numbers(out, &[peer.into(), after, cause as u64]);
                push_bytes(out, runs.0);
            }
            Self::Confirm { peer, publisher, tier, count } => {
                numbers(out, &[peer.into(), publisher.into(), tier.number().into(), count]);
            }
            Self::Counts(CountsRecord { peer, taken, acked, released, held }) => {
                numbers(out, &[peer.into(), taken, acked, released]);
                numbers(out, &held);
            }
            Self::Mark { peer, publisher, tier, at, length, count } => {
                numbers(out, &[peer.into(), publisher.into(), tier.number().into()]);
                numbers(out, &[at, length, count]);
            }
            Self::Handed { peer, publisher, from, to } => {
                numbers(out, &[peer.into(), publisher.into(), from, to]);
            }
        }
    }

    fn decode_fields(kind: u8, fields: &mut Fields<'a>) -> Option<Self> {
        Some(match kind {
            1 => Self::Ids { count: fields.u32()? },
            2 => Self::Topic { id: fields.topic()?, name: fields.text()?, schema: fields.bytes()? },
            3 => Self::Keep {
                topic: fields.topic()?,
                unix_ms: fields.u64()?,
                frame: fields.bytes()?,
            },
            4 => Self::Peer(PeerRecord::decode_fields(fields)?),
            5 => Self::Known { peer: fields.u32()? },
            6 => Self::Resume {
                peer: fields.u32()?,
                flags: fields.u32()?,
                count: fields.u64()?,
                total: fields.u64()?,
            },
            7 => Self::Open { peer: fields.u32()?, id: fields.topic()? },
            8 => Self::Close { peer: fields.u32()?, id: fields.topic()? },
            9 => Self::Subscribe {
                peer: fields.u32()?,
                no_local: fields.bool()?,
                filter: fields.text()?,
            },
            10 => Self::Unsubscribe { peer: fields.u32()?, filter: fields.text()? },
            11 => Self::Run {
                from: match fields.u64()? {
                    0 => None,
                    from => Some(u32::try_from(from - 1).ok()?),
                },
                topic: fields.topic()?,
                unix_ms: fields.u64()?,
                messages: fields.u32()?,
                holders: fields.numbers()?,
                frames: fields.bytes()?,
            },
            12 => Self::Pushed { peer: fields.u32()?, frames: fields.bytes()? },
            13 => Self::Ack { peer: fields.u32()?, count: fields.u64()?, total: fields.u64()? },
            14 => Self::Member { peer: fields.u32()?, tier: fields.tier()? },
            15 => Self::Note {
                peer: fields.u32()?,
                note: [fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?],
            },
            16 => Self::Take { peer: fields.u32()?, count: fields.u64()? },
            17 => Self::Confirm {
                peer: fields.u32()?,
                publisher: fields.u32()?,
                tier: fields.tier()?,
                count: fields.u64()?,
            },
            18 => Self::Gone { peer: fields.u32()? },
            19 => Self::Counts(CountsRecord {
                peer: fields.u32()?,
                taken: fields.u64()?,
                acked: fields.u64()?,
                released: fields.u64()?,
                held: [fields.u64()?, fields.u64()?, fields.u64()?, fields.u64()?],
            }),
            20 => Self::Mark {
                peer: fields.u32()?,
                publisher: fields.u32()?,
                tier: fields.tier()?,
                at: fields.u64()?,
                length: fields.u64()?,
                count: fields.u64()?,
            },
            21 => Self::Handed {
                peer: fields.u32()?,
                publisher: fields.u32()?,
                from: fields.u64()?,
                to: fields.u64()?,
            },
            22 => Self::Said {
                peer: fields.u32()?,
                topic: fields.topic()?,
                cause: GapCause::from_number(fields.u8()?),
                count: fields.u64()?,
            },
            23 => Self::Sent { peer: fields.u32()?, count: fields.u64()? },
            24 => Self::Shed {
                peer: fields.u32()?,
                after: fields.u64()?,
                cause: GapCause::from_number(fields.u8()?),
                runs: fields.numbers()?,
            },
            _ => return None,
        })
    }
}

impl<'a> PeerRecord<'a> {
    fn encode_fields(&self, out: &mut Vec<u8>) {
        push_number(out, self.peer.into());
        push_bytes(out, self.identity.as_bytes());
        push_bytes(out, self.name.as_bytes());
        let own = self.own.map_or(0, |own| own.saturating_add(1));
        let when_full = self.when_full.number();
        for number in [
            self.epoch,
            self.flags.into(),
            when_full.into(),
            self.linger.into(),
            self.keepalive.into(),
            own,
        ] {
            push_number(out, number);
        }
    }

    fn decode_fields(fields: &mut Fields<'a>) -> Option<Self> {
        Some(Self {
            peer: fields.u32()?,
            identity: fields.text()?,
            name: fields.text()?,
            epoch: fields.u64()?,
            flags: fields.u32()?,
            when_full: WhenFull::from_number(fields.u8()?)?,
            linger: fields.u32()?,
            keepalive: fields.u32()?,
            own: fields.u64()?.checked_sub(1),
        })
    }
}

/// What is left of a record's fields.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn u64(&mut self) -> Option<u64> {
        take_number(&mut self.0)
    }

    fn u32(&mut self) -> Option<u32> {
        take_u32(&mut self.0)
    }

    fn u8(&mut self) -> Option<u8> {
        self.u64()?.try_into().ok()
    }

    fn bool(&mut self) -> Option<bool> {
        match self.u64()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn topic(&mut self) -> Option<TopicId> {
        TopicId::new(self.u32()?)
    }

    fn tier(&mut self) -> Option<Tier> {
        Tier::from_number(self.u8()?)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u64()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<&'a str> {
        core::str::from_utf8(self.bytes()?).ok()
    }

    fn numbers(&mut self) -> Option<Numbers<'a>> {
        let bytes = self.bytes()?;
        let mut rest = bytes;
        while !rest.is_empty() {
            take_u32(&mut rest)?;
        }
        Some(Numbers(bytes))
    }
}

#[inline(never)]
fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    varint::take(bytes).ok()
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take_number(bytes)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::vec;

    use proptest::prelude::*;

    use super::*;

    fn id(number: u32) -> TopicId {
        TopicId::new(number).expect("not 0")
    }

    fn examples() -> Vec<Record<'static>> {
        let peer = PeerRecord {
            peer: 3,
            identity: "$uplink",
            name: "alarm",
            epoch: u64::MAX,
            flags: 5,
            when_full: WhenFull::Hold,
            linger: u32::MAX,
            keepalive: 0,
            own: Some(1 << 20),
        };
        let counts =
            CountsRecord { peer: 0, taken: 1, acked: 2, released: 300, held: [1, 2, 3, u64::MAX] };
        let (tier, note) = (Tier::Central, [u64::MAX, 0, 1, 2]);
        let holders = Numbers::of(&[1, 0x80, 1]);
        vec![
            Record::Ids { count: 9 },
            Record::Topic { id: id(200), name: "plant/a", schema: &[1, 2] },
            Record::Keep { topic: id(1), unix_ms: 1_700_000_000_000, frame: &[0x20, 1, 1] },
            Record::Peer(peer),
            Record::Peer(PeerRecord { own: None, ..peer }),
            Record::Known { peer: 1 },
            Record::Resume { peer: 1, flags: 7, count: 1 << 40, total: 1 << 41 },
            Record::Open { peer: 1, id: id(5) },
            Record::Close { peer: 1, id: id(5) },
            Record::Subscribe { peer: 1, no_local: true, filter: "a/#" },
            Record::Unsubscribe { peer: 1, filter: "a/#" },
            Record::Run {
                from: Some(0),
                topic: id(1),
                unix_ms: 1 << 41,
                messages: 1,
                holders,
                frames: &[7; 300],
            },
            Record::Run {
                from: None,
                topic: id(1),
                unix_ms: 0,
                messages: 9,
                holders: Numbers::of(&[]),
                frames: &[],
            },
            Record::Pushed { peer: 1, frames: &[1, 2, 3] },
            Record::Ack { peer: 1, count: 7, total: 9 },
            Record::Member { peer: 1, tier },
            Record::Note { peer: 1, note },
            Record::Take { peer: 1, count: 8 },
            Record::Confirm { peer: 1, publisher: 2, tier, count: 8 },
            Record::Gone { peer: u32::MAX },
            Record::Counts(counts),
            Record::Mark { peer: 1, publisher: 2, tier, at: 3, length: 2, count: 9 },
            Record::Handed { peer: 1, publisher: 2, from: 3, to: 4 },
            Record::Said { peer: 1, topic: id(2), cause: GapCause::Expired, count: 1 << 33 },
            Record::Sent { peer: 1, count: 1 << 33 },
            Record::Shed { peer: 1, after: 4, cause: GapCause::Superseded, runs: holders },
        ]
    }

    #[test]
    fn each_record_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        examples().iter().for_each(|record| record.encode(&mut bytes));
        let mut rest = &bytes[..];
        for expected in examples() {
            assert_eq!(Record::take(&mut rest), Some(expected));
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn a_record_cut_short_is_none() {
        for record in examples() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            for end in 0..bytes.len() {
                assert_eq!(Record::take(&mut &bytes[..end]), None, "{record:?} {end}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_records_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut rest = &bytes[..];
            while let Some(record) = Record::take(&mut rest) {
                let mut again = Vec::new();
                record.encode(&mut again);
                prop_assert_eq!(Record::take(&mut &again[..]), Some(record));
            }
        }
    }
}
