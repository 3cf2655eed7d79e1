//! The relays under test: how each is started, and one running instance.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde::Deserialize;

use crate::procfs;
use crate::protocol::ProtocolKind;
use crate::transport::{Endpoint, TransportKind};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Peer {
    pub name: String,
    /// Looked for in the folders of PEERBENCH_PATH, then in those of PATH.
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
            .map(|p| p.parse().map_err(|e| anyhow::anyhow!("{}: {e}", self.name)))
            .collect()
    }

    /// The program file, links resolved.
    pub fn binary(&self) -> Result<PathBuf> {
        if self.binary == SELF {
            return Ok(std::env::current_exe()?);
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

    /// Starts an instance of it on a free loopback port and waits until it accepts connections.
    pub fn start(&self, transport: TransportKind) -> Result<Relay> {
        let ports = free_ports::<3>()?;
        let dir =
            std::env::temp_dir().join(format!("peerbench-{}-{}", std::process::id(), ports[0]));
        fs::create_dir_all(&dir)?;
        let fill = |text: &str| {
            let listen = format!("listen_{}", transport.name());
            let mut text = match self.values.get(&listen) {
                Some(listen) => text.replace("{listen}", listen),
                None => text.to_string(),
            };
            for (name, value) in &self.values {
                text = text.replace(&format!("{{{name}}}"), value);
            }
            text.replace("{port}", &ports[0].to_string())
                .replace("{port2}", &ports[1].to_string())
                .replace("{port3}", &ports[2].to_string())
                .replace("{dir}", &dir.display().to_string())
        };
        let mut conf = String::new();
        if let Some(file) = &self.conf {
            let source = self.base.join(file);
            let text = fs::read_to_string(&source).with_context(|| source.display().to_string())?;
            let target = dir.join(file.file_name().context("conf without a name")?);
            fs::write(&target, fill(&text))?;
            conf = target.display().to_string();
        }
        let log = dir.join("log");
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["run", "--"])
            .arg(self.binary()?)
            .args(self.args.iter().map(|a| fill(&a.replace("{conf}", &conf))))
            .current_dir(&dir)
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?);
        let child = command.spawn().with_context(|| format!("starting {}", self.name))?;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, ports[0]));
        let endpoint = Endpoint { addr, kind: transport };
        let mut relay = Relay { child, endpoint, dir };
        relay.until_listening().with_context(|| format!("starting {}", self.name))?;
        Ok(relay)
    }
}

fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener);
    }
    Ok(ports)
}

/// Becomes the given program, which is killed when the thread that started this process ends.
///
/// # Errors
/// When it cannot be started; else there is no return.
pub fn become_relay(command: &[OsString]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let (program, args) = command.split_first().context("no program named")?;
    Err(Command::new(program).args(args).exec()).with_context(|| format!("{program:?}"))
}

/// A running relay; dropping it ends it.
pub struct Relay {
    child: Child,
    pub endpoint: Endpoint,
    dir: PathBuf,
}

impl Relay {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn until_listening(&mut self) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}: {}", self.log_tail());
            }
            if TcpStream::connect_timeout(&self.endpoint.addr, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("it did not listen within {START_LIMIT:?}: {}", self.log_tail())
    }

    pub fn log_tail(&self) -> String {
        let text = fs::read(self.dir.join("log")).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(2000)..];
        String::from_utf8_lossy(tail).trim().to_string()
    }

    pub fn cpu(&self) -> Result<procfs::Cpu> {
        procfs::cpu(self.pid())
    }

    pub fn memory(&self) -> Result<procfs::Memory> {
        procfs::memory(self.pid())
    }
}

impl Relay {
    /// Asks it to end, then makes it.
    fn end(&mut self) -> io::Result<()> {
        // not yet waited for, so the number is still this child's
        if self.child.try_wait()?.is_none() {
            kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        }
        let asked = Instant::now();
        while self.child.try_wait()?.is_none() {
            if asked.elapsed() > STOP_LIMIT {
                self.child.kill()?;
                self.child.wait()?;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("# relay {} may still run: {error}", self.pid());
        }
        if std::env::var_os("PEERBENCH_KEEP").is_none()
            && let Err(error) = fs::remove_dir_all(&self.dir)
        {
            eprintln!("# {}: {error}", self.dir.display());
        }
    }
}

/// Names this very program as the binary.
const SELF: &str = "self";
const START_LIMIT: Duration = Duration::from_secs(15);
const STOP_LIMIT: Duration = Duration::from_secs(5);
