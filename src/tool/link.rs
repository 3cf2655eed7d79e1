//! From the command line to a client.

use std::time::Duration;

use fastport_client::{Client, LinkState, Options, Secret, Target, TlsFiles, init};

use super::arguments::Common;
use super::exit::{Failure, note};
use super::{seal, secret};
use crate::guard::DeviceKey;

/// The client's options as the command line says.
pub(super) fn options(common: &Common) -> Result<Options, Failure> {
    let target = Target::parse(&common.url)
        .map_err(|error| Failure::usage(format!("--url {}: {error}", common.url)))?;
    let mut options = Options::new(target, common.session.as_str());
    options.identity = common.id.clone().unwrap_or_default();
    options.name = common.name.clone().unwrap_or_default();
    options.tls = TlsFiles {
        ca: common.ca.clone(),
        certificate: common.cert.clone(),
        key: common.cert_key.clone(),
    };
    options.allow_plain_password = common.allow_plain_password;
    options.reconnect = !common.no_reconnect;
    options.retry_at_start = common.connect_timeout.is_some();
    if let Some(time) = common.connect_timeout {
        options.init_timeout = time;
        options.connect_timeout = time.min(options.connect_timeout);
    }
    options.secret = secret(common)?;
    options.seal = seal::options(&common.seal)?;
    Ok(options)
}

/// Connects, or says why not.
pub(super) async fn connect(options: Options) -> Result<Client, Failure> {
    let url = options.target.to_string();
    // its future is large, and there is one of it
    Box::pin(init(options)).await.map_err(|error| Failure::connect(url, &error))
}

/// Tells the person at the terminal when the link is lost and when it is back. It ends with the
/// link.
pub(super) async fn tell_of_link(client: &Client, url: &str) {
    let mut link = client.link();
    let mut was_lost = false;
    loop {
        match &*link.borrow_and_update() {
            LinkState::Waiting { error, .. } if !was_lost => {
                note(format_args!("{url}: {error}; connecting again"));
                was_lost = true;
            }
            LinkState::Ready { resumed } if was_lost => {
                let how = if *resumed { "" } else { "; the relay has lost its state" };
                note(format_args!("{url}: connected again{how}"));
                was_lost = false;
            }
            LinkState::Ended(_) => return,
            _ => {}
        }
        if link.changed().await.is_err() {
            return;
        }
    }
}

fn secret(common: &Common) -> Result<Secret, Failure> {
    let has_secret = common.password_file.is_some() || common.ask_password;
    if (has_secret || common.key_file.is_some()) && common.id.is_none() {
        return Err(Failure::usage("a password or key needs --id: whose is it?"));
    }
    if let Some(path) = &common.key_file {
        let key = DeviceKey::read(path).map_err(|error| Failure::data(error.to_string()))?;
        return Ok(Secret::Key(Box::new(*key.as_bytes())));
    }
    if let Some(path) = &common.password_file {
        let password = secret::password(path)?;
        return Ok(Secret::Password(password.as_slice().into()));
    }
    if common.ask_password {
        let id = common.id.as_deref().unwrap_or_default();
        let password = secret::ask(&format!("Password of {id} in {}: ", common.session))?;
        return Ok(Secret::Password(password.as_slice().into()));
    }
    Ok(if common.cert.is_some() { Secret::Certificate } else { Secret::None })
}

/// How long a command waits for its messages to leave when it ends.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
