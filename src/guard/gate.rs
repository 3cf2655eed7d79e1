//! Who may come in, and with what rights: the one place that links ask.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use fastport_core::handshake::{Credential as Asked, Hello, Refusal};
use fastport_core::proof::KEY_BYTES;
use fastport_core::rights::Rights;
use fastport_core::time::Instant;
use fastport_wire::control::{ErrorCode, Method};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::credentials::{Credential, Credentials, Identity, IdentityName, rights};
use super::meter::{Meter, Meters, Rates};
use super::origin::Origin;
use super::pace::Pacer;
use super::password::{self, PasswordHash};
use super::source::{Refused, SourceLimiter};
use crate::config::{Config, OpenFrom, Session, SessionName};

/// What the configuration and the credentials file say.
#[derive(Debug)]
struct Rules {
    /// The sessions of both files.
    sessions: BTreeSet<Box<str>>,
    /// Those that need no credentials: from where, and what their peers may do.
    open: BTreeMap<Box<str>, OpenSession>,
    credentials: Credentials,
    plain_passwords: bool,
    create_sessions: bool,
    /// `None`: no limit.
    peers_per_address: Option<NonZeroU32>,
    peer_rates: Option<Rates>,
    identity_rates: Option<Rates>,
    address_rates: Option<Rates>,
}

#[derive(Debug, Clone)]
struct OpenSession {
    from: OpenFrom,
    rights: Arc<Rights>,
}

/// The credentials of a session that a peer makes; they hold as long as the daemon runs.
#[derive(Debug, Clone)]
pub enum Made {
    /// None are needed.
    Open,
    /// One identity, by a password; it may do everything.
    Password {
        /// The identity's name.
        identity: IdentityName,
        /// Its password's hash.
        hash: PasswordHash,
    },
}

/// See the module's text.
#[derive(Debug)]
pub struct Gate {
    rules: RwLock<Arc<Rules>>,
    /// As many as the hub has sessions, at most.
    made: RwLock<BTreeMap<Box<str>, Made>>,
    sources: Mutex<SourceLimiter>,
    /// Password checks at once: each takes 19 MiB.
    checks: Arc<Semaphore>,
    /// Stands in for the key of an identity that there is not.
    nobodys_key: [u8; KEY_BYTES],
    links: Arc<Mutex<LinksOf>>,
    /// Meters that links share; the links own them.
    meters: Mutex<BTreeMap<MeterKey, Weak<Meter>>>,
    pacer: Mutex<Pacer>,
    names: RandomState,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum MeterKey {
    Identity(Box<str>, Box<str>),
    Address(IpAddr),
}

/// Links of each address: those with a place, and those that are to be told that there is none. An
/// address without links has no entry.
type LinksOf = BTreeMap<IpAddr, (u32, u32)>;

/// A link's place among those of its address.
#[derive(Debug)]
pub struct Visit {
    address: Option<IpAddr>,
    has_place: bool,
    links: Arc<Mutex<LinksOf>>,
}

impl Visit {
    /// Whether there is one; else its peer is to be told so.
    #[must_use]
    pub const fn has_place(&self) -> bool {
        self.has_place
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((placed, told)) = links.get_mut(&address) {
            *(if self.has_place { &mut *placed } else { &mut *told }) -= 1;
            if (*placed, *told) == (0, 0) {
                links.remove(&address);
            }
        }
    }
}

impl Rules {
    fn new(config: &Config, credentials: Credentials) -> Self {
        let recorded = credentials.sessions.iter().map(|record| record.to_session(&config.limits));
        let sessions: Vec<Session> = config.sessions.iter().cloned().chain(recorded).collect();
        let open = sessions.iter().filter(|session| session.open).map(|session| {
            let rights = Arc::new(rights(&session.publish, &session.subscribe));
            (session.name.as_str().into(), OpenSession { from: session.open_from, rights })
        });
        Self {
            open: open.collect(),
            sessions: sessions.iter().map(|session| session.name.as_str().into()).collect(),
            plain_passwords: config.access.plain_passwords,
            create_sessions: config.access.create_sessions,
            peers_per_address: NonZeroU32::new(config.limits.peers_per_address),
            peer_rates: Rates::new(&config.limits.rate.peer),
            identity_rates: Rates::new(&config.limits.rate.identity),
            address_rates: Rates::new(&config.limits.rate.address),
            credentials,
        }
    }
}

impl Gate {
    /// A gate by the rules of `config` and `credentials`.
    ///
    /// # Errors
    /// When the machine has no randomness.
    pub fn new(config: &Config, credentials: Credentials) -> Result<Arc<Self>, getrandom::Error> {
        let mut nobodys_key = [0; KEY_BYTES];
        getrandom::fill(&mut nobodys_key)?;
        Ok(Arc::new(Self {
            rules: RwLock::new(Arc::new(Rules::new(config, credentials))),
            made: RwLock::default(),
            sources: Mutex::new(SourceLimiter::new(&config.limits.source)),
            checks: Arc::new(Semaphore::new(config.access.password_checks.into())),
            nobodys_key,
            links: Arc::default(),
            meters: Mutex::default(),
            pacer: Mutex::new(Pacer::new(match config.central.enabled {
                true => config.central.connects_per_second,
                false => 0,
            })),
            names: RandomState::new(),
        }))
    }

    /// Applies other rules; they hold for links that come from now on. Returns the identities that
    /// are no more, each after its session's name.
    #[must_use]
    pub fn set_rules(
        &self,
        config: &Config,
        credentials: Credentials,
    ) -> Vec<(SessionName, IdentityName)> {
        let old = self.rules();
        let rules = Arc::new(Rules::new(config, credentials));
        // whatever becomes of those in the files, they are no longer the peer's
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        made.retain(|session, _| !rules.sessions.contains(session));
        drop(made);
        let of_old = old.credentials.identities();
        let is_gone = |(session, identity): &(&SessionName, &Identity)| {
            rules.credentials.identity(session.as_str(), identity.id.as_str()).is_none()
        };
        let gone = of_old.filter(is_gone).map(|(session, gone)| (session.clone(), gone.id.clone()));
        let gone = gone.collect();
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
        self.sources().set_limits(&config.limits.source);
        gone
    }

    /// Whether there is, still, an identity of that name: it may be gone since its proof began.
    #[must_use]
    pub fn has_identity(&self, session: &str, identity: &str) -> bool {
        let rules = self.rules();
        rules.credentials.identity(session, identity).is_some()
            || self.made(&rules, session).is_some()
    }

    /// Whether a gateway may come in now, of those that a fleet has.
    ///
    /// # Errors
    /// [`Refusal`] with the time at which it is its turn.
    pub fn pace(
        &self,
        session: &str,
        identity: &str,
        name: &str,
        now: Instant,
    ) -> Result<(), Refusal> {
        let who = self.names.hash_one((session, identity, name));
        let mut pacer = self.pacer.lock().unwrap_or_else(PoisonError::into_inner);
        pacer
            .admit(now, who)
            .map_err(|retry_ms| Refusal { code: ErrorCode::Unavailable, retry_ms: Some(retry_ms) })
    }

    /// After what time gateway number `number` should come back whose link is closed now with many
    /// others.
    #[must_use]
    pub fn farewell(&self, least_ms: u32, number: usize) -> u32 {
        self.pacer.lock().unwrap_or_else(PoisonError::into_inner).farewell(least_ms, number)
    }

    /// What an identity may do, whose proof was looked at in an earlier life of the daemon; empty:
    /// who needs none in an open session. `None`: it is no more.
    #[must_use]
    pub fn rights_of(&self, session: &str, identity: &str) -> Option<Arc<Rights>> {
        let rules = self.rules();
        if identity == NOBODY {
            return rules.open.get(session).map(|open| Arc::clone(&open.rights));
        }
        rules.credentials.identity(session, identity).map(rights_of)
    }

    /// Whether a link may begin its handshake: `None` when its address opens them too fast, or has too
    /// many and a few more that are being told so.
    #[must_use]
    pub fn admit(&self, origin: &Origin, now: Instant) -> Option<Visit> {
        let links = Arc::clone(&self.links);
        let Some(address) = origin.address.map(|address| address.ip().to_canonical()) else {
            return Some(Visit { address: None, has_place: true, links });
        };
        self.sources().admit_connection(now.as_millis(), address.into()).ok()?;
        let limit = self.rules().peers_per_address;
        let mut table = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        // an entry that is new has at least this link
        let (placed, told) = table.entry(address).or_default();
        let has_place = origin.is_local() || limit.is_none_or(|limit| *placed < limit.get());
        if !has_place && *told >= TOLD {
            return None;
        }
        *(if has_place { placed } else { told }) += 1;
        drop(table);
        Some(Visit { address: Some(address), has_place, links })
    }

    /// What a peer has to show for its HELLO. Whether there is such an identity does not show.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn identify(&self, hello: &Hello, origin: &Origin) -> Result<Asked, Refusal> {
        let rules = self.rules();
        match hello.method {
            Method::Open => self.identify_open(&rules, hello, origin),
            Method::Password if origin.is_private() || rules.plain_passwords => Ok(Asked::Password),
            Method::DeviceKey => {
                let identity = rules.credentials.identity(&hello.session, &hello.identity);
                Ok(match identity.map(|identity| (&identity.credential, identity)) {
                    Some((Credential::Key(key), identity)) => {
                        Asked::Key { key: *key.as_bytes(), rights: Some(rights_of(identity)) }
                    }
                    _ => Asked::Key { key: self.nobodys_key, rights: None },
                })
            }
            Method::Certificate => identify_certificate(&rules, hello, origin),
            _ => Err(Refusal::because(ErrorCode::MethodNotAllowed)),
        }
    }

    fn identify_open(
        &self,
        rules: &Rules,
        hello: &Hello,
        origin: &Origin,
    ) -> Result<Asked, Refusal> {
        if let Some(open) = rules.open.get(&hello.session) {
            if open.from == OpenFrom::Loopback && !origin.is_local() {
                return Err(Refusal::because(ErrorCode::MethodNotAllowed));
            }
            return Ok(Asked::Granted {
                identity: NOBODY.into(),
                rights: Arc::clone(&open.rights),
            });
        }
        match self.made(rules, &hello.session) {
            Some(Made::Open) => {
                let rights = Arc::new(Rights::everything());
                Ok(Asked::Granted { identity: NOBODY.into(), rights })
            }
            _ => Err(Refusal::because(ErrorCode::NotAuthenticated)),
        }
    }

    /// The rights that a password gives, when it is right. The check runs beside the runtime's
    /// threads, and only so many at once.
    ///
    /// # Errors
    /// [`Refusal`] when it cannot be checked now.
    pub async fn check_password(
        &self,
        hello: &Hello,
        origin: &Origin,
        now: Instant,
        password: Zeroizing<Vec<u8>>,
    ) -> Result<Option<Arc<Rights>>, Refusal> {
        let unavailable = Refusal::because(ErrorCode::Unavailable);
        let place = Arc::clone(&self.checks).acquire_owned().await.map_err(|_| unavailable)?;
        self.begin_proof(origin, now)?;
        let (hash, rights) = match self.password_of(hello) {
            Some((hash, rights)) => (Some(hash), Some(rights)),
            None => (None, None),
        };
        let check = move || {
            // held by what runs, not by who waits: a peer may give up before
            let _place = place;
            match hash {
                Some(hash) => hash.verify(&password),
                None => password::verify_unknown(&password),
            }
        };
        let is_right = tokio::task::spawn_blocking(check).await.map_err(|_| unavailable)?;
        if is_right {
            self.note_right_proof(origin, now);
        }
        Ok(rights.filter(|_| is_right))
    }

    fn password_of(&self, hello: &Hello) -> Option<(PasswordHash, Arc<Rights>)> {
        let rules = self.rules();
        let identity = rules.credentials.identity(&hello.session, &hello.identity);
        if let Some((Credential::Password(hash), identity)) =
            identity.map(|identity| (&identity.credential, identity))
        {
            return Some((hash.clone(), rights_of(identity)));
        }
        match self.made(&rules, &hello.session) {
            Some(Made::Password { identity, hash }) if identity.as_str() == &*hello.identity => {
                Some((hash, Arc::new(Rights::everything())))
            }
            _ => None,
        }
    }

    /// The credentials of a session that a peer made. What a file says of a session counts before
    /// what a peer said.
    fn made(&self, rules: &Rules, session: &str) -> Option<Made> {
        let made = self.made.read().unwrap_or_else(PoisonError::into_inner);
        made.get(session).filter(|_| !rules.sessions.contains(session)).cloned()
    }

    /// Whether a proof may be looked at now; to be followed by whether it was right.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn begin_proof(&self, origin: &Origin, now: Instant) -> Result<(), Refusal> {
        let begun = self.sources().begin_proof(now.as_millis(), origin.source());
        begun.map_err(|Refused { retry_after_ms }| Refusal {
            code: ErrorCode::RateLimited,
            retry_ms: Some(u32::try_from(retry_after_ms).unwrap_or(u32::MAX)),
        })
    }

    /// Notes that the proof that was begun was right. Nothing else: each note gives allowance back.
    pub fn note_right_proof(&self, origin: &Origin, now: Instant) {
        self.sources().proof_succeeded(now.as_millis(), origin.source());
    }

    /// Notes that a peer's proof was wrong.
    pub fn note_wrong_proof(&self, origin: &Origin, now: Instant) {
        self.sources().proof_failed(now.as_millis(), origin.source());
    }

    /// Whether peers may make a session of that name, if there is none.
    ///
    /// # Errors
    /// [`ErrorCode`].
    pub fn may_create_session(&self, session: &str) -> Result<(), ErrorCode> {
        if !self.rules().create_sessions {
            return Err(ErrorCode::Forbidden);
        }
        SessionName::parse(session).map(|_| ()).ok_or(ErrorCode::BadControl)
    }

    /// Makes the credentials of a session that a peer asked for.
    ///
    /// # Errors
    /// [`ErrorCode`].
    pub async fn make_credentials(
        &self,
        identity: Option<&str>,
        password: Option<&[u8]>,
    ) -> Result<Made, ErrorCode> {
        let Some(password) = password else { return Ok(Made::Open) };
        let identity = IdentityName::parse(identity.unwrap_or(FIRST_IDENTITY));
        let identity = identity.ok_or(ErrorCode::BadControl)?;
        let unavailable = ErrorCode::Unavailable;
        let place = Arc::clone(&self.checks).acquire_owned().await.map_err(|_| unavailable)?;
        let password = Zeroizing::new(password.to_vec());
        let hash = move || {
            let _place = place;
            PasswordHash::new(&password)
        };
        let hash = tokio::task::spawn_blocking(hash).await.map_err(|_| unavailable)?;
        let hash = hash.map_err(|_| ErrorCode::BadControl)?;
        Ok(Made::Password { identity, hash })
    }

    /// Lets peers with those credentials into a session that was made for them, and was not there
    /// before.
    pub fn open_made_session(&self, session: &str, made: Made) {
        self.made.write().unwrap_or_else(PoisonError::into_inner).insert(session.into(), made);
    }

    /// The meters of a link; `None`: no limit holds for it.
    #[must_use]
    pub fn meters(
        &self,
        session: &str,
        identity: &str,
        origin: &Origin,
        now: Instant,
    ) -> Option<Meters> {
        let rules = self.rules();
        let own = rules.peer_rates.map(|rates| Arc::new(Meter::new(rates, now)));
        let identity = rules.identity_rates.filter(|_| !identity.is_empty()).map(|rates| {
            self.shared(MeterKey::Identity(session.into(), identity.into()), rates, now)
        });
        let address = rules.address_rates.zip(origin.address).map(|(rates, address)| {
            self.shared(MeterKey::Address(address.ip().to_canonical()), rates, now)
        });
        let meters: Vec<_> = [own, identity, address].into_iter().flatten().collect();
        (!meters.is_empty()).then_some(Meters { meters })
    }

    fn shared(&self, key: MeterKey, rates: Rates, now: Instant) -> Arc<Meter> {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let known = meters.get(&key).and_then(Weak::upgrade);
        // after a reload links that come share the new rate, those that are there keep the old one
        if let Some(meter) = known.filter(|meter| meter.has_rates(&rates)) {
            return meter;
        }
        // no more entries than links: those that lost theirs go when another comes
        meters.retain(|_, meter| meter.strong_count() > 0);
        let meter = Arc::new(Meter::new(rates, now));
        meters.insert(key, Arc::downgrade(&meter));
        meter
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn sources(&self) -> MutexGuard<'_, SourceLimiter> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn identify_certificate(rules: &Rules, hello: &Hello, origin: &Origin) -> Result<Asked, Refusal> {
    let Some(certificate) = &origin.certificate else {
        return Err(Refusal::because(ErrorCode::MethodNotAllowed));
    };
    let identity = rules.credentials.identity_of_certificate(
        &hello.session,
        &certificate.fingerprint,
        certificate.common_name.as_deref(),
    );
    // a peer need not say whose its certificate is, but if it does it has to be so
    let is_meant = |identity: &&Identity| {
        hello.identity.is_empty() || identity.id.as_str() == &*hello.identity
    };
    match identity.filter(is_meant) {
        Some(identity) => Ok(Asked::Granted {
            identity: identity.id.as_str().into(),
            rights: rights_of(identity),
        }),
        None => Err(Refusal::because(ErrorCode::NotAuthenticated)),
    }
}

fn rights_of(identity: &Identity) -> Arc<Rights> {
    Arc::clone(&identity.rights)
}

/// The identity of a session that a peer made with a password and without a name for it.
const FIRST_IDENTITY: &str = "user";
/// The identity of a peer that proved none.
const NOBODY: &str = "";
/// Links of one address at once that are told that it has too many, each with a place among the
/// handshakes; those beyond are closed unheard.
const TOLD: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_that_find_no_place_are_told_so_and_take_none() {
        let mut config = Config::default();
        config.limits.peers_per_address = 2;
        let gate = Gate::new(&config, Credentials::default()).expect("randomness");
        let admit = |address: [u8; 4]| {
            gate.admit(&Origin::network((address, 1).into(), "tcp"), Instant::from_millis(0))
        };
        let place = |visit: &Option<Visit>| visit.as_ref().map(Visit::has_place);
        let mut visits: Vec<_> = (0..10).map(|_| admit([192, 0, 2, 1])).collect();
        let told = TOLD as usize;
        assert!(visits[..2].iter().all(|visit| place(visit) == Some(true)));
        assert!(visits[2..2 + told].iter().all(|visit| place(visit) == Some(false)));
        assert!(visits[2 + told..].iter().all(Option::is_none));
        assert_eq!(place(&admit([192, 0, 2, 2])), Some(true));
        assert_eq!(place(&admit([127, 0, 0, 1])), Some(true));
        // a place that is free is had at once, whoever is still being told
        visits.remove(0);
        let next = admit([192, 0, 2, 1]);
        assert_eq!(place(&next), Some(true));
        drop((visits, next));
        assert!(gate.links.lock().expect("no panic").is_empty());
    }
}
