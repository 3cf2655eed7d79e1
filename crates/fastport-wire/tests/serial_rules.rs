//! The rules of docs/protocol.md, "Serial lines", played by two ends of a line that loses and damages
//! packets: whatever the line does, each counted frame arrives once and in order, both ways.

use std::collections::VecDeque;

use fastport_wire::WireError;
use fastport_wire::frame::{DataFlags, Frame, TopicId};
use fastport_wire::packet::{self, Checked, PacketAccumulator};

/// One step of the game is about the time of one packet.
const REPEAT_AGAIN: u32 = 12;
const PING_WHEN_UNACKNOWLEDGED: u32 = 25;

#[test]
fn each_counted_frame_arrives_once_and_in_order_both_ways() {
    let mut repeats = 0;
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let bad_in_100 = dice.below(40);
        let mut ends = [End::new(30), End::new(dice.below(30))];
        let mut lines = [Line::default(), Line::default()];
        let mut now = 0;
        while !(0..2).all(|it| ends[it].taken == ends[1 - it].payloads()) {
            now += 1;
            assert!(now < 5_000, "seed {seed}: no end with {bad_in_100} of 100 packets bad");
            for it in 0..2 {
                if let Some(packet) = ends[it].send(now) {
                    lines[it].put(packet, bad_in_100, &mut dice);
                }
                if let Some(bytes) = lines[it].take(&mut dice) {
                    ends[1 - it].receive(&bytes, now);
                }
            }
        }
        repeats += ends[0].went_back + ends[1].went_back;
    }
    assert!(repeats > 1_000, "the line was too good to show anything");
}

/// One end: what it sends, and what it has taken.
struct End {
    frames: Vec<Vec<u8>>,
    /// How many counted frames it has sent, less those it has to send again.
    sent: usize,
    acknowledged: usize,
    taken: Vec<Vec<u8>>,
    owes: VecDeque<Vec<u8>>,
    repeat_asked: Option<u32>,
    quiet_since: u32,
    went_back: u32,
    accumulator: PacketAccumulator<64>,
}

impl End {
    fn new(count: u32) -> Self {
        Self {
            frames: (0..count).map(data).collect(),
            sent: 0,
            acknowledged: 0,
            taken: Vec::new(),
            owes: VecDeque::new(),
            repeat_asked: None,
            quiet_since: 0,
            went_back: 0,
            accumulator: PacketAccumulator::new(),
        }
    }

    fn payloads(&self) -> Vec<Vec<u8>> {
        self.frames.clone()
    }

    fn send(&mut self, now: u32) -> Option<Vec<u8>> {
        if let Some(frame) = self.owes.pop_front() {
            return Some(self.packet(&frame, self.sent));
        }
        if let Some(frame) = self.frames.get(self.sent) {
            let packet = self.packet(frame, self.sent);
            self.sent += 1;
            self.quiet_since = now;
            return Some(packet);
        }
        let is_silent = now - self.quiet_since >= PING_WHEN_UNACKNOWLEDGED;
        if self.acknowledged < self.sent && is_silent {
            self.quiet_since = now;
            return Some(self.packet(&encoded(&Frame::Ping { token: &[] }), self.sent));
        }
        None
    }

    fn receive(&mut self, bytes: &[u8], now: u32) {
        let mut rest = bytes;
        loop {
            let count = u32::try_from(self.taken.len()).expect("few");
            let Some(fed) = self.accumulator.feed(rest, count) else { return };
            rest = fed.rest;
            match fed.packet {
                Ok(Checked::InStep(frame)) => {
                    let frame = frame.to_vec();
                    self.repeat_asked = None;
                    self.take(&frame);
                }
                Ok(Checked::AtAnyTime(frame)) => {
                    let frame = frame.to_vec();
                    self.take(&frame);
                }
                Err(error) => {
                    assert!(matches!(error, WireError::BadChecksum | WireError::TooLong));
                    let is_due = self.repeat_asked.is_none_or(|at| now - at >= REPEAT_AGAIN);
                    if is_due {
                        self.repeat_asked = Some(now);
                        self.acknowledge(true);
                    }
                }
            }
        }
    }

    fn take(&mut self, frame: &[u8]) {
        let (decoded, _) = Frame::decode(frame, 64).expect("checked").expect("whole");
        match decoded {
            Frame::Data { .. } => {
                self.taken.push(frame.to_vec());
                self.acknowledge(false);
            }
            Frame::Ack { taken, repeat, .. } => {
                let taken = usize::try_from(taken).expect("few");
                assert!(taken <= self.frames.len());
                self.acknowledged = self.acknowledged.max(taken);
                if repeat && taken < self.sent {
                    self.sent = taken;
                    self.went_back += 1;
                }
            }
            Frame::Ping { token } => self.owes.push_back(encoded(&Frame::Pong { token })),
            _ => {}
        }
    }

    fn acknowledge(&mut self, repeat: bool) {
        let taken = self.taken.len() as u64;
        let ack = Frame::Ack { taken, durable: None, central: None, repeat };
        self.owes.push_back(encoded(&ack));
    }

    fn packet(&self, frame: &[u8], count: usize) -> Vec<u8> {
        let mut out = vec![0; packet::packet_len(frame.len())];
        let count = u32::try_from(count).expect("few");
        let length = packet::encode(frame, count, &mut out).expect("packet_len is enough");
        out.truncate(length);
        out
    }
}

/// One direction of the line: packets wait in it, are lost, hit, cut or run together.
#[derive(Default)]
struct Line(VecDeque<Vec<u8>>);

impl Line {
    fn put(&mut self, mut packet: Vec<u8>, bad_in_100: u32, dice: &mut Dice) {
        if dice.below(100) < bad_in_100 {
            let at = dice.below(u32::try_from(packet.len()).expect("short")) as usize;
            match dice.below(4) {
                0 => return,
                1 => packet[at] ^= 1 << dice.below(8),
                2 => packet.truncate(at),
                _ => packet.insert(at, 0),
            }
        }
        self.0.push_back(packet);
    }

    /// Nothing comes while a packet is still under way.
    fn take(&mut self, dice: &mut Dice) -> Option<Vec<u8>> {
        if self.0.len() < 4 && dice.below(3) == 0 { None } else { self.0.pop_front() }
    }
}

/// A linear congruential generator, so that a game that was lost can be played again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let high = u32::try_from(self.0 >> 33).expect("31 bits");
        high % limit.max(1)
    }
}

fn data(number: u32) -> Vec<u8> {
    let topic = TopicId::new(1).expect("not 0");
    encoded(&Frame::Data { flags: DataFlags::COUNTED, topic, payload: &number.to_le_bytes() })
}

fn encoded(frame: &Frame<'_>) -> Vec<u8> {
    let mut out = vec![0; frame.encoded_len()];
    assert_eq!(frame.encode(&mut out), Ok(out.len()));
    out
}
