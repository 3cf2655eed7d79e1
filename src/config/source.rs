//! Files as text, with a bound.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::error::ConfigError;

/// The text of the file at `path`, at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String, ConfigError> {
    let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    into_text(bytes, path, limit)
}

/// `bytes` read from `path` as text, when there are at most `limit`.
pub(crate) fn into_text(bytes: Vec<u8>, path: &Path, limit: u64) -> Result<String, ConfigError> {
    if bytes.len() as u64 > limit {
        return Err(ConfigError::TooLong { path: path.to_owned(), limit });
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        ConfigError::NotText { path: path.to_owned(), line }
    })
}
