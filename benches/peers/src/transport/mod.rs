//! What lies between a protocol and its socket: nothing, WebSocket messages, or TLS records.
//!
//! Sans-I/O like the protocols: it moves bytes from one buffer to another.

pub mod tls;
pub mod websocket;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use rustls::ClientConfig;

use self::tls::Tls;
use self::websocket::WebSocket;

/// The transports that a protocol may be spoken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TransportKind {
    Tcp,
    WebSocket,
    Tls,
}

impl TransportKind {
    pub const ALL: [TransportKind; 3] =
        [TransportKind::Tcp, TransportKind::WebSocket, TransportKind::Tls];

    pub fn name(self) -> &'static str {
        match self {
            TransportKind::Tcp => "tcp",
            TransportKind::WebSocket => "websocket",
            TransportKind::Tls => "tls",
        }
    }
}

/// Where a relay listens, and how it is spoken to there.
#[derive(Clone)]
pub struct Endpoint {
    pub addr: SocketAddr,
    pub dialect: Dialect,
}

/// How the transport of a new connection is made.
#[derive(Clone)]
pub enum Dialect {
    Tcp,
    WebSocket,
    Tls(Arc<ClientConfig>),
}

impl Endpoint {
    /// A new connection's transport.
    pub fn transport(&self) -> Result<Transport> {
        Ok(match &self.dialect {
            Dialect::Tcp => Transport::Tcp,
            Dialect::WebSocket => Transport::WebSocket(WebSocket::new(self.addr)),
            Dialect::Tls(config) => Transport::Tls(Box::new(Tls::new(config)?)),
        })
    }
}

/// One connection's transport.
pub enum Transport {
    Tcp,
    WebSocket(WebSocket),
    Tls(Box<Tls>),
}

impl Transport {
    #[inline]
    pub fn is_tcp(&self) -> bool {
        matches!(self, Transport::Tcp)
    }

    /// Whether what the protocol sends can be sealed.
    pub fn is_open(&self) -> bool {
        match self {
            // rustls keeps what is sealed early until its handshake is over
            Transport::Tcp | Transport::Tls(_) => true,
            Transport::WebSocket(socket) => socket.is_open(),
        }
    }

    /// Appends what a client sends first.
    pub fn begin(&mut self, wire: &mut Vec<u8>) -> Result<()> {
        match self {
            Transport::Tcp => {}
            Transport::WebSocket(socket) => socket.ask(wire),
            Transport::Tls(tls) => tls.write(wire)?,
        }
        Ok(())
    }

    /// Moves what the protocol wants sent to the wire, as one message where there are messages.
    pub fn seal(&mut self, out: &mut Vec<u8>, wire: &mut Vec<u8>) -> Result<()> {
        if out.is_empty() || !self.is_open() {
            return Ok(());
        }
        match self {
            Transport::Tcp => wire.append(out),
            Transport::WebSocket(socket) => {
                socket.seal(out, wire);
                out.clear();
            }
            Transport::Tls(tls) => {
                tls.seal(out, wire)?;
                out.clear();
            }
        }
        Ok(())
    }

    /// Gives the plain bytes in `input` to `parse`, which says how many of them it used up. Returns
    /// how much of `input` is used up; what the transport itself answers goes to `wire`.
    pub fn open(
        &mut self,
        input: &[u8],
        wire: &mut Vec<u8>,
        parse: &mut impl FnMut(&[u8]) -> Result<usize>,
    ) -> Result<usize> {
        match self {
            Transport::Tcp => parse(input),
            Transport::WebSocket(socket) => socket.open(input, wire, parse),
            Transport::Tls(tls) => {
                tls.open(input, wire, parse)?;
                Ok(input.len())
            }
        }
    }
}
