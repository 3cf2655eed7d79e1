//! A hub with one way into it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastport::config::Config;
#[cfg(feature = "websocket")]
use fastport::config::Origins;
use fastport::guard::{Credentials, Gate};
use fastport::hub::{Hub, Room};
#[cfg(feature = "tls")]
use fastport::link::TlsSource;
#[cfg(feature = "websocket")]
use fastport::link::serve_websocket_pipe;
use fastport::link::{
    Door, Faults, Faulty, Limits, Listener, Permission, Transport, bind_tcp, bind_unix,
    memory_link, serve_pipe,
};
use fastport::status::Status;
use fastport_core::retention::Retention;
use fastport_core::session;
use fastport_wire::control::WhenFull;
#[cfg(feature = "tls")]
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::peer::{DEADLINE, Io, Pipe};
#[cfg(feature = "tls")]
use super::tls;
#[cfg(feature = "websocket")]
use super::websocket;

/// The transports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    /// The relay's end of a memory link splits and puts off what it reads and writes.
    Faulty,
    Tcp,
    Unix,
    #[cfg(feature = "tls")]
    Tls,
    #[cfg(feature = "websocket")]
    WebSocket,
    /// As [`Kind::Faulty`], with a WebSocket over it.
    #[cfg(feature = "websocket")]
    FaultyWebSocket,
    #[cfg(all(feature = "tls", feature = "websocket"))]
    WebSocketTls,
}

pub(crate) struct Site {
    pub(crate) hub: Arc<Hub>,
    pub(crate) room: Arc<Room>,
    door: Arc<Door>,
    kind: Kind,
    /// `host:port`, or a socket's path
    address: String,
    #[cfg(feature = "tls")]
    certificate: Option<CertificateDer<'static>>,
    links: JoinSet<()>,
    stop: watch::Sender<bool>,
    /// timers
    _helpers: JoinSet<()>,
    _folder: TempDir,
}

pub(crate) const LIMITS: Limits =
    Limits { handshakes: 16, handshake_timeout: Duration::from_secs(10) };
/// Bytes of an outbox: ten thousand small messages fit.
pub(crate) const OUTBOX: usize = 256 * 1024;
/// Bytes of a payload.
pub(crate) const PAYLOAD: usize = 64 * 1024;

impl Site {
    pub(crate) async fn open(kind: Kind) -> Self {
        Self::open_with(kind, LIMITS).await
    }

    pub(crate) async fn open_with(kind: Kind, limits: Limits) -> Self {
        let status = Arc::new(Status::default());
        let (hub, mut rooms) = Hub::new(16 * 1024 * 1024, 100, session_limits(), status);
        let room = hub.open_room("demo", session_limits()).expect("the first of that name");
        let mut helpers = JoinSet::new();
        let timer = rooms.recv().await.expect("the hub is there");
        helpers.spawn(async move { timer.run_timer().await });
        let door = Door::new(
            Arc::clone(&hub),
            Gate::new(&Config::default(), Credentials::default()).expect("randomness"),
            limits,
        );
        let folder = tempfile::tempdir().expect("a folder can be made");
        let mut site = Self {
            hub,
            room,
            door,
            kind,
            address: String::new(),
            #[cfg(feature = "tls")]
            certificate: None,
            links: JoinSet::new(),
            stop: watch::Sender::new(false),
            _helpers: helpers,
            _folder: folder,
        };
        if let Some(listener) = site.listener(kind) {
            let (_, address) = listener.url().split_once(':').map_or_else(
                || panic!("{} is a URL", listener.url()),
                |(scheme, rest)| (scheme.to_owned(), rest.trim_start_matches("//").to_owned()),
            );
            site.address = if kind == Kind::Unix { address } else { address.replace('/', "") };
            site.listen(listener);
        }
        site
    }

    fn listener(&mut self, kind: Kind) -> Option<Listener> {
        let transport = match kind {
            Kind::Memory | Kind::Faulty => return None,
            #[cfg(feature = "websocket")]
            Kind::FaultyWebSocket => return None,
            Kind::Unix => {
                let path = self._folder.path().join("peers.sock");
                return Some(
                    bind_unix(&path, Permission { mode: 0o600, group: None })
                        .expect("the folder is ours"),
                );
            }
            Kind::Tcp => Transport::Plain,
            #[cfg(feature = "tls")]
            Kind::Tls => Transport::Tls(self.make_tls()),
            #[cfg(feature = "websocket")]
            Kind::WebSocket => Transport::WebSocket(Arc::new(Origins::default())),
            #[cfg(all(feature = "tls", feature = "websocket"))]
            Kind::WebSocketTls => {
                Transport::WebSocketTls(self.make_tls(), Arc::new(Origins::default()))
            }
        };
        let any = "127.0.0.1:0".parse().expect("an address");
        Some(bind_tcp(any, transport).expect("a port is free"))
    }

    /// Lets a listener into this site's hub.
    pub(crate) fn listen(&mut self, listener: Listener) {
        self.links.spawn(listener.run(Arc::clone(&self.door), self.stop.subscribe()));
    }

    #[cfg(feature = "tls")]
    fn make_tls(&mut self) -> Arc<TlsSource> {
        let (source, certificate) = tls::make(self._folder.path());
        self.certificate = Some(certificate);
        source
    }

    /// Makes a link.
    pub(crate) async fn dial(&mut self) -> Pipe {
        let io = self.connect().await;
        self.prepare(io, |io| io).await
    }

    /// Makes a link whose bytes are split and put off at the peer's end.
    pub(crate) async fn dial_faulty(&mut self, faults: Faults) -> Pipe {
        let io = self.connect().await;
        self.prepare(io, |io| Box::new(Faulty::new(io, faults))).await
    }

    /// Makes a link of which the transport itself has not said anything yet.
    pub(crate) async fn connect(&mut self) -> Box<dyn Io> {
        match self.kind {
            Kind::Memory => {
                let (io, link) = memory_link(&self.door, 64 * 1024);
                self.links.spawn(link);
                Box::new(io)
            }
            Kind::Faulty => self.connect_faulty(),
            #[cfg(feature = "websocket")]
            Kind::FaultyWebSocket => self.connect_faulty(),
            Kind::Unix => Box::new(UnixStream::connect(&self.address).await.expect("it listens")),
            _ => {
                let io = TcpStream::connect(&self.address).await.expect("it listens");
                io.set_nodelay(true).expect("TCP has it");
                Box::new(io)
            }
        }
    }

    fn connect_faulty(&mut self) -> Box<dyn Io> {
        let seed = self.links.len() as u64;
        self.connect_over(Faults { seed, longest: 1000, put_off_one_in: 3, cut_below: None })
    }

    /// Makes a memory link whose relay's end is faulty.
    pub(crate) fn connect_over(&mut self, faults: Faults) -> Box<dyn Io> {
        let (theirs, ours) = tokio::io::duplex(4096);
        let (door, ours) = (Arc::clone(&self.door), Faulty::new(ours, faults));
        if matches!(self.kind, Kind::Memory | Kind::Faulty) {
            self.links.spawn(serve_pipe(door, ours));
        } else {
            #[cfg(feature = "websocket")]
            self.links.spawn(serve_websocket_pipe(door, ours));
        }
        Box::new(theirs)
    }

    /// Does what a transport wants done first; what comes behind it goes through `change`.
    async fn prepare(
        &self,
        io: Box<dyn Io>,
        change: impl FnOnce(Box<dyn Io>) -> Box<dyn Io>,
    ) -> Pipe {
        #[cfg(feature = "tls")]
        let io: Box<dyn Io> = match &self.certificate {
            Some(certificate) => Box::new(tls::connect(io, certificate).await),
            None => io,
        };
        match self.kind {
            #[cfg(feature = "websocket")]
            Kind::WebSocket | Kind::FaultyWebSocket => websocket::connect(io, change).await,
            #[cfg(all(feature = "tls", feature = "websocket"))]
            Kind::WebSocketTls => websocket::connect(io, change).await,
            #[cfg(feature = "tls")]
            Kind::Tls => Pipe::Stream(change(io)),
            Kind::Memory | Kind::Faulty | Kind::Tcp | Kind::Unix => Pipe::Stream(change(io)),
        }
    }

    /// Stops as the daemon does.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
        self.hub.close_guests(fastport_wire::control::ByeReason::ShuttingDown, 1000, |_| 1000);
    }

    /// Waits for all links to be over.
    pub(crate) async fn ended(&mut self) {
        let ended = async { while self.links.join_next().await.is_some() {} };
        tokio::time::timeout(DEADLINE, ended).await.expect("links end in time");
    }

    /// Waits until that many peers have a seat.
    pub(crate) async fn wait_for_peers(&self, wanted: usize) {
        self.wait_until("seats", |room| room.figures().peers == wanted).await;
        assert_eq!(self.hub.status().peers.get(), wanted as u64);
    }

    /// Waits for something that links bring about.
    pub(crate) async fn wait_until(&self, what: &str, is_so: impl Fn(&Room) -> bool) {
        let until = Instant::now() + DEADLINE;
        while !is_so(&self.room) {
            assert!(Instant::now() < until, "{what}: {:?}", self.room.figures());
            tokio::task::yield_now().await;
        }
    }
}

fn session_limits() -> session::Limits {
    session::Limits {
        peers: 100,
        topics: 100,
        outbox: OUTBOX,
        payload: PAYLOAD,
        subscriptions: 10,
        open_topics: 10,
        keepalive: 60,
        linger: 60,
        gateway_linger: 600,
        stall_ms: 30_000,
        streams: session::StreamLimits::DEFAULT,
        sealed: false,
        retention: Retention { messages: 0, age_ms: 0, bytes: 0 },
        when_full: WhenFull::DropOldest,
    }
}
