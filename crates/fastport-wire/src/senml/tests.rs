use std::string::{String, ToString};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::readings::encode_single;

const TOPIC: &str = "sensors/17/temperature";
const MESSAGE_MS: u64 = 1_764_000_000_500;

fn payload(schema: &Schema<'_>, readings: &[(u64, Value)], stamp: Stamp) -> Vec<u8> {
    let mut out = vec![0; 20 * readings.len() + 20];
    let mut encoder = ReadingsEncoder::new(schema, &mut out);
    for &(time, value) in readings {
        encoder.push(time, value).expect("there is room, and the values are the schema's");
    }
    let length = encoder.finish(stamp).expect("there is room for the stamp");
    out.truncate(length);
    out
}

fn one_run(runs: Result<Vec<Run>, SenmlError>) -> Run {
    let mut runs = runs.expect("well formed");
    assert_eq!(runs.len(), 1, "{runs:?}");
    runs.remove(0)
}

#[test]
fn one_reading_has_this_json_and_these_bytes() {
    let schema = Schema::int("Cel", -2);
    let mut bytes = [0; 2];
    encode_single(&schema, Value::int(2137, -2), &mut bytes).expect("two bytes are enough");
    let json = to_json(&schema, TOPIC, &bytes, Some(MESSAGE_MS));
    let expected = r#"[{"bn":"sensors/17/temperature","bt":1764000000.5,"bu":"Cel","v":21.37}]"#;
    assert_eq!(json.as_deref(), Ok(expected));
    let cbor = to_cbor(&schema, "t", &bytes, Some(MESSAGE_MS));
    let expected = b"\x81\xa4\x21\x61t\x22\xc4\x82\x20\x1b\x00\x00\x00\x04\x1b\x6d\x0a\x05\
        \x23\x63Cel\x02\xc4\x82\x21\x19\x08\x59";
    assert_eq!(cbor.as_deref(), Ok(&expected[..]));
}

#[test]
fn several_readings_count_back_from_the_last() {
    let schema = Schema { name: "/a", time_unit: TimeUnit::Second, ..Schema::int("", 3) };
    let series = [(0, Value::int(1, 3)), (20, Value::int(2, 3))];
    let bytes = payload(&schema, &series, Stamp::Age(10));
    let json = to_json(&schema, "t", &bytes, Some(MESSAGE_MS));
    let expected =
        r#"[{"bn":"t","bt":1763999990.5,"n":"/a","t":-20,"v":1000},{"n":"/a","v":2000}]"#;
    assert_eq!(json.as_deref(), Ok(expected));
    // without the time of the message they are relative to now
    let json = to_json(&schema, "t", &bytes, None);
    let expected = r#"[{"bn":"t","n":"/a","t":-30,"v":1000},{"n":"/a","t":-10,"v":2000}]"#;
    assert_eq!(json.as_deref(), Ok(expected));
}

#[test]
fn the_examples_of_the_standard_are_read() {
    // RFC 8428 section 5.1.3
    let runs = from_json(
        r#"[{"bn":"urn:dev:ow:10e2073a0108006:","bt":1.276020076001e+09,"bu":"A","bver":5,
             "n":"voltage","u":"V","v":120.1},
            {"n":"current","t":-5,"v":1.2},
            {"n":"current","t":-4,"v":1.3}]"#,
    );
    let runs = runs.expect("well formed");
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0].name, "urn:dev:ow:10e2073a0108006:voltage");
    assert_eq!(runs[0].unit, "V");
    assert_eq!((runs[1].unit.as_str(), runs[1].samples.len()), ("A", 2));
    let time = Time::Unix(1_276_020_071_001_000);
    assert_eq!(runs[1].samples[0], Sample { time, value: Value::int(12, -1) });
    let schema = runs[1].infer_schema().expect("decimals");
    assert_eq!(schema.kind, Kind::Int { scale: -1 });
    assert_eq!(schema.time_unit, TimeUnit::Millisecond);
    let bytes = runs[1].encode(&schema, None).expect("the schema holds them");
    assert_eq!(bytes, [24, 0xe8, 0x07, 2, 0xc1, 0xbc, 0xe4, 0xc5, 0x91, 0x25]);
}

#[test]
fn base_values_are_added_and_switches_are_read() {
    let runs = from_json(r#"[{"bn":"a","bv":20,"v":1.5},{"n":"b","vb":true,"t":-0.5}]"#);
    let runs = runs.expect("well formed");
    let relative = |us, value| Sample { time: Time::Relative(us), value };
    assert_eq!(runs[0].samples, [relative(0, Value::int(215, -1))]);
    assert_eq!(runs[1].samples, [relative(-500_000, Value::Bool(true))]);
}

#[test]
fn each_fault_has_its_name() {
    let long = ["[{\"n\":\"", &"n".repeat(MAX_NAME + 1), "\",\"v\":1}]"].concat();
    for (text, error) in [
        (r#"[{"bver":11,"n":"a","v":1}]"#, SenmlError::UnknownVersion),
        (r#"[{"x_":1,"n":"a","v":1}]"#, SenmlError::MustUnderstand("x_".to_string())),
        (r#"[{"n":"a","v":1,"v":1}]"#, SenmlError::BadLabel("v")),
        (r#"[{"n":1,"v":1}]"#, SenmlError::BadLabel("n")),
        (r#"[{"n":"a","vs":"x"}]"#, SenmlError::NotAReading("vs")),
        (r#"[{"v":1}]"#, SenmlError::NoName),
        (&long, SenmlError::NameTooLong),
        (r#"[{"n":"a"}]"#, SenmlError::NoValue),
        (r#"[{"n":"a","v":1,"vb":true}]"#, SenmlError::SeveralValues),
        (r#"[{"n":"a","v":1e999}]"#, SenmlError::BadNumber),
        (r#"[{"n":"a","u":"V","v":1},{"n":"a","v":1}]"#, SenmlError::UnitChanges("a".to_string())),
        (r#"[{"n":"a","t":1e18,"v":1}]"#, SenmlError::TimeRange),
    ] {
        assert_eq!(from_json(text), Err(error), "{text}");
    }
    for text in ["", "{}", "[1]", "[{\"v\":1}", "[{\"v\":01}]"] {
        assert!(matches!(from_json(text), Err(SenmlError::NotJson(_))), "{text}");
    }
    let unknown_is_ignored = from_json(r#"[{"n":"a","v":1,"x":{"y":[1]}}]"#);
    assert!(unknown_is_ignored.is_ok());
    let mixed = one_run(from_json(r#"[{"n":"a","v":1},{"n":"a","vb":true}]"#));
    assert_eq!(mixed.infer_schema(), Err(SenmlError::KindChanges("a".to_string())));
}

#[test]
fn cbor_of_others_is_read() {
    for (bytes, value) in [
        (&b"\x9f\xbf\x00\x61a\x02\xf9\x3e\x00\xff\xff"[..], Value::F32(1.5)),
        (b"\x81\xa2\x00\x7f\x61a\x60\xff\x02\x20", Value::int(-1, 0)),
        (b"\x81\xa3\x00\x61a\x02\x01\x61x\x9f\xbf\x01\x02\xff\xff", Value::int(1, 0)),
        (b"\x81\xa2\x00\x61a\x02\xfb\x3f\xf8\0\0\0\0\0\0", Value::F64(1.5)),
        (b"\x81\xa2\x00\x61a\x02\xc4\x82\x19\x01\x00\x00", Value::F64(0.0)),
        (b"\x81\xa2\x00\x61a\x04\xf4", Value::Bool(false)),
    ] {
        let run = one_run(from_cbor(bytes));
        assert_eq!((run.name.as_str(), run.samples[0].value), ("a", value), "{bytes:x?}");
    }
}

#[test]
fn faults_of_cbor_have_their_name() {
    for (bytes, error) in [
        (&b""[..], SenmlError::NotCbor),
        (b"\xa0", SenmlError::NotCbor),
        (b"\x81\xa2\x00\x61a\x02\x01\x00", SenmlError::NotCbor),
        (b"\x81\xa2\x00\x61a\x02", SenmlError::NotCbor),
        (b"\x9f", SenmlError::NotCbor),
        (b"\x81\xa2\x00\x61a\x02\xc4\x83\x01\x01\x01", SenmlError::NotCbor),
        (b"\x81\xa2\x00\x61a\x02\xc5\x82\x01\x01", SenmlError::BadLabel("v")),
        (b"\x81\xa2\x00\x61a\x02\xf9\x7e\x00", SenmlError::BadLabel("v")),
        (b"\x81\xa1\x62x_\x00", SenmlError::MustUnderstand("x_".to_string())),
    ] {
        assert_eq!(from_cbor(bytes), Err(error), "{bytes:x?}");
    }
    let mut nested = b"\x81\xa1\x61x".to_vec();
    nested.extend([0x81; 10_000]);
    assert_eq!(from_cbor(&nested), Err(SenmlError::NotCbor));
}

#[test]
fn what_a_schema_cannot_hold_is_refused() {
    let run = one_run(from_json(r#"[{"n":"a","t":-0.25,"v":21.37}]"#));
    let tenths = Schema::int("", -1);
    assert_eq!(run.encode(&tenths, None), Err(SenmlError::NotExact(Value::int(2137, -2))));
    let seconds = Schema { time_unit: TimeUnit::Second, ..Schema::int("", -2) };
    assert_eq!(run.encode(&seconds, None), Err(SenmlError::TimeNotExact));
    let absolute = Schema { absolute: true, ..Schema::int("", -2) };
    assert_eq!(run.encode(&absolute, None).map(|_| ()), Err(SenmlError::NoMessageTime));
    let relative = Schema::int("", -2);
    let run = one_run(from_json(r#"[{"n":"a","t":1764000001,"v":21.37}]"#));
    assert_eq!(run.encode(&relative, None), Err(SenmlError::NoMessageTime));
    assert_eq!(run.encode(&relative, Some(MESSAGE_MS)), Err(SenmlError::TimeRange));
}

#[test]
fn what_senml_cannot_say_is_refused() {
    let float = Schema { kind: Kind::F32, ..Schema::default() };
    let bytes = payload(&float, &[(0, Value::F32(f32::NAN))], Stamp::Message);
    assert_eq!(to_json(&float, "t", &bytes, None), Err(SenmlError::NotFinite));
    assert_eq!(to_cbor(&float, "t", &bytes, None), Err(SenmlError::NotFinite));
    let bytes = payload(&Schema::default(), &[(0, Value::int(1, 0))], Stamp::Message);
    let early = to_json(&Schema::default(), "t", &bytes, Some(1));
    assert_eq!(early, Err(SenmlError::TimeTooEarly));
}

#[test]
fn a_topic_of_any_characters_comes_back() {
    let topic = "caf\u{e9}/\"quoted\"\\";
    let bytes = payload(&Schema::default(), &[(0, Value::int(1, 0))], Stamp::Message);
    let json = to_json(&Schema::default(), topic, &bytes, None).expect("any topic");
    assert_eq!(one_run(from_json(&json)).name, topic);
    let cbor = to_cbor(&Schema::default(), topic, &bytes, None).expect("any topic");
    assert_eq!(one_run(from_cbor(&cbor)).name, topic);
}

fn schemas() -> impl Strategy<Value = Schema<'static>> {
    let kinds = prop_oneof![
        any::<i8>().prop_map(|scale| Kind::Int { scale }),
        (-6i8..4).prop_map(|scale| Kind::Int { scale }),
        Just(Kind::F32),
        Just(Kind::F64),
        Just(Kind::Bool)
    ];
    let units = prop_oneof![
        Just(TimeUnit::Millisecond),
        Just(TimeUnit::Second),
        Just(TimeUnit::Microsecond)
    ];
    let names = prop_oneof![Just(""), Just("/name")];
    (kinds, units, names, any::<bool>(), 0u32..2).prop_map(
        |(kind, time_unit, name, absolute, interval)| Schema {
            kind,
            time_unit,
            name,
            absolute,
            interval,
            unit: "Cel",
        },
    )
}

/// A finite value of that kind, small or large.
fn value_of(kind: Kind, bits: u64) -> Value {
    let value = match kind {
        Kind::Int { scale } => Value::int((bits.cast_signed()) >> (bits % 64), scale),
        Kind::F32 => Value::F32(f32::from_bits((bits >> 32) as u32)),
        Kind::F64 => Value::F64(f64::from_bits(bits)),
        Kind::Bool => Value::Bool(bits % 2 == 1),
    };
    match value {
        Value::F32(float) if !float.is_finite() => Value::F32(-0.0),
        Value::F64(float) if !float.is_finite() => Value::F64(-0.0),
        value => value,
    }
}

/// Times since 1970 and the bits of values: what must not be lost.
fn meaning(schema: &Schema<'_>, payload: &[u8]) -> Vec<(Option<i64>, Option<u64>)> {
    let message_us = i64::try_from(MESSAGE_MS * 1000).expect("in this century");
    let readings = Readings::decode(schema, payload).expect("just encoded");
    readings
        .iter()
        .map(|it| (readings.unix_us(&it, message_us), it.value.to_bits(schema.kind)))
        .collect()
}

proptest! {
    #[test]
    fn senml_brings_every_payload_back(
        schema in schemas(),
        steps in proptest::collection::vec((0u64..100_000, any::<u64>()), 1..20),
        stamp: Option<u32>,
    ) {
        let mut time = 0;
        let readings: Vec<(u64, Value)> = steps.iter().map(|&(step, bits)| {
            time += if schema.interval == 0 { step } else { schema.interval.into() };
            (time, value_of(schema.kind, bits))
        }).collect();
        let message_units = MESSAGE_MS * 1000 / schema.time_unit.microseconds();
        let needs_one = schema.interval != 0 && readings.len() > 1;
        let stamp = match stamp {
            None if !(schema.absolute && needs_one) => Stamp::Message,
            stamp if schema.absolute => {
                Stamp::Unix(message_units - u64::from(stamp.unwrap_or(0) >> 4))
            }
            stamp => Stamp::Age((stamp.unwrap_or(0) >> 4).into()),
        };
        let bytes = payload(&schema, &readings, stamp);
        let json = to_json(&schema, TOPIC, &bytes, Some(MESSAGE_MS)).expect("finite, in range");
        let cbor = to_cbor(&schema, TOPIC, &bytes, Some(MESSAGE_MS)).expect("finite, in range");
        let name: String = [TOPIC, schema.name].concat();
        for run in [one_run(from_json(&json)), one_run(from_cbor(&cbor))] {
            prop_assert_eq!(&run.name, &name);
            prop_assert_eq!(&run.unit, "Cel");
            let again = run.encode(&schema, Some(MESSAGE_MS)).expect("it came from the schema");
            prop_assert_eq!(meaning(&schema, &again), meaning(&schema, &bytes));
            let inferred = run.infer_schema().expect("one kind");
            let again = run.encode(&inferred, Some(MESSAGE_MS)).expect("inferred for this");
            let count = Readings::decode(&inferred, &again).expect("just encoded").len();
            prop_assert_eq!(count, readings.len());
        }
    }

    #[test]
    fn any_bytes_give_runs_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        for run in from_cbor(&bytes).into_iter().flatten() {
            prop_assert!(!run.samples.is_empty() && !run.name.is_empty());
        }
    }

    #[test]
    fn damaged_cbor_gives_runs_or_an_error(at in 0usize..48, byte: u8) {
        let mut bytes = b"\x81\xa4\x21\x61t\x22\xc4\x82\x20\x1b\x00\x00\x00\x04\x1b\x6d\x0a\x05\
            \x23\x63Cel\x02\xc4\x82\x21\x19\x08\x59".to_vec();
        if let Some(to) = bytes.get_mut(at) {
            *to = byte;
        }
        for run in from_cbor(&bytes).into_iter().flatten() {
            prop_assert_eq!(run.samples.len(), 1);
            let Ok(schema) = run.infer_schema() else { continue };
            let message = (!schema.absolute).then_some(MESSAGE_MS);
            match run.encode(&schema, message) {
                Ok(payload) => prop_assert_eq!(meaning(&schema, &payload).len(), 1),
                Err(error) => prop_assert_eq!(error, SenmlError::TimeRange),
            }
        }
    }
}
