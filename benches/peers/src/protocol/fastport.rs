//! fastPort, version 2, as little of it as a load generator needs: `docs/protocol.md`.
//!
//! Peers join an open session. Those that count ask for the policy `hold`, under which a relay may
//! not drop what is counted; a GAP is an error here, since no run may lose anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastport_wire::control::{self, Control, WhenFull};
use fastport_wire::field::{MAX_BODY, kind};
use fastport_wire::frame::{self, DataFlags};
use fastport_wire::{Frame, ReadingsEncoder, Schema, Stamp as ReadingStamp, TopicId, Value};
use fastport_wire::{WireError, varint};

use super::{Event, Flavour, Protocol, ProtocolError};
use crate::scenario::stamp::{self, Stamp};

pub struct Fastport {
    flavour: Flavour,
    /// Counted deliveries that came, and how many of them the relay was told of.
    taken: u64,
    acknowledged: u64,
    /// What the relay was not told of weighs, and since when it was not.
    weight: usize,
    since: Option<Instant>,
    /// Counted publishes: made, acknowledged by the relay, and made when it was last asked for that.
    published: u64,
    confirmed: u64,
    asked_at: u64,
    /// Bytes of a publish.
    frame: usize,
    packer: Packer,
}

impl Fastport {
    pub fn new(flavour: Flavour) -> Self {
        Fastport {
            flavour,
            taken: 0,
            acknowledged: 0,
            weight: 0,
            since: None,
            published: 0,
            confirmed: 0,
            asked_at: 0,
            frame: 0,
            packer: Packer::default(),
        }
    }

    fn flags(&self) -> DataFlags {
        let mut flags = DataFlags::NONE;
        if self.flavour.counted {
            flags = flags.with(DataFlags::COUNTED);
        }
        if self.flavour.readings {
            flags = flags.with(DataFlags::READINGS);
        }
        flags
    }

    /// Bytes of publishes that the client holds, since the relay may not have them.
    fn held(&self) -> usize {
        usize::try_from(self.published - self.confirmed).unwrap_or(usize::MAX) * self.frame
    }

    /// Appends the ACK that is owed.
    fn acknowledge(&mut self, out: &mut Vec<u8>) {
        if self.acknowledged < self.taken {
            let (taken, durable, central) = (self.taken, None, None);
            put_frame(&Frame::Ack { taken, durable, central, repeat: false }, out);
            (self.acknowledged, self.weight, self.since) = (self.taken, 0, None);
        }
    }

    fn control(&self, body: &[u8], sink: &mut impl FnMut(Event<'_>)) -> Result<(), ProtocolError> {
        match Control::decode(body).map_err(wire_error)? {
            Control::Welcome(_) => sink(Event::Connected),
            Control::Ok(ok) => match (ok.request, ok.id) {
                (OPEN, Some(id)) => sink(Event::Declared(id)),
                (SUBSCRIBE, _) => sink(Event::Subscribed),
                (request, _) => {
                    return Err(ProtocolError(format!("fastPort: OK to request {request}")));
                }
            },
            refused => return Err(ProtocolError(format!("fastPort: {refused:?}"))),
        }
        Ok(())
    }
}

impl Protocol for Fastport {
    type Topic = TopicId;

    fn connect(&mut self, _client_id: &str, out: &mut Vec<u8>) {
        let counted = self.flavour.counted;
        put_control(
            control::Hello {
                version: control::VERSION,
                session: SESSION,
                // peers without identity and name are told apart by it
                epoch: NEXT_EPOCH.fetch_add(1, Ordering::Relaxed),
                when_full: counted.then_some(WhenFull::Hold.number()),
                // the relay keeps what is not acknowledged for a peer that means to come back
                linger: counted.then_some(LINGER_S),
                ..Default::default()
            }
            .into(),
            out,
        );
    }

    fn subscribe(&mut self, filter: &str, out: &mut Vec<u8>) {
        let ask = control::Subscribe { request: SUBSCRIBE, topic: filter, ..Default::default() };
        put_control(ask.into(), out);
    }

    fn declare(&mut self, topic: &str, out: &mut Vec<u8>) -> Option<TopicId> {
        let mut room = [0; fastport_wire::schema::MAX_SCHEMA];
        let length = schema().encode(&mut room).expect("the room is for every schema");
        let schema = self.flavour.readings.then_some(&room[..length]);
        put_control(
            control::Open { request: OPEN, topic, schema, ..Default::default() }.into(),
            out,
        );
        None
    }

    fn declared(&mut self, number: u32) -> Option<TopicId> {
        TopicId::new(number)
    }

    #[inline]
    fn encode_publish(&mut self, topic: &TopicId, payload: &[u8], out: &mut Vec<u8>) {
        let (flags, before) = (self.flags(), out.len());
        let payload = if self.flavour.readings { self.packer.pack(payload) } else { payload };
        put_frame(&Frame::Data { flags, topic: *topic, payload }, out);
        if self.flavour.counted {
            self.published += 1;
            self.frame = out.len() - before;
            if self.held() > HELD_MAX / 2 && self.asked_at <= self.confirmed {
                self.asked_at = self.published;
                put_frame(&Frame::Ping { token: &[] }, out);
            }
        }
    }

    #[inline]
    fn parse(
        &mut self,
        input: &[u8],
        replies: &mut Vec<u8>,
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<usize, ProtocolError> {
        let mut used = 0;
        while let Some((head, body)) = frame::split(&input[used..], MAX_BODY).map_err(wire_error)? {
            used += head.total();
            if head.kind() == kind::PADDING {
                continue;
            }
            match Frame::from_parts(head, body).map_err(wire_error)? {
                Frame::Data { flags, payload, .. } => {
                    if flags != self.flags() {
                        return Err(ProtocolError(format!("fastPort DATA with flags {flags:?}")));
                    }
                    if self.flavour.counted {
                        self.taken += 1;
                        self.weight += payload.len() + MESSAGE_WEIGHT;
                    }
                    if self.flavour.readings {
                        let unpacked = unpack(payload)?;
                        sink(Event::Delivery { payload: &unpacked });
                    } else {
                        sink(Event::Delivery { payload });
                    }
                }
                Frame::Ack { taken, .. } => {
                    let more = taken.checked_sub(self.confirmed);
                    let more = more.ok_or_else(|| ProtocolError("an ACK that falls".into()))?;
                    self.confirmed = taken;
                    sink(Event::Acked(more));
                }
                Frame::Control(body) => self.control(body, sink)?,
                Frame::Ping { token } => {
                    self.acknowledge(replies);
                    put_frame(&Frame::Pong { token }, replies);
                }
                Frame::Topic { .. } | Frame::Time { .. } | Frame::Pong { .. } => {}
                other => return Err(ProtocolError(format!("fastPort: {other:?}"))),
            }
        }
        Ok(used)
    }

    fn after_read(&mut self, replies: &mut Vec<u8>) {
        if self.acknowledged == self.taken {
            return;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        if self.weight >= ACK_WEIGHT || since.elapsed() >= ACK_DELAY {
            self.acknowledge(replies);
        }
    }

    fn acks_end_flight(&self) -> bool {
        false
    }

    fn may_publish(&self) -> bool {
        self.held() < HELD_MAX
    }

    fn acks_publishes(&self) -> bool {
        self.flavour.counted
    }
}

fn wire_error(error: WireError) -> ProtocolError {
    ProtocolError(format!("fastPort: {error}"))
}

fn put_frame(frame: &Frame<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + frame.encoded_len(), 0);
    frame.encode(&mut out[start..]).expect("encoded_len is the room that it takes");
}

fn put_control(message: Control<'_>, out: &mut Vec<u8>) {
    let mut body = [0; CONTROL_ROOM];
    let length = message.encode(&mut body).expect("topics and schemas fit into the room");
    put_frame(&Frame::Control(&body[..length]), out);
}

/// The schema under which the generator's readings are packed.
fn schema() -> Schema<'static> {
    Schema::int("", 0)
}

/// Packs readings, again and again.
#[derive(Default)]
struct Packer {
    /// The last payload.
    packed: Vec<u8>,
    /// [`STEP`] over and over.
    steps: Vec<u8>,
}

impl Packer {
    /// Readings whose first values are those of the stamp in `payload`, the sequence number before
    /// all, and as many more as its length has room for, each a step from the one before, as a
    /// sensor's are. Those are differences, so the same bytes in every payload, and are not encoded
    /// anew: the generator has other things to do.
    #[inline]
    fn pack(&mut self, payload: &[u8]) -> &[u8] {
        let Some(stamp) = Stamp::read(payload) else { return &[] };
        if self.steps.len() < payload.len() {
            self.steps = STEP.iter().copied().cycle().take(payload.len()).collect();
        }
        let mut head = [0; HEAD_ROOM];
        let mut encoder = ReadingsEncoder::new(&schema(), &mut head);
        let sent = stamp.sent_ns.cast_signed();
        let stamped = [stamp.sequence.cast_signed(), i64::from(stamp.publisher), sent];
        for (time, value) in (0..).step_by(10).zip(stamped) {
            encoder.push(time, Value::int(value, 0)).expect("the room is for any three");
        }
        let length = encoder.finish(ReadingStamp::Message).expect("no stamp needs no room");
        let more = payload.len().saturating_sub(length) / STEP.len() * STEP.len();
        self.packed.clear();
        self.packed.extend_from_slice(&head[..length]);
        self.packed.extend_from_slice(&self.steps[..more]);
        &self.packed
    }
}

/// The stamp of packed readings, as the bytes of a payload. Only its own numbers are read, as
/// `docs/protocol.md` has them: values are differences, with a time between each two.
#[inline]
fn unpack(mut payload: &[u8]) -> Result<[u8; stamp::SIZE], ProtocolError> {
    let mut values = [0i64; 3];
    let mut before = 0i64;
    for (number, value) in values.iter_mut().enumerate() {
        if number > 0 {
            varint::take(&mut payload).map_err(wire_error)?;
        }
        let difference = varint::unzigzag(varint::take(&mut payload).map_err(wire_error)?);
        before = before.wrapping_add(difference);
        *value = before;
    }
    let [sequence, publisher, sent] = values;
    let publisher = u32::try_from(publisher)
        .map_err(|_| ProtocolError(format!("readings of publisher {publisher}")))?;
    let mut bytes = [0; stamp::SIZE];
    let (sequence, sent_ns) = (sequence.cast_unsigned(), sent.cast_unsigned());
    Stamp { sent_ns, publisher, sequence }.write(&mut bytes);
    Ok(bytes)
}

/// What a client holds for the relay's sake, as the project's client library does by default.
const HELD_MAX: usize = 1024 * 1024;
/// When a client acknowledges, as that library does: for 128 KiB or some 500 small messages, and
/// otherwise after a time.
const ACK_WEIGHT: usize = 128 * 1024;
const MESSAGE_WEIGHT: usize = 224;
const ACK_DELAY: Duration = Duration::from_millis(100);
const LINGER_S: u32 = 60;
/// The session that `conf/fastport.toml` opens.
const SESSION: &str = "bench";
/// Numbers of requests; each kind has one, since the driver waits for each answer.
const OPEN: u32 = 1;
const SUBSCRIBE: u32 = 2;
/// One more reading: a time of 10 units after the one before, and a value greater by 1.
const STEP: [u8; 2] = [10, 2];
/// Holds three readings of any size.
const HEAD_ROOM: usize = 6 * varint::MAX_LEN;
/// Holds the longest control message sent here: a topic of 255 bytes, a schema of 89.
const CONTROL_ROOM: usize = control::BODY_ROOM + 512;

static NEXT_EPOCH: AtomicU64 = AtomicU64::new(1);

#[cfg(test)]
mod tests {
    use fastport_wire::Readings;

    use super::*;
    use crate::protocol::testing::{assert_split_safe, events};
    use crate::transport::TransportKind;

    fn client(readings: bool, counted: bool) -> Fastport {
        Fastport::new(Flavour { transport: TransportKind::Tcp, readings, counted })
    }

    fn topic() -> TopicId {
        TopicId::new(5).unwrap()
    }

    #[test]
    fn a_publish_has_the_bytes_of_the_protocol_text() {
        let mut wire = Vec::new();
        client(false, true).encode_publish(&topic(), b"hi", &mut wire);
        client(false, false).encode_publish(&topic(), b"!", &mut wire);
        assert_eq!(wire, b"\x21\x03\x05hi\x20\x02\x05!");
    }

    #[test]
    fn a_session_is_walked() {
        let mut link = client(false, true);
        // WELCOME, TOPIC, OK with an id, and ACK, as in section 18 of the text
        let wire = b"\x10\x0e\xa5\x00\x03\x07\x02\x0d\x00\x16\x19\xff\xff\x18\x1e\xf4\
                     \x60\x05\x05\x03a/b\x10\x07\xa3\x00\x10\x01\x01\x04\x05\x30\x01\x02\x30\x01\x05";
        let (seen, replies) = events(&mut link, wire);
        assert_eq!(seen, ["C", "T5", "A2", "A3"]);
        assert_eq!(replies, b"");
        assert_split_safe(|| client(false, true), wire);
    }

    #[test]
    fn counted_deliveries_are_acknowledged_when_they_are_many_or_the_relay_asks() {
        let mut link = client(false, true);
        let mut wire = Vec::new();
        for _ in 0..3 {
            link.encode_publish(&topic(), b"x", &mut wire);
        }
        let (seen, replies) = events(&mut link, &wire);
        assert_eq!(seen, ["D[120]"; 3]);
        assert_eq!(replies, b"");
        assert_eq!(events(&mut link, b"\x50\x00").1, b"\x30\x01\x03\x51\x00");
        let many = wire[..4].repeat(ACK_WEIGHT / MESSAGE_WEIGHT);
        let (_, replies) = events(&mut link, &many);
        assert_eq!(replies, b"\x30\x02\xcc\x04", "585 and 3");
    }

    #[test]
    fn a_publisher_asks_when_half_of_what_it_holds_is_not_acknowledged() {
        let mut link = client(false, true);
        let (mut wire, payload) = (Vec::new(), [0; 1020]);
        while link.may_publish() {
            link.encode_publish(&topic(), &payload, &mut wire);
        }
        assert_eq!(link.published, 1024);
        let pings = wire.windows(2).filter(|bytes| bytes == b"\x50\x00").count();
        assert_eq!(pings, 1);
    }

    #[test]
    fn readings_carry_the_stamp_within_the_length_asked_for() {
        for (size, least) in [(32, 31), (1024, 1020)] {
            for sequence in [0, 1, 1 << 20, 1 << 40] {
                let mut payload = stamp::blank(size);
                let stamp = Stamp { sent_ns: 12_345_678_901, publisher: 49, sequence };
                stamp.write(&mut payload);
                let mut packer = Packer::default();
                let packed = packer.pack(&payload);
                assert!((least..=size).contains(&packed.len()), "{} of {size}", packed.len());
                assert_eq!(Stamp::read(&unpack(packed).unwrap()), Some(stamp));
                let readings = Readings::decode(&schema(), packed).unwrap();
                assert_eq!(readings.stamp(), ReadingStamp::Message);
                let last = readings.iter().last().unwrap().value;
                let steps = readings.len() as i64 - 3;
                assert_eq!(last, Value::int(12_345_678_901 + steps, 0));
            }
        }
    }

    #[test]
    fn what_says_that_messages_were_dropped_is_an_error() {
        let mut sink = |_: Event<'_>| {};
        let mut refuses =
            |bytes: &[u8]| client(false, false).parse(bytes, &mut Vec::new(), &mut sink).is_err();
        assert!(refuses(b"\x90\x03\x00\x05\x01")); // GAP of 5: overflow
        assert!(refuses(b"\x21\x02\x05x")); // counted, to one that did not ask for it
        assert!(refuses(b"\x10\x05\xa2\x00\x0e\x05\x08")); // ERROR
        assert!(refuses(b"\xf0\x00"));
    }

    #[test]
    fn a_ping_is_answered() {
        assert_eq!(events(&mut client(false, false), b"\x50\x01t").1, b"\x51\x01t");
    }
}
