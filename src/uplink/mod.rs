//! The uplink: chosen topics to a central instance and back, nothing lost on the way.

pub mod spool;
