//! The most bytes a second of all lanes: a bucket that fills at that rate.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Lane;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Ceiling {
    /// 0: there is none
    bytes_per_second: u64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// below 0 where the alarm lane took more than there was
    left: i64,
    filled: Instant,
}

impl Ceiling {
    /// A full bucket.
    #[must_use]
    pub(super) fn new(bytes_per_second: u64, now: Instant) -> Self {
        let bucket = Mutex::new(Bucket { left: size(bytes_per_second), filled: now });
        Self { bytes_per_second, bucket }
    }

    /// How much a lane may write now. The alarm lane does not wait: others do, for what it took.
    pub(super) fn allowance(&self, lane: Lane, now: Instant) -> usize {
        if self.bytes_per_second == 0 || lane == Lane::Alarm {
            return usize::MAX;
        }
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let most = size(self.bytes_per_second);
        let passed = now.saturating_duration_since(bucket.filled).as_micros();
        let more = passed.saturating_mul(self.bytes_per_second.into()) / 1_000_000;
        if more > 0 {
            let more = i64::try_from(more).unwrap_or(most);
            (bucket.left, bucket.filled) = (bucket.left.saturating_add(more).min(most), now);
        }
        // bulk leaves some for what is more urgent
        let kept = if lane == Lane::Bulk { most / 4 } else { 0 };
        usize::try_from(bucket.left - kept).unwrap_or(0)
    }

    /// What is worth waiting for where frames are packed: a batch compresses better than a message.
    pub(super) fn batch(&self) -> usize {
        usize::try_from(size(self.bytes_per_second) / 2).unwrap_or(0)
    }

    /// Bytes were written.
    pub(super) fn spend(&self, bytes: usize) {
        if self.bytes_per_second > 0 {
            let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
            bucket.left = bucket.left.saturating_sub(bytes);
        }
    }

    /// When to look again where there was nothing left.
    #[must_use]
    pub(super) fn pause(&self) -> Duration {
        PAUSE
    }
}

/// What may go at once.
fn size(bytes_per_second: u64) -> i64 {
    let share = i64::try_from(bytes_per_second / 4).unwrap_or(i64::MAX);
    share.max(LEAST)
}

/// So much at least, so that a frame of usual length fits.
const LEAST: i64 = 1024;
const PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_bytes_and_the_alarm_lane_goes_first() {
        let start = Instant::now();
        let ceiling = Ceiling::new(8000, start);
        assert_eq!(ceiling.allowance(Lane::Normal, start), 2000);
        ceiling.spend(2000);
        assert_eq!(ceiling.allowance(Lane::Normal, start), 0);
        assert_eq!(ceiling.allowance(Lane::Alarm, start), usize::MAX);
        ceiling.spend(1000);
        let later = start + Duration::from_millis(250);
        assert_eq!(ceiling.allowance(Lane::Normal, later), 1000);
        assert_eq!(ceiling.allowance(Lane::Bulk, later), 500);
    }

    #[test]
    fn without_a_ceiling_all_goes() {
        let start = Instant::now();
        let ceiling = Ceiling::new(0, start);
        ceiling.spend(1 << 40);
        assert_eq!(ceiling.allowance(Lane::Bulk, start), usize::MAX);
    }
}
