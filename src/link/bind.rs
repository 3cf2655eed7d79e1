//! From addresses to sockets that listen: bound here, or taken from the service manager.

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::{fmt, fs, io};

use tokio::net::{TcpListener, UnixListener};

use super::listener::{Listener, Transport};

/// A socket cannot be bound.
#[derive(Debug)]
pub struct BindError {
    /// Where.
    pub place: String,
    /// Why.
    pub error: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, error } = self;
        write!(f, "cannot listen on {place}: {error}")?;
        match error.kind() {
            io::ErrorKind::AddrInUse => f.write_str(
                "; another program (or another fastportd) has it: stop that, or give another address",
            ),
            io::ErrorKind::PermissionDenied => {
                f.write_str("; use a port from 1024 on, or a folder that the daemon may write")
            }
            io::ErrorKind::AddrNotAvailable => {
                f.write_str("; no interface of this machine has that address")
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for BindError {}

/// Binds a TCP socket.
///
/// # Errors
/// [`BindError`].
pub fn bind_tcp(address: SocketAddr, transport: Transport) -> Result<Listener, BindError> {
    let bind = || {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        // a restart does not wait for the old connections' TIME_WAIT
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    match bind() {
        Ok(socket) => Ok(Listener::on_tcp(socket, transport)),
        Err(error) => Err(BindError { place: format!("{}://{address}", transport.name()), error }),
    }
}

/// Uses a TCP socket that listens already. Call it in the runtime.
///
/// # Errors
/// [`BindError`].
pub fn adopt_tcp(
    socket: std::net::TcpListener,
    transport: Transport,
) -> Result<Listener, BindError> {
    match TcpListener::from_std(socket) {
        Ok(socket) => Ok(Listener::on_tcp(socket, transport)),
        Err(error) => {
            Err(BindError { place: format!("an inherited {} socket", transport.name()), error })
        }
    }
}

/// Who may connect to a Unix socket.
#[derive(Debug, Clone, Copy)]
pub struct Permission {
    /// The mode of its path.
    pub mode: u32,
    /// The group of its path; else the daemon's.
    pub group: Option<u32>,
}

impl Permission {
    fn apply(self, path: &Path) -> io::Result<()> {
        let is_other = |group: &u32| fs::metadata(path).is_ok_and(|found| found.gid() != *group);
        // a sandbox may forbid the call, which is not needed for the daemon's own group
        if let Some(group) = self.group.filter(is_other) {
            std::os::unix::fs::chown(path, None, Some(group))?;
        }
        fs::set_permissions(path, Permissions::from_mode(self.mode))
    }
}

/// Uses a Unix socket that listens already; its path stays, and so do its permissions if none are
/// given. Call it in the runtime.
///
/// # Errors
/// [`BindError`].
pub fn adopt_unix(
    socket: std::os::unix::net::UnixListener,
    path: &Path,
    permission: Option<Permission>,
) -> Result<Listener, BindError> {
    let adopt = || {
        if let Some(permission) = permission {
            permission.apply(path)?;
        }
        UnixListener::from_std(socket)
    };
    adopt().map(|socket| Listener::on_unix(socket, path, false)).map_err(|error| BindError {
        place: format!("the inherited unix:{}", path.display()),
        error,
    })
}

/// Binds a Unix socket; one that nobody listens on any more is replaced.
///
/// # Errors
/// [`BindError`].
pub fn bind_unix(path: &Path, permission: Permission) -> Result<Listener, BindError> {
    let bind = || {
        remove_stale(path)?;
        let socket = UnixListener::bind(path)?;
        permission.apply(path)?;
        Ok(socket)
    };
    match bind() {
        Ok(socket) => Ok(Listener::on_unix(socket, path, true)),
        Err(error) => Err(BindError { place: format!("unix:{}", path.display()), error }),
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
        Err(_) => fs::remove_file(path),
    }
}

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_path_of_a_socket_that_somebody_else_holds_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("peers.sock");
        let held = std::os::unix::net::UnixListener::bind(&path).expect("the folder is ours");
        let given = held.try_clone().expect("it is open");
        given.set_nonblocking(true).expect("it is a socket");
        let listener = adopt_unix(given, &path, None).expect("it listens");
        assert_eq!(listener.url(), format!("unix:{}", path.display()));
        drop(listener);
        std::os::unix::net::UnixStream::connect(&path)
            .expect("who connects while it restarts waits");
        drop(held);
        // what the daemon bound itself goes with it
        drop(
            bind_unix(&path, Permission { mode: 0o600, group: None })
                .expect("the old one is stale"),
        );
        assert!(!path.exists());
    }
}
