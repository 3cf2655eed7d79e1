//! A fleet of gateways that comes back to a central instance: at its pace, and within its time.

#![allow(clippy::panic, reason = "what a gateway relies on and does not get fails the test")]

mod support;

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastport_wire::control::{self, Control, Method};
use fastport_wire::{Frame, field};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::peer::control_frame;
use support::{Daemon, demo_config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const FLEET: usize = 2000;
const PER_SECOND: usize = 250;
/// A tenth of the places is for those who come late.
const WINDOW: Duration = Duration::from_millis((FLEET * 10_000 / 9 / PER_SECOND) as u64);
/// As docs/operations.md says: each waits up to [`EAGER`] before it asks and up to a second beyond its turn,
/// and links that are lost have to be seen. For how long the machine let this test wait comes on top.
const SLACK: Duration = Duration::from_secs(3);

/// When gateways were let in, by the clock of WELCOME.
type Welcomes = Arc<Mutex<Vec<u64>>>;

/// Why a gateway has no link, and what it was told.
enum Away {
    /// The address does not answer.
    Unreachable,
    /// It is told to come back after so many milliseconds.
    Told(u32),
    /// The link was cut.
    Cut,
}

/// One gateway's life: it waits as docs/protocol.md has it where it is told to, else as the uplink does
/// in the first minutes of an outage.
async fn gateway(address: String, number: usize, welcomes: Welcomes) {
    let name = format!("gateway-{number}");
    let mut random = number as u64 + 1;
    loop {
        let wait = match link(&address, &name, &welcomes).await {
            Away::Told(retry) => {
                let hint = Duration::from_millis(retry.into());
                hint + share(&mut random, hint.min(Duration::from_secs(1)))
            }
            Away::Unreachable | Away::Cut => share(&mut random, EAGER),
        };
        tokio::time::sleep(wait).await;
    }
}

fn share(random: &mut u64, most: Duration) -> Duration {
    *random =
        random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    most.mul_f64((*random >> 11) as f64 / (1u64 << 53) as f64)
}

async fn link(address: &str, name: &str, welcomes: &Welcomes) -> Away {
    let connecting = timeout(PATIENCE, TcpStream::connect(address)).await;
    let Ok(Ok(mut io)) = connecting else { return Away::Unreachable };
    let hello = control::Hello {
        version: control::VERSION,
        session: "demo",
        epoch: 7,
        method: Some(Method::Password.number()),
        identity: Some("fleet"),
        name: Some(name),
        ..Default::default()
    };
    if io.write_all(&control_frame(hello)).await.is_err() {
        return Away::Cut;
    }
    let mut input = Vec::new();
    let mut is_in = false;
    loop {
        while let Some((frame, length)) =
            Frame::decode(&input, field::MAX_BODY).expect("the relay sends frames")
        {
            let mut proof = None;
            if let Frame::Control(body) = frame {
                match Control::decode(body).expect("the relay sends messages") {
                    Control::Challenge(_) => {
                        let message = control::Proof { proof: b"password", ..Default::default() };
                        proof = Some(control_frame(message));
                    }
                    Control::Welcome(welcome) => {
                        let clock = welcome.clock.expect("its clock is set");
                        welcomes.lock().expect("nobody panics").push(clock);
                        is_in = true;
                    }
                    Control::Error(error) => {
                        return Away::Told(error.retry.expect("nothing else is wrong"));
                    }
                    Control::Bye(bye) => return bye.retry.map_or(Away::Cut, Away::Told),
                    other => panic!("{other:?}"),
                }
            }
            input.drain(..length);
            if let Some(proof) = proof
                && io.write_all(&proof).await.is_err()
            {
                return Away::Cut;
            }
        }
        let mut buffer = [0; 512];
        // once it is in, the relay's PINGs may be as far apart as they like
        let patience = if is_in { Duration::from_secs(3600) } else { PATIENCE };
        match timeout(patience, io.read(&mut buffer)).await {
            Ok(Ok(length)) if length > 0 => input.extend_from_slice(&buffer[..length]),
            _ => return Away::Cut,
        }
    }
}

/// Waits until the whole fleet is in once more; how long that took, for how much of it the machine was busy
/// with other work, and the most of a second.
async fn all_in(welcomes: &Welcomes, before: usize) -> (Duration, Duration, usize) {
    let begun = Instant::now();
    let mut busy = Duration::ZERO;
    let count = || welcomes.lock().expect("nobody panics").len();
    while count() < before + FLEET {
        assert!(begun.elapsed() < 2 * (WINDOW + SLACK), "{} of {FLEET} are in", count() - before);
        let looked = Instant::now();
        tokio::time::sleep(LOOK).await;
        // as late as this task was, so were the gateways' and the daemon
        busy += looked.elapsed().saturating_sub(LOOK + ON_TIME);
    }
    let took = begun.elapsed();
    let mut clocks = welcomes.lock().expect("nobody panics")[before..].to_vec();
    clocks.sort_unstable();
    let most = (0..clocks.len()).map(|at| {
        let within = clocks[at..].iter().take_while(|&&clock| clock < clocks[at] + 1000);
        within.count()
    });
    (took, busy, most.max().unwrap_or(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_returns_at_the_pace_of_central_and_within_its_window() {
    let files = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: files, maximum: files }).expect("its own limit");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (config, address) = config(folder.path());
    let welcomes = Welcomes::default();
    let mut daemon = Daemon::start(folder.path(), &config);
    let fleet: Vec<_> = (0..FLEET)
        .map(|number| tokio::spawn(gateway(address.clone(), number, Arc::clone(&welcomes))))
        .collect();
    for signal in [None, Some("TERM"), Some("KILL")] {
        let before = welcomes.lock().expect("nobody panics").len();
        if let Some(signal) = signal {
            daemon.signal(signal);
            daemon.wait();
            daemon = Daemon::start(folder.path(), &config);
        }
        let (took, busy, most) = all_in(&welcomes, before).await;
        println!(
            "after {signal:?}: all in after {took:?}, {busy:?} of it lost to other work, at most \
             {most} in a second"
        );
        // it is its clock's milliseconds that it counts by
        assert!(most <= PER_SECOND + PER_SECOND / 20, "{most} in a second");
        assert!(took <= WINDOW + SLACK + busy, "{took:?} of {WINDOW:?}, and {busy:?}");
        // each came once
        assert_eq!(welcomes.lock().expect("nobody panics").len(), before + FLEET);
    }
    fleet.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A central instance at a port that stays, and its address.
fn config(folder: &std::path::Path) -> (String, String) {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let address = free.expect("a port is free").to_string();
    let credentials = folder.join("credentials.toml");
    let identity = format!(
        "[[identity]]\nsession = \"demo\"\nid = \"fleet\"\npassword = \"{HASH}\"\ngateway = true\n"
    );
    std::fs::write(&credentials, identity).expect("written");
    let mode = std::process::Command::new("chmod").arg("600").arg(&credentials).status();
    assert!(mode.is_ok_and(|status| status.success()));
    let text = format!(
        "[daemon]\nstate = {:?}\n\n[access]\ncredentials = {credentials:?}\n\n\
         [central]\nenabled = true\nconnects_per_second = {PER_SECOND}\n",
        folder.join("state")
    );
    let config = demo_config("").replacen("127.0.0.1:0", &address, 1) + &text;
    (config, address)
}

/// Between two looks at who is in.
const LOOK: Duration = Duration::from_millis(5);
/// A look that is no later than that is on time.
const ON_TIME: Duration = Duration::from_millis(10);
/// The most that an uplink waits for a network that may be back at any moment.
const EAGER: Duration = Duration::from_millis(1500);
/// For connecting, and for each answer of the handshake.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of `password`, cheap to check: from the test vectors of argon2's reference implementation.
const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ\
                    $nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";
