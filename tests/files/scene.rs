//! What the tests of files share: tools, folders and a wire that is cut.

use std::fmt::{self, Display, Formatter};
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::{self, DEADLINE, Daemon, demo_config, folder};

pub(crate) fn plain() -> (TempDir, Daemon) {
    let folder = folder();
    let daemon = Daemon::start(folder.path(), &demo_config(""));
    (folder, daemon)
}

pub(crate) fn tool(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fastport"));
    command.arg("--url").arg(url).args(arguments);
    command.env_remove("FASTPORT_URL").env_remove("FASTPORT_SESSION");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A tool that is ended when it is dropped.
pub(crate) struct Tool(pub(crate) Option<Child>);

impl Tool {
    pub(crate) fn start(url: &str, arguments: &[&str]) -> Self {
        Self(Some(tool(url, arguments).spawn().expect("the tool is built")))
    }

    /// Waits for it to end by itself.
    pub(crate) fn finish(self) -> Output {
        self.finish_within(4 * DEADLINE)
    }

    pub(crate) fn finish_within(mut self, within: Duration) -> Output {
        let child = self.0.take().expect("it was started");
        support::finish(child, within)
    }

    /// Waits for it to end well; what it said.
    pub(crate) fn succeed(self) -> String {
        let output = self.finish();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{:?}: {said}", output.status);
        said
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.0.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {pid}");
    }

    pub(crate) fn kill(mut self) {
        let mut child = self.0.take().expect("it was started");
        child.kill().expect("the child is ours");
        child.wait().expect("the child is ours");
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().unwrap_or_default();
            child.wait().map(|_| ()).unwrap_or_default();
        }
    }
}

pub(crate) fn send(url: &str, file: &Path, more: &[&str]) -> Tool {
    let file = file.to_str().expect("UTF-8");
    Tool::start(url, &[&["send", file, "files/a", "--connect-timeout", "30s"], more].concat())
}

pub(crate) fn recv(url: &str, dir: &Path, more: &[&str]) -> Tool {
    let dir = dir.to_str().expect("UTF-8");
    let arguments = ["recv", "files/#", "--dir", dir, "--connect-timeout", "30s"];
    Tool::start(url, &[&arguments, more].concat())
}

/// A file with keys to seal with.
pub(crate) fn seal_keys(folder: &Path) -> String {
    let path = folder.join("keys.seal").to_str().expect("UTF-8").to_owned();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fastport"));
    let made = command.args(["key", "new", "--seal", &path]).output().expect("the tool is built");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    path
}

/// Bytes of no pattern that a wrong place would leave unseen.
pub(crate) fn bytes(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut all = Vec::with_capacity(length + 8);
    while all.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        all.extend_from_slice(&state.to_le_bytes());
    }
    all.truncate(length);
    all
}

pub(crate) fn file(folder: &Path, name: &str, length: usize) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes(length, length as u64)).expect("the folder is ours");
    path
}

/// The files in a folder; hidden ones with a dot before.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("readable").file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Waits until something is so.
pub(crate) fn wait_for(what: &str, is_so: impl FnMut() -> bool) {
    wait_within(DEADLINE, what, is_so);
}

fn wait_within(within: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + within;
    while !is_so() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Waits until the folder has so many bytes of a file that is not whole.
pub(crate) fn wait_for_part(folder: &Path, least: u64) {
    wait_for_part_within(folder, least, DEADLINE);
}

pub(crate) fn wait_for_part_within(folder: &Path, least: u64, within: Duration) {
    wait_within(within, "part of a file", || {
        let mut entries = fs::read_dir(folder).expect("a folder").filter_map(Result::ok);
        entries.any(|entry| {
            entry.file_name().to_string_lossy().ends_with(".part")
                && entry.metadata().is_ok_and(|about| about.len() >= least)
        })
    });
}

pub(crate) fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (fs::read(one).expect("there"), fs::read(other).expect("there"));
    assert!(one == other, "{} and {} bytes differ", one.len(), other.len());
}

/// Waits until so many peers read files.
pub(crate) fn wait_for_receivers(daemon: &Daemon, count: u64) {
    wait_for("receivers", || {
        let output = Tool::start(&daemon.url("tcp"), &["status", "--json"]).finish();
        let status: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("the daemon's figures");
        // the one that asks is a peer, too
        status["sessions"]["demo"]["peers"].as_u64() == Some(count + 1)
            && status["sessions"]["demo"]["topics"].is_u64()
    });
}

/// Not in memory, where it is large.
pub(crate) fn folder_on_disk() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target folder is writable")
}

/// The size of large files: what the environment says, or as `make test` has it.
pub(crate) fn mib(otherwise: u64) -> u64 {
    std::env::var(LARGE).map_or(otherwise, |text| text.parse().expect("a number of MiB"))
}

/// Whether this is the long form, which runs one test after the other.
pub(crate) fn is_alone() -> bool {
    std::env::var_os(LARGE).is_some()
}

const LARGE: &str = "FASTPORT_TEST_FILE_MIB";

pub(crate) fn write_large(path: &Path, mib: u64) {
    let mut file = fs::File::create(path).expect("the folder is ours");
    for number in 0..mib {
        file.write_all(&bytes(1 << 20, number + 7)).expect("there is room");
    }
}

pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    let [mut one, mut other] = [one, other].map(|path| fs::File::open(path).expect("there"));
    let (mut first, mut second) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let length = one.read(&mut first).expect("readable");
        if length == 0 {
            return other.read(&mut second).expect("readable") == 0;
        }
        if other.read_exact(&mut second[..length]).is_err() || first[..length] != second[..length] {
            return false;
        }
    }
}

/// Carries connections on, as slowly as it is told, and cuts them when it is told.
pub(crate) struct Proxy {
    pub(crate) address: String,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    pub(crate) fn start(target: &str) -> Self {
        Self::start_slow(target, f64::INFINITY)
    }

    /// One that carries so many bytes a second from its target.
    pub(crate) fn start_slow(target: &str, rate: f64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("it is bound").to_string();
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (target, all) = (target.to_owned(), Arc::clone(&open));
        // ends with the test's process
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&target) else { continue };
                let pair = [near, far];
                let clones = pair.each_ref().map(|it| it.try_clone().expect("descriptors"));
                all.lock().expect("no panic").extend(clones);
                let [near, far] = pair;
                let [near_too, far_too] =
                    [&near, &far].map(|it| it.try_clone().expect("descriptors"));
                std::thread::spawn(move || carry(near, far, f64::INFINITY));
                std::thread::spawn(move || carry(far_too, near_too, rate));
            }
        });
        Self { address, open }
    }

    pub(crate) fn cut(&self) {
        for stream in self.open.lock().expect("no panic").drain(..) {
            // it may have ended by itself
            stream.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, rate: f64) {
    if rate.is_finite() {
        carry_slowly(&mut from, &mut to, rate).unwrap_or_default();
    } else {
        std::io::copy(&mut from, &mut to).map(|_| ()).unwrap_or_default();
    }
    to.shutdown(Shutdown::Both).unwrap_or_default();
    from.shutdown(Shutdown::Both).unwrap_or_default();
}

/// A line's speed is time: so here it is waited for.
#[allow(clippy::disallowed_methods, reason = "the line's own time; nobody else waits on it")]
fn carry_slowly(from: &mut TcpStream, to: &mut TcpStream, rate: f64) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    let mut free_at = Instant::now();
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..length])?;
        // an idle line saves nothing for later
        free_at = free_at.max(Instant::now() - LINE_SLACK)
            + Duration::from_secs_f64(length as f64 / rate);
        std::thread::sleep(free_at.saturating_duration_since(Instant::now()));
    }
}

/// By how much a line that slept too long is made up for.
const LINE_SLACK: Duration = Duration::from_millis(20);

/// The most memory that a process has, beyond what it had at first.
pub(crate) struct Peak {
    first: Memory,
    most: Arc<Mutex<Memory>>,
}

/// In KiB.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    /// Its share of all pages.
    pss: u64,
    /// Of that, what is no file's: heap, stacks and changed pages.
    anonymous: u64,
}

impl Peak {
    pub(crate) fn watch(pid: u32) -> Self {
        let first = Memory::of(pid).expect("it runs");
        let most = Arc::new(Mutex::new(first));
        let seen = Arc::clone(&most);
        // ends with the process
        std::thread::spawn(move || {
            while let Some(now) = Memory::of(pid) {
                let mut most = seen.lock().expect("no panic");
                most.pss = most.pss.max(now.pss);
                most.anonymous = most.anonymous.max(now.anonymous);
                drop(most);
                std::thread::park_timeout(Duration::from_millis(5));
            }
        });
        Self { first, most }
    }

    /// Of what is its own. The program's pages are counted as they are first used, by halves where another
    /// daemon runs, and can be dropped: so they are no part of it.
    pub(crate) fn growth(&self) -> u64 {
        self.most().anonymous - self.first.anonymous
    }

    /// Of its share of all pages.
    pub(crate) fn pss_growth(&self) -> u64 {
        self.most().pss - self.first.pss
    }

    fn most(&self) -> Memory {
        *self.most.lock().expect("no panic")
    }
}

impl Display for Peak {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (first, most) = (self.first, self.most());
        write!(
            f,
            "its own memory from {} to {} KiB at most, by {}; PSS from {} to {}, by {}",
            first.anonymous,
            most.anonymous,
            self.growth(),
            first.pss,
            most.pss,
            self.pss_growth()
        )
    }
}

impl Memory {
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = |name| text.lines().find_map(|line| line.strip_prefix(name));
        let kib = |name| line(name)?.trim().trim_end_matches(" kB").parse().ok();
        Some(Self { pss: kib("Pss:")?, anonymous: kib("Pss_Anon:")? })
    }
}
