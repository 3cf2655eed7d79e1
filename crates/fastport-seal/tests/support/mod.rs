//! What the tests share.
#![allow(dead_code, reason = "each test uses part of it")]

use std::path::PathBuf;

use fastport_seal::{
    Content, Few, Freshness, MESSAGE_HEAD, OpenError, Scope, Sealer, SenderId, SessionKey, open,
    sealed_len,
};

pub(crate) const SENDER: SenderId = SenderId(*b"sender 1");

/// The key whose bytes count from `first`.
pub(crate) fn key(first: u8) -> SessionKey {
    SessionKey::new(std::array::from_fn(|at| first + u8::try_from(at).expect("32 bytes")))
}

/// A scope of the first key in `home`.
pub(crate) fn home() -> Scope {
    key(0).scope("home")
}

/// A sealer whose next counter is `counter`, with a span reserved.
pub(crate) fn sealer(scope: &Scope, sender: SenderId, counter: u64) -> Sealer {
    let mut sealer = Sealer::new(scope, sender, counter);
    sealer.reserved(counter + 4096);
    sealer
}

pub(crate) fn seal(sealer: &mut Sealer, content: Content<'_>, plain: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0xee; sealed_len(plain.len())];
    buffer[MESSAGE_HEAD..][..plain.len()].copy_from_slice(plain);
    let sealed = sealer.seal(content, &mut buffer, plain.len()).expect("counters are reserved");
    assert_eq!(sealed.len, buffer.len());
    buffer
}

/// Opens a copy; what a failure left in the buffer must be what came.
pub(crate) fn open_copy(
    scopes: &[Scope],
    senders: &mut Few<4, 2>,
    content: Content<'_>,
    sealed: &[u8],
) -> Result<Vec<u8>, OpenError> {
    let mut buffer = sealed.to_vec();
    let opened = open(scopes, senders, content, Freshness::New, &mut buffer);
    let opened = opened.map(|opened| opened.plain.to_vec());
    if opened.is_err() {
        assert_eq!(buffer, sealed, "nothing is decrypted that is not authentic");
    }
    opened
}

/// As [`open_copy`], by one who knows no sender yet.
pub(crate) fn open_first(
    scopes: &[Scope],
    content: Content<'_>,
    sealed: &[u8],
) -> Result<Vec<u8>, OpenError> {
    open_copy(scopes, &mut Few::new(), content, sealed)
}

/// Errors by the names that vectors have.
pub(crate) fn name(error: OpenError) -> &'static str {
    match error {
        OpenError::Truncated => "truncated",
        OpenError::UnknownFormat(_) => "unknown-format",
        OpenError::UnknownKey(_) => "unknown-key",
        OpenError::OtherSession => "other-session",
        OpenError::OtherTopic => "other-topic",
        OpenError::Altered => "altered",
        OpenError::Replay { .. } => "replay",
        OpenError::TooOld { .. } => "too-old",
        _ => "too-many-senders",
    }
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.bytes().map(|byte| char::from(byte).to_digit(16)).map(digit).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn digit(value: Option<u32>) -> u8 {
    value.and_then(|value| u8::try_from(value).ok()).expect("a hexadecimal digit")
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The Python of the tests: what FASTPORT_TEST_PYTHON names, else that which `make test` installs,
/// else the machine's.
pub(crate) fn python() -> PathBuf {
    if let Some(path) = std::env::var_os("FASTPORT_TEST_PYTHON") {
        return path.into();
    }
    let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let installed = root.join("target/test-venv/bin/python");
    if installed.exists() { installed } else { "python3".into() }
}

pub(crate) const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/sealing.json");
pub(crate) const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/sealing.py");
