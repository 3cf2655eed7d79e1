//! Two daemons: what a gateway carries to a central instance and back.

#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
#[path = "support/site.rs"]
mod site;
mod support;

use std::path::Path;
use std::time::Duration;

use fastport_client::{
    Client, DataFlags, Delivery, Incoming, Options, SubscribeOptions, Subscription, Target, Tier,
    init,
};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use self::access::{identity, options, secret_file};
use self::site::Site;
use self::support::{DEADLINE, Daemon};

/// A relay that stores nothing, with an open session and one with identities.
fn central_config(listen: &str, more: &str) -> String {
    format!(
        r#"
        board = {{ enabled = false }}
        listen = [{{ kind = "tcp", address = "{listen}" }}]
        session = [{{ name = "home", open = true, open_from = "any" }}]
        {more}
        "#
    )
}

fn gateway_config(central: &[&str], uplink: &str, rules: &str) -> String {
    format!(
        r#"
        board = {{ enabled = false }}
        listen = [{{ kind = "tcp", address = "127.0.0.1:0" }}]
        session = [{{ name = "home", open = true }}]

        [uplink]
        central = {central:?}
        wait_for = "taken"
        retry_first = "100ms"
        retry_most = "1s"
        spool = {{ disk = 0 }}
        {uplink}
        {rules}
        "#
    )
}

fn start(folder: &Path, name: &str, config: &str) -> Daemon {
    let folder = folder.join(name);
    std::fs::create_dir_all(&folder).expect("the test's folder is writable");
    Daemon::start(&folder, config)
}

async fn client(daemon: &Daemon) -> Client {
    let target = Target::parse(&daemon.url("tcp")).expect("the daemon's own URL");
    init(Options::new(target, "home")).await.expect("the session is open")
}

async fn subscribe(client: &Client, filter: &str) -> Subscription {
    client.subscribe(filter, SubscribeOptions::default()).await.expect("allowed")
}

async fn next(subscription: &mut Subscription) -> Delivery {
    loop {
        let incoming = timeout(DEADLINE, subscription.next()).await.expect("it comes in time");
        match incoming.expect("the link holds") {
            Incoming::Message(delivery) => return delivery,
            Incoming::Gap { .. } | Incoming::NotOpened { .. } => {}
        }
    }
}

async fn emit(client: &Client, topic: &str, payload: &[u8]) {
    let number = client.emit_counted(topic, payload).await.expect("published");
    let held = client.wait(number, Tier::Central);
    timeout(DEADLINE, held).await.expect("in time").expect("held there");
}

/// The figures of a lane.
async fn lane(client: &Client, lane: &str) -> Value {
    let text = client.status().await.expect("figures");
    let figures: Value = serde_json::from_str(&text).expect("JSON");
    figures["uplink"]["lanes"][lane].clone()
}

/// Messages of the lane `normal` that are on disk.
async fn held_on_disk(client: &Client) -> u64 {
    let text = client.status().await.expect("figures");
    let figures: Value = serde_json::from_str(&text).expect("JSON");
    figures["uplink"]["spool"]["lanes"]["normal"]["held"].as_u64().unwrap_or(0)
}

async fn until(client: &Client, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let latest = Instant::now() + DEADLINE;
    loop {
        let figures = lane(client, "normal").await;
        if is_so(&figures) {
            return figures;
        }
        assert!(Instant::now() < latest, "{what}: {figures:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const BOTH: &str = r#"
    [[uplink.rule]]
    filter = "plant/#"
    [[uplink.rule]]
    direction = "down"
    filter = "cmd/#"
"#;

#[tokio::test]
async fn topics_go_up_under_the_prefix_and_commands_come_down_from_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let central = start(folder.path(), "central", &central_config("127.0.0.1:0", ""));
    let config = gateway_config(&[&central.url("tcp")], "prefix = \"gateways/seven\"", BOTH);
    let mut gateway = start(folder.path(), "gateway", &config);
    gateway.wait_for("uplink ready");
    let (here, there) = (client(&gateway).await, client(&central).await);
    let mut up = subscribe(&there, "#").await;
    let mut down = subscribe(&here, "cmd/#").await;

    here.emit_counted("other/a", b"not carried").await.expect("published");
    emit(&here, "plant/temp", b"21").await;
    let message = next(&mut up).await;
    assert_eq!((&*message.topic, &*message.payload), ("gateways/seven/plant/temp", &b"21"[..]));
    assert!(message.flags.contains(DataFlags::COUNTED));

    // what is uncounted or read, is so there
    here.emit("plant/temp", b"22").await.expect("published");
    let message = next(&mut up).await;
    assert!(!message.flags.contains(DataFlags::COUNTED));

    there.emit_counted("gateways/seven/cmd/valve", b"open").await.expect("published");
    there.emit_counted("gateways/eight/cmd/valve", b"close").await.expect("published");
    let message = next(&mut down).await;
    assert_eq!((&*message.topic, &*message.payload), ("cmd/valve", &b"open"[..]));
    let figures = until(&here, "all is there", |lane| lane["unacknowledged"] == 0).await;
    assert_eq!(figures["link"], "ready");
    assert!(figures["messages_up"].as_u64() >= Some(2), "{figures:#}");
    assert_eq!(figures["messages_down"], 1);
    assert!(figures["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")));
}

#[tokio::test]
async fn a_central_instance_that_was_away_gets_what_waited() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut central = start(folder.path(), "central", &central_config("127.0.0.1:0", ""));
    let address = central.address("tcp");
    let config = gateway_config(&[&central.url("tcp")], "", "");
    let mut gateway = start(folder.path(), "gateway", &config);
    gateway.wait_for("uplink ready");
    let here = client(&gateway).await;
    emit(&here, "a", b"before").await;

    central.signal("KILL");
    central.wait();
    until(&here, "it is missed", |lane| lane["link"] != "ready").await;
    let number = here.emit_counted("a", b"meanwhile").await.expect("published");
    until(&here, "it waits", |lane| lane["unacknowledged"] == 1).await;
    let began = Instant::now();
    let central = start(folder.path(), "central", &central_config(&address, ""));
    let there = client(&central).await;
    let mut up = subscribe(&there, "#").await;
    let held = timeout(DEADLINE, here.wait(number, Tier::Central)).await;
    held.expect("in time").expect("held there");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let number = here.emit_counted("a", b"after").await.expect("published");
    timeout(DEADLINE, here.wait(number, Tier::Central)).await.expect("in time").expect("held");
    let mut got = vec![next(&mut up).await.payload.to_vec()];
    while got.last().is_some_and(|last| last != b"after") {
        got.push(next(&mut up).await.payload.to_vec());
    }
    assert!(!got.contains(&b"before".to_vec()), "{got:?}");
    // tried again and again, and said once
    let log = gateway.log();
    let lines = log.lines().filter(|line| line.contains("uplink")).count();
    assert!(lines <= 6, "{log}");
}

#[tokio::test]
async fn another_central_instance_serves_until_the_favourite_is_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut first = start(folder.path(), "first", &central_config("127.0.0.1:0", ""));
    let second = start(folder.path(), "second", &central_config("127.0.0.1:0", ""));
    let (address, urls) = (first.address("tcp"), [first.url("tcp"), second.url("tcp")]);
    let config = gateway_config(&[&urls[0], &urls[1]], "look_back = \"1s\"", "");
    let mut gateway = start(folder.path(), "gateway", &config);
    gateway.wait_for("uplink ready");
    let here = client(&gateway).await;
    until(&here, "the favourite", |lane| lane["link"] == "ready" && lane["central"] == urls[0])
        .await;

    first.signal("KILL");
    first.wait();
    until(&here, "the other", |lane| lane["link"] == "ready" && lane["central"] == urls[1]).await;
    let there = client(&second).await;
    let mut up = subscribe(&there, "#").await;
    emit(&here, "a", b"1").await;
    assert_eq!(&*next(&mut up).await.payload, b"1");

    let first = start(folder.path(), "first", &central_config(&address, ""));
    until(&here, "the favourite", |lane| lane["link"] == "ready" && lane["central"] == urls[0])
        .await;
    let there = client(&first).await;
    let mut up = subscribe(&there, "#").await;
    emit(&here, "a", b"2").await;
    assert_eq!(&*next(&mut up).await.payload, b"2");
    gateway.wait_for("the favourite central instance is back");
}

const KEY: &str = "0707070707070707070707070707070707070707070707070707070707070707";

/// A central instance that knows a gateway by its key.
fn with_identity(folder: &Path, listen: &str) -> Daemon {
    let folder = folder.join("central");
    std::fs::create_dir_all(&folder).expect("the test's folder is writable");
    let keys = format!("key = \"{KEY}\"\npublish = [\"of/%d/#\"]\nsubscribe = [\"of/%d/#\"]");
    let watcher = identity("watcher", &format!("key = \"{KEY}\"\nsubscribe = [\"#\"]"));
    secret_file(&folder, "credentials.toml", &(identity("gw", &keys) + &watcher));
    let config = format!(
        r#"
        board = {{ enabled = false }}
        access = {{ credentials = "credentials.toml" }}
        listen = [{listen}]
        session = [{{ name = "home" }}]
        "#
    );
    Daemon::start(&folder, &config)
}

async fn watcher(url: &str, ca: Option<&Path>) -> Client {
    let secret = fastport_client::Secret::Key(Box::new([7; 32]));
    let tls = fastport_client::TlsFiles { ca: ca.map(Path::to_owned), ..Default::default() };
    init(Options { tls, ..options(url, "watcher", secret) }).await.expect("the key is right")
}

#[tokio::test]
async fn a_device_key_opens_the_way_and_a_wrong_one_is_said_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let tcp = r#"{ kind = "tcp", address = "127.0.0.1:0" }"#;
    let central = with_identity(folder.path(), tcp);
    let path = folder.path().join("gateway");
    std::fs::create_dir_all(&path).expect("the test's folder is writable");
    secret_file(&path, "key", &"08".repeat(32));
    let uplink = "identity = \"gw\"\nkey = \"key\"\nprefix = \"of/%d\"";
    let config = gateway_config(&[&central.url("tcp")], uplink, "");
    let mut gateway = start(folder.path(), "gateway", &config);
    gateway.wait_for("no uplink; trying again");
    let here = client(&gateway).await;
    let number = here.emit_counted("a", b"1").await.expect("published here all the same");
    until(&here, "it is tried again", |lane| lane["failures"]["refused"].as_u64() >= Some(3)).await;
    assert_eq!(gateway.log().matches("no uplink").count(), 1, "{}", gateway.log());

    // the right key is found without a restart
    secret_file(&path, "key", KEY);
    gateway.wait_for("uplink ready");
    timeout(DEADLINE, here.wait(number, Tier::Central)).await.expect("in time").expect("held");
    let there = watcher(&central.url("tcp"), None).await;
    let mut up = subscribe(&there, "#").await;
    emit(&here, "a", b"2").await;
    assert_eq!(next(&mut up).await.topic.as_ref(), "of/gw/a");
}

#[tokio::test]
async fn what_the_central_instance_does_not_take_is_counted_and_holds_nothing_up() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let central = with_identity(folder.path(), r#"{ kind = "tcp", address = "127.0.0.1:0" }"#);
    let path = folder.path().join("gateway");
    std::fs::create_dir_all(&path).expect("the test's folder is writable");
    secret_file(&path, "key", KEY);
    // without the prefix only one topic is allowed there
    let config = gateway_config(&[&central.url("tcp")], "identity = \"gw\"\nkey = \"key\"", "");
    let mut gateway = start(folder.path(), "gateway", &config);
    gateway.wait_for("uplink ready");
    let here = client(&gateway).await;
    let there = watcher(&central.url("tcp"), None).await;
    let mut up = subscribe(&there, "#").await;
    for number in 0..20u8 {
        let topic = if number % 2 == 0 { "of/gw/a" } else { "plant/a" };
        emit(&here, topic, &[number]).await;
    }
    for number in (0..20).step_by(2) {
        assert_eq!(&*next(&mut up).await.payload, [number]);
    }
    let figures = until(&here, "all is told of", |lane| lane["unacknowledged"] == 0).await;
    assert_eq!(figures["dropped"]["other"], 10);
    assert_eq!(gateway.log().matches("does not take a topic").count(), 1, "{}", gateway.log());
}

/// An HTTP proxy that knows CONNECT: how many tunnels it has made.
async fn proxy() -> (String, std::sync::Arc<std::sync::atomic::AtomicU32>) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let tunnels = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = std::sync::Arc::clone(&tunnels);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counted = std::sync::Arc::clone(&counted);
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    if stream.read_line(&mut head).await.is_ok_and(|length| length == 0) {
                        return;
                    }
                }
                let target = head.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
                let target = target.unwrap_or_else(|| panic!("{head:?}"));
                let mut there = tokio::net::TcpStream::connect(target).await.expect("it listens");
                let answer = b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n";
                stream.write_all(answer).await.expect("the gateway waits for it");
                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                // until either end is done
                tokio::io::copy_bidirectional(&mut stream, &mut there).await.unwrap_or_default();
            });
        }
    });
    (url, tunnels)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_http_proxy_is_gone_through() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let listen = r#"listen = [{ kind = "websocket", address = "127.0.0.1:0" }, { kind = "tcp", address = "127.0.0.1:0" }]"#;
    let config = central_config("127.0.0.1:0", "")
        .replace(r#"listen = [{ kind = "tcp", address = "127.0.0.1:0" }]"#, listen);
    let central = start(folder.path(), "central", &config);
    let (proxy, tunnels) = proxy().await;
    let config = gateway_config(&[&central.url("ws")], &format!("proxy = {proxy:?}"), "");
    let mut gateway = start(folder.path(), "gateway", &config);
    gateway.wait_for("uplink ready");
    let (here, there) = (client(&gateway).await, client(&central).await);
    let mut up = subscribe(&there, "#").await;
    emit(&here, "a", b"1").await;
    assert_eq!(&*next(&mut up).await.payload, b"1");
    assert!(tunnels.load(std::sync::atomic::Ordering::Relaxed) >= 1);
}

#[test]
fn rules_that_would_pass_a_topic_round_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rules = r#"
        [[uplink.rule]]
        filter = "plant/#"
        [[uplink.rule]]
        direction = "down"
        filter = "plant/+/set"
        lane = "alarm"
    "#;
    let path = folder.path().join("gateway.toml");
    std::fs::write(&path, gateway_config(&["tcp://central"], "", rules)).expect("written");
    let path = path.to_str().expect("a plain name");
    let ended = access::daemon(&["--check", "--config", path]);
    assert_eq!(ended.code, Some(78), "{}", ended.err);
    assert!(
        ended.err.contains("uplink.rule[1].filter") && ended.err.contains("a loop"),
        "{}",
        ended.err
    );
}

#[test]
fn the_tool_tells_what_the_rules_make_of_a_topic() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("gateway.toml");
    let config = gateway_config(&["tcp://central"], "prefix = \"g\"", BOTH);
    std::fs::write(&path, config).expect("written");
    let path = path.to_str().expect("a plain name");
    let ended = access::tool(&["uplink", "test", "cmd/x", "--config", path]);
    let expected = "up    stays here: no rule takes it\n\
                    down  rule 2 \"cmd/#\", lane normal, from g/cmd/x\n";
    assert_eq!((ended.code, &*ended.out), (Some(0), expected), "{}", ended.err);
}

/// A key and a certificate that an authority vouches for, in files beside each other.
fn certify(
    folder: &Path,
    name: &str,
    mut params: rcgen::CertificateParams,
    issuer: Option<&rcgen::Issuer<'_, rcgen::KeyPair>>,
) -> rcgen::KeyPair {
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = rcgen::KeyPair::generate().expect("randomness");
    let certificate = match issuer {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    let pem = certificate.expect("sound parameters").pem();
    std::fs::write(folder.join(format!("{name}.pem")), pem).expect("written");
    secret_file(folder, &format!("{name}.key"), &key.serialize_pem());
    key
}

#[tokio::test]
async fn a_client_certificate_opens_the_way_over_tls() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("central");
    std::fs::create_dir_all(&path).expect("the test's folder is writable");
    let mut authority = rcgen::CertificateParams::default();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    authority.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    authority.distinguished_name.push(rcgen::DnType::CommonName, "authority");
    let key = certify(&path, "authority", authority.clone(), None);
    let issuer = rcgen::Issuer::new(authority, key);
    let address = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]);
    certify(&path, "relay", address.expect("an address"), Some(&issuer));
    let mut params = rcgen::CertificateParams::default();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    certify(&path, "gw.example.org", params, Some(&issuer));

    let rights = "publish = [\"#\"]\nsubscribe = [\"#\"]";
    let gateway = format!("certificate_name = \"gw.example.org\"\n{rights}");
    let watcher_keys = format!("key = \"{KEY}\"\n{rights}");
    let identities = identity("gw", &gateway) + &identity("watcher", &watcher_keys);
    secret_file(&path, "credentials.toml", &identities);
    let config = r#"
        board = { enabled = false }
        access = { credentials = "credentials.toml" }
        listen = [{ kind = "tls", address = "127.0.0.1:0", certificate = "relay.pem", key = "relay.key", client_ca = "authority.pem", client_auth = "optional" }]
        session = [{ name = "home" }]
    "#;
    let central = Daemon::start(&path, config);
    let file = |name: &str| path.join(name).display().to_string();
    let uplink = format!(
        "identity = \"gw\"\ncertificate = {:?}\ncertificate_key = {:?}\nca = {:?}",
        file("gw.example.org.pem"),
        file("gw.example.org.key"),
        file("authority.pem"),
    );
    let config = gateway_config(&[&central.url("tls")], &uplink, "");
    let mut gateway = start(folder.path(), "gateway", &config);
    gateway.wait_for("uplink ready");
    let here = client(&gateway).await;
    let there = watcher(&central.url("tls"), Some(&path.join("authority.pem"))).await;
    let mut up = subscribe(&there, "#").await;
    emit(&here, "a", b"1").await;
    assert_eq!(&*next(&mut up).await.payload, b"1");
}

/// What waits for company.
const DELAY: Duration = Duration::from_secs(2);

#[tokio::test]
async fn an_alarm_does_not_wait_for_what_others_wait_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let central = start(folder.path(), "central", &central_config("127.0.0.1:0", ""));
    let there = client(&central).await;
    let mut up = subscribe(&there, "#").await;
    let rules = "[[uplink.rule]]\nfilter = \"alarm/#\"\nlane = \"alarm\"\n[[uplink.rule]]";
    let delay = format!("delay = \"{}s\"", DELAY.as_secs());
    let config = gateway_config(&[&central.url("tcp")], &delay, rules);
    let gateway = start(folder.path(), "gateway", &config);
    let here = client(&gateway).await;
    until(&here, "a link", |lane| lane["link"] == "ready").await;
    let first = here.emit_counted("plant/a", b"1").await.expect("published");
    here.emit_counted("alarm/a", b"2").await.expect("published");
    assert_eq!(&*next(&mut up).await.payload, b"2", "it came first");
    assert_eq!(&*next(&mut up).await.payload, b"1");
    // once on each link, and not again for an answer to OPEN: the first finds out that no TIME is taken here
    let held = timeout(3 * DELAY, here.wait(first, Tier::Central)).await;
    held.expect("in time").expect("held there");
}

/// A gateway that keeps little in memory, and the rest on disk.
fn with_spool(folder: &Path, central: &str, more: &str) -> String {
    let state = folder.join("state");
    std::fs::create_dir_all(&state).expect("the test's folder is writable");
    gateway_config(&[central], "", more)
        .replace("spool = { disk = 0 }", "spool = { memory = \"64KiB\", disk = \"64MiB\" }")
        .replace("board =", &format!("daemon = {{ state = {state:?} }}\nboard ="))
}

/// Publishes numbers and gives the last one's count.
async fn publish_numbers(client: &Client, numbers: std::ops::Range<u32>) -> u64 {
    let mut last = 0;
    for number in numbers {
        let payload = [&number.to_be_bytes()[..], &[7; 96]].concat();
        let sent = timeout(DEADLINE, client.emit_counted("plant/a", &payload)).await;
        last = sent.expect("nobody waits for the central instance").expect("published");
    }
    last
}

fn number(delivery: &Delivery) -> u32 {
    u32::from_be_bytes(delivery.payload[..4].try_into().expect("a number"))
}

#[tokio::test]
async fn what_outlasts_memory_waits_on_disk_and_goes_first() {
    const MANY: u32 = 20_000;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let central = start(folder.path(), "central", &central_config("127.0.0.1:0", ""));
    let (address, url) = (central.address("tcp"), central.url("tcp"));
    drop(central);
    let config = with_spool(folder.path(), &url, "");
    let gateway = start(folder.path(), "gateway", &config);
    let here = client(&gateway).await;
    publish_numbers(&here, 0..MANY).await;
    let text = here.status().await.expect("figures");
    let figures: Value = serde_json::from_str(&text).expect("JSON");
    let held = figures["uplink"]["spool"]["lanes"]["normal"]["held"].as_u64();
    assert!(held > Some(u64::from(MANY) / 2), "{figures:#}");

    let config = central_config(&address, "").replace(
        "session = [{ name = \"home\", open = true, open_from = \"any\" }]",
        "limits = { outbox = \"16MiB\" }\nsession = [{ name = \"home\", open = true }]",
    );
    let central = start(folder.path(), "central", &config);
    let there = client(&central).await;
    let reader = async {
        let mut up = subscribe(&there, "#").await;
        let mut expected = None;
        loop {
            let got = number(&next(&mut up).await);
            if let Some(expected) = expected {
                assert_eq!(got, expected);
            }
            expected = Some(got + 1);
            if got == MANY + 99 {
                return;
            }
        }
    };
    let publisher = async {
        let last = publish_numbers(&here, MANY..MANY + 100).await;
        timeout(DEADLINE, here.wait(last, Tier::Central)).await.expect("in time").expect("held");
    };
    tokio::join!(reader, publisher);
    let figures = until(&here, "all is there", |lane| lane["unacknowledged"] == 0).await;
    assert_eq!(figures["link"], "ready");
    let text = here.status().await.expect("figures");
    let figures: Value = serde_json::from_str(&text).expect("JSON");
    let lane = &figures["uplink"]["spool"]["lanes"]["normal"];
    assert_eq!(lane["held"], 0, "{figures:#}");
    assert_eq!(lane["appended"], lane["acknowledged"], "{figures:#}");
}

#[tokio::test]
async fn what_is_on_disk_goes_up_though_the_disk_is_not_used_any_more() {
    const MANY: u32 = 1_000;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let central = start(folder.path(), "central", &central_config("127.0.0.1:0", ""));
    let (address, url) = (central.address("tcp"), central.url("tcp"));
    drop(central);
    let config = with_spool(folder.path(), &url, "");
    let mut gateway = start(folder.path(), "gateway", &config);
    let here = client(&gateway).await;
    let last = publish_numbers(&here, 0..MANY).await;
    timeout(DEADLINE, here.wait(last, Tier::Taken)).await.expect("in time").expect("taken");
    gateway.signal("TERM");
    gateway.wait();

    let central = start(folder.path(), "central", &central_config(&address, ""));
    let there = client(&central).await;
    let mut up = subscribe(&there, "#").await;
    let config = config.replace("disk = \"64MiB\"", "disk = 0");
    let gateway = start(folder.path(), "gateway", &config);
    for expected in 0..MANY {
        assert_eq!(number(&next(&mut up).await), expected);
    }
    let here = client(&gateway).await;
    publish_numbers(&here, MANY..MANY + 1).await;
    assert_eq!(number(&next(&mut up).await), MANY);
    until(&here, "all is there", |lane| lane["unacknowledged"] == 0).await;
}

#[tokio::test]
async fn what_waits_on_disk_grows_old_without_anything_new() {
    const MANY: u32 = 2_000;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let rule = "[[uplink.rule]]\nfilter = \"plant/#\"\nmax_age = \"1s\"";
    // nobody is there
    let config = with_spool(folder.path(), "tcp://127.0.0.1:9", rule);
    let gateway = start(folder.path(), "gateway", &config);
    let here = client(&gateway).await;
    publish_numbers(&here, 0..MANY).await;
    let latest = Instant::now() + DEADLINE;
    loop {
        let text = here.status().await.expect("figures");
        let figures: Value = serde_json::from_str(&text).expect("JSON");
        let lane = &figures["uplink"]["spool"]["lanes"]["normal"];
        if lane["held"] == 0 && lane["dropped"]["expired"].as_u64() > Some(0) {
            assert_eq!(lane["dropped"]["expired"], lane["appended"], "{figures:#}");
            return;
        }
        assert!(Instant::now() < latest, "{figures:#}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The numbers that the central instance holds, in its order.
fn stored(store: &Path) -> Vec<u32> {
    let database = rusqlite::Connection::open(store).expect("the store is there");
    let mut query =
        database.prepare("SELECT payload FROM messages ORDER BY id").expect("the view is there");
    let rows = query.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("rows");
    rows.map(|payload| {
        let payload = payload.expect("a row");
        u32::from_be_bytes(payload[..4].try_into().expect("a number"))
    })
    .collect()
}

/// The session here acknowledges what went up live as soon as it is stored, and the disk is told of its rows
/// by a thread of its own: whoever dies in between has the two apart.
#[cfg(feature = "faults")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_before_its_disk_knows_what_arrived_sends_nothing_twice() {
    const MANY: u32 = 1_000;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let hold = folder.path().join("hold");
    std::fs::write(&hold, "").expect("written");
    let mut site = Site::new(folder.path());
    site.gateway_lines = "[uplink.spool]\nmemory = \"64KiB\"".to_owned();
    let hold = hold.to_str().expect("a plain name");
    let mut gateway = site.start_gateway_with(&[("FAULT_HOLD_SPOOL", hold)]);
    let device = init(site.device("device")).await.expect("the gateway is there");
    publish_numbers(&device, 0..MANY).await;
    // what the client holds for a gateway that is slow is published, too
    let latest = Instant::now() + DEADLINE;
    while held_on_disk(&device).await == 0 {
        assert!(Instant::now() < latest, "nothing goes to the disk");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _central = site.start_central();
    gateway.wait_for("uplink ready");
    let up_to = async |number: u32| {
        let is_up = |lane: &Value| lane["unacknowledged"] == 0 && lane["messages_up"] == number;
        until(&device, "all are there", is_up).await;
    };
    up_to(MANY).await;
    // these go up as they come: they are acknowledged here, and rows are still held
    let last = publish_numbers(&device, MANY..MANY + 100).await;
    let held = timeout(DEADLINE, device.wait(last, Tier::Central)).await;
    held.expect("in time").expect("held there");
    assert_ne!(held_on_disk(&device).await, 0);
    gateway.signal("KILL");
    gateway.wait();
    let mut gateway = site.start_gateway();
    let last = publish_numbers(&device, MANY + 100..MANY + 110).await;
    let held = timeout(DEADLINE, device.wait(last, Tier::Central)).await;
    held.expect("in time").expect("held there");
    let log = gateway.log();
    assert!(!log.contains("another state") && !log.contains("our bug"), "{log}");
    let expected: Vec<u32> = (0..MANY + 110).collect();
    assert_eq!(stored(&site.store()), expected, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_on_disk_arrives_once_and_in_order_whoever_is_killed_meanwhile() {
    const MANY: u32 = 6_000;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut site = Site::new(folder.path());
    site.gateway_lines = "[uplink.spool]\nmemory = \"64KiB\"".to_owned();
    let mut gateway = site.start_gateway();
    let device = init(site.device("device")).await.expect("the gateway is there");
    let publisher = {
        let device = device.clone();
        tokio::spawn(async move { publish_numbers(&device, 0..MANY).await })
    };
    let last = timeout(DEADLINE * 2, publisher).await.expect("in time").expect("no panic");
    let mut central = site.start_central();
    let mut logs = Vec::new();
    for round in 0..8 {
        tokio::time::sleep(Duration::from_millis(40 * (round % 4) + 30)).await;
        tokio::task::block_in_place(|| {
            let victim = if round % 3 == 2 { &mut central } else { &mut gateway };
            victim.signal("KILL");
            victim.wait();
            logs.push(format!("-- {round}\n{}", victim.log()));
            match round % 3 {
                2 => central = site.start_central(),
                _ => gateway = site.start_gateway(),
            }
        });
    }
    let held = timeout(DEADLINE, device.wait(last, Tier::Central)).await;
    if held.is_err() {
        let (figures, log) = (device.status().await, gateway.log());
        panic!("not all is there: {figures:?}\n{log}\n{} stored", stored(&site.store()).len());
    }
    held.expect("in time").expect("held there");
    logs.push(format!("-- at the end\n{}", gateway.log()));
    drop((gateway, central));
    let expected: Vec<u32> = (0..MANY).collect();
    let stored = stored(&site.store());
    let differs = stored.iter().zip(&expected).position(|(stored, expected)| stored != expected);
    let logs = logs.join("\n");
    assert_eq!((stored.len(), differs), (expected.len(), None), "{logs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_patient_a_lane_has_become_outlives_the_process() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = nobody.local_addr().expect("an address").port();
    drop(nobody);
    let config = with_spool(folder.path(), &format!("tcp://127.0.0.1:{port}"), "")
        .replace("open = true }]", "open = true, promise = \"journal\" }]")
        .replace("board =", "journal = { place = \"disk\" }\nboard =")
        .replace("retry_first = \"100ms\"", "retry_first = \"10s\"")
        .replace("retry_most = \"1s\"", "retry_most = \"1h\"");
    let number = |lane: &Value, name: &str| lane[name].as_u64().expect("a number");
    let mut gateway = start(folder.path(), "gateway", &config);
    let here = client(&gateway).await;
    let lane = until(&here, "it waits longer", |lane| number(lane, "retry_level") >= 4).await;
    let before = number(&lane, "retry_level");
    tokio::task::block_in_place(|| {
        gateway.signal("KILL");
        gateway.wait();
        gateway = start(folder.path(), "gateway", &config);
    });
    let here = client(&gateway).await;
    let lane = until(&here, "it tries again", |lane| number(lane, "attempts") > 0).await;
    // a process that knows nothing has failed no more often than it has tried
    let [level, attempts] = ["retry_level", "attempts"].map(|name| number(&lane, name));
    assert!(level >= before && level > attempts, "{before} before: {lane:#}");
    // a link makes it as eager as ever
    let listen = format!("127.0.0.1:{port}");
    let _central = start(folder.path(), "central", &central_config(&listen, ""));
    until(&here, "there is a link", |lane| lane["link"] == "ready").await;
}

#[tokio::test]
async fn once_some_wait_on_disk_others_follow_within_the_commit_interval() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("tcp://{}", nobody.local_addr().expect("an address"));
    drop(nobody);
    let config = with_spool(folder.path(), &url, "")
        .replace("disk = \"64MiB\"", "disk = \"64MiB\", commit = \"1s\"");
    let gateway = start(folder.path(), "gateway", &config);
    let here = client(&gateway).await;
    publish_numbers(&here, 0..1000).await;
    let all_of = async |number: u64| {
        let latest = Instant::now() + DEADLINE;
        while held_on_disk(&here).await != number {
            assert!(Instant::now() < latest, "{} of {number}", held_on_disk(&here).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    // far less than half of the memory is left, and goes too
    all_of(1000).await;
    publish_numbers(&here, 1000..1001).await;
    all_of(1001).await;
}
