//! The real `fastportd`: what it answers on the command line, how it starts, reloads and stops.

#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tls")]
mod tls;

use std::fs;
#[cfg(feature = "websocket")]
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use fastport::config::Config;
use fastport_wire::control::{ByeReason, ErrorCode};
use fastport_wire::frame::DataFlags;
use fastport_wire::{Readings, Schema};

use support::peer::{Event, Peer, connect, connect_small};
use support::skip::skip;
use support::{DEADLINE, Daemon, SCHEMES, fastportd, folder, run, without_settings, write};

/// A free TCP port of loopback, and sessions as `sessions` says.
fn on_tcp(rest: &str) -> String {
    format!("{TCP}board.enabled = false\n{rest}")
}

const TCP: &str = "listen = [{ kind = \"tcp\", address = \"127.0.0.1:0\" }]\n";

#[test]
fn the_version_is_told() {
    let (status, out, _) = run(fastportd().arg("--version"));
    assert_eq!(status, Some(0));
    assert_eq!(out, format!("fastportd {}\n", env!("CARGO_PKG_VERSION")));
}

#[cfg(all(feature = "tls", feature = "websocket", feature = "uplink"))]
#[test]
fn check_accepts_the_example() {
    let folder = folder();
    let example = include_str!("../../docs/gateway.example.toml");
    // the one file that is read, and must not be open to others
    let credentials = folder.path().join("credentials.toml");
    fs::write(&credentials, "").expect("the folder is writable");
    fs::set_permissions(&credentials, fs::Permissions::from_mode(0o600)).expect("it is ours");
    let example =
        example.replace("/etc/fastport/credentials.toml", &credentials.display().to_string());
    write(folder.path(), "gateway.toml", &example);
    let path = folder.path().join("gateway.toml");
    let (status, out, err) = run(fastportd().arg("--check").arg("--config").arg(path));
    assert_eq!((status, &*err), (Some(0), ""), "{out}");
}

#[cfg(not(feature = "uplink"))]
#[test]
fn what_a_build_is_without_is_refused_with_the_set_that_has_it() {
    let folder = folder();
    let path = write(folder.path(), "gateway.toml", "[uplink]\ncentral = [\"tcp://a\"]\n");
    let (status, _, err) = run(fastportd().arg("--config").arg(&path));
    assert_eq!(status, Some(78));
    assert!(
        err.contains("this build has no uplink; use a build of the feature set `edge`"),
        "{err}"
    );
}

#[test]
fn check_names_place_and_nearest_key_of_an_unknown_one() {
    let folder = folder();
    let path = write(folder.path(), "gateway.toml", "[limits]\nmemroy = \"8MiB\"\n");
    let (status, _, err) = run(fastportd().arg("--check").arg("--config").arg(&path));
    assert_eq!(status, Some(78));
    let place = format!("{}:2:1: limits.memroy", path.display());
    assert!(err.contains(&place), "{err}");
    assert!(err.contains("did you mean limits.memory?"), "{err}");
}

#[test]
fn what_print_config_prints_loads_again_and_is_equal() {
    let folder = folder();
    let text = "[limits]\nmemory = \"8MiB\"\n[[session]]\nname = \"home\"\nopen = true\n";
    let path = write(folder.path(), "gateway.toml", text);
    let (status, first, err) = run(fastportd().arg("--print-config").arg("--config").arg(&path));
    assert_eq!((status, &*err), (Some(0), ""));
    assert!(first.contains("\"8MiB\"") && first.contains("\"home\""), "{first}");

    let again = write(folder.path(), "again.toml", &first);
    let (status, second, err) = run(fastportd().arg("--print-config").arg("--config").arg(&again));
    assert_eq!((status, &*err), (Some(0), ""));
    assert_eq!(first, second);
    let load = |path: &Path| Config::load(Some(path), std::iter::empty()).expect("it was checked");
    assert_eq!(load(&path), load(&again));
}

#[test]
fn the_environment_counts_before_the_file() {
    let folder = folder();
    let path = write(folder.path(), "gateway.toml", "limits.memory = \"8MiB\"\n");
    let (status, out, err) = run(fastportd()
        .arg("--print-config")
        .env("FASTPORT_CONFIG", &path)
        .env("FASTPORT_LIMITS_MEMORY", "32MiB"));
    assert_eq!((status, &*err), (Some(0), ""));
    assert!(out.contains("\"32MiB\"") && !out.contains("\"8MiB\""), "{out}");
}

#[test]
fn a_variable_that_names_no_key_is_refused_with_the_nearest() {
    let (status, _, err) = run(fastportd().arg("--check").env("FASTPORT_LIMITS_MEMROY", "8MiB"));
    assert_eq!(status, Some(78));
    assert!(err.contains("environment variable FASTPORT_LIMITS_MEMROY"), "{err}");
    assert!(err.contains("did you mean FASTPORT_LIMITS_MEMORY?"), "{err}");
}

#[test]
fn a_port_in_use_is_refused_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = taken.local_addr().expect("it is bound");
    let folder = folder();
    let text = format!("listen = [{{ kind = \"tcp\", address = \"{address}\" }}]\n");
    let path = write(folder.path(), "gateway.toml", &text);
    let (status, _, err) = run(fastportd().arg("--config").arg(&path));
    assert_eq!(status, Some(69));
    assert!(err.contains(&format!("cannot listen on tcp://{address}")), "{err}");
    assert!(err.contains("stop that, or give another address"), "{err}");
}

#[test]
fn a_missing_configuration_file_is_named() {
    let folder = folder();
    let path = folder.path().join("nowhere.toml");
    let (status, _, err) = run(fastportd().arg("--config").arg(&path));
    assert_eq!(status, Some(78));
    assert!(err.contains(&format!("{}: cannot be read", path.display())), "{err}");
}

#[test]
fn without_a_file_it_serves_programs_on_the_board() {
    let ports = [7470, 7471].map(|port| TcpListener::bind(("127.0.0.1", port)));
    if ports.iter().any(Result::is_err) {
        skip("something else on this machine has port 7470 or 7471");
        return;
    }
    drop(ports);
    let mut daemon = Daemon::spawn(&mut fastportd());
    assert_eq!(daemon.address("tcp"), "127.0.0.1:7470");
    if SCHEMES.contains(&"ws") {
        assert_eq!(daemon.address("ws"), "127.0.0.1:7471");
    }
    let mut peer = Peer::join("127.0.0.1:7470", "demo");
    peer.subscribe("chat/#");
    let topic = peer.open("chat/room1");
    peer.publish(topic, DataFlags::NONE, b"Hello!");
    assert_eq!(peer.next_data(), ("chat/room1".to_owned(), b"Hello!".to_vec()));
    drop(peer);
    daemon.signal("INT");
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn the_boards_readings_appear_with_their_schemas() {
    let folder = folder();
    let daemon = Daemon::start(folder.path(), TCP);
    let mut peer = Peer::join(&daemon.address("tcp"), "demo");
    let mut events = peer.subscribe("$board/#");
    // what was published before is retained, the rest comes
    while !events.iter().any(|event| matches!(event, Event::Data { .. })) {
        events.push(peer.next());
    }
    let (topic, flags, payload) = events
        .iter()
        .find_map(|event| match event {
            Event::Data { topic, flags, payload } => Some((*topic, *flags, payload)),
            _ => None,
        })
        .expect("the loop waited for it");
    assert!(peer.name_of(topic).starts_with("$board/"));
    assert!(flags.contains(DataFlags::READINGS) && flags.contains(DataFlags::KEEP));
    let schema = events.iter().find_map(|event| match event {
        Event::Topic { id, schema, .. } if *id == topic => Some(schema),
        _ => None,
    });
    let schema = Schema::decode(schema.expect("TOPIC comes first")).expect("a schema");
    let readings = Readings::decode(&schema, payload).expect("a reading by that schema");
    assert_eq!(readings.iter().count(), 1);
}

#[test]
fn json_log_lines_parse() {
    let folder = folder();
    let text = on_tcp("[daemon]\nlog.format = \"json\"\nlog.level = \"debug\"\n");
    let path = write(folder.path(), "gateway.toml", &text);
    let mut daemon = Daemon::spawn(fastportd().arg("--config").arg(&path));
    let listening = daemon.wait_for("listening");
    let line: serde_json::Value = serde_json::from_str(&listening).expect("a JSON object");
    let address = line["url"].as_str().and_then(|url| url.strip_prefix("tcp://"));
    let mut peer = Peer::begin(connect(address.expect("a URL")), "no such session", |_| {});
    while peer.next() != Event::Closed {}
    drop(peer);
    daemon.wait_for("link refused");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    daemon.wait_for("stopped");
    for line in daemon.log().lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("a JSON object a line");
        for key in ["timestamp", "level", "message"] {
            assert!(line[key].is_string(), "{key} in {line}");
        }
    }
}

/// Sessions by name, with `rest` before them.
fn sessions(names: &[&str], rest: &str) -> String {
    let tables = names.iter().map(|name| format!("[[session]]\nname = \"{name}\"\nopen = true\n"));
    on_tcp(&format!("{rest}{}", tables.collect::<String>()))
}

/// Writes another configuration and lets the daemon read it; `times`: the how many-th reload it is.
fn reload(daemon: &mut Daemon, folder: &Path, text: &str, times: usize) {
    write(folder, "gateway.toml", text);
    daemon.signal("HUP");
    daemon.wait_for_times("configuration reloaded", times);
}

#[test]
fn a_reload_makes_and_ends_sessions_and_leaves_the_others_alone() {
    let folder = folder();
    let mut daemon = Daemon::start(folder.path(), &sessions(&["stays", "goes"], ""));
    let address = daemon.address("tcp");
    let mut stays = Peer::join(&address, "stays");
    stays.subscribe("a");
    let topic = stays.open("a");
    let mut goes = Peer::join(&address, "goes");
    goes.subscribe("a");

    reload(&mut daemon, folder.path(), &sessions(&["stays", "comes"], ""), 1);
    assert_eq!(goes.next(), Event::Bye { reason: Some(ByeReason::Removed), retry: None });
    assert_eq!(goes.next(), Event::Closed);
    let mut refused = Peer::begin(connect(&address), "goes", |_| {});
    let is_refusal = |event: &Event| match event {
        Event::Error { request: None, code, .. } => *code == Some(ErrorCode::NotAuthenticated),
        _ => false,
    };
    assert!(is_refusal(&refused.next()));
    Peer::join(&address, "comes").subscribe("a");
    // the link, its subscription and its open topic are what they were
    stays.publish(topic, DataFlags::NONE, b"still here");
    assert_eq!(stays.next_data(), ("a".to_owned(), b"still here".to_vec()));
}

#[test]
fn a_session_that_is_removed_gives_its_memory_back() {
    let folder = folder();
    let mut daemon = Daemon::start(folder.path(), &sessions(&["stays", "goes"], ""));
    let address = daemon.address("tcp");
    let mut watcher = Peer::join(&address, "stays");
    let before = watcher.status()["memory"]["used"].as_u64().expect("a number");
    let mut goes = Peer::join_as(connect(&address), "goes", |hello| hello.linger = Some(60));
    goes.subscribe("a/#");
    for number in 0..20 {
        let topic = goes.open(&format!("a/{number}"));
        goes.publish(topic, DataFlags::COUNTED.with(DataFlags::KEEP), &[7; 1000]);
    }
    let during = watcher.wait_for_status("20 messages", |status| {
        status["sessions"]["goes"]["published"] == 20
            && status["memory"]["used"].as_u64() > Some(before + 20_000)
    });
    assert_eq!(during["sessions"]["goes"]["topics"], 20);
    reload(&mut daemon, folder.path(), &sessions(&["stays"], ""), 1);
    // but for a warm buffer of the watcher's own session
    watcher.wait_for_status("the memory of the session", |status| {
        status["peers"] == 1 && status["memory"]["used"].as_u64() <= Some(before + 4096)
    });
}

#[test]
fn a_reload_changes_limits_and_the_log_level() {
    let folder = folder();
    let payload = |bytes: u32| format!("limits.payload = {bytes}\n");
    let mut daemon = Daemon::start(folder.path(), &sessions(&["home"], &payload(1000)));
    let address = daemon.address("tcp");
    let mut early = Peer::join(&address, "home");
    assert_eq!(early.payload_limit, 1000);
    early.subscribe("a");
    let topic = early.open("a");

    drop(Peer::join(&address, "home"));
    early.wait_for_status("a link's end", |status| status["peers"] == 1);
    assert!(!daemon.log().contains("link closed"), "{}", daemon.log());
    let text = format!("{}limits.peers = 2\ndaemon.log.level = \"debug\"\n", payload(2000));
    reload(&mut daemon, folder.path(), &sessions(&["home"], &text), 1);
    daemon.wait_for("limits.payload");
    let late = Peer::join(&address, "home");
    assert_eq!(late.payload_limit, 2000);
    match Peer::begin(connect(&address), "home", |_| {}).next() {
        Event::Error { request: None, code, .. } => {
            assert_eq!(code, Some(ErrorCode::LimitReached));
        }
        other => panic!("a third peer: {other:?}"),
    }
    early.publish(topic, DataFlags::NONE, &[1; 2000]);
    assert_eq!(early.next_data().1.len(), 2000);
    drop(late);
    daemon.wait_for("link closed");

    let text = format!("{}daemon.log.level = \"error\"\n", payload(2000));
    write(folder.path(), "gateway.toml", &sessions(&["home"], &text));
    daemon.signal("HUP");
    early.wait_for_status("the second reload", |status| status["reloads"] == 2);
    // its last words at the old level
    daemon.wait_for("limits.peers: 2 -> 10000");
    let quiet = daemon.log().lines().count();
    Peer::begin(connect(&address), "no such session", |_| {}).next();
    early.wait_for_status("a refusal", |status| status["refused"] == 2);
    assert_eq!(daemon.log().lines().count(), quiet, "{}", daemon.log());
}

#[cfg(feature = "websocket")]
#[test]
fn a_reload_changes_which_pages_may_connect() {
    let folder = folder();
    let text = |origin: &str| {
        format!(
            "board.enabled = false\n[[listen]]\nkind = \"websocket\"\naddress = \"127.0.0.1:0\"\n\
             origins = [\"{origin}\"]\n"
        )
    };
    let mut daemon = Daemon::start(folder.path(), &text("https://a.example"));
    let address = daemon.address("ws");
    let status_for = |origin: &str| {
        let mut link = connect(&address);
        let request = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nOrigin: {origin}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        link.write_all(request.as_bytes()).expect("the daemon reads");
        let mut answer = [0; 12];
        link.read_exact(&mut answer).expect("the daemon answers");
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    let statuses = || ["https://a.example", "https://b.example"].map(status_for);
    assert_eq!(statuses(), ["101", "403"]);
    reload(&mut daemon, folder.path(), &text("https://b.example"), 1);
    assert_eq!(statuses(), ["403", "101"]);
}

#[test]
fn a_reload_changes_how_long_a_handshake_may_take() {
    let folder = folder();
    let text =
        |timeout: &str| sessions(&["home"], &format!("limits.handshake_timeout = \"{timeout}\"\n"));
    let mut daemon = Daemon::start(folder.path(), &text("5m"));
    reload(&mut daemon, folder.path(), &text("100ms"), 1);
    let mut silent = Peer::silent(connect(&daemon.address("tcp")));
    match silent.next() {
        Event::Error { request: None, code, .. } => {
            assert_eq!(code, Some(ErrorCode::HandshakeTimeout));
        }
        other => panic!("no refusal but {other:?}"),
    }
}

#[test]
fn what_needs_a_restart_is_named_at_every_reload_until_then() {
    let folder = folder();
    let mut daemon =
        Daemon::start(folder.path(), &sessions(&["home"], "limits.memory = \"8MiB\"\n"));
    for times in 1..=2 {
        let text = sessions(&["home"], "limits.memory = \"9MiB\"\n");
        reload(&mut daemon, folder.path(), &text, times);
        daemon.wait_for_times("takes effect at the next start", times);
    }
    // taken back: nothing waits any more
    reload(&mut daemon, folder.path(), &sessions(&["home"], "limits.memory = \"8MiB\"\n"), 3);
    assert_eq!(daemon.log().matches("takes effect at the next start").count(), 2);
}

#[test]
fn a_bad_file_leaves_the_old_configuration() {
    let folder = folder();
    let mut daemon = Daemon::start(folder.path(), &sessions(&["home"], ""));
    let mut peer = Peer::join(&daemon.address("tcp"), "home");
    peer.subscribe("a");
    let topic = peer.open("a");
    write(folder.path(), "gateway.toml", "limits.memroy = 1\n");
    daemon.signal("HUP");
    let line = daemon.wait_for("the old one stays");
    assert!(line.contains("did you mean limits.memory?"), "{line}");
    peer.publish(topic, DataFlags::NONE, b"x");
    assert_eq!(peer.next_data().1, b"x");
    let status = peer.status();
    assert_eq!((&status["reload_errors"], &status["reloads"]), (&1.into(), &0.into()));
    Peer::join(&daemon.address("tcp"), "home");
}

#[test]
fn the_boards_readings_follow_their_session_through_its_removal() {
    let folder = folder();
    let board = |names: &[&str]| {
        let tables =
            names.iter().map(|name| format!("[[session]]\nname = \"{name}\"\nopen = true\n"));
        format!("{TCP}{}", tables.collect::<String>())
    };
    let named = "board.session = \"b\"\nboard.interval = \"1s\"\n";
    let text = |names: &[&str]| board(names).replacen('\n', &format!("\n{named}"), 1);
    let without = board(&["a"]).replacen('\n', "\nboard.interval = \"1s\"\n", 1);
    let mut daemon = Daemon::start(folder.path(), &text(&["a", "b"]));
    let address = daemon.address("tcp");
    let reading = |session: &str| {
        let mut peer = Peer::join(&address, session);
        let events = peer.subscribe("$board/#");
        if !events.iter().any(|event| matches!(event, Event::Data { .. })) {
            peer.next_data();
        }
    };
    reading("b");
    reload(&mut daemon, folder.path(), &without, 1);
    reading("a");
    reload(&mut daemon, folder.path(), &text(&["a", "b"]), 2);
    reading("b");
}

#[test]
fn at_the_end_peers_are_told_when_to_come_back() {
    let folder = folder();
    let mut daemon = Daemon::start(folder.path(), &sessions(&["home"], ""));
    let address = daemon.address("tcp");
    let mut peers: Vec<_> = (0..3).map(|_| Peer::join(&address, "home")).collect();
    let begun = Instant::now();
    daemon.signal("TERM");
    for peer in &mut peers {
        match peer.next() {
            Event::Bye { reason, retry } => {
                assert_eq!(reason, Some(ByeReason::ShuttingDown));
                assert!(retry.is_some_and(|retry| retry > 0), "{retry:?}");
            }
            other => panic!("no BYE but {other:?}"),
        }
        assert_eq!(peer.next(), Event::Closed);
    }
    drop(peers);
    assert_eq!(daemon.wait(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "all peers were gone long before");
    assert!(!daemon.log().contains("links cut"), "{}", daemon.log());
}

#[test]
fn a_handshake_at_the_end_is_refused_and_keeps_nobody_waiting() {
    let folder = folder();
    let mut daemon = Daemon::start(folder.path(), &sessions(&["home"], "daemon.drain = \"80s\"\n"));
    let address = daemon.address("tcp");
    // it is accepted, which figures show, and says nothing yet
    let late = connect(&address);
    let mut first = Peer::join(&address, "home");
    first.wait_for_status("both links", |status| status["accepted"] == 2);
    daemon.signal("TERM");
    assert!(matches!(first.next(), Event::Bye { .. }));
    let mut late = Peer::begin(late, "home", |_| {});
    match late.next() {
        Event::Error { request: None, code, retry, .. } => {
            assert_eq!(code, Some(ErrorCode::Unavailable));
            assert!(retry.is_some_and(|retry| retry > 0), "{retry:?}");
        }
        other => panic!("let in by a daemon that ends: {other:?}"),
    }
    drop((first, late));
    assert_eq!(daemon.wait(), Some(0));
}

#[test]
fn a_peer_that_does_not_read_is_cut_at_the_end_of_the_grace_period() {
    let folder = folder();
    let mut daemon = Daemon::start(folder.path(), &sessions(&["home"], "daemon.drain = \"1s\"\n"));
    let address = daemon.address("tcp");
    let mut deaf = Peer::join_as(connect_small(&address, 4096), "home", |_| {});
    deaf.subscribe("a");
    let mut talker = Peer::join(&address, "home");
    let topic = talker.open("a");
    // how much sockets take by themselves differs
    let is_full = (0..20).any(|_| {
        for _ in 0..1000 {
            talker.publish(topic, DataFlags::NONE, &[1; 10_000]);
        }
        talker.standstill("home", 0)["sessions"]["home"]["queued"] != 0
    });
    assert!(is_full, "the relay has something left that nobody takes");
    let begun = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(1) && took < DEADLINE, "{took:?}");
    daemon.wait_for("links cut at the end of the grace period");
}

#[test]
fn a_unix_socket_has_the_mode_and_group_it_was_given() {
    let folder = folder();
    let groups = fs::read_to_string("/etc/group").expect("Linux has groups");
    let own = rustix::process::getegid().as_raw();
    let is_root = rustix::process::geteuid().is_root();
    // who is not root can give only a group of one's own
    let (name, id) = groups
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(':');
            Some((fields.next()?, fields.nth(1)?.parse::<u32>().ok()?))
        })
        .find(|&(_, id)| if is_root { id != own } else { id == own })
        .expect("every group has a name");
    let text = format!(
        "board.enabled = false\n\
         [[listen]]\nkind = \"unix\"\npath = \"peers.sock\"\nmode = \"0620\"\ngroup = \"{name}\"\n"
    );
    let mut daemon = Daemon::start(folder.path(), &text);
    let path = folder.path().join("peers.sock");
    let found = fs::symlink_metadata(&path).expect("the socket is there");
    assert!(found.file_type().is_socket());
    assert_eq!((found.permissions().mode() & 0o7777, found.gid()), (0o620, id));
    let link = UnixStream::connect(&path).expect("the daemon listens");
    Peer::join_as(link, "demo", |_| {}).subscribe("a");
    daemon.signal("TERM");
    assert_eq!(daemon.wait(), Some(0));
    assert!(!path.exists(), "a socket nobody listens on is left behind");
}

#[test]
fn a_group_that_does_not_exist_is_named() {
    let folder = folder();
    let text = "[[listen]]\nkind = \"unix\"\npath = \"p.sock\"\ngroup = \"nobody-has-this\"\n";
    let path = write(folder.path(), "gateway.toml", text);
    let (status, _, err) = run(fastportd().arg("--config").arg(&path));
    assert_eq!(status, Some(69));
    assert!(err.contains("no group \"nobody-has-this\""), "{err}");
}

#[test]
fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
    let folder = folder();
    let path = folder.path().join("peers.sock");
    drop(UnixListener::bind(&path).expect("the folder is writable"));
    assert!(path.exists(), "the kernel leaves the file");
    let text = "board.enabled = false\n[[listen]]\nkind = \"unix\"\npath = \"peers.sock\"\n";
    let daemon = Daemon::start(folder.path(), text);
    let join = || {
        let link = UnixStream::connect(&path).expect("the daemon listens");
        Peer::join_as(link, "demo", |_| {});
    };
    join();
    let config = folder.path().join("gateway.toml");
    let (status, _, err) = run(fastportd().arg("--config").arg(&config));
    assert_eq!(status, Some(69), "{err}");
    assert!(err.contains("another fastportd"), "{err}");
    join();
    drop(daemon);
}

#[test]
fn without_file_descriptors_the_peers_there_are_go_on_and_others_wait() {
    let folder = folder();
    let path = write(folder.path(), "gateway.toml", &sessions(&["home"], ""));
    let mut command = without_settings(Command::new("sh"));
    command.args(["-c", "ulimit -n 32; exec \"$0\" --config \"$1\""]);
    let mut daemon = Daemon::spawn(command.arg(env!("CARGO_BIN_EXE_fastportd")).arg(&path));
    let address = daemon.address("tcp");
    let mut first = Peer::join(&address, "home");
    // the kernel connects them; the daemon cannot take them all
    let mut links: Vec<TcpStream> = (0..40).map(|_| connect(&address)).collect();
    first.wait_for_status("a refused accept", |status| status["accept_errors"].as_u64() > Some(0));
    daemon.wait_for("cannot accept a connection");
    first.subscribe("a");
    let last = links.pop().expect("there are 40");
    drop(links);
    Peer::join_as(last, "home", |_| {}).subscribe("a");
    assert!(daemon.log().matches("cannot accept").count() == 1, "{}", daemon.log());
}
