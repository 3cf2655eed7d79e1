//! What the tests of the real binaries share: starting the daemon, speaking to it, ending it.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]
#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::disk::Patience;

pub mod disk;
pub mod peer;
pub mod skip;

/// How long anything may take before the test gives it up; far more than it takes.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The schemes of [`demo_config`]'s listeners: what this build has without certificates.
pub const SCHEMES: &[&str] = if cfg!(feature = "websocket") { &["tcp", "ws"] } else { &["tcp"] };

/// A configuration that listens on TCP, and on WebSocket where that is built in, and has an open
/// session `demo` of which `lines` say more.
pub fn demo_config(lines: &str) -> String {
    let websocket = if cfg!(feature = "websocket") { WEBSOCKET } else { "" };
    format!(
        r#"
[board]
enabled = false

[[listen]]
kind = "tcp"
address = "127.0.0.1:0"
{websocket}
[[session]]
name = "demo"
open = true
{lines}
"#
    )
}

const WEBSOCKET: &str = "
[[listen]]
kind = \"websocket\"
address = \"127.0.0.1:0\"
";

pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

/// Writes a file in a test's folder.
pub fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("the test's folder is writable");
    path
}

/// Runs a command of ours to its end: exit status, standard output, standard error.
pub fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let output = command.output().expect("it is built");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("what it says is UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Waits for a child to end, and reads what it says meanwhile: a full pipe would keep it from ending.
/// One that takes longer than `within` is killed, and has no exit code.
pub fn finish(mut child: Child, within: Duration) -> Output {
    let until = Instant::now() + within;
    let (out, error) = (child.stdout.take().map(read_all), child.stderr.take().map(read_all));
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child is ours") {
            break status;
        }
        if Instant::now() > until {
            child.kill().expect("the child is ours");
        }
        std::thread::park_timeout(Duration::from_millis(2));
    };
    let [stdout, stderr] = [out, error].map(|reader: Option<JoinHandle<Vec<u8>>>| {
        reader.map(|reader| reader.join().expect("no panic")).unwrap_or_default()
    });
    Output { status, stdout, stderr }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}

/// The command `fastportd`, without settings from the environment of the tests.
pub fn fastportd() -> Command {
    without_settings(Command::new(env!("CARGO_BIN_EXE_fastportd")))
}

/// The command without the variables that the daemon would take for settings.
pub fn without_settings(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("FASTPORT_")) {
            command.env_remove(name);
        }
    }
    command
}

/// The Python of the tests: what FASTPORT_TEST_PYTHON names, else that which `make test` installs,
/// else the machine's.
pub fn python() -> PathBuf {
    if let Some(path) = std::env::var_os("FASTPORT_TEST_PYTHON") {
        return path.into();
    }
    let installed =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/target/test-venv/bin/python")).to_owned();
    if installed.exists() { installed } else { "python3".into() }
}

/// A running `fastportd`, ended when it is dropped.
pub struct Daemon {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    urls: Vec<String>,
}

impl Daemon {
    /// Starts the daemon with that `gateway.toml`, and waits until it is ready. Give port 0 to
    /// listeners: [`Daemon::address`] tells the real ones.
    pub fn start(folder: &Path, config: &str) -> Self {
        Self::start_with(folder, config, &[])
    }

    /// As [`Daemon::start`], with environment variables.
    pub fn start_with(folder: &Path, config: &str, environment: &[(&str, &str)]) -> Self {
        let mut command = command_with(folder, config);
        Self::spawn(command.envs(environment.iter().copied()))
    }

    /// Starts the daemon by a command of one's own, and waits until it is ready.
    pub fn spawn(command: &mut Command) -> Self {
        let mut daemon = Self::launch_by(command);
        daemon.wait_for("ready");
        let urls = daemon.seen.iter().filter_map(|line| line.split_once("listening url="));
        daemon.urls = urls.map(|(_, url)| url.trim_matches('"').to_owned()).collect();
        daemon
    }

    /// As [`Daemon::start`], without waiting: it has no URLs.
    pub fn launch(folder: &Path, config: &str) -> Self {
        Self::launch_by(&mut command_with(folder, config))
    }

    fn launch_by(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("fastportd is built");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut kept = BufReader::new(stderr).lines().map_while(Result::ok);
            kept.all(|line| sender.send(line).is_ok())
        });
        Self { child, lines, seen: Vec::new(), urls: Vec::new() }
    }

    /// The URL of the listener with that scheme (`tcp`, `tls`, `ws`, `wss`, `unix`).
    pub fn url(&self, scheme: &str) -> String {
        let prefix = format!("{scheme}:");
        let url = self.urls.iter().find(|url| url.starts_with(&prefix));
        url.unwrap_or_else(|| panic!("no {scheme} listener in {:?}", self.urls)).clone()
    }

    /// The `host:port` of the listener with that scheme.
    pub fn address(&self, scheme: &str) -> String {
        self.url(scheme).split_once("://").expect("a URL with a host").1.to_owned()
    }

    /// Waits for a log line that holds `text`, and returns it; earlier lines count, too.
    pub fn wait_for(&mut self, text: &str) -> String {
        self.wait_for_times(text, 1)
    }

    /// Waits until that many log lines hold `text`, earlier ones included; the last of them.
    pub fn wait_for_times(&mut self, text: &str, times: usize) -> String {
        let patience = Patience::new(DEADLINE);
        loop {
            let mut found = self.seen.iter().filter(|line| line.contains(text));
            if let Some(line) = found.nth(times - 1) {
                return line.clone();
            }
            let line = patience.left().map(|left| self.lines.recv_timeout(left));
            match line {
                Some(Ok(line)) => self.seen.push(line),
                // the disk may have stalled meanwhile
                Some(Err(RecvTimeoutError::Timeout)) => {}
                Some(Err(RecvTimeoutError::Disconnected)) | None => {
                    panic!("no {text:?} in the log:\n{}", self.log())
                }
            }
        }
    }

    /// All log lines so far.
    pub fn log(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        self.seen.join("\n")
    }

    /// Kills the process, and waits for its end; all it logged.
    pub fn kill(mut self) -> String {
        self.signal("KILL");
        self.wait();
        // with the process ends what it writes
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            self.seen.push(line);
        }
        self.seen.join("\n")
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal: `HUP`, `TERM`, `KILL`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args([&format!("-{name}"), &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} {pid}");
    }

    /// Waits for the process to end; its exit status.
    pub fn wait(&mut self) -> Option<i32> {
        let patience = Patience::new(DEADLINE);
        while patience.left().is_some() {
            if let Some(status) = self.child.try_wait().expect("the child is ours") {
                return status.code();
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        panic!("fastportd did not end:\n{}", self.log());
    }
}

fn command_with(folder: &Path, config: &str) -> Command {
    let path = write(folder, "gateway.toml", config);
    let mut command = fastportd();
    command.arg("--config").arg(path).env("FASTPORT_DAEMON_LOG_FORMAT", "text");
    command
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // may have ended by itself, which is no fault here
        self.child.kill().unwrap_or_default();
        self.child.wait().map(|_| ()).unwrap_or_default();
    }
}
