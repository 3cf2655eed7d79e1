//! The credentials file: identities, how each proves who it is, and what it may do; and the
//! sessions that the tool made. The format is in `docs/credentials.md`.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use fastport_core::rights::Rights;
use fastport_wire::control::Method;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::access::FilterTemplate;
use super::keys::{DeviceKey, decode_hex, encode_hex};
use super::password::PasswordHash;
use super::secret_file::read_secret;
use crate::config::read::{self, Findings};
use crate::config::schema::{Fields, Problem, Raw, Reload, Value, Visit, quoted};
use crate::config::session::check_open_filters;
use crate::config::{
    Config, ConfigError, Fault, FaultKind, Limits, OpenFrom, Place, Session, SessionName,
    TopicFilter,
};

/// Everything in a credentials file.
#[derive(Debug, Default)]
pub struct Credentials {
    /// The sessions that the tool made.
    pub sessions: Vec<SessionRecord>,
    identities: BTreeMap<SessionName, BTreeMap<IdentityName, Identity>>,
    /// Where a session is declared here, or else first used.
    places: BTreeMap<SessionName, Place>,
}

impl Credentials {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError`]: also when others than its owner and group may read it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(&read_secret(path, MAX_FILE_BYTES)?, path)
    }

    /// As [`Credentials::load`], from text already read from `path`.
    ///
    /// # Errors
    /// [`ConfigError::Faults`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut tables = Tables::default();
        let mut findings = read::read(text, path, BTreeMap::new(), &mut tables);
        let credentials = tables.build(&mut findings);
        if findings.is_clean() {
            return Ok(credentials);
        }
        Err(ConfigError::Faults(findings.into_faults()))
    }

    /// The identity of that name in that session.
    #[must_use]
    pub fn identity(&self, session: &str, id: &str) -> Option<&Identity> {
        self.identities.get(session)?.get(id)
    }

    /// The identity in that session whose credential is the certificate of that fingerprint, or
    /// else one of that common name. Certificates are for the TLS library to check first.
    #[must_use]
    pub fn identity_of_certificate(
        &self,
        session: &str,
        fingerprint: &Fingerprint,
        common_name: Option<&str>,
    ) -> Option<&Identity> {
        let identities = || self.identities.get(session).into_iter().flat_map(BTreeMap::values);
        let by_fingerprint = |identity: &&Identity| matches!(&identity.credential, Credential::Certificate(own) if own == fingerprint);
        let by_name = |identity: &&Identity| {
            matches!(&identity.credential, Credential::CertificateName(own)
                if Some(own.as_str()) == common_name)
        };
        identities().find(by_fingerprint).or_else(|| identities().find(by_name))
    }

    /// All identities, by session and name.
    pub fn identities(&self) -> impl Iterator<Item = (&SessionName, &Identity)> {
        self.identities
            .iter()
            .flat_map(|(session, of)| of.values().map(move |identity| (session, identity)))
    }

    /// Checks that every identity has a session, here or in `config`, and that none is in both.
    /// Where peers may create sessions, an identity can be there before its session.
    ///
    /// # Errors
    /// [`ConfigError::Faults`], with places in the credentials file.
    pub fn check_against(&self, config: &Config) -> Result<(), ConfigError> {
        let mut faults = Vec::new();
        for (name, place) in &self.places {
            let configured = config.sessions.iter().any(|session| session.name == *name);
            let declared = self.sessions.iter().any(|session| session.name == *name);
            let text = match (configured, declared) {
                (true, true) => format!("session {name} is in the configuration too; remove one"),
                (false, false) if !config.access.create_sessions => {
                    format!("there is no session {name}; add a [[session]], or correct the name")
                }
                _ => continue,
            };
            let kind = FaultKind::Conflict(text);
            faults.push(Fault { place: place.clone(), key: String::new(), kind });
        }
        faults.sort_by(|a, b| a.place.cmp(&b.place));
        if faults.is_empty() { Ok(()) } else { Err(ConfigError::Faults(faults)) }
    }
}

/// Who may come, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its name.
    pub id: IdentityName,
    /// How it proves who it is.
    pub credential: Credential,
    /// What it may do.
    pub rights: Arc<Rights>,
}

/// How an identity proves who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// By a password.
    Password(PasswordHash),
    /// By a key that both sides have.
    Key(DeviceKey),
    /// By the certificate of its TLS connection.
    Certificate(Fingerprint),
    /// By any certificate, from the listener's authorities, whose subject has that common name.
    CertificateName(String),
}

impl Credential {
    /// The method that a peer has to choose.
    #[must_use]
    pub const fn method(&self) -> Method {
        match self {
            Self::Password(_) => Method::Password,
            Self::Key(_) => Method::DeviceKey,
            Self::Certificate(_) | Self::CertificateName(_) => Method::Certificate,
        }
    }
}

/// An identity's name: 1 to 64 bytes without control characters, and no `$` in front: those are the
/// daemon's own parts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityName(Box<str>);

impl IdentityName {
    /// The most bytes a name may have.
    pub const MAX_BYTES: usize = 64;

    /// The only way to make one; none for a text that is no name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=Self::MAX_BYTES).contains(&text.len());
        let is_name = fits && !text.starts_with('$') && !text.chars().any(char::is_control);
        is_name.then(|| Self(text.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for IdentityName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IdentityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Value for IdentityName {
    const EXPECTED: &'static str =
        "an identity's name: 1 to 64 bytes without control characters, and no $ in front";

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        let text = raw.text().ok_or_else(|| raw.wrong_type(Self::EXPECTED))?;
        let wrong = || Problem::bad(format!("{text:?} is not {}", Self::EXPECTED));
        Self::parse(text).ok_or_else(wrong)
    }

    fn toml(&self) -> String {
        quoted(&self.0)
    }
}

/// The SHA-256 of a certificate in DER.
#[derive(Debug, Clone, Copy, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Of the certificate with those bytes.
    #[must_use]
    pub fn of_der(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// 64 hexadecimal digits, with or without the colons that OpenSSL prints.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut fingerprint = Self([0; 32]);
        decode_hex(&text.replace(':', ""), &mut fingerprint.0).then_some(fingerprint)
    }
}

impl PartialEq for Fingerprint {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode_hex(&self.0))
    }
}

impl Value for Fingerprint {
    const EXPECTED: &'static str = "a certificate's SHA-256 fingerprint: 64 hexadecimal digits";

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        let text = raw.text().ok_or_else(|| raw.wrong_type(Self::EXPECTED))?;
        Self::parse(text).ok_or_else(|| Problem::bad(format!("{text:?} is not {}", Self::EXPECTED)))
    }

    fn toml(&self) -> String {
        quoted(self)
    }
}

/// What peers with those filters may do.
pub(super) fn rights(publish: &[TopicFilter], subscribe: &[TopicFilter]) -> Rights {
    let texts = |filters: &[TopicFilter]| -> Vec<Box<str>> {
        filters.iter().map(|filter| filter.as_str().into()).collect()
    };
    let (publish, subscribe) = (texts(publish), texts(subscribe));
    // a `TopicFilter` is well formed; were it not, nobody would get in by mistake
    Rights::new(publish.iter().map(|text| &**text), subscribe.iter().map(|text| &**text))
        .unwrap_or_default()
}

/// A session that the tool made. What is not said is as in `[[session]]` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its name.
    pub name: SessionName,
    /// Whether peers may join without credentials.
    pub open: Option<bool>,
    /// From where they may.
    pub open_from: Option<OpenFrom>,
    /// What they may publish on.
    pub publish: Option<Vec<TopicFilter>>,
    /// What they may read.
    pub subscribe: Option<Vec<TopicFilter>>,
}

impl SessionRecord {
    /// A session that nobody joins without credentials.
    #[must_use]
    pub const fn closed(name: SessionName) -> Self {
        Self { name, open: None, open_from: None, publish: None, subscribe: None }
    }

    /// The session, with the defaults of the configuration.
    #[must_use]
    pub fn to_session(&self, limits: &Limits) -> Session {
        let session = Session::built_in(limits.payload);
        Session {
            name: self.name.clone(),
            open: self.open.unwrap_or(false),
            open_from: self.open_from.unwrap_or(session.open_from),
            publish: self.publish.clone().unwrap_or(session.publish),
            subscribe: self.subscribe.clone().unwrap_or(session.subscribe),
            ..session
        }
    }
}

/// An identity as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRecord {
    /// The session it may join.
    pub session: SessionName,
    /// Its name.
    pub id: IdentityName,
    /// How it proves who it is.
    pub credential: Credential,
    /// What it may publish on.
    pub publish: Vec<FilterTemplate>,
    /// What it may read.
    pub subscribe: Vec<FilterTemplate>,
    /// Whether it is a gateway, which passes on what others gave it.
    pub gateway: bool,
}

/// The file as it is written.
#[derive(Default)]
struct Tables {
    session: Vec<SessionTable>,
    identity: Vec<IdentityTable>,
}

impl Fields for Tables {
    fn fields(&mut self, visit: &mut dyn Visit) {
        visit.tables("session", Reload::Live, &mut self.session);
        visit.tables("identity", Reload::Live, &mut self.identity);
    }
}

/// `[[session]]` as it is written.
#[derive(Default)]
pub(crate) struct SessionTable {
    name: Option<SessionName>,
    open: Option<bool>,
    open_from: Option<OpenFrom>,
    publish: Option<Vec<TopicFilter>>,
    subscribe: Option<Vec<TopicFilter>>,
}

impl Fields for SessionTable {
    fn fields(&mut self, visit: &mut dyn Visit) {
        visit.key("name", Reload::Live, &mut self.name);
        visit.key("open", Reload::Live, &mut self.open);
        visit.key("open_from", Reload::Live, &mut self.open_from);
        visit.key("publish", Reload::Live, &mut self.publish);
        visit.key("subscribe", Reload::Live, &mut self.subscribe);
    }
}

impl From<&SessionRecord> for SessionTable {
    fn from(record: &SessionRecord) -> Self {
        Self {
            name: Some(record.name.clone()),
            open: record.open,
            open_from: record.open_from,
            publish: record.publish.clone(),
            subscribe: record.subscribe.clone(),
        }
    }
}

/// `[[identity]]` as it is written.
#[derive(Default)]
pub(crate) struct IdentityTable {
    session: Option<SessionName>,
    id: Option<IdentityName>,
    password: Option<PasswordHash>,
    key: Option<DeviceKey>,
    certificate: Option<Fingerprint>,
    certificate_name: Option<String>,
    publish: Option<Vec<FilterTemplate>>,
    subscribe: Option<Vec<FilterTemplate>>,
    gateway: Option<bool>,
}

impl Fields for IdentityTable {
    fn fields(&mut self, visit: &mut dyn Visit) {
        visit.key("session", Reload::Live, &mut self.session);
        visit.key("id", Reload::Live, &mut self.id);
        visit.key("password", Reload::Live, &mut self.password);
        visit.key("key", Reload::Live, &mut self.key);
        visit.key("certificate", Reload::Live, &mut self.certificate);
        visit.key("certificate_name", Reload::Live, &mut self.certificate_name);
        visit.key("publish", Reload::Live, &mut self.publish);
        visit.key("subscribe", Reload::Live, &mut self.subscribe);
        visit.key("gateway", Reload::Live, &mut self.gateway);
    }
}

impl From<&IdentityRecord> for IdentityTable {
    fn from(record: &IdentityRecord) -> Self {
        let mut table = Self {
            session: Some(record.session.clone()),
            id: Some(record.id.clone()),
            publish: Some(record.publish.clone()),
            subscribe: Some(record.subscribe.clone()),
            gateway: record.gateway.then_some(true),
            ..Self::default()
        };
        match record.credential.clone() {
            Credential::Password(hash) => table.password = Some(hash),
            Credential::Key(key) => table.key = Some(key),
            Credential::Certificate(fingerprint) => table.certificate = Some(fingerprint),
            Credential::CertificateName(name) => table.certificate_name = Some(name),
        }
        table
    }
}

impl Tables {
    fn build(self, findings: &mut Findings<'_>) -> Credentials {
        let mut credentials = Credentials::default();
        for (index, table) in self.session.into_iter().enumerate() {
            let at = format!("session[{index}]");
            if !findings.has_fault_in(&at) {
                table.build(&at, &mut credentials, findings);
            }
        }
        let mut certificates = BTreeMap::new();
        for (index, table) in self.identity.into_iter().enumerate() {
            let at = format!("identity[{index}]");
            if !findings.has_fault_in(&at) {
                table.build(&at, &mut credentials, &mut certificates, findings);
            }
        }
        credentials
    }
}

impl SessionTable {
    fn build(self, at: &str, credentials: &mut Credentials, findings: &mut Findings<'_>) {
        let filters = |filters: &Option<Vec<TopicFilter>>| filters.clone().unwrap_or_default();
        check_open_filters(at, &filters(&self.publish), &filters(&self.subscribe), findings);
        let Some(name) = self.name else {
            let text = r#"every session has a name, as name = "home""#;
            findings.report(&format!("{at}.name"), FaultKind::Missing(text.into()));
            return;
        };
        if credentials.sessions.iter().any(|other| other.name == name) {
            let text = format!("a second session {name}; names are unique");
            findings.report(&format!("{at}.name"), FaultKind::Conflict(text));
        }
        let (open, open_from, publish) = (self.open, self.open_from, self.publish);
        credentials.places.entry(name.clone()).or_insert_with(|| findings.place_of(at));
        let subscribe = self.subscribe;
        credentials.sessions.push(SessionRecord { name, open, open_from, publish, subscribe });
    }
}

impl IdentityTable {
    /// Adds the identity at `at` to `credentials`; `certificates` has those there are, by session
    /// and what they are known by.
    fn build(
        mut self,
        at: &str,
        credentials: &mut Credentials,
        certificates: &mut BTreeMap<(SessionName, String), IdentityName>,
        findings: &mut Findings<'_>,
    ) {
        let mut missing = |key: &str, text: &str| {
            findings.report(&format!("{at}.{key}"), FaultKind::Missing(text.to_owned()));
        };
        let Some(session) = self.session.take() else {
            return missing("session", r#"the session the identity may join, as session = "home""#);
        };
        let Some(id) = self.id.take() else {
            return missing("id", r#"the identity's name, as id = "pump-1""#);
        };
        let Some(credential) = self.credential(at, findings) else { return };
        let publish = fill(&format!("{at}.publish"), self.publish, &id, findings);
        let subscribe = fill(&format!("{at}.subscribe"), self.subscribe, &id, findings);
        let place = || findings.place_of(&format!("{at}.session"));
        credentials.places.entry(session.clone()).or_insert_with(place);
        let identities = credentials.identities.entry(session.clone()).or_default();
        if identities.contains_key(&id) {
            let text = format!("a second identity {id} of session {session}; remove one");
            findings.report(&format!("{at}.id"), FaultKind::Conflict(text));
            return;
        }
        // of two identities with one certificate nobody could say who comes
        let known_by = match &credential {
            Credential::Certificate(fingerprint) => Some(fingerprint.to_string()),
            Credential::CertificateName(name) => Some(format!("CN={name}")),
            Credential::Password(_) | Credential::Key(_) => None,
        };
        if let Some(known_by) = known_by
            && let Some(other) = certificates.insert((session, known_by), id.clone())
        {
            let text = format!("the same certificate as identity {other}; remove one");
            findings.report(at, FaultKind::Conflict(text));
            return;
        }
        let rights = rights(&publish, &subscribe);
        let is_gateway = self.gateway == Some(true);
        let rights = Arc::new(if is_gateway { rights.of_gateway() } else { rights });
        identities.insert(id.clone(), Identity { id, credential, rights });
    }

    /// The one credential that is given.
    fn credential(&mut self, at: &str, findings: &mut Findings<'_>) -> Option<Credential> {
        let mut given = [
            self.password.take().map(Credential::Password),
            self.key.take().map(Credential::Key),
            self.certificate.take().map(Credential::Certificate),
            self.certificate_name.take().map(Credential::CertificateName),
        ]
        .into_iter()
        .flatten();
        match (given.next(), given.next()) {
            (Some(credential), None) => return Some(credential),
            (None, _) => {
                let text = "one of password, key, certificate, certificate_name".to_owned();
                findings.report(at, FaultKind::Missing(text));
            }
            (Some(_), Some(_)) => {
                let text =
                    "more than one of password, key, certificate, certificate_name; keep one";
                findings.report(at, FaultKind::Conflict(text.to_owned()));
            }
        }
        None
    }
}

/// The filters with `id` in the place of `%d`.
fn fill(
    at: &str,
    templates: Option<Vec<FilterTemplate>>,
    id: &IdentityName,
    findings: &mut Findings<'_>,
) -> Vec<TopicFilter> {
    let mut filters = Vec::new();
    for template in templates.unwrap_or_default() {
        let text = template.as_str();
        if at.ends_with(".publish") && text.starts_with('$') {
            let problem = format!("{text:?}: topics with $ are the daemon's; leave it out");
            findings.report(at, FaultKind::BadValue(problem));
            continue;
        }
        match template.fill(id.as_str()) {
            Ok(filter) => filters.push(filter),
            Err(error) => {
                let problem = format!("{text:?} for {:?}: {error}", id.as_str());
                findings.report(at, FaultKind::BadValue(problem));
            }
        }
    }
    filters
}

/// Some 20 000 identities.
pub(crate) const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::iter;

    use fastport_wire::Topic;
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ\
                        $nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    fn parse(text: &str) -> Result<Credentials, ConfigError> {
        let text = text.replace("KEY", KEY).replace("HASH", HASH);
        Credentials::parse(&text, Path::new("c"))
    }

    fn topic(name: &str) -> Topic<'_> {
        Topic::parse(name).expect("tests use topics")
    }

    #[test]
    fn each_method_finds_its_identity() {
        let credentials = parse(
            "[[session]]
            name = 'home'
            open = true
            open_from = 'any'
            subscribe = ['public/#']
            [[identity]]
            session = 'home'
            id = 'anna'
            password = 'HASH'
            publish = ['#']
            subscribe = ['#', '$board/#']
            [[identity]]
            session = 'home'
            id = 'pump-1'
            key = 'KEY'
            publish = ['sensors/%d/#']
            [[identity]]
            session = 'home'
            id = 'tablet'
            certificate = '00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F'
            [[identity]]
            session = 'home'
            id = 'fleet'
            certificate_name = 'gateway-7'",
        )
        .expect("well formed");
        let find = |id| credentials.identity("home", id).expect(id);
        assert_eq!(find("anna").credential.method(), Method::Password);
        assert!(find("anna").rights.may_read(topic("$board/load")));
        let pump = find("pump-1");
        assert_eq!(pump.credential, Credential::Key(DeviceKey::from_hex(KEY).expect("a key")));
        assert!(pump.rights.may_publish(topic("sensors/pump-1/rpm")));
        assert!(!pump.rights.may_publish(topic("sensors/pump-2/rpm")));
        assert!(!pump.rights.may_read(topic("sensors/pump-1/rpm")));
        let fingerprint = Fingerprint::parse(KEY).expect("64 digits");
        let by = |print: &Fingerprint, name| {
            credentials.identity_of_certificate("home", print, name).map(|found| found.id.as_str())
        };
        let other = Fingerprint::of_der(b"");
        assert_eq!(by(&fingerprint, None), Some("tablet"));
        assert_eq!(by(&fingerprint, Some("gateway-7")), Some("tablet"));
        assert_eq!(by(&other, Some("gateway-7")), Some("fleet"));
        assert_eq!(by(&other, Some("gateway-8")), None);
        assert_eq!(by(&other, None), None);
        assert_eq!(credentials.identity("home", "nobody"), None);
        assert_eq!(credentials.identity("garden", "anna"), None);
        assert_eq!(credentials.identities().count(), 4);
        let session = credentials.sessions[0].to_session(&Limits::default());
        assert!(session.open && session.open_from == OpenFrom::Any);
        assert_eq!(session.publish.len(), 1);
        assert_eq!(session.subscribe[0].as_str(), "public/#");
    }

    #[test]
    fn a_session_that_does_not_say_is_closed() {
        let credentials = parse("[[session]]\nname = 'a'").expect("well formed");
        let session = credentials.sessions[0].to_session(&Limits::default());
        assert!(!session.open);
        assert_eq!(session.open_from, OpenFrom::Loopback);
    }

    #[test]
    fn the_fingerprint_is_the_sha_256_of_the_certificate() {
        // FIPS 180-2, the empty message
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Fingerprint::of_der(b"").to_string(), empty);
        assert_eq!(Fingerprint::parse(empty), Some(Fingerprint::of_der(b"")));
        assert_eq!(Fingerprint::parse(&empty[1..]), None);
    }

    #[test]
    fn each_fault_has_its_place_and_what_to_do() {
        let identity = "[[identity]]\nsession = 'a'\nid = 'b'\n";
        for (text, expected) in [
            ("[[identity]]\nid = 'b'", r#"c:1:1: identity[0].session: missing: the session the identity may join, as session = "home""#.to_owned()),
            ("[[identity]]\nsession = 'b'", r#"c:1:1: identity[0].id: missing: the identity's name, as id = "pump-1""#.to_owned()),
            ("[[session]]\nopen = true", r#"c:1:1: session[0].name: missing: every session has a name, as name = "home""#.to_owned()),
            (identity, "c:1:1: identity[0]: missing: one of password, key, certificate, certificate_name".to_owned()),
            (
                &format!("{identity}key = 'KEY'\npassword = 'HASH'"),
                "c:1:1: identity[0]: more than one of password, key, certificate, certificate_name; keep one".to_owned(),
            ),
            (&format!("{identity}kay = 'KEY'"), "c:4:1: identity[0].kay: unknown key; did you mean identity[0].key?".to_owned()),
            (&format!("{identity}key = 'KEY0'"), "c:4:7: identity[0].key: not a device key: a key is 64 hexadecimal digits; make one with `fastport key new`".to_owned()),
            (&format!("{identity}key = 1"), "c:4:7: identity[0].key: expected a key: 64 hexadecimal digits in quotes, found integer".to_owned()),
            (
                &format!("{identity}password = 'hunter2'"),
                "c:4:12: identity[0].password: not a password hash as $argon2id$v=19$…; make one with `fastport passwd`".to_owned(),
            ),
            (
                &format!("{identity}key = 'KEY'\npublish = ['a', 'b/%d/#/c']"),
                r##"c:5:17: identity[0].publish: "b/%d/#/c": # must be the last level of a filter"##.to_owned(),
            ),
            (
                &format!("{identity}key = 'KEY'\npublish = ['$board/x']"),
                r#"c:5:11: identity[0].publish: "$board/x": topics with $ are the daemon's; leave it out"#.to_owned(),
            ),
            (
                "[[identity]]\nsession = 'a'\nid = '+'\nkey = 'KEY'\nsubscribe = ['%d/x']",
                r#"c:5:13: identity[0].subscribe: "%d/x" for "+": an id with /, + or # cannot stand for %d; write the filter out"#.to_owned(),
            ),
            (
                "[[identity]]\nsession = 'a'\nid = '$board'\nkey = 'KEY'\nsubscribe = ['%d/#']",
                r#"c:3:6: identity[0].id: "$board" is not an identity's name: 1 to 64 bytes without control characters, and no $ in front"#.to_owned(),
            ),
            (
                &format!("{identity}key = 'KEY'\n{identity}key = 'KEY'"),
                "c:7:6: identity[1].id: a second identity b of session a; remove one".to_owned(),
            ),
            (
                &format!("{identity}certificate = 'KEY'\n[[identity]]\nsession = 'a'\nid = 'c'\ncertificate = 'KEY'"),
                "c:5:1: identity[1]: the same certificate as identity b; remove one".to_owned(),
            ),
            ("[[session]]\nname = 'a'\n[[session]]\nname = 'a'", "c:4:8: session[1].name: a second session a; names are unique".to_owned()),
            (
                "[[session]]\nname = 'a'\nopen = true\nsubscribe = ['%d']",
                r#"c:4:13: session[0].subscribe: "%d": peers without credentials have no id to put for %d; give them identities in the credentials file"#.to_owned(),
            ),
        ] {
            let error = parse(text).expect_err(text);
            assert_eq!(error.to_string(), expected, "{text}");
        }
    }

    #[test]
    fn one_key_may_be_that_of_two_sessions() {
        let text = "[[identity]]\nsession = 'a'\nid = 'x'\ncertificate = 'KEY'\n";
        let both = format!("{text}{}", text.replace("'a'", "'b'"));
        assert_eq!(parse(&both).expect("well formed").identities().count(), 2);
    }

    #[test]
    fn an_identity_needs_a_session_and_a_session_one_home() {
        let config = |text: &str| {
            Config::parse(text, Path::new("gateway.toml"), iter::empty()).expect("well formed")
        };
        let credentials = parse(
            "[[identity]]\nsession = 'hmoe'\nid = 'x'\nkey = 'KEY'\n[[session]]\nname = 'made'",
        )
        .expect("well formed");
        let check = |text| credentials.check_against(&config(text)).map_err(|e| e.to_string());
        assert_eq!(check("[[session]]\nname = 'hmoe'"), Ok(()));
        assert_eq!(check("access.create_sessions = true"), Ok(()));
        let unknown = "c:2:11: there is no session hmoe; add a [[session]], or correct the name";
        assert_eq!(check(""), Err(unknown.into()));
        let twice = "c:5:1: session made is in the configuration too; remove one";
        assert_eq!(check("session = [{name = 'hmoe'}, {name = 'made'}]"), Err(twice.into()));
    }

    #[test]
    fn no_secret_is_printed() {
        let text = "[[identity]]\nsession = 'a'\nid = 'x'\nkey = 'KEY'\n\
                    [[identity]]\nsession = 'a'\nid = 'y'\npassword = 'HASH'";
        let printed = format!("{:?}", parse(text).expect("well formed"));
        assert!(!printed.contains(&KEY[..8]) && !printed.contains("argon2id"), "{printed}");
    }

    const REFERENCE: &str = include_str!("../../docs/credentials.md");

    #[test]
    fn the_reference_has_every_key_and_its_example_loads() {
        let findings = read::read(
            "[[session]]\n[[identity]]",
            Path::new(""),
            BTreeMap::new(),
            &mut Tables::default(),
        );
        for key in findings.known() {
            assert!(REFERENCE.contains(&format!("| `{key}` |")), "{key}");
        }
        let (_, example) = REFERENCE.split_once("```toml\n").expect("an example");
        let (example, _) = example.split_once("```").expect("its end");
        assert_eq!(parse(example).expect("the example loads").identities().count(), 5);
    }

    #[test]
    fn as_many_identities_as_fit_are_read() {
        let text: String = (0..20_000)
            .map(|n| {
                format!(
                    "[[identity]]\nsession='home'\nid='device-{n}'\nkey='{KEY}'\npublish=['%d/#']\n"
                )
            })
            .collect();
        assert!(text.len() as u64 <= MAX_FILE_BYTES);
        let credentials = Credentials::parse(&text, Path::new("c")).expect("well formed");
        assert_eq!(credentials.identities().count(), 20_000);
        let wrong = text.replace("publish", "publihs");
        let error = Credentials::parse(&wrong, Path::new("c")).expect_err("20 000 unknown keys");
        assert_eq!(error.faults().len(), 20_000);
    }

    proptest! {
        #[test]
        fn any_text_gives_credentials_or_an_error(
            text in "\\PC{0,100}|(\\[\\[(identity|session)\\]\\]\n|(id|name|session|key|password|certificate|publish|subscribe|open) = ('[a-z%/#+$]{0,6}'|\\['%d/[+#a$]{0,3}'\\]|'KEY'|'HASH'|true|[0-9]{1,3})\n){0,12}",
        ) {
            match parse(&text) {
                Ok(credentials) => for (session, identity) in credentials.identities() {
                    let found = credentials.identity(session.as_str(), identity.id.as_str());
                    prop_assert_eq!(found, Some(identity));
                },
                Err(error) => prop_assert!(!error.faults().is_empty()),
            }
        }
    }
}
