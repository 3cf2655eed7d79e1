//! The peer's end of a WebSocket.

use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::peer::{Io, Pipe};

/// Asks for the upgrade; what comes behind it goes through `change`.
pub(crate) async fn connect(
    mut io: Box<dyn Io>,
    change: impl FnOnce(Box<dyn Io>) -> Box<dyn Io>,
) -> Pipe {
    let mut request = "ws://localhost/".into_client_request().expect("a request of a fixed URL");
    let protocol = HeaderValue::from_static("fastport.2");
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    tokio_tungstenite::client_async(request, &mut io).await.expect("the upgrade works");
    let socket = WebSocketStream::from_raw_socket(change(io), Role::Client, None).await;
    Pipe::WebSocket(Box::new(socket))
}
