//! `[uplink]` and `[[uplink.rule]]`: what goes from this gateway to a central instance, and back.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fastport_wire::Topic;

use super::carry;
use super::daemon::Ciphers;
use super::error::FaultKind;
use super::read::Findings;
use super::schema::{Fields, Reload, Visit, within};
use super::value::{Bytes, SessionName, TopicFilter, words};

/// `[uplink]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uplink {
    /// Where central instances are, as URLs, the favourite first. Empty: there is no uplink.
    pub central: Vec<String>,
    /// The session of this daemon that the rules speak of; none: the first one.
    pub session: Option<SessionName>,
    /// The session at the central instance; none: of the same name.
    pub central_session: Option<SessionName>,
    /// Who this gateway is at the central instance; none: nobody.
    pub identity: Option<String>,
    /// The file with its device key.
    pub key: Option<PathBuf>,
    /// The file with its password.
    pub password: Option<PathBuf>,
    /// The file with its certificate chain, in PEM.
    pub certificate: Option<PathBuf>,
    /// The file with the certificate's key, in PEM.
    pub certificate_key: Option<PathBuf>,
    /// The file with the authorities that may vouch for the central instance, in PEM; none: those the system trusts.
    pub ca: Option<PathBuf>,
    /// Goes before every topic at the central instance, with a `/` between them; `%d` is the identity.
    pub prefix: Option<String>,
    /// The HTTP proxy that `wss` and `ws` go through, as `http://host:port`.
    pub proxy: Option<String>,
    /// The most bytes a second that are written to the link; 0: no limit.
    pub bytes_per_second: Bytes,
    /// What goes up and comes down is compressed where that pays, and the central instance can.
    pub compress: bool,
    /// How long a message waits for others that go up with it; alarms do not.
    pub delay: Duration,
    /// The longest time for one attempt: name, connection, TLS, handshake.
    pub connect_timeout: Duration,
    /// A link that says nothing for so long, though asked, is dead. 8 s: with what it takes to notice
    /// and to act, under ten; a modem's pauses are shorter.
    pub dead_after: Duration,
    /// While another central instance than the favourite serves: how often that one is looked for.
    pub look_back: Duration,
    /// Where messages have to be before they are forgotten here.
    pub wait_for: WaitFor,
    /// The most to wait before the first attempt to reconnect.
    pub retry_first: Duration,
    /// The most to wait before any attempt to reconnect.
    pub retry_most: Duration,
    /// As `daemon.ciphers`.
    pub ciphers: Ciphers,
    /// `[uplink.spool]`.
    pub spool: Spool,
    /// `[[uplink.rule]]`, the first that selects a topic counts.
    pub rules: Vec<Rule>,
}

impl Default for Uplink {
    fn default() -> Self {
        Self {
            central: Vec::new(),
            session: None,
            central_session: None,
            identity: None,
            key: None,
            password: None,
            certificate: None,
            certificate_key: None,
            ca: None,
            prefix: None,
            proxy: None,
            bytes_per_second: Bytes(0),
            compress: true,
            delay: Duration::ZERO,
            connect_timeout: Duration::from_secs(10),
            dead_after: Duration::from_secs(8),
            look_back: Duration::from_secs(300),
            wait_for: WaitFor::Central,
            retry_first: Duration::from_millis(500),
            retry_most: Duration::from_secs(60),
            ciphers: Ciphers::Auto,
            spool: Spool::default(),
            rules: vec![Rule::default()],
        }
    }
}

impl Fields for Uplink {
    fn fields(&mut self, visit: &mut dyn Visit) {
        use Reload::Restart;
        let seconds = Duration::from_secs;
        visit.key("central", Restart, &mut self.central);
        visit.key("session", Restart, &mut self.session);
        visit.key("central_session", Restart, &mut self.central_session);
        visit.key("identity", Restart, &mut self.identity);
        visit.key("key", Restart, &mut self.key);
        visit.key("password", Restart, &mut self.password);
        visit.key("certificate", Restart, &mut self.certificate);
        visit.key("certificate_key", Restart, &mut self.certificate_key);
        visit.key("ca", Restart, &mut self.ca);
        visit.key("prefix", Restart, &mut self.prefix);
        visit.key("proxy", Restart, &mut self.proxy);
        visit.key("bytes_per_second", Restart, &mut self.bytes_per_second);
        visit.key("compress", Restart, &mut self.compress);
        visit.key("delay", Restart, &mut within(&mut self.delay, Duration::ZERO..=seconds(10)));
        let timeout = seconds(1)..=seconds(300);
        visit.key(
            "connect_timeout",
            Restart,
            &mut within(&mut self.connect_timeout, timeout.clone()),
        );
        visit.key(
            "dead_after",
            Restart,
            &mut within(&mut self.dead_after, seconds(4)..=seconds(300)),
        );
        visit.key(
            "look_back",
            Restart,
            &mut within(&mut self.look_back, seconds(1)..=seconds(86_400)),
        );
        visit.key("wait_for", Restart, &mut self.wait_for);
        let retry = Duration::from_millis(10)..=seconds(3600);
        visit.key("retry_first", Restart, &mut within(&mut self.retry_first, retry.clone()));
        visit.key("retry_most", Restart, &mut within(&mut self.retry_most, retry));
        visit.table("spool", &mut self.spool);
        visit.tables("rule", Restart, &mut self.rules);
    }
}

impl Uplink {
    /// Whether there is a central instance to connect to.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.central.is_empty()
    }

    /// Resolves paths against `base`, and reports what contradicts itself.
    pub(crate) fn build(mut self, base: &Path, findings: &mut Findings<'_>) -> Self {
        let paths = [
            &mut self.key,
            &mut self.password,
            &mut self.certificate,
            &mut self.certificate_key,
            &mut self.ca,
        ];
        for path in paths.into_iter().flatten() {
            *path = base.join(&*path);
        }
        if self.certificate.is_some() != self.certificate_key.is_some() {
            let text = "a certificate and its key go together; set both or none".to_owned();
            findings.report("uplink.certificate", FaultKind::Conflict(text));
        }
        let secrets = [self.key.is_some(), self.password.is_some()];
        if secrets == [true, true] {
            let text = "a device key or a password, not both; leave one out".to_owned();
            findings.report("uplink.password", FaultKind::Conflict(text));
        }
        if secrets.contains(&true) && self.identity.is_none() {
            let text = "a key or password is somebody's; set uplink.identity".to_owned();
            findings.report("uplink.identity", FaultKind::Missing(text));
        }
        if let Some(prefix) = &self.prefix {
            let example = prefix.replace("%d", self.identity.as_deref().unwrap_or("d"));
            if let Err(error) = Topic::parse(&example) {
                let text = format!("{prefix:?}: {error}; use a topic as \"gateways/%d\"");
                findings.report("uplink.prefix", FaultKind::BadValue(text));
            }
            if prefix.contains("%d") && self.identity.is_none() {
                let text = "%d is the identity, and there is none; set uplink.identity".to_owned();
                findings.report("uplink.prefix", FaultKind::Conflict(text));
            }
        }
        for (place, url) in self.central.iter().enumerate() {
            let is_url = ["tcp://", "tls://", "ws://", "wss://"].into_iter().any(|scheme| {
                url.strip_prefix(scheme)
                    .is_some_and(|rest| !rest.starts_with(['/', ':']) && !rest.is_empty())
            });
            if !is_url {
                let text = format!("{url:?}: write tcp://, tls://, ws:// or wss://, and a host");
                findings.report(&format!("uplink.central[{place}]"), FaultKind::BadValue(text));
            }
        }
        if self.proxy.as_ref().is_some_and(|proxy| !proxy.starts_with("http://")) {
            let text = "a proxy is written as \"http://10.0.0.1:3128\"".to_owned();
            findings.report("uplink.proxy", FaultKind::BadValue(text));
        }
        carry::check(&self, findings);
        if self.retry_first > self.retry_most {
            let text = "less than uplink.retry_first; raise it".to_owned();
            findings.report("uplink.retry_most", FaultKind::Conflict(text));
        }
        self
    }
}

/// `[uplink.spool]`: where messages wait for the central instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    /// What may wait in memory, of each lane, before the disk is used. 1 MiB: minutes of readings.
    pub memory: Bytes,
    /// What may wait on disk, of all lanes; 0: the disk is not used.
    pub disk: Bytes,
    /// The longest that a message waits, where its rule says nothing.
    pub max_age: Duration,
    /// The most bytes written to flash in a day; 0: no limit. At the limit the disk is not used.
    pub flash_per_day: Bytes,
    /// Once something waits on disk, the longest that a message waits in memory only: what a power cut
    /// can cost then.
    pub commit: Duration,
}

impl Default for Spool {
    fn default() -> Self {
        Self {
            memory: Bytes::mib(1),
            disk: Bytes::mib(64),
            max_age: Duration::from_secs(7 * 86_400),
            flash_per_day: Bytes(0),
            commit: Duration::from_secs(10),
        }
    }
}

impl Fields for Spool {
    fn fields(&mut self, visit: &mut dyn Visit) {
        use Reload::Restart;
        let commit = Duration::from_millis(100)..=Duration::from_secs(600);
        visit.key(
            "memory",
            Restart,
            &mut within(&mut self.memory, Bytes::kib(64)..=Bytes::mib(1024)),
        );
        visit.key("disk", Restart, &mut self.disk);
        visit.key("max_age", Restart, &mut self.max_age);
        visit.key("flash_per_day", Restart, &mut self.flash_per_day);
        visit.key("commit", Restart, &mut within(&mut self.commit, commit));
    }
}

/// One `[[uplink.rule]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which way messages go.
    pub direction: Direction,
    /// The topics, by their names here.
    pub filter: TopicFilter,
    /// What waits less than what.
    pub lane: Lane,
    /// What happens when the spool is full.
    pub when_full: WhenSpoolFull,
    /// The longest that a message waits; none: as `uplink.spool.max_age`.
    pub max_age: Option<Duration>,
}

impl Default for Rule {
    /// Everything goes up.
    fn default() -> Self {
        Self {
            direction: Direction::Up,
            filter: TopicFilter::parse("#").expect("# is a filter"),
            lane: Lane::Normal,
            when_full: WhenSpoolFull::DropOldest,
            max_age: None,
        }
    }
}

impl Fields for Rule {
    fn fields(&mut self, visit: &mut dyn Visit) {
        use Reload::Restart;
        visit.key("direction", Restart, &mut self.direction);
        visit.key("filter", Restart, &mut self.filter);
        visit.key("lane", Restart, &mut self.lane);
        visit.key("when_full", Restart, &mut self.when_full);
        visit.key("max_age", Restart, &mut self.max_age);
    }
}

words! {
    /// Where messages have to be before they are forgotten here.
    WaitFor {
        /// In the store of the central instance.
        Central = "central",
        /// In the memory of a relay that stores nothing.
        Taken = "taken",
    }
    /// Which way a rule carries messages.
    Direction {
        /// From here to the central instance.
        Up = "up",
        /// From the central instance to here.
        Down = "down",
    }
    /// What is sent before what, and goes on a link of its own.
    Lane {
        /// At once, whatever else waits.
        Alarm = "alarm",
        /// What most is.
        Normal = "normal",
        /// When nothing else waits.
        Bulk = "bulk",
    }
    /// What happens to a rule's messages when the spool is full.
    WhenSpoolFull {
        /// The oldest make room, and a GAP says how many.
        DropOldest = "drop-oldest",
        /// Only the newest of each topic is kept, and a GAP says how many were not.
        Latest = "latest",
        /// Publishers wait.
        SlowPublisher = "slow-publisher",
    }
}
