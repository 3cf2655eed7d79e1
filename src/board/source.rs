//! Where values come from: small files of the kernel, and the file systems' own figures.

use std::fs::File;
use std::io::{self, Read};
use std::num::{IntErrorKind, ParseIntError};
use std::path::{Path, PathBuf};
use std::str::{self, FromStr};

use rustix::fs::{StatVfs, statvfs};

use super::SensorError;

/// Gives a value as an integer: a decimal's coefficient, or 0 and 1.
#[derive(Debug)]
pub(super) enum Source {
    /// A file with one integer.
    Integer(PathBuf),
    /// A file with decimals of at most two places, of which one counts; the value is in hundredths.
    Hundredths {
        file: PathBuf,
        /// 0 for the first.
        field: usize,
    },
    /// `/proc/stat`: the share of time since the read before in which the CPUs were busy, in
    /// thousandths; at first since the start of the system.
    CpuBusy { file: PathBuf, before: CpuTime, share: i64 },
    /// `/proc/meminfo`: one line, or one less another, in bytes.
    Memory { file: PathBuf, line: &'static str, less: Option<&'static str> },
    /// Bytes that users may still write to a file system.
    StorageFree(Mount),
    /// The share of a file system that is used, in thousandths, as `df` counts it.
    StorageUsed(Mount),
}

/// Ticks since the start of the system, all CPUs together.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct CpuTime {
    busy: u64,
    idle: u64,
}

/// A mounted file system. Without its id an empty mount point would give the figures of the file
/// system around it.
#[derive(Debug, Clone)]
pub(super) struct Mount {
    path: PathBuf,
    /// None until it was read once.
    id: Option<u64>,
}

impl Mount {
    pub(super) fn new(path: PathBuf) -> Self {
        let mut mount = Self { path, id: None };
        mount.id = mount.figures().ok().map(|figures| figures.f_fsid);
        mount
    }

    fn figures(&mut self) -> Result<StatVfs, SensorError> {
        let figures = statvfs(self.path.as_path()).map_err(io::Error::from)?;
        if *self.id.get_or_insert(figures.f_fsid) != figures.f_fsid {
            return Err(SensorError::Missing);
        }
        Ok(figures)
    }
}

impl Source {
    pub(super) fn read(&mut self) -> Result<i64, SensorError> {
        let mut buffer = [0; MAX_FILE];
        match self {
            Self::Integer(file) => number(read_start(file, &mut buffer)?.trim()),
            Self::Hundredths { file, field } => {
                hundredths(field_of(read_start(file, &mut buffer)?, *field)?)
            }
            Self::CpuBusy { file, before, share } => {
                let now = cpu_time(read_start(file, &mut buffer)?)?;
                // iowait can go backwards
                let busy = u128::from(now.busy.saturating_sub(before.busy));
                let all = busy + u128::from(now.idle.saturating_sub(before.idle));
                if let Some(thousandths) = (busy * 1000).checked_div(all) {
                    *share = i64::try_from(thousandths).map_err(|_| SensorError::OutOfRange)?;
                }
                *before = now;
                Ok(*share)
            }
            Self::Memory { file, line, less } => {
                let text = read_start(file, &mut buffer)?;
                let bytes = memory_line(text, line)?;
                match less {
                    None => Ok(bytes),
                    Some(less) => Ok(bytes.saturating_sub(memory_line(text, less)?)),
                }
            }
            Self::StorageFree(mount) => {
                let figures = mount.figures()?;
                let bytes = figures.f_bavail.checked_mul(figures.f_frsize);
                bytes.and_then(|it| i64::try_from(it).ok()).ok_or(SensorError::OutOfRange)
            }
            Self::StorageUsed(mount) => {
                let figures = mount.figures()?;
                let used = u128::from(figures.f_blocks.saturating_sub(figures.f_bfree));
                // what is reserved for root counts neither as used nor as free
                let all = used + u128::from(figures.f_bavail);
                let share = (used * 1000).checked_div(all).ok_or(SensorError::OutOfRange)?;
                i64::try_from(share).map_err(|_| SensorError::OutOfRange)
            }
        }
    }
}

/// The file's text, as far as the buffer holds it.
pub(super) fn read_start<'a>(path: &Path, buffer: &'a mut [u8]) -> Result<&'a str, SensorError> {
    let mut file = File::open(path)?;
    let mut filled = 0;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match file.read(room)? {
            0 => break,
            length => filled += length,
        }
    }
    let bytes = buffer.get(..filled).unwrap_or_default();
    let text = match str::from_utf8(bytes) {
        Ok(text) => text,
        // the buffer may end inside a character
        Err(error) if error.error_len().is_none() => {
            str::from_utf8(bytes.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(_) => return Err(SensorError::NotANumber),
    };
    if text.trim().is_empty() { Err(SensorError::Empty) } else { Ok(text) }
}

fn number<N: FromStr<Err = ParseIntError>>(text: &str) -> Result<N, SensorError> {
    text.parse().map_err(|error: ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => SensorError::OutOfRange,
        _ => SensorError::NotANumber,
    })
}

fn field_of(text: &str, field: usize) -> Result<&str, SensorError> {
    text.split_whitespace().nth(field).ok_or(SensorError::NotANumber)
}

fn hundredths(text: &str) -> Result<i64, SensorError> {
    let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
    let is_plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_plain(whole) || !is_plain(places) {
        return Err(SensorError::NotANumber);
    }
    let fraction = match places.len() {
        1 => number::<i64>(places)? * 10,
        2 => number(places)?,
        _ => return Err(SensorError::NotANumber),
    };
    let whole: i64 = number(whole)?;
    let value = whole.checked_mul(100).and_then(|whole| whole.checked_add(fraction));
    value.ok_or(SensorError::OutOfRange)
}

/// The first line of `/proc/stat`, proc(5): user, nice, system, idle, iowait, irq, softirq, steal;
/// guest time behind them is in user already.
fn cpu_time(text: &str) -> Result<CpuTime, SensorError> {
    let line = text.lines().next().and_then(|line| line.strip_prefix("cpu "));
    let mut fields = [0u64; 8];
    let mut texts = line.ok_or(SensorError::NotANumber)?.split_whitespace();
    for (index, field) in fields.iter_mut().enumerate() {
        match texts.next() {
            Some(text) => *field = number(text)?,
            // Linux 2.4 had four
            None if index >= 4 => break,
            None => return Err(SensorError::NotANumber),
        }
    }
    let [user, nice, system, idle, iowait, irq, softirq, steal] = fields;
    let sum = |fields: &[u64]| fields.iter().try_fold(0u64, |sum, field| sum.checked_add(*field));
    let busy = sum(&[user, nice, system, irq, softirq, steal]);
    let (busy, idle) = busy.zip(sum(&[idle, iowait])).ok_or(SensorError::OutOfRange)?;
    Ok(CpuTime { busy, idle })
}

/// A line of `/proc/meminfo` in bytes.
fn memory_line(text: &str, name: &str) -> Result<i64, SensorError> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kibibytes: i64 = number(field_of(lines.next().unwrap_or_default(), 0)?)?;
    if kibibytes < 0 {
        return Err(SensorError::OutOfRange);
    }
    kibibytes.checked_mul(1024).ok_or(SensorError::OutOfRange)
}

/// More than the first lines of `/proc/meminfo`, up to those of swap, and than any other file here.
pub(super) const MAX_FILE: usize = 2048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_whose_file_system_is_gone_has_no_figures() {
        let mut mount = Mount::new(std::env::temp_dir());
        let id = mount.figures().expect("it is there").f_fsid;
        mount.id = Some(!id);
        assert_eq!(mount.figures().map(|_| ()), Err(SensorError::Missing));
        assert_eq!(Source::StorageFree(mount).read(), Err(SensorError::Missing));
    }

    #[test]
    fn hundredths_are_exact() {
        for (text, value) in [
            ("0.52", Ok(52)),
            ("1697.86", Ok(169_786)),
            ("3", Ok(300)),
            ("3.5", Ok(350)),
            ("-1.00", Err(SensorError::NotANumber)),
            ("1.234", Err(SensorError::NotANumber)),
            ("1.+1", Err(SensorError::NotANumber)),
            (".", Err(SensorError::NotANumber)),
            ("nan", Err(SensorError::NotANumber)),
            ("99999999999999999999.00", Err(SensorError::OutOfRange)),
            ("9223372036854775807.00", Err(SensorError::OutOfRange)),
        ] {
            assert_eq!(hundredths(text), value, "{text}");
        }
    }

    #[test]
    fn cpu_time_is_the_sum_over_its_columns() {
        let time = cpu_time("cpu  10 20 30 40 50 60 70 80 90 100\ncpu0 1").expect("ten columns");
        assert_eq!((time.busy, time.idle), (270, 90));
        for (text, error) in [
            ("intr 1 2 3", SensorError::NotANumber),
            ("cpu  1 2 3", SensorError::NotANumber),
            ("cpu  1 2 3 x", SensorError::NotANumber),
            ("cpu  18446744073709551615 2 3 4", SensorError::OutOfRange),
        ] {
            assert_eq!(cpu_time(text).map(|_| ()), Err(error), "{text}");
        }
    }

    #[test]
    fn memory_lines_are_bytes() {
        let text = "MemTotal:       2000 kB\nMemTotalX: 1 kB\nMemFree: -1 kB\nSwapFree:\n";
        assert_eq!(memory_line(text, "MemTotal"), Ok(2_048_000));
        assert_eq!(memory_line(text, "MemFree"), Err(SensorError::OutOfRange));
        assert_eq!(memory_line(text, "SwapFree"), Err(SensorError::NotANumber));
        assert_eq!(memory_line(text, "Mem"), Err(SensorError::NotANumber));
    }
}
