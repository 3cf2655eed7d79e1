//! What a session does with streams, one promise each.

use std::vec;
use std::vec::Vec;

use fastport_wire::control::{self, Control, ErrorCode, features};
use fastport_wire::field::MAX_CHUNK;
use fastport_wire::frame::DataFlags;
use fastport_wire::{Frame, TopicId};
use proptest::prelude::*;

use super::super::{Admission, Limits, PeerKey, Session, StreamLimits};
use super::{Rig, Seen, admission, control as say, data, frame, limits, refusal};

/// What a peer finds of streams in its link.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Of {
    Offer { id: u32, size: Option<u64> },
    Accept { id: u32, stream: Option<u32>, offset: u64 },
    Decline(u32),
    Cancel { id: u32, stream: Option<u32>, code: Option<ErrorCode> },
    Chunk { stream: u32, offset: u64, bytes: usize, last: bool },
    Credit(u32, u64),
    Data(u32),
}

fn reader(epoch: u64) -> Admission {
    Admission { flags: features::STREAMS, linger: Some(10), ..admission(epoch) }
}

fn streams_in(mut bytes: &[u8]) -> Vec<Of> {
    let mut seen = Vec::new();
    while let Ok(Some((frame, length))) = Frame::decode(bytes, 1 << 20) {
        bytes = &bytes[length..];
        match frame {
            Frame::Control(body) => match Control::decode(body).expect("the relay's messages") {
                Control::Offer(it) => seen.push(Of::Offer { id: it.id, size: it.size }),
                Control::Accept(it) => {
                    let offset = it.offset.unwrap_or(0);
                    seen.push(Of::Accept { id: it.id, stream: it.stream, offset });
                }
                Control::Decline(it) => seen.push(Of::Decline(it.id)),
                Control::Cancel(it) => {
                    let code = it.code.and_then(ErrorCode::from_number);
                    seen.push(Of::Cancel { id: it.id, stream: it.stream, code });
                }
                _ => {}
            },
            Frame::Chunk { stream, offset, bytes, last, .. } => {
                seen.push(Of::Chunk { stream, offset, bytes: bytes.len(), last });
            }
            Frame::Credit { stream, bytes } => seen.push(Of::Credit(stream, bytes)),
            Frame::Data { topic, .. } => seen.push(Of::Data(topic.get())),
            _ => {}
        }
    }
    assert!(bytes.is_empty(), "whole frames");
    seen
}

/// As [`Rig::subscribe`], but what comes is left in the link.
fn subscribe(rig: &mut Rig, peer: PeerKey, topic: &str) {
    rig.give_all(peer, &say(control::Subscribe { request: 77, topic, ..Default::default() }));
}

/// All that waits for a peer's link.
fn found(rig: &mut Rig, peer: PeerKey) -> Vec<Of> {
    let mut all = Vec::new();
    loop {
        let bytes = rig.session.output(peer).expect("it is there").bytes.to_vec();
        if bytes.is_empty() {
            return streams_in(&all);
        }
        rig.session.advance(peer, bytes.len());
        all.extend(bytes);
    }
}

fn offer(id: u32, size: u64) -> Vec<u8> {
    say(control::Offer { topic: "f", id, size: Some(size), ..Default::default() })
}

fn accept(id: u32, offset: u64) -> Vec<u8> {
    say(control::Accept { id, offset: Some(offset), ..Default::default() })
}

fn credit(stream: u32, bytes: u64) -> Vec<u8> {
    frame(&Frame::Credit { stream, bytes })
}

fn chunk(stream: u32, offset: u64, length: usize, last: bool) -> Vec<u8> {
    frame(&Frame::Chunk { stream, offset, last, sealed: false, bytes: &vec![7; length] })
}

struct Pair {
    rig: Rig,
    sender: PeerKey,
    receiver: PeerKey,
    /// The offer's number towards the receiver.
    id: u32,
    /// The flow's towards the sender.
    stream: u32,
}

/// A stream of `size` bytes that is offered as 5 and taken from `offset`, of which `granted` bytes
/// are.
fn pair(limits: Limits, size: u64, offset: u64, granted: u64) -> Pair {
    let mut rig = Rig::new(limits);
    let sender = rig.attach(reader(1));
    let receiver = rig.attach(reader(2));
    rig.subscribe(receiver, "f");
    rig.give_all(sender, &offer(5, size));
    let Some(&Of::Offer { id, .. }) = found(&mut rig, receiver).first() else {
        unreachable!("it reads the topic")
    };
    rig.give_all(receiver, &accept(id, offset));
    rig.give_all(receiver, &credit(id, granted));
    let seen = found(&mut rig, sender);
    let Some(&Of::Accept { id: 5, stream: Some(stream), offset: from }) = seen.first() else {
        unreachable!("{seen:?}")
    };
    assert_eq!(from, offset);
    assert_eq!(seen.get(1), Some(&Of::Credit(stream, granted.min(4096).min(size - offset))));
    Pair { rig, sender, receiver, id, stream }
}

#[test]
fn a_stream_goes_from_its_sender_to_its_receiver_from_the_offset_on() {
    let Pair { mut rig, sender, receiver, id, stream } = pair(limits(), 3000, 1000, 10_000);
    rig.give_all(sender, &chunk(stream, 1000, 500, false));
    rig.give_all(sender, &chunk(stream, 1500, 1500, true));
    let chunks = [(1000, 500, false), (1500, 1500, true)];
    let chunks = chunks.map(|(offset, bytes, last)| Of::Chunk { stream: id, offset, bytes, last });
    assert_eq!(found(&mut rig, receiver), chunks);
    rig.give_all(receiver, &accept(id, 3000));
    let all = Of::Accept { id: 5, stream: Some(stream), offset: 3000 };
    assert_eq!(found(&mut rig, sender), [all]);
    let figures = rig.session.figures().streams;
    assert_eq!((figures.flows, figures.completed, figures.cancelled), (0, 1, 0));
    assert_eq!((figures.offers, figures.bytes), (1, 2000));
}

#[test]
fn no_more_is_here_of_a_stream_than_its_window() {
    let Pair { mut rig, sender, receiver, id, stream } = pair(limits(), 100_000, 0, 100_000);
    rig.give_all(sender, &chunk(stream, 0, 4096, false));
    assert_eq!(found(&mut rig, sender), [], "nothing is written yet");
    assert_eq!(found(&mut rig, receiver).len(), 1);
    assert_eq!(found(&mut rig, sender), [Of::Credit(stream, 4096)]);
    rig.give_all(sender, &chunk(stream, 4096, 4097, false));
    let code = Some(ErrorCode::Unexpected);
    assert_eq!(found(&mut rig, sender), [Of::Cancel { id: 5, stream: Some(stream), code }]);
    assert_eq!(found(&mut rig, receiver), [Of::Cancel { id, stream: None, code }]);
}

#[test]
fn a_sender_is_granted_what_its_receiver_grants() {
    let Pair { mut rig, sender, receiver, id, stream } = pair(limits(), 100_000, 0, 100);
    rig.give_all(receiver, &credit(id, 50));
    assert_eq!(found(&mut rig, sender), [Of::Credit(stream, 50)]);
}

#[test]
fn messages_go_before_chunks_and_a_chunk_that_is_begun_is_finished_first() {
    let Pair { mut rig, sender, receiver, id, stream } = pair(limits(), 9000, 0, 9000);
    let topic = rig.open(sender, "f");
    rig.give_all(sender, &chunk(stream, 0, 1000, false));
    rig.give_all(sender, &chunk(stream, 1000, 1000, false));
    let begun = rig.session.output(receiver).expect("it is there").bytes[..10].to_vec();
    rig.session.advance(receiver, 10);
    let message = data(topic, fastport_wire::frame::DataFlags::NONE, b"x");
    rig.give_all(sender, &message);
    let mut all = begun;
    loop {
        let bytes = rig.session.output(receiver).expect("it is there").bytes.to_vec();
        if bytes.is_empty() {
            break;
        }
        rig.session.advance(receiver, bytes.len());
        all.extend(bytes);
    }
    let of = |offset| Of::Chunk { stream: id, offset, bytes: 1000, last: false };
    assert_eq!(streams_in(&all), [of(0), Of::Data(topic.get()), of(1000)]);
}

#[test]
fn streams_to_one_receiver_take_turns_by_the_chunk() {
    let Pair { mut rig, sender, receiver, id, stream } = pair(limits(), 9000, 0, 9000);
    rig.give_all(sender, &offer(6, 9000));
    let Some(&Of::Offer { id: other, .. }) = found(&mut rig, receiver).first() else {
        unreachable!("it reads the topic")
    };
    rig.give_all(receiver, &accept(other, 0));
    rig.give_all(receiver, &credit(other, 9000));
    let Some(&Of::Accept { stream: Some(second), .. }) = found(&mut rig, sender).first() else {
        unreachable!("it is taken")
    };
    for offset in 0..2 {
        rig.give_all(sender, &chunk(stream, offset * 1000, 1000, false));
    }
    for offset in 0..2 {
        rig.give_all(sender, &chunk(second, offset * 1000, 1000, false));
    }
    let order: Vec<u32> = found(&mut rig, receiver)
        .iter()
        .filter_map(|of| if let Of::Chunk { stream, .. } = of { Some(*stream) } else { None })
        .collect();
    assert_eq!(order, [id, other, id, other]);
}

#[test]
fn a_receiver_that_grants_nothing_stops_its_own_flow_alone() {
    let Pair { mut rig, sender, receiver: _, id, stream: stalled } = pair(limits(), 9000, 0, 10);
    let other = rig.attach(reader(3));
    subscribe(&mut rig, other, "f");
    assert_eq!(found(&mut rig, other), [Of::Offer { id, size: Some(9000) }]);
    rig.give_all(other, &accept(id, 0));
    rig.give_all(other, &credit(id, 9000));
    let seen = found(&mut rig, sender);
    let Some(&Of::Accept { stream: Some(stream), .. }) = seen.first() else {
        unreachable!("{seen:?}")
    };
    assert_ne!(stream, stalled);
    rig.give_all(sender, &chunk(stream, 0, 4096, false));
    assert_eq!(found(&mut rig, other).len(), 1);
    assert_eq!(found(&mut rig, sender), [Of::Credit(stream, 4096)]);
}

#[test]
fn an_offer_comes_to_readers_of_its_topic_that_want_offers_and_to_nobody_else() {
    let mut rig = Rig::new(limits());
    let sender = rig.attach(reader(1));
    let [wants, plain, elsewhere] = [reader(2), admission(3), reader(4)].map(|it| rig.attach(it));
    for (peer, filter) in [(sender, "f"), (wants, "#"), (plain, "f"), (elsewhere, "g")] {
        rig.subscribe(peer, filter);
    }
    rig.give_all(sender, &offer(5, 10));
    assert_eq!(found(&mut rig, wants).len(), 1);
    for peer in [sender, plain, elsewhere] {
        assert_eq!(found(&mut rig, peer), []);
    }
    rig.give_all(sender, &say(control::Cancel { id: 5, stream: Some(0), ..Default::default() }));
    let seen = found(&mut rig, wants);
    assert!(matches!(seen[..], [Of::Cancel { stream: None, code: None, .. }]), "{seen:?}");
    subscribe(&mut rig, elsewhere, "f");
    assert_eq!(found(&mut rig, elsewhere), [], "it does not stand any more");
}

#[test]
fn who_declines_is_told_of_to_the_sender_and_the_offer_stands() {
    let mut rig = Rig::new(limits());
    let [sender, receiver] = [reader(1), reader(2)].map(|it| rig.attach(it));
    rig.subscribe(receiver, "f");
    rig.give_all(sender, &offer(5, 10));
    let Some(&Of::Offer { id, .. }) = found(&mut rig, receiver).first() else {
        unreachable!("it reads the topic")
    };
    rig.give_all(receiver, &say(control::Decline { id, ..Default::default() }));
    assert_eq!(found(&mut rig, sender), [Of::Decline(5)]);
    assert_eq!(rig.session.figures().streams.offers, 1);
}

#[test]
fn a_lost_link_ends_its_streams_and_the_other_side_is_told() {
    let code = Some(ErrorCode::Unavailable);
    let Pair { mut rig, sender, receiver, id, stream } = pair(limits(), 9000, 0, 9000);
    rig.give_all(sender, &chunk(stream, 0, 1000, false));
    rig.session.detach(rig.now().mono, receiver);
    assert_eq!(found(&mut rig, sender), [Of::Cancel { id: 5, stream: Some(stream), code }]);
    let receiver = rig.session.attach(rig.now(), reader(2)).expect("room for a peer");
    assert_eq!(found(&mut rig, receiver), [Of::Offer { id, size: Some(9000) }], "it still stands");
    rig.session.detach(rig.now().mono, sender);
    assert_eq!(found(&mut rig, receiver), [Of::Cancel { id, stream: None, code }]);
    let figures = rig.session.figures().streams;
    assert_eq!((figures.offers, figures.flows), (0, 0));
}

#[test]
fn what_is_over_a_limit_is_refused_with_its_code() {
    let mut rig = Rig::new(limits());
    let streams = StreamLimits { per_peer: 1, per_session: 8, size: 100, window: 4096 };
    rig.session.set_limits(Limits { streams, ..limits() });
    let [sender, receiver] = [reader(1), reader(2)].map(|it| rig.attach(it));
    let refused = |id, code| Of::Cancel { id, stream: Some(0), code: Some(code) };
    rig.give_all(sender, &offer(5, 101));
    assert_eq!(found(&mut rig, sender), [refused(5, ErrorCode::PayloadTooLong)]);
    rig.give_all(sender, &offer(6, 100));
    rig.give_all(sender, &offer(6, 100));
    rig.give_all(sender, &offer(7, 100));
    let expected = [refused(6, ErrorCode::Conflict), refused(7, ErrorCode::LimitReached)];
    assert_eq!(found(&mut rig, sender), expected);
    rig.give_all(receiver, &accept(1, 0));
    let code = Some(ErrorCode::UnknownId);
    assert_eq!(found(&mut rig, receiver), [Of::Cancel { id: 1, stream: None, code }], "unread");
    assert_eq!(rig.session.figures().streams.refused, 3);
}

#[test]
fn payloads_that_are_to_be_short_shorten_neither_chunks_nor_offers_and_chunks_lengthen_nothing() {
    let mut rig = Rig::new(Limits { payload: 8, ..limits() });
    let (name, data) = ("n".repeat(255), [7; 400]);
    let topic = "t".repeat(255);
    let long = control::Offer {
        topic: &topic,
        id: 1,
        name: Some(&name),
        digest: Some(&[7; 32]),
        data: Some(&data),
        ..Default::default()
    };
    let sender = rig.attach(reader(1));
    rig.give_all(sender, &[say(long), chunk(9, 0, MAX_CHUNK, false)].concat());
    assert_eq!(rig.session.figures().streams.offers, 1);
    assert!(!rig.is_last(sender));
    let topic = TopicId::new(1).expect("not 0");
    for (payload, code) in [(9, ErrorCode::UnknownId), (MAX_CHUNK, ErrorCode::FrameTooLong)] {
        let peer = rig.attach(reader(2));
        let flags = DataFlags::NONE;
        rig.give(peer, &frame(&Frame::Data { flags, topic, payload: &vec![7; payload] }));
        assert_eq!(refusal(&rig.take(peer)), Some(code), "{payload}");
    }
}

#[test]
fn without_memory_for_a_window_a_receiver_is_told_to_try_again_and_the_offer_stands() {
    let mut rig = Rig::with_budget(limits(), 24 * 1024);
    let [sender, receiver] = [reader(1), reader(2)].map(|it| rig.attach(it));
    rig.subscribe(receiver, "f");
    rig.give_all(sender, &offer(5, 9000));
    let Some(&Of::Offer { id, .. }) = found(&mut rig, receiver).first() else {
        unreachable!("it reads the topic")
    };
    let hog = rig.budget.free() - 4096;
    assert!(rig.budget.try_take(hog));
    rig.give_all(receiver, &accept(id, 0));
    let code = Some(ErrorCode::LimitReached);
    assert_eq!(found(&mut rig, receiver), [Of::Cancel { id, stream: None, code }]);
    assert_eq!(rig.session.figures().streams.offers, 1);
    rig.budget.give_back(hog);
}

#[test]
fn what_belongs_to_no_stream_is_passed_over_and_the_link_stays() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(admission(1));
    for bytes in [
        say(control::Decline { id: 9, ..Default::default() }),
        say(control::Cancel { id: 9, ..Default::default() }),
        say(control::Cancel { id: 9, stream: Some(9), ..Default::default() }),
        chunk(9, 0, 1, false),
        credit(9, 1),
    ] {
        rig.give_all(peer, &bytes);
        assert_eq!(rig.take(peer), [] as [Seen; 0]);
    }
    rig.give_all(peer, &accept(9, 0));
    let code = Some(ErrorCode::UnknownId);
    assert_eq!(found(&mut rig, peer), [Of::Cancel { id: 9, stream: None, code }]);
    assert!(!rig.is_last(peer));
}

/// What a peer does in the model.
#[derive(Debug, Clone)]
enum Step {
    Offer(u8, u16),
    Withdraw(u8),
    Accept(u8, u8, u16),
    Credit(u8, u8, u16),
    Chunk(u8, u16, bool),
    Stop(u8, u8),
    Decline(u8, u8),
    CancelPart(u8),
    Write(u8, u16),
    Reconnect(u8),
    Message,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3u8, any::<u16>()).prop_map(|(id, size)| Step::Offer(id, size)),
        (0..3u8).prop_map(Step::Withdraw),
        (0..3u8, any::<u8>(), 0..2000u16)
            .prop_map(|(peer, at, offset)| Step::Accept(peer, at, offset)),
        (0..3u8, any::<u8>(), any::<u16>())
            .prop_map(|(peer, at, bytes)| Step::Credit(peer, at, bytes)),
        (any::<u8>(), 0..3000u16, any::<bool>())
            .prop_map(|(at, bytes, last)| Step::Chunk(at, bytes, last)),
        (any::<u8>(), 0..3000u16, Just(false))
            .prop_map(|(at, bytes, last)| Step::Chunk(at, bytes, last)),
        (0..3u8, any::<u8>()).prop_map(|(peer, at)| Step::Stop(peer, at)),
        (0..3u8, any::<u8>()).prop_map(|(peer, at)| Step::Decline(peer, at)),
        any::<u8>().prop_map(Step::CancelPart),
        (0..4u8, 1..9000u16).prop_map(|(peer, bytes)| Step::Write(peer, bytes)),
        (0..4u8).prop_map(Step::Reconnect),
        Just(Step::Message),
    ]
}

/// What a link has been written, read as its peer would.
#[derive(Default)]
struct Reading {
    bytes: Vec<u8>,
    /// by id: where the next chunk lies, and what is granted
    taken: std::collections::BTreeMap<u32, (u64, u64)>,
    offers: Vec<u32>,
    parts: std::collections::BTreeMap<u32, (u64, u64)>,
}

impl Reading {
    fn read(&mut self) {
        while let Ok(Some((frame, length))) = Frame::decode(&self.bytes, 1 << 20) {
            match frame {
                Frame::Control(body) => match Control::decode(body).expect("well formed") {
                    Control::Offer(it) if !self.offers.contains(&it.id) => self.offers.push(it.id),
                    Control::Cancel(it) => match it.stream {
                        None => {
                            self.taken.remove(&it.id);
                        }
                        Some(stream) => {
                            self.parts.remove(&stream);
                        }
                    },
                    Control::Accept(it) => {
                        let (stream, at) =
                            (it.stream.expect("to a sender"), it.offset.unwrap_or(0));
                        self.parts.entry(stream).or_insert((at, at));
                    }
                    _ => {}
                },
                Frame::Chunk { stream, offset, bytes, .. } => {
                    // after the peer stopped taking it some may still come
                    if let Some((at, granted)) = self.taken.get_mut(&stream) {
                        assert_eq!(offset, *at, "in order and without holes");
                        *at += bytes.len() as u64;
                        assert!(*at <= *granted, "no more than granted");
                        assert!(bytes.iter().all(|&byte| byte == 7));
                    }
                }
                Frame::Credit { stream, bytes } => {
                    if let Some((_, credited)) = self.parts.get_mut(&stream) {
                        *credited += bytes;
                    }
                }
                _ => {}
            }
            self.bytes.drain(..length);
        }
    }
}

proptest! {
    /// One sender, three receivers, in any order: each receiver gets what it was granted, in order,
    /// within its window; the budget is given back whole.
    #[test]
    fn any_order_of_steps_keeps_every_stream_whole(steps in proptest::collection::vec(step(), 1..120)) {
        let mut rig = Rig::with_budget(limits(), 256 * 1024);
        let mut peers: Vec<PeerKey> = (1..=4).map(|epoch| rig.attach(reader(epoch))).collect();
        let mut readings: Vec<Reading> = (0..4).map(|_| Reading::default()).collect();
        for &receiver in &peers[1..] {
            rig.subscribe(receiver, "f");
        }
        let topic = rig.open(peers[0], "f");
        for step in steps {
            apply(&mut rig, &mut peers, &mut readings, topic, &step);
            for peer in &peers {
                prop_assert!(!rig.is_last(*peer), "{step:?}");
            }
        }
        let fresh = Session::new(limits(), rig.budget.clone(), rig.now().mono);
        let session = core::mem::replace(&mut rig.session, fresh);
        drop(session);
        prop_assert_eq!(rig.budget.used(), 0);
    }
}

fn apply(
    rig: &mut Rig,
    peers: &mut [PeerKey],
    readings: &mut [Reading],
    topic: TopicId,
    step: &Step,
) {
    let pick = |all: &[u32], at: u8| all.get(usize::from(at) % all.len().max(1)).copied();
    let acts = match *step {
        Step::Accept(peer, ..)
        | Step::Credit(peer, ..)
        | Step::Stop(peer, _)
        | Step::Decline(peer, _) => Some(usize::from(peer) + 1),
        Step::Write(..) | Step::Reconnect(_) => None,
        _ => Some(0),
    };
    // who does not read its answers is not read either
    if acts.is_some_and(|place| rig.session.is_choked(peers[place])) {
        return;
    }
    match *step {
        Step::Offer(id, size) => rig.give_all(peers[0], &offer(u32::from(id) + 1, size.into())),
        Step::Withdraw(id) => {
            let cancel =
                control::Cancel { id: u32::from(id) + 1, stream: Some(0), ..Default::default() };
            rig.give_all(peers[0], &say(cancel));
        }
        Step::Accept(peer, at, offset) => {
            let place = usize::from(peer) + 1;
            let Some(id) = pick(&readings[place].offers, at) else { return };
            readings[place].taken.entry(id).or_insert((offset.into(), offset.into()));
            let from = readings[place].taken[&id].0;
            rig.give_all(peers[place], &accept(id, from));
        }
        Step::Credit(peer, at, bytes) => {
            let place = usize::from(peer) + 1;
            let taken: Vec<u32> = readings[place].taken.keys().copied().collect();
            let Some(id) = pick(&taken, at) else { return };
            readings[place].taken.get_mut(&id).expect("picked").1 += u64::from(bytes);
            rig.give_all(peers[place], &credit(id, bytes.into()));
        }
        Step::Chunk(at, bytes, last) => {
            let parts: Vec<u32> = readings[0].parts.keys().copied().collect();
            let Some(stream) = pick(&parts, at) else { return };
            let (next, credited) = *readings[0].parts.get_mut(&stream).expect("picked");
            let length = u64::from(bytes).min(credited - next);
            if length == 0 {
                return;
            }
            readings[0].parts.insert(stream, (next + length, credited));
            let length = usize::try_from(length).expect("16 bits");
            rig.give_all(peers[0], &chunk(stream, next, length, last));
        }
        Step::Stop(peer, at) => {
            let place = usize::from(peer) + 1;
            let taken: Vec<u32> = readings[place].taken.keys().copied().collect();
            let Some(id) = pick(&taken, at) else { return };
            readings[place].taken.remove(&id);
            rig.give_all(peers[place], &say(control::Cancel { id, ..Default::default() }));
        }
        Step::Decline(peer, at) => {
            let place = usize::from(peer) + 1;
            let Some(id) = pick(&readings[place].offers, at) else { return };
            rig.give_all(peers[place], &say(control::Decline { id, ..Default::default() }));
        }
        Step::CancelPart(at) => {
            let parts: Vec<u32> = readings[0].parts.keys().copied().collect();
            let Some(stream) = pick(&parts, at) else { return };
            readings[0].parts.remove(&stream);
            for id in 1..=3 {
                let cancel = control::Cancel { id, stream: Some(stream), ..Default::default() };
                rig.give_all(peers[0], &say(cancel));
            }
        }
        Step::Write(peer, bytes) => {
            let place = usize::from(peer);
            let output = rig.session.output(peers[place]).expect("it is there").bytes;
            let written = output.len().min(bytes.into());
            readings[place].bytes.extend_from_slice(&output[..written]);
            if written > 0 {
                rig.session.advance(peers[place], written);
            }
            readings[place].read();
        }
        Step::Reconnect(peer) => {
            let place = usize::from(peer);
            rig.session.detach(rig.now().mono, peers[place]);
            peers[place] = rig.attach(reader(u64::from(peer) + 1));
            let reading = Reading { offers: readings[place].offers.clone(), ..Reading::default() };
            readings[place] = reading;
        }
        Step::Message => {
            let flags = fastport_wire::frame::DataFlags::NONE;
            rig.give_all(peers[0], &data(topic, flags, b"x"));
        }
    }
}
