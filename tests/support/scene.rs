//! A gateway and its central instance in two network namespaces, and what happens between them.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastport_client::{
    Client, Incoming, OpenOptions, Options, SubscribeOptions, Subscription, Target, Tier, WhenFull,
    init,
};
use fastport_wire::frame::DataFlags;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::namespaces::Namespaces;
use super::support::Daemon;

/// Until all has arrived in the end.
pub const SETTLE: Duration = Duration::from_secs(60);
/// Between two messages of the device, and between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// A gateway on one side, its central instance on the other; both reached by Unix sockets, which
/// know no namespaces.
pub struct Site {
    folder: tempfile::TempDir,
    /// The network, to be told how to misbehave.
    pub wires: Namespaces,
    far_name: String,
    /// `[[uplink.rule]]`.
    pub rules: &'static str,
    daemons: Vec<Daemon>,
}

impl Site {
    pub fn new(far_name: &str) -> Self {
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

    pub fn start(&mut self) {
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

    pub fn options(&self, name: &str) -> Options {
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
pub struct Scene {
    status: Client,
    device: JoinSet<u64>,
    stop: watch::Sender<bool>,
    /// What the central instance holds, in its order.
    pub held: Arc<Mutex<Vec<u64>>>,
    _reader: JoinSet<()>,
}

impl Scene {
    /// Waits for the first messages.
    pub async fn begin(site: &Site) -> Self {
        let mut scene = Self::start(site).await;
        scene.wait_for_link(true, SETTLE).await;
        scene.wait_for_held(5).await;
        scene
    }

    /// Waits for attempts that fail.
    pub async fn wait_in_vain(site: &Site) -> Self {
        let scene = Self::start(site).await;
        let until = Instant::now() + SETTLE;
        while scene.lane().await["failures"]["name"].as_u64().unwrap_or(0) < 3 {
            assert!(Instant::now() < until, "{}", scene.lane().await);
            sleep(PAUSE).await;
        }
        scene
    }

    pub async fn start(site: &Site) -> Self {
        let mut scene = Self::silent(site).await;
        let client = init(site.options("gateway")).await.expect("the gateway is there");
        scene.device.spawn(publish(client, scene.stop.subscribe()));
        scene
    }

    /// Without a device.
    pub async fn silent(site: &Site) -> Self {
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
    pub async fn lane(&self) -> Value {
        let text = self.status.status().await.expect("the gateway answers");
        let mut figures: Value = serde_json::from_str(&text).expect("JSON");
        figures["uplink"]["lanes"]["normal"].take()
    }

    pub async fn connects(&self) -> u64 {
        self.lane().await["connects"].as_u64().expect("a number")
    }

    pub async fn wait_for_connects(&self, connects: u64, within: Duration) {
        let until = Instant::now() + within;
        while self.connects().await < connects {
            assert!(Instant::now() < until, "not within {within:?}: {}", self.lane().await);
            sleep(PAUSE).await;
        }
    }

    pub async fn wait_for_link(&mut self, is_wanted: bool, within: Duration) {
        let until = Instant::now() + within;
        while (self.lane().await["link"] == "ready") != is_wanted {
            let lane = self.lane().await;
            assert!(Instant::now() < until, "ready {is_wanted} not within {within:?}: {lane}");
            sleep(PAUSE).await;
        }
    }

    pub fn held(&self) -> usize {
        self.held.lock().expect("no panic").len()
    }

    pub async fn wait_for_held(&self, count: usize) {
        let until = Instant::now() + SETTLE;
        while self.held() < count {
            assert!(Instant::now() < until, "{} of {count}: {}", self.held(), self.lane().await);
            sleep(PAUSE).await;
        }
    }

    /// Everything that was published is there, once and in order.
    pub async fn end(&mut self, site: &mut Site) {
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
