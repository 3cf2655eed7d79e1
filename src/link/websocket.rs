//! WebSocket links (RFC 6455), for browsers: a binary message holds whole frames, a text message one
//! JSON message. A peer whose first message is text gets everything as text.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use fastport_wire::control::{self, Control, ErrorCode};
use fastport_wire::field::MAX_BODY;
use fastport_wire::json::{Delivery, JsonMessage, gap_to_json, to_json};
use fastport_wire::{Frame, TopicId, WireError, frame};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tracing::debug;

use super::door::{Door, Permit};
use super::drive::{Carrier, Desk, Event, Turn, Written, drive};
use super::handshake::{Frames, shake};
use crate::config::Origins;
use crate::guard::Origin;

/// Which web pages may connect to a listener; can be changed while it runs.
#[derive(Debug)]
pub struct OriginsSource(RwLock<Origins>);

impl OriginsSource {
    /// Those pages.
    #[must_use]
    pub fn new(origins: Origins) -> Arc<Self> {
        Arc::new(Self(RwLock::new(origins)))
    }

    /// Lets these pages connect from now on.
    pub fn reload(&self, origins: Origins) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = origins;
    }

    fn allows(&self, origin: Option<&str>) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).allows(origin)
    }
}

/// Carries a link from its HTTP request to its last byte.
pub(super) async fn serve<T>(
    door: &Door,
    io: T,
    origin: Origin,
    permit: Permit,
    origins: &OriginsSource,
) where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let upgrade = Box::pin(upgrade(io, origins, door.hub.payload_max()));
    let socket = match tokio::time::timeout(door.handshake_timeout(), upgrade).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => {
            door.status().transport_errors.add(1);
            debug!(%origin, %error, "WebSocket upgrade failed");
            return;
        }
        Err(_) => {
            door.status().handshake_timeouts.add(1);
            return;
        }
    };
    let mut link = WebSocketLink { socket, json: None, has_spoken: false };
    let admitted = Box::pin(shake(door, &mut link, &origin)).await;
    drop(permit);
    match admitted {
        Some(admitted) => drive(door, link, admitted).await,
        // the refusal is written; nothing more is owed
        None => link.socket.close(None).await.unwrap_or_default(),
    }
}

// the callback's error is the HTTP response that refuses, as tungstenite wants it
#[allow(clippy::result_large_err)]
async fn upgrade<T>(
    io: T,
    origins: &OriginsSource,
    payload_max: usize,
) -> Result<WebSocketStream<T>, Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let check = |request: &Request, mut response: Response| {
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        if !origins.allows(text(header::ORIGIN)) {
            return Err(refuse(StatusCode::FORBIDDEN, "this page's origin is not allowed here"));
        }
        let Some(offered) = text(header::SEC_WEBSOCKET_PROTOCOL) else { return Ok(response) };
        if !offered.split(',').any(|protocol| protocol.trim() == SUBPROTOCOL) {
            return Err(refuse(StatusCode::BAD_REQUEST, "this server speaks fastport.2"));
        }
        let chosen = HeaderValue::from_static(SUBPROTOCOL);
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
        Ok(response)
    };
    // JSON text with base64 in it is longer than the frame it stands for
    let longest = payload_max.saturating_mul(2).saturating_add(MESSAGE_ROOM);
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest));
    tokio_tungstenite::accept_hdr_async_with_config(io, check, Some(config)).await
}

fn refuse(status: StatusCode, text: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(text.to_owned()));
    *response.status_mut() = status;
    response
}

struct WebSocketLink<T> {
    socket: WebSocketStream<T>,
    /// The peer speaks JSON.
    json: Option<Box<Json>>,
    has_spoken: bool,
}

struct Topic {
    name: Box<str>,
    schema: Option<Box<[u8]>>,
}

/// What is needed to say in JSON what frames say.
#[derive(Default)]
struct Json {
    topics: BTreeMap<TopicId, Topic>,
    clock: Option<u64>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> WebSocketLink<T> {
    /// The frames of a message; empty for those of the WebSocket protocol itself.
    fn frames_of(&mut self, message: &Message) -> Result<Vec<u8>, WireError> {
        match message {
            Message::Binary(bytes) => {
                self.has_spoken = true;
                Ok(bytes.to_vec())
            }
            Message::Text(text) => {
                if !std::mem::replace(&mut self.has_spoken, true) {
                    self.json = Some(Box::default());
                }
                frame_of_json(text.as_str())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// What whole frames are in the peer's language.
    fn messages_of(&mut self, frames: &[u8]) -> Vec<Message> {
        match &mut self.json {
            None => vec![Message::binary(frames.to_vec())],
            Some(json) => json.messages_of(frames),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, messages: Vec<Message>) -> Result<(), Error> {
        let mut socket = Pin::new(&mut self.socket);
        for message in messages {
            // readiness was seen by the caller; what the socket does not take is buffered by it,
            // and not more comes before that is gone
            socket.as_mut().start_send(message)?;
        }
        if let Poll::Ready(Err(error)) = socket.poll_flush(cx) {
            return Err(error);
        }
        Ok(())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Frames for WebSocketLink<T> {
    async fn receive(&mut self, input: &mut Vec<u8>) -> io::Result<()> {
        loop {
            let message = self.socket.next().await.ok_or(io::ErrorKind::UnexpectedEof)?;
            let message = message.map_err(io::Error::other)?;
            if message.is_close() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // what is no message gets the answer that no message gets
            let frames = self.frames_of(&message).unwrap_or_else(|_| NO_MESSAGE.to_vec());
            if !frames.is_empty() {
                input.extend_from_slice(&frames);
                return Ok(());
            }
        }
    }

    async fn send(&mut self, frames: &[u8]) -> io::Result<()> {
        for message in self.messages_of(frames) {
            self.socket.send(message).await.map_err(io::Error::other)?;
        }
        Ok(())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Carrier for WebSocketLink<T> {
    fn poll_write(&mut self, bytes: &[u8], cx: &mut Context<'_>) -> (usize, Written) {
        let mut written = 0;
        loop {
            match Pin::new(&mut self.socket).poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    return (written, Written::Failed(io::Error::other(error)));
                }
                Poll::Pending => return (written, Written::Part),
            }
            let rest = bytes.get(written..).unwrap_or_default();
            let length = whole_frames(rest);
            if length == 0 {
                break;
            }
            let messages = self.messages_of(rest.get(..length).unwrap_or_default());
            written += length;
            if let Err(error) = self.poll_send(cx, messages) {
                return (written, Written::Failed(io::Error::other(error)));
            }
        }
        match Pin::new(&mut self.socket).poll_flush(cx) {
            Poll::Ready(Ok(())) => (written, Written::All),
            Poll::Ready(Err(error)) => (written, Written::Failed(io::Error::other(error))),
            Poll::Pending => (written, Written::Part),
        }
    }

    fn poll_read(&mut self, desk: &mut Desk, door: &Door, cx: &mut Context<'_>) -> Poll<Turn> {
        let message = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
            Some(Ok(message)) if !message.is_close() => message,
            Some(Err(error)) => {
                debug!(%error, "link lost in reading");
                return Poll::Ready(Turn::Over(Event::Finished));
            }
            _ => return Poll::Ready(Turn::Over(Event::Finished)),
        };
        door.status().bytes_in.add(message.len() as u64);
        let frames = match self.frames_of(&message) {
            Ok(frames) => frames,
            Err(error) => return Poll::Ready(desk.fail(ErrorCode::BadJson, &error.to_string())),
        };
        // a PONG of the WebSocket's own is a sign of life, too
        let turn = desk.handle(&frames, door);
        if !desk.is_blocked() && !desk.pending.bytes().is_empty() {
            return Poll::Ready(desk.fail(ErrorCode::BadFrame, "a message ends inside a frame"));
        }
        Poll::Ready(turn)
    }

    async fn close(mut self, last: Option<&[u8]>) -> io::Result<()> {
        if let Some(last) = last {
            self.send(last).await?;
        }
        self.socket.close(None).await.map_err(io::Error::other)
    }
}

impl Json {
    fn messages_of(&mut self, mut frames: &[u8]) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Ok(Some((frame, length))) = Frame::decode(frames, MAX_BODY) {
            frames = frames.get(length..).unwrap_or_default();
            // browsers answer it by themselves
            let ping = matches!(frame, Frame::Ping { .. }).then(|| Message::Ping(Bytes::new()));
            messages.extend(ping.or_else(|| self.text_of(&frame).map(Message::text)));
        }
        messages
    }

    fn text_of(&mut self, frame: &Frame<'_>) -> Option<String> {
        match *frame {
            Frame::Control(body) => Control::decode(body).ok().map(|message| to_json(&message)),
            Frame::Data { flags, topic, payload } => {
                let Topic { name: topic, schema } = self.topics.get(&topic)?;
                let (time, schema) = (self.clock, schema.as_deref());
                Some(Delivery { topic, payload, flags, time, schema }.to_json())
            }
            Frame::Time { unix_ms } => {
                self.clock = Some(unix_ms);
                None
            }
            Frame::Topic { id, name, schema } => {
                let topic = Topic { name: name.into(), schema: schema.map(Box::from) };
                self.topics.insert(id, topic);
                None
            }
            Frame::Gap { topic, count, cause } => {
                let topic = topic.and_then(|id| self.topics.get(&id)).map(|topic| &*topic.name);
                Some(gap_to_json(topic, count, cause))
            }
            // acknowledgements have no place in JSON: requests are answered
            _ => None,
        }
    }
}

/// The frame that a text message stands for.
fn frame_of_json(text: &str) -> Result<Vec<u8>, WireError> {
    let message = JsonMessage::parse(text)?;
    if let Some(taken) = message.acknowledged() {
        return encode(&Frame::Ack { taken, durable: None, central: None, repeat: false });
    }
    let unknown = |error| match (error, message.request()) {
        // the relay says that it does not know it, and to whom
        (WireError::UnknownOp(_), Some(request)) => Ok(unknown_message(request)),
        (error, _) => Err(error),
    };
    let control = match message.as_control() {
        Ok(control) => control,
        Err(error) => return unknown(error),
    };
    let mut body = vec![0; text.len() + control::BODY_ROOM];
    let length = control.encode(&mut body)?;
    encode(&Frame::Control(body.get(..length).unwrap_or_default()))
}

fn encode(frame: &Frame<'_>) -> Result<Vec<u8>, WireError> {
    let mut bytes = vec![0; frame.encoded_len()];
    frame.encode(&mut bytes)?;
    Ok(bytes)
}

/// A CONTROL frame whose op nobody has: `{0: 255, 1: request}`.
fn unknown_message(request: u32) -> Vec<u8> {
    let mut bytes = vec![0x10, 10, 0xa2, 0x00, 0x18, 0xff, 0x01, 0x1a];
    bytes.extend_from_slice(&request.to_be_bytes());
    bytes
}

/// How much of `bytes` to put into one message: whole frames, and not more than about
/// [`MESSAGE_BYTES`].
fn whole_frames(bytes: &[u8]) -> usize {
    let mut length = 0;
    while length < MESSAGE_BYTES {
        let Some(rest) = bytes.get(length..) else { break };
        let Ok(Some((head, _))) = frame::split(rest, MAX_BODY) else { break };
        length += head.total();
    }
    length
}

/// The subprotocol's name.
pub(super) const SUBPROTOCOL: &str = "fastport.2";
/// A CONTROL frame that holds no CBOR map.
const NO_MESSAGE: [u8; 3] = [0x10, 1, 0x00];
/// Of each peer, so small; frames longer than it are put together by tungstenite.
const READ_BUFFER: usize = 1024;
/// A message's share of the link, so that a slow one is not filled with one message for long.
const MESSAGE_BYTES: usize = 64 * 1024;
/// Names and numbers of a message beside its payload.
const MESSAGE_ROOM: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_message_keeps_its_request() {
        let frame = frame_of_json(r#"{"op":"dance","request":7}"#).expect("an object");
        let Ok(Some((Frame::Control(body), _))) = Frame::decode(&frame, 64) else {
            panic!("{frame:x?}");
        };
        assert_eq!(Control::decode(body), Err(WireError::UnknownOp(255)));
        assert_eq!(Control::request_of(body), Some(7));
    }

    #[test]
    fn an_emit_becomes_a_frame() {
        let text = r#"{"op":"emit","topic":"chat/room1","data":"Hello!"}"#;
        let frame = frame_of_json(text).expect("a message");
        let Ok(Some((Frame::Control(body), _))) = Frame::decode(&frame, 64) else {
            panic!("{frame:x?}");
        };
        let Ok(Control::Emit(emit)) = Control::decode(body) else { panic!("{body:x?}") };
        assert_eq!((emit.topic, emit.data), ("chat/room1", &b"Hello!"[..]));
    }
}
