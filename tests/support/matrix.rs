//! What the kill matrices share: devices at a gateway publish counted messages, commands flow down to
//! them, and gateway and central instance are killed meanwhile.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]
#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "what a test relies on and does not get fails it; what it found is shown"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastport_client::{
    Client, Incoming, OpenOptions, Publisher, SubscribeOptions, Subscription, Tier, init,
};
use fastport_wire::frame::DataFlags;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::site::Site;

/// Devices at the gateway.
const DEVICES: usize = 50;
/// How often something is killed; `FASTPORT_TEST_KILLS` says otherwise.
const KILLS: usize = 200;
/// After the last kill, until everything is where it belongs.
const SETTLE: Duration = Duration::from_secs(120);

/// What the gateway carries, and that nothing of it may be dropped.
pub const RULES: &str = "
[[uplink.rule]]
filter = 'up/#'
when_full = 'slow-publisher'

[[uplink.rule]]
direction = 'down'
filter = 'cmd/#'
";

/// What is killed.
#[derive(Clone, Copy)]
pub enum Victim {
    Gateway,
    Central,
    Both,
}

/// A gateway and its central instance that run.
pub trait Pair {
    /// Kills, and waits until what was killed is back.
    fn kill(&mut self, victim: Victim);
    /// Ends both.
    fn end(self);
}

/// Kills at random points; then looks whether everything is where it belongs, once and in order.
pub async fn run(site: &Site, mut pair: impl Pair) {
    let is_over = Arc::new(AtomicBool::new(false));
    let operator = init(site.operator("operator")).await.expect("the central instance is there");
    let mut devices = JoinSet::new();
    for number in 0..DEVICES {
        let client =
            init(site.device(&format!("dev{number}"))).await.expect("the gateway is there");
        let commands = client
            .subscribe(&format!("cmd/dev{number}"), SubscribeOptions::default())
            .await
            .expect("it may read its commands");
        devices.spawn(device(number, client, commands, Arc::clone(&is_over)));
    }
    let commander = tokio::spawn(command(operator, Arc::clone(&is_over)));

    let seed = seed();
    let mut random = Random(seed);
    let kills = std::env::var("FASTPORT_TEST_KILLS").ok().and_then(|text| text.parse().ok());
    for _ in 0..kills.unwrap_or(KILLS) {
        // a random point in time is what this test is about
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
        let victim = match random.below(3) {
            0 => Victim::Gateway,
            1 => Victim::Central,
            _ => Victim::Both,
        };
        tokio::task::block_in_place(|| pair.kill(victim));
    }
    is_over.store(true, Ordering::Relaxed);

    let sent = timeout(SETTLE, commander).await.expect("commands are taken").expect("no panic");
    let mut published = BTreeMap::new();
    let mut received = BTreeMap::new();
    while let Some(ended) = timeout(SETTLE, devices.join_next()).await.expect("devices end") {
        let ended = ended.expect("no panic");
        published.insert(ended.number, ended.published);
        let wanted = sent[ended.number];
        received.insert(ended.number, finish_commands(ended, wanted).await);
    }
    println!(
        "seed {seed:#x}: {} up, {} down",
        published.values().sum::<u64>(),
        sent.iter().sum::<u64>()
    );
    for (number, commands) in received {
        let expected: Vec<u64> = (1..=sent[number]).collect();
        assert_eq!(commands, expected, "commands of device {number}, seed {seed:#x}");
    }
    // the database is read while nobody writes it
    pair.end();
    for (number, published) in published {
        let held = held_at_central(&site.store(), number);
        let expected: Vec<u64> = (1..=published).collect();
        assert_eq!(held, expected, "messages of device {number}, seed {seed:#x}");
    }
}

struct Ended {
    number: usize,
    published: u64,
    _client: Client,
    commands: Subscription,
    received: Vec<u64>,
}

/// Publishes numbers until it is over, then waits until the central instance holds all of them.
async fn device(
    number: usize,
    client: Client,
    mut commands: Subscription,
    is_over: Arc<AtomicBool>,
) -> Ended {
    let publisher = open(&client, &format!("up/dev{number}"), Tier::Central).await;
    let (mut published, mut received) = (0, Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        published += 1;
        publisher
            .publish_counted(published.to_string().as_bytes(), DataFlags::NONE)
            .await
            .expect("published");
        // some 20 a second each
        let pause = tokio::time::sleep(Duration::from_millis(50));
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                incoming = commands.next() => received.push(number_of(incoming)),
            }
        }
    }
    let all = publisher.wait(Tier::Central);
    timeout(SETTLE, all).await.expect("within the time to settle").expect("central holds all");
    Ended { number, published, _client: client, commands, received }
}

/// Sends numbered commands to all devices until it is over; how many each was sent.
async fn command(operator: Client, is_over: Arc<AtomicBool>) -> Vec<u64> {
    let mut publishers = Vec::new();
    for number in 0..DEVICES {
        publishers
            .push(open(&operator, &format!("gateways/gw/cmd/dev{number}"), Tier::Durable).await);
    }
    let mut sent = vec![0; DEVICES];
    while !is_over.load(Ordering::Relaxed) {
        for (publisher, sent) in publishers.iter().zip(&mut sent) {
            *sent += 1;
            let text = sent.to_string();
            publisher.publish_counted(text.as_bytes(), DataFlags::NONE).await.expect("published");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for publisher in &publishers {
        publisher.wait(Tier::Durable).await.expect("the central instance holds all");
    }
    sent
}

/// Reads on until all commands have come, and a little longer for those that come twice.
async fn finish_commands(mut ended: Ended, wanted: u64) -> Vec<u64> {
    let until = Instant::now() + SETTLE;
    while (ended.received.len() as u64) < wanted && Instant::now() < until {
        let incoming = timeout(SETTLE, ended.commands.next()).await;
        let Ok(incoming) = incoming else { break };
        ended.received.push(number_of(incoming));
    }
    while let Ok(incoming) = timeout(Duration::from_millis(20), ended.commands.next()).await {
        ended.received.push(number_of(incoming));
    }
    ended.received
}

async fn open(client: &Client, topic: &str, tier: Tier) -> Publisher {
    let options = OpenOptions { tier: Some(tier), ..OpenOptions::default() };
    client.open(topic, options).await.expect("the tier is offered")
}

fn number_of(incoming: Option<Incoming>) -> u64 {
    match incoming {
        Some(Incoming::Message(message)) => std::str::from_utf8(&message.payload)
            .ok()
            .and_then(|text| text.parse().ok())
            .expect("a number"),
        other => panic!("instead of a command: {other:?}"),
    }
}

/// The numbers that the central instance holds of a device, in the order in which it took them.
fn held_at_central(store: &Path, device: usize) -> Vec<u64> {
    let database = rusqlite::Connection::open(store).expect("the store is there");
    let mut query = database
        .prepare("SELECT payload FROM message JOIN topic ON topic.id = message.topic WHERE topic.name = ?1 \
             ORDER BY message.id")
        .expect("the table is there");
    let rows = query
        .query_map([format!("gateways/gw/up/dev{device}")], |row| row.get::<_, Vec<u8>>(0))
        .expect("a query");
    rows.map(|payload| {
        let payload = payload.expect("a row");
        std::str::from_utf8(&payload).ok().and_then(|text| text.parse().ok()).expect("a number")
    })
    .collect()
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
