//! The parts of `fastportd` and `fastport`. See ARCHITECTURE.md for who may name whom.

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
pub mod store;
pub mod supervise;
pub mod tool;
pub mod uplink;
