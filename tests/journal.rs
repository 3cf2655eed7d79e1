//! Sessions with `promise = "journal"`: the daemon is killed, and its peers find what they had.

#![allow(clippy::panic, reason = "a failed expectation is what a test is for")]

#[path = "support/small_disk.rs"]
mod small_disk;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastport_client::{
    BackoffOptions, Client, DataFlags, Incoming, LinkState, OpenOptions, Options, SubscribeOptions,
    Subscription, Target, Tier, WhenFull, init,
};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::small_disk::SmallDisk;
use self::support::{DEADLINE, Daemon};

const PUBLISHERS: u32 = 8;
/// Readers that must not lose, of all topics and of one each.
const FILTERS: [&str; 3] = ["plant/#", "plant/2", "plant/+"];
const KILLS: u32 = 20;

/// A daemon on a socket whose path stays, so that clients find the next one.
struct Site {
    folder: TempDir,
    state: std::path::PathBuf,
    lines: &'static str,
}

impl Site {
    fn new(lines: &'static str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let state = folder.path().join("state");
        Self { folder, state, lines }
    }

    fn start(&self) -> Daemon {
        let socket = self.folder.path().join("socket");
        let config = format!(
            r#"
            limits = {{ memory = "32MiB", linger = 60 }}
            board = {{ enabled = false }}
            listen = [{{ kind = "unix", path = "{}" }}]
            session = [{{ name = "demo", open = true, promise = "journal" }}]
            journal = {{ {} }}
            daemon = {{ state = "{}" }}
            "#,
            socket.display(),
            self.lines,
            self.state.display(),
        );
        Daemon::start(self.folder.path(), &config)
    }

    fn options(&self, name: &str) -> Options {
        let socket = self.folder.path().join("socket");
        let target = Target::parse(&format!("unix:{}", socket.display())).expect("a URL");
        Options {
            name: name.to_owned(),
            linger: 60,
            when_full: Some(WhenFull::Hold),
            backoff: BackoffOptions {
                first: Duration::from_millis(5),
                most: Duration::from_millis(50),
                ..BackoffOptions::default()
            },
            init_timeout: 2 * DEADLINE,
            request_timeout: 2 * DEADLINE,
            ..Options::new(target, "demo")
        }
    }

    async fn connect(&self, name: &str) -> Client {
        init(self.options(name)).await.unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn journal(&self) -> std::path::PathBuf {
        self.state.join("journal-demo.log")
    }
}

/// Counts links that began anew: each is a state that was lost.
fn watch_links(
    client: &Client,
    lost: &Arc<AtomicU64>,
    back: &Arc<AtomicU64>,
    tasks: &mut JoinSet<()>,
) {
    let (mut link, lost, back) = (client.link(), Arc::clone(lost), Arc::clone(back));
    link.mark_unchanged();
    tasks.spawn(async move {
        while link.changed().await.is_ok() {
            match *link.borrow_and_update() {
                LinkState::Ready { resumed: false } => lost.fetch_add(1, Ordering::Relaxed),
                LinkState::Ready { resumed: true } => back.fetch_add(1, Ordering::Relaxed),
                _ => 0,
            };
        }
    });
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let latest = Instant::now() + 2 * DEADLINE;
    while !is_so() {
        assert!(Instant::now() < latest, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("a runtime")
}

#[test]
fn nothing_is_lost_or_doubled_when_the_daemon_is_killed_at_any_point() {
    let site = Site::new(r#"place = "disk", least = "64KiB""#);
    runtime().block_on(kill_often(&site));
}

async fn kill_often(site: &Site) {
    let mut daemon = site.start();
    let (lost, back) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let received = Arc::new(AtomicU64::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let (mut links, mut readers, mut publishers) = (JoinSet::new(), JoinSet::new(), JoinSet::new());
    for (number, filter) in FILTERS.into_iter().enumerate() {
        let client = site.connect(&format!("reader-{number}")).await;
        let subscription = client.subscribe(filter, SubscribeOptions::default()).await;
        let subscription = subscription.expect("the session is open");
        watch_links(&client, &lost, &back, &mut links);
        readers.spawn(receive(client, subscription, filter, Arc::clone(&received)));
    }
    for number in 0..PUBLISHERS {
        let client = site.connect(&format!("publisher-{number}")).await;
        let topic = client.open(&format!("plant/{number}"), OpenOptions::default()).await;
        let topic = topic.expect("the session is open");
        watch_links(&client, &lost, &back, &mut links);
        publishers.spawn(publish(client, topic, Arc::clone(&is_over)));
    }
    let mut random = Random(0x5eed);
    for kill in 0..KILLS {
        // at the first messages after a start, or after many
        let wanted = received.load(Ordering::Relaxed) + random.below(3000);
        until("messages arrive", || received.load(Ordering::Relaxed) >= wanted).await;
        daemon.signal("KILL");
        daemon.wait();
        let found = daemon.log().matches("journal damaged").count();
        assert!(found <= 1, "kill {kill}: {}", daemon.log());
        daemon = site.start();
    }
    is_over.store(true, Ordering::Relaxed);
    let mut published = BTreeMap::new();
    while let Some(ended) = timeout(4 * DEADLINE, publishers.join_next()).await.expect("in time") {
        let (topic, count, client) = ended.expect("all is acknowledged");
        published.insert(topic, count);
        drop(client);
    }
    let expected = |filter: &str| match published.get(filter) {
        Some(&count) => count,
        None => published.values().sum::<u64>(),
    };
    let mut total: u64 = FILTERS.iter().map(|filter| expected(filter)).sum();
    until("all has arrived", || received.load(Ordering::Relaxed) >= total).await;
    readers.abort_all();
    while let Some(ended) = readers.join_next().await {
        assert!(ended.is_err_and(|error| error.is_cancelled()), "a reader failed");
    }
    total -= received.load(Ordering::Relaxed);
    assert_eq!(total, 0, "and no more");
    assert_eq!(lost.load(Ordering::Relaxed), 0, "every peer found its state");
    assert!(back.load(Ordering::Relaxed) >= u64::from(KILLS), "links came back");
}

async fn publish(
    client: Client,
    topic: fastport_client::Publisher,
    is_over: Arc<AtomicBool>,
) -> (String, u64, Client) {
    let mut count = 0u64;
    while !is_over.load(Ordering::Relaxed) {
        topic.publish_counted(&count.to_be_bytes(), DataFlags::NONE).await.expect("open");
        count += 1;
        if count.is_multiple_of(64) {
            // others want to run, and the daemon is to be killed at all kinds of moments
            client.flush(Tier::Taken).await.expect("acknowledged after however many links");
        }
    }
    client.flush(Tier::Taken).await.expect("acknowledged after however many links");
    (topic.topic().to_owned(), count, client)
}

async fn receive(
    client: Client,
    mut subscription: Subscription,
    filter: &'static str,
    received: Arc<AtomicU64>,
) {
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    while let Some(incoming) = subscription.next().await {
        match incoming {
            Incoming::Message(message) => {
                let number = u64::from_be_bytes(message.payload[..].try_into().expect("8 bytes"));
                let place = next.entry(message.topic.to_string()).or_default();
                assert_eq!(number, *place, "{filter}: {} lost or doubled", message.topic);
                *place += 1;
                received.fetch_add(1, Ordering::Relaxed);
            }
            other => panic!("{filter}: {other:?}"),
        }
    }
    panic!("{filter}: {:?}", client.ended());
}

#[test]
fn a_stop_in_good_order_keeps_what_peers_had() {
    let site = Site::new(r#"place = "disk""#);
    runtime().block_on(async {
        let mut daemon = site.start();
        let (lost, back) = (Arc::default(), Arc::default());
        let reader = site.connect("reader").await;
        let filter = SubscribeOptions::default();
        let mut subscription = reader.subscribe("plant/#", filter).await.expect("open");
        let publisher = site.connect("publisher").await;
        let mut links = JoinSet::new();
        watch_links(&publisher, &lost, &back, &mut links);
        watch_links(&reader, &lost, &back, &mut links);
        publisher.emit_counted("plant/1", b"one").await.expect("open");
        publisher.flush(Tier::Taken).await.expect("taken");
        daemon.signal("TERM");
        assert_eq!(daemon.wait(), Some(0));
        let mut daemon = site.start();
        until("both are back", || back.load(Ordering::Relaxed) >= 2).await;
        assert_eq!(lost.load(Ordering::Relaxed), 0);
        daemon.wait_for("the session goes on where its journal ends");
        publisher.emit_counted("plant/1", b"two").await.expect("open");
        for expected in [b"one", b"two"] {
            let incoming = timeout(DEADLINE, subscription.next()).await.expect("in time");
            let Some(Incoming::Message(message)) = incoming else { panic!("{incoming:?}") };
            assert_eq!(&message.payload[..], expected);
        }
    });
}

#[test]
fn a_damaged_end_of_the_journal_is_set_aside_and_the_daemon_starts() {
    let site = Site::new(r#"place = "disk""#);
    runtime().block_on(async {
        let mut daemon = site.start();
        let client = site.connect("publisher").await;
        for _ in 0..10 {
            client.emit_counted("plant/1", b"value").await.expect("open");
        }
        client.flush(Tier::Taken).await.expect("taken");
        daemon.signal("KILL");
        daemon.wait();
        let mut journal = fs::read(site.journal()).expect("a journal");
        let end = journal.len() - 3;
        journal.truncate(end);
        journal.extend([0; 50]);
        fs::write(site.journal(), &journal).expect("room");
        let mut daemon = site.start();
        daemon.wait_for("journal damaged");
        let aside = site.state.join("journal-demo.damaged");
        assert_eq!(fs::read(aside).expect("set aside"), journal);
        // the daemon serves; what a client knows more than the journal is no obstacle
        client.emit_counted("plant/1", b"value").await.expect("open");
        timeout(DEADLINE, client.flush(Tier::Taken)).await.expect("in time").expect("taken");
        let status = client.status().await.expect("an answer");
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        assert!(status["sessions"]["demo"].is_object(), "{status}");
        drop(client);
    });
}

#[test]
fn journals_in_memory_write_nothing_to_the_disk() {
    let site = Site::new(r#"place = "memory""#);
    runtime().block_on(async {
        let _daemon = site.start();
        let client = site.connect("publisher").await;
        client.emit_counted("plant/1", b"value").await.expect("open");
        client.flush(Tier::Taken).await.expect("taken");
    });
    assert!(!site.state.exists());
}

#[test]
fn while_the_disk_is_full_counted_messages_wait_and_nothing_is_lost() {
    let site = Site::new(r#"place = "disk""#);
    let Some(disk) = SmallDisk::mount(&site.state, "512k") else { return };
    runtime().block_on(fill_disk(&site, &disk));
    drop(disk);
}

async fn fill_disk(site: &Site, disk: &SmallDisk) {
    let mut daemon = site.start();
    let received = Arc::new(AtomicU64::new(0));
    let reader = site.connect("reader").await;
    let subscription = reader.subscribe("plant/#", SubscribeOptions::default()).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(receive(reader, subscription.expect("open"), "plant/#", Arc::clone(&received)));
    let client = site.connect("publisher").await;
    let topic = client.open("plant/1", OpenOptions::default()).await.expect("open");
    disk.fill();
    let mut count = 0u64;
    let publish = async |count: &mut u64| {
        for _ in 0..200 {
            topic.publish_counted(&count.to_be_bytes(), DataFlags::NONE).await.expect("open");
            *count += 1;
        }
    };
    let publish_all = async {
        for _ in 0..10 {
            publish(&mut count).await;
        }
    };
    timeout(DEADLINE, publish_all).await.expect("the client holds so many");
    daemon.wait_for("journal not written");
    let early = timeout(Duration::from_millis(1500), client.flush(Tier::Taken)).await;
    assert!(early.is_err(), "acknowledged, and yet not written");
    // others are served
    let other = init(Options { linger: 0, ..site.options("other") }).await.expect("let in");
    let mut heard = other.subscribe("news", SubscribeOptions::default()).await.expect("open");
    let speaker = init(Options { linger: 0, ..site.options("speaker") }).await.expect("let in");
    speaker.emit("news", b"the disk is full").await.expect("open");
    let news = timeout(DEADLINE, heard.next()).await.expect("in time");
    assert!(matches!(news, Some(Incoming::Message(_))), "{news:?}");
    // even a crash now loses nothing
    daemon.signal("KILL");
    daemon.wait();
    let mut daemon = site.start();
    disk.make_room();
    timeout(DEADLINE, client.flush(Tier::Taken)).await.expect("in time").expect("taken");
    until("all has arrived", || received.load(Ordering::Relaxed) >= count).await;
    assert_eq!(received.load(Ordering::Relaxed), count);
    assert!(tasks.try_join_next().is_none(), "the reader reads on");
    daemon.log();
}

/// A xorshift generator: the same kills in every run, as far as scheduling allows.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
