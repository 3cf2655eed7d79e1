//! `fastport key`.

use std::fs;

use zeroize::Zeroizing;

use super::arguments::{Common, Key, KeyAction, KeyNew};
use super::exit::{Failure, Outcome};
use super::{secret, session};
use crate::guard::DeviceKey;

pub(super) fn run(key: &Key, common: &Common) -> Outcome {
    match &key.action {
        KeyAction::New(new) => make(new, common),
    }
}

fn make(new: &KeyNew, common: &Common) -> Outcome {
    let key = DeviceKey::generate()
        .map_err(|error| Failure::internal(format!("no randomness: {error}")))?;
    let mut text = Zeroizing::new(String::with_capacity(2 * DeviceKey::BYTES + 1));
    text.push_str(&key.to_hex());
    text.push('\n');
    secret::write_new(&new.file, &text)?;
    match &common.id {
        Some(id) => {
            let file = &new.credentials.credentials;
            let added = session::add_key(file, &common.session, id, &key, &new.access, new.gateway);
            if added.is_err() {
                // nobody has it, and the next try would find it in its way; the error matters more
                fs::remove_file(&new.file).unwrap_or_default();
            }
            added
        }
        None => Ok(()),
    }
}
