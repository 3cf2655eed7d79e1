//! The ways to central instances: addresses, credentials, certificates.

use std::path::Path;

use fastport_client::raw::Connector;
use fastport_client::{CertificateTime, ConnectError, Options, Proxy, Secret, Target, TlsFiles};

use crate::clock::Clock;
use crate::config;
use crate::guard::{DeviceKey, read_password};

/// All that it takes to connect to one central instance.
pub(super) struct Way {
    /// Makes connections.
    pub(super) connector: Connector,
    /// Shows who this gateway is.
    pub(super) secret: Secret,
    /// What answers there is the central instance, and nobody else.
    pub(super) is_authentic: bool,
}

impl Way {
    /// Reads the files that the configuration names. It reads files: not for the runtime's thread.
    ///
    /// # Errors
    /// [`ConnectError::File`], [`ConnectError::Options`].
    pub(super) fn find(
        config: &config::Uplink,
        url: &str,
        clock: &Clock,
    ) -> Result<Self, ConnectError> {
        let target = Target::parse(url)
            .map_err(|_| ConnectError::Options("a URL of uplink.central is not well formed"))?;
        let secret = secret(config)?;
        let proxy = config.proxy.as_deref().map(Proxy::parse).transpose();
        let mut options = Options::new(target, "");
        options.identity = config.identity.clone().unwrap_or_default();
        options.secret = secret.clone();
        options.tls = TlsFiles {
            ca: config.ca.clone(),
            certificate: config.certificate.clone(),
            key: config.certificate_key.clone(),
        };
        let clock = clock.clone();
        options.certificate_time = Some(CertificateTime::new(move || clock.for_certificates()));
        options.proxy =
            proxy.map_err(|_| ConnectError::Options("uplink.proxy is not http://HOST:PORT"))?;
        options.is_chacha20_first = config.ciphers.is_chacha20_first();
        options.give_up_after = Some(config.dead_after);
        // either shows that it is who it should be
        let is_authentic =
            options.target.transport().is_encrypted() || matches!(secret, Secret::Key(_));
        Ok(Self { connector: Connector::new(&options)?, secret, is_authentic })
    }
}

fn secret(config: &config::Uplink) -> Result<Secret, ConnectError> {
    let failed = |path: &Path, error: &dyn ToString| ConnectError::File {
        path: path.to_owned(),
        why: error.to_string(),
    };
    if let Some(path) = &config.key {
        let key = DeviceKey::read(path).map_err(|error| failed(path, &error))?;
        return Ok(Secret::Key(Box::new(*key.as_bytes())));
    }
    if let Some(path) = &config.password {
        let password = read_password(path).map_err(|error| failed(path, &error))?;
        return Ok(Secret::Password(password.as_bytes().into()));
    }
    Ok(if config.certificate.is_some() { Secret::Certificate } else { Secret::None })
}
