//! The primitives of sealing on one core: those that the programs have, in chunks as streams have them, and
//! the same of OpenSSL where its program is installed.

use std::fs;
use std::hint::black_box;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use aes::cipher::{Array, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use aes::{Aes256Dec, Aes256Enc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// MB a second; of OpenSSL's, if it is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) name: &'static str,
    pub(crate) ours: f64,
    pub(crate) openssl: Option<f64>,
}

/// By place in what [`measure`] gives.
pub(crate) const ENCRYPT: usize = 0;
pub(crate) const DECRYPT: usize = 1;
pub(crate) const MAC: usize = 2;
pub(crate) const HASH: usize = 3;

/// One round, on one core.
pub(crate) fn measure() -> [Rate; 4] {
    std::thread::spawn(|| {
        pin();
        let (key, iv) = (Array::from([1; 32]), Array::from([2; 16]));
        let mut encryptor = cbc::Encryptor::<Aes256Enc>::new(&key, &iv);
        let mut decryptor = cbc::Decryptor::<Aes256Dec>::new(&key, &iv);
        let mac = Hmac::<Sha256>::new_from_slice(&[3; 32]).expect("HMAC takes a key of any length");
        [
            Rate {
                name: "AES-256-CBC, encrypting",
                ours: rate(|chunk| encryptor.encrypt_blocks(Array::slice_as_chunks_mut(chunk).0)),
                openssl: openssl(&["-evp", "aes-256-cbc"]),
            },
            Rate {
                name: "AES-256-CBC, decrypting",
                ours: rate(|chunk| decryptor.decrypt_blocks(Array::slice_as_chunks_mut(chunk).0)),
                openssl: openssl(&["-decrypt", "-evp", "aes-256-cbc"]),
            },
            Rate {
                name: "HMAC-SHA-256",
                ours: rate(|chunk| {
                    let mut mac = mac.clone();
                    mac.update(chunk);
                    black_box(mac.finalize());
                }),
                openssl: openssl(&["-hmac", "sha256"]),
            },
            Rate {
                name: "SHA-256",
                ours: rate(|chunk| {
                    black_box(Sha256::digest(chunk));
                }),
                openssl: openssl(&["-evp", "sha256"]),
            },
        ]
    })
    .join()
    .expect("no panic")
}

fn rate(mut work: impl FnMut(&mut [u8])) -> f64 {
    let mut chunk = vec![7; CHUNK];
    let (begun, mut bytes) = (Instant::now(), 0.0);
    while begun.elapsed() < TIME {
        for _ in 0..16 {
            work(black_box(&mut chunk));
            bytes += CHUNK as f64;
        }
    }
    bytes / begun.elapsed().as_secs_f64() / 1e6
}

/// Of `openssl speed` for a second, which inherits the core.
fn openssl(what: &[&str]) -> Option<f64> {
    let mut command = Command::new("openssl");
    command.args(["speed", "-mr", "-elapsed", "-seconds", "1", "-bytes", &CHUNK.to_string()]);
    let output = command.args(what).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().find(|line| line.starts_with("+F:"))?;
    line.rsplit(':').next()?.parse::<f64>().ok().map(|rate| rate / 1e6)
}

/// Keeps this thread, and what it starts, on one core; without `taskset` the kernel chooses.
fn pin() {
    let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
    if let Some(id) = thread.file_name() {
        let mut command = Command::new("taskset");
        let pinned = command.args(["-cp", "0"]).arg(id).stdout(Stdio::null()).status();
        if !pinned.is_ok_and(|status| status.success()) {
            eprintln!("no taskset: the primitives are measured on whichever core is free");
        }
    }
}

/// As the longest chunk of a stream has.
const CHUNK: usize = 16 * 1024;
const TIME: Duration = Duration::from_millis(300);
