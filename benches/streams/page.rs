//! The tables, and their place in docs/benchmarks-streams.md.

use std::fmt::Write;
use std::fs;

use crate::primitives::{DECRYPT, ENCRYPT, HASH, MAC, Rate};
use crate::relay::Passed;
use crate::tools::Sent;

pub(crate) fn throughput(rounds: &[[Passed; 2]]) -> String {
    let of = |what: fn(&[Passed; 2]) -> f64| median(rounds.iter().map(what));
    let mut text = String::from(
        "### The relay beside a plain copy\n\n\
         | a stream's bytes through | MB/s | CPU s/GB of that program |\n|---|--:|--:|\n",
    );
    let (rate, cpu) = (of(|[relay, _]| relay.rate), of(|[relay, _]| relay.cpu));
    line(&mut text, format_args!("| the daemon | {rate:.0} | {cpu:.2} |"));
    let (rate, cpu) = (of(|[_, copy]| copy.rate), of(|[_, copy]| copy.cpu));
    line(
        &mut text,
        format_args!("| a thread that reads and writes 64 KiB | {rate:.0} | {cpu:.2} |"),
    );
    let ratios = rounds.iter().map(|[relay, copy]| relay.rate / copy.rate);
    let [least, middle, most] = spread(ratios);
    line(
        &mut text,
        format_args!(
            "\nThe daemon's rate by that of the copy in the same round: **{middle:.2}** ({least:.2} to \
             {most:.2}); at least 0.5 is asked for. CPU by CPU: {:.2}.",
            of(|[relay, copy]| relay.cpu / copy.cpu)
        ),
    );
    text
}

pub(crate) fn sealing(rounds: &[[Sent; 2]], primitives: &[[Rate; 4]]) -> String {
    let mut text = String::from(
        "### From tool to tool, plain and sealed\n\n\
         | a file | MB/s | CPU s/GB: sender | daemon | receiver |\n|---|--:|--:|--:|--:|\n",
    );
    for (which, name) in ["plain", "sealed"].into_iter().enumerate() {
        let of = |what: fn(&Sent) -> f64| median(rounds.iter().map(|round| what(&round[which])));
        let (rate, [sender, daemon, receiver]) =
            (of(|it| it.rate), [of(|it| it.cpu[0]), of(|it| it.cpu[1]), of(|it| it.cpu[2])]);
        line(
            &mut text,
            format_args!("| {name} | {rate:.0} | {sender:.2} | {daemon:.2} | {receiver:.2} |"),
        );
    }
    // seconds a GB
    let cost = |which: usize| median(primitives.iter().map(|all| 1e3 / all[which].ours));
    let hash = cost(HASH);
    text.push_str(
        "\n| of the CPU of the sealed file | AES-CBC and HMAC | with SHA-256 of the whole |\n|---|--:|--:|\n",
    );
    let sealed = |end: usize| median(rounds.iter().map(|[_, sealed]| sealed.cpu[end]));
    let (encrypting, decrypting) = (cost(ENCRYPT) + cost(MAC), cost(DECRYPT) + cost(MAC));
    for (name, crypto, cpu) in
        [("sender", encrypting, sealed(0)), ("receiver", decrypting, sealed(2))]
    {
        let (alone, whole) = (100.0 * crypto / cpu, 100.0 * (crypto + hash) / cpu);
        line(&mut text, format_args!("| {name} | {alone:.0} % | {whole:.0} % |"));
    }
    let all = sealed(0) + sealed(1) + sealed(2);
    let crypto = encrypting + decrypting;
    let (alone, whole) = (100.0 * crypto / all, 100.0 * (crypto + 2.0 * hash) / all);
    line(&mut text, format_args!("| all three programs | {alone:.0} % | {whole:.0} % |"));
    text
}

pub(crate) fn primitives(rounds: &[[Rate; 4]]) -> String {
    let mut text = String::from(
        "### The primitives on one core\n\n\
         | 16 KiB at a time | MB/s here | MB/s of OpenSSL | here by OpenSSL |\n|---|--:|--:|--:|\n",
    );
    for (which, rate) in rounds[0].iter().enumerate() {
        let ours = median(rounds.iter().map(|round| round[which].ours));
        let theirs: Option<Vec<f64>> = rounds.iter().map(|round| round[which].openssl).collect();
        let name = rate.name;
        match theirs.map(median) {
            Some(theirs) => line(
                &mut text,
                format_args!("| {name} | {ours:.0} | {theirs:.0} | {:.2} |", ours / theirs),
            ),
            None => line(&mut text, format_args!("| {name} | {ours:.0} | not installed | |")),
        }
    }
    text
}

pub(crate) fn delays(rounds: &[[[f64; 3]; 2]]) -> String {
    let mut text = String::from(
        "### An alarm on a file's link\n\n\
         | µs from publisher to reader | median | p99 | p99.9 |\n|---|--:|--:|--:|\n",
    );
    for (which, name) in ["idle", "while a file comes over the same link"].into_iter().enumerate() {
        let [middle, p99, p999] =
            [0, 1, 2].map(|at| median(rounds.iter().map(|round| round[which][at])));
        line(&mut text, format_args!("| {name} | {middle:.0} | {p99:.0} | {p999:.0} |"));
    }
    text
}

/// What it was measured on.
pub(crate) fn machine(rounds: usize) -> String {
    let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = about.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or(std::env::consts::ARCH, |(_, model)| model);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "Medians of {rounds} rounds on {model}, {cores} cores, which all programs had to share.\n"
    )
}

pub(crate) fn update(tables: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks-streams.md");
    let page = fs::read_to_string(path).expect("it is part of the repository");
    let (before, rest) = page.split_once(BEGIN).expect("it has the mark");
    let (_, after) = rest.split_once(END).expect("it has the mark");
    fs::write(path, format!("{before}{BEGIN}\n\n{tables}\n{END}{after}")).expect("it is ours");
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("a String takes all that is written");
}

fn median(all: impl IntoIterator<Item = f64>) -> f64 {
    let [_, middle, _] = spread(all);
    middle
}

/// The least, the middle and the most.
fn spread(all: impl IntoIterator<Item = f64>) -> [f64; 3] {
    let mut all: Vec<f64> = all.into_iter().collect();
    all.sort_by(f64::total_cmp);
    [all[0], all[all.len() / 2], all[all.len() - 1]]
}

const BEGIN: &str = "<!-- benches/streams writes from here -->";
const END: &str = "<!-- benches/streams wrote to here -->";
