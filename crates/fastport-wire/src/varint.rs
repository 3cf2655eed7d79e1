//! Unsigned LEB128 numbers, at most 64 bits, in their shortest form only: one value, one encoding.

use crate::WireError;

/// The most bytes a 64-bit number takes.
pub const MAX_LEN: usize = 10;

/// Reads one number from the front of `bytes`; returns it and how many bytes it took.
///
/// `Ok(None)` means that `bytes` ends inside the number.
///
/// # Errors
/// [`WireError::BadNumber`] when the number is over 64 bits or not in its shortest form.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<Option<(u64, usize)>, WireError> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().enumerate().take(MAX_LEN) {
        let bits = u64::from(byte & 0x7f);
        if index == MAX_LEN - 1 && bits > 1 {
            return Err(WireError::BadNumber);
        }
        value |= bits << (7 * index);
        if byte & 0x80 == 0 {
            if byte == 0 && index > 0 {
                return Err(WireError::BadNumber);
            }
            return Ok(Some((value, index + 1)));
        }
    }
    if bytes.len() >= MAX_LEN { Err(WireError::BadNumber) } else { Ok(None) }
}

/// Takes one number off the front of `bytes`, which must hold all of it.
///
/// # Errors
/// [`WireError::Truncated`] when `bytes` ends inside the number, else as [`decode`].
#[inline]
pub fn take(bytes: &mut &[u8]) -> Result<u64, WireError> {
    let (value, length) = decode(bytes)?.ok_or(WireError::Truncated)?;
    *bytes = bytes.get(length..).ok_or(WireError::Truncated)?;
    Ok(value)
}

/// How many bytes `value` takes: 1 to [`MAX_LEN`].
#[inline]
#[must_use]
pub const fn len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Writes `value` to the front of `out`; returns how many bytes it took.
///
/// # Errors
/// [`WireError::NoRoom`] when `out` is shorter than [`len`] of the value; `out` is then unchanged.
#[inline]
pub fn encode(mut value: u64, out: &mut [u8]) -> Result<usize, WireError> {
    let length = len(value);
    let out = out.get_mut(..length).ok_or(WireError::NoRoom)?;
    for (index, byte) in out.iter_mut().enumerate() {
        let more = if index + 1 < length { 0x80 } else { 0 };
        *byte = (value & 0x7f) as u8 | more;
        value >>= 7;
    }
    Ok(length)
}

/// Maps signed numbers to unsigned so that small magnitudes stay small: 0, -1, 1, -2 … to 0, 1, 2, 3 …
#[inline]
#[must_use]
pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[inline]
#[must_use]
pub const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_cut_short_asks_for_more() {
        assert_eq!(decode(&[0x80]), Ok(None));
        assert_eq!(decode(&[]), Ok(None));
    }

    #[test]
    fn a_long_way_to_say_a_small_number_is_refused() {
        assert_eq!(decode(&[0x81, 0x00]), Err(WireError::BadNumber));
        assert_eq!(decode(&[0xff; 10]), Err(WireError::BadNumber));
        assert_eq!(decode(&[0x80; 11]), Err(WireError::BadNumber));
    }

    #[test]
    fn the_largest_number_takes_ten_bytes() {
        let mut out = [0; MAX_LEN];
        assert_eq!(encode(u64::MAX, &mut out), Ok(10));
        assert_eq!(decode(&out), Ok(Some((u64::MAX, 10))));
    }

    proptest! {
        #[test]
        fn every_number_comes_back(value: u64) {
            let mut out = [0; MAX_LEN];
            let length = encode(value, &mut out).expect("ten bytes hold any number");
            prop_assert_eq!(length, len(value));
            prop_assert_eq!(decode(&out[..length]), Ok(Some((value, length))));
        }

        #[test]
        fn every_signed_number_comes_back(value: i64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }
    }
}
