//! Files between real tools through the real daemon: whole or not at all, whatever is cut or killed.

#![allow(clippy::panic, reason = "a failed expectation is what a test is for")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use support::{DEADLINE, Daemon};
use tempfile::TempDir;

const PLAIN: &str = r#"
[board]
enabled = false

[[listen]]
kind = "tcp"
address = "127.0.0.1:0"

[[listen]]
kind = "websocket"
address = "127.0.0.1:0"

[[session]]
name = "demo"
open = true
"#;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn plain() -> (TempDir, Daemon) {
    let folder = folder();
    let daemon = Daemon::start(folder.path(), PLAIN);
    (folder, daemon)
}

fn tool(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fastport"));
    command.arg("--url").arg(url).args(arguments);
    command.env_remove("FASTPORT_URL").env_remove("FASTPORT_SESSION");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A tool that is ended when it is dropped.
struct Tool(Option<Child>);

impl Tool {
    fn start(url: &str, arguments: &[&str]) -> Self {
        Self(Some(tool(url, arguments).spawn().expect("the tool is built")))
    }

    /// Waits for it to end by itself.
    fn finish(mut self) -> Output {
        let mut child = self.0.take().expect("it was started");
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (out, err) = (read_all(out), read_all(err));
        let until = Instant::now() + 4 * DEADLINE;
        let status = loop {
            if let Some(status) = child.try_wait().expect("the child is ours") {
                break status;
            }
            if Instant::now() > until {
                child.kill().expect("the child is ours");
            }
            std::thread::park_timeout(Duration::from_millis(2));
        };
        let [stdout, stderr] = [out, err].map(|it| it.join().expect("no panic"));
        Output { status, stdout, stderr }
    }

    /// Waits for it to end well; what it said.
    fn succeed(self) -> String {
        let output = self.finish();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{:?}: {said}", output.status);
        said
    }

    fn kill(mut self) {
        let mut child = self.0.take().expect("it was started");
        child.kill().expect("the child is ours");
        child.wait().expect("the child is ours");
    }
}

/// Reads a pipe to its end, beside all else.
fn read_all(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    let mut pipe = pipe.expect("piped");
    std::thread::spawn(move || {
        let mut all = Vec::new();
        // a tool that was killed said what it said
        pipe.read_to_end(&mut all).unwrap_or_default();
        all
    })
}

impl Drop for Tool {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            child.kill().unwrap_or_default();
            child.wait().map(|_| ()).unwrap_or_default();
        }
    }
}

fn send(url: &str, file: &Path, more: &[&str]) -> Tool {
    let file = file.to_str().expect("UTF-8");
    Tool::start(url, &[&["send", file, "files/a", "--connect-timeout", "30s"], more].concat())
}

fn recv(url: &str, dir: &Path, more: &[&str]) -> Tool {
    let dir = dir.to_str().expect("UTF-8");
    let arguments = ["recv", "files/#", "--dir", dir, "--connect-timeout", "30s"];
    Tool::start(url, &[&arguments, more].concat())
}

/// Bytes of no pattern that a wrong place would leave unseen.
fn bytes(length: usize, seed: u64) -> Vec<u8> {
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

fn file(folder: &Path, name: &str, length: usize) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes(length, length as u64)).expect("the folder is ours");
    path
}

/// The files in a folder; hidden ones with a dot before.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("readable").file_name());
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Waits until something is so.
fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < until, "not in time: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Waits until the folder has so many bytes of a file that is not whole.
fn wait_for_part(folder: &Path, least: u64) {
    wait_for("part of a file", || {
        let mut entries = fs::read_dir(folder).expect("a folder").filter_map(Result::ok);
        entries.any(|entry| {
            entry.file_name().to_string_lossy().ends_with(".part")
                && entry.metadata().is_ok_and(|about| about.len() >= least)
        })
    });
}

fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (fs::read(one).expect("there"), fs::read(other).expect("there"));
    assert!(one == other, "{} and {} bytes differ", one.len(), other.len());
}

#[test]
fn a_file_arrives_whole_under_its_name_over_every_transport() {
    let (_daemon_folder, daemon) = plain();
    for scheme in ["tcp", "ws"] {
        let (from, to) = (folder(), folder());
        let url = daemon.url(scheme);
        for length in [0, 1, 16_384, 3_000_001] {
            let source = file(from.path(), &format!("{length}.bin"), length);
            let receiver = recv(&url, to.path(), &["--count", "1"]);
            send(&url, &source, &[]).succeed();
            receiver.succeed();
            assert_same(&source, &to.path().join(format!("{length}.bin")));
        }
        assert!(names(to.path()).iter().all(|name| !name.starts_with('.')));
    }
}

#[test]
fn several_files_and_a_directory_arrive() {
    let (_daemon_folder, daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let files: Vec<PathBuf> =
        (1..10).map(|it| file(from.path(), &format!("{it}.bin"), it * 10_000)).collect();
    let tree = from.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).expect("ours");
    file(&tree.join("a/b"), "deep.bin", 100_000);
    file(&tree, "empty", 0);
    let mut arguments = vec!["send"];
    arguments.extend(files.iter().map(|it| it.to_str().expect("UTF-8")));
    arguments.extend([tree.to_str().expect("UTF-8"), "files/a"]);
    let receiver = recv(&url, to.path(), &["--count", "10"]);
    Tool::start(&url, &arguments).succeed();
    receiver.succeed();
    for source in &files {
        assert_same(source, &to.path().join(source.file_name().expect("a file")));
    }
    assert_same(&tree.join("a/b/deep.bin"), &to.path().join("tree/a/b/deep.bin"));
    assert_eq!(names(&to.path().join("tree")), ["a", "empty"]);
    assert_eq!(names(to.path()).len(), 10);
}

#[test]
fn standard_input_goes_to_standard_output() {
    let (_daemon_folder, daemon) = plain();
    let url = daemon.url("tcp");
    let sent = bytes(500_000, 3);
    let receiver = recv(&url, Path::new("-"), &["--count", "1"]);
    let mut sender =
        tool(&url, &["send", "-", "files/a"]).stdin(Stdio::piped()).spawn().expect("it is built");
    let mut input = sender.stdin.take().expect("piped");
    let (given, output) = std::thread::scope(|scope| {
        let given = scope.spawn(|| input.write_all(&sent).map(|()| drop(input)));
        let output = receiver.finish();
        (given.join(), output)
    });
    given.expect("no panic").expect("the tool reads it");
    assert!(output.status.success());
    assert!(output.stdout == sent, "{} bytes", output.stdout.len());
    Tool(Some(sender)).succeed();
}

#[test]
fn a_receiver_that_is_killed_goes_on_where_it_was() {
    let (_daemon_folder, daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let source = file(from.path(), "a.bin", 60_000_000);
    let receiver = recv(&url, to.path(), &[]);
    let sender = send(&url, &source, &[]);
    wait_for_part(to.path(), 1_000_000);
    receiver.kill();
    let begun = names(to.path());
    let receiver = recv(&url, to.path(), &["--count", "1"]);
    sender.succeed();
    receiver.succeed();
    assert!(begun == ["a.bin"] || begun[0].ends_with(".part"), "{begun:?}");
    assert_same(&source, &to.path().join("a.bin"));
    assert_eq!(names(to.path()), ["a.bin"]);
}

#[test]
fn a_sender_that_is_killed_goes_on_where_the_receiver_is() {
    let (_daemon_folder, daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let source = file(from.path(), "a.bin", 60_000_000);
    let receiver = recv(&url, to.path(), &["--count", "1"]);
    let sender = send(&url, &source, &[]);
    wait_for_part(to.path(), 1_000_000);
    sender.kill();
    send(&url, &source, &[]).succeed();
    receiver.succeed();
    assert_same(&source, &to.path().join("a.bin"));
    assert_eq!(names(to.path()), ["a.bin"]);
}

#[test]
fn a_relay_that_is_killed_costs_no_byte() {
    let (daemon_folder, mut daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let config = PLAIN.replacen("127.0.0.1:0", &daemon.address("tcp"), 1);
    let source = file(from.path(), "a.bin", 60_000_000);
    let receiver = recv(&url, to.path(), &["--count", "1"]);
    let sender = send(&url, &source, &[]);
    wait_for_part(to.path(), 1_000_000);
    daemon.signal("KILL");
    daemon.wait();
    let _daemon = Daemon::start(daemon_folder.path(), &config);
    sender.succeed();
    receiver.succeed();
    assert_same(&source, &to.path().join("a.bin"));
    assert_eq!(names(to.path()), ["a.bin"]);
}

#[test]
fn a_file_that_is_there_already_is_not_sent_again_and_another_of_its_name_gets_a_number() {
    let (_daemon_folder, daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let source = file(from.path(), "a.bin", 100_000);
    fs::copy(&source, to.path().join("a.bin")).expect("ours");
    let receiver = recv(&url, to.path(), &["--count", "2"]);
    send(&url, &source, &[]).succeed();
    assert_eq!(names(to.path()), ["a.bin"]);
    let source = file(from.path(), "a.bin", 200_000);
    send(&url, &source, &[]).succeed();
    let said = receiver.succeed();
    assert!(said.contains("which was here already"), "{said}");
    assert_eq!(names(to.path()), ["a (1).bin", "a.bin"]);
    assert_same(&source, &to.path().join("a (1).bin"));
}

#[test]
fn who_declines_is_told_of_and_the_sender_waits_for_others() {
    let (_daemon_folder, daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let source = file(from.path(), "a.bin", 100_000);
    fs::write(to.path().join("a.bin"), b"mine").expect("ours");
    let receiver = recv(&url, to.path(), &["--count", "1", "--when-exists", "decline"]);
    let output = send(&url, &source, &["--timeout", "3s"]).finish();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(124), "{said}");
    assert!(said.contains("it has a file of that name"), "{said}");
    let output = receiver.finish();
    assert_eq!(output.status.code(), Some(74));
    assert_eq!(fs::read(to.path().join("a.bin")).expect("there"), b"mine");
    assert_eq!(names(to.path()), ["a.bin"]);
}

#[test]
fn a_file_without_room_for_it_is_declined_and_one_that_fills_the_disk_is_removed() {
    let to = folder();
    let Some(small) = SmallDisk::mount(to.path(), "48m") else { return };
    let (_daemon_folder, daemon) = plain();
    let from = folder();
    let url = daemon.url("tcp");
    let source = file(from.path(), "large.bin", 60_000_000);
    let receiver = recv(&url, small.path(), &["--count", "1"]);
    let output = send(&url, &source, &["--timeout", "3s"]).finish();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("its disk is full"), "{said}");
    let output = receiver.finish();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(74), "{said}");
    assert!(said.contains("no room on the disk"), "{said}");

    let source = file(from.path(), "fits.bin", 45_000_000);
    let receiver = recv(&url, small.path(), &["--count", "1"]);
    let sender = send(&url, &source, &["--timeout", "20s"]);
    wait_for_part(small.path(), 500_000);
    fs::write(small.path().join("filling"), vec![0; 20_000_000]).expect("there is room as yet");
    let output = receiver.finish();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(74), "{said}");
    assert_eq!(names(small.path()), ["filling"], "what came has made room");
    let output = sender.finish();
    assert_eq!(output.status.code(), Some(124));
    assert!(String::from_utf8_lossy(&output.stderr).contains("its disk is full"));
}

#[test]
fn receivers_keep_their_pace_beside_one_that_is_stalled() {
    let (_daemon_folder, daemon) = plain();
    let from = folder();
    let url = daemon.url("tcp");
    let source = file(from.path(), "a.bin", 20_000_000);
    let folders: Vec<TempDir> = (0..5).map(|_| folder()).collect();
    let mut receivers: Vec<Tool> =
        folders.iter().map(|to| recv(&url, to.path(), &["--count", "1"])).collect();
    let stalled = receivers.pop().expect("there are five");
    wait_for_receivers(&daemon, 5);
    stalled.signal("STOP");
    let sender = send(&url, &source, &["--receivers", "4", "--patience", "2s"]);
    for (receiver, to) in receivers.into_iter().zip(&folders) {
        receiver.succeed();
        assert_same(&source, &to.path().join("a.bin"));
    }
    let said = sender.succeed();
    assert!(said.contains("4 receivers have it"), "{said}");
    stalled.signal("CONT");
}

#[test]
fn a_sender_that_is_interrupted_takes_its_offer_back() {
    let (_daemon_folder, daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let source = file(from.path(), "a.bin", 60_000_000);
    let receiver = recv(&url, to.path(), &["--count", "1"]);
    let sender = send(&url, &source, &[]);
    wait_for_part(to.path(), 1_000_000);
    sender.signal("INT");
    assert_eq!(sender.finish().status.code(), Some(130));
    let output = receiver.finish();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.contains("taken back by its sender"), "{said}");
    let left = names(to.path());
    assert!(left.len() == 1 && left[0].ends_with(".part"), "{left:?}");
}

/// The size in MiB is FASTPORT_TEST_FILE_MIB, for the long form with 4096.
#[test]
fn a_large_file_passes_a_small_gateway_over_cuts_and_a_kill() {
    let mib: u64 = std::env::var("FASTPORT_TEST_FILE_MIB")
        .map_or(256, |text| text.parse().expect("a number of MiB"));
    let config = PLAIN.to_owned() + "[limits]\nmemory = \"16MiB\"\nstream.window = \"1MiB\"\n";
    let daemon_folder = folder();
    let mut daemon = Daemon::start(daemon_folder.path(), &config);
    let proxy = Proxy::start(&daemon.address("tcp"));
    let url = format!("tcp://{}", proxy.address);
    let (from, to) = (folder_on_disk(), folder_on_disk());
    let source = from.path().join("large.bin");
    write_large(&source, mib);

    let mut peak = Peak::watch(daemon.pid());
    let receiver = recv(&url, to.path(), &["--count", "1"]);
    let sender = send(&url, &source, &[]);
    for part in 1..=5 {
        wait_for_part(to.path(), part * (mib << 20) / 8);
        proxy.cut();
    }
    wait_for_part(to.path(), 6 * (mib << 20) / 8);
    let first = peak.growth();
    let fixed = config.replacen("127.0.0.1:0", &daemon.address("tcp"), 1);
    daemon.signal("KILL");
    daemon.wait();
    let daemon = Daemon::start(daemon_folder.path(), &fixed);
    peak = Peak::watch(daemon.pid());
    sender.succeed();
    receiver.succeed();
    let second = peak.growth();
    assert!(is_same(&source, &to.path().join("large.bin")), "both ends have the same bytes");
    println!("{mib} MiB: the gateway grew by {first} KiB, and after the kill by {second} KiB");
    // the window with its heads, what links read into, and the allocator's own
    let most = 1024 + 64 + 17 + 512;
    assert!(first <= most && second <= most, "{first} KiB, {second} KiB");
}

#[test]
fn an_alarm_is_not_delayed_by_a_file() {
    let (_daemon_folder, daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let source = file(from.path(), "a.bin", 200_000_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let receiver = recv(&url, to.path(), &["--count", "1"]);
    let sender = send(&url, &source, &[]);
    wait_for_part(to.path(), 1_000_000);
    let delays = runtime.block_on(alarms(&url, 200));
    let is_under_way = names(to.path()).iter().any(|name| name.ends_with(".part"));
    sender.kill();
    receiver.kill();
    let median = delays[delays.len() / 2];
    println!("alarms beside a file: median {median:?}, last {:?}", delays[delays.len() - 1]);
    assert!(is_under_way || delays.len() == 200);
    assert!(median < Duration::from_millis(50), "{median:?}");
}

/// The delays of so many messages, in order.
async fn alarms(url: &str, count: usize) -> Vec<Duration> {
    use fastport_client::{Incoming, Options, SubscribeOptions, Target, init};
    let join = || async {
        let target = Target::parse(url).expect("a URL");
        init(Options::new(target, "demo")).await.expect("the daemon is there")
    };
    let (publisher, reader) = (join().await, join().await);
    let options = SubscribeOptions::default();
    let mut subscription = reader.subscribe("alarm", options).await.expect("an open session");
    let mut delays = Vec::new();
    for number in 0..count {
        let sent = Instant::now();
        publisher.emit("alarm", &number.to_be_bytes()).await.expect("it is there");
        let next = tokio::time::timeout(DEADLINE, subscription.next()).await;
        assert!(matches!(next, Ok(Some(Incoming::Message(_)))), "{next:?}");
        delays.push(sent.elapsed());
    }
    delays.sort();
    delays
}

impl Tool {
    fn signal(&self, name: &str) {
        let pid = self.0.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {pid}");
    }
}

/// Waits until so many peers read files.
fn wait_for_receivers(daemon: &Daemon, count: u64) {
    wait_for("receivers", || {
        let output = Tool::start(&daemon.url("tcp"), &["status", "--json"]).finish();
        let status: serde_json::Value =
            serde_json::from_slice(&output.stdout).expect("the daemon's figures");
        // the one that asks is a peer, too
        status["sessions"]["demo"]["peers"].as_u64() == Some(count + 1)
            && status["sessions"]["demo"]["topics"].is_u64()
    });
}

/// A file system of its own in a folder, gone when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at);
        let is_mounted = command.status().is_ok_and(|status| status.success());
        if !is_mounted {
            println!("SKIPPED: a file system of its own needs root");
        }
        is_mounted.then(|| Self(at.to_owned()))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // lazily: what is killed may still have a file open
        Command::new("umount").arg("-l").arg(&self.0).status().map(|_| ()).unwrap_or_default();
    }
}

/// Not in memory, where it is large.
fn folder_on_disk() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("the target folder is writable")
}

fn write_large(path: &Path, mib: u64) {
    let mut file = fs::File::create(path).expect("the folder is ours");
    for number in 0..mib {
        file.write_all(&bytes(1 << 20, number + 7)).expect("there is room");
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
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

/// Carries connections on, and cuts them when it is told.
struct Proxy {
    address: String,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn start(target: &str) -> Self {
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
                std::thread::spawn(move || carry(near, far));
                std::thread::spawn(move || carry(far_too, near_too));
            }
        });
        Self { address, open }
    }

    fn cut(&self) {
        for stream in self.open.lock().expect("no panic").drain(..) {
            // it may have ended by itself
            stream.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    std::io::copy(&mut from, &mut to).map(|_| ()).unwrap_or_default();
    to.shutdown(Shutdown::Both).unwrap_or_default();
    from.shutdown(Shutdown::Both).unwrap_or_default();
}

/// The most memory that a process has of its own, in KiB, beyond what it had at first.
struct Peak {
    first: u64,
    most: Arc<AtomicU64>,
}

impl Peak {
    fn watch(pid: u32) -> Self {
        let first = anonymous(pid).expect("it runs");
        let most = Arc::new(AtomicU64::new(first));
        let seen = Arc::clone(&most);
        std::thread::spawn(move || {
            while let Some(now) = anonymous(pid) {
                seen.fetch_max(now, Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(5));
            }
        });
        Self { first, most }
    }

    fn growth(&self) -> u64 {
        self.most.load(Ordering::Relaxed) - self.first
    }
}

fn anonymous(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss_Anon:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
