//! Says when the program was built (`SOURCE_DATE_EPOCH`, else now), which is what a board without a clock
//! knows of the time; and lets the linker put the functions that a start of the daemon runs side by side.
//!
//! The kernel maps a program's text in pieces of 64 KiB around what is touched. Spread over all of
//! the program the 300 KB that a start runs mapped nearly everything of it; side by side they map
//! themselves, and a start from an SD card reads that much less. `tools/start-order.sh` finds them.
//! Their names hold for any version of the compiler that mangles names this way; with another the
//! order is the linker's own, and nothing else changes.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|epoch| epoch.trim().parse().ok());
    // not FASTPORT_…: cargo hands it to what it runs, too, and the daemon would take it for a setting
    println!("cargo::rustc-env=BUILT_AT={}", epoch.unwrap_or_else(now));
    println!("cargo::rerun-if-changed=tools/start-order.ld");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|it| it == value);
    // only for what is installed: a debug build has other functions, and is linked often
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo::rustc-link-arg-bin=fastportd=-Wl,-T,{folder}/tools/start-order.ld");
        if is("CARGO_CFG_TARGET_ENV", "gnu") {
            link_unwinder();
        }
    }
}

/// Links libgcc's unwinder into the program, which has no use for it while all goes well: mapping the
/// shared one takes 96 KiB. Where the linker looks for that, it first finds a script that names the
/// archive.
fn link_unwinder() {
    let folder = std::env::var("OUT_DIR").unwrap_or_default();
    let path = std::path::Path::new(&folder).join("libgcc_s.so");
    match std::fs::write(&path, "INPUT(-lgcc_eh -lgcc)\n") {
        Ok(()) => println!("cargo::rustc-link-search=native={folder}"),
        Err(error) => println!("cargo::warning=linked as shared: {}: {error}", path.display()),
    }
}
