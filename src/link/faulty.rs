//! A transport that behaves as badly as one may, the same way each time: for tests of links.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How badly a [`Faulty`] transport behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Faults {
    /// Two transports with the same seed and the same traffic behave alike.
    pub seed: u64,
    /// The most bytes that one read or write moves, at least 1; each moves a random part of that.
    pub longest: usize,
    /// Of so many calls one is put off until the task's next turn; 0: none, and 1 is taken for 2,
    /// since with all of them put off nothing would move.
    pub put_off_one_in: u32,
    /// The transport is cut after a random number of bytes below this, both directions together;
    /// `None`: never.
    pub cut_below: Option<u64>,
}

/// A transport around another one that splits what is read and written at random places, puts
/// calls off, and may be cut.
///
/// It loses and changes nothing before the cut. After it, reads and writes fail as on a connection
/// that was reset.
#[derive(Debug)]
pub struct Faulty<T> {
    io: T,
    random: Random,
    longest: usize,
    put_off_one_in: u32,
    /// Bytes until the cut.
    left: Option<u64>,
}

impl<T> Faulty<T> {
    /// Makes `io` behave by `faults`.
    #[must_use]
    pub fn new(io: T, faults: Faults) -> Self {
        let mut random = Random(faults.seed);
        let left = faults.cut_below.map(|below| random.below(below));
        let put_off_one_in = match faults.put_off_one_in {
            1 => 2,
            one_in => one_in,
        };
        Self { io, random, longest: faults.longest.max(1), put_off_one_in, left }
    }

    /// How many bytes may move now.
    fn poll_share(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let is_put_off =
            self.put_off_one_in > 0 && self.random.below(self.put_off_one_in.into()) == 0;
        if is_put_off {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let share = 1 + self.random.below(self.longest as u64);
        let share = self.left.map_or(share, |left| share.min(left));
        match usize::try_from(share) {
            Ok(0) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            Ok(share) => Poll::Ready(Ok(share)),
            Err(_) => Poll::Ready(Ok(usize::MAX)),
        }
    }

    fn note_moved(&mut self, bytes: usize) {
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(bytes as u64);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Faulty<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let share = ready!(self.poll_share(cx))?.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(share));
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
        let length = part.filled().len();
        buffer.advance(length);
        self.note_moved(length);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Faulty<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let share = ready!(self.poll_share(cx))?;
        let part = bytes.get(..share).unwrap_or(bytes);
        let written = ready!(Pin::new(&mut self.io).poll_write(cx, part))?;
        self.note_moved(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_share(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// `SplitMix64` (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014): a few
/// lines, and any seed is a good one.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// A number below `limit`; 0 where that is 0.
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).checked_rem(limit).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const MILD: Faults = Faults { seed: 1, longest: 7, put_off_one_in: 3, cut_below: None };

    /// Sends `bytes` through faulty ends and gives what arrived, and the sizes of the reads.
    async fn pass(bytes: &[u8], faults: Faults) -> (Vec<u8>, Vec<usize>) {
        let (left, right) = duplex(64);
        let (mut left, mut right) = (Faulty::new(left, faults), Faulty::new(right, faults));
        let send = async {
            // a cut ends it early
            left.write_all(bytes).await.unwrap_or_default();
            drop(left);
        };
        let receive = async {
            let (mut got, mut sizes, mut buffer) = (Vec::new(), Vec::new(), [0; 32]);
            while let Ok(length @ 1..) = right.read(&mut buffer).await {
                got.extend_from_slice(&buffer[..length]);
                sizes.push(length);
            }
            (got, sizes)
        };
        tokio::join!(send, receive).1
    }

    #[tokio::test]
    async fn all_arrives_in_order_and_in_pieces_of_many_sizes() {
        let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let (got, sizes) = pass(&bytes, MILD).await;
        assert!(got == bytes);
        assert!((1..=7).all(|size| sizes.contains(&size)), "{sizes:?}");
        assert!(sizes.iter().all(|&size| size <= 7), "{sizes:?}");
    }

    #[tokio::test]
    async fn the_same_seed_behaves_the_same_and_another_does_not() {
        let bytes = [1; 500];
        let first = pass(&bytes, MILD).await;
        assert!(first == pass(&bytes, MILD).await);
        assert!(first != pass(&bytes, Faults { seed: 2, ..MILD }).await);
    }

    #[tokio::test]
    async fn a_cut_leaves_the_front_of_what_was_sent() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let mut lengths = Vec::new();
        for seed in 0..50 {
            let faults = Faults { seed, cut_below: Some(1000), ..MILD };
            let (got, _) = pass(&bytes, faults).await;
            assert!(bytes.starts_with(&got) && got.len() < bytes.len());
            lengths.push(got.len());
        }
        lengths.sort_unstable();
        lengths.dedup();
        assert!(lengths.len() > 40, "cuts at different places: {lengths:?}");
    }
}
