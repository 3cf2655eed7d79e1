//! What one source address may try: connections, and proofs of identity.
//!
//! It promises: memory for a fixed number of addresses, whoever sends from however many; no clock,
//! `now` is an argument in milliseconds that never goes back.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::SourceLimits;

/// Who is counted as one. An IPv6 customer has at least a /64 network, so all of it counts as one;
/// link-local addresses are all in one such network and count each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// The board itself: loopback and Unix sockets.
    Local,
    /// An IPv4 address, or an IPv6 address that stands for one.
    V4(Ipv4Addr),
    /// The first 64 bits of an IPv6 address.
    V6(u64),
    /// A link-local IPv6 address.
    LinkLocal(Ipv6Addr),
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            address if address.is_loopback() => Self::Local,
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) if address.is_unicast_link_local() => Self::LinkLocal(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments().map(u64::from);
                Self::V6(a << 48 | b << 32 | c << 16 | d)
            }
        }
    }
}

/// The source has used up its allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Milliseconds after which one more is allowed.
    pub retry_after_ms: u64,
}

/// What was counted since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceCounters {
    /// Connections refused.
    pub connections_refused: u64,
    /// Proofs refused unseen.
    pub proofs_refused: u64,
    /// Proofs that were wrong.
    pub proofs_failed: u64,
    /// Addresses forgotten to make room, though they had used allowance.
    pub evictions: u64,
}

/// Two token buckets for each of a bounded number of sources.
#[derive(Debug)]
pub struct SourceLimiter {
    attempts: Allowance,
    proofs: Allowance,
    places: HashMap<Source, usize>,
    /// `entries.len()` <= `capacity`
    entries: Vec<Entry>,
    capacity: usize,
    /// Where the search for an entry to forget goes on.
    hand: usize,
    counters: SourceCounters,
}

impl SourceLimiter {
    /// A limiter that remembers `limits.addresses` sources.
    #[must_use]
    pub fn new(limits: &SourceLimits) -> Self {
        let capacity = usize::try_from(limits.addresses).unwrap_or(usize::MAX).max(1);
        Self {
            attempts: Allowance::per_second(limits.attempts, limits.attempts_burst),
            proofs: Allowance::per_minute(limits.failed_proofs, limits.failed_proofs_burst),
            places: HashMap::new(),
            entries: Vec::new(),
            capacity,
            hand: 0,
            counters: SourceCounters::default(),
        }
    }

    /// Takes over changed rates. The number of sources stays.
    pub fn set_limits(&mut self, limits: &SourceLimits) {
        self.attempts = Allowance::per_second(limits.attempts, limits.attempts_burst);
        self.proofs = Allowance::per_minute(limits.failed_proofs, limits.failed_proofs_burst);
    }

    /// Whether `source` may connect now. The board itself always may.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn admit_connection(&mut self, now: u64, source: Source) -> Result<(), Refused> {
        if source == Source::Local {
            return Ok(());
        }
        let attempts = self.attempts;
        let taken = attempts.take(&mut self.entry(now, source).attempts);
        self.counters.connections_refused += u64::from(taken.is_err());
        taken
    }

    /// Whether a proof of `source` may be looked at. To be followed by
    /// [`SourceLimiter::proof_succeeded`] or [`SourceLimiter::proof_failed`]; until then it counts
    /// as failed, so that many proofs at once are not more than one after another. Call it when the
    /// check begins, not when it starts to wait.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn begin_proof(&mut self, now: u64, source: Source) -> Result<(), Refused> {
        let proofs = self.proofs;
        let taken = proofs.take(&mut self.entry(now, source).proofs);
        self.counters.proofs_refused += u64::from(taken.is_err());
        taken
    }

    /// The proof that was begun was right: it costs nothing.
    pub fn proof_succeeded(&mut self, now: u64, source: Source) {
        let proofs = self.proofs;
        // forgotten meanwhile: then it has its full allowance anyway
        if self.places.contains_key(&source) {
            proofs.give_back(&mut self.entry(now, source).proofs);
        }
    }

    /// The proof that was begun was wrong.
    pub fn proof_failed(&mut self, now: u64, source: Source) {
        self.counters.proofs_failed += 1;
        let entry = self.entry(now, source);
        entry.attempts = entry.attempts.saturating_sub(ATTEMPTS_PER_FAILED_PROOF * TOKEN);
    }

    /// What was counted since the start.
    #[must_use]
    pub const fn counters(&self) -> SourceCounters {
        self.counters
    }

    /// How many sources are remembered.
    #[must_use]
    pub const fn remembered(&self) -> usize {
        self.entries.len()
    }

    /// The entry of `source`, filled up to `now`; a new one in the place of another when there is
    /// no room.
    fn entry(&mut self, now: u64, source: Source) -> &mut Entry {
        let fresh =
            Entry { source, at: now, attempts: self.attempts.full, proofs: self.proofs.full };
        let index = if let Some(&index) = self.places.get(&source) {
            index
        } else if self.entries.len() < self.capacity {
            self.places.insert(source, self.entries.len());
            self.entries.push(fresh);
            self.entries.len() - 1
        } else {
            let index = self.choose_to_forget(now);
            let forgotten = std::mem::replace(&mut self.entries[index], fresh);
            self.places.remove(&forgotten.source);
            self.places.insert(source, index);
            self.counters.evictions += u64::from(!self.is_full(&forgotten, now));
            index
        };
        let entry = &mut self.entries[index];
        let elapsed = now.saturating_sub(entry.at);
        entry.at = entry.at.max(now);
        entry.attempts = self.attempts.refilled(entry.attempts, elapsed);
        entry.proofs = self.proofs.refilled(entry.proofs, elapsed);
        entry
    }

    /// Among the next few entries the one that loses least by being forgotten: whose allowance is
    /// full again soonest, then the one not seen for longest. A look at a few costs the same for any
    /// table, and lets nobody choose who is forgotten.
    fn choose_to_forget(&mut self, now: u64) -> usize {
        let count = self.entries.len();
        let looked_at = (0..LOOK_AT.min(count)).map(|step| (self.hand + step) % count);
        let cost = |index: &usize| {
            (self.time_to_full(&self.entries[*index], now), self.entries[*index].at)
        };
        let chosen = looked_at.min_by_key(cost).unwrap_or_default();
        self.hand = (self.hand + LOOK_AT) % count;
        chosen
    }

    /// Milliseconds until the entry is as if the source had never been seen.
    fn time_to_full(&self, entry: &Entry, now: u64) -> u64 {
        let left = |allowance: Allowance, level| allowance.time_to_full(level);
        left(self.attempts, entry.attempts)
            .max(left(self.proofs, entry.proofs))
            .saturating_sub(now.saturating_sub(entry.at))
    }

    fn is_full(&self, entry: &Entry, now: u64) -> bool {
        self.time_to_full(entry, now) == 0
    }
}

/// Levels as of `at`.
#[derive(Debug)]
struct Entry {
    source: Source,
    at: u64,
    attempts: u64,
    proofs: u64,
}

/// How fast a bucket fills, and how far.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    /// Units a millisecond; 0: no limit.
    rate: u64,
    full: u64,
}

impl Allowance {
    fn per_second(count: u32, burst: u32) -> Self {
        Self { rate: u64::from(count) * TOKEN / 1_000, full: u64::from(burst) * TOKEN }
    }

    fn per_minute(count: u32, burst: u32) -> Self {
        Self { rate: u64::from(count) * TOKEN / 60_000, full: u64::from(burst) * TOKEN }
    }

    fn take(self, level: &mut u64) -> Result<(), Refused> {
        if self.rate == 0 {
            return Ok(());
        }
        match level.checked_sub(TOKEN) {
            Some(rest) => *level = rest,
            None => return Err(Refused { retry_after_ms: (TOKEN - *level).div_ceil(self.rate) }),
        }
        Ok(())
    }

    fn give_back(self, level: &mut u64) {
        *level = (*level + TOKEN).min(self.full);
    }

    fn refilled(self, level: u64, elapsed: u64) -> u64 {
        level.saturating_add(elapsed.saturating_mul(self.rate)).min(self.full)
    }

    fn time_to_full(self, level: u64) -> u64 {
        if self.rate == 0 { 0 } else { self.full.saturating_sub(level).div_ceil(self.rate) }
    }
}

/// The units of one attempt or proof: so many that rates per minute are whole units a millisecond.
const TOKEN: u64 = 60_000;
/// A guesser also loses the right to connect.
const ATTEMPTS_PER_FAILED_PROOF: u64 = 10;
/// How many entries are compared when one has to go.
const LOOK_AT: usize = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn source(address: &str) -> Source {
        address.parse::<IpAddr>().expect("tests use addresses").into()
    }

    fn number(number: u32) -> Source {
        Source::V4(number.into())
    }

    fn limiter(addresses: u32) -> SourceLimiter {
        let limits = SourceLimits {
            attempts: 10,
            attempts_burst: 30,
            failed_proofs: 6,
            failed_proofs_burst: 3,
            addresses,
        };
        SourceLimiter::new(&limits)
    }

    #[test]
    fn one_customer_is_one_source() {
        assert_eq!(source("127.0.0.1"), Source::Local);
        assert_eq!(source("127.3.2.1"), Source::Local);
        assert_eq!(source("::1"), Source::Local);
        assert_eq!(source("::ffff:127.0.0.1"), Source::Local);
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
        assert_eq!(source("2001:db8::1"), source("2001:db8::2:3:4:5"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_ne!(source("fe80::1"), source("fe80::2"));
    }

    #[test]
    fn a_burst_is_let_in_and_then_the_rate() {
        let (mut limiter, peer) = (limiter(16), number(1));
        for _ in 0..30 {
            assert_eq!(limiter.admit_connection(0, peer), Ok(()));
        }
        assert_eq!(limiter.admit_connection(0, peer), Err(Refused { retry_after_ms: 100 }));
        assert_eq!(limiter.admit_connection(99, peer), Err(Refused { retry_after_ms: 1 }));
        assert_eq!(limiter.admit_connection(100, peer), Ok(()));
        assert_eq!(limiter.admit_connection(100, number(2)), Ok(()));
        let day = 86_400_000;
        let let_in = (0..100).filter(|_| limiter.admit_connection(day, peer).is_ok()).count();
        assert_eq!(let_in, 30);
        assert_eq!(limiter.counters().connections_refused, 2 + 70);
    }

    #[test]
    fn failed_proofs_are_counted_for_all_and_right_ones_for_none() {
        for peer in [Source::Local, number(1)] {
            let mut limiter = limiter(16);
            for _ in 0..100 {
                assert_eq!(limiter.begin_proof(0, peer), Ok(()));
                limiter.proof_succeeded(0, peer);
            }
            for _ in 0..3 {
                assert_eq!(limiter.begin_proof(0, peer), Ok(()));
                limiter.proof_failed(0, peer);
            }
            assert_eq!(limiter.begin_proof(0, peer), Err(Refused { retry_after_ms: 10_000 }));
            assert_eq!(limiter.begin_proof(10_000, peer), Ok(()));
            let counters = limiter.counters();
            assert_eq!((counters.proofs_failed, counters.proofs_refused), (3, 1));
        }
    }

    #[test]
    fn many_proofs_at_once_are_not_more_than_one_after_another() {
        let mut limiter = limiter(16);
        let begun = (0..100).filter(|_| limiter.begin_proof(0, number(1)).is_ok()).count();
        assert_eq!(begun, 3);
    }

    #[test]
    fn a_guesser_loses_the_right_to_connect_but_the_board_does_not() {
        let mut limiter = limiter(16);
        for peer in [Source::Local, number(1)] {
            for _ in 0..3 {
                assert_eq!(limiter.begin_proof(0, peer), Ok(()));
                limiter.proof_failed(0, peer);
            }
        }
        assert!(limiter.admit_connection(0, number(1)).is_err());
        assert_eq!(limiter.admit_connection(0, Source::Local), Ok(()));
    }

    #[test]
    fn strangers_do_not_push_a_guesser_out_of_a_full_table() {
        let (mut limiter, guesser) = (limiter(16), number(0));
        while limiter.begin_proof(0, guesser).is_ok() {
            limiter.proof_failed(0, guesser);
        }
        for stranger in 1..10_000 {
            assert_eq!(limiter.admit_connection(0, number(stranger)), Ok(()));
        }
        assert!(limiter.begin_proof(0, guesser).is_err());
        assert_eq!(limiter.remembered(), 16);
        assert_eq!(limiter.counters().evictions, 10_000 - 16);
    }

    #[test]
    fn who_has_its_full_allowance_is_forgotten_without_a_count() {
        let mut limiter = limiter(16);
        for stranger in 0..16 {
            assert_eq!(limiter.admit_connection(0, number(stranger)), Ok(()));
        }
        // 1 of 30 used, 10 a second come back
        for stranger in 16..32 {
            assert_eq!(limiter.admit_connection(100, number(stranger)), Ok(()));
        }
        assert_eq!(limiter.counters().evictions, 0);
    }

    #[test]
    fn no_limit_means_none() {
        let limits = SourceLimits { attempts: 0, failed_proofs: 0, ..SourceLimits::default() };
        let mut limiter = SourceLimiter::new(&limits);
        for _ in 0..1_000 {
            assert_eq!(limiter.admit_connection(0, number(1)), Ok(()));
            assert_eq!(limiter.begin_proof(0, number(1)), Ok(()));
        }
    }

    #[test]
    fn a_reload_changes_the_rates_of_those_that_are_known() {
        let mut limiter = limiter(16);
        while limiter.admit_connection(0, number(1)).is_ok() {}
        let limits = SourceLimits { attempts: 1_000, attempts_burst: 2, ..SourceLimits::default() };
        limiter.set_limits(&limits);
        let let_in = (0..9).filter(|_| limiter.admit_connection(60_000, number(1)).is_ok());
        assert_eq!(let_in.count(), 2);
    }

    proptest! {
        #[test]
        fn no_source_gets_more_than_its_rate_and_the_table_stays_bounded(
            steps in proptest::collection::vec((0u64..500, 0u32..12, 0u8..3), 1..400),
        ) {
            // as many places as sources: nobody is forgotten, so the count is exact
            let mut limiter = limiter(16);
            let (mut now, mut let_in, mut failed) = (0, [0u64; 12], [0u64; 12]);
            for (wait, who, what) in steps {
                now += wait;
                let (peer, index) = (number(who), usize::try_from(who).expect("below 12"));
                if what == 0 {
                    let_in[index] += u64::from(limiter.admit_connection(now, peer).is_ok());
                } else if limiter.begin_proof(now, peer).is_ok() {
                    if what == 1 { limiter.proof_succeeded(now, peer) } else {
                        limiter.proof_failed(now, peer);
                        failed[index] += 1;
                    }
                }
                prop_assert!(let_in[index] <= 30 + now / 100);
                prop_assert!(failed[index] <= 3 + now / 10_000);
                prop_assert!(limiter.remembered() <= 16);
            }
            prop_assert_eq!(limiter.counters().evictions, 0);
        }
    }
}
