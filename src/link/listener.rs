//! Accepting links: cheaply, and not more than can be welcomed.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use std::{fs, io};

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

impl Listener {
    pub(super) fn on_tcp(socket: TcpListener, transport: Transport) -> Self {
        Self { socket: Socket::Tcp(socket), transport: TransportHandle::new(transport) }
    }

    pub(super) fn on_unix(socket: UnixListener, path: &Path, is_ours: bool) -> Self {
        let socket = Socket::Unix { socket, path: path.to_owned(), is_ours };
        Self { socket, transport: TransportHandle::new(Transport::Plain) }
    }

    /// Leaves the path of a Unix socket where it is when the listener ends: somebody else holds the socket.
    pub fn leave_path(&mut self) {
        if let Socket::Unix { is_ours, .. } = &mut self.socket {
            *is_ours = false;
        }
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

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Socket::Tcp(socket) => socket.as_fd(),
            Socket::Unix { socket, .. } => socket.as_fd(),
        }
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

/// Without file descriptors there is nothing to do but wait for some.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// Times ten thousand: tokio adds 96 bytes to it, and rounds to 128.
    #[test]
    fn an_idle_tcp_link_is_a_task_of_256_bytes() {
        let bytes = size_of::<Drive<stream::Stream<TcpStream>>>();
        assert!(bytes <= 160, "{bytes}");
    }
}
