//! The tool over TLS: whom it trusts, and its own certificate.

use std::path::Path;

use super::support::{Daemon, demo_config, folder};
use super::{PLAIN, carries_both_ways, fails, path_of, text, write_secret};

#[test]
fn every_transport_with_certificates_carries_both_ways() {
    let folder = folder();
    let Authority { certificate, key, ca, .. } = &Authority::write(folder.path());
    let listeners = ["tls", "websocket-tls"].map(|kind| {
        format!(
            "[[listen]]\nkind = \"{kind}\"\naddress = \"127.0.0.1:0\"\n\
             certificate = \"{certificate}\"\nkey = \"{key}\"\n"
        )
    });
    let daemon = Daemon::start(folder.path(), &(demo_config(PLAIN) + &listeners.concat()));
    for scheme in ["tls", "wss"] {
        carries_both_ways(&daemon.url(scheme), scheme, &["--ca", ca]);
    }
    let url = daemon.url("tls");
    fails(&url, &["status"], 69, "TLS");
    fails(&url.replace("tls:", "tcp:"), &["status"], 69, "");
}

#[test]
fn a_certificate_is_a_proof() {
    let folder = folder();
    let authority = Authority::write(folder.path());
    let credentials = path_of(&folder, "credentials.toml");
    write_secret(
        &credentials,
        "[[session]]\nname = \"home\"\n[[identity]]\nsession = \"home\"\nid = \"valve\"\n\
         certificate_name = \"valve\"\npublish = [\"#\"]\nsubscribe = [\"#\"]\n",
    );
    let Authority { certificate, key, ca, client, client_key } = &authority;
    let config = format!(
        "[[listen]]\nkind = \"tls\"\naddress = \"127.0.0.1:0\"\ncertificate = \"{certificate}\"\n\
         key = \"{key}\"\nclient_ca = \"{ca}\"\nclient_auth = \"optional\"\n\
         [access]\ncredentials = \"{credentials}\"\n[board]\nenabled = false\n"
    );
    let daemon = Daemon::start(folder.path(), &config);
    let url = daemon.url("tls");
    let trusted: &[&str] = &["--ca", ca, "--session", "home", "--id", "valve"];
    let shown: &[&str] = &["--cert", client, "--cert-key", client_key];
    text(&url, &[&["pub", "a", "x", "--wait", "taken"], trusted, shown].concat());
    fails(&url, &[&["pub", "a", "x"], trusted].concat(), 77, "");
    fails(&url, &[&["status"], trusted, &["--cert", client]].concat(), 64, "--cert-key");
}

/// Certificates of one authority, in files.
struct Authority {
    ca: String,
    certificate: String,
    key: String,
    client: String,
    client_key: String,
}

impl Authority {
    fn write(folder: &Path) -> Self {
        let ca_key = rcgen::KeyPair::generate().expect("a key");
        let mut ca = rcgen::CertificateParams::default();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca_certificate = ca.self_signed(&ca_key).expect("signed");
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let issue = |name: &str, hosts: &[&str]| {
            let key = rcgen::KeyPair::generate().expect("a key");
            let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
            let mut parameters = rcgen::CertificateParams::new(hosts).expect("names");
            parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
            let certificate = parameters.signed_by(&key, &issuer).expect("signed");
            (certificate.pem(), key.serialize_pem())
        };
        let (certificate, key) = issue("gateway", &["127.0.0.1", "localhost"]);
        let (client, client_key) = issue("valve", &[]);
        let write = |name: &str, text: &str| {
            let path = folder.join(name).to_str().expect("UTF-8").to_owned();
            write_secret(&path, text);
            path
        };
        Self {
            ca: write("ca.pem", &ca_certificate.pem()),
            certificate: write("gateway.pem", &certificate),
            key: write("gateway.key", &key),
            client: write("valve.pem", &client),
            client_key: write("valve.key", &client_key),
        }
    }
}
