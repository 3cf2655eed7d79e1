//! Whole frames out of a stream that arrives in pieces.
//!
//! It promises: however a stream is cut into pieces, the same frames come out; a frame that lies
//! whole in a piece is given where it lies, without a copy. It never holds more than one frame.

use heapless::Vec;

use crate::WireError;
use crate::field::{MAX_BODY, MAX_HEAD};
use crate::frame::{self, Frame, Head};

/// One frame's bytes, its end found but its body not yet read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whole<'a> {
    head: Head,
    /// `bytes.len() == head.total()`
    bytes: &'a [u8],
}

impl<'a> Whole<'a> {
    /// Type, flags and lengths.
    #[must_use]
    pub const fn head(self) -> Head {
        self.head
    }

    /// The whole frame, head included: what a relay forwards.
    #[must_use]
    pub const fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The frame without its head.
    #[must_use]
    pub fn body(self) -> &'a [u8] {
        self.bytes.get(self.head.head..).unwrap_or_default()
    }

    /// Reads the frame.
    ///
    /// # Errors
    /// As [`Frame::from_parts`].
    pub fn frame(self) -> Result<Frame<'a>, WireError> {
        Frame::from_parts(self.head, self.body())
    }
}

/// A frame found by [`Accumulator::feed`], and what of the fed bytes stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed<'a, 'b> {
    /// The frame; in the fed bytes, or in the accumulator where it came in more than one piece.
    pub whole: Whole<'a>,
    /// To be fed next.
    pub rest: &'b [u8],
}

/// Collects the pieces of one frame of at most `N` bytes, head included. `N` is at least
/// [`MAX_HEAD`]; less does not compile.
///
/// ```
/// use fastport_wire::accumulator::Accumulator;
///
/// let mut accumulator = Accumulator::<64>::new();
/// let mut frames = 0;
/// for piece in [&[0x50, 0x00, 0x29][..], &[0x03, 0x05], &[0x01, 0x02, 0x00]] {
///     let mut rest = piece;
///     while let Some(fed) = accumulator.feed(rest)? {
///         frames += 1;
///         rest = fed.rest;
///     }
/// }
/// assert_eq!(frames, 2);
/// # Ok::<(), fastport_wire::WireError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Accumulator<const N: usize> {
    /// The beginning of a frame; all of it when `is_given`.
    held: Vec<u8, N>,
    /// What `held` holds was given to the caller, and goes with the next call.
    is_given: bool,
    failed: Option<WireError>,
}

impl<const N: usize> Default for Accumulator<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Accumulator<N> {
    /// Holds nothing.
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(N >= MAX_HEAD, "an accumulator must at least hold a frame's head") };
        Self { held: Vec::new(), is_given: false, failed: None }
    }

    /// Takes bytes up to the end of the next frame. `Ok(None)`: all were taken, no frame ends in
    /// them. To be called again with [`Fed::rest`] until it says so.
    ///
    /// # Errors
    /// [`WireError::TooLong`] for a frame over `N` bytes, told as soon as its length is known, else
    /// as [`frame::head`]. No frame can be found in a stream after an error, so that every later
    /// call gives it again.
    pub fn feed<'a, 'b: 'a>(
        &'a mut self,
        bytes: &'b [u8],
    ) -> Result<Option<Fed<'a, 'b>>, WireError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.is_given {
            self.clear();
        }
        let found = if self.held.is_empty() { self.begin(bytes) } else { self.go_on(bytes) };
        match found {
            Ok(None) => Ok(None),
            Ok(Some(Found::InPlace(whole, rest))) => Ok(Some(Fed { whole, rest })),
            Ok(Some(Found::Held(head, rest))) => {
                self.is_given = true;
                Ok(Some(Fed { whole: Whole { head, bytes: &self.held }, rest }))
            }
            Err(error) => {
                self.clear();
                self.failed = Some(error);
                Err(error)
            }
        }
    }

    /// How many bytes of an unfinished frame are held: 0 to `N`.
    #[must_use]
    pub fn held(&self) -> usize {
        if self.is_given { 0 } else { self.held.len() }
    }

    /// Forgets what is held, and an error: for a new stream.
    pub fn reset(&mut self) {
        self.clear();
        self.failed = None;
    }

    fn clear(&mut self) {
        self.held.clear();
        self.is_given = false;
    }

    /// Nothing is held: the frame may lie whole in `bytes`.
    fn begin<'b>(&mut self, mut bytes: &'b [u8]) -> Result<Option<Found<'b>>, WireError> {
        while let Some((&0, after)) = bytes.split_first() {
            bytes = after;
        }
        if let Some(head) = Self::head(bytes)?
            && let Some((frame, rest)) = bytes.split_at_checked(head.total())
        {
            return Ok(Some(Found::InPlace(Whole { head, bytes: frame }, rest)));
        }
        self.hold(bytes)?;
        Ok(None)
    }

    /// The beginning is held: its head first, then as much as it says.
    fn go_on<'b>(&mut self, mut bytes: &'b [u8]) -> Result<Option<Found<'b>>, WireError> {
        let head = loop {
            if let Some(head) = Self::head(&self.held)? {
                break head;
            }
            let Some((byte, after)) = bytes.split_first() else { return Ok(None) };
            self.hold(core::slice::from_ref(byte))?;
            bytes = after;
        };
        let missing = head.total().saturating_sub(self.held.len());
        let (now, rest) = bytes.split_at(missing.min(bytes.len()));
        self.hold(now)?;
        Ok((now.len() == missing).then_some(Found::Held(head, rest)))
    }

    fn head(bytes: &[u8]) -> Result<Option<Head>, WireError> {
        match frame::head(bytes, MAX_BODY)? {
            Some(head) if head.total() > N => Err(WireError::TooLong),
            head => Ok(head),
        }
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.held.extend_from_slice(bytes).map_err(|_| WireError::TooLong)
    }
}

/// Where a frame was found, and what is left of the fed bytes.
enum Found<'b> {
    InPlace(Whole<'b>, &'b [u8]),
    Held(Head, &'b [u8]),
}

#[cfg(test)]
mod tests {
    use std::vec::Vec as StdVec;

    use proptest::prelude::*;

    use super::*;

    const N: usize = 40;

    /// The frames of a stream fed in pieces of those lengths (used in turn), and the error that
    /// ends it.
    fn frames_of(
        stream: &[u8],
        pieces: &[usize],
        accumulator: &mut Accumulator<N>,
    ) -> (StdVec<StdVec<u8>>, Option<WireError>) {
        let mut frames = StdVec::new();
        let mut pieces = pieces.iter().cycle();
        let mut stream = stream;
        while !stream.is_empty() {
            let length = pieces.next().map_or(stream.len(), |&length| length.min(stream.len()));
            let (mut piece, after) = stream.split_at(length);
            stream = after;
            loop {
                match accumulator.feed(piece) {
                    Ok(None) => break,
                    Ok(Some(fed)) => {
                        frames.push(fed.whole.bytes().to_vec());
                        piece = fed.rest;
                    }
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
        (frames, None)
    }

    #[test]
    fn a_frame_whole_in_the_fed_bytes_is_not_copied() {
        let bytes = [0, 0x29, 3, 5, 1, 2, 0x50];
        let mut accumulator = Accumulator::<N>::new();
        let fed = accumulator.feed(&bytes).expect("well formed").expect("whole");
        assert!(core::ptr::eq(fed.whole.bytes(), &bytes[1..6]));
        assert!(core::ptr::eq(fed.rest, &bytes[6..]));
        assert_eq!(accumulator.held(), 0);
    }

    #[test]
    fn a_frame_over_the_capacity_is_refused_before_its_body_comes() {
        let fits = N - 2;
        let too_long = fits + 1;
        for (body, result) in [(fits, Ok(None)), (too_long, Err(WireError::TooLong))] {
            let head = [0x20, u8::try_from(body).expect("under 128")];
            assert_eq!(Accumulator::<N>::new().feed(&head), result);
            let mut in_pieces = Accumulator::<N>::new();
            assert_eq!(in_pieces.feed(&head[..1]), Ok(None));
            assert_eq!(in_pieces.feed(&head[1..]), result);
        }
    }

    #[test]
    fn an_error_stays_until_the_stream_is_a_new_one() {
        let mut accumulator = Accumulator::<N>::new();
        assert_eq!(accumulator.feed(&[0xb0]), Err(WireError::UnknownKind(0xb)));
        assert_eq!(accumulator.feed(&[0x50, 0]), Err(WireError::UnknownKind(0xb)));
        accumulator.reset();
        let fed = accumulator.feed(&[0x50, 0]).expect("well formed").expect("whole");
        assert_eq!(fed.whole.frame(), Ok(Frame::Ping { token: &[] }));
    }

    fn any_frame() -> impl Strategy<Value = StdVec<u8>> {
        let padding = (1usize..4).prop_map(|length| std::vec![0; length]);
        let data = (0u8..16, proptest::collection::vec(any::<u8>(), 0..N - 3)).prop_map(
            |(flags, payload)| {
                let length = u8::try_from(payload.len() + 1).expect("under N");
                let mut frame = std::vec![0x20 | flags, length, 1];
                frame.extend(payload);
                frame
            },
        );
        let ping = Just(std::vec![0x50, 0]);
        prop_oneof![1 => padding, 4 => data, 1 => ping]
    }

    proptest! {
        #[test]
        fn any_split_of_any_frames_gives_the_same_frames(
            frames in proptest::collection::vec(any_frame(), 0..12),
            pieces in proptest::collection::vec(1usize..30, 0..12),
        ) {
            let stream = frames.concat();
            let frames: StdVec<_> = frames.into_iter().filter(|frame| frame[0] != 0).collect();
            let mut accumulator = Accumulator::new();
            prop_assert_eq!(frames_of(&stream, &pieces, &mut accumulator), (frames, None));
            prop_assert_eq!(accumulator.held(), 0);
        }

        #[test]
        fn any_bytes_give_the_same_frames_or_error_however_they_are_split(
            bytes in proptest::collection::vec(any::<u8>(), 0..120),
            pieces in proptest::collection::vec(1usize..30, 1..12),
        ) {
            let (mut whole, mut cut) = (Accumulator::new(), Accumulator::new());
            prop_assert_eq!(frames_of(&bytes, &[], &mut whole), frames_of(&bytes, &pieces, &mut cut));
            prop_assert_eq!(whole.held(), cut.held());
        }

        #[test]
        fn a_frame_that_came_in_pieces_is_what_decoding_it_at_once_gives(
            frame in any_frame(), cut in 1usize..40,
        ) {
            prop_assume!(frame[0] != 0 && cut < frame.len());
            let mut accumulator = Accumulator::<N>::new();
            prop_assert_eq!(accumulator.feed(&frame[..cut]), Ok(None));
            let fed = accumulator.feed(&frame[cut..]).expect("well formed").expect("whole");
            let at_once = Frame::decode(&frame, MAX_BODY).map(|found| found.map(|(frame, _)| frame));
            prop_assert_eq!(fed.whole.frame().map(Some), at_once);
        }
    }
}
