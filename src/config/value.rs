//! The values that keys can have, each parsed once into a type that cannot be wrong.

use std::borrow::Borrow;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fastport_wire::control::WhenFull;
use fastport_wire::{Filter, Topic};

use super::error::FaultKind;
use super::schema::{Problem, Raw, Value, quoted};

/// A number of bytes. Written as an integer, or with a unit: `"64KiB"`, `"16MiB"`, `"1MB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(pub u64);

impl Bytes {
    /// That many times 1024 bytes.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count * 1024)
    }

    /// That many times 1024 KiB.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self::kib(count * 1024)
    }

    /// As a length in memory; on a 32-bit board at most its largest.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |unit: u64| self.0 != 0 && self.0.is_multiple_of(unit);
        let binary = SIZE_UNITS.iter().rev().filter(|(name, _)| name.ends_with("iB"));
        match binary.copied().find(|(_, unit)| fits(*unit)) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Value for Bytes {
    const EXPECTED: &'static str = r#"a size as "64KiB", "16MiB" or a number of bytes"#;

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        if let Some(count) = raw.integer() {
            return u64::try_from(count)
                .map(Self)
                .map_err(|_| not_understood(count, Self::EXPECTED));
        }
        let text = raw.text().ok_or_else(|| raw.wrong_type(Self::EXPECTED))?;
        number_with_unit(text, SIZE_UNITS)
            .map(Self)
            .ok_or_else(|| not_understood(text, Self::EXPECTED))
    }

    fn toml(&self) -> String {
        quoted(self)
    }
}

impl Value for Duration {
    const EXPECTED: &'static str = r#"a time as "250ms", "5s", "2m", "1h" or a number of seconds"#;

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        if let Some(count) = raw.integer() {
            // as far as milliseconds go, in which it is written
            let millis = u64::try_from(count).ok().and_then(|seconds| seconds.checked_mul(1000));
            return millis
                .map(Self::from_millis)
                .ok_or_else(|| not_understood(count, Self::EXPECTED));
        }
        let text = raw.text().ok_or_else(|| raw.wrong_type(Self::EXPECTED))?;
        number_with_unit(text, TIME_UNITS)
            .map(Self::from_millis)
            .ok_or_else(|| not_understood(text, Self::EXPECTED))
    }

    fn toml(&self) -> String {
        let millis = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        let unit = TIME_UNITS.iter().rev().find(|(_, unit)| millis.is_multiple_of(*unit));
        match unit {
            _ if millis == 0 => quoted("0s"),
            Some((name, unit)) => quoted(format_args!("{}{name}", millis / unit)),
            None => quoted(format_args!("{millis}ms")),
        }
    }
}

/// A number of whole seconds, as the wire carries it. Written as any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seconds(pub u32);

impl Seconds {
    /// The same time.
    #[must_use]
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.0 as u64)
    }
}

impl Value for Seconds {
    const EXPECTED: &'static str = Duration::EXPECTED;

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        let time = Duration::read(raw)?;
        if time.subsec_nanos() != 0 {
            return Err(Problem::bad("must be whole seconds: peers are told whole seconds"));
        }
        let too_long = |_| Problem::bad("longer than 136 years");
        u32::try_from(time.as_secs()).map(Self).map_err(too_long)
    }

    fn toml(&self) -> String {
        self.as_duration().toml()
    }
}

/// The permissions of a socket file. Written in octal, as a string: `"0660"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(u32);

impl Mode {
    /// Those permissions, of which only the low nine bits count.
    #[must_use]
    pub const fn new(bits: u32) -> Self {
        Self(bits & 0o777)
    }

    /// The nine permission bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl Value for Mode {
    const EXPECTED: &'static str = r#"permissions in octal, in quotes, as "0660""#;

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        // 660 without quotes would be decimal, and mean something else than it looks like
        let text = raw.text().ok_or_else(|| raw.wrong_type(Self::EXPECTED))?;
        let digits = text.trim_start_matches("0o");
        let octal = !digits.is_empty() && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        let bits = u32::from_str_radix(digits, 8).ok().filter(|&bits| octal && bits <= 0o777);
        bits.map(Self).ok_or_else(|| not_understood(text, Self::EXPECTED))
    }

    fn toml(&self) -> String {
        quoted(format_args!("{:04o}", self.0))
    }
}

/// A session's name: 1 to 64 bytes of `A`–`Z`, `a`–`z`, `0`–`9`, `_`, `.`, `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionName(Box<str>);

impl SessionName {
    /// The most bytes a name may have.
    pub const MAX_BYTES: usize = 64;

    /// The only way to make one; none for a text that is no session name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let fits = (1..=Self::MAX_BYTES).contains(&text.len()) && text.bytes().all(allowed);
        fits.then(|| Self(text.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for SessionName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for SessionName {
    const EXPECTED: &'static str = "a session name: 1 to 64 of A-Z, a-z, 0-9, _, . and -";

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        let text = raw.text().ok_or_else(|| raw.wrong_type(Self::EXPECTED))?;
        Self::parse(text).ok_or_else(|| not_understood(text, Self::EXPECTED))
    }

    fn toml(&self) -> String {
        quoted(self)
    }
}

/// A well-formed topic filter that owns its text; see [`Filter`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Box<str>);

impl TopicFilter {
    /// The only way to make one.
    ///
    /// # Errors
    /// As [`Filter::parse`].
    pub fn parse(text: &str) -> Result<Self, fastport_wire::topic::TopicError> {
        Filter::parse(text).map(|filter| Self(filter.as_str().into()))
    }

    /// The filter.
    #[must_use]
    pub fn as_filter(&self) -> Filter<'_> {
        Filter::parse(&self.0).expect("parse let no other text in")
    }

    /// Whether the filter selects `topic`.
    #[must_use]
    pub fn matches(&self, topic: Topic<'_>) -> bool {
        self.as_filter().matches(topic)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Value for TopicFilter {
    const EXPECTED: &'static str = r#"a topic filter as "sensors/+/temp" or "sensors/#""#;

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        let text = raw.text().ok_or_else(|| raw.wrong_type(Self::EXPECTED))?;
        Self::parse(text).map_err(|error| Problem::bad(format!("{text:?}: {error}")))
    }

    fn toml(&self) -> String {
        quoted(&self.0)
    }
}

impl Value for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        raw.boolean().ok_or_else(|| raw.wrong_type(Self::EXPECTED))
    }

    fn toml(&self) -> String {
        self.to_string()
    }
}

macro_rules! whole_numbers {
    ($($kind:ty),*) => { $(
        impl Value for $kind {
            const EXPECTED: &'static str = "a whole number";

            fn read(raw: Raw<'_>) -> Result<Self, Problem> {
                let number = raw.integer().ok_or_else(|| raw.wrong_type(Self::EXPECTED))?;
                Self::try_from(number).map_err(|_| {
                    let (value, most) = (number.to_string(), Self::MAX.to_string());
                    FaultKind::OutOfRange { value, least: "0".into(), most }.into()
                })
            }

            fn toml(&self) -> String {
                self.to_string()
            }
        }
    )* };
}

whole_numbers!(u16, u32);

impl Value for String {
    const EXPECTED: &'static str = "text in quotes";

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        match raw.text().ok_or_else(|| raw.wrong_type(Self::EXPECTED))? {
            "" => Err(Problem::bad("empty; leave the key out, or say what is meant")),
            text => Ok(text.to_owned()),
        }
    }

    fn toml(&self) -> String {
        quoted(self)
    }
}

impl Value for PathBuf {
    const EXPECTED: &'static str = "a path in quotes";

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        match raw.text().ok_or_else(|| raw.wrong_type(Self::EXPECTED))? {
            "" => Err(Problem::bad("empty path; leave the key out, or name a file")),
            text if text.contains('\0') => Err(Problem::bad("a path has no NUL character")),
            text => Ok(Self::from(text)),
        }
    }

    fn toml(&self) -> String {
        quoted(self.display())
    }

    fn path(&mut self) -> Option<&mut PathBuf> {
        Some(self)
    }
}

impl Value for SocketAddr {
    const EXPECTED: &'static str = r#"an IP address and port as "127.0.0.1:7470" or "[::]:7470""#;

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        let text = raw.text().ok_or_else(|| raw.wrong_type(Self::EXPECTED))?;
        text.parse().map_err(|_| {
            let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
            let hint = match host {
                "" | "*" => r#"; for all addresses write "0.0.0.0:PORT" or "[::]:PORT""#,
                "localhost" => r#"; for localhost write "127.0.0.1:PORT" or "[::1]:PORT""#,
                _ => "",
            };
            Problem::bad(format!("{text:?} is not {}{hint}", Self::EXPECTED))
        })
    }

    fn toml(&self) -> String {
        quoted(self)
    }
}

/// A closed set of words.
pub(crate) trait Word: Copy + PartialEq + 'static {
    const WORDS: &'static [(&'static str, Self)];

    fn word(self) -> &'static str {
        let known = Self::WORDS.iter().find(|(_, value)| *value == self);
        known.expect("WORDS has every variant: the macro lists them").0
    }
}

/// Declares an enum whose variants are words in the configuration.
macro_rules! words {
    ($( $(#[$doc:meta])* $name:ident { $( $(#[$word_doc:meta])* $word:ident = $text:literal, )* } )*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[$word_doc])* $word, )* }

        impl $crate::config::value::Word for $name {
            const WORDS: &'static [(&'static str, Self)] = &[ $( ($text, Self::$word), )* ];
        }

        impl $name {
            /// The word for it in the configuration.
            #[must_use]
            pub fn name(self) -> &'static str {
                $crate::config::value::Word::word(self)
            }
        }

        impl $crate::config::schema::Value for $name {
            const EXPECTED: &'static str = "one of a few words in quotes";

            fn read(
                raw: $crate::config::schema::Raw<'_>,
            ) -> Result<Self, $crate::config::schema::Problem> {
                $crate::config::value::read_word(raw)
            }

            fn toml(&self) -> String {
                $crate::config::schema::quoted(self.name())
            }
        }
    )* };
}
pub(crate) use words;

pub(crate) fn read_word<W: Word>(raw: Raw<'_>) -> Result<W, Problem> {
    let text = raw.text().ok_or_else(|| raw.wrong_type("one of a few words in quotes"))?;
    let known = W::WORDS.iter().find(|(word, _)| *word == text);
    known.map(|(_, value)| *value).ok_or_else(|| not_a_word(text, W::WORDS.iter().map(|(w, _)| *w)))
}

impl Value for WhenFull {
    const EXPECTED: &'static str = "one of a few words in quotes";

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        let text = raw.text().ok_or_else(|| raw.wrong_type(Self::EXPECTED))?;
        let words = Self::ALL.iter().map(|policy| policy.name());
        Self::from_name(text).ok_or_else(|| not_a_word(text, words))
    }

    fn toml(&self) -> String {
        quoted(self.name())
    }
}

fn not_a_word(text: &str, words: impl Iterator<Item = &'static str>) -> Problem {
    let words: Vec<_> = words.map(|word| format!("{word:?}")).collect();
    Problem::bad(format!("{text:?} is not known; use {}", words.join(" or ")))
}

fn not_understood(value: impl fmt::Debug, expected: &str) -> Problem {
    Problem::bad(format!("{value:?} is not {expected}"))
}

/// `"5s"` by a table of units: 5 times what `s` stands for; none when that is no number of them.
fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start_matches(' '))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Ascending, so that the largest that divides a value is found from the end.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// In milliseconds; ascending.
const TIME_UNITS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
