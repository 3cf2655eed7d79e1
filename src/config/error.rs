//! What can be wrong with a file, and how it is said: `file:line:column: key: what, what to do`.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::parts::Part;

/// Why a configuration or credentials file was not accepted. The operator is at fault.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The file is larger than such a file can sensibly be.
    TooLong {
        /// The file.
        path: PathBuf,
        /// The most bytes it may have.
        limit: u64,
    },
    /// The file is not UTF-8, as TOML has to be.
    NotText {
        /// The file.
        path: PathBuf,
        /// The line of the first byte that is not, from 1.
        line: usize,
    },
    /// The file has secrets and others than its owner and group may read it, or others than its
    /// owner may write it.
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What is written in it is wrong. At least one, in the order of their places.
    Faults(Vec<Fault>),
}

impl ConfigError {
    /// The faults in what is written; none when the file could not be read at all.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::Faults(faults) => faults,
            _ => &[],
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error } => {
                write!(f, "{}: cannot be read: {error}", path.display())
            }
            Self::TooLong { path, limit } => {
                write!(f, "{}: longer than {limit} bytes; is it the right file?", path.display())
            }
            Self::NotText { path, line } => {
                write!(f, "{}:{line}: not UTF-8; save the file as UTF-8 text", path.display())
            }
            Self::Exposed { path, mode } => {
                let path = path.display();
                write!(
                    f,
                    "{path}: holds secrets, but its mode {mode:04o} lets others read or change it; \
                     run: chmod 0640 {path}"
                )
            }
            Self::Faults(faults) => {
                for (index, fault) in faults.iter().take(MAX_SHOWN).enumerate() {
                    let line_end = if index == 0 { "" } else { "\n" };
                    write!(f, "{line_end}{fault}")?;
                }
                match faults.len().saturating_sub(MAX_SHOWN) {
                    0 => Ok(()),
                    more => write!(f, "\nand {more} more"),
                }
            }
        }
    }
}

impl std::error::Error for ConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreadable { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it is written.
    pub place: Place,
    /// The key's path, as `limits.memory` or `listen[0].address`; empty for the file as a whole.
    pub key: String,
    /// What is wrong.
    pub kind: FaultKind,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.kind)
    }
}

/// Where something is written. Ordered as a reader meets them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file.
    File {
        /// Its path, as it was given.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// In characters, from 1.
        column: usize,
    },
    /// In an environment variable of that name.
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// What is wrong with a key or its value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FaultKind {
    /// Not TOML; what the parser says.
    Syntax(String),
    /// A key that its table does not have.
    UnknownKey {
        /// The full path of the key that may be meant.
        nearest: Option<String>,
        /// The keys of the table.
        known: Vec<&'static str>,
    },
    /// An environment variable with the prefix of ours that names no key.
    UnknownVariable {
        /// The variable that may be meant.
        nearest: Option<String>,
    },
    /// A value of another type than the key has.
    WrongType {
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A value of the right type that cannot be used: what is wrong and what to do.
    BadValue(String),
    /// A number, size or duration that is too small or too large.
    OutOfRange {
        /// As it was understood.
        value: String,
        /// The least that is allowed.
        least: String,
        /// The most that is allowed.
        most: String,
    },
    /// A key that has to be there; why.
    Missing(String),
    /// Two keys that do not go together: which, and what to do.
    Conflict(String),
    /// A value that needs a part which this build does not have.
    NotBuilt(Part),
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(text) => write!(f, "not TOML: {text}"),
            Self::UnknownKey { nearest: Some(nearest), .. } => {
                write!(f, "unknown key; did you mean {nearest}?")
            }
            Self::UnknownKey { nearest: None, known } => {
                write!(f, "unknown key; there are {}", known.join(", "))
            }
            Self::UnknownVariable { nearest: Some(nearest) } => {
                write!(f, "names no key; did you mean {nearest}?")
            }
            Self::UnknownVariable { nearest: None } => f.write_str(
                "names no key; docs/configuration.md says how variables are named; unset it",
            ),
            Self::WrongType { expected, found } => write!(f, "expected {expected}, found {found}"),
            Self::BadValue(text) | Self::Conflict(text) => f.write_str(text),
            Self::OutOfRange { value, least, most } => {
                write!(f, "{value} is out of range; use {least} to {most}")
            }
            Self::Missing(text) => write!(f, "missing: {text}"),
            Self::NotBuilt(part) => {
                let (part, set) = part.words();
                write!(f, "this build has no {part}; use a build of the feature set `{set}`")
            }
        }
    }
}

/// The most faults that are shown: a wrong file can have one on each line.
const MAX_SHOWN: usize = 20;
