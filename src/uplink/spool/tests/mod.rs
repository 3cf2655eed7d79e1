//! The spool's promises, on real files.

mod promises;
mod rig;
