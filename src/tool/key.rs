//! `fastport key`.

use std::fs;
use std::path::Path;

use fastport_client::{KeyRing, KeyRingError, SessionKey};
use zeroize::Zeroizing;

use super::arguments::{Common, Key, KeyAction, KeyNew};
use super::exit::{Failure, Outcome};
use super::{seal, secret, session};
use crate::guard::DeviceKey;

pub(super) fn run(key: &Key, common: &Common) -> Outcome {
    let ring = || {
        let hint = "which keys? say --seal FILE";
        common.seal.keys.as_deref().ok_or_else(|| Failure::usage(hint))
    };
    match &key.action {
        KeyAction::New(new) => match (&new.file, &common.seal.keys) {
            (Some(file), None) => make(file, new, common),
            (None, Some(file)) => make_ring(file, new, common),
            (None, None) => Err(Failure::usage("which file? say FILE, or --seal FILE")),
            (Some(_), Some(_)) => {
                Err(Failure::usage("FILE is for a device key, --seal FILE for one to seal with"))
            }
        },
        KeyAction::Add => change(ring()?, |ring| ring.add(new_key()?).map_err(Change::Ring)),
        KeyAction::Use(id) => change(ring()?, |ring| ring.put_first(&id.key).map_err(Change::Ring)),
        KeyAction::Remove(id) => change(ring()?, |ring| ring.remove(&id.key).map_err(Change::Ring)),
        KeyAction::List => list(&seal::read(ring()?)?),
    }
}

fn make(file: &Path, new: &KeyNew, common: &Common) -> Outcome {
    let key = DeviceKey::generate()
        .map_err(|error| Failure::internal(format!("no randomness: {error}")))?;
    let mut text = Zeroizing::new(String::with_capacity(2 * DeviceKey::BYTES + 1));
    text.push_str(&key.to_hex());
    text.push('\n');
    secret::write_new(file, &text)?;
    match &common.id {
        Some(id) => {
            let credentials = &new.credentials.credentials;
            let added =
                session::add_key(credentials, &common.session, id, &key, &new.access, new.gateway);
            if added.is_err() {
                // nobody has it, and the next try would find it in its way; the error matters more
                fs::remove_file(file).unwrap_or_default();
            }
            added
        }
        None => Ok(()),
    }
}

/// A new file for `--seal`.
fn make_ring(file: &Path, new: &KeyNew, common: &Common) -> Outcome {
    if new.gateway || common.id.is_some() {
        let text = "a key to seal with is its members', of whatever identity: leave out --id and \
                    --gateway";
        return Err(Failure::usage(text));
    }
    let ring = KeyRing::new(new_key()?);
    secret::write_new(file, &ring.to_text())?;
    list(&ring)
}

/// Why a key file is not changed.
enum Change {
    Ring(KeyRingError),
    Key(Failure),
}

impl From<Failure> for Change {
    fn from(failure: Failure) -> Self {
        Self::Key(failure)
    }
}

fn change(file: &Path, change: impl FnOnce(&mut KeyRing) -> Result<(), Change>) -> Outcome {
    let mut ring = seal::read(file)?;
    change(&mut ring).map_err(|why| match why {
        Change::Ring(error) => Failure::data(format!("{}: {error}", file.display())),
        Change::Key(failure) => failure,
    })?;
    secret::replace(file, &ring.to_text())?;
    list(&ring)
}

fn list(ring: &KeyRing) -> Outcome {
    let mut out = String::new();
    for (at, id) in ring.ids().enumerate() {
        out.push_str(&format!("{id} {}\n", if at == 0 { "seals" } else { "opens" }));
    }
    secret::say(&out)
}

fn new_key() -> Result<SessionKey, Failure> {
    let mut bytes = Zeroizing::new([0; SessionKey::BYTES]);
    getrandom::fill(bytes.as_mut_slice())
        .map_err(|error| Failure::internal(format!("no randomness: {error}")))?;
    Ok(SessionKey::new(*bytes))
}
