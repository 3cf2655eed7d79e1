//! What is promised of PACK frames, from frames to bytes and back.

#![allow(clippy::cast_possible_truncation, reason = "numbers that were made small")]

#[path = "../../../fuzz/pack_check.rs"]
mod pack_check;

use fastport_pack::{BATCH, MAX_PACK, PackError, Packer, Part, first_part, unpack};
use fastport_wire::frame::DataFlags;
use fastport_wire::{Frame, TopicId, WireError};
use proptest::prelude::*;

fn data(payload: &[u8]) -> Vec<u8> {
    let topic = TopicId::new(5).expect("not 0");
    let frame = Frame::Data { flags: DataFlags::COUNTED, topic, payload };
    let mut bytes = vec![0; frame.encoded_len()];
    assert_eq!(frame.encode(&mut bytes), Ok(bytes.len()));
    bytes
}

fn readings(count: usize) -> Vec<u8> {
    (0..count).flat_map(|at| data(format!("{{\"t\":{at},\"celsius\":21.5}}").as_bytes())).collect()
}

/// Sends frames through a packer whose socket takes `step` bytes at a time; what was written.
fn sent(packer: &mut Packer, frames: &[u8], step: usize) -> Vec<u8> {
    let (mut rest, mut written) = (frames, Vec::new());
    loop {
        let output = packer.output();
        if !output.is_empty() {
            let some = &output[..output.len().min(step)];
            written.extend_from_slice(some);
            packer.advance(some.len());
            continue;
        }
        if rest.is_empty() {
            return written;
        }
        let taken = packer.take(rest, usize::MAX);
        packer.pack();
        rest = &rest[taken..];
        if taken == 0 {
            let direct = packer.direct(rest).min(step);
            assert!(direct > 0, "nothing moves");
            written.extend_from_slice(&rest[..direct]);
            packer.passed(rest, direct);
            rest = &rest[direct..];
        }
    }
}

/// What comes out of bytes on the other side.
fn received(bytes: &[u8]) -> Result<Vec<u8>, PackError> {
    let (mut rest, mut all, mut frames) = (bytes, Vec::new(), Vec::new());
    loop {
        match first_part(rest)? {
            Part::Beginning => break,
            Part::Frames(plain) => {
                all.extend_from_slice(plain);
                rest = &rest[plain.len()..];
            }
            Part::Pack { body, total } => {
                unpack(body, &mut frames)?;
                all.extend_from_slice(&frames);
                rest = &rest[total..];
            }
        }
    }
    Ok(all)
}

fn pack_of(length: u64, block: &[u8]) -> Vec<u8> {
    let mut body = [0; 10];
    let at = fastport_wire::varint::encode(length, &mut body).expect("10 bytes are enough");
    let body = [&body[..at], block].concat();
    let frame = Frame::Pack(&body);
    let mut bytes = vec![0; frame.encoded_len()];
    assert_eq!(frame.encode(&mut bytes), Ok(bytes.len()));
    bytes
}

/// A block of literals only, as the format has it.
fn literals(bytes: &[u8]) -> Vec<u8> {
    let mut block = vec![(bytes.len().min(15) as u8) << 4];
    if let Some(mut more) = bytes.len().checked_sub(15) {
        while more >= 255 {
            block.push(255);
            more -= 255;
        }
        block.push(more as u8);
    }
    block.extend_from_slice(bytes);
    block
}

#[test]
fn a_batch_of_readings_takes_less_than_half() {
    let frames = readings(100);
    let bytes = sent(&mut Packer::new(), &frames, usize::MAX);
    assert!(bytes.len() * 2 < frames.len(), "{} of {}", bytes.len(), frames.len());
    assert_eq!(received(&bytes), Ok(frames));
}

#[test]
fn what_is_short_or_does_not_compress_goes_out_as_it_is() {
    let mut noise = 1u32;
    let noise: Vec<u8> = (0..2000)
        .map(|_| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (noise >> 24) as u8
        })
        .collect();
    for frames in [readings(5), data(&noise)] {
        assert_eq!(sent(&mut Packer::new(), &frames, usize::MAX), frames);
    }
}

#[test]
fn it_rests_longer_each_time_that_it_does_not_pay_and_tries_again() {
    let mut noise = 7u32;
    let mut packer = Packer::new();
    let mut frame = || {
        let bytes: Vec<u8> = (0..1000)
            .map(|_| {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (noise >> 24) as u8
            })
            .collect();
        data(&bytes)
    };
    assert_eq!(packer.take(&frame(), usize::MAX), 1004);
    packer.pack();
    packer.advance(1004);
    let good = readings(30);
    // it rests for 16 KiB
    let mut plain = 0;
    while sent(&mut packer, &good, usize::MAX) == good {
        plain += good.len();
        assert!(plain < 20_000, "it never tries again");
    }
    assert!(plain > 14_000, "it rested for {plain} bytes");
}

#[test]
fn the_frame_that_says_so_is_never_in_a_pack() {
    let frames = readings(50);
    let first = data(b"first").len();
    let frames = [data(b"first"), frames].concat();
    let bytes = sent(&mut Packer::after_first(), &frames, 7);
    assert_eq!(bytes[..first], frames[..first]);
    assert!(bytes.len() < frames.len() / 2);
    assert_eq!(received(&bytes), Ok(frames));
}

#[test]
fn a_frame_longer_than_a_batch_goes_out_as_it_is_and_others_are_packed_again() {
    let long = data(&vec![b'a'; BATCH * 3]);
    let frames = [readings(40), long.clone(), readings(40)].concat();
    let bytes = sent(&mut Packer::new(), &frames, 1000);
    assert!(bytes.len() > long.len() && bytes.len() < long.len() + readings(40).len());
    assert_eq!(received(&bytes), Ok(frames));
}

#[test]
fn a_pack_that_comes_in_pieces_is_waited_for() {
    let bytes = sent(&mut Packer::new(), &readings(40), usize::MAX);
    for cut in 2..bytes.len() {
        assert!(!matches!(first_part(&bytes[..cut]), Ok(Part::Pack { .. })), "at {cut}");
    }
    assert!(matches!(first_part(&bytes), Ok(Part::Pack { total, .. }) if total == bytes.len()));
}

#[test]
fn what_is_no_right_pack_is_refused() {
    let ping = b"\x50\x00";
    let good = pack_of(2, &literals(ping));
    assert_eq!(received(&good), Ok(ping.to_vec()));
    let nested = pack_of(good.len() as u64, &literals(&good));
    let unknown = WireError::UnknownKind(0xf);
    for (bytes, error) in [
        (pack_of(0, &literals(b"")), PackError::Length),
        (pack_of(MAX_PACK as u64 + 1, &literals(ping)), PackError::Length),
        (pack_of(u64::MAX, &literals(ping)), PackError::Length),
        (b"\xa0\x02\x82\x00".to_vec(), PackError::Length),
        (b"\xa0\x00".to_vec(), PackError::Length),
        (pack_of(3, &literals(ping)), PackError::Block),
        (pack_of(1, &literals(ping)), PackError::Block),
        (pack_of(2, b""), PackError::Block),
        // a match that begins before the first byte
        (pack_of(9, b"\x10\x50\x09\x00"), PackError::Block),
        (pack_of(3, &literals(b"\x50\x01\x07")[..3]), PackError::Block),
        (pack_of(1, &literals(&ping[..1])), PackError::Cut),
        (pack_of(2, &literals(b"\x50\x03")), PackError::Cut),
        (pack_of(2, &literals(b"\xf0\x00")), PackError::Frame(unknown)),
        (nested, PackError::Nested),
        (b"\xa1\x00".to_vec(), PackError::Flags(1)),
        (b"\xa0\x81\x80\x04".to_vec(), PackError::TooLong(MAX_PACK + 1)),
    ] {
        assert_eq!(received(&bytes), Err(error), "{bytes:02x?}");
    }
}

#[test]
fn no_pack_makes_more_than_its_limit() {
    // the longest run that a block can say: one byte, repeated by what 255s add up to
    let mut block = vec![0x1f, 0, 1, 0];
    block.extend([255; 4000]);
    block.push(0);
    let mut frames = Vec::new();
    assert_eq!(unpack(&pack_of(MAX_PACK as u64, &block)[4..], &mut frames), Err(PackError::Block));
    assert!(frames.capacity() <= MAX_PACK);
}

#[test]
fn every_input_of_the_corpus_passes_its_check() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/pack");
    if std::env::var_os("UPDATE").is_some() {
        write_seeds(folder);
    }
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is in the repository") {
        let path = entry.expect("readable").path();
        eprintln!("{}", path.display()); // shown where the check fails
        pack_check::pack(&std::fs::read(path).expect("readable"));
        count += 1;
    }
    assert!(count >= 8, "{count} inputs");
}

fn write_seeds(folder: &str) {
    std::fs::create_dir_all(folder).expect("the repository can be written");
    let packed = sent(&mut Packer::new(), &readings(12), usize::MAX);
    let two = [&packed[..], b"\x50\x00", &packed].concat();
    let mut broken = packed.clone();
    broken[20] ^= 0x40;
    let seeds = [
        packed,
        two,
        broken,
        readings(12),
        pack_of(2, &literals(b"\x50\x00")),
        pack_of(9, b"\x10\x50\x09\x00"),
        pack_of(2, &literals(b"\xf0\x00")),
        b"\xa0\x81\x80\x04".to_vec(),
    ];
    for (at, seed) in seeds.iter().enumerate() {
        std::fs::write(format!("{folder}/seed-{at:02}"), seed).expect("it can be written");
    }
}

fn any_frames() -> impl Strategy<Value = Vec<u8>> {
    let repeated = (any::<u8>(), 0usize..3000).prop_map(|(byte, length)| vec![byte; length]);
    let noise = proptest::collection::vec(any::<u8>(), 0..600);
    let long = (BATCH - 20..BATCH + 20).prop_map(|length| vec![7; length]);
    let payload = prop_oneof![4 => repeated, 4 => noise, 1 => long];
    let frame = prop_oneof![9 => payload.prop_map(|payload| data(&payload)), 1 => Just(vec![0])];
    proptest::collection::vec(frame, 0..60).prop_map(|frames| frames.concat())
}

proptest! {
    #[test]
    fn any_frames_come_out_as_they_went_in(
        frames in any_frames(), step in 1usize..5000, after_first in any::<bool>(),
    ) {
        let mut packer = if after_first { Packer::after_first() } else { Packer::new() };
        let bytes = sent(&mut packer, &frames, step);
        prop_assert!(bytes.len() <= frames.len());
        prop_assert_eq!(received(&bytes), Ok(frames));
    }

    #[test]
    fn any_change_of_a_pack_gives_frames_or_one_error(
        at in any::<prop::sample::Index>(), flip in 1u8.., cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = sent(&mut Packer::new(), &readings(30), usize::MAX);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        pack_check::pack(&bytes);
        pack_check::pack(&bytes[..cut.index(bytes.len())]);
    }

    #[test]
    fn any_bytes_give_frames_or_one_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        pack_check::pack(&bytes);
        pack_check::pack(&[&[0xa0, 0x80, 0x02, 0x40][..], &bytes].concat());
    }
}
