//! From a target to a link: names resolved, addresses raced, TLS and WebSocket on top.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fastport_core::client::Secret;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};

use crate::error::ConnectError;
use crate::link::{Connection, Link};
use crate::options::Options;
use crate::proxy::{self, Proxy};
use crate::race::Known;
use crate::target::{Target, Transport};
use crate::tls::Tls;
use crate::web::Web;

/// Makes links to one target.
pub struct Connector {
    target: Target,
    tls: Option<Tls>,
    proxy: Option<Proxy>,
    /// a password must not go where others can read it
    guards_password: bool,
    give_up_after: Option<Duration>,
    addresses: Known,
}

/// A link that was just made.
pub struct Connected {
    /// The link.
    pub link: Link,
    /// Nobody on the way can read what goes over it.
    pub is_private: bool,
    /// Where it goes: an address, or the path of a Unix domain socket.
    pub peer: String,
}

impl Connector {
    /// Reads the files that TLS needs. It reads files: not for the runtime's thread.
    ///
    /// # Errors
    /// [`ConnectError::File`], [`ConnectError::Tls`], [`ConnectError::Options`].
    pub fn new(options: &Options) -> Result<Self, ConnectError> {
        let is_encrypted = options.target.transport().is_encrypted();
        let has_certificate = options.tls.certificate.is_some();
        if has_certificate != options.tls.key.is_some() {
            return Err(ConnectError::Options("a client certificate and its key go together"));
        }
        if matches!(options.secret, Secret::Certificate) && !(is_encrypted && has_certificate) {
            return Err(ConnectError::Options(
                "the certificate as proof needs tls:// or wss://, a certificate and its key",
            ));
        }
        let tls = if is_encrypted { Some(Tls::new(options)?) } else { None };
        let sends_password = matches!(options.secret, Secret::Password(_));
        let guards_password = sends_password && !options.allow_plain_password;
        Ok(Self {
            target: options.target.clone(),
            tls,
            proxy: options.proxy.clone(),
            guards_password,
            give_up_after: options.give_up_after,
            addresses: Known::default(),
        })
    }

    /// Connects. Cancel-safe in that nothing is left over when it is dropped.
    ///
    /// # Errors
    /// [`ConnectError`] for the step that failed.
    pub async fn connect(&self) -> Result<Connected, ConnectError> {
        let target = &self.target;
        if target.transport() == Transport::Unix {
            let path = target.socket_path();
            let stream = UnixStream::connect(&path).await.map_err(unreachable)?;
            let peer = path.display().to_string();
            return Ok(Connected { link: Link::Stream(Box::new(stream)), is_private: true, peer });
        }
        let (stream, is_private) = self.reach().await?;
        let peer = stream.peer_addr().map_err(unreachable)?.to_string();
        // small frames matter more than full packets, and the outbox gathers what it can
        stream.set_nodelay(true).map_err(unreachable)?;
        if let Some(after) = self.give_up_after {
            impatient(&stream, after).map_err(unreachable)?;
        }
        let connection: Box<dyn Connection> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => tls.connect(target.host(), stream).await?,
        };
        let link = match target.transport() {
            Transport::Ws | Transport::Wss => Link::Web(Web::upgrade(target, connection).await?),
            _ => Link::Stream(connection),
        };
        Ok(Connected { link, is_private, peer })
    }

    /// Whether the target's host takes a connection; nothing is said over it.
    ///
    /// # Errors
    /// [`ConnectError`] for the step that failed.
    pub async fn probe(&self) -> Result<(), ConnectError> {
        match self.target.transport() {
            Transport::Unix => UnixStream::connect(self.target.socket_path()).await.map(|_| ()),
            _ => return self.reach().await.map(|_| ()),
        }
        .map_err(unreachable)
    }

    /// A TCP connection to the target, through the proxy where there is one; and whether nobody on
    /// the way can read what goes over it.
    async fn reach(&self) -> Result<(TcpStream, bool), ConnectError> {
        let target = &self.target;
        let (host, port) = match &self.proxy {
            Some(proxy) => (proxy.host(), proxy.port()),
            None => (target.host(), target.port()),
        };
        let mut stream = self.addresses.connect(host, port).await?;
        let address = stream.peer_addr().map_err(unreachable)?;
        let is_private = self.is_private_to(address.ip());
        if self.guards_password && !is_private {
            return Err(ConnectError::PasswordInClear(address.to_string()));
        }
        if self.proxy.is_some() {
            proxy::tunnel(&mut stream, target.host(), target.port()).await?;
        }
        Ok((stream, is_private))
    }

    /// Whether nobody on the way can read what goes to the connection's other end at that address.
    fn is_private_to(&self, address: IpAddr) -> bool {
        self.tls.is_some() || (self.proxy.is_none() && address.to_canonical().is_loopback())
    }
}

/// Has the system give the connection up when its other end acknowledges nothing for so long, and ask
/// for a sign of life while nothing is sent.
fn impatient(stream: &TcpStream, after: Duration) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(after))?;
    let interval = (after / 4).max(Duration::from_secs(1));
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(interval).with_interval(interval))
}

pub(crate) fn unreachable(error: io::Error) -> ConnectError {
    ConnectError::Unreachable(Arc::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_goes_only_where_nobody_listens_in() {
        let allows = |url: &str, address: &str| {
            let options = Options::new(Target::parse(url).expect(url), "demo");
            let connector = Connector::new(&options).expect("no files are needed");
            connector.is_private_to(address.parse().expect(address))
        };
        assert!(allows("tcp://a", "127.0.0.1"));
        #[cfg(feature = "websocket")]
        assert!(allows("ws://a", "::1"));
        assert!(allows("tcp://a", "::ffff:127.0.0.1"));
        assert!(!allows("tcp://a", "192.168.1.7"));
        #[cfg(feature = "websocket")]
        assert!(!allows("ws://a", "fe80::1"));
        #[cfg(feature = "tls")]
        assert!(allows("tls://a", "192.168.1.7"));
        // a proxy on this machine sends it on
        let proxy = Proxy::parse("http://127.0.0.1:3128").expect("a proxy");
        let options = Options::new(Target::parse("tcp://a").expect("a URL"), "demo");
        let options = Options { proxy: Some(proxy), ..options };
        let connector = Connector::new(&options).expect("no files are needed");
        assert!(!connector.is_private_to("127.0.0.1".parse().expect("an address")));
    }
}
