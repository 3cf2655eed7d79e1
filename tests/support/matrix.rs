//! What the kill matrices share: devices at a gateway publish counted messages, commands flow down to
//! them, and gateway and central instance are killed meanwhile, also while they start; at times the
//! central instance stays away for longer than memory has room.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]
#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "what a test relies on and does not get fails it; what it found is shown"
)]

#[path = "matrix/devices.rs"]
mod devices;
#[path = "matrix/ledger.rs"]
mod ledger;

use std::time::{Duration, Instant};

use fastport_client::init;
use serde_json::Value;

use self::devices::Crowd;
use self::ledger::Ledger;
use super::site::Site;

/// How often something is killed; `FASTPORT_TEST_KILLS` says otherwise.
const KILLS: u64 = 200;
/// Kills from one time to the next that the central instance stays away.
const BETWEEN_OUTAGES: u64 = 25;
/// After the last kill, until everything is where it belongs.
const SETTLE: Duration = Duration::from_secs(120);

/// What the gateway carries: nothing of `up` may be missing; of `old` what a full spool has no room for is
/// dropped, of `short` what waits for too long.
pub const RULES: &str = "
[[uplink.rule]]
filter = 'up/#'
when_full = 'slow-publisher'

[[uplink.rule]]
filter = 'old/#'
when_full = 'drop-oldest'

[[uplink.rule]]
filter = 'short/#'
max_age = '1s'

[[uplink.rule]]
direction = 'down'
filter = 'cmd/#'
";

/// What is killed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    Gateway,
    Central,
    Both,
}

/// A gateway and its central instance that run.
pub trait Pair {
    /// Kills, and waits until what was killed is back.
    fn kill(&mut self, victim: Victim);
    /// Kills, and once more so long after the start of what was killed; waits until it is back. Whether the
    /// second kill came before anything was ready.
    fn kill_twice(&mut self, victim: Victim, after: Duration) -> bool;
    /// Kills the central instance, which stays away.
    fn take_central_away(&mut self);
    /// Starts it again.
    fn bring_central_back(&mut self);
    /// Ends both.
    fn end(self);
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Totals {
    kills: u64,
    /// Of them, those that came before READY.
    in_starts: u64,
    outages: u64,
    /// Times between two kills, and how many of them saw the central instance acknowledge something.
    between: u64,
    between_with_traffic: u64,
    /// Messages that went to the spool on disk, all lanes.
    pub spooled: u64,
}

/// Kills at random points; then looks whether everything is where it belongs, once and in order.
pub async fn run(site: &Site, pair: impl Pair) -> Totals {
    let seed = seed();
    let operator = init(site.operator("operator")).await.expect("the central instance is there");
    let crowd = Crowd::start(site, operator).await;
    let kills = std::env::var("FASTPORT_TEST_KILLS").ok().and_then(|text| text.parse().ok());
    let kills = kills.unwrap_or(KILLS);
    let mut killer =
        Killer { pair, crowd, random: Random(seed), start_takes: START, totals: Totals::default() };
    while killer.totals.kills < kills {
        killer.kill().await;
    }
    let Killer { pair, crowd, mut totals, .. } = killer;

    let ended = crowd.finish().await;
    let figures = all_went_up(site).await;
    for lane in figures["spool"]["lanes"].as_object().into_iter().flatten() {
        totals.spooled += lane.1["appended"].as_u64().unwrap_or(0);
    }
    // the database is read while nobody writes it
    pair.end();
    let (line, has_gaps) = Ledger::read(&site.store()).check(&ended, seed);
    println!("seed {seed:#x}: {totals:?}; {line}");
    assert!(totals.between_with_traffic * 4 >= totals.between, "little traffic: {totals:?}");
    if kills >= KILLS {
        assert!(totals.in_starts * 8 >= totals.kills, "few kills in starts: {totals:?}");
        assert!(has_gaps, "nothing was dropped: {line}");
    }
    totals
}

/// Waits until nothing is queued any more at the gateway; its uplink's figures.
async fn all_went_up(site: &Site) -> Value {
    let client = init(site.device("looks")).await.expect("the gateway is there");
    let until = Instant::now() + SETTLE;
    loop {
        let text = client.status().await.expect("figures");
        let figures: Value = serde_json::from_str(&text).expect("JSON");
        let uplink = &figures["uplink"];
        let spooled = uplink["spool"]["lanes"].as_object().into_iter().flatten();
        let is_empty = spooled.into_iter().all(|(_, lane)| lane["held"] == 0);
        if is_empty && uplink["lanes"]["normal"]["unacknowledged"] == 0 {
            return uplink.clone();
        }
        assert!(Instant::now() < until, "something is queued for ever: {uplink:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

struct Killer<P> {
    pair: P,
    crowd: Crowd,
    random: Random,
    /// From a kill until what was killed is ready again, as the last one was.
    start_takes: Duration,
    totals: Totals,
}

impl<P: Pair> Killer<P> {
    /// Kills once, or twice, or some times while the central instance is away.
    async fn kill(&mut self) {
        let before = self.crowd.acknowledged();
        if self.random.below(3) == 0 {
            self.crowd.wait_for_more_than(before).await;
        }
        self.pause(150).await;
        self.totals.between += 1;
        self.totals.between_with_traffic += u64::from(self.crowd.acknowledged() > before);
        if self.totals.kills / BETWEEN_OUTAGES > self.totals.outages {
            return self.outage().await;
        }
        let victim = match self.random.below(3) {
            0 => Victim::Gateway,
            1 => Victim::Central,
            _ => Victim::Both,
        };
        self.kill_one(victim);
    }

    /// Longer than memory has room, with kills of the gateway while rows are written.
    async fn outage(&mut self) {
        tokio::task::block_in_place(|| self.pair.take_central_away());
        self.totals.kills += 1;
        self.totals.outages += 1;
        for _ in 0..3 {
            self.pause(700).await;
            self.kill_one(Victim::Gateway);
        }
        self.pause(700).await;
        tokio::task::block_in_place(|| self.pair.bring_central_back());
    }

    /// Every second time again, mostly in the start that follows.
    fn kill_one(&mut self, victim: Victim) {
        self.totals.kills += 1;
        if self.random.below(2) == 0 {
            let began = Instant::now();
            tokio::task::block_in_place(|| self.pair.kill(victim));
            self.start_takes = began.elapsed();
            return;
        }
        self.totals.kills += 1;
        let most = u64::try_from(self.start_takes.as_micros()).expect("a short time");
        // what is killed takes a part of that time
        let after = Duration::from_micros(self.random.below(most * 3 / 4));
        let is_in_start = tokio::task::block_in_place(|| self.pair.kill_twice(victim, after));
        self.totals.in_starts += u64::from(is_in_start);
    }

    /// A random point in time is what this test is about.
    async fn pause(&mut self, most: u64) {
        tokio::time::sleep(Duration::from_millis(self.random.below(most))).await;
    }
}

/// xorshift64*, Marsaglia 2003 and Vigna 2014: a failure's seed gives its run again, near enough.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}

fn seed() -> u64 {
    let given = std::env::var("FASTPORT_TEST_SEED").ok();
    let given = given.and_then(|text| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok());
    given.unwrap_or_else(|| getrandom::u64().expect("randomness")).max(1)
}

/// As long as a start may take where none was measured.
const START: Duration = Duration::from_millis(20);
