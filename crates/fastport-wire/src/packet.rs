//! Packets for serial lines: one frame in one COBS packet with a CRC-16.
//!
//! ```text
//! packet = COBS( frame ‖ CRC, low byte first ) ‖ 0x00
//! CRC    = CRC-16/IBM-SDLC over ( frame ‖ covered count, 4 bytes, low byte first )
//! ```
//!
//! The covered count does not travel. It is the low 32 bits of the number of counted frames that
//! the sender has sent in the link epoch **before** this frame, whether this one is counted or not;
//! so a receiver checks each packet with the number of counted frames it has taken, and a packet
//! that follows a lost counted frame does not check. Two exceptions let both sides find each other
//! again: an ACK is always covered with 0, and so is everything before WELCOME, when no side knows
//! the other's count. See `docs/protocol.md`, "Serial lines", for who then sends what again.
//!
//! The CRC is HDLC's frame check sequence (RFC 1662, appendix C.2; also called X-25). In frames of
//! up to [`MAX_CHECKED_FRAME`] bytes it finds every one to three wrong bits, every odd number of
//! them, and every burst of up to 16 in the frame; of other damage, to which belongs that of COBS's
//! own bytes, all but one in 65536. CRC-16/DNP finds up to five wrong bits in frames of up to 12
//! bytes, but in longer ones not every two. IBM-SDLC is reflected and the count comes low byte
//! first: two counts that differ by one differ in one unbroken run of bits, and the CRC finds each
//! such run, so that the loss of a single counted frame is never overlooked.

use cobs::{CobsEncoder, DecodeResult, DecoderState};
use crc::{CRC_16_IBM_SDLC, Crc, Digest};
use heapless::Vec;

use crate::control::Control;
use crate::field::{MAX_BODY, kind};
use crate::{WireError, frame};

/// How many bytes the CRC adds to a frame.
pub const CRC_LEN: usize = 2;
/// The longest frame, head included, whose packet the CRC protects as said above; longer ones
/// should not be sent on serial lines. 32767 bits less the count's and the CRC's.
pub const MAX_CHECKED_FRAME: usize = 4095 - 4 - CRC_LEN;
/// A packet that does not check is tried with counts this far off, to learn whether it is damaged
/// or only out of step.
pub const STEP_WINDOW: u32 = 16;

/// The most bytes that the packet of a frame of `frame_len` bytes takes, its 0x00 included.
#[must_use]
pub const fn packet_len(frame_len: usize) -> usize {
    cobs::max_encoding_length(frame_len + CRC_LEN) + 1
}

/// Writes a frame as one packet, terminated by 0x00, to the front of `out`; returns its length.
/// `count` is the number of counted frames sent before this one in the link epoch, its low 32 bits;
/// 0 before WELCOME.
///
/// # Errors
/// [`WireError::NoRoom`] when `out` is too short: [`packet_len`] bytes are enough.
pub fn encode(frame: &[u8], count: u32, out: &mut [u8]) -> Result<usize, WireError> {
    let covered = if is_ack(frame) { 0 } else { count };
    let crc = Coverage::of(frame).crc(covered);
    let mut encoder = CobsEncoder::new(out);
    for part in [frame, &crc.to_le_bytes()] {
        encoder.push(part).map_err(|_| WireError::NoRoom)?;
    }
    let length = encoder.finalize();
    *out.get_mut(length).ok_or(WireError::NoRoom)? = 0;
    Ok(length + 1)
}

/// What a packet holds that checked: the bytes of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked<'a> {
    /// It comes right after the counted frames that the receiver has taken.
    InStep(&'a [u8]),
    /// It may come at any time: an ACK, or a control message that begins or ends a link (HELLO, BYE,
    /// ERROR without a request) from a side that does not know the receiver's count.
    AtAnyTime(&'a [u8]),
}

impl<'a> Checked<'a> {
    /// The frame's bytes.
    #[must_use]
    pub const fn frame(self) -> &'a [u8] {
        match self {
            Self::InStep(frame) | Self::AtAnyTime(frame) => frame,
        }
    }
}

/// Checks what is in a packet: a frame and its CRC, COBS already undone. `count` is the number of
/// counted frames of the link epoch that the receiver has taken, its low 32 bits; 0 before WELCOME.
///
/// # Errors
/// [`WireError::BadChecksum`]: the packet is damaged, or a counted frame before it was lost; either
/// way the receiver asks for a repeat from its own count. When the CRC is good but it covers
/// not exactly one frame: [`WireError::Truncated`], [`WireError::Trailing`], or as
/// [`frame::head`]: the sender's fault, not the line's.
pub fn check(packet: &[u8], count: u32) -> Result<Checked<'_>, WireError> {
    let (frame, crc) = packet.split_last_chunk().ok_or(WireError::BadChecksum)?;
    let crc = u16::from_le_bytes(*crc);
    let coverage = Coverage::of(frame);
    let checked = if is_ack(frame) {
        (coverage.crc(0) == crc).then_some(Checked::AtAnyTime(frame))
    } else if coverage.crc(count) == crc {
        Some(Checked::InStep(frame))
    } else {
        (coverage.crc(0) == crc && begins_or_ends_link(frame)).then_some(Checked::AtAnyTime(frame))
    };
    let checked = checked.ok_or(WireError::BadChecksum)?;
    match frame::head(frame, MAX_BODY)? {
        Some(head) if head.total() == frame.len() => Ok(checked),
        Some(head) if head.total() < frame.len() => Err(WireError::Trailing),
        _ => Err(WireError::Truncated),
    }
}

/// By how many counted frames a packet that [`check`] refused is ahead of the receiver (some were
/// lost) or, negative, behind it (it is a repeat of what the receiver has). `None`: it is damaged,
/// or further off than [`STEP_WINDOW`]. A damaged packet is taken for one out of step once in 2000,
/// so that this is for statistics and never for taking the packet.
#[must_use]
pub fn steps_off(packet: &[u8], count: u32) -> Option<i32> {
    let (frame, crc) = packet.split_last_chunk()?;
    if is_ack(frame) {
        return None;
    }
    let coverage = Coverage::of(frame);
    let is_good = |count| coverage.crc(count) == u16::from_le_bytes(*crc);
    let steps = 1..=STEP_WINDOW;
    let signed = |steps: u32| i32::try_from(steps).ok();
    let ahead = steps.clone().find(|&steps| is_good(count.wrapping_add(steps))).and_then(signed);
    let behind = || steps.clone().find(|&steps| is_good(count.wrapping_sub(steps)));
    ahead.or_else(|| behind().and_then(signed).map(|steps| -steps))
}

/// A packet found by [`PacketAccumulator::feed`], and what of the fed bytes stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed<'a, 'b> {
    /// The packet's frame, or what was wrong with it: as [`check`], and [`WireError::TooLong`] for a
    /// packet over the accumulator's capacity. The next packet is found either way.
    pub packet: Result<Checked<'a>, WireError>,
    /// To be fed next.
    pub rest: &'b [u8],
}

/// Collects the bytes of one packet as they come from a line, COBS undone, and finds the next
/// packet's beginning after any damage. `N` is the longest frame to take plus [`CRC_LEN`].
#[derive(Debug)]
pub struct PacketAccumulator<const N: usize> {
    /// Frame and CRC so far.
    held: Vec<u8, N>,
    cobs: DecoderState,
    is_too_long: bool,
    damaged: u32,
    out_of_step: u32,
}

impl<const N: usize> Default for PacketAccumulator<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> PacketAccumulator<N> {
    /// Holds nothing, waits for a packet's first byte. What was under way on the line when the
    /// receiver began to listen shows as one damaged packet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            held: Vec::new(),
            cobs: DecoderState::Idle,
            is_too_long: false,
            damaged: 0,
            out_of_step: 0,
        }
    }

    /// Takes bytes up to the end of the next packet. `None`: all were taken, no packet ends in them.
    /// To be called again with [`Fed::rest`] until it says so. `count` is as for [`check`]; between
    /// two calls it changes when the packet given held a counted frame.
    pub fn feed<'a, 'b>(&'a mut self, bytes: &'b [u8], count: u32) -> Option<Fed<'a, 'b>> {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            match self.cobs.feed(byte) {
                Ok(DecodeResult::NoData) => {}
                Ok(DecodeResult::DataStart) => {
                    self.held.clear();
                    self.is_too_long = false;
                }
                Ok(DecodeResult::DataContinue(byte)) => {
                    self.is_too_long |= self.held.push(byte).is_err();
                }
                Ok(DecodeResult::DataComplete) => {
                    return Some(Fed { packet: self.finish(count), rest });
                }
                // a zero where none may be: the end of a damaged packet
                Err(_) => {
                    self.damaged = self.damaged.saturating_add(1);
                    return Some(Fed { packet: Err(WireError::BadChecksum), rest });
                }
            }
        }
        None
    }

    /// How many packets were refused because they were damaged, too long or not one frame.
    #[must_use]
    pub const fn damaged(&self) -> u32 {
        self.damaged
    }

    /// How many packets were refused though whole, because a counted frame before them was lost or
    /// they repeat what was taken; see [`steps_off`].
    #[must_use]
    pub const fn out_of_step(&self) -> u32 {
        self.out_of_step
    }

    fn finish(&mut self, count: u32) -> Result<Checked<'_>, WireError> {
        let checked =
            if self.is_too_long { Err(WireError::TooLong) } else { check(&self.held, count) };
        if let Err(error) = checked {
            let is_whole =
                error == WireError::BadChecksum && steps_off(&self.held, count).is_some();
            let counter = if is_whole { &mut self.out_of_step } else { &mut self.damaged };
            *counter = counter.saturating_add(1);
        }
        checked
    }
}

/// The CRC of a frame, ready to be finished with any count.
struct Coverage(Digest<'static, u16>);

impl Coverage {
    fn of(frame: &[u8]) -> Self {
        static CRC: Crc<u16> = Crc::<u16>::new(&CRC_16_IBM_SDLC);
        let mut digest = CRC.digest();
        digest.update(frame);
        Self(digest)
    }

    fn crc(&self, count: u32) -> u16 {
        let mut digest = self.0.clone();
        digest.update(&count.to_le_bytes());
        digest.finalize()
    }
}

fn is_ack(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first >> 4 == kind::ACK)
}

fn begins_or_ends_link(frame: &[u8]) -> bool {
    let Ok(Some((head, body))) = frame::split(frame, MAX_BODY) else { return false };
    if head.kind() != kind::CONTROL {
        return false;
    }
    match Control::decode(body) {
        Ok(Control::Hello(_) | Control::Bye(_)) => true,
        Ok(Control::Error(error)) => error.request.is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec as StdVec;

    use proptest::prelude::*;

    use super::*;
    use crate::control::{Bye, Error, Hello, Status};
    use crate::frame::{DataFlags, Frame, TopicId};

    type Taken = Result<StdVec<u8>, WireError>;

    fn packet_of(frame: &[u8], count: u32) -> StdVec<u8> {
        let mut out = vec![0xee; packet_len(frame.len())];
        let length = encode(frame, count, &mut out).expect("packet_len bytes are enough");
        out.truncate(length);
        out
    }

    fn control_frame(message: Control<'_>) -> StdVec<u8> {
        let mut body = [0; 128];
        let length = message.encode(&mut body).expect("128 bytes are enough");
        let frame = Frame::Control(&body[..length]);
        let mut out = vec![0; frame.encoded_len()];
        frame.encode(&mut out).expect("encoded_len bytes are enough");
        out
    }

    /// Feeds a stream in pieces; every packet is checked with `count`.
    fn feed_all<const N: usize>(
        accumulator: &mut PacketAccumulator<N>,
        stream: &[u8],
        pieces: &[usize],
        count: u32,
    ) -> StdVec<Taken> {
        let mut taken = StdVec::new();
        let mut pieces = pieces.iter().cycle();
        let mut stream = stream;
        while !stream.is_empty() {
            let length = pieces.next().map_or(stream.len(), |&length| length.min(stream.len()));
            let (mut piece, after) = stream.split_at(length);
            stream = after;
            while let Some(fed) = accumulator.feed(piece, count) {
                taken.push(fed.packet.map(|checked| checked.frame().to_vec()));
                piece = fed.rest;
            }
        }
        taken
    }

    #[test]
    fn a_two_byte_reading_takes_nine_bytes() {
        let topic = TopicId::new(5).expect("not 0");
        let frame = Frame::Data { flags: DataFlags::READINGS, topic, payload: &[1, 2] };
        let mut bytes = [0; 8];
        let length = frame.encode(&mut bytes).expect("8 bytes are enough");
        assert_eq!(length, 5);
        assert_eq!(packet_of(&bytes[..length], 0).len(), 9);
    }

    #[test]
    fn the_crc_is_that_of_hdlc() {
        // the check value of the CRC catalogue, and the count behind it
        assert_eq!(Crc::<u16>::new(&CRC_16_IBM_SDLC).checksum(b"123456789"), 0x906e);
        let with_count = Crc::<u16>::new(&CRC_16_IBM_SDLC).checksum(b"\x50\x00\x04\x03\x02\x01");
        let mut packet = vec![0x50, 0];
        packet.extend(with_count.to_le_bytes());
        assert_eq!(check(&packet, 0x0102_0304), Ok(Checked::InStep(&[0x50, 0])));
    }

    /// Two wrong bits go unseen where x^i = x^j modulo the polynomial, three cannot where x + 1
    /// divides it.
    #[test]
    fn up_to_three_wrong_bits_show_in_frames_as_long_as_said() {
        const POLYNOMIAL: u32 = 0x1_1021;
        assert_eq!(u32::from(CRC_16_IBM_SDLC.poly), POLYNOMIAL & 0xffff);
        let bits = (MAX_CHECKED_FRAME + 4 + CRC_LEN) * 8;
        let mut power = 1u32;
        for _ in 1..bits {
            power <<= 1;
            if power & 0x1_0000 != 0 {
                power ^= POLYNOMIAL;
            }
            assert_ne!(power, 1);
        }
        assert!(POLYNOMIAL.count_ones().is_multiple_of(2), "x + 1 divides it");
    }

    #[test]
    fn the_loss_of_one_counted_frame_always_shows() {
        let data = [0x21, 2, 1, 7];
        // what two successive counts differ in is a run of 1 to 32 bits from the lowest up
        for run in 0..32 {
            let count = u32::MAX >> 1 >> run;
            let packet = packet_of(&data, count.wrapping_add(1));
            let mut accumulator = PacketAccumulator::<64>::new();
            let fed = accumulator.feed(&packet, count).expect("a packet ends");
            assert_eq!(fed.packet, Err(WireError::BadChecksum));
            assert_eq!((accumulator.damaged(), accumulator.out_of_step()), (0, 1));
        }
    }

    #[test]
    fn an_ack_is_taken_whatever_was_lost() {
        let ack = [0x34, 1, 3];
        let packet = packet_of(&ack, 700);
        let mut accumulator = PacketAccumulator::<64>::new();
        let fed = accumulator.feed(&packet, 3).expect("a packet ends");
        assert_eq!(fed.packet, Ok(Checked::AtAnyTime(&ack)));
    }

    #[test]
    fn only_what_begins_or_ends_a_link_is_taken_from_a_side_without_a_count() {
        let hello =
            Control::Hello(Hello { version: 2, session: "s", epoch: 9, ..Hello::default() });
        let error = |request| Control::Error(Error { request, code: 6, ..Error::default() });
        for (message, is_taken) in [
            (hello, true),
            (Control::Bye(Bye { code: 1, ..Bye::default() }), true),
            (error(None), true),
            (error(Some(1)), false),
            (Control::Status(Status { request: 1, ..Status::default() }), false),
        ] {
            let frame = control_frame(message);
            let mut packet = PacketAccumulator::<128>::new();
            let bytes = packet_of(&frame, 0);
            let fed = packet.feed(&bytes, 57).expect("a packet ends");
            let expected =
                if is_taken { Ok(Checked::AtAnyTime(&frame)) } else { Err(WireError::BadChecksum) };
            assert_eq!(fed.packet, expected, "{message:?}");
        }
        let bytes = packet_of(&[0x50, 0], 0);
        let mut ping = PacketAccumulator::<16>::new();
        assert_eq!(ping.feed(&bytes, 57).map(|fed| fed.packet), Some(Err(WireError::BadChecksum)));
    }

    #[test]
    fn a_packet_out_of_step_is_told_from_a_damaged_one() {
        let frame = [0x21, 2, 1, 7];
        let crc = Coverage::of(&frame).crc(10).to_le_bytes();
        let packet = [&frame[..], &crc].concat();
        assert_eq!(steps_off(&packet, 8), Some(2));
        assert_eq!(steps_off(&packet, 11), Some(-1));
        assert_eq!(steps_off(&packet, 10 + STEP_WINDOW + 1), None);
    }

    #[test]
    fn good_crc_over_no_frame_is_the_senders_fault() {
        for (content, error) in [
            (&[0x50, 0, 0x50, 0][..], WireError::Trailing),
            (&[0x50, 1], WireError::Truncated),
            (&[0, 0x50, 0], WireError::Trailing),
            (&[0xb0, 0], WireError::UnknownKind(0xb)),
            (&[], WireError::Truncated),
        ] {
            let packet = packet_of(content, 0);
            let mut accumulator = PacketAccumulator::<64>::new();
            let taken = feed_all(&mut accumulator, &packet, &[], 0);
            assert_eq!(taken, [Err(error)], "{content:x?}");
        }
    }

    #[test]
    fn a_packet_over_the_capacity_harms_only_itself() {
        let long = [&[0x20, 21, 1][..], &[7; 20]].concat();
        let stream = [packet_of(&long, 0), packet_of(&[0x50, 0], 0)].concat();
        let mut accumulator = PacketAccumulator::<16>::new();
        let taken = feed_all(&mut accumulator, &stream, &[1], 0);
        assert_eq!(taken, [Err(WireError::TooLong), Ok(vec![0x50, 0])]);
        assert_eq!(accumulator.damaged(), 1);
    }

    #[test]
    fn an_output_too_short_is_told() {
        let frame = [0x21, 2, 1, 7];
        let length = packet_of(&frame, 0).len();
        for short in 0..length {
            assert_eq!(encode(&frame, 0, &mut vec![0; short]), Err(WireError::NoRoom));
        }
    }

    fn any_frame() -> impl Strategy<Value = StdVec<u8>> {
        proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..600).prop_map(|payload| {
            let topic = TopicId::new(1).expect("not 0");
            let frame = Frame::Data { flags: DataFlags::NONE, topic, payload: &payload };
            let mut out = vec![0; frame.encoded_len()];
            frame.encode(&mut out).expect("encoded_len bytes are enough");
            out
        })
    }

    proptest! {
        #[test]
        fn every_frame_comes_back_however_its_packet_is_split(
            frames in proptest::collection::vec(any_frame(), 0..5), count: u32,
            pieces in proptest::collection::vec(1usize..40, 0..8),
        ) {
            let stream: StdVec<u8> = frames.iter().flat_map(|frame| packet_of(frame, count)).collect();
            let mut accumulator = PacketAccumulator::<1024>::new();
            let taken = feed_all(&mut accumulator, &stream, &pieces, count);
            prop_assert_eq!(taken, frames.into_iter().map(Ok).collect::<StdVec<_>>());
            prop_assert_eq!((accumulator.damaged(), accumulator.out_of_step()), (0, 0));
        }

        #[test]
        fn a_packet_has_one_zero_at_its_end_and_no_more_bytes_than_said(frame in any_frame(), count: u32) {
            let packet = packet_of(&frame, count);
            prop_assert_eq!(packet.iter().position(|&byte| byte == 0), Some(packet.len() - 1));
            prop_assert!(packet.len() <= packet_len(frame.len()));
        }

        #[test]
        fn damage_within_two_bytes_of_a_frame_or_of_its_crc_is_found(
            frame in any_frame(), at: proptest::sample::Index, first in 1u8.., second: u8, count: u32,
        ) {
            let mut packet = frame.clone();
            packet.extend(Coverage::of(&frame).crc(count).to_le_bytes());
            prop_assert_eq!(check(&packet, count), Ok(Checked::InStep(&frame)));
            let at = at.index(packet.len() - 1);
            // the count lies between the frame's end and the CRC
            prop_assume!(at + 1 != frame.len());
            packet[at] ^= first;
            packet[at + 1] ^= second;
            // an ACK is covered with another count, so that its CRC is as good as a random one
            prop_assume!(!is_ack(&packet));
            prop_assert_eq!(check(&packet, count), Err(WireError::BadChecksum));
        }

        #[test]
        fn the_packet_after_a_damaged_one_is_taken(
            frame in any_frame(), at: proptest::sample::Index, bits in 1u8..,
        ) {
            let mut packet = packet_of(&frame, 5);
            let at = at.index(packet.len());
            packet[at] ^= bits;
            // where the terminator was hit, the next packet's beginning ends the damaged one
            let next = vec![0x50, 0];
            packet.push(0);
            packet.extend(packet_of(&next, 5));
            let mut accumulator = PacketAccumulator::<1024>::new();
            let mut taken = feed_all(&mut accumulator, &packet, &[], 5);
            prop_assert_eq!(taken.pop(), Some(Ok(next)));
            prop_assert!(!taken.is_empty());
        }

        #[test]
        fn any_bytes_give_the_same_however_they_are_split(
            bytes in proptest::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..200),
            pieces in proptest::collection::vec(1usize..30, 1..12), count in 0u32..3,
        ) {
            let mut whole = PacketAccumulator::<32>::new();
            let mut cut = PacketAccumulator::<32>::new();
            let expected = feed_all(&mut whole, &bytes, &[], count);
            prop_assert_eq!(expected, feed_all(&mut cut, &bytes, &pieces, count));
            prop_assert_eq!(whole.damaged(), cut.damaged());
        }
    }
}
