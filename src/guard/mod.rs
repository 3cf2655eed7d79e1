//! Who may come in and what they may do: credentials, access lists, and what an address may try.
//!
//! It promises: a secret is never printed, compared in a time that tells about it, or read from a
//! file that others may read; a table that strangers fill is bounded.

pub mod access;
pub mod credentials;
pub mod editor;
mod gate;
pub mod keys;
mod meter;
mod origin;
mod pace;
pub mod password;
mod refusals;
mod secret_file;
pub mod source;
#[cfg(feature = "tls")]
mod subject;

pub use access::FilterTemplate;
pub use credentials::{
    Credential, Credentials, Fingerprint, Identity, IdentityName, IdentityRecord, SessionRecord,
};
pub use editor::{EditError, Editor};
pub use gate::{Gate, Made, Visit};
pub use keys::DeviceKey;
pub use meter::Meters;
pub use origin::{Certificate, Origin};
pub use pace::Pacer;
pub use password::PasswordHash;
pub use refusals::RefusalLog;
pub use secret_file::read_password;
pub(crate) use secret_file::read_secret;
pub use source::{Refused, Source, SourceLimiter};
