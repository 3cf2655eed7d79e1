//! The handle: what a program does with a relay.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastport_core::client::Secret;
use fastport_wire::control::{Tier, options as flag};
use fastport_wire::frame::DataFlags;
use fastport_wire::{Filter, Topic};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::book::{Answer, Reply, TopicState};
use crate::connect::Connector;
use crate::driver;
use crate::error::{ConnectError, PublishError, RequestError, WaitError};
use crate::options::{OpenOptions, Options, Past, SubscribeOptions};
use crate::publisher::Publisher;
use crate::seal::SealOptions;
use crate::shared::{Lease, LinkState, Shared, State};
use crate::subscription::{Delivery, Incoming, Intake, Queue, Subscription};

/// Connects to a relay and waits until it lets the client in, for at most
/// [`Options::init_timeout`]. From then on the link is kept up in the background.
///
/// # Errors
/// [`ConnectError`]: the last attempt's.
pub async fn init(options: Options) -> Result<Client, ConnectError> {
    check(&options)?;
    let deadline = Instant::now() + options.init_timeout;
    let (options, connector) = tokio::task::spawn_blocking(move || {
        let connector = Connector::new(&options);
        (options, connector)
    })
    .await
    .map_err(|_| ConnectError::Internal)?;
    let epoch = getrandom::u64().map_err(|_| ConnectError::Options("no randomness"))?;
    let (after, retries) = (options.init_timeout, options.retry_at_start);
    let shared = Arc::new(Shared::new(options, epoch));
    let client = Client::new(Arc::clone(&shared));
    let mut link = shared.link.subscribe();
    tokio::spawn(driver::drive(shared, connector?));
    let mut last = ConnectError::TimedOut(after);
    loop {
        match link.borrow_and_update().clone() {
            LinkState::Ready { .. } => return Ok(client),
            LinkState::Ended(error) => return Err(error),
            LinkState::Waiting { error, .. } if !retries => return Err(error),
            LinkState::Waiting { error, .. } => last = error,
            LinkState::Connecting => {}
        }
        match timeout_at(deadline, link.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(ConnectError::Internal),
            Err(_) => return Err(last),
        }
    }
}

/// A place in a session of a relay. Cheap to clone; the last clone's end is [`Client::close`]
/// without waiting for it. Publishers and subscriptions count as clones.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    /// the tasks of [`Client::get`]
    tasks: Arc<Mutex<JoinSet<()>>>,
    _lease: Arc<Lease>,
}

/// The client was closed with messages that did not reach the relay: so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undelivered(pub u64);

impl std::fmt::Display for Undelivered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} messages did not reach the relay", self.0)
    }
}

impl std::error::Error for Undelivered {}

/// Ends what [`Client::get`] began. Dropping it does not.
#[derive(Debug)]
pub struct Getting {
    stop: oneshot::Sender<()>,
}

impl Getting {
    /// The callback is not called any more.
    pub fn stop(self) {
        // a task that has ended needs no telling
        self.stop.send(()).unwrap_or_default();
    }
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let _lease = Arc::new(Lease(Arc::clone(&shared)));
        Self { shared, tasks: Arc::default(), _lease }
    }

    /// Calls `callback` with each message of the topics that `filter` selects, the topics' last
    /// values first, until the client ends or [`Getting::stop`]. Gaps, and messages that do not open,
    /// are passed over; use [`Client::subscribe`] to see them. A callback that panics is not called again.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn get(
        &self,
        filter: &str,
        mut callback: impl FnMut(Delivery) + Send + 'static,
    ) -> Result<Getting, RequestError> {
        let mut intake = self.take_in(&[filter], SubscribeOptions::default()).await?;
        let (stop, mut stopped) = oneshot::channel();
        let read = async move {
            let mut can_stop = true;
            loop {
                let incoming = tokio::select! {
                    incoming = intake.next() => incoming,
                    asked = &mut stopped, if can_stop => match asked {
                        Ok(()) => return,
                        Err(_) => {
                            can_stop = false;
                            continue;
                        }
                    },
                };
                match incoming {
                    Some(Incoming::Message(delivery)) => callback(delivery),
                    Some(Incoming::Gap { .. } | Incoming::NotOpened { .. }) => {}
                    None => return,
                }
            }
        };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // those that have ended
        while tasks.try_join_next().is_some() {}
        tasks.spawn(read);
        Ok(Getting { stop })
    }

    /// Asks for the messages of all topics that `filter` selects, as a stream. It goes on over
    /// reconnects; what a relay could not hold for the client in the meantime comes as a gap, or,
    /// from a relay that was restarted, not at all but for the topics' last values.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn subscribe(
        &self,
        filter: &str,
        options: SubscribeOptions,
    ) -> Result<Subscription, RequestError> {
        self.subscribe_all(&[filter], options).await
    }

    /// As [`Client::subscribe`], for the topics that any of `filters` selects, in one stream and each
    /// message once.
    ///
    /// # Errors
    /// [`RequestError`], for the first filter that is refused.
    pub async fn subscribe_all(
        &self,
        filters: &[&str],
        options: SubscribeOptions,
    ) -> Result<Subscription, RequestError> {
        let intake = self.take_in(filters, options).await?;
        Ok(Subscription::new(intake, self.clone()))
    }

    /// Publishes a message, waiting while what waits for the link fills the outbox. It opens the
    /// topic on first use. The message is sent once: lost if the link is lost just then; see
    /// [`Client::emit_counted`].
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn emit(&self, topic: &str, payload: &[u8]) -> Result<(), PublishError> {
        self.publish(topic, payload, DataFlags::NONE).await.map(|_| ())
    }

    /// As [`Client::emit`], but the message is sent again after a reconnect until the relay has it;
    /// its number is for [`Client::wait`].
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn emit_counted(&self, topic: &str, payload: &[u8]) -> Result<u64, PublishError> {
        self.publish(topic, payload, DataFlags::COUNTED).await
    }

    /// Opens a topic for publishing. It stays open over reconnects.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn open(&self, topic: &str, options: OpenOptions) -> Result<Publisher, RequestError> {
        let name: Arc<str> = Topic::parse(topic)?.as_str().into();
        let after = self.shared.options.request_timeout;
        timeout(after, self.open_topic(&name, &options))
            .await
            .map_err(|_| RequestError::TimedOut(after))??;
        Ok(Publisher::new(self.clone(), name))
    }

    /// Waits until all counted messages up to that number, see [`Client::emit_counted`], are where
    /// `tier` says. It waits as long as it takes.
    ///
    /// # Errors
    /// [`WaitError`].
    pub async fn wait(&self, number: u64, tier: Tier) -> Result<(), WaitError> {
        self.wait_between(0, number, tier).await
    }

    /// Waits until all counted messages that were published are where `tier` says, and all others
    /// are written to the link. It waits as long as it takes.
    ///
    /// # Errors
    /// [`WaitError`].
    pub async fn flush(&self, tier: Tier) -> Result<(), WaitError> {
        let number = self.shared.lock().book.last_number();
        self.wait_between(0, number, tier).await?;
        let is_written = |state: &mut State| match &state.end {
            Some(error) => Some(Err(WaitError::Ended(error.clone()))),
            None => (state.machine.queued() == 0 && state.machine.unsent() == 0).then_some(Ok(())),
        };
        self.until(is_written).await
    }

    /// Asks for retained messages of the topics that `filter` selects, topic by topic, oldest first.
    /// The relay sends at most what fits into its outbox for this client.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn history(&self, filter: &str, past: Past) -> Result<Vec<Delivery>, RequestError> {
        Filter::parse(filter)?;
        let ask = |state: &mut State| {
            let request = state.machine.history(filter, past.to_core());
            state.desk.expect_past(request, filter, None);
            request
        };
        self.ask(ask).await.map(|answer| answer.past)
    }

    /// Asks for the relay's figures: a JSON object, as text.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn status(&self) -> Result<String, RequestError> {
        let answer = self.ask(|state| state.machine.status()).await?;
        Ok(answer.text.unwrap_or_default())
    }

    /// Asks the relay to make a session, where its configuration lets peers do so. `identity` is its
    /// first identity (none: `user`), `password` that one's; without it the session is open to all.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn create_session(
        &self,
        session: &str,
        identity: Option<&str>,
        password: Option<&[u8]>,
    ) -> Result<(), RequestError> {
        let is_allowed = self.shared.options.allow_plain_password || self.shared.lock().is_private;
        if password.is_some() && !is_allowed {
            return Err(RequestError::PasswordInClear);
        }
        self.ask(|state| state.machine.create_session(session, identity, password)).await?;
        Ok(())
    }

    /// How it stands with the link, and every change of that.
    #[must_use]
    pub fn link(&self) -> watch::Receiver<LinkState> {
        self.shared.link.subscribe()
    }

    /// Why there will be no link any more; `None`: there is one, or there will be.
    #[must_use]
    pub fn ended(&self) -> Option<ConnectError> {
        self.shared.lock().end.clone()
    }

    /// Ends the client: what was published is delivered first, as far as it is within
    /// [`Options::close_timeout`]; then the relay is told. Other clones end too.
    ///
    /// # Errors
    /// [`Undelivered`].
    pub async fn close(self) -> Result<(), Undelivered> {
        self.shared.start_closing();
        let mut link = self.shared.link.subscribe();
        // an error means that the link's task is gone, and so has ended
        link.wait_for(|state| matches!(state, LinkState::Ended(_))).await.map(|_| ()).ok();
        match self.shared.lock().machine.queued() {
            0 => Ok(()),
            left => Err(Undelivered(left)),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Has counters written down while others go on; who fails to seal meanwhile tries again.
    pub(crate) fn reserve_beside(&self) {
        let shared = Arc::clone(&self.shared);
        let reserve = async move {
            if let Some(sender) = &shared.sender {
                // who waits for counters, asks for them and learns what is wrong
                sender.reserve().await.unwrap_or_default();
            }
            shared.changed.notify_waiters();
        };
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(reserve);
    }

    /// Publishes, waiting for room, for the topic to be open, for a link; sealed where it is to be.
    pub(crate) async fn publish(
        &self,
        topic: &str,
        payload: &[u8],
        flags: DataFlags,
    ) -> Result<u64, PublishError> {
        match self.sender_for(topic, flags) {
            Some(sender) => {
                let sealed = self.seal(sender, topic, payload, flags).await?;
                self.publish_as_it_is(topic, &sealed, flags.with(DataFlags::SEALED)).await
            }
            None => self.publish_as_it_is(topic, payload, flags).await,
        }
    }

    async fn publish_as_it_is(
        &self,
        topic: &str,
        payload: &[u8],
        flags: DataFlags,
    ) -> Result<u64, PublishError> {
        loop {
            match self.shared.try_publish(topic, payload, flags) {
                Err(PublishError::NotNow) => {}
                done => return done,
            }
            if self.shared.lock().book.topic(topic).is_none() {
                self.open(topic, OpenOptions::default()).await.map_err(PublishError::Open)?;
                continue;
            }
            let shared = &self.shared;
            let mut changed = pin!(shared.changed.notified());
            // from here on no change is missed
            changed.as_mut().enable();
            match shared.try_publish(topic, payload, flags) {
                Err(PublishError::NotNow) => changed.await,
                done => return done,
            }
        }
    }

    /// Waits until the counted messages `after < number <= to` are where `tier` says.
    pub(crate) async fn wait_between(
        &self,
        after: u64,
        to: u64,
        tier: Tier,
    ) -> Result<(), WaitError> {
        let answer = |state: &mut State| match state.book.is_confirmed(after, to, tier) {
            Some(true) => Some(Ok(())),
            Some(false) => Some(Err(WaitError::InDoubt)),
            None => {
                if state.machine.ask_for_ack() {
                    self.shared.wake_driver();
                }
                state.end.clone().map(|error| Err(WaitError::Ended(error)))
            }
        };
        self.until(answer).await
    }

    /// Waits until `answer` has one; it is asked after every change. Cancel-safe.
    pub(crate) async fn until<T>(&self, mut answer: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if let Some(answer) = answer(&mut self.shared.lock()) {
                return answer;
            }
            changed.await;
        }
    }

    async fn open_topic(
        &self,
        topic: &Arc<str>,
        options: &OpenOptions,
    ) -> Result<(), RequestError> {
        let (schema, tier) = (options.schema.as_deref(), options.tier);
        // another task may be at it: its answer counts where it asked for the same
        let is_open = self.until(|state| match state.book.topic(topic) {
            _ if state.end.is_some() => Some(false),
            _ if !state.book.is_asked_so(topic, schema, tier) => Some(false),
            Some(TopicState::Open) => Some(true),
            Some(TopicState::Pending) => None,
            Some(TopicState::Refused(_)) | None => Some(false),
        });
        if is_open.await {
            return Ok(());
        }
        let ask = |state: &mut State| {
            let number = tier.map(Tier::number);
            let request = state.machine.open_topic(topic, schema, number);
            state.book.expect_topic(topic, request, schema, tier);
            request
        };
        let opened = self.ask(ask).await;
        if matches!(opened, Err(RequestError::Refused(_))) {
            let mut state = self.shared.lock();
            state.machine.close_topic(topic);
            state.book.strike_topic(topic);
            drop(state);
            self.shared.changed.notify_waiters();
        }
        opened.map(|_| ())
    }

    pub(crate) async fn take_in(
        &self,
        filters: &[&str],
        options: SubscribeOptions,
    ) -> Result<Intake, RequestError> {
        for filter in filters {
            Filter::parse(filter)?;
        }
        let if_set = |is_set: bool, flag: u32| if is_set { flag } else { 0 };
        let flags =
            if_set(options.no_local, flag::NO_LOCAL) | if_set(options.no_last, flag::NO_LAST);
        let queue = Arc::new(Queue::new(options.queue, options.when_slow));
        let id = self.shared.lock().desk.subscribe(filters, Arc::clone(&queue));
        // from here on its drop takes all back
        let intake = Intake::new(Arc::clone(&self.shared), id, queue);
        let mut asked = Vec::new();
        for filter in filters {
            asked.push(self.send(|state| {
                let request = state.machine.subscribe(filter, flags, options.past.to_core());
                state.desk.expect_past(request, filter, Some(id));
                request
            })?);
        }
        for (request, answer) in asked {
            self.answer(request, answer).await?;
        }
        Ok(intake)
    }

    /// Sends a request and waits for its answer.
    async fn ask(&self, send: impl FnOnce(&mut State) -> u32) -> Result<Answer, RequestError> {
        let (request, answer) = self.send(send)?;
        self.answer(request, answer).await
    }

    async fn answer(
        &self,
        request: u32,
        answer: oneshot::Receiver<Reply>,
    ) -> Result<Answer, RequestError> {
        let after = self.shared.options.request_timeout;
        let _forget = Forget { shared: &self.shared, request };
        match timeout(after, answer).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(refused))) => Err(RequestError::Refused(refused)),
            Ok(Err(_)) => Err(RequestError::Ended(self.ended().unwrap_or(ConnectError::Closed))),
            Err(_) => Err(RequestError::TimedOut(after)),
        }
    }

    fn send(
        &self,
        send: impl FnOnce(&mut State) -> u32,
    ) -> Result<(u32, oneshot::Receiver<Reply>), RequestError> {
        let mut state = self.shared.lock();
        if let Some(error) = &state.end {
            return Err(RequestError::Ended(error.clone()));
        }
        let request = send(&mut state);
        let answer = state.book.expect(request);
        drop(state);
        self.shared.wake_driver();
        Ok((request, answer))
    }
}

/// Strikes a request out that nobody waits for any more.
struct Forget<'a> {
    shared: &'a Shared,
    request: u32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.lock().book.forget(self.request);
    }
}

fn check(options: &Options) -> Result<(), ConnectError> {
    let names = [&options.session, &options.identity, &options.name];
    let is_bad = |name: &&String| name.len() > MAX_NAME || name.chars().any(char::is_control);
    if names.iter().any(is_bad) {
        return Err(ConnectError::Options(
            "a session's, identity's or client's name is over 64 bytes or has control characters",
        ));
    }
    let needs_identity = matches!(options.secret, Secret::Password(_) | Secret::Key(_));
    if needs_identity && options.identity.is_empty() {
        return Err(ConnectError::Options("a password or key needs an identity"));
    }
    if let Some(fault) = options.seal.as_ref().and_then(SealOptions::fault) {
        return Err(ConnectError::Options(fault));
    }
    let is_zero = |time: Duration| time.is_zero();
    if is_zero(options.connect_timeout) || is_zero(options.init_timeout) {
        return Err(ConnectError::Options("no time to connect in"));
    }
    Ok(())
}

/// The most bytes of a session's, an identity's or a client's name.
const MAX_NAME: usize = fastport_core::handshake::MAX_NAME;
