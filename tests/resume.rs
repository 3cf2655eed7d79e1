//! Links that are cut at random places: every counted message arrives exactly once and in order.

#![allow(clippy::panic, reason = "a failed expectation is what a test is for")]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastport_client::{
    BackoffOptions, Client, Incoming, OpenOptions, Options, SubscribeOptions, Target, Tier,
    WhenFull, init,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::support::{DEADLINE, Daemon};

/// 200 peers with 5 topics each.
const PEERS: u32 = 200;
const TOPICS: u32 = 5;
/// Counted messages on each topic.
const MESSAGES: u32 = 12;
/// Wildcard subscribers, of all topics and of a fifth of them.
const FILTERS: [&str; 4] = ["plant/#", "plant/+/t0", "plant/#", "plant/+/t3"];

#[test]
fn counted_messages_arrive_exactly_once_and_in_order_while_links_are_cut() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = Daemon::start(
        folder.path(),
        r#"
        limits = { memory = "64MiB", linger = 60 }
        board = { enabled = false }
        listen = [{ kind = "tcp", address = "127.0.0.1:0" }]
        session = [{ name = "demo", open = true }]
        "#,
    );
    let relay: SocketAddr = daemon.address("tcp").parse().expect("an address");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(run(relay));
}

async fn run(relay: SocketAddr) {
    let proxy = Proxy::start(relay).await;
    let mut subscribers = JoinSet::new();
    for (number, filter) in FILTERS.into_iter().enumerate() {
        let client = connect(&proxy, &format!("subscriber-{number}")).await;
        let options = SubscribeOptions::default();
        let subscription = client.subscribe(filter, options).await.expect("the session is open");
        let expected = expected(filter);
        subscribers.spawn(async move { receive(client, subscription, filter, expected).await });
    }
    proxy.is_cutting.store(true, Ordering::Relaxed);
    let mut publishers = JoinSet::new();
    for peer in 0..PEERS {
        let client = connect(&proxy, &format!("publisher-{peer}")).await;
        publishers.spawn(publish(client, peer));
    }
    while let Some(ended) = timeout(4 * DEADLINE, publishers.join_next()).await.expect("in time") {
        ended.expect("every publisher is acknowledged");
    }
    while let Some(ended) = timeout(4 * DEADLINE, subscribers.join_next()).await.expect("in time") {
        ended.expect("every subscriber has all");
    }
    let cuts = proxy.cuts.load(Ordering::Relaxed);
    assert!(cuts > u64::from(PEERS), "only {cuts} cuts");
}

async fn publish(client: Client, peer: u32) {
    let mut topics = Vec::new();
    for topic in 0..TOPICS {
        let name = format!("plant/{peer}/t{topic}");
        let opened = client.open(&name, OpenOptions::default()).await;
        topics.push(opened.unwrap_or_else(|error| panic!("{name}: {error}")));
    }
    for number in 0..MESSAGES {
        for topic in &topics {
            let payload = number.to_be_bytes();
            topic.publish_counted(&payload, fastport_client::DataFlags::NONE).await.expect("open");
        }
    }
    client.flush(Tier::Taken).await.expect("acknowledged after however many links");
}

async fn receive(
    client: Client,
    mut subscription: fastport_client::Subscription,
    filter: &str,
    expected: u64,
) {
    let mut next: BTreeMap<String, u32> = BTreeMap::new();
    for received in 0..expected {
        let incoming = timeout(2 * DEADLINE, subscription.next()).await;
        let incoming = incoming
            .unwrap_or_else(|_| panic!("{filter}: {received} of {expected}, {:?}", client.ended()));
        match incoming.expect("the client goes on") {
            Incoming::Message(message) => {
                let number = u32::from_be_bytes(message.payload[..].try_into().expect("4 bytes"));
                let place = next.entry(message.topic.to_string()).or_default();
                assert_eq!(number, *place, "{filter}: {} twice or out of order", message.topic);
                *place += 1;
            }
            other => panic!("{filter}: {other:?}"),
        }
    }
    assert!(next.values().all(|&count| count == MESSAGES));
}

fn expected(filter: &str) -> u64 {
    let topics = if filter.ends_with('#') { TOPICS } else { 1 };
    u64::from(PEERS * topics * MESSAGES)
}

async fn connect(proxy: &Proxy, name: &str) -> Client {
    let target = Target::parse(&format!("tcp://{}", proxy.address)).expect("a URL");
    let options = Options {
        name: name.to_owned(),
        linger: 60,
        when_full: Some(WhenFull::Hold),
        backoff: BackoffOptions {
            first: Duration::from_millis(5),
            most: Duration::from_millis(100),
            ..BackoffOptions::default()
        },
        init_timeout: 2 * DEADLINE,
        request_timeout: 2 * DEADLINE,
        retry_at_start: true,
        ..Options::new(target, "demo")
    };
    init(options).await.unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Forwards connections, and cuts each after some bytes.
struct Proxy {
    address: SocketAddr,
    is_cutting: Arc<AtomicBool>,
    cuts: Arc<AtomicU64>,
    _task: JoinSet<()>,
}

impl Proxy {
    async fn start(relay: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let is_cutting = Arc::new(AtomicBool::new(false));
        let cuts = Arc::new(AtomicU64::new(0));
        let mut task = JoinSet::new();
        task.spawn(accept(listener, relay, Arc::clone(&is_cutting), Arc::clone(&cuts)));
        Self { address, is_cutting, cuts, _task: task }
    }
}

async fn accept(
    listener: TcpListener,
    relay: SocketAddr,
    is_cutting: Arc<AtomicBool>,
    cuts: Arc<AtomicU64>,
) {
    let mut links = JoinSet::new();
    let mut random = Random(0x5eed);
    while let Ok((near, _)) = listener.accept().await {
        // most links carry something before they go; some do not get through the handshake
        let limit =
            if is_cutting.load(Ordering::Relaxed) { 40 + random.below(1500) } else { 60_000 };
        let cuts = Arc::clone(&cuts);
        links.spawn(async move {
            let Ok(far) = TcpStream::connect(relay).await else { return };
            let (near, far) = (near.into_split(), far.into_split());
            let left = AtomicU64::new(limit);
            tokio::select! {
                () = copy(near.0, far.1, &left) => {}
                () = copy(far.0, near.1, &left) => {}
            }
            cuts.fetch_add(1, Ordering::Relaxed);
        });
    }
}

/// Copies until the link's share of bytes is used up: the last write may end inside a frame.
async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, left: &AtomicU64) {
    let mut buffer = [0; 512];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        let share = left.load(Ordering::Relaxed).min(length as u64);
        left.fetch_sub(share, Ordering::Relaxed);
        let share = usize::try_from(share).expect("at most 512");
        if to.write_all(&buffer[..share]).await.is_err() || share < length {
            return;
        }
    }
}

/// A xorshift generator: the same cuts in every run, as far as scheduling allows.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
