//! A link over a blocking stream: it sends raw bytes, right or wrong, and says what came.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

use fastport_wire::control::{self, ByeReason, Control, ErrorCode};
use fastport_wire::field::MAX_BODY;
use fastport_wire::frame::DataFlags;
use fastport_wire::{Frame, TopicId};

use super::DEADLINE;

/// What came, in the order in which it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    Welcome,
    Ok {
        request: u32,
        id: u32,
        text: String,
    },
    Error {
        request: Option<u32>,
        code: Option<ErrorCode>,
    },
    Bye(Option<ByeReason>),
    Topic {
        id: u32,
        name: String,
    },
    Data {
        topic: u32,
        flags: DataFlags,
        payload: Vec<u8>,
    },
    Ack {
        taken: u64,
    },
    Pong(Vec<u8>),
    /// Another control message, by name.
    Control(&'static str),
    /// Another frame.
    Other,
    /// The daemon closed the link.
    Closed,
}

/// See the module's text.
pub struct Wire<S = TcpStream> {
    pub io: S,
    input: Vec<u8>,
    requests: u32,
}

/// A TCP connection on which no call waits for ever.
pub fn connect(address: &str) -> TcpStream {
    let io = TcpStream::connect(address).expect("the daemon listens");
    io.set_nodelay(true).expect("TCP has it");
    io.set_read_timeout(Some(DEADLINE)).expect("the time is not zero");
    io.set_write_timeout(Some(DEADLINE)).expect("the time is not zero");
    io
}

impl Wire {
    /// Connects, and sends nothing.
    pub fn dial(address: &str) -> Self {
        Self::over(connect(address))
    }

    /// Connects and joins the session `demo`.
    pub fn join(address: &str) -> Self {
        let mut wire = Self::dial(address);
        wire.say(hello().into());
        assert_eq!(wire.next(), Got::Welcome);
        wire
    }
}

impl<S: Read + Write> Wire<S> {
    pub fn over(io: S) -> Self {
        Self { io, input: Vec::new(), requests: 0 }
    }

    /// Sends bytes; whether the link took them.
    pub fn give(&mut self, bytes: &[u8]) -> bool {
        self.io.write_all(bytes).is_ok()
    }

    pub fn say(&mut self, message: Control<'_>) {
        assert!(self.give(&control_frame(message)), "the link is there");
    }

    /// Opens a topic for publishing; its id.
    pub fn open(&mut self, topic: &str) -> u32 {
        self.open_with(topic, None)
    }

    /// As [`Wire::open`], for readings.
    pub fn open_with(&mut self, topic: &str, schema: Option<&[u8]>) -> u32 {
        let request = self.take_request();
        self.say(control::Open { request, topic, schema, ..Default::default() }.into());
        self.answer(request).0
    }

    pub fn subscribe(&mut self, topic: &str) {
        let request = self.take_request();
        self.say(control::Subscribe { request, topic, ..Default::default() }.into());
        self.answer(request);
    }

    /// The daemon's figures.
    pub fn status(&mut self) -> serde_json::Value {
        let request = self.take_request();
        self.say(control::Status { request, ..Default::default() }.into());
        serde_json::from_str(&self.answer(request).1).expect("figures are JSON")
    }

    fn answer(&mut self, wanted: u32) -> (u32, String) {
        loop {
            match self.next() {
                Got::Ok { request, id, text } if request == wanted => return (id, text),
                Got::Topic { .. } | Got::Ack { .. } | Got::Data { .. } => {}
                other => panic!("no answer but {other:?}"),
            }
        }
    }

    /// The next message's payload.
    pub fn next_payload(&mut self) -> Vec<u8> {
        loop {
            match self.next() {
                Got::Data { payload, .. } => return payload,
                Got::Topic { .. } | Got::Ack { .. } => {}
                other => panic!("no message but {other:?}"),
            }
        }
    }

    /// What comes next.
    pub fn next(&mut self) -> Got {
        loop {
            if let Some((frame, length)) =
                Frame::decode(&self.input, MAX_BODY).expect("the daemon sends frames")
            {
                let got = got(&frame);
                self.input.drain(..length);
                return got;
            }
            let mut buffer = [0; 16 * 1024];
            match self.io.read(&mut buffer) {
                Ok(0) => return Got::Closed,
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                // a signal for another thread's child
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Got::Closed,
                Err(error) => panic!("nothing came from the daemon: {error}"),
            }
        }
    }

    pub fn take_request(&mut self) -> u32 {
        self.requests += 1;
        self.requests
    }
}

/// A HELLO for the session `demo`.
pub fn hello() -> control::Hello<'static> {
    control::Hello { version: control::VERSION, session: "demo", epoch: 7, ..Default::default() }
}

/// A CONTROL frame.
pub fn control_frame(message: Control<'_>) -> Vec<u8> {
    let mut body = vec![0; 128 * 1024];
    let length = message.encode(&mut body).expect("tests send short messages");
    frame(&Frame::Control(&body[..length]))
}

/// A DATA frame.
pub fn data(topic: u32, flags: DataFlags, payload: &[u8]) -> Vec<u8> {
    let topic = TopicId::new(topic).expect("ids are not 0");
    frame(&Frame::Data { flags, topic, payload })
}

/// A frame's bytes.
pub fn frame(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = vec![0; frame.encoded_len()];
    frame.encode(&mut bytes).expect("encoded_len is room enough");
    bytes
}

fn got(frame: &Frame<'_>) -> Got {
    match *frame {
        Frame::Control(body) => match Control::decode(body).expect("the daemon knows its messages")
        {
            Control::Welcome(_) => Got::Welcome,
            Control::Ok(it) => Got::Ok {
                request: it.request,
                id: it.id.unwrap_or(0),
                text: it.text.unwrap_or_default().to_owned(),
            },
            Control::Error(it) => {
                Got::Error { request: it.request, code: ErrorCode::from_number(it.code) }
            }
            Control::Bye(it) => Got::Bye(ByeReason::from_number(it.code)),
            other => Got::Control(other.name()),
        },
        Frame::Data { flags, topic, payload } => {
            Got::Data { topic: topic.get(), flags, payload: payload.to_vec() }
        }
        Frame::Topic { id, name, .. } => Got::Topic { id: id.get(), name: name.to_owned() },
        Frame::Ack { taken, .. } => Got::Ack { taken },
        Frame::Pong { token } => Got::Pong(token.to_vec()),
        _ => Got::Other,
    }
}
