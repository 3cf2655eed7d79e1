//! A control group whose memory the kernel limits, for a daemon that a test starts. It needs root and the
//! memory controller of control groups: of version 2, as systemd has it on Debian since 11, or of version 1.
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
    version: Version,
}

/// Of control groups; the memory controller is in one of them.
#[derive(Clone, Copy, PartialEq)]
enum Version {
    One,
    Two,
}

/// What the kernel says of the group.
#[derive(Debug)]
pub struct Account {
    /// The most that it held at once, page cache and kernel memory included; `None`: a kernel with
    /// version 2 before 5.19 does not say.
    pub peak_bytes: Option<u64>,
    /// How often it was at its limit, and something had to be given back first.
    pub at_limit: u64,
    /// Processes that were killed for want of memory.
    pub kills: u64,
}

impl Ceiling {
    /// A group of at most so many bytes; `None`, and a line that says why, where none can be made.
    pub fn new(bytes: u64) -> Option<Self> {
        let made = mount().ok_or_else(|| io::Error::other("no memory controller is mounted"));
        match made.and_then(|(root, version)| Self::make(&root, version, bytes)) {
            Ok(ceiling) => Some(ceiling),
            Err(error) => {
                skip(&format!("a limit that the kernel enforces: {error}; memory is measured"));
                None
            }
        }
    }

    fn make(root: &Path, version: Version, bytes: u64) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if version == Version::Two {
            delegate_memory(root)?;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("fastport-test-{}-{number}", std::process::id()));
        fs::create_dir(&folder)?;
        let ceiling = Self { folder, version };
        // and no way out into swap, where the kernel counts it
        let (limit, swap, swap_bytes) = match version {
            Version::One => ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", bytes),
            Version::Two => ("memory.max", "memory.swap.max", 0),
        };
        ceiling.write(limit, bytes)?;
        if ceiling.folder.join(swap).exists() {
            ceiling.write(swap, swap_bytes)?;
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
        // lines of a name and a number
        let find = |text: &str, name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            let found = lines.find(|(key, _)| *key == name);
            number(found.expect("a kernel of 4.13 or newer counts it").1)
        };
        match self.version {
            Version::One => Account {
                peak_bytes: Some(number(&self.read("memory.max_usage_in_bytes"))),
                at_limit: number(&self.read("memory.failcnt")),
                kills: find(&self.read("memory.oom_control"), "oom_kill"),
            },
            Version::Two => {
                let events = self.read("memory.events");
                let peak = fs::read_to_string(self.folder.join("memory.peak"));
                Account {
                    peak_bytes: peak.ok().map(|text| number(&text)),
                    at_limit: find(&events, "max"),
                    kills: find(&events, "oom_kill"),
                }
            }
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

/// Where the memory controller is mounted: version 1 names it, of version 2 it is one of a list.
fn mount() -> Option<(PathBuf, Version)> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (target, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        let target = Path::new(target);
        let version = match kind {
            "cgroup" if options.split(',').any(|option| option == MEMORY) => Version::One,
            "cgroup2" if lists_memory(&target.join("cgroup.controllers")) => Version::Two,
            _ => return None,
        };
        Some((target.to_owned(), version))
    })
}

/// Has the groups below one limit memory, as systemd has below the topmost. The kernel refuses it for a group that
/// has processes of its own and is not the topmost, as a container's may be.
fn delegate_memory(root: &Path) -> io::Result<()> {
    let file = root.join("cgroup.subtree_control");
    if lists_memory(&file) {
        return Ok(());
    }
    fs::write(&file, format!("+{MEMORY}")).map_err(|error| {
        let text = format!("{} does not take the memory controller: {error}", file.display());
        io::Error::new(error.kind(), text)
    })
}

fn lists_memory(file: &Path) -> bool {
    fs::read_to_string(file).is_ok_and(|text| text.split_whitespace().any(|it| it == MEMORY))
}

const MEMORY: &str = "memory";
const PROCESSES: &str = "cgroup.procs";
