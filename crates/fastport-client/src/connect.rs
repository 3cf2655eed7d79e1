//! From a target to a link: names resolved, addresses raced, TLS and WebSocket on top.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastport_core::client::Secret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error as WebError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::error::ConnectError;
use crate::link::{Connection, Link, web_config};
use crate::options::{CertificateTime, Options};
use crate::proxy::{self, Proxy};
use crate::race::Known;
use crate::target::{Target, Transport};

/// Makes links to one target.
pub struct Connector {
    target: Target,
    tls: Option<TlsConnector>,
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
        let tls = if is_encrypted { Some(tls_connector(options)?) } else { None };
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
            Some(connector) => {
                let name = ServerName::try_from(target.host().to_owned()).map_err(|error| {
                    ConnectError::Tls { why: error.to_string(), is_fatal: true }
                })?;
                let stream = connector.connect(name, stream).await.map_err(tls_error)?;
                Box::new(stream)
            }
        };
        let link = match target.transport() {
            Transport::Ws | Transport::Wss => self.upgrade(connection).await?,
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

    async fn upgrade(&self, connection: Box<dyn Connection>) -> Result<Link, ConnectError> {
        let mut request = self.target.to_string().into_client_request().map_err(web_error)?;
        let protocol = HeaderValue::from_static(SUBPROTOCOL);
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let upgraded = client_async_with_config(request, connection, Some(web_config())).await;
        let (socket, _) = upgraded.map_err(web_error)?;
        Ok(Link::Web(Box::new(socket)))
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

fn tls_connector(options: &Options) -> Result<TlsConnector, ConnectError> {
    let files = &options.tls;
    let config_error =
        |error: rustls::Error| ConnectError::Tls { why: error.to_string(), is_fatal: true };
    let roots = match &files.ca {
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| file_error(path, &error))?;
            }
            roots
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let time: Arc<dyn TimeProvider> = match options.certificate_time.clone() {
        Some(time) => Arc::new(JudgedAt(time)),
        None => Arc::new(DefaultTimeProvider),
    };
    let builder = ClientConfig::builder_with_details(provider, time)
        .with_safe_default_protocol_versions()
        .map_err(config_error)?
        .with_root_certificates(roots);
    let config = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates(certificate)?;
            let parsed =
                PrivateKeyDer::from_pem_file(key).map_err(|error| file_error(key, &error))?;
            builder
                .with_client_auth_cert(chain, parsed)
                .map_err(|error| file_error(certificate, &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

#[derive(Debug)]
struct JudgedAt(CertificateTime);

impl TimeProvider for JudgedAt {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.since_1970()))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let found = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| file_error(path, &error))?;
    match found.is_empty() {
        true => Err(file_error(path, &"no certificate in it")),
        false => Ok(found),
    }
}

fn file_error(path: &Path, why: &dyn ToString) -> ConnectError {
    ConnectError::File { path: path.to_owned(), why: why.to_string() }
}

pub(crate) fn unreachable(error: io::Error) -> ConnectError {
    ConnectError::Unreachable(Arc::new(error))
}

/// A certificate that is not trusted stays so; one out of its time may be in it once the board's
/// clock is set.
fn tls_error(error: io::Error) -> ConnectError {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let is_fatal = match cause {
        None => return ConnectError::Lost(Arc::new(error)),
        Some(rustls::Error::InvalidCertificate(why)) => !matches!(
            why,
            CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. }
        ),
        Some(rustls::Error::AlertReceived(_)) => true,
        Some(_) => false,
    };
    ConnectError::Tls { why: error.to_string(), is_fatal }
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

/// What both ends call the protocol.
const SUBPROTOCOL: &str = "fastport.2";
/// RFC 6585 section 4.
const TOO_MANY_REQUESTS: u16 = 429;

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
        assert!(allows("ws://a", "::1"));
        assert!(allows("tcp://a", "::ffff:127.0.0.1"));
        assert!(!allows("tcp://a", "192.168.1.7"));
        assert!(!allows("ws://a", "fe80::1"));
        assert!(allows("tls://a", "192.168.1.7"));
        // a proxy on this machine sends it on
        let proxy = Proxy::parse("http://127.0.0.1:3128").expect("a proxy");
        let options = Options::new(Target::parse("tcp://a").expect("a URL"), "demo");
        let options = Options { proxy: Some(proxy), ..options };
        let connector = Connector::new(&options).expect("no files are needed");
        assert!(!connector.is_private_to("127.0.0.1".parse().expect("an address")));
    }
}
