//! Dropping what waited too long.

use fastport_wire::frame::GapCause;
use rusqlite::Result;

use super::names;
use super::state::LANES;
use super::sweep::Meta;
use super::work::{LaneMemory, Work};
use crate::config::Lane;

impl LaneMemory {
    /// Notes a maximum age of the lane, in seconds.
    pub(super) fn note_age(&mut self, seconds: u64) {
        let seconds = if seconds == 0 { u64::MAX } else { seconds };
        self.least_age = self.least_age.min(seconds);
        if let Some((_, least)) = &mut self.aging {
            *least = (*least).min(seconds);
        }
    }
}

/// Reads the age of rows; remembers the boot that it met last.
#[derive(Debug, Default)]
pub(super) struct Ages {
    last: Option<(i64, Option<i64>)>,
}

impl Ages {
    /// Milliseconds that a row waited, at least. Within a boot the clock's steps do not matter, and
    /// those of this boot do not for the rows of an earlier one. Of an earlier boot that never had the
    /// time it is known only that it is older than this boot.
    pub(super) fn of(&mut self, work: &Work<'_>, boot: Option<i64>, at: i64) -> Result<u64> {
        let now = work.now.boot_ms;
        let Some(boot) = boot.filter(|boot| *boot != work.boot) else {
            return Ok(now.saturating_sub(at.cast_unsigned()));
        };
        let offset = match self.last {
            Some((last, offset)) if last == boot => offset,
            _ => {
                let offset = names::boot_by_number(work.sql, boot)?.offset;
                self.last = Some((boot, offset));
                offset
            }
        };
        // a clock that steps ahead makes nothing old
        let (Some(here), Some(offset)) = (work.memory.least_offset, offset) else { return Ok(now) };
        let unix = now.saturating_add_signed(here);
        let since = unix.saturating_add_signed(at.saturating_add(offset).saturating_neg());
        Ok(since.max(now))
    }

    pub(super) fn is_over(&mut self, work: &Work<'_>, meta: &Meta) -> Result<bool> {
        let limit = meta.max_age.cast_unsigned().saturating_mul(1000);
        Ok(limit > 0 && self.of(work, meta.boot, meta.at)? > limit)
    }
}

impl Work<'_> {
    /// Looks at a part of the rows for some that are too old; how many were.
    pub(super) fn expire(&mut self) -> Result<u64> {
        let mut dropped = 0;
        if self.now.boot_ms < self.memory.age_check_at {
            return Ok(0);
        }
        self.memory.age_check_at = self.now.boot_ms + AGE_CHECK_MS;
        for lane in LANES {
            for _ in 0..SWEEPS {
                if !self.may_be_old(lane)? {
                    break;
                }
                dropped += self.expire_some(lane)?;
                if self.memory.lanes[lane as usize].aging.is_none() {
                    break;
                }
            }
        }
        Ok(dropped)
    }

    /// Whether the lane's first row is older than the least that may be too old.
    fn may_be_old(&self, lane: Lane) -> Result<bool> {
        let least = self.memory.lanes[lane as usize].least_age.saturating_mul(1000);
        let Some((boot, at)) = self.first_time(lane)? else { return Ok(false) };
        Ok(Ages::default().of(self, boot, at)? > least)
    }

    fn expire_some(&mut self, lane: Lane) -> Result<u64> {
        let (from, mut least) = self.memory.lanes[lane as usize].aging.unwrap_or((0, u64::MAX));
        let mut ages = Ages::default();
        let swept = self.sweep(lane, from, &mut |work, meta| {
            if ages.is_over(work, meta)? {
                return Ok(Some(GapCause::Expired));
            }
            let limit = meta.max_age.cast_unsigned();
            least = least.min(if limit == 0 { u64::MAX } else { limit });
            Ok(None)
        })?;
        let memory = &mut self.memory.lanes[lane as usize];
        memory.aging = swept.next.map(|next| (next, least));
        if swept.next.is_none() {
            memory.least_age = least;
        }
        Ok(swept.dropped)
    }

    /// Drops those of the next rows from `from` on that are too old.
    pub(super) fn expire_from(&mut self, lane: Lane, from: u64) -> Result<u64> {
        let mut ages = Ages::default();
        let decide = &mut |work: &mut Self, meta: &Meta| {
            Ok(ages.is_over(work, meta)?.then_some(GapCause::Expired))
        };
        self.sweep(lane, from, decide).map(|swept| swept.dropped)
    }
}

/// Between two looks for old rows, and how much is looked at each time.
const AGE_CHECK_MS: u64 = 10_000;
const SWEEPS: usize = 4;
