//! Runs one path until so many messages are through: `run-path NAME MESSAGES`. The guard of
//! instructions runs it under callgrind, which counts while `measured` is running.

use std::process::ExitCode;

use fastport_paths::{Path, Work};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (name, messages) = (arguments.next(), arguments.next().and_then(|text| text.parse().ok()));
    let path = fastport_paths::all().find(|path| Some(path.name) == name.as_deref());
    let (Some(path), Some(messages)) = (path, messages) else {
        eprintln!("run-path NAME MESSAGES; the names: {}", names());
        return ExitCode::FAILURE;
    };
    run(path, messages);
    ExitCode::SUCCESS
}

fn run(path: Path, messages: u64) {
    let mut work = path.make();
    work.verify();
    let rounds = (messages / work.messages()).max(LEAST_ROUNDS);
    measured(&mut *work, rounds);
    work.check(rounds);
    eprintln!("messages {}", rounds * work.messages());
}

/// What is counted. Not inlined: callgrind knows it by its name.
#[inline(never)]
fn measured(work: &mut dyn Work, rounds: u64) {
    for _ in 0..rounds {
        work.round();
    }
}

fn names() -> String {
    fastport_paths::all().map(|path| path.name).collect::<Vec<_>>().join(", ")
}

/// What happens every few dozen rounds, such as buffers being put in order, is in the mean.
const LEAST_ROUNDS: u64 = 64;
