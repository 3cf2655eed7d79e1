//! An address of this machine that answers nothing: connections to it are neither taken nor refused.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A listener that nobody serves and whose queue is full, so that the kernel drops what comes.
pub struct BlackHole {
    address: SocketAddr,
    _listener: Socket,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    /// One at a free port.
    pub fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
        listener.listen(0).expect("it is bound");
        let address = listener.local_addr().expect("it is bound").as_socket().expect("IPv4");
        let mut queued = Vec::new();
        // the kernel takes one or two that wait to be accepted
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            queued.push(stream);
            assert!(queued.len() < 16, "the queue has no end");
        }
        Self { address, _listener: listener, _queued: queued }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
