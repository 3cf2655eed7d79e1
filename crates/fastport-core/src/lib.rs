//! The decisions of fastPort: what a peer may do, where a message goes, what is kept, what is
//! dropped and what is said about it.
//!
//! It promises: no I/O, no clock (`now` is an argument), no tasks, no panic on any input, and no
//! memory that grows with traffic outside its [`budget`].
//!
//! - [`handshake`] takes a link from its first byte to a place in a session;
//! - [`session`] is the relay of one session: peers, topics, fan-out, retention, timers;
//! - [`client`] is the other end: what a peer does;
//! - [`stream`] is what both have for files: where chunks wait, and whose turn it is.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod ages;
pub mod bucket;
pub mod budget;
pub mod client;
pub mod handshake;
pub mod ledger;
pub mod matcher;
pub mod outbox;
pub mod proof;
pub mod retention;
pub mod rights;
pub mod session;
pub mod stream;
pub mod time;
pub mod wheel;
