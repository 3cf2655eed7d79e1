//! From a publisher's bytes to its readers' outboxes.

use alloc::vec::Vec;

use fastport_wire::control::{ByeReason, ErrorCode, Tier, WhenFull, features};
use fastport_wire::field::{self, MAX_BODY, kind};
use fastport_wire::frame::{self, DataFlags, GapCause, Head};
use fastport_wire::topic::TopicError;
use fastport_wire::{Frame, Topic as TopicName, TopicId, WireError};

use super::holders::Coming;
use super::peer::{Link, Peer};
use super::streams::Chunk;
use super::topics::Reader;
use super::{Gone, PeerKey, Progress, Session, push_frame, wants_time};
use crate::budget::{Buffers, NoBudget, Span};
use crate::outbox::{Preface, Run, SHARED_BYTES};
use crate::retention::TopicLog;
use crate::time::{CLOCK_FLOOR_MS, NOT_KNOWN, Now};

/// What a run of DATA frames came to.
enum Taken {
    /// So many bytes and messages are done with.
    Some(usize, u32),
    /// A reader that must not lose has no room.
    Blocked,
    /// The publisher did what it may not; its link is being closed.
    Failed,
}

/// Why the daemon's own message is not published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishError {
    /// The name is no topic.
    BadTopic(TopicError),
    /// The session has no room for another topic, or for its schema.
    LimitReached,
}

impl Session {
    /// Takes bytes that a peer sent; what is not consumed is to be given again with what comes
    /// after it, once more has come or, where that is said, once the peer is woken.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn handle_bytes(&mut self, now: Now, key: PeerKey, input: &[u8]) -> Result<Progress, Gone> {
        let peer = self.peer_mut(key)?;
        if !matches!(peer.link, Link::Attached { .. }) {
            return Ok(Progress { consumed: input.len(), ..Progress::default() });
        }
        peer.link = Link::attached(now.mono);
        let mut stamped = self.stamped(now, key.index);
        let mut progress = Progress::default();
        while progress.consumed < input.len() && !progress.is_blocked && !progress.pauses {
            let rest = input.get(progress.consumed..).unwrap_or_default();
            let (head, body) = match frame::split(rest, self.longest_body(rest)) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    self.fail_wire(key.index, error);
                    progress.consumed = input.len();
                    break;
                }
            };
            if head.kind() == kind::DATA {
                match self.handle_run(stamped, key.index, rest, head, body) {
                    Taken::Some(bytes, messages) => {
                        progress.consumed += bytes;
                        progress.messages += messages;
                    }
                    Taken::Blocked => progress.is_blocked = true,
                    Taken::Failed => progress.consumed = input.len(),
                }
            } else if self.handle_frame(now, key, head, body) {
                progress.consumed += head.total();
                stamped = self.stamped(now, key.index);
            } else {
                progress.is_blocked = true;
            }
            if self.at(key.index).is_none_or(|peer| matches!(peer.link, Link::Closing)) {
                progress.consumed = input.len();
            }
            // one at a time: what a peer packs into one write must not become a pile of answers,
            // or keep all others waiting
            progress.pauses = core::mem::take(&mut self.is_costly) || !self.asks.is_empty();
        }
        if progress.is_blocked {
            self.block(now, key.index);
            self.look_ahead(key.index, input.get(progress.consumed..).unwrap_or_default());
        }
        progress.pauses &= progress.consumed < input.len();
        if progress.consumed > 0 && self.at(key.index).is_some_and(|peer| !peer.is_known) {
            self.note_known(key.index);
        }
        self.plan_ack(now.mono, key);
        self.plan_trim(now.mono);
        Ok(progress)
    }

    /// How many bytes the body of the frame at the front may have: what its kind needs, however short
    /// payloads are to be.
    #[inline]
    fn longest_body(&self, bytes: &[u8]) -> usize {
        let least = match bytes.first().map_or(kind::PADDING, |first| first >> 4) {
            kind::CHUNK => LEAST_CHUNK,
            kind::CONTROL => LEAST_CONTROL,
            _ => 0,
        };
        // an EMIT carries a topic and a payload in one control message
        self.limits.payload.saturating_add(CONTROL_ROOM).max(least)
    }

    /// Publishes a message of the daemon's own.
    ///
    /// # Errors
    /// [`PublishError`].
    pub fn publish_own(
        &mut self,
        now: Now,
        name: &str,
        schema: Option<&[u8]>,
        flags: DataFlags,
        payload: &[u8],
    ) -> Result<(), PublishError> {
        let name = TopicName::parse(name).map_err(PublishError::BadTopic)?;
        let id = self.find_or_make_topic(name).ok_or(PublishError::LimitReached)?;
        if !self.set_schema(id, schema) {
            return Err(PublishError::LimitReached);
        }
        let mut bytes = Vec::new();
        push_frame(&mut bytes, &Frame::Data { flags, topic: id, payload });
        let is_counted = flags.contains(DataFlags::COUNTED);
        let run = Run { bytes: &bytes, messages: 1, is_counted, topic: id };
        self.publish_uncounted(now, None, &run, flags);
        Ok(())
    }

    fn handle_run(&mut self, now: Now, from: u32, rest: &[u8], head: Head, body: &[u8]) -> Taken {
        let Ok(Frame::Data { flags, topic, payload }) = Frame::from_parts(head, body) else {
            self.fail(from, ErrorCode::BadFrame, "DATA without a topic id");
            return Taken::Failed;
        };
        if !self.at(from).is_some_and(|peer| peer.has_open(topic)) {
            self.fail(from, ErrorCode::UnknownId, "DATA on a topic that was not opened");
            return Taken::Failed;
        }
        if payload.len() > self.limits.payload {
            self.fail(from, ErrorCode::PayloadTooLong, "payload over the session's limit");
            return Taken::Failed;
        }
        // of all in the run: they have the same flags
        if self.limits.sealed && !flags.contains(DataFlags::SEALED) {
            self.fail(from, ErrorCode::Unsealed, "the session takes sealed payloads only");
            return Taken::Failed;
        }
        let prefix = body.len() - payload.len();
        let (mut length, mut messages) = measure_run(rest, head, prefix, self.limits.payload);
        let is_counted = flags.contains(DataFlags::COUNTED);
        if is_counted {
            if self.is_frozen() {
                return Taken::Blocked;
            }
            let room = self
                .room_at_holders(now, &Coming { from, topic, least: head.total(), wanted: length });
            if room < length {
                (length, messages) = whole_frames(rest.get(..room).unwrap_or_default());
            }
            if messages == 0 {
                return Taken::Blocked;
            }
        }
        let bytes = rest.get(..length).unwrap_or_default();
        let run = Run { bytes, messages, is_counted, topic };
        if let Some(peer) = self.at_mut(from).filter(|_| is_counted) {
            peer.take_counted(messages, length);
        }
        if self.is_journaled() {
            self.publish_recorded(now, Some(from), true, &run, flags);
        } else {
            self.publish_taken(now, from, &run, flags);
        }
        Taken::Some(length, messages)
    }

    /// Gives a run that is in its publisher's count to its readers, and to members with a mark.
    #[inline(always)]
    pub(super) fn publish_taken(&mut self, now: Now, from: u32, run: &Run<'_>, flags: DataFlags) {
        if run.is_counted && !self.members.is_empty() {
            self.note_before_run();
            self.publish(now, Some(from), run, flags);
            self.mark_members(from, run.topic, run.messages);
        } else {
            self.publish(now, Some(from), run, flags);
        }
    }

    /// Gives a run that is in nobody's count to its readers.
    pub(super) fn publish_uncounted(
        &mut self,
        now: Now,
        from: Option<u32>,
        run: &Run<'_>,
        flags: DataFlags,
    ) {
        if self.is_journaled() {
            self.publish_recorded(now, from, false, run, flags);
        } else {
            self.publish(now, from, run, flags);
        }
    }

    /// Gives a run to every reader of its topic, and to the topic's past.
    pub(super) fn publish(&mut self, now: Now, from: Option<u32>, run: &Run<'_>, flags: DataFlags) {
        self.ledger.published += u64::from(run.messages);
        let Some(topic) = self.topics.get_mut(run.topic) else { return };
        let mut readers = core::mem::take(&mut topic.readers);
        // a short one goes where the long one before it lies, too
        let is_worth_it = run.bytes.len() >= SHARED_BYTES || self.buffers.is_sharing();
        let all = readers.as_mut_slice();
        let is_shared = all.len() >= SHARING_READERS && is_worth_it;
        // without memory each has its own copy, or none
        let span = if is_shared { self.buffers.share(run.bytes).ok() } else { None };
        let is_for = |reader: &&mut Reader| !(reader.no_local && Some(reader.peer) == from);
        for reader in all.iter_mut().filter(is_for) {
            self.deliver(now, reader, run, span);
        }
        if let Some(span) = span {
            self.buffers.let_go(span);
        }
        if let Some(topic) = self.topics.get_mut(run.topic) {
            topic.readers = readers;
        }
        self.remember(now, run, flags);
    }

    fn deliver(&mut self, now: Now, reader: &mut Reader, run: &Run<'_>, span: Option<Span>) {
        let messages = u64::from(run.messages);
        self.ledger.routed += messages;
        match self.at(reader.peer).filter(|peer| !peer.is_leaving) {
            None => {
                self.ledger.drop_messages(GapCause::ReaderGone, messages);
                return;
            }
            // what waits for it is what must not be lost
            Some(peer) if !run.is_counted && peer.is_own && peer.is_away() => {
                return self.pass_by(now, reader, run, GapCause::LinkLost);
            }
            Some(_) => {}
        }
        while let Err(NoBudget) = self.try_deliver(now, reader, run, span) {
            if self.evict_oldest() {
                continue;
            }
            self.pass_by(now, reader, run, GapCause::Budget);
            break;
        }
        self.wake(reader.peer);
    }

    /// A reader does not get a run: it is booked, and the reader told when it reads on.
    fn pass_by(&mut self, now: Now, reader: &Reader, run: &Run<'_>, cause: GapCause) {
        let Self { peers, topics, ledger, .. } = self;
        let slot = peers.get_mut(reader.peer as usize);
        let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) else { return };
        let announcement = topics.get(run.topic).map(|topic| topic.frame(run.topic));
        let preface = peer.preface(reader.announced, announcement, now.unix_ms);
        peer.outbox.skip_run_after(ledger, &preface, run, cause);
    }

    #[inline]
    fn try_deliver(
        &mut self,
        now: Now,
        reader: &mut Reader,
        run: &Run<'_>,
        span: Option<Span>,
    ) -> Result<(), NoBudget> {
        let Self { peers, topics, buffers, ledger, .. } = self;
        let slot = peers.get_mut(reader.peer as usize);
        let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) else { return Ok(()) };
        if reader.announced == peer.announced && !wants_time(peer.flags) {
            peer.outbox.push_shared_after(buffers, ledger, &mut Preface::default(), run, span)?;
        } else {
            let announcement = topics.get(run.topic).map(|topic| topic.frame(run.topic));
            let mut preface = peer.preface(reader.announced, announcement, now.unix_ms);
            peer.outbox.push_shared_after(buffers, ledger, &mut preface, run, span)?;
            if preface.topic.is_none() {
                reader.announced = peer.announced;
            }
            if wants_time(peer.flags) && preface.unix_ms.is_none() {
                peer.note_time(now.unix_ms);
            }
        }
        if peer.outbox.has_overflowed() && matches!(peer.link, Link::Attached { .. }) {
            self.note_leaving(reader.peer);
            self.say_bye(reader.peer, ByeReason::TooSlow, None);
        }
        Ok(())
    }

    fn remember(&mut self, now: Now, run: &Run<'_>, flags: DataFlags) {
        let limits = self.limits.retention;
        if limits.messages > 0 {
            let pushed =
                self.change_log(run.topic, |log, buffers| log.push(buffers, &limits, now, run));
            self.evicted += if pushed.is_err() { u64::from(run.messages) } else { 0 };
            self.schedule_expiry(run.topic);
        }
        if !flags.contains(DataFlags::KEEP) {
            return;
        }
        if let Some((last, has_payload)) = last_frame(run) {
            self.keep_last(run.topic, now, last, has_payload);
        }
    }

    /// Makes a frame the last value of its topic.
    pub(super) fn keep_last(&mut self, id: TopicId, now: Now, last: &[u8], has_payload: bool) {
        let kept =
            self.change_log(id, |log, buffers| log.keep(buffers.budget(), now, last, has_payload));
        self.evicted += u64::from(kept.is_err());
        if !has_payload {
            self.topics.note_quieter();
        }
    }

    /// Changes a topic's past, evicting older messages where that takes more memory than there is;
    /// what is evicted may be of this very topic.
    fn change_log(
        &mut self,
        id: TopicId,
        mut change: impl FnMut(&mut TopicLog, &mut Buffers) -> Result<(), NoBudget>,
    ) -> Result<(), NoBudget> {
        loop {
            let Some(topic) = self.topics.get_mut(id) else { return Ok(()) };
            let log = topic.log_or_new();
            let before = log.messages();
            let changed = change(log, &mut self.buffers);
            let after = log.messages();
            self.topics.note_retained(before, after);
            if changed.is_ok() || !self.evict_oldest() {
                return changed;
            }
        }
    }

    /// A frame that is no message; whether it is done with.
    fn handle_frame(&mut self, now: Now, key: PeerKey, head: Head, body: &[u8]) -> bool {
        if head.kind() == kind::PADDING {
            return true;
        }
        let index = key.index;
        let frame = match Frame::from_parts(head, body) {
            Ok(frame) => frame,
            Err(error) => {
                self.fail_wire(index, error);
                return true;
            }
        };
        let is_choked = self.at(index).is_some_and(|peer| peer.outbox.is_choked());
        match frame {
            Frame::Control(_) | Frame::Ping { .. } | Frame::Chunk { .. } | Frame::Credit { .. }
                if is_choked =>
            {
                return false;
            }
            Frame::Control(body) => return self.handle_control(now, key, body),
            Frame::Ack { repeat: true, .. } => {
                self.fail(index, ErrorCode::BadAck, "nothing is sent again on this link");
            }
            Frame::Ack { taken, .. } => self.handle_ack(index, taken),
            Frame::Ping { token } => {
                self.send_ack(index);
                self.send_frame(index, &Frame::Pong { token });
            }
            Frame::Pong { .. } => {
                // it has acknowledged what it had
                if let Some(peer) = self.at_mut(index) {
                    peer.is_asked_for_ack = false;
                }
            }
            Frame::Chunk { stream, offset, last, sealed, bytes } => {
                let (is_last, is_sealed) = (last, sealed);
                self.handle_chunk(index, &Chunk { stream, offset, is_last, is_sealed, bytes });
            }
            Frame::Credit { stream, bytes } => self.handle_credit(index, stream, bytes),
            Frame::Time { unix_ms } => self.handle_time(index, unix_ms),
            // what is not written down would be forgotten
            Frame::Gap { .. } if self.is_frozen() => return false,
            Frame::Gap { topic, count, cause } => self.handle_gap(index, topic, count, cause),
            _ => self.fail(index, ErrorCode::Unexpected, "this frame goes from relay to peer"),
        }
        true
    }

    /// Looks for an ACK in bytes of a peer which wait behind those that are blocked, and are handed over
    /// later.
    pub fn look_behind(&mut self, key: PeerKey, bytes: &[u8]) {
        if self.at(key.index).is_some() && self.key_of(key.index) == key {
            self.look_ahead(key.index, bytes);
        }
    }

    /// Takes the last ACK out of bytes that wait: two readers that must not lose, each publishing
    /// what the other reads, would otherwise wait for each other's ACK for ever.
    fn look_ahead(&mut self, index: u32, bytes: &[u8]) {
        let (mut rest, mut last) = (bytes, None);
        while let Ok(Some((head, body))) = frame::split(rest, MAX_BODY) {
            if head.kind() == kind::ACK
                && let Ok(Frame::Ack { taken, repeat: false, .. }) = Frame::from_parts(head, body)
            {
                last = Some(taken);
            }
            rest = rest.get(head.total()..).unwrap_or_default();
        }
        let Some(count) = last else { return };
        self.handle_ack(index, count);
        if let Some(peer) = self.at_mut(index) {
            peer.acked_ahead = peer.acked_ahead.max(count);
        }
    }

    fn handle_ack(&mut self, index: u32, count: u64) {
        let slot = self.peers.get_mut(index as usize);
        let Some(peer) = slot.and_then(|slot| slot.peer.as_mut()) else { return };
        if count <= peer.acked_ahead {
            return;
        }
        if peer.outbox.acknowledge(&mut self.buffers, &mut self.ledger, count).is_err() {
            self.fail(index, ErrorCode::BadAck, "more than was sent, or less than before");
            return;
        }
        peer.is_asked_for_ack = false;
        let has_marks = peer.has_marks();
        if self.is_journaled() {
            self.record_ack(index, count);
        }
        if has_marks {
            self.commit(index, count);
        }
        self.wake_blocked();
    }

    fn block(&mut self, now: Now, index: u32) {
        let Some(peer) = self.at_mut(index) else { return };
        if !peer.is_blocked {
            peer.is_blocked = true;
            self.blocked.push(index);
        }
        // memory may become free where this session does not see it
        self.peer_wheel.schedule(index, now.mono.after(BLOCKED_RETRY_MS));
    }

    fn fail_wire(&mut self, index: u32, error: WireError) {
        let code = match error {
            WireError::TooLong => ErrorCode::FrameTooLong,
            WireError::BadControl => ErrorCode::BadControl,
            WireError::BadTopic(_) => ErrorCode::BadTopic,
            WireError::BadReadings => ErrorCode::BadReadings,
            WireError::BadJson => ErrorCode::BadJson,
            _ => ErrorCode::BadFrame,
        };
        self.fail(index, code, &alloc::format!("{error}"));
    }
}

impl Peer {
    /// Whether it has no link, and may come back.
    fn is_away(&self) -> bool {
        matches!(self.link, Link::Lingering { .. })
    }

    /// Whether counted messages wait for it, rather than being dropped.
    pub(super) fn must_not_lose(&self) -> bool {
        self.outbox.when_full() == WhenFull::Hold
    }

    /// What goes before a message of a topic that was announced on link number `announced`.
    pub(super) fn preface<'a>(
        &self,
        announced: u16,
        announcement: Option<Frame<'a>>,
        unix_ms: u64,
    ) -> Preface<'a> {
        let time = self.time_of(unix_ms);
        let has_new_clock = wants_time(self.flags) && self.last_time != time;
        Preface {
            topic: announcement.filter(|_| announced != self.announced),
            unix_ms: has_new_clock.then_some(time),
        }
    }

    /// What TIME says to it of a stamp. Only the daemon's own parts know what to do with one that is
    /// no time of day.
    pub(super) const fn time_of(&self, stamp: u64) -> u64 {
        if stamp < CLOCK_FLOOR_MS && !self.is_own { NOT_KNOWN } else { stamp }
    }

    /// TIME has told it of a stamp.
    pub(super) const fn note_time(&mut self, stamp: u64) {
        self.last_time = self.time_of(stamp);
    }

    /// The ACK that says what is here of the peer's frames.
    pub(super) fn ack(&self) -> Frame<'static> {
        let asked = |flag: u32, count: u64| {
            (self.flags & flag != 0 && count != self.taken).then_some(count)
        };
        Frame::Ack {
            taken: self.taken,
            durable: asked(features::ACK_DURABLE, self.held(Tier::Durable)),
            central: asked(features::ACK_CENTRAL, self.held(Tier::Central)),
            repeat: false,
        }
    }
}

/// How far the frames with the first one's type, flags and topic reach, and how many they are.
/// `prefix` is the length of the topic id.
fn measure_run(bytes: &[u8], first: Head, prefix: usize, payload: usize) -> (usize, u32) {
    if bytes.len() <= first.total() {
        return (first.total(), 1);
    }
    let start = bytes.get(..first.head + prefix).unwrap_or_default();
    let id = start.get(first.head..).unwrap_or_default();
    let (total, mut length, mut messages) = (first.total(), first.total(), 1);
    while let Some(rest) = bytes.get(length..) {
        // most frames of a run are of one length
        if rest.len() >= total && rest.starts_with(start) {
            length += total;
            messages += 1;
            continue;
        }
        if rest.first() != Some(&first.first) {
            break;
        }
        let Ok(Some((head, body))) = frame::split(rest, payload.saturating_add(prefix)) else {
            break;
        };
        if !body.starts_with(id) {
            break;
        }
        length += head.total();
        messages += 1;
    }
    (length, messages)
}

/// The length of the whole frames at the front of `bytes`, and how many they are.
fn whole_frames(bytes: &[u8]) -> (usize, u32) {
    let (mut length, mut messages) = (0, 0);
    while let Some(Ok(Some((head, _)))) =
        bytes.get(length..).map(|rest| frame::split(rest, rest.len()))
    {
        length += head.total();
        messages += 1;
    }
    (length, messages)
}

/// The last frame of a run, and whether it has a payload.
fn last_frame<'a>(run: &Run<'a>) -> Option<(&'a [u8], bool)> {
    let mut rest = run.bytes;
    for _ in 1..run.messages {
        let head = frame::head(rest, rest.len()).ok()??;
        rest = rest.get(head.total()..)?;
    }
    let (head, body) = frame::split(rest, rest.len()).ok()??;
    match Frame::from_parts(head, body) {
        Ok(Frame::Data { payload, .. }) => Some((rest, !payload.is_empty())),
        _ => None,
    }
}

/// A run for so many readers is kept once for all of them, if it is long.
const SHARING_READERS: usize = 2;
/// What a chunk takes with its head.
const LEAST_CHUNK: usize = field::MAX_CHUNK + 64;
/// The longest control message that carries no payload, and more: an OFFER has at most 1000 bytes.
const LEAST_CONTROL: usize = 4096;
/// What an EMIT takes beside its payload: a topic of at most 255 bytes, CBOR heads.
const CONTROL_ROOM: usize = 512;
/// What waits for memory looks again after that.
const BLOCKED_RETRY_MS: u64 = 1000;
