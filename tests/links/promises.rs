//! The promises. Each takes a transport.

use std::time::Duration;

use fastport::link::{Faults, Limits};
use fastport_wire::Frame;
use fastport_wire::control::{self, ByeReason, ErrorCode, WhenFull};
use fastport_wire::frame::DataFlags;

use crate::peer::{Got, Peer, data, hello};
use crate::site::{Kind, OUTBOX, PAYLOAD, Site};

pub(crate) async fn a_handshake_leads_to_welcome(kind: Kind) {
    let mut site = Site::open(kind).await;
    let mut peer = Peer::new(site.dial().await);
    peer.say(hello().into()).await;
    assert_eq!(peer.next().await, Got::Welcome { payload_limit: PAYLOAD });
    site.wait_for_peers(1).await;
}

pub(crate) async fn a_message_arrives_unchanged(kind: Kind) {
    let mut site = Site::open(kind).await;
    let mut reader = Peer::join(site.dial().await).await;
    reader.subscribe("a/+").await;
    let mut publisher = Peer::join(site.dial().await).await;
    let id = publisher.open("a/b").await;
    let counted_keep = DataFlags::COUNTED.with(DataFlags::KEEP);
    for (flags, length) in [
        (DataFlags::NONE, 0),
        (counted_keep, 1),
        (DataFlags::SEALED, 256),
        (DataFlags::NONE, 60 * 1024),
        (DataFlags::COUNTED, PAYLOAD),
    ] {
        let payload: Vec<u8> = (0..=255).cycle().take(length).collect();
        publisher.send(&data(id, flags, &payload)).await.expect("the link is there");
        let got = reader.next_data().await;
        assert!(got == (flags, payload), "{length} bytes");
    }
}

pub(crate) async fn ten_thousand_messages_arrive_in_order(kind: Kind) {
    let mut site = Site::open(kind).await;
    let mut reader = Peer::join(site.dial().await).await;
    reader.subscribe("a/b").await;
    let mut publisher = Peer::join(site.dial().await).await;
    let id = publisher.open("a/b").await;
    let publish = async {
        for hundred in 0..100_u32 {
            let numbers = hundred * 100..(hundred + 1) * 100;
            let frames: Vec<u8> = numbers
                .flat_map(|number| data(id, DataFlags::NONE, &number.to_be_bytes()))
                .collect();
            publisher.send(&frames).await.expect("the link is there");
        }
    };
    let read = async {
        for number in 0..10_000_u32 {
            assert_eq!(reader.next_data().await.1, number.to_be_bytes());
        }
    };
    tokio::join!(publish, read);
}

pub(crate) async fn a_reader_that_must_not_lose_slows_the_publisher_and_gets_all(kind: Kind) {
    const MESSAGES: u32 = 3000;
    let mut site = Site::open(kind).await;
    let hold = WhenFull::Hold.number();
    let wishes = control::Hello { when_full: Some(hold), linger: Some(10), ..hello() };
    let mut reader = Peer::join_as(site.dial().await, wishes).await;
    reader.subscribe("a/b").await;
    let mut publisher =
        Peer::join_as(site.dial().await, control::Hello { epoch: 8, ..hello() }).await;
    let id = publisher.open("a/b").await;
    let payload = |number: u32| [&number.to_be_bytes()[..], &[7; 1020]].concat();
    assert!(MESSAGES as usize * 1024 > 5 * OUTBOX);
    let publish = async {
        for number in 0..MESSAGES {
            let frame = data(id, DataFlags::COUNTED, &payload(number));
            publisher.send(&frame).await.expect("the link is there");
        }
        loop {
            if publisher.next().await == (Got::Ack { taken: MESSAGES.into() }) {
                break;
            }
        }
    };
    let read = async {
        // the outbox fills first
        site.wait_until("a full outbox", |room| {
            room.figures().ledger.published * 1024 > OUTBOX as u64 / 2
        })
        .await;
        for number in 0..MESSAGES {
            let (_, got) = reader.next_data().await;
            assert!(got == payload(number), "message {number}");
            if number % 50 == 49 || number + 1 == MESSAGES {
                let taken = u64::from(number) + 1;
                let ack = Frame::Ack { taken, durable: None, central: None, repeat: false };
                reader.send_frame(&ack).await;
            }
        }
    };
    tokio::join!(publish, read);
}

pub(crate) async fn frames_may_be_split_anywhere(kind: Kind) {
    let mut site = Site::open(kind).await;
    for (seed, longest) in [(1, 1), (2, 3), (3, 700)] {
        let faults = Faults { seed, longest, put_off_one_in: 5, cut_below: None };
        let mut reader = Peer::join(site.dial_faulty(faults).await).await;
        let topic = format!("split/{longest}");
        reader.subscribe(&topic).await;
        let mut publisher = Peer::join(site.dial_faulty(faults).await).await;
        let id = publisher.open(&topic).await;
        for length in [0, 1, 126, 127, 128, 129, 5000, 50_000] {
            if length > longest * 1000 {
                continue;
            }
            let payload: Vec<u8> = (0..=255).cycle().take(length).collect();
            publisher
                .send(&data(id, DataFlags::COUNTED, &payload))
                .await
                .expect("the link is there");
            assert!(reader.next_data().await == (DataFlags::COUNTED, payload), "{length} bytes");
        }
    }
}

pub(crate) async fn a_peer_that_goes_frees_its_seat(kind: Kind) {
    let mut site = Site::open(kind).await;
    let stays = Peer::join(site.dial().await).await;
    let cut = Peer::join(site.dial().await).await;
    let mut polite = Peer::join(site.dial().await).await;
    let half = Peer::new(site.dial().await);
    site.wait_for_peers(3).await;
    drop((cut, half));
    site.wait_for_peers(2).await;
    let code = ByeReason::Done.number();
    polite.say(control::Bye { code, ..Default::default() }.into()).await;
    assert_eq!(polite.next().await, Got::Closed);
    site.wait_for_peers(1).await;
    drop(stays);
    site.wait_for_peers(0).await;
}

pub(crate) async fn a_refused_handshake_gets_its_error(kind: Kind) {
    let mut site = Site::open(kind).await;
    for (hello, code) in [
        (control::Hello { session: "no such", ..hello() }, ErrorCode::NotAuthenticated),
        (control::Hello { version: 1, ..hello() }, ErrorCode::BadVersion),
    ] {
        let mut peer = Peer::new(site.dial().await);
        peer.say(hello.into()).await;
        let refused = Got::Error { request: None, code: code.number(), retry: None };
        assert_eq!(peer.next().await, refused);
        assert_eq!(peer.next().await, Got::Closed);
    }
    assert_eq!(site.hub.status().refused.get(), 2);
    site.wait_for_peers(0).await;
}

pub(crate) async fn last_words_reach_a_peer_that_is_still_sending(kind: Kind) {
    let mut site = Site::open(kind).await;
    let mut peer = Peer::join(site.dial().await).await;
    // no such frame type, and more behind it than the relay reads at once
    for _ in 0..32 {
        peer.send(&[0xb0; 16 * 1024]).await.expect("the relay reads what is in vain");
    }
    let code = ErrorCode::BadFrame.number();
    assert_eq!(peer.next().await, Got::Error { request: None, code, retry: None });
    assert_eq!(peer.next().await, Got::Closed);
    site.wait_for_peers(0).await;
}

pub(crate) async fn a_handshake_that_takes_too_long_is_refused_and_its_place_is_free(kind: Kind) {
    let limits = Limits { handshakes: 2, handshake_timeout: Duration::from_millis(300) };
    let mut site = Site::open_with(kind, limits).await;
    // one says nothing at all, one stops before its HELLO
    let silent = site.connect().await;
    let mut stopped = Peer::new(site.dial().await);
    let (another, pipe) = (site.connect().await, site.dial().await);
    let mut patient = Peer::join(pipe).await;
    let code = ErrorCode::HandshakeTimeout.number();
    assert_eq!(stopped.next().await, Got::Error { request: None, code, retry: Some(5000) });
    assert_eq!(stopped.next().await, Got::Closed);
    patient.subscribe("a").await;
    site.wait_until("three deadlines", |_| site.hub.status().handshake_timeouts.get() == 3).await;
    drop((silent, another));
}

pub(crate) async fn links_get_bye_when_the_daemon_stops(kind: Kind) {
    let mut site = Site::open(kind).await;
    let mut peers = Vec::new();
    for _ in 0..3 {
        peers.push(Peer::join(site.dial().await).await);
    }
    site.stop();
    for mut peer in peers {
        let code = ByeReason::ShuttingDown.number();
        assert_eq!(peer.next().await, Got::Bye { code, retry: Some(1000) });
        assert_eq!(peer.next().await, Got::Closed);
    }
    site.ended().await;
    site.wait_for_peers(0).await;
}

pub(crate) async fn a_handshake_that_ends_after_the_stop_is_told_when_to_come_back(kind: Kind) {
    let mut site = Site::open(kind).await;
    let mut late = Peer::new(site.dial().await);
    // links are accepted in the order in which they come: behind this one the first is in
    let mut known = Peer::join(site.dial().await).await;
    site.stop();
    assert!(matches!(known.next().await, Got::Bye { .. }));
    late.say(hello().into()).await;
    let code = ErrorCode::Unavailable.number();
    assert_eq!(late.next().await, Got::Error { request: None, code, retry: Some(1000) });
    assert_eq!(late.next().await, Got::Closed);
    drop((known, late));
    site.ended().await;
}

pub(crate) async fn a_replaced_link_gets_bye(kind: Kind) {
    let mut site = Site::open(kind).await;
    let named = control::Hello { name: Some("board 1"), ..hello() };
    let mut older = Peer::join_as(site.dial().await, named).await;
    let mut newer = Peer::join_as(site.dial().await, named).await;
    let code = ByeReason::Replaced.number();
    assert_eq!(older.next().await, Got::Bye { code, retry: None });
    assert_eq!(older.next().await, Got::Closed);
    newer.subscribe("a").await;
    site.wait_for_peers(1).await;
}
