//! Taking entries in.

use std::collections::HashMap;

use fastport_wire::frame::GapCause;
use rusqlite::{Result, Statement};

use super::entry::{Entry, Message, Stamp};
use super::marks::Span;
use super::names::Numbers;
use super::row::{self, Stored};
use super::run::Run;
use super::work::Work;
use crate::config::{Lane, WhenSpoolFull};

/// How far the local outbox is moved to the spool, once a batch is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    /// The epoch of the outbox, not 0.
    pub epoch: u64,
    /// Its count.
    pub count: u64,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is on disk, but for `dropped` messages of it, for which there was no room: GAPs are in
    /// their place.
    Taken {
        /// How many.
        dropped: u64,
    },
    /// Nothing of it was taken: it has messages that must not be dropped, and the disk has no room.
    DiskFull,
    /// Nothing of it was taken: as much was written to flash today as may be.
    FlashSpent,
}

/// How much of a batch can be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// all but the first messages of it, so many
    Take {
        drop_first: usize,
    },
    Refuse(Appended),
}

/// What a batch takes on disk.
pub(super) fn bytes_of(work: &Work<'_>, entries: &[Entry<'_>]) -> u64 {
    entries.iter().map(|entry| work.room.row_bytes(payload_of(entry))).sum()
}

/// What may be written to flash today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlashLeft {
    left: u64,
    /// the rest is for GAPs and counts, so that messages can be dropped and accounted for
    for_messages: u64,
}

impl FlashLeft {
    /// None: there is no limit.
    pub(super) fn new(limit: u64, written: u64) -> Option<Self> {
        let left = limit.saturating_sub(written);
        (limit > 0).then(|| Self { left, for_messages: left.saturating_sub(limit / 16) })
    }
}

/// Decides for a batch when `free` bytes can be had on disk; its first `maybe_sent` messages stay.
pub(super) fn judge(
    entries: &[Entry<'_>],
    cost: impl Fn(&Entry<'_>) -> u64,
    free: u64,
    flash: Option<FlashLeft>,
    maybe_sent: u64,
) -> Verdict {
    if flash.is_some_and(|flash| flash.left == 0) {
        return Verdict::Refuse(Appended::FlashSpent);
    }
    // each page goes into the log, and then to its place
    let flash_free = flash.map_or(u64::MAX, |flash| flash.for_messages / 2);
    let mut left = free.min(flash_free);
    let mut fitting = 0;
    for entry in entries.iter().rev() {
        let Some(rest) = left.checked_sub(cost(entry)) else { break };
        left = rest;
        fitting += 1;
    }
    let drop_first = entries.len() - fitting;
    let must_stay = |entry: &Entry<'_>| {
        matches!(entry, Entry::Message(Message { when_full: WhenSpoolFull::SlowPublisher, .. }))
    };
    let mut dropped = entries.iter().take(drop_first);
    let is_sent = maybe_sent > 0 && dropped.clone().any(|entry| matches!(entry, Entry::Message(_)));
    match is_sent || dropped.any(must_stay) {
        false => Verdict::Take { drop_first },
        true if flash_free < free => Verdict::Refuse(Appended::FlashSpent),
        true => Verdict::Refuse(Appended::DiskFull),
    }
}

fn payload_of(entry: &Entry<'_>) -> usize {
    match entry {
        Entry::Message(message) => message.payload.len(),
        Entry::Gap { .. } => 0,
    }
}

impl Work<'_> {
    /// Puts a batch behind the lane's rows; its first `drop_first` messages as GAPs. The first
    /// `maybe_sent` are noted as such.
    pub(super) fn append(
        &mut self,
        lane: Lane,
        entries: &[Entry<'_>],
        drop_first: usize,
        maybe_sent: u64,
    ) -> Result<u64> {
        let mut left = maybe_sent;
        let mut insert = row::insert(self.sql, lane)?;
        let mut names = Numbers::default();
        let mut marks = HashMap::new();
        // GAPs that wait for what is behind them; none: the lane's last rows may be some
        let mut run: Option<Run> = None;
        let mut dropped = 0;
        for (at, entry) in entries.iter().enumerate() {
            match entry {
                Entry::Message(message) if at >= drop_first => {
                    let run = run.get_or_insert_default();
                    run.write(&mut insert, &mut self.state.lane_mut(lane).next)?;
                    self.append_message(lane, message, &mut insert, &mut names, &mut marks)?;
                    if left > 0 {
                        left -= 1;
                        self.keep_all(lane);
                    }
                }
                Entry::Message(message) => {
                    let topic = names.topic(self.sql, message.topic, message.schema)?;
                    let cause = GapCause::Overflow;
                    self.open_run(lane, &mut run)?.add(Some(topic), cause, 1);
                    if let Some((publisher, count)) = message.publisher {
                        let id = names.publisher(self.sql, publisher)?;
                        Span::note(&mut marks, id, count, self.state.lane(lane).next);
                    }
                    let lane = self.state.lane_mut(lane);
                    lane.appended += 1;
                    lane.dropped[cause as usize] += 1;
                    dropped += 1;
                }
                Entry::Gap { topic, count, cause } => {
                    let topic =
                        topic.map(|name| names.topic_by_name(self.sql, name)).transpose()?;
                    self.open_run(lane, &mut run)?.add(topic, *cause, *count);
                }
            }
        }
        run.unwrap_or_default().write(&mut insert, &mut self.state.lane_mut(lane).next)?;
        self.write_marks(lane, &marks)?;
        Ok(dropped)
    }

    fn append_message<'a>(
        &mut self,
        lane: Lane,
        message: &Message<'a>,
        insert: &mut Statement<'_>,
        names: &mut Numbers<'a>,
        marks: &mut HashMap<i64, Span>,
    ) -> Result<()> {
        let topic = names.topic(self.sql, message.topic, message.schema)?;
        let seq = self.state.lane(lane).next;
        let publisher = match message.publisher {
            Some((publisher, count)) => {
                let id = names.publisher(self.sql, publisher)?;
                Span::note(marks, id, count, seq);
                Some((id, count))
            }
            None => None,
        };
        let (at, unix) = match *message.stamp {
            Stamp::Unix(unix) => (self.now.boot_ms, Some(to_i64(unix))),
            Stamp::Boot(ms) | Stamp::OtherBoot { ms, .. } => (ms, None),
        };
        let stored = Stored {
            seq: to_i64(seq),
            what: super::row::What::Message,
            topic: Some(topic),
            count: publisher.map_or(0, |(_, count)| count),
            publisher: publisher.map(|(id, _)| id),
            boot: Some(self.boot),
            at: to_i64(at),
            unix,
            max_age: to_i64(message.max_age.as_secs()),
            policy: message.when_full,
            flags: message.flags.bits(),
            payload: Some(message.payload),
        };
        stored.write(insert)?;
        let state = self.state.lane_mut(lane);
        state.next += 1;
        state.appended += 1;
        let memory = &mut self.memory.lanes[lane as usize];
        memory.note_age(message.max_age.as_secs());
        if message.when_full == WhenSpoolFull::Latest {
            memory.latest_new += 1;
        }
        Ok(())
    }

    /// Whether there are rows that were not sent.
    pub(super) fn has_unsent(&self, lane: Lane) -> Result<bool> {
        let from = self.state.lane(lane).acked.max(self.memory.lanes[lane as usize].sent);
        let find = format!("SELECT 1 FROM {} WHERE seq > ? LIMIT 1", row::table(lane));
        self.sql.prepare(&find)?.exists([to_i64(from)])
    }

    /// Notes that all rows of a lane may be at the central instance.
    fn keep_all(&mut self, lane: Lane) {
        let state = self.state.lane_mut(lane);
        let last = state.next - 1;
        state.sent = state.sent.max(last);
        let memory = &mut self.memory.lanes[lane as usize];
        memory.sent = memory.sent.max(last);
    }

    /// The GAPs at the lane's end: those of the batch, or of the rows that were there.
    fn open_run<'r>(&mut self, lane: Lane, run: &'r mut Option<Run>) -> Result<&'r mut Run> {
        if run.is_none() {
            *run = Some(self.take_last_run(lane)?);
        }
        Ok(run.get_or_insert_default())
    }
}

/// Places, sizes and times; they stay below 2⁶³ for good.
pub(super) fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
