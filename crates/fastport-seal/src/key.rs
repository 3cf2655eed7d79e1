//! Keys, and what is derived from them.

use core::fmt;

use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::content::Content;
use crate::suite::{Keyed, SUITE_KEYS, SuiteKeys};

/// The key that the members of a session share, and the relay never has. Never printed, erased when
/// dropped.
#[derive(Clone)]
pub struct SessionKey(Zeroizing<[u8; Self::BYTES]>);

impl SessionKey {
    /// The bytes of a key.
    pub const BYTES: usize = 32;

    /// The key of these bytes, which must be random.
    #[must_use]
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes, for a file that only members read.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// By what a sealed message names this key.
    #[must_use]
    pub fn id(&self) -> KeyId {
        let mut id = [0; 2];
        expand(&self.extract(), &[b"key id"], &mut id);
        KeyId(id)
    }

    /// What this key is in the session of that name.
    #[must_use]
    pub fn scope(&self, session: &str) -> Scope {
        let mut out = Zeroizing::new([0; SECRET + 2]);
        expand(&self.extract(), &[b"session", session.as_bytes()], out.as_mut_slice());
        let mut secret = Zeroizing::new([0; SECRET]);
        let mut id = [0; 2];
        secret.copy_from_slice(&out[..SECRET]);
        id.copy_from_slice(&out[SECRET..]);
        let mut place = Zeroizing::new([0; SECRET]);
        expand_secret(&secret, &[b"place"], place.as_mut_slice());
        Scope { key: self.id(), session: id, secret, place: Keyed::new(place.as_slice()) }
    }

    fn extract(&self) -> Hkdf<Sha256> {
        Hkdf::new(Some(SALT), self.0.as_slice())
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({:?})", self.id())
    }
}

/// By what a sealed message names its key: derived from the key, so that who has another one sees
/// that, but for one case in 65,536. It says nothing else of the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 2]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:02x}", self.0[0], self.0[1])
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// Who sealed a message: a number that a sender chooses at random when it has no counters yet. It is
/// one sender's own: two that share one would use the same keys with the same counters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SenderId(pub [u8; 8]);

impl fmt::Display for SenderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SenderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SenderId({self})")
    }
}

/// A session key in one session: all that is sealed there is sealed with what is derived from it.
/// Erased when dropped.
#[derive(Clone)]
pub struct Scope {
    pub(crate) key: KeyId,
    /// by what a sealed message names its session
    pub(crate) session: [u8; 2],
    secret: Zeroizing<[u8; SECRET]>,
    place: Keyed,
}

impl Scope {
    /// By what a sealed message names the key.
    #[must_use]
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// The keys of a sender's messages.
    pub(crate) fn sender(&self, sender: SenderId) -> SuiteKeys {
        self.suite(&[b"sender", &sender.0])
    }

    /// The keys of the stream that a sender offered with that counter.
    pub(crate) fn stream(&self, sender: SenderId, counter: u64) -> SuiteKeys {
        self.suite(&[b"stream", &sender.0, &counter.to_be_bytes()])
    }

    /// What binds a message to its place: a MAC of kind, topic and schema.
    pub(crate) fn place(&self, content: Content<'_>) -> [u8; PLACE] {
        // a topic has at most 255 bytes; a longer one has no place of its own, and harms nobody
        let length = u8::try_from(content.topic().len()).unwrap_or(u8::MAX);
        let kind = content.kind();
        self.place.mac(&[&[kind, length], content.topic().as_bytes(), content.schema()])
    }

    fn suite(&self, info: &[&[u8]]) -> SuiteKeys {
        let mut keys = SuiteKeys(Zeroizing::new([0; SUITE_KEYS]));
        expand_secret(&self.secret, info, keys.0.as_mut_slice());
        keys
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scope({:?})", self.key)
    }
}

fn expand_secret(secret: &[u8; SECRET], info: &[&[u8]], out: &mut [u8]) {
    let hkdf = Hkdf::from_prk(secret).expect("SECRET is as long as a hash");
    expand(&hkdf, info, out);
}

fn expand(hkdf: &Hkdf<Sha256>, info: &[&[u8]], out: &mut [u8]) {
    hkdf.expand_multi_info(info, out)
        .expect("HKDF gives up to 8160 bytes, and no caller wants 100");
}

/// HKDF's salt: keeps these keys apart from what else may be made of the same 32 bytes.
const SALT: &[u8] = b"fastport.2 seal";
/// The bytes of what a scope's keys are derived from: SHA-256's.
const SECRET: usize = 32;
/// The bytes of a place.
pub(crate) const PLACE: usize = 32;
