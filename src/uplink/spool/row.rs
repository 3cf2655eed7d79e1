//! A row as it is stored, and its checksum.

use fastport_wire::frame::GapCause;
use rusqlite::{Connection, Result, Row as SqlRow, Statement};

use super::sum::Sum;
use crate::config::{Lane, WhenSpoolFull};

/// The columns of a row, in the order of [`COLUMNS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored<'a> {
    pub(super) seq: i64,
    pub(super) what: What,
    pub(super) topic: Option<i64>,
    pub(super) count: u64,
    pub(super) publisher: Option<i64>,
    pub(super) boot: Option<i64>,
    pub(super) at: i64,
    pub(super) unix: Option<i64>,
    pub(super) max_age: i64,
    pub(super) policy: WhenSpoolFull,
    pub(super) flags: u8,
    pub(super) payload: Option<&'a [u8]>,
}

/// A message, or what stands for dropped ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Message,
    Gap(GapCause),
}

impl What {
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Message => 0,
            Self::Gap(cause) => cause as i64 + 1,
        }
    }

    /// None: it is not what was written.
    pub(super) fn from_number(number: i64) -> Option<Self> {
        if number == 0 {
            return Some(Self::Message);
        }
        let cause = usize::try_from(number - 1).ok()?;
        GapCause::ALL.get(cause).map(|cause| Self::Gap(*cause))
    }
}

impl<'a> Stored<'a> {
    /// Messages that were dropped.
    pub(super) fn gap(seq: i64, topic: Option<i64>, cause: GapCause, count: u64) -> Self {
        Self {
            seq,
            what: What::Gap(cause),
            topic,
            count,
            publisher: None,
            boot: None,
            at: 0,
            unix: None,
            max_age: 0,
            policy: WhenSpoolFull::DropOldest,
            flags: 0,
            payload: None,
        }
    }

    /// Reads columns [`COLUMNS`]; none: not what was written.
    pub(super) fn read(row: &'a SqlRow<'_>) -> Result<Option<Self>> {
        let what = What::from_number(row.get(1)?);
        let policy = policy_of(row.get(9)?);
        let (Some(what), Some(policy)) = (what, policy) else { return Ok(None) };
        let stored = Self {
            seq: row.get(0)?,
            what,
            topic: row.get(2)?,
            count: row.get::<_, i64>(3)?.cast_unsigned(),
            publisher: row.get(4)?,
            boot: row.get(5)?,
            at: row.get(6)?,
            unix: row.get(7)?,
            max_age: row.get(8)?,
            policy,
            flags: row.get(10)?,
            payload: row.get_ref(11)?.as_blob_or_null()?,
        };
        let is_whole = stored.sum() == row.get::<_, i64>(12)?;
        Ok(is_whole.then_some(stored))
    }

    /// Writes it with a statement of [`insert`].
    pub(super) fn write(&self, insert: &mut Statement<'_>) -> Result<()> {
        let columns = rusqlite::params![
            self.seq,
            self.what.number(),
            self.topic,
            self.count.cast_signed(),
            self.publisher,
            self.boot,
            self.at,
            self.unix,
            self.max_age,
            self.policy as i64,
            self.flags,
            self.payload,
            self.sum(),
        ];
        insert.execute(columns).map(|_| ())
    }

    fn sum(&self) -> i64 {
        Sum::new()
            .number(self.seq)
            .number(self.what.number())
            .optional(self.topic)
            .number(self.count.cast_signed())
            .optional(self.publisher)
            .optional(self.boot)
            .number(self.at)
            .optional(self.unix)
            .number(self.max_age)
            .bytes(&[self.policy as u8, self.flags])
            .text(self.payload)
            .finish()
    }
}

/// The statement for [`Stored::write`].
pub(super) fn insert(sql: &Connection, lane: Lane) -> Result<Statement<'_>> {
    let table = table(lane);
    sql.prepare(&format!(
        "INSERT INTO {table} ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    ))
}

/// The table of a lane's rows.
pub(super) fn table(lane: Lane) -> &'static str {
    match lane {
        Lane::Alarm => "rows_alarm",
        Lane::Normal => "rows_normal",
        Lane::Bulk => "rows_bulk",
    }
}

fn policy_of(number: i64) -> Option<WhenSpoolFull> {
    [WhenSpoolFull::DropOldest, WhenSpoolFull::Latest, WhenSpoolFull::SlowPublisher]
        .into_iter()
        .find(|policy| *policy as i64 == number)
}

pub(super) const COLUMNS: &str =
    "seq, what, topic, count, publisher, boot, at, unix, max_age, policy, flags, payload, sum";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_policies_are_those_of_the_schema() {
        assert_eq!(WhenSpoolFull::DropOldest as i64, 0);
        assert_eq!(WhenSpoolFull::Latest as i64, 1);
        assert_eq!(WhenSpoolFull::SlowPublisher as i64, 2);
    }

    #[test]
    fn every_cause_has_its_number() {
        for cause in GapCause::ALL {
            let what = What::Gap(cause);
            assert_eq!(What::from_number(what.number()), Some(what));
        }
        assert_eq!(What::from_number(0), Some(What::Message));
        assert_eq!(What::from_number(99), None);
        assert_eq!(What::from_number(-1), None);
    }
}
