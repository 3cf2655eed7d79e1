//! A gateway that is away for longer than other peers may be: nothing comes twice, no command is lost.

#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
#[path = "support/site.rs"]
mod site;
mod support;

use std::time::Duration;

use fastport_client::{Client, Incoming, SubscribeOptions, Subscription, Tier, init};
use rusqlite::Connection;
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use self::site::Site;
use self::support::DEADLINE;

const RULES: &str = "
[[uplink.rule]]
filter = 'up/#'

[[uplink.rule]]
direction = 'down'
filter = 'cmd/#'
";
/// Three times what central grants to peers that are no gateways.
const OUTAGE: Duration = Duration::from_secs(3);

/// What the store of the central instance has from the device.
fn stored(site: &Site) -> Vec<String> {
    let connection = Connection::open(site.store()).expect("the daemon made it");
    let sql = "SELECT payload FROM messages WHERE topic = 'gateways/gw/up/a' ORDER BY id";
    let mut statement = connection.prepare(sql).expect("the view is there");
    let rows = statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("rows");
    rows.map(|row| String::from_utf8(row.expect("a payload")).expect("text")).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

async fn emit(client: &Client, topic: &str, range: std::ops::Range<u32>, tier: Tier) {
    let mut last = None;
    for number in numbers(range) {
        last = Some(client.emit_counted(topic, number.as_bytes()).await.expect("published"));
    }
    let taken = client.wait(last.expect("some"), tier);
    timeout(DEADLINE, taken).await.expect("in time").expect("taken");
}

async fn commands(subscription: &mut Subscription, count: u32) -> Vec<String> {
    let mut heard = Vec::new();
    while heard.len() < count as usize {
        let next = timeout(DEADLINE, subscription.next()).await;
        let next = next.unwrap_or_else(|_| panic!("no more commands than {heard:?}"));
        match next.expect("the link holds") {
            Incoming::Message(delivery) => {
                heard.push(String::from_utf8(delivery.payload.to_vec()).expect("text"));
            }
            other => panic!("{other:?} after {heard:?}"),
        }
    }
    heard
}

/// The figures of the central instance's session, once they are as they should be.
async fn until(operator: &Client, what: &str, is_so: impl Fn(&Value) -> bool) {
    let latest = Instant::now() + DEADLINE;
    loop {
        let text = operator.status().await.expect("figures");
        let figures: Value = serde_json::from_str(&text).expect("JSON");
        if is_so(&figures) {
            return;
        }
        assert!(Instant::now() < latest, "{what}: {figures:#}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn away(restarts_central: bool) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut site = Site::new(folder.path());
    (site.central_linger, site.central_commit) = ("1s", "2s");
    site.gateway_lines = RULES.to_owned();
    let mut central = site.start_central();
    let mut gateway = site.start_gateway();
    let operator = init(site.operator("operator")).await.expect("central is there");
    let device = init(site.device("dev")).await.expect("the gateway is there");
    let filter = device.subscribe("cmd/dev", SubscribeOptions::default()).await;
    let mut down = filter.expect("it may read its commands");
    emit(&device, "up/a", 0..3, Tier::Central).await;
    emit(&operator, "gateways/gw/cmd/dev", 0..1, Tier::Taken).await;
    assert_eq!(commands(&mut down, 1).await, numbers(0..1));

    // central takes and commits what comes; what it says of that does not get through
    emit(&device, "up/a", 3..8, Tier::Taken).await;
    let is_taken = |figures: &Value| figures["sessions"]["home"]["published"] == 9;
    until(&operator, "what is under way is taken", is_taken).await;
    gateway.signal("STOP");
    assert!(stored(&site).len() < 8, "it was acknowledged before the gateway was stopped");
    let latest = Instant::now() + DEADLINE;
    while stored(&site).len() < 8 {
        assert!(Instant::now() < latest, "it is not committed: {:?}", stored(&site));
        sleep(Duration::from_millis(10)).await;
    }
    gateway.signal("KILL");
    gateway.wait();
    emit(&operator, "gateways/gw/cmd/dev", 1..4, Tier::Central).await;
    sleep(OUTAGE).await;
    if restarts_central {
        central.signal("KILL");
        central.wait();
        central = site.start_central();
        emit(&operator, "gateways/gw/cmd/dev", 4..6, Tier::Central).await;
        sleep(OUTAGE).await;
    }

    let mut gateway = site.start_gateway();
    let all = if restarts_central { 6 } else { 4 };
    assert_eq!(commands(&mut down, all - 1).await, numbers(1..all));
    let line = gateway.wait_for("uplink ready");
    assert!(line.contains("resumed=true"), "{line}");
    // behind it nothing comes again
    emit(&device, "up/a", 8..9, Tier::Central).await;
    emit(&operator, "gateways/gw/cmd/dev", all..all + 1, Tier::Central).await;
    assert_eq!(commands(&mut down, 1).await, numbers(all..all + 1));
    assert_eq!(stored(&site), numbers(0..9));
    drop(central);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_comes_twice_and_no_command_is_lost_when_a_gateway_is_away_for_long() {
    away(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_when_the_central_instance_is_killed_meanwhile() {
    away(true).await;
}
