//! Device keys: each side proves to the other that it has the key, and a recorded proof proves
//! nothing.

#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
mod support;

use fastport_client::{ConnectError, Fault, Secret, init};
use fastport_core::proof::{self, NONCE_BYTES, Side, Transcript};
use fastport_wire::Frame;
use fastport_wire::control::{
    Challenge, Control, ErrorCode, Hello, Method, Proof, VERSION, Welcome,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use self::access::{hello, identity, options, refusal, secret_file};
use self::support::Daemon;
use self::support::peer::{Peer, control_frame};

const KEY: [u8; 32] = [7; 32];
const NONCE: [u8; NONCE_BYTES] = [3; NONCE_BYTES];

fn start(folder: &tempfile::TempDir, limits: &str) -> Daemon {
    let keys = format!("key = \"{}\"\npublish = [\"#\"]\nsubscribe = [\"#\"]", "07".repeat(32));
    secret_file(folder.path(), "credentials.toml", &identity("pump", &keys));
    let config = format!(
        r#"
        limits = {{ {limits} }}
        board = {{ enabled = false }}
        access = {{ credentials = "credentials.toml" }}
        listen = [{{ kind = "tcp", address = "127.0.0.1:0" }}]
        session = [{{ name = "home" }}]
        "#
    );
    Daemon::start(folder.path(), &config)
}

fn key(bytes: [u8; 32]) -> Secret {
    Secret::Key(Box::new(bytes))
}

fn key_hello() -> Hello<'static> {
    let method = Some(Method::DeviceKey.number());
    Hello { identity: Some("pump"), method, nonce: Some(&NONCE), ..hello() }
}

fn transcript(relay_nonce: &[u8]) -> Transcript<'_> {
    Transcript { session: "home", identity: "pump", epoch: 7, peer_nonce: &NONCE, relay_nonce }
}

#[tokio::test]
async fn who_has_the_key_comes_in_and_others_do_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = start(&folder, "");
    let url = daemon.url("tcp");
    let client = init(options(&url, "pump", key(KEY))).await.expect("the key is right");
    client.emit("pump/state", b"on").await.expect("allowed");
    for (id, bytes) in [("pump", [8; 32]), ("pump", [0; 32]), ("nobody", KEY)] {
        let code = refusal(init(options(&url, id, key(bytes))).await);
        assert_eq!(code, ErrorCode::NotAuthenticated, "{id}");
    }
}

#[test]
fn a_recorded_proof_proves_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = start(&folder, "");
    let challenged = || {
        let mut raw = Peer::dial(&daemon.address("tcp"));
        raw.send(key_hello());
        let nonce = raw.control(|message| match message {
            Control::Challenge(challenge) => {
                assert_eq!(challenge.method, Method::DeviceKey.number());
                challenge.nonce.expect("a nonce").to_vec()
            }
            other => panic!("{other:?}"),
        });
        (raw, nonce.expect("the relay answers"))
    };
    let (mut first, nonce) = challenged();
    let recorded = proof::prove(&KEY, Side::Peer, &transcript(&nonce));
    first.send(Proof { proof: &recorded, ..Proof::default() });
    let of_relay = first.control(|message| match message {
        Control::Welcome(welcome) => welcome.proof.expect("the relay proves itself").to_vec(),
        other => panic!("{other:?}"),
    });
    let of_relay = of_relay.expect("the proof is right");
    assert!(proof::verify(&KEY, Side::Relay, &transcript(&nonce), &of_relay));

    // the same HELLO again, epoch and nonce and all
    let (mut second, other) = challenged();
    assert_ne!(nonce, other, "the relay's nonce is new for each link");
    second.send(Proof { proof: &recorded, ..Proof::default() });
    assert_eq!(second.refused(), ErrorCode::NotAuthenticated);
    // nor does what the relay itself proved, of this or of another link
    for recorded in [&of_relay[..], &[], &[0; 32]] {
        let (mut third, _) = challenged();
        third.send(Proof { proof: recorded, ..Proof::default() });
        assert_eq!(third.refused(), ErrorCode::NotAuthenticated);
    }
}

#[tokio::test]
async fn a_relay_without_the_key_is_not_believed() {
    for pretence in [Pretence::NoProof, Pretence::WrongProof, Pretence::Echo, Pretence::NoQuestion]
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("tcp://{}", listener.local_addr().expect("bound"));
        let mut relay = JoinSet::new();
        relay.spawn(async move {
            let (link, _) = listener.accept().await.expect("the client comes");
            pretend(link, pretence).await;
        });
        let outcome = init(options(&url, "pump", key(KEY))).await;
        let error = outcome.err().unwrap_or_else(|| panic!("{pretence:?} was believed"));
        let is_known = matches!(error, ConnectError::Fault(Fault::RelayNotProven));
        assert!(is_known, "{pretence:?}: {error:?}");
        assert!(error.is_fatal());
    }
}

#[tokio::test]
async fn a_relay_that_wants_a_password_instead_gets_none() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("tcp://{}", listener.local_addr().expect("bound"));
    let mut relay = JoinSet::new();
    relay.spawn(async move {
        let (mut link, _) = listener.accept().await.expect("the client comes");
        next_message(&mut link, &mut Vec::new()).await;
        let method = Method::Password.number();
        let question = control_frame(Challenge { method, ..Challenge::default() });
        link.write_all(&question).await.expect("the client reads");
        let mut rest = Vec::new();
        link.read_to_end(&mut rest).await.map(|_| rest).unwrap_or_default()
    });
    let error = init(options(&url, "pump", key(KEY))).await.err().expect("not let in");
    assert!(matches!(error, ConnectError::Fault(Fault::WrongMethod)), "{error:?}");
    let said = relay.join_next().await.expect("one task").expect("no panic");
    assert!(said.is_empty(), "{said:x?}");
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Pretence {
    NoProof,
    WrongProof,
    /// Gives the client its own proof back.
    Echo,
    /// Lets the client in at once.
    NoQuestion,
}

async fn pretend(mut link: TcpStream, pretence: Pretence) {
    let mut input = Vec::new();
    next_message(&mut link, &mut input).await;
    let mut echoed = Vec::new();
    if pretence != Pretence::NoQuestion {
        let method = Method::DeviceKey.number();
        let question = Challenge { method, nonce: Some(&NONCE), ..Challenge::default() };
        link.write_all(&control_frame(question)).await.expect("the client reads");
        echoed = next_message(&mut link, &mut input).await;
    }
    let proof = match pretence {
        Pretence::NoProof | Pretence::NoQuestion => None,
        Pretence::WrongProof => Some(&[9; 32][..]),
        Pretence::Echo => Some(&echoed[..]),
    };
    let welcome = Welcome { version: VERSION, payload_limit: 1024, proof, ..Welcome::default() };
    link.write_all(&control_frame(welcome)).await.expect("the client reads");
    // until the client has had enough
    link.read_to_end(&mut input).await.map(|_| ()).unwrap_or_default();
}

/// Reads a control message; the proof in it.
async fn next_message(link: &mut TcpStream, input: &mut Vec<u8>) -> Vec<u8> {
    loop {
        if let Ok(Some((Frame::Control(body), length))) = Frame::decode(input, 1024) {
            let proof = match Control::decode(body) {
                Ok(Control::Proof(proof)) => proof.proof.to_vec(),
                _ => Vec::new(),
            };
            input.drain(..length);
            return proof;
        }
        let read = link.read_buf(input).await.expect("the client speaks");
        assert!(read > 0, "the client went away");
    }
}

#[tokio::test]
async fn devices_that_come_back_together_are_not_taken_for_guessers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = start(&folder, "source = { failed_proofs = 1, failed_proofs_burst = 2 }");
    let url = daemon.url("tcp");
    // all have said who they are before any proves it
    let mut waiting: Vec<(Peer, Vec<u8>)> = (0..20)
        .map(|_| {
            let mut raw = Peer::dial(&daemon.address("tcp"));
            raw.send(key_hello());
            let nonce = raw.control(|message| match message {
                Control::Challenge(challenge) => challenge.nonce.expect("a nonce").to_vec(),
                other => panic!("{other:?}"),
            });
            (raw, nonce.expect("the relay answers"))
        })
        .collect();
    for (raw, nonce) in &mut waiting {
        let proof = proof::prove(&KEY, Side::Peer, &transcript(nonce));
        raw.send(Proof { proof: &proof, ..Proof::default() });
        raw.welcomed();
    }
    // and those who do guess are found out as ever
    for _ in 0..2 {
        let code = refusal(init(options(&url, "pump", key([8; 32]))).await);
        assert_eq!(code, ErrorCode::NotAuthenticated);
    }
    let code = refusal(init(options(&url, "pump", key(KEY))).await);
    assert_eq!(code, ErrorCode::RateLimited);
}
