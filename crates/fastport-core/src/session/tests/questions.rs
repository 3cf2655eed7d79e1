//! Questions to the caller.

use super::*;

#[test]
fn a_peer_has_one_question_open_however_many_it_sends_at_once() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(admission(1));
    let status = |request| control(control::Status { request, ..Default::default() });
    let mut bytes: Vec<u8> = (1..=100).flat_map(status).collect();
    for request in 1..=100 {
        let progress = rig.give(peer, &bytes);
        assert_eq!(progress.pauses, request < 100, "what is left waits for the answer");
        bytes.drain(..progress.consumed);
        assert_eq!(rig.session.poll_ask().map(|ask| ask.request), Some(request));
        assert_eq!(rig.session.poll_ask(), None);
        rig.session.answer(peer, request, Ok(Some("{}")));
    }
    assert!(bytes.is_empty());
}

#[test]
fn what_looks_at_every_topic_lets_others_have_their_turn() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(admission(1));
    let topic = "a/#";
    let requests = [
        control(control::Subscribe { request: 1, topic, ..Default::default() }),
        control(control::History { request: 2, topic, ..Default::default() }),
        control(control::Unsubscribe { request: 3, topic, ..Default::default() }),
        control(control::Subscribe { request: 4, topic: "a", ..Default::default() }),
        control(control::History { request: 5, topic: "a", ..Default::default() }),
    ];
    let mut bytes = requests.concat();
    for done in &requests[..3] {
        let progress = rig.give(peer, &bytes);
        assert_eq!((progress.consumed, progress.pauses), (done.len(), true));
        bytes.drain(..progress.consumed);
    }
    let progress = rig.give(peer, &bytes);
    assert_eq!((progress.consumed, progress.pauses), (bytes.len(), false));
}

#[test]
fn questions_go_to_the_caller_and_answers_to_the_peer() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(admission(1));
    let status = control::Status { request: 4, ..Default::default() };
    let create = control::CreateSession {
        request: 5,
        session: "lab",
        identity: Some("ann"),
        proof: Some(b"secret"),
        ..Default::default()
    };
    rig.give_all(peer, &control(status));
    let asked = rig.session.poll_ask().expect("asked");
    assert_eq!((asked.peer, asked.request, asked.about), (peer, 4, About::Status));
    rig.give_all(peer, &control(create));
    let asked = rig.session.poll_ask().expect("asked");
    let about = About::CreateSession {
        session: "lab".into(),
        identity: Some("ann".into()),
        password: Some((*b"secret").into()),
    };
    assert_eq!((asked.request, asked.about), (5, about));
    let long = "x".repeat(5000);
    rig.session.answer(peer, 4, Ok(Some(&long)));
    rig.session.answer(peer, 5, Err(ErrorCode::Forbidden));
    let expected = [
        Seen::Ok { id: None, count: None, text: Some(long.clone()) },
        Seen::Error { request: Some(5), code: ErrorCode::Forbidden },
    ];
    assert_eq!(rig.take(peer), expected);
    let now = rig.now().mono;
    rig.session.detach(now, peer);
    rig.session.answer(peer, 6, Ok(None));
    assert_eq!(rig.session.figures().peers, 0);
}

#[test]
fn all_are_told_when_the_relay_stops() {
    let mut rig = Rig::new(limits());
    let peers = [lingering(1), admission(2)].map(|admission| rig.attach(admission));
    rig.session.close_all(ByeReason::ShuttingDown, Some(500));
    for peer in peers {
        assert!(rig.is_last(peer));
        assert_eq!(rig.take(peer), [Seen::Bye(ByeReason::ShuttingDown)]);
        let now = rig.now().mono;
        rig.session.detach(now, peer);
    }
    assert_eq!(rig.session.figures().lingering, 1);
}
