//! The parts of `fastportd` and `fastport`. See ARCHITECTURE.md for who may name whom.

pub mod config;
pub mod guard;
