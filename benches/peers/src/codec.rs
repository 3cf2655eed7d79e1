//! One client's side of one connection, without its socket: the protocol, the transport under it,
//! and the bytes between them that wait to be parsed or to be sent.

use anyhow::Result;

use crate::protocol::{Event, Protocol};
use crate::transport::Transport;

/// What a driver feeds with what it read, and asks for what to write.
pub struct Codec<P> {
    transport: Transport,
    pub proto: P,
    input: Vec<u8>,
    /// `0 <= filled <= input.len()`
    filled: usize,
    /// What the protocol wants sent; on TCP also what is on its way to the socket.
    pub out: Vec<u8>,
    /// `out` as the transport has it; unused on TCP, where both are the same bytes.
    wire: Vec<u8>,
    /// How much of `out` (TCP) or `wire` (else) the socket has.
    flushed: usize,
}

impl<P: Protocol> Codec<P> {
    pub fn new(mut transport: Transport, proto: P, input_size: usize) -> Result<Self> {
        let mut wire = Vec::new();
        transport.begin(&mut wire)?;
        Ok(Codec {
            transport,
            proto,
            input: vec![0; input_size],
            filled: 0,
            out: Vec::new(),
            wire,
            flushed: 0,
        })
    }

    /// Where to read the next bytes to: never empty.
    pub fn room(&mut self) -> &mut [u8] {
        if self.filled == self.input.len() {
            self.input.resize((self.input.len() * 2).max(MIN_INPUT), 0);
        }
        &mut self.input[self.filled..]
    }

    /// Takes in `n` bytes that were read to `room`; replies that the protocol or the transport
    /// demands go to the output.
    #[inline]
    pub fn received(&mut self, n: usize, sink: &mut impl FnMut(Event<'_>)) -> Result<()> {
        self.filled += n;
        let input = &self.input[..self.filled];
        let used = if self.transport.is_tcp() {
            self.proto.parse(input, &mut self.out, sink)?
        } else {
            self.transport.open(input, &mut self.wire, &mut |plain| {
                Ok(self.proto.parse(plain, &mut self.out, sink)?)
            })?
        };
        self.proto.after_read(&mut self.out);
        self.input.copy_within(used..self.filled, 0);
        self.filled -= used;
        Ok(())
    }

    /// The bytes that the socket should get now.
    #[inline]
    pub fn pending(&mut self) -> Result<&[u8]> {
        if self.transport.is_tcp() {
            return Ok(&self.out[self.flushed..]);
        }
        self.transport.seal(&mut self.out, &mut self.wire)?;
        Ok(&self.wire[self.flushed..])
    }

    /// The socket took `n` of the pending bytes.
    #[inline]
    pub fn sent(&mut self, n: usize) {
        self.flushed += n;
        let bytes = if self.transport.is_tcp() { &mut self.out } else { &mut self.wire };
        if self.flushed == bytes.len() {
            bytes.clear();
            self.flushed = 0;
        }
    }

    /// Whether a write is owed.
    #[inline]
    pub fn has_output(&self) -> bool {
        !self.wire.is_empty() || !self.out.is_empty() && self.transport.is_open()
    }

    /// Whether bytes wait that are no whole frame yet.
    pub fn has_input(&self) -> bool {
        self.filled > 0
    }

    /// Drops the buffers' spare room, for a connection that will stay idle.
    pub fn shrink(&mut self) {
        self.input.truncate(self.filled);
        self.input.shrink_to_fit();
        self.out.shrink_to_fit();
        self.wire.shrink_to_fit();
        if let Transport::Tls(tls) = &mut self.transport {
            tls.shrink();
        }
    }
}

const MIN_INPUT: usize = 64;
