//! AES-256 in CBC mode, then HMAC-SHA-256 of which 128 bits are kept: RFC 3602 and RFC 4868 as RFC
//! 4303 puts them together. Initialisation vectors are made as NIST SP 800-38A, appendix C, says:
//! a number that does not repeat, encrypted; under a key of its own.

use aes::cipher::{
    Array, Block, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit,
};
use aes::{Aes256Dec, Aes256Enc};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The bytes of a tag.
pub const TAG: usize = 16;
/// The bytes of a block of the cipher.
pub const BLOCK: usize = 16;

/// For the cipher, the MAC and the initialisation vectors.
pub(crate) struct SuiteKeys(pub(crate) Zeroizing<[u8; SUITE_KEYS]>);

/// What seals.
pub(crate) struct SealingSuite {
    cipher: Aes256Enc,
    both: Both,
}

/// What opens.
pub(crate) struct OpeningSuite {
    cipher: Aes256Dec,
    both: Both,
}

/// What both ends do alike.
struct Both {
    vectors: Aes256Enc,
    mac: Keyed,
}

/// HMAC-SHA-256 with its key taken in.
#[derive(Clone)]
pub(crate) struct Keyed(Hmac<Sha256>);

impl SealingSuite {
    pub(crate) fn new(keys: &SuiteKeys) -> Self {
        Self { cipher: Aes256Enc::new(&key(keys, CIPHER)), both: Both::new(keys) }
    }

    /// Encrypts `body`, whole blocks, in place, and gives the tag over `bound` and what became of it.
    pub(crate) fn seal(&self, number: u64, bound: &[&[u8]], body: &mut [u8]) -> [u8; TAG] {
        let (blocks, rest) = Array::slice_as_chunks_mut(body);
        debug_assert!(rest.is_empty(), "callers pad");
        cbc::Encryptor::inner_iv_init(&self.cipher, &self.both.vector(number))
            .encrypt_blocks(blocks);
        self.both.tag(bound, body)
    }
}

impl OpeningSuite {
    pub(crate) fn new(keys: &SuiteKeys) -> Self {
        Self { cipher: Aes256Dec::new(&key(keys, CIPHER)), both: Both::new(keys) }
    }

    /// Whether the tag is that over `bound` and `body`, in constant time.
    #[must_use]
    pub(crate) fn is_authentic(&self, bound: &[&[u8]], body: &[u8], tag: &[u8]) -> bool {
        self.both.tag(bound, body).ct_eq(tag).into()
    }

    /// Decrypts `body`, whole blocks, in place. Only what is authentic comes here.
    pub(crate) fn decrypt(&self, number: u64, body: &mut [u8]) {
        let (blocks, rest) = Array::slice_as_chunks_mut(body);
        debug_assert!(rest.is_empty(), "callers have checked the length");
        cbc::Decryptor::inner_iv_init(&self.cipher, &self.both.vector(number))
            .decrypt_blocks(blocks);
    }
}

impl Both {
    fn new(keys: &SuiteKeys) -> Self {
        let mac = Keyed::new(&keys.0[MAC..VECTORS]);
        Self { vectors: Aes256Enc::new(&key(keys, VECTORS)), mac }
    }

    fn vector(&self, number: u64) -> Block<Aes256Enc> {
        let mut block = Block::<Aes256Enc>::default();
        block[BLOCK - 8..].copy_from_slice(&number.to_be_bytes());
        self.vectors.encrypt_block(&mut block);
        block
    }

    fn tag(&self, bound: &[&[u8]], body: &[u8]) -> [u8; TAG] {
        let whole = self.mac.over(bound.iter().copied().chain([body]));
        let mut tag = [0; TAG];
        tag.copy_from_slice(&whole[..TAG]);
        tag
    }
}

impl Keyed {
    pub(crate) fn new(key: &[u8]) -> Self {
        let mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key);
        Self(mac.expect("HMAC takes a key of any length"))
    }

    /// The MAC of `parts`, one after another.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> [u8; KEY] {
        self.over(parts.iter().copied())
    }

    fn over<'p>(&self, parts: impl Iterator<Item = &'p [u8]>) -> [u8; KEY] {
        let mut mac = self.0.clone();
        parts.for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }
}

/// The 32 bytes at `at`.
fn key(keys: &SuiteKeys, at: usize) -> Zeroizing<aes::cipher::Key<Aes256Enc>> {
    let mut key = Zeroizing::new(aes::cipher::Key::<Aes256Enc>::default());
    key.copy_from_slice(&keys.0[at..at + KEY]);
    key
}

/// The bytes of each key.
const KEY: usize = 32;
/// Where each key lies.
const CIPHER: usize = 0;
const MAC: usize = KEY;
const VECTORS: usize = 2 * KEY;
/// The bytes of all.
pub(crate) const SUITE_KEYS: usize = 3 * KEY;
