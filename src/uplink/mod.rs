//! What goes from this gateway to a central instance, and back.
//!
//! It promises: what a rule takes up is acknowledged to its publisher as *central* only when the
//! central instance has it, and is sent again until then, whichever of the two daemons was away in
//! between; each counted message arrives once. A network that is not there, or a central instance
//! that refuses, ends nothing here. State changes are logged, attempts are counted.
//!
//! Each lane is a peer of the local session and a peer of the central instance, and a task that
//! carries frames between the two.

mod bridge;
mod ceiling;
mod choice;
mod commit;
mod drain;
mod figures;
mod filler;
mod flow;
mod fresh;
mod gather;
mod lane;
mod local;
mod note;
mod retry;
mod rules;
mod run;
pub mod spool;
mod store;
mod way;
mod wire;

pub use self::figures::Figures;
pub use self::lane::{Memory, Uplink, UplinkError};
pub use self::local::IDENTITY;
pub use self::rules::{Carried, Rules};
