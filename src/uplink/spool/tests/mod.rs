//! The spool's promises, on real files.

mod model;
mod promises;
mod rig;
