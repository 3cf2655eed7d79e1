//! What systemd is told, over a real notification socket, by libsystemd and by what stands in for it.
#![cfg(any(feature = "systemd", feature = "sd-notify"))]
#![allow(clippy::panic, reason = "a failed expectation is what a test is for")]

mod support;

use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use self::support::{DEADLINE, Daemon};

const CONFIG: &str = r#"
board = { enabled = false }
listen = [{ kind = "tcp", address = "127.0.0.1:0" }]
session = [{ name = "demo", open = true }]
"#;

/// A service manager that listens.
struct Manager {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = UnixDatagram::bind(Self::path(&folder)).expect("the folder is writable");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout over 0");
        Self { folder, socket }
    }

    fn path(folder: &tempfile::TempDir) -> PathBuf {
        folder.path().join("notify")
    }

    fn start(&self, environment: &[(&str, &str)]) -> Daemon {
        self.start_as(CONFIG, environment)
    }

    fn start_as(&self, config: &str, environment: &[(&str, &str)]) -> Daemon {
        let path = Self::path(&self.folder);
        let socket = [("NOTIFY_SOCKET", path.to_str().expect("a plain path"))];
        let environment = [&socket, environment].concat();
        Daemon::start_with(self.folder.path(), config, &environment)
    }

    fn hear(&self) -> String {
        let mut buffer = [0; 512];
        let length = self.socket.recv(&mut buffer).expect("something is said in time");
        String::from_utf8_lossy(&buffer[..length]).trim().to_owned()
    }
}

#[test]
fn systemd_hears_of_ready_reload_and_stop() {
    let manager = Manager::new();
    let mut daemon = manager.start(&[]);
    assert_eq!(manager.hear(), "READY=1");
    daemon.signal("HUP");
    let reloading = manager.hear();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(manager.hear(), "READY=1");
    daemon.signal("TERM");
    // the default of daemon.drain, and a margin
    assert_eq!(manager.hear(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=10000000");
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn a_start_that_waits_for_a_disk_is_given_more_time() {
    let manager = Manager::new();
    let state = manager.folder.path().join("state");
    std::fs::create_dir(&state).expect("the folder is writable");
    // who opens it to read waits, as for a disk, until somebody opens it to write
    let journal = state.join("journal-demo.log");
    let made = std::process::Command::new("mkfifo").arg(&journal).status();
    assert!(made.is_ok_and(|status| status.success()));
    let config = format!(
        "daemon = {{ state = {state:?} }}\njournal = {{ place = \"disk\" }}\n{}",
        CONFIG.replace("open = true", "open = true, promise = \"journal\"")
    );
    std::thread::scope(|scope| {
        let daemon = scope.spawn(|| manager.start_as(&config, &[]));
        for _ in 0..2 {
            assert_eq!(manager.hear(), "EXTEND_TIMEOUT_USEC=10000000");
        }
        let stall = std::fs::OpenOptions::new().write(true).open(&journal);
        drop(stall.expect("the daemon waits for it"));
        let mut heard = manager.hear();
        while heard.starts_with("EXTEND_TIMEOUT_USEC=") {
            heard = manager.hear();
        }
        assert_eq!(heard, "READY=1");
        drop(daemon.join().expect("it is ready"));
    });
}

#[test]
fn a_watchdog_is_fed_with_a_line_on_how_the_daemon_is() {
    let manager = Manager::new();
    let daemon = manager.start(&[("WATCHDOG_USEC", "500000")]);
    let mut heard = [manager.hear(), manager.hear()];
    // the first is fed before or after READY
    heard.sort();
    assert_eq!(heard[0], "READY=1");
    assert!(heard[1].starts_with("WATCHDOG=1\nSTATUS=0 peers, "), "{}", heard[1]);
    for _ in 0..3 {
        assert_eq!(manager.hear(), "WATCHDOG=1");
    }
    let mut status = std::process::Command::new(env!("CARGO_BIN_EXE_fastport"));
    let status = status.args(["--url", &daemon.url("tcp"), "status", "--json"]).output();
    let figures = status.expect("the tool is built").stdout;
    let figures: serde_json::Value = serde_json::from_slice(&figures).expect("JSON");
    let margins = &figures["watchdog"];
    let number = |name: &str| margins[name].as_u64().unwrap_or_else(|| panic!("{name}: {figures}"));
    assert_eq!((number("period_ms"), number("deadline_ms")), (500, 250));
    assert!(number("answer_ms") <= number("slowest_answer_ms"), "{margins}");
    // each is cut to whole milliseconds
    let deadline = number("margin_ms") + number("slowest_answer_ms");
    assert!((249..=250).contains(&deadline), "{margins}");
    assert!(number("disk_margin_ms") > number("slowest_disk_ms"), "{margins}");
    drop(daemon);
}

#[test]
fn the_configured_time_of_the_watchdog_replaces_the_units() {
    let manager = Manager::new();
    let configured = ("FASTPORT_DAEMON_WATCHDOG", "1s");
    let daemon = manager.start(&[("WATCHDOG_USEC", "500000"), configured]);
    assert_eq!(manager.hear(), "WATCHDOG_USEC=1000000");
    drop(daemon);
    // a unit without a watchdog gets none
    let manager = Manager::new();
    let daemon = manager.start(&[configured]);
    assert_eq!(manager.hear(), "READY=1");
    drop(daemon);
}

#[test]
fn another_process_watchdog_is_not_ours() {
    let manager = Manager::new();
    let daemon = manager.start(&[("WATCHDOG_USEC", "100000"), ("WATCHDOG_PID", "1")]);
    assert_eq!(manager.hear(), "READY=1");
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs");
    assert_eq!(threads.count(), 1, "no thread but the daemon's own");
}
