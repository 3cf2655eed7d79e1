//! What a log holds that SQLite did not take: it reads a log up to the first page that is wrong, and
//! says nothing of what is behind.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use super::database::log_of;

/// Transactions in the log of `path` behind its first `pages` pages, as far as their heads can be
/// read, at least one where there are pages. The last may not have come to its end.
pub(super) fn unread(path: &Path, pages: u64) -> io::Result<u64> {
    let file = match File::open(log_of(path)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut file = BufReader::new(file);
    let mut head = [0; HEAD];
    if !read_whole(&mut file, &mut head)? {
        return Ok(0);
    }
    let page = u64::from(number(&head, 8));
    if !(512..=65_536).contains(&page) {
        // nothing in it can be found; an empty log has a head that is right
        return Ok(1);
    }
    let (mut transactions, mut has_pages) = (0, false);
    let mut place = 0;
    let mut frame = [0; FRAME_HEAD];
    while read_whole(&mut file, &mut frame)? {
        let is_of_this_log = frame[8..16] == head[16..24];
        if place >= pages && is_of_this_log {
            has_pages = true;
            transactions += u64::from(number(&frame, 4) > 0);
        }
        place += 1;
        io::copy(&mut (&mut file).take(page), &mut io::sink())?;
    }
    Ok(transactions.max(u64::from(has_pages)))
}

/// `false`: the file ends before.
fn read_whole(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The big-endian number at a place in a head.
fn number(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..).and_then(|from| from.first_chunk());
    u32::from_be_bytes(*four.expect("places are within the heads"))
}

/// Of the log: 8 page size, 16 and 20 salts.
const HEAD: usize = 32;
/// Of a page: 4 pages of the file if a transaction ends here, 8 and 12 salts.
const FRAME_HEAD: usize = 24;
