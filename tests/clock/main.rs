//! The daemon on machines whose clock is not set, or is set while it runs.

#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[cfg(all(feature = "tls", feature = "uplink"))]
#[path = "../support/access.rs"]
mod access;
#[cfg(all(feature = "tls", feature = "uplink"))]
mod certificates;
#[cfg(feature = "central")]
#[path = "../support/site.rs"]
mod site;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/time_travel.rs"]
mod time_travel;
#[cfg(feature = "central")]
mod uplink;

use std::fs;
use std::path::Path;
use std::time::Duration;

use fastport_client::{
    Client, Delivery, Incoming, LinkState, Options, Past, SubscribeOptions, Subscription, Target,
    Tier, init,
};
use fastport_wire::control::Control;
use tokio::time::{Instant, timeout};

use self::support::peer::{Peer, connect};
use self::support::{DEADLINE, Daemon, demo_config};
use self::time_travel::{FakeClock, at_1970, from_today};

const TEN_YEARS: i64 = 10 * 365 * DAY;
const DAY: i64 = 86_400;
/// Clocks are read in seconds, and machines are busy.
const CLOSE: Duration = Duration::from_secs(5);

fn start(clock: &FakeClock, folder: &Path, config: &str) -> Daemon {
    let path = folder.join("gateway.toml");
    fs::write(&path, config).expect("the test's folder is writable");
    Daemon::spawn(&mut clock.fastportd(&path))
}

async fn client(daemon: &Daemon) -> Client {
    let target = Target::parse(&daemon.url("tcp")).expect("the daemon's own URL");
    let options = Options { keepalive: Some(2), reconnect: false, ..Options::new(target, "demo") };
    init(options).await.expect("the session is open")
}

async fn next(subscription: &mut Subscription) -> Delivery {
    let incoming = timeout(DEADLINE, subscription.next()).await.expect("it comes in time");
    match incoming.expect("the link holds") {
        Incoming::Message(delivery) => delivery,
        other => panic!("instead of a message: {other:?}"),
    }
}

/// The clock that the daemon shows to who comes in.
fn welcome_clock(daemon: &Daemon) -> Option<u64> {
    let mut peer = Peer::begin(connect(&daemon.address("tcp")), "demo", |_| {});
    let clock = peer.control(|message| match message {
        Control::Welcome(welcome) => welcome.clock,
        other => panic!("{other:?}"),
    });
    clock.expect("the daemon answers")
}

/// Publishes and reads messages for as long as keepalives need to come and go.
struct Traffic {
    publisher: Client,
    /// says nothing but that it is there
    idle: Client,
    reader: Subscription,
    /// when each message was published: number 0 first
    at: Vec<Instant>,
}

impl Traffic {
    async fn new(daemon: &Daemon) -> Self {
        let (publisher, idle) = (client(daemon).await, client(daemon).await);
        let reader = client(daemon).await;
        let reader = reader.subscribe("count", SubscribeOptions::default()).await.expect("allowed");
        Self { publisher, idle, reader, at: Vec::new() }
    }

    /// The time of day of each message, as the daemon told it.
    async fn run(&mut self) -> Vec<Option<u64>> {
        let until = Instant::now() + Duration::from_millis(2500);
        let mut ticks = tokio::time::interval(Duration::from_millis(25));
        let mut times = Vec::new();
        while Instant::now() < until {
            ticks.tick().await;
            let payload = self.at.len().to_string();
            self.at.push(Instant::now());
            let sent = self.publisher.emit_counted("count", payload.as_bytes()).await;
            let held = self.publisher.wait(sent.expect("published"), Tier::Taken);
            timeout(DEADLINE, held).await.expect("in time").expect("taken");
            let delivery = next(&mut self.reader).await;
            assert_eq!(&*delivery.payload, payload.as_bytes(), "each once, and in order");
            times.push(delivery.unix_ms);
        }
        times
    }

    /// Asserts that no link was lost so far.
    fn assert_linked(&self, when: &str) {
        for client in [&self.publisher, &self.idle] {
            let link = client.link().borrow().clone();
            assert!(matches!(link, LinkState::Ready { .. }), "{when}: {link:?}");
        }
    }

    /// The numbers of the messages that are retained, of the last `age`.
    async fn retained(&self, age: Duration) -> Vec<usize> {
        let past = Past { count: None, age: Some(age) };
        let past = self.publisher.history("count", past).await.expect("allowed");
        let number = |delivery: &Delivery| {
            String::from_utf8_lossy(&delivery.payload).parse().expect("a number")
        };
        past.iter().map(number).collect()
    }

    /// Asserts that the messages of some seconds are there, and no older ones.
    async fn assert_retained(&self, when: &str) {
        let (age, slack) = (Duration::from_secs(4), Duration::from_secs(1));
        let retained = self.retained(age).await;
        let is_older = |number: &usize, than: Duration| self.at[*number].elapsed() > than;
        assert!(!retained.iter().any(|it| is_older(it, age + slack)), "{when}: {retained:?}");
        let mut recent = (0..self.at.len()).filter(|number| !is_older(number, age - slack));
        assert!(recent.all(|number| retained.contains(&number)), "{when}: {retained:?}");
    }
}

#[tokio::test]
async fn a_boot_in_1970_and_steps_of_ten_years_disconnect_nobody_and_stamp_right() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(clock) = FakeClock::new(folder.path(), at_1970()) else { return };
    let retention = "retention = { messages = 10000, age = \"20s\", bytes_per_topic = \"1MiB\" }";
    let mut daemon = start(&clock, folder.path(), &demo_config(retention));
    daemon.wait_for("clock is not set");
    let mut traffic = Traffic::new(&daemon).await;
    assert_eq!(welcome_clock(&daemon), None);
    let times = traffic.run().await;
    assert!(times.iter().all(Option::is_none), "{times:?}");
    let before = traffic.at.len();
    // what the clock shows after each step, and what the daemon makes of it: a clock that falls behind
    // the program's own build is not believed
    let steps = [
        ("set", 0, 0),
        ("ten years ahead", TEN_YEARS, TEN_YEARS),
        ("back", 0, 0),
        ("ten years behind", -TEN_YEARS, 0),
        ("1970 again", at_1970(), 0),
        ("right", 0, 0),
    ];
    for (name, shown, believed) in steps {
        clock.set(shown);
        let is_right = |time: Option<u64>| {
            let time = time.and_then(|time| time.checked_add_signed(-believed * 1000));
            time.is_some_and(|time| from_today(time) < CLOSE)
        };
        let times = traffic.run().await;
        assert!(times.iter().all(|time| is_right(*time)), "{name}: {times:?}");
        assert!(is_right(welcome_clock(&daemon)), "{name}");
        traffic.assert_linked(name);
        traffic.assert_retained(name).await;
    }
    // what came before the clock was set has its time now
    let past = Past { count: None, age: None };
    let retained = traffic.publisher.history("count", past).await.expect("allowed");
    let early = retained.iter().filter(|delivery| {
        let number = String::from_utf8_lossy(&delivery.payload).parse::<usize>();
        number.is_ok_and(|number| number < before)
    });
    let early: Vec<_> = early.map(|delivery| delivery.unix_ms).collect();
    assert!(!early.is_empty(), "they are 16 seconds old, and kept for 20");
    let is_right =
        |time: &Option<u64>| time.is_some_and(|time| from_today(time) < Duration::from_secs(40));
    assert!(early.iter().all(is_right), "{early:?}");
    // and nothing is kept for another ten years
    clock.set(-TEN_YEARS);
    let latest = Instant::now() + DEADLINE;
    loop {
        let left = traffic.retained(Duration::from_secs(3600)).await;
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < latest, "{left:?} are still there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    traffic.assert_linked("at the end");
}
