//! Plain counters and gauges that every part writes, and status and metrics read.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that many tasks change.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    /// Adds to it.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes from it what was added before.
    pub fn subtract(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// Makes it that much.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A text that is set once, if at all.
#[derive(Debug, Default)]
pub struct Note(OnceLock<String>);

impl Note {
    /// Sets it, if it is not.
    pub fn set(&self, text: String) {
        self.0.get_or_init(|| text);
    }

    /// The text.
    #[must_use]
    pub fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}

/// The daemon's own figures; those of the sessions are theirs.
#[derive(Debug, Default)]
pub struct Status {
    /// Peers with a link, of all sessions.
    pub peers: Number,
    /// Links accepted.
    pub accepted: Number,
    /// Links that found no place: too many from their address, or too fast.
    pub turned_away: Number,
    /// Accepts that failed, mostly for want of file descriptors.
    pub accept_errors: Number,
    /// Handshakes that ran out of time.
    pub handshake_timeouts: Number,
    /// Handshakes that were refused.
    pub refused: Number,
    /// Links refused, also for want of time, without a line in the log: there were many.
    pub refused_unlogged: Number,
    /// Proofs that were wrong.
    pub wrong_proofs: Number,
    /// Links that failed in transport (TLS, WebSocket upgrade).
    pub transport_errors: Number,
    /// Times that a link was not read for a while, since its peer sent too much.
    pub slowed: Number,
    /// Tasks that panicked and were replaced.
    pub panics: Number,
    /// Bytes read from links.
    pub bytes_in: Number,
    /// Bytes written to links.
    pub bytes_out: Number,
    /// Readings that the board's sensors failed to give.
    pub sensor_errors: Number,
    /// Reloads of the configuration that worked.
    pub reloads: Number,
    /// Reloads that were refused; the old configuration stayed.
    pub reload_errors: Number,
    /// Why the run before this one ended, where it did not end in order.
    pub last_run: Note,
    /// Bytes of records written to journals.
    pub journal_bytes: Number,
    /// Times that a journal could not be written or synced.
    pub journal_errors: Number,
    /// Journals that were written anew, since they had grown long.
    pub journal_rewrites: Number,
    /// Journals that were found damaged, and set aside.
    pub journals_damaged: Number,
    /// Of a central instance.
    pub central: Central,
}

/// What a central instance does beside relaying.
#[derive(Debug, Default)]
pub struct Central {
    /// 1: this is one.
    pub is_on: Number,
    /// Messages stored since the start.
    pub stored: Number,
    /// Messages that were noted as missing since the start.
    pub missing: Number,
    /// Batches committed.
    pub batches: Number,
    /// When the last was, in milliseconds since 1970; 0: none was, or the clock was not set.
    pub last_commit_ms: Number,
    /// Bytes that were read and are not committed yet.
    pub unstored_bytes: Number,
    /// Messages in the store.
    pub held: Number,
    /// Their bytes.
    pub held_bytes: Number,
    /// Messages that made room for newer ones, or grew too old.
    pub trimmed: Number,
    /// Times that the store failed.
    pub store_errors: Number,
    /// 1: it failed the last time.
    pub is_failing: Number,
    /// Gateways that were told to come back at a time of their own.
    pub paced: Number,
}

impl Central {
    /// All figures with their names, as in `fastport status`.
    #[must_use]
    pub fn all(&self) -> [(&'static str, &Number); 11] {
        [
            ("stored", &self.stored),
            ("missing", &self.missing),
            ("batches", &self.batches),
            ("last_commit_ms", &self.last_commit_ms),
            ("unstored_bytes", &self.unstored_bytes),
            ("held", &self.held),
            ("held_bytes", &self.held_bytes),
            ("trimmed", &self.trimmed),
            ("store_errors", &self.store_errors),
            ("is_failing", &self.is_failing),
            ("paced", &self.paced),
        ]
    }
}

impl Status {
    /// All figures by name.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        let mut figures = named(&self.all());
        if self.central.is_on.get() > 0 {
            figures.insert("central".to_owned(), named(&self.central.all()).into());
        }
        figures.extend(self.last_run.get().map(|why| ("last_run".to_owned(), why.into())));
        figures
    }

    /// All figures with their names, as in `fastport status`.
    #[must_use]
    pub fn all(&self) -> [(&'static str, &Number); 20] {
        [
            ("peers", &self.peers),
            ("accepted", &self.accepted),
            ("turned_away", &self.turned_away),
            ("accept_errors", &self.accept_errors),
            ("handshake_timeouts", &self.handshake_timeouts),
            ("refused", &self.refused),
            ("refused_unlogged", &self.refused_unlogged),
            ("wrong_proofs", &self.wrong_proofs),
            ("transport_errors", &self.transport_errors),
            ("slowed", &self.slowed),
            ("panics", &self.panics),
            ("bytes_in", &self.bytes_in),
            ("bytes_out", &self.bytes_out),
            ("sensor_errors", &self.sensor_errors),
            ("reloads", &self.reloads),
            ("reload_errors", &self.reload_errors),
            ("journal_bytes", &self.journal_bytes),
            ("journal_errors", &self.journal_errors),
            ("journal_rewrites", &self.journal_rewrites),
            ("journals_damaged", &self.journals_damaged),
        ]
    }
}

fn named(all: &[(&str, &Number)]) -> serde_json::Map<String, serde_json::Value> {
    all.iter().map(|&(name, number)| (name.to_owned(), number.get().into())).collect()
}
