//! A control group whose memory the kernel limits, for a daemon that a test starts. It needs root and
//! the memory controller of version 1 of control groups, mounted.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]
#![allow(clippy::print_stdout, reason = "what cannot be done is said")]

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::support::skip::skip;
use super::support::without_settings;

/// The group; gone when it is dropped, which is to be after what runs in it.
pub struct Ceiling {
    folder: PathBuf,
}

/// What the kernel says of the group.
#[derive(Debug)]
pub struct Account {
    /// The most that it held at once, page cache and kernel memory included.
    pub peak_bytes: u64,
    /// How often it was at its limit, and something had to be given back first.
    pub at_limit: u64,
    /// Processes that were killed for want of memory.
    pub kills: u64,
}

impl Ceiling {
    /// A group of at most so many bytes; `None`, and a line that says why, where none can be made.
    pub fn new(bytes: u64) -> Option<Self> {
        let made = mount().ok_or_else(|| io::Error::other("no memory controller is mounted"));
        match made.and_then(|root| Self::make(&root, bytes)) {
            Ok(ceiling) => Some(ceiling),
            Err(error) => {
                skip(&format!("a limit that the kernel enforces: {error}; memory is measured"));
                None
            }
        }
    }

    fn make(root: &Path, bytes: u64) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("fastport-test-{}-{number}", std::process::id()));
        fs::create_dir(&folder)?;
        let ceiling = Self { folder };
        ceiling.write("memory.limit_in_bytes", bytes)?;
        if ceiling.folder.join(WITH_SWAP).exists() {
            // no way out into swap
            ceiling.write(WITH_SWAP, bytes)?;
        }
        Ok(ceiling)
    }

    /// A command that runs in the group from its first page on.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]);
        command.arg(self.folder.join(PROCESSES)).arg(program);
        without_settings(command)
    }

    /// The processes in the group.
    pub fn processes(&self) -> Vec<u32> {
        self.read(PROCESSES).lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// What the kernel counted.
    pub fn account(&self) -> Account {
        let number = |text: &str| text.trim().parse().expect("the kernel writes numbers");
        let control = self.read("memory.oom_control");
        let kills = control.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Account {
            peak_bytes: number(&self.read("memory.max_usage_in_bytes")),
            at_limit: number(&self.read("memory.failcnt")),
            kills: number(kills.expect("a kernel of 4.13 or newer counts kills")),
        }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.folder.join(file)).expect("the group is there")
    }

    fn write(&self, file: &str, bytes: u64) -> io::Result<()> {
        fs::write(self.folder.join(file), bytes.to_string())
    }
}

impl Drop for Ceiling {
    fn drop(&mut self) {
        // a process that has just been killed is in it for a moment
        let until = Instant::now() + Duration::from_secs(10);
        while let Err(error) = fs::remove_dir(&self.folder) {
            if Instant::now() > until {
                println!("{} is left behind: {error}", self.folder.display());
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }
}

/// Where the memory controller is mounted.
fn mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (target, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let has_memory = options.split(',').any(|option| option == "memory");
        (kind == "cgroup" && has_memory).then(|| target.into())
    })
}

const PROCESSES: &str = "cgroup.procs";
const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
