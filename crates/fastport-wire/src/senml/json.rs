//! Packs in JSON. Numbers pass as text, so that none becomes a float on the way.

use core::fmt;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::record::{Item, Label, Record, Resolver};
use super::{Pack, Run, SenmlError, number};
use crate::value::Value;

impl Pack<'_> {
    pub(super) fn to_json(&self) -> Result<String, SenmlError> {
        let mut out = String::from("[");
        for (index, record) in self.records().enumerate() {
            let (time, value) = record?;
            if index == 0 {
                out += &format!("{{\"bn\":{}", quote(self.topic)?);
                if let Some(base_time) = self.base_time {
                    out += &format!(",\"bt\":{base_time}");
                }
                if !self.unit.is_empty() {
                    out += &format!(",\"bu\":{}", quote(self.unit)?);
                }
                out.push(',');
            } else {
                out += ",{";
            }
            if !self.name.is_empty() {
                out += &format!("\"n\":{},", quote(self.name)?);
            }
            if let Some(time) = time {
                out += &format!("\"t\":{time},");
            }
            out += &match value {
                Value::Bool(value) => format!("\"vb\":{value}}}"),
                Value::Int(value) => format!("\"v\":{value}}}"),
                // with a point or an exponent, and with the exponent where digits would be many
                Value::F32(value) => format!("\"v\":{value:?}}}"),
                Value::F64(value) => format!("\"v\":{value:?}}}"),
            };
        }
        out.push(']');
        Ok(out)
    }
}

pub(super) fn read(text: &str) -> Result<Vec<Run>, SenmlError> {
    let records: Vec<Fields<'_>> = serde_json::from_str(text).map_err(not_json)?;
    let mut resolver = Resolver::default();
    for fields in records {
        let mut record = Record::default();
        for (name, raw) in fields.0 {
            match Label::from_name(&name) {
                Some(label) => record.set(label, item(raw.get())?)?,
                None => Record::skip_unknown(&name)?,
            }
        }
        resolver.add(record)?;
    }
    Ok(resolver.into_runs())
}

fn item(text: &str) -> Result<Item, SenmlError> {
    Ok(match text.as_bytes().first() {
        Some(b'"') => Item::Text(serde_json::from_str(text).map_err(not_json)?),
        Some(b't') => Item::Bool(true),
        Some(b'f') => Item::Bool(false),
        Some(b'-' | b'0'..=b'9') => Item::Number(number::parse(text).ok_or(SenmlError::BadNumber)?),
        _ => Item::Other,
    })
}

fn quote(text: &str) -> Result<String, SenmlError> {
    serde_json::to_string(text).map_err(not_json)
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn not_json(error: serde_json::Error) -> SenmlError {
    SenmlError::NotJson(error.to_string())
}

/// The fields of an object in their order, values as text.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a SenML record")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}
