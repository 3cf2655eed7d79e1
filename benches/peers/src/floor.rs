//! A relay that does nothing but move bytes: it walks frame lengths and copies whole publish frames
//! to every subscriber, matching no topics, with one write per subscriber for all that one
//! `epoll_wait` brought. It shows how much of a peer's figure is TCP itself.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use anyhow::Result;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::protocol::raw::{HELLO, PUBLISH, SUBSCRIBE, frame, put_header};

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    output: Vec<u8>,
    subscribed: bool,
    wants_write: bool,
}

struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> io::Result<Self> {
        Ok(Epoll(epoll::create(CreateFlags::CLOEXEC)?))
    }

    fn add(&self, socket: impl std::os::fd::AsFd, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.0, socket, EventData::new_u64(token), EventFlags::IN)?)
    }

    /// Whether it is told when the socket takes bytes again.
    fn watch_room(&self, socket: &TcpStream, token: u64, wanted: bool) -> io::Result<()> {
        let flags = if wanted { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        Ok(epoll::modify(&self.0, socket, EventData::new_u64(token), flags)?)
    }

    /// How many of `events` are now those that happened.
    fn wait(&self, events: &mut [epoll::Event]) -> io::Result<usize> {
        match epoll::wait(&self.0, events, None) {
            Ok(happened) => Ok(happened),
            Err(rustix::io::Errno::INTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

/// Serves until it is ended from outside.
pub fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let epoll = Epoll::new()?;
    epoll.add(&listener, LISTENER)?;
    let mut clients: HashMap<u64, Client> = HashMap::new();
    let mut next_token = LISTENER + 1;
    let nothing = epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) };
    let mut events = vec![nothing; 256];
    let mut scratch = vec![0; INPUT_SIZE];
    let mut publishes = Vec::new();
    loop {
        let happened = epoll.wait(&mut events)?;
        for &event in &events[..happened] {
            let (token, flags) = (event.data.u64(), event.flags);
            if token == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    epoll.add(&stream, next_token)?;
                    clients.insert(next_token, Client::new(stream));
                    next_token += 1;
                }
                continue;
            }
            let Some(client) = clients.get_mut(&token) else { continue };
            let readable = flags != EventFlags::OUT;
            let alive = !readable || client.receive(&mut scratch, &mut publishes);
            if !alive || !client.send(&[], &epoll, token) {
                clients.remove(&token);
            }
        }
        if !publishes.is_empty() {
            clients.retain(|&token, client| {
                !client.subscribed || client.send(&publishes, &epoll, token)
            });
            publishes.clear();
        }
    }
}

impl Client {
    fn new(stream: TcpStream) -> Self {
        Client {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            subscribed: false,
            wants_write: false,
        }
    }

    /// One read; whole publish frames go to `publishes`. False once the connection is over.
    fn receive(&mut self, scratch: &mut [u8], publishes: &mut Vec<u8>) -> bool {
        let n = match self.stream.read(scratch) {
            Ok(0) => return false,
            Ok(n) => n,
            Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
        };
        let carried = !self.input.is_empty();
        if carried {
            self.input.extend_from_slice(&scratch[..n]);
        }
        let input = if carried { &self.input[..] } else { &scratch[..n] };
        let mut used = 0;
        while let Some((kind, len)) = frame(&input[used..]) {
            match kind {
                PUBLISH => publishes.extend_from_slice(&input[used..used + len]),
                HELLO => put_header(HELLO, 0, &mut self.output),
                SUBSCRIBE => {
                    self.subscribed = true;
                    put_header(SUBSCRIBE, 0, &mut self.output);
                }
                _ => return false,
            }
            used += len;
        }
        if carried {
            self.input.drain(..used);
        } else {
            self.input.extend_from_slice(&scratch[used..n]);
        }
        true
    }

    /// Sends what was left over and then these bytes, as far as the socket takes them, and asks for
    /// writability exactly while there is something left. False once the connection is over.
    fn send(&mut self, bytes: &[u8], epoll: &Epoll, token: u64) -> bool {
        let kept = !self.output.is_empty();
        if kept {
            self.output.extend_from_slice(bytes);
        }
        let pending = if kept { &self.output[..] } else { bytes };
        if pending.is_empty() {
            return true;
        }
        let sent = match self.stream.write(pending) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return false,
        };
        if kept {
            self.output.drain(..sent);
        } else {
            self.output.extend_from_slice(&bytes[sent..]);
        }
        let wants = !self.output.is_empty();
        if wants == self.wants_write {
            return true;
        }
        self.wants_write = wants;
        epoll.watch_room(&self.stream, token, wants).is_ok()
    }
}

/// Bytes of one read.
const INPUT_SIZE: usize = 64 * 1024;
/// The listener's token; clients' begin behind it.
const LISTENER: u64 = 0;
