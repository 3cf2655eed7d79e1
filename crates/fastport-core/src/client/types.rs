//! What a client is told to be, and what it tells.

use alloc::boxed::Box;

use fastport_wire::control::{ByeReason, ErrorCode, WhenFull};
use fastport_wire::frame::{DataFlags, GapCause};
use fastport_wire::{TopicId, WireError};

use crate::proof::KEY_BYTES;

/// How a client shows who it is.
#[derive(Clone)]
pub enum Secret {
    /// Not at all.
    None,
    /// A password; goes over the link as it is.
    Password(Box<[u8]>),
    /// A device key; does not go over the link.
    Key(Box<[u8; KEY_BYTES]>),
    /// The client certificate of the TLS connection.
    Certificate,
}

/// What a client wants to be.
#[derive(Clone)]
pub struct Options {
    /// The session to join.
    pub session: Box<str>,
    /// Whose credential it has; empty: none.
    pub identity: Box<str>,
    /// What it calls itself; empty: nothing.
    pub name: Box<str>,
    /// How it shows who it is.
    pub secret: Secret,
    /// A random number, new for each client.
    pub epoch: u64,
    /// The epoch was begun by an earlier client, which took so many of its counted frames from the
    /// relay: if the relay still knows it, what is published goes on at the relay's count.
    pub continues: Option<u64>,
    /// What came is acknowledged when [`super::Client::confirm`] says so, and not by itself.
    pub confirms: bool,
    /// What the relay does when the client reads too slowly; `None`: what the relay thinks best.
    pub when_full: Option<WhenFull>,
    /// Seconds between signs of life; `None`: what the relay thinks best.
    pub keepalive: Option<u32>,
    /// Seconds for which the relay should hold the client's state after its link is gone; 0: the
    /// client does not resume.
    pub linger: u32,
    /// [`fastport_wire::control::features`].
    pub flags: u32,
    /// Bytes of messages that may wait for the link or for an acknowledgement.
    pub outbox: usize,
}

/// Something that came from the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The client is in its session.
    Welcome {
        /// The relay still had its state.
        resumed: bool,
        /// Counted frames of the epoch that the relay has.
        taken: u64,
        /// The most bytes a payload may have.
        payload_limit: u32,
        /// The relay's clock, where that is set: milliseconds since 1970.
        clock: Option<u64>,
    },
    /// A message.
    Message(Message<'a>),
    /// Messages that will not come.
    Gap {
        /// Of that topic; `None`: of several.
        topic: Option<&'a str>,
        /// How many.
        count: u64,
        /// Why.
        cause: GapCause,
    },
    /// A request succeeded.
    Done {
        /// The request.
        request: u32,
        /// OPEN: the topic id.
        id: Option<TopicId>,
        /// SUBSCRIBE, HISTORY: how many retained messages came before this.
        count: Option<u64>,
        /// STATUS: JSON.
        text: Option<&'a str>,
    },
    /// A request failed.
    Failed {
        /// The request.
        request: u32,
        /// Why.
        code: Option<ErrorCode>,
        /// The relay's words.
        text: Option<&'a str>,
    },
    /// Counted messages up to this number, see [`super::Client::publish`], are with the relay.
    Acked {
        /// In its memory.
        taken: u64,
        /// On its disk; at most `taken`.
        durable: u64,
        /// At the central instance; at most `taken`.
        central: u64,
    },
    /// The answer to [`super::Client::ping`].
    Pong {
        /// What it had.
        token: &'a [u8],
    },
    /// A stream is offered to the client.
    Offered {
        /// Its number, as long as the link lasts.
        id: u32,
        /// The topic's name.
        topic: &'a str,
        /// A file's name.
        name: Option<&'a str>,
        /// Its length.
        size: Option<u64>,
        /// SHA-256 of all of it.
        digest: Option<&'a [u8]>,
        /// [`fastport_wire::control::offers`].
        flags: u32,
        /// What a sealed offer says, sealed.
        data: Option<&'a [u8]>,
    },
    /// An offer to the client is no more, or what it took of it; of what was never heard of, too.
    Withdrawn {
        /// Its number.
        id: u32,
        /// Why.
        code: Option<ErrorCode>,
    },
    /// The next bytes of a stream that the client takes.
    Chunk {
        /// Its number.
        id: u32,
        /// Where they lie.
        offset: u64,
        /// Nothing follows.
        is_last: bool,
        /// They are sealed.
        is_sealed: bool,
        /// They.
        bytes: &'a [u8],
    },
    /// A receiver takes what the client offers: a part of its own begins.
    Taken {
        /// The offer.
        offer: u32,
        /// The part, as long as the link lasts.
        stream: u32,
        /// From where.
        offset: u64,
    },
    /// A part may be sent further.
    Credited {
        /// The offer.
        offer: u32,
        /// The part.
        stream: u32,
    },
    /// A receiver has all of it, and found it sound; its part, if there was one, is over.
    HasAll {
        /// The offer.
        offer: u32,
        /// The part.
        stream: u32,
    },
    /// A receiver does not want it.
    Declined {
        /// The offer.
        offer: u32,
        /// Why.
        code: Option<ErrorCode>,
    },
    /// A part is over before its end.
    PartEnded {
        /// The offer.
        offer: u32,
        /// The part.
        stream: u32,
        /// Why.
        code: Option<ErrorCode>,
    },
    /// The relay does not take an offer.
    OfferRefused {
        /// The offer.
        offer: u32,
        /// Why.
        code: Option<ErrorCode>,
    },
    /// Messages were not published, since their topic could not be opened again.
    Unpublished {
        /// How many.
        count: u64,
    },
}

/// A message from the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The schema of its readings.
    pub schema: Option<&'a [u8]>,
    /// The topic's id.
    pub id: TopicId,
    /// Counted, keep, sealed, readings.
    pub flags: DataFlags,
    /// What was published.
    pub payload: &'a [u8],
    /// The relay's clock, where [`fastport_wire::control::features::TIME`] was asked for.
    pub unix_ms: Option<u64>,
}

/// Why the link cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The relay sent bytes that are not the protocol's.
    Wire(WireError),
    /// The relay sent a message that may not come now.
    Unexpected,
    /// The relay did not show that it has the device key.
    RelayNotProven,
    /// The relay wants a proof of another kind than the client has.
    WrongMethod,
    /// The relay refused, and closes the link.
    Refused {
        /// Why; `None`: a code not known here.
        code: Option<ErrorCode>,
        /// Its words.
        text: Option<Box<str>>,
        /// Milliseconds after which trying again may help; `None`: it will not.
        retry_ms: Option<u32>,
    },
    /// The relay closes the link in good order.
    Bye {
        /// Why; `None`: a reason not known here.
        reason: Option<ByeReason>,
        /// Milliseconds to wait before coming back.
        retry_ms: Option<u32>,
    },
    /// The relay acknowledged what was not sent.
    BadAck,
    /// Nothing came for twice the keepalive time.
    Silent,
}

/// Why a message is not published now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishError {
    /// What waits for the link or an acknowledgement fills the outbox: try again after an
    /// [`Event::Acked`] or when output was written.
    Full,
    /// The topic is not open (yet, or again).
    NotOpen,
    /// The payload is over the relay's limit.
    TooLong,
}
