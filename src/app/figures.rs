//! Figures of the whole daemon: the line that `systemctl status` shows, and the watchdog's margins.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::hub::{Hub, Show};
use crate::supervise::watchdog::{Margins, Probe};

/// A line on how the daemon is. The runtime renews it when it answers the watchdog anyhow, so an idle
/// daemon does not wake up for it; the watchdog's thread reads it and waits for nobody.
pub(super) struct StatusLine {
    hub: Arc<Hub>,
    uplink: Option<Arc<dyn Show>>,
    shown: Mutex<Shown>,
}

struct Shown {
    at: Instant,
    /// messages taken by all sessions until then
    published: u64,
    text: String,
}

impl StatusLine {
    /// The line at the start.
    pub(super) fn new(hub: Arc<Hub>, uplink: Option<Arc<dyn Show>>) -> Self {
        let (at, published) = (Instant::now(), published(&hub));
        let line =
            Self { hub, uplink, shown: Mutex::new(Shown { at, published, text: String::new() }) };
        line.show(at, published, 0);
        line
    }

    /// Makes it anew, unless it is new enough.
    pub(super) fn renew(&self) {
        let (before, at) = {
            let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            (shown.published, shown.at)
        };
        let now = Instant::now();
        let span = now.saturating_duration_since(at);
        if span < RENEW_EVERY {
            return;
        }
        let published = published(&self.hub);
        let rate = u128::from(published.saturating_sub(before)) * 1000 / span.as_millis().max(1);
        self.show(now, published, u64::try_from(rate).unwrap_or(u64::MAX));
    }

    /// The line; whoever asks is not made to wait by a thread that hangs.
    pub(super) fn text(&self) -> String {
        self.shown.try_lock().map_or_else(|_| BUSY.to_owned(), |shown| shown.text.clone())
    }

    fn show(&self, at: Instant, published: u64, rate: u64) {
        let status = self.hub.status();
        let mut text = format!(
            "{} peers, {rate} messages/s, {} in, {} out",
            status.peers.get(),
            size(status.bytes_in.get()),
            size(status.bytes_out.get())
        );
        if let Some(uplink) = &self.uplink {
            text += &uplink_line(&uplink.to_json());
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = Shown { at, published, text };
    }
}

/// Messages that all sessions took.
fn published(hub: &Hub) -> u64 {
    hub.all_rooms().iter().map(|room| room.figures().ledger.published).sum()
}

/// `; uplink: normal ready; spool: 12 messages in memory, 3 on disk (1.2 MiB)`
fn uplink_line(uplink: &Value) -> String {
    let mut text = String::new();
    let (mut in_memory, mut on_disk) = (0, 0);
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    for (name, lane) in uplink["lanes"].as_object().into_iter().flatten() {
        let before = if text.is_empty() { "; uplink:" } else { "," };
        let link = lane["link"].as_str().unwrap_or_default();
        // a String takes all
        write!(text, "{before} {name} {link}").unwrap_or_default();
        in_memory += number(&lane["unacknowledged"]);
        on_disk += number(&uplink["spool"]["lanes"][name]["held"]);
    }
    let bytes = size(number(&uplink["spool"]["bytes"]));
    text + &format!("; spool: {in_memory} messages in memory, {on_disk} on disk ({bytes})")
}

/// For people.
fn size(bytes: u64) -> String {
    let [kib, mib] = [1024, 1024 * 1024];
    match bytes {
        _ if bytes < kib => format!("{bytes} B"),
        _ if bytes < mib => format!("{} KiB", bytes / kib),
        _ => format!("{}.{} MiB", bytes / mib, bytes % mib * 10 / mib),
    }
}

/// `watchdog` of `fastport status`.
pub(super) struct WatchdogFigures(pub(super) Arc<Probe>);

impl Show for WatchdogFigures {
    fn to_json(&self) -> Value {
        margins_json(self.0.margins())
    }
}

fn margins_json(margins: Margins) -> Value {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let Margins { period, deadline, answer, slowest, slowest_disk, disk_deadline } = margins;
    json!({
        "period_ms": ms(period),
        "deadline_ms": ms(deadline),
        "answer_ms": ms(answer),
        "slowest_answer_ms": ms(slowest),
        "margin_ms": ms(deadline.saturating_sub(slowest)),
        "slowest_disk_ms": ms(slowest_disk),
        "disk_margin_ms": ms(disk_deadline.saturating_sub(slowest_disk)),
    })
}

/// The rate is that of so long a time, at least.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// While it is being written.
const BUSY: &str = "busy";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_each_lane_is_and_what_waits_where() {
        let uplink = json!({
            "lanes": {
                "alarm": { "link": "waiting", "unacknowledged": 2 },
                "normal": { "link": "ready", "unacknowledged": 10 },
            },
            "spool": { "bytes": 1_258_291, "lanes": { "normal": { "held": 3 } } },
        });
        let expected = "; uplink: alarm waiting, normal ready; \
                        spool: 12 messages in memory, 3 on disk (1.1 MiB)";
        assert_eq!(uplink_line(&uplink), expected);
    }

    #[test]
    fn a_margin_is_what_was_left_of_the_deadline() {
        let seconds = Duration::from_secs;
        let figures = margins_json(Margins {
            period: seconds(30),
            deadline: seconds(15),
            answer: seconds(1),
            slowest: seconds(4),
            slowest_disk: seconds(60),
            disk_deadline: seconds(300),
        });
        assert_eq!(
            (&figures["margin_ms"], &figures["disk_margin_ms"]),
            (&json!(11_000), &json!(240_000))
        );
    }
}
