//! Files over streams: offered by one client, taken by others, whole or not at all.
//!
//! On topics that [`crate::Options::seal`] names files are sealed, and others are not taken there.
//!
//! It promises: what is received is checked by size and SHA-256 before its name appears; both ends
//! go on where they were after a lost link, a restart of the relay or of either; what waits in memory
//! for a file is bounded by a window; no name from outside leads out of the folder.

mod archive;
mod error;
mod name;
mod part;
mod receive;
mod registry;
mod sealed;
mod send;
mod source;
mod take;

pub use self::archive::pack as pack_directory;
pub use self::error::{ReceiveError, SendError};
pub use self::name::{FileName, NameError};
pub use self::part::WhenExists;
pub use self::receive::{FileEvent, Place, ReceiveOptions, Receiving};
pub(crate) use self::registry::Registry;
pub use self::send::{SendProgress, Sending};
pub use self::source::FileSource;
