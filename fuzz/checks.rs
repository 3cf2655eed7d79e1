//! What must hold for any bytes: the bodies of the fuzz targets, and on a stable compiler of the
//! test `corpus` in fastport-wire, which replays what the fuzzer found worth keeping.

use fastport_wire::accumulator::Accumulator;
use fastport_wire::control::Control;
use fastport_wire::frame::{Frame, GapCause};
use fastport_wire::json::{JsonMessage, to_json};
use fastport_wire::packet::{self, Checked, PacketAccumulator};
use fastport_wire::schema::MAX_SCHEMA;
use fastport_wire::{
    Filter, Readings, ReadingsEncoder, Schema, Stamp, Topic, WireError, field, senml, varint,
};

/// What a target does with one input.
pub(crate) type Check = fn(&[u8]);

/// The targets by name.
pub(crate) const ALL: &[(&str, Check)] = &[
    ("decode", decode),
    ("accumulator", accumulator),
    ("control", control),
    ("filter", filter),
    ("readings", readings),
];

/// Input: frames. Each decodes to what encodes to the same bytes.
pub(crate) fn decode(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((frame, length))) = Frame::decode(rest, field::MAX_BODY) {
        let padding = rest.iter().take_while(|&&byte| byte == 0).count();
        let mut out = vec![0; frame.encoded_len()];
        assert_eq!(frame.encode(&mut out), Ok(out.len()));
        // the number of an unknown cause is not kept
        if !matches!(frame, Frame::Gap { cause: GapCause::Other, .. }) {
            assert_eq!(out, &rest[padding..length]);
        }
        assert_eq!(Frame::decode(&out, field::MAX_BODY), Ok(Some((frame, out.len()))));
        rest = &rest[length..];
    }
}

/// Input: a seed for the pieces' lengths, then a stream. Frames and packets are the same whether it
/// comes at once or in pieces, and what comes out can be sent again.
pub(crate) fn accumulator(data: &[u8]) {
    let Some((&seed, stream)) = data.split_first() else { return };
    let at_once = frames(std::iter::once(stream));
    assert_eq!(at_once, frames(pieces(stream, seed)));

    let count = u32::from(seed & 3);
    let at_once = packets(std::iter::once(stream), count);
    assert_eq!(at_once, packets(pieces(stream, seed), count));
    for (frame, is_in_step) in at_once.into_iter().flatten() {
        let mut packet = vec![0; packet::packet_len(frame.len())];
        let length = packet::encode(&frame, count, &mut packet).expect("packet_len is enough");
        let again = packets(std::iter::once(&packet[..length]), count);
        // what came from a side without a count is in step when it is sent with this side's
        let is_ack = frame[0] >> 4 == field::kind::ACK;
        assert_eq!(again, [Ok((frame, is_in_step || !is_ack))]);
    }
}

/// Input: a control message, as CBOR and as JSON text. What is understood can be said again in
/// either way and is then the same.
pub(crate) fn control(data: &[u8]) {
    if let Ok(message) = Control::decode(data) {
        same_again(&message);
        // a message without a request may come with one, which is then ignored
        if let Some(request) = message.to_fields().request {
            assert_eq!(Control::request_of(data), Some(request));
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(json) = JsonMessage::parse(text) else { return };
    if let Ok(message) = json.as_control() {
        same_again(&message);
        assert_eq!(json.op(), message.name());
    }
}

/// Input: two lines, a filter and a topic. Well-formedness, matching and overlap agree.
pub(crate) fn filter(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (first, second) = text.split_once('\n').unwrap_or((text, text));
    let parsed = (Filter::parse(first), Topic::parse(second), Filter::parse(second));
    if let (Ok(filter), _, Ok(other)) = parsed {
        assert_eq!(filter.overlaps(other), other.overlaps(filter));
        assert!(filter.overlaps(filter));
        assert_eq!(filter.as_topic().is_some(), Topic::parse(first).is_ok());
    }
    if let (Ok(filter), Ok(topic), other) = parsed {
        let other = other.expect("a topic is a filter");
        assert!(other.matches(topic));
        // a topic is a filter that selects itself only
        assert_eq!(filter.overlaps(other), filter.matches(topic));
        if let Some(only) = filter.as_topic() {
            assert_eq!(filter.matches(topic), only == topic);
        }
    }
}

/// Input: a schema behind its length, then a payload; or a SenML pack in JSON or CBOR. A payload that
/// is well formed packs to the same bytes and survives SenML; a pack that is understood becomes
/// readings that say the same.
pub(crate) fn readings(data: &[u8]) {
    if let Some((&length, rest)) = data.split_first()
        && let Some((schema, payload)) = rest.split_at_checked(length.into())
        && let Ok(decoded) = Schema::decode(schema)
    {
        let mut out = [0; MAX_SCHEMA];
        let length = decoded.encode(&mut out).expect("MAX_SCHEMA bytes are enough");
        assert_eq!(&out[..length], schema);
        packs_again(&decoded, payload);
    }
    let runs = senml::from_cbor(data).or_else(|error| {
        let text = std::str::from_utf8(data).map_err(|_| error)?;
        senml::from_json(text)
    });
    for run in runs.unwrap_or_default() {
        let Ok(schema) = run.infer_schema() else { continue };
        let Ok(payload) = run.encode(&schema, Some(MESSAGE_MS)) else { continue };
        let readings = Readings::decode(&schema, &payload).expect("what was packed is well formed");
        assert_eq!(readings.len(), run.samples.len());
        packs_again(&schema, &payload);
    }
}

/// A time for messages, in 2025.
const MESSAGE_MS: u64 = 1_764_000_000_500;

fn packs_again(schema: &Schema<'_>, payload: &[u8]) {
    let Ok(readings) = Readings::decode(schema, payload) else { return };
    let mut out = vec![0; payload.len() + varint::MAX_LEN];
    let mut encoder = ReadingsEncoder::new(schema, &mut out);
    for reading in readings.iter() {
        let time = readings.span() - reading.before_last;
        encoder.push(time, reading.value).expect("the value came from this schema");
    }
    let length = encoder.finish(readings.stamp()).expect("the stamp came from this schema");
    if readings.stamp() != Stamp::Age(0) {
        // an age of 0 may be left out
        assert_eq!(&out[..length], payload);
    }

    let Ok(json) = senml::to_json(schema, "t", payload, Some(MESSAGE_MS)) else { return };
    let cbor = senml::to_cbor(schema, "t", payload, Some(MESSAGE_MS)).expect("as in JSON");
    let from_json = senml::from_json(&json).expect("what was written is well formed");
    let from_cbor = senml::from_cbor(&cbor).expect("what was written is well formed");
    for runs in [from_json, from_cbor] {
        assert_eq!(runs.len(), 1);
        let again = runs[0].encode(schema, Some(MESSAGE_MS)).expect("the schema held it");
        let again = senml::to_json(schema, "t", &again, Some(MESSAGE_MS));
        assert_eq!(again.as_ref(), Ok(&json));
    }
}

const CAPACITY: usize = 64;

/// All frames of a stream, and the error that ends it.
type Frames = (Vec<Vec<u8>>, Option<WireError>);

fn frames<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Frames {
    let mut accumulator = Accumulator::<CAPACITY>::new();
    let mut frames = Vec::new();
    for mut piece in pieces {
        loop {
            match accumulator.feed(piece) {
                Ok(None) => break,
                Ok(Some(fed)) => {
                    assert!(fed.whole.bytes().len() <= CAPACITY);
                    assert_eq!(fed.whole.head().total(), fed.whole.bytes().len());
                    frames.push(fed.whole.bytes().to_vec());
                    piece = fed.rest;
                }
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(accumulator.held() < CAPACITY);
    }
    (frames, None)
}

/// What each packet of a stream gives: its frame, and whether it was in step.
type Packet = Result<(Vec<u8>, bool), WireError>;

fn packets<'a>(pieces: impl Iterator<Item = &'a [u8]>, count: u32) -> Vec<Packet> {
    let mut accumulator = PacketAccumulator::<{ CAPACITY + packet::CRC_LEN }>::new();
    let mut packets: Vec<Packet> = Vec::new();
    for mut piece in pieces {
        while let Some(fed) = accumulator.feed(piece, count) {
            let is_in_step = matches!(fed.packet, Ok(Checked::InStep(_)));
            packets.push(fed.packet.map(|checked| (checked.frame().to_vec(), is_in_step)));
            piece = fed.rest;
        }
    }
    let refused = packets.iter().filter(|packet| packet.is_err()).count();
    assert_eq!((accumulator.damaged() + accumulator.out_of_step()) as usize, refused);
    packets
}

/// Cuts a stream into pieces of 1 to 16 bytes by a linear congruential generator.
fn pieces(mut stream: &[u8], seed: u8) -> impl Iterator<Item = &[u8]> {
    let mut state = u32::from(seed);
    std::iter::from_fn(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = (1 + (state >> 28) as usize).min(stream.len());
        let (piece, rest) = stream.split_at(length);
        stream = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

fn same_again(message: &Control<'_>) {
    let mut out = vec![0; 4096 + 64 * 31];
    match message.encode(&mut out) {
        Ok(length) => assert_eq!(Control::decode(&out[..length]).as_ref(), Ok(message)),
        // libFuzzer's inputs are at most 4096 bytes; longer ones come only by hand
        Err(error) => assert_eq!(error, WireError::NoRoom),
    }
    let text = to_json(message);
    let json = JsonMessage::parse(&text).expect("what was written is well formed");
    assert_eq!(json.as_control().as_ref(), Ok(message));
}
