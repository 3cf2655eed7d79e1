//! How the tool ends: exit codes and what is said about them.

use std::fmt::Display;
use std::io::{self, Write};

use fastport_client::files::{ReceiveError, SendError};
use fastport_client::{ConnectError, PublishError, RequestError, Undelivered, WaitError};
use fastport_wire::control::ErrorCode;

/// The command line is wrong (sysexits `EX_USAGE`).
pub(super) const USAGE: u8 = 64;
/// What was given to publish, or a file, is not of the form it should have (`EX_DATAERR`).
pub(super) const DATA: u8 = 65;
/// The relay cannot be reached, or was lost (`EX_UNAVAILABLE`).
const UNREACHABLE: u8 = 69;
/// A bug (`EX_SOFTWARE`).
const INTERNAL: u8 = 70;
/// A file cannot be read or written (`EX_IOERR`).
pub(super) const FILE: u8 = 74;
/// The relay refused: wrong proof, forbidden, a limit (`EX_NOPERM`).
const REFUSED: u8 = 77;
/// Not done in the time given, as `timeout(1)` says it.
pub(super) const TIMED_OUT: u8 = 124;
/// SIGINT or SIGTERM before all was done: 128 and SIGINT's number.
const INTERRUPTED: u8 = 130;

pub(super) type Outcome = Result<(), Failure>;

/// Why the tool ends before its work is done.
#[derive(Debug)]
pub(super) struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    pub(super) fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    pub(super) fn usage(text: impl Into<String>) -> Self {
        Self::new(USAGE, text)
    }

    pub(super) fn data(text: impl Into<String>) -> Self {
        Self::new(DATA, text)
    }

    pub(super) fn internal(text: impl Into<String>) -> Self {
        Self::new(INTERNAL, text)
    }

    /// A file cannot be read or written.
    pub(super) fn file(what: impl Display, error: impl Display) -> Self {
        Self::new(FILE, format!("{what}: {error}"))
    }

    /// Standard output: a reader that has gone away wanted no more, and that is no failure.
    pub(super) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(0, ""),
            _ => Self::file("standard output", error),
        }
    }

    /// By a signal: who sent it knows.
    pub(super) fn interrupted() -> Self {
        Self::new(INTERRUPTED, "")
    }

    /// There is no link, or no link any more, to what is at `url`.
    pub(super) fn connect(url: impl Display, error: &ConnectError) -> Self {
        let (code, hint) = match error {
            ConnectError::File { .. } => return Self::new(FILE, error.to_string()),
            ConnectError::Options(_) => return Self::usage(error.to_string()),
            ConnectError::PasswordInClear(_) => {
                (REFUSED, "; or say --allow-plain-password where nobody can listen in")
            }
            ConnectError::Resolve { .. } => (UNREACHABLE, "; check the name in --url"),
            ConnectError::Unreachable(why) if why.kind() == io::ErrorKind::ConnectionRefused => {
                (UNREACHABLE, "; is fastportd running there? --url says where to look")
            }
            ConnectError::Unreachable(why) if why.kind() == io::ErrorKind::NotFound => {
                (UNREACHABLE, "; is fastportd running? --url says where to look")
            }
            ConnectError::Tls { .. } => (UNREACHABLE, "; --ca names the authority to trust"),
            ConnectError::Fault(_) if error.is_refusal() => {
                (REFUSED, "; check --session, --id and the password or key")
            }
            ConnectError::Fault(_) => (UNREACHABLE, ""),
            ConnectError::TimedOut(_) => (UNREACHABLE, ""),
            ConnectError::Internal => (INTERNAL, ""),
            _ => (UNREACHABLE, ""),
        };
        Self::new(code, format!("{url}: {error}{hint}"))
    }

    /// A request on `what`, a topic or a session, came to nothing.
    pub(super) fn request(url: impl Display, what: &str, error: &RequestError) -> Self {
        match error {
            RequestError::Ended(error) => Self::connect(url, error),
            RequestError::BadTopic(error) => Self::usage(format!("{what}: {error}")),
            RequestError::PasswordInClear => Self::new(REFUSED, format!("{url}: {what}: {error}")),
            RequestError::TimedOut(_) => Self::new(TIMED_OUT, format!("{url}: {what}: {error}")),
            RequestError::Refused(refused) => {
                let hint = match refused.code {
                    Some(ErrorCode::Forbidden) => "; the session's access lists say who may",
                    Some(ErrorCode::TierNotOffered) => {
                        "; wait for another, or let the session store its messages"
                    }
                    _ => "",
                };
                Self::new(REFUSED, format!("{url}: {what}: {error}{hint}"))
            }
            _ => Self::internal(format!("{what}: {error}")),
        }
    }

    /// A message on `topic` was not published.
    pub(super) fn publish(url: impl Display, topic: &str, error: &PublishError) -> Self {
        match error {
            PublishError::Ended(error) => Self::connect(url, error),
            PublishError::Open(error) => Self::request(url, topic, error),
            PublishError::TooLong { .. } => Self::data(format!("{topic}: {error}")),
            PublishError::Seal(_) => Self::new(FILE, format!("{topic}: {error}")),
            _ => Self::internal(format!("{topic}: {error}")),
        }
    }

    /// A file was not sent.
    pub(super) fn send(url: &str, file: &str, topic: &str, error: &SendError) -> Self {
        match error {
            SendError::Ended(error) => Self::connect(url, error),
            SendError::BadTopic(error) => Self::usage(format!("{topic}: {error}")),
            SendError::BadName(_) => {
                Self::usage(format!("{file}: {error}; --as says what receivers call it"))
            }
            SendError::File(_) => Self::new(FILE, format!("{file}: {error}")),
            SendError::Cut => Self::data(format!("{file}: {error}; send it again")),
            SendError::Refused(_) => Self::new(REFUSED, format!("{url}: {file}: {error}")),
            SendError::Seal(_) => Self::new(FILE, format!("{file}: {error}")),
            _ => Self::internal(format!("{file}: {error}")),
        }
    }

    /// A file was not received.
    pub(super) fn receive(url: &str, name: &str, error: &ReceiveError) -> Self {
        let text = format!("{name}: {error}");
        match error {
            ReceiveError::Ended(error) => Self::connect(url, error),
            ReceiveError::NoSpace(_) => Self::new(FILE, format!("{text}; make some, or use --dir")),
            ReceiveError::File { .. } | ReceiveError::Exists | ReceiveError::Busy => {
                Self::new(FILE, text)
            }
            ReceiveError::Internal => Self::internal(text),
            _ => Self::data(text),
        }
    }

    /// It is not known that messages arrived.
    pub(super) fn wait(url: impl Display, error: &WaitError) -> Self {
        match error {
            WaitError::Ended(error) => Self::connect(url, error),
            error => Self::new(UNREACHABLE, format!("{url}: {error}")),
        }
    }

    /// The link ended with messages left.
    pub(super) fn undelivered(url: impl Display, error: Undelivered) -> Self {
        Self::new(UNREACHABLE, format!("{url}: {error}"))
    }

    /// Of that line of standard input.
    pub(super) fn at_line(mut self, number: u64) -> Self {
        if self.code == DATA {
            self.text = format!("standard input, line {number}: {}", self.text);
        }
        self
    }

    pub(super) fn code(&self) -> u8 {
        self.code
    }

    /// Says it on standard error.
    pub(super) fn report(&self) {
        if !self.text.is_empty() {
            note(&self.text);
        }
    }
}

/// Tells the person at the terminal, apart from the output.
pub(super) fn note(text: impl Display) {
    // nowhere else to say it
    writeln!(io::stderr(), "fastport: {text}").unwrap_or_default();
}
