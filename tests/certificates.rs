//! Client certificates, by fingerprint and by name; and the relay's own, renewed on disk.

#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
mod support;
#[path = "support/trusting.rs"]
mod trusting;

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fastport_client::{Client, ConnectError, Options, Secret, TlsFiles, init};
use fastport_wire::control::{ErrorCode, Hello, Method};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use self::access::{HASH, hello, identity, options, password, refusal, secret_file};
use self::support::peer::{Peer, connect};
use self::support::{DEADLINE, Daemon};
use self::trusting::trusting;

/// An authority whose certificate is in a file.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("randomness");
        let certificate = params.self_signed(&key).expect("sound parameters");
        let file = folder.join(format!("{name}.pem"));
        fs::write(&file, certificate.pem()).expect("written");
        Self { issuer: Issuer::new(params, key), file }
    }

    /// A client's certificate; its files and its fingerprint.
    fn client(&self, folder: &Path, name: &str) -> (TlsFiles, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let issued = self.issue(folder, &format!("client-{}", name.replace('.', "-")), &params);
        let certificate = fs::read_to_string(&issued.0).expect("readable");
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
        let fingerprint = Sha256::digest(&der).iter().map(|byte| format!("{byte:02x}")).collect();
        let files = TlsFiles { ca: None, certificate: Some(issued.0), key: Some(issued.1) };
        (files, fingerprint)
    }

    /// The relay's certificate, in the files that its configuration names.
    fn server(&self, folder: &Path) {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
        self.issue(folder, "relay", &params);
    }

    fn issue(&self, folder: &Path, name: &str, params: &CertificateParams) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("randomness");
        let certificate = params.signed_by(&key, &self.issuer).expect("sound parameters");
        let files = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        fs::write(&files.0, certificate.pem()).expect("written");
        secret_file(folder, &format!("{name}.key"), &key.serialize_pem());
        files
    }
}

fn config(client_auth: &str) -> String {
    let tls = format!(
        r#"certificate = "relay.pem", key = "relay.key", client_ca = "clients.pem", client_auth = "{client_auth}""#
    );
    format!(
        r#"
        board = {{ enabled = false }}
        access = {{ credentials = "credentials.toml" }}
        listen = [
            {{ kind = "tls", address = "127.0.0.1:0", {tls} }},
            {{ kind = "websocket-tls", address = "127.0.0.1:0", {tls} }},
            {{ kind = "tcp", address = "127.0.0.1:0" }},
        ]
        session = [{{ name = "home" }}, {{ name = "lobby", open = true }}]
        "#
    )
}

async fn show(url: &str, id: &str, tls: &TlsFiles, ca: &Authority) -> Result<Client, ConnectError> {
    let tls = TlsFiles { ca: Some(ca.file.clone()), ..tls.clone() };
    init(Options { tls, ..options(url, id, Secret::Certificate) }).await
}

#[tokio::test]
async fn a_certificate_is_known_by_its_fingerprint_or_by_its_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    let (own, clients) = (Authority::new(path, "relays"), Authority::new(path, "clients"));
    own.server(path);
    let (tablet, fingerprint) = clients.client(path, "tablet");
    let (gateway, _) = clients.client(path, "gateway-7.example.org");
    let (stranger, _) = clients.client(path, "stranger");
    let filters = "publish = [\"of/%d/#\"]\nsubscribe = [\"#\"]";
    let identities = [
        identity("tablet", &format!("certificate = \"{fingerprint}\"\n{filters}")),
        identity("gateway-7", &format!("certificate_name = \"gateway-7.example.org\"\n{filters}")),
        identity("anna", &format!("password = \"{HASH}\"")),
    ];
    secret_file(path, "credentials.toml", &identities.concat());
    let daemon = Daemon::start(path, &config("optional"));
    for scheme in ["tls", "wss"] {
        let url = daemon.url(scheme);
        for (files, id) in [(&tablet, "tablet"), (&gateway, "gateway-7")] {
            let client = show(&url, id, files, &own).await.expect("a known certificate");
            client.emit(&format!("of/{id}/state"), b"on").await.expect("its own topic");
            assert!(client.emit("of/other/state", b"on").await.is_err(), "not its own");
            // its certificate says who it is
            let client = show(&url, "", files, &own).await.expect("a known certificate");
            client.emit(&format!("of/{id}/state"), b"on").await.expect("its own topic");
        }
        for (files, id) in [
            (&tablet, "gateway-7"),
            (&gateway, "tablet"),
            (&tablet, "anna"),
            (&stranger, "stranger"),
            (&stranger, ""),
        ] {
            let code = refusal(show(&url, id, files, &own).await);
            assert_eq!(code, ErrorCode::NotAuthenticated, "{id}");
        }
        // who has none may prove itself otherwise
        let tls = TlsFiles { ca: Some(own.file.clone()), ..TlsFiles::default() };
        let anna = Options { tls, ..options(&url, "anna", password("password")) };
        let anna = Options { allow_plain_password: false, ..anna };
        init(anna).await.expect("the password is right, and protected");
        // and a certificate is no password
        let tls = TlsFiles { ca: Some(own.file.clone()), ..stranger.clone() };
        let wrong = Options { tls, ..options(&url, "anna", password("wrong")) };
        assert_eq!(refusal(init(wrong).await), ErrorCode::NotAuthenticated);
    }
    // nobody shows one without showing it
    let (method, identity) = (Some(Method::Certificate.number()), Some("tablet"));
    let claim = Hello { method, identity, ..hello() };
    let mut plain = Peer::dial(&daemon.address("tcp"));
    plain.send(claim);
    assert_eq!(plain.refused(), ErrorCode::MethodNotAllowed);
    let mut encrypted = Peer::silent(without_certificate(connect(&daemon.address("tls")), &own));
    encrypted.send(claim);
    assert_eq!(encrypted.refused(), ErrorCode::MethodNotAllowed);
}

fn without_certificate(
    stream: TcpStream,
    ca: &Authority,
) -> StreamOwned<ClientConnection, TcpStream> {
    let ca = CertificateDer::from_pem_file(&ca.file).expect("a certificate");
    let name = "127.0.0.1".try_into().expect("an address");
    let connection = ClientConnection::new(trusting([ca]), name).expect("a sound configuration");
    StreamOwned::new(connection, stream)
}

#[tokio::test]
async fn where_a_certificate_is_required_nobody_comes_without_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    let (own, clients) = (Authority::new(path, "relays"), Authority::new(path, "clients"));
    own.server(path);
    let (tablet, fingerprint) = clients.client(path, "tablet");
    // the same name from an authority of somebody else's
    let (forged, _) = Authority::new(path, "others").client(path, "gateway-7.example.org");
    let keys = "publish = [\"#\"]\nsubscribe = [\"#\"]";
    let identities = identity("tablet", &format!("certificate = \"{fingerprint}\"\n{keys}"))
        + &identity("gateway-7", &format!("certificate_name = \"gateway-7.example.org\"\n{keys}"))
        + &identity("anna", &format!("password = \"{HASH}\""));
    secret_file(path, "credentials.toml", &identities);
    let daemon = Daemon::start(path, &config("required"));
    let url = daemon.url("tls");
    show(&url, "tablet", &tablet, &own).await.expect("a known certificate");
    let tls = TlsFiles { ca: Some(own.file.clone()), ..TlsFiles::default() };
    let nothing_shown = [
        init(Options { tls: tls.clone(), ..options(&url, "anna", password("password")) }).await,
        init(Options { tls, session: "lobby".into(), ..options(&url, "", Secret::None) }).await,
        show(&url, "gateway-7", &forged, &own).await,
    ];
    for outcome in nothing_shown {
        let Err(error) = outcome else { panic!("let in") };
        let is_tls = matches!(error, ConnectError::Tls { .. } | ConnectError::Lost(_));
        assert!(is_tls, "{error:?}");
    }
    // with a certificate any proof will do
    let tls = TlsFiles { ca: Some(own.file.clone()), ..tablet.clone() };
    let anna = Options { tls, ..options(&url, "anna", password("password")) };
    init(anna).await.expect("the password is right");
    // and a client that does not know the relay's authority goes no further
    let Err(error) = show(&url, "tablet", &tablet, &clients).await else { panic!("believed") };
    assert!(matches!(error, ConnectError::Tls { is_fatal: true, .. }), "{error:?}");
}

#[tokio::test]
async fn a_certificate_that_is_renewed_on_disk_is_used_without_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    let (old, new) = (Authority::new(path, "old"), Authority::new(path, "new"));
    Authority::new(path, "clients");
    old.server(path);
    secret_file(path, "credentials.toml", &identity("anna", &format!("password = \"{HASH}\"")));
    let mut daemon = Daemon::start(path, &config("optional"));
    let url = daemon.url("tls");
    let log_in = |ca: &Authority| {
        let tls = TlsFiles { ca: Some(ca.file.clone()), ..TlsFiles::default() };
        init(Options { tls, ..options(&url, "anna", password("password")) })
    };
    let before = log_in(&old).await.expect("the old certificate");
    assert!(log_in(&new).await.is_err(), "the new one is not there yet");

    // half of a renewal is none
    let key = fs::read(path.join("relay.key")).expect("readable");
    new.server(path);
    let new_key = fs::read(path.join("relay.key")).expect("readable");
    fs::write(path.join("relay.key"), &key).expect("written");
    daemon.signal("HUP");
    daemon.wait_for("certificate not reloaded");
    log_in(&old).await.expect("the old one stays in use");

    fs::write(path.join("relay.key"), &new_key).expect("written");
    let mut turns = tokio::time::interval(Duration::from_millis(50));
    let renewed = async {
        while log_in(&new).await.is_err() {
            turns.tick().await;
        }
    };
    timeout(DEADLINE, renewed).await.expect("new connections find it");
    assert!(log_in(&old).await.is_err(), "the old one is not used any more");
    before.status().await.expect("links that are there stay");
}
