#![no_main]

#[path = "../seal_check.rs"]
mod seal_check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| seal_check::seal(data));
