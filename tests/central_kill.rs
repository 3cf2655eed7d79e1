//! A central instance that is killed, again and again: what it acknowledged is in its file, once.

#![allow(clippy::panic, reason = "what a publisher relies on and does not get fails the test")]

mod support;

use std::collections::VecDeque;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastport_wire::control::{self, Control, Method, Tier, features};
use fastport_wire::frame::{DataFlags, GapCause};
use fastport_wire::{Frame, TopicId};
use rusqlite::Connection;
use support::disk::{self, Patience};
use support::peer::{Peer, data};
use support::{DEADLINE, Daemon, demo_config};

const PUBLISHERS: u64 = 4;
/// Until central has all, with all the kills.
const ALL: Duration = Duration::from_secs(600);

/// A gateway that holds each message until central has it, and drops some, which it says.
struct Publisher {
    address: String,
    number: u64,
    /// Counted frames of its epoch that central holds.
    central: u64,
    /// The messages behind them.
    held: VecDeque<u64>,
    next: u64,
    /// What it dropped, and behind how many of its messages; for as long as it may have to say so again.
    gaps: VecDeque<(u64, u64)>,
    dropped: u64,
    /// Whether some link has come as far as a message.
    is_known: bool,
    resumed: u64,
    /// The test fails unless central has all by then.
    until: Instant,
    /// Of all publishers.
    acknowledged: Arc<AtomicU64>,
}

/// What a publisher looks at of the daemon's frames.
enum Seen<T> {
    Answer(T),
    Central(u64),
    Pong,
    Other,
}

impl Publisher {
    fn new(address: &str, number: u64, acknowledged: &Arc<AtomicU64>) -> Self {
        Self {
            address: address.to_owned(),
            number,
            central: 0,
            held: VecDeque::new(),
            next: 0,
            gaps: VecDeque::new(),
            dropped: 0,
            is_known: false,
            resumed: 0,
            until: Instant::now() + ALL,
            acknowledged: Arc::clone(acknowledged),
        }
    }

    /// Publishes until it is told to stop, and then until central has all.
    fn run(mut self, stops: &AtomicBool) -> Self {
        loop {
            self.look_at_the_clock();
            if let Some(mut peer) = self.join()
                && self.publish(&mut peer, stops).is_some()
            {
                return self;
            }
        }
    }

    fn look_at_the_clock(&self) {
        let Self { number, central, next, .. } = self;
        assert!(Instant::now() < self.until, "publisher {number}: {central} of {next} at central");
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
        (hello.method, hello.identity) = (Some(Method::Password.number()), Some("gateway"));
        peer.give(&support::peer::control_frame(hello)).then_some(())?;
        self.answer(&mut peer, |message| {
            assert!(matches!(message, Control::Challenge(_)), "{message:?}");
        })?;
        let proof = control::Proof { proof: b"password", ..Default::default() };
        peer.give(&support::peer::control_frame(proof)).then_some(())?;
        let (resumed, taken) = self.answer(&mut peer, |message| match message {
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
        let id = self.answer(&mut peer, |message| match message {
            Control::Ok(ok) => ok.id.expect("OK of OPEN has it"),
            other => panic!("{other:?}"),
        })?;
        self.is_known = true;
        for at in taken..=self.next {
            // behind the last that is there, too: nobody knows whether that gap came
            if let Some(&(_, count)) = self.gaps.iter().find(|&&(place, _)| place == at) {
                peer.give(&gap(id, count)).then_some(())?;
            }
            let place = usize::try_from(at - self.central).expect("few");
            if let Some(&message) = self.held.get(place) {
                peer.give(&frame(id, message)).then_some(())?;
            }
        }
        Some((peer, id))
    }

    fn publish(&mut self, (peer, id): &mut (Peer, u32), stops: &AtomicBool) -> Option<()> {
        loop {
            let is_last = stops.load(Ordering::Relaxed);
            if is_last && self.held.is_empty() {
                return Some(());
            }
            if !is_last && self.held.len() < 2000 {
                if self.next.is_multiple_of(60) {
                    let count = 1 + self.next % 7;
                    self.gaps.push_back((self.next, count));
                    self.dropped += count;
                    peer.give(&gap(*id, count)).then_some(())?;
                }
                for _ in 0..20 {
                    self.held.push_back(self.next);
                    self.next += 1;
                    peer.give(&frame(*id, self.next - 1)).then_some(())?;
                }
            }
            let ping = support::peer::encode(&Frame::Ping { token: &[] });
            peer.give(&ping).then_some(())?;
            while !matches!(self.look(peer, |_| ())?, Seen::Pong) {}
        }
    }

    /// Waits for a control message, and notes what is acknowledged before it: the daemon may say that
    /// once only. `None`: the link was lost.
    fn answer<T>(&mut self, peer: &mut Peer, look: impl Fn(&Control<'_>) -> T) -> Option<T> {
        loop {
            if let Seen::Answer(answer) = self.look(peer, &look)? {
                return Some(answer);
            }
        }
    }

    /// The next frame; `look` is for control messages.
    fn look<T>(&mut self, peer: &mut Peer, look: impl Fn(&Control<'_>) -> T) -> Option<Seen<T>> {
        self.look_at_the_clock();
        let seen = peer.frame(|frame| match frame {
            Frame::Control(body) => {
                Seen::Answer(look(&Control::decode(body).expect("the daemon knows its messages")))
            }
            Frame::Ack { taken, central, .. } => Seen::Central(central.unwrap_or(taken)),
            Frame::Pong { .. } => Seen::Pong,
            _ => Seen::Other,
        })?;
        if let Seen::Central(central) = seen {
            self.note_central(central);
        }
        Some(seen)
    }

    fn note_central(&mut self, central: u64) {
        while self.central < central {
            self.held.pop_front().expect("no more than was sent");
            self.central += 1;
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        self.gaps.retain(|&(place, _)| place >= central);
    }
}

fn gap(topic: u32, count: u64) -> Vec<u8> {
    let topic = TopicId::new(topic);
    support::peer::encode(&Frame::Gap { topic, count, cause: GapCause::Overflow })
}

fn frame(topic: u32, number: u64) -> Vec<u8> {
    data(topic, DataFlags::COUNTED, number.to_string().as_bytes())
}

#[test]
fn what_central_acknowledged_is_stored_once_and_in_order_whenever_it_is_killed() {
    let kills = std::env::var("FASTPORT_TEST_KILLS").map_or(12, |kills| kills.parse().expect("n"));
    disk::watch();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let address = free.expect("a port is free").to_string();
    let state = folder.path().join("state");
    let credentials = folder.path().join("credentials.toml");
    let identity = format!(
        "[[identity]]\nsession = \"demo\"\nid = \"gateway\"\npassword = \"{HASH}\"\n\
         publish = [\"#\"]\ngateway = true\n"
    );
    std::fs::write(&credentials, identity).expect("written");
    let mode = std::process::Command::new("chmod").arg("600").arg(&credentials).status();
    assert!(mode.is_ok_and(|status| status.success()));
    let more = format!(
        "[daemon]\nstate = {state:?}\n\n[access]\ncredentials = {credentials:?}\n\n\
         [central]\nenabled = true\ncommit = \"20ms\"\n"
    );
    let config = demo_config("").replacen("127.0.0.1:0", &address, 1) + &more;
    let mut daemon = Daemon::start(folder.path(), &config);
    let (stops, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|number| {
            let publisher = Publisher::new(&address, number, &acknowledged);
            let stops = Arc::clone(&stops);
            std::thread::spawn(move || publisher.run(&stops))
        })
        .collect();
    let mut random = u64::from(std::process::id());
    for _ in 0..kills {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // so that each life gets somewhere
        wait_for_more(&acknowledged, 100, &mut daemon);
        std::thread::park_timeout(Duration::from_micros(random >> 33 & 0x1ffff));
        daemon.signal("KILL");
        daemon.wait();
        daemon = Daemon::start(folder.path(), &config);
    }
    stops.store(true, Ordering::Relaxed);
    let publishers = publishers.into_iter().map(|publisher| publisher.join().expect("no panic"));
    for Publisher { number, next, dropped, resumed, .. } in publishers {
        let (messages, missing) = stored(&state, number);
        assert_eq!(messages.len() as u64, next, "publisher {number}");
        assert_eq!(missing, dropped, "publisher {number}, of {:?}", all_missing(&state));
        let is_in_order = messages.iter().enumerate().all(|(at, &message)| at as u64 == message);
        assert!(is_in_order, "publisher {number}: {messages:?}");
        println!("publisher {number}: {next} messages, {dropped} dropped, resumed {resumed} times");
        assert!(resumed > 0);
    }
}

fn wait_for_more(acknowledged: &AtomicU64, more: u64, daemon: &mut Daemon) {
    let begun = acknowledged.load(Ordering::Relaxed);
    let patience = Patience::new(DEADLINE);
    loop {
        let came = acknowledged.load(Ordering::Relaxed) - begun;
        if came >= more {
            return;
        }
        assert!(
            patience.left().is_some(),
            "{came} of {more} are acknowledged; its log:\n{}",
            daemon.log()
        );
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// The messages of a publisher, in order, and how many are said to be missing between them.
fn stored(state: &Path, number: u64) -> (Vec<u64>, u64) {
    let connection = Connection::open(state.join("central.db")).expect("the daemon made it");
    let topic = format!("t/{number}");
    let sql = "SELECT payload FROM messages WHERE topic = ? ORDER BY id";
    let mut statement = connection.prepare(sql).expect("the view is there");
    let rows = statement.query_map([&topic], |row| row.get::<_, Vec<u8>>(0)).expect("rows");
    let text = |payload| String::from_utf8(payload).expect("text");
    let messages = rows.map(|row| text(row.expect("a payload")).parse().expect("a number"));
    let sql = "SELECT coalesce(sum(messages), 0) FROM gaps WHERE topic = ? AND cause = 1";
    let missing: i64 = connection.query_row(sql, [&topic], |row| row.get(0)).expect("a number");
    (messages.collect(), missing.cast_unsigned())
}

/// All that is said to be missing, by topic and cause.
fn all_missing(state: &Path) -> Vec<(Option<String>, i64, i64)> {
    let connection = Connection::open(state.join("central.db")).expect("the daemon made it");
    let sql = "SELECT topic, cause, sum(messages) FROM gaps GROUP BY topic, cause";
    let mut statement = connection.prepare(sql).expect("the view is there");
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
    rows.expect("rows").map(|row| row.expect("a topic and two numbers")).collect()
}

/// Of `password`, cheap to check: from the test vectors of argon2's reference implementation.
const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ\
                    $nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
