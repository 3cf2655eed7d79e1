//! What the kernel says of a process.

use crate::Failure;

/// Bytes of a process's memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// What would be free without it: its own pages, and its share of those that others use as well.
    pub(crate) proportional: u64,
    /// Of that, what no file holds: heap, stacks, and pages of the program that were changed.
    pub(crate) anonymous: u64,
    /// All its pages, shared or not.
    pub(crate) resident: u64,
}

impl Memory {
    pub(crate) fn of(pid: u32) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let bytes = |name: &str| -> Result<u64, Failure> {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
            let kilobytes: u64 = kilobytes.ok_or_else(|| format!("no {name}"))?.trim().parse()?;
            Ok(kilobytes * 1024)
        };
        Ok(Self {
            proportional: bytes("Pss")?,
            anonymous: bytes("Pss_Anon")?,
            resident: bytes("Rss")?,
        })
    }
}

/// How often the threads of a process have gone to sleep, or were put aside: all their lives.
pub(crate) fn switches(pid: u32) -> Result<u64, Failure> {
    let mut all = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = std::fs::read_to_string(thread?.path().join("status"))?;
        let counts = text.lines().filter_map(|line| line.split_once("ctxt_switches:"));
        for (_, count) in counts {
            all += count.trim().parse::<u64>()?;
        }
    }
    Ok(all)
}
