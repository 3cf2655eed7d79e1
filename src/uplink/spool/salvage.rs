//! Setting a damaged file aside, and saving what can be read of it into a new one.
//!
//! The new file is written beside the old one and takes its place when it is whole; [`finish`] goes on
//! where a crash stopped that. Of damaged files only the last is kept.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use fastport_wire::frame::GapCause;
use rusqlite::{Connection, Result, Row as SqlRow};

use super::append::to_i64;
use super::database::{self, Unusable};
use super::entry::Moment;
use super::error::SetAside;
use super::limits::Room;
use super::marks;
use super::row::{self, COLUMNS, Stored, What};
use super::state::{LANES, SENT_ALL, State};
use crate::config::Lane;

/// Why saving failed.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Whether the file was just made.
pub(super) fn is_new(sql: &Connection) -> Result<bool> {
    for table in ["state", "rows_alarm", "rows_normal", "rows_bulk"] {
        if sql.prepare(&format!("SELECT 1 FROM {table} LIMIT 1"))?.exists([])? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Saves what can be read of the file at `path`, and puts it out of the way.
pub(super) fn set_aside(
    path: &Path,
    room: &Room,
    now: Moment,
    reason: String,
) -> std::result::Result<SetAside, Failure> {
    let fresh = beside(path, SALVAGING);
    remove(&fresh)?;
    for old in asides(path)? {
        remove(&old)?;
    }
    let saved = match save(path, &fresh, room) {
        Ok(saved) => saved,
        Err(error) => {
            // the room that it takes is needed
            remove(&fresh)?;
            return Err(error);
        }
    };
    fs::rename(&fresh, beside(path, SALVAGED))?;
    let aside = put_away(path, now)?;
    finish(path)?;
    let set_aside = SetAside { path: aside, reason, ..saved };
    Ok(set_aside)
}

/// Brings a rescue to its end that a crash stopped.
pub(super) fn finish(path: &Path) -> io::Result<()> {
    remove(&beside(path, SALVAGING))?;
    let saved = beside(path, SALVAGED);
    if !saved.exists() {
        return Ok(());
    }
    if path.exists() || database::log_of(path).exists() {
        put_away(path, Moment { boot_ms: 0, unix_ms: None })?;
    }
    sync_folder(path)?;
    fs::rename(&saved, path)?;
    sync_folder(path)
}

/// Renames the file and its log.
fn put_away(path: &Path, now: Moment) -> io::Result<Option<PathBuf>> {
    let stamp = now.unix_ms.unwrap_or(now.boot_ms);
    let aside = beside(path, &format!("{ASIDE}{stamp}"));
    // the log first: it must not be taken for that of the new file
    rename_if_there(&database::log_of(path), &database::log_of(&aside))?;
    let is_there = rename_if_there(path, &aside)?;
    Ok(is_there.then_some(aside))
}

/// Files that were set aside before, without their logs.
fn asides(path: &Path) -> io::Result<Vec<PathBuf>> {
    let prefix = beside(path, ASIDE);
    let Some((folder, prefix)) = prefix.parent().zip(prefix.file_name()) else {
        return Ok(Vec::new());
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let (name, prefix) = (name.as_encoded_bytes(), prefix.as_encoded_bytes());
        if name.starts_with(prefix) && !name.ends_with(b"-wal") {
            found.push(folder.join(String::from_utf8_lossy(name).as_ref()));
        }
    }
    Ok(found)
}

/// Writes a new file with what can be read of an old one.
fn save(from: &Path, to: &Path, room: &Room) -> std::result::Result<SetAside, Failure> {
    let mut new = database::open(to, Some(room))?;
    if let Err(Unusable::Machine(error)) = database::migrate(&mut new) {
        return Err(error.into());
    }
    // nobody has it before it is whole, and a log would take many times its room: a page for each row
    new.pragma_update_and_check(None, "journal_mode", "MEMORY", |_| Ok(()))?;
    new.execute_batch("BEGIN")?;
    let mut saved = SetAside {
        path: None,
        reason: String::new(),
        saved: 0,
        lost: None,
        in_doubt: LANES.to_vec(),
    };
    match database::open(from, None) {
        Ok(old) => Rescue { old: &old, new: &new }.save_all(&mut saved)?,
        Err(error) if database::is_damage(&error) => State::new().save(&new)?,
        Err(error) => return Err(error.into()),
    }
    new.execute_batch("COMMIT")?;
    drop(new);
    File::open(to)?.sync_all()?;
    Ok(saved)
}

struct Rescue<'a> {
    old: &'a Connection,
    new: &'a Connection,
}

/// What became of a lane.
#[derive(Debug, Default)]
struct Saved {
    messages: u64,
    /// the first place that could not be read
    hole: Option<i64>,
    last: i64,
}

impl Rescue<'_> {
    fn save_all(&self, saved: &mut SetAside) -> Result<()> {
        let known = State::load(self.old).ok().flatten();
        let is_known = known.is_some();
        let mut state = known.unwrap_or_else(State::new);
        let topics = self.save_names("topic", "id, name, schema, sum")?;
        let publishers = self.save_names("publisher", "id, identity, name, epoch, sum")?;
        let boots = self.save_names("boot", "id, name, offset, sum")?;
        let mut lost = 0;
        saved.in_doubt.clear();
        for lane in LANES {
            let acked = to_i64(state.lane(lane).acked);
            let of_lane = self.save_lane(lane, acked, (&topics, &publishers, &boots))?;
            let lost_here = self.settle(lane, &of_lane, &mut state)?;
            saved.saved += of_lane.messages;
            lost += lost_here.unwrap_or(0);
            if !is_known || lost_here.is_none() {
                saved.in_doubt.push(lane);
            }
        }
        saved.lost = is_known.then_some(lost);
        state.forget_stored();
        state.save(self.new)
    }

    /// Copies a table of names; which ones are there.
    fn save_names(&self, table: &str, columns: &str) -> Result<HashSet<i64>> {
        let places = vec!["?"; columns.split(',').count()].join(", ");
        let mut write =
            self.new.prepare(&format!("INSERT INTO {table} ({columns}) VALUES ({places})"))?;
        let mut found = HashSet::new();
        self.each(table, columns, "id", 0, &mut |row, id| {
            let values = (0..columns.split(',').count()).map(|at| row.get(at));
            let Ok(values) = values.collect::<Result<Vec<rusqlite::types::Value>>>() else {
                return Ok(false);
            };
            match write.execute(rusqlite::params_from_iter(values)) {
                Ok(_) => Ok(found.insert(id)),
                // one that the new table refuses is damaged
                Err(error) if database::is_damage(&error) => Ok(false),
                Err(error) => Err(error),
            }
        })?;
        Ok(found)
    }

    fn save_lane(
        &self,
        lane: Lane,
        acked: i64,
        (topics, publishers, boots): (&HashSet<i64>, &HashSet<i64>, &HashSet<i64>),
    ) -> Result<Saved> {
        let mut insert = row::insert(self.new, lane)?;
        let mut saved = Saved::default();
        let hole = self.each(row::table(lane), COLUMNS, "seq", acked + 1, &mut |row, _| {
            let Ok(Some(mut stored)) = Stored::read(row) else { return Ok(false) };
            if stored.topic.is_some_and(|topic| !topics.contains(&topic)) {
                if stored.what == What::Message {
                    return Ok(false);
                }
                stored.topic = None;
            }
            stored.publisher = stored.publisher.filter(|id| publishers.contains(id));
            stored.boot = stored.boot.filter(|id| boots.contains(id));
            stored.write(&mut insert)?;
            saved.messages += u64::from(stored.what == What::Message);
            saved.last = stored.seq;
            Ok(true)
        })?;
        saved.hole = hole;
        Ok(saved)
    }

    /// Makes the lane's ledger right, and puts a GAP where rows are missing. How many are; none: the
    /// counts at the central instance are in doubt.
    fn settle(&self, lane: Lane, saved: &Saved, state: &mut State) -> Result<Option<u64>> {
        let of_lane = state.lane_mut(lane);
        let sent = if of_lane.sent == SENT_ALL { of_lane.next - 1 } else { of_lane.sent };
        of_lane.next = of_lane.next.max(saved.last.cast_unsigned() + 1);
        let held = of_lane.held();
        // rows that it does not know of came back
        of_lane.appended += saved.messages.saturating_sub(held);
        let lost = held.saturating_sub(saved.messages);
        let is_whole = held == saved.messages;
        if lost > 0 {
            let cause = GapCause::Other;
            of_lane.dropped[cause as usize] += lost;
            let place = saved.hole.unwrap_or(to_i64(of_lane.next));
            of_lane.next = of_lane.next.max(place.cast_unsigned() + 1);
            Stored::gap(place, None, cause, lost).write(&mut row::insert(self.new, lane)?)?;
        }
        marks::rebuild(self.new, lane)?;
        let is_unsent = |hole: i64| hole > to_i64(sent);
        if is_whole || (lost > 0 && saved.hole.is_some_and(is_unsent)) {
            return Ok(Some(lost));
        }
        (of_lane.epoch, of_lane.head_count, of_lane.sent) = (0, 0, 0);
        Ok(None)
    }

    /// Reads a table in order of `key`, over what cannot be read. `take` says whether a row was good.
    /// Returns the first place where one was not.
    fn each(
        &self,
        table: &str,
        columns: &str,
        key: &str,
        from: i64,
        take: &mut dyn FnMut(&SqlRow<'_>, i64) -> Result<bool>,
    ) -> Result<Option<i64>> {
        let find = format!("SELECT {columns} FROM {table} WHERE {key} >= ? ORDER BY {key}");
        let Ok(mut find) = self.old.prepare(&find) else { return Ok(Some(from)) };
        let (mut at, mut step, mut hole) = (from, 1, None);
        for _ in 0..HOLES {
            let mut rows = find.query([at])?;
            loop {
                match rows.next() {
                    Ok(None) => return Ok(hole),
                    Ok(Some(row)) => {
                        let Ok(id) = row.get::<_, i64>(0) else { break };
                        if id < at {
                            // an order that is none
                            break;
                        }
                        if !take(row, id)? {
                            hole = hole.or(Some(id));
                        }
                        (at, step) = (id + 1, 1);
                    }
                    Err(_) => break,
                }
            }
            hole = hole.or(Some(at));
            let Some(next) = at.checked_add(step) else { return Ok(hole) };
            (at, step) = (next, step.saturating_mul(2));
        }
        Ok(hole)
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<bool> {
    match fs::rename(from, to) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes a file and its log, where they are.
fn remove(path: &Path) -> io::Result<()> {
    for path in [database::log_of(path), path.to_owned()] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Makes renames in the file's folder last.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

const ASIDE: &str = ".damaged-";
const SALVAGING: &str = ".saving";
const SALVAGED: &str = ".saved";

/// Places that cannot be read, before the rest is given up. Each step over one that does not help is
/// twice as long.
const HOLES: usize = 10_000;
