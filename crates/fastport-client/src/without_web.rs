//! In the place of `web` where that is not built in: it refuses targets that need it.

use std::io;
use std::task::{Context, Poll};

use bytes::BytesMut;

use crate::error::ConnectError;
use crate::link::Connection;
use crate::target::Target;

/// There is none.
pub enum Web {}

impl Web {
    pub(crate) async fn upgrade(_: &Target, _: Box<dyn Connection>) -> Result<Self, ConnectError> {
        Err(ConnectError::Options(
            "ws:// and wss:// need WebSocket, and this build has no WebSocket",
        ))
    }

    pub(crate) fn poll_read(
        &mut self,
        _: &mut Context<'_>,
        _: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        match *self {}
    }

    pub(crate) fn poll_write_some(
        &mut self,
        _: &mut Context<'_>,
        _: &[u8],
    ) -> Poll<io::Result<usize>> {
        match *self {}
    }

    pub(crate) fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    pub(crate) fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}
