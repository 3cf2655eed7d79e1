//! Transports: how bytes come to the hub and go from it.
//!
//! A link promises: its handshake ends within its deadline; an idle one owns no buffer and no
//! timer; what its peer does harms nobody else; bytes it could not read or write are no loss that
//! the ledger does not know of.

mod bind;
mod door;
mod drive;
mod faulty;
mod given;
mod handshake;
mod listener;
mod memory;
#[cfg(feature = "pack")]
mod packing;
mod pending;
mod stream;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "websocket")]
mod websocket;
#[cfg(not(feature = "pack"))]
mod without_packing;
#[cfg(not(feature = "tls"))]
mod without_tls;
#[cfg(not(feature = "websocket"))]
mod without_websocket;

#[cfg(not(feature = "pack"))]
use self::without_packing as packing;
#[cfg(not(feature = "tls"))]
use self::without_tls as tls;
#[cfg(not(feature = "websocket"))]
use self::without_websocket as websocket;

pub use self::bind::{BindError, Permission, adopt_tcp, adopt_unix, bind_tcp, bind_unix};
pub use self::door::{Door, Limits};
pub use self::faulty::{Faults, Faulty};
pub use self::listener::{Listener, Transport, TransportHandle};
pub use self::memory::{memory_link, serve_pipe, serve_websocket_pipe};
pub use self::tls::{TlsError, TlsSource};
