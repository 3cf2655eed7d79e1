//! The decisions of fastPort: what a peer may do, where a message goes, what is kept, what is
//! dropped and what is said about it.
//!
//! It promises: no I/O, no clock (`now` is an argument), no tasks, no panic on any input, and no
//! memory that grows with traffic outside its [`budget`].
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;
