//! Numbers of packs: exact where an `i64` and a scale can hold them.

use std::format;
use std::string::String;

use crate::schema::Kind;
use crate::value::{Decimal, Value};

/// Reads a JSON number: a decimal, or a double where no decimal holds it (and for -0, which has no
/// decimal). `None`: no number, or over the range of a double.
pub(super) fn parse(text: &str) -> Option<Value> {
    if !text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return None;
    }
    if let Some(decimal) = parse_decimal(text) {
        return Some(Value::Int(decimal));
    }
    text.parse().ok().filter(|float: &f64| float.is_finite()).map(Value::F64)
}

fn parse_decimal(text: &str) -> Option<Decimal> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if mantissa.len() > MAX_MANTISSA {
        return None;
    }
    let mut scale = exponent.parse::<i32>().ok()?.checked_sub(fraction.len().try_into().ok()?)?;
    let mut digits = String::with_capacity(mantissa.len());
    digits.push_str(whole);
    digits.push_str(fraction);
    let fits = |digits: &str, scale| {
        let coefficient = digits.parse::<i64>().ok()?;
        Some(Decimal::new(coefficient, i8::try_from(scale).ok()?))
    };
    loop {
        match fits(&digits, scale) {
            Some(Decimal { coefficient: 0, .. }) if digits.starts_with('-') => return None,
            Some(decimal) => return Some(decimal),
            // the same number with fewer digits
            None if digits.pop() == Some('0') => scale = scale.checked_add(1)?,
            None => return None,
        }
    }
}

/// The value as one of that kind; `None` where that would change it. Decimals become the nearest
/// float, as JSON means them.
pub(super) fn convert(value: Value, kind: Kind) -> Option<Value> {
    match (kind, value) {
        (Kind::Int { scale }, value) => {
            let decimal = match value {
                Value::Int(decimal) => decimal,
                Value::F32(value) => shortest_decimal(value == 0.0, &format!("{value:?}"))?,
                Value::F64(value) => shortest_decimal(value == 0.0, &format!("{value:?}"))?,
                Value::Bool(_) => return None,
            };
            decimal.rescale(scale).map(Value::Int)
        }
        (Kind::F32, Value::Int(decimal)) => {
            nearest(decimal).parse().ok().filter(|it: &f32| it.is_finite()).map(Value::F32)
        }
        (Kind::F32, Value::F64(value)) => {
            let narrow: f32 = format!("{value:?}").parse().ok()?;
            (f64::from(narrow) == value).then_some(Value::F32(narrow))
        }
        (Kind::F64, Value::Int(decimal)) => {
            nearest(decimal).parse().ok().filter(|it: &f64| it.is_finite()).map(Value::F64)
        }
        (Kind::F64, Value::F32(value)) => Some(Value::F64(value.into())),
        (Kind::F32, Value::F32(_)) | (Kind::F64, Value::F64(_)) => Some(value),
        (Kind::Bool, Value::Bool(_)) => Some(value),
        (Kind::Bool, _) | (_, Value::Bool(_)) => None,
    }
}

/// Both numbers' sum: exact for decimals where 64 bits hold it, else as doubles. `None` for
/// switches, and for a sum that is not finite.
pub(super) fn sum(one: Value, other: Value) -> Option<Value> {
    if let (Value::Int(one), Value::Int(other)) = (one, other) {
        let scale = one.scale.min(other.scale);
        let parts = one.rescale(scale).zip(other.rescale(scale));
        let sum = parts.and_then(|(a, b)| a.coefficient.checked_add(b.coefficient));
        if let Some(coefficient) = sum {
            return Some(Value::int(coefficient, scale));
        }
    }
    match (convert(one, Kind::F64)?, convert(other, Kind::F64)?) {
        (Value::F64(one), Value::F64(other)) => {
            Some(one + other).filter(|sum| sum.is_finite()).map(Value::F64)
        }
        _ => None,
    }
}

/// Seconds in microseconds, rounded where they are finer; `None` for switches and out of range.
pub(super) fn microseconds(seconds: Value) -> Option<i64> {
    let decimal = match seconds {
        Value::Int(decimal) => decimal,
        Value::F32(value) => shortest_decimal(value == 0.0, &format!("{value:?}"))?,
        Value::F64(value) => shortest_decimal(value == 0.0, &format!("{value:?}"))?,
        Value::Bool(_) => return None,
    };
    if decimal.scale >= MICRO || decimal.coefficient == 0 {
        return Some(decimal.rescale(MICRO)?.coefficient);
    }
    let finer = u32::from(decimal.scale.abs_diff(MICRO));
    let Some(factor) = 10i128.checked_pow(finer) else { return Some(0) };
    let (coefficient, half) = (i128::from(decimal.coefficient), factor / 2);
    i64::try_from((coefficient + coefficient.signum() * half) / factor).ok()
}

/// A float by the fewest digits that give it again. -0 is 0.
fn shortest_decimal(is_zero: bool, digits: &str) -> Option<Decimal> {
    if is_zero { Some(Decimal::new(0, 0)) } else { parse_decimal(digits) }
}

/// Text that the standard library rounds correctly to a float.
fn nearest(decimal: Decimal) -> String {
    format!("{}e{}", decimal.coefficient, decimal.scale)
}

const MICRO: i8 = -6;
/// Bounds the work of finding a decimal; every decimal of ours prints shorter.
const MAX_MANTISSA: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_exact_where_64_bits_hold_it() {
        for (text, value) in [
            ("21.37", Value::int(2137, -2)),
            ("21.30", Value::int(2130, -2)),
            ("-0.05", Value::int(-5, -2)),
            ("1e3", Value::int(1, 3)),
            ("1.5E+3", Value::int(15, 2)),
            ("-9223372036854775808", Value::int(i64::MIN, 0)),
            ("92233720368547758070000", Value::int(i64::MAX, 4)),
            ("9223372036854775808", Value::F64(9_223_372_036_854_775_808.0)),
            ("1.7976931348623157e308", Value::F64(f64::MAX)),
            ("1e-300", Value::F64(1e-300)),
        ] {
            assert_eq!(parse(text), Some(value), "{text}");
        }
        let zero = parse("-0.0");
        assert!(matches!(zero, Some(Value::F64(zero)) if zero == 0.0 && zero.is_sign_negative()));
        for text in ["1e999", "null", "\"1\"", "inf", ""] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_sum_of_decimals_is_exact() {
        assert_eq!(sum(Value::int(1, -1), Value::int(2, 0)), Some(Value::int(21, -1)));
        assert_eq!(sum(Value::int(1, 0), Value::F64(0.5)), Some(Value::F64(1.5)));
        assert_eq!(sum(Value::F64(f64::MAX), Value::F64(f64::MAX)), None);
    }

    #[test]
    fn seconds_are_rounded_to_the_microsecond() {
        for (seconds, us) in [
            (Value::int(-20, 0), Some(-20_000_000)),
            (Value::int(15, -7), Some(2)),
            (Value::int(-15, -7), Some(-2)),
            (Value::int(14, -7), Some(1)),
            (Value::int(i64::MAX, -128), Some(0)),
            (Value::int(0, 127), Some(0)),
            (Value::int(1, 127), None),
            (Value::F64(1_276_020_091.305), Some(1_276_020_091_305_000)),
            (Value::F64(1e300), None),
        ] {
            assert_eq!(microseconds(seconds), us, "{seconds}");
        }
    }
}
