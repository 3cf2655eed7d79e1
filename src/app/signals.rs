//! The signals that end the daemon, or have it read its configuration again.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// They are received from when this was made.
pub(super) struct Signals {
    pub(super) hangup: Signal,
    pub(super) interrupt: Signal,
    pub(super) terminate: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }
}
