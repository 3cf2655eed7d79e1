//! Why the daemon cannot start, or does not go on.

use std::fmt;

use super::{CentralError, UplinkError};
use crate::hub::RoomError;
use crate::link::{BindError, TlsError};

/// The daemon cannot start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A socket cannot be bound.
    Bind(BindError),
    /// A listener's TLS cannot be set up.
    Tls(TlsError),
    /// A Unix socket's group does not exist.
    NoSuchGroup(String),
    /// A session cannot be made.
    Session(RoomError),
    /// A central instance cannot keep messages.
    Central(CentralError),
    /// Signals cannot be received.
    Signals(std::io::Error),
    /// The uplink cannot be set up.
    Uplink(UplinkError),
    /// The machine has no randomness: nobody could be let in safely.
    NoRandomness(getrandom::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(error) => write!(f, "{error}"),
            Self::Tls(error) => write!(f, "{error}"),
            Self::NoSuchGroup(group) => {
                write!(f, "there is no group {group:?}: make it, or name another in listen.group")
            }
            Self::Session(error) => write!(f, "cannot make a session: {error:?}"),
            Self::Central(error) => write!(f, "{error}"),
            Self::Signals(error) => write!(f, "cannot receive signals: {error}"),
            Self::Uplink(error) => write!(f, "{error}"),
            Self::NoRandomness(error) => write!(f, "no randomness from the kernel: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl From<BindError> for StartError {
    fn from(error: BindError) -> Self {
        Self::Bind(error)
    }
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

/// A part of the daemon panicked again and again: it ended, and is to be started anew.
#[derive(Debug)]
pub struct Unsound;

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a part of the daemon panicked too often; the log says which")
    }
}

impl std::error::Error for Unsound {}
