//! Links within this process, for its own parts and for tests: the same handshake and the same
//! session as over a socket.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};

use super::door::{Door, Permit};
use super::{stream, websocket};
use crate::config::Origins;
use crate::guard::{Origin, Visit};

/// Makes a link: the peer's end, and the future that carries the other one.
///
/// Each direction holds at most `bytes` that are not read. The future ends with the link; dropping
/// it cuts the link, dropping the peer's end closes it. The link counts as local, as a Unix socket
/// does.
pub fn memory_link(
    door: &Arc<Door>,
    bytes: usize,
) -> (DuplexStream, impl Future<Output = ()> + Send + use<>) {
    let (ours, theirs) = tokio::io::duplex(bytes);
    (theirs, serve_pipe(Arc::clone(door), ours))
}

/// Carries a link over a pipe whose other end is in this process: it is trusted as a local one.
///
/// It waits for a place among the handshakes as links from outside do.
pub async fn serve_pipe<T>(door: Arc<Door>, pipe: T)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some((permit, origin, visit)) = admit(&door).await else { return };
    if let Some(link) = stream::enter(door, pipe, origin, permit, visit).await {
        link.await;
    }
}

/// As [`serve_pipe`], for a link that begins with the HTTP request of a WebSocket.
pub async fn serve_websocket_pipe<T>(door: Arc<Door>, pipe: T)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some((permit, origin, visit)) = admit(&door).await else { return };
    let origins = Arc::new(Origins::default());
    if let Some(link) = websocket::enter(door, pipe, origin, permit, visit, origins).await {
        link.await;
    }
}

/// Local links are not counted, so there is always a place.
async fn admit(door: &Door) -> Option<(Permit, Origin, Visit)> {
    let permit = door.permit().await;
    let origin = Origin::local("memory", None);
    let visit = door.gate.admit(&origin, door.hub.clock().mono())?;
    Some((permit, origin, visit))
}
