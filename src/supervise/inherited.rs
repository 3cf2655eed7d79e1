//! What a service manager hands over at the start: listening sockets (socket activation), and files
//! that it held while the daemon was away (sd_listen_fds(3), LISTEN_FDNAMES).

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::io::{FdFlags, fcntl_setfd};
use socket2::{Domain, Socket};
use tracing::{info, warn};

/// What was handed over and nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited {
    tcp: Vec<(SocketAddr, TcpListener)>,
    unix: Vec<(Box<Path>, UnixListener)>,
    files: Vec<(String, OwnedFd)>,
}

impl Inherited {
    /// Takes over what the environment names, if it names this process. Call it once: what is taken
    /// over is owned from then on.
    #[must_use]
    pub fn from_environment() -> Self {
        match sd_listen_fds::get() {
            Ok(all) => Self::sort(all.into_iter().map(|(name, file)| (name, file.into_std()))),
            Err(error) => {
                warn!(%error, "what the service manager handed over is not taken");
                Self::default()
            }
        }
    }

    fn sort(all: impl Iterator<Item = (Option<String>, OwnedFd)>) -> Self {
        let mut inherited = Self::default();
        for (name, file) in all {
            let name = name.unwrap_or_default();
            if let Err(error) = inherited.add(&name, file) {
                warn!(name, %error, "what the service manager handed over is of no use");
            }
        }
        inherited
    }

    fn add(&mut self, name: &str, file: OwnedFd) -> io::Result<()> {
        // systemd leaves it off, for us to get them
        fcntl_setfd(&file, FdFlags::CLOEXEC)?;
        let socket = Socket::from(file);
        // of what is no socket this fails
        let Ok(domain) = socket.domain() else {
            info!(name, "file taken over from the service manager");
            self.files.push((name.to_owned(), socket.into()));
            return Ok(());
        };
        if !socket.is_listener()? {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a socket that does not listen",
            ));
        }
        socket.set_nonblocking(true)?;
        if domain == Domain::UNIX {
            let listener = UnixListener::from(OwnedFd::from(socket));
            let address = listener.local_addr()?;
            let path = address.as_pathname().ok_or(io::ErrorKind::Unsupported)?;
            self.unix.push((path.into(), listener));
        } else {
            let listener = TcpListener::from(OwnedFd::from(socket));
            self.tcp.push((listener.local_addr()?, listener));
        }
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
        std::mem::take(&mut self.files)
    }

    /// Says which sockets no listener of the configuration wanted. They are closed.
    pub fn report_unused(self) {
        let tcp = self.tcp.iter().map(|(address, _)| address.to_string());
        for address in tcp.chain(self.unix.iter().map(|(path, _)| path.display().to_string())) {
            warn!(address, "a socket of the service manager is at no address of [[listen]]");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::net::{TcpStream, UdpSocket};

    use super::*;

    #[test]
    fn sockets_are_found_by_their_address_and_files_by_their_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("peers.sock");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = tcp.local_addr().expect("it is bound");
        let unix = UnixListener::bind(&path).expect("the folder is ours");
        std::fs::write(folder.path().join("file"), "held").expect("the folder is ours");
        let file = File::open(folder.path().join("file")).expect("just written");
        let deaf = TcpStream::connect(address).expect("it listens");
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let all = [
            (Some("web".to_owned()), OwnedFd::from(tcp)),
            (Some("journal:demo".to_owned()), file.into()),
            (None, unix.into()),
            (None, deaf.into()),
            (None, datagrams.into()),
        ];

        let mut inherited = Inherited::sort(all.into_iter());
        assert!(inherited.take_tcp(address).is_some_and(|own| own.local_addr().is_ok()));
        assert!(inherited.take_tcp(address).is_none(), "it has one owner");
        assert!(inherited.take_unix(&path).is_some());
        let mut files = inherited.take_files();
        let (name, file) = files.pop().expect("there is one file");
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).expect("it is open");
        assert_eq!((name.as_str(), text.as_str(), files.len()), ("journal:demo", "held", 0));
    }
}
