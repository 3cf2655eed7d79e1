//! Transports: how bytes come to the hub and go from it.
//!
//! A link promises: its handshake ends within its deadline; an idle one owns no buffer and no
//! timer; what its peer does harms nobody else; bytes it could not read or write are no loss that
//! the ledger does not know of.

mod door;
mod drive;
mod faulty;
mod handshake;
mod listener;
mod memory;
mod pending;
mod stream;
#[cfg_attr(not(feature = "tls"), path = "without_tls.rs")]
mod tls;
#[cfg_attr(not(feature = "websocket"), path = "without_websocket.rs")]
mod websocket;

pub use self::door::{Door, Limits};
pub use self::faulty::{Faults, Faulty};
pub use self::listener::{
    BindError, Listener, Transport, TransportHandle, adopt_tcp, adopt_unix, bind_tcp, bind_unix,
};
pub use self::memory::{memory_link, serve_pipe, serve_websocket_pipe};
pub use self::tls::{TlsError, TlsSource};
