//! From a target to a link: names resolved, addresses raced, TLS and WebSocket on top.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fastport_core::client::Secret;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::Error as WebError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;

use crate::error::ConnectError;
use crate::link::{Connection, Link, web_config};
use crate::options::{Options, TlsFiles};
use crate::target::{Target, Transport};

/// Makes links to one target.
pub(crate) struct Connector {
    target: Target,
    tls: Option<TlsConnector>,
    /// a password must not go where others can read it
    guards_password: bool,
}

/// A link that was just made.
pub(crate) struct Connected {
    pub(crate) link: Link,
    /// Nobody on the way can read what goes over it.
    pub(crate) is_private: bool,
}

impl Connector {
    /// Reads the files that TLS needs. It reads files: not for the runtime's thread.
    ///
    /// # Errors
    /// [`ConnectError::File`], [`ConnectError::Tls`], [`ConnectError::Options`].
    pub(crate) fn new(options: &Options) -> Result<Self, ConnectError> {
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
        let tls = if is_encrypted { Some(tls_connector(&options.tls)?) } else { None };
        let sends_password = matches!(options.secret, Secret::Password(_));
        let guards_password = sends_password && !options.allow_plain_password;
        Ok(Self { target: options.target.clone(), tls, guards_password })
    }

    /// Connects. Cancel-safe in that nothing is left over when it is dropped.
    ///
    /// # Errors
    /// [`ConnectError`] for the step that failed.
    pub(crate) async fn connect(&self) -> Result<Connected, ConnectError> {
        let target = &self.target;
        if target.transport() == Transport::Unix {
            let path = target.socket_path();
            let stream = UnixStream::connect(&path).await.map_err(unreachable)?;
            return Ok(Connected { link: Link::Stream(Box::new(stream)), is_private: true });
        }
        let addresses = resolve(target).await?;
        let stream = race(addresses).await.map_err(unreachable)?;
        let address = stream.peer_addr().map_err(unreachable)?;
        let is_private = self.is_private_to(address.ip());
        if self.guards_password && !is_private {
            return Err(ConnectError::PasswordInClear(address.to_string()));
        }
        // small frames matter more than full packets, and the outbox gathers what it can
        stream.set_nodelay(true).map_err(unreachable)?;
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
        Ok(Connected { link, is_private })
    }

    /// Whether nobody on the way to that address can read what goes there.
    fn is_private_to(&self, address: IpAddr) -> bool {
        self.tls.is_some() || address.to_canonical().is_loopback()
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

/// The addresses of the target's host, IPv6 and IPv4 in turn, beginning with the system's favourite.
async fn resolve(target: &Target) -> Result<Vec<SocketAddr>, ConnectError> {
    let host = target.host();
    let fail = |why: io::Error| ConnectError::Resolve { host: host.to_owned(), why: Arc::new(why) };
    let found: Vec<SocketAddr> = lookup_host((host, target.port())).await.map_err(fail)?.collect();
    if found.is_empty() {
        return Err(fail(io::ErrorKind::NotFound.into()));
    }
    Ok(alternate(found))
}

fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_v6_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == is_v6_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut sorted = Vec::new();
    loop {
        let before = sorted.len();
        sorted.extend(first.next());
        sorted.extend(second.next());
        if sorted.len() == before {
            return sorted;
        }
    }
}

/// Connects to whichever address answers first; each gets a head start on the next (RFC 8305,
/// "Happy Eyeballs"), which ends when it fails.
async fn race(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    loop {
        let next = waiting.next();
        let is_last = next.is_none();
        if let Some(address) = next {
            attempts.spawn(async move {
                TcpStream::connect(address)
                    .await
                    .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
            });
        }
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(stream))) => return Ok(stream),
                Some(Ok(Err(error))) => last = error,
                Some(Err(error)) => last = io::Error::other(error),
                None => return Err(last),
            },
            () = sleep(HEAD_START), if !is_last => {}
        }
    }
}

fn tls_connector(files: &TlsFiles) -> Result<TlsConnector, ConnectError> {
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
    let builder = ClientConfig::builder_with_provider(provider)
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

fn unreachable(error: io::Error) -> ConnectError {
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
/// Of an address before the next is tried: RFC 8305's recommendation.
const HEAD_START: Duration = Duration::from_millis(250);
/// RFC 6585 section 4.
const TOO_MANY_REQUESTS: u16 = 429;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn both_families_take_turns() {
        let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let sorted = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(alternate(found), sorted);
        let found = addresses(&["1.1.1.1:1", "[::1]:1"]);
        assert_eq!(alternate(found.clone()), found);
    }

    #[tokio::test]
    async fn an_address_that_refuses_leaves_the_field_to_the_next() {
        let refusing = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let refused = refusing.local_addr().expect("bound");
        drop(refusing);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let open = listener.local_addr().expect("bound");
        let stream = race(vec![refused, open]).await.expect("one of them listens");
        assert_eq!(stream.peer_addr().expect("connected"), open);
        let error = race(vec![refused]).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(&refused.to_string()), "{error}");
    }

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
    }
}
