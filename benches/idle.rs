//! What an idle peer costs: memory of the release daemon for each, over each transport.
//!
//! `cargo bench --bench idle` prints a table; with `UPDATE_DOCS=1` it also goes to
//! `docs/footprint.md`. The peers are in this process, so it needs as many open files as the daemon.

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt::Write;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastport_wire::control::{self, Control};
use fastport_wire::field::MAX_BODY;
use fastport_wire::{Frame, frame};
use futures_util::{SinkExt, StreamExt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use support::peer::Peer;
use support::{Daemon, fastportd};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Peers at which memory is looked at.
const COUNTS: [u64; 2] = [1_000, 10_000];
/// Handshakes that are under way at once; the daemon accepts 64.
const AT_ONCE: usize = 48;
/// Starts of which the median is told.
const STARTS: usize = 21;
/// The transports, as schemes of URLs and as words.
const TRANSPORTS: [(&str, &str); 4] =
    [("tcp", "TCP"), ("ws", "WebSocket"), ("tls", "TLS"), ("wss", "secure WebSocket")];

fn main() -> Result<(), Failure> {
    // what cargo's test runner says to every target
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return Ok(());
    }
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let most = limit.maximum.map_or(u64::MAX, |files| files.saturating_sub(200));
    let counts: Vec<u64> = COUNTS.into_iter().filter(|&count| count <= most).collect();
    if counts.len() < COUNTS.len() {
        eprintln!("fewer peers than usual: only {most} open files here (ulimit -Hn)");
    }
    let folder = tempfile::tempdir()?;
    let connector = make_certificate(folder.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = Vec::new();
    for (scheme, name) in TRANSPORTS {
        rows.push((name, runtime.block_on(measure(folder.path(), scheme, &connector, &counts))?));
    }
    let table = table(&counts, &rows, time_to_ready(folder.path()));
    io::Write::write_all(&mut io::stdout(), table.as_bytes())?;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        update_docs(&table)?;
    }
    Ok(())
}

/// Figures of one transport.
struct Figures {
    /// Bytes of the daemon without a peer.
    alone: u64,
    /// At each count of peers: bytes for each, and how many a second came in.
    at: Vec<(u64, f64)>,
}

async fn measure(
    folder: &Path,
    scheme: &'static str,
    connector: &TlsConnector,
    counts: &[u64],
) -> Result<Figures, Failure> {
    let daemon = Daemon::start(folder, CONFIG);
    let address: Arc<str> = daemon.address(scheme).into();
    let mut watcher = Peer::join(&daemon.address("tcp"), "demo");
    watcher.status();
    let alone = proportional_set(daemon.pid())?;
    let mut links = Vec::new();
    let mut at = Vec::new();
    for &count in counts {
        let begun = Instant::now();
        let already = links.len();
        let mut coming = JoinSet::new();
        while links.len() + coming.len() < usize::try_from(count)? || !coming.is_empty() {
            if coming.len() < AT_ONCE && links.len() + coming.len() < usize::try_from(count)? {
                coming.spawn(come_in(scheme, Arc::clone(&address), connector.clone()));
            } else if let Some(link) = coming.join_next().await {
                links.push(link??);
            }
        }
        let took = begun.elapsed().as_secs_f64();
        let status = watcher.wait_for_status("all peers", |it| it["peers"] == count + 1);
        assert_eq!(status["memory"]["refused"], 0, "the budget is for more");
        let now = proportional_set(daemon.pid())?;
        at.push((now.saturating_sub(alone) / count, (links.len() - already) as f64 / took));
    }
    Ok(Figures { alone, at })
}

/// A peer that has joined and subscribed, and does nothing until it is dropped.
type Link = Box<dyn Send>;

async fn come_in(
    scheme: &str,
    address: Arc<str>,
    connector: TlsConnector,
) -> Result<Link, Failure> {
    let io = TcpStream::connect(&*address).await?;
    io.set_nodelay(true)?;
    Ok(match scheme {
        "tcp" => Box::new(join_stream(io).await?),
        "tls" => Box::new(join_stream(secure(io, connector).await?).await?),
        "ws" => Box::new(join_socket(upgrade(io, "ws").await?).await?),
        _ => Box::new(join_socket(upgrade(secure(io, connector).await?, "wss").await?).await?),
    })
}

async fn secure(
    io: TcpStream,
    connector: TlsConnector,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
    Ok(connector.connect(ServerName::try_from("localhost")?, io).await?)
}

async fn upgrade<T>(io: T, scheme: &str) -> Result<WebSocketStream<T>, Failure>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(0);
    let url = format!("{scheme}://localhost/");
    let (socket, _) = tokio_tungstenite::client_async_with_config(url, io, Some(config)).await?;
    Ok(socket)
}

async fn join_stream<T: AsyncRead + AsyncWrite + Unpin>(mut io: T) -> Result<T, Failure> {
    for message in messages() {
        io.write_all(&message).await?;
        io.flush().await?;
        let mut input = Vec::new();
        let mut buffer = [0; 512];
        while frame::split(&input, MAX_BODY)?.is_none() {
            match io.read(&mut buffer).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                length => input.extend_from_slice(&buffer[..length]),
            }
        }
        check(&input)?;
    }
    Ok(io)
}

async fn join_socket<T>(mut socket: WebSocketStream<T>) -> Result<WebSocketStream<T>, Failure>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    for message in messages() {
        socket.send(Message::binary(message)).await?;
        let answer = socket.next().await.ok_or("the link is closed")??;
        check(&answer.into_data())?;
    }
    Ok(socket)
}

/// HELLO, and SUBSCRIBE to a topic that all have in common.
fn messages() -> [Vec<u8>; 2] {
    static EPOCH: AtomicU64 = AtomicU64::new(1_000_000);
    let epoch = EPOCH.fetch_add(1, Ordering::Relaxed);
    let hello =
        control::Hello { version: control::VERSION, session: "demo", epoch, ..Default::default() };
    let subscribe = control::Subscribe { request: 1, topic: "to/all", ..Default::default() };
    [Control::from(hello), Control::from(subscribe)].map(|message| {
        let mut body = [0; 256];
        let length = message.encode(&mut body).expect("256 bytes hold these messages");
        let mut bytes = vec![0; length + 8];
        let length = Frame::Control(&body[..length]).encode(&mut bytes).expect("8 hold a head");
        bytes.truncate(length);
        bytes
    })
}

fn check(answer: &[u8]) -> Result<(), Failure> {
    let Some((Frame::Control(body), _)) = Frame::decode(answer, MAX_BODY)? else {
        return Err("no control message".into());
    };
    match Control::decode(body)? {
        Control::Welcome(_) | Control::Ok(_) => Ok(()),
        other => Err(format!("refused: {other:?}").into()),
    }
}

/// The process's share of memory, in bytes.
fn proportional_set(pid: u32) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kilobytes: u64 = kilobytes.ok_or("no Pss in smaps_rollup")?.trim().parse()?;
    Ok(kilobytes * 1024)
}

/// From starting the process to its word that it is ready: the median.
fn time_to_ready(folder: &Path) -> Duration {
    let path = folder.join("ready.toml");
    std::fs::write(&path, CONFIG).expect("the folder is ours");
    let mut times: Vec<_> = (0..STARTS)
        .map(|_| {
            let begun = Instant::now();
            let daemon = Daemon::spawn(fastportd().arg("--config").arg(&path));
            let took = begun.elapsed();
            drop(daemon);
            took
        })
        .collect();
    times.sort();
    times[STARTS / 2]
}

fn make_certificate(folder: &Path) -> Result<TlsConnector, Failure> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    std::fs::write(folder.join("cert.pem"), made.cert.pem())?;
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(made.cert.der().to_vec()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // each peer is another device
    config.resumption = rustls::client::Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn table(counts: &[u64], rows: &[(&str, Figures)], ready: Duration) -> String {
    let mut text = String::from("| transport |");
    for count in counts {
        write!(text, " bytes a peer, of {count} | peers a second |").expect(STRING);
    }
    text.push_str("\n|---|");
    text.push_str(&"--:|--:|".repeat(counts.len()));
    text.push('\n');
    for (name, figures) in rows {
        write!(text, "| {name} |").expect(STRING);
        for (bytes, rate) in &figures.at {
            write!(text, " {bytes} | {rate:.0} |").expect(STRING);
        }
        text.push('\n');
    }
    let alone = rows.iter().map(|(_, figures)| figures.alone).max().unwrap_or(0) / 1024;
    let ready = ready.as_secs_f64() * 1000.0;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let machine = std::env::consts::ARCH;
    write!(
        text,
        "\nWithout a peer: {alone} KiB. From start to ready: {ready:.1} ms. Measured on {machine}, \
         {cores} cores, which the peers had to share.\n"
    )
    .expect(STRING);
    text
}

fn update_docs(table: &str) -> Result<(), Failure> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/footprint.md");
    let text = std::fs::read_to_string(path)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("no begin mark in docs/footprint.md")?;
    let (_, after) = rest.split_once(END).ok_or("no end mark in docs/footprint.md")?;
    std::fs::write(path, format!("{before}{BEGIN}\n{table}{END}{after}"))?;
    Ok(())
}

const BEGIN: &str = "<!-- benches/idle.rs writes from here -->";
const END: &str = "<!-- to here -->";
const STRING: &str = "a String takes all that is written";
const CONFIG: &str = r#"
listen = [
    { kind = "tcp", address = "127.0.0.1:0" },
    { kind = "websocket", address = "127.0.0.1:0" },
    { kind = "tls", address = "127.0.0.1:0", certificate = "cert.pem", key = "key.pem" },
    { kind = "websocket-tls", address = "127.0.0.1:0", certificate = "cert.pem", key = "key.pem" },
]
board.enabled = false
limits.peers = 20000
limits.memory = "64MiB"
"#;
