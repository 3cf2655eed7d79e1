//! What a test does that this machine cannot run: it says so, where somebody sees it, and fails where nothing
//! may be skipped.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]
#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

use std::env;
use std::io::{self, Write};

/// Says that something is not tested here, and why. Fails the test instead where `FASTPORT_NO_SKIP` is set,
/// as `.ci/run` does.
pub fn skip(why: &str) {
    let is_forbidden = env::var_os(NO_SKIP).is_some_and(|value| !value.is_empty());
    assert!(!is_forbidden, "not to be skipped, as {NO_SKIP} is set: {why}");
    // past `print!`, of which a test that passes shows nothing
    let told = io::stderr().write_all(format!("SKIPPED: {why}\n").as_bytes());
    told.unwrap_or_else(|error| panic!("nobody hears that this is skipped: {why} ({error})"));
}

const NO_SKIP: &str = "FASTPORT_NO_SKIP";
