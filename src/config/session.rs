//! `[access]` and `[[session]]`: who may come, and into what.

use std::path::PathBuf;
use std::time::Duration;

use fastport_wire::control::WhenFull;

use super::error::FaultKind;
use super::read::Findings;
use super::schema::{Fields, Reload, Visit, within};
use super::value::{Bytes, SessionName, TopicFilter, words};

/// `[access]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The file with the identities that may join, and the sessions that the tool made.
    pub credentials: Option<PathBuf>,
    /// Whether peers may make sessions. No: a board has the sessions its integrator gave it.
    pub create_sessions: bool,
    /// Whether a password may come over a link that is neither encrypted nor loopback. No: who
    /// listens on the network would have it.
    pub plain_passwords: bool,
    /// Passwords checked at once. 2: each takes 19 MiB while it runs.
    pub password_checks: u16,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            credentials: None,
            create_sessions: false,
            plain_passwords: false,
            password_checks: 2,
        }
    }
}

impl Fields for Access {
    fn fields(&mut self, visit: &mut dyn Visit) {
        let checks = 1..=64;
        visit.key("credentials", Reload::Live, &mut self.credentials);
        visit.key("create_sessions", Reload::Live, &mut self.create_sessions);
        visit.key("plain_passwords", Reload::Live, &mut self.plain_passwords);
        visit.key(
            "password_checks",
            Reload::Restart,
            &mut within(&mut self.password_checks, checks),
        );
    }
}

/// One `[[session]]`: a named space of topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its name.
    pub name: SessionName,
    /// Whether peers may join without credentials. No: who may come is said, not assumed.
    pub open: bool,
    /// From where they may.
    pub open_from: OpenFrom,
    /// The filters of what peers without credentials may publish on.
    pub publish: Vec<TopicFilter>,
    /// The filters of what peers without credentials may read.
    pub subscribe: Vec<TopicFilter>,
    /// The longest payload.
    pub payload: Bytes,
    /// Whether payloads must be sealed end to end. No: it is for the clients to agree on a key.
    pub sealed: bool,
    /// What an acknowledgement promises.
    pub promise: Promise,
    /// What happens when the outbox of a peer that did not say is full.
    pub when_full: WhenFull,
    /// `[session.retention]`.
    pub retention: Retention,
}

impl Session {
    /// The session there is without a configuration: open to programs on the board.
    #[must_use]
    pub fn built_in(payload: Bytes) -> Self {
        let name = SessionName::parse("demo").expect("four letters are a session name");
        let table = SessionTable { name: Some(name.clone()), open: true, ..Default::default() };
        table.with_name(name, payload)
    }
}

words! {
    /// From where peers may join an open session.
    OpenFrom {
        /// From the board itself: loopback addresses and Unix sockets.
        Loopback = "loopback",
        /// From anywhere.
        Any = "any",
    }
    /// What an acknowledgement promises.
    Promise {
        /// The message is in the relay's memory.
        Memory = "memory",
        /// It outlives the process, see `[journal]`.
        Journal = "journal",
    }
}

/// `[session.retention]`: what is kept for those who come later. Whichever limit is reached first
/// counts; a topic's last value stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Messages of each topic. 16: a small chart's worth.
    pub messages: u32,
    /// How long.
    pub age: Duration,
    /// Bytes of each topic.
    pub bytes_per_topic: Bytes,
}

impl Default for Retention {
    fn default() -> Self {
        Self { messages: 16, age: Duration::from_secs(60), bytes_per_topic: Bytes::kib(64) }
    }
}

impl Fields for Retention {
    fn fields(&mut self, visit: &mut dyn Visit) {
        let age = Duration::ZERO..=Duration::from_secs(30 * 86_400);
        let bytes = Bytes(0)..=Bytes::mib(1024);
        visit.key("messages", Reload::Live, &mut within(&mut self.messages, 0..=1_000_000));
        visit.key("age", Reload::Live, &mut within(&mut self.age, age));
        visit.key("bytes_per_topic", Reload::Live, &mut within(&mut self.bytes_per_topic, bytes));
    }
}

/// `[[session]]` as it is written.
#[derive(Debug, Clone)]
pub(crate) struct SessionTable {
    name: Option<SessionName>,
    open: bool,
    open_from: OpenFrom,
    publish: Vec<TopicFilter>,
    subscribe: Vec<TopicFilter>,
    payload: Option<Bytes>,
    sealed: bool,
    promise: Promise,
    when_full: WhenFull,
    retention: Retention,
}

impl Default for SessionTable {
    fn default() -> Self {
        let filter = |text| TopicFilter::parse(text).expect("the filters here are well formed");
        Self {
            name: None,
            open: false,
            open_from: OpenFrom::Loopback,
            publish: vec![filter("#")],
            // # does not select what begins with $
            subscribe: vec![filter("#"), filter("$board/#")],
            payload: None,
            sealed: false,
            promise: Promise::Memory,
            when_full: WhenFull::DropOldest,
            retention: Retention::default(),
        }
    }
}

impl Fields for SessionTable {
    fn fields(&mut self, visit: &mut dyn Visit) {
        use Reload::Live;
        visit.key("name", Live, &mut self.name);
        visit.key("open", Live, &mut self.open);
        visit.key("open_from", Live, &mut self.open_from);
        visit.key("publish", Live, &mut self.publish);
        visit.key("subscribe", Live, &mut self.subscribe);
        visit.key("payload", Live, &mut self.payload);
        visit.key("sealed", Live, &mut self.sealed);
        visit.key("promise", Live, &mut self.promise);
        visit.key("when_full", Live, &mut self.when_full);
        visit.table("retention", &mut self.retention);
    }

    fn label(&self) -> Option<String> {
        self.name.as_ref().map(SessionName::to_string)
    }
}

impl SessionTable {
    /// The session at `at` (as `session[0]`); none, and the reason reported, when something is
    /// missing or too large.
    pub(crate) fn build(
        self,
        at: &str,
        most_payload: Bytes,
        findings: &mut Findings<'_>,
    ) -> Option<Session> {
        check_open_filters(at, &self.publish, &self.subscribe, findings);
        if self.payload.is_some_and(|payload| payload > most_payload || payload.0 == 0) {
            let text = format!("must be 1B to limits.payload, which is {most_payload}");
            findings.report(&format!("{at}.payload"), FaultKind::Conflict(text));
            return None;
        }
        let Some(name) = self.name.clone() else {
            let text = r#"every session has a name, as name = "home""#;
            findings.report(&format!("{at}.name"), FaultKind::Missing(text.into()));
            return None;
        };
        Some(self.with_name(name, most_payload))
    }

    fn with_name(self, name: SessionName, most_payload: Bytes) -> Session {
        Session {
            name,
            open: self.open,
            open_from: self.open_from,
            publish: self.publish,
            subscribe: self.subscribe,
            payload: self.payload.unwrap_or(most_payload),
            sealed: self.sealed,
            promise: self.promise,
            when_full: self.when_full,
            retention: self.retention,
        }
    }
}

impl From<&Session> for SessionTable {
    fn from(session: &Session) -> Self {
        Self {
            name: Some(session.name.clone()),
            open: session.open,
            open_from: session.open_from,
            publish: session.publish.clone(),
            subscribe: session.subscribe.clone(),
            payload: Some(session.payload),
            sealed: session.sealed,
            promise: session.promise,
            when_full: session.when_full,
            retention: session.retention,
        }
    }
}

/// Reports filters that cannot do what they say for peers without credentials.
pub(crate) fn check_open_filters(
    at: &str,
    publish: &[TopicFilter],
    subscribe: &[TopicFilter],
    findings: &mut Findings<'_>,
) {
    for (key, filters) in [("publish", publish), ("subscribe", subscribe)] {
        let at = format!("{at}.{key}");
        for filter in filters {
            let filter = filter.as_str();
            if key == "publish" && filter.starts_with('$') {
                let text = format!("{filter:?}: topics with $ are the daemon's; leave it out");
                findings.report(&at, FaultKind::BadValue(text));
            }
            if filter.contains("%d") {
                let text = format!(
                    "{filter:?}: peers without credentials have no id to put for %d; \
                     give them identities in the credentials file"
                );
                findings.report(&at, FaultKind::BadValue(text));
            }
        }
    }
}
