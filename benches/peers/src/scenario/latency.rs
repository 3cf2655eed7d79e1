//! One publisher at a steady pace, one subscriber, each a blocking thread of its own, so that no
//! event loop of the generator stands between the socket and the clock.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};

use super::Record;
use super::stamp::{self, Stamp};
use crate::codec::Codec;
use crate::link::Link;
use crate::peer::Peer;
use crate::procfs;
use crate::protocol::{Event, Protocol, ProtocolKind};
use crate::relay::Relay;
use crate::stats::percentile;
use crate::with_protocol;

pub struct Options {
    pub payload: usize,
    /// Messages a second.
    pub rate: u64,
    pub warmup: Duration,
    pub measure: Duration,
}

pub fn run(peer: &Peer, kind: ProtocolKind, options: &Options, record: &mut Record) -> Result<()> {
    let relay = peer.start(kind.transport())?;
    with_protocol!(kind, new => drive(&relay, new, options, record))
        .map_err(|error| relay.blame(error))
}

fn drive<P: Protocol>(
    relay: &Relay,
    new: impl Fn() -> P,
    options: &Options,
    record: &mut Record,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (subscriber, publisher, topic) = runtime.block_on(async {
        let mut subscriber = Link::open(&relay.endpoint, new(), "sub", 64 * 1024).await?;
        subscriber.subscribe(TOPIC).await?;
        let mut publisher = Link::open(&relay.endpoint, new(), "pub", 4096).await?;
        let topic = publisher.declare(TOPIC).await?;
        anyhow::Ok((subscriber.into_blocking()?, publisher.into_blocking()?, topic))
    })?;

    let epoch = Instant::now();
    let warmup = (options.warmup.as_secs_f64() * options.rate as f64) as u64;
    let measured = (options.measure.as_secs_f64() * options.rate as f64) as u64;
    let total = warmup + measured;
    let received = AtomicU64::new(0);
    let (samples, published, before, after) = std::thread::scope(|scope| {
        let counted = &received;
        let consumer = scope.spawn(move || consume(subscriber, epoch, total, counted));
        let producer = scope.spawn(move || publish(publisher, topic, epoch, total, options));
        std::thread::sleep(options.warmup.saturating_sub(epoch.elapsed()));
        let before = Counters::take(relay, &received);
        std::thread::sleep((options.warmup + options.measure).saturating_sub(epoch.elapsed()));
        let after = Counters::take(relay, &received);
        (consumer.join(), producer.join(), before, after)
    });
    let samples = samples.map_err(|_| anyhow!("the subscriber's thread died"))??;
    let published = published.map_err(|_| anyhow!("the publisher's thread died"))??;
    let (before, after) = (before?, after?);

    let mut sorted: Vec<u64> = samples
        .iter()
        .filter(|(sequence, _)| *sequence >= warmup)
        .map(|(_, latency)| *latency)
        .collect();
    sorted.sort_unstable();
    let us = |percent| percentile(&sorted, percent).map(|ns| ns as f64 / 1e3);
    let delivered = (after.received - before.received) as f64;
    record
        .put("rate", options.rate)
        .put("samples", sorted.len())
        .put("p50_us", us(50.0))
        .put("p99_us", us(99.0))
        .put("p999_us", us(99.9))
        .put("max_us", us(100.0))
        .put("late_sends", published.late)
        .put("lost", total - samples.len() as u64)
        .put("out_of_order", samples.windows(2).filter(|w| w[1].0 != w[0].0 + 1).count())
        .put("unacknowledged", published.unacknowledged)
        .put("cpu_us_per_delivered", (after.cpu - before.cpu).total_us / delivered)
        .put("switches_per_delivered", (after.switches - before.switches) as f64 / delivered);
    Ok(())
}

struct Counters {
    cpu: procfs::Cpu,
    switches: u64,
    received: u64,
}

impl Counters {
    fn take(relay: &Relay, received: &AtomicU64) -> Result<Self> {
        Ok(Counters {
            cpu: relay.cpu()?,
            switches: procfs::context_switches(relay.pid())?,
            received: received.load(Ordering::Relaxed),
        })
    }
}

/// Sequence number and latency in nanoseconds of each message, until all are here or none comes.
fn consume<P: Protocol>(
    (mut stream, mut codec): (TcpStream, Codec<P>),
    epoch: Instant,
    total: u64,
    received: &AtomicU64,
) -> Result<Vec<(u64, u64)>> {
    stream.set_read_timeout(Some(READ_LIMIT))?;
    let mut samples = Vec::with_capacity(total as usize);
    while (samples.len() as u64) < total {
        let n = match stream.read(codec.room()) {
            Ok(0) => bail!("the relay closed the subscriber's connection"),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e.into()),
        };
        let now = stamp::since(epoch);
        codec.received(n, &mut |event| {
            if let Event::Delivery { payload } = event
                && let Some(stamp) = Stamp::read(payload)
            {
                samples.push((stamp.sequence, now.saturating_sub(stamp.sent_ns)));
            }
        })?;
        received.store(samples.len() as u64, Ordering::Relaxed);
        send_all(&mut stream, &mut codec)?;
    }
    Ok(samples)
}

struct Published {
    /// Sends more than one period behind their time; each is stamped when it is really sent.
    late: u64,
    unacknowledged: u64,
}

fn publish<P: Protocol>(
    (mut stream, mut codec): (TcpStream, Codec<P>),
    topic: P::Topic,
    epoch: Instant,
    total: u64,
    options: &Options,
) -> Result<Published> {
    // wake-ups at the exact time
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1))?;
    let period = Duration::from_secs(1) / options.rate as u32;
    let mut payload = stamp::blank(options.payload);
    let (mut late, mut acked) = (0, 0);
    for sequence in 0..total {
        let due = period * sequence as u32;
        let now = epoch.elapsed();
        match due.checked_sub(now) {
            Some(wait) => std::thread::sleep(wait),
            None if now - due > period => late += 1,
            None => {}
        }
        Stamp { sent_ns: stamp::since(epoch), publisher: 0, sequence }.write(&mut payload);
        codec.proto.encode_publish(&topic, &payload, &mut codec.out);
        send_all(&mut stream, &mut codec)?;
        // Acknowledgements and pings wait until after the send, out of the measured path.
        stream.set_nonblocking(true)?;
        take_replies(&mut stream, &mut codec, &mut acked)?;
        stream.set_nonblocking(false)?;
        send_all(&mut stream, &mut codec)?;
    }
    // what is still on its way, while the subscriber gets the last message
    stream.set_read_timeout(Some(LINGER))?;
    let (awaited, end) = (codec.proto.acks_publishes(), Instant::now() + LINGER);
    while Instant::now() < end && (!awaited || acked < total) {
        take_replies(&mut stream, &mut codec, &mut acked)?;
    }
    let unacknowledged = if awaited { total - acked } else { 0 };
    Ok(Published { late, unacknowledged })
}

fn send_all<P: Protocol>(stream: &mut TcpStream, codec: &mut Codec<P>) -> Result<()> {
    loop {
        let pending = codec.pending()?;
        if pending.is_empty() {
            return Ok(());
        }
        let sent = pending.len();
        stream.write_all(pending)?;
        codec.sent(sent);
    }
}

/// One read; what it acknowledges is added to `acked`.
fn take_replies<P: Protocol>(
    stream: &mut TcpStream,
    codec: &mut Codec<P>,
    acked: &mut u64,
) -> Result<()> {
    match stream.read(codec.room()) {
        Ok(0) => bail!("the relay closed the publisher's connection"),
        Ok(n) => codec.received(n, &mut |event| {
            if let Event::Acked(more) = event {
                *acked += more;
            }
        }),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(e) => Err(e.into()),
    }
}

const TOPIC: &str = "plant/7/line/3/temp";
/// A subscriber that gets nothing for so long has lost what is missing.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// The publisher's connection stays open so long after its last message.
const LINGER: Duration = Duration::from_millis(200);
