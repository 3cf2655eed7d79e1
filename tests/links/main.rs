//! What every link promises, on every transport, through the handshake and the hub that the daemon
//! has.
#![allow(clippy::panic, reason = "a failed expectation is what a test is for")]
#![allow(clippy::cast_possible_truncation, reason = "sizes of a test are small")]
#![allow(clippy::large_futures, reason = "a test has few, and on its own stack")]

mod peer;
mod promises;
mod site;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "websocket")]
mod websocket;

use fastport::config::Config;
use fastport::guard::{Credentials, Gate, Origin};
use fastport::link::{Faults, Limits, Permission, bind_unix};
use fastport_core::time::Instant;
use fastport_wire::frame::DataFlags;

use crate::peer::{Got, Peer, Pipe, data};
use crate::site::{Kind, LIMITS, Site};

macro_rules! contract {
    ($kind:expr; $($promise:ident)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                crate::promises::$promise($kind).await;
            }
        )*
    };
}

macro_rules! on_each {
    ($($(#[$built_in:meta])? $transport:ident: $kind:expr,)*) => {
        $(
            $(#[$built_in])?
            mod $transport {
                use crate::site::Kind;

                contract! {
                    $kind;
                    a_handshake_leads_to_welcome
                    a_message_arrives_unchanged
                    ten_thousand_messages_arrive_in_order
                    a_reader_that_must_not_lose_slows_the_publisher_and_gets_all
                    frames_may_be_split_anywhere
                    a_peer_that_goes_frees_its_seat
                    a_refused_handshake_gets_its_error
                    last_words_reach_a_peer_that_is_still_sending
                    a_handshake_that_takes_too_long_is_refused_and_its_place_is_free
                    links_get_bye_when_the_daemon_stops
                    a_handshake_that_ends_after_the_stop_is_told_when_to_come_back
                    a_replaced_link_gets_bye
                }
            }
        )*
    };
}

/// The contract, on each.
mod on {
    on_each! {
        memory: Kind::Memory,
        faulty: Kind::Faulty,
        tcp: Kind::Tcp,
        unix: Kind::Unix,
        #[cfg(feature = "tls")]
        tls: Kind::Tls,
        #[cfg(feature = "websocket")]
        websocket: Kind::WebSocket,
        #[cfg(feature = "websocket")]
        faulty_websocket: Kind::FaultyWebSocket,
        #[cfg(all(feature = "tls", feature = "websocket"))]
        websocket_tls: Kind::WebSocketTls,
    }
}

/// A link that is cut anywhere frees its seat, and its subscribers have whole messages in order.
#[tokio::test]
async fn a_link_that_is_cut_leaves_whole_messages_and_a_free_seat() {
    let mut site = Site::open(Kind::Memory).await;
    let mut reader = Peer::join(site.dial().await).await;
    reader.subscribe("a/#").await;
    let (mut got_in, mut got_nothing) = (0, 0);
    for seed in 0..60 {
        let cut = Faults { seed, longest: 50, put_off_one_in: 4, cut_below: Some(600) };
        let mut publisher = Peer::new(Pipe::Stream(site.connect_over(cut)));
        publisher.say(peer::hello().into()).await;
        let id = match publisher.try_open(&format!("a/{seed}")).await {
            Some(id) => id,
            None => {
                got_nothing += 1;
                site.wait_for_peers(1).await;
                continue;
            }
        };
        got_in += 1;
        let mut number: u32 = 0;
        while publisher.send(&data(id, DataFlags::NONE, &number.to_be_bytes())).await.is_ok() {
            number += 1;
        }
        site.wait_for_peers(1).await;
        let published = site.room.figures().ledger.published;
        let mut expected: u32 = 0;
        while site.room.figures().ledger.delivered < published {
            tokio::task::yield_now().await;
        }
        reader.send_frame(&fastport_wire::Frame::Ping { token: &seed.to_be_bytes() }).await;
        loop {
            match reader.next().await {
                Got::Data { payload, .. } => {
                    assert_eq!(payload, expected.to_be_bytes());
                    expected += 1;
                }
                Got::Pong { .. } => break,
                Got::Topic { .. } => {}
                other => panic!("no message but {other:?}"),
            }
        }
        assert!(expected <= number, "{expected} of {number}");
    }
    assert!(got_in > 10 && got_nothing > 1, "cut early {got_nothing} times, late {got_in} times");
}

/// With one place for handshakes and two listeners, both accept.
#[tokio::test]
async fn a_listener_that_waits_for_connections_holds_no_place_of_a_handshake() {
    let mut site = Site::open_with(Kind::Tcp, Limits { handshakes: 1, ..LIMITS }).await;
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join("second.sock");
    site.listen(
        bind_unix(&path, Permission { mode: 0o600, group: None }).expect("the folder is ours"),
    );
    for _ in 0..3 {
        let io = tokio::net::UnixStream::connect(&path).await.expect("it listens");
        Peer::join(Pipe::Stream(Box::new(io))).await;
        Peer::join(site.dial().await).await;
    }
}

/// The places of one address are limited, loopback apart, and come back when links end.
#[test]
fn links_of_one_address_are_bounded() {
    let mut config = Config::default();
    config.limits.peers_per_address = 3;
    let gate = Gate::new(&config, Credentials::default()).expect("randomness");
    let from = |address: &str| Origin::network(address.parse().expect("an address"), "tcp");
    let admit = |address: &str| {
        let visit = gate.admit(&from(address), Instant::from_millis(0)).expect("it is told");
        visit.has_place().then_some(visit)
    };
    let one = "192.0.2.1:1000";
    let mut visits: Vec<_> = (0..3).map(|_| admit(one).expect("there is room")).collect();
    assert!(admit("192.0.2.1:2000").is_none(), "another port is the same address");
    assert!(admit("[::ffff:192.0.2.1]:3000").is_none(), "as IPv6 it is the same address");
    assert!(admit("192.0.2.2:1000").is_some());
    assert!((0..10).map(|_| admit("127.0.0.1:1")).all(|visit| visit.is_some()));
    visits.pop();
    assert!(admit(one).is_some());
}
