//! systemd's notification protocol, sd_notify(3).

use rustix::time::{ClockId, clock_gettime};
use systemd::daemon::{STATE_READY, STATE_RELOADING, STATE_STOPPING, notify};
use tracing::{debug, warn};

use super::Change;

pub(super) fn tell(change: Change) {
    let on = "1".to_owned();
    let state = match change {
        Change::Ready => vec![(STATE_READY, on)],
        // Type=notify-reload wants to know when, lest an older READY be taken for the answer
        Change::Reloading => vec![(STATE_RELOADING, on), ("MONOTONIC_USEC", monotonic_usec())],
        Change::Stopping => vec![(STATE_STOPPING, on)],
    };
    match notify(state.iter()) {
        Ok(is_told) => debug!(?change, is_told, "systemd"),
        Err(error) => warn!(?change, %error, "systemd not told"),
    }
}

fn monotonic_usec() -> String {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec * 1_000_000 + now.tv_nsec / 1000).to_string()
}
