//! From `[[listen]]` to sockets, and what of it a reload changes while they stay bound.

use std::path::Path;
use std::sync::Arc;

use tracing::warn;

use super::StartError;
use crate::clock::Clock;
use crate::config::{Ciphers, Listen, Tls};
use crate::link::{
    Listener, TlsError, TlsSource, Transport, TransportHandle, adopt_tcp, adopt_unix, bind_tcp,
    bind_unix,
};
use crate::supervise::inherited::Inherited;

/// A listener that runs, as it was configured last.
pub(super) struct Bound {
    listen: Listen,
    transport: TransportHandle,
}

impl Bound {
    pub(super) fn new((listen, listener): (&Listen, &Listener)) -> Self {
        Self { listen: listen.clone(), transport: listener.transport() }
    }

    fn is_at(&self, listen: &Listen) -> bool {
        self.listen.kind() == listen.kind() && self.listen.address() == listen.address()
    }

    /// Uses the origins and certificates of `new`; the files are read again in any case.
    fn reload(&mut self, new: &Listen, ciphers: Ciphers, clock: &Clock) -> Result<(), TlsError> {
        let tls = |source: &Arc<TlsSource>, files: &Tls| -> Result<Arc<TlsSource>, TlsError> {
            if source.files() == files {
                source.reload()?;
                return Ok(Arc::clone(source));
            }
            TlsSource::load(files.clone(), ciphers, clock.clone()).map(Arc::new)
        };
        let transport = match (self.transport.get(), new) {
            (Transport::Tls(source), Listen::Tls { tls: files, .. }) => {
                Transport::Tls(tls(&source, files)?)
            }
            (Transport::WebSocket(_), Listen::WebSocket { origins, .. }) => {
                Transport::WebSocket(Arc::new(origins.clone()))
            }
            (
                Transport::WebSocketTls(source, _),
                Listen::WebSocketTls { origins, tls: files, .. },
            ) => Transport::WebSocketTls(tls(&source, files)?, Arc::new(origins.clone())),
            _ => return Ok(()),
        };
        self.transport.set(transport);
        self.listen = new.clone();
        Ok(())
    }
}

/// Reloads the listeners that are still configured; others come and go with a restart.
pub(super) fn reload(bound: &mut [Bound], new: &[Listen], ciphers: Ciphers, clock: &Clock) {
    let mut left: Vec<&Listen> = new.iter().collect();
    for bound in bound {
        // several can be at port 0: they keep their order
        let Some(at) = left.iter().position(|listen| bound.is_at(listen)) else { continue };
        if let Err(error) = bound.reload(left.remove(at), ciphers, clock) {
            warn!(%error, "certificate not reloaded; the old one stays in use");
        }
    }
}

/// Binds a listener's socket, or takes the one that the service manager holds at its address: that
/// one's queue goes on while the daemon is away, so that a restart refuses nobody.
pub(super) fn bind(
    listen: &Listen,
    inherited: &mut Inherited,
    ciphers: Ciphers,
    clock: &Clock,
) -> Result<Listener, StartError> {
    let source = |files: &Tls| TlsSource::load(files.clone(), ciphers, clock.clone()).map(Arc::new);
    let mut tcp = |address, transport| match inherited.take_tcp(address) {
        Some(socket) => adopt_tcp(socket, transport),
        None => bind_tcp(address, transport),
    };
    Ok(match listen {
        Listen::Tcp { address } => tcp(*address, Transport::Plain)?,
        Listen::Tls { address, tls } => tcp(*address, Transport::Tls(source(tls)?))?,
        Listen::WebSocket { address, origins } => {
            tcp(*address, Transport::WebSocket(Arc::new(origins.clone())))?
        }
        Listen::WebSocketTls { address, origins, tls } => {
            let transport = Transport::WebSocketTls(source(tls)?, Arc::new(origins.clone()));
            tcp(*address, transport)?
        }
        Listen::Unix { path, mode, group } => match inherited.take_unix(path) {
            Some(socket) => adopt_unix(socket, path)?,
            None => {
                let group = group.as_deref().map(group_id).transpose()?;
                bind_unix(path, mode.bits(), group)?
            }
        },
    })
}

/// The number of a group, by number or by `/etc/group`.
fn group_id(name: &str) -> Result<u32, StartError> {
    if let Ok(id) = name.parse() {
        return Ok(id);
    }
    let groups = std::fs::read_to_string(Path::new("/etc/group")).unwrap_or_default();
    groups
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
        })
        .ok_or_else(|| StartError::NoSuchGroup(name.to_owned()))
}
