#![no_main]

#[path = "../streams_check.rs"]
mod streams_check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| streams_check::streams(data));
