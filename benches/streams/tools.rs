//! A file from one real tool to another, plain and sealed, with all that belongs to it: it is hashed before
//! it is offered, and as it comes.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::CONFIG;
use crate::process::{cpu_seconds, finish};
use crate::support::Daemon;

/// A file, and keys to seal it with, in memory where the machine has a file system there.
pub(crate) struct Scene {
    folder: TempDir,
    bytes: u64,
}

/// A file that was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// MB a second, from the sender's start to the receiver's end.
    pub(crate) rate: f64,
    /// CPU seconds a GB, of sender, daemon and receiver.
    pub(crate) cpu: [f64; 3],
}

impl Scene {
    pub(crate) fn new(mib: u64) -> Self {
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let scene = Self { folder: folder.expect("a folder for a file"), bytes: mib << 20 };
        let mut file = File::create(scene.path("file")).expect("the folder is ours");
        let block = vec![7; 1 << 20];
        (0..mib).for_each(|_| file.write_all(&block).expect("there is room"));
        let made = command().args(["key", "new", "--seal"]).arg(scene.path("keys")).status();
        assert!(made.is_ok_and(|status| status.success()), "keys");
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// One file through a fresh daemon.
    pub(crate) fn send(&self, folder: &Path, is_sealed: bool) -> Sent {
        let daemon = Daemon::start(folder, CONFIG);
        let to = self.path("to");
        fs::create_dir(&to).expect("the folder is ours");
        let tool = |arguments: &[&str], path: &Path| {
            let mut command = command();
            command.args(["--url", &daemon.url("tcp")]);
            if is_sealed {
                command.arg("--seal").arg(self.path("keys"));
            }
            command.args(arguments).arg(path);
            command
        };
        let receiver = start(&mut tool(&["recv", "files/a", "--count", "1", "--dir"], &to));
        wait_for_peers(&daemon, 2);
        let (before, begun) = (cpu_seconds(daemon.pid()), Instant::now());
        let sender = start(tool(&["send", "--quiet"], &self.path("file")).arg("files/a"));
        let ends = [receiver, sender].map(finish);
        let took = begun.elapsed();
        let of_daemon = cpu_seconds(daemon.pid()) - before;
        assert!(ends.iter().all(|(status, _)| status.success()), "{ends:?}");
        let length = fs::metadata(to.join("file")).expect("it has come").len();
        assert_eq!(length, self.bytes);
        fs::remove_dir_all(&to).expect("the folder is ours");
        let [receiver, sender] = ends.map(|(_, cpu)| cpu);
        Sent {
            rate: self.bytes as f64 / took.as_secs_f64() / 1e6,
            cpu: [sender, of_daemon, receiver].map(|cpu| cpu / (self.bytes as f64 / 1e9)),
        }
    }
}

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fastport"));
    command.env_remove("FASTPORT_URL").env_remove("FASTPORT_SESSION");
    command
}

fn start(command: &mut Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("the tool is built")
}

/// Waits until the session has so many peers: the one that asks is one of them.
fn wait_for_peers(daemon: &Daemon, count: u64) {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let output = command().args(["--url", &daemon.url("tcp"), "status", "--json"]).output();
        let output = output.expect("the tool is built").stdout;
        let status: serde_json::Value = serde_json::from_slice(&output).unwrap_or_default();
        let demo = &status["sessions"]["demo"];
        if demo["peers"].as_u64() == Some(count) && demo["topics"].as_u64() > Some(0) {
            return;
        }
        assert!(Instant::now() < until, "the receiver joins in time: {status}");
    }
}
