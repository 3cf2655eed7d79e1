//! The wire: frames and readings, from bytes and to bytes.

use std::hint::black_box;

use fastport_wire::field::MAX_BODY;
use fastport_wire::frame::{DataFlags, split};
use fastport_wire::schema::{Kind, Schema, TimeUnit};
use fastport_wire::{Frame, Readings, ReadingsEncoder, Stamp, TopicId, Value};

use crate::rig::encode;
use crate::{Path, Work};

/// The paths. A message is a frame, or a reading.
pub const PATHS: &[Path] = &[
    Path { name: "decode-32B", about: "DATA of 32 B", make: || Box::new(Decode::new(32)) },
    Path { name: "decode-1KiB", about: "DATA of 1 KiB", make: || Box::new(Decode::new(1024)) },
    Path {
        name: "readings-decode-single",
        about: "payloads of one reading",
        make: || Box::new(ReadingsOf::new(1, false)),
    },
    Path {
        name: "readings-decode-60",
        about: "payloads of 60 readings",
        make: || Box::new(ReadingsOf::new(60, false)),
    },
    Path {
        name: "readings-encode-60",
        about: "payloads of 60 readings",
        make: || Box::new(ReadingsOf::new(60, true)),
    },
];

/// Decodes a write's worth of frames.
struct Decode {
    bytes: Vec<u8>,
    payload: usize,
    decoded: u64,
}

impl Decode {
    fn new(payload: usize) -> Self {
        let topic = TopicId::new(300).expect("300 is not 0");
        let filler = vec![0x2e; payload];
        let data = Frame::Data { flags: DataFlags::NONE, topic, payload: &filler };
        Self { bytes: encode(&data).repeat(FRAMES), payload, decoded: 0 }
    }
}

impl Work for Decode {
    fn round(&mut self) {
        let mut rest = black_box(&self.bytes[..]);
        while let Ok(Some((frame, length))) = Frame::decode(rest, MAX_BODY) {
            black_box(frame);
            rest = rest.get(length..).unwrap_or_default();
            self.decoded += 1;
        }
    }

    fn messages(&self) -> u64 {
        FRAMES as u64
    }

    fn verify(&mut self) {
        let frame = split(&self.bytes, MAX_BODY).expect("well formed").expect("whole");
        let frame = Frame::from_parts(frame.0, frame.1);
        assert!(matches!(frame, Ok(Frame::Data { payload, .. }) if payload.len() == self.payload));
    }

    fn check(&self, rounds: u64) {
        assert_eq!(self.decoded, rounds * self.messages(), "frames decoded");
    }
}

/// Decodes, or encodes, payloads of a thermometer.
struct ReadingsOf {
    readings: Vec<(u64, Value)>,
    payload: Vec<u8>,
    encodes: bool,
    done: u64,
}

impl ReadingsOf {
    fn new(readings: u64, encodes: bool) -> Self {
        // a temperature that changes slowly, every ten seconds or so
        let value = |at: u64| Value::int(2137 + i64::from(at % 7 > 3) - i64::from(at % 5 > 2), -2);
        let readings = (0..readings).map(|at| (at * 10 + at % 3, value(at))).collect();
        let mut new = Self { readings, payload: vec![0; PAYLOAD_MAX], encodes, done: 0 };
        let length = new.encode();
        new.payload.truncate(length);
        new
    }

    fn encode(&mut self) -> usize {
        let mut encoder = ReadingsEncoder::new(&CELSIUS, &mut self.payload);
        for &(time, value) in black_box(&self.readings[..]) {
            encoder.push(time, value).expect("there is room, and it is a decimal");
        }
        encoder.finish(Stamp::Message).expect("no stamp takes no room")
    }

    fn decode(&self) -> u64 {
        let payload = black_box(&self.payload[..]);
        let mut done = 0;
        for reading in Readings::decode(&CELSIUS, payload).into_iter().flatten() {
            black_box(reading);
            done += 1;
        }
        done
    }
}

impl Work for ReadingsOf {
    fn round(&mut self) {
        for _ in 0..PAYLOADS {
            if self.encodes {
                black_box(self.encode());
                self.done += self.readings.len() as u64;
            } else {
                self.done += self.decode();
            }
        }
    }

    fn messages(&self) -> u64 {
        PAYLOADS * self.readings.len() as u64
    }

    fn verify(&mut self) {
        let readings = Readings::decode(&CELSIUS, &self.payload).expect("just encoded");
        let last = self.readings.last().map_or(0, |&(time, _)| time);
        let decoded = readings.iter().map(|reading| (last - reading.before_last, reading.value));
        assert!(decoded.eq(self.readings.iter().copied()), "the readings are as they were");
    }

    fn check(&self, rounds: u64) {
        assert_eq!(self.done, rounds * self.messages(), "readings decoded or encoded");
    }
}

const CELSIUS: Schema<'static> = Schema {
    name: "",
    unit: "Cel",
    kind: Kind::Int { scale: -2 },
    time_unit: TimeUnit::Second,
    absolute: false,
    interval: 0,
};
/// Frames of a write.
const FRAMES: usize = 64;
/// Payloads of a round.
const PAYLOADS: u64 = 16;
/// Room for 60 readings of some bytes each.
const PAYLOAD_MAX: usize = 512;
