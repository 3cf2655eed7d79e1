//! What a peer may not do.

use super::*;

#[test]
fn data_on_an_id_that_is_not_open_ends_the_link_and_the_peer() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(lingering(1));
    let id = TopicId::new(1).expect("not 0");
    let bytes = [plain(id, &[1]), control(control::Status::default())].concat();
    assert_eq!(rig.give(peer, &bytes).consumed, bytes.len());
    assert_eq!(refusal(&rig.take(peer)), Some(ErrorCode::UnknownId));
    assert!(rig.is_last(peer));
    assert_eq!(rig.session.poll_ask(), None, "nothing behind it was read");
    let now = rig.now().mono;
    rig.session.detach(now, peer);
    assert_eq!((rig.session.figures().peers, rig.session.figures().lingering), (0, 0));
}

#[test]
fn a_payload_over_the_limit_ends_the_link() {
    let mut rig = Rig::new(Limits { payload: 8, ..limits() });
    let peer = rig.attach(admission(1));
    let id = rig.open(peer, "a");
    rig.give_all(peer, &plain(id, &[1; 8]));
    rig.give(peer, &plain(id, &[1; 9]));
    assert_eq!(refusal(&rig.take(peer)), Some(ErrorCode::PayloadTooLong));
    assert!(rig.is_last(peer));
    assert_eq!(rig.ledger().published, 1);
}

#[test]
fn a_long_payload_behind_good_ones_is_refused_alone() {
    let mut rig = Rig::new(Limits { payload: 8, ..limits() });
    let peer = rig.attach(admission(1));
    let id = rig.open(peer, "a");
    rig.give(peer, &[plain(id, &[1; 8]), plain(id, &[2; 9])].concat());
    assert_eq!(rig.ledger().published, 1);
    assert_eq!(refusal(&rig.take(peer)), Some(ErrorCode::PayloadTooLong));
}

#[test]
fn a_session_for_sealed_payloads_refuses_others_and_takes_the_daemons_own() {
    let mut rig = Rig::new(Limits { sealed: true, ..limits() });
    let peer = rig.attach(admission(1));
    let id = rig.open(peer, "a");
    rig.give_all(peer, &data(id, DataFlags::SEALED, &[1]));
    assert_eq!(refusal(&rig.emit(peer, "a", DataFlags::SEALED, &[2])), None);
    assert_eq!(refusal(&rig.emit(peer, "a", DataFlags::NONE, &[3])), Some(ErrorCode::Unsealed));
    assert!(!rig.is_last(peer), "who asks is answered");
    rig.give(peer, &data(id, DataFlags::KEEP, &[4]));
    assert_eq!(refusal(&rig.take(peer)), Some(ErrorCode::Unsealed));
    assert!(rig.is_last(peer));
    assert_eq!(rig.ledger().published, 2);
    let now = rig.now();
    rig.session
        .publish_own(now, "$board/load", None, DataFlags::KEEP, &[7])
        .expect("the daemon's own");
    assert_eq!(rig.ledger().published, 3);
}

#[test]
fn bytes_that_are_no_frame_end_the_link_and_name_the_fault() {
    for (bytes, code) in [
        (&[0xb0, 0][..], ErrorCode::BadFrame),
        (&[0x20, 0xff, 0xff, 0x7f], ErrorCode::FrameTooLong),
        (&[0x10, 1, 0xff], ErrorCode::BadControl),
        (&[0x40, 1, 1], ErrorCode::Unexpected),
        (&[0x20, 1, 0], ErrorCode::BadFrame),
    ] {
        let mut rig = Rig::new(limits());
        let peer = rig.attach(admission(1));
        rig.give(peer, bytes);
        assert_eq!(refusal(&rig.take(peer)), Some(code), "{bytes:x?}");
        assert!(rig.is_last(peer));
    }
}

#[test]
fn a_message_of_a_later_version_is_answered_and_the_link_stays() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(admission(1));
    // {0: 200, 1: 7}
    rig.give_all(peer, &frame(&Frame::Control(b"\xa2\x00\x18\xc8\x01\x07")));
    let expected = Seen::Error { request: Some(7), code: ErrorCode::UnknownMessage };
    assert_eq!(rig.take(peer), [expected]);
    assert!(!rig.is_last(peer));
}

#[test]
fn an_acknowledgement_of_more_than_was_written_ends_the_link() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(lingering(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    rig.give_all(publisher, &counted(id, &[1]));
    rig.give(reader, &ack(1));
    assert_eq!(refusal(&rig.take(reader)), Some(ErrorCode::BadAck), "not written yet");
    assert!(rig.is_last(reader));
}

#[test]
fn what_only_serial_lines_or_the_relay_say_ends_the_link() {
    let repeat = Frame::Ack { taken: 0, durable: None, central: None, repeat: true };
    for (bytes, code) in [
        (frame(&repeat), ErrorCode::BadAck),
        (control(control::Ok { request: 1, ..Default::default() }), ErrorCode::Unexpected),
        (control(control::Challenge::default()), ErrorCode::Unexpected),
        (control(control::Hello { version: 2, ..Default::default() }), ErrorCode::Unexpected),
    ] {
        let mut rig = Rig::new(limits());
        let peer = rig.attach(admission(1));
        rig.give(peer, &bytes);
        assert_eq!(refusal(&rig.take(peer)), Some(code));
        assert!(rig.is_last(peer));
    }
}

#[test]
fn frames_that_the_protocol_grants_everybody_are_taken_however_short_payloads_are() {
    let mut rig = Rig::new(Limits { payload: 4, ..limits() });
    let peer = rig.attach(admission(1));
    // {0: 18, 1: 7, 99: 4000 bytes}
    let mut body = b"\xa3\x00\x12\x01\x07\x18\x63\x59\x0f\xa0".to_vec();
    body.resize(body.len() + 4000, 0);
    rig.give_all(peer, &frame(&Frame::Control(&body)));
    assert_eq!(rig.session.poll_ask().map(|ask| ask.request), Some(7));
}

#[test]
fn a_ping_is_answered_with_its_token() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(admission(1));
    rig.give_all(peer, &[vec![0, 0], frame(&Frame::Ping { token: b"xyz" }), vec![0]].concat());
    assert_eq!(rig.take(peer), [Seen::Pong(b"xyz".to_vec())]);
}

#[test]
fn frames_may_come_in_any_pieces() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    rig.subscribe(reader, "a");
    let id = rig.open(publisher, "a");
    let bytes: Vec<u8> = (0..20).flat_map(|number| counted(id, &[number; 30])).collect();
    let mut held = Vec::new();
    for piece in bytes.chunks(7) {
        held.extend_from_slice(piece);
        let consumed = rig.give(publisher, &held).consumed;
        held.drain(..consumed);
    }
    assert!(held.is_empty());
    assert_eq!(numbers(&rig.take(reader)), (0..20).collect::<Vec<_>>());
}
