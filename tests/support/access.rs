//! What the tests of access share: credentials files, the tool, and clients that say why they were
//! refused.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::panic,
    reason = "each test uses a part of it, and fails by panicking"
)]

use std::fs::{self, Permissions};
use std::net::{IpAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fastport_client::{Client, ConnectError, Fault, Options, RequestError, Secret, Target, init};
use fastport_wire::control::{ErrorCode, Hello};

use super::support::{DEADLINE, peer, without_settings};

/// The hash of `password`, cheap to check: from the test vectors of argon2's reference
/// implementation.
pub const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ\
                        $nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

/// Writes a file that only its owner reads.
pub fn secret_file(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("the test's folder is writable");
    set_mode(&path, 0o600);
    path
}

/// Gives a file that mode.
pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("the file is ours");
}

/// An identity of session `home` as it stands in the credentials file; `keys` are TOML.
pub fn identity(id: &str, keys: &str) -> String {
    format!("[[identity]]\nsession = \"home\"\nid = \"{id}\"\n{keys}\n")
}

/// As [`identity`], with the password `password` and everything allowed.
pub fn person(id: &str) -> String {
    identity(
        id,
        &format!("password = \"{HASH}\"\npublish = [\"#\"]\nsubscribe = [\"#\", \"$board/#\"]"),
    )
}

/// What became of a program.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code.
    pub code: Option<i32>,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// Runs `fastport` to its end.
pub fn tool(arguments: &[&str]) -> Ended {
    run(env!("CARGO_BIN_EXE_fastport"), arguments)
}

/// Runs `fastportd` to its end: with `--check`, or where it cannot start.
pub fn daemon(arguments: &[&str]) -> Ended {
    run(env!("CARGO_BIN_EXE_fastportd"), arguments)
}

fn run(program: &str, arguments: &[&str]) -> Ended {
    let output = without_settings(Command::new(program))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binaries are built");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    Ended { code: output.status.code(), out, err }
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().expect("temporary folders have names in UTF-8")
}

/// A client of session `home` that tries once, and does not come back when its link ends.
pub fn options(url: &str, identity: &str, secret: Secret) -> Options {
    Options {
        identity: identity.to_owned(),
        secret,
        reconnect: false,
        retry_at_start: false,
        allow_plain_password: true,
        init_timeout: DEADLINE,
        connect_timeout: DEADLINE,
        ..Options::new(Target::parse(url).expect("a URL"), "home")
    }
}

/// The secret of a password.
pub fn password(text: &str) -> Secret {
    Secret::Password(text.as_bytes().into())
}

/// Connects as `identity` with a password.
pub async fn log_in(url: &str, identity: &str, text: &str) -> Result<Client, ConnectError> {
    init(options(url, identity, password(text))).await
}

/// Connects without credentials.
pub async fn join(url: &str, session: &str) -> Result<Client, ConnectError> {
    init(Options { session: session.to_owned(), ..options(url, "", Secret::None) }).await
}

/// The code of a refusal; fails for any other end.
pub fn refusal<T>(outcome: Result<T, ConnectError>) -> ErrorCode {
    match outcome {
        Ok(_) => panic!("let in"),
        Err(ConnectError::Fault(Fault::Refused { code: Some(code), .. })) => code,
        Err(error) => panic!("{error:?}"),
    }
}

/// The code that a request was refused with; fails for any other answer.
pub fn denied<T>(answer: Result<T, RequestError>) -> ErrorCode {
    match answer {
        Ok(_) => panic!("allowed"),
        Err(RequestError::Refused(refused)) => refused.code.expect("a code of this version"),
        Err(error) => panic!("{error:?}"),
    }
}

/// A number of the relay's figures.
pub async fn figure(client: &Client, name: &str) -> u64 {
    let text = client.status().await.expect("the link holds");
    let figures: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    figures[name].as_u64().unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Asks the relay until a figure is at least `least`.
pub async fn wait_for_figure(client: &Client, name: &str, least: u64) {
    let waiting = async { while figure(client, name).await < least {} };
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    waited.unwrap_or_else(|_| panic!("{name} does not reach {least}"));
}

/// An address of this machine that is no loopback; `None`: it has none.
pub fn own_address() -> Option<IpAddr> {
    // connecting a datagram socket sends nothing: the kernel chooses the address to send from
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// The URL of a `tcp` listener at all addresses, by that address.
pub fn url_at(address: IpAddr, listener: &str) -> String {
    let port = listener.rsplit_once(':').expect("host and port").1;
    format!("tcp://{address}:{port}")
}

/// A HELLO of session `home`, method `open`, without identity.
pub fn hello() -> Hello<'static> {
    peer::hello("home")
}
