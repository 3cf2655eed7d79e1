//! Many connections, each subscribed to a topic of its own, with nothing on the way.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::Record;
use super::crowd::gather;
use crate::link::Link;
use crate::peer::Peer;
use crate::procfs;
use crate::protocol::{Protocol, ProtocolKind};
use crate::relay::Relay;
use crate::with_protocol;

pub struct Options {
    pub connections: usize,
    /// Before memory is looked at.
    pub settle: Duration,
    pub hold: Duration,
}

pub fn run(peer: &Peer, kind: ProtocolKind, options: &Options, record: &mut Record) -> Result<()> {
    let limit = procfs::raise_open_files();
    if limit < options.connections as u64 + 100 {
        bail!("only {limit} open files allowed, too few for {} connections", options.connections);
    }
    let relay = peer.start(kind.transport())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    with_protocol!(kind, new => local.block_on(&runtime, drive(&relay, new, options, record)))
        .map_err(|error| relay.blame(error))
}

async fn drive<P: Protocol>(
    relay: &Relay,
    new: impl Fn() -> P + Copy + 'static,
    options: &Options,
    record: &mut Record,
) -> Result<()> {
    tokio::time::sleep(options.settle).await;
    let before = relay.memory()?;
    let cpu_start = relay.cpu()?;

    let started = Instant::now();
    let own_topic = |index| vec![format!("plant/7/device/{index}/cmd")];
    let mut links = gather(&relay.endpoint, new, options.connections, own_topic).await?;
    let connecting = started.elapsed();
    let cpu_connect = relay.cpu()? - cpu_start;

    let mut closed = 0;
    hold(&mut links, options.settle, &mut closed).await;
    let after = relay.memory()?;
    let cpu_before_hold = relay.cpu()?;
    let switches = procfs::context_switches(relay.pid())?;
    hold(&mut links, options.hold, &mut closed).await;
    let cpu_hold = relay.cpu()? - cpu_before_hold;
    let switches = procfs::context_switches(relay.pid())? - switches;

    let n = options.connections as f64;
    let per_connection = |after: u64, before: u64| (after as f64 - before as f64) * 1024.0 / n;
    record
        .put("connections", options.connections)
        .put("alive", links.len())
        .put("closed", closed)
        .put("connects_per_s", n / connecting.as_secs_f64())
        .put("connect_cpu_us", cpu_connect.total_us / n)
        .put("rss_before_kib", before.rss_kib)
        .put("rss_after_kib", after.rss_kib)
        .put("pss_before_kib", before.pss_kib)
        .put("pss_after_kib", after.pss_kib)
        .put("rss_bytes_per_connection", per_connection(after.rss_kib, before.rss_kib))
        .put("pss_bytes_per_connection", per_connection(after.pss_kib, before.pss_kib))
        .put("idle_cpu_us_per_s", cpu_hold.total_us / options.hold.as_secs_f64())
        .put("idle_switches_per_s", switches as f64 / options.hold.as_secs_f64())
        .put("threads", procfs::threads(relay.pid())?);
    Ok(())
}

/// Waits, answering what the protocol demands (a relay's pings), and drops what was closed.
async fn hold<P: Protocol>(links: &mut Vec<Link<P>>, time: Duration, closed: &mut usize) {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(SWEEP.min(left)).await;
        let had = links.len();
        links.retain_mut(|link| link.receive(&mut |_| {}).is_ok() && link.flush().is_ok());
        *closed += had - links.len();
    }
}

/// How often the connections are looked at.
const SWEEP: Duration = Duration::from_millis(250);
