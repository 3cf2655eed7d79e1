//! The watchdog: a thread that asks the runtime for a sign of life and feeds systemd's timer only
//! while it gets one, and no thread stays in one turn for too long.
//!
//! A daemon that waits for events is idle and no hang; so is a network that is dead, and a disk that
//! is slow: blocking work is on threads that are not looked at. Without `WATCHDOG_USEC` in the
//! environment there is no thread and no wake-up.

mod check;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tracing::{error, warn};

use self::check::{Check, Verdict};
use super::traces;
use super::turn::slots;
use super::{notify, say};

/// What the thread shares with the runtime.
#[derive(Debug, Default)]
struct Question {
    asked: AtomicU32,
    answered: AtomicU32,
    bell: Notify,
}

/// The runtime's side: answers the watchdog's questions.
#[derive(Debug)]
pub struct Probe {
    question: Arc<Question>,
    /// ends the thread when it is dropped
    _alive: mpsc::SyncSender<()>,
}

impl Probe {
    /// Answers for as long as it is polled. `touch` is called before each answer: it takes what the
    /// daemon cannot do without, such as the sessions' locks.
    ///
    /// Cancel-safe: a question that is not answered is answered when it runs again.
    pub async fn answer(&self, touch: impl Fn()) {
        loop {
            self.question.bell.notified().await;
            let asked = self.question.asked.load(Ordering::Acquire);
            touch();
            self.question.answered.store(asked, Ordering::Release);
        }
    }
}

/// Starts the watchdog's thread, if the service manager wants to hear from it. `status` says in a
/// line how the daemon is; it must take no lock that the runtime takes. `folder` is for the name of
/// what hangs.
#[must_use]
pub fn start(
    folder: Option<PathBuf>,
    status: impl Fn() -> String + Send + 'static,
) -> Option<Probe> {
    let period = period()?;
    if !notify::is_heard() {
        return None;
    }
    let question = Arc::new(Question::default());
    let (alive, ended) = mpsc::sync_channel(0);
    let thread = Thread { period, folder, question: Arc::clone(&question), ended };
    let spawned = thread::Builder::new()
        .name("watchdog".to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || thread.run(&status));
    match spawned {
        Ok(_runs) => Some(Probe { question, _alive: alive }),
        Err(error) => {
            // systemd will end the daemon in time, and start it again
            error!(%error, "no thread for the watchdog");
            None
        }
    }
}

/// How often systemd wants to hear, at least (sd_watchdog_enabled(3)).
fn period() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let is_for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
    let usec = number("WATCHDOG_USEC").filter(|&usec| is_for_us && usec > 0)?;
    Some(Duration::from_micros(usec))
}

struct Thread {
    period: Duration,
    folder: Option<PathBuf>,
    question: Arc<Question>,
    ended: mpsc::Receiver<()>,
}

impl Thread {
    fn run(&self, status: &impl Fn() -> String) {
        let mut check = Check::new(self.period / 2);
        let mut told: Option<Instant> = None;
        loop {
            let now = Instant::now();
            let answered = self.question.answered.load(Ordering::Acquire);
            let seen: Vec<_> = slots().iter().map(|slot| slot.look()).collect();
            match check.look(now, answered, &seen) {
                Verdict::Alive { ask } => {
                    self.question.asked.store(ask, Ordering::Release);
                    self.question.bell.notify_one();
                    let mut state = vec![("WATCHDOG", "1".to_owned())];
                    if told.is_none_or(|told| now - told >= STATUS_EVERY) {
                        told = Some(now);
                        state.push(("STATUS", status()));
                    }
                    say(&state);
                }
                // neither fed nor ended: it has time until its deadline
                Verdict::Waiting => {}
                Verdict::Dead { part, since } => {
                    self.end(part, since);
                    return;
                }
            }
            let pause = self.period / LOOKS;
            if self.ended.recv_timeout(pause) != Err(mpsc::RecvTimeoutError::Timeout) {
                return;
            }
        }
    }

    /// Leaves the name of what hangs, and has systemd end the process at once.
    fn end(&self, part: &str, since: Duration) {
        error!(part, ?since, "makes no progress; the service manager is to start the daemon again");
        if let Some(folder) = &self.folder
            && let Err(error) = traces::write_cause(folder, part, since)
        {
            warn!(%error, "the cause could not be written");
        }
        say(&[("WATCHDOG", "trigger".to_owned()), ("STATUS", format!("hangs: {part}"))]);
    }
}

/// Looks in a period: a hang is found after half of it, and with the look after that well before systemd
/// does.
const LOOKS: u32 = 5;
/// Between two lines for `systemctl status`.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// What the thread calls needs little, but for a log line.
const STACK_BYTES: usize = 128 * 1024;
