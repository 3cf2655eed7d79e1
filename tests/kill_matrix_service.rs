//! The kill matrix with a gateway that systemd runs, whose journal is in memory that systemd holds: the
//! same promises, and not a byte on flash.
#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "what a test relies on and does not get fails it; what it found is shown"
)]

#[path = "support/access.rs"]
mod access;
#[path = "support/matrix.rs"]
mod matrix;
#[path = "support/site.rs"]
mod site;
mod support;
#[path = "support/systemd.rs"]
mod systemd;
#[path = "support/watch.rs"]
mod watch;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use matrix::{Pair, Victim};
use site::Site;
use support::Daemon;
use watch::{Watch, writable_places};

/// Runs the test below under systemd, where there is one.
#[test]
fn a_gateway_with_its_journal_in_memory_loses_nothing_and_writes_no_flash() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = std::env::current_exe().expect("a test has a path");
    let bound = [
        (env!("CARGO_BIN_EXE_fastportd").as_ref(), "/usr/bin/fastportd"),
        (&*root.join("systemd/fastportd.service"), "/etc/systemd/system/fastportd.service"),
        (&*root.join("systemd/fastport.sysusers"), "/mnt/fastport.sysusers"),
        (&*own, "/mnt/kill-matrix"),
    ];
    let kills = std::env::var("FASTPORT_TEST_KILLS").unwrap_or_else(|_| "200".to_owned());
    let kills = format!("FASTPORT_TEST_KILLS={kills}");
    let test = ["/mnt/kill-matrix", "--exact", "as_a_service", "--ignored", "--nocapture"];
    let words = [&["env", &kills], &test[..]].concat();
    let Some(text) = systemd::run("kill matrix", 300, &bound, &words) else { return };
    println!("{text}");
    assert!(text.contains("1 passed"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the test above runs it, under systemd"]
async fn as_a_service() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut site = Site::new(folder.path());
    site.gateway_lines = format!("spool = {{ disk = 0, memory = '64KiB' }}\n{}", matrix::RULES);
    site.gateway_journal = "memory";
    let central = Some(site.start_central());
    shell("systemd-sysusers /mnt/fastport.sysusers && mkdir -p /etc/fastport");
    // there before systemd makes it, so that nothing is missed
    shell(&format!("install -d -m 750 -o fastport -g fastport {STATE}"));
    let watch = Watch::new(STATE.as_ref());
    std::fs::write("/etc/fastport/gateway.toml", site.gateway_config()).expect("root may");
    let key = "install -m 640 -g fastport";
    shell(&format!("{key} {}/gateway/gw.key /etc/fastport/gw.key", folder.path().display()));
    shell(
        "mkdir -p /etc/systemd/system/fastportd.service.d && printf \
         '[Service]\\nRestartSec=10ms\\nReadOnlyPaths=/tmp /var/tmp\\n' \
         >/etc/systemd/system/fastportd.service.d/test.conf && \
         systemctl daemon-reload && systemctl start fastportd",
    );
    let mut places = writable_places(&gateway_pid());
    // the container's own, which only root may write
    places.retain(|place| !place.starts_with("/run/host/"));
    assert_eq!(places, [STATE], "it may write elsewhere, unseen");
    matrix::run(&site, Service { site: &site, central }).await;
    shell("systemctl stop fastportd");
    assert_only_the_floor(&watch.events());
}

/// Asserts that nothing was written but the clock's floor, once: a line an hour at most, and the run takes less. A
/// kill may have cut it short before. That it was seen shows that whatever is written there is.
fn assert_only_the_floor(events: &[String]) {
    println!("written to flash: {events:?}");
    let floor = events.iter().position(|event| event == "MOVED_TO time-floor");
    let (before, after) = events.split_at(floor.expect("the central instance has said the time"));
    assert!(before.iter().all(|event| event.ends_with(" time-floor.new")), "{events:?}");
    // of the file that was renamed while it was open
    assert!(matches!(&after[1..], []) || after[1..] == ["CLOSE_WRITE time-floor"], "{events:?}");
}

#[test]
fn a_file_that_is_written_and_gone_again_is_seen() {
    let folder = support::folder();
    let watch = Watch::new(folder.path());
    let file = folder.path().join("spool.db");
    std::fs::write(&file, "a page").expect("the folder is writable");
    std::fs::remove_file(&file).expect("it is there");
    let seen = watch.events();
    assert_eq!(
        seen,
        ["CREATE", "MODIFY", "CLOSE_WRITE", "DELETE"].map(|it| format!("{it} spool.db"))
    );
    assert_eq!(watch.events(), [""; 0]);
}

/// The gateway as a service, the central instance as a process of the test.
struct Service<'a> {
    site: &'a Site,
    central: Option<Daemon>,
}

impl Service<'_> {
    fn end_those(&mut self, victim: Victim) {
        if victim != Victim::Gateway {
            self.central = None;
        }
        if victim != Victim::Central {
            shell("systemctl kill -s KILL --kill-who=main fastportd");
        }
    }

    /// Waits until the gateway is another process than that and ready, and both are.
    fn wait_until_ready(&mut self, before: &str) {
        wait_for(|| gateway_pid() != before && gateway_state() == "active");
        if let Some(central) = &mut self.central {
            central.wait_for("ready");
        }
    }
}

impl Pair for Service<'_> {
    fn kill(&mut self, victim: Victim) {
        let before = if victim == Victim::Central { String::new() } else { gateway_pid() };
        self.end_those(victim);
        if victim != Victim::Gateway {
            self.central = Some(self.site.launch_central());
        }
        self.wait_until_ready(&before);
    }

    fn kill_twice(&mut self, victim: Victim, after: Duration) -> bool {
        let before = if victim == Victim::Central { String::new() } else { gateway_pid() };
        self.end_those(victim);
        wait_for(|| ![before.as_str(), "0"].contains(&&*gateway_pid()));
        if victim != Victim::Gateway {
            self.central = Some(self.site.launch_central());
        }
        // a random point in a start; most of the time that one takes here is systemctl's
        std::thread::park_timeout(after / 4);
        let mut is_in_start = victim != Victim::Central && gateway_state() == "activating";
        if victim != Victim::Gateway
            && let Some(central) = self.central.take()
        {
            is_in_start |= !central.kill().contains("ready");
        }
        self.kill(victim);
        is_in_start
    }

    fn take_central_away(&mut self) {
        self.central = None;
    }

    fn bring_central_back(&mut self) {
        self.central = Some(self.site.launch_central());
        self.wait_until_ready("");
    }

    fn end(self) {}
}

fn gateway_pid() -> String {
    output("systemctl show -P MainPID fastportd")
}

fn gateway_state() -> String {
    output("systemctl show -P ActiveState fastportd")
}

/// Waits for the service.
fn wait_for(is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "{}", output("journalctl -o cat -u fastportd"));
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

fn shell(line: &str) {
    let status = Command::new("sh").args(["-c", line]).status().expect("there is a shell");
    assert!(status.success(), "{line}: {status}");
}

fn output(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().expect("there is a shell");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The folder that the unit has, on flash.
const STATE: &str = "/var/lib/fastport";
