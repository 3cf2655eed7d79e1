//! The parts of `fastportd` and `fastport`. See ARCHITECTURE.md for who may name whom, and for the features
//! that leave parts out.

pub mod app;
pub mod arguments;
pub mod board;
pub mod clock;
pub mod config;
pub mod guard;
pub mod hub;
pub mod journal;
pub mod link;
pub mod log;
pub mod status;
#[cfg(feature = "central")]
pub mod store;
pub mod supervise;
pub mod tool;
#[cfg(feature = "uplink")]
pub mod uplink;
