//! A small peer: it sends what a test wants sent, and says what came.

use std::time::Duration;

use fastport_wire::control::{self, Control};
use fastport_wire::field::MAX_BODY;
use fastport_wire::frame::DataFlags;
use fastport_wire::{Frame, TopicId};
#[cfg(feature = "websocket")]
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
#[cfg(feature = "websocket")]
use tokio_tungstenite::WebSocketStream;
#[cfg(feature = "websocket")]
use tokio_tungstenite::tungstenite::Message;

/// How long anything may take before the test gives it up; far more than it takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A link's other end, as its transport carries frames.
pub(crate) enum Pipe {
    Stream(Box<dyn Io>),
    #[cfg(feature = "websocket")]
    WebSocket(Box<WebSocketStream<Box<dyn Io>>>),
}

impl Pipe {
    /// Sends whole frames; an error says that the link is gone.
    async fn send(&mut self, frames: &[u8]) -> Result<(), String> {
        let sent = async {
            match self {
                Self::Stream(io) => {
                    io.write_all(frames).await.map_err(|error| error.to_string())?;
                    io.flush().await.map_err(|error| error.to_string())
                }
                #[cfg(feature = "websocket")]
                Self::WebSocket(socket) => {
                    let message = Message::binary(frames.to_vec());
                    socket.send(message).await.map_err(|error| error.to_string())
                }
            }
        };
        timeout(DEADLINE, sent).await.expect("the relay reads in time")
    }

    /// Appends what comes next; false: the link is closed.
    async fn receive(&mut self, input: &mut Vec<u8>) -> bool {
        let before = input.len();
        match self {
            Self::Stream(io) => {
                let mut buffer = vec![0; 16 * 1024];
                let length = io.read(&mut buffer).await.unwrap_or(0);
                input.extend_from_slice(&buffer[..length]);
            }
            #[cfg(feature = "websocket")]
            Self::WebSocket(socket) => match socket.next().await {
                Some(Ok(Message::Binary(frames))) => input.extend_from_slice(&frames),
                None | Some(Err(_) | Ok(Message::Close(_))) => {}
                Some(Ok(other)) => panic!("not asked for: {other:?}"),
            },
        }
        input.len() > before
    }
}

/// What came, in the order in which it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    Welcome { payload_limit: usize },
    Ok { request: u32, id: u32 },
    Error { request: Option<u32>, code: u8, retry: Option<u32> },
    Bye { code: u8, retry: Option<u32> },
    Topic { id: u32, name: String },
    Data { topic: u32, flags: DataFlags, payload: Vec<u8> },
    Ack { taken: u64 },
    Gap { count: u64 },
    Ping,
    Pong { token: Vec<u8> },
    Other,
    Closed,
}

pub(crate) struct Peer {
    pipe: Pipe,
    input: Vec<u8>,
    used: usize,
    requests: u32,
}

impl Peer {
    pub(crate) fn new(pipe: Pipe) -> Self {
        Self { pipe, input: Vec::new(), used: 0, requests: 0 }
    }

    /// Joins the session `demo` with the defaults.
    pub(crate) async fn join(pipe: Pipe) -> Self {
        Self::join_as(pipe, hello()).await
    }

    pub(crate) async fn join_as(pipe: Pipe, hello: control::Hello<'_>) -> Self {
        let mut peer = Self::new(pipe);
        peer.say(hello.into()).await;
        let got = peer.next().await;
        assert!(matches!(got, Got::Welcome { .. }), "{got:?}");
        peer
    }

    pub(crate) async fn say(&mut self, message: Control<'_>) {
        let mut body = [0; 4096];
        let length = message.encode(&mut body).expect("tests send short messages");
        self.send_frame(&Frame::Control(&body[..length])).await;
    }

    pub(crate) async fn send_frame(&mut self, frame: &Frame<'_>) {
        self.send(&bytes_of(frame)).await.expect("the link is there");
    }

    pub(crate) async fn send(&mut self, frames: &[u8]) -> Result<(), String> {
        self.pipe.send(frames).await
    }

    /// Opens a topic for publishing; its id.
    pub(crate) async fn open(&mut self, topic: &str) -> u32 {
        let request = self.take_request();
        self.say(control::Open { request, topic, ..Default::default() }.into()).await;
        self.answer(request).await
    }

    /// Opens a topic on a link that may be cut.
    pub(crate) async fn try_open(&mut self, topic: &str) -> Option<u32> {
        let mut body = [0; 512];
        let open = control::Open { request: 1, topic, ..Default::default() };
        let length = Control::from(open).encode(&mut body).expect("tests send short messages");
        self.send(&bytes_of(&Frame::Control(&body[..length]))).await.ok()?;
        loop {
            match self.next().await {
                Got::Ok { id, .. } => return Some(id),
                Got::Closed => return None,
                _ => {}
            }
        }
    }

    pub(crate) async fn subscribe(&mut self, topic: &str) {
        let request = self.take_request();
        self.say(control::Subscribe { request, topic, ..Default::default() }.into()).await;
        self.answer(request).await;
    }

    async fn answer(&mut self, wanted: u32) -> u32 {
        loop {
            match self.next().await {
                Got::Ok { request, id } if request == wanted => return id,
                Got::Topic { .. } => {}
                other => panic!("no answer but {other:?}"),
            }
        }
    }

    /// The next message: its flags and payload.
    pub(crate) async fn next_data(&mut self) -> (DataFlags, Vec<u8>) {
        loop {
            match self.next().await {
                Got::Data { flags, payload, .. } => return (flags, payload),
                Got::Topic { .. } | Got::Ack { .. } | Got::Ping => {}
                other => panic!("no message but {other:?}"),
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Got {
        loop {
            let rest = &self.input[self.used..];
            if let Some((frame, length)) = Frame::decode(rest, MAX_BODY).expect("frames come") {
                self.used += length;
                return got(&frame);
            }
            self.input.drain(..self.used);
            self.used = 0;
            let received = timeout(DEADLINE, self.pipe.receive(&mut self.input)).await;
            if !received.expect("something comes in time") {
                return Got::Closed;
            }
        }
    }

    fn take_request(&mut self) -> u32 {
        self.requests += 1;
        self.requests
    }
}

/// A HELLO for the session `demo`.
pub(crate) fn hello() -> control::Hello<'static> {
    control::Hello { version: control::VERSION, session: "demo", epoch: 7, ..Default::default() }
}

/// A DATA frame.
pub(crate) fn data(topic: u32, flags: DataFlags, payload: &[u8]) -> Vec<u8> {
    let topic = TopicId::new(topic).expect("ids are not 0");
    bytes_of(&Frame::Data { flags, topic, payload })
}

pub(crate) fn bytes_of(frame: &Frame<'_>) -> Vec<u8> {
    let mut bytes = vec![0; frame.encoded_len()];
    frame.encode(&mut bytes).expect("encoded_len is room enough");
    bytes
}

fn got(frame: &Frame<'_>) -> Got {
    match *frame {
        Frame::Control(body) => match Control::decode(body).expect("messages come") {
            Control::Welcome(it) => {
                Got::Welcome { payload_limit: it.payload_limit.try_into().expect("it fits") }
            }
            Control::Ok(it) => Got::Ok { request: it.request, id: it.id.unwrap_or(0) },
            Control::Error(it) => {
                Got::Error { request: it.request, code: it.code, retry: it.retry }
            }
            Control::Bye(it) => Got::Bye { code: it.code, retry: it.retry },
            _ => Got::Other,
        },
        Frame::Data { flags, topic, payload } => {
            Got::Data { topic: topic.get(), flags, payload: payload.to_vec() }
        }
        Frame::Topic { id, name, .. } => Got::Topic { id: id.get(), name: name.to_owned() },
        Frame::Ack { taken, .. } => Got::Ack { taken },
        Frame::Gap { count, .. } => Got::Gap { count },
        Frame::Ping { .. } => Got::Ping,
        Frame::Pong { token } => Got::Pong { token: token.to_vec() },
        _ => Got::Other,
    }
}
