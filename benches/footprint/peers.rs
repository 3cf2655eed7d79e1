//! Memory of the daemon for each idle peer, over each transport.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fastport_wire::control::{self, Control};
use fastport_wire::field::MAX_BODY;
use fastport_wire::{Frame, frame};
use futures_util::{SinkExt, StreamExt};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use crate::Failure;
use crate::process::Memory;
use crate::support::Daemon;
use crate::support::peer::Peer;

/// Figures of one transport: at each count of peers, bytes for each and how many a second came in.
pub(crate) type Figures = Vec<(u64, f64)>;

/// Lets peers come in over `scheme` until each of `counts` is reached.
pub(crate) async fn measure(
    folder: &Path,
    scheme: &'static str,
    connector: &TlsConnector,
    counts: &[u64],
) -> Result<Figures, Failure> {
    let daemon = Daemon::start(folder, CONFIG);
    let address: Arc<str> = daemon.address(scheme).into();
    let mut watcher = Peer::join(&daemon.address("tcp"), "demo");
    watcher.status();
    let mut links = Vec::new();
    // what the first ones bring is there once: the program's pages for this transport, and room for
    // as many handshakes as are under way at once
    fill(&mut links, FIRST, scheme, &address, connector).await?;
    watcher.wait_for_status("the first peers", |it| it["peers"] == FIRST as u64 + 1);
    let before = Memory::of(daemon.pid())?.proportional;
    let mut figures = Vec::new();
    for &count in counts {
        let (begun, already) = (Instant::now(), links.len());
        let wanted = FIRST + usize::try_from(count)?;
        fill(&mut links, wanted, scheme, &address, connector).await?;
        let took = begun.elapsed().as_secs_f64();
        let all = wanted as u64 + 1;
        let status = watcher.wait_for_status("all peers", |it| it["peers"] == all);
        assert_eq!(status["memory"]["refused"], 0, "the budget is for more");
        let now = Memory::of(daemon.pid())?.proportional;
        figures.push((now.saturating_sub(before) / count, (links.len() - already) as f64 / took));
    }
    Ok(figures)
}

/// Lets peers come in until there are `wanted`.
async fn fill(
    links: &mut Vec<Link>,
    wanted: usize,
    scheme: &'static str,
    address: &Arc<str>,
    connector: &TlsConnector,
) -> Result<(), Failure> {
    let mut coming = JoinSet::new();
    while links.len() + coming.len() < wanted || !coming.is_empty() {
        if coming.len() < AT_ONCE && links.len() + coming.len() < wanted {
            coming.spawn(come_in(scheme, Arc::clone(address), connector.clone()));
        } else if let Some(link) = coming.join_next().await {
            links.push(link??);
        }
    }
    Ok(())
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

/// A certificate for the daemon, in `folder`, and what trusts it.
pub(crate) fn make_certificate(folder: &Path) -> Result<TlsConnector, Failure> {
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

/// Peers before the first look.
const FIRST: usize = 200;
/// Handshakes that are under way at once; the daemon accepts 64.
const AT_ONCE: usize = 48;
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
