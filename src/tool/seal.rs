//! Sealing, as the command line says, and what is said of it.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use fastport_client::{Client, KeyRing, NotOpened, SealOptions};

use super::arguments::Seal;
use super::exit::{Failure, note};
use crate::guard::read_secret;

/// The client's options, where something is to be sealed.
pub(super) fn options(seal: &Seal) -> Result<Option<SealOptions>, Failure> {
    let Some(file) = &seal.keys else {
        let has_names = seal.session.is_some() || seal.prefix.is_some() || !seal.topics.is_empty();
        let has_more = has_names || seal.state.is_some() || seal.window.is_some();
        return match has_more {
            true => Err(Failure::usage("with which keys? say --seal FILE")),
            false => Ok(None),
        };
    };
    let mut options = SealOptions::new(read(file)?);
    if !seal.topics.is_empty() {
        options.topics.clone_from(&seal.topics);
    }
    options.state = Some(seal.state.clone().unwrap_or_else(|| beside(file)));
    options.session.clone_from(&seal.session);
    options.prefix.clone_from(&seal.prefix);
    options.window = seal.window.unwrap_or(options.window);
    Ok(Some(options))
}

/// The keys in a file that nobody else may read.
pub(super) fn read(file: &Path) -> Result<KeyRing, Failure> {
    let text = read_secret(file, MOST_KEYS).map_err(|error| Failure::data(error.to_string()))?;
    KeyRing::parse(&text).map_err(|error| Failure::data(format!("{}: {error}", file.display())))
}

fn beside(file: &Path) -> PathBuf {
    let mut name = OsString::from(file);
    name.push(".senders");
    PathBuf::from(name)
}

/// Says what is refused: each cause's first, then when it is ten times as often.
#[derive(Default)]
pub(super) struct Refusals(HashMap<&'static str, u64>);

impl Refusals {
    pub(super) fn note(&mut self, topic: &str, cause: NotOpened) {
        let count = self.0.entry(cause.name()).or_default();
        *count += 1;
        if *count == 10u64.pow(count.ilog10()) {
            let name = cause.name();
            note(format_args!("{topic}: a message is refused: {cause} ({name}: {count} so far)"));
        }
    }
}

/// Says how many messages were refused in all, by cause.
pub(super) fn sum_up(client: &Client) {
    let Some(figures) = client.seal_figures() else { return };
    let refused: Vec<String> =
        figures.refused().map(|(cause, count)| format!("{cause} {count}")).collect();
    if !refused.is_empty() {
        note(format_args!("opened {}; refused: {}", figures.opened, refused.join(", ")));
    }
}

/// Bytes of the keys that a ring can have, and of what people write beside them.
const MOST_KEYS: u64 = 16 * 1024;
