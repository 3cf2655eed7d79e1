//! One running relay.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::procfs;
use crate::transport::Endpoint;

/// A running relay; dropping it ends it.
pub struct Relay {
    pub child: Child,
    pub endpoint: Endpoint,
    /// Its folder, which goes with it.
    pub dir: PathBuf,
}

impl Relay {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it accepts a connection, trying every `poll`.
    pub fn until_listening(&mut self, poll: Duration) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended with {status}: {}", self.log_tail());
            }
            if TcpStream::connect_timeout(&self.endpoint.addr, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(poll);
        }
        bail!("it did not listen within {START_LIMIT:?}: {}", self.log_tail())
    }

    fn log_tail(&self) -> String {
        let text = fs::read(self.dir.join("log")).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(2000)..];
        String::from_utf8_lossy(tail).trim().to_string()
    }

    /// What went wrong, with what the relay said of it.
    pub fn blame(&self, error: anyhow::Error) -> anyhow::Error {
        anyhow!("{error:#}; its log: {}", self.log_tail())
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

/// Becomes the given program, which is killed when the thread that started this process ends.
///
/// # Errors
/// When it cannot be started; else there is no return.
pub fn become_program(command: &[OsString]) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let (program, args) = command.split_first().context("no program named")?;
    Err(Command::new(program).args(args).exec()).with_context(|| format!("{program:?}"))
}

const START_LIMIT: Duration = Duration::from_secs(15);
const STOP_LIMIT: Duration = Duration::from_secs(5);
