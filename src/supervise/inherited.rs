//! What a service manager hands over at the start: listening sockets (socket activation), and files
//! that it held while the daemon was away (sd_listen_fds(3), LISTEN_FDNAMES).

use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::{fmt, io};

use rustix::io::{FdFlags, fcntl_setfd};
use socket2::{Domain, SockRef, Socket};
use tracing::{info, warn};

use super::fds::Store;

/// What was handed over and nobody has taken yet.
#[derive(Debug, Default)]
pub struct Inherited {
    tcp: Vec<Named<SocketAddr, TcpListener>>,
    unix: Vec<Named<Box<Path>, UnixListener>>,
    files: Vec<(String, OwnedFd)>,
}

/// A listening socket, the address that it is bound to, and what it was handed over as.
#[derive(Debug)]
struct Named<A, S> {
    name: String,
    address: A,
    socket: S,
}

/// A Unix socket that listens.
#[derive(Debug)]
pub struct HeldUnix {
    /// The socket.
    pub socket: UnixListener,
    /// Whether the daemon had it held, so that its path is the daemon's; else a socket unit made it.
    pub is_ours: bool,
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
            let address = path.into();
            self.unix.push(Named { name: name.to_owned(), address, socket: listener });
        } else {
            let socket = TcpListener::from(OwnedFd::from(socket));
            let address = socket.local_addr()?;
            self.tcp.push(Named { name: name.to_owned(), address, socket });
        }
        Ok(())
    }

    /// The listening socket at that address.
    pub fn take_tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.tcp.iter().position(|held| held.address == address)?;
        Some(self.tcp.swap_remove(at).socket)
    }

    /// The listening socket at that path.
    pub fn take_unix(&mut self, path: &Path) -> Option<HeldUnix> {
        let at = self.unix.iter().position(|held| *held.address == *path)?;
        let Named { name, socket, .. } = self.unix.swap_remove(at);
        Some(HeldUnix { socket, is_ours: is_ours(&name) })
    }

    /// The files, by name.
    pub fn take_files(&mut self) -> Vec<(String, OwnedFd)> {
        std::mem::take(&mut self.files)
    }

    /// Ends the sockets that the daemon had held and that are under none of the `wanted` names, or cannot be
    /// reached any more: who connects there would wait for ever, and their addresses may overlap with new
    /// ones. Before any is bound.
    pub fn let_go(&mut self, wanted: &[String], held: &Store) {
        let is_over = |name: &String| is_ours(name) && !wanted.contains(name);
        let end = |name: &str, address: &dyn fmt::Display| {
            info!(%address, "no listener any more");
            held.remove(name);
        };
        self.tcp.retain(|Named { name, address, socket }| {
            if is_over(name) {
                // the service manager closes its own only when it has read of it
                if let Err(error) = SockRef::from(socket).shutdown(Shutdown::Both) {
                    warn!(%address, %error, "goes on to listen for a moment");
                }
                end(name, address);
            }
            !is_over(name)
        });
        // a socket unit puts its own in the place of what is there
        let units = self.unix.iter().filter(|unix| !is_ours(&unix.name));
        let replaced: Vec<_> = units.map(|unix| unix.address.clone()).collect();
        let is_lost = |path: &Path| !path.exists() || replaced.iter().any(|unit| **unit == *path);
        self.unix.retain(|Named { name, address, .. }| {
            let is_over = is_over(name) || is_ours(name) && is_lost(address);
            if is_over {
                end(name, &address.display());
            }
            !is_over
        });
    }

    /// Says which sockets of socket units no listener of the configuration wanted. They are closed.
    pub fn report_unused(self) {
        let tcp = self.tcp.iter().map(|held| held.address.to_string());
        let unix = self.unix.iter().map(|held| held.address.display().to_string());
        for address in tcp.chain(unix) {
            warn!(address, "a socket of the service manager is at no address of [[listen]]");
        }
    }
}

/// What the service manager holds a listener's socket as; `address` is one of a kind. `None`: its store
/// takes no such name.
#[must_use]
pub fn name_of_listener(address: &str) -> Option<String> {
    let is_plain = address.len() < 200 && address.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then(|| format!("{OURS}{}", address.replace(':', ".")))
}

fn is_ours(name: &str) -> bool {
    name.starts_with(OURS)
}

/// What the names of our listeners' sockets begin with.
const OURS: &str = "listen-";

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::net::{TcpStream, UdpSocket};

    use socket2::Type;

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
        assert!(inherited.take_unix(&path).is_some_and(|held| !held.is_ours));
        let mut files = inherited.take_files();
        let (name, file) = files.pop().expect("there is one file");
        let mut text = String::new();
        File::from(file).read_to_string(&mut text).expect("it is open");
        assert_eq!((name.as_str(), text.as_str(), files.len()), ("journal:demo", "held", 0));
    }

    #[test]
    fn a_socket_of_ours_whose_path_is_gone_is_not_taken() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("peers.sock");
        let name = name_of_listener(&path.display().to_string()).expect("a plain path");
        for is_there in [true, false] {
            let unix = UnixListener::bind(&path).expect("the folder is ours");
            let mut inherited =
                Inherited::sort([(Some(name.clone()), OwnedFd::from(unix))].into_iter());
            if !is_there {
                std::fs::remove_file(&path).expect("it was bound");
            }
            inherited.let_go(std::slice::from_ref(&name), &Store::default());
            assert_eq!(inherited.take_unix(&path).is_some_and(|held| held.is_ours), is_there);
            std::fs::remove_file(&path).unwrap_or_default();
        }
    }

    #[test]
    fn a_socket_unit_s_path_is_not_taken_for_ours() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("peers.sock");
        let name = name_of_listener(&path.display().to_string()).expect("a plain path");
        let ours = UnixListener::bind(&path).expect("the folder is ours");
        std::fs::remove_file(&path).expect("it was bound");
        let unit = UnixListener::bind(&path).expect("nothing is there");
        let all = [(Some(name.clone()), ours), (Some("fastportd.socket".into()), unit)];
        let mut inherited =
            Inherited::sort(all.into_iter().map(|(name, socket)| (name, OwnedFd::from(socket))));
        inherited.let_go(&[name], &Store::default());
        assert!(inherited.take_unix(&path).is_some_and(|held| !held.is_ours));
    }

    #[test]
    fn an_address_that_overlaps_with_one_that_was_held_can_be_bound_at_once() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("there is IPv4");
        socket.set_reuse_address(true).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        socket.listen(1).expect("it is bound");
        let old = TcpListener::from(socket);
        let at = old.local_addr().expect("it is bound");
        // as the service manager has it
        let copy = old.try_clone().expect("it is open");
        let unit = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let unit_at = unit.local_addr().expect("it is bound");
        let all = [(name_of_listener(&at.to_string()), old), (Some("web.socket".into()), unit)];
        let mut inherited =
            Inherited::sort(all.into_iter().map(|(name, socket)| (name, OwnedFd::from(socket))));
        inherited.let_go(&[], &Store::default());
        assert!(inherited.take_tcp(at).is_none());
        assert!(inherited.take_tcp(unit_at).is_some(), "a socket unit's stays");
        TcpListener::bind(("0.0.0.0", at.port())).expect("nobody listens there any more");
        drop(copy);
    }

    #[test]
    fn the_name_of_a_listener_is_one_that_systemd_takes() {
        assert_eq!(name_of_listener("[::1]:7470").as_deref(), Some("listen-[..1].7470"));
        assert_eq!(name_of_listener("/run/a b"), None);
        assert_eq!(name_of_listener(&"a".repeat(300)), None);
    }
}
