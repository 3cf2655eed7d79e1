//! Replays the corpus of the fuzz target `streams`, and its seeds with a byte changed or cut off.
//!
//! `UPDATE=1 cargo test -p fastport-core --test streams` writes the seeds again.

use std::fs;
use std::path::PathBuf;

use fastport_wire::Frame;
use fastport_wire::control::{self, Control};

#[path = "../../../fuzz/streams_check.rs"]
mod streams_check;

use self::streams_check::streams;

#[test]
fn every_input_of_the_corpus_is_survived() {
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(corpus()).expect("the repository can be written");
        for (number, seed) in seeds().iter().enumerate() {
            fs::write(corpus().join(format!("seed-{number}")), seed).expect("as above");
        }
    }
    let mut count = 0;
    for entry in fs::read_dir(corpus()).expect("the corpus is in the repository") {
        let path = entry.expect("readable").path();
        eprintln!("{}", path.display()); // shown where the check fails
        streams(&fs::read(path).expect("readable"));
        count += 1;
    }
    assert!(count >= 2, "{count} inputs");
}

#[test]
fn a_script_with_a_byte_changed_or_cut_off_leaves_nothing_behind() {
    for whole in seeds() {
        streams(&whole);
        for at in 0..whole.len() {
            streams(&whole[..at]);
            for change in [0x01, 0x04, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= change;
                streams(&changed);
            }
        }
    }
}

/// A stream from the first peer to the two others to its end, and one that is given up on the way.
fn seeds() -> [Vec<u8>; 2] {
    // the relay's numbers: 1 for the offer, 2 and 3 for its parts
    let mut begin = Vec::new();
    for place in [1, 2] {
        begin.extend(give(
            place,
            &say(control::Subscribe { request: 1, topic: "f", ..Default::default() }),
        ));
    }
    let offer = control::Offer {
        topic: "f",
        id: 5,
        name: Some("a"),
        size: Some(100),
        ..Default::default()
    };
    begin.extend(give(0, &say(offer)));
    for place in [1, 2] {
        begin.extend(give(
            place,
            &say(control::Accept { id: 1, offset: Some(0), ..Default::default() }),
        ));
        begin.extend(give(place, &frame(&Frame::Credit { stream: 1, bytes: 1000 })));
        begin.extend(write(place));
    }
    begin.extend(write(0));
    let mut whole = begin.clone();
    for stream in [2, 3] {
        whole.extend(give(0, &chunk(stream, 0, 60, false)));
        whole.extend(give(0, &chunk(stream, 60, 40, true)));
    }
    for place in [1, 2] {
        whole.extend(write(place));
        whole.extend(give(
            place,
            &say(control::Accept { id: 1, offset: Some(100), ..Default::default() }),
        ));
    }
    whole.extend(write(0));
    whole.extend(give(0, &say(control::Cancel { id: 5, stream: Some(0), ..Default::default() })));
    let mut part = begin;
    part.extend(give(0, &chunk(2, 0, 60, false)));
    part.extend([1 << 2 | 1, 1]);
    part.extend(give(0, &say(control::Cancel { id: 5, stream: Some(2), ..Default::default() })));
    part.extend(write(1));
    part.extend(give(2, &say(control::Cancel { id: 1, code: Some(23), ..Default::default() })));
    part.extend(give(2, &say(control::Decline { id: 1, ..Default::default() })));
    part.extend([2 << 2, 0]);
    part.extend(write(1));
    [whole, part]
}

fn give(place: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("short frames");
    [&[place, length], bytes].concat()
}

fn write(place: u8) -> [u8; 2] {
    [1 << 2 | place, 255]
}

fn chunk(stream: u32, offset: u64, length: usize, last: bool) -> Vec<u8> {
    frame(&Frame::Chunk { stream, offset, last, sealed: false, bytes: &vec![7; length] })
}

fn say<'a>(message: impl Into<Control<'a>>) -> Vec<u8> {
    let mut body = [0; 256];
    let length = message.into().encode(&mut body).expect("256 bytes are enough");
    frame(&Frame::Control(&body[..length]))
}

fn frame(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = vec![0; frame.encoded_len()];
    frame.encode(&mut bytes).expect("encoded_len is enough");
    bytes
}

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/streams")
}
