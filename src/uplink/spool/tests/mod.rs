//! The spool's promises, on real files.

mod damage;
mod model;
mod promises;
mod rig;
