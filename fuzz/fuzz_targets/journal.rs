#![no_main]

#[path = "../journal_check.rs"]
mod journal_check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| journal_check::journal(data));
