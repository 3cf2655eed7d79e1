//! WebSocket (tungstenite): binary messages hold whole frames.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use fastport_wire::field::{MAX_BODY, MAX_HEAD};
use futures_util::{Sink, Stream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WebError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::error::ConnectError;
use crate::link::{Connection, READ, whole_frames};
use crate::target::Target;

/// A WebSocket to a relay.
pub struct Web(Box<WebSocketStream<Box<dyn Connection>>>);

impl Web {
    /// Asks the target for a WebSocket over `connection`.
    pub(crate) async fn upgrade(
        target: &Target,
        connection: Box<dyn Connection>,
    ) -> Result<Self, ConnectError> {
        let mut request = target.to_string().into_client_request().map_err(web_error)?;
        let protocol = HeaderValue::from_static(SUBPROTOCOL);
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let upgraded = client_async_with_config(request, connection, Some(web_config())).await;
        let (socket, _) = upgraded.map_err(web_error)?;
        Ok(Self(Box::new(socket)))
    }

    /// Appends a message to `input`; 0 at the connection's end.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        loop {
            return Poll::Ready(match ready!(Pin::new(&mut *self.0).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) if bytes.is_empty() => continue,
                Some(Ok(Message::Binary(bytes))) => {
                    input.extend_from_slice(&bytes);
                    Ok(bytes.len())
                }
                // the library answers PING, and the relay speaks no JSON to us
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
                Some(Ok(Message::Text(_))) => {
                    let why = "a text message where frames should be";
                    Err(io::Error::new(io::ErrorKind::InvalidData, why))
                }
                Some(Ok(Message::Close(_))) | None => Ok(0),
                Some(Err(error)) => Err(io_error(error)),
            });
        }
    }

    /// Writes some of `output`'s whole frames; how many bytes.
    pub(crate) fn poll_write_some(
        &mut self,
        cx: &mut Context<'_>,
        output: &[u8],
    ) -> Poll<io::Result<usize>> {
        // one message at a time, so that no more than one waits beside the outbox
        ready!(self.poll_flush(cx))?;
        let length = whole_frames(output, WEB_MESSAGE);
        let frames = output.get(..length).unwrap_or(output);
        let message = Message::Binary(Bytes::copy_from_slice(frames));
        Pin::new(&mut *self.0).start_send(message).map_err(io_error)?;
        Poll::Ready(Ok(frames.len()))
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_flush(cx).map_err(io_error)
    }

    pub(crate) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0).poll_close(cx).map_err(io_error)
    }
}

fn web_error(error: WebError) -> ConnectError {
    match error {
        WebError::Io(error) => ConnectError::Lost(Arc::new(error)),
        WebError::Http(response) => {
            let status = response.status();
            let is_fatal = status.is_client_error() && status.as_u16() != TOO_MANY_REQUESTS;
            ConnectError::WebSocket { why: format!("the server answered {status}"), is_fatal }
        }
        error => ConnectError::WebSocket { why: error.to_string(), is_fatal: false },
    }
}

fn io_error(error: WebError) -> io::Error {
    match error {
        WebError::Io(error) => error,
        WebError::ConnectionClosed | WebError::AlreadyClosed => {
            io::ErrorKind::ConnectionReset.into()
        }
        error => io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    }
}

/// Small buffers: what waits, waits in the outbox. A message may be as long as the longest frame.
fn web_config() -> WebSocketConfig {
    let longest = MAX_HEAD + MAX_BODY;
    WebSocketConfig::default()
        .read_buffer_size(READ / 4)
        .write_buffer_size(READ / 4)
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest))
}

/// What both ends call the protocol.
const SUBPROTOCOL: &str = "fastport.2";
/// RFC 6585 section 4.
const TOO_MANY_REQUESTS: u16 = 429;
/// The most bytes of several frames in one message.
const WEB_MESSAGE: usize = 64 * 1024;
