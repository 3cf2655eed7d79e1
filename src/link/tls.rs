//! TLS (rustls): certificates and keys from files, read again when the files change.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use std::{fmt, fs, io};

use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::time_provider::TimeProvider;
use rustls::{CipherSuite, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, info, warn};

use super::door::{Door, Permit};
use crate::clock::Clock;
use crate::config::{Ciphers, ClientAuth, Tls};
use crate::guard::{Certificate, Origin};

/// TLS cannot be set up.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is not what it should be.
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The files do not go together, or hold what rustls does not take.
    Config(rustls::Error),
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, problem } => write!(f, "{}: {problem}", path.display()),
            Self::Config(error) => write!(f, "certificate and key: {error}"),
        }
    }
}

impl std::error::Error for TlsError {}

/// A listener's TLS, which follows its files.
#[derive(Debug)]
pub struct TlsSource {
    files: Tls,
    ciphers: Ciphers,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Arc<ServerConfig>,
    stamp: Stamp,
    looked: Instant,
}

/// When the files were last written; a change of any makes a difference.
type Stamp = Vec<Option<SystemTime>>;

impl TlsSource {
    /// Reads the files. Peers' certificates are judged by that clock.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(files: Tls, ciphers: Ciphers, clock: Clock) -> Result<Self, TlsError> {
        let (config, stamp) = read(&files, ciphers, &clock)?;
        let state = State { config, stamp, looked: Instant::now() };
        Ok(Self { files, ciphers, clock, state: Mutex::new(state) })
    }

    /// The files.
    #[must_use]
    pub fn files(&self) -> &Tls {
        &self.files
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// [`TlsError`]; what was read before stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let (config, stamp) = read(&self.files, self.ciphers, &self.clock)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { config, stamp, looked: Instant::now() };
        Ok(())
    }

    /// The configuration for the next connection.
    async fn current(self: &Arc<Self>) -> Arc<ServerConfig> {
        let due = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let due = state.looked.elapsed() >= LOOK_EVERY;
            if due {
                state.looked = Instant::now();
            }
            due
        };
        if due {
            let source = Arc::clone(self);
            // a panic in there leaves the old configuration
            tokio::task::spawn_blocking(move || source.follow()).await.unwrap_or_default();
        }
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner).config)
    }

    fn follow(&self) {
        let known = self.state.lock().unwrap_or_else(PoisonError::into_inner).stamp.clone();
        if stamp(&self.files) == known {
            return;
        }
        match self.reload() {
            Ok(()) => {
                info!(certificate = %self.files.certificate.display(), "certificate reloaded")
            }
            Err(error) => warn!(%error, "certificate not reloaded; the old one stays in use"),
        }
    }
}

/// Runs the TLS handshake of a connection; `None`: it failed.
pub(super) async fn accept(
    door: &Door,
    io: TcpStream,
    mut origin: Origin,
    source: &Arc<TlsSource>,
    permit: &Permit,
) -> Option<(TlsStream<TcpStream>, Origin)> {
    let acceptor = TlsAcceptor::from(source.current().await);
    let accept = Box::pin(acceptor.accept(io));
    let io = match tokio::time::timeout_at(permit.until, accept).await {
        Ok(Ok(io)) => io,
        Ok(Err(error)) => {
            door.status().transport_errors.add(1);
            debug!(%origin, %error, "TLS handshake failed");
            return None;
        }
        Err(_) => {
            door.status().handshake_timeouts.add(1);
            return None;
        }
    };
    origin.is_encrypted = true;
    let shown = io.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    origin.certificate = shown.map(|certificate| Certificate::of_der(certificate));
    Some((io, origin))
}

fn read(
    files: &Tls,
    ciphers: Ciphers,
    clock: &Clock,
) -> Result<(Arc<ServerConfig>, Stamp), TlsError> {
    let is_chacha20_first = ciphers.is_chacha20_first();
    // taken before reading: a change in between is seen as one
    let stamp = stamp(files);
    let chain = certificates(&files.certificate)?;
    let key =
        PrivateKeyDer::from_pem_file(&files.key).map_err(|error| bad_pem(&files.key, &error))?;
    let provider = Arc::new(provider(is_chacha20_first));
    let time = Arc::new(JudgedAt(clock.clone()));
    let builder = ServerConfig::builder_with_details(Arc::clone(&provider), time)
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Config)?;
    let builder = match client_ca(files) {
        None => builder.with_no_client_auth(),
        Some((path, is_required)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(TlsError::Config)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if is_required { verifier } else { verifier.allow_unauthenticated() };
            let verifier = verifier.build().map_err(|error| TlsError::File {
                path: path.to_owned(),
                problem: error.to_string(),
            })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Config)?;
    // tickets let a board come back without a full handshake; one is enough
    config.send_tls13_tickets = 1;
    // else the peer's order counts, and most have AES first
    config.ignore_client_order = is_chacha20_first;
    Ok((Arc::new(config), stamp))
}

#[derive(Debug)]
struct JudgedAt(Clock);

impl TimeProvider for JudgedAt {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.for_certificates()))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bad = |error: &rustls_pki_types::pem::Error| bad_pem(path, error);
    let found = CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))?;
    let chain: Vec<_> = found.collect::<Result<_, _>>().map_err(|error| bad(&error))?;
    if chain.is_empty() {
        let problem = "holds no certificate in PEM".to_owned();
        return Err(TlsError::File { path: path.to_owned(), problem });
    }
    Ok(chain)
}

fn bad_pem(path: &Path, error: &rustls_pki_types::pem::Error) -> TlsError {
    let problem = match error {
        rustls_pki_types::pem::Error::Io(error)
            if error.kind() == io::ErrorKind::PermissionDenied =>
        {
            "cannot be read by the daemon's user: give it the file's group and mode 0640".to_owned()
        }
        rustls_pki_types::pem::Error::NoItemsFound => "holds no private key in PEM".to_owned(),
        error => error.to_string(),
    };
    TlsError::File { path: path.to_owned(), problem }
}

/// The authorities of peers' certificates, and whether peers must show one.
fn client_ca(files: &Tls) -> Option<(&Path, bool)> {
    match &files.client_auth {
        ClientAuth::None => None,
        ClientAuth::Optional { ca } => Some((ca, false)),
        ClientAuth::Required { ca } => Some((ca, true)),
    }
}

fn stamp(files: &Tls) -> Stamp {
    let client_ca = client_ca(files).map(|(path, _)| path);
    [Some(&*files.certificate), Some(&*files.key), client_ca]
        .into_iter()
        .map(|path| fs::metadata(path?).and_then(|metadata| metadata.modified()).ok())
        .collect()
}

/// ring, with ChaCha20 first where it is to be.
fn provider(is_chacha20_first: bool) -> CryptoProvider {
    let mut provider = ring::default_provider();
    if is_chacha20_first {
        let is_chacha = |suite: CipherSuite| format!("{suite:?}").contains("CHACHA20");
        provider.cipher_suites.sort_by_key(|suite| !is_chacha(suite.suite()));
    }
    provider
}

/// Certificates change every few months; looking is two system calls.
const LOOK_EVERY: Duration = Duration::from_secs(5);
