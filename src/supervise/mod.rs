//! Who watches what: tasks that panic are started again, loops that stop making progress end the
//! process, and the service manager is told how the daemon is.
//!
//! With the feature `systemd` that is systemd through libsystemd, with `sd-notify` the same without
//! it; with neither, or where no service manager listens, the daemon runs the same and tells nobody.

pub mod fds;
pub mod inherited;
mod notify;
pub mod starting;
pub mod tasks;
pub mod traces;
pub mod turn;
pub mod watchdog;

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::{debug, warn};

/// A change that a service manager waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// All listeners are bound.
    Ready,
    /// The configuration is being read again; [`Change::Ready`] follows.
    Reloading,
    /// The links are being closed, which takes at most this long.
    Stopping(Duration),
}

/// Tells the service manager, if there is one.
pub fn tell(change: Change) {
    let on = || "1".to_owned();
    match change {
        Change::Ready => say(&[("READY", on())]),
        // Type=notify-reload wants to know when, lest an older READY be taken for the answer
        Change::Reloading => say(&[("RELOADING", on()), ("MONOTONIC_USEC", monotonic_usec())]),
        Change::Stopping(longest) => {
            let usec = (longest + STOP_MARGIN).as_micros().to_string();
            say(&[("STOPPING", on()), ("EXTEND_TIMEOUT_USEC", usec)]);
        }
    }
}

/// Waits for what writes to a disk while the daemon stops. A slow disk is no reason to be killed: the
/// service manager is told again and again that it takes longer. `None`: it took longer than
/// `longest`.
///
/// Cancel-safe if `work` is.
pub async fn flush<T>(longest: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    let extended = async {
        let mut ticks = tokio::time::interval(EXTEND_EVERY);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                _ = ticks.tick() => {
                    say(&[("EXTEND_TIMEOUT_USEC", EXTEND_BY.as_micros().to_string())]);
                }
            }
        }
    };
    tokio::time::timeout(longest, extended).await.ok()
}

fn say(state: &[(&'static str, String)]) {
    match notify::send(state, None) {
        Ok(is_told) => debug!(?state, is_told, "service manager"),
        Err(error) => warn!(?state, %error, "service manager not told"),
    }
}

fn monotonic_usec() -> String {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec * 1_000_000 + now.tv_nsec / 1000).to_string()
}

/// Beyond what the daemon itself allows for stopping.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// While a disk is slow.
const EXTEND_EVERY: Duration = Duration::from_secs(2);
/// Long enough for some of these to come late.
const EXTEND_BY: Duration = Duration::from_secs(10);
