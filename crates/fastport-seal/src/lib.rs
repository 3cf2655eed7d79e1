//! End-to-end sealing: what a relay carries and cannot read. `docs/sealing.md` is the specification.
//!
//! A [`SessionKey`] in a session gives a [`Scope`]; from it each sender has keys of its own. A
//! [`Sealer`] seals a sender's messages, [`open`] opens those of all senders; a [`StreamSealer`] and
//! a [`StreamOpener`] do the same for the chunks of a stream.
//!
//! It promises: everything is done in the caller's buffer, without alloc; nothing is decrypted that
//! is not authentic; what does not open is called by a name of its own ([`OpenError`]); keys are
//! erased when they are dropped; no I/O, no clock, no randomness (counters are reserved by the
//! caller, see [`Counters`]), and no panic on any input.
//!
//! ```
//! use fastport_seal::{
//!     Content, Few, Freshness, MESSAGE_HEAD, Sealer, SenderId, SessionKey, open, sealed_len,
//! };
//!
//! # fn main() -> Result<(), Box<dyn core::error::Error>> {
//! let scope = SessionKey::new([7; 32]).scope("home");
//! let mut sealer = Sealer::new(&scope, SenderId(*b"sender 1"), 0);
//! if let Some(up_to) = sealer.wants() {
//!     // here `up_to` is written where it survives a restart
//!     sealer.reserved(up_to);
//! }
//!
//! let mut buffer = [0; sealed_len(5)];
//! buffer[MESSAGE_HEAD..][..5].copy_from_slice(b"21.37");
//! let content = Content::message("boiler/temperature");
//! let sealed = sealer.seal(content, &mut buffer, 5)?;
//!
//! let mut senders = Few::<4, 16>::new();
//! let sealed = &mut buffer[..sealed.len];
//! let opened = open(&[scope], &mut senders, content, Freshness::New, sealed)?;
//! assert_eq!(opened.plain, b"21.37");
//! # Ok(())
//! # }
//! ```
#![no_std]

#[cfg(test)]
extern crate std;

mod content;
mod counters;
mod error;
mod head;
mod key;
mod opener;
mod sealer;
mod senders;
mod stream;
mod suite;
mod window;

pub use content::Content;
pub use counters::Counters;
pub use error::{ChunkError, OpenError, SealError, Unfinished};
pub use head::{MESSAGE_HEAD, sealed_len};
pub use key::{KeyId, Scope, SenderId, SessionKey};
pub use opener::{Freshness, Opened, open, open_offer};
pub use sealer::{Sealed, Sealer};
pub use senders::{Few, Known, Senders};
pub use stream::{CHUNK_HEAD, StreamOpener, StreamSealer, sealed_chunk_len};
pub use suite::{BLOCK, TAG};
pub use window::Window;
