//! A link's bytes on their way between the transport and the bridge: PACK frames, where the central
//! instance takes them, and what was read and is not handed over yet.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use fastport_client::raw::{Input, Link};
use fastport_core::client::Client;
use fastport_pack::{PackError, Packer, Part, first_part, unpack};

use super::figures::LaneFigures;

/// One link's.
#[derive(Default)]
pub(super) struct Wire {
    input: Input,
    /// read, and not handed over: whole frames
    coming: Bytes,
    /// what is handed over just now
    current: Bytes,
    unpacked: Vec<u8>,
    /// bytes of the last batch, before and after it was packed
    last: (usize, usize),
    /// once both sides said that they take them
    packer: Option<Packer>,
}

impl Wire {
    /// From here on frames are packed where that pays.
    pub(super) fn start_packing(&mut self) {
        self.packer.get_or_insert_with(Packer::new);
    }

    /// Whether frames are packed.
    pub(super) fn is_packing(&self) -> bool {
        self.packer.is_some()
    }

    /// About how many bytes of frames make so many on the link, going by the last batch.
    pub(super) fn unpacked(&self, bytes: usize) -> usize {
        match self.last {
            (before, after) if before > after && after > 0 => {
                bytes.saturating_mul((before / after).min(MOST_RATIO))
            }
            _ => bytes,
        }
    }

    /// Writes what the client has to say, as far as the connection takes it; how many bytes that was.
    ///
    /// # Errors
    /// The connection's.
    pub(super) fn poll_write(
        &mut self,
        link: &mut Link,
        client: &mut Client,
        figures: &LaneFigures,
        cx: &mut Context<'_>,
    ) -> io::Result<usize> {
        let Some(packer) = &mut self.packer else {
            let (written, _) = link.poll_write(cx, client)?;
            figures.frames_out.add(written as u64);
            return Ok(written);
        };
        let mut total = 0;
        loop {
            while !packer.output().is_empty() {
                let Poll::Ready(written) = link.poll_write_some(cx, packer.output()) else {
                    return Ok(total);
                };
                let written = written?;
                packer.advance(written);
                total += written;
            }
            let output = client.output();
            let taken = packer.take(output, usize::MAX);
            if taken > 0 {
                client.advance(taken);
                figures.frames_out.add(taken as u64);
                packer.pack();
                self.last = (taken, packer.output().len());
                continue;
            }
            let direct = output.get(..packer.direct(output)).unwrap_or_default();
            if direct.is_empty() {
                // when it is not done now, it is with the next write
                return link.poll_flush(cx).map(|_| total);
            }
            let Poll::Ready(written) = link.poll_write_some(cx, direct) else { return Ok(total) };
            let written = written?;
            packer.passed(output, written);
            client.advance(written);
            figures.frames_out.add(written as u64);
            total += written;
        }
    }

    /// Reads once, where all that was read is handed over; `None`: nothing came.
    ///
    /// # Errors
    /// The connection's.
    pub(super) fn poll_read(
        &mut self,
        link: &mut Link,
        cx: &mut Context<'_>,
    ) -> io::Result<Option<usize>> {
        match link.poll_read(cx, &mut self.input) {
            Poll::Pending => Ok(None),
            Poll::Ready(read) => {
                let read = read?;
                if self.coming.is_empty() {
                    self.coming = self.input.take_frames().unwrap_or_default();
                }
                Ok(Some(read))
            }
        }
    }

    /// Whether there is something to hand over.
    pub(super) fn has_frames(&self) -> bool {
        !self.coming.is_empty()
    }

    /// The next whole frames to hand over, what is in one PACK at most.
    ///
    /// # Errors
    /// [`PackError`]: the link is of no more use.
    pub(super) fn next_frames(&mut self) -> Result<&[u8], PackError> {
        let length = match first_part(&self.coming)? {
            Part::Frames(frames) => frames.len(),
            Part::Beginning => self.coming.len(),
            Part::Pack { body, total } => {
                unpack(body, &mut self.unpacked)?;
                drop(self.coming.split_to(total));
                return Ok(&self.unpacked);
            }
        };
        self.current = self.coming.split_to(length);
        Ok(&self.current)
    }
}

/// How much better than its size the next batch is believed to be.
const MOST_RATIO: usize = 8;
