//! The HTTP request that a WebSocket begins with.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::end;
use crate::config::Origins;

/// Answers a request for a WebSocket by a page that may ask for it.
// the callback's error is the HTTP response that refuses, as tungstenite wants it
#[allow(clippy::result_large_err)]
pub(super) async fn upgrade<T>(io: &mut T, origins: &Origins) -> Result<(), Error>
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
    let config = WebSocketConfig::default().read_buffer_size(REQUEST_BUFFER);
    tokio_tungstenite::accept_hdr_async_with_config(io, check, Some(config)).await.map(|_| ())
}

/// Answers a request that is none for a WebSocket; tungstenite says nothing then.
pub(super) async fn tell_why<T>(io: &mut T, error: &Error) -> io::Result<()>
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

/// The subprotocol's name.
const SUBPROTOCOL: &str = "fastport.2";
/// The answers to requests that are none for a WebSocket.
const UPGRADE_REQUIRED: &str = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n\
    Connection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\nContent-Length: 33\r\n\r\n\
    this port speaks WebSocket alone\n";
const BAD_REQUEST: &str =
    "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
/// Of the HTTP request, and gone with it.
const REQUEST_BUFFER: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_of_a_plain_request_has_the_length_that_it_says() {
        let (head, body) = UPGRADE_REQUIRED.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.ends_with(&format!("Content-Length: {}", body.len())));
    }
}
