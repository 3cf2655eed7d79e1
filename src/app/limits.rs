//! From `[limits]` to what sessions, and the process, may use.

use std::time::Duration;

use fastport_core::retention::Retention;
use fastport_core::session::{Limits as SessionLimits, StreamLimits};
use rustix::process::{Resource, Rlimit};
use tracing::{info, warn};

use crate::config::{self, Config};

/// Lets the process open as many files as it may: each peer is one, and the usual limit is 1024.
pub fn raise_open_files(peers: u32) {
    let before = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, maximum: before.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the limit of open files stays as it is");
    }
    // none: no limit
    let Some(files) = rustix::process::getrlimit(Resource::Nofile).current else { return };
    info!(before = before.current, files, "limit of open files");
    if files < u64::from(peers) + FILES_BESIDE_PEERS {
        warn!(
            files,
            peers,
            "fewer open files than limits.peers: raise LimitNOFILE of the service (or ulimit -Hn)"
        );
    }
}

/// What a session may use.
pub(super) fn session_limits(config: &Config, session: &config::Session) -> SessionLimits {
    let limits = &config.limits;
    SessionLimits {
        peers: limits.peers as usize,
        topics: limits.topics as usize,
        outbox: limits.outbox.as_usize(),
        payload: session.payload.as_usize(),
        sealed: session.sealed,
        subscriptions: limits.subscriptions_per_peer as usize,
        open_topics: limits.topics_per_peer as usize,
        keepalive: limits.keepalive.0,
        linger: limits.linger.0,
        gateway_linger: limits.gateway_linger.0,
        stall_ms: millis(limits.stall_timeout),
        retention: Retention {
            messages: session.retention.messages,
            age_ms: millis(session.retention.age),
            bytes: session.retention.bytes_per_topic.as_usize(),
        },
        when_full: session.when_full,
        streams: StreamLimits {
            per_peer: limits.stream.per_peer as usize,
            per_session: limits.stream.per_session as usize,
            size: limits.stream.size.0,
            window: limits.stream.window.as_usize(),
        },
    }
}

/// Sessions that peers make are as the built-in one.
pub(super) fn made_limits(config: &Config) -> SessionLimits {
    session_limits(config, &config::Session::built_in(config.limits.payload))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Listeners, the runtime, sensors and TLS files being read.
const FILES_BESIDE_PEERS: u64 = 64;
