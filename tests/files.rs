//! Files between real tools through the real daemon: whole or not at all, whatever is cut or killed.

#![allow(clippy::panic, reason = "a failed expectation is what a test is for")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
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
