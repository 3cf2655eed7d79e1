//! How much the spool may take, and how that is divided.

use std::time::Duration;

/// What the spool may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes on disk: the file and its log together. Under [`Limits::LEAST_DISK`] counts as that.
    pub disk: u64,
    /// Bytes written to flash in a day; 0: no limit.
    pub flash_per_day: u64,
    /// The longest that looking through the file may hold up a start.
    pub check: Duration,
}

impl Limits {
    /// Under this there is no room for a batch.
    pub const LEAST_DISK: u64 = 1024 * 1024;
}

impl Default for Limits {
    fn default() -> Self {
        Self { disk: 64 * 1024 * 1024, flash_per_day: 0, check: Duration::from_secs(2) }
    }
}

/// How the bytes on disk are divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// bytes of a page
    pub(super) page: u64,
    /// bytes of the log at most
    pub(super) log: u64,
    /// pages that the file may have
    pub(super) most_pages: u64,
    /// pages in use at which there is no more room for messages
    pub(super) full_pages: u64,
}

impl Room {
    /// `page`: the bytes of the file's pages.
    pub(super) fn new(limits: &Limits, page: u64) -> Self {
        let disk = limits.disk.max(Limits::LEAST_DISK);
        let log = (disk / 4).clamp(LEAST_LOG, MOST_LOG);
        let most_pages = (disk - log) / page;
        // counts, names, gaps, and what pages lose to order
        let full_pages = most_pages - (most_pages / 32).max(RESERVED_PAGES);
        Self { page, log, most_pages, full_pages }
    }

    /// The most that one transaction may put into the log.
    pub(super) fn batch_bytes(&self) -> u64 {
        self.log / 2
    }

    /// Room that is made beyond what is needed.
    pub(super) fn spare_bytes(&self) -> u64 {
        self.full_pages / 64 * self.page
    }

    /// The log is emptied before it has more pages than this.
    pub(super) fn log_pages(&self) -> u64 {
        self.log / 2 / (self.page + LOG_HEAD)
    }

    /// Bytes that a row with such a payload takes of the file. A page holds a whole number of rows;
    /// what is over a page goes to pages of its own.
    pub(super) fn row_bytes(&self, payload: usize) -> u64 {
        let row = ROW_HEAD + u64::try_from(payload).unwrap_or(u64::MAX / 2);
        let usable = self.page - PAGE_HEAD;
        if row > usable {
            return (row.div_ceil(self.page - 4) + 1) * self.page;
        }
        self.page / (usable / row)
    }
}

/// Bytes of a new file's pages. Chosen by measurement: see docs/decisions.md.
pub(super) const PAGE: u64 = 4096;
/// The least and the most that the log may take.
const LEAST_LOG: u64 = 256 * 1024;
const MOST_LOG: u64 = 4 * 1024 * 1024;
/// Before each page in the log.
const LOG_HEAD: u64 = 24;
/// Kept back for what is not messages.
const RESERVED_PAGES: u64 = 24;
/// Bytes of a row beside its payload, at most: varints, times, counts, sum.
const ROW_HEAD: u64 = 56;
const PAGE_HEAD: u64 = 12;
