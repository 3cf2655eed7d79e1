//! Whether the daemon makes progress. Decisions only: what was seen and the time come from outside.

use std::time::{Duration, Instant};

use crate::supervise::turn::Part;

/// What a look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All is well; the runtime is to be asked this next.
    Alive {
        /// To be answered with the same number.
        ask: u32,
    },
    /// A disk takes its time, and what waits for it does so rightly.
    Excused,
    /// An answer or the end of a turn is overdue by less than the deadline.
    Waiting,
    /// There is no progress.
    Dead {
        /// What is at fault, as far as it can be known.
        part: &'static str,
        /// For how long.
        since: Duration,
    },
}

/// What is to be seen of the daemon from outside the runtime.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sight<'a> {
    /// The last answer of the runtime.
    pub(super) answered: u32,
    /// What each thread runs, with a number that changes with each turn.
    pub(super) turns: &'a [(Part, u32)],
    /// Whether a thread is stopped, alone.
    pub(super) has_stopped_thread: bool,
}

/// Looks at the daemon again and again.
#[derive(Debug)]
pub(super) struct Check {
    deadline: Duration,
    disk_deadline: Duration,
    /// the longest that a disk took so far
    slowest_disk: Duration,
    looked: Option<Instant>,
    asked: u32,
    asked_at: Option<Instant>,
    stopped_at: Option<Instant>,
    /// by thread: what was seen last, and since when
    threads: Vec<((Part, u32), Instant)>,
}

impl Check {
    /// What takes longer than `deadline` is dead, and a disk that takes longer than `disk_deadline`.
    pub(super) fn new(deadline: Duration, disk_deadline: Duration) -> Self {
        Self {
            deadline,
            disk_deadline,
            slowest_disk: Duration::ZERO,
            looked: None,
            asked: 0,
            asked_at: None,
            stopped_at: None,
            threads: Vec::new(),
        }
    }

    /// What `sight` means at `now`.
    pub(super) fn look(&mut self, now: Instant, sight: Sight<'_>) -> Verdict {
        self.forgive_a_pause(now);
        let turns = self.longest_turns(now, sight.turns);
        let disk = turns.disk.max(turns.beside.map(|(_, since)| since));
        self.slowest_disk = self.slowest_disk.max(disk.unwrap_or_default());
        if let Some((part, since)) = turns.beside.filter(|&(_, since)| since >= self.disk_deadline)
        {
            return Verdict::Dead { part: part.name(), since };
        }
        if let Some(since) = turns.disk {
            // with a lock in its hand, perhaps: others may wait for it, also to answer
            let is_dead = since >= self.disk_deadline;
            self.excuse(now);
            let part = Part::Disk.name();
            return if is_dead { Verdict::Dead { part, since } } else { Verdict::Excused };
        }
        if let Some((part, since)) = turns.other.filter(|&(_, since)| since >= self.deadline) {
            return Verdict::Dead { part: part.name(), since };
        }
        if let Some(since) = self.stopped_for(now, sight.has_stopped_thread) {
            return Verdict::Dead { part: STOPPED_THREAD, since };
        }
        let unanswered = self.asked_at.filter(|_| sight.answered != self.asked);
        match unanswered.map(|asked_at| now.saturating_duration_since(asked_at)) {
            Some(since) if since >= self.deadline => {
                let part = turns.other.map_or(Part::Nothing, |(part, _)| part);
                Verdict::Dead { part: part.name(), since }
            }
            Some(_) => Verdict::Waiting,
            None => {
                self.asked = self.asked.wrapping_add(1);
                self.asked_at = Some(now);
                Verdict::Alive { ask: self.asked }
            }
        }
    }

    /// The longest that a look has seen a disk take.
    pub(super) fn slowest_disk(&self) -> Duration {
        self.slowest_disk
    }

    /// A look that comes very late says nothing of what was in between: the process was stopped, or
    /// had no processor. Everybody has the whole deadline again.
    fn forgive_a_pause(&mut self, now: Instant) {
        let pause = self.looked.map(|looked| now.saturating_duration_since(looked));
        self.looked = Some(now);
        if pause.is_some_and(|pause| pause >= self.deadline) {
            self.threads.clear();
            self.excuse(now);
        }
    }

    /// Gives all but disks the whole deadline again.
    fn excuse(&mut self, now: Instant) {
        self.asked_at = self.asked_at.map(|_| now);
        self.stopped_at = None;
        for ((part, _), since) in &mut self.threads {
            if *part != Part::Disk && !part.is_beside() {
                *since = now;
            }
        }
    }

    /// How long a thread has been stopped, if that is too long.
    fn stopped_for(&mut self, now: Instant, is_stopped: bool) -> Option<Duration> {
        if !is_stopped {
            self.stopped_at = None;
            return None;
        }
        let since = now.saturating_duration_since(*self.stopped_at.get_or_insert(now));
        (since >= self.deadline).then_some(since)
    }

    /// The turns that have lasted longest, over two looks at least.
    fn longest_turns(&mut self, now: Instant, seen: &[(Part, u32)]) -> Longest {
        self.threads.resize(seen.len(), ((Part::Nothing, 0), now));
        let mut longest = Longest::default();
        for ((known, since), &is) in self.threads.iter_mut().zip(seen) {
            if *known != is || is.0 == Part::Nothing {
                (*known, *since) = (is, now);
            }
            let lasts = now.saturating_duration_since(*since);
            match is.0 {
                // also one that is seen for the first time: its lock is held from the beginning
                Part::Disk => longest.disk = longest.disk.max(Some(lasts)),
                _ if lasts.is_zero() => {}
                part if part.is_beside() => {
                    let longer = longest.beside.filter(|&(_, other)| other >= lasts);
                    longest.beside = longer.or(Some((part, lasts)));
                }
                part if longest.other.is_none_or(|(_, other)| lasts > other) => {
                    longest.other = Some((part, lasts));
                }
                _ => {}
            }
        }
        longest
    }
}

/// For how long turns have lasted.
#[derive(Debug, Default)]
struct Longest {
    disk: Option<Duration>,
    beside: Option<(Part, Duration)>,
    other: Option<(Part, Duration)>,
}

/// Flash that tidies up, or a card that is going bad, has stalled for a minute and come back.
pub(in crate::supervise) const DISK_DEADLINE: Duration = Duration::from_secs(300);
/// What only a debugger or a fault of the kernel does.
const STOPPED_THREAD: &str = "a thread that is stopped";

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(1);
    const LOOK: Duration = Duration::from_millis(400);

    /// Looks again and again at the same; what each look found.
    fn looks(turns: &[(Part, u32)], answers: bool, count: u32) -> Vec<Verdict> {
        let sight = Sight { turns, ..Sight::default() };
        looks_at(sight, answers, count)
    }

    fn looks_at(mut sight: Sight<'_>, answers: bool, count: u32) -> Vec<Verdict> {
        let (mut check, start) = (Check::new(DEADLINE, DISK_DEADLINE), Instant::now());
        let mut verdicts = Vec::new();
        for number in 0..count {
            let verdict = check.look(start + LOOK * number, sight);
            if let Verdict::Alive { ask } = verdict {
                sight.answered = if answers { ask } else { sight.answered };
            }
            verdicts.push(verdict);
        }
        verdicts
    }

    fn answered(answered: u32) -> Sight<'static> {
        Sight { answered, ..Sight::default() }
    }

    #[test]
    fn an_idle_daemon_that_answers_is_alive() {
        let verdicts = looks(&[(Part::Nothing, 7)], true, 50);
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Alive { .. })));
    }

    #[test]
    fn a_turn_that_does_not_end_is_named() {
        let verdicts = looks(&[(Part::Nothing, 1), (Part::Link, 5)], true, 5);
        let since = LOOK * 3;
        assert_eq!(verdicts[3], Verdict::Dead { part: "a link", since });
        assert!(matches!(verdicts[2], Verdict::Alive { .. }));
    }

    #[test]
    fn a_runtime_that_does_not_answer_is_dead_after_the_deadline() {
        let verdicts = looks(&[(Part::Nothing, 1)], false, 4);
        assert_eq!(verdicts[0], Verdict::Alive { ask: 1 });
        assert_eq!(verdicts[1..3], [Verdict::Waiting; 2]);
        assert_eq!(verdicts[3], Verdict::Dead { part: "the runtime", since: LOOK * 3 });
    }

    #[test]
    fn a_slow_disk_excuses_those_that_wait_for_it_but_not_for_ever() {
        let turns = [(Part::Disk, 3), (Part::SessionLock, 9)];
        let verdicts = looks(&turns, false, 752);
        assert!(verdicts[..750].iter().all(|verdict| *verdict == Verdict::Excused));
        assert_eq!(verdicts[750], Verdict::Dead { part: "a disk", since: DISK_DEADLINE });
    }

    #[test]
    fn a_disk_that_takes_a_minute_beside_the_runtime_excuses_nobody_else() {
        let stalled = (Part::SpoolDisk, 3);
        let minute = looks(&[stalled, (Part::Nothing, 9)], true, 151);
        assert!(minute.iter().all(|verdict| matches!(verdict, Verdict::Alive { .. })));
        let verdicts = looks(&[stalled, (Part::Link, 9)], true, 4);
        assert_eq!(verdicts[3], Verdict::Dead { part: "a link", since: LOOK * 3 });
    }

    #[test]
    fn a_thread_that_never_comes_back_from_a_disk_is_named() {
        let turns = [(Part::Nothing, 1), (Part::StoreDisk, 3)];
        let verdicts = looks(&turns, true, 751);
        assert!(verdicts[..750].iter().all(|verdict| matches!(verdict, Verdict::Alive { .. })));
        assert_eq!(verdicts[750], Verdict::Dead { part: "the store's disk", since: DISK_DEADLINE });
    }

    #[test]
    fn a_dead_thread_is_found_while_another_disk_is_slow() {
        let (mut check, start) = (Check::new(DEADLINE, DISK_DEADLINE), Instant::now());
        let mut verdict = Verdict::Waiting;
        for number in 0..=750 {
            // a journal's disk comes back now and then
            let turns = [(Part::SpoolDisk, 3), (Part::Disk, number / 10)];
            let sight = Sight { turns: &turns, ..Sight::default() };
            verdict = check.look(start + LOOK * number, sight);
        }
        assert_eq!(verdict, Verdict::Dead { part: "the spool's disk", since: DISK_DEADLINE });
        assert_eq!(check.slowest_disk(), DISK_DEADLINE);
    }

    #[test]
    fn who_waited_for_the_disk_has_to_go_on_once_it_is_back() {
        let (mut check, start) = (Check::new(DEADLINE, DISK_DEADLINE), Instant::now());
        let stalled = Sight { turns: &[(Part::Disk, 3), (Part::Link, 9)], ..Sight::default() };
        let back = Sight { turns: &[(Part::Nothing, 3), (Part::Link, 9)], ..Sight::default() };
        for number in 0..10 {
            assert_eq!(check.look(start + LOOK * number, stalled), Verdict::Excused);
        }
        let verdict = check.look(start + LOOK * 10, back);
        assert_eq!(verdict, Verdict::Alive { ask: 1 }, "it has only just got what it waited for");
        assert_eq!(check.look(start + LOOK * 11, back), Verdict::Waiting);
        let since = LOOK * 3;
        let verdict = check.look(start + LOOK * 12, back);
        assert_eq!(verdict, Verdict::Dead { part: "a link", since });
    }

    #[test]
    fn a_thread_that_is_stopped_is_found_though_the_others_answer() {
        let sight = Sight { has_stopped_thread: true, ..Sight::default() };
        let verdicts = looks_at(sight, true, 4);
        assert!(matches!(verdicts[2], Verdict::Alive { .. }));
        assert_eq!(verdicts[3], Verdict::Dead { part: STOPPED_THREAD, since: LOOK * 3 });
    }

    #[test]
    fn many_short_turns_of_one_part_are_no_long_one() {
        let (mut check, start) = (Check::new(DEADLINE, DISK_DEADLINE), Instant::now());
        let mut answered = 0;
        for number in 0..20 {
            let sight =
                Sight { answered, turns: &[(Part::Link, number)], has_stopped_thread: false };
            match check.look(start + LOOK * number, sight) {
                Verdict::Alive { ask } => answered = ask,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_late_answer_is_an_answer() {
        let (mut check, start) = (Check::new(DEADLINE, DISK_DEADLINE), Instant::now());
        assert_eq!(check.look(start, answered(0)), Verdict::Alive { ask: 1 });
        assert_eq!(check.look(start + LOOK, answered(0)), Verdict::Waiting);
        assert_eq!(check.look(start + LOOK * 2, answered(1)), Verdict::Alive { ask: 2 });
        assert_eq!(check.look(start + LOOK * 3, answered(2)), Verdict::Alive { ask: 3 });
    }

    #[test]
    fn a_process_that_was_stopped_has_its_deadline_again_when_it_goes_on() {
        let (mut check, start) = (Check::new(DEADLINE, DISK_DEADLINE), Instant::now());
        let sight = Sight { turns: &[(Part::Link, 4)], ..Sight::default() };
        assert_eq!(check.look(start, sight), Verdict::Alive { ask: 1 });
        let back = start + Duration::from_secs(20);
        for number in 0..3 {
            assert_eq!(check.look(back + LOOK * number, sight), Verdict::Waiting);
        }
        let since = LOOK * 3;
        assert_eq!(check.look(back + since, sight), Verdict::Dead { part: "a link", since });
    }
}
