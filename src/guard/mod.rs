//! Credentials, rights, rates: who may come in and do what.

mod gate;
mod meter;
mod origin;

pub use self::gate::{Gate, Visit};
pub use self::meter::Meters;
pub use self::origin::Origin;
