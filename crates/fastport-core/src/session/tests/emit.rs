//! EMIT.

use super::*;

#[test]
fn emit_publishes_by_name_and_answers_where_asked() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    rig.subscribe(reader, "a/#");
    let seen = rig.emit(publisher, "a/b", DataFlags::COUNTED, &[1]);
    assert_eq!(seen, [Seen::Ok { id: None, count: None, text: None }]);
    let quiet = control::Emit { topic: "a/c", data: &[2], ..Default::default() };
    rig.give_all(publisher, &control(quiet));
    assert_eq!(rig.take(publisher), []);
    assert_eq!(numbers(&rig.take(reader)), [1, 2]);
}

#[test]
fn a_wrong_emit_is_answered_whether_asked_or_not_and_the_link_stays() {
    let mut rig = Rig::new(Limits { payload: 4, ..limits() });
    for (topic, data, code) in [
        ("a/+", &[1][..], ErrorCode::BadTopic),
        ("b", &[1], ErrorCode::Forbidden),
        ("a", &[1; 5], ErrorCode::PayloadTooLong),
    ] {
        let peer = rig.attach(allowed(1, &["a"], &[]));
        assert_eq!(refusal(&rig.emit(peer, topic, DataFlags::NONE, data)), Some(code));
        rig.give_all(peer, &control(control::Emit { topic, data, ..Default::default() }));
        assert_eq!(rig.take(peer), [Seen::Error { request: Some(0), code }]);
        assert!(!rig.is_last(peer));
    }
}
