//! What the release daemon costs on its machine: memory, wake-ups, time to start, memory for each peer.
//!
//! `cargo bench --bench footprint` prints tables; with `UPDATE_DOCS=1` they also go to
//! `docs/footprint.md`. The peers are in this process, so it needs as many open files as the daemon.

#[path = "../../tests/support/mod.rs"]
mod support;

mod alone;
mod peers;
mod process;

use std::fmt::Write;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    // what cargo's test runner says to every target
    if std::env::args().any(|argument| argument == "--test" || argument == "--list") {
        return Ok(());
    }
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let most = limit.maximum.map_or(u64::MAX, |files| files.saturating_sub(200));
    let counts: Vec<u64> = COUNTS.into_iter().filter(|&count| count <= most).collect();
    if counts.len() < COUNTS.len() {
        eprintln!("fewer peers than usual: only {most} open files here (ulimit -Hn)");
    }
    let folder = tempfile::tempdir()?;
    let mut text = alone_table(&alone::measure(folder.path())?);
    let connector = peers::make_certificate(folder.path())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut rows = Vec::new();
    for (scheme, name) in TRANSPORTS {
        let figures = peers::measure(folder.path(), scheme, &connector, &counts);
        rows.push((name, runtime.block_on(figures)?));
    }
    text.push_str(&peers_table(&counts, &rows));
    io::Write::write_all(&mut io::stdout(), text.as_bytes())?;
    if std::env::var_os("UPDATE_DOCS").is_some() {
        update_docs(&text)?;
    }
    Ok(())
}

fn alone_table(figures: &alone::Figures) -> String {
    let kib = |bytes: u64| bytes / 1024;
    let memory = figures.memory;
    format!(
        "| without a peer, defaults | |\n|---|--:|\n\
         | memory (PSS) | {} KiB |\n\
         | of it heap, stacks and changed pages | {} KiB |\n\
         | all pages, with all of libc's (RSS) | {} KiB |\n\
         | from exec to ready | {:.1} ms |\n\
         | wake-ups a second | {:.2} |\n\
         | wake-ups a second with {} idle peers: keepalive 1 min, sensors read every 10 s | {:.2} |\n\n",
        kib(memory.proportional),
        kib(memory.anonymous),
        kib(memory.resident),
        figures.ready.as_secs_f64() * 1000.0,
        figures.alone,
        alone::PEERS,
        figures.with_peers,
    )
}

fn peers_table(counts: &[u64], rows: &[(&str, peers::Figures)]) -> String {
    let mut text = String::from("| transport |");
    for count in counts {
        write!(text, " bytes a peer, of {count} | peers a second |").expect(STRING);
    }
    text.push_str("\n|---|");
    text.push_str(&"--:|--:|".repeat(counts.len()));
    text.push('\n');
    for (name, figures) in rows {
        write!(text, "| {name} |").expect(STRING);
        for (bytes, rate) in figures {
            write!(text, " {bytes} | {rate:.0} |").expect(STRING);
        }
        text.push('\n');
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let machine = std::env::consts::ARCH;
    write!(text, "\nMeasured on {machine}, {cores} cores, which the peers had to share.\n")
        .expect(STRING);
    text
}

fn update_docs(tables: &str) -> Result<(), Failure> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/footprint.md");
    let text = std::fs::read_to_string(path)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("no begin mark in docs/footprint.md")?;
    let (_, after) = rest.split_once(END).ok_or("no end mark in docs/footprint.md")?;
    std::fs::write(path, format!("{before}{BEGIN}\n{tables}{END}{after}"))?;
    Ok(())
}

/// Peers at which memory is looked at.
const COUNTS: [u64; 2] = [1_000, 10_000];
/// The transports, as schemes of URLs and as words.
const TRANSPORTS: [(&str, &str); 4] =
    [("tcp", "TCP"), ("ws", "WebSocket"), ("tls", "TLS"), ("wss", "secure WebSocket")];
const BEGIN: &str = "<!-- benches/footprint writes from here -->";
const END: &str = "<!-- benches/footprint wrote to here -->";
const STRING: &str = "a String takes all that is written";
