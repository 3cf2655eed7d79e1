//! The vectors in `vectors/` are what docs/protocol.md says in bytes, written by a second
//! implementation (`vectors/generate.py`). Here each is checked both ways.

use std::collections::BTreeSet;
use std::path::Path;

use fastport_wire::accumulator::Accumulator;
use fastport_wire::control::Control;
use fastport_wire::frame::{DataFlags, Frame, GapCause, TopicId};
use fastport_wire::json::{Delivery, JsonMessage, gap_to_json, to_json};
use fastport_wire::packet::{self, Checked, PacketAccumulator};
use fastport_wire::{Filter, Topic, WireError, field};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;

#[test]
fn every_frame_has_its_bytes_and_its_meaning() {
    let vectors = read("frames");
    let mut kinds = BTreeSet::new();
    for vector in list(&vectors["vectors"]) {
        let name = text(&vector["name"]);
        let bytes = unhex(&vector["bytes"]);
        let (frame, length) = Frame::decode(&bytes, field::MAX_BODY).expect(name).expect(name);
        assert_eq!(length, bytes.len(), "{name}");
        assert_eq!(meaning(&frame), vector["frame"], "{name}");
        kinds.insert(text(&vector["frame"]["type"]).to_owned());

        for cut in (0..bytes.len()).filter(|cut| *cut < 40 || cut + 40 > bytes.len()) {
            assert_eq!(Frame::decode(&bytes[..cut], field::MAX_BODY), Ok(None), "{name} to {cut}");
        }
        let mut accumulator = Accumulator::<20_000>::new();
        let fed = accumulator.feed(&bytes).expect(name).expect(name);
        assert_eq!(fed.whole.frame(), Ok(frame), "{name}");
        if vector.get("decode_only").is_none() {
            assert_eq!(hex(&encoded(&frame)), vector["bytes"], "{name}");
        }
    }
    let all = [
        "control", "data", "ack", "time", "ping", "pong", "topic", "chunk", "credit", "gap", "pack",
    ];
    assert_eq!(kinds, all.map(String::from).into());
    let causes: BTreeSet<_> =
        list(&vectors["vectors"]).iter().filter_map(|v| v["frame"]["cause"].as_str()).collect();
    assert_eq!(causes, GapCause::ALL.map(GapCause::name).into());
}

#[test]
fn every_control_message_has_its_bytes_and_its_json() {
    let vectors = read("control");
    let mut ops = BTreeSet::new();
    for vector in list(&vectors["vectors"]) {
        let name = text(&vector["name"]);
        let body = unhex(&vector["body"]);
        let control = Control::decode(&body).expect(name);
        let json: Value = serde_json::from_str(&to_json(&control)).expect(name);
        assert_eq!(json, vector["message"], "{name}");
        ops.insert(control.name());

        let from_json = vector["message"].to_string();
        let from_json = JsonMessage::parse(&from_json).expect(name);
        assert_eq!(from_json.as_control(), Ok(control), "{name}");
        if vector.get("decode_only").is_none() {
            assert_eq!(hex(&body_of(&control)), vector["body"], "{name}");
        }
    }
    assert_eq!(ops, Control::OPS.iter().map(|&(name, _)| name).collect());
}

#[test]
fn every_json_text_has_its_meaning() {
    let vectors = read("control");
    for vector in list(&vectors["json"]) {
        let name = text(&vector["text"]);
        let message = JsonMessage::parse(name).expect(name);
        let control = message.as_control().expect(name);
        assert_eq!(hex(&body_of(&control)), vector["body"], "{name}");
        assert_eq!(Control::decode(&unhex(&vector["body"])), Ok(control), "{name}");
    }
    for vector in list(&vectors["deliveries"]) {
        let payload = unhex(&vector["payload"]);
        let delivery = Delivery {
            topic: text(&vector["topic"]),
            payload: &payload,
            flags: flags_of(&vector["flags"]),
            time: vector["time"].as_u64(),
            schema: None,
        };
        assert_eq!(delivery.to_json(), text(&vector["text"]));
    }
    for vector in list(&vectors["gaps"]) {
        let cause = text(&vector["cause"]);
        let cause = GapCause::ALL.into_iter().find(|known| known.name() == cause).expect(cause);
        let json = gap_to_json(vector["topic"].as_str(), number(&vector["count"]), cause);
        assert_eq!(json, text(&vector["text"]));
    }
}

#[test]
fn every_packet_has_its_bytes() {
    for vector in list(&read("packets")["packets"]) {
        let name = text(&vector["name"]);
        let frame = unhex(&vector["frame"]);
        let count = u32::try_from(number(&vector["count"])).expect("32 bits");
        let mut out = vec![0; packet::packet_len(frame.len())];
        let length = packet::encode(&frame, count, &mut out).expect(name);
        assert_eq!(hex(&out[..length]), vector["packet"], "{name}");

        let mut accumulator = PacketAccumulator::<1024>::new();
        let bytes = unhex(&vector["packet"]);
        let fed = accumulator.feed(&bytes, count).expect(name);
        assert_eq!(fed.packet.map(Checked::frame), Ok(&*frame), "{name}");
        assert!(fed.rest.is_empty(), "{name}");
    }
}

#[test]
fn every_stream_of_packets_gives_these_frames_and_errors() {
    for vector in list(&read("packets")["streams"]) {
        let name = text(&vector["name"]);
        let count = u32::try_from(number(&vector["count"])).expect("32 bits");
        let bytes = unhex(&vector["bytes"]);
        for step in [1, 3, bytes.len()] {
            let mut accumulator = PacketAccumulator::<{ 64 + packet::CRC_LEN }>::new();
            let mut gives = Vec::new();
            for mut piece in bytes.chunks(step) {
                while let Some(fed) = accumulator.feed(piece, count) {
                    piece = fed.rest;
                    gives.push(match fed.packet {
                        Ok(checked) => json!({
                            "frame": hex(checked.frame()),
                            "at_any_time": matches!(checked, Checked::AtAnyTime(_)),
                        }),
                        Err(error) => refusal(error),
                    });
                }
            }
            assert_eq!(Value::Array(gives), vector["gives"], "{name}");
        }
    }
}

#[test]
fn both_proofs_of_a_device_key_are_these() {
    for vector in list(&read("handshake")["vectors"]) {
        let epoch: u64 = text(&vector["epoch"]).parse().expect("a number");
        let (peer_nonce, relay_nonce) =
            (unhex(&vector["peer_nonce"]), unhex(&vector["relay_nonce"]));
        let mut transcript = Vec::new();
        for part in [
            text(&vector["session"]).as_bytes(),
            text(&vector["identity"]).as_bytes(),
            &epoch.to_be_bytes(),
            &peer_nonce,
            &relay_nonce,
        ] {
            let length = u16::try_from(part.len()).expect("at most 64 bytes");
            transcript.extend(length.to_be_bytes());
            transcript.extend(part);
        }
        assert_eq!(hex(&transcript), vector["transcript"]);
        for (label, proof) in
            [("fastport.2 peer", "peer_proof"), ("fastport.2 relay", "relay_proof")]
        {
            let mut mac =
                Hmac::<Sha256>::new_from_slice(&unhex(&vector["key"])).expect("any length");
            mac.update(label.as_bytes());
            mac.update(&transcript);
            assert_eq!(hex(&mac.finalize().into_bytes()), vector[proof]);
        }
    }
}

#[test]
fn every_refusal_has_its_name() {
    let vectors = read("refused");
    let mut found = BTreeSet::new();
    let mut check = |vector: &Value, error: Option<WireError>| {
        let name = text(&vector["name"]);
        let error = refusal(error.expect(name));
        assert_eq!(error["error"], vector["error"], "{name}");
        assert_eq!(error.get("value"), vector.get("value"), "{name}");
        found.insert(text(&vector["error"]).to_owned());
    };
    for vector in list(&vectors["frames"]) {
        let bytes = unhex(&vector["bytes"]);
        check(vector, Frame::decode(&bytes, 64).err());
    }
    for vector in list(&vectors["control"]) {
        let body = unhex(&vector["body"]);
        check(vector, Control::decode(&body).err());
    }
    for vector in list(&vectors["json"]) {
        let message = JsonMessage::parse(text(&vector["text"]));
        check(vector, message.and_then(|message| message.as_control().map(drop)).err());
    }
    // packets.json has bad-checksum, topics and filters below have bad-topic, readings their own
    let all = [
        "bad-number",
        "truncated",
        "too-long",
        "unknown-kind",
        "bad-flags",
        "trailing",
        "bad-id",
        "bad-text",
        "bad-control",
        "unknown-op",
        "bad-json",
    ];
    assert_eq!(found, all.map(String::from).into());
}

#[test]
fn every_bad_topic_and_filter_has_its_name() {
    let vectors = read("refused");
    for (list_name, is_filter) in [("topics", false), ("filters", true)] {
        for vector in list(&vectors[list_name]) {
            let name = text(&vector["text"]);
            let error = if is_filter {
                Filter::parse(name).map(drop).err()
            } else {
                Topic::parse(name).map(drop).err()
            };
            let error = error.expect(name);
            assert_eq!(kebab(&format!("{error:?}")), text(&vector["error"]), "{name}");
        }
    }
}

fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("vectors/{name}.json"));
    let text = std::fs::read_to_string(path).expect("vectors are there");
    serde_json::from_str(&text).expect("vectors are JSON")
}

fn list(value: &Value) -> &[Value] {
    let list = value.as_array().expect("a list of vectors");
    assert!(!list.is_empty());
    list
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

/// A number, or one over 2^53 - 1 as decimal text.
fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).expect("a number")
}

fn unhex(value: &Value) -> Vec<u8> {
    let digits = text(value).as_bytes();
    assert!(digits.len().is_multiple_of(2));
    let digit = |&d: &u8| u8::try_from(char::from(d).to_digit(16).expect("hex")).expect("under 16");
    digits.chunks(2).map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = vec![0; frame.encoded_len()];
    assert_eq!(frame.encode(&mut out), Ok(out.len()));
    out
}

fn body_of(control: &Control<'_>) -> Vec<u8> {
    let mut out = vec![0; 1024];
    let length = control.encode(&mut out).expect("1024 bytes are enough");
    out.truncate(length);
    out
}

fn flags_of(value: &Value) -> DataFlags {
    let names = value.as_array().expect("a list of flags");
    names.iter().fold(DataFlags::NONE, |flags, name| {
        let (_, flag) = DATA_FLAGS.into_iter().find(|(known, _)| name == known).expect("a flag");
        flags.with(flag)
    })
}

/// What a frame means, as the vectors say it.
fn meaning(frame: &Frame<'_>) -> Value {
    let large = |number: u64| {
        if number < 1 << 53 { json!(number) } else { json!(number.to_string()) }
    };
    match *frame {
        Frame::Control(body) => json!({"type": "control", "body": hex(body)}),
        Frame::Data { flags, topic, payload } => {
            let flags = DATA_FLAGS.into_iter().filter(|&(_, flag)| flags.contains(flag));
            let flags: Vec<_> = flags.map(|(name, _)| name).collect();
            json!({"type": "data", "flags": flags, "topic": topic.get(), "payload": hex(payload)})
        }
        Frame::Ack { taken, durable, central, repeat } => {
            let mut out = Map::new();
            out.insert("type".into(), json!("ack"));
            out.insert("taken".into(), large(taken));
            out.extend(durable.map(|count| ("durable".into(), large(count))));
            out.extend(central.map(|count| ("central".into(), large(count))));
            out.insert("repeat".into(), json!(repeat));
            Value::Object(out)
        }
        Frame::Time { unix_ms } => json!({"type": "time", "unix_ms": unix_ms}),
        Frame::Ping { token } => json!({"type": "ping", "token": hex(token)}),
        Frame::Pong { token } => json!({"type": "pong", "token": hex(token)}),
        Frame::Topic { id, name, schema } => {
            let mut out = json!({"type": "topic", "id": id.get(), "name": name});
            if let Some(schema) = schema {
                out["schema"] = json!(hex(schema));
            }
            out
        }
        Frame::Chunk { stream, offset, last, sealed, bytes } => json!({
            "type": "chunk", "stream": stream, "offset": large(offset), "last": last,
            "sealed": sealed, "bytes": hex(bytes),
        }),
        Frame::Credit { stream, bytes } => {
            json!({"type": "credit", "stream": stream, "bytes": large(bytes)})
        }
        Frame::Gap { topic, count, cause } => json!({
            "type": "gap", "topic": topic.map(TopicId::get), "count": large(count),
            "cause": cause.name(),
        }),
        Frame::Pack(body) => json!({"type": "pack", "body": hex(body)}),
        // a type of which this test knows nothing: equal to nothing in the vectors
        _ => Value::Null,
    }
}

/// `BadFlags(15)` as `{"error": "bad-flags", "value": 15}`.
fn refusal(error: WireError) -> Value {
    let error = format!("{error:?}");
    match error.trim_end_matches(')').split_once('(') {
        Some((name, value)) => {
            let value: u8 = value.parse().expect("errors from bytes have numbers in them");
            json!({"error": kebab(name), "value": value})
        }
        None => json!({"error": kebab(&error)}),
    }
}

/// `BadFlags` as `bad-flags`.
fn kebab(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

const DATA_FLAGS: [(&str, DataFlags); 4] = [
    ("counted", DataFlags::COUNTED),
    ("keep", DataFlags::KEEP),
    ("sealed", DataFlags::SEALED),
    ("readings", DataFlags::READINGS),
];
