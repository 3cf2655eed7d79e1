//! What the kernel tells of a process.

use std::fs;

use anyhow::{Context, Result};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// CPU time that a process has used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    pub total_us: f64,
    pub user_us: f64,
    pub system_us: f64,
}

impl std::ops::Sub for Cpu {
    type Output = Cpu;

    fn sub(self, earlier: Cpu) -> Cpu {
        Cpu {
            total_us: self.total_us - earlier.total_us,
            user_us: self.user_us - earlier.user_us,
            system_us: self.system_us - earlier.system_us,
        }
    }
}

/// What all threads used, ended ones too: the sum to the nanosecond, from the process's CPU clock;
/// its parts from /proc/PID/stat, which counts in ticks of mostly 10 ms.
pub fn cpu(pid: u32) -> Result<Cpu> {
    let clock = clock_getcpuclockid(Pid::from_raw(i32::try_from(pid)?))?;
    let used = clock_gettime(clock)?;
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    let ticked = parse_stat(&stat, rustix::param::clock_ticks_per_second() as f64)
        .with_context(|| format!("{path}: {stat:?}"))?;
    Ok(Cpu { total_us: used.tv_sec() as f64 * 1e6 + used.tv_nsec() as f64 / 1e3, ..ticked })
}

fn parse_stat(stat: &str, ticks: f64) -> Option<Cpu> {
    // The command name, in brackets, may hold spaces and brackets itself.
    let rest = stat.rsplit_once(')')?.1;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut us = || Some(fields.next()?.parse::<f64>().ok()? * 1e6 / ticks);
    Some(Cpu { total_us: 0.0, user_us: us()?, system_us: us()? })
}

/// /proc/PID/smaps_rollup, in KiB.
#[derive(Debug, Clone, Copy, Default, Serialize, PartialEq, Eq)]
pub struct Memory {
    pub rss_kib: u64,
    pub pss_kib: u64,
    pub private_dirty_kib: u64,
}

pub fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    Ok(Memory {
        rss_kib: field(&text, "Rss:").context("no Rss")?,
        pss_kib: field(&text, "Pss:").context("no Pss")?,
        private_dirty_kib: field(&text, "Private_Dirty:").context("no Private_Dirty")?,
    })
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

/// Context switches of all living threads, voluntary and not.
pub fn context_switches(pid: u32) -> Result<u64> {
    let mut total = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let Ok(status) = fs::read_to_string(task?.path().join("status")) else {
            continue; // the thread ended meanwhile
        };
        total += field(&status, "voluntary_ctxt_switches:").unwrap_or(0)
            + field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    Ok(total)
}

pub fn threads(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    field(&status, "Threads:").context("no Threads")
}

pub fn load_average() -> f64 {
    fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or(f64::NAN)
}

/// Raises the soft limit on open files to the hard one and returns it.
pub fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let in_force = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    in_force.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_past_a_name_with_brackets() {
        let stat = "12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0";
        let cpu = parse_stat(stat, 100.0).unwrap();
        assert_eq!((cpu.user_us, cpu.system_us), (1_500_000.0, 500_000.0));
    }

    #[test]
    fn this_process_can_be_read() {
        let pid = std::process::id();
        assert!(cpu(pid).unwrap().total_us > 0.0);
        assert!(memory(pid).unwrap().rss_kib > 0);
        assert!(threads(pid).unwrap() >= 1);
        context_switches(pid).unwrap();
    }
}
