//! What the local session has for a lane goes to the disk while there is no link: when memory is half
//! full, and at the end of the process.

use std::sync::Arc;

use super::filler::{Filler, MOST_BATCH};
use super::lane::Carrier;
use super::note::Note;
use super::run::behind::acknowledge;
use super::spool::Appended;
use super::store::Store;

impl Carrier<'_> {
    /// An earlier life, or a link that ended meanwhile, may have put frames on disk and not
    /// acknowledged them here, or not have told publishers of what the central instance has.
    pub(super) async fn reconcile(&mut self) {
        let Some(store) = self.store.clone() else { return };
        self.acknowledge_moved(&store).await;
        // behind that: what the session did not hand out cannot be confirmed
        let confirmed = store.run(|spool, now| spool.confirmed(now)).await;
        self.log.note(self.lane, &confirmed);
        for confirmed in confirmed.unwrap_or_default() {
            self.place.confirm_row(&confirmed.publisher, confirmed.count);
        }
    }

    async fn acknowledge_moved(&mut self, store: &Arc<Store>) {
        let counts = store.counts(self.lane).await;
        self.log.note(self.lane, &counts);
        let (Ok(on_disk), Some(here)) = (counts, self.place.counts()) else { return };
        let Some(local) = on_disk.local.filter(|local| local.epoch == here.epoch) else { return };
        if local.count <= here.acked || local.count > here.total {
            return;
        }
        let Ok(seat) = self.place.enter(0) else { return };
        let (max_age, rules) = (self.uplink.max_age(), Arc::clone(self.uplink.rules()));
        let mut filler = Filler::new(rules, max_age, here.acked).up_to(local.count);
        while filler.count() < local.count {
            let fetched = seat.write_with(|output| {
                let taken = filler.take(output.bytes);
                (taken, taken)
            });
            match fetched {
                Ok(taken) if taken > 0 => {}
                _ => return,
            }
        }
        drop(seat.take_marks(local.count));
        // a link that is gone is found by whoever is next
        acknowledge(&seat, local.count).unwrap_or_default();
    }

    /// Puts frames on disk, where memory is half full or `all` are to go.
    pub(super) async fn gather(&mut self, all: bool) {
        let Some(store) = self.store.clone() else { return };
        let Some(counts) = self.place.counts() else { return };
        let is_much = counts.held >= self.place.outbox() / 2;
        let is_wanted = is_much || (all && counts.total > counts.acked);
        if !is_wanted {
            return;
        }
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
            let maybe_sent = self.maybe_sent.min(count).saturating_sub(acked);
            let central = (note.epoch, note.up_there(acked));
            let appended = store.append(self.lane, batch, counts.epoch, central, maybe_sent).await;
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
