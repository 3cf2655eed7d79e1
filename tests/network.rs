//! The uplink over a network that misbehaves: dead links are found in time, slow ones are left alone,
//! what comes back is used at once, and nothing is lost on the way.
#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "what a test relies on and does not get fails it; what it found is shown"
)]

#[path = "support/namespaces.rs"]
mod namespaces;
mod support;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastport_client::{
    Client, Incoming, OpenOptions, Options, SubscribeOptions, Subscription, Target, Tier, WhenFull,
    init,
};
use fastport_wire::frame::DataFlags;
use namespaces::{FAR, FAR_NAME, NEAR, Namespaces, are_possible};
use serde_json::Value;
use support::Daemon;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A dead link is found within this, and what looking at it from outside adds.
const FOUND: Duration = Duration::from_millis(10_000 + SLACK_MS);
/// A network that is back is used within this.
const BACK: Duration = Duration::from_millis(2_000 + SLACK_MS);
/// Two processes are started and asked on a machine that runs other tests.
const SLACK_MS: u64 = 1_000;
/// For so long a wire is bad that must not be taken for dead: longer than a dead one would live.
const BAD: Duration = Duration::from_secs(14);
/// Until all has arrived in the end.
const SETTLE: Duration = Duration::from_secs(60);
/// Between two messages of the device.
const PAUSE: Duration = Duration::from_millis(50);

/// What happens to the wire.
struct Fault {
    /// As `wire.py` has it.
    rule: &'static str,
    /// Whether the link is dead then.
    is_deadly: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_is_found_and_left_behind() {
    suffer("black hole", Fault { rule: r#"{"ab":{"loss":1},"ba":{"loss":1}}"#, is_deadly: true })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_loses_one_way_is_found_and_left_behind() {
    suffer("one way up", Fault { rule: r#"{"ab":{"loss":1}}"#, is_deadly: true }).await;
    suffer("one way down", Fault { rule: r#"{"ba":{"loss":1}}"#, is_deadly: true }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_and_reset_connections_are_tried_again() {
    let rule = r#"{"ab":{"reset":true},"ba":{"reset":true}}"#;
    suffer("reset", Fault { rule, is_deadly: true }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifth_of_the_packets_lost_is_no_dead_link() {
    let rule = r#"{"ab":{"loss":0.2},"ba":{"loss":0.2}}"#;
    suffer("20 % loss", Fault { rule, is_deadly: false }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_hundred_milliseconds_there_and_back_are_no_dead_link() {
    let rule = r#"{"ab":{"delay_ms":400},"ba":{"delay_ms":400}}"#;
    suffer("800 ms", Fault { rule, is_deadly: false }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn packets_out_of_order_and_doubled_change_nothing() {
    let rule = r#"{"ab":{"jitter_ms":40,"duplicate":0.2},"ba":{"jitter_ms":40,"duplicate":0.2}}"#;
    suffer("reordering, duplicates", Fault { rule, is_deadly: false }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_kilobits_are_enough() {
    let rule = r#"{"ab":{"rate_kbit":64},"ba":{"rate_kbit":64}}"#;
    suffer("64 kbit/s", Fault { rule, is_deadly: false }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipv6_address_that_leads_nowhere_costs_a_moment() {
    if !are_possible("IPv6 that leads nowhere") {
        return;
    }
    let mut site = Site::new(FAR_NAME);
    site.wires.set_hosts(&format!("fd77::2 {FAR_NAME}\n{FAR} {FAR_NAME}\n"));
    let started = Instant::now();
    site.start();
    let mut scene = Scene::begin(&site).await;
    assert!(started.elapsed() < BACK, "{:?}", started.elapsed());
    scene.end(&mut site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_nobody_resolves_are_asked_again() {
    if !are_possible("DNS that fails") {
        return;
    }
    let mut site = Site::new(FAR_NAME);
    site.wires.set_hosts("127.0.0.1 localhost\n");
    site.start();
    let mut scene = Scene::wait_in_vain(&site).await;
    site.wires.set_hosts(&format!("{FAR} {FAR_NAME}\n"));
    scene.wait_for_link(true, BACK).await;
    scene.end(&mut site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_changes_is_left_behind() {
    if !are_possible("address change") {
        return;
    }
    let mut site = Site::new(FAR);
    site.start();
    let mut scene = Scene::begin(&site).await;
    let before = scene.connects().await;
    let device = site.wires.near_device();
    site.wires.ip_near(&["address", "delete", &format!("{NEAR}/24"), "dev", &device]);
    site.wires.ip_near(&["address", "add", "10.77.0.3/24", "dev", &device]);
    let changed = Instant::now();
    // found by the link's silence, and then used at once
    scene.wait_for_connects(before + 1, FOUND + BACK).await;
    println!("address change: back after {:?}", changed.elapsed());
    scene.end(&mut site).await;
}

/// Messages that wait for the central instance.
const BACKLOG: u64 = 100_000;
/// Until the first of them, and until an alarm.
const FRESH: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_overtakes_a_hundred_thousand_messages_on_a_slow_line() {
    if !are_possible("fresh first") {
        return;
    }
    let mut site = Site::new(FAR);
    site.rules = "
[[uplink.rule]]
filter = \"alarm\"
lane = \"alarm\"

[[uplink.rule]]
filter = \"n\"
when_full = \"slow-publisher\"
";
    site.wires.tell(r#"{"ab":{"loss":1},"ba":{"loss":1}}"#);
    site.start();
    let mut scene = Scene::silent(&site).await;
    let device = init(site.options("gateway")).await.expect("the gateway is there");
    for number in 1..=BACKLOG {
        device.emit_counted("n", number.to_string().as_bytes()).await.expect("published");
    }
    device.flush(Tier::Taken).await.expect("the gateway has all");
    let reader = init(site.options("central")).await.expect("the central instance is there");
    let mut alarms =
        reader.subscribe("alarm", SubscribeOptions::default()).await.expect("it may be read");
    site.wires.tell(r#"{"ab":{"rate_kbit":256},"ba":{"rate_kbit":256}}"#);
    scene.wait_for_link(true, BACK).await;
    let up = Instant::now();
    scene.wait_for_held(1).await;
    let first = up.elapsed();
    // the line is busy by now
    scene.wait_for_held(2_000).await;
    let raised = Instant::now();
    device.emit_counted("alarm", b"fire").await.expect("published");
    let alarm = timeout(SETTLE, alarms.next()).await.expect("in time").expect("the reader goes on");
    let overtook = raised.elapsed();
    let waiting = usize::try_from(BACKLOG).expect("few") - scene.held();
    println!(
        "fresh first: draining after {first:?}, the alarm after {overtook:?}, {waiting} behind it"
    );
    assert!(matches!(alarm, Incoming::Message(_)), "{alarm:?}");
    assert!(first < FRESH && overtook < FRESH, "{first:?}, {overtook:?}");
    assert!(waiting > 0, "nothing was overtaken");
    site.wires.tell("{}");
    scene.wait_for_held(usize::try_from(BACKLOG).expect("few")).await;
    assert_eq!(*scene.held.lock().expect("no panic"), (1..=BACKLOG).collect::<Vec<_>>());
}

/// Runs a device over a wire that is good, then as `fault` says, then good again.
async fn suffer(name: &str, fault: Fault) {
    if !are_possible(name) {
        return;
    }
    let mut site = Site::new(FAR);
    site.start();
    let mut scene = Scene::begin(&site).await;
    site.wires.tell(fault.rule);
    let begun = Instant::now();
    if fault.is_deadly {
        scene.wait_for_link(false, FOUND).await;
        let found = begun.elapsed();
        // an outage has some length
        sleep(Duration::from_secs(3)).await;
        site.wires.tell("{}");
        let mended = Instant::now();
        scene.wait_for_link(true, BACK).await;
        println!("{name}: found after {found:?}, back after {:?}", mended.elapsed());
    } else {
        let before = scene.connects().await;
        let held = scene.held();
        sleep(BAD).await;
        assert_eq!(scene.connects().await, before, "{name}: a false alarm");
        assert!(scene.held() > held, "{name}: nothing came through");
        site.wires.tell("{}");
    }
    scene.end(&mut site).await;
}

/// A gateway on one side, its central instance on the other; both reached by Unix sockets, which
/// know no namespaces.
struct Site {
    folder: tempfile::TempDir,
    wires: Namespaces,
    far_name: String,
    rules: &'static str,
    daemons: Vec<Daemon>,
}

impl Site {
    fn new(far_name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["central", "gateway"] {
            std::fs::create_dir_all(folder.path().join(name)).expect("a folder");
        }
        Self {
            folder,
            wires: Namespaces::new(),
            far_name: far_name.to_owned(),
            rules: "[[uplink.rule]]\nwhen_full = \"slow-publisher\"",
            daemons: Vec::new(),
        }
    }

    fn start(&mut self) {
        let central = config("[[listen]]\nkind = \"tcp\"\naddress = \"0.0.0.0:7470\"", CENTRAL);
        let (far, rules) = (&self.far_name, self.rules);
        let uplink = format!("[uplink]\ncentral = [\"tcp://{far}:7470\"]\n{rules}");
        let gateway = config("", &uplink);
        let program = env!("CARGO_BIN_EXE_fastportd");
        for (name, text, command) in [
            ("central", central, self.wires.far(program)),
            ("gateway", gateway, self.wires.near(program)),
        ] {
            let path = self.folder.path().join(name).join("gateway.toml");
            std::fs::write(&path, text).expect("the test's folder is writable");
            let mut command = command;
            command.arg("--config").arg(&path).env("FASTPORT_DAEMON_LOG_FORMAT", "text");
            self.daemons.push(Daemon::spawn(&mut command));
        }
    }

    fn options(&self, name: &str) -> Options {
        let path = self.folder.path().join(name).join("socket");
        let target = Target::parse(&format!("unix:{}", path.display())).expect("a URL");
        let mut options = Options::new(target, "home");
        options.when_full = Some(WhenFull::Hold);
        options
    }
}

const CENTRAL: &str = "[central]\nenabled = true\ncommit = \"5ms\"";

fn config(listen: &str, rest: &str) -> String {
    format!(
        r#"
[daemon]
state = "."

[board]
enabled = false

[[listen]]
kind = "unix"
path = "socket"

{listen}

[[session]]
name = "home"
open = true
open_from = "any"
promise = "journal"

[journal]
place = "disk"

{rest}
"#
    )
}

/// A device at the gateway that publishes all the time, a reader at the central instance.
struct Scene {
    status: Client,
    device: JoinSet<u64>,
    stop: watch::Sender<bool>,
    held: Arc<Mutex<Vec<u64>>>,
    _reader: JoinSet<()>,
}

impl Scene {
    /// Waits for the first messages.
    async fn begin(site: &Site) -> Self {
        let mut scene = Self::start(site).await;
        scene.wait_for_link(true, SETTLE).await;
        scene.wait_for_held(5).await;
        scene
    }

    /// Waits for attempts that fail.
    async fn wait_in_vain(site: &Site) -> Self {
        let scene = Self::start(site).await;
        let until = Instant::now() + SETTLE;
        while scene.lane().await["failures"]["name"].as_u64().unwrap_or(0) < 3 {
            assert!(Instant::now() < until, "{}", scene.lane().await);
            sleep(PAUSE).await;
        }
        scene
    }

    async fn start(site: &Site) -> Self {
        let mut scene = Self::silent(site).await;
        let client = init(site.options("gateway")).await.expect("the gateway is there");
        scene.device.spawn(publish(client, scene.stop.subscribe()));
        scene
    }

    /// Without a device.
    async fn silent(site: &Site) -> Self {
        let (stop, _) = watch::channel(false);
        let status = init(site.options("gateway")).await.expect("the gateway is there");
        let reader = init(site.options("central")).await.expect("the central instance is there");
        let messages =
            reader.subscribe("n", SubscribeOptions::default()).await.expect("it may be read");
        let held = Arc::default();
        let mut reading = JoinSet::new();
        reading.spawn(read(reader, messages, Arc::clone(&held)));
        Self { status, device: JoinSet::new(), stop, held, _reader: reading }
    }

    /// What the gateway says of its lane.
    async fn lane(&self) -> Value {
        let text = self.status.status().await.expect("the gateway answers");
        let mut figures: Value = serde_json::from_str(&text).expect("JSON");
        figures["uplink"]["lanes"]["normal"].take()
    }

    async fn connects(&self) -> u64 {
        self.lane().await["connects"].as_u64().expect("a number")
    }

    async fn wait_for_connects(&self, connects: u64, within: Duration) {
        let until = Instant::now() + within;
        while self.connects().await < connects {
            assert!(Instant::now() < until, "not within {within:?}: {}", self.lane().await);
            sleep(PAUSE).await;
        }
    }

    async fn wait_for_link(&mut self, is_wanted: bool, within: Duration) {
        let until = Instant::now() + within;
        while (self.lane().await["link"] == "ready") != is_wanted {
            let lane = self.lane().await;
            assert!(Instant::now() < until, "ready {is_wanted} not within {within:?}: {lane}");
            sleep(PAUSE).await;
        }
    }

    fn held(&self) -> usize {
        self.held.lock().expect("no panic").len()
    }

    async fn wait_for_held(&self, count: usize) {
        let until = Instant::now() + SETTLE;
        while self.held() < count {
            assert!(Instant::now() < until, "{} of {count}: {}", self.held(), self.lane().await);
            sleep(PAUSE).await;
        }
    }

    /// Everything that was published is there, once and in order.
    async fn end(&mut self, site: &mut Site) {
        self.stop.send(true).expect("the device runs");
        let ended = timeout(SETTLE, self.device.join_next()).await;
        let published = ended.expect("central has all").expect("a device").expect("no panic");
        self.wait_for_held(usize::try_from(published).expect("few")).await;
        let held = self.held.lock().expect("no panic").clone();
        let distinct: BTreeSet<_> = held.iter().collect();
        assert_eq!(distinct.len(), held.len(), "doubled: {held:?}");
        assert_eq!(held, (1..=published).collect::<Vec<_>>());
        site.daemons.clear();
    }
}

async fn publish(client: Client, stopped: watch::Receiver<bool>) -> u64 {
    let options = OpenOptions { tier: Some(Tier::Central), ..OpenOptions::default() };
    let publisher = client.open("n", options).await.expect("the tier is offered");
    let mut published = 0_u64;
    while !*stopped.borrow() {
        published += 1;
        let text = published.to_string();
        publisher.publish_counted(text.as_bytes(), DataFlags::NONE).await.expect("published");
        sleep(PAUSE).await;
    }
    publisher.wait(Tier::Central).await.expect("central has all");
    published
}

async fn read(_client: Client, mut messages: Subscription, held: Arc<Mutex<Vec<u64>>>) {
    while let Some(incoming) = messages.next().await {
        let Incoming::Message(message) = incoming else { continue };
        let text = std::str::from_utf8(&message.payload).expect("text");
        held.lock().expect("no panic").push(text.parse().expect("a number"));
    }
}
