//! What the tests of access share: credentials files, the tool, clients that say why they were
//! refused, and frames by hand.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::panic,
    reason = "each test uses a part of it, and fails by panicking"
)]

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fastport_client::{Client, ConnectError, Fault, Options, RequestError, Secret, Target, init};
use fastport_wire::control::{Control, ErrorCode, Hello, VERSION};
use fastport_wire::{Frame, field};

use super::support::DEADLINE;

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
    let output = Command::new(program)
        .args(arguments)
        .env_remove("FASTPORT_URL")
        .env_remove("FASTPORT_SESSION")
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
    Hello { version: VERSION, session: "home", epoch: 7, ..Hello::default() }
}

/// A link on which a test says what it likes.
pub struct Raw<S = TcpStream> {
    stream: S,
    input: Vec<u8>,
}

impl Raw {
    /// Connects to `host:port`.
    pub fn connect(address: &str) -> Self {
        Self::over(TcpStream::connect(address).expect("the relay listens"))
    }

    /// As [`Raw::connect`], with a small receive buffer: what is not read stays at the relay.
    pub fn connect_small(address: &str) -> Self {
        let address: SocketAddr = address.parse().expect("the relay tells an address");
        let (domain, kind) = (socket2::Domain::for_address(address), socket2::Type::STREAM);
        let socket = socket2::Socket::new(domain, kind, None).expect("sockets can be had");
        // before connecting: the window is agreed on there
        socket.set_recv_buffer_size(16 * 1024).expect("any size is taken");
        socket.connect(&address.into()).expect("the relay listens");
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket");
        Self { stream, input: Vec::new() }
    }

    /// Does what `wrap` does with the connection.
    pub fn wrapped<S>(self, wrap: impl FnOnce(TcpStream) -> S) -> Raw<S> {
        Raw { stream: wrap(self.stream), input: self.input }
    }
}

impl<S: Read + Write> Raw<S> {
    /// Sends bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the relay reads");
    }

    /// Sends a control message.
    pub fn send<'a>(&mut self, message: impl Into<Control<'a>>) {
        self.write(&control(message));
    }

    /// The next frame, as `look` sees it; `None`: the relay has closed the link.
    pub fn frame<T>(&mut self, look: impl FnOnce(Frame<'_>) -> T) -> Option<T> {
        loop {
            if let Some((frame, length)) =
                Frame::decode(&self.input, field::MAX_BODY).expect("a frame")
            {
                let seen = look(frame);
                self.input.drain(..length);
                return Some(seen);
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                // TLS says so when it is closed without its own goodbye
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The next control message, as `look` sees it; other frames are passed over.
    pub fn control<T>(&mut self, look: impl Fn(&Control<'_>) -> T) -> Option<T> {
        loop {
            let seen = self.frame(|frame| match frame {
                Frame::Control(body) => Some(look(&Control::decode(body).expect("a message"))),
                _ => None,
            })?;
            if seen.is_some() {
                return seen;
            }
        }
    }

    /// Waits for WELCOME.
    pub fn welcomed(&mut self) {
        let is_welcome = self.control(|message| matches!(message, Control::Welcome(_)));
        assert_eq!(is_welcome, Some(true), "not let in");
    }

    /// Waits for the ERROR that ends the link, and its end.
    pub fn refused(&mut self) -> ErrorCode {
        let code = self.control(|message| match message {
            Control::Error(error) => ErrorCode::from_number(error.code),
            other => panic!("{other:?}"),
        });
        let code = code.flatten().expect("the relay says why");
        assert!(self.frame(|_| ()).is_none(), "the link goes on");
        code
    }

    /// Waits for the answer to a request: the id of an OK.
    pub fn answer(&mut self) -> Result<Option<u32>, ErrorCode> {
        let answer = self.control(|message| match message {
            Control::Ok(ok) => Ok(ok.id),
            Control::Error(error) => Err(ErrorCode::from_number(error.code).expect("known")),
            other => panic!("{other:?}"),
        });
        answer.expect("the link holds")
    }
}

/// The bytes of a control message's frame.
pub fn control<'a>(message: impl Into<Control<'a>>) -> Vec<u8> {
    let mut body = [0; 2048];
    let length = message.into().encode(&mut body).expect("2048 bytes are enough");
    encode(&Frame::Control(&body[..length]))
}

/// The bytes of a frame.
pub fn encode(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = vec![0; frame.encoded_len()];
    let length = frame.encode(&mut bytes).expect("as long as it says");
    bytes.truncate(length);
    bytes
}
