//! Tasks beside the links: one that panics is started again, alone.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
type Make = Box<dyn Fn() -> Task + Send>;

/// The tasks, with what makes each of them.
#[derive(Default)]
pub(super) struct Helpers {
    tasks: JoinSet<()>,
    makes: HashMap<Id, Make>,
}

impl Helpers {
    /// Starts the task that `make` makes. It is made again when it panics, and not when it ends.
    pub(super) fn spawn<T>(&mut self, make: impl Fn() -> T + Send + 'static) -> AbortHandle
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let make: Make = Box::new(move || Box::pin(make()));
        let handle = self.tasks.spawn(make());
        self.makes.insert(handle.id(), make);
        handle
    }

    /// Waits for a task that panics, and starts it again after a pause; the panic. `None`: there is
    /// no task left.
    ///
    /// Cancel-safe: a task that ended is noted without another wait.
    pub(super) async fn next_panic(&mut self) -> Option<JoinError> {
        loop {
            let ended = self.tasks.join_next_with_id().await?;
            let id = ended.as_ref().map_or_else(JoinError::id, |&(id, ())| id);
            let make = self.makes.remove(&id);
            let Some(error) = ended.err().filter(JoinError::is_panic) else { continue };
            if let Some(make) = make {
                let again = make();
                let handle = self.tasks.spawn(async move {
                    // what panics at once must not take all the time there is
                    tokio::time::sleep(PAUSE).await;
                    again.await;
                });
                self.makes.insert(handle.id(), make);
            }
            return Some(error);
        }
    }
}

/// Before a task that panicked is started again.
const PAUSE: Duration = Duration::from_secs(1);

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
        let mut helpers = Helpers::default();
        let starts = Arc::clone(&good);
        helpers.spawn(move || {
            starts.fetch_add(1, Ordering::Relaxed);
            std::future::pending()
        });
        let (starts, back) = (Arc::clone(&bad), Arc::clone(&is_back));
        helpers.spawn(move || {
            let (is_first, back) = (starts.fetch_add(1, Ordering::Relaxed) == 0, Arc::clone(&back));
            async move {
                assert!(!is_first, "panics the first time");
                back.notify_one();
                std::future::pending().await
            }
        });
        assert!(helpers.next_panic().await.is_some_and(|error| error.is_panic()));
        tokio::select! {
            () = is_back.notified() => {}
            error = helpers.next_panic() => panic!("{error:?}"),
        }
        assert_eq!((bad.load(Ordering::Relaxed), good.load(Ordering::Relaxed)), (2, 1));
    }

    #[tokio::test]
    async fn a_task_that_ends_or_is_aborted_stays_so() {
        let mut helpers = Helpers::default();
        helpers.spawn(|| std::future::ready(()));
        helpers.spawn(std::future::pending).abort();
        assert!(helpers.next_panic().await.is_none());
    }
}
