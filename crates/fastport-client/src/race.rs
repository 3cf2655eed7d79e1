//! From a host's name to a TCP connection, whatever of names, families and packets is lost on the way.
//!
//! A question or a SYN that got lost in a dead network is asked again by the system only after ever
//! longer pauses. So both are asked again here, beside those that are on their way, and the first
//! answer counts: a network that comes back is used within [`AGAIN`].

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::connect::unreachable;
use crate::error::ConnectError;

/// The addresses that a host had last.
#[derive(Debug, Default)]
pub(crate) struct Known(Mutex<Vec<SocketAddr>>);

impl Known {
    /// Connects to the host. Its name is resolved each time; where no name server answers, the
    /// addresses of before have to do.
    ///
    /// # Errors
    /// [`ConnectError::Resolve`], [`ConnectError::Unreachable`].
    pub(crate) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, ConnectError> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let addresses = match resolve(host, port, !known.is_empty()).await {
            Ok(addresses) => addresses,
            Err(_) if !known.is_empty() => known,
            Err(error) => {
                return Err(ConnectError::Resolve { host: host.to_owned(), why: Arc::new(error) });
            }
        };
        let stream = race(&addresses).await.map_err(unreachable)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
        Ok(stream)
    }
}

/// The addresses of a host, IPv6 and IPv4 in turn, beginning with the system's favourite. With others
/// to fall back on it does not wait for long.
async fn resolve(host: &str, port: u16, has_others: bool) -> io::Result<Vec<SocketAddr>> {
    let mut attempts = JoinSet::new();
    let mut rounds = 0;
    loop {
        if rounds < MOST_LOOKUPS {
            rounds += 1;
            let host = host.to_owned();
            attempts.spawn(async move {
                let found: Vec<SocketAddr> = lookup_host((host.as_str(), port)).await?.collect();
                if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) }
            });
        } else if has_others {
            return Err(io::ErrorKind::TimedOut.into());
        }
        tokio::select! {
            ended = attempts.join_next() => match ended {
                Some(Ok(Ok(found))) => return Ok(alternate(found)),
                Some(Ok(Err(error))) if attempts.is_empty() => return Err(error),
                Some(Err(error)) if attempts.is_empty() => return Err(io::Error::other(error)),
                // another is still under way, and no new one is begun for it
                Some(_) => rounds = MOST_LOOKUPS,
                None => return Err(io::ErrorKind::NotFound.into()),
            },
            () = sleep(AGAIN), if rounds < MOST_LOOKUPS || has_others => {}
        }
    }
}

fn alternate(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_v6_first = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == is_v6_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut sorted = Vec::new();
    loop {
        let before = sorted.len();
        sorted.extend(first.next());
        sorted.extend(second.next());
        if sorted.len() == before {
            return sorted;
        }
    }
}

/// Connects to whichever address answers first; each gets a head start on the next (RFC 8305,
/// "Happy Eyeballs"), which ends when it fails. While none answers they are tried again and again;
/// the caller has the deadline. It fails when all fail.
async fn race(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    let mut waiting = addresses.iter().copied();
    loop {
        let pause = match waiting.next() {
            Some(address) => {
                if attempts.len() < MOST_ATTEMPTS {
                    attempts.spawn(dial(address));
                }
                HEAD_START
            }
            None if attempts.is_empty() => return Err(last),
            None => {
                // those that are on their way stay so
                tokio::select! {
                    ended = attempts.join_next() => match take(ended) {
                        Ok(stream) => return Ok(stream),
                        Err(error) => last = error,
                    },
                    () = sleep(AGAIN) => waiting = addresses.iter().copied(),
                }
                continue;
            }
        };
        tokio::select! {
            ended = attempts.join_next() => match take(ended) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            },
            () = sleep(pause) => {}
        }
    }
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))
}

fn take(
    ended: Option<Result<io::Result<TcpStream>, tokio::task::JoinError>>,
) -> io::Result<TcpStream> {
    match ended {
        Some(Ok(done)) => done,
        Some(Err(error)) => Err(io::Error::other(error)),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Of an address before the next is tried: RFC 8305's recommendation.
const HEAD_START: Duration = Duration::from_millis(250);
/// Before what is not answered is asked again.
const AGAIN: Duration = Duration::from_millis(1200);
/// Connections being made at once: for every family some that began at different times.
const MOST_ATTEMPTS: usize = 16;
/// Questions for a name at once; each takes a thread of the runtime's.
const MOST_LOOKUPS: u32 = 4;

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn both_families_take_turns() {
        let found = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let sorted = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(alternate(found), sorted);
        let found = addresses(&["1.1.1.1:1", "[::1]:1"]);
        assert_eq!(alternate(found.clone()), found);
    }

    #[tokio::test]
    async fn an_address_that_refuses_leaves_the_field_to_the_next() {
        let refusing = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let refused = refusing.local_addr().expect("bound");
        drop(refusing);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let open = listener.local_addr().expect("bound");
        let stream = race(&[refused, open]).await.expect("one of them listens");
        assert_eq!(stream.peer_addr().expect("connected"), open);
        let error = race(&[refused]).await.expect_err("nobody listens");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert!(error.to_string().contains(&refused.to_string()), "{error}");
    }

    #[tokio::test]
    async fn where_no_name_server_answers_the_addresses_of_before_have_to_do() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let open = listener.local_addr().expect("bound");
        let known = Known(Mutex::new(vec![open]));
        let stream = known.connect("no-such-host.invalid", open.port()).await;
        assert_eq!(stream.expect("it is still there").peer_addr().expect("connected"), open);
    }
}
