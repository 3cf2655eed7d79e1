//! A peer over a blocking stream: it sends frames or raw bytes, right or wrong, and says what came.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

use fastport_wire::control::{self, ByeReason, Control, ErrorCode};
use fastport_wire::field::MAX_BODY;
use fastport_wire::frame::{DataFlags, GapCause};
use fastport_wire::{Frame, TopicId};

use super::DEADLINE;

/// What came, in the order in which it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Welcome {
        payload_limit: u32,
        linger: u32,
        resumed: bool,
    },
    Ok {
        request: u32,
        id: u32,
        count: u64,
        text: String,
    },
    Error {
        request: Option<u32>,
        code: Option<ErrorCode>,
        text: String,
        retry: Option<u32>,
    },
    Bye {
        reason: Option<ByeReason>,
        retry: Option<u32>,
    },
    Topic {
        id: u32,
        name: String,
        schema: Vec<u8>,
    },
    Data {
        topic: u32,
        flags: DataFlags,
        payload: Vec<u8>,
    },
    Ack {
        taken: u64,
    },
    Gap {
        topic: Option<u32>,
        count: u64,
        cause: GapCause,
    },
    Pong(Vec<u8>),
    /// Another control message, by name.
    Control(&'static str),
    /// Another frame.
    Other,
    /// The daemon closed the link, in order or not.
    Closed,
}

/// See the module's text.
pub struct Peer<S = TcpStream> {
    pub io: S,
    input: Vec<u8>,
    /// bytes of `input` that were given out as events
    used: usize,
    requests: u32,
    names: BTreeMap<u32, String>,
    pub payload_limit: u32,
}

impl Peer<TcpStream> {
    /// Connects, and sends nothing.
    pub fn dial(address: &str) -> Self {
        Self::silent(connect(address))
    }

    /// Connects to `address` and joins an open session.
    pub fn join(address: &str, session: &str) -> Self {
        Self::join_as(connect(address), session, |_| {})
    }
}

/// A TCP connection on which no call waits for ever.
pub fn connect(address: &str) -> TcpStream {
    with_deadlines(TcpStream::connect(address).expect("the daemon listens"))
}

/// As [`connect`], with a receive buffer of `bytes`: what is not read stays at the daemon.
pub fn connect_small(address: &str, bytes: usize) -> TcpStream {
    let address: SocketAddr = address.parse().expect("the daemon tells an address");
    let (domain, kind) = (socket2::Domain::for_address(address), socket2::Type::STREAM);
    let socket = socket2::Socket::new(domain, kind, None).expect("sockets can be had");
    // before connecting: the window is agreed on there
    socket.set_recv_buffer_size(bytes).expect("any size is taken");
    socket.connect(&address.into()).expect("the daemon listens");
    with_deadlines(socket.into())
}

fn with_deadlines(io: TcpStream) -> TcpStream {
    io.set_nodelay(true).expect("TCP has it");
    io.set_read_timeout(Some(DEADLINE)).expect("the time is not zero");
    io.set_write_timeout(Some(DEADLINE)).expect("the time is not zero");
    io
}

impl<S: Read + Write> Peer<S> {
    /// Joins an open session over a connection, with HELLO changed by `change`.
    pub fn join_as(io: S, session: &str, change: impl FnOnce(&mut control::Hello<'_>)) -> Self {
        let mut peer = Self::begin(io, session, change);
        match peer.next() {
            Event::Welcome { payload_limit, .. } => peer.payload_limit = payload_limit,
            other => panic!("no WELCOME but {other:?}"),
        }
        peer
    }

    /// Sends HELLO and waits for nothing.
    pub fn begin(io: S, session: &str, change: impl FnOnce(&mut control::Hello<'_>)) -> Self {
        static EPOCH: AtomicU64 = AtomicU64::new(1);
        let mut peer = Self::silent(io);
        let epoch = EPOCH.fetch_add(1, Ordering::Relaxed);
        let mut hello = control::Hello { epoch, ..hello(session) };
        change(&mut hello);
        peer.send(hello);
        peer
    }

    /// Sends nothing.
    pub fn silent(io: S) -> Self {
        let (input, names) = (Vec::new(), BTreeMap::new());
        Self { io, input, used: 0, requests: 0, names, payload_limit: 0 }
    }

    /// Sends bytes; whether the link took them.
    pub fn give(&mut self, bytes: &[u8]) -> bool {
        self.io.write_all(bytes).is_ok()
    }

    /// Sends a control message.
    pub fn send<'a>(&mut self, message: impl Into<Control<'a>>) {
        assert!(self.give(&control_frame(message)), "the daemon reads in time");
    }

    /// Sends a frame.
    pub fn send_frame(&mut self, frame: &Frame<'_>) {
        assert!(self.give(&encode(frame)), "the daemon reads in time");
    }

    /// Publishes on an opened topic.
    pub fn publish(&mut self, topic: u32, flags: DataFlags, payload: &[u8]) {
        assert!(self.give(&data(topic, flags, payload)), "the daemon reads in time");
    }

    /// Acknowledges counted messages.
    pub fn acknowledge(&mut self, taken: u64) {
        self.send_frame(&Frame::Ack { taken, durable: None, central: None, repeat: false });
    }

    /// Opens a topic for publishing; its id.
    pub fn open(&mut self, topic: &str) -> u32 {
        self.open_with(topic, None)
    }

    /// As [`Peer::open`], for readings.
    pub fn open_with(&mut self, topic: &str, schema: Option<&[u8]>) -> u32 {
        let request = self.new_request();
        self.send(control::Open { request, topic, schema, ..Default::default() });
        match self.answer(request).0 {
            Event::Ok { id, .. } => id,
            other => panic!("{topic} is not opened: {other:?}"),
        }
    }

    /// Subscribes; what was retained.
    pub fn subscribe(&mut self, topic: &str) -> Vec<Event> {
        let request = self.new_request();
        self.send(control::Subscribe { request, topic, ..Default::default() });
        match self.answer(request) {
            (Event::Ok { .. }, before) => before,
            (other, _) => panic!("{topic} is not subscribed: {other:?}"),
        }
    }

    /// The daemon's figures.
    pub fn status(&mut self) -> serde_json::Value {
        let request = self.new_request();
        self.send(control::Status { request, ..Default::default() });
        match self.answer(request).0 {
            Event::Ok { text, .. } => serde_json::from_str(&text).expect("figures are JSON"),
            other => panic!("no figures: {other:?}"),
        }
    }

    /// Asks for figures until they are as wanted, within [`DEADLINE`]; gives the last.
    pub fn wait_for_status(
        &mut self,
        what: &str,
        mut is_wanted: impl FnMut(&serde_json::Value) -> bool,
    ) -> serde_json::Value {
        let until = std::time::Instant::now() + DEADLINE;
        loop {
            let status = self.status();
            if is_wanted(&status) {
                return status;
            }
            assert!(std::time::Instant::now() < until, "{what} did not come: {status:#}");
            std::thread::yield_now();
        }
    }

    /// Waits until a session has messages queued that nobody takes: between several figures, each of
    /// which gives the daemon's links their turn, nothing moves. Gives the last.
    pub fn wait_for_standstill(&mut self, session: &str) -> serde_json::Value {
        self.standstill(session, 1)
    }

    /// The same, where `least` messages or more are queued then.
    pub fn standstill(&mut self, session: &str, least: u64) -> serde_json::Value {
        let moving = |status: &serde_json::Value| {
            let figures = &status["sessions"][session];
            ["published", "delivered", "queued"].map(|name| figures[name].as_u64())
        };
        let (mut last, mut same) = ([None; 3], 0);
        self.wait_for_status("a standstill", |status| {
            let now = moving(status);
            same = if now == last && now[2] >= Some(least) { same + 1 } else { 0 };
            last = now;
            same == 10
        })
    }

    /// The answer to a request, and what came before it.
    pub fn answer(&mut self, wanted: u32) -> (Event, Vec<Event>) {
        let mut before = Vec::new();
        loop {
            match self.next() {
                ok @ Event::Ok { .. } if ok.request() == Some(wanted) => return (ok, before),
                error @ Event::Error { .. } if error.request() == Some(wanted) => {
                    return (error, before);
                }
                Event::Closed => panic!("link closed instead of an answer; before: {before:?}"),
                other => before.push(other),
            }
        }
    }

    /// The next delivery, with its topic's name.
    pub fn next_data(&mut self) -> (String, Vec<u8>) {
        loop {
            match self.next() {
                Event::Data { topic, payload, .. } => {
                    return (self.name_of(topic).to_owned(), payload);
                }
                Event::Topic { .. } | Event::Ack { .. } | Event::Other => {}
                other => panic!("no delivery but {other:?}"),
            }
        }
    }

    /// What an id stands for, as the daemon said.
    pub fn name_of(&self, topic: u32) -> &str {
        self.names.get(&topic).expect("TOPIC comes before the id's first use")
    }

    /// The next message's payload.
    pub fn next_payload(&mut self) -> Vec<u8> {
        self.next_data().1
    }

    /// What comes next.
    pub fn next(&mut self) -> Event {
        self.frame(|frame| event_of(&frame)).unwrap_or(Event::Closed)
    }

    /// The next frame, as `look` sees it; `None`: the daemon has closed the link.
    pub fn frame<T>(&mut self, look: impl FnOnce(Frame<'_>) -> T) -> Option<T> {
        loop {
            let rest = &self.input[self.used..];
            let decoded = Frame::decode(rest, MAX_BODY).expect("the daemon sends frames");
            if let Some((frame, length)) = decoded {
                if let Frame::Topic { id, name, .. } = frame {
                    self.names.insert(id.get(), name.to_owned());
                }
                let seen = look(frame);
                self.used += length;
                return Some(seen);
            }
            self.input.drain(..self.used);
            self.used = 0;
            let mut buffer = [0; 16 * 1024];
            match self.io.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                // a signal for another thread's child
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // TLS says so when it is closed without its own goodbye
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came from the daemon: {error}"),
            }
        }
    }

    /// The next control message, as `look` sees it; other frames are passed over.
    pub fn control<T>(&mut self, look: impl Fn(&Control<'_>) -> T) -> Option<T> {
        loop {
            let seen = self.frame(|frame| match frame {
                Frame::Control(body) => Some(look(&Control::decode(body).expect("a message"))),
                _ => None,
            })?;
            if seen.is_some() {
                return seen;
            }
        }
    }

    /// Waits for WELCOME.
    pub fn welcomed(&mut self) {
        let is_welcome = self.control(|message| matches!(message, Control::Welcome(_)));
        assert_eq!(is_welcome, Some(true), "not let in");
    }

    /// Waits for the ERROR that ends the link, and its end.
    pub fn refused(&mut self) -> ErrorCode {
        let code = self.control(|message| match message {
            Control::Error(error) => ErrorCode::from_number(error.code),
            other => panic!("{other:?}"),
        });
        let code = code.flatten().expect("the daemon says why");
        assert!(self.frame(|_| ()).is_none(), "the link goes on");
        code
    }

    /// Waits for the answer to the only request that is open: the id of an OK.
    pub fn granted(&mut self) -> Result<Option<u32>, ErrorCode> {
        let answer = self.control(|message| match message {
            Control::Ok(ok) => Ok(ok.id),
            Control::Error(error) => Err(ErrorCode::from_number(error.code).expect("known")),
            other => panic!("{other:?}"),
        });
        answer.expect("the link holds")
    }

    pub fn new_request(&mut self) -> u32 {
        self.requests += 1;
        self.requests
    }
}

impl Event {
    /// Of an ERROR: which request it answers, and its code.
    pub fn error(&self) -> Option<(Option<u32>, ErrorCode)> {
        match self {
            Self::Error { request, code: Some(code), .. } => Some((*request, *code)),
            _ => None,
        }
    }

    fn request(&self) -> Option<u32> {
        match self {
            Self::Ok { request, .. } => Some(*request),
            Self::Error { request, .. } => *request,
            _ => None,
        }
    }
}

/// A HELLO, method `open`, without identity.
pub fn hello(session: &str) -> control::Hello<'_> {
    control::Hello { version: control::VERSION, session, epoch: 7, ..Default::default() }
}

/// A CONTROL frame.
pub fn control_frame<'a>(message: impl Into<Control<'a>>) -> Vec<u8> {
    let mut body = vec![0; 128 * 1024];
    let length = message.into().encode(&mut body).expect("tests send short messages");
    encode(&Frame::Control(&body[..length]))
}

/// A DATA frame.
pub fn data(topic: u32, flags: DataFlags, payload: &[u8]) -> Vec<u8> {
    let topic = TopicId::new(topic).expect("ids are not 0");
    encode(&Frame::Data { flags, topic, payload })
}

/// A frame's bytes.
pub fn encode(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = vec![0; frame.encoded_len()];
    frame.encode(&mut bytes).expect("encoded_len is room enough");
    bytes
}

fn event_of(frame: &Frame<'_>) -> Event {
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    match *frame {
        Frame::Control(body) => match Control::decode(body).expect("the daemon knows its messages")
        {
            Control::Welcome(it) => Event::Welcome {
                payload_limit: it.payload_limit,
                linger: it.linger.unwrap_or(0),
                resumed: it.resumed,
            },
            Control::Ok(it) => Event::Ok {
                request: it.request,
                id: it.id.unwrap_or(0),
                count: it.count.unwrap_or(0),
                text: text(it.text),
            },
            Control::Error(it) => Event::Error {
                request: it.request,
                code: ErrorCode::from_number(it.code),
                text: text(it.text),
                retry: it.retry,
            },
            Control::Bye(it) => {
                Event::Bye { reason: ByeReason::from_number(it.code), retry: it.retry }
            }
            other => Event::Control(other.name()),
        },
        Frame::Data { flags, topic, payload } => {
            Event::Data { topic: topic.get(), flags, payload: payload.to_vec() }
        }
        Frame::Ack { taken, .. } => Event::Ack { taken },
        Frame::Topic { id, name, schema } => Event::Topic {
            id: id.get(),
            name: name.to_owned(),
            schema: schema.unwrap_or_default().to_vec(),
        },
        Frame::Gap { topic, count, cause } => {
            Event::Gap { topic: topic.map(TopicId::get), count, cause }
        }
        Frame::Pong { token } => Event::Pong(token.to_vec()),
        _ => Event::Other,
    }
}
