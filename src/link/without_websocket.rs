//! In the place of `websocket` where that is not built in. The configuration refuses listeners that need
//! it, and what comes nevertheless is closed.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::door::{Door, Permit};
use super::drive::Drive;
use super::stream::Stream;
use crate::config::Origins;
use crate::guard::{Origin, Visit};

pub(super) async fn enter<T>(
    _: Arc<Door>,
    _: T,
    _: Origin,
    _: Permit,
    _: Visit,
    _: Arc<Origins>,
) -> Option<Drive<Stream<T>>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    None
}
