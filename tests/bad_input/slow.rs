//! Who is slow, and who are many.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use fastport_wire::control::{self, ErrorCode};

use super::support::peer::{connect, control_frame, hello};
use super::support::{DEADLINE, SCHEMES};
use super::{Healthy, Site};

/// Short enough for tests, long enough for a machine under load.
pub(super) const HANDSHAKE: Duration = Duration::from_millis(1000);

pub(super) fn slow_site(more: &str) -> Site {
    let timeout = HANDSHAKE.as_millis();
    Site::start_with(&format!("handshake_timeout = \"{timeout}ms\"\n{more}"))
}

/// Sends `bytes` one by one, and one `more` again and again, each after a tenth of the deadline;
/// when the daemon ended it, and what it said.
fn drip(address: &str, bytes: &[u8], more: u8) -> (Duration, Vec<u8>) {
    let started = Instant::now();
    let mut io = connect(address);
    // the pace: the answer is waited for between the bytes
    io.set_read_timeout(Some(HANDSHAKE / 10)).expect("not zero");
    let (mut answer, mut buffer) = (Vec::new(), [0; 512]);
    for byte in bytes.iter().copied().chain(std::iter::repeat(more)) {
        if io.write_all(&[byte]).is_err() {
            break;
        }
        match io.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
        assert!(started.elapsed() < DEADLINE, "the daemon waits for ever");
    }
    (started.elapsed(), answer)
}

#[test]
fn who_is_slow_in_any_part_of_the_handshake_is_refused_at_the_deadline() {
    let site = slow_site("");
    let mut healthy = Healthy::at(&site);
    let hello = control_frame(hello("demo"));
    let slow = [
        // a HELLO that takes its time, and padding, which is right at any time
        ("tcp", site.tcp(), hello[..5].to_vec(), 0xff),
        ("padding", site.tcp(), Vec::new(), 0),
        #[cfg(feature = "websocket")]
        ("ws", site.daemon.address("ws"), b"GET / HTTP/1.1\r\nX: ".to_vec(), b'x'),
        // a record of 512 bytes
        #[cfg(feature = "tls")]
        ("tls", site.daemon.address("tls"), b"\x16\x03\x01\x02\x00\x01".to_vec(), 0),
    ];
    let number = slow.len();
    let ends = std::thread::scope(|scope| {
        let slow = slow.map(|(what, address, bytes, more)| {
            scope.spawn(move || (what, drip(&address, &bytes, more)))
        });
        // others come and go meanwhile
        while slow.iter().any(|slow| !slow.is_finished()) {
            drop(site.join());
            healthy.exchange();
        }
        slow.map(|slow| slow.join().expect("it ends"))
    });
    for (what, (after, answer)) in ends {
        assert!(after >= HANDSHAKE * 9 / 10, "{what}: {after:?}");
        assert!(after < HANDSHAKE * 6, "{what}: {after:?}");
        if what == "tcp" || what == "padding" {
            let code = ErrorCode::HandshakeTimeout.number();
            let refusal = control::Error { code, retry: Some(5000), ..Default::default() };
            assert_eq!(answer, control_frame(refusal), "{what}");
        }
    }
    assert_eq!(healthy.publisher.status()["handshake_timeouts"], number);
    healthy.exchange();
}

#[test]
fn half_open_handshakes_stop_others_for_no_longer_than_the_deadline() {
    let site = slow_site("handshakes = 4");
    let mut healthy = Healthy::at(&site);
    let tls: &[&str] = if cfg!(feature = "tls") { &["tls"] } else { &[] };
    let schemes = [SCHEMES, tls].concat();
    let address = |number: usize| site.daemon.address(schemes[number % schemes.len()]);
    let silent: Vec<_> = (0..7).map(|number| connect(&address(number))).collect();
    let started = Instant::now();
    // those that are in notice nothing
    healthy.exchange();
    let mut late = site.join();
    let waited = started.elapsed();
    assert!(waited < HANDSHAKE * 2, "{waited:?}");
    late.open("a");
    healthy.exchange();
    drop(silent);
}

#[test]
fn a_flood_of_connections_costs_no_more_than_its_places() {
    let site = slow_site("handshakes = 8");
    let mut healthy = Healthy::at(&site);
    let sockets = |site: &Site| {
        let folder = format!("/proc/{}/fd", site.daemon.pid());
        std::fs::read_dir(folder).expect("the daemon runs").count()
    };
    let before = sockets(&site);
    let flood: Vec<_> = (0..300).map(|_| connect(&site.tcp())).collect();
    let most = before + 8 + 3;
    let until = Instant::now() + DEADLINE;
    // all places are taken, again and again
    while healthy.publisher.status()["handshake_timeouts"].as_u64() < Some(16) {
        healthy.exchange();
        let now = sockets(&site);
        assert!(now <= most, "{now} file descriptors, {before} before");
        assert!(Instant::now() < until, "the flood is not refused");
    }
    drop(flood);
    // what is gone is done with at once
    site.join().open("a");
    healthy.exchange();
}
