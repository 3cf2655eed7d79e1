use std::collections::BTreeSet;
use std::iter;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use fastport_wire::control::WhenFull;
use proptest::prelude::*;

use super::*;

const FILE: &str = "/etc/fastport/gateway.toml";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new(FILE), iter::empty())
}

fn accepted(text: &str) -> Config {
    parse(text).expect(text)
}

fn with_variables(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Config::parse(text, Path::new(FILE), variables)
}

/// The faults as lines, without the file's name.
fn faults(text: &str) -> Vec<String> {
    let error = parse(text).expect_err(text);
    error.faults().iter().map(|fault| fault.to_string().replace(FILE, "")).collect()
}

#[test]
fn without_a_file_programs_on_the_board_can_connect() {
    let config = Config::load(None, iter::empty()).expect("defaults are a configuration");
    assert_eq!(config, Config::default());
    let addresses: Vec<_> = config.listen.iter().filter_map(Listen::address).collect();
    let ports: &[u16] = if Part::WebSocket.is_built_in() { &[7470, 7471] } else { &[7470] };
    let loopback = |&port: &u16| SocketAddr::from(([127, 0, 0, 1], port));
    assert_eq!(addresses, ports.iter().map(loopback).collect::<Vec<_>>());
    assert_eq!(config.sessions.len(), 1);
    assert_eq!(config.sessions[0].name.as_str(), "demo");
    assert!(config.sessions[0].open);
    assert_eq!(config.sessions[0].open_from, OpenFrom::Loopback);
    assert_eq!(config.board.session.map(|name| name.to_string()).as_deref(), Some("demo"));
}

#[test]
fn credentials_alone_open_no_session() {
    let config = accepted("access.credentials = 'credentials.toml'");
    assert_eq!(config.sessions, []);
    assert_eq!(config.board.session, None);
    assert_eq!(config.access.credentials, Some("/etc/fastport/credentials.toml".into()));
}

#[test]
fn every_kind_of_value_is_read() {
    let config = accepted(
        r##"
        [daemon]
        workers = 2
        drain = "250ms"
        log.format = "json"
        log.level = "debug"
        [[listen]]
        kind = "tls"
        address = "[::]:8443"
        certificate = "cert.pem"
        key = "/keys/key.pem"
        client_ca = "ca.pem"
        client_auth = "required"
        [[listen]]
        kind = "unix"
        path = "/run/fastport/peers.sock"
        mode = "0600"
        group = "fastport"
        [[listen]]
        kind = "websocket"
        origins = ["https://Example.org"]
        [limits]
        memory = 33554432
        outbox = "1MB"
        keepalive = "2m"
        linger = 90
        rate.peer = { messages = 100, bytes = "64 KiB", burst = "1s" }
        [[session]]
        name = "home"
        open = true
        open_from = "any"
        publish = ["sensors/#"]
        subscribe = []
        payload = "1KiB"
        when_full = "latest"
        retention.age = "1d"
        [board]
        enabled = false
        "##,
    );
    assert_eq!((config.daemon.workers, config.daemon.drain), (2, Duration::from_millis(250)));
    assert_eq!(config.daemon.log.format, LogFormat::Json);
    assert_eq!(config.daemon.log.level, LogLevel::Debug);
    let tls = Tls {
        certificate: "/etc/fastport/cert.pem".into(),
        key: "/keys/key.pem".into(),
        client_auth: ClientAuth::Required { ca: "/etc/fastport/ca.pem".into() },
    };
    let address: SocketAddr = "[::]:8443".parse().expect("an address");
    assert_eq!(config.listen[0], Listen::Tls { address, tls });
    let path = PathBuf::from("/run/fastport/peers.sock");
    let group = Some("fastport".to_owned());
    assert_eq!(config.listen[1], Listen::Unix { path, mode: Mode::new(0o600), group });
    assert_eq!(config.listen[2].address(), Some(SocketAddr::from(([127, 0, 0, 1], 7471))));
    let Listen::WebSocket { origins, .. } = &config.listen[2] else { unreachable!("a websocket") };
    assert!(origins.allows(Some("https://example.org")) && !origins.allows(Some("http://x.org")));
    assert_eq!(config.limits.memory, Bytes::mib(32));
    assert_eq!(config.limits.outbox, Bytes(1_000_000));
    assert_eq!((config.limits.keepalive, config.limits.linger), (Seconds(120), Seconds(90)));
    let rate = Rate { messages: 100, bytes: Bytes::kib(64), burst: Duration::from_secs(1) };
    assert_eq!(config.limits.rate.peer, rate);
    let session = &config.sessions[0];
    assert!(session.open && session.open_from == OpenFrom::Any);
    assert_eq!(session.publish, [TopicFilter::parse("sensors/#").expect("a filter")]);
    assert_eq!(session.subscribe, []);
    assert_eq!((session.payload, session.when_full), (Bytes::kib(1), WhenFull::Latest));
    assert_eq!(session.retention.age, Duration::from_secs(86_400));
    assert_eq!(session.retention.messages, Retention::default().messages);
    assert!(!config.board.enabled);
}

#[test]
fn an_unknown_key_has_its_place_and_its_nearest() {
    for (text, expected) in [
        ("[limits]\nmemroy = 1", ":2:1: limits.memroy: unknown key; did you mean limits.memory?"),
        ("[limts]\n", ":1:2: limts: unknown key; did you mean limits?"),
        (
            "[daemon]\n  log.levle = 'info'",
            ":2:7: daemon.log.levle: unknown key; did you mean daemon.log.level?",
        ),
        (
            "[daemon.log]\nlevle = 'info'",
            ":2:1: daemon.log.levle: unknown key; did you mean daemon.log.level?",
        ),
        (
            "[[listen]]\nkind = 'tcp'\n[[listen]]\nkind = 'tcp'\n\tadress = 'x'",
            ":5:2: listen[1].adress: unknown key; did you mean listen[1].address?",
        ),
        (
            "listen = [{ kind = 'tcp', prot = 7 }]",
            ":1:27: listen[0].prot: unknown key; there are kind, address, origins, certificate, key, client_ca, client_auth, path, mode, group",
        ),
        // right name, wrong table
        ("address = '[::]:1'", ":1:1: address: unknown key; did you mean listen.address?"),
        ("memory = '1MiB'", ":1:1: memory: unknown key; did you mean limits.memory?"),
        ("[board]\nworkers = 1", ":2:1: board.workers: unknown key; did you mean daemon.workers?"),
        (
            "[[session]]\nname = 'a'\nretention.mesages = 1",
            ":3:11: session[0].retention.mesages: unknown key; did you mean session[0].retention.messages?",
        ),
        (
            "x = 1",
            ":1:1: x: unknown key; there are daemon, listen, limits, access, session, board, journal, uplink, central",
        ),
        (
            "'\u{fc} \u{fc}' = 1\nx = 1",
            ":1:1: \u{fc} \u{fc}: unknown key; there are daemon, listen, limits, access, session, board, journal, uplink, central",
        ),
    ] {
        assert_eq!(faults(text)[0], expected, "{text}");
    }
}

#[test]
fn a_wrong_value_has_its_place_and_what_to_do() {
    for (text, expected) in [
        (
            "[daemon]\nworkers = '2'",
            r":2:11: daemon.workers: expected a whole number, found string",
        ),
        ("[daemon]\nworkers = 0", ":2:11: daemon.workers: 0 is out of range; use 1 to 64"),
        (
            "[daemon]\nworkers = 70000",
            ":2:11: daemon.workers: 70000 is out of range; use 0 to 65535",
        ),
        ("[daemon]\nworkers = 1.5", ":2:11: daemon.workers: expected a whole number, found float"),
        ("daemon = 1", ":1:10: daemon: expected a table, found integer"),
        ("listen = 1", ":1:10: listen: expected a list of tables, found integer"),
        ("listen = [1]", ":1:11: listen[0]: expected a table, found integer"),
        ("[listen]\nkind = 'tcp'", ":1:2: listen: expected a list of tables, found table"),
        (
            "daemon.drain = '5 parsecs'",
            r#":1:16: daemon.drain: "5 parsecs" is not a time as "250ms", "5s", "2m", "1h" or a number of seconds"#,
        ),
        ("daemon.drain = '2h'", r#":1:16: daemon.drain: "2h" is out of range; use "0s" to "80s""#),
        (
            "daemon.log.level = 'loud'",
            r#":1:20: daemon.log.level: "loud" is not known; use "off" or "error" or "warn" or "info" or "debug" or "trace""#,
        ),
        (
            "limits.keepalive = '1500ms'",
            ":1:20: limits.keepalive: must be whole seconds: peers are told whole seconds",
        ),
        (
            "limits.memory = -1",
            r#":1:17: limits.memory: -1 is not a size as "64KiB", "16MiB" or a number of bytes"#,
        ),
        (
            "limits.memory = '16 miles'",
            r#":1:17: limits.memory: "16 miles" is not a size as "64KiB", "16MiB" or a number of bytes"#,
        ),
        (
            "limits.memory = 99999999999999999999999999999999999999999",
            r#":1:17: limits.memory: 170141183460469231731687303715884105727 is not a size as "64KiB", "16MiB" or a number of bytes"#,
        ),
        (
            "limits.memory = '64KiB'",
            r#":1:17: limits.memory: "64KiB" is out of range; use "1MiB" to "1TiB""#,
        ),
        (
            "limits.rate.peer.burst = '1ms'",
            r#":1:26: limits.rate.peer.burst: "1ms" is out of range; use "100ms" to "1h""#,
        ),
        ("board.enabled = 'yes'", ":1:17: board.enabled: expected true or false, found string"),
        (
            "[[listen]]\nkind = 'tcp'\naddress = 'localhost:7470'",
            r#":3:11: listen[0].address: "localhost:7470" is not an IP address and port as "127.0.0.1:7470" or "[::]:7470"; for localhost write "127.0.0.1:PORT" or "[::1]:PORT""#,
        ),
        (
            "[[listen]]\nkind = 'tcp'\naddress = ':7470'",
            r#":3:11: listen[0].address: ":7470" is not an IP address and port as "127.0.0.1:7470" or "[::]:7470"; for all addresses write "0.0.0.0:PORT" or "[::]:PORT""#,
        ),
        (
            "[[listen]]\nkind = 'unix'\npath = 'a'\nmode = 660",
            r#":4:8: listen[0].mode: expected permissions in octal, in quotes, as "0660", found integer"#,
        ),
        (
            "[[listen]]\nkind = 'unix'\npath = 'a'\nmode = '0o+7'",
            r#":4:8: listen[0].mode: "0o+7" is not permissions in octal, in quotes, as "0660""#,
        ),
        (
            "[[listen]]\nkind = 'unix'\npath = ''",
            ":3:8: listen[0].path: empty path; leave the key out, or name a file",
        ),
        (
            "[[session]]\nname = 'home sweet home'",
            r#":2:8: session[0].name: "home sweet home" is not a session name: 1 to 64 of A-Z, a-z, 0-9, _, . and -"#,
        ),
        // the place is the element's, not the list's
        (
            "[[session]]\nname = 'a'\npublish = [\n  'ok',\n  'a/#/b',\n]",
            r##":5:3: session[0].publish: "a/#/b": # must be the last level of a filter"##,
        ),
        (
            "[[session]]\nname = 'a'\npublish = ['ok', 1]",
            r#":3:18: session[0].publish: expected a topic filter as "sensors/+/temp" or "sensors/#", found integer"#,
        ),
        (
            "[[session]]\nname = 'a'\nsubscribe = 'a'",
            ":3:13: session[0].subscribe: expected a list, found string",
        ),
        (
            "[[session]]\nname = 'a'\npromise = 'durable'",
            r#":3:11: session[0].promise: "durable" is not known; use "memory" or "journal""#,
        ),
        (
            "[[session]]\nname = 'a'\nwhen_full = 'drop'",
            r#":3:13: session[0].when_full: "drop" is not known; use "drop-oldest" or "latest" or "hold" or "close""#,
        ),
        (
            "[[listen]]\nkind = 'websocket'\norigins = ['https://example.org/app']",
            r#":3:12: listen[0].origins: "https://example.org/app" is not an origin as "https://example.org" or "http://192.168.1.5:8080", without a path; or "*""#,
        ),
    ] {
        assert_eq!(faults(text), [expected], "{text}");
    }
}

#[test]
fn what_is_not_toml_is_said_with_its_place() {
    for (text, place) in [
        ("[daemon\nworkers = 1", ":1:8: not TOML: "),
        ("[daemon]\nworkers = = 1", ":2:11: not TOML: "),
        ("a = 1\na = 2", ":2:1: not TOML: "),
        ("a = 'x", ":1:7: not TOML: "),
    ] {
        let faults = faults(text);
        assert!(faults[0].starts_with(place), "{text}: {faults:?}");
    }
}

#[test]
fn what_does_not_go_together_is_refused() {
    for (text, expected) in [
        (
            "[[listen]]\naddress = '127.0.0.1:1'",
            r#":1:1: listen[0].kind: missing: say "tcp", "tls", "websocket", "websocket-tls" or "unix""#,
        ),
        (
            "[[listen]]\nkind = 'unix'",
            r#":1:1: listen[0].path: missing: where the socket is made, as "/run/fastport/peers.sock""#,
        ),
        (
            "[[listen]]\nkind = 'tls'\nkey = 'k'",
            ":1:1: listen[0].certificate: missing: a TLS listener needs certificate and key, PEM files",
        ),
        (
            "[[listen]]\nkind = 'websocket-tls'\ncertificate = 'c'",
            ":1:1: listen[0].key: missing: a TLS listener needs certificate and key, PEM files",
        ),
        (
            "[[listen]]\nkind = 'tls'\nkey = 'k'\ncertificate = 'c'\nclient_auth = 'optional'",
            ":1:1: listen[0].client_ca: missing: the PEM file with the authorities of peers' certificates",
        ),
        (
            "[[listen]]\nkind = 'tls'\nkey = 'k'\ncertificate = 'c'\nclient_ca = 'ca'",
            r#":5:13: listen[0].client_ca: has no effect while client_auth is "none"; set that to "optional" or "required""#,
        ),
        (
            "[[listen]]\nkind = 'tcp'\nkey = 'k'",
            r#":3:7: listen[0].key: a listener of kind "tcp" has none; only the TLS kinds do"#,
        ),
        (
            "[[listen]]\nkind = 'tls'\norigins = []",
            r#":3:11: listen[0].origins: a listener of kind "tls" has none; only the WebSocket kinds do"#,
        ),
        (
            "[[listen]]\nkind = 'unix'\npath = 'a'\naddress = '[::]:1'",
            r#":4:11: listen[0].address: a listener of kind "unix" has none; only the TCP, TLS and WebSocket kinds do"#,
        ),
        (
            "[[listen]]\nkind = 'tcp'\n[[listen]]\nkind = 'websocket'\naddress = '0.0.0.0:7470'",
            ":5:11: listen[1].address: the same place as listen[0]; choose another",
        ),
        (
            "[[listen]]\nkind = 'unix'\npath = 'a'\n[[listen]]\nkind = 'unix'\npath = '/etc/fastport/a'",
            ":6:8: listen[1].path: the same place as listen[0]; choose another",
        ),
        (
            "[[session]]\nopen = true",
            r#":1:1: session[0].name: missing: every session has a name, as name = "home""#,
        ),
        (
            "[[session]]\nname = 'a'\n[[session]]\nname = 'a'",
            ":4:8: session[1].name: a second session a; names are unique",
        ),
        (
            "[[session]]\nname = 'a'\npayload = '1MiB'",
            ":3:11: session[0].payload: must be 1B to limits.payload, which is 64KiB",
        ),
        (
            "[[session]]\nname = 'a'\npublish = ['$board/x']",
            r#":3:11: session[0].publish: "$board/x": topics with $ are the daemon's; leave it out"#,
        ),
        (
            "[[session]]\nname = 'a'\nsubscribe = ['%d/x']",
            r#":3:13: session[0].subscribe: "%d/x": peers without credentials have no id to put for %d; give them identities in the credentials file"#,
        ),
        (
            "limits.sessions = 1\n[[session]]\nname = 'a'\n[[session]]\nname = 'b'",
            ":1:19: limits.sessions: below the 2 sessions of this file; raise it",
        ),
        (
            "limits.outbox = '64KiB'",
            ":1:17: limits.outbox: 64KiB cannot hold one payload of limits.payload = 64KiB; use at least 65546B",
        ),
        (
            "limits.payload = '1MiB'",
            ":1:1: limits.outbox: 256KiB cannot hold one payload of limits.payload = 1MiB; use at least 1048586B",
        ),
        (
            "limits.outbox = '32MiB'",
            ":1:17: limits.outbox: 32MiB for one peer is more than limits.memory = 16MiB for all; lower it",
        ),
        (
            "board.session = 'dmo'",
            r#":1:17: board.session: there is no session "dmo"; did you mean "demo"?"#,
        ),
        (
            "session = []\nboard.session = 'demo'",
            r#":2:17: board.session: there is no session "demo"; name one of [[session]]"#,
        ),
    ] {
        assert_eq!(faults(text), [expected], "{text}");
    }
}

#[test]
fn any_free_port_may_be_asked_for_twice() {
    let text =
        "listen = [{kind = 'tcp', address = '[::1]:0'}, {kind = 'tcp', address = '[::1]:0'}]";
    assert_eq!(accepted(text).listen.len(), 2);
}

#[test]
fn all_faults_are_reported_in_the_order_of_the_file() {
    let text =
        "x = 1\n[daemon]\nworkers = 0\ny = 1\n[[listen]]\nkind = 'tpc'\n[board]\nenabled = 1";
    let faults = faults(text);
    let lines: Vec<_> = faults.iter().map(|fault| &fault[1..2]).collect();
    assert_eq!(lines, ["1", "3", "4", "6", "8"], "{faults:#?}");
}

#[test]
fn a_file_of_another_kind_does_not_flood_the_terminal() {
    let text: String = (0..500).map(|n| format!("wrong{n} = 1\n")).collect();
    let message = parse(&text).expect_err("no key is known").to_string();
    assert_eq!(message.lines().count(), 21);
    assert!(message.ends_with("and 480 more"));
}

#[test]
fn variables_override_the_file() {
    let text = "[limits]\nmemory = '8MiB'\npeers = 5";
    let config = with_variables(
        text,
        &[
            ("FASTPORT_LIMITS_MEMORY", "32MiB"),
            ("FASTPORT_DAEMON_LOG_LEVEL", "debug"),
            ("FASTPORT_LIMITS_RATE_PEER_MESSAGES", "7"),
            ("FASTPORT_LIMITS_LINGER", "30"),
            ("FASTPORT_BOARD_ENABLED", "false"),
            ("FASTPORT_CONFIG", "/etc/fastport/gateway.toml"),
            ("PATH", "/bin"),
        ],
    )
    .expect("all are known");
    assert_eq!(config.limits.memory, Bytes::mib(32));
    assert_eq!(config.limits.peers, 5);
    assert_eq!(config.daemon.log.level, LogLevel::Debug);
    assert_eq!(config.limits.rate.peer.messages, 7);
    assert_eq!(config.limits.linger, Seconds(30));
    assert!(!config.board.enabled);
}

#[test]
fn a_variable_that_is_wrong_is_named() {
    for (name, value, expected) in [
        (
            "FASTPORT_LIMIT_MEMORY",
            "1MiB",
            "environment variable FASTPORT_LIMIT_MEMORY: names no key; did you mean FASTPORT_LIMITS_MEMORY?",
        ),
        (
            "FASTPORT_LISTEN_ADDRESS",
            "x",
            "environment variable FASTPORT_LISTEN_ADDRESS: names no key; docs/configuration.md says how variables are named; unset it",
        ),
        (
            "FASTPORT_DAEMON_WORKERS",
            "two",
            "environment variable FASTPORT_DAEMON_WORKERS: daemon.workers: expected a whole number, found other text",
        ),
        (
            "FASTPORT_LIMITS_OUTBOX",
            "1KiB",
            "environment variable FASTPORT_LIMITS_OUTBOX: limits.outbox: 1KiB cannot hold one payload of limits.payload = 64KiB; use at least 65546B",
        ),
    ] {
        let error = with_variables("", &[(name, value)]).expect_err(name);
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn no_two_keys_share_a_variable() {
    let findings = read::read("", Path::new(FILE), BTreeMap::new(), &mut Tables::default());
    let variables = findings.known_variables();
    assert_eq!(variables.iter().collect::<BTreeSet<_>>().len(), variables.len());
    assert!(variables.iter().all(|name| !NOT_OVERRIDES.contains(&name.as_str())));
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("gateway.toml");
    let load = || Config::load(Some(&path), iter::empty()).map_err(|error| error.to_string());
    let shown = path.display();
    let error = load().expect_err("no such file");
    assert!(error.starts_with(&format!("{shown}: cannot be read: No such file")), "{error}");
    std::fs::write(&path, b"a = 1\n\xff").expect("written");
    assert_eq!(load(), Err(format!("{shown}:2: not UTF-8; save the file as UTF-8 text")));
    std::fs::write(&path, vec![b'\n'; 1024 * 1024 + 1]).expect("written");
    let expected = format!("{shown}: longer than 1048576 bytes; is it the right file?");
    assert_eq!(load(), Err(expected));
    std::fs::write(&path, "[daemon]\nworkers = 3").expect("written");
    assert_eq!(load().map(|config| config.daemon.workers), Ok(3));
}

#[test]
fn what_outlives_the_process_needs_a_place() {
    let session = "[[session]]\nname = 'a'\npromise = 'journal'\n";
    for (text, key) in [
        (format!("{session}[journal]\nplace = 'disk'"), "journal.place"),
        ("[central]\nenabled = true".to_owned(), "central.enabled"),
        ("[uplink]\ncentral = ['tcp://a']\nspool.disk = '1MiB'".to_owned(), "uplink.spool.disk"),
    ] {
        let error = parse(&text).expect_err(&text).to_string();
        assert!(error.contains(key) && error.contains("daemon.state"), "{error}");
        accepted(&format!("[daemon]\nstate = 'state'\n{text}"));
    }
    accepted(session);
}

#[test]
fn an_uplink_that_contradicts_itself_is_refused() {
    for (lines, key) in [
        ("key = 'k'", "uplink.identity"),
        ("identity = 'a'\nkey = 'k'\npassword = 'p'", "uplink.password"),
        ("certificate = 'c'", "uplink.certificate"),
        ("prefix = 'a/#'", "uplink.prefix"),
        ("prefix = 'a/%d'", "uplink.prefix"),
        ("retry_first = '2m'", "uplink.retry_most"),
    ] {
        let text = format!("[uplink]\ncentral = ['tcp://a']\nspool.disk = 0\n{lines}");
        let error = parse(&text).expect_err(lines).to_string();
        assert!(error.contains(key), "{lines}: {error}");
    }
}

#[test]
fn a_reload_tells_what_waits_for_the_next_start() {
    let old = accepted("[[session]]\nname = 'a'\n[[listen]]\nkind = 'tcp'");
    let new = accepted(
        "[[session]]\nname = 'a'\nopen = true\n[[session]]\nname = 'b'\n[[listen]]\nkind = 'tcp'\naddress = '[::]:7470'\n[limits]\nmemory = '8MiB'\npayload = '32KiB'",
    );
    assert!(old.changes_on_reload(&old).is_empty());
    let changes = old.changes_on_reload(&new);
    let keys = |changes: &[Change]| changes.iter().map(|c| c.key.clone()).collect::<Vec<_>>();
    assert_eq!(
        keys(&changes.restart),
        [
            "limits.memory",
            "listen(127.0.0.1:7470).address",
            "listen(127.0.0.1:7470).kind",
            "listen([::]:7470).address",
            "listen([::]:7470).kind",
        ]
    );
    let live = keys(&changes.live);
    assert!(live.starts_with(&["limits.payload".into(), "session(a).open".into()]), "{live:?}");
    assert!(live.contains(&"session(b).name".into()));
    assert_eq!(changes.restart[0].to_string(), r#"limits.memory: "16MiB" -> "8MiB""#);
}

#[test]
fn the_example_loads() {
    let example = include_str!("../../docs/gateway.example.toml");
    accepted(example);
    assert!(REFERENCE.contains(example), "docs/configuration.md shows another example");
}

const REFERENCE: &str = include_str!("../../docs/configuration.md");

/// Path, default and time of effect of each key that the reference describes.
fn documented() -> BTreeMap<String, (String, String)> {
    let rows = REFERENCE.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<_> = row.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect();
        let bare = |cell: &str| cell.trim_matches('`').to_owned();
        (bare(cells[0]), (bare(cells[1]), bare(cells[2])))
    })
    .collect()
}

#[test]
fn the_reference_has_every_key_and_no_other() {
    let findings = read::read("", Path::new(FILE), BTreeMap::new(), &mut Tables::default());
    let known = findings.known().clone();
    let documented: BTreeSet<_> = documented().into_keys().collect();
    assert_eq!(known, documented);
}

#[test]
fn the_reference_has_the_defaults_and_when_changes_take_effect() {
    let documented = documented();
    let text = "[[session]]\nname = 'NAME'\n[[listen]]\nkind = 'unix'\npath = 'PATH'";
    let mut tables = accepted(text).to_tables();
    let mut shown = 0;
    for (key, flat) in reload::flatten(&mut tables) {
        let entry = key.find('(').zip(key.find(')'));
        let key = entry.map_or(key.clone(), |(a, b)| format!("{}{}", &key[..a], &key[b + 1..]));
        let (default, when) = &documented[&key];
        let expected = if flat.reload == Reload::Live { "reload" } else { "restart" };
        assert_eq!(when, expected, "{key}");
        if !default.starts_with(['(', '—']) {
            assert_eq!(*default, flat.text, "{key}");
            shown += 1;
        }
    }
    assert!(shown > 40, "{shown}");
}

fn any_config() -> impl Strategy<Value = Config> {
    let numbers = (1u16..=64, 0u64..=80_000, 0u32..100, 1u32..10_000, any::<[bool; 6]>());
    let sizes = (1u64..=Limits::MAX_PAYLOAD.0, 0u64..1_000_000, 0u64..5_000_000, 0u32..=86_400);
    let names = proptest::collection::btree_set("[A-Za-z0-9_.-]{1,64}", 0..4);
    let filter = "[a-z \"\\\\\u{e9}]{1,9}(/[a-z+]){0,3}(/#)?";
    let filters = proptest::collection::vec(filter, 0..3);
    (numbers, sizes, names, filters, "[a-z \"'\\\\\n\t\u{7f}\u{1}]{1,12}", any::<[u16; 3]>())
        .prop_map(|(numbers, sizes, names, filters, path, ports)| {
            let (workers, drain, messages, peers, flags) = numbers;
            let (payload, outbox, age, seconds) = sizes;
            let mut config = Config::default();
            config.daemon.workers = workers;
            config.daemon.drain = Duration::from_millis(drain);
            config.daemon.watchdog = flags[0].then(|| Duration::from_millis(1000 + drain));
            config.daemon.ciphers = if flags[1] { Ciphers::ChaCha20 } else { Ciphers::Auto };
            config.board.hardware.name = flags[2].then(|| path.clone());
            config.board.hardware.models.clone_from(&filters);
            config.board.hardware.ram = flags[3].then_some(Bytes(outbox));
            config.board.hardware.aes = flags[4].then_some(flags[5]);
            config.uplink.ciphers = config.daemon.ciphers;
            config.limits.peers = peers;
            config.limits.payload = Bytes(payload);
            config.limits.outbox = Bytes(payload + outbox + Limits::FRAME_OVERHEAD.0);
            config.limits.memory = Bytes::mib(64);
            config.limits.linger = Seconds(seconds);
            config.limits.rate.identity.messages = messages;
            config.access.create_sessions = flags[0];
            let certificate = PathBuf::from(format!("/{path}"));
            config.access.credentials = flags[1].then(|| certificate.clone());
            let filters: Vec<_> =
                filters.iter().filter_map(|f| TopicFilter::parse(f).ok()).collect();
            config.sessions = names
                .iter()
                .map(|name| {
                    let mut session = Session::built_in(Bytes(payload));
                    session.name = SessionName::parse(name).expect("the pattern's names are names");
                    session.open = flags[2];
                    session.publish.clone_from(&filters);
                    session.subscribe.clone_from(&filters);
                    session.retention.age = Duration::from_millis(age);
                    session.retention.messages = messages;
                    session
                })
                .collect();
            config.board.session = config.sessions.first().map(|session| session.name.clone());
            let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
            let ca = certificate.clone();
            let client_auth = match (flags[3], flags[4]) {
                (true, true) => ClientAuth::None,
                (true, false) => ClientAuth::Optional { ca },
                _ => ClientAuth::Required { ca },
            };
            let key = certificate.clone();
            let tls = Tls { certificate: certificate.clone(), key, client_auth };
            let group = flags[5].then(|| path.clone());
            config.listen = vec![
                Listen::Unix { path: certificate, mode: Mode::new(messages), group },
                Listen::Tls { address: at(ports[0]), tls: tls.clone() },
            ];
            if ports[0] != ports[1] {
                let origins = if flags[0] { Origins::Any } else { Origins::Loopback };
                config.listen.push(Listen::WebSocketTls { address: at(ports[1]), origins, tls });
            }
            config
        })
}

proptest! {
    #[test]
    fn what_is_printed_loads_as_the_same(config in any_config()) {
        let text = config.to_toml();
        let again = parse(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{text}")))?;
        prop_assert_eq!(again, config, "{}", text);
    }

    #[test]
    fn any_text_gives_a_configuration_or_an_error(text in "\\PC{0,200}|[\\[\\]a-z.='\"\n0-9{},# ]{0,200}") {
        if let Err(error) = parse(&text) {
            prop_assert!(!error.faults().is_empty());
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn any_value_of_any_key_gives_a_configuration_or_an_error(
        index in any::<prop::sample::Index>(),
        value in "-?[0-9]{1,30}|true|'[^'\n]{0,20}'|\"[0-9]{0,22}(ms|s|m|h|d|B|KiB|TiB|GB)\"|\\[\\]|\\['[a-z#+/]{0,9}'\\]|\\{\\}|1979-05-27|[0-9]\\.[0-9]|inf|nan",
    ) {
        let findings = read::read("", Path::new(FILE), BTreeMap::new(), &mut Tables::default());
        let known: Vec<_> = findings.known().iter().collect();
        let key = *index.get(&known);
        let text = match key.split_once('.') {
            Some((list @ ("listen" | "session"), key)) => format!("[[{list}]]\n{key} = {value}"),
            _ => format!("{key} = {value}"),
        };
        if let Err(error) = parse(&text) {
            prop_assert!(!error.faults().is_empty());
        }
        let variable = read::variable_of(key);
        if let Ok(config) = with_variables("", &[(&variable, &value)]) {
            prop_assert_eq!(parse(&config.to_toml()).expect("what is printed loads"), config);
        }
    }
}

#[test]
fn what_a_board_says_holds_where_the_file_and_the_environment_are_silent() {
    let board = BoardFile {
        path: "board.toml".into(),
        text: "[limits]\nmemory = \"8MiB\"\npeers = 5\npayload = \"1KiB\"".into(),
    };
    let tables = Tables::on(Some(&board)).expect("it is right");
    let variables = [("FASTPORT_LIMITS_PEERS".to_owned(), "7".to_owned())];
    let text = "limits.payload = \"2KiB\"";
    let config = Config::parse_over(tables, text, Path::new(FILE), variables.into_iter());
    let limits = config.expect("no fault").limits;
    let found = (limits.memory, limits.peers, limits.payload);
    assert_eq!(found, (Bytes::mib(8), 7, Bytes::kib(2)));
    assert_eq!(limits.outbox, Limits::default().outbox);
}

#[test]
fn the_service_managers_folder_is_the_daemons_state_unless_the_file_names_another() {
    let variables = [("STATE_DIRECTORY", "/var/lib/fastport:/var/lib/other")];
    let config = with_variables("", &variables).expect("no fault");
    assert_eq!(config.daemon.state, Some(PathBuf::from("/var/lib/fastport")));
    let config = with_variables("daemon.state = \"/data\"", &variables).expect("no fault");
    assert_eq!(config.daemon.state, Some(PathBuf::from("/data")));
    let config = with_variables("", &[("STATE_DIRECTORY", "")]).expect("no fault");
    assert_eq!(config.daemon.state, None);
}

#[test]
fn secrets_can_be_named_by_the_service_managers_folder() {
    let text = "access.credentials = \"$CREDENTIALS_DIRECTORY/peers\"\n\
                [uplink]\ncentral = [\"tls://central:7472\"]\nidentity = \"gateway\"\n\
                key = \"$CREDENTIALS_DIRECTORY/uplink.key\"\nspool.disk = 0\n\
                [[listen]]\nkind = \"tls\"\ncertificate = \"server.pem\"\n\
                key = \"$CREDENTIALS_DIRECTORY/server.key\"";
    let folder = "/run/credentials/fastportd.service";
    let config = with_variables(text, &[("CREDENTIALS_DIRECTORY", folder)]).expect("no fault");
    let held = |name: &str| Some(Path::new(folder).join(name));
    assert_eq!(config.access.credentials, held("peers"));
    assert_eq!(config.uplink.key, held("uplink.key"));
    let Some(Listen::Tls { tls, .. }) = config.listen.first() else { panic!("there is one") };
    assert_eq!(Some(tls.key.clone()), held("server.key"));
    assert_eq!(tls.certificate, Path::new("/etc/fastport/server.pem"));

    let faults = faults(text);
    assert_eq!(faults.len(), 3, "{faults:#?}");
    assert!(faults[0].starts_with(":1:"), "{faults:#?}");
    assert!(faults[0].contains(": access.credentials: $CREDENTIALS_DIRECTORY is not set"));
    assert!(faults[2].contains("listen[0].key: "), "{faults:#?}");
}
