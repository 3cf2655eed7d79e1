//! How many bytes may be on their way: as many as the path holds without making a queue.
//!
//! A slow link with a long queue would keep an alarm waiting behind what other lanes have put into it,
//! and let a PING's answer come too late. So each lane asks by PING, and what takes longer than
//! the shortest round trip by [`QUEUE_MS`] is a queue: then less is sent, else more.

use std::collections::VecDeque;

use fastport_core::time::Instant;

/// What a lane has on its way. It reads no clock.
#[derive(Debug)]
pub(super) struct Flow {
    window: usize,
    /// put on their way
    sent: u64,
    /// of them, those that have arrived
    passed: u64,
    /// PINGs without an answer, the oldest first
    asked: VecDeque<Asked>,
    next: u64,
    least_ms: Option<u64>,
    last_ms: Option<u64>,
    last_asked: Instant,
    was_full: bool,
    /// there was a queue on this link: its bounds are known
    was_queued: bool,
}

#[derive(Debug)]
struct Asked {
    number: u64,
    at: Instant,
    sent: u64,
}

impl Flow {
    /// A new link.
    #[must_use]
    pub(super) fn new(now: Instant) -> Self {
        Self {
            window: FIRST,
            sent: 0,
            passed: 0,
            asked: VecDeque::new(),
            next: 0,
            least_ms: None,
            last_ms: None,
            last_asked: now,
            was_full: false,
            was_queued: false,
        }
    }

    /// WELCOME has come. The handshake went over an empty path, and took one round trip at least: what
    /// takes much longer from now on has met a queue.
    pub(super) fn welcomed(&mut self, now: Instant) {
        self.least_ms = Some(now.since(self.last_asked));
    }

    /// How many bytes may be sent now.
    pub(super) fn allowance(&mut self) -> usize {
        let on_way = usize::try_from(self.sent - self.passed).unwrap_or(usize::MAX);
        let left = self.window.saturating_sub(on_way);
        self.was_full |= left == 0;
        left
    }

    /// Bytes were sent.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// Whether to ask now: for a sign of life every `idle_ms`, and for each part of the window.
    /// Where it says so, the token to ask with.
    pub(super) fn poll_ask(&mut self, now: Instant, idle_ms: u64) -> Option<[u8; 8]> {
        let asked = self.asked.back().map_or(self.passed, |last| last.sent);
        let news = usize::try_from(self.sent - asked).unwrap_or(usize::MAX);
        let is_idle = now.since(self.last_asked) >= idle_ms;
        let is_due = is_idle || (news > 0 && news >= self.window / PARTS);
        if !is_due || self.asked.len() >= MOST_ASKED {
            return None;
        }
        self.next += 1;
        self.last_asked = now;
        self.asked.push_back(Asked { number: self.next, at: now, sent: self.sent });
        Some(self.next.to_be_bytes())
    }

    /// When to look whether to ask for a sign of life.
    #[must_use]
    pub(super) fn next_ask(&self, idle_ms: u64) -> Instant {
        self.last_asked.after(idle_ms)
    }

    /// An answer came; the round trip, if it is one to a question of ours.
    pub(super) fn answered(&mut self, now: Instant, token: &[u8]) -> Option<u64> {
        let number = u64::from_be_bytes(token.try_into().ok()?);
        let place = self.asked.iter().position(|asked| asked.number == number)?;
        let asked = self.asked.drain(..=place).next_back()?;
        let newly = usize::try_from(asked.sent.saturating_sub(self.passed)).unwrap_or(usize::MAX);
        self.passed = self.passed.max(asked.sent);
        let round_trip = now.since(asked.at);
        self.last_ms = Some(round_trip);
        let least = self.least_ms.map_or(round_trip, |least| least.min(round_trip));
        self.least_ms = Some(least);
        if round_trip > least + QUEUE_MS {
            // towards what the path held without the queue
            let window = self.window as u64 * (least + QUEUE_MS) / round_trip;
            let window = usize::try_from(window).unwrap_or(MOST);
            self.window = window.max(self.window / 2).max(LEAST);
            self.was_queued = true;
        } else if std::mem::take(&mut self.was_full) {
            // twice as much each round trip, until a queue shows; then carefully, lest it comes back
            let more = if self.was_queued { newly / CAREFULLY } else { newly };
            self.window = self.window.saturating_add(more).min(MOST);
        }
        Some(round_trip)
    }

    /// Bytes that were sent on this link, and how many of them have arrived for sure.
    #[must_use]
    pub(super) fn passed(&self) -> (u64, u64) {
        (self.sent, self.passed)
    }

    /// The last round trip.
    #[must_use]
    pub(super) fn round_trip_ms(&self) -> Option<u64> {
        self.last_ms
    }
}

/// A queue of less is none.
const QUEUE_MS: u64 = 150;
/// Once a queue has shown, the window grows by half each round trip.
const CAREFULLY: usize = 2;
/// Bytes on their way at first: a quarter of a second on a line of 256 kbit/s.
const FIRST: usize = 8 * 1024;
/// A few packets, so that it goes on.
const LEAST: usize = 4 * 1024;
/// What a lane holds for the link.
pub(super) const MOST: usize = 256 * 1024;
/// Questions for each window.
const PARTS: usize = 4;
/// Questions without an answer.
const MOST_ASKED: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    /// Sends as much as may be for that long over a path of that rate and delay; the longest round
    /// trip of the second half, and the bytes that arrived.
    fn run(bytes_per_ms: u64, delay_ms: u64, for_ms: u64) -> (u64, u64) {
        let mut flow = Flow::new(at(0));
        let start = delay_ms;
        flow.welcomed(at(start));
        let mut queue: VecDeque<(u64, [u8; 8])> = VecDeque::new();
        let (mut arrived, mut worst) = (0u64, 0);
        let mut free_at = 0u64;
        for now in start..start + for_ms {
            while queue.front().is_some_and(|&(due, _)| due <= now) {
                let Some((_, token)) = queue.pop_front() else { break };
                let round_trip = flow.answered(at(now), &token).expect("it was asked");
                worst = if now > start + for_ms / 2 { worst.max(round_trip) } else { 0 };
            }
            let mut left = flow.allowance();
            while left > 0 {
                let part = left.min(1000);
                flow.sent(part);
                left -= part;
                free_at = free_at.max(now) + (part as u64).div_ceil(bytes_per_ms);
                arrived += part as u64;
                if let Some(token) = flow.poll_ask(at(now), 4000) {
                    queue.push_back((free_at + delay_ms, token));
                }
            }
            if let Some(token) = flow.poll_ask(at(now), 4000) {
                queue.push_back((free_at.max(now) + delay_ms, token));
            }
        }
        (worst, arrived)
    }

    #[test]
    fn a_slow_path_has_a_short_queue_and_is_used() {
        let (worst, arrived) = run(8, 40, 20_000);
        assert!(worst < 1000, "{worst} ms");
        assert!(arrived > 8 * 20_000 * 7 / 10, "{arrived} bytes");
    }

    #[test]
    fn a_long_path_is_used() {
        let (worst, arrived) = run(200, 800, 20_000);
        assert!(worst < 2000, "{worst} ms");
        // the window at its most
        assert!(arrived > MOST as u64 * 10, "{arrived} bytes");
    }

    #[test]
    fn a_silent_link_is_asked() {
        let mut flow = Flow::new(at(0));
        assert_eq!(flow.poll_ask(at(3999), 4000), None);
        let token = flow.poll_ask(at(4000), 4000).expect("it is time");
        assert_eq!(flow.answered(at(4800), &token), Some(800));
        assert_eq!(flow.answered(at(4800), &token), None, "once");
        assert_eq!(flow.answered(at(4800), b"other"), None);
    }
}
