//! Links that carry frames one after another: TCP, TLS, Unix sockets, and pipes in tests.
//!
//! What is read goes through a scratch buffer of the thread, so that a link that is idle owns none.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tracing::debug;

use super::door::{Door, Permit};
use super::drive::{Carrier, Desk, Drive, Event, Turn, Written};
use super::handshake::{Failure, Frames, shake};
use crate::guard::{Origin, Visit};

/// Takes a link from its first byte into its session; `None`: it is over.
pub(super) async fn enter<T>(
    door: Arc<Door>,
    io: T,
    origin: Origin,
    permit: Permit,
    visit: Visit,
) -> Option<Drive<Stream<T>>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut stream = Stream { io };
    let Some(admitted) = shake(&door, &mut stream, &origin, &permit, &visit).await else {
        // the refusal is written; what is left of the time is for its arrival
        let closed = tokio::time::timeout_at(permit.until, stream.close(None, true)).await;
        debug!(%origin, in_order = closed.is_ok(), "refused link closed");
        return None;
    };
    Some(Drive::new(door, stream, admitted, visit))
}

/// Ends a transport. Where it `waits`, what was written arrives also at a peer that is still
/// sending: a socket closed with unread bytes is reset, and then the peer may lose what it has not
/// read.
pub(super) async fn end<T>(io: &mut T, waits: bool) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    io.shutdown().await?;
    let mut left = if waits { SENT_IN_VAIN } else { 0 };
    poll_fn(|cx| {
        SCRATCH.with_borrow_mut(|scratch| {
            while left > 0 {
                let mut buffer = ReadBuf::new(&mut scratch[..]);
                ready!(Pin::new(&mut *io).poll_read(cx, &mut buffer))?;
                match buffer.filled().len() {
                    0 => break,
                    length => left = left.saturating_sub(length),
                }
            }
            Poll::Ready(Ok(()))
        })
    })
    .await
}

pub(super) struct Stream<T> {
    io: T,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Frames for Stream<T> {
    async fn receive(&mut self, input: &mut Vec<u8>) -> Result<(), Failure> {
        let mut buffer = [0; 512];
        match self.io.read(&mut buffer).await? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            length => {
                input.extend_from_slice(buffer.get(..length).unwrap_or_default());
                Ok(())
            }
        }
    }

    async fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        self.io.write_all(frames).await?;
        self.io.flush().await
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Carrier for Stream<T> {
    fn poll_write(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> (usize, Written) {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match Pin::new(&mut self.io).poll_write(cx, rest) {
                Poll::Ready(Ok(0)) => {
                    return (written, Written::Failed(io::ErrorKind::WriteZero.into()));
                }
                Poll::Ready(Ok(length)) => written += length,
                Poll::Ready(Err(error)) => return (written, Written::Failed(error)),
                Poll::Pending => return (written, Written::Part),
            }
        }
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(Ok(())) => (written, Written::All),
            Poll::Ready(Err(error)) => (written, Written::Failed(error)),
            Poll::Pending => (written, Written::Part),
        }
    }

    fn poll_read(&mut self, desk: &mut Desk, door: &Door, cx: &mut Context<'_>) -> Poll<Turn> {
        SCRATCH.with_borrow_mut(|scratch| {
            // a frame longer than half the scratch buffer is put together beside it
            let is_long = desk.pending.bytes().len() > SCRATCH_BYTES / 2;
            let start = if is_long { 0 } else { desk.pending.copy_to(&mut scratch[..]) };
            let end = start + desk.pending.room(SCRATCH_BYTES - start);
            let mut buffer = ReadBuf::new(scratch.get_mut(start..end).unwrap_or_default());
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer));
            let length = buffer.filled().len();
            if let Err(error) = &read {
                debug!(%error, "link lost in reading");
            }
            if read.is_err() || length == 0 {
                return Poll::Ready(Turn::Over(Event::Finished));
            }
            door.status().bytes_in.add(length as u64);
            let bytes = scratch.get(..start + length).unwrap_or_default();
            Poll::Ready(if is_long {
                desk.handle_long(bytes, door)
            } else {
                desk.pending.expect(bytes.len());
                desk.handle(bytes, door)
            })
        })
    }

    async fn close(mut self, last: Option<&[u8]>, waits: bool) -> io::Result<()> {
        if let Some(last) = last {
            self.io.write_all(last).await?;
        }
        end(&mut self.io, waits).await
    }
}

thread_local! {
    /// What all links of the thread read into: none of them keeps anything in it.
    pub(super) static SCRATCH: RefCell<Box<[u8; SCRATCH_BYTES]>> = RefCell::new(Box::new([0; SCRATCH_BYTES]));
}

/// As much as a socket gives at once when its peer is fast.
pub(super) const SCRATCH_BYTES: usize = 64 * 1024;
/// What a peer may still send to a link that is over: as much as sockets hold on the way.
const SENT_IN_VAIN: usize = 8 * 1024 * 1024;
