//! Readings: values of a topic with a schema, as short as they go and without loss.
//!
//! A payload has no header: it is LEB128 numbers in their shortest form, and how many there are
//! tells its form. One reading alone is just its value. Several are the first value, then for each
//! further reading the time since the reading before and the value's difference to it. An odd
//! number of numbers is that; an even number has one more at the end, the stamp of the last
//! reading: its age, or with an absolute schema its Unix time. Without a stamp the last reading is
//! of the time of its message.
//!
//! With an interval in the schema the times between readings are left out; a payload of more than
//! one number then always ends with the stamp.
//!
//! Values are numbers this way, the value before the first being 0:
//! - decimals: the zig-zag form of the difference, modulo 2^64;
//! - floats: the bits exclusive-or those of the value before, with the bytes in reverse order, so
//!   that round numbers are short;
//! - switches: 0 or 1, exclusive-or the value before.

use core::fmt;

use crate::schema::{Kind, Schema, TimeUnit};
use crate::value::Value;
use crate::{WireError, varint};

/// The most bytes a single reading without a stamp takes.
pub const MAX_SINGLE: usize = varint::MAX_LEN;

/// When the last reading of a payload was taken, in the schema's time unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stamp {
    /// At the time of its message: the TIME frame before it, else its arrival.
    Message,
    /// That long before the time of its message.
    Age(u64),
    /// That long after 1970-01-01T00:00:00Z.
    Unix(u64),
}

/// One value and when it was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The value.
    pub value: Value,
    /// How long before the payload's last reading, in the schema's time unit; 0 for the last.
    pub before_last: u64,
}

/// The readings of one payload, found well formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readings<'a> {
    kind: Kind,
    time_unit: TimeUnit,
    interval: u64,
    /// Values and the times between them, without the stamp.
    numbers: &'a [u8],
    /// >= 1
    len: usize,
    span: u64,
    stamp: Stamp,
}

impl<'a> Readings<'a> {
    /// Reads a payload of a topic with that schema: at least one reading.
    ///
    /// # Errors
    /// [`WireError::BadReadings`] when it is empty or cut short, has a number over 64 bits or not
    /// in its shortest form, a value its kind does not have, or times that add up to over 64 bits.
    pub fn decode(schema: &Schema<'_>, payload: &'a [u8]) -> Result<Self, WireError> {
        Self::read(schema, payload).ok_or(WireError::BadReadings)
    }

    fn read(schema: &Schema<'_>, payload: &'a [u8]) -> Option<Self> {
        let numbers = payload.iter().filter(|&&byte| byte < 0x80).count();
        let interval = u64::from(schema.interval);
        let (len, is_stamped) = match numbers {
            0 => return None,
            1 => (1, false),
            _ if interval != 0 => (numbers - 1, true),
            _ => (numbers.div_ceil(2), numbers % 2 == 0),
        };
        let mut rest = payload;
        let mut decoder = ValueDecoder { kind: schema.kind, before: 0 };
        let mut span = 0u64;
        decoder.take(&mut rest)?;
        for _ in 1..len {
            let step = if interval != 0 { interval } else { varint::take(&mut rest).ok()? };
            span = span.checked_add(step)?;
            decoder.take(&mut rest)?;
        }
        let numbers = payload.get(..payload.len() - rest.len())?;
        let stamp = match (is_stamped, schema.absolute) {
            (false, _) => Stamp::Message,
            (true, false) => Stamp::Age(varint::take(&mut rest).ok()?),
            (true, true) => Stamp::Unix(varint::take(&mut rest).ok()?),
        };
        let (kind, time_unit) = (schema.kind, schema.time_unit);
        rest.is_empty().then_some(Self { kind, time_unit, interval, numbers, len, span, stamp })
    }

    /// How many there are: 1 or more.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is always one")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// When the last of them was taken.
    #[must_use]
    pub const fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// From the first reading to the last, in the schema's time unit.
    #[must_use]
    pub const fn span(&self) -> u64 {
        self.span
    }

    /// The readings, oldest first.
    #[must_use]
    pub const fn iter(&self) -> Iter<'a> {
        let decoder = ValueDecoder { kind: self.kind, before: 0 };
        let (interval, left, before_last) = (self.interval, self.len, self.span);
        Iter { decoder, interval, rest: self.numbers, left, before_last, is_first: true }
    }

    /// When a reading of this payload was taken, in microseconds since 1970, its message being of
    /// `message_us`; `None` when that is over 64 bits.
    #[must_use]
    pub fn unix_us(&self, reading: &Reading, message_us: i64) -> Option<i64> {
        let unit = i128::from(self.time_unit.microseconds());
        let last = match self.stamp {
            Stamp::Message => i128::from(message_us),
            Stamp::Age(age) => i128::from(message_us) - i128::from(age) * unit,
            Stamp::Unix(time) => i128::from(time) * unit,
        };
        i64::try_from(last - i128::from(reading.before_last) * unit).ok()
    }
}

impl<'a> IntoIterator for Readings<'a> {
    type Item = Reading;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Gives the readings of a payload, oldest first.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    decoder: ValueDecoder,
    interval: u64,
    rest: &'a [u8],
    left: usize,
    before_last: u64,
    is_first: bool,
}

impl Iterator for Iter<'_> {
    type Item = Reading;

    fn next(&mut self) -> Option<Reading> {
        self.left = self.left.checked_sub(1)?;
        if !self.is_first {
            let step = match self.interval {
                0 => varint::take(&mut self.rest).ok()?,
                interval => interval,
            };
            self.before_last = self.before_last.saturating_sub(step);
        }
        self.is_first = false;
        let value = self.decoder.take(&mut self.rest)?;
        Some(Reading { value, before_last: self.before_last })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[derive(Debug, Clone)]
struct ValueDecoder {
    kind: Kind,
    /// Bits of the value before.
    before: u64,
}

impl ValueDecoder {
    #[inline]
    fn take(&mut self, bytes: &mut &[u8]) -> Option<Value> {
        let number = varint::take(bytes).ok()?;
        let bits = match self.kind {
            Kind::Int { .. } => self.before.wrapping_add_signed(varint::unzigzag(number)),
            Kind::F32 => u64::from(u32::try_from(number).ok()?.swap_bytes()) ^ self.before,
            Kind::F64 => number.swap_bytes() ^ self.before,
            Kind::Bool => number ^ self.before,
        };
        let value = Value::from_bits(bits, self.kind)?;
        self.before = bits;
        Some(value)
    }
}

/// Why a reading was not taken into a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// No room is left: send the payload, begin another.
    Full,
    /// The value is not of the schema's kind, or its decimal not exact at the schema's scale.
    WrongKind,
    /// The time is before that of the reading before.
    TimeGoesBack,
    /// The time is not one interval after the reading before: begin another payload.
    OffInterval,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "payload is full",
            Self::WrongKind => "value is not one of the schema",
            Self::TimeGoesBack => "time is before that of the reading before",
            Self::OffInterval => "time is not one interval after the reading before",
        })
    }
}

/// A reading that was not taken, given back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Refused {
    /// The value.
    pub value: Value,
    /// Why not.
    pub why: Refusal,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "reading {} not taken: {}", self.value, self.why)
    }
}

impl core::error::Error for Refused {}

/// Packs readings into a payload, in the caller's bytes.
#[derive(Debug)]
pub struct ReadingsEncoder<'o> {
    kind: Kind,
    interval: u64,
    absolute: bool,
    out: &'o mut [u8],
    /// 0 <= at <= out.len()
    at: usize,
    len: usize,
    last_time: u64,
    before: u64,
    stamp_room: usize,
}

impl<'o> ReadingsEncoder<'o> {
    /// Begins a payload of a topic with that schema.
    pub fn new(schema: &Schema<'_>, out: &'o mut [u8]) -> Self {
        Self {
            kind: schema.kind,
            interval: schema.interval.into(),
            absolute: schema.absolute,
            out,
            at: 0,
            len: 0,
            last_time: 0,
            before: 0,
            stamp_room: 0,
        }
    }

    /// Keeps room for a stamp, so that [`ReadingsEncoder::finish`] finds it. Schemas with an
    /// interval keep it anyway from the second reading on.
    #[must_use]
    pub fn with_stamp_room(mut self) -> Self {
        self.stamp_room = varint::MAX_LEN;
        self
    }

    /// Adds a reading. `time` counts the schema's time units on any clock; only differences are
    /// used, and of a single reading not even these.
    ///
    /// # Errors
    /// [`Refused`] with the value; the payload is then as before and can be finished.
    pub fn push(&mut self, time: u64, value: Value) -> Result<(), Refused> {
        self.try_push(time, value).map_err(|why| Refused { value, why })
    }

    fn try_push(&mut self, time: u64, value: Value) -> Result<(), Refusal> {
        let bits = value.to_bits(self.kind).ok_or(Refusal::WrongKind)?;
        let number = match self.kind {
            Kind::Int { .. } => varint::zigzag(bits.wrapping_sub(self.before).cast_signed()),
            Kind::F32 => (bits ^ self.before).swap_bytes() >> 32,
            Kind::F64 => (bits ^ self.before).swap_bytes(),
            Kind::Bool => bits ^ self.before,
        };
        let mut numbers = [0; 2 * varint::MAX_LEN];
        let mut end = 0;
        let mut stamp_room = self.stamp_room;
        if self.len > 0 {
            let step = time.checked_sub(self.last_time).ok_or(Refusal::TimeGoesBack)?;
            if self.interval == 0 {
                end = varint::encode(step, &mut numbers).map_err(|_| Refusal::Full)?;
            } else if step == self.interval {
                stamp_room = varint::MAX_LEN;
            } else {
                return Err(Refusal::OffInterval);
            }
        }
        let after = numbers.get_mut(end..).unwrap_or_default();
        end += varint::encode(number, after).map_err(|_| Refusal::Full)?;
        let room = self.out.get_mut(self.at..).unwrap_or_default();
        if room.len() < end + stamp_room {
            return Err(Refusal::Full);
        }
        for (to, from) in room.iter_mut().zip(numbers.iter().take(end)) {
            *to = *from;
        }
        self.at += end;
        self.len += 1;
        self.last_time = time;
        self.before = bits;
        Ok(())
    }

    /// How many readings it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Ends the payload with the stamp of the last reading; returns its length. An age of 0 is left
    /// out where it may be.
    ///
    /// # Errors
    /// [`WireError::NoRoom`] for the stamp; [`WireError::BadReadings`] when there is no reading,
    /// for a stamp of the kind that the schema does not have, and for [`Stamp::Message`] where
    /// several readings of an absolute schema with an interval need a time.
    pub fn finish(self, stamp: Stamp) -> Result<usize, WireError> {
        let needs_one = self.interval != 0 && self.len > 1;
        let number = match stamp {
            _ if self.len == 0 => return Err(WireError::BadReadings),
            Stamp::Message | Stamp::Age(0) if !needs_one => return Ok(self.at),
            Stamp::Message if !self.absolute => 0,
            Stamp::Age(age) if !self.absolute => age,
            Stamp::Unix(time) if self.absolute => time,
            _ => return Err(WireError::BadReadings),
        };
        let room = self.out.get_mut(self.at..).ok_or(WireError::NoRoom)?;
        Ok(self.at + varint::encode(number, room)?)
    }
}

/// Writes the payload of one reading of the time of its message; returns its length, at most
/// [`MAX_SINGLE`].
///
/// # Errors
/// [`WireError::NoRoom`]; [`WireError::BadReadings`] for a value that is not one of the schema.
pub fn encode_single(
    schema: &Schema<'_>,
    value: Value,
    out: &mut [u8],
) -> Result<usize, WireError> {
    let mut encoder = ReadingsEncoder::new(schema, out);
    encoder.try_push(0, value).map_err(|why| match why {
        Refusal::Full => WireError::NoRoom,
        _ => WireError::BadReadings,
    })?;
    encoder.finish(Stamp::Message)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const CEL: Schema<'static> = Schema {
        name: "",
        unit: "Cel",
        kind: Kind::Int { scale: -2 },
        time_unit: TimeUnit::Second,
        absolute: false,
        interval: 0,
    };

    fn encode(schema: &Schema<'_>, readings: &[(u64, Value)], stamp: Stamp) -> Vec<u8> {
        let mut out = std::vec![0; 20 * readings.len() + 20];
        let mut encoder = ReadingsEncoder::new(schema, &mut out);
        for &(time, value) in readings {
            encoder.push(time, value).expect("there is room, and the values are the schema's");
        }
        let length = encoder.finish(stamp).expect("there is room for the stamp");
        out.truncate(length);
        out
    }

    #[test]
    fn a_reading_of_two_bytes_is_a_payload_of_two_bytes() {
        let mut out = [0; 2];
        assert_eq!(encode_single(&CEL, Value::int(2137, -2), &mut out), Ok(2));
        assert_eq!(out, [0xb2, 0x21]);
        let readings = Readings::decode(&CEL, &out).expect("just encoded");
        assert_eq!((readings.len(), readings.stamp()), (1, Stamp::Message));
        let reading = Reading { value: Value::int(2137, -2), before_last: 0 };
        assert_eq!(readings.iter().next(), Some(reading));
    }

    #[test]
    fn several_readings_have_these_bytes() {
        let series = [(100, 2137), (110, 2138), (120, 2136)].map(|(t, v)| (t, Value::int(v, -2)));
        assert_eq!(encode(&CEL, &series, Stamp::Message), [0xb2, 0x21, 10, 2, 10, 3]);
        assert_eq!(encode(&CEL, &series, Stamp::Age(5)), [0xb2, 0x21, 10, 2, 10, 3, 5]);
        let regular = Schema { interval: 10, ..CEL };
        assert_eq!(encode(&regular, &series, Stamp::Message), [0xb2, 0x21, 2, 3, 0]);
        let absolute = Schema { absolute: true, ..CEL };
        assert_eq!(
            encode(&absolute, &series[..1], Stamp::Unix(1_700_000_000)),
            [0xb2, 0x21, 0x80, 0xe2, 0xcf, 0xaa, 0x06]
        );
        let readings = Readings::decode(&CEL, &[0xb2, 0x21, 10, 2, 10, 3, 5]);
        let readings = readings.expect("the vector is well formed");
        let times: Vec<u64> = readings.iter().map(|reading| reading.before_last).collect();
        assert_eq!((times, readings.stamp()), (std::vec![20, 10, 0], Stamp::Age(5)));
    }

    #[test]
    fn round_floats_and_switches_are_short() {
        let f32s = Schema { kind: Kind::F32, ..CEL };
        assert_eq!(encode(&f32s, &[(0, Value::F32(21.5))], Stamp::Message), [0xc1, 0xd8, 0x02]);
        let f64s = Schema { kind: Kind::F64, ..CEL };
        let series = [(0, Value::F64(1.0)), (1, Value::F64(1.0))];
        assert_eq!(encode(&f64s, &series, Stamp::Message), [0xbf, 0xe0, 0x03, 1, 0]);
        let switch = Schema { kind: Kind::Bool, ..CEL };
        let series = [(0, Value::Bool(true)), (9, Value::Bool(true)), (10, Value::Bool(false))];
        assert_eq!(encode(&switch, &series, Stamp::Message), [1, 9, 0, 1, 1]);
    }

    #[test]
    fn a_full_encoder_gives_the_value_back_and_stays_usable() {
        let mut out = [0; 4];
        let mut encoder = ReadingsEncoder::new(&CEL, &mut out);
        encoder.push(0, Value::int(2137, -2)).expect("two of four bytes");
        let value = Value::int(2237, -2);
        assert_eq!(encoder.push(1, value), Err(Refused { value, why: Refusal::Full }));
        encoder.push(1, Value::int(2138, -2)).expect("the other two");
        assert_eq!(encoder.finish(Stamp::Message), Ok(4));
        assert_eq!(out, [0xb2, 0x21, 1, 2]);
    }

    #[test]
    fn each_refusal_has_its_name() {
        let mut out = [0; 64];
        let why = |pushed: Result<(), Refused>| pushed.map_err(|refused| refused.why);
        let mut encoder = ReadingsEncoder::new(&CEL, &mut out);
        assert_eq!(why(encoder.push(0, Value::F32(1.0))), Err(Refusal::WrongKind));
        assert_eq!(why(encoder.push(0, Value::int(1, -3))), Err(Refusal::WrongKind));
        assert_eq!(why(encoder.push(5, Value::int(213, -1))), Ok(()));
        assert_eq!(why(encoder.push(4, Value::int(1, -2))), Err(Refusal::TimeGoesBack));
        let regular = Schema { interval: 10, ..CEL };
        let mut encoder = ReadingsEncoder::new(&regular, &mut out);
        assert_eq!(why(encoder.push(5, Value::int(1, -2))), Ok(()));
        assert_eq!(why(encoder.push(14, Value::int(1, -2))), Err(Refusal::OffInterval));
    }

    #[test]
    fn a_stamp_the_schema_does_not_have_is_refused() {
        let mut out = [0; 64];
        let absolute = Schema { absolute: true, ..CEL };
        for (schema, count, stamp) in [
            (CEL, 0, Stamp::Message),
            (CEL, 1, Stamp::Unix(1)),
            (absolute, 1, Stamp::Age(1)),
            (Schema { interval: 1, ..absolute }, 2, Stamp::Message),
        ] {
            let mut encoder = ReadingsEncoder::new(&schema, &mut out);
            for time in 0..count {
                encoder.push(time, Value::int(1, -2)).expect("there is room");
            }
            assert_eq!(encoder.finish(stamp), Err(WireError::BadReadings), "{stamp:?}");
        }
    }

    #[test]
    fn room_for_a_stamp_is_kept_where_asked_for() {
        let mut out = [0; 13];
        let mut encoder = ReadingsEncoder::new(&CEL, &mut out).with_stamp_room();
        encoder.push(0, Value::int(2137, -2)).expect("two bytes, and ten for the stamp");
        let refused = encoder.push(1, Value::int(2137, -2)).expect_err("one byte is left");
        assert_eq!(refused.why, Refusal::Full);
        assert_eq!(encoder.finish(Stamp::Age(u64::MAX)), Ok(12));
    }

    #[test]
    fn what_is_not_well_formed_is_refused() {
        let kind = |kind| Schema { kind, ..CEL };
        let big = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        let overflow = [&[0][..], &big, &[0, 1, 0]].concat();
        for (schema, payload) in [
            (CEL, &[][..]),
            (CEL, &[0x80]),
            (CEL, &[0x80, 0x00]),
            (CEL, &[0x01, 0x01, 0x81]),
            (CEL, &[0xff; 11]),
            (CEL, &overflow),
            (kind(Kind::Bool), &[2]),
            (kind(Kind::F32), &big),
        ] {
            let error = Readings::decode(&schema, payload);
            assert_eq!(error, Err(WireError::BadReadings), "{payload:x?}");
        }
    }

    #[test]
    fn a_time_beyond_64_bits_is_none() {
        let payload =
            [&[0][..], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]].concat();
        let readings = Readings::decode(&CEL, &payload).expect("an age of 64 bits");
        let reading = readings.iter().next().expect("one reading");
        assert_eq!(readings.unix_us(&reading, 0), None);
    }

    fn kinds() -> impl Strategy<Value = Kind> {
        let scale = any::<i8>().prop_map(|scale| Kind::Int { scale });
        prop_oneof![scale, Just(Kind::F32), Just(Kind::F64), Just(Kind::Bool)]
    }

    fn value_of(bits: u64, kind: Kind) -> Value {
        let bits = match kind {
            Kind::F32 => bits & u64::from(u32::MAX),
            Kind::Bool => bits & 1,
            _ => bits,
        };
        Value::from_bits(bits, kind).expect("masked to the kind's bits")
    }

    proptest! {
        #[test]
        fn any_values_and_times_come_back(
            kind in kinds(),
            first_time in 0u64..1 << 60,
            steps in proptest::collection::vec((any::<u32>(), any::<u64>()), 1..40),
            stamp: Option<u64>, absolute: bool, interval in 0u32..3,
        ) {
            let schema = Schema { kind, absolute, interval, ..Schema::default() };
            let stamp = match (stamp, absolute) {
                (None | Some(0), false) => Stamp::Message,
                (None, true) if interval == 0 || steps.len() == 1 => Stamp::Message,
                (Some(age), false) => Stamp::Age(age),
                (time, true) => Stamp::Unix(time.unwrap_or(0)),
            };
            let mut time = first_time;
            let readings: Vec<(u64, Value)> = steps.iter().map(|&(step, bits)| {
                time += if interval == 0 { u64::from(step) } else { u64::from(interval) };
                (time, value_of(bits, kind))
            }).collect();
            let payload = encode(&schema, &readings, stamp);
            let decoded = Readings::decode(&schema, &payload).expect("just encoded");
            prop_assert_eq!(decoded.len(), readings.len());
            let needs_one = interval != 0 && readings.len() > 1;
            let expected = match stamp {
                Stamp::Message if needs_one => Stamp::Age(0),
                stamp => stamp,
            };
            prop_assert_eq!(decoded.stamp(), expected);
            for (reading, &(at, value)) in decoded.iter().zip(&readings) {
                prop_assert_eq!(reading.value.to_bits(kind), value.to_bits(kind));
                prop_assert_eq!(reading.before_last, time - at);
            }
        }

        #[test]
        fn any_bytes_give_readings_that_encode_to_them_or_an_error(
            payload in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..24),
            kind in kinds(), absolute: bool, interval in 0u32..2,
        ) {
            let schema = Schema { kind, absolute, interval, ..Schema::default() };
            let Ok(readings) = Readings::decode(&schema, &payload) else { return Ok(()) };
            prop_assert_eq!(readings.iter().count(), readings.len());
            let needs_one = interval != 0 && readings.len() > 1;
            if readings.stamp() == Stamp::Age(0) && !needs_one {
                return Ok(()); // the encoder leaves it out
            }
            let series: Vec<(u64, Value)> = readings
                .iter()
                .map(|reading| (readings.span() - reading.before_last, reading.value))
                .collect();
            prop_assert_eq!(encode(&schema, &series, readings.stamp()), payload);
        }
    }
}
