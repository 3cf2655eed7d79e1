//! One connection to a relay: bytes in, whole frames out, by polling.
//!
//! Every `poll_*` keeps its progress in the link or the state machine, so whoever waits for one may
//! give up half-way and lose nothing.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use fastport_core::client::Client as Machine;
use fastport_wire::field::MAX_BODY;
use fastport_wire::frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::web::Web;

/// A connection that bytes go over: a socket, or TLS on one.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// A connection to a relay.
pub enum Link {
    /// Frames lie one after another.
    Stream(Box<dyn Connection>),
    /// Binary messages hold whole frames.
    Web(Web),
}

/// Bytes that have come and are not done with.
#[derive(Default)]
pub struct Input {
    bytes: BytesMut,
}

impl Link {
    /// Writes and flushes all that the machine has to say, as far as the connection takes it; how
    /// many bytes that was, and whether it was all.
    ///
    /// # Errors
    /// The connection's.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        machine: &mut Machine,
    ) -> io::Result<(usize, bool)> {
        let mut total = 0;
        loop {
            let output = machine.output();
            if output.is_empty() {
                return Ok((total, self.poll_flush(cx)?.is_ready()));
            }
            match self.poll_write_some(cx, output) {
                Poll::Ready(Ok(written)) => {
                    machine.advance(written);
                    total += written;
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok((total, false)),
            }
        }
    }

    /// Reads some bytes behind those in `input`; 0 at the connection's end.
    ///
    /// # Errors
    /// The connection's.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut Input,
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Stream(stream) => {
                input.make_room();
                // documented as cancel-safe: an unfinished one has read nothing
                pin!(stream.read_buf(&mut input.bytes)).poll(cx)
            }
            Self::Web(web) => web.poll_read(cx, &mut input.bytes),
        }
    }

    /// Says that nothing more will be written; what is still to be read can be read.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Stream(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Web(web) => web.poll_close(cx),
        }
    }

    /// Writes from the front of whole frames, or of the rest of one that was begun; how many bytes.
    pub fn poll_write_some(
        &mut self,
        cx: &mut Context<'_>,
        output: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Stream(stream) => match ready!(Pin::new(stream).poll_write(cx, output))? {
                0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => Poll::Ready(Ok(written)),
            },
            Self::Web(web) => web.poll_write_some(cx, output),
        }
    }

    /// Flushes what was written.
    ///
    /// # Errors
    /// The connection's.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<()>> {
        let flushed = match self {
            Self::Stream(stream) => Pin::new(stream).poll_flush(cx),
            Self::Web(web) => web.poll_flush(cx),
        };
        match flushed {
            Poll::Ready(done) => done.map(Poll::Ready),
            Poll::Pending => Ok(Poll::Pending),
        }
    }
}

impl Input {
    /// The whole frames at the front, which are then gone from here; what cannot be a frame counts
    /// as one, for the state machine to refuse. `None`: more bytes are needed.
    pub fn take_frames(&mut self) -> Option<Bytes> {
        let length = whole_frames(&self.bytes, usize::MAX);
        (length > 0).then(|| self.bytes.split_to(length).freeze())
    }

    /// Room to read into: a good deal, and all of a large frame that has begun.
    fn make_room(&mut self) {
        let missing = match frame::head(&self.bytes, MAX_BODY) {
            Ok(Some(head)) => head.total().saturating_sub(self.bytes.len()),
            _ => 0,
        };
        if self.bytes.capacity() - self.bytes.len() < missing.max(LEAST_READ) {
            self.bytes.reserve(missing.max(READ));
        }
    }
}

/// How far the whole frames at the front of `bytes` reach, as many as fit in `limit`, at least one.
pub(crate) fn whole_frames(bytes: &[u8], limit: usize) -> usize {
    let mut length = 0;
    while let Some(rest) = bytes.get(length..).filter(|rest| !rest.is_empty()) {
        let total = match frame::head(rest, MAX_BODY) {
            Ok(Some(head)) => head.total(),
            Ok(None) => break,
            Err(_) => return bytes.len(),
        };
        let is_over = length > 0 && length + total > limit;
        if is_over || total > rest.len() {
            break;
        }
        length += total;
    }
    length
}

/// Bytes read at once where they are there.
pub(crate) const READ: usize = 64 * 1024;
/// With less room than this a new buffer is begun.
const LEAST_READ: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_gives_whole_frames_and_keeps_the_rest() {
        // PING, PING with a token, the head of a DATA frame of five bytes
        let bytes = b"\x50\x00\x50\x01x\x20\x05\x01ab";
        let mut input = Input::default();
        for (at, byte) in bytes.iter().enumerate() {
            input.bytes.extend_from_slice(&[*byte]);
            let expected: Option<&[u8]> = match at {
                1 => Some(b"\x50\x00"),
                4 => Some(b"\x50\x01x"),
                _ => None,
            };
            assert_eq!(input.take_frames().as_deref(), expected, "after byte {at}");
        }
        input.bytes.extend_from_slice(b"cd");
        assert_eq!(input.take_frames().as_deref(), Some(&b"\x20\x05\x01abcd"[..]));
        assert_eq!(input.take_frames(), None);
    }

    #[test]
    fn what_cannot_be_a_frame_is_given_out_to_be_refused() {
        let mut input = Input::default();
        input.bytes.extend_from_slice(b"\x50\x00\xf0\x01");
        assert_eq!(input.take_frames().as_deref(), Some(&b"\x50\x00\xf0\x01"[..]));
    }

    #[test]
    fn a_web_message_has_as_many_whole_frames_as_fit_and_at_least_one() {
        let frames = [&b"\x20\x03\x01ab"[..]; 4].concat();
        assert_eq!(whole_frames(&frames, 12), 10);
        assert_eq!(whole_frames(&frames, 3), 5);
        assert_eq!(whole_frames(&frames[..12], usize::MAX), 10);
    }
}
