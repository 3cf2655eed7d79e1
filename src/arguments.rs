//! The daemon's command line. By hand: it has three options, and a parser for any command line was a
//! tenth of the program, most of which every start touched.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What the daemon is started for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arguments {
    /// The configuration file, if there is one.
    pub config: Option<PathBuf>,
    /// What is to be done.
    pub task: Task,
}

/// One of the daemon's tasks; of several that a line asks for, the last of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// Serve peers.
    Serve,
    /// Say whether the configuration is right.
    Check,
    /// Print the configuration that is in force.
    PrintConfig,
    /// Print the version.
    Version,
    /// Print [`HELP`].
    Help,
}

/// Arguments that it does not understand.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UsageError {
    /// There is no such argument.
    Unknown(OsString),
    /// `--config` without a file.
    NoFile,
    /// Said twice, and only one can hold.
    Twice,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(argument) => write!(f, "unexpected argument {argument:?}")?,
            Self::NoFile => f.write_str("--config needs a FILE")?,
            Self::Twice => f.write_str("--config is there twice")?,
        }
        f.write_str("; `fastportd --help` lists what there is")
    }
}

impl std::error::Error for UsageError {}

impl Arguments {
    /// Reads a command line, of which the first is the program's name; `variable` is the file where
    /// it names none.
    ///
    /// # Errors
    /// [`UsageError`].
    pub fn parse(
        line: impl IntoIterator<Item = OsString>,
        variable: Option<OsString>,
    ) -> Result<Self, UsageError> {
        let (mut config, mut task) = (None, Task::Serve);
        let mut line = line.into_iter().skip(1);
        while let Some(argument) = line.next() {
            let asked = match argument.as_bytes() {
                b"-h" | b"--help" => Task::Help,
                b"-V" | b"--version" => Task::Version,
                b"--check" => Task::Check,
                b"--print-config" => Task::PrintConfig,
                option => {
                    let file = match option.strip_prefix(b"--config") {
                        Some(b"") => line.next().ok_or(UsageError::NoFile)?,
                        Some([b'=', file @ ..]) => OsStr::from_bytes(file).to_owned(),
                        _ => return Err(UsageError::Unknown(argument)),
                    };
                    if file.is_empty() {
                        return Err(UsageError::NoFile);
                    }
                    if config.replace(file).is_some() {
                        return Err(UsageError::Twice);
                    }
                    continue;
                }
            };
            task = task.max(asked);
        }
        Ok(Self { config: config.or(variable).map(PathBuf::from), task })
    }
}

/// What `--help` prints.
pub const HELP: &str = "\
Gateway daemon: devices, apps and browsers exchange messages by topic

Usage: fastportd [OPTIONS]

Options:
      --config <FILE>  The configuration file; without one the defaults hold: loopback TCP 7470 and
                       WebSocket 7471, one open session `demo` [env: FASTPORT_CONFIG]
      --check          Check configuration and credentials and end: status 0 when it is right
      --print-config   Print the complete configuration, defaults and environment included, and end
  -h, --help           Print this help and end
  -V, --version        Print the version and end
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &[&str], variable: Option<&str>) -> Result<Arguments, UsageError> {
        let line = ["fastportd"].iter().chain(line).map(OsString::from);
        Arguments::parse(line, variable.map(OsString::from))
    }

    #[test]
    fn a_line_says_what_to_do_and_with_which_file() {
        for (line, variable, config, task) in [
            (&[][..], None, None, Task::Serve),
            (&[], Some("v"), Some("v"), Task::Serve),
            (&["--config", "f"], Some("v"), Some("f"), Task::Serve),
            (&["--config=f=g", "--check"], None, Some("f=g"), Task::Check),
            (&["--config", "--check"], None, Some("--check"), Task::Serve),
            (&["--print-config", "--check"], None, None, Task::PrintConfig),
            (&["-V"], None, None, Task::Version),
            (&["--version", "-h"], None, None, Task::Help),
        ] {
            let right = Arguments { config: config.map(PathBuf::from), task };
            assert_eq!(parse(line, variable), Ok(right), "{line:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (line, error) in [
            (&["--configs=f"][..], UsageError::Unknown("--configs=f".into())),
            (&["gateway.toml"], UsageError::Unknown("gateway.toml".into())),
            (&["--check=yes"], UsageError::Unknown("--check=yes".into())),
            (&["--config"], UsageError::NoFile),
            (&["--config="], UsageError::NoFile),
            (&["--config=a", "--config", "b"], UsageError::Twice),
        ] {
            assert_eq!(parse(line, None), Err(error), "{line:?}");
        }
    }
}
