//! The watchdog: a thread that asks the runtime for a sign of life and feeds systemd's timer only
//! while it gets one, no thread stays in one turn for too long, and none is stopped.
//!
//! A daemon that waits for events is idle and no hang; so is a network that is dead, and a disk that
//! is slow: work that waits for one is a turn of its own kind, [`Part::Disk`](super::turn::Part::Disk)
//! or one [beside the runtime](super::turn::beside), and may last minutes. What lasts longer is a thread
//! that is dead. Without `WATCHDOG_USEC` in the environment there is no thread and no wake-up.

mod check;

use std::io::{self, Write};
use std::os::unix::net::UnixStream as Bell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, process};

use tokio::net::UnixStream;
use tracing::{error, warn};

pub(super) use self::check::DISK_DEADLINE;
use self::check::{Check, Sight, Verdict};
use super::traces;
use super::turn::slots;
use super::{notify, say};

/// What the thread shares with the runtime.
#[derive(Debug)]
struct Question {
    asked: AtomicU32,
    answered: AtomicU32,
    /// when it was asked, in microseconds from `begun` on
    asked_us: AtomicU64,
    begun: Instant,
    /// how long the last answer took, and the longest
    answer_us: AtomicU64,
    slowest_us: AtomicU64,
    slowest_disk_ms: AtomicU64,
}

/// How near the watchdog came to ending the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Margins {
    /// How often the service manager wants to hear.
    pub period: Duration,
    /// What takes longer is a hang.
    pub deadline: Duration,
    /// How long the runtime's last answer took.
    pub answer: Duration,
    /// How long the slowest one did.
    pub slowest: Duration,
    /// The longest that a look saw a disk take.
    pub slowest_disk: Duration,
    /// What takes longer is a thread that is dead.
    pub disk_deadline: Duration,
}

/// The runtime's side: answers the watchdog's questions.
#[derive(Debug)]
pub struct Probe {
    question: Arc<Question>,
    period: Duration,
    /// a socket: the question comes the way that peers' bytes come, so that a runtime that does not
    /// look at its sockets gives no answer
    bell: UnixStream,
    /// ends the thread when it is dropped
    _alive: mpsc::SyncSender<()>,
}

impl Probe {
    /// Answers for as long as it is polled. `touch` is called before each answer: it takes what the
    /// daemon cannot do without, such as the sessions' locks.
    ///
    /// Cancel-safe: a question that is not answered is answered when it runs again.
    pub async fn answer(&self, touch: impl Fn()) {
        let mut rings = [0; 16];
        loop {
            let rung = match self.bell.readable().await {
                Ok(()) => self.bell.try_read(&mut rings),
                Err(error) => Err(error),
            };
            match rung {
                // the thread is gone
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => {
                    error!(%error, "the watchdog's questions are not heard");
                    return;
                }
            }
            let asked = self.question.asked.load(Ordering::Acquire);
            touch();
            self.question.note_answer();
            self.question.answered.store(asked, Ordering::Release);
        }
    }

    /// How near it came so far.
    #[must_use]
    pub fn margins(&self) -> Margins {
        let us = |number: &AtomicU64| Duration::from_micros(number.load(Ordering::Relaxed));
        let slowest_disk = self.question.slowest_disk_ms.load(Ordering::Relaxed);
        Margins {
            period: self.period,
            deadline: self.period / 2,
            answer: us(&self.question.answer_us),
            slowest: us(&self.question.slowest_us),
            slowest_disk: Duration::from_millis(slowest_disk),
            disk_deadline: disk_deadline(),
        }
    }
}

impl Question {
    fn new() -> Self {
        Self {
            asked: AtomicU32::new(0),
            answered: AtomicU32::new(0),
            asked_us: AtomicU64::new(0),
            begun: Instant::now(),
            answer_us: AtomicU64::new(0),
            slowest_us: AtomicU64::new(0),
            slowest_disk_ms: AtomicU64::new(0),
        }
    }

    fn us(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn ask(&self, asked: u32) {
        self.asked_us.store(self.us(), Ordering::Relaxed);
        self.asked.store(asked, Ordering::Release);
    }

    fn note_answer(&self) {
        let took = self.us().saturating_sub(self.asked_us.load(Ordering::Relaxed));
        self.answer_us.store(took, Ordering::Relaxed);
        self.slowest_us.fetch_max(took, Ordering::Relaxed);
    }
}

/// Starts the watchdog's thread, if the service manager wants to hear from it. `period`: the time that
/// the service manager is to wait instead of the unit's. `status` says in a line how the daemon is; it
/// must take no lock that the runtime takes. `folder` is for the name of what hangs. Call it in the
/// runtime.
#[must_use]
pub fn start(
    period: Option<Duration>,
    folder: Option<PathBuf>,
    status: impl Fn() -> String + Send + 'static,
) -> Option<Probe> {
    let of_unit = unit_period()?;
    if !notify::is_heard() {
        return None;
    }
    if let Some(period) = period {
        say(&[("WATCHDOG_USEC", period.as_micros().to_string())]);
    }
    let period = period.unwrap_or(of_unit);
    match start_thread(period, folder, status) {
        Ok(probe) => Some(probe),
        Err(error) => {
            // systemd will end the daemon in time, and start it again
            error!(%error, "no thread for the watchdog");
            None
        }
    }
}

fn start_thread(
    period: Duration,
    folder: Option<PathBuf>,
    status: impl Fn() -> String + Send + 'static,
) -> io::Result<Probe> {
    let (bell, ear) = Bell::pair()?;
    for end in [&bell, &ear] {
        end.set_nonblocking(true)?;
    }
    let ear = UnixStream::from_std(ear)?;
    let question = Arc::new(Question::new());
    let (alive, ended) = mpsc::sync_channel(0);
    let thread = Thread { period, folder, question: Arc::clone(&question), bell, ended };
    thread::Builder::new()
        .name(THREAD_NAME.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || thread.run(&status))?;
    Ok(Probe { question, period, bell: ear, _alive: alive })
}

/// How often systemd wants to hear, at least (sd_watchdog_enabled(3)).
fn unit_period() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let is_for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
    let usec = number("WATCHDOG_USEC").filter(|&usec| is_for_us && usec > 0)?;
    Some(Duration::from_micros(usec))
}

struct Thread {
    period: Duration,
    folder: Option<PathBuf>,
    question: Arc<Question>,
    bell: Bell,
    ended: mpsc::Receiver<()>,
}

impl Thread {
    fn run(&self, status: &impl Fn() -> String) {
        let mut check = Check::new(self.period / 2, disk_deadline());
        let mut told: Option<Instant> = None;
        loop {
            let now = Instant::now();
            let verdict = check.look(
                now,
                Sight {
                    answered: self.question.answered.load(Ordering::Acquire),
                    turns: &slots().iter().map(|slot| slot.look()).collect::<Vec<_>>(),
                    has_stopped_thread: has_stopped_thread(),
                },
            );
            let slowest_disk = u64::try_from(check.slowest_disk().as_millis()).unwrap_or(u64::MAX);
            self.question.slowest_disk_ms.store(slowest_disk, Ordering::Relaxed);
            let mut feed = || {
                let mut state = vec![("WATCHDOG", "1".to_owned())];
                if told.is_none_or(|told| now - told >= STATUS_EVERY) {
                    told = Some(now);
                    state.push(("STATUS", status()));
                }
                say(&state);
            };
            match verdict {
                Verdict::Alive { ask } => {
                    self.ask(ask);
                    feed();
                }
                Verdict::Excused => feed(),
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

    fn ask(&self, ask: u32) {
        self.question.ask(ask);
        if let Err(error) = (&self.bell).write_all(b"?") {
            // it is not answered then
            warn!(%error, "the watchdog cannot ask");
        }
    }

    /// Leaves the name of what hangs, and has systemd end the process at once.
    fn end(&self, part: &str, since: Duration) {
        // first: the log may be what hangs
        let written = self.folder.as_ref().map(|folder| traces::write_cause(folder, part, since));
        error!(part, ?since, "makes no progress; the service manager is to start the daemon again");
        if let Some(Err(error)) = written {
            warn!(%error, "the cause could not be written");
        }
        say(&[("WATCHDOG", "trigger".to_owned()), ("STATUS", format!("hangs: {part}"))]);
    }
}

/// What takes longer is dead; a test of that has no five minutes.
fn disk_deadline() -> Duration {
    #[cfg(feature = "faults")]
    if let Ok(seconds) = std::env::var("FAULT_DISK_DEADLINE_SECONDS") {
        return seconds.parse().map_or(DISK_DEADLINE, Duration::from_secs);
    }
    DISK_DEADLINE
}

/// Whether a thread of this process is stopped while this one runs, as by a debugger. What cannot be
/// read is taken to run.
fn has_stopped_thread() -> bool {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return false };
    threads.flatten().any(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // proc_pid_stat(5): the name is in parentheses and may hold any byte, the state follows
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
    })
}

/// Looks in a period: a hang is found after half of it, and with the look after that well before systemd
/// does.
const LOOKS: u32 = 5;
/// Between two lines for `systemctl status`.
const STATUS_EVERY: Duration = Duration::from_secs(10);
/// As `ps -L` shows it.
const THREAD_NAME: &str = "watchdog";
/// What the thread calls needs little, but for a log line.
const STACK_BYTES: usize = 128 * 1024;
