//! The client library against the real daemon, over links that break.

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastport_client::{
    BackoffOptions, Client, ConnectError, DataFlags, Incoming, LinkState, OpenOptions, Options,
    Past, PublishError, RequestError, SubscribeOptions, Subscription, Target, Tier, WhenFull, init,
};
use support::{DEADLINE, Daemon, SCHEMES, demo_config};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

fn config() -> String {
    demo_config("subscribe = [\"#\"]\nretention.messages = 100")
}

fn daemon() -> (TempDir, Daemon) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = Daemon::start(folder.path(), &config());
    (folder, daemon)
}

fn options(url: &str) -> Options {
    let mut options = Options::new(Target::parse(url).expect(url), "demo");
    let millis = Duration::from_millis;
    options.backoff =
        BackoffOptions { first: millis(20), most: millis(200), ..BackoffOptions::default() };
    options
}

async fn connect(url: &str) -> Client {
    init(options(url)).await.expect("the daemon listens")
}

/// Whatever takes far too long fails the test.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("within the test's deadline")
}

async fn next_text(subscription: &mut Subscription) -> String {
    match soon(subscription.next()).await {
        Some(Incoming::Message(message)) => {
            String::from_utf8(message.payload.to_vec()).expect("text")
        }
        other => format!("{other:?}"),
    }
}

async fn wait_for_ready(client: &Client) -> bool {
    let mut link = client.link();
    let state = soon(link.wait_for(|state| matches!(state, LinkState::Ready { .. }))).await;
    matches!(&*state.expect("the client goes on"), LinkState::Ready { resumed: true })
}

/// Goes between client and daemon, and breaks when told to.
struct Proxy {
    address: SocketAddr,
    cut: mpsc::Sender<()>,
    _task: JoinSet<()>,
}

impl Proxy {
    async fn before(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("bound");
        let (cut, mut cuts) = mpsc::channel(1);
        let target = address.to_owned();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut links = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (mut near, _) = accepted.expect("a connection");
                        let target = target.clone();
                        links.spawn(async move {
                            let Ok(mut far) = TcpStream::connect(&target).await else { return };
                            // that it ends is what it is for
                            tokio::io::copy_bidirectional(&mut near, &mut far)
                                .await
                                .map(|_| ())
                                .unwrap_or_default();
                        });
                    }
                    told = cuts.recv() => match told {
                        Some(()) => links.abort_all(),
                        None => return,
                    },
                }
            }
        });
        Self { address: own, cut, _task: task }
    }

    fn url(&self) -> String {
        format!("tcp://{}", self.address)
    }

    async fn cut(&self) {
        self.cut.send(()).await.expect("the proxy runs");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counted_messages_come_once_and_in_order_over_links_that_break() {
    let (_folder, daemon) = daemon();
    let publisher_side = Proxy::before(&daemon.address("tcp")).await;
    let reader_side = Proxy::before(&daemon.address("tcp")).await;
    let mut reading = options(&reader_side.url());
    reading.when_full = Some(WhenFull::Hold);
    let reader = init(reading).await.expect("connected");
    let mut subscription =
        reader.subscribe("n", SubscribeOptions::default()).await.expect("subscribed");
    let writer = connect(&publisher_side.url()).await;
    let publisher = writer.open("n", OpenOptions::default()).await.expect("opened");
    let publish = async {
        for number in 0..COUNT {
            let payload = number.to_string();
            publisher
                .publish_counted(payload.as_bytes(), DataFlags::NONE)
                .await
                .expect("it waits for the link");
            match number % 5000 {
                1000 => publisher_side.cut().await,
                3000 => reader_side.cut().await,
                _ => {}
            }
        }
        publisher.wait(Tier::Taken).await.expect("the daemon goes on");
    };
    let read = async {
        for number in 0..COUNT {
            assert_eq!(next_text(&mut subscription).await, number.to_string());
        }
    };
    soon(async { tokio::join!(publish, read) }).await;
    const COUNT: u32 = 30_000;
}

#[tokio::test]
async fn a_reader_that_does_not_take_slows_the_publisher_and_loses_nothing() {
    let (_folder, daemon) = daemon();
    for &scheme in SCHEMES {
        let url = daemon.url(scheme);
        let mut reading = options(&url);
        reading.when_full = Some(WhenFull::Hold);
        let reader = init(reading).await.expect("connected");
        let small = SubscribeOptions { queue: 10_000, ..SubscribeOptions::default() };
        let mut subscription = reader.subscribe("slow", small).await.expect("subscribed");
        let mut writing = options(&url);
        writing.outbox = 200_000;
        let writer = init(writing).await.expect("connected");
        let publisher = writer.open("slow", OpenOptions::default()).await.expect("opened");
        let payload = vec![0; 10_000];
        // more than all buffers on the way hold
        let mut published = 0;
        while published < 5_000 {
            let publish = publisher.publish_counted(&payload, DataFlags::NONE);
            if timeout(Duration::from_millis(500), publish).await.is_err() {
                break;
            }
            published += 1;
        }
        assert!(published < 5_000, "{scheme}: nobody slowed it");
        for at in 0..published {
            let incoming = soon(subscription.next()).await;
            assert!(matches!(incoming, Some(Incoming::Message(_))), "{scheme} {at}: {incoming:?}");
        }
        soon(publisher.wait(Tier::Taken)).await.expect("all are taken");
    }
}

#[tokio::test]
async fn subscriptions_topics_and_last_values_outlive_the_daemon() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let first = Daemon::start(folder.path(), &config());
    let address = first.address("tcp");
    let client = connect(&first.url("tcp")).await;
    let mut subscription =
        client.subscribe("a/#", SubscribeOptions::default()).await.expect("subscribed");
    let publisher = client.open("a/b", OpenOptions::default()).await.expect("opened");
    publisher.publish(b"before", DataFlags::NONE).await.expect("published");
    assert_eq!(next_text(&mut subscription).await, "before");
    drop(first);
    publisher.publish_counted(b"meanwhile", DataFlags::NONE).await.expect("it waits in the outbox");
    let config = config().replacen("127.0.0.1:0", &address, 1);
    let _second = Daemon::start(folder.path(), &config);
    assert_eq!(next_text(&mut subscription).await, "meanwhile");
    soon(publisher.wait(Tier::Taken)).await.expect("the new daemon has it");
    publisher.publish(b"after", DataFlags::NONE).await.expect("published");
    assert_eq!(next_text(&mut subscription).await, "after");
}

#[tokio::test]
async fn a_lost_link_is_resumed_where_it_was() {
    let (_folder, daemon) = daemon();
    let proxy = Proxy::before(&daemon.address("tcp")).await;
    let client = connect(&proxy.url()).await;
    assert!(!wait_for_ready(&client).await, "the first link resumes nothing");
    // a relay resumes only what it knows its peer to know of
    client.status().await.expect("the daemon is there");
    let mut link = client.link();
    link.mark_unchanged();
    proxy.cut().await;
    let is_back = |state: &LinkState| matches!(state, LinkState::Ready { resumed: true });
    soon(link.wait_for(is_back)).await.expect("the client goes on");
}

#[tokio::test]
async fn get_calls_back_until_it_is_stopped() {
    let (_folder, daemon) = daemon();
    let client = connect(&daemon.url("tcp")).await;
    let (sender, mut calls) = mpsc::channel(100);
    let getting = client
        .get("chat/+", move |message| {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            sender.try_send((message.topic.to_string(), text)).expect("few messages");
        })
        .await
        .expect("subscribed");
    client.emit("chat/room1", b"Hello!").await.expect("published");
    let call = soon(calls.recv()).await;
    assert_eq!(call, Some(("chat/room1".to_owned(), "Hello!".to_owned())));
    getting.stop();
    // the callback, and with it the sender, is gone
    assert_eq!(soon(calls.recv()).await, None);
}

#[tokio::test]
async fn history_is_apart_from_live_messages() {
    let (_folder, daemon) = daemon();
    let client = connect(&daemon.url("tcp")).await;
    let mut live = client.subscribe("#", SubscribeOptions::default()).await.expect("subscribed");
    for number in 0..20 {
        client.emit_counted("h", number.to_string().as_bytes()).await.expect("published");
    }
    client.flush(Tier::Taken).await.expect("the daemon is there");
    let past = Past { count: Some(5), age: None };
    let history = client.history("h", past).await.expect("it has a past");
    let texts: Vec<_> = history.iter().map(|message| &message.payload[..]).collect();
    assert_eq!(texts, [b"15", b"16", b"17", b"18", b"19"]);
    for number in 0..20 {
        assert_eq!(next_text(&mut live).await, number.to_string());
    }
    assert!(live.try_next().is_none());
    assert!(client.history("none", past).await.expect("an empty past").is_empty());
}

#[tokio::test]
async fn what_was_published_is_there_when_close_returns() {
    let (_folder, daemon) = daemon();
    let reader = connect(&daemon.url("tcp")).await;
    for &scheme in SCHEMES {
        let client = connect(&daemon.url(scheme)).await;
        let topic = format!("by/{scheme}");
        for number in 0..50 {
            let payload = format!("{number}");
            client.emit(&topic, payload.as_bytes()).await.expect("published");
        }
        soon(client.close()).await.expect("all delivered");
        let history = reader.history(&topic, Past::default()).await.expect("it has a past");
        assert_eq!(history.len(), 50, "{scheme}");
    }
}

#[tokio::test]
async fn refusals_are_typed() {
    let (_folder, daemon) = daemon();
    let url = daemon.url("tcp");
    let client = connect(&url).await;
    let refused = client.subscribe("$board/#", SubscribeOptions::default()).await;
    assert!(matches!(refused, Err(RequestError::Refused(_))));
    let refused = client.emit("$board/x", b"").await;
    assert!(matches!(refused, Err(PublishError::Open(RequestError::Refused(_)))));
    let bad = client.emit("a/#", b"").await;
    assert!(matches!(bad, Err(PublishError::Open(RequestError::BadTopic(_)))));
    let long = client.emit("a", &[0; 70_000]).await;
    assert!(matches!(long, Err(PublishError::TooLong { limit: 65_536 })), "{long:?}");
    let mut nowhere = options(&url);
    nowhere.session = "nowhere".to_owned();
    let error = init(nowhere).await.err().expect("there is no such session");
    assert!(error.is_refusal() && error.is_fatal(), "{error:?}");
}

#[tokio::test]
async fn nobody_there_is_no_end_but_a_deadline_is() {
    let unused = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("tcp://{}", unused.local_addr().expect("bound"));
    drop(unused);
    let mut patient = options(&url);
    patient.init_timeout = Duration::from_millis(300);
    let error = init(patient.clone()).await.err().expect("nobody listens");
    assert!(matches!(error, ConnectError::Unreachable(_)) && !error.is_fatal(), "{error:?}");
    // somebody listens, but says nothing
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("tcp://{}", silent.local_addr().expect("bound"));
    let mut waiting = options(&url);
    waiting.connect_timeout = Duration::from_millis(100);
    waiting.reconnect = false;
    let error = init(waiting).await.err().expect("no welcome comes");
    assert!(matches!(error, ConnectError::TimedOut(_)), "{error:?}");
}

#[tokio::test]
async fn when_the_client_ends_its_subscriptions_end() {
    let (_folder, daemon) = daemon();
    let client = connect(&daemon.url("tcp")).await;
    let mut subscription =
        client.subscribe("a", SubscribeOptions::default()).await.expect("subscribed");
    soon(client.clone().close()).await.expect("nothing was published");
    assert!(soon(subscription.next()).await.is_none());
    assert!(matches!(client.ended(), Some(ConnectError::Closed)));
    let late = client.emit("a", b"").await;
    assert!(matches!(late, Err(PublishError::Ended(_) | PublishError::Open(_))), "{late:?}");
}

#[tokio::test]
async fn a_publish_that_is_dropped_half_way_leaves_the_client_whole() {
    let (_folder, daemon) = daemon();
    let proxy = Proxy::before(&daemon.address("tcp")).await;
    let client = connect(&proxy.url()).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let writes = Arc::clone(&seen);
    client
        .get("a", move |message| {
            writes.lock().expect("nobody panics").push(message.payload.to_vec());
        })
        .await
        .expect("subscribed");
    for number in 0..200u8 {
        // sometimes it is done by then, sometimes not
        let payload = [number];
        let emitting = client.emit_counted("a", &payload);
        timeout(Duration::from_micros(u64::from(number) * 5), emitting).await.ok();
        if number % 50 == 0 {
            proxy.cut().await;
        }
    }
    soon(client.emit_counted("a", b"last")).await.expect("published");
    soon(async {
        while seen.lock().expect("nobody panics").last().map(Vec::as_slice) != Some(b"last") {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let seen = seen.lock().expect("nobody panics");
    let numbers: Vec<u8> =
        seen.iter().filter(|payload| payload.len() == 1).map(|payload| payload[0]).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}
