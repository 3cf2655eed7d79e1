//! Readings on the command line: numbers to payloads, and payloads to text.

use std::fmt::Write;

use fastport_wire::readings::{MAX_SINGLE, encode_single};
use fastport_wire::schema::{self, MAX_SCHEMA};
use fastport_wire::{Decimal, Readings, Schema, Value};

use super::arguments;
use super::arguments::Kind;
use super::exit::Failure;

/// What the readings of a `pub` are.
pub(super) struct Coder {
    unit: String,
    kind: schema::Kind,
}

impl Coder {
    /// As the command line says; `None`: it says nothing of readings. Without --scale a payload that
    /// stands there has the digits that it needs.
    pub(super) fn new(
        arguments: &arguments::Readings,
        payload: Option<&str>,
    ) -> Result<Option<Self>, Failure> {
        let arguments::Readings { unit, scale, kind } = arguments;
        if unit.is_none() && scale.is_none() && kind.is_none() {
            return Ok(None);
        }
        let kind = match (kind.unwrap_or(Kind::Int), scale) {
            (Kind::Int, scale) => {
                let needed = || payload.and_then(parse_decimal).map_or(0, |decimal| decimal.scale);
                schema::Kind::Int { scale: scale.unwrap_or_else(needed) }
            }
            (_, Some(_)) => return Err(Failure::usage("--scale is for --kind int only")),
            (Kind::F32, None) => schema::Kind::F32,
            (Kind::F64, None) => schema::Kind::F64,
            (Kind::Bool, None) => schema::Kind::Bool,
        };
        let coder = Self { unit: unit.clone().unwrap_or_default(), kind };
        coder.encode_schema()?;
        Ok(Some(coder))
    }

    fn schema(&self) -> Schema<'_> {
        Schema { kind: self.kind, ..Schema::int(&self.unit, 0) }
    }

    /// The schema, for opening the topic.
    pub(super) fn encode_schema(&self) -> Result<Vec<u8>, Failure> {
        let mut out = [0; MAX_SCHEMA];
        let bad = |_| {
            let limit = schema::MAX_UNIT;
            let unit = &self.unit;
            Failure::usage(format!("--unit {unit:?}: at most {limit} characters of ASCII"))
        };
        let length = self.schema().encode(&mut out).map_err(bad)?;
        Ok(out.get(..length).unwrap_or_default().to_vec())
    }

    /// The payload of the one reading that `text` says, of the time of its message.
    pub(super) fn encode(&self, text: &str) -> Result<Vec<u8>, Failure> {
        let value = self.value(text.trim())?;
        let mut out = [0; MAX_SINGLE];
        let length = encode_single(&self.schema(), value, &mut out)
            .map_err(|error| Failure::internal(format!("{text}: {error}")))?;
        Ok(out.get(..length).unwrap_or_default().to_vec())
    }

    fn value(&self, text: &str) -> Result<Value, Failure> {
        let bad = |what: &str| Failure::data(format!("{text:?} is {what}"));
        match self.kind {
            schema::Kind::Bool => match text {
                "true" | "1" | "on" => Ok(Value::Bool(true)),
                "false" | "0" | "off" => Ok(Value::Bool(false)),
                _ => Err(bad("neither true nor false")),
            },
            schema::Kind::F32 => text.parse().map(Value::F32).map_err(|_| bad("no number")),
            schema::Kind::F64 => text.parse().map(Value::F64).map_err(|_| bad("no number")),
            schema::Kind::Int { scale } => {
                let decimal = parse_decimal(text)
                    .ok_or_else(|| bad("no decimal number of at most 18 digits"))?;
                decimal.rescale(scale).map(Value::Int).ok_or_else(|| {
                    let needed = decimal.scale;
                    bad(&format!("not exact with --scale {scale}; it needs --scale {needed}"))
                })
            }
        }
    }
}

/// The readings of a payload for people: `21.30 21.37 Cel`; `None` when they do not fit the schema.
pub(super) fn show(schema: &[u8], payload: &[u8]) -> Option<String> {
    let schema = Schema::decode(schema).ok()?;
    let readings = Readings::decode(&schema, payload).ok()?;
    let mut text = String::new();
    for reading in readings.iter() {
        if !text.is_empty() {
            text.push(' ');
        }
        // a String takes all that is written to it
        write!(text, "{}", reading.value).unwrap_or_default();
    }
    if !schema.unit.is_empty() {
        text.push(' ');
        text.push_str(schema.unit);
    }
    Some(text)
}

/// `-12.50` as it stands: 1250 at scale -2.
fn parse_decimal(text: &str) -> Option<Decimal> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all = format!("{whole}{fraction}");
    let is_number = !all.is_empty() && all.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || (digits.contains('.') && fraction.is_empty()) {
        return None;
    }
    let magnitude: i64 = all.parse().ok()?;
    let coefficient = if text.starts_with('-') { -magnitude } else { magnitude };
    let scale = i8::try_from(fraction.len()).ok()?;
    Some(Decimal::new(coefficient, -scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coder(kind: Kind, scale: Option<i8>) -> Coder {
        let unit = Some("Cel".to_owned());
        let arguments = arguments::Readings { unit, scale, kind: Some(kind) };
        Coder::new(&arguments, None).expect("a sound command line").expect("it has readings")
    }

    #[test]
    fn what_is_said_is_what_is_shown() {
        for (kind, scale, said, shown) in [
            (Kind::Int, None, "21", "21 Cel"),
            (Kind::Int, Some(-2), "21.3", "21.30 Cel"),
            (Kind::Int, Some(-2), "-0.05", "-0.05 Cel"),
            (Kind::Int, Some(3), "1500000", "1500000 Cel"),
            (Kind::F32, None, "0.1", "0.1 Cel"),
            (Kind::F64, None, "1e300", &format!("{} Cel", 1e300)),
            (Kind::Bool, None, "on", "true Cel"),
        ] {
            let coder = coder(kind, scale);
            let payload = coder.encode(said).expect(said);
            let schema = coder.encode_schema().expect("checked before");
            assert_eq!(show(&schema, &payload).as_deref(), Some(shown));
        }
    }

    #[test]
    fn without_a_scale_a_payload_has_the_digits_that_it_shows() {
        let arguments = arguments::Readings { unit: Some("Cel".into()), scale: None, kind: None };
        let coder = Coder::new(&arguments, Some("21.37"));
        let coder = coder.expect("a sound command line").expect("it has readings");
        assert_eq!(coder.kind, schema::Kind::Int { scale: -2 });
        assert!(coder.encode("21.37").is_ok());
    }

    #[test]
    fn a_number_that_does_not_fit_is_refused_with_what_would() {
        for (kind, scale, said) in [
            (Kind::Int, None, "21.5"),
            (Kind::Int, Some(1), "15"),
            (Kind::Int, None, "x"),
            (Kind::Int, None, "1."),
            (Kind::Int, None, ""),
            (Kind::Int, None, "99999999999999999999"),
            (Kind::F64, None, "x"),
            (Kind::Bool, None, "yes"),
        ] {
            assert!(coder(kind, scale).encode(said).is_err(), "{said}");
        }
    }
}
