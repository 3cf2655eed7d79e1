//! Accepting links: cheaply, and not more than can be welcomed.

use std::fs::Permissions;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use std::{fmt, fs};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::door::{Door, Permit, Presence};
use super::drive::{Carrier, Drive};
use super::tls::{self, TlsSource};
use super::{stream, websocket};
use crate::config::Origins;
use crate::guard::{Origin, Visit};
use crate::supervise::turn::{Part, Turns};

/// What runs over a listener's connections.
#[derive(Debug, Clone)]
pub enum Transport {
    /// Frames as they are.
    Plain,
    /// Frames in TLS.
    Tls(Arc<TlsSource>),
    /// WebSocket.
    WebSocket(Arc<Origins>),
    /// WebSocket in TLS.
    WebSocketTls(Arc<TlsSource>, Arc<Origins>),
}

impl Transport {
    /// Its name in logs, and as a URL's scheme.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Plain => "tcp",
            Self::Tls(_) => "tls",
            Self::WebSocket(_) => "ws",
            Self::WebSocketTls(..) => "wss",
        }
    }
}

/// What runs over a listener's connections from now on, also while it runs: for reloads.
#[derive(Debug, Clone)]
pub struct TransportHandle(Arc<RwLock<Transport>>);

impl TransportHandle {
    fn new(transport: Transport) -> Self {
        Self(Arc::new(RwLock::new(transport)))
    }

    /// Uses `transport` for the connections that come from now on.
    pub fn set(&self, transport: Transport) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = transport;
    }

    /// What is in use.
    #[must_use]
    pub fn get(&self) -> Transport {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A bound socket, and what runs over its connections.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    transport: TransportHandle,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    /// `is_ours`: the path goes with the socket
    Unix {
        socket: UnixListener,
        path: PathBuf,
        is_ours: bool,
    },
}

/// A socket cannot be bound.
#[derive(Debug)]
pub struct BindError {
    /// Where.
    pub place: String,
    /// Why.
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, error } = self;
        write!(f, "cannot listen on {place}: {error}")?;
        match error.kind() {
            io::ErrorKind::AddrInUse => f.write_str(
                "; another program (or another fastportd) has it: stop that, or give another address",
            ),
            io::ErrorKind::PermissionDenied => {
                f.write_str("; use a port from 1024 on, or a folder that the daemon may write")
            }
            io::ErrorKind::AddrNotAvailable => {
                f.write_str("; no interface of this machine has that address")
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for BindError {}

/// Binds a TCP socket.
///
/// # Errors
/// [`BindError`].
pub fn bind_tcp(address: SocketAddr, transport: Transport) -> Result<Listener, BindError> {
    let bind = || {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        // a restart does not wait for the old connections' TIME_WAIT
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    match bind() {
        Ok(socket) => Ok(Listener::on_tcp(socket, transport)),
        Err(error) => Err(BindError { place: format!("{}://{address}", transport.name()), error }),
    }
}

/// Uses a TCP socket that listens already. Call it in the runtime.
///
/// # Errors
/// [`BindError`].
pub fn adopt_tcp(
    socket: std::net::TcpListener,
    transport: Transport,
) -> Result<Listener, BindError> {
    match TcpListener::from_std(socket) {
        Ok(socket) => Ok(Listener::on_tcp(socket, transport)),
        Err(error) => {
            Err(BindError { place: format!("an inherited {} socket", transport.name()), error })
        }
    }
}

/// Uses a Unix socket that listens already; its path and permissions are those of whoever made it,
/// and stay. Call it in the runtime.
///
/// # Errors
/// [`BindError`].
pub fn adopt_unix(
    socket: std::os::unix::net::UnixListener,
    path: &Path,
) -> Result<Listener, BindError> {
    let adopted = UnixListener::from_std(socket);
    adopted.map(|socket| Listener::on_unix(socket, path, false)).map_err(|error| BindError {
        place: format!("the inherited unix:{}", path.display()),
        error,
    })
}

/// Binds a Unix socket with `mode`, and `group` where given; a socket that nobody listens on any
/// more is replaced.
///
/// # Errors
/// [`BindError`].
pub fn bind_unix(path: &Path, mode: u32, group: Option<u32>) -> Result<Listener, BindError> {
    let bind = || {
        remove_stale(path)?;
        let socket = UnixListener::bind(path)?;
        if let Some(group) = group {
            std::os::unix::fs::chown(path, None, Some(group))?;
        }
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        Ok(socket)
    };
    match bind() {
        Ok(socket) => Ok(Listener::on_unix(socket, path, true)),
        Err(error) => Err(BindError { place: format!("unix:{}", path.display()), error }),
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(_) => fs::remove_file(path),
    }
}

impl Listener {
    fn on_tcp(socket: TcpListener, transport: Transport) -> Self {
        Self { socket: Socket::Tcp(socket), transport: TransportHandle::new(transport) }
    }

    fn on_unix(socket: UnixListener, path: &Path, is_ours: bool) -> Self {
        let socket = Socket::Unix { socket, path: path.to_owned(), is_ours };
        Self { socket, transport: TransportHandle::new(Transport::Plain) }
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.socket {
            Socket::Tcp(socket) => match socket.local_addr() {
                Ok(address) => format!("{}://{address}", self.transport.get().name()),
                Err(error) => format!("{}://? ({error})", self.transport.get().name()),
            },
            Socket::Unix { path, .. } => format!("unix:{}", path.display()),
        }
    }

    /// For changing what runs over its connections.
    #[must_use]
    pub fn transport(&self) -> TransportHandle {
        self.transport.clone()
    }

    /// Accepts links until `stop` is set, and closes its socket then. What it accepted goes on: see
    /// [`Door::emptied`].
    pub async fn run(self, door: Arc<Door>, mut stop: watch::Receiver<bool>) {
        // accepted without a place among the handshakes: a listener that waits for a connection
        // must not hold a place that another one needs
        let mut waiting = None;
        loop {
            tokio::select! {
                accepted = self.accept(&door), if waiting.is_none() => waiting = accepted,
                permit = door.permit(), if waiting.is_some() => {
                    if let Some(accepted) = waiting.take() {
                        self.carry(&door, accepted, permit);
                    }
                }
                // a sender that is gone says stop, too
                _ = stop.wait_for(|&stop| stop) => break,
            }
        }
    }

    /// Accepts one connection; `None`: it was not to be.
    ///
    /// Cancel-safe: a connection that is accepted is given without another wait.
    async fn accept(&self, door: &Door) -> Option<Accepted> {
        let accepted = match &self.socket {
            Socket::Tcp(socket) => socket.accept().await.map(|(io, address)| {
                let origin = Origin::network(address, self.transport.get().name());
                (Io::Tcp(io), origin)
            }),
            Socket::Unix { socket, .. } => socket.accept().await.map(|(io, _)| {
                let uid = io.peer_cred().map(|credentials| credentials.uid()).ok();
                (Io::Unix(io), Origin::local("unix", uid))
            }),
        };
        match accepted {
            Ok((io, origin)) => {
                door.status().accepted.add(1);
                let visit = door.gate.admit(&origin, door.hub.clock().mono());
                if !visit.as_ref().is_some_and(Visit::has_place) {
                    door.status().turned_away.add(1);
                    debug!(%origin, told = visit.is_some(), "too many links from its address");
                }
                visit.map(|visit| Accepted { io, origin, visit })
            }
            Err(error) => {
                pause_after(door, &error).await;
                None
            }
        }
    }

    /// Lets a link in that has its place among the handshakes.
    fn carry(&self, door: &Arc<Door>, accepted: Accepted, permit: Permit) {
        let (transport, door) = (self.transport.get(), Arc::clone(door));
        let presence = Presence::new(Arc::clone(&door));
        tokio::spawn(async move {
            let entered = pin!(enter(door, accepted, transport, permit));
            Turns::new(Part::Handshake, entered).await;
            drop(presence);
        });
    }
}

/// Carries a link that is in its session, in a task of its own: the handshake's state is many times
/// an idle link's, and soon gone.
fn go_on<C: Carrier + Unpin + Send + 'static>(entered: Option<Drive<C>>) {
    if let Some(link) = entered {
        tokio::spawn(link);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Socket::Unix { path, is_ours: true, .. } = &self.socket {
            // what is left behind is replaced at the next start
            fs::remove_file(path).unwrap_or_default();
        }
    }
}

/// A connection, and its place among those of its address.
struct Accepted {
    io: Io,
    origin: Origin,
    visit: Visit,
}

enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Takes a link from its first byte into its session, where there is a way.
async fn enter(
    door: Arc<Door>,
    Accepted { io, origin, visit }: Accepted,
    transport: Transport,
    permit: Permit,
) {
    let io = match io {
        Io::Unix(io) => return go_on(stream::enter(door, io, origin, permit, visit).await),
        Io::Tcp(io) => io,
    };
    if let Err(error) = io.set_nodelay(true) {
        debug!(%origin, %error, "no TCP_NODELAY");
    }
    match transport {
        Transport::Plain => go_on(stream::enter(door, io, origin, permit, visit).await),
        Transport::WebSocket(origins) => {
            go_on(Box::pin(websocket::enter(door, io, origin, permit, visit, origins)).await);
        }
        Transport::Tls(source) => {
            let accepted = Box::pin(tls::accept(&door, io, origin, &source, &permit)).await;
            let Some((io, origin)) = accepted else { return };
            go_on(Box::pin(stream::enter(door, io, origin, permit, visit)).await);
        }
        Transport::WebSocketTls(source, origins) => {
            let accepted = Box::pin(tls::accept(&door, io, origin, &source, &permit)).await;
            let Some((io, origin)) = accepted else { return };
            go_on(Box::pin(websocket::enter(door, io, origin, permit, visit, origins)).await);
        }
    }
}

async fn pause_after(door: &Door, error: &io::Error) {
    door.status().accept_errors.add(1);
    // of that connection, not of the listener
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    if door.status().accept_errors.get() == 1 {
        warn!(%error, "cannot accept a connection; more of these are counted, not logged");
    }
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;
/// Without file descriptors there is nothing to do but wait for some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_path_of_a_socket_that_somebody_else_holds_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("peers.sock");
        let held = std::os::unix::net::UnixListener::bind(&path).expect("the folder is ours");
        let given = held.try_clone().expect("it is open");
        given.set_nonblocking(true).expect("it is a socket");
        let listener = adopt_unix(given, &path).expect("it listens");
        assert_eq!(listener.url(), format!("unix:{}", path.display()));
        drop(listener);
        std::os::unix::net::UnixStream::connect(&path)
            .expect("who connects while it restarts waits");
        drop(held);
        // what the daemon bound itself goes with it
        drop(bind_unix(&path, 0o600, None).expect("the old one is stale"));
        assert!(!path.exists());
    }

    /// Times ten thousand: tokio adds 96 bytes to it, and rounds to 128.
    #[test]
    fn an_idle_tcp_link_is_a_task_of_256_bytes() {
        let bytes = size_of::<Drive<stream::Stream<TcpStream>>>();
        assert!(bytes <= 160, "{bytes}");
    }
}
