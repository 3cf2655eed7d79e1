//! What the spool knows beside its rows: each lane's counts and ledger, and the flash bytes of the
//! day. It is written in the transaction that changes it.

use fastport_wire::frame::GapCause;
use rusqlite::{Connection, Result};

use super::sum::Sum;
use crate::config::Lane;

/// The lanes, the most urgent first.
pub(super) const LANES: [Lane; 3] = [Lane::Alarm, Lane::Normal, Lane::Bulk];

/// A lane's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct LaneState {
    /// the epoch of the link to the central instance; 0: none
    pub(super) epoch: u64,
    /// what the central instance has of the epoch; the first held message is one more
    pub(super) head_count: u64,
    /// the epoch of the local outbox; 0: none
    pub(super) local_epoch: u64,
    /// how far the local outbox was moved here
    pub(super) local_count: u64,
    /// the next row's place
    pub(super) next: u64,
    /// rows up to here may have been sent; [`SENT_ALL`]: all that a crash left
    pub(super) sent: u64,
    /// rows up to here are gone: the central instance has them. Their pages are freed all at once when
    /// the lane is empty, which costs nothing, or when room is needed: each row by itself costs as many
    /// page writes as it did to append
    pub(super) acked: u64,
    /// messages that came in, ever
    pub(super) appended: u64,
    /// of those, messages that the central instance has
    pub(super) acknowledged: u64,
    /// of those, messages dropped, by cause
    pub(super) dropped: [u64; GapCause::ALL.len()],
}

/// Stored as [`LaneState::sent`] while rows are being sent.
pub(super) const SENT_ALL: u64 = u64::MAX;

impl LaneState {
    /// Messages in the lane.
    pub(super) fn held(&self) -> u64 {
        let gone = self.acknowledged.saturating_add(self.dropped.iter().sum());
        self.appended.saturating_sub(gone)
    }
}

/// Bytes that were written to flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Flash {
    /// days since 1970; 0: the clock was never set
    pub(super) day: u64,
    /// in that day
    pub(super) bytes: u64,
}

/// All of it, and what of it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) lanes: [LaneState; LANES.len()],
    pub(super) flash: Flash,
    stored: Option<[u64; VALUES]>,
}

impl State {
    /// Of a new spool.
    pub(super) fn new() -> Self {
        let lane = LaneState { next: 1, ..LaneState::default() };
        Self { lanes: [lane; LANES.len()], flash: Flash::default(), stored: None }
    }

    pub(super) fn lane(&self, lane: Lane) -> &LaneState {
        &self.lanes[lane as usize]
    }

    pub(super) fn lane_mut(&mut self, lane: Lane) -> &mut LaneState {
        &mut self.lanes[lane as usize]
    }

    /// Reads it; none: a value is missing, or one is not what was written.
    pub(super) fn load(sql: &Connection) -> Result<Option<Self>> {
        let mut read = sql.prepare("SELECT value FROM state WHERE key = ?")?;
        let mut value = |key: &str| match read.query_row([key], |row| row.get::<_, i64>(0)) {
            Ok(value) => Ok(Some(value)),
            Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
            Err(error) => Err(error),
        };
        let mut values = [0; VALUES];
        for (at, slot) in values.iter_mut().enumerate() {
            let Some(stored) = value(&key(at))? else { return Ok(None) };
            *slot = stored.cast_unsigned();
        }
        if value(SUM)? != Some(sum(&values)) {
            return Ok(None);
        }
        let mut state = Self::from_values(&values);
        state.stored = Some(values);
        Ok(Some(state))
    }

    /// Writes what has changed since it was last written.
    pub(super) fn save(&mut self, sql: &Connection) -> Result<()> {
        let values = self.to_values();
        if self.stored == Some(values) {
            return Ok(());
        }
        let mut write = sql.prepare("INSERT OR REPLACE INTO state (key, value) VALUES (?, ?)")?;
        for (at, value) in values.iter().enumerate() {
            if self.stored.is_none_or(|stored| stored[at] != *value) {
                write.execute((key(at), value.cast_signed()))?;
            }
        }
        write.execute((SUM, sum(&values)))?;
        self.stored = Some(values);
        Ok(())
    }

    /// Makes [`State::save`] write all of it.
    pub(super) fn forget_stored(&mut self) {
        self.stored = None;
    }

    fn to_values(&self) -> [u64; VALUES] {
        let mut values = [0; VALUES];
        for (lane, out) in self.lanes.iter().zip(values.chunks_exact_mut(OF_LANE)) {
            let figures = [
                lane.epoch,
                lane.head_count,
                lane.local_epoch,
                lane.local_count,
                lane.next,
                lane.sent,
                lane.acked,
                lane.appended,
                lane.acknowledged,
            ];
            out[..figures.len()].copy_from_slice(&figures);
            out[figures.len()..].copy_from_slice(&lane.dropped);
        }
        values[VALUES - 2..].copy_from_slice(&[self.flash.day, self.flash.bytes]);
        values
    }

    fn from_values(values: &[u64; VALUES]) -> Self {
        let mut state = Self::new();
        for (lane, from) in state.lanes.iter_mut().zip(values.chunks_exact(OF_LANE)) {
            let mut dropped = [0; GapCause::ALL.len()];
            dropped.copy_from_slice(&from[FIGURES.len()..]);
            *lane = LaneState {
                epoch: from[0],
                head_count: from[1],
                local_epoch: from[2],
                local_count: from[3],
                next: from[4],
                sent: from[5],
                acked: from[6],
                appended: from[7],
                acknowledged: from[8],
                dropped,
            };
        }
        state.flash = Flash { day: values[VALUES - 2], bytes: values[VALUES - 1] };
        state
    }
}

/// The key of a value.
fn key(at: usize) -> String {
    let Some(lane) = LANES.get(at / OF_LANE) else {
        return if at == VALUES - 2 { "flash.day".into() } else { "flash.bytes".into() };
    };
    let of_lane = at % OF_LANE;
    match FIGURES.get(of_lane) {
        Some(figure) => format!("{}.{figure}", lane.name()),
        None => {
            let cause = GapCause::ALL[of_lane - FIGURES.len()];
            format!("{}.dropped-{}", lane.name(), cause.name())
        }
    }
}

fn sum(values: &[u64; VALUES]) -> i64 {
    values.iter().fold(Sum::new(), |sum, value| sum.number(value.cast_signed())).finish()
}

/// In the order of [`State::to_values`].
const FIGURES: [&str; 9] = [
    "epoch",
    "head-count",
    "local-epoch",
    "local-count",
    "next",
    "sent",
    "acked",
    "appended",
    "acknowledged",
];
const OF_LANE: usize = FIGURES.len() + GapCause::ALL.len();
const VALUES: usize = LANES.len() * OF_LANE + 2;
const SUM: &str = "sum";

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Connection {
        let sql = Connection::open_in_memory().unwrap();
        sql.execute_batch(include_str!("schema/001.sql")).unwrap();
        sql
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let sql = database();
        let mut state = State::new();
        state.lane_mut(Lane::Bulk).epoch = u64::MAX - 1;
        state.lane_mut(Lane::Alarm).dropped[6] = 9;
        state.flash = Flash { day: 20_000, bytes: 77 };
        state.save(&sql).unwrap();
        assert_eq!(State::load(&sql).unwrap(), Some(state.clone()));
        state.lane_mut(Lane::Normal).sent = SENT_ALL;
        state.save(&sql).unwrap();
        assert_eq!(State::load(&sql).unwrap(), Some(state));
    }

    #[test]
    fn a_changed_value_is_not_believed() {
        let sql = database();
        State::new().save(&sql).unwrap();
        sql.execute("UPDATE state SET value = 5 WHERE key = 'normal.head-count'", []).unwrap();
        assert_eq!(State::load(&sql).unwrap(), None);
    }
}
