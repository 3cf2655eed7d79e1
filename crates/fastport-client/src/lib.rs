//! fastPort client library for tokio.
//!
//! [`init`] connects to a relay and gives a [`Client`]; `get` calls back for each message of the
//! topics that a filter selects, `emit` publishes one. One task drives the link: it reconnects, with
//! growing, random pauses, and goes on where it was; what was published counted is published again.
//!
//! It promises: what waits anywhere is bounded in bytes (publishers wait for the outbox, a slow
//! subscriber slows the link or loses its oldest messages with a gap in their place); every error is
//! typed; with [`Options::seal`] what is published is sealed end to end, and what comes is opened; a
//! password does not cross a network unprotected unless [`Options::allow_plain_password`]
//! says so.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use fastport_client::{Options, Target, init};
//!
//! let client = init(Options::new(Target::parse("tcp://127.0.0.1")?, "demo")).await?;
//! client.get("chat/#", |message| println!("{}: {:?}", message.topic, message.payload)).await?;
//! client.emit("chat/room1", b"Hello!").await?;
//! client.close().await?;
//! # Ok(())
//! # }
//! ```

mod backoff;
mod book;
mod client;
mod connect;
mod desk;
mod driver;
mod error;
pub mod files;
mod link;
mod options;
mod proxy;
mod publisher;
mod race;
pub mod raw;
mod seal;
mod sealing;
mod shared;
mod subscription;
mod target;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "websocket")]
mod web;
#[cfg(not(feature = "tls"))]
mod without_tls;
#[cfg(not(feature = "websocket"))]
mod without_web;

#[cfg(not(feature = "tls"))]
use self::without_tls as tls;
#[cfg(not(feature = "websocket"))]
use self::without_web as web;

pub use fastport_core::client::{Fault, Secret};
pub use fastport_seal::{KeyId, OpenError, SenderId, SessionKey, StreamOpener, StreamSealer};
pub use fastport_wire::control::{Tier, WhenFull};
pub use fastport_wire::frame::{DataFlags, GapCause};

pub use backoff::BackoffOptions;
pub use client::{Client, Getting, Undelivered, init};
pub use error::{ConnectError, PublishError, Refused, RequestError, WaitError};
pub use options::{
    CertificateTime, OpenOptions, Options, Past, SubscribeOptions, TlsFiles, WhenSlow,
};
pub use proxy::{Proxy, ProxyError};
pub use publisher::Publisher;
pub use seal::{KeyRing, KeyRingError, NotOpened, SealFailure, SealFigures, SealOptions};
pub use shared::LinkState;
pub use subscription::{Delivery, Incoming, Subscription};
pub use target::{Target, TargetError, Transport};
