//! In the place of `tls` where that is not built in: it refuses targets that need it.

use tokio::net::TcpStream;

use crate::error::ConnectError;
use crate::link::Connection;
use crate::options::Options;

/// There is none.
pub(crate) enum Tls {}

impl Tls {
    pub(crate) fn new(_: &Options) -> Result<Self, ConnectError> {
        Err(ConnectError::Options("tls:// and wss:// need TLS, and this build has no TLS"))
    }

    pub(crate) async fn connect(
        &self,
        _: &str,
        _: TcpStream,
    ) -> Result<Box<dyn Connection>, ConnectError> {
        match *self {}
    }
}
