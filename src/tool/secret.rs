//! Secrets, from files or from the terminal; never from arguments or the environment.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::exit::Failure;

/// The password in a file: all of it but a line's end at its end.
pub(super) fn password(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_PASSWORD + 1));
    let failed = |error: io::Error| Failure::file(path.display(), error);
    let file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(Failure::data(format!(
            "{0}: holds a secret, but its mode {mode:04o} lets others read or change it; run: \
             chmod 0600 {0}",
            path.display()
        )));
    }
    file.take(MAX_PASSWORD as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    let shown = path.display();
    match bytes.len() {
        0 => Err(Failure::data(format!("{shown}: there is no password in it"))),
        length if length > MAX_PASSWORD => {
            Err(Failure::data(format!("{shown}: over {MAX_PASSWORD} bytes")))
        }
        _ => Ok(bytes),
    }
}

/// Asks at the terminal, without showing what is typed.
pub(super) fn ask(prompt: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let no_terminal = |error: io::Error| {
        Failure::usage(format!(
            "no terminal to ask for the password at ({error}); use --password-file"
        ))
    };
    let mut terminal =
        OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(no_terminal)?;
    let failed = |error: io::Error| Failure::file("the terminal", error);
    terminal.write_all(prompt.as_bytes()).map_err(failed)?;
    let before = tcgetattr(&terminal).map_err(|error| failed(error.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    silent.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(&terminal, OptionalActions::Flush, &silent).map_err(|error| failed(error.into()))?;
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_PASSWORD));
    let read = BufReader::new(&terminal).take(MAX_PASSWORD as u64).read_until(b'\n', &mut line);
    let restored = tcsetattr(&terminal, OptionalActions::Flush, &before);
    read.map_err(failed)?;
    restored.map_err(|error| failed(error.into()))?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    match line.is_empty() {
        true => Err(Failure::usage("no password was given")),
        false => Ok(line),
    }
}

/// Asks twice, for a password that is new.
pub(super) fn ask_new(whose: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let password = ask(&format!("New password of {whose}: "))?;
    let again = ask("The same again: ")?;
    match *password == *again {
        true => Ok(password),
        false => Err(Failure::data("the two passwords differ; nothing was changed")),
    }
}

/// Writes a secret to a new file that only its owner may read.
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::file(path.display(), "exists already"),
        _ => Failure::file(path.display(), error),
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(OWNER_ONLY)
        .open(path)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// Writes a secret in the place of another, at once or not at all.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::file(path.display(), error);
    let mut beside = OsString::from(path);
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // left behind by one that was ended in between
    fs::remove_file(&beside).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(failed(error)),
    })?;
    write_new(&beside, text)?;
    fs::rename(&beside, path).map_err(failed)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = File::open(folder.unwrap_or(Path::new("."))).map_err(failed)?;
    folder.sync_all().map_err(failed)
}

/// Prints a text.
pub(super) fn say(text: &str) -> Result<(), Failure> {
    io::stdout().write_all(text.as_bytes()).map_err(|error| Failure::output(&error))
}

/// Longer than anybody types; a longer file is another file.
const MAX_PASSWORD: usize = 512;
const OWNER_ONLY: u32 = 0o600;
/// All access of others; writing by the group. As the daemon has it for its own.
const OTHERS: u32 = 0o027;

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_password_file_may_end_with_a_line() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("password");
        fs::write(&path, "").expect("written");
        fs::set_permissions(&path, Permissions::from_mode(OWNER_ONLY)).expect("ours");
        for text in ["word", "word\n", "word\r\n"] {
            fs::write(&path, text).expect("written");
            assert_eq!(password(&path).expect(text).as_slice(), b"word");
        }
        for text in [String::new(), "\n".to_owned(), "x".repeat(MAX_PASSWORD + 1)] {
            fs::write(&path, &text).expect("written");
            assert!(password(&path).is_err(), "{} bytes", text.len());
        }
        fs::write(&path, "word").expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("ours");
        let error = password(&path).expect_err("all may read it");
        assert_eq!(error.code(), crate::tool::exit::DATA);
    }

    #[test]
    fn a_new_secret_is_its_owners_and_replaces_nothing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("key");
        write_new(&path, "secret").expect("the file is new");
        assert_eq!(fs::metadata(&path).expect("written").mode() & 0o777, OWNER_ONLY);
        assert!(write_new(&path, "other").is_err());
        assert_eq!(fs::read_to_string(&path).expect("readable"), "secret");
    }
}
