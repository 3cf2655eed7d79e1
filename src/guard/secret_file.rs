//! Files that hold secrets: read only when no stranger may read or change them.

use std::fs::{File, Metadata};
use std::io::{Error, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::config::{ConfigError, into_text};

/// The text of the secret file at `path`, at most `limit` bytes.
pub(crate) fn read_secret(path: &Path, limit: u64) -> Result<Zeroizing<String>, ConfigError> {
    let unreadable = |error| ConfigError::Unreadable { path: path.to_owned(), error };
    let file = File::open(path).map_err(unreadable)?;
    // of the open file: what the path names could be another by now
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(unreadable(Error::new(ErrorKind::InvalidInput, "not a regular file")));
    }
    check_mode(path, &metadata)?;
    if metadata.len() > limit {
        return Err(ConfigError::TooLong { path: path.to_owned(), limit });
    }
    // room for all of it at once: growing would leave copies of the secrets behind
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    let mut bytes = Vec::with_capacity(length.saturating_add(1));
    file.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    into_text(bytes, path, limit).map(Zeroizing::new)
}

/// The password in a file: all of it but a line's end at its end.
///
/// # Errors
/// [`ConfigError`]; also where others may read the file.
pub fn read_password(path: &Path) -> Result<Zeroizing<String>, ConfigError> {
    let mut text = read_secret(path, MOST_PASSWORD)?;
    let length = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(length);
    Ok(text)
}

/// Refuses a file that others than owner and group may read, or others than the owner may write.
pub(crate) fn check_mode(path: &Path, metadata: &Metadata) -> Result<(), ConfigError> {
    let mode = metadata.mode() & 0o7777;
    if mode & FORBIDDEN == 0 {
        return Ok(());
    }
    Err(ConfigError::Exposed { path: path.to_owned(), mode })
}

/// What HELLO takes, and a line's end.
const MOST_PASSWORD: u64 = 258;
/// All access of others; writing by the group.
const FORBIDDEN: u32 = 0o027;

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_strangers_may_read_or_change_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("secret");
        write(&path, "secret").expect("written");
        for (mode, accepted) in [
            (0o600, true),
            (0o400, true),
            (0o640, true),
            (0o440, true),
            (0o644, false),
            (0o604, false),
            (0o602, false),
            (0o601, false),
            (0o660, false),
            (0o620, false),
        ] {
            set_permissions(&path, Permissions::from_mode(mode)).expect("the file is ours");
            let read = read_secret(&path, 100);
            assert_eq!(read.is_ok(), accepted, "{mode:o}");
            if let Err(error) = read {
                let expected = format!(
                    "{0}: holds secrets, but its mode {mode:04o} lets others read or change it; \
                     run: chmod 0640 {0}",
                    path.display()
                );
                assert_eq!(error.to_string(), expected);
            }
        }
    }

    #[test]
    fn what_is_no_file_or_too_long_is_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        set_permissions(directory.path(), Permissions::from_mode(0o700)).expect("ours");
        let error = read_secret(directory.path(), 100).expect_err("a directory");
        assert!(error.to_string().ends_with("not a regular file"), "{error}");
        let path = directory.path().join("secret");
        write(&path, "12345").expect("written");
        set_permissions(&path, Permissions::from_mode(0o600)).expect("ours");
        assert!(matches!(read_secret(&path, 4), Err(ConfigError::TooLong { limit: 4, .. })));
        assert!(read_secret(&path, 5).is_ok());
    }
}
