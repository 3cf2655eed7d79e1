//! In the place of `tls` where that is not built in. The configuration refuses listeners that need it.

use std::fmt;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::door::{Door, Permit};
use crate::clock::Clock;
use crate::config::{Ciphers, Tls};
use crate::guard::Origin;

/// This build has no TLS.
#[derive(Debug)]
pub struct TlsError;

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("this build has no TLS; use one with the feature `tls`")
    }
}

impl std::error::Error for TlsError {}

/// There is none.
#[derive(Debug)]
pub enum TlsSource {}

impl TlsSource {
    /// # Errors
    /// [`TlsError`], always.
    pub fn load(_: Tls, _: Ciphers, _: Clock) -> Result<Self, TlsError> {
        Err(TlsError)
    }

    /// The files.
    #[must_use]
    pub const fn files(&self) -> &Tls {
        match *self {}
    }

    /// # Errors
    /// None: there is nothing to call it on.
    pub const fn reload(&self) -> Result<(), TlsError> {
        match *self {}
    }
}

pub(super) async fn accept(
    _: &Door,
    _: TcpStream,
    _: Origin,
    source: &Arc<TlsSource>,
    _: &Permit,
) -> Option<(TcpStream, Origin)> {
    match **source {}
}
