//! What the service manager is told. With the feature `systemd` it is systemd, through libsystemd;
//! without it the daemon runs the same, and tells nobody.

#[cfg(feature = "systemd")]
mod systemd;

/// A change that a service manager waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// All listeners are bound.
    Ready,
    /// The configuration is being read again; [`Change::Ready`] follows.
    Reloading,
    /// The links are being closed.
    Stopping,
}

/// Tells the service manager, if there is one.
pub fn tell(change: Change) {
    #[cfg(feature = "systemd")]
    systemd::tell(change);
    #[cfg(not(feature = "systemd"))]
    let _nobody_listens = change;
}
