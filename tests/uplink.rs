//! Two daemons: what a gateway carries to a central instance and back.

#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
mod support;

use std::path::Path;
use std::time::Duration;

use fastport_client::{
    Client, DataFlags, Delivery, Incoming, Options, SubscribeOptions, Subscription, Target, Tier,
    init,
};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use self::access::{identity, secret_file};
use self::support::{DEADLINE, Daemon};

/// A relay that stores nothing, with an open session and one with identities.
fn central_config(listen: &str, more: &str) -> String {
    format!(
        r#"
        board = {{ enabled = false }}
        listen = [{{ kind = "tcp", address = "{listen}" }}]
        session = [{{ name = "home", open = true, open_from = "any" }}]
        {more}
        "#
    )
}

fn gateway_config(central: &[&str], uplink: &str, rules: &str) -> String {
    format!(
        r#"
        board = {{ enabled = false }}
        listen = [{{ kind = "tcp", address = "127.0.0.1:0" }}]
        session = [{{ name = "home", open = true }}]

        [uplink]
        central = {central:?}
        wait_for = "taken"
        retry_first = "100ms"
        retry_most = "1s"
        spool = {{ disk = 0 }}
        {uplink}
        {rules}
        "#
    )
}

fn start(folder: &Path, name: &str, config: &str) -> Daemon {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).expect("the test's folder is writable");
    Daemon::start(&folder, config)
}

async fn client(daemon: &Daemon) -> Client {
    let target = Target::parse(&daemon.url("tcp")).expect("the daemon's own URL");
    init(Options::new(target, "home")).await.expect("the session is open")
}

async fn subscribe(client: &Client, filter: &str) -> Subscription {
    client.subscribe(filter, SubscribeOptions::default()).await.expect("allowed")
}

async fn next(subscription: &mut Subscription) -> Delivery {
    loop {
        let incoming = timeout(DEADLINE, subscription.next()).await.expect("it comes in time");
        match incoming.expect("the link holds") {
            Incoming::Message(delivery) => return delivery,
            Incoming::Gap { .. } => {}
        }
    }
}

async fn emit(client: &Client, topic: &str, payload: &[u8]) {
    let number = client.emit_counted(topic, payload).await.expect("published");
    let held = client.wait(number, Tier::Central);
    timeout(DEADLINE, held).await.expect("in time").expect("held there");
}

/// The figures of a lane.
async fn lane(client: &Client, lane: &str) -> Value {
    let text = client.status().await.expect("figures");
    let figures: Value = serde_json::from_str(&text).expect("JSON");
    figures["uplink"]["lanes"][lane].clone()
}

async fn until(client: &Client, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let latest = Instant::now() + DEADLINE;
    loop {
        let figures = lane(client, "normal").await;
        if is_so(&figures) {
            return figures;
        }
        assert!(Instant::now() < latest, "{what}: {figures:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const BOTH: &str = r#"
    [[uplink.rule]]
    filter = "plant/#"
    [[uplink.rule]]
    direction = "down"
    filter = "cmd/#"
"#;

#[tokio::test]
async fn topics_go_up_under_the_prefix_and_commands_come_down_from_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let central = start(folder.path(), "central", &central_config("127.0.0.1:0", ""));
    let config = gateway_config(&[&central.url("tcp")], "prefix = \"gateways/seven\"", BOTH);
    let mut gateway = start(folder.path(), "gateway", &config);
    gateway.wait_for("uplink ready");
    let (here, there) = (client(&gateway).await, client(&central).await);
    let mut up = subscribe(&there, "#").await;
    let mut down = subscribe(&here, "cmd/#").await;

    here.emit_counted("other/a", b"not carried").await.expect("published");
    emit(&here, "plant/temp", b"21").await;
    let message = next(&mut up).await;
    assert_eq!((&*message.topic, &*message.payload), ("gateways/seven/plant/temp", &b"21"[..]));
    assert!(message.flags.contains(DataFlags::COUNTED));

    // what is uncounted or read, is so there
    here.emit("plant/temp", b"22").await.expect("published");
    let message = next(&mut up).await;
    assert!(!message.flags.contains(DataFlags::COUNTED));

    there.emit_counted("gateways/seven/cmd/valve", b"open").await.expect("published");
    there.emit_counted("gateways/eight/cmd/valve", b"close").await.expect("published");
    let message = next(&mut down).await;
    assert_eq!((&*message.topic, &*message.payload), ("cmd/valve", &b"open"[..]));
    let figures = until(&here, "all is there", |lane| lane["unacknowledged"] == 0).await;
    assert_eq!(figures["link"], "ready");
    assert!(figures["messages_up"].as_u64() >= Some(2), "{figures:#}");
    assert_eq!(figures["messages_down"], 1);
    assert!(figures["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")));
}
