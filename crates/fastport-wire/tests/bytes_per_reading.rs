//! Computes the table of `docs/bytes-per-reading.md` from real packets, and fails when the document
//! says anything else. `UPDATE_DOCS=1` writes the document.

use std::fmt::Write;
use std::fs;

use fastport_wire::frame::DataFlags;
use fastport_wire::readings::encode_single;
use fastport_wire::schema::{Schema, TimeUnit};
use fastport_wire::senml::{to_cbor, to_json};
use fastport_wire::{Frame, ReadingsEncoder, Stamp, TopicId, Value, varint};

const TOPIC: &str = "sensors/17/temperature";
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/bytes-per-reading.md");
const BEGIN: &str = "<!-- bytes-per-reading -->\n";
const END: &str = "<!-- /bytes-per-reading -->\n";
const BATCH: usize = 60;

#[test]
fn the_document_has_the_table_of_today() {
    let document = fs::read_to_string(DOCUMENT).expect("the document is in the repository");
    let (before, rest) = document.split_once(BEGIN).expect("the document has the first mark");
    let (old, after) = rest.split_once(END).expect("the document has the second mark");
    let new = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let text = [before, BEGIN, &new, END, after].concat();
        fs::write(DOCUMENT, text).expect("the document can be written");
        return;
    }
    assert_eq!(old, new, "{DOCUMENT} should have this table:\n{new}");
}

#[test]
fn the_promised_sizes_hold() {
    let payload = reading();
    assert_eq!(fastport(&payload, DataFlags::NONE).len(), 5);
    assert_eq!(fastport(&payload, DataFlags::COUNTED).len(), 5);
    assert_eq!(serial(&payload), 9);
}

fn cel() -> Schema<'static> {
    Schema { time_unit: TimeUnit::Second, ..Schema::int("Cel", -2) }
}

/// 21.37 Cel.
fn reading() -> Vec<u8> {
    let mut out = vec![0; 10];
    let length = encode_single(&cel(), Value::int(2137, -2), &mut out);
    out.truncate(length.expect("ten bytes hold any reading"));
    assert_eq!(out.len(), 2);
    out
}

fn table() -> String {
    let payload = reading();
    let json = to_json(&cel(), TOPIC, &payload, None).expect("a decimal");
    let cbor = to_cbor(&cel(), TOPIC, &payload, None).expect("a decimal");
    let counted = fastport(&payload, DataFlags::COUNTED).len() + ack().len();
    let rows = [
        ("fastPort, stream (TCP, TLS, Unix socket)", fastport(&payload, DataFlags::NONE).len()),
        ("fastPort, stream, counted", fastport(&payload, DataFlags::COUNTED).len()),
        ("fastPort, stream, counted, with an ACK of its own", counted),
        ("fastPort, serial line", serial(&payload)),
        ("MQTT 3.1.1, QoS 0", mqtt_311(0, payload.clone()).len()),
        ("MQTT 3.1.1, QoS 1, with PUBACK", mqtt_311(1, payload.clone()).len() + 4),
        ("MQTT 5, topic alias, QoS 0", mqtt_5_alias(0, &payload).len()),
        ("MQTT 5, topic alias, QoS 1, with PUBACK", mqtt_5_alias(1, &payload).len() + 4),
        ("MQTT-SN, topic id, QoS 0", mqtt_sn(0, &payload).len()),
        ("MQTT-SN, topic id, QoS 1, with PUBACK", mqtt_sn(1, &payload).len() + 7),
        ("SenML-CBOR alone", cbor.len()),
        ("SenML-CBOR over MQTT 3.1.1, QoS 0", mqtt_311(0, cbor).len()),
        ("SenML-JSON alone", json.len()),
        ("SenML-JSON over MQTT 3.1.1, QoS 0", mqtt_311(0, json.into_bytes()).len()),
    ];
    let mut out = String::from("| one reading | bytes |\n|---|--:|\n");
    for (name, bytes) in rows {
        writeln!(out, "| {name} | {bytes} |").expect("strings take all");
    }
    out += "\n| 60 readings in one message | bytes | bytes per reading |\n|---|--:|--:|\n";
    let regular = Schema { interval: 60, ..cel() };
    let (timed, untimed) = (batch(&cel()), batch(&regular));
    let json = to_json(&cel(), TOPIC, &timed, None).expect("decimals");
    let cbor = to_cbor(&cel(), TOPIC, &timed, None).expect("decimals");
    for (name, bytes) in [
        ("fastPort, stream, schema with an interval", fastport(&untimed, DataFlags::NONE).len()),
        ("fastPort, stream, with the time of each", fastport(&timed, DataFlags::NONE).len()),
        ("SenML-CBOR over MQTT 3.1.1, QoS 0", mqtt_311(0, cbor).len()),
        ("SenML-JSON over MQTT 3.1.1, QoS 0", mqtt_311(0, json.into_bytes()).len()),
    ] {
        let hundredths = bytes * 100 / BATCH;
        let (whole, part) = (hundredths / 100, hundredths % 100);
        writeln!(out, "| {name} | {bytes} | {whole}.{part:02} |").expect("strings take all");
    }
    out
}

/// One reading a minute, each at most 0.03 Cel from the one before.
fn batch(schema: &Schema<'_>) -> Vec<u8> {
    let mut out = vec![0; 1024];
    let mut encoder = ReadingsEncoder::new(schema, &mut out);
    let mut value = 2137;
    for minute in 0..BATCH as u64 {
        value += [0, 1, -1, 2, 0, -3, 1, 1, 0, 3][(minute % 10) as usize];
        encoder.push(minute * 60, Value::int(value, -2)).expect("1024 bytes are enough");
    }
    let length = encoder.finish(Stamp::Message).expect("1024 bytes are enough");
    out.truncate(length);
    out
}

fn fastport(payload: &[u8], flags: DataFlags) -> Vec<u8> {
    let topic = TopicId::new(1).expect("not 0");
    encoded(&Frame::Data { flags: flags.with(DataFlags::READINGS), topic, payload })
}

/// For the first of a link; from the 128th on it has a byte more.
fn ack() -> Vec<u8> {
    encoded(&Frame::Ack { taken: 1, durable: None, central: None, repeat: false })
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = vec![0; frame.encoded_len()];
    frame.encode(&mut out).expect("encoded_len bytes are enough");
    out
}

/// A frame and its CRC-16 in one COBS packet: one code byte up to 254 bytes, and the delimiter.
fn serial(payload: &[u8]) -> usize {
    let packet = fastport(payload, DataFlags::COUNTED).len() + 2;
    assert!(packet <= 254);
    1 + packet + 1
}

/// MQTT 3.1.1 section 3.3; its PUBACK (section 3.4) has 4 bytes.
fn mqtt_311(qos: u8, payload: Vec<u8>) -> Vec<u8> {
    let mut body = mqtt_text(TOPIC);
    if qos > 0 {
        body.extend([0, 1]);
    }
    body.extend(payload);
    mqtt_packet(0x30 | qos << 1, &body)
}

/// MQTT 5 section 3.3: an empty topic name and the property Topic Alias (0x23). Its PUBACK (section
/// 3.4) has 4 bytes, the reason being success.
fn mqtt_5_alias(qos: u8, payload: &[u8]) -> Vec<u8> {
    let mut body = mqtt_text("");
    if qos > 0 {
        body.extend([0, 1]);
    }
    body.extend([3, 0x23, 0, 1]);
    body.extend(payload);
    mqtt_packet(0x30 | qos << 1, &body)
}

/// MQTT-SN 1.2 section 5.4.12: length, type, flags, topic id, message id, data. Its PUBACK (section
/// 5.4.13) has 7 bytes.
fn mqtt_sn(qos: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(7 + payload.len()).expect("a short payload");
    let mut packet = vec![length, 0x0c, qos << 5, 0, 1, 0, qos];
    packet.extend(payload);
    packet
}

fn mqtt_packet(first: u8, body: &[u8]) -> Vec<u8> {
    // the Remaining Length is LEB128 too
    let mut packet = vec![first, 0, 0, 0, 0];
    let length = varint::encode(body.len() as u64, &mut packet[1..]);
    packet.truncate(1 + length.expect("a short body"));
    packet.extend(body);
    packet
}

fn mqtt_text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}
