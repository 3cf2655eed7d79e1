//! Runs one path: `run-path NAME ROUNDS`. The guard of instructions runs it under callgrind, which
//! counts while `measured` is running.

use std::process::ExitCode;

use fastport_paths::{Path, Work};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (name, rounds) = (arguments.next(), arguments.next().and_then(|text| text.parse().ok()));
    let path = fastport_paths::all().find(|path| Some(path.name) == name.as_deref());
    let (Some(path), Some(rounds)) = (path, rounds) else {
        eprintln!("run-path NAME ROUNDS; the names: {}", names());
        return ExitCode::FAILURE;
    };
    run(path, rounds);
    ExitCode::SUCCESS
}

fn run(path: Path, rounds: u64) {
    let mut work = path.make();
    work.verify();
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
