//! TLS of a site's own making, at both ends.

#[path = "../support/trusting.rs"]
mod trusting;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fastport::clock::Clock;
use fastport::config::{Ciphers, ClientAuth, Tls};
use fastport::link::TlsSource;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

use self::trusting::trusting;
use crate::peer::Io;

/// What a listener has, and the certificate that its peers trust.
pub(crate) fn make(folder: &Path) -> (Arc<TlsSource>, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]);
    let made = made.expect("ring makes keys");
    let write = |name: &str, text: String| -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("the folder is ours");
        path
    };
    let files = Tls {
        certificate: write("site.pem", made.cert.pem()),
        key: write("site.key", made.signing_key.serialize_pem()),
        client_auth: ClientAuth::None,
    };
    let source = TlsSource::load(files, Ciphers::Auto, Clock::start());
    (Arc::new(source.expect("the files go together")), made.cert.der().clone())
}

/// The peer's end.
pub(crate) async fn connect(
    io: Box<dyn Io>,
    certificate: &CertificateDer<'static>,
) -> impl Io + use<> {
    let name = ServerName::try_from("localhost").expect("a name");
    let connector = TlsConnector::from(trusting([certificate.clone()]));
    connector.connect(name, io).await.expect("the certificate is right")
}
