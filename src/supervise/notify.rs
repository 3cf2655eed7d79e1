//! The seam to the service manager: sd_notify(3), by whichever crate is built in.

use std::io;
use std::os::fd::BorrowedFd;

/// Sends assignments, with a file descriptor where one is to be kept; whether somebody listens.
///
/// # Errors
/// What the socket says.
#[cfg(feature = "systemd")]
pub(super) fn send(
    state: &[(&'static str, String)],
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<bool> {
    use std::os::fd::AsRawFd;

    let fds: Vec<_> = fd.iter().map(AsRawFd::as_raw_fd).collect();
    systemd::daemon::pid_notify_with_fds(0, state.iter(), &fds).map_err(io::Error::other)
}

/// As with libsystemd.
#[cfg(all(feature = "sd-notify", not(feature = "systemd")))]
pub(super) fn send(
    state: &[(&'static str, String)],
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<bool> {
    use sd_notify::NotifyState;

    if std::env::var_os(SOCKET).is_none() {
        return Ok(false);
    }
    let lines: Vec<String> = state.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let state: Vec<_> = lines.iter().map(|line| NotifyState::Custom(line)).collect();
    match fd {
        Some(fd) => sd_notify::notify_with_fds(&state, &[fd]),
        None => sd_notify::notify(&state),
    }
    .map(|()| true)
}

/// Nobody is told.
#[cfg(not(any(feature = "systemd", feature = "sd-notify")))]
#[allow(clippy::unnecessary_wraps, reason = "the others can fail")]
pub(super) fn send(_: &[(&'static str, String)], _: Option<BorrowedFd<'_>>) -> io::Result<bool> {
    Ok(false)
}

/// Whether there is a service manager that listens, and this build can speak to it.
pub(super) fn is_heard() -> bool {
    cfg!(any(feature = "systemd", feature = "sd-notify")) && std::env::var_os(SOCKET).is_some()
}

const SOCKET: &str = "NOTIFY_SOCKET";
