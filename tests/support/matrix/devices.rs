//! Devices that publish in three groups of topics and read commands, and who sends the commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastport_client::{
    Client, Incoming, OpenOptions, Publisher, SubscribeOptions, Subscription, Tier, init,
};
use fastport_wire::frame::DataFlags;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use super::super::site::Site;
use super::SETTLE;

/// Devices at the gateway.
pub const DEVICES: usize = 50;
/// The first part of a topic, and the bytes of its messages.
pub const GROUPS: [(&str, usize); 3] = [("up", 300), ("old", 1000), ("short", 300)];

/// All that publish.
pub struct Crowd {
    is_over: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    devices: JoinSet<Device>,
    commander: JoinHandle<Vec<u64>>,
}

/// What a device did, when all is over.
pub struct Ended {
    pub number: usize,
    /// By group.
    pub published: [u64; GROUPS.len()],
    /// Commands that came, in their order, and how many were sent.
    pub received: Vec<u64>,
    pub sent: u64,
}

impl Crowd {
    pub async fn start(site: &Site, operator: Client) -> Self {
        let (is_over, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let mut devices = JoinSet::new();
        for number in 0..DEVICES {
            let client = init(site.device(&format!("dev{number}"))).await;
            let client = client.expect("the gateway is there");
            let device = Device::new(number, client, &acknowledged).await;
            devices.spawn(device.run(Arc::clone(&is_over)));
        }
        let commander = tokio::spawn(command(operator, Arc::clone(&is_over)));
        Self { is_over, acknowledged, devices, commander }
    }

    /// Messages that the devices know to be at the central instance.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub async fn wait_for_more_than(&self, before: u64) {
        let until = Instant::now() + SETTLE;
        while self.acknowledged() <= before {
            assert!(Instant::now() < until, "nothing is acknowledged any more");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the publishing, and waits until all is where it belongs.
    pub async fn finish(mut self) -> Vec<Ended> {
        self.is_over.store(true, Ordering::Relaxed);
        let sent = timeout(SETTLE, self.commander).await.expect("commands are taken");
        let sent = sent.expect("no panic");
        let mut all = Vec::new();
        while let Some(device) =
            timeout(SETTLE, self.devices.join_next()).await.expect("devices end")
        {
            let device = device.expect("no panic");
            let sent = sent[device.number];
            all.push(device.finish(sent).await);
        }
        all
    }
}

struct Device {
    number: usize,
    client: Client,
    commands: Subscription,
    publishers: Vec<Publisher>,
    published: [u64; GROUPS.len()],
    received: Vec<u64>,
    /// The last counted message's number, of all groups.
    last: Arc<AtomicU64>,
    watch: JoinHandle<()>,
}

impl Device {
    async fn new(number: usize, client: Client, acknowledged: &Arc<AtomicU64>) -> Self {
        let commands = client
            .subscribe(&format!("cmd/dev{number}"), SubscribeOptions::default())
            .await
            .expect("it may read its commands");
        let mut publishers = Vec::new();
        for (group, _) in GROUPS {
            publishers.push(open(&client, &format!("{group}/dev{number}"), Tier::Central).await);
        }
        let last = Arc::<AtomicU64>::default();
        let watch = watch(client.clone(), Arc::clone(&last), Arc::clone(acknowledged));
        let (published, watch) = ([0; GROUPS.len()], tokio::spawn(watch));
        Self { number, client, commands, publishers, published, received: Vec::new(), last, watch }
    }

    /// Publishes numbers until it is over, then waits until the central instance has, or was told of, all.
    async fn run(mut self, is_over: Arc<AtomicBool>) -> Self {
        let mut turn = 0;
        while !is_over.load(Ordering::Relaxed) {
            // some 20 a second of `up`, of the others half as many
            self.publish(0).await;
            self.publish(1 + turn % 2).await;
            turn += 1;
            let pause = tokio::time::sleep(Duration::from_millis(50));
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    incoming = self.commands.next() => self.received.push(number_of(incoming)),
                }
            }
        }
        let all = self.client.wait(self.last.load(Ordering::Relaxed), Tier::Central);
        timeout(SETTLE, all).await.expect("within the time to settle").expect("all is told of");
        self.watch.abort();
        self
    }

    async fn publish(&mut self, group: usize) {
        self.published[group] += 1;
        let payload = format!("{}{:x<2$}", self.published[group], "", GROUPS[group].1);
        let publisher = &self.publishers[group];
        let sent = publisher.publish_counted(payload.as_bytes(), DataFlags::NONE).await;
        self.last.store(sent.expect("published"), Ordering::Relaxed);
    }

    /// Reads on until all commands have come, and a little longer for those that come twice.
    async fn finish(self, sent: u64) -> Ended {
        let Self { number, mut commands, published, mut received, client: _client, .. } = self;
        let until = Instant::now() + SETTLE;
        while (received.len() as u64) < sent && Instant::now() < until {
            let Ok(incoming) = timeout(SETTLE, commands.next()).await else { break };
            received.push(number_of(incoming));
        }
        while let Ok(incoming) = timeout(Duration::from_millis(20), commands.next()).await {
            received.push(number_of(incoming));
        }
        Ended { number, published, received, sent }
    }
}

/// Adds to what all devices know to be at the central instance.
async fn watch(client: Client, last: Arc<AtomicU64>, acknowledged: Arc<AtomicU64>) {
    let mut known = 0;
    loop {
        let number = last.load(Ordering::Relaxed);
        if number > known && client.wait(number, Tier::Central).await.is_ok() {
            acknowledged.fetch_add(number - known, Ordering::Relaxed);
            known = number;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
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
