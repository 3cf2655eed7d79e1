//! Directories as tar archives: files and folders, nothing else. What is packed twice gives the same
//! bytes, as long as nothing changed. All of this blocks.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Component, Path};

use tar::{Archive, Builder, EntryType, HeaderMode};

use super::error::ReceiveError;

/// Packs a directory; what is neither file nor folder, such as a link, is left out: how many.
///
/// # Errors
/// The system's.
pub fn pack(directory: &Path, out: &mut File) -> io::Result<u64> {
    let mut builder = Builder::new(BufWriter::with_capacity(BLOCK, out));
    builder.mode(HeaderMode::Complete);
    builder.follow_symlinks(false);
    let mut left_out = 0;
    pack_into(&mut builder, directory, Path::new(""), &mut left_out)?;
    builder.into_inner()?.flush()?;
    Ok(left_out)
}

fn pack_into(
    builder: &mut Builder<BufWriter<&mut File>>,
    directory: &Path,
    inside: &Path,
    left_out: &mut u64,
) -> io::Result<()> {
    let mut entries = std::fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
    // the same each time
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let (path, inside) = (entry.path(), inside.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            builder.append_dir(&inside, &path)?;
            pack_into(builder, &path, &inside, left_out)?;
        } else if kind.is_file() {
            builder.append_file(&inside, &mut File::open(&path)?)?;
        } else {
            *left_out += 1;
        }
    }
    Ok(())
}

/// Unpacks an archive into a directory, which is made anew.
pub(super) fn unpack(file: &File, into: &Path) -> Result<(), ReceiveError> {
    let at_path = |why| ReceiveError::file(into, why);
    if into.symlink_metadata().is_ok() {
        // of a time before that did not come to its end
        std::fs::remove_dir_all(into).map_err(at_path)?;
    }
    std::fs::create_dir(into).map_err(at_path)?;
    let mut file = file;
    file.seek(SeekFrom::Start(0)).map_err(at_path)?;
    let unpacked = unpack_all(file, into);
    if unpacked.is_err() {
        std::fs::remove_dir_all(into).map_err(at_path)?;
    }
    unpacked
}

fn unpack_all(file: &File, into: &Path) -> Result<(), ReceiveError> {
    let bad = |why: &dyn std::fmt::Display| ReceiveError::BadArchive(why.to_string());
    let mut archive = Archive::new(BufReader::with_capacity(BLOCK, file));
    archive.set_preserve_permissions(false);
    archive.set_unpack_xattrs(false);
    for entry in archive.entries().map_err(|why| bad(&why))? {
        let mut entry = entry.map_err(|why| bad(&why))?;
        let kind = entry.header().entry_type();
        if !matches!(kind, EntryType::Regular | EntryType::Directory) {
            return Err(bad(&"it has more in it than files and folders"));
        }
        let path = entry.path().map_err(|why| bad(&why))?.into_owned();
        let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !is_inside {
            return Err(bad(&"it has a name in it that leads elsewhere"));
        }
        // looks again, and through links
        let unpacked = entry.unpack_in(into).map_err(|why| match why.kind() {
            io::ErrorKind::StorageFull => ReceiveError::NoSpace(None),
            _ => ReceiveError::file(into.join(&path), why),
        })?;
        if !unpacked {
            return Err(bad(&"it has a name in it that leads elsewhere"));
        }
    }
    Ok(())
}

/// Read and written at once.
const BLOCK: usize = 256 * 1024;
