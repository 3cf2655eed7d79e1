//! What a service manager hands over at the start: listening sockets (socket activation), and files
//! that it held while the daemon was away (sd_listen_fds(3), LISTEN_FDNAMES).

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use listenfd::ListenFd;
use tracing::{info, warn};

/// What was handed over and nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited {
    tcp: Vec<(SocketAddr, TcpListener)>,
    unix: Vec<(Box<Path>, UnixListener)>,
    files: Vec<(String, File)>,
}

impl Inherited {
    /// Takes over what the environment names. Call it once, before anything else is opened.
    #[must_use]
    pub fn from_environment() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let names: Vec<&str> = names.split(':').collect();
        let mut all = ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..all.len() {
            let name = names.get(index).copied().unwrap_or("unknown");
            if let Err(error) = inherited.take(&mut all, index, name) {
                warn!(name, %error, "what the service manager held is of no use");
            }
        }
        inherited
    }

    fn take(&mut self, all: &mut ListenFd, index: usize, name: &str) -> io::Result<()> {
        if let Ok(Some(listener)) = all.take_tcp_listener(index) {
            listener.set_nonblocking(true)?;
            self.tcp.push((listener.local_addr()?, listener));
            return Ok(());
        }
        if let Ok(Some(listener)) = all.take_unix_listener(index) {
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            let path = address.as_pathname().ok_or(io::ErrorKind::Unsupported)?;
            self.unix.push((path.into(), listener));
            return Ok(());
        }
        let Some(number) = all.take_raw_fd(index)? else { return Ok(()) };
        self.files.push((name.to_owned(), reopen(number)?));
        Ok(())
    }

    /// The listening socket at that address.
    pub fn take_tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.tcp.iter().position(|(bound, _)| *bound == address)?;
        Some(self.tcp.swap_remove(at).1)
    }

    /// The listening socket at that path.
    pub fn take_unix(&mut self, path: &Path) -> Option<UnixListener> {
        let at = self.unix.iter().position(|(bound, _)| **bound == *path)?;
        Some(self.unix.swap_remove(at).1)
    }

    /// The files, by name.
    pub fn take_files(&mut self) -> Vec<(String, OwnedFd)> {
        self.files.drain(..).map(|(name, file)| (name, file.into())).collect()
    }

    /// Says which sockets no listener of the configuration wanted. They are closed.
    pub fn report_unused(self) {
        let tcp = self.tcp.iter().map(|(address, _)| address.to_string());
        for address in tcp.chain(self.unix.iter().map(|(path, _)| path.display().to_string())) {
            warn!(address, "a socket of the service manager is at no address of [[listen]]");
        }
    }
}

/// A file of one's own for what the number names: numbers can only be owned by unsafe code. The
/// number itself stays open, so whoever is done with the file cuts it to nothing.
fn reopen(number: RawFd) -> io::Result<File> {
    let file = File::options().read(true).write(true).open(format!("/proc/self/fd/{number}"))?;
    info!(number, own = file.as_raw_fd(), "file taken over from the service manager");
    Ok(file)
}
