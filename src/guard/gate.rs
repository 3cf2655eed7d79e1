//! Who may come in, and with what rights: the one place that links ask.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use fastport_core::handshake::{Credential, Hello, Refusal};
use fastport_core::rights::Rights;
use fastport_core::time::Instant;
use fastport_wire::control::{ErrorCode, Method};
use zeroize::Zeroizing;

use super::meter::{Meter, Meters, Rates};
use super::origin::Origin;
use crate::config::{Config, OpenFrom};

/// What the configuration says.
#[derive(Debug)]
struct Rules {
    /// Sessions that need no credentials: from where, and what their peers may do.
    open: BTreeMap<Box<str>, OpenSession>,
    peers_per_address: u32,
    peer_rates: Option<Rates>,
    identity_rates: Option<Rates>,
    address_rates: Option<Rates>,
}

#[derive(Debug, Clone)]
struct OpenSession {
    from: OpenFrom,
    rights: Arc<Rights>,
}

/// See the module's text.
#[derive(Debug)]
pub struct Gate {
    rules: RwLock<Arc<Rules>>,
    /// Links of each address; an address without links has no entry.
    links: Arc<Mutex<BTreeMap<IpAddr, u32>>>,
    /// Meters that links share; the links own them.
    meters: Mutex<BTreeMap<MeterKey, Weak<Meter>>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum MeterKey {
    Identity(Box<str>, Box<str>),
    Address(IpAddr),
}

/// A link's place among those of its address.
#[derive(Debug)]
pub struct Visit {
    address: Option<IpAddr>,
    links: Arc<Mutex<BTreeMap<IpAddr, u32>>>,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = links.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                links.remove(&address);
            }
        }
    }
}

impl Rules {
    fn new(config: &Config) -> Self {
        let open = config.sessions.iter().filter(|session| session.open).map(|session| {
            let filters = |list: &[crate::config::TopicFilter]| -> Vec<Box<str>> {
                list.iter().map(|filter| filter.as_str().into()).collect()
            };
            let (publish, subscribe) = (filters(&session.publish), filters(&session.subscribe));
            let rights = Rights::new(
                publish.iter().map(|text| &**text),
                subscribe.iter().map(|text| &**text),
            );
            // the configuration holds well-formed filters only; nobody gets in by mistake
            let rights = Arc::new(rights.unwrap_or_default());
            (session.name.as_str().into(), OpenSession { from: session.open_from, rights })
        });
        Self {
            open: open.collect(),
            peers_per_address: config.limits.peers_per_address,
            peer_rates: Rates::new(&config.limits.rate.peer),
            identity_rates: Rates::new(&config.limits.rate.identity),
            address_rates: Rates::new(&config.limits.rate.address),
        }
    }
}

impl Gate {
    /// A gate by the rules of `config`.
    #[must_use]
    pub fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self {
            rules: RwLock::new(Arc::new(Rules::new(config))),
            links: Arc::default(),
            meters: Mutex::default(),
        })
    }

    /// Applies other rules; they hold for links that come from now on.
    pub fn set_rules(&self, config: &Config) {
        let rules = Arc::new(Rules::new(config));
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// Whether a link may begin its handshake: `None` when there are too many from its address.
    #[must_use]
    pub fn admit(&self, origin: &Origin, _now: Instant) -> Option<Visit> {
        let links = Arc::clone(&self.links);
        let Some(address) = origin.address.map(|address| address.ip().to_canonical()) else {
            return Some(Visit { address: None, links });
        };
        let limit = self.rules().peers_per_address;
        let mut table = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let count = table.entry(address).or_insert(0);
        if *count >= limit && !origin.is_local() {
            return None;
        }
        *count += 1;
        drop(table);
        Some(Visit { address: Some(address), links })
    }

    /// What a peer has to show for its HELLO.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn identify(&self, hello: &Hello, origin: &Origin) -> Result<Credential, Refusal> {
        let rules = self.rules();
        let refused = Err(Refusal::because(ErrorCode::NotAuthenticated));
        match (hello.method, rules.open.get(&hello.session)) {
            (Method::Open, Some(open)) => {
                if open.from == OpenFrom::Loopback && !origin.is_local() {
                    return Err(Refusal::because(ErrorCode::MethodNotAllowed));
                }
                Ok(Credential::Granted(Arc::clone(&open.rights)))
            }
            _ => refused,
        }
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
        if let Some(meter) = meters.get(&key).and_then(Weak::upgrade) {
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

    /// The rights that a password gives, when it is right.
    ///
    /// # Errors
    /// [`Refusal`] when it cannot be checked now.
    pub async fn check_password(
        &self,
        _hello: &Hello,
        _password: Zeroizing<Vec<u8>>,
    ) -> Result<Option<Arc<Rights>>, Refusal> {
        Ok(None)
    }

    /// Notes that a proof was wrong.
    pub fn note_wrong_proof(&self, _origin: &Origin, _now: Instant) {}

    /// Makes the credentials of a session that a peer asked for.
    ///
    /// # Errors
    /// [`ErrorCode`].
    pub async fn create_session(
        &self,
        _session: &str,
        _identity: Option<&str>,
        _password: Option<&[u8]>,
    ) -> Result<(), ErrorCode> {
        Err(ErrorCode::Forbidden)
    }
}
