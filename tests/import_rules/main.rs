//! Who may name whom. The tables in `ARCHITECTURE.md` say it, these tests hold the source to it:
//! every path to one of our modules or packages in `src/` and `crates/*/src/`, and every dependency
//! in `crates/*/Cargo.toml`. Tests beside the code are held to it too: a test that needs a driver of
//! what it tests belongs in `tests/`.

mod paths;
mod rules;
mod tree;

use crate::rules::Rules;
use crate::tree::{Tree, check};
use std::fs;
use std::path::Path;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn rules() -> Rules {
    let text = fs::read_to_string(Path::new(ROOT).join("ARCHITECTURE.md"))
        .expect("ARCHITECTURE.md stands beside Cargo.toml");
    Rules::parse(&text).expect("the tables of ARCHITECTURE.md can be read")
}

#[test]
fn nobody_names_what_the_table_does_not_allow() {
    let faults = check(&rules(), &Tree::read(Path::new(ROOT)));
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn the_table_has_no_circle() {
    assert_eq!(rules().circle(), None);
}

#[test]
fn drivers_are_named_only_by_those_who_start_them() {
    let rules = rules();
    for (driver, starter) in [("app", "main"), ("link", "app"), ("tool", "bin/fastport")] {
        assert_eq!(rules.who_names(driver), [starter], "rows that name `{driver}`");
    }
}

#[test]
fn what_everybody_names_names_nobody() {
    let rules = rules();
    for leaf in ["status", "fastport_wire"] {
        assert_eq!(rules.names_of(leaf), Some(&[][..]), "the row `{leaf}`");
    }
}

// The checker itself: each rule must catch what is planted for it.

/// A tree with one more file than a small correct one.
fn planted(path: &str, text: &str) -> Vec<String> {
    let mut files = vec![
        ("src/lib.rs", "pub mod app;\npub mod hub;\npub mod link;\npub mod status;\n"),
        ("src/main.rs", "fn main() { fastport::app::run() }\n"),
        ("src/app.rs", "use crate::{hub::Hub, link::tcp};\n"),
        ("src/hub/mod.rs", "use crate::status;\nuse fastport_core::Relay;\n"),
        ("src/link/mod.rs", "pub mod tcp;\n"),
        ("src/link/tcp.rs", "use super::super::hub::Hub;\nuse crate::status;\n"),
        ("src/status.rs", "pub static FRAMES: u64 = 0;\n"),
        ("crates/fastport-wire/Cargo.toml", "[dependencies]\nheapless = \"0.9\"\n"),
        (
            "crates/fastport-wire/src/lib.rs",
            "#![no_std]\n#[cfg(any(feature = \"std\", test))]\nextern crate std;\n\
             #[cfg(feature = \"std\")]\npub mod json;\npub mod frame;\n",
        ),
        ("crates/fastport-wire/src/json.rs", "use std::string::String;\n"),
        (
            "crates/fastport-wire/src/frame.rs",
            "//! `std::vec::Vec` in words.\n#[cfg(test)]\nmod tests { use std::vec; }\n",
        ),
        ("crates/fastport-core/Cargo.toml", "[dependencies]\nfastport-wire = { path = \"x\" }\n"),
        (
            "crates/fastport-core/src/lib.rs",
            "#![no_std]\nextern crate alloc;\n#[cfg(test)]\nextern crate std;\nuse fastport_wire as _;\n",
        ),
    ];
    files.retain(|(name, _)| *name != path);
    files.push((path, text));
    let rules = Rules::parse(RULES).expect("the table below is well formed");
    check(&rules, &Tree::of(files))
}

const RULES: &str = "
## Allowed imports

| who | may name | why |
|---|---|---|
| `main` | `app` | start |
| `app` | `hub`, `link`, `status` | composition |
| `link` | `hub`, `status` | drives the hub |
| `hub` | `status`, `fastport_core`, `fastport_wire` | drives the core |
| `status` | – | counters |
| `fastport_core` | `fastport_wire` | decisions |
| `fastport_wire` | – | format |

## Done without

| who | never names | except in | why |
|---|---|---|---|
| `fastport_wire` | `std`, `alloc` | `json`, tests | firmware |
| `fastport_core` | `std` | tests | firmware |
| `fastport_core` | `tokio`, `std::net`, `std::time` | – | decisions |
";

#[track_caller]
fn caught(path: &str, text: &str, fault: &str) {
    let faults = planted(path, text);
    assert_eq!(faults.len(), 1, "{text:?} in {path}: {faults:#?}");
    assert!(faults[0].contains(fault), "{text:?} in {path}: {faults:#?}");
}

#[track_caller]
fn passes(path: &str, text: &str) {
    assert_eq!(planted(path, text), Vec::<String>::new(), "{text:?} in {path}");
}

#[test]
fn a_correct_tree_passes() {
    passes("src/status.rs", "pub static FRAMES: u64 = 0;\n");
}

#[test]
fn a_planted_import_is_caught_however_it_is_written() {
    for text in [
        "use crate::app::App;",
        "use crate::app;",
        "use crate::{status, app::App};",
        "use crate::{status, app};",
        "use crate::{status::{self, A}, app as _};",
        "use {crate::status, crate::app::App};",
        "fn f() { crate::app::run() }",
        "fn f(a: &crate::app::App) {}",
        "type A = <u8 as crate::app::Run>::Out;",
        "macro_rules! run { () => { $crate::app::run() } }",
        "use super::app;",
        "use super::{app::App, status};",
        "mod inner { use super::super::app::App; }",
        "mod inner { mod more { use super::super::super::app::App; } }",
        "pub use ::fastport::app::App;",
        "fn f() { fastport::app::run() }",
        "fn f() { crate :: app /* in between */ :: run() }",
        "const C: char = '\"'; use crate::app; const D: char = '\"';",
        "fn f<'a>(a: &'a str) { crate::app::run() }",
        "#[cfg(test)] mod tests { use crate::app::App; }",
    ] {
        caught("src/hub/mod.rs", text, "`hub` names `app`");
    }
    caught("src/link/tcp.rs", "use super::super::app::App;", "`link` names `app`");
    caught("src/link/tcp.rs", "mod a { use super::super::super::app; }", "`link` names `app`");
    caught("src/main.rs", "fn main() { fastport::hub::run() }", "`main` names `hub`");
}

#[test]
fn one_place_is_named_by_file_and_line() {
    caught("src/hub/mod.rs", "\n/*\n*/ use crate::app;", "src/hub/mod.rs:3: ");
}

#[test]
fn words_and_own_names_are_no_imports() {
    for text in [
        "// use crate::app::App;",
        "/* /* use crate::app; */ crate::app */",
        "//! [`crate::app`]",
        "/// [`crate::app::App`]\nfn f() {}",
        "const S: &str = \"crate::app\";",
        "const S: &str = r#\"use crate::app; \" crate::app\"#;",
        "const S: &[u8] = b\"\\\"crate::app\";",
        "pub(crate) fn f() {}",
        "pub(in crate::hub) fn f() {}",
        "use crate::hub::session::Session;",
        "use self::session::Session;",
        "mod tests { use super::*; }",
        "mod app { pub fn run() {} } fn f() { app::run(); self::app::run() }",
        "mod inner { use super::app; }",
        "use std::fs;",
    ] {
        passes("src/hub/mod.rs", text);
    }
    passes("src/link/tcp.rs", "use super::udp::Udp;\nuse super::{app, Link};");
}

#[test]
fn what_the_table_cannot_judge_is_refused() {
    caught("src/hub/mod.rs", "use crate::*;", "everything");
    caught("src/hub/mod.rs", "use super::*;", "everything");
    caught("src/hub/mod.rs", "use crate as root;", "under another name");
    caught("src/hub/mod.rs", "use fastport::{self as f};", "under another name");
    caught("src/hub/mod.rs", "use crate::spool::Spool;", "`spool`, which has no row");
    caught("src/spool.rs", "use crate::status;", "`spool` has no row");
    caught("src/lib.rs", "pub mod app; pub use app::run;", "declares modules and nothing else");
    caught("src/lib.rs", "#[path = \"elsewhere.rs\"] pub mod app;", "#[path]");
}

#[test]
fn packages_are_held_to_the_table_in_source_and_manifest() {
    let core = "crates/fastport-core/Cargo.toml";
    caught("src/link/tcp.rs", "use fastport_core::Relay;", "`link` names `fastport_core`");
    caught("src/link/tcp.rs", "use fastport_core as c;", "`link` names `fastport_core`");
    caught("crates/fastport-wire/src/frame.rs", "use fastport_core as _;", "`fastport_wire` names");
    passes("crates/fastport-wire/src/frame.rs", "use crate::app; use super::link::tcp;");
    caught(
        "crates/fastport-wire/Cargo.toml",
        "[dev-dependencies]\nfastport-core.workspace = true",
        "`fastport_wire` names `fastport_core`",
    );
    caught(core, "[target.'cfg(unix)'.dependencies]\nfastport = \"1\"", "names `fastport`");
    caught(core, "[dependencies]\nw = { package = \"fastport-wire\" }", "under another name");
    caught(core, "[build-dependencies]\ntokio = \"1\"", "`fastport_core` names `tokio`");
    caught("crates/fastport-new/Cargo.toml", "", "`fastport_new` has no row");
}

#[test]
fn core_and_wire_do_without_what_the_table_says() {
    let frame = "crates/fastport-wire/src/frame.rs";
    let core = "crates/fastport-core/src/lib.rs";
    caught(frame, "use alloc::vec::Vec;", "`alloc`");
    caught(frame, "extern crate alloc;", "`alloc`");
    caught(frame, "extern crate alloc as heap;", "`alloc`");
    caught(frame, "fn f() -> std::string::String { x }", "`std`");
    caught(frame, "use ::std::vec;", "`std`");
    caught(frame, "#[cfg(feature = \"std\")]\nimpl std::error::Error for E {}", "`std`");
    caught(frame, "#[cfg(not(test))]\nuse std::vec;", "`std`");
    caught(frame, "#[cfg(test)]\nuse std::vec;\nuse std::rc;", ":3: ");
    caught(frame, "struct A {\n#[cfg(test)] a: u8,\nb: std::vec::Vec<u8> }", ":3: ");
    passes(frame, "#[cfg(test)]\n#[allow(x)]\nmod tests { fn f() { std::vec![1]; } }");
    passes(frame, "fn f() { self.std.alloc() }");
    caught(core, "use std::vec;", "`std`");
    caught(core, "#[cfg(test)]\nmod tests { use std::time::Duration; }", "`std::time`");
    caught(core, "#[cfg(test)]\nmod tests { use std::{vec, net::{self, X}}; }", "`std::net`");
    caught(core, "#[cfg(test)]\nmod tests { #[tokio::test] async fn f() {} }", "`tokio`");
    passes(core, "use core::time::Duration;\n#[cfg(test)]\nmod tests { use std::vec; }");
}

#[test]
fn a_file_of_tests_is_known_by_its_declaration() {
    let declared = "#[cfg(test)]\nmod tests;\nmod more;";
    let files = |name| {
        vec![
            ("crates/fastport-core/Cargo.toml", ""),
            ("crates/fastport-core/src/frame.rs", declared),
            (name, "use std::vec;"),
        ]
    };
    let rules = Rules::parse(RULES).expect("the table above is well formed");
    let check = |name| check(&rules, &Tree::of(files(name))).len();
    assert_eq!(check("crates/fastport-core/src/frame/tests.rs"), 0);
    assert_eq!(check("crates/fastport-core/src/frame/more.rs"), 1);
}

#[test]
fn a_table_that_cannot_be_trusted_is_refused() {
    let refused = |table: &str, fault: &str| {
        let error = Rules::parse(table).expect_err(table);
        assert!(error.contains(fault), "{error}");
    };
    let row = |row: &str| {
        format!(
            "## Allowed imports\n\n| who | may name | why |\n|---|---|---|\n{row}\n\n\
             ## Done without\n\n| who | never names | except in | why |\n|---|---|---|---|\n"
        )
    };
    refused("# Nothing", "no section");
    refused("## Allowed imports\n\ntext\n", "no table");
    refused(&row("| `a` | `b` | x |"), "`b`, which has no row");
    refused(&row("| `a` | – | x |\n| `a` | – | x |"), "twice");
    refused(&row("| `a` | – |  |"), "reason");
    refused(&row("| `a` | b | x |"), "in backticks");
    refused(&row("| `a` | – |"), "cells");
}

#[test]
fn a_circle_in_the_table_is_found() {
    let table = "## Allowed imports\n\n| who | may name | why |\n|---|---|---|\n\
                 | `a` | `b` | x |\n| `b` | `c` | x |\n| `c` | `b` | x |\n\n\
                 ## Done without\n\n| who | never names | except in | why |\n|---|---|---|---|\n";
    let rules = Rules::parse(table).expect("well formed");
    assert_eq!(rules.circle().as_deref(), Some("b → c → b"));
}
