//! The daemon's certificates, keys and ciphers: which are taken, and how they change.

#[path = "../support/trusting.rs"]
mod trusting;

use std::fs;
use std::sync::Arc;

use rustls_pki_types::ServerName;

use self::trusting::trusting;
use super::reload;
use super::support::peer::{Peer, connect};
use super::support::{Daemon, fastportd, folder, run, write};

#[test]
fn certificates_and_keys_that_cannot_be_used_are_named() {
    let folder = folder();
    let pair = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
        let made = made.expect("the name is one");
        (made.cert.pem(), made.signing_key.serialize_pem())
    };
    let ((cert, key), (_, other_key)) = (pair(), pair());
    write(folder.path(), "good.pem", &cert);
    write(folder.path(), "good.key", &key);
    write(folder.path(), "other.key", &other_key);
    write(folder.path(), "text.pem", "not PEM\n");
    fs::create_dir(folder.path().join("folder.key")).expect("the folder is writable");
    for (cert, key, wanted) in [
        ("missing.pem", "good.key", "missing.pem: "),
        ("good.pem", "missing.key", "missing.key: "),
        ("good.pem", "folder.key", "folder.key: "),
        ("text.pem", "good.key", "text.pem: holds no certificate"),
        ("good.pem", "text.pem", "text.pem: holds no private key"),
        ("good.pem", "other.key", "certificate and key: "),
    ] {
        let text = format!(
            "[[listen]]\nkind = \"tls\"\naddress = \"127.0.0.1:0\"\n\
             certificate = \"{cert}\"\nkey = \"{key}\"\n"
        );
        let path = write(folder.path(), "gateway.toml", &text);
        let (status, _, err) = run(fastportd().arg("--config").arg(&path));
        assert_eq!(status, Some(69), "{cert} {key}: {err}");
        assert!(err.contains(wanted), "{cert} {key}: {err}");
    }
}

#[test]
fn the_configured_cipher_is_taken_whichever_a_peer_has_first() {
    let folder = folder();
    let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]);
    let made = made.expect("the name is one");
    write(folder.path(), "a.pem", &made.cert.pem());
    write(folder.path(), "a.key", &made.signing_key.serialize_pem());
    let provider = rustls::crypto::ring::default_provider();
    let first = provider.cipher_suites.first().expect("ring has some").suite();
    assert!(format!("{first:?}").contains("AES"), "{first:?}");
    let client = trusting([made.cert.der().clone()]);
    for (ciphers, expected) in [("chacha20", "CHACHA20"), ("aes", "AES")] {
        let text = format!(
            "daemon.ciphers = \"{ciphers}\"\nboard.enabled = false\n[[listen]]\nkind = \"tls\"\n\
             address = \"127.0.0.1:0\"\ncertificate = \"a.pem\"\nkey = \"a.key\"\n"
        );
        let daemon = Daemon::start(folder.path(), &text);
        let name = ServerName::try_from("a.example").expect("a host's name");
        let mut session =
            rustls::ClientConnection::new(Arc::clone(&client), name).expect("it is set up");
        let mut link = connect(&daemon.address("tls"));
        while session.is_handshaking() {
            session.complete_io(&mut link).expect("the handshake succeeds");
        }
        let suite = session.negotiated_cipher_suite().expect("there is one").suite();
        assert!(format!("{suite:?}").contains(expected), "{ciphers}: {suite:?}");
    }
}

#[test]
fn a_reload_changes_the_certificate_and_a_bad_one_leaves_the_old() {
    let folder = folder();
    let mut authorities = Vec::new();
    for name in ["a", "b"] {
        let made = rcgen::generate_simple_self_signed([format!("{name}.example")]);
        let made = made.expect("the name is one");
        write(folder.path(), &format!("{name}.pem"), &made.cert.pem());
        write(folder.path(), &format!("{name}.key"), &made.signing_key.serialize_pem());
        authorities.push(made.cert.der().clone());
    }
    let client = trusting(authorities);
    let text = |name: &str| {
        format!(
            "board.enabled = false\n[[listen]]\nkind = \"tls\"\naddress = \"127.0.0.1:0\"\n\
             certificate = \"{name}.pem\"\nkey = \"{name}.key\"\n"
        )
    };
    let mut daemon = Daemon::start(folder.path(), &text("a"));
    let address = daemon.address("tls");
    let join = |name: &str| {
        let name = ServerName::try_from(format!("{name}.example")).expect("a host's name");
        let session =
            rustls::ClientConnection::new(Arc::clone(&client), name).expect("it is set up");
        let link = rustls::StreamOwned::new(session, connect(&address));
        Peer::join_as(link, "demo", |_| {})
    };
    let mut early = join("a");
    reload(&mut daemon, folder.path(), &text("b"), 1);
    join("b").subscribe("a");
    reload(&mut daemon, folder.path(), &text("missing"), 2);
    daemon.wait_for("certificate not reloaded; the old one stays in use");
    join("b").subscribe("a");
    early.subscribe("a");
}
