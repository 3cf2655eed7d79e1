//! Publishers send as fast as the relay lets them, or at a steady rate, each with a bounded number of
//! messages on the way, in writes of a fixed number of messages, so that every relay is handed the
//! same input.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::case::Case;
use super::crowd::gather;
use super::stamp::{self, Stamp};
use super::traffic::{Shared, add};
use super::{Record, own_cpu_us};
use crate::link::Link;
use crate::peer::Peer;
use crate::procfs::{self, Cpu};
use crate::protocol::{Event, Protocol, ProtocolKind};
use crate::relay::Relay;
use crate::syscalls::{SyscallCounter, put_calls};
use crate::transport::Endpoint;
use crate::with_protocol;

pub struct Options {
    pub payload: usize,
    pub warmup: Duration,
    pub measure: Duration,
    /// Count the relay's system calls with perf; costs the relay some time, so never in a timing.
    pub syscalls: bool,
}

pub fn run(
    peer: &Peer,
    kind: ProtocolKind,
    case: &Case,
    options: &Options,
    record: &mut Record,
) -> Result<()> {
    procfs::raise_open_files();
    let relay = peer.start(kind.transport())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    with_protocol!(kind, new => local.block_on(&runtime, drive(&relay, new, case, options, record)))
        .map_err(|error| relay.blame(error))
}

async fn drive<P: Protocol>(
    relay: &Relay,
    new: impl Fn() -> P + Copy + 'static,
    case: &Case,
    options: &Options,
    record: &mut Record,
) -> Result<()> {
    let shared = Rc::new(Shared::new(case));
    let mut stalls = 0;
    let acks = new().acks_publishes();
    let filters = case.bystander_filters;
    let stand_by =
        move |index: usize| (0..filters).map(|n| format!("plant/8/device/{index}/{n}")).collect();
    let bystanders = gather(&relay.endpoint, new, case.bystanders, stand_by).await?;
    let tasks = connect(&relay.endpoint, new, &shared, options.payload).await?;
    watch(&shared, options.warmup, &mut stalls).await;
    let counter = options.syscalls.then(|| SyscallCounter::attach(relay.pid(), options.measure));
    let before = Snapshot::take(relay, &shared)?;
    watch(&shared, options.measure, &mut stalls).await;
    let after = Snapshot::take(relay, &shared)?;
    let memory = relay.memory()?;
    shared.stop.set(true);

    let wanted = |shared: &Shared| shared.sent_total() * case.subscribers as u64;
    let mut progress = (shared.received.get(), Instant::now());
    let complete = |shared: &Shared| {
        shared.received.get() >= wanted(shared)
            && (!acks || shared.acked_total() >= shared.sent_total())
    };
    while !complete(&shared)
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
    drop(bystanders);
    if let Some(error) = shared.errors.borrow().first() {
        bail!("{error}");
    }

    let acked = acks.then(|| shared.acked_total());
    put_figures(record, case, &shared, &before, &after);
    record
        .put("unacknowledged", acked.map_or(0, |acked| shared.sent_total() - acked))
        .put("expected_total", wanted(&shared))
        .put("lost", wanted(&shared).saturating_sub(shared.received.get()))
        .put("stalls", stalls)
        .put("relay_rss_kib", memory.rss_kib)
        .put("relay_pss_kib", memory.pss_kib);
    put_calls(record, counter, (after.received - before.received) as f64);
    Ok(())
}

fn put_figures(
    record: &mut Record,
    case: &Case,
    shared: &Shared,
    before: &Snapshot,
    after: &Snapshot,
) {
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
        .put("received_total", shared.received.get())
        .put("out_of_order", shared.out_of_order.get());
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
        link.subscribe(&case.filter()).await?;
        link.reset_on_close()?;
        let shared = shared.clone();
        tasks.push(tokio::task::spawn_local(async move {
            if let Err(error) = consume(&shared, subscriber, link).await {
                shared.fail(&format!("subscriber {subscriber}"), error);
            }
        }));
    }
    if let Some(rate) = case.rate {
        let (shared, acks) = (shared.clone(), new().acks_end_flight());
        tasks.push(tokio::task::spawn_local(async move { pace(&shared, rate, acks).await }));
    }
    let mut publishers = Vec::new();
    for publisher in 0..case.publishers {
        let mut link = Link::open(endpoint, new(), &format!("pub{publisher}"), 64 * 1024).await?;
        let mut topics = Vec::new();
        for number in 0..case.topics_each() {
            topics.push(link.declare(&case.topic(publisher, number)).await?);
        }
        link.reset_on_close()?;
        publishers.push((link, topics));
    }
    for (publisher, (link, topics)) in publishers.into_iter().enumerate() {
        let shared = shared.clone();
        tasks.push(tokio::task::spawn_local(async move {
            let run = publish(&shared, publisher, link, topics, payload, epoch);
            if let Err(error) = run.await {
                shared.fail(&format!("publisher {publisher}"), error);
            }
        }));
    }
    Ok(tasks)
}

async fn publish<P: Protocol>(
    shared: &Shared,
    publisher: usize,
    mut link: Link<P>,
    topics: Vec<P::Topic>,
    payload_size: usize,
    epoch: Instant,
) -> Result<()> {
    let acks = link.acks_end_flight();
    let batch = shared.case.batch;
    let mut payload = stamp::blank(payload_size);
    let (mut counted_in, mut counted_out) = (link.bytes_in, link.bytes_out);
    loop {
        let may_send = !shared.stop.get() && shared.credit(publisher, acks) >= batch;
        if may_send && link.may_publish() && !link.has_output() {
            let first = shared.sent[publisher].get();
            let sent_ns = stamp::since(epoch);
            for sequence in first..first + batch {
                Stamp { sent_ns, publisher: publisher as u32, sequence }.write(&mut payload);
                link.publish(&topics[sequence as usize % topics.len()], &payload);
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
        } else if !shared.stop.get()
            && shared.credit(publisher, acks) >= batch
            && link.may_publish()
        {
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
    let acks = link.acks_end_flight();
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

const INPUT_SIZE: usize = 256 * 1024;
/// How often the pace releases messages.
const PACE: Duration = Duration::from_millis(1);
/// What has not come when nothing came for so long is lost.
const DRAIN_QUIET: Duration = Duration::from_secs(2);
/// A publisher that waits for so long is let go on, so that a loss is seen rather than waited for.
const STALL: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(20);
