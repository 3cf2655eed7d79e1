//! Two network namespaces with a wire between them that misbehaves as told (`wire.py`), for tests of
//! what crosses a network. They need root, `/dev/net/tun`, iproute2 and python3.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::support::skip::skip;
use super::support::{python, without_settings};

/// The address on the first side.
pub const NEAR: &str = "10.77.0.1";
/// The address on the second side.
pub const FAR: &str = "10.77.0.2";
/// A name that the first side finds in its hosts file, at [`FAR`].
pub const FAR_NAME: &str = "central.test";

/// The two namespaces, gone when it is dropped.
pub struct Namespaces {
    near: String,
    far: String,
    wire: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Whether namespaces can be made here; says so where not.
pub fn are_possible(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    let has_tools = ["ip", "python3"].iter().all(|tool| {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
        found.is_ok_and(|output| output.status.success())
    });
    let is_possible = is_root && has_tools && Path::new("/dev/net/tun").exists();
    if !is_possible {
        skip(&format!("{test} needs root, /dev/net/tun, iproute2 and python3"));
    }
    is_possible
}

impl Namespaces {
    /// Makes them, with a wire that does no harm yet.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |side: &str| format!("fastport-{}-{number}-{side}", std::process::id());
        let (near, far) = (name("near"), name("far"));
        for namespace in [&near, &far] {
            ip(&["netns", "add", namespace]);
        }
        write_etc(&near, "hosts", &format!("127.0.0.1 localhost\n{FAR} {FAR_NAME}\n"));
        write_etc(&near, "resolv.conf", "nameserver 127.0.0.1\n");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/wire.py");
        let mut wire = Command::new(python())
            .args([script, &near, &format!("{NEAR}/24"), &far, &format!("{FAR}/24")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is there");
        let orders = wire.stdin.take().expect("stdin is piped");
        let answers = BufReader::new(wire.stdout.take().expect("stdout is piped"));
        let mut namespaces = Self { near, far, wire, orders, answers };
        namespaces.wait_for_answer();
        namespaces
    }

    /// A command that runs on the first side.
    pub fn near(&self, program: &str) -> Command {
        inside(&self.near, program)
    }

    /// A command that runs on the second side.
    pub fn far(&self, program: &str) -> Command {
        inside(&self.far, program)
    }

    /// Tells the wire how to be, as `wire.py` has it; returns once it is so.
    pub fn tell(&mut self, rule: &str) {
        writeln!(self.orders, "{rule}").expect("the wire runs");
        self.wait_for_answer();
    }

    /// Changes what the first side finds in its hosts file. Only programs started later see it
    /// whose runner mounts the file; those that run see a changed file at once.
    pub fn set_hosts(&self, text: &str) {
        // in place: it is mounted over /etc/hosts
        write_etc(&self.near, "hosts", text);
    }

    /// The name of the wire's end on the first side.
    pub fn near_device(&self) -> String {
        format!("fp{}a", self.wire.id() % 100_000)
    }

    /// Runs `ip` on the first side.
    pub fn ip_near(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.near], arguments].concat());
    }

    fn wait_for_answer(&mut self) {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("the wire answers");
        assert_eq!(line, "ok\n", "wire.py failed, see above");
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // the wire may have ended by itself
        self.wire.kill().unwrap_or_default();
        self.wire.wait().map(|_| ()).unwrap_or_default();
        for namespace in [&self.near, &self.far] {
            ip(&["netns", "delete", namespace]);
        }
        std::fs::remove_dir_all(format!("/etc/netns/{}", self.near)).unwrap_or_default();
    }
}

/// `ip netns exec` also mounts the namespace's files over those in `/etc`.
fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, program]);
    without_settings(command)
}

fn write_etc(namespace: &str, name: &str, text: &str) {
    let folder = format!("/etc/netns/{namespace}");
    std::fs::create_dir_all(&folder).expect("root may write /etc/netns");
    std::fs::write(format!("{folder}/{name}"), text).expect("root may write /etc/netns");
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("iproute2 is there");
    assert!(status.success(), "ip {arguments:?}");
}
