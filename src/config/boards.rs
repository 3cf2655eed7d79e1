//! The boards that are known by name, and the one that the daemon runs on.
//!
//! A board's file is a part of a configuration: what it says holds where the configuration is silent.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::hardware::Hardware;
use super::{Config, MAX_FILE_BYTES, read, source};

/// The text of a board's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardFile {
    /// Where it is; of a built-in one, where it is among the sources.
    pub path: PathBuf,
    /// What it says.
    pub text: Cow<'static, str>,
}

impl BoardFile {
    /// The board that `name` means: a built-in one, a file of one's own where a `/` is in it, or with
    /// `auto` the one whose model the device tree states in the file `model`.
    ///
    /// # Errors
    /// [`BoardError`].
    pub fn choose(name: &OsStr, model: &Path) -> Result<Self, BoardError> {
        let path = Path::new(name);
        if path.components().count() > 1 {
            let text = source::read_text(path, MAX_FILE_BYTES).map_err(BoardError::File)?;
            return Ok(Self { path: path.to_owned(), text: Cow::Owned(text) });
        }
        let name = name.to_string_lossy();
        if name == AUTO {
            return Self::detect(model);
        }
        let found = BUILT_IN.iter().find(|(known, _)| *known == name);
        found.map(Self::built_in).ok_or_else(|| {
            let nearest = read::nearest(&name, NAMES.into_iter());
            BoardError::Unknown { name: name.into_owned(), nearest }
        })
    }

    /// The board of the longest beginning that the model has.
    fn detect(file: &Path) -> Result<Self, BoardError> {
        let text = source::read_text(file, MAX_MODEL_BYTES)
            .map_err(|error| BoardError::NoModel { path: file.to_owned(), error })?;
        // the device tree ends its texts with a NUL
        let model = text.trim_end_matches(['\0', '\n']);
        let mut all = Vec::new();
        for entry in BUILT_IN {
            let hardware = hardware(&Self::built_in(entry))?;
            all.extend(hardware.models.into_iter().map(|known| (known, entry)));
        }
        let fitting = all.iter().filter(|(known, _)| model.starts_with(known.as_str()));
        if let Some((_, entry)) = fitting.max_by_key(|(known, _)| known.len()) {
            return Ok(Self::built_in(entry));
        }
        let nearest = read::nearest(model, all.iter().map(|(known, _)| known.as_str()));
        let named = nearest.and_then(|nearest| all.iter().find(|(known, _)| *known == nearest));
        let nearest = named.map(|(_, (name, _))| (*name).to_owned());
        Err(BoardError::UnknownModel { model: model.to_owned(), nearest })
    }

    fn built_in((name, text): &(&str, &'static str)) -> Self {
        let path = PathBuf::from(format!("board-configs/{name}.toml"));
        Self { path, text: Cow::Borrowed(text) }
    }
}

fn hardware(board: &BoardFile) -> Result<Hardware, BoardError> {
    let config = Config::parse(&board.text, &board.path, std::iter::empty());
    config.map(|config| config.board.hardware).map_err(BoardError::File)
}

/// There is no such board. The operator is at fault.
#[derive(Debug)]
#[non_exhaustive]
pub enum BoardError {
    /// No board has that name.
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The one that may be meant.
        nearest: Option<String>,
    },
    /// The device tree does not say which board this is.
    NoModel {
        /// The file that should say it.
        path: PathBuf,
        /// Why it does not.
        error: ConfigError,
    },
    /// No board states that model.
    UnknownModel {
        /// What the device tree says.
        model: String,
        /// The board of the model that is the nearest.
        nearest: Option<String>,
    },
    /// A board's file is wrong.
    File(ConfigError),
}

impl fmt::Display for BoardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = NAMES.join(", ");
        let meant = |nearest: &Option<String>| match nearest {
            Some(nearest) => format!("did you mean {nearest}? "),
            None => String::new(),
        };
        match self {
            Self::Unknown { name, nearest } => write!(
                f,
                "no board {name:?}; {}there are {known}; for a file of your own write its path, with \
                 a / in it",
                meant(nearest)
            ),
            Self::NoModel { error: ConfigError::Unreadable { path, error }, .. }
                if error.kind() == io::ErrorKind::NotFound =>
            {
                let path = path.display();
                write!(f, "{path}: this machine has no device tree; name its board: {known}")
            }
            Self::NoModel { error, .. } => {
                write!(f, "the board's model: {error}; name the board: {known}")
            }
            Self::UnknownModel { model, nearest } => write!(
                f,
                "no board for the model {model:?}; {}name one of {known}; docs/boards.md says how to \
                 add it",
                meant(nearest)
            ),
            Self::File(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for BoardError {}

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        /// The names of the built-in boards.
        pub const NAMES: [&str; BUILT_IN.len()] = [$($name),*];

        /// Name and text.
        const BUILT_IN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../board-configs/", $name, ".toml")))),*];
    };
}

// a line for each file of board-configs/; tests/boards compares
built_in![
    "beaglebone-black",
    "generic-aarch64",
    "generic-armv7",
    "orange-pi-zero3",
    "qemu-virt-aarch64",
    "raspberry-pi-3",
    "raspberry-pi-4",
    "raspberry-pi-5",
    "raspberry-pi-zero-2w",
    "raspberry-pi-zero-w",
    "visionfive-2",
];

/// The board that the daemon runs on.
const AUTO: &str = "auto";
/// Where the kernel has it; a board with ACPI has none.
pub const MODEL_FILE: &str = "/proc/device-tree/model";
/// A model is a line.
const MAX_MODEL_BYTES: u64 = 4096;
