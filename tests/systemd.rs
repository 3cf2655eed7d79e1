//! What systemd is told, over a real notification socket.
#![allow(clippy::panic, reason = "a failed expectation is what a test is for")]

mod support;

use std::os::unix::net::UnixDatagram;

use self::support::{DEADLINE, Daemon};

const CONFIG: &str = r#"
board = { enabled = false }
listen = [{ kind = "tcp", address = "127.0.0.1:0" }]
session = [{ name = "demo", open = true }]
"#;

#[test]
fn systemd_hears_of_ready_reload_and_stop() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("the folder is writable");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout over 0");
    let heard = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).expect("something is said in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let socket_path = path.to_str().expect("a plain path");
    let mut daemon = Daemon::start_with(folder.path(), CONFIG, &[("NOTIFY_SOCKET", socket_path)]);
    assert_eq!(heard().trim(), "READY=1");
    daemon.signal("HUP");
    let reloading = heard();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(heard().trim(), "READY=1");
    daemon.signal("TERM");
    assert_eq!(heard().trim(), "STOPPING=1");
    assert_eq!(daemon.wait(), Some(0));
}
