#![no_main]

#[path = "../pack_check.rs"]
mod pack_check;

libfuzzer_sys::fuzz_target!(|data: &[u8]| pack_check::pack(data));
