//! PACK frames: several whole frames in one, compressed as an LZ4 block.
//!
//! It promises: what is unpacked is what was packed, byte by byte, and whole frames; a PACK that is
//! anything else is refused before any of it is acted on; never more than [`MAX_PACK`] bytes come out
//! of one, whatever it says. It keeps no more than one batch, opens nothing and reads no clock.

#![no_std]

extern crate alloc;

mod packer;
mod unpack;

pub use fastport_wire::field::MAX_PACK;

pub use self::packer::{BATCH, Packer};
pub use self::unpack::{PackError, Part, first_part, unpack};
