//! Computes the table of `docs/sealing.md` from real frames, and fails when the document says
//! anything else. `UPDATE_DOCS=1` writes the document.

mod support;

use std::fmt::Write;
use std::fs;

use fastport_seal::{Content, sealed_chunk_len};
use fastport_wire::frame::DataFlags;
use fastport_wire::{Frame, TopicId};

use self::support::{SENDER, home, seal, sealer};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/sealing.md");
const BEGIN: &str = "<!-- sizes -->\n";
const END: &str = "<!-- /sizes -->\n";
/// What a chunk of that size may have on the wire.
const PLAIN: usize = 1024;
const MOST: usize = 1070;

#[test]
fn a_sealed_kibibyte_is_within_1070_bytes_on_the_wire() {
    for (what, size) in [
        ("message", data(1, PLAIN, true)),
        ("message at worst", data(u32::MAX, PLAIN, true)),
        ("chunk", chunk(1, 1 << 20, PLAIN, true)),
        ("chunk at worst", chunk(u32::MAX, u64::MAX, PLAIN, true)),
    ] {
        assert!(size <= MOST, "{what}: {size}");
    }
}

#[test]
fn the_document_has_the_table_of_today() {
    let document = fs::read_to_string(DOCUMENT).expect("the document is in the repository");
    let (before, rest) = document.split_once(BEGIN).expect("the document has the first mark");
    let (old, after) = rest.split_once(END).expect("the document has the second mark");
    let new = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let text = [before, BEGIN, &new, END, after].concat();
        fs::write(DOCUMENT, text).expect("the document can be written");
        return;
    }
    assert_eq!(old, new, "{DOCUMENT} should have this table:\n{new}");
}

fn table() -> String {
    let mut out = String::from("| bytes on the wire | of 2 | of 1,024 |\n|---|--:|--:|\n");
    let mut row = |what: &str, size: &dyn Fn(usize) -> usize| {
        let (small, large) = (size(2), size(PLAIN));
        writeln!(out, "| {what} | {small} | {large} |").expect("a String takes all");
    };
    row("message, plain", &|plain| data(1, plain, false));
    row("message, sealed", &|plain| data(1, plain, true));
    row("message, sealed, at worst", &|plain| data(u32::MAX, plain, true));
    row("chunk, plain", &|plain| chunk(1, 1 << 20, plain, false));
    row("chunk, sealed", &|plain| chunk(1, 1 << 20, plain, true));
    row("chunk, sealed, at worst", &|plain| chunk(u32::MAX, u64::MAX, plain, true));
    row("content alone, in Base64", &|plain| plain.div_ceil(3) * 4);
    row("content alone, in the former format", &former);
    out
}

/// A DATA frame.
fn data(topic: u32, plain: usize, is_sealed: bool) -> usize {
    let content = vec![0; plain];
    let payload = match is_sealed {
        true => seal(&mut sealer(&home(), SENDER, 0), Content::message("a/b"), &content),
        false => content,
    };
    let topic = TopicId::new(topic).expect("not 0");
    let flags = if is_sealed { DataFlags::SEALED } else { DataFlags::NONE };
    Frame::Data { flags, topic, payload: &payload }.encoded_len()
}

/// A CHUNK frame.
fn chunk(stream: u32, offset: u64, plain: usize, sealed: bool) -> usize {
    let bytes = vec![0; if sealed { sealed_chunk_len(plain) } else { plain }];
    Frame::Chunk { stream, offset, last: false, sealed, bytes: &bytes }.encoded_len()
}

/// An IV, a block or less of padding as PKCS #7 has it, a whole HMAC-SHA-256, nine bytes of head.
fn former(plain: usize) -> usize {
    9 + 16 + (plain + 1).next_multiple_of(16) + 32
}
