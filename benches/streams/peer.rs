//! Peers as thin as they can be: frames on blocking sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fastport_wire::control::{self, Control, features};
use fastport_wire::field::{MAX_BODY, MAX_CHUNK};
use fastport_wire::frame::DataFlags;
use fastport_wire::{Frame, TopicId};

use crate::connect;

/// A link and what came over it.
struct Link {
    io: TcpStream,
    input: Vec<u8>,
    used: usize,
    filled: usize,
}

impl Link {
    fn join(address: &str) -> Self {
        let mut link = Self { io: connect(address), input: vec![0; INPUT], used: 0, filled: 0 };
        link.say(control::Hello {
            version: control::VERSION,
            session: "demo",
            flags: Some(features::STREAMS),
            ..Default::default()
        });
        link.wait(|frame| matches!(frame, Frame::Control(_)).then_some(()));
        link
    }

    fn say<'a>(&mut self, message: impl Into<Control<'a>>) {
        let mut body = [0; 512];
        let length = message.into().encode(&mut body).expect("short messages");
        self.send(&Frame::Control(&body[..length]));
    }

    fn send(&mut self, frame: &Frame<'_>) {
        let mut bytes = vec![0; frame.encoded_len()];
        frame.encode(&mut bytes).expect("encoded_len is enough");
        self.io.write_all(&bytes).expect("the daemon reads");
    }

    /// Reads once, and hands out the whole frames.
    fn read(&mut self, mut take: impl FnMut(&Frame<'_>)) -> bool {
        self.input.copy_within(self.used..self.filled, 0);
        (self.filled, self.used) = (self.filled - self.used, 0);
        let read = self.io.read(&mut self.input[self.filled..]);
        if read.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
            return false;
        }
        let length = read.expect("the link holds");
        assert!(length > 0, "the daemon closed the link");
        self.filled += length;
        while let Ok(Some((frame, length))) =
            Frame::decode(&self.input[self.used..self.filled], MAX_BODY)
        {
            take(&frame);
            self.used += length;
        }
        true
    }

    fn wait<T>(&mut self, mut wanted: impl FnMut(&Frame<'_>) -> Option<T>) -> T {
        let mut found = None;
        while found.is_none() {
            self.read(|frame| found = found.take().or_else(|| wanted(frame)));
        }
        found.expect("looked at above")
    }
}

/// Who takes a stream, and reads alarms over the same link.
pub(crate) struct Receiver(Link);

impl Receiver {
    pub(crate) fn join(address: &str) -> Self {
        let mut link = Link::join(address);
        for (request, topic) in [(1, "file"), (2, "alarm")] {
            link.say(control::Subscribe { request, topic, ..Default::default() });
        }
        let mut answers = 0;
        link.wait(|frame| {
            answers += u32::from(matches!(frame, Frame::Control(_)));
            (answers == 2).then_some(())
        });
        Self(link)
    }

    /// Takes a stream of so many bytes as fast as it comes, and says that it has them: with its sender's
    /// link a stream would end.
    pub(crate) fn receive(mut self, bytes: u64) {
        let mut taking = Taking::default();
        while taking.at < bytes {
            self.0.read(|frame| taking.take(frame));
            taking.answer(&mut self.0);
        }
        let id = taking.id.unwrap_or_default();
        self.0.say(control::Accept { id, offset: Some(bytes), ..Default::default() });
    }
}

/// How far a stream is.
#[derive(Default)]
struct Taking {
    id: Option<u32>,
    is_new: bool,
    at: u64,
    granted: u64,
}

impl Taking {
    fn take(&mut self, frame: &Frame<'_>) {
        match *frame {
            Frame::Chunk { bytes, .. } => self.at += bytes.len() as u64,
            Frame::Control(body) => {
                if let Ok(Control::Offer(offer)) = Control::decode(body) {
                    (self.id, self.is_new) = (Some(offer.id), true);
                }
            }
            _ => {}
        }
    }

    fn answer(&mut self, link: &mut Link) {
        let Some(id) = self.id else { return };
        if std::mem::take(&mut self.is_new) {
            link.say(control::Accept { id, ..Default::default() });
        }
        let more = self.at + WINDOW - self.granted;
        if more >= WINDOW / 4 {
            self.granted += more;
            link.send(&Frame::Credit { stream: id, bytes: more });
        }
    }
}

/// Who sends a stream.
pub(crate) struct Sender(Link);

impl Sender {
    pub(crate) fn join(address: &str) -> Self {
        Self(Link::join(address))
    }

    /// Sends a stream of so many bytes, until its receiver has them or is gone, or until `is_over`; how many it
    /// sent.
    pub(crate) fn send_until(mut self, bytes: u64, is_over: &AtomicBool) -> u64 {
        self.0.say(control::Offer {
            topic: "file",
            id: 1,
            size: Some(bytes.min(1 << 39)),
            ..Default::default()
        });
        let (mut stream, mut at, mut granted, mut is_taken) = (0, 0, 0, true);
        let block = vec![7; MAX_CHUNK];
        let mut out = vec![0; 4 * (MAX_CHUNK + 32)];
        while at < bytes && !is_over.load(Ordering::Relaxed) {
            while at == granted && is_taken {
                self.0.read(|frame| match *frame {
                    Frame::Credit { stream: id, bytes } => {
                        (stream, granted) = (id, granted + bytes);
                    }
                    Frame::Control(body) => is_taken = !is_cancel(body),
                    _ => {}
                });
            }
            if !is_taken {
                return at;
            }
            // as many as fit go with one call
            let mut length = 0;
            while at < granted && out.len() - length > MAX_CHUNK + 31 {
                let more = (granted - at).min(MAX_CHUNK as u64);
                let chunk = &block[..usize::try_from(more).unwrap_or(MAX_CHUNK)];
                let last = at + more == bytes;
                let frame = Frame::Chunk { stream, offset: at, last, sealed: false, bytes: chunk };
                length += frame.encode(&mut out[length..]).expect("there is room");
                at += more;
            }
            self.0.io.write_all(&out[..length]).expect("the daemon reads");
        }
        if at == bytes {
            self.0.wait(|frame| has_all(frame, bytes).then_some(()));
        }
        at
    }
}

fn is_cancel(body: &[u8]) -> bool {
    matches!(Control::decode(body), Ok(Control::Cancel(_)))
}

fn has_all(frame: &Frame<'_>, bytes: u64) -> bool {
    let Frame::Control(body) = *frame else { return false };
    matches!(Control::decode(body), Ok(Control::Accept(accept)) if accept.offset == Some(bytes))
}

/// The delays of so many alarms on the receiver's link, in order. They begin once a stream comes,
/// where one is to.
pub(crate) fn alarms(
    address: &str,
    count: usize,
    receiver: Receiver,
    is_idle: &AtomicBool,
) -> Vec<Duration> {
    let mut publisher = Link::join(address);
    publisher.say(control::Open { request: 1, topic: "alarm", ..Default::default() });
    let topic = publisher.wait(|frame| match *frame {
        Frame::Topic { id, .. } => Some(id),
        _ => None,
    });
    let begun = Instant::now();
    let is_idle = is_idle.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || read_alarms(receiver.0, count, begun));
        if !is_idle {
            std::thread::park_timeout(PAUSE * 100);
        }
        publish(&mut publisher, topic, count, begun);
        let mut delays = reading.join().expect("no panic");
        delays.sort();
        delays
    })
}

fn publish(publisher: &mut Link, topic: TopicId, count: usize, begun: Instant) {
    for _ in 0..count {
        let payload = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(0).to_be_bytes();
        publisher.send(&Frame::Data { flags: DataFlags::NONE, topic, payload: &payload });
        std::thread::park_timeout(PAUSE);
    }
}

fn read_alarms(mut link: Link, count: usize, begun: Instant) -> Vec<Duration> {
    let mut taking = Taking::default();
    let mut delays = Vec::with_capacity(count);
    while delays.len() < count {
        link.read(|frame| match *frame {
            Frame::Data { payload, .. } => {
                let sent = payload.try_into().map_or(0, u64::from_be_bytes);
                delays.push(begun.elapsed().saturating_sub(Duration::from_nanos(sent)));
            }
            _ => taking.take(frame),
        });
        taking.answer(&mut link);
    }
    delays
}

/// What a receiver takes ahead.
const WINDOW: u64 = 1024 * 1024;
const INPUT: usize = 256 * 1024;
/// Between two alarms.
const PAUSE: Duration = Duration::from_millis(1);
