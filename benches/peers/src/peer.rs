//! The relays under test: how each is started.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;

use crate::protocol::ProtocolKind;
use crate::relay::Relay;
use crate::transport::{Dialect, Endpoint, TransportKind, tls};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    pub name: String,
    /// A path, or a name that is looked for in the folders of PEERBENCH_PATH, then in those of PATH.
    binary: String,
    /// `{conf}`, `{port}` and `{dir}` are filled in.
    args: Vec<String>,
    /// A file beside peers.toml, copied with the same, `{port2}`, `{port3}` and `values` filled in.
    conf: Option<PathBuf>,
    /// What is filled in for `{name}`. `{listen}` is, of `listen_tcp` and so on, the one of the
    /// transport under test.
    #[serde(default)]
    values: BTreeMap<String, String>,
    /// Empty: the relay's protocol is not spoken here, only its footprint can be taken.
    #[serde(default)]
    protocols: Vec<String>,
    /// Arguments that make it print its version.
    #[serde(default)]
    version_args: Vec<String>,
    /// Cases of throughput for which this is a variant of another entry; with 32 bytes only.
    #[serde(default)]
    only: Vec<String>,
    #[serde(skip)]
    base: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PeersFile {
    peer: Vec<Peer>,
}

pub fn load(path: &Path) -> Result<Vec<Peer>> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut peers =
        toml::from_str::<PeersFile>(&text).with_context(|| path.display().to_string())?.peer;
    for peer in &mut peers {
        peer.base = path.parent().unwrap_or(Path::new(".")).to_path_buf();
        peer.protocols()?;
    }
    Ok(peers)
}

impl Peer {
    pub fn protocols(&self) -> Result<Vec<ProtocolKind>> {
        self.protocols
            .iter()
            .map(|p| p.parse().map_err(|e| anyhow!("{}: {e}", self.name)))
            .collect()
    }

    /// The protocol of a run that names none.
    pub fn first_protocol(&self) -> Result<ProtocolKind> {
        let first = self.protocols()?.first().copied();
        first.with_context(|| format!("{}: no protocol of it is spoken here", self.name))
    }

    /// Whether it is another relay set in another way, and only some works are of interest.
    pub fn is_variant(&self) -> bool {
        !self.only.is_empty()
    }

    /// Whether a suite runs this work with it.
    pub fn does(&self, case: &str, payload: usize) -> bool {
        !self.is_variant() || payload == 32 && self.only.iter().any(|only| only == case)
    }

    /// The program file, links resolved.
    pub fn binary(&self) -> Result<PathBuf> {
        if self.binary == SELF {
            return Ok(std::env::current_exe()?);
        }
        if self.binary.contains('/') {
            return Ok(PathBuf::from(&self.binary));
        }
        let own = std::env::var_os("PEERBENCH_PATH").unwrap_or_default();
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&own)
            .chain(std::env::split_paths(&path))
            .map(|dir| dir.join(&self.binary))
            .find(|file| file.is_file())
            .with_context(|| {
                format!("{}: no {} in PEERBENCH_PATH or PATH", self.name, self.binary)
            })?
            .canonicalize()
            .map_err(Into::into)
    }

    /// The first line that has a digit, of what it prints when asked for its version.
    pub fn version(&self) -> String {
        let Ok(binary) = self.binary() else { return "not found".into() };
        if self.version_args.is_empty() {
            return String::new();
        }
        let Ok(output) = Command::new(binary).args(&self.version_args).output() else {
            return "does not run".into();
        };
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text)
            .lines()
            .find(|line| line.contains(|c: char| c.is_ascii_digit()))
            .unwrap_or("")
            .trim()
            .to_string()
    }

    /// The same relay out of another file.
    pub fn with_binary(&self, name: &str, file: &Path) -> Result<Peer> {
        let file = file.canonicalize().with_context(|| file.display().to_string())?;
        let binary = file.into_os_string().into_string();
        let binary = binary.map_err(|path| anyhow!("{} is not UTF-8", path.display()))?;
        Ok(Peer { name: name.to_string(), binary, ..self.clone() })
    }

    /// Starts an instance of it on a free loopback port and waits until it accepts connections. It
    /// is killed when this thread ends.
    pub fn start(&self, transport: TransportKind) -> Result<Relay> {
        self.launch(transport, true, Duration::from_millis(20)).map(|(relay, _)| relay)
    }

    /// From starting the program to the first connection that it accepts.
    pub fn time_to_accept(&self, transport: TransportKind) -> Result<Duration> {
        self.launch(transport, false, Duration::from_micros(100)).map(|(_, took)| took)
    }

    fn launch(
        &self,
        transport: TransportKind,
        guarded: bool,
        poll: Duration,
    ) -> Result<(Relay, Duration)> {
        let folder = Folder::new(self, transport)?;
        let log = folder.dir.join("log");
        let mut command = if guarded {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["run", "--"]).arg(self.binary()?);
            command
        } else {
            Command::new(self.binary()?)
        };
        command
            .args(self.args.iter().map(|arg| folder.fill(arg)))
            .current_dir(&folder.dir)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {}", self.name))?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, folder.ports[0]));
        let endpoint = Endpoint { addr, dialect: folder.dialect };
        let mut relay = Relay { child, endpoint, dir: folder.dir };
        relay.until_listening(poll).with_context(|| format!("starting {}", self.name))?;
        Ok((relay, started.elapsed()))
    }
}

/// A folder of a run, with what a relay reads in it.
struct Folder {
    dir: PathBuf,
    ports: [u16; 3],
    /// What is filled in: `{name}` and its value, in this order.
    values: Vec<(String, String)>,
    dialect: Dialect,
}

impl Folder {
    fn new(peer: &Peer, transport: TransportKind) -> Result<Self> {
        let ports = free_ports()?;
        let dir =
            std::env::temp_dir().join(format!("peerbench-{}-{}", std::process::id(), ports[0]));
        fs::create_dir_all(&dir)?;
        let mut values = Vec::new();
        if let Some(listen) = peer.values.get(&format!("listen_{}", transport.name())) {
            values.push(("{listen}".to_string(), listen.clone()));
        }
        values
            .extend(peer.values.iter().map(|(name, value)| (format!("{{{name}}}"), value.clone())));
        for (name, port) in ["{port}", "{port2}", "{port3}"].into_iter().zip(ports) {
            values.push((name.to_string(), port.to_string()));
        }
        values.push(("{dir}".to_string(), dir.display().to_string()));
        let dialect = match transport {
            TransportKind::Tcp => Dialect::Tcp,
            TransportKind::WebSocket => Dialect::WebSocket,
            TransportKind::Tls => Dialect::Tls(tls::make_certificate(&dir)?),
        };
        let mut folder = Folder { dir, ports, values, dialect };
        if let Some(file) = &peer.conf {
            let source = peer.base.join(file);
            let text = fs::read_to_string(&source).with_context(|| source.display().to_string())?;
            let target = folder.dir.join(file.file_name().context("conf without a name")?);
            fs::write(&target, folder.fill(&text))?;
            folder.values.push(("{conf}".to_string(), target.display().to_string()));
        }
        Ok(folder)
    }

    fn fill(&self, text: &str) -> String {
        let replace = |text: String, (name, value): &(String, String)| text.replace(name, value);
        self.values.iter().fold(text.to_string(), replace)
    }
}

fn free_ports() -> Result<[u16; 3]> {
    let mut listeners = Vec::with_capacity(3);
    let mut ports = [0; 3];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// Names this very program as the binary.
const SELF: &str = "self";
