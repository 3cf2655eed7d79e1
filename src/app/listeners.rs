//! From `[[listen]]` to sockets, and what of it a reload changes while they stay bound.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use tracing::warn;

use super::StartError;
use crate::clock::Clock;
use crate::config::{Ciphers, Config, Listen, Tls};
use crate::link::{
    BindError, Listener, Permission, TlsError, TlsSource, Transport, TransportHandle, adopt_tcp,
    adopt_unix, bind_tcp, bind_unix,
};
use crate::supervise::fds::Store;
use crate::supervise::inherited::{HeldUnix, Inherited, name_of_listener};

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

/// Binds the sockets of all listeners, or takes over those that were held; see [`bind`].
pub(super) fn bind_all(
    config: &Config,
    mut inherited: Inherited,
    held: &Store,
    clock: &Clock,
) -> Result<Vec<Listener>, StartError> {
    let (all, ciphers) = (&config.listen, config.daemon.ciphers);
    let names: Vec<_> = all.iter().filter_map(|listen| name_of_listener(&place(listen))).collect();
    inherited.let_go(&names, held);
    let source = |files: &Tls| TlsSource::load(files.clone(), ciphers, clock.clone()).map(Arc::new);
    let bind = |listen| bind(listen, &mut inherited, held, source);
    let listeners = all.iter().map(bind).collect::<Result<Vec<_>, _>>()?;
    inherited.report_unused();
    Ok(listeners)
}

/// Where it listens, one of a kind.
fn place(listen: &Listen) -> String {
    match listen {
        Listen::Unix { path, .. } => path.display().to_string(),
        Listen::Tcp { address }
        | Listen::Tls { address, .. }
        | Listen::WebSocket { address, .. }
        | Listen::WebSocketTls { address, .. } => address.to_string(),
    }
}

/// Binds a listener's socket, or takes the one that the service manager holds at its address: that
/// one's queue goes on while the daemon is away, so that a restart refuses nobody. A socket that is bound
/// here is given to it to be held.
fn bind(
    listen: &Listen,
    inherited: &mut Inherited,
    held: &Store,
    source: impl Fn(&Tls) -> Result<Arc<TlsSource>, TlsError>,
) -> Result<Listener, StartError> {
    let mut tcp = |address, transport| tcp(address, transport, inherited, held);
    Ok(match listen {
        Listen::Tcp { address } => tcp(*address, Transport::Plain)?,
        Listen::Tls { address, tls: files } => tcp(*address, Transport::Tls(source(files)?))?,
        Listen::WebSocket { address, origins } => {
            tcp(*address, Transport::WebSocket(Arc::new(origins.clone())))?
        }
        Listen::WebSocketTls { address, origins, tls: files } => {
            let transport = Transport::WebSocketTls(source(files)?, Arc::new(origins.clone()));
            tcp(*address, transport)?
        }
        Listen::Unix { path, mode, group } => {
            let group = group.as_deref().map(group_id).transpose()?;
            unix(path, Permission { mode: mode.bits(), group }, inherited, held)?
        }
    })
}

fn tcp(
    address: SocketAddr,
    transport: Transport,
    inherited: &mut Inherited,
    held: &Store,
) -> Result<Listener, BindError> {
    if let Some(socket) = inherited.take_tcp(address) {
        return adopt_tcp(socket, transport);
    }
    let listener = bind_tcp(address, transport)?;
    // at port 0 it would be found by nobody
    if address.port() != 0 {
        hold(held, &address.to_string(), &listener);
    }
    Ok(listener)
}

fn unix(
    path: &Path,
    permission: Permission,
    inherited: &mut Inherited,
    held: &Store,
) -> Result<Listener, BindError> {
    if let Some(HeldUnix { socket, is_ours }) = inherited.take_unix(path) {
        // a socket unit has its own
        return adopt_unix(socket, path, is_ours.then_some(permission));
    }
    let mut listener = bind_unix(path, permission)?;
    if hold(held, &path.display().to_string(), &listener) {
        listener.leave_path();
    }
    Ok(listener)
}

fn hold(held: &Store, address: &str, listener: &Listener) -> bool {
    let name = name_of_listener(address).filter(|_| held.is_there());
    if let Some(name) = &name {
        held.store(name, listener.as_fd());
    }
    name.is_some()
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
