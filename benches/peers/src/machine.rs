//! What a suite ran on, and with what.

use std::fs;
use std::process::Command;

use crate::peer::Peer;
use crate::scenario::Record;

/// One line of figures about the machine and the relays, for the head of a suite's output.
pub fn record(peers: &[&Peer], left_out: &[&str], rounds: usize) -> Record {
    let mut record = Record::new("machine", "");
    record
        .put("date", output("date", &["-u", "+%Y-%m-%d"]))
        .put("commit", output("git", &["describe", "--always", "--dirty"]))
        .put("cpu", cpu_model())
        .put("cores", std::thread::available_parallelism().map_or(0, usize::from))
        .put("kernel", output("uname", &["-srm"]))
        .put("command", command(std::env::args()))
        .put("rounds", rounds);
    for peer in peers.iter().filter(|peer| !peer.is_variant()) {
        record.put(&format!("version of {}", peer.name), peer.version());
    }
    if !left_out.is_empty() {
        record.put("not installed, so left out", left_out.join(", "));
    }
    record
}

/// How the suite was called: the program without its folder, and not where its lines went.
fn command(words: impl Iterator<Item = String>) -> String {
    let mut command = String::from("peerbench");
    let mut words = words.skip(1);
    while let Some(word) = words.next() {
        if word == "--out" {
            words.next();
        } else {
            command += " ";
            command += &word;
        }
    }
    command
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key))?;
        Some(line.split_once(':')?.1.trim().to_string())
    };
    // boards have no model name in it, but say what they are
    named("model name").or_else(|| named("Model")).unwrap_or_else(|| "unknown".into())
}

/// What a program prints; empty if there is none.
fn output(program: &str, args: &[&str]) -> String {
    match Command::new(program).args(args).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_string()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_told_without_paths_of_this_machine() {
        let words = ["/a/peerbench", "suite", "--out", "/b/runs", "--rounds", "3"];
        assert_eq!(command(words.map(String::from).into_iter()), "peerbench suite --rounds 3");
    }
}
