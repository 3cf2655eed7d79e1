//! Counts a process' system calls with `perf stat`, which slows it far less than strace does and so
//! leaves the sizes of its reads and writes as they are.

use std::io;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use crate::scenario::Record;

/// perf, counting.
pub struct SyscallCounter {
    perf: Result<Child>,
}

impl SyscallCounter {
    /// Counts for this time. What goes wrong is told by `finish`, so that a machine without perf
    /// can still do the rest of a run.
    pub fn attach(pid: u32, time: Duration) -> Self {
        let mut events = String::from("raw_syscalls:sys_enter");
        for call in CALLS {
            events.push_str(&format!(",syscalls:sys_enter_{call}"));
        }
        let perf = Command::new("perf")
            .args(["stat", "-x", ";", "-e", &events, "-p", &pid.to_string(), "--", "sleep"])
            .arg(format!("{:.3}", time.as_secs_f64()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => anyhow!("perf missing"),
                _ => error.into(),
            });
        SyscallCounter { perf }
    }

    /// Waits for perf's own end; the calls that happened at all, most frequent first.
    pub fn finish(self) -> Result<Vec<(String, u64)>> {
        let output = self.perf?.wait_with_output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("perf: {}", text.trim());
        }
        let calls = parse(&text);
        if calls.is_empty() {
            bail!("perf counted nothing: {}", text.trim());
        }
        Ok(calls)
    }
}

/// Puts the calls for each delivered message into a run's figures, or why there are none.
pub fn put_calls(record: &mut Record, counter: Option<SyscallCounter>, delivered: f64) {
    match counter.map(SyscallCounter::finish) {
        None => {}
        Some(Ok(calls)) => {
            for (name, count) in calls {
                record.put(&format!("calls_{name}_per_delivered"), count as f64 / delivered);
            }
        }
        Some(Err(error)) => {
            record.put("calls", format!("not measured: {error:#}"));
        }
    }
}

fn parse(text: &str) -> Vec<(String, u64)> {
    let mut calls: Vec<(String, u64)> = text
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(';');
            let count = fields.next()?.parse().ok()?;
            let event = fields.nth(1)?;
            let name = event.rsplit("sys_enter").next()?.trim_start_matches('_');
            Some((if name.is_empty() { "all" } else { name }.to_string(), count))
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    calls.sort_by_key(|call| std::cmp::Reverse(call.1));
    calls
}

/// What is counted apart; the rest is only in the sum.
const CALLS: [&str; 19] = [
    "read",
    "readv",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    "write",
    "writev",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "epoll_wait",
    "epoll_pwait",
    "epoll_ctl",
    "poll",
    "ppoll",
    "futex",
    "nanosleep",
    "clock_nanosleep",
    "io_uring_enter",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perf_output_is_read() {
        let text = "# started\n12;;raw_syscalls:sys_enter;1;100.00;;\n\
                    7;;syscalls:sys_enter_read;1;100.00;;\n0;;syscalls:sys_enter_poll;1;100.00;;\n\
                    <not counted>;;syscalls:sys_enter_futex;0;0.00;;\n";
        assert_eq!(parse(text), vec![("all".into(), 12), ("read".into(), 7)]);
    }
}
