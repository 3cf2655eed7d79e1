//! One client connection: a non-blocking socket, and what is spoken on it.

use std::io;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::codec::Codec;
use crate::protocol::{Event, Protocol};
use crate::transport::Endpoint;

pub struct Link<P> {
    stream: TcpStream,
    codec: Codec<P>,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl<P: Protocol> Link<P> {
    /// Connects and waits until the relay has accepted the session.
    pub async fn open(
        endpoint: &Endpoint,
        proto: P,
        client_id: &str,
        input_size: usize,
    ) -> Result<Self> {
        let handshake = async {
            let stream = TcpStream::connect(endpoint.addr).await?;
            stream.set_nodelay(true)?;
            let codec = Codec::new(endpoint.transport()?, proto, input_size)?;
            let mut link = Link { stream, codec, bytes_in: 0, bytes_out: 0 };
            link.codec.proto.connect(client_id, &mut link.codec.out);
            link.until(|e| matches!(e, Event::Connected)).await?;
            anyhow::Ok(link)
        };
        match tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await {
            Ok(link) => link.with_context(|| format!("connecting {client_id}")),
            Err(_) => bail!("connecting {client_id}: no answer in {HANDSHAKE_LIMIT:?}"),
        }
    }

    /// Subscribes and waits until the relay has confirmed it.
    pub async fn subscribe(&mut self, filter: &str) -> Result<()> {
        self.codec.proto.subscribe(filter, &mut self.codec.out);
        let confirmed = self.until(|e| matches!(e, Event::Subscribed));
        match tokio::time::timeout(HANDSHAKE_LIMIT, confirmed).await {
            Ok(done) => done.with_context(|| format!("subscribing to {filter}")),
            Err(_) => bail!("subscribing to {filter}: no answer in {HANDSHAKE_LIMIT:?}"),
        }
    }

    /// Makes a topic ready for publishing, waiting for the relay where its protocol asks it.
    pub async fn declare(&mut self, name: &str) -> Result<P::Topic> {
        if let Some(topic) = self.codec.proto.declare(name, &mut self.codec.out) {
            return Ok(topic);
        }
        let mut declared = None;
        let answered = self.until(|e| match e {
            Event::Declared(number) => {
                declared = Some(*number);
                true
            }
            _ => false,
        });
        match tokio::time::timeout(HANDSHAKE_LIMIT, answered).await {
            Ok(done) => done.with_context(|| format!("opening {name}"))?,
            Err(_) => bail!("opening {name}: no answer in {HANDSHAKE_LIMIT:?}"),
        }
        let number = declared.context("an answer without a topic")?;
        self.codec.proto.declared(number).with_context(|| format!("opening {name}: id {number}"))
    }

    async fn until(&mut self, mut wanted: impl FnMut(&Event<'_>) -> bool) -> Result<()> {
        let mut seen = false;
        while !seen {
            self.flush()?;
            self.wait().await?;
            self.receive(&mut |e| seen |= wanted(&e))?;
        }
        self.flush()?;
        Ok(())
    }

    /// Waits until there is something to read, or, with unsent output, room to write.
    pub async fn wait(&self) -> io::Result<()> {
        let interest = if self.has_output() {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        self.stream.ready(interest).await.map(|_| ())
    }

    pub fn has_output(&self) -> bool {
        self.codec.has_output()
    }

    pub fn acks_end_flight(&self) -> bool {
        self.codec.proto.acks_end_flight()
    }

    pub fn may_publish(&self) -> bool {
        self.codec.proto.may_publish()
    }

    /// Appends one publish to the output.
    #[inline]
    pub fn publish(&mut self, topic: &P::Topic, payload: &[u8]) {
        self.codec.proto.encode_publish(topic, payload, &mut self.codec.out);
    }

    /// Writes what the socket takes; true once nothing is left.
    pub fn flush(&mut self) -> Result<bool> {
        loop {
            let pending = self.codec.pending()?;
            if pending.is_empty() {
                return Ok(true);
            }
            match self.stream.try_write(pending) {
                Ok(n) => {
                    self.codec.sent(n);
                    self.bytes_out += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// One read, if there is anything to read; replies that the protocol demands go to the output.
    pub fn receive(&mut self, sink: &mut impl FnMut(Event<'_>)) -> Result<bool> {
        let n = match self.stream.try_read(self.codec.room()) {
            Ok(0) => bail!("the relay closed the connection"),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(e) => return Err(e.into()),
        };
        self.bytes_in += n as u64;
        self.codec.received(n, sink)?;
        Ok(true)
    }

    /// Drops the buffers' spare room, for a connection that will stay idle.
    pub fn shrink(&mut self) {
        self.codec.shrink();
    }

    /// Makes the close a reset, which leaves no socket in TIME_WAIT behind.
    pub fn reset_on_close(&self) -> io::Result<()> {
        self.stream.set_zero_linger()
    }

    /// The socket in blocking mode, and what is spoken on it, for a thread of its own.
    pub fn into_blocking(self) -> Result<(std::net::TcpStream, Codec<P>)> {
        if self.has_output() || self.codec.has_input() {
            bail!("bytes left over from the handshake");
        }
        let stream = self.stream.into_std()?;
        stream.set_nonblocking(false)?;
        Ok((stream, self.codec))
    }
}

const HANDSHAKE_LIMIT: Duration = Duration::from_secs(20);
