//! What a relay takes with no client at all: on disk, in memory, and of the processor.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::Record;
use crate::peer::Peer;
use crate::procfs;
use crate::transport::TransportKind;

pub struct Options {
    /// Before memory is looked at.
    pub settle: Duration,
    /// For how long it is watched doing nothing.
    pub watch: Duration,
}

pub fn run(peer: &Peer, options: &Options, record: &mut Record) -> Result<()> {
    let binary = peer.binary()?;
    let libraries = shared_libraries(&binary)?;
    let library_bytes =
        libraries.iter().map(|l| Ok(fs::metadata(l)?.len())).sum::<Result<u64>>()?;
    let starts = (0..STARTS).map(|_| peer.time_to_accept(TransportKind::Tcp));
    let mut starts = starts.collect::<Result<Vec<_>>>()?;
    starts.sort_unstable();
    let relay = peer.start(TransportKind::Tcp)?;
    std::thread::sleep(options.settle);
    let memory = relay.memory()?;
    let (cpu, switches) = (relay.cpu()?, procfs::context_switches(relay.pid())?);
    std::thread::sleep(options.watch);
    let cpu = relay.cpu()? - cpu;
    let switches = procfs::context_switches(relay.pid())? - switches;
    record
        .put("version", peer.version())
        .put("binary_bytes", fs::metadata(&binary)?.len())
        .put("stripped_bytes", stripped_size(&binary).ok())
        .put("libraries", libraries.len())
        .put("library_bytes", library_bytes)
        .put("ready_ms", starts[STARTS / 2].as_secs_f64() * 1e3)
        .put("rss_kib", memory.rss_kib)
        .put("pss_kib", memory.pss_kib)
        .put("private_dirty_kib", memory.private_dirty_kib)
        .put("threads", procfs::threads(relay.pid())?)
        .put("idle_cpu_us_per_s", cpu.total_us / options.watch.as_secs_f64())
        .put("idle_switches_per_s", switches as f64 / options.watch.as_secs_f64());
    Ok(())
}

/// The files that the dynamic linker would load, the linker itself included; none if static.
fn shared_libraries(binary: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(binary).output().context("ldd")?;
    Ok(parse_ldd(&String::from_utf8_lossy(&output.stdout)))
}

fn parse_ldd(text: &str) -> Vec<PathBuf> {
    text.lines()
        .filter_map(|line| line.split_ascii_whitespace().find(|word| word.starts_with('/')))
        .filter(|path| !path.ends_with(':'))
        .map(PathBuf::from)
        .collect()
}

fn stripped_size(binary: &Path) -> Result<u64> {
    let target = std::env::temp_dir().join(format!("peerbench-strip-{}", std::process::id()));
    let status = Command::new("strip").arg("-o").arg(&target).arg(binary).status()?;
    let size = fs::metadata(&target).map(|m| m.len());
    fs::remove_file(&target)?;
    anyhow::ensure!(status.success(), "strip failed");
    Ok(size?)
}

/// Starts of which the median counts.
const STARTS: usize = 11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ldd_output_is_read() {
        let text = "\tlinux-vdso.so.1 (0x7)\n\tlibc.so.6 => /lib/libc.so.6 (0x7)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x7)\n";
        let libraries = parse_ldd(text);
        assert_eq!(
            libraries,
            [PathBuf::from("/lib/libc.so.6"), PathBuf::from("/lib64/ld-linux-x86-64.so.2")]
        );
        assert!(parse_ldd("\tnot a dynamic executable\n").is_empty());
    }
}
