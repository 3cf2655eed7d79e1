//! Records as they stand in a pack, and what they mean together with the base fields before them.

use std::borrow::ToOwned;
use std::collections::BTreeMap;
use std::string::String;
use std::vec::Vec;

use super::{ABSOLUTE_FROM_US, MAX_NAME, Run, Sample, SenmlError, Time, number};
use crate::schema::MAX_UNIT;
use crate::value::Value;

/// The labels of RFC 8428 section 12.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    BaseVersion,
    BaseName,
    BaseTime,
    BaseUnit,
    BaseValue,
    BaseSum,
    Name,
    Unit,
    Value,
    StringValue,
    BoolValue,
    Sum,
    Time,
    UpdateTime,
    DataValue,
}

impl Label {
    /// Name in JSON, number in CBOR.
    const ALL: [(Self, &'static str, i64); 15] = [
        (Self::BaseVersion, "bver", -1),
        (Self::BaseName, "bn", -2),
        (Self::BaseTime, "bt", -3),
        (Self::BaseUnit, "bu", -4),
        (Self::BaseValue, "bv", -5),
        (Self::BaseSum, "bs", -6),
        (Self::Name, "n", 0),
        (Self::Unit, "u", 1),
        (Self::Value, "v", 2),
        (Self::StringValue, "vs", 3),
        (Self::BoolValue, "vb", 4),
        (Self::Sum, "s", 5),
        (Self::Time, "t", 6),
        (Self::UpdateTime, "ut", 7),
        (Self::DataValue, "vd", 8),
    ];

    pub(super) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|label| label.1 == name).map(|label| label.0)
    }

    pub(super) fn from_number(number: i64) -> Option<Self> {
        Self::ALL.iter().find(|label| label.2 == number).map(|label| label.0)
    }

    pub(super) fn number(self) -> i64 {
        Self::ALL.iter().find(|label| label.0 == self).map_or(0, |label| label.2)
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|label| label.0 == self).map_or("", |label| label.1)
    }
}

/// The value of a label.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    Number(Value),
    Text(String),
    Bool(bool),
    /// Anything else.
    Other,
}

/// One record, not resolved.
#[derive(Debug, Default)]
pub(super) struct Record {
    base_version: Option<Value>,
    base_name: Option<String>,
    base_time: Option<Value>,
    base_unit: Option<String>,
    base_value: Option<Value>,
    name: Option<String>,
    unit: Option<String>,
    value: Option<Value>,
    bool_value: Option<bool>,
    time: Option<Value>,
}

impl Record {
    pub(super) fn set(&mut self, label: Label, item: Item) -> Result<(), SenmlError> {
        let is_new = match (label, item) {
            (Label::BaseVersion, Item::Number(it)) => self.base_version.replace(it).is_none(),
            (Label::BaseName, Item::Text(it)) => self.base_name.replace(it).is_none(),
            (Label::BaseTime, Item::Number(it)) => self.base_time.replace(it).is_none(),
            (Label::BaseUnit, Item::Text(it)) => self.base_unit.replace(it).is_none(),
            (Label::BaseValue, Item::Number(it)) => self.base_value.replace(it).is_none(),
            (Label::Name, Item::Text(it)) => self.name.replace(it).is_none(),
            (Label::Unit, Item::Text(it)) => self.unit.replace(it).is_none(),
            (Label::Value, Item::Number(it)) => self.value.replace(it).is_none(),
            (Label::BoolValue, Item::Bool(it)) => self.bool_value.replace(it).is_none(),
            (Label::Time, Item::Number(it)) => self.time.replace(it).is_none(),
            (Label::UpdateTime, _) => true,
            (Label::StringValue | Label::DataValue | Label::Sum | Label::BaseSum, _) => {
                return Err(SenmlError::NotAReading(label.name()));
            }
            _ => false,
        };
        if is_new { Ok(()) } else { Err(SenmlError::BadLabel(label.name())) }
    }

    /// What an unknown label means: nothing, unless it ends with `_`.
    pub(super) fn skip_unknown(label: &str) -> Result<(), SenmlError> {
        if label.ends_with('_') {
            let start = label.chars().take(MAX_SHOWN).collect();
            return Err(SenmlError::MustUnderstand(start));
        }
        Ok(())
    }
}

/// Turns records, in order, into runs.
#[derive(Debug, Default)]
pub(super) struct Resolver {
    base_name: String,
    base_time: i64,
    base_unit: String,
    base_value: Option<Value>,
    runs: Vec<Run>,
    by_name: BTreeMap<String, usize>,
}

impl Resolver {
    pub(super) fn add(&mut self, record: Record) -> Result<(), SenmlError> {
        match record.base_version.map(number::microseconds) {
            None => {}
            Some(Some(version)) if version <= MAX_VERSION_MICRO => {}
            Some(_) => return Err(SenmlError::UnknownVersion),
        }
        if let Some(name) = record.base_name {
            self.base_name = name;
        }
        if let Some(time) = record.base_time {
            self.base_time = number::microseconds(time).ok_or(SenmlError::TimeRange)?;
        }
        if let Some(unit) = record.base_unit {
            self.base_unit = unit;
        }
        self.base_value = record.base_value.or(self.base_value);
        let value = match (record.value, record.bool_value, self.base_value) {
            (Some(value), None, None) => value,
            (Some(value), None, Some(base)) => {
                number::sum(base, value).ok_or(SenmlError::BadNumber)?
            }
            (None, Some(value), _) => Value::Bool(value),
            (None, None, _) => return Err(SenmlError::NoValue),
            (Some(_), Some(_), _) => return Err(SenmlError::SeveralValues),
        };
        let time = match record.time {
            Some(time) => number::microseconds(time).ok_or(SenmlError::TimeRange)?,
            None => 0,
        };
        let time = self.base_time.checked_add(time).ok_or(SenmlError::TimeRange)?;
        let time = if i128::from(time) < ABSOLUTE_FROM_US {
            Time::Relative(time)
        } else {
            Time::Unix(time)
        };
        let run = self.run(record.name.as_deref(), record.unit.as_deref())?;
        run.samples.push(Sample { time, value });
        Ok(())
    }

    pub(super) fn into_runs(self) -> Vec<Run> {
        self.runs
    }

    /// The run of that name, made where it is not there.
    fn run(&mut self, name: Option<&str>, unit: Option<&str>) -> Result<&mut Run, SenmlError> {
        let (name, unit) = (name.unwrap_or_default(), unit.unwrap_or(&self.base_unit));
        let length = self.base_name.len() + name.len();
        if length == 0 {
            return Err(SenmlError::NoName);
        }
        // checked before copying: each record repeats the base name
        if length > MAX_NAME {
            return Err(SenmlError::NameTooLong);
        }
        if unit.len() > MAX_UNIT {
            return Err(SenmlError::BadLabel(Label::Unit.name()));
        }
        let name = [&self.base_name, name].concat();
        let next = self.runs.len();
        let index = *self.by_name.entry(name.clone()).or_insert(next);
        if index == next {
            self.runs.push(Run { name, unit: unit.to_owned(), samples: Vec::new() });
        }
        let run = self.runs.get_mut(index).ok_or(SenmlError::NoName)?;
        if run.unit != unit {
            return Err(SenmlError::UnitChanges(run.name.clone()));
        }
        Ok(run)
    }
}

/// The version of RFC 8428 is 10; compared in millionths, as times are.
const MAX_VERSION_MICRO: i64 = 10 * 1_000_000;
/// How much of an unknown label goes into an error.
const MAX_SHOWN: usize = 32;
