//! Readings as SenML (RFC 8428) in JSON and CBOR, and back, without loss.
//!
//! The topic is the base name, the time of the last reading the base time, the schema's unit the
//! base unit. Decimals are printed digit by digit in JSON and are decimal fractions (tag 4) in CBOR:
//! no number takes a detour through a float. CBOR is written and read by a few heads of our own
//! (`cbor.rs`): serde_cbor has tags only behind a feature that would make every decoder of the
//! build judge tagged values differently.
//!
//! Not taken: strings, data and sums (`vs`, `vd`, `s`), which are no readings. `ut` is ignored.

use core::fmt;
use std::string::String;
use std::vec;
use std::vec::Vec;

use crate::readings::{Readings, ReadingsEncoder, Refusal, Stamp};
use crate::schema::{Kind, Schema, TimeUnit};
use crate::value::{Decimal, Value};
use crate::{WireError, varint};

mod cbor;
mod json;
mod number;
mod record;

/// Times of RFC 8428 below 2^28 seconds are relative to the time of reading them.
const ABSOLUTE_FROM_US: i128 = (1 << 28) * 1_000_000;

/// The most bytes of a name: a topic's, and a schema name's.
pub const MAX_NAME: usize = crate::topic::MAX_BYTES + crate::schema::MAX_NAME;

/// Why SenML could not be made or read.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum SenmlError {
    /// The readings, or what should become readings, are not well formed.
    Readings(WireError),
    /// The text is not JSON, or not an array of objects; with what the parser says.
    NotJson(String),
    /// The bytes are not CBOR, or not an array of maps.
    NotCbor,
    /// A record with base version over 10.
    UnknownVersion,
    /// A label that ends with `_` and is not known: its record must not be used.
    MustUnderstand(String),
    /// A label is there twice in a record, or its value is of the wrong type.
    BadLabel(&'static str),
    /// A string, data or a sum: not a reading.
    NotAReading(&'static str),
    /// A record without a name.
    NoName,
    /// A name over [`MAX_NAME`] bytes.
    NameTooLong,
    /// A record without a value.
    NoValue,
    /// A record with several values.
    SeveralValues,
    /// A number over the range of a double, or no number.
    BadNumber,
    /// Records of that name have different units.
    UnitChanges(String),
    /// Records of that name have numbers and switches.
    KindChanges(String),
    /// SenML has no numbers that are not finite.
    NotFinite,
    /// The schema cannot hold the value exactly.
    NotExact(Value),
    /// The schema's time unit cannot hold the times exactly, or they are not one interval apart.
    TimeNotExact,
    /// SenML cannot say times before 1978-07-04, because it reads them as relative.
    TimeTooEarly,
    /// The times need the time of the message, which is not known.
    NoMessageTime,
    /// A time after that of its message, or out of range.
    TimeRange,
}

impl fmt::Display for SenmlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Readings(error) => error.fmt(f),
            Self::NotJson(why) => write!(f, "not a SenML pack in JSON: {why}"),
            Self::NotCbor => f.write_str("not a SenML pack in CBOR"),
            Self::UnknownVersion => f.write_str("SenML version over 10"),
            Self::MustUnderstand(label) => write!(f, "label {label} is not understood"),
            Self::BadLabel(label) => write!(f, "{label} is there twice or of the wrong type"),
            Self::NotAReading(label) => write!(f, "{label} is not a reading"),
            Self::NoName => f.write_str("record without a name"),
            Self::NameTooLong => write!(f, "name over {MAX_NAME} bytes"),
            Self::NoValue => f.write_str("record without a value"),
            Self::SeveralValues => f.write_str("record with several values"),
            Self::BadNumber => f.write_str("not a number in the range of a double"),
            Self::UnitChanges(name) => write!(f, "{name} changes its unit"),
            Self::KindChanges(name) => write!(f, "{name} has numbers and switches"),
            Self::NotFinite => f.write_str("SenML has finite numbers only"),
            Self::NotExact(value) => write!(f, "the schema cannot hold {value} exactly"),
            Self::TimeNotExact => f.write_str("the schema cannot hold the times exactly"),
            Self::TimeTooEarly => f.write_str("SenML cannot say times before July 1978"),
            Self::NoMessageTime => f.write_str("the time of the message is not known"),
            Self::TimeRange => f.write_str("time after its message or out of range"),
        }
    }
}

impl core::error::Error for SenmlError {}

impl From<WireError> for SenmlError {
    fn from(error: WireError) -> Self {
        Self::Readings(error)
    }
}

/// A readings payload as a SenML pack in JSON. `message_ms` is the time of its message since 1970;
/// without it, times that depend on it are given relative to now, as RFC 8428 has it.
///
/// The topic stands in the pack as it is; it is a conforming SenML name where it has only letters,
/// digits, `-`, `:`, `.`, `/`, `_` and begins with a letter or digit.
///
/// # Errors
/// [`SenmlError::Readings`], [`SenmlError::NotFinite`], [`SenmlError::TimeTooEarly`],
/// [`SenmlError::TimeRange`].
pub fn to_json(
    schema: &Schema<'_>,
    topic: &str,
    payload: &[u8],
    message_ms: Option<u64>,
) -> Result<String, SenmlError> {
    Pack::new(schema, topic, payload, message_ms)?.to_json()
}

/// As [`to_json`], in CBOR.
///
/// # Errors
/// As [`to_json`].
pub fn to_cbor(
    schema: &Schema<'_>,
    topic: &str,
    payload: &[u8],
    message_ms: Option<u64>,
) -> Result<Vec<u8>, SenmlError> {
    Pack::new(schema, topic, payload, message_ms)?.to_cbor()
}

/// Reads a SenML pack in JSON; one run for each name, in the order of their first records.
///
/// Numbers that an `i64` with a scale can hold are taken exactly, others as doubles.
///
/// # Errors
/// [`SenmlError`] for the first thing that is wrong.
pub fn from_json(text: &str) -> Result<Vec<Run>, SenmlError> {
    json::read(text)
}

/// Reads a SenML pack in CBOR; one run for each name, in the order of their first records.
///
/// # Errors
/// [`SenmlError`] for the first thing that is wrong.
pub fn from_cbor(bytes: &[u8]) -> Result<Vec<Run>, SenmlError> {
    cbor::read(bytes)
}

/// What a payload becomes: what its records have in common, and the readings.
struct Pack<'a> {
    topic: &'a str,
    name: &'a str,
    unit: &'a str,
    /// Seconds; none: times are relative to now.
    base_time: Option<Decimal>,
    /// In the schema's time unit, what [`Pack::base_time`] does not say.
    age: u64,
    time_scale: i8,
    readings: Readings<'a>,
}

impl<'a> Pack<'a> {
    fn new(
        schema: &Schema<'a>,
        topic: &'a str,
        payload: &'a [u8],
        message_ms: Option<u64>,
    ) -> Result<Self, SenmlError> {
        let readings = Readings::decode(schema, payload)?;
        let unit_us = i128::from(schema.time_unit.microseconds());
        let message_us = message_ms.map(|ms| i128::from(ms) * 1000);
        let (last_us, age) = match (readings.stamp(), message_us) {
            (Stamp::Unix(time), _) => (Some(i128::from(time) * unit_us), 0),
            (Stamp::Message, message) => (message, 0),
            (Stamp::Age(age), Some(message)) => (Some(message - i128::from(age) * unit_us), 0),
            (Stamp::Age(age), None) => (None, age),
        };
        if let Some(last) = last_us
            && last - i128::from(readings.span()) * unit_us < ABSOLUTE_FROM_US
        {
            return Err(SenmlError::TimeTooEarly);
        }
        let seconds = |us| i64::try_from(us).map(|us| shortest(Decimal::new(us, MICRO)));
        let base_time = last_us.map(seconds).transpose().map_err(|_| SenmlError::TimeRange)?;
        let time_scale = match schema.time_unit {
            TimeUnit::Second => 0,
            TimeUnit::Millisecond => MILLI,
            TimeUnit::Microsecond => MICRO,
        };
        let (name, unit) = (schema.name, schema.unit);
        Ok(Self { topic, name, unit, base_time, age, time_scale, readings })
    }

    /// The readings and their `t`, which is none where it would be 0.
    fn records(&self) -> impl Iterator<Item = Result<(Option<Decimal>, Value), SenmlError>> {
        self.readings.iter().map(|reading| {
            let before = reading.before_last.checked_add(self.age).map(i64::try_from);
            let Some(Ok(before)) = before else { return Err(SenmlError::TimeRange) };
            let is_finite = match reading.value {
                Value::F32(value) => value.is_finite(),
                Value::F64(value) => value.is_finite(),
                Value::Int(_) | Value::Bool(_) => true,
            };
            if !is_finite {
                return Err(SenmlError::NotFinite);
            }
            let time = (before != 0).then(|| shortest(Decimal::new(-before, self.time_scale)));
            Ok((time, reading.value))
        })
    }
}

/// When a sample was taken, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    /// From the time of the message; negative: before it.
    Relative(i64),
    /// From 1970-01-01T00:00:00Z.
    Unix(i64),
}

/// One record of a pack, its base fields resolved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// To the microsecond; what is finer is rounded.
    pub time: Time,
    /// A decimal, a float or a switch.
    pub value: Value,
}

/// The records of one name of a pack.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// Base name and name: 1 to [`MAX_NAME`] bytes.
    pub name: String,
    /// Empty: none.
    pub unit: String,
    /// At least one, in the order of the pack.
    pub samples: Vec<Sample>,
}

impl Run {
    /// A schema that holds the run: decimals at the finest scale needed, else floats; the coarsest
    /// time unit that holds all times; absolute stamps where the times are absolute.
    ///
    /// # Errors
    /// [`SenmlError::KindChanges`]; [`SenmlError::Readings`] for a unit that schemas do not allow.
    pub fn infer_schema(&self) -> Result<Schema<'_>, SenmlError> {
        let kind = self.infer_kind()?;
        let times = || self.samples.iter().map(|sample| sample.time);
        let us = |time| match time {
            Time::Relative(us) | Time::Unix(us) => us,
        };
        let all_are = |unit: i64| times().all(|time| us(time) % unit == 0);
        let time_unit = match () {
            () if all_are(1_000_000) => TimeUnit::Second,
            () if all_are(1_000) => TimeUnit::Millisecond,
            () => TimeUnit::Microsecond,
        };
        let absolute = times().any(|time| matches!(time, Time::Unix(_)));
        let schema = Schema { kind, time_unit, absolute, ..Schema::int(&self.unit, 0) };
        schema.encode(&mut [0; crate::schema::MAX_SCHEMA])?;
        Ok(schema)
    }

    fn infer_kind(&self) -> Result<Kind, SenmlError> {
        let values = || self.samples.iter().map(|sample| sample.value);
        let switches = values().filter(|value| matches!(value, Value::Bool(_))).count();
        if switches == self.samples.len() {
            return Ok(Kind::Bool);
        }
        if switches > 0 {
            return Err(SenmlError::KindChanges(self.name.clone()));
        }
        if values().all(|value| matches!(value, Value::F32(_))) {
            return Ok(Kind::F32);
        }
        let scale_of = |value| match value {
            Value::Int(decimal) => Some(decimal.scale),
            _ => None,
        };
        let scale = values().filter_map(scale_of).min().unwrap_or_default();
        let kind = Kind::Int { scale };
        let all_fit = values().all(|value| value.to_bits(kind).is_some());
        Ok(if all_fit { kind } else { Kind::F64 })
    }

    /// The run as a readings payload, oldest first, its message being of `message_ms` since 1970.
    ///
    /// # Errors
    /// [`SenmlError::NotExact`], [`SenmlError::TimeNotExact`], [`SenmlError::NoMessageTime`],
    /// [`SenmlError::TimeRange`], [`SenmlError::Readings`] for a run without samples.
    pub fn encode(
        &self,
        schema: &Schema<'_>,
        message_ms: Option<u64>,
    ) -> Result<Vec<u8>, SenmlError> {
        let unit = i128::from(schema.time_unit.microseconds());
        let message_us = message_ms.map(|ms| i128::from(ms) * 1000);
        let samples = self.sorted(message_us)?;
        let (Some(&(first, _)), Some(&(last, _))) = (samples.first(), samples.last()) else {
            return Err(WireError::BadReadings.into());
        };
        let in_units = |us: i128| match us.checked_rem(unit) {
            Some(0) => u64::try_from(us / unit).map_err(|_| SenmlError::TimeRange),
            _ => Err(SenmlError::TimeNotExact),
        };
        let has_unix = self.samples.iter().any(|it| matches!(it.time, Time::Unix(_)));
        let needs_one = schema.interval != 0 && samples.len() > 1;
        // without a time of the message all samples are relative to it: then it is 0
        let message = message_us.or((!has_unix).then_some(0));
        let stamp = match (schema.absolute, message) {
            (_, Some(message)) if message == last && !(needs_one && schema.absolute) => {
                Stamp::Message
            }
            (false, Some(message)) => Stamp::Age(in_units(message - last)?),
            (true, _) if has_unix || message_us.is_some() => Stamp::Unix(in_units(last)?),
            _ => return Err(SenmlError::NoMessageTime),
        };
        let mut out = vec![0; (2 * samples.len() + 1) * varint::MAX_LEN];
        let mut encoder = ReadingsEncoder::new(schema, &mut out);
        for (time, value) in samples {
            let value = number::convert(value, schema.kind).ok_or(SenmlError::NotExact(value))?;
            encoder.push(in_units(time - first)?, value).map_err(|refused| match refused.why {
                Refusal::WrongKind => SenmlError::NotExact(refused.value),
                Refusal::Full => WireError::NoRoom.into(),
                Refusal::TimeGoesBack | Refusal::OffInterval => SenmlError::TimeNotExact,
            })?;
        }
        let length = encoder.finish(stamp)?;
        out.truncate(length);
        Ok(out)
    }

    /// Times in microseconds since 1970, or since the message where all are relative, and values.
    fn sorted(&self, message_us: Option<i128>) -> Result<Vec<(i128, Value)>, SenmlError> {
        let has_unix = self.samples.iter().any(|it| matches!(it.time, Time::Unix(_)));
        let base = message_us.or((!has_unix).then_some(0));
        let resolve = |sample: &Sample| match (sample.time, base) {
            (Time::Unix(us), _) => Ok((us.into(), sample.value)),
            (Time::Relative(us), Some(base)) => Ok((base + i128::from(us), sample.value)),
            (Time::Relative(_), None) => Err(SenmlError::NoMessageTime),
        };
        let mut samples = self.samples.iter().map(resolve).collect::<Result<Vec<_>, _>>()?;
        samples.sort_by_key(|&(time, _)| time);
        Ok(samples)
    }
}

/// The same number without zeros behind the point.
fn shortest(mut decimal: Decimal) -> Decimal {
    while decimal.scale < 0 && decimal.coefficient % 10 == 0 {
        decimal = Decimal::new(decimal.coefficient / 10, decimal.scale + 1);
    }
    decimal
}

const MILLI: i8 = -3;
const MICRO: i8 = -6;

#[cfg(test)]
mod tests;
