//! One sensor: its topic, its schema, and whether its value is worth publishing.

use std::{fmt, io};

use fastport_wire::schema::Kind;
use fastport_wire::{Schema, Value};

use super::source::Source;

/// Why a sensor gave no value. The sensor stays: the next read may succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SensorError {
    /// Its file, or its file system, is not there.
    Missing,
    /// The kernel refused to read it; an error number of the system, 0 where there is none.
    Unreadable(i32),
    /// Its file is empty.
    Empty,
    /// Its file says something that is not a number, or lacks the number asked for.
    NotANumber,
    /// Its number is over 64 bits, or not one its kind can have.
    OutOfRange,
}

impl fmt::Display for SensorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("not there"),
            Self::Unreadable(code) => {
                write!(f, "not readable: {}", io::Error::from_raw_os_error(*code))
            }
            Self::Empty => f.write_str("empty"),
            Self::NotANumber => f.write_str("not a number"),
            Self::OutOfRange => f.write_str("number out of range"),
        }
    }
}

impl std::error::Error for SensorError {}

impl From<io::Error> for SensorError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            _ => Self::Unreadable(error.raw_os_error().unwrap_or_default()),
        }
    }
}

/// Something of the board that has a value.
#[derive(Debug)]
pub struct Sensor {
    topic: String,
    schema: Schema<'static>,
    source: Source,
    /// In steps of the schema's scale; a change is published when it is greater.
    dead_band: u64,
    published: Option<Value>,
    /// Samples since then.
    since: u32,
    errors: u64,
    last_error: Option<SensorError>,
}

impl Sensor {
    pub(super) fn new(
        topic: String,
        schema: Schema<'static>,
        dead_band: u64,
        source: Source,
    ) -> Self {
        let (published, since, errors, last_error) = (None, 0, 0, None);
        Self { topic, schema, source, dead_band, published, since, errors, last_error }
    }

    /// Where its readings are published: a well-formed topic below `$board/`, its own alone.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// What its readings are.
    #[must_use]
    pub const fn schema(&self) -> &Schema<'static> {
        &self.schema
    }

    /// How often it could not be read.
    #[must_use]
    pub const fn errors(&self) -> u64 {
        self.errors
    }

    /// Why it could not be read the last time that happened.
    #[must_use]
    pub const fn last_error(&self) -> Option<SensorError> {
        self.last_error
    }

    /// Reads it: one small file, opened anew.
    ///
    /// # Errors
    /// [`SensorError`], which is also counted.
    pub fn read(&mut self) -> Result<Value, SensorError> {
        let read = self.source.read().and_then(|steps| self.value_of(steps));
        if let Err(error) = read {
            self.errors = self.errors.saturating_add(1);
            self.last_error = Some(error);
        }
        read
    }

    fn value_of(&self, steps: i64) -> Result<Value, SensorError> {
        match (self.schema.kind, steps) {
            (Kind::Bool, 0 | 1) => Ok(Value::Bool(steps == 1)),
            (Kind::Int { scale }, _) => Ok(Value::int(steps, scale)),
            _ => Err(SensorError::OutOfRange),
        }
    }

    /// The value, if it should be published now, and then notes that it was. `None` for a value
    /// that could not be read counts as a sample without news.
    pub(super) fn due(&mut self, value: Option<Value>, refresh: u32) -> Option<Value> {
        self.since = self.since.saturating_add(1);
        let value = value?;
        let is_due = match self.published {
            None => true,
            Some(published) => self.since >= refresh || distance(published, value) > self.dead_band,
        };
        if is_due {
            (self.published, self.since) = (Some(value), 0);
        }
        is_due.then_some(value)
    }
}

/// In steps of the scale, which the values of a sensor share.
fn distance(one: Value, other: Value) -> u64 {
    match (one, other) {
        (Value::Int(one), Value::Int(other)) => one.coefficient.abs_diff(other.coefficient),
        _ => u64::from(one != other),
    }
}
