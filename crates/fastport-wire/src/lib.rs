//! The fastPort wire format: frames, control messages, readings, serial packets.
//!
//! It promises: any byte string decodes to values or to one [`WireError`]; nothing here panics,
//! allocates (without the feature `std`), reads a clock or does I/O. What a frame means is decided
//! elsewhere. The normative text is `docs/protocol.md`.
#![no_std]

#[cfg(any(feature = "std", test))]
extern crate std;

pub mod accumulator;
pub mod control;
pub mod error;
pub mod field;
pub mod frame;
#[cfg(feature = "std")]
pub mod json;
pub mod packet;
pub mod readings;
pub mod schema;
#[cfg(feature = "std")]
pub mod senml;
pub mod topic;
pub mod value;
pub mod varint;

pub use error::WireError;
pub use frame::{Frame, TopicId};
pub use readings::{Reading, Readings, ReadingsEncoder, Stamp};
pub use schema::Schema;
pub use topic::{Filter, Topic};
pub use value::{Decimal, Value};
