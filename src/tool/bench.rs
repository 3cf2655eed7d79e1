//! `fastport bench`: how much goes through the relay, and how long a message takes.
//!
//! Two runs, because at full speed a delay is only the length of the queues: first as many messages
//! as go, then a steady stream whose delays are measured one by one. Sender and receivers are this
//! process, so its own work is in the figures; nothing is left out, and what did not arrive is said.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use fastport_client::{
    Client, DataFlags, Incoming, OpenOptions, Options, Publisher, SubscribeOptions, Subscription,
    WhenFull,
};
use tokio::task::JoinSet;

use super::Interrupt;
use super::arguments::{Bench, Common};
use super::exit::{Failure, Outcome};
use super::link::{self, connect};

pub(super) async fn run(bench: Bench, common: Common) -> Outcome {
    let options = link::options(&common)?;
    let mut interrupt = Interrupt::new()?;
    tokio::select! {
        done = measure(&bench, options) => done,
        () = interrupt.come() => Err(Failure::interrupted()),
    }
}

async fn measure(bench: &Bench, options: Options) -> Outcome {
    let url = options.target.to_string();
    let setup = Setup::new(bench, options).await?;
    let speed = setup.run(bench.messages, None).await?;
    let steady = u64::from(bench.rate) * u64::from(bench.seconds);
    let pause = Duration::from_secs(1) / bench.rate;
    let delay = if steady > 0 { Some(setup.run(steady, Some(pause)).await?) } else { None };
    let shown = match bench.json {
        true => format!("{}\n", as_json(bench, &speed, delay.as_ref())),
        false => as_text(bench, &url, &speed, delay.as_ref()),
    };
    let mut out = io::stdout();
    out.write_all(shown.as_bytes()).map_err(|error| Failure::output(&error))
}

/// One publisher and its subscribers, each with a link of its own.
struct Setup {
    options: Options,
    topic: String,
    flags: DataFlags,
    size: usize,
    publisher: Publisher,
    subscribers: u32,
}

/// What a run came to.
struct Report {
    published: u64,
    /// From the first message published to the last received by the slowest subscriber.
    elapsed: Duration,
    /// By all subscribers together.
    received: u64,
    missing: u64,
    /// Sorted, in nanoseconds.
    delays: Vec<u64>,
}

/// What one subscriber saw.
struct Seen {
    received: u64,
    missing: u64,
    last: Instant,
    delays: Vec<u64>,
}

impl Setup {
    async fn new(bench: &Bench, mut options: Options) -> Result<Self, Failure> {
        // TIME frames are of no use here
        options.times = false;
        options.when_full = Some(if bench.counted { WhenFull::Hold } else { WhenFull::DropOldest });
        let url = options.target.to_string();
        let tag = getrandom::u32().map_err(|error| Failure::internal(error.to_string()))?;
        let topic = format!("bench/{tag:08x}");
        let client = connect(options.clone()).await?;
        let publisher = client
            .open(&topic, OpenOptions::default())
            .await
            .map_err(|error| Failure::request(&url, &topic, &error))?;
        let flags = if bench.counted { DataFlags::COUNTED } else { DataFlags::NONE };
        let size = usize::try_from(bench.size).unwrap_or(usize::MAX);
        Ok(Self { options, topic, flags, size, publisher, subscribers: bench.subscribers })
    }

    async fn run(&self, messages: u64, pause: Option<Duration>) -> Result<Report, Failure> {
        let mut readers = JoinSet::new();
        let start = Instant::now();
        for _ in 0..self.subscribers {
            let client = connect(self.options.clone()).await?;
            let subscription = self.subscribe(&client).await?;
            readers.spawn(read(subscription, client, messages, start, pause.is_some()));
        }
        let begun = Instant::now();
        self.publish(messages, start, pause).await?;
        let mut report = Report {
            published: messages,
            elapsed: Duration::ZERO,
            received: 0,
            missing: 0,
            delays: Vec::new(),
        };
        let mut last = begun;
        while let Some(read) = readers.join_next().await {
            let seen = read.map_err(|error| Failure::internal(error.to_string()))?;
            report.received += seen.received;
            report.missing += seen.missing;
            report.delays.extend(seen.delays);
            last = last.max(seen.last);
        }
        report.elapsed = last - begun;
        report.delays.sort_unstable();
        Ok(report)
    }

    async fn subscribe(&self, client: &Client) -> Result<Subscription, Failure> {
        let options = SubscribeOptions { no_last: true, ..SubscribeOptions::default() };
        client
            .subscribe(&self.topic, options)
            .await
            .map_err(|error| Failure::request(&self.options.target, &self.topic, &error))
    }

    async fn publish(
        &self,
        messages: u64,
        start: Instant,
        pause: Option<Duration>,
    ) -> Result<(), Failure> {
        let mut payload = vec![0; self.size];
        let begun = Instant::now();
        for number in 0..messages {
            if let Some(pause) = pause {
                let turns = u32::try_from(number).unwrap_or(u32::MAX);
                tokio::time::sleep_until((begun + pause * turns).into()).await;
            }
            let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            stamp(&mut payload, number, nanos);
            self.publisher
                .publish(&payload, self.flags)
                .await
                .map_err(|error| Failure::publish(&self.options.target, &self.topic, &error))?;
        }
        Ok(())
    }
}

/// Reads until the last message has come, or nothing has for a while.
async fn read(
    mut subscription: Subscription,
    client: Client,
    messages: u64,
    start: Instant,
    keeps_delays: bool,
) -> Seen {
    let mut seen = Seen { received: 0, missing: 0, last: start, delays: Vec::new() };
    let mut highest = 0;
    while highest < messages {
        let next = tokio::time::timeout(SILENCE, subscription.next()).await;
        let Ok(Some(incoming)) = next else { break };
        let Incoming::Message(message) = incoming else { continue };
        let Some((number, nanos)) = read_stamp(&message.payload) else { continue };
        seen.received += 1;
        highest = number + 1;
        if keeps_delays {
            let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            seen.delays.push(now.saturating_sub(nanos));
        }
        if highest == messages || seen.received.is_multiple_of(CLOCK_EVERY) {
            seen.last = Instant::now();
        }
    }
    // by numbers, not by what the relay says
    seen.missing = messages - seen.received;
    drop(subscription);
    // nothing was published
    client.close().await.unwrap_or_default();
    seen
}

fn stamp(payload: &mut [u8], number: u64, nanos: u64) {
    let parts = number.to_le_bytes().into_iter().chain(nanos.to_le_bytes());
    payload.iter_mut().zip(parts).for_each(|(byte, part)| *byte = part);
}

fn read_stamp(payload: &[u8]) -> Option<(u64, u64)> {
    let (number, rest) = payload.split_first_chunk()?;
    let nanos = rest.first_chunk()?;
    Some((u64::from_le_bytes(*number), u64::from_le_bytes(*nanos)))
}

impl Report {
    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// The delay that this share of the messages did not exceed, in microseconds.
    fn percentile(&self, share: f64) -> f64 {
        let Some(last) = self.delays.len().checked_sub(1) else { return 0.0 };
        // a share of at most 1 of a length
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let at = (share * last as f64).round() as usize;
        self.delays.get(at).map_or(0.0, |&nanos| nanos as f64 / 1000.0)
    }
}

fn as_text(bench: &Bench, url: &str, speed: &Report, delay: Option<&Report>) -> String {
    let counted = if bench.counted { "counted" } else { "not counted" };
    let Bench { size, subscribers, .. } = bench;
    let mega = speed.per_second(speed.received) * f64::from(*size) / 1e6;
    let mut text = format!(
        "{url}: 1 publisher, {subscribers} subscribers, {size}-byte payloads, {counted}\n\
         throughput  {:>10.0} messages/s published, {:.0}/s received, {mega:.1} MB/s of payload; \
         {} missing\n",
        speed.per_second(speed.published),
        speed.per_second(speed.received),
        speed.missing,
    );
    if let Some(delay) = delay {
        text += &format!(
            "delay       {:>10.0} us median, {:.0} us 99 %, {:.0} us 99.9 %, {:.0} us longest, at \
             {} messages/s; {} missing\n",
            delay.percentile(0.5),
            delay.percentile(0.99),
            delay.percentile(0.999),
            delay.percentile(1.0),
            bench.rate,
            delay.missing,
        );
    }
    text
}

fn as_json(bench: &Bench, speed: &Report, delay: Option<&Report>) -> serde_json::Value {
    let delay = delay.map(|delay| {
        serde_json::json!({
            "rate": bench.rate,
            "received": delay.received,
            "missing": delay.missing,
            "p50_us": delay.percentile(0.5),
            "p99_us": delay.percentile(0.99),
            "p999_us": delay.percentile(0.999),
            "max_us": delay.percentile(1.0),
        })
    });
    serde_json::json!({
        "size": bench.size,
        "subscribers": bench.subscribers,
        "counted": bench.counted,
        "published": speed.published,
        "received": speed.received,
        "missing": speed.missing,
        "seconds": speed.elapsed.as_secs_f64(),
        "published_per_second": speed.per_second(speed.published),
        "received_per_second": speed.per_second(speed.received),
        "delay": delay,
    })
}

/// A run whose last message does not come is over when nothing came for so long.
const SILENCE: Duration = Duration::from_secs(2);
/// Reading the clock for each message would be part of what is measured.
const CLOCK_EVERY: u64 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_comes_back_whatever_the_size() {
        for size in [16, 17, 1000] {
            let mut payload = vec![0; size];
            stamp(&mut payload, 7, u64::MAX - 1);
            assert_eq!(read_stamp(&payload), Some((7, u64::MAX - 1)));
        }
        assert_eq!(read_stamp(&[0; 15]), None);
    }

    #[test]
    fn a_percentile_is_a_delay_that_was_measured() {
        let delays = (1..=100).map(|micros| micros * 1000).collect();
        let elapsed = Duration::from_secs(2);
        let report = Report { published: 100, elapsed, received: 100, missing: 0, delays };
        assert_eq!(report.percentile(1.0), 100.0);
        assert_eq!(report.percentile(0.5), 51.0);
        assert_eq!(report.percentile(0.0), 1.0);
        assert_eq!(report.per_second(report.received), 50.0);
    }
}
