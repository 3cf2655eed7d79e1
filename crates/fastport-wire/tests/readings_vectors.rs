//! The vectors of `vectors/readings.json`, both ways: what other implementations are held to.

use fastport_wire::schema::{Kind, MAX_SCHEMA, Schema, TimeUnit};
use fastport_wire::{Decimal, Readings, ReadingsEncoder, Stamp, Value, WireError};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    readings: Vec<Vector>,
    refused_schemas: Vec<RefusedSchema>,
    refused_payloads: Vec<RefusedPayload>,
}

#[derive(Deserialize)]
struct Vector {
    meaning: String,
    schema: SchemaVector,
    payload: String,
    values: Vec<String>,
    before_last: Vec<u64>,
    stamp: Option<StampVector>,
    #[cfg(feature = "std")]
    senml: Option<Senml>,
}

#[derive(Deserialize)]
struct SchemaVector {
    hex: String,
    kind: String,
    scale: i8,
    time_unit: String,
    absolute: bool,
    interval: u32,
    unit: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum StampVector {
    Age(u64),
    Unix(u64),
}

#[cfg(feature = "std")]
#[derive(Deserialize)]
struct Senml {
    topic: String,
    message_ms: Option<u64>,
    json: String,
    cbor: String,
}

#[derive(Deserialize)]
struct RefusedSchema {
    meaning: String,
    hex: String,
}

#[derive(Deserialize)]
struct RefusedPayload {
    meaning: String,
    schema: String,
    payload: String,
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../vectors/readings.json")).expect("the file is well formed")
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex digits");
    (0..hex.len()).step_by(2).map(byte).collect()
}

impl SchemaVector {
    fn schema(&self) -> Schema<'_> {
        Schema {
            name: &self.name,
            unit: &self.unit,
            kind: match self.kind.as_str() {
                "int" => Kind::Int { scale: self.scale },
                "f32" => Kind::F32,
                "f64" => Kind::F64,
                kind => {
                    assert_eq!(kind, "bool");
                    Kind::Bool
                }
            },
            time_unit: match self.time_unit.as_str() {
                "ms" => TimeUnit::Millisecond,
                "s" => TimeUnit::Second,
                unit => {
                    assert_eq!(unit, "us");
                    TimeUnit::Microsecond
                }
            },
            absolute: self.absolute,
            interval: self.interval,
        }
    }
}

impl Vector {
    fn values(&self) -> Vec<Value> {
        let parse = |text: &String| match self.schema.schema().kind {
            Kind::F32 => Value::F32(text.parse().expect("a float")),
            Kind::F64 => Value::F64(text.parse().expect("a float")),
            Kind::Bool => Value::Bool(text == "true"),
            Kind::Int { scale } if scale > 0 => {
                let whole = Decimal::new(text.parse().expect("an integer"), 0);
                Value::Int(whole.rescale(scale).expect("a multiple of the scale"))
            }
            Kind::Int { scale } => {
                let value = Value::int(text.replace('.', "").parse().expect("digits"), scale);
                assert_eq!(&value.to_string(), text);
                value
            }
        };
        self.values.iter().map(parse).collect()
    }
}

/// Floats compare by their bits.
fn same(one: Value, other: Value) -> bool {
    match (one, other) {
        (Value::F32(one), Value::F32(other)) => one.to_bits() == other.to_bits(),
        (Value::F64(one), Value::F64(other)) => one.to_bits() == other.to_bits(),
        _ => one == other,
    }
}

#[test]
fn every_schema_reads_and_writes_as_its_vector() {
    for vector in vectors().readings {
        let (schema, bytes) = (vector.schema.schema(), bytes_of(&vector.schema.hex));
        assert_eq!(Schema::decode(&bytes), Ok(schema), "{}", vector.meaning);
        let mut out = [0; MAX_SCHEMA];
        let length = schema.encode(&mut out).expect("MAX_SCHEMA bytes are enough");
        assert_eq!(&out[..length], bytes, "{}", vector.meaning);
    }
}

#[test]
fn every_payload_reads_as_its_vector() {
    for vector in vectors().readings {
        let payload = bytes_of(&vector.payload);
        let readings = Readings::decode(&vector.schema.schema(), &payload);
        let readings = readings.expect(&vector.meaning);
        let stamp = match vector.stamp {
            None => Stamp::Message,
            Some(StampVector::Age(age)) => Stamp::Age(age),
            Some(StampVector::Unix(time)) => Stamp::Unix(time),
        };
        assert_eq!(readings.stamp(), stamp, "{}", vector.meaning);
        assert_eq!(readings.len(), vector.before_last.len(), "{}", vector.meaning);
        let expected = vector.values().into_iter().zip(&vector.before_last);
        for (reading, (value, before_last)) in readings.iter().zip(expected) {
            assert!(same(reading.value, value), "{}: {reading:?}", vector.meaning);
            assert_eq!(reading.before_last, *before_last, "{}", vector.meaning);
        }
    }
}

#[test]
fn every_payload_is_written_as_its_vector() {
    for vector in vectors().readings {
        let mut out = [0; 128];
        let mut encoder = ReadingsEncoder::new(&vector.schema.schema(), &mut out);
        let span = vector.before_last.first().expect("one reading at least");
        for (value, before_last) in vector.values().into_iter().zip(&vector.before_last) {
            encoder.push(span - before_last, value).expect("128 bytes are enough");
        }
        let length = encoder.finish(match vector.stamp {
            None => Stamp::Message,
            Some(StampVector::Age(age)) => Stamp::Age(age),
            Some(StampVector::Unix(time)) => Stamp::Unix(time),
        });
        let length = length.expect("128 bytes are enough");
        assert_eq!(&out[..length], bytes_of(&vector.payload), "{}", vector.meaning);
    }
}

#[test]
fn what_must_be_refused_is_refused() {
    let vectors = vectors();
    for vector in vectors.refused_schemas {
        let schema = bytes_of(&vector.hex);
        assert_eq!(Schema::decode(&schema), Err(WireError::BadReadings), "{}", vector.meaning);
    }
    for vector in vectors.refused_payloads {
        let schema = bytes_of(&vector.schema);
        let schema = Schema::decode(&schema).expect("only the payload is at fault");
        let readings = Readings::decode(&schema, &bytes_of(&vector.payload)).map(|_| ());
        assert_eq!(readings, Err(WireError::BadReadings), "{}", vector.meaning);
    }
}

#[cfg(feature = "std")]
#[test]
fn senml_is_written_and_read_as_its_vector() {
    use fastport_wire::senml::{from_cbor, from_json, to_cbor, to_json};

    let mut checked = 0;
    for vector in vectors().readings {
        let Some(senml) = &vector.senml else { continue };
        let (schema, payload) = (vector.schema.schema(), bytes_of(&vector.payload));
        let json = to_json(&schema, &senml.topic, &payload, senml.message_ms);
        assert_eq!(json.as_deref(), Ok(senml.json.as_str()), "{}", vector.meaning);
        let cbor = to_cbor(&schema, &senml.topic, &payload, senml.message_ms);
        assert_eq!(cbor, Ok(bytes_of(&senml.cbor)), "{}", vector.meaning);
        for runs in [from_json(&senml.json), from_cbor(&bytes_of(&senml.cbor))] {
            let runs = runs.expect("well formed");
            assert_eq!(runs.len(), 1, "{}", vector.meaning);
            assert_eq!(runs[0].name, [&senml.topic, schema.name].concat(), "{}", vector.meaning);
            let again = runs[0].encode(&schema, senml.message_ms);
            assert_eq!(again, Ok(payload.clone()), "{}", vector.meaning);
        }
        checked += 1;
    }
    assert!(checked >= 5, "only {checked} vectors have SenML");
}
