//! What the local session has for a lane goes to the disk while there is no link: when memory is half
//! full, and at the end of the process.

use std::sync::Arc;

use fastport_core::session::Counts;

use super::filler::{Filler, MOST_BATCH};
use super::lane::Carrier;
use super::note::Note;
use super::run::behind::acknowledge;
use super::spool::{Appended, LaneCounts, Local};
use super::store::Store;

impl Carrier<'_> {
    /// Brings the local session and the disk together again. Each of the two keeps its own word of how far
    /// the lane is, so a crash or the end of a link between two of these steps leaves them apart:
    ///
    /// - rows are on disk, and their frames are not acknowledged here: they are now;
    /// - frames behind the rows are acknowledged here, so the central instance has the rows, and the disk
    ///   was not told: it is now. Else they would be sent again, under counts that the frames have;
    /// - the disk is emptied, and the note here counts rows that were dropped before they were sent.
    ///
    /// And publishers may not have been told of what the central instance has.
    pub(super) async fn reconcile(&mut self) {
        let Some(store) = self.store.clone() else { return };
        self.is_reconciled = false;
        let counts = store.counts(self.lane).await;
        self.log.note(self.lane, &counts);
        let Ok(on_disk) = counts else { return };
        let Some(moved) = self.acknowledge_moved(&store, &on_disk).await else { return };
        let Some(here) = self.place.counts() else { return };
        if here.acked > moved && on_disk.has_rows {
            let settled = store.settle(self.lane).await;
            self.log.note(self.lane, &settled);
            if settled.is_err() {
                return;
            }
        } else if here.acked == moved {
            self.correct_note(&here, &on_disk);
        }
        // behind that: what the session did not hand out cannot be confirmed
        let confirmed = store.run(|spool, now| spool.confirmed(now)).await;
        self.log.note(self.lane, &confirmed);
        self.is_reconciled = confirmed.is_ok();
        for confirmed in confirmed.unwrap_or_default() {
            self.place.confirm_row(&confirmed.publisher, confirmed.count);
        }
    }

    /// Everything acknowledged here is on disk, or was: what the central instance counts with the last
    /// of it follows from there.
    fn correct_note(&self, here: &Counts, on_disk: &LaneCounts) {
        let note = Note::from_words(here.note);
        let up = (on_disk.head_count + on_disk.held).wrapping_sub(here.acked);
        if on_disk.epoch != Some(note.epoch) || note.up == up {
            return;
        }
        if let Ok(seat) = self.place.enter(0) {
            seat.set_note(Note { up, ..note }.to_words());
        }
    }

    /// Acknowledges frames here that are on disk; up to which that is so, and `None`: it cannot be done
    /// now. An outbox of another epoch than this one's gave nothing to the disk.
    async fn acknowledge_moved(&mut self, store: &Arc<Store>, on_disk: &LaneCounts) -> Option<u64> {
        let here = self.place.counts()?;
        let moved = on_disk.local.filter(|local| local.epoch == here.epoch);
        let moved = moved.map_or(0, |local| local.count);
        if moved <= here.acked {
            return Some(moved);
        }
        // a loss of power took frames that are on disk from the session: others will have their counts
        let known = moved.min(here.total);
        if known > here.acked {
            self.acknowledge_read(here.acked, known)?;
        }
        if known < moved {
            let local = Local { epoch: here.epoch, count: known };
            let lane = self.lane;
            let noted = store.run(move |spool, now| spool.set_local(now, lane, local)).await;
            self.log.note(self.lane, &noted);
            noted.ok()?;
        }
        Some(known)
    }

    /// Reads frames behind the first `acked` up to `count`, which are on disk, and acknowledges them.
    fn acknowledge_read(&self, acked: u64, count: u64) -> Option<()> {
        let seat = self.place.enter(0).ok()?;
        let (max_age, rules) = (self.uplink.max_age(), Arc::clone(self.uplink.rules()));
        let mut filler = Filler::new(rules, max_age, acked).up_to(count);
        while filler.count() < count {
            let fetched = seat.write_with(|output| {
                let taken = filler.take(output.bytes);
                (taken, taken)
            });
            if fetched.ok()? == 0 {
                return None;
            }
        }
        drop(seat.take_marks(count));
        acknowledge(&seat, count).ok()
    }

    /// What is to be done now and then while there is no link.
    pub(super) async fn look(&mut self) {
        self.gather(false).await;
        // rows grow old whether or not others come
        if let Some(store) = self.store.clone()
            && let Some(expired) = store.expire().await
        {
            self.log.note(self.lane, &expired);
        }
    }

    /// Puts frames on disk, where memory is half full, others of the lane have waited there for long
    /// enough, or `all` are to go.
    pub(super) async fn gather(&mut self, all: bool) {
        let Some(store) = self.store.clone().filter(|store| store.takes()) else { return };
        if !self.is_reconciled {
            self.reconcile().await;
        }
        let Some(counts) = self.place.counts().filter(|_| self.is_reconciled) else { return };
        let is_much = counts.held >= self.place.outbox() / 2;
        let waits = counts.total > counts.acked;
        let now = tokio::time::Instant::now();
        let is_due = self.commit.is_due(now, store.holds(self.lane), waits);
        let is_wanted = is_much || is_due || (all && waits);
        if !is_wanted {
            return;
        }
        self.commit.done();
        let note = Note::from_words(counts.note);
        let Ok(seat) = self.place.enter(0) else { return };
        let (max_age, rules) = (self.uplink.max_age(), Arc::clone(self.uplink.rules()));
        let mut filler = Filler::new(rules, max_age, counts.acked);
        let mut acked = counts.acked;
        // their place is on the disk now
        self.gaps.clear();
        loop {
            while filler.bytes() < MOST_BATCH {
                let fetched = seat.write_with(|output| {
                    let taken = filler.take(output.bytes);
                    (taken, taken)
                });
                match fetched {
                    Ok(taken) if taken > 0 => {}
                    _ => break,
                }
            }
            if filler.is_empty() {
                return;
            }
            let count = filler.count();
            let batch = Arc::new(filler.take_batch(acked, seat.marks(count)));
            // without an epoch there was no link
            let sent = if note.epoch == 0 { 0 } else { self.maybe_sent };
            let maybe_sent = sent.min(count).saturating_sub(acked);
            let central = (note.epoch, note.up_there(acked));
            let whose = (self.lane, self.place);
            let appended = store.append(whose, batch, counts.epoch, central, maybe_sent).await;
            self.log.note(self.lane, &appended);
            if !matches!(appended, Ok(Appended::Taken { .. })) {
                return;
            }
            drop(seat.take_marks(count));
            if acknowledge(&seat, count).is_err() {
                return;
            }
            acked = count;
        }
    }
}
