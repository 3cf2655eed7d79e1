//! The daemon on machines whose clock is not set, or is set while it runs.

#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
mod support;
#[path = "support/time_travel.rs"]
mod time_travel;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastport_client::{
    Client, Delivery, Incoming, LinkState, Options, Past, Secret, SubscribeOptions, Subscription,
    Target, Tier, TlsFiles, init,
};
use fastport_wire::control::Control;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use self::access::{identity, options, secret_file};
use self::support::peer::{Peer, connect};
use self::support::{DEADLINE, Daemon, demo_config};
use self::time_travel::{FakeClock, at_1970, from_today, today};

const TEN_YEARS: i64 = 10 * 365 * DAY;
const DAY: i64 = 86_400;
/// Clocks are read in seconds, and machines are busy.
const CLOSE: Duration = Duration::from_secs(5);

fn start(clock: &FakeClock, folder: &Path, config: &str) -> Daemon {
    let path = folder.join("gateway.toml");
    fs::write(&path, config).expect("the test's folder is writable");
    Daemon::spawn(&mut clock.fastportd(&path))
}

async fn client(daemon: &Daemon) -> Client {
    let target = Target::parse(&daemon.url("tcp")).expect("the daemon's own URL");
    let options = Options { keepalive: Some(2), reconnect: false, ..Options::new(target, "demo") };
    init(options).await.expect("the session is open")
}

async fn next(subscription: &mut Subscription) -> Delivery {
    let incoming = timeout(DEADLINE, subscription.next()).await.expect("it comes in time");
    match incoming.expect("the link holds") {
        Incoming::Message(delivery) => delivery,
        other => panic!("instead of a message: {other:?}"),
    }
}

/// The clock that the daemon shows to who comes in.
fn welcome_clock(daemon: &Daemon) -> Option<u64> {
    let mut peer = Peer::begin(connect(&daemon.address("tcp")), "demo", |_| {});
    let clock = peer.control(|message| match message {
        Control::Welcome(welcome) => welcome.clock,
        other => panic!("{other:?}"),
    });
    clock.expect("the daemon answers")
}

/// Publishes and reads messages for as long as keepalives need to come and go.
struct Traffic {
    publisher: Client,
    /// says nothing but that it is there
    idle: Client,
    reader: Subscription,
    /// when each message was published: number 0 first
    at: Vec<Instant>,
}

impl Traffic {
    async fn new(daemon: &Daemon) -> Self {
        let (publisher, idle) = (client(daemon).await, client(daemon).await);
        let reader = client(daemon).await;
        let reader = reader.subscribe("count", SubscribeOptions::default()).await.expect("allowed");
        Self { publisher, idle, reader, at: Vec::new() }
    }

    /// The time of day of each message, as the daemon told it.
    async fn run(&mut self) -> Vec<Option<u64>> {
        let until = Instant::now() + Duration::from_millis(2500);
        let mut ticks = tokio::time::interval(Duration::from_millis(25));
        let mut times = Vec::new();
        while Instant::now() < until {
            ticks.tick().await;
            let payload = self.at.len().to_string();
            self.at.push(Instant::now());
            let sent = self.publisher.emit_counted("count", payload.as_bytes()).await;
            let held = self.publisher.wait(sent.expect("published"), Tier::Taken);
            timeout(DEADLINE, held).await.expect("in time").expect("taken");
            let delivery = next(&mut self.reader).await;
            assert_eq!(&*delivery.payload, payload.as_bytes(), "each once, and in order");
            times.push(delivery.unix_ms);
        }
        times
    }

    /// Asserts that no link was lost so far.
    fn assert_linked(&self, when: &str) {
        for client in [&self.publisher, &self.idle] {
            let link = client.link().borrow().clone();
            assert!(matches!(link, LinkState::Ready { .. }), "{when}: {link:?}");
        }
    }

    /// The numbers of the messages that are retained, of the last `age`.
    async fn retained(&self, age: Duration) -> Vec<usize> {
        let past = Past { count: None, age: Some(age) };
        let past = self.publisher.history("count", past).await.expect("allowed");
        let number = |delivery: &Delivery| {
            String::from_utf8_lossy(&delivery.payload).parse().expect("a number")
        };
        past.iter().map(number).collect()
    }

    /// Asserts that the messages of some seconds are there, and no older ones.
    async fn assert_retained(&self, when: &str) {
        let (age, slack) = (Duration::from_secs(4), Duration::from_secs(1));
        let retained = self.retained(age).await;
        let is_older = |number: &usize, than: Duration| self.at[*number].elapsed() > than;
        assert!(!retained.iter().any(|it| is_older(it, age + slack)), "{when}: {retained:?}");
        let mut recent = (0..self.at.len()).filter(|number| !is_older(number, age - slack));
        assert!(recent.all(|number| retained.contains(&number)), "{when}: {retained:?}");
    }
}

#[tokio::test]
async fn a_boot_in_1970_and_steps_of_ten_years_disconnect_nobody_and_stamp_right() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let Some(clock) = FakeClock::new(folder.path(), at_1970()) else { return };
    let retention = "retention = { messages = 10000, age = \"20s\", bytes_per_topic = \"1MiB\" }";
    let mut daemon = start(&clock, folder.path(), &demo_config(retention));
    daemon.wait_for("clock is not set");
    let mut traffic = Traffic::new(&daemon).await;
    assert_eq!(welcome_clock(&daemon), None);
    let times = traffic.run().await;
    assert!(times.iter().all(Option::is_none), "{times:?}");
    let before = traffic.at.len();
    // what the clock shows after each step, and what the daemon makes of it: a clock that falls behind
    // the program's own build is not believed
    let steps = [
        ("set", 0, 0),
        ("ten years ahead", TEN_YEARS, TEN_YEARS),
        ("back", 0, 0),
        ("ten years behind", -TEN_YEARS, 0),
        ("1970 again", at_1970(), 0),
        ("right", 0, 0),
    ];
    for (name, shown, believed) in steps {
        clock.set(shown);
        let is_right = |time: Option<u64>| {
            let time = time.and_then(|time| time.checked_add_signed(-believed * 1000));
            time.is_some_and(|time| from_today(time) < CLOSE)
        };
        let times = traffic.run().await;
        assert!(times.iter().all(|time| is_right(*time)), "{name}: {times:?}");
        assert!(is_right(welcome_clock(&daemon)), "{name}");
        traffic.assert_linked(name);
        traffic.assert_retained(name).await;
    }
    // what came before the clock was set has its time now
    let past = Past { count: None, age: None };
    let retained = traffic.publisher.history("count", past).await.expect("allowed");
    let early = retained.iter().filter(|delivery| {
        let number = String::from_utf8_lossy(&delivery.payload).parse::<usize>();
        number.is_ok_and(|number| number < before)
    });
    let early: Vec<_> = early.map(|delivery| delivery.unix_ms).collect();
    assert!(!early.is_empty(), "they are 16 seconds old, and kept for 20");
    let is_right =
        |time: &Option<u64>| time.is_some_and(|time| from_today(time) < Duration::from_secs(40));
    assert!(early.iter().all(is_right), "{early:?}");
    // and nothing is kept for another ten years
    clock.set(-TEN_YEARS);
    let latest = Instant::now() + DEADLINE;
    loop {
        let left = traffic.retained(Duration::from_secs(3600)).await;
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < latest, "{left:?} are still there");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    traffic.assert_linked("at the end");
}

/// An authority whose certificates hold for the days that are said, from today on.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path) -> Self {
        let mut params = valid(-3650, 3650);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("randomness");
        let certificate = params.self_signed(&key).expect("sound parameters");
        let file = folder.join("ca.pem");
        fs::write(&file, certificate.pem()).expect("written");
        Self { issuer: Issuer::new(params, key), file }
    }

    fn issue(&self, folder: &Path, name: &str, mut params: CertificateParams) -> TlsFiles {
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("randomness");
        let certificate = params.signed_by(&key, &self.issuer).expect("sound parameters");
        let path = folder.join(format!("{name}.pem"));
        fs::write(&path, certificate.pem()).expect("written");
        let key = secret_file(folder, &format!("{name}.key"), &key.serialize_pem());
        TlsFiles { ca: Some(self.file.clone()), certificate: Some(path), key: Some(key) }
    }

    fn client(&self, folder: &Path, name: &str, from: i64, to: i64) -> TlsFiles {
        let mut params = valid(from, to);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(folder, name, params)
    }

    fn server(&self, folder: &Path, from: i64, to: i64) {
        let names = vec!["127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("an address");
        let times = valid(from, to);
        (params.not_before, params.not_after) = (times.not_before, times.not_after);
        self.issue(folder, "relay", params);
    }
}

/// From so many days after today to so many days after.
fn valid(from: i64, to: i64) -> CertificateParams {
    let day = |days: i64| {
        let seconds = u64::try_from(today() + days * DAY).expect("after 1970");
        date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
    };
    let mut params = CertificateParams::default();
    (params.not_before, params.not_after) = (day(from), day(to));
    params
}

#[tokio::test]
async fn a_peers_certificate_is_judged_by_the_floor_while_the_clock_is_not_set() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    let Some(clock) = FakeClock::new(path, at_1970()) else { return };
    let authority = Authority::new(path);
    authority.server(path, -30, 30);
    // builds may be some months old
    let new = authority.client(path, "new", -300, 30);
    let later = authority.client(path, "later", 300, 330);
    let expired = authority.client(path, "expired", -700, -301);
    let identities = ["new", "later", "expired"]
        .map(|name| identity(name, &format!("certificate_name = \"{name}\"\nsubscribe = [\"#\"]")));
    secret_file(path, "credentials.toml", &identities.concat());
    let config = r#"
        board = { enabled = false }
        daemon = { state = "state" }
        access = { credentials = "credentials.toml" }
        session = [{ name = "home" }]
        [[listen]]
        kind = "tls"
        address = "127.0.0.1:0"
        certificate = "relay.pem"
        key = "relay.key"
        client_ca = "ca.pem"
        client_auth = "required"
    "#;
    // what an earlier life knew: nothing, so that the program's build is the floor; today; in ten months
    for (floor, accepted) in [(None, "new"), (Some(0), "new"), (Some(310), "later")] {
        let state = path.join("state");
        fs::create_dir_all(&state).expect("the test's folder is writable");
        if let Some(days) = floor {
            let text = format!("{}\n", today() + days * DAY);
            fs::write(state.join("time-floor"), text).expect("the test's folder is writable");
        }
        let daemon = start(&clock, path, config);
        for (name, tls) in [("new", &new), ("later", &later), ("expired", &expired)] {
            let url = daemon.url("tls");
            let options = options(&url, name, Secret::Certificate);
            let came = init(Options { tls: tls.clone(), retry_at_start: false, ..options }).await;
            assert_eq!(came.is_ok(), name == accepted, "{name}, floor {floor:?}: {:?}", came.err());
        }
    }
}

/// A central instance whose certificate is valid for those days, on a machine with the right clock.
fn central(folder: &Path, from: i64, to: i64) -> (Daemon, Authority) {
    fs::create_dir_all(folder).expect("the test's folder is writable");
    let authority = Authority::new(folder);
    authority.server(folder, from, to);
    let config = r#"
        board = { enabled = false }
        session = [{ name = "home", open = true, open_from = "any" }]
        [[listen]]
        kind = "tcp"
        address = "127.0.0.1:0"
        [[listen]]
        kind = "tls"
        address = "127.0.0.1:0"
        certificate = "relay.pem"
        key = "relay.key"
    "#;
    (Daemon::start(folder, config), authority)
}

fn gateway_config(central: &str, ca: &Path) -> String {
    format!(
        r#"
        board = {{ enabled = false }}
        daemon = {{ state = "state" }}
        listen = [{{ kind = "tcp", address = "127.0.0.1:0" }}]
        session = [{{ name = "demo", open = true }}]

        [uplink]
        central = ["{central}"]
        central_session = "home"
        ca = "{}"
        wait_for = "taken"
        retry_first = "100ms"
        retry_most = "1s"
        "#,
        ca.display()
    )
}

async fn lane(client: &Client) -> Value {
    let text = client.status().await.expect("figures");
    let figures: Value = serde_json::from_str(&text).expect("JSON");
    figures["uplink"]["lanes"]["normal"].clone()
}

#[tokio::test]
async fn a_board_without_a_clock_gets_the_time_from_the_central_instance_that_it_trusts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    let Some(clock) = FakeClock::new(path, at_1970()) else { return };
    let (central, authority) = central(&path.join("central"), -20, 20);
    let here = path.join("gateway");
    fs::create_dir_all(here.join("state")).expect("the test's folder is writable");
    fs::write(here.join("state/time-floor"), format!("{}\n", today())).expect("writable");
    let config = gateway_config(&central.url("tls"), &authority.file);
    let mut gateway = start(&clock, &here, &config);
    gateway.wait_for("clock is not set");
    gateway.wait_for("uplink ready");
    gateway.wait_for("the central instance's is used");
    let told = welcome_clock(&gateway).expect("there is a clock now");
    assert!(from_today(told) < CLOSE, "{told}");
    let device = client(&gateway).await;
    let mut reader = device.subscribe("#", SubscribeOptions::default()).await.expect("allowed");
    device.emit_counted("a", b"1").await.expect("published");
    let time = next(&mut reader).await.unix_ms.expect("there is a clock now");
    assert!(from_today(time) < CLOSE, "{time}");
    // it is the floor of the next life
    gateway.signal("TERM");
    assert_eq!(gateway.wait(), Some(0));
    let floor = fs::read_to_string(here.join("state/time-floor")).expect("it is there");
    let floor: i64 = floor.trim().parse().expect("a number");
    let age = today() - floor;
    assert!((DAY..DAY + 60).contains(&age), "a day and {} s ago", age - DAY);
}

#[tokio::test]
async fn an_expired_central_instance_is_refused_whatever_the_machines_clock_shows() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    // the day on which the certificate held
    let Some(clock) = FakeClock::new(path, -40 * DAY) else { return };
    let (central, authority) = central(&path.join("central"), -60, -30);
    let here = path.join("gateway");
    fs::create_dir_all(here.join("state")).expect("the test's folder is writable");
    fs::write(here.join("state/time-floor"), format!("{}\n", today())).expect("writable");
    let config = gateway_config(&central.url("tls"), &authority.file);
    let mut gateway = start(&clock, &here, &config);
    gateway.wait_for("clock is not set");
    gateway.wait_for("no uplink; trying again");
    let device = client(&gateway).await;
    let latest = Instant::now() + DEADLINE;
    loop {
        let figures = lane(&device).await;
        if figures["failures"]["transport"].as_u64() >= Some(2) {
            break;
        }
        assert!(Instant::now() < latest, "{figures:#}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(gateway.log().contains("xpired"), "{}", gateway.log());
}
