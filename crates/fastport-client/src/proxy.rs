//! HTTP proxies: a tunnel by CONNECT (RFC 9110, section 9.3.6).

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::error::ConnectError;
use crate::target::{TargetError, split_authority};

/// Where an HTTP proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
}

/// Why a text is no [`Proxy`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyError {
    /// It does not begin with `http://`.
    NotHttp,
    /// Nothing where the host should be, or characters that no host name has.
    BadHost(TargetError),
    /// The port is not a number from 1 to 65535.
    BadPort(String),
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHttp => f.write_str("a proxy is http://HOST:PORT"),
            Self::BadHost(error) => write!(f, "{error}"),
            Self::BadPort(port) => write!(f, "{port:?} is no port (1 to 65535)"),
        }
    }
}

impl std::error::Error for ProxyError {}

impl Proxy {
    /// Reads `http://host:port`. Without a port it is 3128.
    ///
    /// # Errors
    /// [`ProxyError`] for the first thing that is wrong.
    pub fn parse(url: &str) -> Result<Self, ProxyError> {
        let authority = url.strip_prefix("http://").ok_or(ProxyError::NotHttp)?;
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = split_authority(authority).map_err(ProxyError::BadHost)?;
        let port = match port {
            None => DEFAULT_PORT,
            Some(text) => text
                .parse()
                .ok()
                .filter(|&port| port != 0)
                .ok_or_else(|| ProxyError::BadPort(text.to_owned()))?,
        };
        Ok(Self { host: host.to_owned(), port })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// Has the proxy at the other end of `stream` connect to a host; from then on `stream` leads there.
pub(crate) async fn tunnel(
    stream: &mut TcpStream,
    host: &str,
    port: u16,
) -> Result<(), ConnectError> {
    let lost = |error: io::Error| ConnectError::Lost(Arc::new(error));
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let mut answer = Vec::new();
    // a byte at a time: what comes behind the head is not ours
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MOST_HEAD {
            return Err(refused("answers with an endless head"));
        }
        let byte = stream.read_u8().await.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => refused("closed the connection"),
            _ => lost(error),
        })?;
        answer.push(byte);
    }
    let line = answer.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let status = line.split(|&byte| byte == b' ').nth(1).unwrap_or_default();
    if line.starts_with(b"HTTP/1.") && status.len() == 3 && status.starts_with(b"2") {
        return Ok(());
    }
    let shown: String = String::from_utf8_lossy(line).chars().take(MOST_SHOWN).collect();
    Err(refused(&format!("answered {shown:?}")))
}

fn refused(why: &str) -> ConnectError {
    ConnectError::Proxy { why: why.to_owned() }
}

/// What most proxies listen on.
const DEFAULT_PORT: u16 = 3128;
/// More than proxies say.
const MOST_HEAD: usize = 8192;
/// Of what a proxy says, in a log.
const MOST_SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_http_url_with_a_host() {
        let proxy = Proxy::parse("http://10.0.0.1:8080/").expect("a proxy");
        assert_eq!((proxy.host(), proxy.port()), ("10.0.0.1", 8080));
        let proxy = Proxy::parse("http://[::1]").expect("a proxy");
        assert_eq!((proxy.host(), proxy.port()), ("::1", 3128));
        assert_eq!(Proxy::parse("10.0.0.1:8080"), Err(ProxyError::NotHttp));
        assert_eq!(Proxy::parse("http://a:0"), Err(ProxyError::BadPort("0".to_owned())));
        assert!(matches!(Proxy::parse("http://a b"), Err(ProxyError::BadHost(_))));
    }
}
