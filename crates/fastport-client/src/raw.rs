//! The parts of a link, for who drives them himself: a connection from its name to its first byte,
//! and the bytes of [`fastport_core::client::Client`] over it.

pub use crate::backoff::Backoff;
pub use crate::connect::{Connected, Connector};
pub use crate::link::{Connection, Input, Link};
pub use crate::web::Web;
