//! Passwords at rest: argon2id (RFC 9106) in PHC strings.
//!
//! 19 MiB, 2 passes, 1 lane: what OWASP's Password Storage Cheat Sheet gives as equal to 46 MiB and
//! one pass. A board with 512 MiB computes `access.password_checks` (2) of them at once in 38 MiB;
//! RFC 9106's second choice (64 MiB, 3 passes) would take 128 MiB and, on a Cortex-A53, over a second
//! each. One lane: the others would need threads.
//!
//! What a check takes it gives back to the system: a C library that keeps freed memory of each
//! thread for later would make a burst of logins cost many times that, for good.
//!
//! All functions here that compute take tens to hundreds of milliseconds: call them where blocking
//! is allowed, so many at once as the configuration says.

use std::fmt;

use argon2::password_hash::phc::PasswordHash as Phc;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use subtle::ConstantTimeEq;

use crate::config::schema::{Problem, Raw, Value, quoted};

/// A password's hash with its salt and parameters. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Box<str>);

impl PasswordHash {
    /// Hashes a new password with a random salt.
    ///
    /// # Errors
    /// [`PasswordError`] for an empty or very long password, or a machine without randomness.
    pub fn new(password: &[u8]) -> Result<Self, PasswordError> {
        if password.is_empty() {
            return Err(PasswordError::Empty);
        }
        if password.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordError::TooLong);
        }
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(PasswordError::NoRandomness)?;
        // memory is the only thing that can be missing
        let hash = compute(own_params(), password, &salt).ok_or(PasswordError::NoMemory)?;
        let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
        let costs = format!("m={MEMORY_KIB},t={PASSES},p={LANES}");
        Ok(Self(format!("$argon2id$v={VERSION}${costs}${salt}${hash}").into()))
    }

    /// Takes a PHC string of argon2id, version 19, whose parameters the daemon is willing to
    /// compute.
    ///
    /// # Errors
    /// [`PasswordError`] for what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PasswordError> {
        let phc = Phc::new(text).map_err(|_| PasswordError::NotPhc)?;
        if phc.algorithm.as_str() != Algorithm::Argon2id.as_str() || phc.version != Some(VERSION) {
            return Err(PasswordError::OtherAlgorithm);
        }
        if phc.salt.is_none() || phc.hash.is_none() {
            return Err(PasswordError::NotPhc);
        }
        let params = Params::try_from(&phc).map_err(|_| PasswordError::NotPhc)?;
        let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
        if memory > MAX_MEMORY_KIB || passes > MAX_PASSES || lanes > MAX_LANES {
            return Err(PasswordError::TooCostly { memory, passes, lanes });
        }
        Ok(Self(text.into()))
    }

    /// Whether `password` is the one that was hashed. Takes as long as its parameters say, whatever
    /// the answer; a password longer than any that was hashed is refused at once.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        if password.len() > MAX_PASSWORD_BYTES {
            return false;
        }
        let Ok(phc) = Phc::new(&self.0) else { return false };
        let (Ok(params), Some(salt), Some(hash)) = (Params::try_from(&phc), phc.salt, phc.hash)
        else {
            return false;
        };
        let computed = compute(params, password, &salt);
        computed.is_some_and(|computed| computed.ct_eq(hash.as_bytes()).into())
    }

    /// The PHC string, for a credentials file.
    #[must_use]
    pub fn as_phc(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(..)")
    }
}

impl Value for PasswordHash {
    const EXPECTED: &'static str = r#"a password's hash as "$argon2id$v=19$…""#;

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        let text = raw.text().ok_or_else(|| raw.wrong_type(Self::EXPECTED))?;
        // the message does not repeat the text: people put passwords where hashes belong
        Self::parse(text).map_err(|error| Problem::bad(error.to_string()))
    }

    fn toml(&self) -> String {
        quoted(&self.0)
    }
}

/// Does what [`PasswordHash::verify`] does for a hash of [`PasswordHash::new`], for an identity that
/// there is not: the time of the answer does not tell whether there is one. Always false.
#[must_use]
pub fn verify_unknown(password: &[u8]) -> bool {
    if password.len() > MAX_PASSWORD_BYTES {
        return false;
    }
    let hash = compute(own_params(), password, &[0; SALT_BYTES]);
    // what was computed must be used, or the computation may be left out
    std::hint::black_box(hash.is_some());
    false
}

/// Why a password or its hash was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PasswordError {
    /// No password at all.
    Empty,
    /// Longer than 512 bytes.
    TooLong,
    /// Not a PHC string with salt and hash.
    NotPhc,
    /// Another algorithm than argon2id version 19.
    OtherAlgorithm,
    /// Parameters with which one check would take memory or time that others need.
    TooCostly {
        /// KiB.
        memory: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes of the memory.
        lanes: u32,
    },
    /// The system has no randomness to give.
    NoRandomness(getrandom::Error),
    /// The system has no memory to give.
    NoMemory,
}

impl fmt::Display for PasswordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the password is empty"),
            Self::TooLong => write!(f, "the password is longer than {MAX_PASSWORD_BYTES} bytes"),
            Self::NotPhc => f.write_str(
                "not a password hash as $argon2id$v=19$…; make one with `fastport passwd`",
            ),
            Self::OtherAlgorithm => f.write_str(
                "hashed with another algorithm than argon2id version 19; \
                 make a new hash with `fastport passwd`",
            ),
            Self::TooCostly { memory, passes, lanes } => write!(
                f,
                "m={memory},t={passes},p={lanes} is too costly to check; at most \
                 m={MAX_MEMORY_KIB},t={MAX_PASSES},p={MAX_LANES}"
            ),
            Self::NoRandomness(error) => write!(f, "the system gives no randomness: {error}"),
            Self::NoMemory => write!(f, "no memory for the {MEMORY_KIB} KiB of one hash"),
        }
    }
}

impl std::error::Error for PasswordError {}

/// Of hashes that are made here.
fn own_params() -> Params {
    Params::new(MEMORY_KIB, PASSES, LANES, Some(Params::DEFAULT_OUTPUT_LEN))
        .expect("the constants at the foot are within argon2's limits")
}

/// The hash of a password; `None`: there is no memory for it.
fn compute(params: Params, password: &[u8], salt: &[u8]) -> Option<Vec<u8>> {
    let blocks = params.block_count();
    let mut hash = vec![0; params.output_len().unwrap_or(Params::DEFAULT_OUTPUT_LEN)];
    let mut memory = Vec::new();
    memory.try_reserve_exact(blocks.max(MAPPED_BLOCKS)).ok()?;
    memory.resize(blocks, Block::new());
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(password, salt, &mut hash, memory)
        .ok()?;
    Some(hash)
}

const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// The recommendation of the PHC string format.
const SALT_BYTES: usize = 16;
/// `v=19` in a PHC string: argon2 version 1.3.
const VERSION: u32 = 19;
/// Longer than people type and password stores make; hashing it costs nothing beside the rest.
const MAX_PASSWORD_BYTES: usize = 512;
/// 64 MiB, RFC 9106's second choice: twice of it still fits a board of 512 MiB.
const MAX_MEMORY_KIB: u32 = 64 * 1024;
const MAX_PASSES: u32 = 10;
const MAX_LANES: u32 = 4;
/// 33 MiB of address space, of which what is not used costs nothing. Above 32 MiB glibc maps memory
/// and unmaps it again, whatever was asked for before (`DEFAULT_MMAP_THRESHOLD_MAX` in malloc.c);
/// below, it would soon keep 19 MiB for each thread that ever checked a password.
const MAPPED_BLOCKS: usize = 33 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// "password" with the salt "somesalt", m=256, t=2, p=1: from the test vectors of the argon2
    /// reference implementation (`src/test.c`).
    const REFERENCE: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ\
                             $nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    #[test]
    fn the_reference_implementations_hash_is_known() {
        let hash = PasswordHash::parse(REFERENCE).expect("a PHC string");
        assert!(hash.verify(b"password"));
        assert!(!hash.verify(b"Password"));
        assert!(!hash.verify(b""));
        assert!(!hash.verify(&[b'p'; 513]));
    }

    #[test]
    fn a_new_hash_knows_its_password_and_has_its_own_salt() {
        let hash = PasswordHash::new(b"correct horse").expect("memory and randomness");
        assert!(hash.as_phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_eq!(PasswordHash::parse(hash.as_phc()), Ok(hash.clone()));
        assert!(hash.verify(b"correct horse") && !hash.verify(b"correct horsf"));
        assert_ne!(PasswordHash::new(b"correct horse"), Ok(hash));
    }

    #[test]
    fn each_fault_has_its_name() {
        let with = |params: &str| REFERENCE.replace("m=256,t=2,p=1", params);
        let too_costly = |memory, passes, lanes| PasswordError::TooCostly { memory, passes, lanes };
        for (text, error) in [
            ("correct horse".to_owned(), PasswordError::NotPhc),
            (String::new(), PasswordError::NotPhc),
            ("$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ".to_owned(), PasswordError::NotPhc),
            (REFERENCE.replace("argon2id", "argon2i"), PasswordError::OtherAlgorithm),
            (REFERENCE.replace("v=19", "v=16"), PasswordError::OtherAlgorithm),
            (REFERENCE.replace("v=19$", ""), PasswordError::OtherAlgorithm),
            (with("m=65537,t=1,p=1"), too_costly(65_537, 1, 1)),
            (with("m=256,t=11,p=1"), too_costly(256, 11, 1)),
            (with("m=4294967295,t=4294967295,p=1"), too_costly(u32::MAX, u32::MAX, 1)),
            (with("m=256,t=1,p=5"), too_costly(256, 1, 5)),
            (with("m=1,t=1,p=1"), PasswordError::NotPhc),
        ] {
            assert_eq!(PasswordHash::parse(&text), Err(error), "{text}");
        }
        assert!(PasswordHash::parse(&with("m=65536,t=10,p=4")).is_ok());
        assert_eq!(PasswordHash::new(b""), Err(PasswordError::Empty));
        assert_eq!(PasswordHash::new(&[b'a'; 513]), Err(PasswordError::TooLong));
    }

    #[test]
    fn neither_hash_nor_what_stands_in_its_place_is_printed() {
        let hash = PasswordHash::parse(REFERENCE).expect("a PHC string");
        assert_eq!(format!("{hash:?}"), "PasswordHash(..)");
        let problem = PasswordHash::read(Raw::Variable("hunter2")).expect_err("not a hash");
        assert!(!problem.kind.to_string().contains("hunter2"));
    }

    #[test]
    fn nobody_is_let_in_as_somebody_unknown() {
        assert!(!verify_unknown(b"password"));
        assert!(!verify_unknown(&[b'p'; 513]));
    }

    proptest! {
        #[test]
        fn any_text_gives_a_hash_or_an_error(text in "\\PC{0,80}|(\\$(argon2id|v=19|m=[0-9]{1,11},t=[0-9]{1,11},p=[0-9]{1,3}|[A-Za-z0-9+/]{0,90})){0,6}") {
            if let Ok(hash) = PasswordHash::parse(&text) {
                prop_assert_eq!(hash.as_phc(), text);
            }
        }
    }
}
