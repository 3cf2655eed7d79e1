//! The spool's promises, on real files.

mod damage;
mod full;
mod model;
mod promises;
mod rig;
mod steps;
