//! Ten thousand peers that do nothing: they are let in, they stay, and a message reaches all.

mod support;

use std::process::Command;

use fastport_wire::control;
use fastport_wire::frame::DataFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use support::peer::{Event, Peer, connect};
use support::{Daemon, without_settings};

const PEERS: u64 = 10_000;
/// Peers whose handshakes run at once: as many as the daemon accepts.
const AT_ONCE: u64 = 64;
/// Files that the test and the daemon have open beside the peers' sockets.
const OTHER_FILES: u64 = 200;

/// How many peers the limits of this machine allow, up to [`PEERS`].
fn possible_peers() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).expect("the soft limit may be the hard one");
    let possible = limit.maximum.map_or(PEERS, |files| PEERS.min(files - OTHER_FILES));
    if possible < PEERS {
        eprintln!(
            "tested with {possible} peers instead of {PEERS}: a process may have no more than \
             {} open files here (ulimit -Hn)",
            possible + OTHER_FILES
        );
    }
    possible
}

#[test]
fn ten_thousand_idle_peers_stay_and_a_message_reaches_them_all() {
    let count = possible_peers();
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let config = format!(
        "listen = [{{ kind = \"tcp\", address = \"127.0.0.1:0\" }}]\nboard.enabled = false\n\
         limits.peers = {}\n",
        count + 1
    );
    let daemon = Daemon::start(folder.path(), &config);
    let address = daemon.address("tcp");
    let mut peers = Vec::new();
    while (peers.len() as u64) < count {
        let now = AT_ONCE.min(count - peers.len() as u64);
        let mut batch: Vec<_> =
            (0..now).map(|_| Peer::begin(connect(&address), "demo", |_| {})).collect();
        for peer in &mut batch {
            assert!(matches!(peer.next(), Event::Welcome { .. }));
            let subscribe =
                control::Subscribe { request: 1, topic: "to/all", ..Default::default() };
            peer.send(subscribe);
        }
        for peer in &mut batch {
            assert!(matches!(peer.next(), Event::Ok { request: 1, .. }));
        }
        peers.append(&mut batch);
    }
    let mut talker = Peer::join(&address, "demo");
    let figures = talker.status();
    assert_eq!(figures["peers"], count + 1);
    let memory = &figures["memory"];
    assert_eq!(memory["refused"], 0, "{memory}");
    let topic = talker.open("to/all");
    talker.publish(topic, DataFlags::NONE, b"hello, all");
    for peer in &mut peers {
        assert_eq!(peer.next_data(), ("to/all".to_owned(), b"hello, all".to_vec()));
    }
    assert_eq!(talker.status()["peers"], count + 1, "they stay");
    // and the place of one that leaves is free for another
    drop(peers.pop());
    talker.wait_for_status("a free place", |status| status["peers"] == count);
    Peer::join(&address, "demo");
}

#[test]
fn the_daemon_raises_its_soft_limit_of_open_files_to_the_hard_one() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let path = folder.path().join("gateway.toml");
    let text = "listen = []\nboard.enabled = false\n";
    std::fs::write(&path, text).expect("the test's folder is writable");
    let start = |limits: &str| {
        let mut command = without_settings(Command::new("sh"));
        command.args(["-c", &format!("{limits}; exec \"$0\" --config \"$1\"")]);
        Daemon::spawn(command.arg(env!("CARGO_BIN_EXE_fastportd")).arg(&path))
    };
    let mut daemon = start("ulimit -Sn 100; ulimit -Hn 300");
    let line = daemon.wait_for("limit of open files");
    assert!(line.contains("before=100") && line.contains("files=300"), "{line}");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", daemon.pid()));
    let limits = limits.expect("Linux tells a process's limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let words: Vec<_> = line.expect("it is one of them").split_whitespace().collect();
    assert_eq!(words[3..5], ["300", "300"]);
    // 10 000 peers are allowed by default, and cannot be had so
    daemon.wait_for("fewer open files than limits.peers");
}
