//! How a part of the configuration describes itself: once, for reading, printing and comparing.
//!
//! A table lists its keys in [`Fields::fields`]; what is done with them is the visitor's affair.
//! So a key that is read is printed, documented (a test compares), and known to the environment.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use toml::Spanned;
use toml::de::DeValue;

use super::error::FaultKind;

/// When a changed key takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reload {
    /// With SIGHUP, without dropping a peer.
    Live,
    /// With the next start.
    Restart,
}

/// A table of keys.
pub(crate) trait Fields {
    /// Shows each key of the table, once, in the order in which they are printed.
    fn fields(&mut self, visit: &mut dyn Visit);

    /// What tells the table from others in its list; none: its place in the list.
    fn label(&self) -> Option<String> {
        None
    }
}

/// Somebody who is shown the keys of a table.
pub(crate) trait Visit {
    /// One value.
    fn key(&mut self, name: &'static str, reload: Reload, value: &mut dyn Scalar);
    /// A table in the table.
    fn table(&mut self, name: &'static str, fields: &mut dyn Fields);
    /// A list of tables; `reload` says when an entry that comes or goes does so.
    fn tables(&mut self, name: &'static str, reload: Reload, list: &mut dyn Tables);
}

/// A list of tables.
pub(crate) trait Tables {
    fn clear(&mut self);
    /// Adds a table with its defaults.
    fn push(&mut self) -> &mut dyn Fields;
    fn each(&mut self, show: &mut dyn FnMut(&mut dyn Fields));
}

impl<T: Fields + Default> Tables for Vec<T> {
    fn clear(&mut self) {
        Self::clear(self);
    }

    fn push(&mut self) -> &mut dyn Fields {
        let index = self.len();
        Self::push(self, T::default());
        &mut self[index]
    }

    fn each(&mut self, show: &mut dyn FnMut(&mut dyn Fields)) {
        self.iter_mut().for_each(|table| show(table));
    }
}

/// A value as it was written.
#[derive(Clone, Copy)]
pub(crate) enum Raw<'a> {
    File(&'a DeValue<'a>),
    /// The text of an environment variable: also numbers and truth values are text there.
    Variable(&'a str),
}

impl<'a> Raw<'a> {
    pub(crate) fn text(self) -> Option<&'a str> {
        match self {
            Self::File(value) => value.as_str(),
            Self::Variable(text) => Some(text),
        }
    }

    /// The whole number; one that is too large for 128 bits is taken as their largest.
    pub(crate) fn integer(self) -> Option<i128> {
        match self {
            Self::File(value) => value.as_integer().map(|number| {
                i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX)
            }),
            Self::Variable(text) => text.parse().ok(),
        }
    }

    pub(crate) fn boolean(self) -> Option<bool> {
        match self {
            Self::File(value) => value.as_bool(),
            Self::Variable(text) => text.parse().ok(),
        }
    }

    fn list(self) -> Option<&'a [Spanned<DeValue<'a>>]> {
        match self {
            Self::File(value) => value.as_array().map(|list| &**list),
            Self::Variable(_) => None,
        }
    }

    pub(crate) fn wrong_type(self, expected: &'static str) -> Problem {
        let found = match self {
            Self::File(value) => value.type_str(),
            Self::Variable(_) => "other text",
        };
        FaultKind::WrongType { expected, found }.into()
    }
}

/// What is wrong with a value, and where in the file when it is not the whole value.
#[derive(Debug)]
pub(crate) struct Problem {
    pub(crate) span: Option<Range<usize>>,
    pub(crate) kind: FaultKind,
}

impl Problem {
    pub(crate) fn bad(problem: impl Into<String>) -> Self {
        FaultKind::BadValue(problem.into()).into()
    }
}

impl From<FaultKind> for Problem {
    fn from(kind: FaultKind) -> Self {
        Self { span: None, kind }
    }
}

/// A value that a key can have.
pub(crate) trait Value: Sized {
    /// What a value looks like, for the message about one that does not.
    const EXPECTED: &'static str;

    fn read(raw: Raw<'_>) -> Result<Self, Problem>;

    /// The value in TOML; reading it again gives an equal one.
    fn toml(&self) -> String;

    /// The value, if it is a path.
    fn path(&mut self) -> Option<&mut PathBuf> {
        None
    }
}

/// A place for a value, whatever its type.
pub(crate) trait Scalar {
    fn assign(&mut self, raw: Raw<'_>) -> Result<(), Problem>;

    /// In TOML; none: not set.
    fn toml(&self) -> Option<String>;

    /// The value, if it is a path that is set.
    fn path(&mut self) -> Option<&mut PathBuf>;
}

impl<T: Value> Scalar for T {
    fn assign(&mut self, raw: Raw<'_>) -> Result<(), Problem> {
        *self = T::read(raw)?;
        Ok(())
    }

    fn toml(&self) -> Option<String> {
        Some(Value::toml(self))
    }

    fn path(&mut self) -> Option<&mut PathBuf> {
        Value::path(self)
    }
}

impl<T: Value> Scalar for Option<T> {
    fn assign(&mut self, raw: Raw<'_>) -> Result<(), Problem> {
        *self = Some(T::read(raw)?);
        Ok(())
    }

    fn toml(&self) -> Option<String> {
        self.as_ref().map(Value::toml)
    }

    fn path(&mut self) -> Option<&mut PathBuf> {
        self.as_mut().and_then(Value::path)
    }
}

impl<T: Value> Value for Vec<T> {
    const EXPECTED: &'static str = "a list";

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        let list = raw.list().ok_or_else(|| raw.wrong_type(Self::EXPECTED))?;
        let read_item = |item: &Spanned<DeValue<'_>>| {
            T::read(Raw::File(item.get_ref()))
                .map_err(|problem| Problem { span: Some(item.span()), ..problem })
        };
        list.iter().map(read_item).collect()
    }

    fn toml(&self) -> String {
        let items: Vec<_> = self.iter().map(Value::toml).collect();
        format!("[{}]", items.join(", "))
    }
}

/// A place for a value that has to lie in a range.
pub(crate) struct Within<'a, T> {
    value: &'a mut T,
    range: RangeInclusive<T>,
}

pub(crate) fn within<T>(value: &mut T, range: RangeInclusive<T>) -> Within<'_, T> {
    Within { value, range }
}

impl<T: Value + PartialOrd> Scalar for Within<'_, T> {
    fn assign(&mut self, raw: Raw<'_>) -> Result<(), Problem> {
        let value = T::read(raw)?;
        if !self.range.contains(&value) {
            let (least, most) = (self.range.start().toml(), self.range.end().toml());
            return Err(FaultKind::OutOfRange { value: value.toml(), least, most }.into());
        }
        *self.value = value;
        Ok(())
    }

    fn toml(&self) -> Option<String> {
        Some(self.value.toml())
    }

    fn path(&mut self) -> Option<&mut PathBuf> {
        self.value.path()
    }
}

/// A place for a value that has to lie in a range, and may be left out.
pub(crate) struct WithinIf<'a, T> {
    value: &'a mut Option<T>,
    range: RangeInclusive<T>,
}

pub(crate) fn within_if<T>(value: &mut Option<T>, range: RangeInclusive<T>) -> WithinIf<'_, T> {
    WithinIf { value, range }
}

impl<T: Value + PartialOrd + Clone> Scalar for WithinIf<'_, T> {
    fn assign(&mut self, raw: Raw<'_>) -> Result<(), Problem> {
        let mut value = self.range.start().clone();
        within(&mut value, self.range.clone()).assign(raw)?;
        *self.value = Some(value);
        Ok(())
    }

    fn toml(&self) -> Option<String> {
        Scalar::toml(self.value)
    }

    fn path(&mut self) -> Option<&mut PathBuf> {
        Scalar::path(self.value)
    }
}

/// The text as a TOML string.
pub(crate) fn quoted(text: impl Display) -> String {
    toml::Value::String(text.to_string()).to_string()
}
