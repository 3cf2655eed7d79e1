//! What lies between a protocol and its socket.

use std::net::SocketAddr;

use anyhow::Result;

/// The transports that a protocol may be spoken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TransportKind {
    Tcp,
}

impl TransportKind {
    pub const ALL: [TransportKind; 1] = [TransportKind::Tcp];

    pub fn name(self) -> &'static str {
        match self {
            TransportKind::Tcp => "tcp",
        }
    }
}

/// Where a relay listens, and how it is spoken to there.
#[derive(Clone)]
pub struct Endpoint {
    pub addr: SocketAddr,
    pub kind: TransportKind,
}

impl Endpoint {
    /// A new connection's transport.
    pub fn transport(&self) -> Result<Transport> {
        match self.kind {
            TransportKind::Tcp => Ok(Transport::Tcp),
        }
    }
}

/// One connection's transport.
pub enum Transport {
    Tcp,
}

impl Transport {
    pub fn is_tcp(&self) -> bool {
        matches!(self, Transport::Tcp)
    }

    /// Whether what the protocol sends can be sealed.
    pub fn is_open(&self) -> bool {
        match self {
            Transport::Tcp => true,
        }
    }

    /// Appends what a client sends first.
    pub fn begin(&mut self, _wire: &mut Vec<u8>) {}

    /// Moves the protocol's bytes to the wire.
    pub fn seal(&mut self, _out: &mut Vec<u8>, _wire: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    /// Gives what `input` holds to `parse`, which says how much of it is used up.
    pub fn open(
        &mut self,
        input: &[u8],
        _wire: &mut Vec<u8>,
        parse: &mut impl FnMut(&[u8]) -> Result<usize>,
    ) -> Result<usize> {
        parse(input)
    }
}
