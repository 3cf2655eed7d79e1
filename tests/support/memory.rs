//! Looking for bytes in the memory of a process of ours.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The first key of a file with keys to seal with: its bytes, and the digits that it is written in.
pub(crate) fn key_and_digits(path: &Path) -> (Vec<u8>, String) {
    let text = fs::read_to_string(path).expect("the folder is ours");
    let digits = text.split_whitespace().next().expect("a key").to_owned();
    let key = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits"))
        .collect();
    (key, digits)
}

/// Which of these byte strings lie anywhere in a process's memory.
pub(crate) fn find_in_memory(pid: u32, wanted: &[&[u8]]) -> Vec<bool> {
    let process = Path::new("/proc").join(pid.to_string());
    let maps = fs::read_to_string(process.join("maps")).expect("the child is ours");
    let mut memory = fs::File::open(process.join("mem")).expect("the child is ours");
    let mut found = vec![false; wanted.len()];
    let mut bytes_read = 0;
    let mut begins = [false; 256];
    wanted.iter().for_each(|wanted| begins[usize::from(wanted[0])] = true);
    for line in
        maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|m| m.starts_with('r')))
    {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let (start, end) = range.expect("maps has ranges");
        let [start, end] = [start, end].map(|at| u64::from_str_radix(at, 16).expect("an address"));
        let mut bytes = vec![0; usize::try_from(end - start).expect("it fits into memory there")];
        // the kernel's own pages cannot be read
        if memory.seek(SeekFrom::Start(start)).and_then(|_| memory.read_exact(&mut bytes)).is_err()
        {
            continue;
        }
        bytes_read += bytes.len();
        for (at, &byte) in bytes.iter().enumerate().filter(|(_, byte)| begins[usize::from(**byte)])
        {
            for (found, wanted) in found.iter_mut().zip(wanted) {
                *found |= byte == wanted[0] && bytes[at..].starts_with(wanted);
            }
        }
    }
    assert!(bytes_read > 1024 * 1024, "{bytes_read} bytes were read");
    found
}
