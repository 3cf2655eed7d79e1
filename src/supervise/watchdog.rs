//! The watchdog: a thread that asks the runtime for a sign of life and feeds systemd's timer only
//! while it gets one, no thread stays in one turn for too long, and none is stopped.
//!
//! A daemon that waits for events is idle and no hang; so is a network that is dead, and a disk that
//! is slow: most blocking work is on threads that are not looked at, the rest is a turn of
//! [`Part::Disk`](super::turn::Part::Disk), which may last minutes. Without `WATCHDOG_USEC` in the
//! environment there is no thread and no wake-up.

mod check;

use std::io::{self, Write};
use std::os::unix::net::UnixStream as Bell;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};
use std::{fs, process};

use tokio::net::UnixStream;
use tracing::{error, warn};

use self::check::{Check, Sight, Verdict};
use super::traces;
use super::turn::slots;
use super::{notify, say};

/// What the thread shares with the runtime.
#[derive(Debug, Default)]
struct Question {
    asked: AtomicU32,
    answered: AtomicU32,
}

/// The runtime's side: answers the watchdog's questions.
#[derive(Debug)]
pub struct Probe {
    question: Arc<Question>,
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
            self.question.answered.store(asked, Ordering::Release);
        }
    }
}

/// Starts the watchdog's thread, if the service manager wants to hear from it. `status` says in a
/// line how the daemon is; it must take no lock that the runtime takes. `folder` is for the name of
/// what hangs. Call it in the runtime.
#[must_use]
pub fn start(
    folder: Option<PathBuf>,
    status: impl Fn() -> String + Send + 'static,
) -> Option<Probe> {
    let period = period()?;
    if !notify::is_heard() {
        return None;
    }
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
    let question = Arc::new(Question::default());
    let (alive, ended) = mpsc::sync_channel(0);
    let thread = Thread { period, folder, question: Arc::clone(&question), bell, ended };
    thread::Builder::new()
        .name(THREAD_NAME.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(move || thread.run(&status))?;
    Ok(Probe { question, bell: ear, _alive: alive })
}

/// How often systemd wants to hear, at least (sd_watchdog_enabled(3)).
fn period() -> Option<Duration> {
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
        let mut check = Check::new(self.period / 2);
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
        self.question.asked.store(ask, Ordering::Release);
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
