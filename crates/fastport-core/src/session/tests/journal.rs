//! What a session's journal says of tiers beyond memory, and what holds while it cannot be written.

use std::format;

use fastport_wire::frame::DataFlags;
use proptest::prelude::*;

use super::*;

/// A session made from the journal of another, as after a crash.
pub(super) fn restored(rig: &mut Rig) {
    let records = rig.session.journaled().to_vec();
    let now = rig.now().mono;
    let mut next = Session::new(*rig.session.limits(), Arc::clone(&rig.budget), now);
    let mut rights = |_: &str| Some(Arc::new(Rights::everything()));
    let (_, applied) = next.restore(now, &records, &mut rights);
    assert_eq!(applied, Ok(()));
    rig.session = next;
    rig.session.start_journal();
    // what comes next is read behind what was there
    let mut snapshot = Vec::new();
    let copied = rig.session.snapshot(|piece| {
        snapshot.extend_from_slice(piece);
        Ok::<_, ()>(())
    });
    assert_eq!(copied, Ok(()));
    rig.session.restart_journal(snapshot);
}

/// All that a session knows of tiers, by the peers' epochs.
pub(super) fn tiers(session: &Session) -> Vec<String> {
    let epoch_of = |index: u32| session.at(index).map_or(0, |peer| peer.cold.epoch);
    let peers =
        (0..).zip(&session.peers).filter_map(|(index, slot)| Some((index, slot.peer.as_ref()?)));
    let mut all: Vec<String> = peers
        .map(|(index, peer)| {
            let default = peer::Tiers::default();
            let tiers = peer.tiers.as_deref().unwrap_or(&default);
            let mut marks: Vec<peer::Mark> = tiers.marks.iter().copied().collect();
            // what lies between those of two tiers says nothing
            marks.sort_by_key(|mark| mark.tier.number());
            marks.dedup_by(|next, last| last.extend(next));
            let marks: Vec<_> = marks
                .iter()
                .map(|mark| (epoch_of(mark.publisher), mark.tier, mark.at, mark.length, mark.count))
                .collect();
            let handed: Vec<_> =
                tiers.handed.iter().map(|it| (epoch_of(it.publisher), it.from, it.to)).collect();
            let mut member: Vec<_> =
                session.members.iter().filter(|it| it.0 == index).map(|it| it.1).collect();
            member.sort_by_key(|tier| tier.number());
            let (durable, central) = (tiers.durable, tiers.central);
            format!(
                "{} taken {} acked {} total {} {durable:?} {central:?} {marks:?} {handed:?} {:?} {member:?}",
                peer.cold.epoch,
                peer.taken,
                peer.outbox.figures().acked,
                peer.outbox.counted_total(),
                tiers.note,
            )
        })
        .collect();
    all.sort();
    all
}

#[derive(Debug, Clone)]
enum Step {
    Publish {
        from: usize,
        topic: usize,
        count: usize,
    },
    /// A member reads all, and acknowledges so many fewer.
    Ack {
        member: usize,
        fewer: u64,
    },
    Take {
        member: usize,
        fewer: u64,
    },
    Confirm {
        which: usize,
    },
    Note {
        member: usize,
        note: u64,
    },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let (two, fewer) = (0usize..2, 0u64..4);
    prop_oneof![
        6 => (two.clone(), two.clone(), 1usize..4)
            .prop_map(|(from, topic, count)| Step::Publish { from, topic, count }),
        3 => (two.clone(), fewer.clone()).prop_map(|(member, fewer)| Step::Ack { member, fewer }),
        2 => (two.clone(), fewer).prop_map(|(member, fewer)| Step::Take { member, fewer }),
        2 => (0usize..9).prop_map(|which| Step::Confirm { which }),
        1 => (two, any::<u64>()).prop_map(|(member, note)| Step::Note { member, note }),
        2 => Just(Step::Crash),
    ]
}

/// Two members, two publishers, two topics.
struct Lanes {
    rig: Rig,
    members: [PeerKey; 2],
    publishers: [PeerKey; 2],
    topics: [TopicId; 2],
    spooled: Vec<(usize, Spooled)>,
}

const NAMES: [&str; 2] = ["alarm", "bulk"];

impl Lanes {
    fn new() -> Self {
        let mut rig = Rig::new(limits());
        rig.session.start_journal();
        let members = NAMES.map(|name| {
            let member = rig.attach(own(if name == "bulk" { 8 } else { 9 }, name));
            rig.session.make_member(member, Tier::Central);
            member
        });
        rig.session.make_member(members[1], Tier::Durable);
        rig.subscribe(members[0], "a");
        rig.subscribe(members[1], "#");
        let publishers = [1, 2].map(|epoch| rig.attach(publisher(epoch)));
        let topics = ["a", "b"].map(|name| rig.open(publishers[0], name));
        for name in ["a", "b"] {
            rig.open(publishers[1], name);
        }
        Self { rig, members, publishers, topics, spooled: Vec::new() }
    }

    fn run(&mut self, step: Step) {
        let Self { rig, members, publishers, topics, spooled } = self;
        match step {
            Step::Publish { from, topic, count } => {
                let frames: Vec<u8> = (0..count)
                    .flat_map(|_| data(topics[topic], DataFlags::COUNTED, &[7]))
                    .collect();
                rig.give_alone(publishers[from], &frames);
            }
            Step::Ack { member, fewer } => {
                rig.take_until_drained(members[member]);
                let counts = rig.session.counts_of(members[member]).expect("it is there");
                let count = counts.total.saturating_sub(fewer).max(counts.acked);
                rig.give_alone(members[member], &ack(count));
            }
            Step::Take { member, fewer } => {
                let counts = rig.session.counts_of(members[member]).expect("it is there");
                let count = counts.total.saturating_sub(fewer);
                let taken = rig.session.take_marks(members[member], count);
                spooled.extend(taken.into_iter().map(|taken| (member, taken)));
            }
            Step::Confirm { which } => {
                if which < spooled.len() {
                    // the older of a lane come first
                    let member = spooled[which].0;
                    let first = spooled.iter().position(|it| it.0 == member).expect("this one");
                    let (member, taken) = spooled.remove(first);
                    rig.session.confirm(
                        members[member],
                        &taken.publisher,
                        Tier::Central,
                        taken.count,
                    );
                }
            }
            Step::Note { member, note } => {
                let mut all = rig.session.counts_of(members[member]).expect("it is there").note;
                all[1] = note;
                rig.session.set_note(members[member], all);
            }
            Step::Crash => self.crash(),
        }
    }

    fn crash(&mut self) {
        let before = tiers(&self.rig.session);
        restored(&mut self.rig);
        assert_eq!(tiers(&self.rig.session), before);
        let rig = &mut self.rig;
        for (key, name) in self.members.iter_mut().zip(NAMES) {
            let counts = rig.session.counts("$uplink", name).expect("it lasts");
            *key = back(rig, Admission { taken: counts.acked, ..own(counts.epoch, name) });
        }
        for (key, epoch) in self.publishers.iter_mut().zip([1, 2]) {
            *key = back(rig, publisher(epoch));
        }
        assert_eq!(tiers(&self.rig.session), before, "and nothing changes by coming back");
    }

    /// All is confirmed in the end.
    fn finish(&mut self) {
        for member in 0..2 {
            self.run(Step::Ack { member, fewer: 0 });
        }
        while !self.spooled.is_empty() {
            self.run(Step::Confirm { which: 0 });
        }
        for key in self.publishers {
            let peer = self.rig.session.peer_mut(key).expect("it is there");
            assert_eq!(peer.held(Tier::Central), peer.taken);
        }
    }
}

pub(super) fn publisher(epoch: u64) -> Admission {
    Admission {
        name: format!("publisher {epoch}").into(),
        flags: features::ACK_CENTRAL | features::ACK_DURABLE,
        ..lingering(epoch)
    }
}

pub(super) fn back(rig: &mut Rig, admission: Admission) -> PeerKey {
    let key = rig.session.attach(rig.now(), admission).expect("room");
    let seen = rig.take_until_drained(key);
    assert!(matches!(seen.first(), Some(Seen::Welcome { resumed: true, .. })), "{seen:?}");
    key
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_tiers_hold_outlives_the_process(steps in proptest::collection::vec(step(), 1..40)) {
        let mut lanes = Lanes::new();
        for step in steps {
            lanes.run(step);
        }
        lanes.crash();
        lanes.finish();
    }
}

#[test]
fn while_the_journal_cannot_be_written_nothing_is_acknowledged_or_handed_on() {
    let mut rig = Rig::new(limits());
    rig.session.start_journal();
    let publisher = rig.attach(lingering(1));
    let id = rig.open(publisher, "a");
    let held = Admission { linger: Some(10), ..with_policy(2, WhenFull::Hold) };
    let reader = rig.attach(held.clone());
    rig.subscribe(reader, "a");
    let loose = rig.attach(admission(3));
    rig.subscribe(loose, "a");
    // what was taken before the failure was seen
    rig.give_alone(publisher, &counted(id, &[1]));
    rig.session.set_frozen(true);
    assert!(rig.session.is_withheld(reader) && !rig.session.is_withheld(loose));
    rig.session.send_acks_due(rig.now().mono.after(1000));
    assert_eq!(rig.take(publisher), []);
    assert!(rig.give_alone(publisher, &counted(id, &[2])).is_blocked);
    assert!(!rig.give_alone(publisher, &plain(id, &[3])).is_blocked, "others go on");
    let refused = rig.session.attach(rig.now(), Admission { epoch: 7, ..held });
    assert_eq!(refused, Err(AttachError::Frozen), "a WELCOME would say what is taken");
    rig.attach(admission(8));
    while rig.session.poll_wake().is_some() {}
    rig.session.set_frozen(false);
    assert!(rig.is_woken(publisher));
    let told = Seen::Ack { taken: 1, durable: None, central: None };
    assert_eq!(rig.take(publisher), [told]);
    assert_eq!(numbers(&rig.take(reader)), [1, 3]);
    assert!(!rig.give_alone(publisher, &counted(id, &[2])).is_blocked);
}

#[test]
fn whose_identity_is_no_more_is_dropped_and_booked() {
    let mut rig = Rig::new(limits());
    rig.session.start_journal();
    let of = |identity: &str, epoch| Admission {
        identity: identity.into(),
        linger: Some(10),
        ..with_policy(epoch, WhenFull::Hold)
    };
    let [here, gone] = [("here", 1), ("gone", 2)].map(|(name, epoch)| rig.attach(of(name, epoch)));
    let id = rig.open(here, "a");
    rig.subscribe(gone, "a");
    rig.give_all(here, &counted(id, &[1]));
    let records = rig.session.journaled().to_vec();
    let now = rig.now().mono;
    let mut next = Session::new(limits(), Arc::new(Budget::new(1 << 20)), now);
    let mut rights = |id: &str| (id == "here").then(|| Arc::new(Rights::everything()));
    let (found, applied) = next.restore(now, &records, &mut rights);
    assert_eq!(applied, Ok(()));
    assert_eq!((found.peers, found.dropped_peers), (1, 1));
    assert_eq!((found.messages, found.dropped_messages), (1, 1));
    assert_eq!(next.figures().ledger.dropped[GapCause::ReaderGone as usize], 1);
    assert_eq!(next.figures().ledger.queued(), 0);
    // who is there lingers from now on
    next.handle_timeout(now.after(9_000));
    assert_eq!(next.figures().lingering, 1);
    next.handle_timeout(now.after(11_000));
    assert_eq!(next.figures().lingering, 0);
}

#[test]
fn a_reader_that_may_lose_is_told_what_it_missed_and_goes_on() {
    let mut rig = Rig::new(limits());
    rig.session.start_journal();
    let publisher = rig.attach(lingering(1));
    let id = rig.open(publisher, "a");
    let reader = rig.attach(lingering(2));
    rig.subscribe(reader, "a");
    rig.give_all(publisher, &[counted(id, &[1]), counted(id, &[2]), counted(id, &[3])].concat());
    restored(&mut rig);
    let reader = rig.session.attach(rig.now(), Admission { taken: 1, ..lingering(2) });
    let reader = reader.expect("room");
    let seen = rig.take_until_drained(reader);
    assert_eq!(seen.first(), Some(&Seen::Welcome { resumed: true, taken: 0 }));
    assert_eq!(gaps(&seen), 2, "{seen:?}");
    let publisher = back(&mut rig, lingering(1));
    rig.give_alone(publisher, &counted(id, &[4]));
    assert_eq!(numbers(&rig.take(reader)), [4]);
}
