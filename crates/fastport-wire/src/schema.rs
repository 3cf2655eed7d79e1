//! Schemas: what the readings of a topic are. A schema travels once, with the topic's name, so that
//! no reading has to say it.
//!
//! One value has one encoding: an option that says nothing (scale 0, interval 0, an empty name) is
//! never sent and is refused when it comes.

use crate::{WireError, varint};

/// The most bytes a schema's name may have.
pub const MAX_NAME: usize = 64;
/// The most bytes a schema's unit may have.
pub const MAX_UNIT: usize = 16;
/// The most bytes an encoded schema has.
pub const MAX_SCHEMA: usize = 1 + 1 + 5 + (1 + MAX_UNIT) + (1 + MAX_NAME);

/// How the values of a topic are coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Decimals: a 64-bit integer times ten to the power of the schema's scale.
    Int {
        /// -128 to 127; -2 for hundredths.
        scale: i8,
    },
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 double precision.
    F64,
    /// False or true.
    Bool,
}

/// What a step of 1 in a payload's times means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum TimeUnit {
    /// A millisecond.
    #[default]
    Millisecond,
    /// A second.
    Second,
    /// A microsecond.
    Microsecond,
}

impl TimeUnit {
    /// How many microseconds it has.
    #[must_use]
    pub const fn microseconds(self) -> u64 {
        match self {
            Self::Millisecond => 1_000,
            Self::Second => 1_000_000,
            Self::Microsecond => 1,
        }
    }

    const fn bits(self) -> u8 {
        match self {
            Self::Millisecond => 0,
            Self::Second => 1,
            Self::Microsecond => 2,
        }
    }
}

/// What the readings of a topic are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Schema<'a> {
    /// Appended to the topic as it is, the sum being the SenML name; empty: the topic is the name.
    /// Begin it with `/` or `:` to separate it. At most [`MAX_NAME`] bytes of the characters that
    /// RFC 8428 allows in names: letters, digits, `-`, `:`, `.`, `/`, `_`.
    pub name: &'a str,
    /// A unit of RFC 8428 section 12.1 or RFC 8798, such as `Cel`; empty: none. At most
    /// [`MAX_UNIT`] bytes of printable ASCII without spaces; the registry is not looked at.
    pub unit: &'a str,
    /// How values are coded.
    pub kind: Kind,
    /// What the payloads' times count.
    pub time_unit: TimeUnit,
    /// A payload's stamp is the Unix time of its last reading; otherwise that reading's age.
    pub absolute: bool,
    /// Time units from one reading to the next, where the sensor is that regular: payloads then
    /// carry no times between readings. 0: payloads carry them.
    pub interval: u32,
}

impl Default for Schema<'_> {
    /// Whole numbers without name and unit, times in milliseconds, stamps are ages.
    fn default() -> Self {
        Self {
            name: "",
            unit: "",
            kind: Kind::Int { scale: 0 },
            time_unit: TimeUnit::Millisecond,
            absolute: false,
            interval: 0,
        }
    }
}

impl<'a> Schema<'a> {
    /// Decimals of `unit`, each an integer times ten to the power of `scale`.
    #[must_use]
    pub fn int(unit: &'a str, scale: i8) -> Self {
        Self { unit, kind: Kind::Int { scale }, ..Self::default() }
    }

    /// Reads a schema, which must be all of `bytes`.
    ///
    /// # Errors
    /// [`WireError::BadReadings`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, WireError> {
        Self::read(bytes).ok_or(WireError::BadReadings)
    }

    /// Writes the schema to the front of `out`; returns its length, at most [`MAX_SCHEMA`].
    ///
    /// # Errors
    /// [`WireError::NoRoom`]; [`WireError::BadReadings`] for a name or unit out of its limits.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, WireError> {
        if !is_name(self.name) || !is_unit(self.unit) {
            return Err(WireError::BadReadings);
        }
        let (kind, scale) = match self.kind {
            Kind::Int { scale } => (kind::INT, scale),
            Kind::F32 => (kind::F32, 0),
            Kind::F64 => (kind::F64, 0),
            Kind::Bool => (kind::BOOL, 0),
        };
        let flag_if = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
        let first = kind
            | self.time_unit.bits() << TIME_UNIT_SHIFT
            | flag_if(self.absolute, flag::ABSOLUTE)
            | flag_if(scale != 0, flag::SCALE)
            | flag_if(self.interval != 0, flag::INTERVAL)
            | flag_if(!self.name.is_empty(), flag::NAME);
        let mut at = 0;
        put(out, &mut at, &[first])?;
        if scale != 0 {
            put(out, &mut at, &scale.to_le_bytes())?;
        }
        if self.interval != 0 {
            let mut number = [0; varint::MAX_LEN];
            let length = varint::encode(self.interval.into(), &mut number)?;
            put(out, &mut at, number.get(..length).unwrap_or_default())?;
        }
        put_text(out, &mut at, self.unit)?;
        if !self.name.is_empty() {
            put_text(out, &mut at, self.name)?;
        }
        Ok(at)
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&first, mut rest) = bytes.split_first()?;
        let has = |flag: u8| first & flag != 0;
        let mut scale = 0;
        if has(flag::SCALE) {
            let (&byte, after) = rest.split_first()?;
            (scale, rest) = (i8::from_le_bytes([byte]), after);
        }
        let kind = match first & KIND_MASK {
            kind::INT => Kind::Int { scale },
            kind::F32 => Kind::F32,
            kind::F64 => Kind::F64,
            _ => Kind::Bool,
        };
        let says_nothing = has(flag::SCALE) && scale == 0;
        if says_nothing || (scale != 0 && kind != (Kind::Int { scale })) {
            return None;
        }
        let time_unit = match first >> TIME_UNIT_SHIFT & TIME_UNIT_MASK {
            0 => TimeUnit::Millisecond,
            1 => TimeUnit::Second,
            2 => TimeUnit::Microsecond,
            _ => return None,
        };
        let mut interval = 0;
        if has(flag::INTERVAL) {
            interval = u32::try_from(varint::take(&mut rest).ok()?).ok().filter(|&it| it != 0)?;
        }
        let unit = take_text(&mut rest).filter(|unit| is_unit(unit))?;
        let mut name = "";
        if has(flag::NAME) {
            name = take_text(&mut rest).filter(|name| !name.is_empty() && is_name(name))?;
        }
        let absolute = has(flag::ABSOLUTE);
        rest.is_empty().then_some(Self { name, unit, kind, time_unit, absolute, interval })
    }
}

fn is_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-:./_".contains(&byte);
    name.len() <= MAX_NAME && name.bytes().all(is_allowed)
}

fn is_unit(unit: &str) -> bool {
    unit.len() <= MAX_UNIT && unit.bytes().all(|byte| byte.is_ascii_graphic())
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let (&length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(length.into())?;
    *bytes = rest;
    core::str::from_utf8(text).ok()
}

fn put_text(out: &mut [u8], at: &mut usize, text: &str) -> Result<(), WireError> {
    let length = u8::try_from(text.len()).map_err(|_| WireError::BadReadings)?;
    put(out, at, &[length])?;
    put(out, at, text.as_bytes())
}

fn put(out: &mut [u8], at: &mut usize, bytes: &[u8]) -> Result<(), WireError> {
    let end = *at + bytes.len();
    out.get_mut(*at..end).ok_or(WireError::NoRoom)?.copy_from_slice(bytes);
    *at = end;
    Ok(())
}

/// The low two bits of a schema's first byte.
mod kind {
    pub(super) const INT: u8 = 0x0;
    pub(super) const F32: u8 = 0x1;
    pub(super) const F64: u8 = 0x2;
    pub(super) const BOOL: u8 = 0x3;
}

/// The high four bits of a schema's first byte.
mod flag {
    /// Stamps are Unix times.
    pub(super) const ABSOLUTE: u8 = 0x10;
    /// A scale other than 0 follows, as one signed byte.
    pub(super) const SCALE: u8 = 0x20;
    /// An interval other than 0 follows, as LEB128.
    pub(super) const INTERVAL: u8 = 0x40;
    /// A name that is not empty follows the unit.
    pub(super) const NAME: u8 = 0x80;
}

const KIND_MASK: u8 = 0x03;
const TIME_UNIT_SHIFT: u8 = 2;
const TIME_UNIT_MASK: u8 = 0x03;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(schema: Schema<'_>, bytes: &[u8]) {
        let mut out = [0; MAX_SCHEMA];
        let length = schema.encode(&mut out).expect("MAX_SCHEMA bytes are enough");
        assert_eq!(&out[..length], bytes, "{schema:?}");
        assert_eq!(Schema::decode(bytes), Ok(schema));
    }

    #[test]
    fn each_schema_has_these_bytes() {
        round_trip(Schema::default(), b"\x00\x00");
        round_trip(Schema::int("Cel", -2), b"\x20\xfe\x03Cel");
        round_trip(Schema { kind: Kind::F32, ..Schema::default() }, b"\x01\x00");
        round_trip(Schema { kind: Kind::F64, absolute: true, ..Schema::default() }, b"\x12\x00");
        let regular = Schema { time_unit: TimeUnit::Second, interval: 300, ..Schema::int("V", -3) };
        round_trip(regular, b"\x64\xfd\xac\x02\x01V");
        let switch = Schema { kind: Kind::Bool, name: "/door", ..Schema::default() };
        round_trip(switch, b"\x83\x00\x05/door");
    }

    #[test]
    fn the_longest_schema_fits_max_schema() {
        let (name, unit) = ([b'n'; MAX_NAME], [b'u'; MAX_UNIT]);
        let schema = Schema {
            name: core::str::from_utf8(&name).expect("ASCII"),
            unit: core::str::from_utf8(&unit).expect("ASCII"),
            kind: Kind::Int { scale: i8::MIN },
            time_unit: TimeUnit::Microsecond,
            absolute: true,
            interval: u32::MAX,
        };
        let mut out = [0; MAX_SCHEMA];
        assert_eq!(schema.encode(&mut out), Ok(MAX_SCHEMA));
        assert_eq!(Schema::decode(&out), Ok(schema));
        assert_eq!(schema.encode(&mut out[1..]), Err(WireError::NoRoom));
    }

    #[test]
    fn what_is_out_of_its_limits_is_refused() {
        let long = [b'x'; MAX_NAME + 1];
        let long = core::str::from_utf8(&long).expect("ASCII");
        for schema in [
            Schema { name: long, ..Schema::default() },
            Schema { name: "a b", ..Schema::default() },
            Schema { unit: &long[..MAX_UNIT + 1], ..Schema::default() },
            Schema { unit: "\u{b0}C", ..Schema::default() },
        ] {
            let error = schema.encode(&mut [0; MAX_SCHEMA]);
            assert_eq!(error, Err(WireError::BadReadings), "{schema:?}");
        }
        for bytes in [
            &b""[..],
            b"\x00",             // no unit
            b"\x00\x00\x00",     // trailing
            b"\x00\x02V",        // unit cut short
            b"\x20\x00\x00",     // scale 0
            b"\x21\x01\x00",     // a scale for floats
            b"\x0c\x00",         // time unit 3
            b"\x40\x00\x00",     // interval 0
            b"\x40\x80\x00\x00", // interval not in its shortest form
            b"\x80\x00\x00",     // empty name
            b"\x80\x00\x01 ",    // a name with a space
            b"\x00\x01\xff",     // a unit that is not text
        ] {
            assert_eq!(Schema::decode(bytes), Err(WireError::BadReadings), "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_schema_that_encodes_to_them_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..12),
        ) {
            let Ok(schema) = Schema::decode(&bytes) else { return Ok(()) };
            let mut out = [0; MAX_SCHEMA];
            let length = schema.encode(&mut out).expect("MAX_SCHEMA bytes are enough");
            prop_assert_eq!(&out[..length], &bytes[..]);
        }
    }
}
