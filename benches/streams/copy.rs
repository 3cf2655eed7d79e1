//! The floor: bytes from one socket to another, without looking at them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use rustix::time::{ClockId, clock_gettime};

use crate::connect;

/// Copies so many bytes from a sender through a thread that only reads and writes to a receiver; the
/// CPU seconds of that thread.
pub(crate) fn copy(bytes: u64) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("it is bound").to_string();
    let mut sink = connect(&address);
    let (to, _) = listener.accept().expect("it was just made");
    let mut source = connect(&address);
    let (from, _) = listener.accept().expect("it was just made");
    std::thread::scope(|scope| {
        let carrier = scope.spawn(move || carry(from, to, bytes));
        scope.spawn(move || {
            let block = vec![7; BLOCK];
            let mut left = bytes;
            while left > 0 {
                let length = left.min(BLOCK as u64);
                let length = usize::try_from(length).unwrap_or(BLOCK);
                source.write_all(&block[..length]).expect("it is read");
                left -= length as u64;
            }
        });
        let mut block = vec![0; 4 * BLOCK];
        let mut left = bytes;
        while left > 0 {
            left -= sink.read(&mut block).expect("it is written") as u64;
        }
        carrier.join().expect("no panic")
    })
}

fn carry(mut from: TcpStream, mut to: TcpStream, bytes: u64) -> f64 {
    let mut block = vec![0; BLOCK];
    let mut left = bytes;
    while left > 0 {
        let length = from.read(&mut block).expect("it is written");
        to.write_all(&block[..length]).expect("it is read");
        left -= length as u64;
    }
    let cpu = clock_gettime(ClockId::ThreadCPUTime);
    cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9
}

/// As much as the daemon reads at once.
const BLOCK: usize = 64 * 1024;
