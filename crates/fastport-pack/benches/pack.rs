//! What packing costs and saves, by what is in the frames and how many go together:
//! `cargo bench -p fastport-pack`. The figures in docs/decisions.md are from here.

#![allow(clippy::print_stdout, reason = "it prints figures")]
#![allow(clippy::cast_possible_truncation, reason = "payloads of some bytes")]

use std::hint::black_box;
use std::time::Instant;

use fastport_pack::{Packer, Part, first_part, unpack};
use fastport_wire::frame::DataFlags;
use fastport_wire::{Frame, TopicId};

fn main() {
    println!(
        "{:<22}{:>8}{:>8}{:>8}{:>10}{:>10}",
        "", "frames", "bytes", "packed", "ns/B in", "ns/B out"
    );
    let kinds: [(&str, Payload); 4] =
        [("JSON", json), ("SenML", senml), ("readings", reading), ("sealed", sealed)];
    for (name, payload) in kinds {
        for count in [5, 20, 100, 1000] {
            let frames: Vec<u8> = (0..count).flat_map(|at| frame(at, &payload(at))).collect();
            figures(name, count, &frames);
        }
    }
}

type Payload = fn(u32) -> Vec<u8>;

fn figures(name: &str, count: u32, frames: &[u8]) {
    let rounds = 20_000_000 / frames.len();
    let packed = packed(frames);
    let start = Instant::now();
    for _ in 0..rounds {
        black_box(self::packed(black_box(frames)));
    }
    let per_byte =
        |start: Instant| start.elapsed().as_nanos() as f64 / (rounds * frames.len()) as f64;
    let pack = per_byte(start);
    let mut out = Vec::new();
    let start = Instant::now();
    for _ in 0..rounds {
        let mut rest = black_box(&packed[..]);
        while let Ok(part) = first_part(rest) {
            let length = match part {
                Part::Pack { body, total } => {
                    unpack(body, &mut out).expect("it was packed");
                    total
                }
                Part::Frames(plain) => plain.len(),
                Part::Beginning => break,
            };
            rest = &rest[length..];
        }
    }
    let unpack = per_byte(start);
    println!(
        "{name:<22}{count:>8}{:>8}{:>8}{pack:>10.2}{unpack:>10.2}",
        frames.len(),
        packed.len()
    );
}

fn packed(frames: &[u8]) -> Vec<u8> {
    let (mut packer, mut rest, mut all) = (Packer::new(), frames, Vec::new());
    while !rest.is_empty() {
        let taken = packer.take(rest, usize::MAX);
        packer.pack();
        all.extend_from_slice(packer.output());
        packer.advance(packer.output().len());
        rest = &rest[taken..];
    }
    all
}

/// As a gateway sends it: when it was taken, and the message on one of eight topics.
fn frame(at: u32, payload: &[u8]) -> Vec<u8> {
    let unix_ms = 1_764_000_000_000 + u64::from(at) * 997;
    let topic = TopicId::new(1 + at % 8).expect("not 0");
    let frames =
        [Frame::Time { unix_ms }, Frame::Data { flags: DataFlags::COUNTED, topic, payload }];
    let mut all = Vec::new();
    for frame in frames {
        let mut bytes = vec![0; frame.encoded_len()];
        frame.encode(&mut bytes).expect("encoded_len is enough");
        all.extend(bytes);
    }
    all
}

fn noise(at: u32) -> u32 {
    let at = at.wrapping_mul(0x9e37_79b9);
    (at ^ at >> 15).wrapping_mul(0x85eb_ca6b) >> 8
}

fn json(at: u32) -> Vec<u8> {
    let (value, id) = (noise(at) % 500, at % 8);
    format!(
        "{{\"sensor\":\"boiler-{id}\",\"celsius\":{}.{},\"ok\":true}}",
        20 + value / 100,
        value % 100
    )
    .into_bytes()
}

fn senml(at: u32) -> Vec<u8> {
    let value = noise(at) % 500;
    let time = 1_764_000_000 + at;
    format!(
        "[{{\"n\":\"plant/boiler/{}\",\"u\":\"Cel\",\"t\":{time},\"v\":{}.{}}}]",
        at % 8,
        20 + value / 100,
        value % 100
    )
    .into_bytes()
}

fn reading(at: u32) -> Vec<u8> {
    let value = 4000 + noise(at) % 500;
    vec![(value & 0x7f | 0x80) as u8, (value >> 7) as u8]
}

fn sealed(at: u32) -> Vec<u8> {
    (0..64).map(|byte| noise(at * 64 + byte) as u8).collect()
}
