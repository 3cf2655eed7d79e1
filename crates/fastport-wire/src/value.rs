//! Values of readings: decimals that stay exact, floats, and switches.

use core::fmt;

use crate::schema::Kind;

/// `coefficient` times ten to the power of `scale`.
///
/// Equality is of the two numbers as they stand: 2.50 is not 2.5. [`Decimal::rescale`] makes them
/// comparable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decimal {
    /// The digits, with the sign.
    pub coefficient: i64,
    /// Where the point is: -2 puts two digits behind it.
    pub scale: i8,
}

impl Decimal {
    /// The decimal of those parts.
    #[must_use]
    pub const fn new(coefficient: i64, scale: i8) -> Self {
        Self { coefficient, scale }
    }

    /// The same number at another scale; `None` when it is not a whole number of 64 bits there.
    #[must_use]
    pub fn rescale(self, scale: i8) -> Option<Self> {
        let places = u32::from(self.scale.abs_diff(scale));
        let coefficient = match (self.coefficient, 10i64.checked_pow(places)) {
            (0, _) => 0,
            (_, None) => return None,
            (all, Some(factor)) if scale <= self.scale => all.checked_mul(factor)?,
            (all, Some(factor)) if all % factor == 0 => all / factor,
            _ => return None,
        };
        Some(Self { coefficient, scale })
    }
}

impl fmt::Display for Decimal {
    /// All digits, without exponent: `-0.05`, `21.30`, `1500000`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = Digits::of(self.coefficient.unsigned_abs());
        if self.coefficient < 0 {
            f.write_str("-")?;
        }
        let places = usize::from(self.scale.unsigned_abs());
        if self.scale >= 0 {
            f.write_str(digits.as_str())?;
            let zeros = if self.coefficient == 0 { 0 } else { places };
            return (0..zeros).try_for_each(|_| f.write_str("0"));
        }
        let all = digits.as_str();
        match all.len().checked_sub(places) {
            Some(whole) if whole > 0 => {
                let (whole, fraction) = all.split_at(whole);
                write!(f, "{whole}.{fraction}")
            }
            _ => {
                f.write_str("0.")?;
                (all.len()..places).try_for_each(|_| f.write_str("0"))?;
                f.write_str(all)
            }
        }
    }
}

/// The decimal digits of a number, without allocating.
struct Digits {
    buffer: [u8; MAX_DIGITS],
    /// Where the digits begin; they end with the buffer.
    start: usize,
}

impl Digits {
    fn of(mut number: u64) -> Self {
        let mut digits = Self { buffer: [b'0'; MAX_DIGITS], start: MAX_DIGITS };
        for (index, byte) in digits.buffer.iter_mut().enumerate().rev() {
            *byte = b"0123456789"[(number % 10) as usize];
            digits.start = index;
            number /= 10;
            if number == 0 {
                break;
            }
        }
        digits
    }

    fn as_str(&mut self) -> &str {
        let digits = self.buffer.get(self.start..).unwrap_or_default();
        core::str::from_utf8(digits).unwrap_or_default()
    }
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// A decimal.
    Int(Decimal),
    /// A single-precision float.
    F32(f32),
    /// A double-precision float.
    F64(f64),
    /// A switch.
    Bool(bool),
}

impl Value {
    /// The decimal of those parts.
    #[must_use]
    pub const fn int(coefficient: i64, scale: i8) -> Self {
        Self::Int(Decimal::new(coefficient, scale))
    }

    /// The value's bits as `kind` has them; `None` for another kind, and for a decimal that the
    /// kind's scale cannot hold exactly.
    #[inline]
    pub(crate) fn to_bits(self, kind: Kind) -> Option<u64> {
        match (self, kind) {
            (Self::Int(decimal), Kind::Int { scale }) if decimal.scale == scale => {
                Some(decimal.coefficient.cast_unsigned())
            }
            (Self::Int(decimal), Kind::Int { scale }) => {
                Some(decimal.rescale(scale)?.coefficient.cast_unsigned())
            }
            (Self::F32(value), Kind::F32) => Some(value.to_bits().into()),
            (Self::F64(value), Kind::F64) => Some(value.to_bits()),
            (Self::Bool(value), Kind::Bool) => Some(value.into()),
            _ => None,
        }
    }

    /// The inverse of [`Value::to_bits`]; `None` for bits the kind does not have.
    #[inline]
    pub(crate) fn from_bits(bits: u64, kind: Kind) -> Option<Self> {
        Some(match kind {
            Kind::Int { scale } => Self::int(bits.cast_signed(), scale),
            Kind::F32 => Self::F32(f32::from_bits(u32::try_from(bits).ok()?)),
            Kind::F64 => Self::F64(f64::from_bits(bits)),
            Kind::Bool if bits <= 1 => Self::Bool(bits == 1),
            Kind::Bool => return None,
        })
    }
}

impl fmt::Display for Value {
    /// Exactly: decimals with all their digits (`21.37`), floats with the fewest digits that give
    /// the same float again, `true` or `false`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => value.fmt(f),
            Self::F32(value) => value.fmt(f),
            Self::F64(value) => value.fmt(f),
            Self::Bool(value) => value.fmt(f),
        }
    }
}

/// `u64::MAX` has 20 digits.
const MAX_DIGITS: usize = 20;

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    #[test]
    fn a_value_prints_exactly() {
        for (value, text) in [
            (Value::int(2137, -2), "21.37"),
            (Value::int(2130, -2), "21.30"),
            (Value::int(-5, -2), "-0.05"),
            (Value::int(-100, -2), "-1.00"),
            (Value::int(0, -3), "0.000"),
            (Value::int(0, 3), "0"),
            (Value::int(1500, 3), "1500000"),
            (Value::int(i64::MIN, 0), "-9223372036854775808"),
            (Value::int(i64::MIN, -19), "-0.9223372036854775808"),
            (Value::int(i64::MAX, -18), "9.223372036854775807"),
            (Value::F32(0.1), "0.1"),
            (Value::F64(-2.5), "-2.5"),
            (Value::Bool(true), "true"),
        ] {
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn a_decimal_changes_scale_only_where_that_is_exact() {
        let rescaled = |coefficient, from, to| {
            Decimal::new(coefficient, from).rescale(to).map(|it| it.coefficient)
        };
        assert_eq!(rescaled(2130, -2, -1), Some(213));
        assert_eq!(rescaled(2137, -2, -1), None);
        assert_eq!(rescaled(-21, 0, -2), Some(-2100));
        assert_eq!(rescaled(i64::MAX, 0, -1), None);
        assert_eq!(rescaled(i64::MIN, 0, 0), Some(i64::MIN));
        assert_eq!(rescaled(0, i8::MIN, i8::MAX), Some(0));
        assert_eq!(rescaled(1, i8::MAX, i8::MIN), None);
    }
}
