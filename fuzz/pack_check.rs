//! What must hold for any bytes that are taken for a stream with PACK frames: the body of the fuzz
//! target `pack`, and on a stable compiler of the tests of fastport-pack.

use fastport_pack::{MAX_PACK, Packer, Part, first_part, unpack};
use fastport_wire::field::{MAX_BODY, kind};
use fastport_wire::frame;

/// Input: a stream. What is in its PACKs are whole frames within the limit and no PACKs; packed again
/// they come out the same.
pub(crate) fn pack(stream: &[u8]) {
    let mut rest = stream;
    let mut frames = Vec::new();
    loop {
        match first_part(rest) {
            Err(_) | Ok(Part::Beginning) => return,
            Ok(Part::Frames(plain)) => {
                assert!(!plain.is_empty() && plain.len() <= rest.len());
                rest = &rest[plain.len()..];
            }
            Ok(Part::Pack { body, total }) => {
                if unpack(body, &mut frames).is_err() {
                    return;
                }
                assert!((1..=MAX_PACK).contains(&frames.len()));
                are_whole(&frames);
                again(&frames);
                rest = &rest[total..];
            }
        }
    }
}

fn are_whole(mut frames: &[u8]) {
    while !frames.is_empty() {
        let head = frame::head(frames, MAX_BODY).expect("it was checked").expect("it is whole");
        assert_ne!(head.kind(), kind::PACK);
        frames = frames.get(head.total()..).expect("it is whole");
    }
}

fn again(frames: &[u8]) {
    let mut packer = Packer::new();
    let taken = packer.take(frames, usize::MAX);
    packer.pack();
    let output = packer.output();
    assert!(output.len() <= taken);
    let mut out = Vec::new();
    match first_part(output) {
        Ok(Part::Pack { body, total }) => {
            assert_eq!(total, output.len());
            assert_eq!(unpack(body, &mut out), Ok(()));
            assert_eq!(out, &frames[..taken]);
        }
        _ => assert_eq!(output, &frames[..taken]),
    }
}
