//! Who reads what.

use super::*;

#[test]
fn no_local_leaves_out_only_the_publishers_own() {
    let mut rig = Rig::new(limits());
    let [one, two] = [1, 2].map(|epoch| rig.attach(admission(epoch)));
    let flags = Some(options::NO_LOCAL);
    for peer in [one, two] {
        rig.subscribe_with(peer, control::Subscribe { topic: "a", flags, ..Default::default() });
    }
    let id = rig.open(one, "a");
    rig.give_all(one, &plain(id, &[1]));
    assert_eq!(numbers(&rig.take(one)), NOTHING);
    assert_eq!(numbers(&rig.take(two)), [1]);
    assert_eq!(rig.ledger().routed, 1);
}

#[test]
fn a_peer_hears_itself_when_one_of_its_filters_wants_that() {
    let mut rig = Rig::new(limits());
    let peer = rig.attach(admission(1));
    let early = rig.open(peer, "a/early");
    rig.subscribe(peer, "a/+");
    let flags = Some(options::NO_LOCAL);
    rig.subscribe_with(peer, control::Subscribe { topic: "a/#", flags, ..Default::default() });
    let late = rig.open(peer, "a/late");
    rig.give_all(peer, &[plain(early, &[1]), plain(late, &[2])].concat());
    assert_eq!(numbers(&rig.take(peer)), [1, 2]);
    rig.unsubscribe(peer, "a/+");
    rig.give_all(peer, &[plain(early, &[3]), plain(late, &[4])].concat());
    assert_eq!(numbers(&rig.take(peer)), NOTHING);
}

#[test]
fn filters_select_topics_and_overlapping_ones_select_once() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    let topics = ["a/b", "a/b/c", "d", "d/e", "f"];
    let before = topics.map(|name| rig.open(publisher, name));
    for filter in ["a/+", "a/b", "d/#", "g"] {
        rig.subscribe(reader, filter);
    }
    let after = [rig.open(publisher, "a/x"), rig.open(publisher, "g")];
    for (number, &id) in (0..).zip(before.iter().chain(&after)) {
        rig.give_all(publisher, &plain(id, &[number]));
    }
    assert_eq!(numbers(&rig.take(reader)), [0, 2, 3, 5, 6]);
}

#[test]
fn the_daemons_topics_are_read_by_name_only() {
    let mut rig = Rig::new(limits());
    let [all, board] = [1, 2].map(|epoch| rig.attach(admission(epoch)));
    rig.subscribe(all, "#");
    rig.subscribe(board, "$board/#");
    let now = rig.now();
    rig.session
        .publish_own(now, "$board/load", None, DataFlags::KEEP, &[7])
        .expect("room for a topic");
    assert_eq!(rig.take(all), []);
    assert_eq!(numbers(&rig.take(board)), [7]);
    let seen = rig.open_with(all, "$board/load", None);
    assert_eq!(refusal(&seen), Some(ErrorCode::Forbidden));
}

#[test]
fn a_wildcard_gives_no_more_than_the_rights_do() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(allowed(2, &[], &["plant/+/out"]));
    let secret = rig.open(publisher, "plant/1/in");
    let open = rig.open(publisher, "plant/1/out");
    rig.subscribe(reader, "#");
    let later = [rig.open(publisher, "plant/2/in"), rig.open(publisher, "plant/2/out")];
    for (number, id) in (0..).zip([secret, open].into_iter().chain(later)) {
        rig.give_all(publisher, &data(id, DataFlags::KEEP, &[number]));
    }
    assert_eq!(numbers(&rig.take(reader)), [1, 3]);
    let seen = rig.history(reader, control::History { topic: "#", ..Default::default() });
    assert_eq!(numbers(&seen), [1, 3]);
    for topic in ["plant/1/in", "home/#"] {
        let seen = rig.subscribe_with(reader, control::Subscribe { topic, ..Default::default() });
        assert_eq!(refusal(&seen), Some(ErrorCode::Forbidden));
    }
}

#[test]
fn unsubscribing_leaves_what_another_filter_selects() {
    let mut rig = Rig::new(limits());
    let publisher = rig.attach(admission(1));
    let reader = rig.attach(admission(2));
    ["a/b", "a/+", "a/#"].iter().for_each(|filter| rig.subscribe(reader, filter));
    let [ab, abc] = ["a/b", "a/b/c"].map(|name| rig.open(publisher, name));
    let heard = |rig: &mut Rig| {
        rig.give_all(publisher, &[plain(ab, &[1]), plain(abc, &[2])].concat());
        numbers(&rig.take(reader))
    };
    assert_eq!(heard(&mut rig), [1, 2]);
    rig.unsubscribe(reader, "a/#");
    assert_eq!(heard(&mut rig), [1]);
    rig.unsubscribe(reader, "a/b");
    assert_eq!(heard(&mut rig), [1]);
    rig.unsubscribe(reader, "a/+");
    assert_eq!(heard(&mut rig), NOTHING);
    assert_eq!(refusal(&rig.unsubscribe(reader, "a/+")), None, "it is not subscribed, as wished");
    assert_eq!(refusal(&rig.unsubscribe(reader, "a/+b")), Some(ErrorCode::BadTopic));
}

#[test]
fn subscriptions_are_limited_and_the_same_one_counts_once() {
    let mut rig = Rig::new(Limits { subscriptions: 2, ..limits() });
    let reader = rig.attach(admission(1));
    ["a", "b/#", "a"].iter().for_each(|filter| rig.subscribe(reader, filter));
    let third = control::Subscribe { topic: "c", ..Default::default() };
    let seen = rig.subscribe_with(reader, third);
    assert_eq!(refusal(&seen), Some(ErrorCode::LimitReached));
    rig.unsubscribe(reader, "a");
    rig.subscribe(reader, "c");
}

#[test]
fn a_subscription_whose_topic_cannot_be_made_is_not_left_behind() {
    let mut rig = Rig::new(Limits { topics: 1, subscriptions: 1, ..limits() });
    let [publisher, reader] = [1, 2].map(|epoch| rig.attach(admission(epoch)));
    let id = rig.open(publisher, "a");
    let seen = rig.subscribe_with(reader, control::Subscribe { topic: "b", ..Default::default() });
    assert_eq!(refusal(&seen), Some(ErrorCode::LimitReached));
    rig.subscribe(reader, "a");
    rig.give_all(publisher, &plain(id, &[1]));
    assert_eq!(numbers(&rig.take(reader)), [1]);
}

#[test]
fn a_filter_that_is_none_is_refused() {
    let mut rig = Rig::new(limits());
    let reader = rig.attach(admission(1));
    let bad = control::Subscribe { topic: "#/a", ..Default::default() };
    assert_eq!(refusal(&rig.subscribe_with(reader, bad)), Some(ErrorCode::BadTopic));
    let bad = control::History { topic: "a//b", ..Default::default() };
    assert_eq!(refusal(&rig.history(reader, bad)), Some(ErrorCode::BadTopic));
}
