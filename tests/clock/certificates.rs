//! Whether a certificate is valid, on a machine that does not know the time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastport_client::{Client, Options, Secret, SubscribeOptions, TlsFiles, init};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde_json::Value;
use tokio::time::Instant;

use super::access::{identity, options, secret_file};
use super::support::{DEADLINE, Daemon};
use super::time_travel::{FakeClock, at_1970, from_today, today};
use super::{CLOSE, DAY, client, next, start, welcome_clock};

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

/// A gateway whose clock is not set, and whose last life knew today.
fn start_with_floor(clock: &FakeClock, here: &Path, central: &Daemon, authority: &Path) -> Daemon {
    fs::create_dir_all(here.join("state")).expect("the test's folder is writable");
    fs::write(here.join("state/time-floor"), format!("{}\n", today())).expect("writable");
    let config = gateway_config(&central.url("tls"), authority);
    let mut gateway = start(clock, here, &config);
    gateway.wait_for("clock is not set");
    gateway
}

#[tokio::test]
async fn a_board_without_a_clock_gets_the_time_from_the_central_instance_that_it_trusts() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    let Some(clock) = FakeClock::new(path, at_1970()) else { return };
    let (central, authority) = central(&path.join("central"), -20, 20);
    let here = path.join("gateway");
    let mut gateway = start_with_floor(&clock, &here, &central, &authority.file);
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
    let mut gateway = start_with_floor(&clock, &path.join("gateway"), &central, &authority.file);
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
