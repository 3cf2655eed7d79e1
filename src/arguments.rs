//! The daemon's command line. By hand: it has a few options, and a parser for any command line was a
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
    /// The board, if one is named.
    pub board: Option<OsString>,
    /// The file with the board's model, if it is another than the kernel's.
    pub board_model: Option<PathBuf>,
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
    /// The option without what it needs.
    NoValue(&'static str),
    /// Said twice, and only one can hold.
    Twice(&'static str),
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(argument) => write!(f, "unexpected argument {argument:?}")?,
            Self::NoValue(BOARD) => write!(f, "{BOARD} needs a NAME")?,
            Self::NoValue(option) => write!(f, "{option} needs a FILE")?,
            Self::Twice(option) => write!(f, "{option} is there twice")?,
        }
        f.write_str("; `fastportd --help` lists what there is")
    }
}

impl std::error::Error for UsageError {}

impl Arguments {
    /// Reads a command line, of which the first is the program's name; `variable` is the value of a
    /// variable of the environment, which counts where the line is silent: [`CONFIG_VARIABLE`] for the
    /// file, [`BOARD_VARIABLE`] for the board.
    ///
    /// # Errors
    /// [`UsageError`].
    pub fn parse(
        line: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, UsageError> {
        let mut values = [const { None }; OPTIONS.len()];
        let mut task = Task::Serve;
        let mut line = line.into_iter().skip(1);
        while let Some(argument) = line.next() {
            let asked = match argument.as_bytes() {
                b"-h" | b"--help" => Task::Help,
                b"-V" | b"--version" => Task::Version,
                b"--check" => Task::Check,
                b"--print-config" => Task::PrintConfig,
                _ => {
                    let Some((place, option, value)) = split(&argument) else {
                        return Err(UsageError::Unknown(argument));
                    };
                    let value = value.or_else(|| line.next()).filter(|value| !value.is_empty());
                    let value = value.ok_or(UsageError::NoValue(option))?;
                    if values[place].replace(value).is_some() {
                        return Err(UsageError::Twice(option));
                    }
                    continue;
                }
            };
            task = task.max(asked);
        }
        let [config, board, board_model] = values;
        let set = |name| variable(name).filter(|value| !value.is_empty());
        Ok(Self {
            config: config.or_else(|| variable(CONFIG_VARIABLE)).map(PathBuf::from),
            board: board.or_else(|| set(BOARD_VARIABLE)),
            board_model: board_model.map(PathBuf::from),
            task,
        })
    }
}

/// An option that has a value: its place in [`OPTIONS`], its name, and the value behind a `=`.
fn split(argument: &OsStr) -> Option<(usize, &'static str, Option<OsString>)> {
    OPTIONS.into_iter().enumerate().find_map(|(place, option)| {
        match argument.as_bytes().strip_prefix(option.as_bytes())? {
            b"" => Some((place, option, None)),
            [b'=', value @ ..] => Some((place, option, Some(OsStr::from_bytes(value).to_owned()))),
            _ => None,
        }
    })
}

/// Options that have a value.
const OPTIONS: [&str; 3] = ["--config", BOARD, "--board-model"];
const BOARD: &str = "--board";
/// Names the configuration file where no argument does.
pub const CONFIG_VARIABLE: &str = "FASTPORT_CONFIG";
/// Names the board where no argument does.
pub const BOARD_VARIABLE: &str = "FASTPORT_BOARD";

/// What `--help` prints.
pub const HELP: &str = "\
Gateway daemon: devices, apps and browsers exchange messages by topic

Usage: fastportd [OPTIONS]

Options:
      --config <FILE>  The configuration file; without one the defaults hold: loopback TCP 7470 and
                       WebSocket 7471, one open session `demo` [env: FASTPORT_CONFIG]
      --board <NAME>   The board, for what it says where the configuration is silent; `auto`: the one whose
                       model the device tree states; with a / in it: a file [env: FASTPORT_BOARD]
      --board-model <FILE>
                       Where `auto` reads the model [/proc/device-tree/model]
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
        let variable = variable.and_then(|variable| variable.split_once('='));
        Arguments::parse(line, |name| {
            variable.filter(|(known, _)| *known == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn a_line_says_what_to_do_and_with_which_file() {
        for (line, variable, config, task) in [
            (&[][..], None, None, Task::Serve),
            (&[], Some("FASTPORT_CONFIG=v"), Some("v"), Task::Serve),
            (&["--config", "f"], Some("FASTPORT_CONFIG=v"), Some("f"), Task::Serve),
            (&["--config=f=g", "--check"], None, Some("f=g"), Task::Check),
            (&["--config", "--check"], None, Some("--check"), Task::Serve),
            (&["--print-config", "--check"], None, None, Task::PrintConfig),
            (&["-V"], None, None, Task::Version),
            (&["--version", "-h"], None, None, Task::Help),
        ] {
            let (board, board_model) = (None, None);
            let config = config.map(PathBuf::from);
            let right = Arguments { config, board, board_model, task };
            assert_eq!(parse(line, variable), Ok(right), "{line:?}");
        }
    }

    #[test]
    fn a_line_names_the_board_before_the_environment_does() {
        for (line, variable, board, model) in [
            (&[][..], None, None, None),
            (&["--board", "auto"], None, Some("auto"), None),
            (&["--board=a", "--board-model=m"], Some("FASTPORT_BOARD=b"), Some("a"), Some("m")),
            (&["--board-model", "m"], Some("FASTPORT_BOARD=b"), Some("b"), Some("m")),
            // as a unit's Environment= takes it back
            (&[], Some("FASTPORT_BOARD="), None, None),
        ] {
            let found = parse(line, variable).expect("a right line");
            assert_eq!(found.board, board.map(OsString::from), "{line:?}");
            assert_eq!(found.board_model, model.map(PathBuf::from), "{line:?}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        for (line, error) in [
            (&["--configs=f"][..], UsageError::Unknown("--configs=f".into())),
            (&["gateway.toml"], UsageError::Unknown("gateway.toml".into())),
            (&["--check=yes"], UsageError::Unknown("--check=yes".into())),
            (&["--config"], UsageError::NoValue("--config")),
            (&["--config="], UsageError::NoValue("--config")),
            (&["--config=a", "--config", "b"], UsageError::Twice("--config")),
            (&["--board"], UsageError::NoValue("--board")),
            (&["--boards=a"], UsageError::Unknown("--boards=a".into())),
            (&["--board=a", "--board=b"], UsageError::Twice("--board")),
        ] {
            assert_eq!(parse(line, None), Err(error), "{line:?}");
        }
    }
}
