//! Counted messages when their readers' outboxes fill the whole memory budget: they wait, and arrive.

#![allow(clippy::panic, reason = "a failed expectation is what a test is for")]

mod support;

use fastport_client::{
    Client, DataFlags, Incoming, OpenOptions, Options, SubscribeOptions, Target, Tier, WhenFull,
    init,
};
use support::{DEADLINE, Daemon};
use tokio::task::JoinSet;
use tokio::time::timeout;

const READERS: usize = 16;
const MESSAGES: u32 = 40_000;

#[tokio::test]
async fn counted_messages_wait_for_memory_and_arrive() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = Daemon::start(
        folder.path(),
        r#"
        limits = { memory = "1MiB", outbox = "256KiB" }
        board = { enabled = false }
        listen = [{ kind = "tcp", address = "127.0.0.1:0" }]
        session = [{ name = "demo", open = true }]
        "#,
    );
    let url = daemon.url("tcp");
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        readers.spawn(read(connect(&url).await));
    }
    // each has subscribed before it says so
    let publisher = connect(&url).await;
    let subscribed = async {
        while !publisher.status().await.expect("the daemon answers").contains("\"topics\":1") {}
    };
    timeout(DEADLINE, subscribed).await.expect("in time");
    let topic = publisher.open("t", OpenOptions::default()).await.expect("an open session");
    for number in 0..MESSAGES {
        let payload = [&number.to_be_bytes()[..], &[0; 28]].concat();
        topic.publish_counted(&payload, DataFlags::NONE).await.expect("it is open");
    }
    publisher.flush(Tier::Taken).await.expect("all are taken in the end");
    while let Some(read) = readers.join_next().await {
        read.expect("every reader has all");
    }
}

async fn read(client: Client) {
    let options = SubscribeOptions::default();
    let mut subscription = client.subscribe("t", options).await.expect("an open session");
    let mut next = None;
    loop {
        let incoming = timeout(DEADLINE, subscription.next()).await.expect("messages go on");
        match incoming.expect("the client goes on") {
            Incoming::Message(message) => {
                let (number, _) = message.payload.split_first_chunk().expect("32 bytes");
                let number = u32::from_be_bytes(*number);
                // who subscribed late begins later
                assert!(next.is_none_or(|next| next == number), "{number} where {next:?} belongs");
                if number + 1 == MESSAGES {
                    return;
                }
                next = Some(number + 1);
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn connect(url: &str) -> Client {
    let target = Target::parse(url).expect("a URL");
    let options = Options { when_full: Some(WhenFull::Hold), ..Options::new(target, "demo") };
    init(options).await.expect("the daemon is there")
}
