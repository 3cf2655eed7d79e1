//! The guard of instructions: runs every path under callgrind, and fails where a message costs over
//! a twentieth more than the budget says, or more at a large session than at a small one; and says
//! in which functions.
//!
//! `guard RUN-PATH` compares what that program does with `benches/paths/budgets.toml`; with
//! UPDATE_BUDGETS=1 it writes that file.
//! Instructions, unlike times, are the same on a busy machine: they decide where 5 % decide.

mod budgets;
mod callgrind;
mod compare;
mod report;
mod source;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, thread};

use crate::budgets::{Budget, Budgets, MeasuredWith};
use crate::callgrind::Run;
use crate::report::{RENEW, Report, is_flat};
use crate::source::Functions;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    let (text, is_passed) = match check() {
        Ok(done) => done,
        Err(error) => (format!("instructions: {error}\n"), false),
    };
    let said = std::io::stdout().write_all(text.as_bytes());
    if is_passed && said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Measures, and compares or records; what is to be said, and whether all is well.
fn check() -> Result<(String, bool), Failure> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("budgets.toml");
    let measured = measure()?;
    let here = here()?;
    let mut report = Report::default();
    report.flat(&measured);
    if env::var_os("UPDATE_BUDGETS").is_some() {
        let guarded = measured.into_iter().filter(|(name, _)| !is_flat(name));
        let path = guarded.map(|(name, functions)| (name, Budget::of(&functions))).collect();
        fs::write(&file, Budgets { measured_with: here, path }.to_toml())?;
        report.say(format_args!("written: {}", file.display()));
    } else {
        let text = fs::read_to_string(&file)
            .map_err(|error| format!("{}: {error}; {RENEW}", file.display()))?;
        let budgets =
            toml::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        report.budgets(&budgets, &here, &measured);
    }
    if report.has_failed {
        report.say(format_args!(
            "If a path is worth what it costs now, renew its budget with {RENEW}, and say why in the\n\
             commit. Each path's callgrind file is in {}.",
            folder()?.display()
        ));
    }
    Ok((report.text, !report.has_failed))
}

/// Runs every path; their functions, by the paths' names.
fn measure() -> Result<BTreeMap<String, Functions>, Failure> {
    let program = program()?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let root = root.and_then(Path::to_str).ok_or("the checkout's path is not UTF-8")?;
    let folder = folder()?;
    fs::create_dir_all(&folder)?;
    // the largest sessions come last in the list, and take longest
    let names: Vec<_> = fastport_paths::all().map(|path| path.name).rev().collect();
    let runs = run_all(&program, &names, &folder)?;
    let addresses = runs.iter().flat_map(|run| run.counts.program.keys().copied());
    let places = source::places(&program, root, addresses, &folder.join("addresses"))?;
    let functions = |run: &Run| source::functions(&run.counts, &places, run.messages);
    Ok(names.iter().map(|&name| name.to_owned()).zip(runs.iter().map(functions)).collect())
}

/// Where callgrind's files go.
fn folder() -> Result<PathBuf, Failure> {
    Ok(program()?.with_file_name("callgrind"))
}

/// The program that runs a path, as released.
fn program() -> Result<PathBuf, Failure> {
    let program = env::args_os().nth(1).ok_or("which run-path? see tools/check-instructions.sh")?;
    let program = PathBuf::from(program);
    // the name by which callgrind calls it
    fs::canonicalize(&program).map_err(|error| format!("{}: {error}", program.display()).into())
}

/// Runs paths, as many at once as there are processors: what is counted does not depend on it.
fn run_all(program: &Path, names: &[&str], folder: &Path) -> Result<Vec<Run>, Failure> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(name) = names.get(at) else { return done };
            let out = folder.join(format!("{name}.callgrind"));
            done.push((at, callgrind::run(program, name, MESSAGES, &out)));
        }
    };
    let count = thread::available_parallelism().map_or(1, usize::from);
    let mut runs = thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        let runs = threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default());
        runs.collect::<Vec<_>>()
    });
    runs.sort_by_key(|&(at, _)| at);
    let runs = runs.into_iter().map(|(_, run)| run).collect::<Result<Vec<_>, _>>()?;
    if runs.len() == names.len() { Ok(runs) } else { Err("a thread of the guard panicked".into()) }
}

fn here() -> Result<MeasuredWith, Failure> {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    Ok(MeasuredWith {
        arch: env::consts::ARCH.to_owned(),
        rustc: answer(&rustc, "--version")?,
        libc: answer("getconf", "GNU_LIBC_VERSION")?,
        valgrind: answer("valgrind", "--version")?,
    })
}

fn answer(program: &str, question: &str) -> Result<String, Failure> {
    let done = Command::new(program).arg(question).output();
    let done = done.map_err(|error| format!("{program} cannot be run: {error}"))?;
    Ok(String::from_utf8(done.stdout)?.trim().to_owned())
}

/// Of each path: enough for what happens once in many messages to be in the mean.
const MESSAGES: u64 = 4096;
