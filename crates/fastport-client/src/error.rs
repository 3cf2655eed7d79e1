//! What can go wrong, and who is at fault.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fastport_core::client::Fault;
use fastport_wire::control::{ByeReason, ErrorCode};
use fastport_wire::topic::TopicError;

use crate::seal::SealFailure;

/// Why there is no link, or no link any more.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConnectError {
    /// A file with certificates or a key cannot be used: the operator's to mend.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The options contradict each other, or are over their limits.
    Options(&'static str),
    /// The password would go over the network unprotected, to that address.
    PasswordInClear(String),
    /// The host's name has no address, or no name server answers.
    Resolve {
        /// The name.
        host: String,
        /// What the system says.
        why: Arc<io::Error>,
    },
    /// None of the relay's addresses takes a connection; the last one's reason.
    Unreachable(Arc<io::Error>),
    /// The TLS handshake failed.
    Tls {
        /// What is wrong.
        why: String,
        /// Whether another attempt will fail the same way.
        is_fatal: bool,
    },
    /// The HTTP proxy makes no connection to the relay.
    Proxy {
        /// What it says, or does.
        why: String,
    },
    /// What answers does not speak WebSocket with `fastport.2` at that path.
    WebSocket {
        /// What is wrong.
        why: String,
        /// Whether another attempt will fail the same way.
        is_fatal: bool,
    },
    /// The relay refused, said goodbye, or did not follow the protocol.
    Fault(Fault),
    /// The link broke.
    Lost(Arc<io::Error>),
    /// The relay closed the connection without a word.
    Hangup,
    /// Nothing came of it in time.
    TimedOut(Duration),
    /// The client was closed.
    Closed,
    /// A bug of this library; its task ended.
    Internal,
}

impl ConnectError {
    /// Whether trying again will not help.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::File { .. } | Self::Options(_) | Self::PasswordInClear(_) => true,
            Self::Closed | Self::Internal => true,
            Self::Tls { is_fatal, .. } | Self::WebSocket { is_fatal, .. } => *is_fatal,
            Self::Fault(fault) => is_fatal(fault),
            Self::Resolve { .. } | Self::Unreachable(_) | Self::Lost(_) => false,
            Self::Hangup | Self::TimedOut(_) | Self::Proxy { .. } => false,
        }
    }

    /// Whether the relay answered and does not want this client.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Fault(_) | Self::PasswordInClear(_)) && self.is_fatal()
    }

    /// What the relay wants to be left alone for.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Fault(Fault::Refused { retry_ms, .. } | Fault::Bye { retry_ms, .. }) => {
                retry_ms.map(|ms| Duration::from_millis(ms.into()))
            }
            _ => None,
        }
    }
}

/// Whether the relay's word is final: a wrong proof stays wrong, a full relay may have room later.
fn is_fatal(fault: &Fault) -> bool {
    match fault {
        Fault::Refused { retry_ms: Some(_), .. } => false,
        Fault::Refused { code, retry_ms: None, .. } => matches!(
            code,
            Some(
                ErrorCode::NotAuthenticated
                    | ErrorCode::MethodNotAllowed
                    | ErrorCode::Forbidden
                    | ErrorCode::BadVersion
                    | ErrorCode::BadControl
                    | ErrorCode::UnknownMessage
                    | ErrorCode::Conflict
                    | ErrorCode::Unsealed
            )
        ),
        Fault::Bye { reason, .. } => {
            matches!(reason, Some(ByeReason::Replaced | ByeReason::Removed))
        }
        Fault::RelayNotProven | Fault::WrongMethod => true,
        _ => false,
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, why } => write!(f, "{}: {why}", path.display()),
            Self::Options(why) => f.write_str(why),
            Self::PasswordInClear(address) => write!(
                f,
                "the password would go to {address} unprotected; use tls:// or wss://, or a device \
                 key"
            ),
            Self::Resolve { host, why } => write!(f, "no address for {host}: {why}"),
            Self::Unreachable(why) => write!(f, "{why}"),
            Self::Tls { why, .. } => write!(f, "TLS: {why}"),
            Self::Proxy { why } => write!(f, "the HTTP proxy {why}"),
            Self::WebSocket { why, .. } => write!(f, "WebSocket: {why}"),
            Self::Fault(fault) => describe(fault, f),
            Self::Lost(why) => write!(f, "link lost: {why}"),
            Self::Hangup => f.write_str("the relay closed the connection"),
            Self::TimedOut(after) => write!(f, "no answer within {} s", after.as_secs_f32()),
            Self::Closed => f.write_str("the client is closed"),
            Self::Internal => f.write_str("bug: the task of the link ended"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Resolve { why, .. } | Self::Unreachable(why) | Self::Lost(why) => Some(&**why),
            _ => None,
        }
    }
}

fn describe(fault: &Fault, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match fault {
        Fault::Wire(error) => write!(f, "the relay does not speak fastPort: {error}"),
        Fault::Unexpected => f.write_str("the relay does not speak fastPort: message out of place"),
        Fault::RelayNotProven => f.write_str("the relay does not have the device key"),
        Fault::WrongMethod => {
            f.write_str("the relay wants another kind of proof than the one given")
        }
        Fault::Refused { code, text, .. } => {
            f.write_str("refused by the relay: ")?;
            describe_code(*code, text.as_deref(), f)
        }
        Fault::Bye { reason, .. } => match reason {
            Some(ByeReason::ShuttingDown) => f.write_str("the relay is shutting down"),
            Some(ByeReason::Replaced) => {
                f.write_str("another client of the same identity and name took this one's place")
            }
            Some(ByeReason::Silent) => f.write_str("the relay heard nothing for too long"),
            Some(ByeReason::TooSlow) => f.write_str("this client read too slowly"),
            Some(ByeReason::Removed) => f.write_str("the session or identity was removed"),
            Some(reason) => write!(f, "the relay said goodbye: {reason}"),
            None => f.write_str("the relay said goodbye"),
        },
        Fault::BadAck => f.write_str("the relay acknowledged what was not sent"),
        Fault::Silent => f.write_str("the relay was silent for too long"),
        _ => write!(f, "{fault:?}"),
    }
}

fn describe_code(
    code: Option<ErrorCode>,
    text: Option<&str>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let meaning = match code {
        None => "a reason this version does not know",
        Some(ErrorCode::NotAuthenticated) => "wrong proof, or no such session or identity",
        Some(ErrorCode::MethodNotAllowed) => {
            "this way of proof is not allowed for the session, or on this link"
        }
        Some(ErrorCode::Forbidden) => "the identity may not do this",
        Some(ErrorCode::BadVersion) => "relay and client have no version in common",
        Some(ErrorCode::LimitReached) => "a limit of the relay is reached",
        Some(ErrorCode::RateLimited) => "too much in too short a time",
        Some(ErrorCode::TierNotOffered) => "the session does not offer that tier",
        Some(ErrorCode::Conflict) => "it exists already, or differs from what exists",
        Some(ErrorCode::Unavailable) => "the relay cannot do this now",
        Some(ErrorCode::Unsealed) => "the session takes sealed messages only",
        Some(ErrorCode::PayloadTooLong) => "the payload is over the session's limit",
        Some(code) => code.name(),
    };
    f.write_str(meaning)?;
    match text {
        Some(text) if !text.is_empty() => write!(f, " ({text})"),
        _ => Ok(()),
    }
}

/// What the relay says when it refuses a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Why; `None`: a code not known here.
    pub code: Option<ErrorCode>,
    /// Its words.
    pub text: Option<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe_code(self.code, self.text.as_deref(), f)
    }
}

/// Why a request came to nothing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RequestError {
    /// The topic or filter is not well formed.
    BadTopic(TopicError),
    /// The relay refused.
    Refused(Refused),
    /// No answer came in time; the relay may have done it.
    TimedOut(Duration),
    /// The password in the request would go over the network unprotected.
    PasswordInClear,
    /// There is no link any more, and there will be none.
    Ended(ConnectError),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadTopic(error) => error.fmt(f),
            Self::Refused(refused) => refused.fmt(f),
            Self::TimedOut(after) => write!(f, "no answer within {} s", after.as_secs_f32()),
            Self::PasswordInClear => f.write_str(
                "the password would cross the network unprotected; use tls:// or wss://",
            ),
            Self::Ended(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RequestError {}

impl From<TopicError> for RequestError {
    fn from(error: TopicError) -> Self {
        Self::BadTopic(error)
    }
}

/// Why a message is not published.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PublishError {
    /// What waits for the link fills the outbox, or the topic is being opened again after a
    /// reconnect. Only where waiting was not wanted.
    NotNow,
    /// The payload is over what the relay or the outbox can take, in bytes.
    TooLong {
        /// The most that can be.
        limit: usize,
    },
    /// The topic could not be opened.
    Open(RequestError),
    /// It cannot be sealed, and so is not sent.
    Seal(SealFailure),
    /// There is no link any more, and there will be none.
    Ended(ConnectError),
}

impl fmt::Display for PublishError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotNow => f.write_str("the outbox is full, or the topic is not open yet"),
            Self::TooLong { limit } => write!(f, "the payload is over {limit} bytes"),
            Self::Open(error) => error.fmt(f),
            Self::Seal(failure) => failure.fmt(f),
            Self::Ended(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PublishError {}

impl From<SealFailure> for PublishError {
    fn from(failure: SealFailure) -> Self {
        Self::Seal(failure)
    }
}

/// Why it is not known that messages arrived.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum WaitError {
    /// The relay lost its state before it said that they are where they should be, or their topic
    /// could not be opened again: they may be lost.
    InDoubt,
    /// There is no link any more, and there will be none.
    Ended(ConnectError),
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InDoubt => {
                f.write_str("the relay restarted before it confirmed; messages may be lost")
            }
            Self::Ended(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for WaitError {}
