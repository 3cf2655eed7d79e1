//! TLS (rustls): whom a client trusts, and what it shows.

mod authorities;

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivateKeyDer, ServerName, UnixTime};
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{CertificateError, CipherSuite, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use self::authorities::{certificates, file_error};
use crate::error::ConnectError;
use crate::link::Connection;
use crate::options::{CertificateTime, Options};

/// Puts TLS on connections.
pub(crate) struct Tls(TlsConnector);

impl Tls {
    /// Reads the files that `options` name.
    pub(crate) fn new(options: &Options) -> Result<Self, ConnectError> {
        tls_connector(options).map(Self)
    }

    /// Does the handshake with the host of that name.
    pub(crate) async fn connect(
        &self,
        host: &str,
        stream: TcpStream,
    ) -> Result<Box<dyn Connection>, ConnectError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| ConnectError::Tls { why: error.to_string(), is_fatal: true })?;
        let stream = self.0.connect(name, stream).await.map_err(tls_error)?;
        Ok(Box::new(stream))
    }
}

fn tls_connector(options: &Options) -> Result<TlsConnector, ConnectError> {
    let files = &options.tls;
    let config_error =
        |error: rustls::Error| ConnectError::Tls { why: error.to_string(), is_fatal: true };
    let roots = authorities::read(files.ca.as_deref())?;
    let mut provider = rustls::crypto::ring::default_provider();
    if options.is_chacha20_first {
        let is_chacha = |suite: CipherSuite| format!("{suite:?}").contains("CHACHA20");
        provider.cipher_suites.sort_by_key(|suite| !is_chacha(suite.suite()));
    }
    let provider = Arc::new(provider);
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
