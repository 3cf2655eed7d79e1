//! WebSocket links (RFC 6455), for browsers: a binary message holds whole frames, a text message one
//! JSON message. A peer whose first message is text gets everything as text.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use fastport_core::handshake::Refusal;
use fastport_wire::control::{self, Control, ErrorCode};
use fastport_wire::field::MAX_BODY;
use fastport_wire::json::{Delivery, JsonMessage, gap_to_json, to_json};
use fastport_wire::{Frame, TopicId, WireError, frame};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error, Message};
use tracing::debug;

use super::door::{Door, Permit};
use super::drive::{Carrier, Desk, Event, Running, Turn, Written, drive};
use super::handshake::{Failure, Frames, shake};
use super::stream::end;
use crate::config::Origins;
use crate::guard::{Origin, Visit};

/// Takes a link from its HTTP request into its session; `None`: it is over.
pub(super) async fn enter<T>(
    door: Arc<Door>,
    mut io: T,
    origin: Origin,
    permit: Permit,
    visit: Visit,
    origins: Arc<Origins>,
) -> Option<Running>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = config(door.hub.payload_max());
    let upgrade = Box::pin(upgrade(&mut io, &origins, config));
    match tokio::time::timeout_at(permit.until, upgrade).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            door.status().transport_errors.add(1);
            debug!(%origin, %error, "WebSocket upgrade failed");
            let told = Box::pin(tell_why(&mut io, &error));
            let told = tokio::time::timeout_at(permit.until, told).await;
            debug!(%origin, told = told.is_ok_and(|told| told.is_ok()), "upgrade refused");
            return None;
        }
        Err(_) => {
            door.status().handshake_timeouts.add(1);
            return None;
        }
    }
    // no byte is lost between the two: a peer that sends before it has the answer was refused
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let mut link = WebSocketLink { socket, json: None, has_spoken: false, owed: None };
    let Some(admitted) = shake(&door, &mut link, &origin, &permit).await else {
        // the refusal is written; what is left of the time is for its arrival
        let closed = tokio::time::timeout_at(permit.until, link.close(None, true)).await;
        debug!(%origin, in_order = closed.is_ok(), "refused link closed");
        return None;
    };
    Some(drive(door, link, admitted, visit))
}

fn config(payload_max: usize) -> WebSocketConfig {
    // JSON text with base64 in it is longer than the frame it stands for
    let longest = payload_max.saturating_mul(2).saturating_add(MESSAGE_ROOM);
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest))
}

// the callback's error is the HTTP response that refuses, as tungstenite wants it
#[allow(clippy::result_large_err)]
async fn upgrade<T>(io: &mut T, origins: &Origins, config: WebSocketConfig) -> Result<(), Error>
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
    tokio_tungstenite::accept_hdr_async_with_config(io, check, Some(config)).await.map(|_| ())
}

/// Answers a request that is none for a WebSocket; tungstenite says nothing then.
async fn tell_why<T>(io: &mut T, error: &Error) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let response = match error {
        Error::Protocol(
            ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader
            | ProtocolError::MissingSecWebSocketVersionHeader,
        ) => UPGRADE_REQUIRED,
        Error::Protocol(_) | Error::HttpFormat(_) | Error::AttackAttempt => BAD_REQUEST,
        // it has its answer, or is gone
        _ => "",
    };
    io.write_all(response.as_bytes()).await?;
    end(io, true).await
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
    /// An answer that waits until the peer reads its other ones.
    owed: Option<NoFrames>,
}

/// What a message that has no frames is answered: its request, or 0, and the code.
type NoFrames = (u32, ErrorCode);

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
    fn frames_of(&mut self, message: &Message) -> Result<Vec<u8>, NoFrames> {
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
    async fn receive(&mut self, input: &mut Vec<u8>) -> Result<(), Failure> {
        loop {
            let message = match self.socket.next().await {
                Some(Ok(message)) if !message.is_close() => message,
                Some(Err(Error::Capacity(_))) => {
                    return Err(Refusal::because(ErrorCode::FrameTooLong).into());
                }
                Some(Err(error)) => return Err(io::Error::other(error).into()),
                _ => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            };
            let frames = self.frames_of(&message);
            let frames = frames.map_err(|(_, code)| Refusal::because(code))?;
            if ends_inside_a_frame(&frames) {
                return Err(Refusal::because(ErrorCode::BadFrame).into());
            }
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

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Carrier for WebSocketLink<T> {
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
        if let Some((request, code)) = self.owed {
            // room comes by writing, and reading is tried again after it
            if !desk.refuse(request, code) {
                return Poll::Pending;
            }
            self.owed = None;
        }
        let message = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
            Some(Ok(message)) if !message.is_close() => message,
            Some(Err(Error::Capacity(error))) => {
                return Poll::Ready(desk.fail(ErrorCode::FrameTooLong, &error.to_string()));
            }
            Some(Err(error)) => {
                debug!(%error, "link lost in reading");
                return Poll::Ready(Turn::Over(Event::Finished));
            }
            _ => return Poll::Ready(Turn::Over(Event::Finished)),
        };
        door.status().bytes_in.add(message.len() as u64);
        let frames = match self.frames_of(&message) {
            Ok(frames) => frames,
            Err(owed) => {
                self.owed = Some(owed);
                return Poll::Ready(Turn::Moved);
            }
        };
        // a PONG of the WebSocket's own is a sign of life, too
        desk.pending.expect(frames.len());
        let turn = desk.handle(&frames, door);
        if !desk.is_blocked() && !desk.pending.bytes().is_empty() {
            return Poll::Ready(desk.fail(ErrorCode::BadFrame, "a message ends inside a frame"));
        }
        Poll::Ready(turn)
    }

    async fn close(mut self, last: Option<&[u8]>, waits: bool) -> io::Result<()> {
        if let Some(last) = last {
            self.send(last).await?;
        }
        // the sink's own: it also sends the answer to a peer that closed first
        SinkExt::close(&mut self.socket).await.map_err(io::Error::other)?;
        // RFC 6455, section 7.1.1: the server ends the connection under it
        end(self.socket.get_mut(), waits).await
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
fn frame_of_json(text: &str) -> Result<Vec<u8>, NoFrames> {
    let message = JsonMessage::parse(text).map_err(|error| (0, code_of(error)))?;
    let whose = |error| (message.request().unwrap_or(0), code_of(error));
    if let Some(taken) = message.acknowledged() {
        let ack = Frame::Ack { taken, durable: None, central: None, repeat: false };
        return encode(&ack).map_err(whose);
    }
    let control = message.as_control().map_err(whose)?;
    let mut body = vec![0; text.len() + control::BODY_ROOM];
    let length = control.encode(&mut body).map_err(whose)?;
    encode(&Frame::Control(body.get(..length).unwrap_or_default())).map_err(whose)
}

fn code_of(error: WireError) -> ErrorCode {
    match error {
        WireError::UnknownOp(_) => ErrorCode::UnknownMessage,
        WireError::BadControl => ErrorCode::BadControl,
        _ => ErrorCode::BadJson,
    }
}

fn encode(frame: &Frame<'_>) -> Result<Vec<u8>, WireError> {
    let mut bytes = vec![0; frame.encoded_len()];
    frame.encode(&mut bytes)?;
    Ok(bytes)
}

/// Whether the last of the frames in a message is not all there; frames that are wrong in another
/// way are found by who reads them.
fn ends_inside_a_frame(mut frames: &[u8]) -> bool {
    while !frames.is_empty() {
        match frame::split(frames, MAX_BODY) {
            Ok(Some((head, _))) => frames = frames.get(head.total()..).unwrap_or_default(),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
    false
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
/// The answers to requests that are none for a WebSocket.
const UPGRADE_REQUIRED: &str = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n\
    Connection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\nContent-Length: 33\r\n\r\n\
    this port speaks WebSocket alone\n";
const BAD_REQUEST: &str =
    "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
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
    fn text_that_is_no_message_is_answered_by_its_name_and_to_its_request() {
        for (text, owed) in [
            (r#"{"op":"dance","request":7}"#, (7, ErrorCode::UnknownMessage)),
            (r#"{"op":"dance"}"#, (0, ErrorCode::UnknownMessage)),
            (r#"{"op":"open","request":7}"#, (7, ErrorCode::BadControl)),
            (r#"{"op":"emit","data":""}"#, (0, ErrorCode::BadControl)),
            (r#"{"op":"open","request":"7"}"#, (0, ErrorCode::BadJson)),
            ("[]", (0, ErrorCode::BadJson)),
        ] {
            assert_eq!(frame_of_json(text), Err(owed), "{text}");
        }
    }

    #[test]
    fn the_refusal_of_a_plain_request_has_the_length_that_it_says() {
        let (head, body) = UPGRADE_REQUIRED.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
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
