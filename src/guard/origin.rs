//! Where a link comes from, as far as that matters for whom to trust.

use std::fmt;
use std::net::SocketAddr;

#[cfg(feature = "tls")]
use rustls_pki_types::CertificateDer;
#[cfg(feature = "tls")]
use webpki::EndEntityCert;

use super::credentials::Fingerprint;
use super::source::Source;
#[cfg(feature = "tls")]
use super::subject::common_name;

/// A link's other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its network address; `None` for local links.
    pub address: Option<SocketAddr>,
    /// What the link runs over, for logs.
    pub transport: &'static str,
    /// Whether others on the way cannot read it.
    pub is_encrypted: bool,
    /// The user of the process at the other end of a Unix socket.
    pub uid: Option<u32>,
    /// The client certificate that the TLS handshake verified.
    pub certificate: Option<Certificate>,
}

/// What matters of a client certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its SHA-256.
    pub fingerprint: Fingerprint,
    /// The common name of its subject.
    pub common_name: Option<Box<str>>,
}

#[cfg(feature = "tls")]
impl Certificate {
    /// Of a certificate in DER.
    #[must_use]
    pub fn of_der(der: &CertificateDer<'_>) -> Self {
        let parsed = EndEntityCert::try_from(der).ok();
        let common_name =
            parsed.and_then(|certificate| common_name(certificate.subject()).map(Box::from));
        Self { fingerprint: Fingerprint::of_der(der), common_name }
    }
}

impl Origin {
    /// The other end of a network link without encryption.
    #[must_use]
    pub const fn network(address: SocketAddr, transport: &'static str) -> Self {
        Self {
            address: Some(address),
            transport,
            is_encrypted: false,
            uid: None,
            certificate: None,
        }
    }

    /// Who it counts as.
    #[must_use]
    pub fn source(&self) -> Source {
        self.address.map_or(Source::Local, |address| address.ip().into())
    }

    /// The other end of a link that does not leave the machine.
    #[must_use]
    pub const fn local(transport: &'static str, uid: Option<u32>) -> Self {
        Self { address: None, transport, is_encrypted: false, uid, certificate: None }
    }

    /// Whether the link stays on this machine.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.address.is_none_or(|address| address.ip().to_canonical().is_loopback())
    }

    /// Whether a secret may go over the link as it is.
    #[must_use]
    pub fn is_private(&self) -> bool {
        self.is_encrypted || self.is_local()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.uid) {
            (Some(address), _) => write!(f, "{}:{address}", self.transport),
            (None, Some(uid)) => write!(f, "{}:uid={uid}", self.transport),
            (None, None) => f.write_str(self.transport),
        }
    }
}
