//! Publishers send as fast as the relay lets them, or at a steady rate, each with a bounded number of
//! messages on the way, in writes of a fixed number of messages, so that every relay is handed the
//! same input.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::sync::Notify;

use super::stamp::{self, Stamp};
use super::{Record, own_cpu_us};
use crate::link::Link;
use crate::peer::{Peer, Relay};
use crate::procfs::{self, Cpu};
use crate::protocol::{Event, Protocol, ProtocolKind};
use crate::syscalls::SyscallCounter;
use crate::transport::Endpoint;
use crate::with_protocol;

const INPUT_SIZE: usize = 256 * 1024;
const DRAIN_QUIET: Duration = Duration::from_secs(2);
const STALL: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(20);

/// A shape of traffic.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub publishers: usize,
    pub subscribers: usize,
    /// Messages in one write of a publisher.
    pub batch: u64,
    /// Messages that a publisher may have on the way.
    pub window: u64,
    /// Messages a second of all publishers together, released every millisecond; no bound if absent.
    pub rate: Option<u64>,
    /// Payload sizes that a suite runs it with.
    pub payloads: &'static [usize],
}

const fn case(name: &'static str, publishers: usize, subscribers: usize) -> Case {
    Case { name, publishers, subscribers, batch: 1, window: 64, rate: None, payloads: &[32, 1024] }
}

pub const CASES: [Case; 5] = [
    Case { batch: 64, window: 1024, ..case("one-to-one", 1, 1) },
    Case { batch: 16, window: 64, ..case("fan-in", 50, 1) },
    // As sensors send: every message a write of its own.
    Case { batch: 1, window: 4, payloads: &[32], ..case("fan-in-single", 50, 1) },
    Case {
        batch: 1,
        window: 64,
        payloads: &[32],
        rate: Some(10_000),
        ..case("fan-in-paced", 50, 1)
    },
    Case { batch: 16, window: 128, ..case("fan-out", 1, 50) },
];

const PACE: Duration = Duration::from_millis(1);

pub struct Options {
    pub payload: usize,
    pub warmup: Duration,
    pub measure: Duration,
    /// Count the relay's system calls with perf; costs the relay some time, so never in a timing.
    pub syscalls: bool,
}

pub fn run(peer: &Peer, kind: ProtocolKind, case: &Case, options: &Options) -> Result<Record> {
    let relay = peer.start(kind.transport())?;
    let mut record = Record::new("throughput", &peer.name);
    record.put("protocol", kind.name()).put("case", case.name).put("payload", options.payload);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let outcome = with_protocol!(kind, new =>
        local.block_on(&runtime, drive(&relay, new, case, options, &mut record)));
    if let Err(error) = outcome {
        bail!("{error:#}; its log: {}", relay.log_tail());
    }
    Ok(record)
}

/// What publishers and subscribers tell each other; all run on one thread.
struct Shared {
    case: Case,
    stop: Cell<bool>,
    /// Per publisher.
    sent: Vec<Cell<u64>>,
    acked: Vec<Cell<u64>>,
    /// Messages that the pace has released so far.
    released: Vec<Cell<u64>>,
    /// Messages given up as lost, so that a publisher is not stalled for good.
    forgiven: Vec<Cell<u64>>,
    waiting: Vec<Cell<bool>>,
    wake: Vec<Notify>,
    /// Per publisher and subscriber: the sequence number expected next.
    expected: Vec<Cell<u64>>,
    received: Cell<u64>,
    out_of_order: Cell<u64>,
    publisher_bytes: Cell<u64>,
    subscriber_bytes: Cell<u64>,
    errors: RefCell<Vec<String>>,
}

impl Shared {
    fn new(case: &Case) -> Self {
        let cells = |n: usize| (0..n).map(|_| Cell::new(0)).collect::<Vec<Cell<u64>>>();
        Shared {
            case: *case,
            stop: Cell::new(false),
            sent: cells(case.publishers),
            acked: cells(case.publishers),
            released: cells(case.publishers),
            forgiven: cells(case.publishers),
            waiting: (0..case.publishers).map(|_| Cell::new(false)).collect(),
            wake: (0..case.publishers).map(|_| Notify::new()).collect(),
            expected: cells(case.publishers * case.subscribers),
            received: Cell::new(0),
            out_of_order: Cell::new(0),
            publisher_bytes: Cell::new(0),
            subscriber_bytes: Cell::new(0),
            errors: RefCell::new(Vec::new()),
        }
    }

    /// How many more messages this publisher may send now: the slowest subscriber decides.
    fn credit(&self, publisher: usize, acks: bool) -> u64 {
        let row = &self.expected[publisher * self.case.subscribers..][..self.case.subscribers];
        let mut through = row.iter().map(Cell::get).min().unwrap_or(0);
        if acks {
            through = through.min(self.acked[publisher].get());
        }
        let through = through.max(self.forgiven[publisher].get());
        let sent = self.sent[publisher].get();
        let room = self.case.window.saturating_sub(sent.saturating_sub(through));
        match self.case.rate {
            None => room,
            Some(_) => room.min(self.released[publisher].get().saturating_sub(sent)),
        }
    }

    /// Releases, publisher after publisher, what the rate has made due by now.
    fn release(&self, rate: u64, elapsed: Duration, so_far: &mut u64) {
        let due = (elapsed.as_secs_f64() * rate as f64) as u64;
        while *so_far < due {
            add(&self.released[*so_far as usize % self.case.publishers], 1);
            *so_far += 1;
        }
    }

    fn wake_publishers(&self, acks: bool) {
        for publisher in 0..self.case.publishers {
            if self.waiting[publisher].get() && self.credit(publisher, acks) >= self.case.batch {
                self.waiting[publisher].set(false);
                self.wake[publisher].notify_one();
            }
        }
    }

    #[inline]
    fn delivered(&self, subscriber: usize, payload: &[u8]) {
        let Some(stamp) = Stamp::read(payload) else {
            self.out_of_order.set(self.out_of_order.get() + 1);
            return;
        };
        let index = stamp.publisher as usize * self.case.subscribers + subscriber;
        let Some(expected) = self.expected.get(index) else {
            self.out_of_order.set(self.out_of_order.get() + 1);
            return;
        };
        if stamp.sequence != expected.get() {
            self.out_of_order.set(self.out_of_order.get() + 1);
        }
        expected.set(expected.get().max(stamp.sequence + 1));
        self.received.set(self.received.get() + 1);
    }

    fn sent_total(&self) -> u64 {
        self.sent.iter().map(Cell::get).sum()
    }

    fn fail(&self, who: &str, error: anyhow::Error) {
        self.errors.borrow_mut().push(format!("{who}: {error:#}"));
    }
}

fn add(cell: &Cell<u64>, n: u64) {
    cell.set(cell.get() + n);
}

async fn publish<P: Protocol>(
    shared: &Shared,
    publisher: usize,
    mut link: Link<P>,
    topic: P::Topic,
    payload_size: usize,
    epoch: Instant,
) -> Result<()> {
    let acks = link.acks_publishes();
    let batch = shared.case.batch;
    let mut payload = stamp::blank(payload_size);
    let (mut counted_in, mut counted_out) = (link.bytes_in, link.bytes_out);
    loop {
        let may_send = !shared.stop.get() && shared.credit(publisher, acks) >= batch;
        if may_send && !link.has_output() {
            let first = shared.sent[publisher].get();
            let sent_ns = stamp::since(epoch);
            for sequence in first..first + batch {
                Stamp { sent_ns, publisher: publisher as u32, sequence }.write(&mut payload);
                link.publish(&topic, &payload);
            }
            shared.sent[publisher].set(first + batch);
        }
        let flushed = link.flush()?;
        let acked = &shared.acked[publisher];
        link.receive(&mut |event| {
            if let Event::Acked(more) = event {
                add(acked, more);
            }
        })?;
        add(&shared.publisher_bytes, link.bytes_in - counted_in + link.bytes_out - counted_out);
        (counted_in, counted_out) = (link.bytes_in, link.bytes_out);
        if !flushed {
            link.wait().await?;
        } else if !shared.stop.get() && shared.credit(publisher, acks) >= batch {
            tokio::task::yield_now().await;
        } else {
            shared.waiting[publisher].set(true);
            tokio::select! {
                ready = link.wait() => ready?,
                () = shared.wake[publisher].notified() => {}
            }
            shared.waiting[publisher].set(false);
        }
    }
}

async fn pace(shared: &Shared, rate: u64, acks: bool) {
    let started = Instant::now();
    let mut so_far = 0;
    let mut ticks = tokio::time::interval(PACE);
    loop {
        ticks.tick().await;
        shared.release(rate, started.elapsed(), &mut so_far);
        shared.wake_publishers(acks);
    }
}

async fn consume<P: Protocol>(shared: &Shared, subscriber: usize, mut link: Link<P>) -> Result<()> {
    let acks = link.acks_publishes();
    let (mut counted_in, mut counted_out) = (link.bytes_in, link.bytes_out);
    loop {
        link.wait().await?;
        link.receive(&mut |event| {
            if let Event::Delivery { payload } = event {
                shared.delivered(subscriber, payload);
            }
        })?;
        link.flush()?;
        add(&shared.subscriber_bytes, link.bytes_in - counted_in + link.bytes_out - counted_out);
        (counted_in, counted_out) = (link.bytes_in, link.bytes_out);
        shared.wake_publishers(acks);
    }
}

/// The counters at one moment.
struct Snapshot {
    at: Instant,
    cpu: Cpu,
    own_cpu_us: f64,
    switches: u64,
    sent: u64,
    received: u64,
    publisher_bytes: u64,
    subscriber_bytes: u64,
}

impl Snapshot {
    fn take(relay: &Relay, shared: &Shared) -> Result<Self> {
        Ok(Snapshot {
            at: Instant::now(),
            cpu: relay.cpu()?,
            own_cpu_us: own_cpu_us(),
            switches: procfs::context_switches(relay.pid())?,
            sent: shared.sent_total(),
            received: shared.received.get(),
            publisher_bytes: shared.publisher_bytes.get(),
            subscriber_bytes: shared.subscriber_bytes.get(),
        })
    }
}

/// Sleeps for `time`, giving up early on an error, and frees publishers that lost messages stall.
async fn watch(shared: &Shared, time: Duration, stalls: &mut u64) {
    let end = Instant::now() + time;
    let mut last = (shared.received.get(), Instant::now());
    while Instant::now() < end && shared.errors.borrow().is_empty() {
        tokio::time::sleep(TICK.min(end - Instant::now())).await;
        let received = shared.received.get();
        if received != last.0 {
            last = (received, Instant::now());
        } else if last.1.elapsed() > STALL {
            *stalls += 1;
            for publisher in 0..shared.case.publishers {
                shared.forgiven[publisher].set(shared.sent[publisher].get());
            }
            shared.wake_publishers(false);
            last.1 = Instant::now();
        }
    }
}

fn topic(case: &Case, publisher: usize) -> String {
    match case.publishers {
        1 => "plant/7/line/3/temp".into(),
        _ => format!("plant/7/line/{publisher}/temp"),
    }
}

fn filter(case: &Case) -> String {
    match case.publishers {
        1 => topic(case, 0),
        _ => "plant/7/line/+/temp".into(),
    }
}

async fn connect<P: Protocol>(
    endpoint: &Endpoint,
    new: impl Fn() -> P,
    shared: &Rc<Shared>,
    payload: usize,
) -> Result<Vec<tokio::task::JoinHandle<()>>> {
    let case = shared.case;
    let epoch = Instant::now();
    let mut tasks = Vec::new();
    for subscriber in 0..case.subscribers {
        let mut link = Link::open(endpoint, new(), &format!("sub{subscriber}"), INPUT_SIZE).await?;
        link.subscribe(&filter(&case)).await?;
        link.reset_on_close()?;
        let shared = shared.clone();
        tasks.push(tokio::task::spawn_local(async move {
            if let Err(error) = consume(&shared, subscriber, link).await {
                shared.fail(&format!("subscriber {subscriber}"), error);
            }
        }));
    }
    if let Some(rate) = case.rate {
        let (shared, acks) = (shared.clone(), new().acks_publishes());
        tasks.push(tokio::task::spawn_local(async move { pace(&shared, rate, acks).await }));
    }
    let mut publishers = Vec::new();
    for publisher in 0..case.publishers {
        let mut link = Link::open(endpoint, new(), &format!("pub{publisher}"), 64 * 1024).await?;
        let topic = link.declare(&topic(&case, publisher)).await?;
        link.reset_on_close()?;
        publishers.push((link, topic));
    }
    for (publisher, (link, topic)) in publishers.into_iter().enumerate() {
        let shared = shared.clone();
        tasks.push(tokio::task::spawn_local(async move {
            let run = publish(&shared, publisher, link, topic, payload, epoch);
            if let Err(error) = run.await {
                shared.fail(&format!("publisher {publisher}"), error);
            }
        }));
    }
    Ok(tasks)
}

async fn drive<P: Protocol>(
    relay: &Relay,
    new: impl Fn() -> P,
    case: &Case,
    options: &Options,
    record: &mut Record,
) -> Result<()> {
    let shared = Rc::new(Shared::new(case));
    let mut stalls = 0;
    let tasks = connect(&relay.endpoint, new, &shared, options.payload).await?;
    watch(&shared, options.warmup, &mut stalls).await;
    let counter = options
        .syscalls
        .then(|| SyscallCounter::attach(relay.pid(), options.measure))
        .transpose()?;
    let before = Snapshot::take(relay, &shared)?;
    watch(&shared, options.measure, &mut stalls).await;
    let after = Snapshot::take(relay, &shared)?;
    let calls = counter.map(SyscallCounter::finish).transpose()?;
    let memory = relay.memory()?;
    shared.stop.set(true);

    let wanted = |shared: &Shared| shared.sent_total() * case.subscribers as u64;
    let mut progress = (shared.received.get(), Instant::now());
    while shared.received.get() < wanted(&shared)
        && progress.1.elapsed() < DRAIN_QUIET
        && shared.errors.borrow().is_empty()
    {
        tokio::time::sleep(TICK).await;
        if shared.received.get() != progress.0 {
            progress = (shared.received.get(), Instant::now());
        }
    }
    for task in &tasks {
        task.abort();
    }
    if let Some(error) = shared.errors.borrow().first() {
        bail!("{error}");
    }

    let seconds = (after.at - before.at).as_secs_f64();
    let sent = (after.sent - before.sent) as f64;
    let received = (after.received - before.received) as f64;
    let cpu = after.cpu - before.cpu;
    record
        .put("publishers", case.publishers)
        .put("subscribers", case.subscribers)
        .put("batch", case.batch)
        .put("window", case.window)
        .put("rate", case.rate)
        .put("seconds", seconds)
        .put("delivered_per_s", received / seconds)
        .put("published_per_s", sent / seconds)
        .put("cpu_us_per_delivered", cpu.total_us / received)
        .put("cpu_user_us_per_delivered", cpu.user_us / received)
        .put("cpu_system_us_per_delivered", cpu.system_us / received)
        .put("relay_cores", cpu.total_us / 1e6 / seconds)
        .put("generator_cores", (after.own_cpu_us - before.own_cpu_us) / 1e6 / seconds)
        .put("switches_per_delivered", (after.switches - before.switches) as f64 / received)
        .put("publish_wire_bytes", (after.publisher_bytes - before.publisher_bytes) as f64 / sent)
        .put(
            "deliver_wire_bytes",
            (after.subscriber_bytes - before.subscriber_bytes) as f64 / received,
        )
        .put("sent_total", shared.sent_total())
        .put("expected_total", wanted(&shared))
        .put("received_total", shared.received.get())
        .put("lost", wanted(&shared).saturating_sub(shared.received.get()))
        .put("out_of_order", shared.out_of_order.get())
        .put("stalls", stalls)
        .put("relay_rss_kib", memory.rss_kib)
        .put("relay_pss_kib", memory.pss_kib);
    if let Some(calls) = calls {
        for (name, count) in calls {
            record.put(&format!("calls_{name}_per_delivered"), count as f64 / received);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_subscriber_and_the_acks_bound_a_publisher() {
        let case = Case { window: 10, ..case("t", 1, 2) };
        let shared = Shared::new(&case);
        assert_eq!(shared.credit(0, true), 10);
        shared.sent[0].set(8);
        assert_eq!(shared.credit(0, false), 2);
        shared.expected[0].set(8);
        shared.expected[1].set(3);
        assert_eq!(shared.credit(0, false), 5);
        assert_eq!(shared.credit(0, true), 2);
        shared.forgiven[0].set(8);
        assert_eq!(shared.credit(0, true), 10);
    }

    #[test]
    fn a_rate_releases_messages_to_publishers_in_turn() {
        let case = Case { rate: Some(1000), ..case("t", 2, 1) };
        let shared = Shared::new(&case);
        assert_eq!(shared.credit(0, false), 0);
        let mut so_far = 0;
        shared.release(1000, Duration::from_millis(3), &mut so_far);
        assert_eq!((shared.credit(0, false), shared.credit(1, false)), (2, 1));
        shared.release(1000, Duration::from_millis(4), &mut so_far);
        assert_eq!((shared.credit(0, false), shared.credit(1, false)), (2, 2));
    }

    #[test]
    fn gaps_and_repeats_are_counted() {
        let shared = Shared::new(&case("t", 1, 1));
        let mut payload = stamp::blank(32);
        for sequence in [0, 1, 3, 3] {
            Stamp { sent_ns: 0, publisher: 0, sequence }.write(&mut payload);
            shared.delivered(0, &payload);
        }
        shared.delivered(0, b"short");
        assert_eq!(shared.received.get(), 4);
        assert_eq!(shared.out_of_order.get(), 3);
        assert_eq!(shared.expected[0].get(), 4);
    }
}
