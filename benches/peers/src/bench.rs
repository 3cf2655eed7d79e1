//! The relays that can be measured, and where figures go.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::peer::Peer;
use crate::scenario::Record;

pub struct Bench {
    pub peers: Vec<Peer>,
    /// JSON lines are appended to this file too.
    pub out: Option<PathBuf>,
}

impl Bench {
    pub fn peer(&self, name: &str) -> Result<&Peer> {
        self.peers.iter().find(|p| p.name == name).with_context(|| format!("no peer named {name}"))
    }

    /// Prints a run's figures, all as JSON and those named for people.
    pub fn show(&self, record: &Record, names: &[&str]) -> Result<()> {
        println!("{}\n{}", record.json(), record.line(names));
        if let Some(path) = &self.out {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            writeln!(file, "{}", record.json())?;
        }
        Ok(())
    }
}
