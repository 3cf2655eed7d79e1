//! A gateway whose spool has no disk: what memory has no room for gives way by its rule, and is told of;
//! nobody waits who need not, whatever is killed meanwhile.
#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
#[path = "support/lane.rs"]
mod lane;
#[path = "support/site.rs"]
mod site;
mod support;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastport_client::{Client, Tier, init};
use serde_json::Value;
use tokio::time::timeout;

use self::lane::{lane, wait};
use self::site::Site;
use self::support::{DEADLINE, Daemon};

/// Messages of each topic in each part of the outage: far more than fit.
const MANY: u64 = 3_000;
const RULES: &str = "spool = { disk = 0, memory = '64KiB' }
    [[uplink.rule]]
    filter = 'up/oldest'
    [[uplink.rule]]
    filter = 'up/latest'
    when_full = 'latest'
    [[uplink.rule]]
    filter = 'up/short'
    max_age = '1s'
    [[uplink.rule]]
    filter = 'up/wait'
    when_full = 'slow-publisher'
    ";

/// What the central instance has of a topic.
#[derive(Debug)]
struct Told {
    /// In its order.
    held: Vec<u64>,
    missing: u64,
}

fn told(store: &Path, topic: &str) -> Told {
    let database = rusqlite::Connection::open(store).expect("the store is there");
    database.busy_timeout(DEADLINE).expect("a setting");
    let name = format!("gateways/gw/{topic}");
    let mut query = database
        .prepare(
            "SELECT payload FROM message JOIN topic ON topic.id = message.topic
             WHERE topic.name = ? ORDER BY message.id",
        )
        .expect("the tables are there");
    let rows = query.query_map([&name], |row| row.get::<_, Vec<u8>>(0)).expect("rows");
    let held = rows
        .map(|payload| {
            let text = String::from_utf8(payload.expect("a row")).expect("text");
            text.trim_end_matches('x').parse().expect("a number")
        })
        .collect();
    let missing = database
        .query_row(
            "SELECT coalesce(sum(messages), 0) FROM gap JOIN topic ON topic.id = gap.topic
             WHERE topic.name = ?",
            [&name],
            |row| row.get(0),
        )
        .expect("a sum");
    Told { held, missing }
}

/// Publishes numbers, and waits until the gateway has taken them; the last one's count.
async fn publish(client: &Client, topic: &str, numbers: Range<u64>) -> u64 {
    let mut last = 0;
    for number in numbers {
        let payload = format!("{number}{:x<60}", "");
        let sent = timeout(DEADLINE, client.emit_counted(topic, payload.as_bytes())).await;
        last = sent.expect("nobody waits").expect("published");
    }
    wait(client, last, Tier::Taken).await;
    last
}

async fn until(client: &Client, what: &str, is_so: impl Fn(&Value) -> bool) {
    let latest = Instant::now() + DEADLINE;
    loop {
        let lane = lane(client).await;
        if is_so(&lane) {
            return;
        }
        assert!(Instant::now() < latest, "{what}: {lane:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_all_there(lane: &Value) -> bool {
    lane["link"] == "ready" && lane["unacknowledged"] == 0
}

fn kill(mut daemon: Daemon) {
    daemon.signal("KILL");
    daemon.wait();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_disk_the_newest_survive_an_outage_and_a_crash_in_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut site = Site::new(folder.path());
    site.gateway_lines = RULES.to_owned();
    let (central, gateway) = (site.start_central(), site.start_gateway());
    let device = init(site.device("device")).await.expect("the gateway is there");
    let [oldest, latest] = ["up/oldest", "up/latest"];
    publish(&device, oldest, 0..100).await;
    publish(&device, latest, 0..100).await;
    until(&device, "all is there", is_all_there).await;

    drop(central);
    publish(&device, latest, 100..MANY).await;
    publish(&device, oldest, 100..MANY).await;
    kill(gateway);
    let gateway = site.start_gateway();
    publish(&device, oldest, MANY..2 * MANY).await;
    let last = publish(&device, latest, MANY..2 * MANY).await;

    let central = site.start_central();
    wait(&device, last, Tier::Central).await;
    for topic in [oldest, latest] {
        let Told { held, missing } = told(&site.store(), topic);
        assert!(held.is_sorted_by(|before, after| before < after), "{topic}: {held:?}");
        assert_eq!(held.len() as u64 + missing, 2 * MANY, "{topic}");
        assert_eq!(held.last(), Some(&(2 * MANY - 1)), "{topic}");
        assert!(held.len() > 100 && missing > MANY, "{topic}: {missing}");
    }
    drop((central, gateway));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_wait_waits_and_what_is_too_old_goes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut site = Site::new(folder.path());
    site.gateway_lines = RULES.to_owned();
    let gateway = site.start_gateway();
    let device = init(site.device("device")).await.expect("the gateway is there");
    let slow = init(site.device("slow")).await.expect("the gateway is there");
    publish(&device, "up/short", 0..100).await;
    publish(&device, "up/oldest", 0..10).await;
    // with the first looks at what waits: all of them were there for a second
    until(&device, "old ones go", |lane| lane["unacknowledged"] == 10).await;

    let patient = tokio::spawn(async move {
        let last = publish(&slow, "up/wait", 0..MANY).await;
        wait(&slow, last, Tier::Central).await;
        slow
    });
    let last = publish(&device, "up/oldest", 10..MANY).await;
    assert!(!patient.is_finished(), "there was room for all of it");
    let central = site.start_central();
    let slow = timeout(DEADLINE, patient).await.expect("in time").expect("it is published");
    wait(&device, last, Tier::Central).await;
    let Told { held, missing } = told(&site.store(), "up/wait");
    assert_eq!((held, missing), ((0..MANY).collect(), 0));
    let Told { held, missing } = told(&site.store(), "up/oldest");
    assert_eq!(held.len() as u64 + missing, MANY);
    let Told { held, missing } = told(&site.store(), "up/short");
    assert_eq!((held, missing), (Vec::new(), 100));
    drop((central, gateway, slow));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_drains_while_publishers_wait_for_room() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut site = Site::new(folder.path());
    site.gateway_lines = "spool = { disk = '1MiB', memory = '64KiB' }
        [[uplink.rule]]
        when_full = 'slow-publisher'"
        .to_owned();
    let gateway = site.start_gateway();
    let patient = init(site.device("patient")).await.expect("the gateway is there");
    let looks = init(site.device("looks")).await.expect("the gateway is there");
    // more than the disk, and memory here and there, hold
    let many = 3 * MANY;
    let published = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&published);
    let patient = tokio::spawn(async move {
        for number in 0..many {
            let payload = format!("{number}{:x<400}", "");
            let last = patient.emit_counted("up", payload.as_bytes()).await.expect("published");
            count.store(last, Ordering::Relaxed);
        }
        wait(&patient, many, Tier::Central).await;
    });
    let (mut before, latest) = (0, Instant::now() + DEADLINE);
    while before == 0 || published.load(Ordering::Relaxed) > before {
        assert!(Instant::now() < latest, "there is room for all of it");
        before = published.load(Ordering::Relaxed);
        // nothing more is taken for so long: all is full
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let held = lane(&looks).await;
    assert!(before < many && held["unacknowledged"].as_u64() > Some(50), "{before}: {held:#}");
    let central = site.start_central();
    timeout(DEADLINE, patient).await.expect("in time").expect("it is published");
    let Told { held, missing } = told(&site.store(), "up");
    assert_eq!((held, missing), ((0..many).collect(), 0));
    drop((central, gateway));
}
