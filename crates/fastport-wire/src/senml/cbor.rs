//! Packs in CBOR (RFC 8949): just the heads that SenML needs, decimal fractions (tag 4) among them.

use std::string::String;
use std::vec::Vec;

use super::record::{Item, Label, Record, Resolver};
use super::{Pack, Run, SenmlError, number};
use crate::value::{Decimal, Value};

impl Pack<'_> {
    pub(super) fn to_cbor(&self) -> Result<Vec<u8>, SenmlError> {
        let mut out = Writer(Vec::new());
        out.head(major::ARRAY, self.readings.len() as u64);
        for (index, record) in self.records().enumerate() {
            let (time, value) = record?;
            let has_base_time = index == 0 && self.base_time.is_some();
            let has_base_unit = index == 0 && !self.unit.is_empty();
            let optional =
                [index == 0, has_base_time, has_base_unit, !self.name.is_empty(), time.is_some()];
            out.head(major::MAP, 1 + optional.iter().filter(|is_there| **is_there).count() as u64);
            if index == 0 {
                out.label(Label::BaseName);
                out.text(self.topic);
                if let Some(base_time) = self.base_time {
                    out.label(Label::BaseTime);
                    out.decimal(base_time);
                }
                if has_base_unit {
                    out.label(Label::BaseUnit);
                    out.text(self.unit);
                }
            }
            if !self.name.is_empty() {
                out.label(Label::Name);
                out.text(self.name);
            }
            if let Some(time) = time {
                out.label(Label::Time);
                out.decimal(time);
            }
            out.label(if matches!(value, Value::Bool(_)) {
                Label::BoolValue
            } else {
                Label::Value
            });
            match value {
                Value::Int(value) => out.decimal(value),
                Value::F32(value) => {
                    out.0.push(SINGLE);
                    out.0.extend(value.to_be_bytes());
                }
                Value::F64(value) => {
                    out.0.push(DOUBLE);
                    out.0.extend(value.to_be_bytes());
                }
                Value::Bool(value) => out.0.push(if value { TRUE } else { FALSE }),
            }
        }
        Ok(out.0)
    }
}

struct Writer(Vec<u8>);

impl Writer {
    fn head(&mut self, major: u8, argument: u64) {
        let bytes = argument.to_be_bytes();
        let (info, from) = match argument {
            0..24 => (bytes[7], 8),
            24..0x100 => (24, 7),
            0x100..0x1_0000 => (25, 6),
            0x1_0000..0x1_0000_0000 => (26, 4),
            _ => (27, 0),
        };
        self.0.push(major << 5 | info);
        self.0.extend(bytes.iter().skip(from));
    }

    fn int(&mut self, value: i64) {
        let major = if value < 0 { major::NEGATIVE } else { major::UNSIGNED };
        self.head(major, (value ^ value >> 63).cast_unsigned());
    }

    fn label(&mut self, label: Label) {
        self.int(label.number());
    }

    fn text(&mut self, text: &str) {
        self.head(major::TEXT, text.len() as u64);
        self.0.extend(text.as_bytes());
    }

    fn decimal(&mut self, decimal: Decimal) {
        if decimal.scale != 0 {
            self.head(major::TAG, DECIMAL_FRACTION);
            self.head(major::ARRAY, 2);
            self.int(decimal.scale.into());
        }
        self.int(decimal.coefficient);
    }
}

pub(super) fn read(bytes: &[u8]) -> Result<Vec<Run>, SenmlError> {
    let mut reader = Reader(bytes);
    let mut resolver = Resolver::default();
    let mut records = reader.container(major::ARRAY).ok_or(SenmlError::NotCbor)?;
    while reader.goes_on(&mut records).ok_or(SenmlError::NotCbor)? {
        let mut record = Record::default();
        let mut fields = reader.container(major::MAP).ok_or(SenmlError::NotCbor)?;
        while reader.goes_on(&mut fields).ok_or(SenmlError::NotCbor)? {
            let label = reader.item(0).ok_or(SenmlError::NotCbor)?;
            let item = reader.item(0).ok_or(SenmlError::NotCbor)?;
            let known = match &label {
                Item::Number(Value::Int(Decimal { coefficient, scale: 0 })) => {
                    Label::from_number(*coefficient)
                }
                _ => None,
            };
            match (known, label) {
                (Some(label), _) => record.set(label, item)?,
                (None, Item::Text(label)) => Record::skip_unknown(&label)?,
                (None, _) => {}
            }
        }
        resolver.add(record)?;
    }
    if reader.0.is_empty() { Ok(resolver.into_runs()) } else { Err(SenmlError::NotCbor) }
}

/// Takes items off the front of bytes; `None`: not well formed.
struct Reader<'a>(&'a [u8]);

/// What is left of an array or map; `None`: until a break.
type Left = Option<u64>;

impl<'a> Reader<'a> {
    fn take(&mut self, length: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn argument(&mut self, length: u64) -> Option<u64> {
        Some(self.take(length)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// Major type, the head's low five bits, and its argument (0 for an indefinite length).
    fn head(&mut self) -> Option<(u8, u8, u64)> {
        let first = *self.take(1)?.first()?;
        let info = first & 0x1f;
        let argument = match info {
            0..24 => u64::from(info),
            24..=27 => self.argument(1 << (info - 24))?,
            INDEFINITE => 0,
            _ => return None,
        };
        Some((first >> 5, info, argument))
    }

    fn container(&mut self, wanted: u8) -> Option<Left> {
        let (major, info, length) = self.head()?;
        (major == wanted).then_some(if info == INDEFINITE { None } else { Some(length) })
    }

    /// Whether another item follows.
    fn goes_on(&mut self, left: &mut Left) -> Option<bool> {
        match left {
            Some(0) => Some(false),
            Some(left) => {
                *left -= 1;
                Some(true)
            }
            None if self.0.first() == Some(&BREAK) => self.take(1).map(|_| false),
            None => (!self.0.is_empty()).then_some(true),
        }
    }

    fn item(&mut self, depth: u8) -> Option<Item> {
        if depth > MAX_DEPTH {
            return None;
        }
        let (major, info, argument) = self.head()?;
        if info == INDEFINITE && !(major::BYTES..=major::MAP).contains(&major) {
            return None;
        }
        let left = if info == INDEFINITE { None } else { Some(argument) };
        Some(match major {
            major::UNSIGNED => Item::Number(Value::int(i64::try_from(argument).ok()?, 0)),
            major::NEGATIVE => Item::Number(Value::int(-1 - i64::try_from(argument).ok()?, 0)),
            major::TEXT if info != INDEFINITE => {
                Item::Text(String::from(core::str::from_utf8(self.take(argument)?).ok()?))
            }
            major::TEXT => Item::Text(self.pieces(depth)?),
            major::BYTES if info != INDEFINITE => self.take(argument).map(|_| Item::Other)?,
            major::BYTES | major::ARRAY => self.skip(left, 1, depth)?,
            major::MAP => self.skip(left, 2, depth)?,
            major::TAG if argument == DECIMAL_FRACTION => self.decimal_fraction()?,
            major::TAG => self.item(depth + 1).map(|_| Item::Other)?,
            _ => match info {
                20 => Item::Bool(false),
                21 => Item::Bool(true),
                25 => float(half(u16::try_from(argument).ok()?)),
                26 => float(f32::from_bits(u32::try_from(argument).ok()?)),
                27 => match f64::from_bits(argument) {
                    value if value.is_finite() => Item::Number(Value::F64(value)),
                    _ => Item::Other,
                },
                _ => Item::Other,
            },
        })
    }

    fn pieces(&mut self, depth: u8) -> Option<String> {
        let mut text = String::new();
        let mut left = None;
        while self.goes_on(&mut left)? {
            match self.item(depth + 1)? {
                Item::Text(piece) => text += &piece,
                _ => return None,
            }
        }
        Some(text)
    }

    fn skip(&mut self, mut left: Left, items: u8, depth: u8) -> Option<Item> {
        while self.goes_on(&mut left)? {
            for _ in 0..items {
                self.item(depth + 1)?;
            }
        }
        Some(Item::Other)
    }

    fn decimal_fraction(&mut self) -> Option<Item> {
        let mut left = self.container(major::ARRAY)?;
        let mut parts = [0; 2];
        for part in &mut parts {
            let (true, Item::Number(Value::Int(Decimal { coefficient, scale: 0 }))) =
                (self.goes_on(&mut left)?, self.item(MAX_DEPTH)?)
            else {
                return None;
            };
            *part = coefficient;
        }
        if self.goes_on(&mut left)? {
            return None;
        }
        let [scale, coefficient] = parts;
        Some(match i8::try_from(scale) {
            Ok(scale) => Item::Number(Value::int(coefficient, scale)),
            Err(_) => number::parse(&std::format!("{coefficient}e{scale}"))
                .map_or(Item::Other, Item::Number),
        })
    }
}

fn float(value: f32) -> Item {
    if value.is_finite() { Item::Number(Value::F32(value)) } else { Item::Other }
}

/// IEEE 754 half precision; all its values are singles.
fn half(bits: u16) -> f32 {
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    let size = match exponent {
        0 => fraction / 16_777_216.0,
        31 => f32::INFINITY,
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    };
    if bits & 0x8000 == 0 { size } else { -size }
}

/// Major types, the high three bits of a head.
mod major {
    pub(super) const UNSIGNED: u8 = 0;
    pub(super) const NEGATIVE: u8 = 1;
    pub(super) const BYTES: u8 = 2;
    pub(super) const TEXT: u8 = 3;
    pub(super) const ARRAY: u8 = 4;
    pub(super) const MAP: u8 = 5;
    pub(super) const TAG: u8 = 6;
}

const INDEFINITE: u8 = 31;
const DECIMAL_FRACTION: u64 = 4;
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const SINGLE: u8 = 0xfa;
const DOUBLE: u8 = 0xfb;
const BREAK: u8 = 0xff;
/// Of items nested in one that is skipped; nothing in SenML is nested at all.
const MAX_DEPTH: u8 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_read() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x3555, 0.333_251_95),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(half(bits), value, "{bits:x}");
        }
    }
}
