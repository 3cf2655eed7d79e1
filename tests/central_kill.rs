//! A central instance that is killed, again and again: what it acknowledged is in its file, once.

#![allow(clippy::panic, reason = "what a publisher relies on and does not get fails the test")]

mod support;

use std::collections::VecDeque;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastport_wire::Frame;
use fastport_wire::control::{self, Control, Tier, features};
use fastport_wire::frame::DataFlags;
use rusqlite::Connection;
use support::peer::{Peer, data};
use support::{DEADLINE, Daemon, demo_config};

const PUBLISHERS: u64 = 4;

/// A publisher that holds each message until central has it.
struct Publisher {
    address: String,
    number: u64,
    /// Counted frames of its epoch that central holds.
    central: u64,
    /// The messages behind them.
    held: VecDeque<u64>,
    next: u64,
    /// Whether some link has come as far as a message.
    is_known: bool,
    resumed: u64,
}

impl Publisher {
    fn new(address: &str, number: u64) -> Self {
        let (central, next, held) = (0, 0, VecDeque::new());
        let address = address.to_owned();
        Self { address, number, central, held, next, is_known: false, resumed: 0 }
    }

    /// Publishes until it is told to stop, and then until central has all.
    fn run(mut self, stops: &AtomicBool, acknowledged: &AtomicU64) -> (u64, u64) {
        let until = Instant::now() + 20 * DEADLINE;
        loop {
            assert!(Instant::now() < until, "{} of {} are at central", self.central, self.next);
            if let Some(mut peer) = self.join()
                && self.publish(&mut peer, stops, acknowledged).is_some()
            {
                return (self.next, self.resumed);
            }
        }
    }

    /// `None`: the link was lost, or there is none.
    fn join(&mut self) -> Option<(Peer, u32)> {
        let Ok(io) = TcpStream::connect(&self.address) else {
            std::thread::park_timeout(Duration::from_millis(5));
            return None;
        };
        io.set_read_timeout(Some(DEADLINE)).ok()?;
        io.set_nodelay(true).ok()?;
        let mut peer = Peer::silent(io);
        let (name, flags) = (format!("publisher-{}", self.number), features::ACK_CENTRAL);
        let mut hello = support::peer::hello("demo");
        hello.name = Some(&name);
        (hello.flags, hello.linger) = (Some(flags), Some(3600));
        peer.give(&support::peer::control_frame(hello)).then_some(())?;
        let (resumed, taken) = peer.control(|message| match message {
            Control::Welcome(welcome) => (welcome.resumed, welcome.taken),
            other => panic!("{other:?}"),
        })?;
        assert!(resumed || !self.is_known, "publisher {} is forgotten", self.number);
        self.resumed += u64::from(resumed);
        assert!(taken >= self.central, "{taken} of {} that were acknowledged", self.central);
        let topic = format!("t/{}", self.number);
        let (request, tier) = (1, Some(Tier::Central.number()));
        let open = control::Open { request, topic: &topic, tier, ..Default::default() };
        peer.give(&support::peer::control_frame(open)).then_some(())?;
        let id = peer.control(|message| match message {
            Control::Ok(ok) => ok.id.expect("OK of OPEN has it"),
            other => panic!("{other:?}"),
        })?;
        self.is_known = true;
        let missing = usize::try_from(taken - self.central).expect("few");
        for &message in self.held.iter().skip(missing) {
            peer.give(&frame(id, message)).then_some(())?;
        }
        Some((peer, id))
    }

    fn publish(
        &mut self,
        (peer, id): &mut (Peer, u32),
        stops: &AtomicBool,
        acknowledged: &AtomicU64,
    ) -> Option<()> {
        loop {
            let is_last = stops.load(Ordering::Relaxed);
            if is_last && self.held.is_empty() {
                return Some(());
            }
            if !is_last && self.held.len() < 2000 {
                for _ in 0..20 {
                    self.held.push_back(self.next);
                    self.next += 1;
                    peer.give(&frame(*id, self.next - 1)).then_some(())?;
                }
            }
            let ping = support::peer::encode(&Frame::Ping { token: &[] });
            peer.give(&ping).then_some(())?;
            loop {
                let seen = peer.frame(|frame| match frame {
                    Frame::Ack { taken, central, .. } => Some(central.unwrap_or(taken)),
                    Frame::Pong { .. } => None,
                    _ => Some(0),
                })?;
                let Some(central) = seen else { break };
                while self.central < central {
                    self.held.pop_front().expect("no more than was sent");
                    self.central += 1;
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

fn frame(topic: u32, number: u64) -> Vec<u8> {
    data(topic, DataFlags::COUNTED, number.to_string().as_bytes())
}

#[test]
fn what_central_acknowledged_is_stored_once_and_in_order_whenever_it_is_killed() {
    let kills = std::env::var("FASTPORT_TEST_KILLS").map_or(12, |kills| kills.parse().expect("n"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let address = free.expect("a port is free").to_string();
    let state = folder.path().join("state");
    let config = demo_config("").replacen("127.0.0.1:0", &address, 1)
        + &format!("[daemon]\nstate = {state:?}\n\n[central]\nenabled = true\ncommit = \"20ms\"\n");
    let mut daemon = Daemon::start(folder.path(), &config);
    let (stops, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let publisher = Publisher::new(&address, number);
            let (stops, acknowledged) = (Arc::clone(&stops), Arc::clone(&acknowledged));
            std::thread::spawn(move || publisher.run(&stops, &acknowledged))
        })
        .collect();
    let mut random = u64::from(std::process::id());
    for _ in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // so that each life gets somewhere
        wait_for_more(&acknowledged, 100);
        std::thread::park_timeout(Duration::from_micros(random >> 33 & 0x1ffff));
        daemon.signal("KILL");
        daemon.wait();
        daemon = Daemon::start(folder.path(), &config);
    }
    stops.store(true, Ordering::Relaxed);
    let sent: Vec<(u64, u64)> =
        publishers.into_iter().map(|publisher| publisher.join().expect("no panic")).collect();
    for (number, (published, resumed)) in sent.iter().enumerate() {
        let stored = stored(&state, number);
        assert_eq!(stored.len() as u64, *published, "publisher {number}");
        let is_in_order = stored.iter().enumerate().all(|(at, &message)| at as u64 == message);
        assert!(is_in_order, "publisher {number}: {stored:?}");
        println!("publisher {number}: {published} messages, resumed {resumed} times");
        assert!(*resumed > 0);
    }
}

fn wait_for_more(acknowledged: &AtomicU64, more: u64) {
    let wanted = acknowledged.load(Ordering::Relaxed) + more;
    let until = Instant::now() + DEADLINE;
    while acknowledged.load(Ordering::Relaxed) < wanted {
        assert!(Instant::now() < until, "nothing is acknowledged");
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

fn stored(state: &Path, number: usize) -> Vec<u64> {
    let connection = Connection::open(state.join("central.db")).expect("the daemon made it");
    let sql = "SELECT payload FROM messages WHERE topic = ? ORDER BY id";
    let mut statement = connection.prepare(sql).expect("the view is there");
    let rows = statement.query_map([format!("t/{number}")], |row| row.get::<_, Vec<u8>>(0));
    let text = |payload| String::from_utf8(payload).expect("text");
    let number = |payload| text(payload).parse().expect("a number");
    rows.expect("rows").map(|payload| number(payload.expect("a payload"))).collect()
}
