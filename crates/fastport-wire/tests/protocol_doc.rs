//! docs/protocol.md says what the code does: every name with its number, every example decodes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use fastport_wire::control::{
    ByeReason, Control, ErrorCode, Fields, Method, Tier, VERSION, WhenFull, features, options,
};
use fastport_wire::frame::{Frame, GapCause};
use fastport_wire::json::{ACK, JsonMessage};
use fastport_wire::schema::MAX_SCHEMA;
use fastport_wire::{field, packet, topic};
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

#[test]
fn every_message_has_its_number_in_the_document() {
    let table = Table::below("| op | name | sent by | keys | what |");
    let expected = Control::OPS.iter().map(|&(name, number)| (number.into(), name.to_owned()));
    assert_eq!(table.numbers(), expected.collect());
}

#[test]
fn every_key_has_its_number_and_its_name_in_the_document() {
    let table = Table::below("| key | name | type | what |");
    let expected = all_keys().into_iter().enumerate();
    let expected = expected.map(|(number, name)| (u64::try_from(number).expect("small"), name));
    assert_eq!(table.numbers(), expected.collect());
}

#[test]
fn every_message_has_its_keys_in_the_document() {
    let table = Table::below("| op | name | sent by | keys | what |");
    for row in &table.rows {
        let (name, keys) = (row[1].trim_matches('`'), &row[3]);
        let is_required =
            |key: &str| keys.split(',').any(|said| said.trim().starts_with(&format!("**{key}**")));
        let is_optional = |key: &str| keys.split(',').any(|said| said.trim() == key);
        let &(_, op) = Control::OPS.iter().find(|(known, _)| *known == name).expect(name);
        let all = Fields { op, ..all_fields() };
        let understood = Control::from_fields(&all).expect(name).to_fields();
        for key in all_keys().iter().skip(1) {
            let without_it = without(&all, key);
            let is_known = without(&understood, key) != understood;
            let is_needed = Control::from_fields(&without_it).is_err();
            assert_eq!(is_required(key), is_needed, "{name}: {key}");
            assert_eq!(is_optional(key), is_known && !is_needed, "{name}: {key}");
        }
    }
}

#[test]
fn every_code_reason_and_cause_has_its_number_in_the_document() {
    let errors = Table::below("| number | name | what | trying again |").numbers();
    let expected = ErrorCode::ALL.iter().map(|it| (it.number().into(), it.name().to_owned()));
    assert_eq!(errors, expected.collect());

    let reasons = Table::below("| number | name | what |").numbers();
    let expected = ByeReason::ALL.iter().map(|it| (it.number().into(), it.name().to_owned()));
    assert_eq!(reasons, expected.collect());

    let causes = Table::below("| number | name | the messages will not come because |").numbers();
    let expected = GapCause::ALL.iter().map(|&it| (it as u64, it.name().to_owned()));
    assert_eq!(causes, expected.collect());

    let policies = Table::below("| number | name | what happens |").numbers();
    let expected = WhenFull::ALL.iter().map(|it| (it.number().into(), it.name().to_owned()));
    assert_eq!(policies, expected.collect());
}

#[test]
fn every_small_set_of_names_stands_at_its_key() {
    let keys = Table::below("| key | name | type | what |");
    let list = |names: Vec<(u8, &str)>| {
        let said: Vec<_> = names.iter().map(|(n, name)| format!("{n} `{name}`")).collect();
        said.join(", ")
    };
    for (key, names) in [
        ("`method`", list(Method::ALL.iter().map(|it| (it.number(), it.name())).collect())),
        ("`when_full`", list(WhenFull::ALL.iter().map(|it| (it.number(), it.name())).collect())),
        ("`tier`", list(Tier::ALL.iter().map(|it| (it.number(), it.name())).collect())),
        ("`version`", VERSION.to_string()),
    ] {
        let row = keys.rows.iter().find(|row| row[1] == key).expect(key);
        assert_eq!(row[3], names, "{key}");
    }
}

#[test]
fn every_flag_has_its_number_in_the_document() {
    let frames = Table::below("| type | name | flags | body | sent by |");
    for (kind, name, flags) in [
        (field::kind::PADDING, "padding", "none".to_owned()),
        (field::kind::CONTROL, "CONTROL", "none".to_owned()),
        (field::kind::DATA, "DATA", {
            use field::data_flag::{COUNTED, KEEP, READINGS, SEALED};
            format!("{COUNTED} counted, {KEEP} keep, {SEALED} sealed, {READINGS} readings")
        }),
        (field::kind::ACK, "ACK", {
            use field::ack_flag::{CENTRAL, DURABLE, REPEAT};
            format!("{DURABLE} durable, {CENTRAL} central, {REPEAT} repeat")
        }),
        (field::kind::TIME, "TIME", "none".to_owned()),
        (field::kind::PING, "PING", format!("{}: it is a PONG", field::ping_flag::PONG)),
        (field::kind::TOPIC, "TOPIC", format!("{} readings", field::topic_flag::READINGS)),
        (field::kind::CHUNK, "CHUNK", {
            use field::chunk_flag::{LAST, SEALED};
            format!("{LAST} last, {SEALED} sealed")
        }),
        (field::kind::CREDIT, "CREDIT", "none".to_owned()),
        (field::kind::GAP, "GAP", "none".to_owned()),
        (field::kind::PACK, "PACK", "none".to_owned()),
    ] {
        let row = &frames.rows[usize::from(kind)];
        assert_eq!(row[..3], [kind.to_string(), name.to_owned(), flags]);
    }
    let words = words();
    for said in [
        format!(
            "{} times (send TIME frames), {} ack_durable, {} ack_central (send these counts in ACKs), {} \
             streams (send OFFERs), {} packs",
            features::TIME,
            features::ACK_DURABLE,
            features::ACK_CENTRAL,
            features::STREAMS,
            features::PACKS
        ),
        format!(
            "{} no_local (not what this peer publishes), {} no_last",
            options::NO_LOCAL,
            options::NO_LAST
        ),
    ] {
        assert!(words.contains(&said), "{said}");
    }
}

#[test]
fn every_limit_is_that_of_the_code() {
    let limits = Table::below("| what | limit |");
    for (what, limit) in [
        ("topic, filter", format!("{} bytes, {} levels", topic::MAX_BYTES, topic::MAX_LEVELS)),
        ("PING token", format!("{} bytes", field::MAX_TOKEN)),
        ("schema", format!("{MAX_SCHEMA} bytes")),
    ] {
        let row = limits.rows.iter().find(|row| row[0] == what).expect(what);
        assert_eq!(row[1], limit);
    }
    let words = words();
    assert_eq!(field::MAX_BODY, 16_777_216);
    assert!(words.contains("at most 16 777 216 (16 MiB)"));
    assert_eq!(field::MAX_CHUNK, 16_384);
    assert!(words.contains("CHUNK** has at most 16 384 bytes"));
    let serial = format!("Frames SHOULD be at most {} bytes", packet::MAX_CHECKED_FRAME);
    assert!(words.contains(&serial), "{serial}");
}

#[test]
fn every_example_is_whole_frames() {
    let document = document();
    let mut count = 0;
    for block in document.split("```frames\n").skip(1) {
        let (block, _) = block.split_once("```").expect("the block ends");
        for line in block.lines() {
            let (hex, comment) = line.split_once('#').expect("each line says what it is");
            let hex: String = hex.chars().filter(char::is_ascii_hexdigit).collect();
            let bytes: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
                .collect();
            let (frame, length) =
                Frame::decode(&bytes, field::MAX_BODY).expect(line).expect("a whole frame");
            assert_eq!(length, bytes.len(), "{line}");
            let name = match frame {
                Frame::Control(body) => {
                    let control = Control::decode(body).expect(line);
                    control.name().to_uppercase()
                }
                frame => {
                    let name = format!("{frame:?}");
                    name.split([' ', '(']).next().unwrap_or_default().to_uppercase()
                }
            };
            let said = comment.split_whitespace().next().expect("a name");
            let is_control = said.starts_with("CONTROL") && bytes[0] >> 4 == field::kind::CONTROL;
            assert!(said.trim_end_matches(',') == name || is_control, "{line}: {name}");
            count += 1;
        }
    }
    assert_eq!(count, 23);
}

#[test]
fn every_json_example_is_a_message() {
    let document = document();
    let (_, block) = document.split_once("```json\n").expect("there is an example");
    let (block, _) = block.split_once("```").expect("the block ends");
    let mut ops = Vec::new();
    for line in block.lines() {
        let message = JsonMessage::parse(line).expect(line);
        // what only the relay sends, and only in JSON
        if !["data", "gap", ACK].contains(&message.op()) {
            message.as_control().expect(line);
        }
        ops.push(message.op().to_owned());
    }
    assert_eq!(ops.len(), 12);
    assert!(ops.contains(&"data".to_owned()) && ops.contains(&ACK.to_owned()));
}

#[test]
fn every_link_within_the_document_leads_somewhere() {
    let document = document();
    let anchors: Vec<String> = document
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|title| title.chars().filter(|c| c.is_alphanumeric() || " -".contains(*c)).collect())
        .map(|title: String| title.replace(' ', "-"))
        .collect();
    let links: Vec<_> =
        document.split("](#").skip(1).filter_map(|it| it.split(')').next()).collect();
    assert!(links.len() > 20);
    for link in links {
        assert!(anchors.iter().any(|anchor| anchor == link), "{link}");
    }
}

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol.md");
    std::fs::read_to_string(path).expect("the document is in the repository")
}

/// The document's words with one space between them, wherever its lines end.
fn words() -> String {
    document().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// One of the document's tables: its cells, row by row.
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn below(heading: &str) -> Self {
        let document = document();
        let rows = document.lines().skip_while(|line| *line != heading).skip(2);
        let rows: Vec<Vec<String>> = rows
            .take_while(|line| line.starts_with('|'))
            .map(|line| line.trim_matches('|').split('|').map(|cell| cell.trim().into()).collect())
            .collect();
        assert!(!rows.is_empty(), "no table {heading}");
        Self { rows }
    }

    /// The first column's numbers with the second's names.
    fn numbers(&self) -> BTreeMap<u64, String> {
        let numbers: BTreeMap<u64, String> = self
            .rows
            .iter()
            .map(|row| (row[0].parse().expect("a number"), row[1].trim_matches('`').to_owned()))
            .collect();
        assert_eq!(numbers.len(), self.rows.len(), "a number twice");
        numbers
    }
}

fn all_fields() -> Fields<'static> {
    Fields {
        op: 0,
        request: Some(1),
        session: Some("s"),
        topic: Some("t"),
        id: Some(1),
        code: Some(1),
        text: Some(""),
        version: Some(VERSION),
        method: Some(0),
        identity: Some("i"),
        nonce: Some(&[]),
        proof: Some(&[]),
        epoch: Some(1),
        taken: Some(1),
        flags: Some(0),
        when_full: Some(0),
        keepalive: Some(1),
        count: Some(1),
        age: Some(1),
        schema: Some(&[]),
        data: Some(&[]),
        clock: Some(1),
        payload_limit: Some(1),
        retry: Some(1),
        name: Some(""),
        size: Some(1),
        offset: Some(1),
        digest: Some(&[]),
        tier: Some(0),
        linger: Some(1),
        resumed: Some(true),
        stream: Some(1),
    }
}

/// The fields but the one of that name.
fn without<'a>(fields: &Fields<'a>, key: &str) -> Fields<'a> {
    let mut fields = *fields;
    match key {
        "request" => fields.request = None,
        "session" => fields.session = None,
        "topic" => fields.topic = None,
        "id" => fields.id = None,
        "code" => fields.code = None,
        "text" => fields.text = None,
        "version" => fields.version = None,
        "method" => fields.method = None,
        "identity" => fields.identity = None,
        "nonce" => fields.nonce = None,
        "proof" => fields.proof = None,
        "epoch" => fields.epoch = None,
        "taken" => fields.taken = None,
        "flags" => fields.flags = None,
        "when_full" => fields.when_full = None,
        "keepalive" => fields.keepalive = None,
        "count" => fields.count = None,
        "age" => fields.age = None,
        "schema" => fields.schema = None,
        "data" => fields.data = None,
        "clock" => fields.clock = None,
        "payload_limit" => fields.payload_limit = None,
        "retry" => fields.retry = None,
        "name" => fields.name = None,
        "size" => fields.size = None,
        "offset" => fields.offset = None,
        "digest" => fields.digest = None,
        "tier" => fields.tier = None,
        "linger" => fields.linger = None,
        "resumed" => fields.resumed = None,
        "stream" => fields.stream = None,
        unknown => assert_eq!(unknown, "", "a key that this test does not know"),
    }
    fields
}

/// The keys by name, in the order of their numbers: as serde sees the struct.
fn all_keys() -> Vec<String> {
    struct Names;
    impl<'de> Visitor<'de> for Names {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut names = Vec::new();
            while let Some((name, IgnoredAny)) = map.next_entry()? {
                names.push(name);
            }
            Ok(names)
        }
    }
    let json = serde_json::to_string(&all_fields()).expect("fields are plain");
    serde_json::Deserializer::from_str(&json).deserialize_map(Names).expect("an object")
}
