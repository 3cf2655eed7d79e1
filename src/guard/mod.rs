//! Who may come in and what they may do: credentials, access lists, rates, and what an address may
//! try.
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
pub mod password;
mod secret_file;
pub mod source;

pub use self::access::{AccessList, FilterTemplate};
pub use self::credentials::{
    Credential, Credentials, Fingerprint, Identity, IdentityName, IdentityRecord, SessionRecord,
};
pub use self::editor::{EditError, Editor};
pub use self::gate::{Gate, Visit};
pub use self::keys::DeviceKey;
pub use self::meter::Meters;
pub use self::origin::Origin;
pub use self::password::PasswordHash;
pub use self::source::{Refused, Source, SourceLimiter};
