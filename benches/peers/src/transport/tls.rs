//! TLS 1.3 by rustls, each connection with a whole handshake, as from one device more.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

pub struct Tls {
    connection: ClientConnection,
    /// Plain bytes that are no whole frame yet.
    plain: Vec<u8>,
}

impl Tls {
    pub fn new(config: &Arc<ClientConfig>) -> Result<Self> {
        let name = ServerName::try_from(NAME)?;
        let mut connection = ClientConnection::new(Arc::clone(config), name)?;
        // what is on the way is bounded by the scenario
        connection.set_buffer_limit(None);
        Ok(Tls { connection, plain: Vec::new() })
    }

    /// Appends what rustls wants sent.
    pub fn write(&mut self, wire: &mut Vec<u8>) -> Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(wire)?;
        }
        Ok(())
    }

    /// Appends `plain` in records.
    pub fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) -> Result<()> {
        self.connection.writer().write_all(plain)?;
        self.write(wire)
    }

    /// Takes all of `input`; otherwise as [`super::Transport::open`].
    pub fn open(
        &mut self,
        mut input: &[u8],
        wire: &mut Vec<u8>,
        parse: &mut impl FnMut(&[u8]) -> Result<usize>,
    ) -> Result<()> {
        while !input.is_empty() {
            self.connection.read_tls(&mut input)?;
            let state = self.connection.process_new_packets()?;
            let start = self.plain.len();
            self.plain.resize(start + state.plaintext_bytes_to_read(), 0);
            self.connection.reader().read_exact(&mut self.plain[start..])?;
        }
        self.write(wire)?;
        if !self.plain.is_empty() {
            let used = parse(&self.plain)?;
            self.plain.drain(..used);
        }
        Ok(())
    }

    /// Drops spare room.
    pub fn shrink(&mut self) {
        self.plain.shrink_to_fit();
    }
}

/// Writes a new certificate and its key as `cert.pem` and `key.pem`; returns what trusts it.
pub fn make_certificate(dir: &Path) -> Result<Arc<ClientConfig>> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    std::fs::write(dir.join("cert.pem"), made.cert.pem()).context("cert.pem")?;
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).context("key.pem")?;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(made.cert.der().to_vec()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Whom the certificate names.
const NAME: &str = "localhost";

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection};

    use super::*;

    #[test]
    fn bytes_cross_a_connection_both_ways() {
        let dir = std::env::temp_dir().join(format!("peerbench-tls-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let config = make_certificate(&dir).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(dir.join("cert.pem")).unwrap()],
                PrivateKeyDer::from_pem_file(dir.join("key.pem")).unwrap(),
            )
            .unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        let mut client = Tls::new(&config).unwrap();

        let sent = vec![5; 40_000];
        let (mut wire, mut got, mut echoed) = (Vec::new(), Vec::new(), Vec::new());
        client.seal(&sent, &mut wire).unwrap();
        while echoed.len() < sent.len() {
            let mut input = &std::mem::take(&mut wire)[..];
            while !input.is_empty() {
                server.read_tls(&mut input).unwrap();
                let state = server.process_new_packets().unwrap();
                let start = got.len();
                got.resize(start + state.plaintext_bytes_to_read(), 0);
                server.reader().read_exact(&mut got[start..]).unwrap();
            }
            server.writer().write_all(&std::mem::take(&mut got)).unwrap();
            let mut back = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut back).unwrap();
            }
            assert!(!back.is_empty(), "both wait");
            let mut take = |plain: &[u8]| {
                echoed.extend_from_slice(plain);
                Ok(plain.len())
            };
            client.open(&back, &mut wire, &mut take).unwrap();
        }
        assert_eq!(echoed, sent);
    }
}
