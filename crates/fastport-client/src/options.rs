//! What a client wants.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fastport_core::client;
use fastport_core::client::Secret;
use fastport_wire::control::{Tier, WhenFull, features};

use crate::backoff::BackoffOptions;
use crate::proxy::Proxy;
use crate::seal::SealOptions;
use crate::target::Target;

/// Whom to trust and whom to be over TLS; PEM files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of authorities to trust instead of those that the system trusts: its list of
    /// `ca-certificates`, or the file that `$SSL_CERT_FILE` names.
    pub ca: Option<PathBuf>,
    /// The client's certificate, with those between it and its authority behind it.
    pub certificate: Option<PathBuf>,
    /// The key of the client's certificate.
    pub key: Option<PathBuf>,
}

/// Tells the time that certificates are judged at, where the system's clock is not to be believed.
#[derive(Clone)]
pub struct CertificateTime(Arc<dyn Fn() -> Duration + Send + Sync>);

impl CertificateTime {
    /// As `tell` says, since 1970.
    pub fn new(tell: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(crate) fn since_1970(&self) -> Duration {
        (self.0)()
    }
}

impl fmt::Debug for CertificateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificateTime({:?})", self.since_1970())
    }
}

/// What a client wants to be, and how it behaves.
#[derive(Clone)]
pub struct Options {
    /// Where the relay is.
    pub target: Target,
    /// How to seal messages end to end. Default: not at all; what comes sealed comes as it is.
    pub seal: Option<SealOptions>,
    /// The session to join, at most 64 bytes.
    pub session: String,
    /// Whose credential the client has, at most 64 bytes; empty: none.
    pub identity: String,
    /// What the client calls itself, at most 64 bytes; empty: nothing. A newer client of the same
    /// identity and name replaces this one.
    pub name: String,
    /// How the client shows who it is.
    pub secret: Secret,
    /// For `tls` and `wss`.
    pub tls: TlsFiles,
    /// When certificates are judged at. Default: by the system's clock.
    pub certificate_time: Option<CertificateTime>,
    /// Whether ChaCha20 is the first cipher that is offered: for processors without instructions for
    /// AES. Default: no.
    pub is_chacha20_first: bool,
    /// The HTTP proxy that TCP connections go through (CONNECT). Default: none.
    pub proxy: Option<Proxy>,
    /// A connection over TCP whose other end acknowledges nothing for so long is given up by the
    /// system. Default: as the system is configured, often a quarter of an hour.
    pub give_up_after: Option<Duration>,
    /// Whether a password may be sent over plain TCP to another machine, where others can read it.
    /// Default: no.
    pub allow_plain_password: bool,
    /// What the relay does when this client reads too slowly; `None`: what the relay thinks best.
    pub when_full: Option<WhenFull>,
    /// Seconds between signs of life; `None`: what the relay thinks best.
    pub keepalive: Option<u32>,
    /// Seconds for which the relay should hold the client's state after its link is gone; 0: it
    /// begins anew after each reconnect. Default 60.
    pub linger: u32,
    /// Whether messages should come with the relay's clock. Default: yes.
    pub times: bool,
    /// Bytes of published messages that may wait for the link or for an acknowledgement; at that
    /// many, publishing waits. Default 1 MiB.
    pub outbox: usize,
    /// Whether to connect again when the link is lost. Default: yes.
    pub reconnect: bool,
    /// Whether [`crate::init`] tries again after a failure that may pass. Default: yes.
    pub retry_at_start: bool,
    /// Waits between attempts.
    pub backoff: BackoffOptions,
    /// For one attempt, up to the relay's welcome. Default 10 s.
    pub connect_timeout: Duration,
    /// For [`crate::init`] as a whole. Default 30 s.
    pub init_timeout: Duration,
    /// For the answer to a request. Default 30 s: a reconnect may lie in between.
    pub request_timeout: Duration,
    /// For what is not yet delivered when the client closes. Default 5 s.
    pub close_timeout: Duration,
}

impl Options {
    /// The defaults, for a session of a relay; without a secret.
    #[must_use]
    pub fn new(target: Target, session: impl Into<String>) -> Self {
        Self {
            target,
            seal: None,
            session: session.into(),
            identity: String::new(),
            name: String::new(),
            secret: Secret::None,
            tls: TlsFiles::default(),
            certificate_time: None,
            is_chacha20_first: false,
            proxy: None,
            give_up_after: None,
            allow_plain_password: false,
            when_full: None,
            keepalive: None,
            linger: 60,
            times: true,
            outbox: 1024 * 1024,
            reconnect: true,
            retry_at_start: true,
            backoff: BackoffOptions::default(),
            connect_timeout: Duration::from_secs(10),
            init_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(5),
        }
    }

    /// As the state machine has them.
    pub(crate) fn to_core(&self, epoch: u64) -> client::Options {
        let times = if self.times { features::TIME } else { 0 };
        client::Options {
            session: self.session.as_str().into(),
            identity: self.identity.as_str().into(),
            name: self.name.as_str().into(),
            secret: self.secret.clone(),
            epoch,
            continues: None,
            confirms: false,
            when_full: self.when_full,
            keepalive: self.keepalive,
            linger: self.linger,
            flags: times | features::ACK_DURABLE | features::ACK_CENTRAL | features::STREAMS,
            outbox: self.outbox,
        }
    }
}

/// How to open a topic for publishing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// The schema of its readings, encoded ([`fastport_wire::Schema`]).
    pub schema: Option<Vec<u8>>,
    /// The tier that will be waited for; a relay that does not offer it refuses at once. `None`:
    /// [`Tier::Taken`].
    pub tier: Option<Tier>,
}

/// Which past is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Past {
    /// At most that many messages of each topic, the newest.
    pub count: Option<u64>,
    /// Not older than that.
    pub age: Option<Duration>,
}

impl Past {
    pub(crate) fn to_core(self) -> client::Past {
        let age_ms = self.age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
        client::Past { count: self.count, age_ms }
    }
}

/// What happens when what a subscription has received is not taken from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenSlow {
    /// The link is not read until there is room: the relay's policy for slow readers applies, and
    /// nothing else comes in either, answers to requests included.
    #[default]
    Wait,
    /// The oldest messages are dropped, and a gap says how many.
    DropOldest,
}

/// How to subscribe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Messages of before; without it, each topic's last value.
    pub past: Past,
    /// Whether to begin without the topics' last values.
    pub no_last: bool,
    /// Whether to leave out what this client publishes itself.
    pub no_local: bool,
    /// Bytes that may wait in the subscription, some 100 for each message beside its payload;
    /// exceeded by at most what one read brings. Default 1 MiB.
    pub queue: usize,
    /// What happens at that many.
    pub when_slow: WhenSlow,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self {
            past: Past::default(),
            no_last: false,
            no_local: false,
            queue: 1024 * 1024,
            when_slow: WhenSlow::Wait,
        }
    }
}
