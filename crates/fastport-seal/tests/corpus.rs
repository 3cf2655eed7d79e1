//! Replays the corpus of the fuzz target `seal`, in which the vectors are the seeds.
//!
//! `UPDATE=1 cargo test -p fastport-seal --test corpus` writes the seeds again.

mod support;

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

#[path = "../../../fuzz/seal_check.rs"]
mod seal_check;

use self::seal_check::seal;
use self::support::{VECTORS, hex};

#[test]
fn every_input_of_the_corpus_passes_its_check() {
    if std::env::var_os("UPDATE").is_some() {
        write_seeds();
    }
    let mut count = 0;
    for entry in fs::read_dir(corpus()).expect("the corpus is in the repository") {
        let path = entry.expect("readable").path();
        eprintln!("{}", path.display()); // shown where the check fails
        seal(&fs::read(path).expect("readable"));
        count += 1;
    }
    assert!(count >= 10, "{count} inputs");
}

/// What vectors seal and what they refuse, for each of the check's parts.
fn write_seeds() {
    let text = fs::read_to_string(VECTORS).expect("the vectors are in the repository");
    let vectors: Value = serde_json::from_str(&text).expect("JSON");
    let lists =
        [&vectors["messages"], &vectors["stream"]["chunks"], &vectors["refused"]["messages"]];
    fs::create_dir_all(corpus()).expect("the repository can be written");
    let all = lists.into_iter().filter_map(Value::as_array).flatten();
    for (at, vector) in all.enumerate() {
        let what = u8::try_from(at % 4).expect("under 4");
        let sealed = hex(vector["sealed"].as_str().expect("a text"));
        let short = &sealed[..sealed.len().min(300)];
        fs::write(corpus().join(format!("seed-{at:02}")), [&[what], short].concat())
            .expect("the repository can be written");
    }
}

fn corpus() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/seal"))
}
