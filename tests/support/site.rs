//! A gateway with its central instance, both as processes of their own, which a test may kill and
//! start again as often as it likes.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fastport_client::{BackoffOptions, Options, Secret, Target, WhenFull};

use super::access;
use super::support::Daemon;

/// The device key of the gateway at the central instance.
pub const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// What the two processes are told, and where they keep what outlives them.
pub struct Site {
    folder: PathBuf,
    central_port: u16,
    gateway_port: u16,
    /// More of the gateway's configuration, `[uplink]` being the table at its end.
    pub gateway_lines: String,
    /// Where the gateway's journals are.
    pub gateway_journal: &'static str,
    /// URLs of central instances that are more of a favourite, each with a comma behind it.
    pub first_central: String,
    /// More URLs of central instances, each with a comma before it.
    pub more_central: String,
    /// `limits.linger` of the central instance.
    pub central_linger: &'static str,
    /// How long its store waits for more.
    pub central_commit: &'static str,
    /// More of the central instance's configuration.
    pub central_lines: String,
}

impl Site {
    /// A site in a folder of its own.
    pub fn new(folder: &Path) -> Self {
        for name in ["central", "gateway"] {
            std::fs::create_dir_all(folder.join(name).join("state")).expect("a folder");
        }
        let identity = access::identity(
            "gw",
            &format!(
                "key = \"{KEY}\"\ngateway = true\npublish = [\"gateways/%d/#\"]\n\
                 subscribe = [\"gateways/%d/#\"]"
            ),
        );
        access::secret_file(&folder.join("central"), "credentials.toml", &identity);
        access::secret_file(&folder.join("gateway"), "gw.key", KEY);
        let [central_port, gateway_port] = free_ports();
        Self {
            folder: folder.to_owned(),
            central_port,
            gateway_port,
            gateway_lines: String::new(),
            gateway_journal: "disk",
            first_central: String::new(),
            more_central: String::new(),
            central_linger: "1h",
            central_commit: "5ms",
            central_lines: String::new(),
        }
    }

    /// Starts the central instance, and waits until it is ready.
    pub fn start_central(&self) -> Daemon {
        Daemon::start(&self.folder.join("central"), &self.central_config())
    }

    /// Starts the gateway, and waits until it is ready.
    pub fn start_gateway(&self) -> Daemon {
        Daemon::start(&self.folder.join("gateway"), &self.gateway_config())
    }

    /// Starts the central instance, and does not wait for it.
    pub fn launch_central(&self) -> Daemon {
        Daemon::launch(&self.folder.join("central"), &self.central_config())
    }

    /// Starts the gateway, and does not wait for it.
    pub fn launch_gateway(&self) -> Daemon {
        Daemon::launch(&self.folder.join("gateway"), &self.gateway_config())
    }

    /// Starts the gateway by a command of one's own, and waits until it is ready.
    pub fn start_gateway_by(&self, mut command: Command) -> Daemon {
        let path = self.folder.join("gateway/gateway.toml");
        std::fs::write(&path, self.gateway_config()).expect("the test's folder is writable");
        command.arg("--config").arg(&path).env("FASTPORT_DAEMON_LOG_FORMAT", "text");
        Daemon::spawn(&mut command)
    }

    /// As [`Site::start_gateway`], with environment variables.
    pub fn start_gateway_with(&self, environment: &[(&str, &str)]) -> Daemon {
        Daemon::start_with(&self.folder.join("gateway"), &self.gateway_config(), environment)
    }

    /// The central instance's configuration.
    pub fn central_config(&self) -> String {
        format!(
            r#"
[daemon]
state = "state"

[board]
enabled = false

[limits]
linger = "{}"

[[listen]]
kind = "tcp"
address = "127.0.0.1:{}"

[access]
credentials = "credentials.toml"

[[session]]
name = "home"
open = true
promise = "journal"

[journal]
place = "disk"

[central]
enabled = true
commit = "{}"
connects_per_second = 0
{}
"#,
            self.central_linger, self.central_port, self.central_commit, self.central_lines
        )
    }

    /// The gateway's configuration.
    pub fn gateway_config(&self) -> String {
        format!(
            r#"
[daemon]
{}

[board]
enabled = false

[limits]
linger = "1h"

[[listen]]
kind = "tcp"
address = "127.0.0.1:{}"

[[session]]
name = "home"
open = true
promise = "journal"

[journal]
place = "{}"

[uplink]
central = [{}"tcp://127.0.0.1:{}"{}]
identity = "gw"
key = "gw.key"
prefix = "gateways/%d"
retry_first = "20ms"
retry_most = "200ms"
{}
"#,
            if self.gateway_journal == "disk" { "state = \"state\"" } else { "" },
            self.gateway_port,
            self.gateway_journal,
            self.first_central,
            self.central_port,
            self.more_central,
            self.gateway_lines
        )
    }

    /// The file with what the central instance holds.
    pub fn store(&self) -> PathBuf {
        self.folder.join("central/state/central.db")
    }

    /// A client of the gateway.
    pub fn device(&self, name: &str) -> Options {
        client(self.gateway_port, name)
    }

    /// A client of the central instance.
    pub fn operator(&self, name: &str) -> Options {
        client(self.central_port, name)
    }
}

fn client(port: u16, name: &str) -> Options {
    let target = Target::parse(&format!("tcp://127.0.0.1:{port}")).expect("a URL");
    let mut options = Options::new(target, "home");
    options.name = name.to_owned();
    options.secret = Secret::None;
    options.when_full = Some(WhenFull::Hold);
    options.linger = 3600;
    options.close_timeout = Duration::from_secs(30);
    options.backoff = BackoffOptions {
        first: Duration::from_millis(20),
        most: Duration::from_millis(200),
        ..BackoffOptions::default()
    };
    options
}

/// Ports that nobody listened at a moment ago. A daemon that is killed comes back to its own.
fn free_ports<const N: usize>() -> [u16; N] {
    // all at once, so that they differ
    let held: [TcpListener; N] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    held.map(|listener| listener.local_addr().expect("bound").port())
}
