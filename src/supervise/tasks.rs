//! Tasks beside the links: one that panics is started again, alone, with growing pauses. One that
//! panics again and again ends the daemon, whose service manager starts all of it again.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

use super::turn::{Part, Turns};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Make = Box<dyn Fn() -> Task + Send>;

/// The tasks, with what makes each of them.
#[derive(Default)]
pub struct Tasks {
    tasks: JoinSet<()>,
    known: HashMap<Id, Known>,
}

struct Known {
    part: Part,
    make: Make,
    restarts: Restarts,
}

/// A task panicked.
#[derive(Debug)]
pub struct Panic {
    /// Which.
    pub part: &'static str,
    /// How.
    pub error: JoinError,
    /// When it is started again; `None`: it has panicked too often, and is not.
    pub again: Option<Duration>,
}

impl Tasks {
    /// Starts the task that `make` makes. It is made again when it panics, and not when it ends.
    pub fn spawn<T>(&mut self, part: Part, make: impl Fn() -> T + Send + 'static) -> AbortHandle
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let make: Make = Box::new(move || Box::pin(make()));
        let handle = self.tasks.spawn(Turns::new(part, make()));
        self.known.insert(handle.id(), Known { part, make, restarts: Restarts::default() });
        handle
    }

    /// Waits for a task that panics, and starts it again after a pause. `None`: there is no task
    /// left.
    ///
    /// Cancel-safe: a task that ended is noted without another wait.
    pub async fn next_panic(&mut self) -> Option<Panic> {
        loop {
            let ended = self.tasks.join_next_with_id().await?;
            let id = ended.as_ref().map_or_else(JoinError::id, |&(id, ())| id);
            let known = self.known.remove(&id);
            let Some(error) = ended.err().filter(JoinError::is_panic) else { continue };
            let Some(mut known) = known else { continue };
            let part = known.part;
            let again = known.restarts.note_panic(Instant::now());
            if let Some(pause) = again {
                let task = (known.make)();
                let task = async move {
                    tokio::time::sleep(pause).await;
                    task.await;
                };
                let handle = self.tasks.spawn(Turns::new(part, Box::pin(task)));
                self.known.insert(handle.id(), known);
            }
            return Some(Panic { part: part.name(), error, again });
        }
    }
}

/// When a task that panics is started again. It reads no clock.
#[derive(Debug, Default)]
struct Restarts {
    /// how many since `since`
    count: u32,
    since: Option<Instant>,
}

impl Restarts {
    /// The pause before the next start; `None`: there is none.
    fn note_panic(&mut self, now: Instant) -> Option<Duration> {
        let is_old = |since: Instant| now.saturating_duration_since(since) >= WINDOW;
        if self.since.is_none_or(is_old) {
            (self.count, self.since) = (0, Some(now));
        }
        self.count += 1;
        let doubled = FIRST_PAUSE.saturating_mul(1 << (self.count - 1).min(MOST_DOUBLINGS));
        (self.count <= MOST_RESTARTS).then_some(doubled)
    }
}

/// Before the first start anew: what panics at once must not take all the time there is.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// 32 s at most.
const MOST_DOUBLINGS: u32 = 5;
/// So many starts anew within [`WINDOW`], which with the pauses take two minutes.
const MOST_RESTARTS: u32 = 8;
/// Then it counts from the start.
const WINDOW: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_started_again_and_the_others_are_not() {
        let (bad, good) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let is_back = Arc::new(Notify::new());
        let mut tasks = Tasks::default();
        let starts = Arc::clone(&good);
        tasks.spawn(Part::Board, move || {
            starts.fetch_add(1, Ordering::Relaxed);
            std::future::pending()
        });
        let (starts, back) = (Arc::clone(&bad), Arc::clone(&is_back));
        tasks.spawn(Part::Board, move || {
            let (is_first, back) = (starts.fetch_add(1, Ordering::Relaxed) == 0, Arc::clone(&back));
            async move {
                assert!(!is_first, "panics the first time");
                back.notify_one();
                std::future::pending().await
            }
        });
        assert!(tasks.next_panic().await.is_some_and(|panic| panic.again == Some(FIRST_PAUSE)));
        tokio::select! {
            () = is_back.notified() => {}
            error = tasks.next_panic() => panic!("{error:?}"),
        }
        assert_eq!((bad.load(Ordering::Relaxed), good.load(Ordering::Relaxed)), (2, 1));
    }

    #[tokio::test]
    async fn a_task_that_ends_or_is_aborted_stays_so() {
        let mut tasks = Tasks::default();
        tasks.spawn(Part::Board, || std::future::ready(()));
        tasks.spawn(Part::Board, std::future::pending).abort();
        assert!(tasks.next_panic().await.is_none());
    }

    #[test]
    fn what_panics_again_and_again_is_given_up() {
        let (mut restarts, start) = (Restarts::default(), Instant::now());
        let pauses: Vec<_> = (0..9).map(|_| restarts.note_panic(start)).collect();
        let seconds: Vec<_> = pauses.iter().flatten().map(Duration::as_secs).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 32, 32]);
        assert_eq!(pauses.last(), Some(&None));
        assert_eq!(restarts.note_panic(start + WINDOW), Some(FIRST_PAUSE));
    }
}
