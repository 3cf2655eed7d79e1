//! The one task that drives the link: connects, reads, writes, reconnects, ends.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::backoff::Backoff;
use crate::connect::Connector;
use crate::error::ConnectError;
use crate::link::{Input, Link};
use crate::shared::{LinkState, Shared};

/// Runs until the client is closed, or there will be no link any more.
pub(crate) async fn drive(shared: Arc<Shared>, connector: Connector) {
    // a panic in here is a bug, and ends the client instead of leaving it without a word
    let _guard = EndGuard(&shared);
    let mut backoff = Backoff::new(shared.options.backoff);
    loop {
        let (error, held) = attempt(&shared, &connector).await;
        {
            let mut state = shared.lock();
            state.machine.disconnected();
            state.files.lose_link();
        }
        shared.changed.notify_waiters();
        if error.is_fatal() || !shared.options.reconnect || is_done(&shared) {
            return shared.end(error);
        }
        backoff.note_link(held);
        let until = Instant::now() + backoff.next(random(), error.retry_after());
        shared.link.send_replace(LinkState::Waiting { error, until });
        if pause(&shared, until).await {
            return shared.end(ConnectError::Closed);
        }
    }
}

/// Makes one link and runs it; why it ended, and how long it held.
async fn attempt(shared: &Shared, connector: &Connector) -> (ConnectError, Duration) {
    let after = shared.options.connect_timeout;
    let welcome_by = Instant::now() + after;
    shared.link.send_replace(LinkState::Connecting);
    let connected = tokio::select! {
        connected = timeout_at(welcome_by, connector.connect()) => connected,
        () = closing_is_over(shared) => return (ConnectError::Closed, Duration::ZERO),
    };
    let connected = match connected {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return (error, Duration::ZERO),
        Err(_) => return (ConnectError::TimedOut(after), Duration::ZERO),
    };
    let mut nonce = [0; fastport_core::proof::NONCE_BYTES];
    if getrandom::fill(&mut nonce).is_err() {
        return (ConnectError::Internal, Duration::ZERO);
    }
    let now = shared.moment(Instant::now());
    {
        let mut state = shared.lock();
        state.is_private = connected.is_private;
        state.machine.connected(now, nonce);
    }
    let link = connected.link;
    let mut run = Run { shared, link, input: Input::default(), welcome_by, ready_since: None };
    let error = Box::pin(run.until_end()).await;
    let held = run.ready_since.map_or(Duration::ZERO, |since| since.elapsed());
    (error, held)
}

/// One link from its first byte to its end.
struct Run<'a> {
    shared: &'a Shared,
    link: Link,
    input: Input,
    welcome_by: Instant,
    ready_since: Option<Instant>,
}

/// What a look at the state says is to be done.
struct Look {
    /// Bytes may be read: no subscription is full.
    may_read: bool,
    /// The client is closing and all is delivered.
    is_done: bool,
    /// When to look again if nothing happens.
    next: Instant,
}

impl Run<'_> {
    async fn until_end(&mut self) -> ConnectError {
        let mut timer = Box::pin(sleep_until(self.welcome_by));
        loop {
            let look = match self.look() {
                Ok(look) => look,
                Err(error) => return error,
            };
            if look.is_done {
                return self.say_bye().await;
            }
            if timer.deadline() != look.next {
                timer.as_mut().reset(look.next);
            }
            let shared = self.shared;
            // what happened is found by the next look; both branches are cancel-safe
            tokio::select! {
                turn = poll_fn(|cx| self.poll_turn(cx, look.may_read)) => match turn {
                    Ok(Turn::Written) => {}
                    Ok(Turn::Read) => {
                        if let Err(error) = self.take_input() {
                            return error;
                        }
                    }
                    Ok(Turn::Hangup) => return ConnectError::Hangup,
                    Err(error) => return ConnectError::Lost(Arc::new(error)),
                },
                () = shared.woken() => {}
                () = timer.as_mut() => {}
            }
        }
    }

    /// Does what is due, and says what is next.
    fn look(&mut self) -> Result<Look, ConnectError> {
        let now = Instant::now();
        let moment = self.shared.moment(now);
        let mut state = self.shared.lock();
        let closing = state.closing;
        if closing.is_some_and(|latest| latest <= now) {
            return Err(ConnectError::Closed);
        }
        if self.ready_since.is_none() && self.welcome_by <= now {
            return Err(ConnectError::TimedOut(self.shared.options.connect_timeout));
        }
        let is_ready = self.ready_since.is_some();
        if closing.is_some() && !is_ready && state.machine.queued() == 0 {
            return Err(ConnectError::Closed);
        }
        let may_read = !state.desk.is_full();
        let is_due = state.machine.next_timeout().is_some_and(|next| next <= moment);
        state.machine.handle_timeout(moment).map_err(ConnectError::Fault)?;
        if !may_read && is_due {
            // the relay may well have spoken: we do not listen
            state.machine.handle_bytes(moment, &[], |_| {}).map_err(ConnectError::Fault)?;
        }
        let is_empty = state.machine.queued() == 0 && state.machine.unsent() == 0;
        let is_done = closing.is_some() && is_ready && is_empty;
        let silence = state.machine.next_timeout().map(|next| self.shared.instant(next));
        let welcome_by = (!is_ready).then_some(self.welcome_by);
        let next = [silence, welcome_by, closing].into_iter().flatten().min();
        Ok(Look { may_read, is_done, next: next.unwrap_or(now + LONG) })
    }

    /// Writes what there is and reads what has come. Cancel-safe: progress is in the link, the state
    /// machine and the input.
    fn poll_turn(&mut self, cx: &mut Context<'_>, may_read: bool) -> Poll<std::io::Result<Turn>> {
        // holding the lock for a write costs less than copying what is written
        let (written, _) = self.link.poll_write(cx, &mut self.shared.lock().machine)?;
        if written > 0 {
            self.shared.changed.notify_waiters();
        }
        if may_read {
            match self.link.poll_read(cx, &mut self.input)? {
                Poll::Ready(0) => return Poll::Ready(Ok(Turn::Hangup)),
                Poll::Ready(_) => return Poll::Ready(Ok(Turn::Read)),
                Poll::Pending => {}
            }
        }
        if written > 0 { Poll::Ready(Ok(Turn::Written)) } else { Poll::Pending }
    }

    fn take_input(&mut self) -> Result<(), ConnectError> {
        let Some(chunk) = self.input.take_frames() else { return Ok(()) };
        let now = Instant::now();
        let mut state = self.shared.lock();
        let handled = state.handle_bytes(self.shared.moment(now), &chunk);
        drop(state);
        self.shared.changed.notify_waiters();
        if let Some(ready) = handled.map_err(ConnectError::Fault)? {
            self.ready_since = Some(now);
            self.shared.link.send_replace(ready);
        }
        Ok(())
    }

    /// Leaves in good order: the relay has read all that was written when it closes in turn.
    async fn say_bye(&mut self) -> ConnectError {
        self.shared.lock().machine.say_bye();
        let latest = Instant::now() + self.shared.options.close_timeout;
        let farewell = poll_fn(|cx| self.poll_farewell(cx));
        // a relay that does not close in time is left alone
        match timeout_at(latest, farewell).await {
            Ok(()) | Err(_) => ConnectError::Closed,
        }
    }

    fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        let Ok((_, is_all)) = self.link.poll_write(cx, &mut state.machine) else {
            return Poll::Ready(());
        };
        drop(state);
        if !is_all {
            return Poll::Pending;
        }
        if let Poll::Ready(Err(_)) = self.link.poll_shutdown(cx) {
            return Poll::Ready(());
        }
        loop {
            match self.link.poll_read(cx, &mut self.input) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                // nobody is there to want it
                Poll::Ready(Ok(_)) => self.input = Input::default(),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

enum Turn {
    Written,
    Read,
    Hangup,
}

/// Whether the client is closing and has nothing left to deliver, or no time.
fn is_done(shared: &Shared) -> bool {
    let state = shared.lock();
    state.closing.is_some_and(|latest| state.machine.queued() == 0 || latest <= Instant::now())
}

/// Waits before the next attempt; whether the client is to end instead.
async fn pause(shared: &Shared, until: Instant) -> bool {
    loop {
        if is_done(shared) {
            return true;
        }
        let closing = shared.lock().closing;
        let next = closing.map_or(until, |latest| latest.min(until));
        tokio::select! {
            () = sleep_until(next) => {
                if until <= Instant::now() {
                    return false;
                }
            }
            () = shared.woken() => {}
        }
    }
}

/// Waits until a client that is closing has nothing left to deliver, or no time.
async fn closing_is_over(shared: &Shared) {
    while !is_done(shared) {
        let closing = shared.lock().closing;
        match closing {
            Some(latest) => sleep_until(latest).await,
            None => shared.woken().await,
        }
    }
    // the wake-up may have meant more than this
    shared.wake_driver();
}

fn random() -> u64 {
    // without randomness all wait the longest
    getrandom::u64().unwrap_or(u64::MAX)
}

struct EndGuard<'a>(&'a Shared);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.0.end(ConnectError::Internal);
    }
}

/// When nothing is due.
const LONG: Duration = Duration::from_secs(3600);
