//! `fastport key`.

use zeroize::{Zeroize, Zeroizing};

use super::arguments::{Common, Key, KeyAction, KeyNew};
use super::exit::{Failure, Outcome, note};
use super::{secret, session};

pub(super) fn run(key: &Key, common: &Common) -> Outcome {
    match &key.action {
        KeyAction::New(new) => make(new, common),
    }
}

fn make(new: &KeyNew, common: &Common) -> Outcome {
    let identity = match (&common.id, new.add) {
        (None, true) => return Err(Failure::usage("--add needs --id: whose key is it?")),
        (identity, _) => identity.as_deref(),
    };
    let mut bytes = Zeroizing::new([0u8; 32]);
    getrandom::fill(bytes.as_mut_slice())
        .map_err(|error| Failure::internal(format!("no randomness: {error}")))?;
    let mut text = Zeroizing::new(String::with_capacity(2 * bytes.len() + 1));
    for byte in bytes.iter() {
        for digit in [byte >> 4, byte & 0xf] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or_default());
        }
    }
    text.push('\n');
    secret::write_new(&new.file, &text)?;
    if let (Some(identity), true) = (identity, new.add) {
        let file = &new.credentials.credentials;
        session::add_key(file, &common.session, identity, &bytes)?;
        note(format_args!("{identity} of session {} has the key now", common.session));
    }
    bytes.zeroize();
    Ok(())
}
