//! What is here of a file on its way: a hidden file beside its place, which gets its name once it is
//! whole and found sound. All of this blocks.
//!
//! The hidden file's name is made of what the file is (topic, name, size, digest), so that whoever
//! receives the same file later goes on with it, after hashing what is there.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with, statvfs};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::archive;
use super::error::ReceiveError;
use super::name::FileName;
use super::sealed::About;

/// What is done where there is a file of the same name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenExists {
    /// The new one gets a number: `name (1).ext`.
    #[default]
    Number,
    /// The new one takes its place.
    Replace,
    /// The new one is declined.
    Decline,
}

/// What a file is: the same at every offer of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) topic: Box<str>,
    pub(crate) name: FileName,
    pub(crate) size: u64,
    pub(crate) digest: [u8; 32],
    pub(crate) is_directory: bool,
}

impl Identity {
    /// What its offer says.
    pub(crate) fn about(&self) -> About {
        About {
            name: self.name.as_str().into(),
            size: self.size,
            digest: self.digest,
            is_directory: self.is_directory,
        }
    }

    /// The name of the hidden file.
    fn part_name(&self) -> String {
        let mut hash = Sha256::new();
        for text in [self.topic.as_bytes(), self.name.as_str().as_bytes()] {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.update(self.size.to_be_bytes());
        hash.update(self.digest);
        let digest = hash.finalize();
        let hex: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        format!(".fastport-{hex}.part")
    }
}

/// Where a file goes.
#[derive(Debug)]
enum Place {
    /// A hidden file in that folder; locked as long as it is open.
    Folder { folder: PathBuf, path: PathBuf, file: File },
    /// Standard output: what went there is gone.
    Output,
}

/// A file on its way. at <= identity.size
#[derive(Debug)]
pub(crate) struct Part {
    identity: Identity,
    place: Place,
    hash: Sha256,
    at: u64,
}

impl Part {
    /// Begins a file in a folder, or goes on with what is there of it, as far as that is all or a
    /// multiple of `grain`.
    pub(crate) fn open(
        folder: &Path,
        identity: Identity,
        grain: usize,
    ) -> Result<Self, ReceiveError> {
        let path = folder.join(identity.part_name());
        let at_path = |why| ReceiveError::file(&path, why);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(at_path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ReceiveError::Busy),
            // a file system without locks
            Err(TryLockError::Error(_)) => {}
        }
        let place = Place::Folder { folder: folder.to_owned(), path: path.clone(), file };
        let mut part = Self { identity, place, hash: Sha256::new(), at: 0 };
        part.hash_what_is_there(grain as u64).map_err(at_path)?;
        match part.check_space(folder) {
            Ok(()) => Ok(part),
            Err(error) => {
                if part.at == 0 {
                    // of no use to anybody; if that fails the first fault is the one to tell
                    part.remove().unwrap_or_default();
                }
                Err(error)
            }
        }
    }

    /// Begins a file that goes to standard output.
    pub(crate) fn to_output(identity: Identity) -> Self {
        Self { identity, place: Place::Output, hash: Sha256::new(), at: 0 }
    }

    /// How much of it is here.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Whether all of it is here.
    pub(crate) fn is_whole(&self) -> bool {
        self.at == self.identity.size
    }

    /// Puts the next bytes behind those that are here.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), ReceiveError> {
        match &mut self.place {
            Place::Folder { file, path, .. } => {
                file.write_all(bytes).map_err(|why| ReceiveError::file(&*path, why))?;
            }
            Place::Output => {
                let mut out = io::stdout().lock();
                out.write_all(bytes)
                    .and_then(|()| out.flush())
                    .map_err(|why| ReceiveError::file("standard output", why))?;
            }
        }
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Gives the file its name, if it is what was offered; where it is then. What is not is begun
    /// anew by [`Part::restart`].
    pub(crate) fn finish(&mut self, when: WhenExists) -> Result<Option<PathBuf>, ReceiveError> {
        let digest: [u8; 32] = self.hash.clone().finalize().into();
        if digest != self.identity.digest || !self.is_whole() {
            return Err(ReceiveError::Damaged);
        }
        let Place::Folder { folder, path, file } = &self.place else { return Ok(None) };
        let at_path = |why| ReceiveError::file(path, why);
        if !self.identity.is_directory {
            file.sync_all().map_err(at_path)?;
            return put_in_place(path, folder, &self.identity.name, when).map(Some);
        }
        let unpacked = path.with_extension("folder");
        archive::unpack(file, &unpacked)?;
        let placed = put_in_place(&unpacked, folder, &self.identity.name, when)?;
        std::fs::remove_file(path).map_err(at_path)?;
        Ok(Some(placed))
    }

    /// Forgets what is here; `false`: it is gone out already.
    pub(crate) fn restart(&mut self) -> Result<bool, ReceiveError> {
        let Place::Folder { path, file, .. } = &mut self.place else { return Ok(false) };
        let emptied = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0)));
        emptied.map_err(|why| ReceiveError::file(&*path, why))?;
        (self.hash, self.at) = (Sha256::new(), 0);
        Ok(true)
    }

    /// Removes what is here: its room is wanted.
    pub(crate) fn remove(self) -> io::Result<()> {
        match self.place {
            Place::Folder { path, .. } => std::fs::remove_file(path),
            Place::Output => Ok(()),
        }
    }

    fn hash_what_is_there(&mut self, grain: u64) -> io::Result<()> {
        let Place::Folder { file, .. } = &mut self.place else { return Ok(()) };
        let length = file.metadata()?.len();
        let kept = match length {
            // of something else, then
            _ if length > self.identity.size => 0,
            _ if length == self.identity.size => length,
            _ => length - length % grain.max(1),
        };
        file.set_len(kept)?;
        let mut buffer = vec![0; BLOCK];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                length => {
                    self.hash.update(buffer.get(..length).unwrap_or_default());
                    self.at += length as u64;
                }
            }
        }
        Ok(())
    }

    fn check_space(&self, folder: &Path) -> Result<(), ReceiveError> {
        // a file system that does not say is tried
        let Ok(figures) = statvfs(folder) else { return Ok(()) };
        let free = figures.f_bavail.saturating_mul(figures.f_frsize);
        let needed = self.identity.size - self.at;
        match needed.checked_sub(free).filter(|&missing| missing > 0) {
            None => Ok(()),
            Some(missing) => Err(ReceiveError::NoSpace(Some(missing))),
        }
    }
}

/// Whether the folder has the very file already.
pub(crate) fn is_there(folder: &Path, identity: &Identity) -> bool {
    let path = folder.join(identity.name.as_str());
    let is_of_size =
        path.symlink_metadata().is_ok_and(|it| it.is_file() && it.len() == identity.size);
    is_of_size && digest_of(&path).is_ok_and(|digest| digest == identity.digest)
}

/// Whether the folder has something of that name.
pub(crate) fn is_taken(folder: &Path, name: &FileName) -> bool {
    folder.join(name.as_str()).symlink_metadata().is_ok()
}

/// SHA-256 of a file.
fn digest_of(path: &Path) -> io::Result<[u8; 32]> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BLOCK];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().into()),
            length => hash.update(buffer.get(..length).unwrap_or_default()),
        }
    }
}

/// Gives what is whole its name, and never another's place unasked.
fn put_in_place(
    from: &Path,
    folder: &Path,
    name: &FileName,
    when: WhenExists,
) -> Result<PathBuf, ReceiveError> {
    for number in 0..MOST_NUMBERS {
        let to = folder.join(name.numbered(number));
        let renamed = match when {
            WhenExists::Replace => std::fs::rename(from, &to),
            WhenExists::Number | WhenExists::Decline => rename_new(from, &to),
        };
        match renamed {
            Ok(()) => {
                // the name is to outlive a loss of power, where the file system can promise that
                File::open(folder).and_then(|folder| folder.sync_all()).unwrap_or_default();
                return Ok(to);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if when == WhenExists::Decline {
                    return Err(ReceiveError::Exists);
                }
            }
            Err(error) => return Err(ReceiveError::file(to, error)),
        }
    }
    Err(ReceiveError::Exists)
}

fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // a file system that cannot: between the look and the renaming another may come
        Err(Errno::INVAL | Errno::NOSYS) if to.symlink_metadata().is_err() => {
            std::fs::rename(from, to)
        }
        Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
        done => Ok(done?),
    }
}

/// Read at once.
const BLOCK: usize = 256 * 1024;
/// Files of one name in a folder.
const MOST_NUMBERS: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(bytes: &[u8]) -> Identity {
        Identity {
            topic: "files".into(),
            name: FileName::parse("a.txt").expect("a name"),
            size: bytes.len() as u64,
            digest: Sha256::digest(bytes).into(),
            is_directory: false,
        }
    }

    fn folder(test: &str) -> PathBuf {
        let id = std::process::id();
        let path = std::env::temp_dir().join(format!("fastport-part-{test}-{id}"));
        std::fs::create_dir_all(&path).expect("the folder for temporary files is writable");
        path
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let names = entries.map(|entry| entry.expect("readable").file_name());
        let mut names: Vec<String> =
            names.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_gets_its_name_once_it_is_whole_and_another_goes_on_where_one_stopped() {
        let folder = folder("resume");
        let mut part = Part::open(&folder, identity(b"hello"), 1).expect("a writable folder");
        part.write(b"he").expect("room");
        assert!(matches!(Part::open(&folder, identity(b"hello"), 1), Err(ReceiveError::Busy)));
        drop(part);
        let mut part = Part::open(&folder, identity(b"hello"), 1).expect("a writable folder");
        assert_eq!(part.at(), 2);
        assert!(matches!(part.finish(WhenExists::Number), Err(ReceiveError::Damaged)));
        assert!(names(&folder)[0].starts_with('.'));
        part.write(b"llo").expect("room");
        part.finish(WhenExists::Number).expect("whole");
        assert_eq!(names(&folder), ["a.txt"]);
        assert!(is_there(&folder, &identity(b"hello")) && !is_there(&folder, &identity(b"hullo")));
        std::fs::remove_dir_all(folder).expect("ours");
    }

    #[test]
    fn what_is_damaged_gets_no_name_and_begins_anew() {
        let folder = folder("damaged");
        let mut part = Part::open(&folder, identity(b"hello"), 1).expect("a writable folder");
        part.write(b"hullo").expect("room");
        assert!(matches!(part.finish(WhenExists::Replace), Err(ReceiveError::Damaged)));
        assert!(part.restart().expect("writable"));
        part.write(b"hello").expect("room");
        part.finish(WhenExists::Replace).expect("whole");
        assert_eq!(std::fs::read(folder.join("a.txt")).expect("there"), b"hello");
        std::fs::remove_dir_all(folder).expect("ours");
    }

    #[test]
    fn a_name_that_is_taken_is_numbered_replaced_or_declined() {
        for (when, expected) in [
            (WhenExists::Number, Some("a (1).txt")),
            (WhenExists::Replace, Some("a.txt")),
            (WhenExists::Decline, None),
        ] {
            let folder = folder(&format!("{when:?}"));
            std::fs::write(folder.join("a.txt"), b"old").expect("writable");
            let mut part = Part::open(&folder, identity(b"new"), 1).expect("a writable folder");
            part.write(b"new").expect("room");
            let placed = part.finish(when);
            match expected {
                Some(name) => {
                    assert_eq!(placed.expect("placed"), Some(folder.join(name)));
                    assert_eq!(std::fs::read(folder.join(name)).expect("there"), b"new");
                }
                None => assert!(matches!(placed, Err(ReceiveError::Exists))),
            }
            std::fs::remove_dir_all(folder).expect("ours");
        }
    }
}
