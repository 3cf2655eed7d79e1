//! One lane between the local session and the central instance: two counted streams in the same order.
//!
//! A state machine without I/O. It promises: what the local session gave counted is acknowledged
//! there when the central instance has it as [`WaitFor`] says, and never before; what comes down is
//! acknowledged to the central instance when it is published here; what cannot be carried is counted
//! and told of, and holds nothing up. It keeps nothing that the local session does not have: after
//! a crash it begins again from [`Local`] and [`Note`].

mod down;
mod gaps;
mod rows;
mod up;

use std::collections::VecDeque;
use std::sync::Arc;

use fastport_core::client::{Client, Event, Fault, Options, Past};
use fastport_core::proof::NONCE_BYTES;
use fastport_core::time::{Instant, Now};
use fastport_wire::control::{ErrorCode, options};
use fastport_wire::frame::DataFlags;

use self::down::Down;
pub(super) use self::down::{Coming, Message};
pub(super) use self::gaps::Gaps;
pub(super) use self::rows::RowStep;
use self::up::Up;
use super::figures::LaneFigures;
use super::note::{Local, Note};
use super::rules::Rules;
use super::spool::Row;
use crate::config::{Lane, WaitFor};

/// What a lane is to do.
#[derive(Debug, Clone)]
pub(super) struct Task {
    /// Which topics, under which names.
    pub rules: Arc<Rules>,
    /// The lane.
    pub lane: Lane,
    /// When messages may be forgotten here.
    pub wait_for: WaitFor,
    /// Whether the central instance takes TIME and GAP from this gateway.
    pub relays: bool,
    /// The longest payload that the local session takes.
    pub payload_limit: usize,
    /// Whether it takes sealed payloads only.
    pub is_sealed: bool,
}

/// See the module's text.
pub(super) struct Bridge {
    task: Task,
    figures: Arc<LaneFigures>,
    client: Client,
    local: Local,
    note: Note,
    is_note_due: bool,
    is_ready: bool,
    is_resumed: bool,
    /// of the central instance, at its WELCOME
    clock: Option<u64>,
    backlog: Option<Backlog>,
    /// rows of the disk go first
    is_draining: bool,
    up: Up,
    gaps: Gaps,
    down: Down,
    notices: VecDeque<Notice>,
}

/// What lies on disk and goes before what the local session has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Backlog {
    /// The central instance's count before the first of it.
    pub(super) head: u64,
    /// Messages.
    pub(super) held: u64,
    /// The local session knows nothing of it: it began anew.
    pub(super) is_alone: bool,
}

/// Why a bridge is of no more use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// The central instance did not follow the protocol, refused, or said goodbye.
    Fault(Fault),
    /// Its counts are not of this lane's state: a new epoch is needed.
    OtherState {
        /// What it has, by its count.
        taken: u64,
        /// What it must have at least.
        least: u64,
        /// What it can have at most.
        most: u64,
    },
    /// It stores nothing.
    NoStore,
    /// A frame would not have the count that it should: nothing of it was sent, and the next link
    /// begins where this one was.
    Astray {
        /// The count that it should have.
        expected: u64,
        /// The one that it would have.
        counted: u64,
    },
}

/// What people should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Notice {
    /// The central instance does not let this gateway publish on a topic.
    TopicRefused {
        /// Its name there.
        topic: Box<str>,
        /// Why.
        code: Option<ErrorCode>,
    },
    /// It does not let this gateway read what a rule wants.
    FilterRefused {
        /// The filter there.
        filter: Box<str>,
        /// Why.
        code: Option<ErrorCode>,
    },
    /// A message is longer than the central instance takes.
    TooLong {
        /// The topic's name there.
        topic: Box<str>,
        /// Its bytes.
        bytes: usize,
    },
}

/// What the local session is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ToLocal {
    /// Keep this with the lane's state.
    Note(Note),
    /// These frames.
    Say(Vec<u8>),
}

impl Bridge {
    /// A bridge for a link that is about to be made. Of `options` it says itself what belongs to
    /// resuming.
    #[must_use]
    pub(super) fn new(
        task: Task,
        options: Options,
        (local, note): (Local, Note),
        figures: Arc<LaneFigures>,
    ) -> Self {
        let taken = note.taken(&local);
        let options =
            Options { epoch: note.epoch, continues: Some(taken), confirms: true, ..options };
        Self {
            task,
            figures,
            client: Client::new(options),
            local,
            note,
            is_note_due: false,
            is_ready: false,
            is_resumed: false,
            clock: None,
            backlog: None,
            is_draining: false,
            up: Up::new(local.acked),
            gaps: Gaps::default(),
            down: Down::default(),
            notices: VecDeque::new(),
        }
    }

    /// As [`Bridge::new`], with what lies on disk: [`Bridge::carry_row`] is given it, then
    /// [`Bridge::go_live`] is called.
    #[must_use]
    pub(super) fn behind(mut self, backlog: Backlog) -> Self {
        self.backlog = Some(backlog);
        self
    }

    /// As [`Bridge::new`], with what earlier links may not have told.
    #[must_use]
    pub(super) fn with_gaps(mut self, gaps: Gaps) -> Self {
        self.gaps = gaps;
        self
    }

    /// What the next link has to tell, perhaps.
    #[must_use]
    pub(super) fn into_gaps(self) -> Gaps {
        self.gaps
    }

    /// The link is there: begins the handshake. `nonce` is fresh random bytes.
    pub(super) fn connected(&mut self, now: Instant, nonce: [u8; NONCE_BYTES]) {
        self.client.connected(now, nonce);
    }

    /// The state machine of the link to the central instance, for writing what it has to say.
    pub(super) fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// When that state machine is to be looked at next.
    #[must_use]
    pub(super) fn client_timeout(&self) -> Option<Instant> {
        self.client.next_timeout()
    }

    /// Whether the handshake is done, and the local session's frames can come: those beyond what the
    /// lane has acknowledged.
    #[must_use]
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// What the central instance has of the epoch, as far as it is of the backlog; `None`: nothing,
    /// it begins anew.
    #[must_use]
    pub(super) fn has_of_backlog(&self) -> Option<u64> {
        let backlog = self.backlog.filter(|_| self.is_resumed)?;
        let taken = self.up.at_central();
        let end = backlog.head + backlog.held;
        Some(if backlog.is_alone { taken } else { taken.min(end) })
    }

    /// Whether rows of the disk go before what the local session has.
    #[must_use]
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Counted frames of the local epoch that may be at the central instance.
    #[must_use]
    pub(super) fn read(&self) -> u64 {
        self.up.read()
    }

    /// What is where it has to be, by the central instance's count.
    #[must_use]
    pub(super) fn held(&self) -> u64 {
        self.up.held()
    }

    /// Asks for the topic of a row that will have its turn.
    pub(super) fn meet_row(&mut self, row: &Row) {
        self.up.meet_row(&mut self.client, &self.task, row);
    }

    /// Carries a row of the disk.
    ///
    /// # Errors
    /// [`Ended`].
    pub(super) fn carry_row(&mut self, now: Now, row: &Row) -> Result<RowStep, Ended> {
        let Self { task, client, up, figures, .. } = self;
        up.carry_row(client, task, figures, now, row)
    }

    /// All rows are sent, and the central instance counts `end` with them: what the local session
    /// has beyond what the lane acknowledged is next.
    pub(super) fn go_live(&mut self, end: u64, local: Local) {
        self.local = Local { taken: self.local.taken, ..local };
        self.note.up = end.wrapping_sub(local.acked);
        (self.is_note_due, self.is_draining) = (true, false);
        self.up.restart(local.acked, end);
    }

    /// Whether the central instance went on where it was.
    #[must_use]
    pub(super) fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// What the central instance's clock showed at its WELCOME.
    #[must_use]
    pub(super) fn central_clock(&self) -> Option<u64> {
        self.clock
    }

    /// Takes whole frames from the central instance.
    ///
    /// # Errors
    /// [`Ended`].
    pub(super) fn handle_central(
        &mut self,
        now: Instant,
        frames: &[u8],
        mut pong: impl FnMut(&[u8]),
    ) -> Result<(), Ended> {
        let mut welcome = None;
        let mut done = Ok(());
        let Self { task, client, up, down, notices, figures, clock, .. } = self;
        let tell = |event: Event<'_>| match event {
            Event::Welcome { resumed, taken, clock: told, .. } => {
                welcome = Some((resumed, taken));
                *clock = told;
            }
            Event::Message(message) => down.take(&task.rules, task.lane, &message),
            Event::Acked { taken, central, .. } => {
                up.note_held(if task.wait_for == WaitFor::Central { central } else { taken });
            }
            Event::Done { request, id, .. } => up.opened(request, id),
            Event::Failed { request, code, .. } => {
                if code == Some(ErrorCode::TierNotOffered) {
                    done = Err(Ended::NoStore);
                }
                let notice = down.refused(request, code).or_else(|| up.refused(request, code));
                push_notice(notices, notice);
            }
            Event::Gap { count, .. } => figures.gaps_down.add(count),
            Event::Pong { token } => pong(token),
            _ => {}
        };
        client.handle_bytes(now, frames, tell).map_err(Ended::Fault)?;
        done?;
        if let Some((resumed, taken)) = welcome {
            self.begin(resumed, taken)?;
        }
        self.settle();
        Ok(())
    }

    /// Takes of the bytes that the local session has for the lane as many as there is room for;
    /// returns how many.
    pub(super) fn take_local(&mut self, bytes: &[u8]) -> usize {
        if self.is_ready && !self.is_draining { self.up.take(bytes) } else { 0 }
    }

    /// Bytes of the local session that wait to be carried.
    #[must_use]
    pub(super) fn waiting(&self) -> usize {
        self.up.waiting()
    }

    /// Carries frames up for at most `allowance` bytes; returns how many that was.
    ///
    /// # Errors
    /// [`Ended`].
    pub(super) fn carry_up(&mut self, now: Now, allowance: usize) -> Result<usize, Ended> {
        let Self { task, client, up, note, figures, gaps, notices, .. } = self;
        let before = note.up;
        let carried = up.carry(client, task, note, (figures, gaps), notices, (now, allowance));
        self.is_note_due |= self.note.up != before;
        self.settle();
        carried
    }

    /// What the local session is to be told next.
    pub(super) fn poll_local(&mut self) -> Option<ToLocal> {
        // a note before the acknowledgement that builds on it
        if std::mem::take(&mut self.is_note_due) {
            return Some(ToLocal::Note(self.note));
        }
        self.up.poll_words().map(ToLocal::Say)
    }

    /// The next that came down: to be published here, then [`Bridge::down_done`].
    #[must_use]
    pub(super) fn next_down(&self) -> Option<&Coming> {
        self.down.next()
    }

    /// Bytes that came down and are not published here yet.
    #[must_use]
    pub(super) fn down_bytes(&self) -> usize {
        self.down.bytes()
    }

    /// What [`Bridge::next_down`] gave is published, or cannot be.
    pub(super) fn down_done(&mut self, now: Instant, is_published: bool) {
        let Some(is_counted) = self.down.done() else { return };
        match is_published {
            true => self.figures.messages_down.add(1),
            false => self.figures.refused_down.add(1),
        }
        if !is_counted {
            return;
        }
        if is_published {
            self.local.taken += 1;
        } else {
            self.note.down = self.note.down.wrapping_sub(1);
            self.is_note_due = true;
        }
        self.client.confirm(now, self.note.taken(&self.local));
    }

    /// Whether the local session takes such a payload at all.
    #[must_use]
    pub(super) fn is_taken_here(&self, message: &Message) -> bool {
        let is_sealed = message.flags.contains(DataFlags::SEALED);
        message.payload.len() <= self.task.payload_limit && (is_sealed || !self.task.is_sealed)
    }

    /// What people should know.
    pub(super) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// The lane's state here and there, as it is now.
    #[must_use]
    pub(super) fn counts(&self) -> (Local, Note) {
        (Local { acked: self.up.acked(), ..self.local }, self.note)
    }

    /// WELCOME has come.
    fn begin(&mut self, resumed: bool, taken: u64) -> Result<(), Ended> {
        let is_new = self.local.taken == 0 && self.note.taken(&self.local) == 0;
        if let Some(backlog) = self.backlog {
            self.begin_behind(backlog, resumed.then_some(taken))?;
        } else if resumed {
            let here = self.note.up_here(taken);
            if here < self.local.acked || here > self.local.total {
                let [least, most] = [self.local.acked, self.local.total];
                let [least, most] = [self.note.up_there(least), self.note.up_there(most)];
                return Err(Ended::OtherState { taken, least, most });
            }
        } else {
            self.note = self.note.restarted(&self.local);
            self.is_note_due = true;
        }
        // a process that comes after this one need not be patient
        self.is_note_due |= std::mem::take(&mut self.note.level) != 0;
        let taken = if resumed { taken } else { 0 };
        self.up.begin(taken);
        self.gaps.begin(self.note.up_here(taken));
        self.up.ask_again(&mut self.client, &self.task, &self.gaps);
        self.up.ask_early(&mut self.client, &self.task);
        // what is kept there is news to a gateway that has never had anything from there
        let last = if is_new && !resumed { 0 } else { options::NO_LAST };
        for filter in self.task.rules.down_filters(self.task.lane) {
            let flags = options::NO_LOCAL | last;
            let request = self.client.subscribe(&filter, flags, Past::default());
            self.down.asked(request, &filter);
        }
        (self.is_ready, self.is_resumed) = (true, resumed);
        Ok(())
    }

    fn begin_behind(&mut self, backlog: Backlog, taken: Option<u64>) -> Result<(), Ended> {
        let end = match taken {
            None => {
                self.note = self.note.restarted(&self.local);
                backlog.held
            }
            Some(taken) => {
                let end = backlog.head + backlog.held;
                let most = end + (self.local.total - self.local.acked);
                let is_beyond = taken > most && !backlog.is_alone;
                if taken < backlog.head || is_beyond {
                    return Err(Ended::OtherState { taken, least: backlog.head, most });
                }
                if backlog.is_alone { end.max(taken) } else { end }
            }
        };
        self.note.up = end.wrapping_sub(self.local.acked);
        (self.is_note_due, self.is_draining) = (true, true);
        Ok(())
    }

    fn settle(&mut self) {
        if self.is_ready && !self.is_draining {
            self.up.settle(&self.note);
            self.gaps.forget(self.up.acked());
        }
    }
}

fn push_notice(notices: &mut VecDeque<Notice>, notice: Option<Notice>) {
    if notices.len() < MOST_NOTICES {
        notices.extend(notice);
    }
}

/// Beyond this they are counted only.
const MOST_NOTICES: usize = 16;

#[cfg(test)]
mod tests;
