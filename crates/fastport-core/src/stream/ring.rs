//! A stream's chunks on their way to a link: whole frames, first in, first out, in one buffer that
//! does not grow.

use alloc::vec::Vec;

use fastport_wire::Frame;
use fastport_wire::field::{MAX_BODY, MAX_CHUNK, MAX_CHUNK_HEAD, MAX_HEAD};
use fastport_wire::frame;

/// See the module's text.
///
/// ```text
/// not wrapped:  |      |  frames  |        |      wrapped:  | frames |    | frames |  unused |
///               0     head      tail   capacity             0     tail   head      end
/// ```
///
/// A frame lies in one piece, so that what is written next always is.
#[derive(Debug, Default)]
pub struct Ring {
    bytes: Vec<u8>,
    /// bytes.len() <= capacity
    capacity: usize,
    head: usize,
    tail: usize,
    /// where the frames from `head` on end, if others lie at the front
    end: Option<usize>,
    /// bytes of the first frame that are written
    begun: usize,
}

/// There is no room for a frame now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// What was written of a ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes of the stream in the chunks that are now written to their end.
    pub stream_bytes: u64,
    /// The last chunk of the stream is among them.
    pub is_end: bool,
}

impl Ring {
    /// An empty ring of so many bytes, which lie in `buffer` as far as that has room.
    #[must_use]
    pub fn new(mut buffer: Vec<u8>, capacity: usize) -> Self {
        buffer.clear();
        Self { bytes: buffer, capacity, ..Self::default() }
    }

    /// The buffer, of no more use here.
    #[must_use]
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head == self.tail && self.end.is_none()
    }

    /// Whether a frame's first bytes are written and the others not.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        self.begun > 0
    }

    /// Puts a frame behind the others.
    ///
    /// # Errors
    /// [`Full`]; the frame is then not in.
    pub fn push(&mut self, frame: &Frame<'_>) -> Result<(), Full> {
        let length = frame.encoded_len();
        let at = self.place_for(length).ok_or(Full)?;
        if at < self.tail {
            self.end = Some(self.tail);
        }
        self.tail = at + length;
        if self.bytes.len() < self.tail {
            self.bytes.resize(self.tail, 0);
        }
        let place = self.bytes.get_mut(at..self.tail).unwrap_or_default();
        frame.encode(place).map_err(|_| Full).map(|_| ())
    }

    /// Whether a frame of that length has room.
    #[must_use]
    pub fn has_room(&self, length: usize) -> bool {
        self.place_for(length).is_some()
    }

    /// How many bytes of a stream certainly have room, in chunks of the longest kind and one more.
    #[must_use]
    pub fn stream_room(&self) -> usize {
        let longest = match self.end {
            None => (self.capacity - self.tail).max(self.head.saturating_sub(1)),
            Some(_) => (self.head - self.tail).saturating_sub(1),
        };
        let heads = (longest / MAX_CHUNK + 1) * (MAX_HEAD + MAX_CHUNK_HEAD);
        longest.saturating_sub(heads)
    }

    /// What to write next: the rest of the first frame, and those behind it that end within `most`
    /// bytes.
    #[must_use]
    pub fn front(&self, most: usize) -> &[u8] {
        let frames = self.first_run();
        let mut length = self.total(frames);
        while let Some(rest) = frames.get(length..) {
            let total = self.total(rest);
            if total == 0 || length - self.begun + total > most {
                break;
            }
            length += total;
        }
        frames.get(self.begun..length).unwrap_or_default()
    }

    /// The rest of a frame that is begun.
    #[must_use]
    pub fn rest_of_begun(&self) -> &[u8] {
        if self.begun > 0 { self.front(0) } else { &[] }
    }

    /// Notes that so many bytes of [`Ring::front`] were written.
    pub fn advance(&mut self, mut written: usize) -> Written {
        let mut done = Written::default();
        while written > 0 {
            let frames = self.first_run();
            let total = self.total(frames);
            if total == 0 {
                break;
            }
            let left = total - self.begun;
            if written < left {
                self.begun += written;
                break;
            }
            if let Ok(Some((Frame::Chunk { bytes, last, .. }, _))) = Frame::decode(frames, MAX_BODY)
            {
                done.stream_bytes += bytes.len() as u64;
                done.is_end |= last;
            }
            written -= left;
            self.drop_first(total);
        }
        done
    }

    /// Drops all but the rest of a frame that is begun.
    pub fn cut(&mut self) {
        if self.begun == 0 {
            (self.head, self.tail, self.end) = (0, 0, None);
            return;
        }
        self.tail = self.head + self.total(self.first_run());
        self.end = None;
    }

    /// Where a frame of that length would lie.
    fn place_for(&self, length: usize) -> Option<usize> {
        match self.end {
            None if self.capacity - self.tail >= length => Some(self.tail),
            // strictly: head and tail are the same only where it is empty
            None if self.head > length => Some(0),
            Some(_) if self.head - self.tail > length => Some(self.tail),
            _ => None,
        }
    }

    /// The frames from the first on that lie in one piece.
    fn first_run(&self) -> &[u8] {
        self.bytes.get(self.head..self.end.unwrap_or(self.tail)).unwrap_or_default()
    }

    /// The length of the frame at the front of `frames`; 0: there is none.
    fn total(&self, frames: &[u8]) -> usize {
        match frame::head(frames, MAX_BODY) {
            Ok(Some(head)) => head.total(),
            _ => 0,
        }
    }

    fn drop_first(&mut self, total: usize) {
        self.begun = 0;
        self.head += total;
        if self.end == Some(self.head) {
            (self.head, self.end) = (0, None);
        }
        if self.is_empty() {
            (self.head, self.tail) = (0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::VecDeque;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    fn chunk(offset: u64, bytes: &[u8]) -> Frame<'_> {
        Frame::Chunk { stream: 1, offset, last: false, sealed: false, bytes }
    }

    #[test]
    fn what_waits_is_written_in_whole_frames_up_to_a_length_and_at_least_one() {
        let mut ring = Ring::new(Vec::new(), 100);
        let bytes = [7; 10];
        for offset in 0..3 {
            assert_eq!(ring.push(&chunk(offset, &bytes)), Ok(()));
        }
        // a chunk takes 14 bytes
        assert_eq!(ring.front(1).len(), 14);
        assert_eq!(ring.front(30).len(), 28);
        assert_eq!(ring.advance(15).stream_bytes, 10);
        assert!(ring.is_begun());
        assert_eq!(ring.rest_of_begun().len(), 13);
        ring.cut();
        assert_eq!(ring.front(100).len(), 13);
        assert_eq!(ring.advance(13).stream_bytes, 10);
        assert!(ring.is_empty() && !ring.is_begun());
    }

    proptest! {
        /// Against a plain queue of bytes: whatever is pushed comes out once and in order, and within
        /// the capacity.
        #[test]
        fn a_ring_gives_what_was_put_in(
            capacity in 32usize..400,
            steps in proptest::collection::vec((any::<bool>(), 0usize..60, 1usize..200), 0..200),
        ) {
            let mut ring = Ring::new(Vec::new(), capacity);
            let mut model: VecDeque<u8> = VecDeque::new();
            let (mut offset, mut out) = (0u64, 0u64);
            for (pushes, length, most) in steps {
                if pushes {
                    let bytes = vec![u8::try_from(length).expect("small"); length];
                    let frame = chunk(offset, &bytes);
                    if ring.push(&frame).is_ok() {
                        let mut encoded = vec![0; frame.encoded_len()];
                        frame.encode(&mut encoded).expect("it has room");
                        model.extend(encoded);
                        offset += length as u64;
                    } else {
                        prop_assert!(model.len() + frame.encoded_len() > capacity / 2 - 40.min(capacity / 2));
                    }
                } else {
                    let front = ring.front(most).to_vec();
                    let expected: Vec<u8> = model.iter().copied().take(front.len()).collect();
                    prop_assert_eq!(&front, &expected);
                    prop_assert_eq!(front.is_empty(), model.is_empty());
                    let written = front.len().min(most);
                    model.drain(..written);
                    out += ring.advance(written).stream_bytes;
                }
                prop_assert!(ring.bytes.len() <= capacity);
                prop_assert!(out <= offset);
                prop_assert_eq!(ring.is_empty(), model.is_empty());
            }
            while !ring.is_empty() {
                let written = ring.front(usize::MAX).len();
                out += ring.advance(written).stream_bytes;
            }
            prop_assert_eq!(out, offset);
        }
    }
}
