//! Replays the corpora in `fuzz/corpus` on a stable compiler: what the fuzzer found worth keeping,
//! and seeds made from the vectors, go through the same checks as under the fuzzer.
//!
//! `UPDATE=1 cargo test -p fastport-wire --features std --test corpus` writes the seeds again.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

#[path = "../../../fuzz/checks.rs"]
mod checks;

/// More would make the tests slow and the repository large; `cargo fuzz cmin` brings it down.
const MAX_FILES: usize = 280;

#[test]
fn every_input_of_every_corpus_passes_its_check() {
    if std::env::var_os("UPDATE").is_some() {
        write_seeds();
        write_readings_seeds();
    }
    for &(target, check) in checks::ALL {
        let mut count = 0;
        for entry in fs::read_dir(corpus(target)).expect("the corpus is in the repository") {
            let path = entry.expect("readable").path();
            eprintln!("{}", path.display()); // shown where the check fails
            check(&fs::read(path).expect("readable"));
            count += 1;
        }
        assert!((10..=MAX_FILES).contains(&count), "{target} has {count} inputs");
    }
}

/// One input for each vector, named by a hash of it as libFuzzer does.
fn write_seeds() {
    let frames = vectors("frames");
    let refused = vectors("refused");
    let control = vectors("control");
    let packets = vectors("packets");
    for bytes in all(&frames, "vectors", "bytes").chain(all(&refused, "frames", "bytes")) {
        seed("decode", &bytes);
        seed("accumulator", &[&[7], &*bytes].concat());
    }
    for bytes in all(&packets, "packets", "packet").chain(all(&packets, "streams", "bytes")) {
        for count in [0, 7] {
            seed("accumulator", &[&[count], &*bytes].concat());
        }
    }
    for bytes in all(&control, "vectors", "body").chain(all(&refused, "control", "body")) {
        seed("control", &bytes);
    }
    for vector in list(&control["vectors"]) {
        seed("control", vector["message"].to_string().as_bytes());
    }
    for vector in list(&control["json"]).iter().chain(list(&refused["json"])) {
        seed("control", vector["text"].as_str().expect("a text").as_bytes());
    }
    for vector in list(&refused["topics"]).iter().chain(list(&refused["filters"])) {
        let text = vector["text"].as_str().expect("a text");
        seed("filter", text.as_bytes());
    }
    for pair in
        ["a/+/c\na/b/c", "a/#\na", "#\n$board/load", "+/load\na/load", "$board/#\n$board/load"]
    {
        seed("filter", pair.as_bytes());
    }
}

/// A schema behind its length, then a payload; and SenML packs.
fn write_readings_seeds() {
    let readings = vectors("readings");
    let with_length = |schema: &[u8]| {
        let length = u8::try_from(schema.len()).expect("schemas are short");
        [&[length], schema].concat()
    };
    let hex = |value: &Value| unhex(value.as_str().expect("hex"));
    for vector in list(&readings["readings"]) {
        let schema = with_length(&hex(&vector["schema"]["hex"]));
        seed("readings", &[schema, hex(&vector["payload"])].concat());
        if let Some(senml) = vector.get("senml") {
            seed("readings", senml["json"].as_str().expect("a text").as_bytes());
            seed("readings", &hex(&senml["cbor"]));
        }
    }
    for vector in list(&readings["refused_schemas"]) {
        seed("readings", &with_length(&hex(&vector["hex"])));
    }
    for vector in list(&readings["refused_payloads"]) {
        let schema = with_length(&hex(&vector["schema"]));
        seed("readings", &[schema, hex(&vector["payload"])].concat());
    }
}

fn all<'a>(vectors: &'a Value, group: &str, key: &'a str) -> impl Iterator<Item = Vec<u8>> + 'a {
    list(&vectors[group]).iter().map(move |vector| unhex(vector[key].as_str().expect("hex")))
}

fn seed(target: &str, bytes: &[u8]) {
    // long inputs make a fuzzer slow and show nothing that short ones do not
    if bytes.len() > 1024 {
        return;
    }
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    fs::create_dir_all(corpus(target)).expect("the repository can be written");
    fs::write(corpus(target).join(format!("seed-{hash:016x}")), bytes).expect("as above");
}

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target)
}

fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("vectors/{name}.json"));
    serde_json::from_str(&fs::read_to_string(path).expect("vectors are there")).expect("JSON")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn unhex(digits: &str) -> Vec<u8> {
    let digit = |&d: &u8| u8::try_from(char::from(d).to_digit(16).expect("hex")).expect("under 16");
    digits.as_bytes().chunks(2).map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect()
}
