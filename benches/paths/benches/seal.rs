//! What sealing and opening cost, beside the primitives alone on the same core: `cargo bench -p
//! fastport-paths --bench seal`. The last lines say how much of it is the primitives'.
#![allow(clippy::print_stdout, reason = "the figures are what it is for")]
#![allow(missing_docs, reason = "criterion's macro makes a public function")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use aes::cipher::{Array, BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use aes::{Aes256Dec, Aes256Enc};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group};
use fastport_seal::{
    CHUNK_HEAD, Content, Few, Freshness, MESSAGE_HEAD, Scope, Sealer, SenderId, SessionKey,
    StreamOpener, StreamSealer, open, open_offer, sealed_chunk_len, sealed_len,
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const SIZES: [usize; 4] = [16, 256, 1024, 16 * 1024];
const CONTENT: Content<'static> = Content::message("plant/boiler/temperature");

fn scope() -> Scope {
    SessionKey::new([7; 32]).scope("home")
}

fn sealer() -> Sealer {
    let mut sealer = Sealer::new(&scope(), SenderId(*b"a sender"), 0);
    sealer.reserved(u64::MAX);
    sealer
}

/// A function that seals one message of that size.
fn sealing(size: usize) -> impl FnMut() {
    let (mut sealer, mut buffer) = (sealer(), vec![0; sealed_len(size)]);
    move || {
        let sealed = sealer.seal(CONTENT, black_box(&mut buffer), size);
        black_box(sealed.expect("counters are reserved"));
    }
}

/// A function that opens one message of that size.
fn opening(size: usize) -> impl FnMut() {
    let mut sealed = vec![0; sealed_len(size)];
    sealer().seal(CONTENT, &mut sealed, size).expect("counters are reserved");
    let (scopes, mut senders) = ([scope()], Few::<1, 16>::new());
    let mut buffer = sealed.clone();
    move || {
        buffer.copy_from_slice(&sealed);
        // the same each time, and so the past
        let opened = open(&scopes, &mut senders, CONTENT, Freshness::Any, black_box(&mut buffer));
        black_box(opened.expect("it was sealed so").counter);
    }
}

fn stream() -> (StreamSealer, StreamOpener) {
    let mut offer = vec![0; sealed_len(0)];
    let (_, sealer) = sealer().seal_offer("files", &mut offer, 0).expect("counters are reserved");
    let mut senders = Few::<1, 1>::new();
    let opened = open_offer(&[scope()], &mut senders, "files", Freshness::New, &mut offer);
    (sealer, opened.expect("it was sealed so").1)
}

fn sealing_chunks(size: usize) -> impl FnMut() {
    let ((sealer, _), mut buffer) = (stream(), vec![0; sealed_chunk_len(size)]);
    let mut offset = 0;
    move || {
        let sealed = sealer.seal_chunk(offset, false, black_box(&mut buffer), size);
        offset += size as u64;
        black_box(sealed.expect("there is room"));
    }
}

fn opening_chunks(size: usize) -> impl FnMut() {
    let (sealer, mut opener) = stream();
    let mut sealed = vec![0; sealed_chunk_len(size)];
    sealed[CHUNK_HEAD..CHUNK_HEAD + size].fill(1);
    sealer.seal_chunk(0, false, &mut sealed, size).expect("there is room");
    let mut buffer = sealed.clone();
    move || {
        buffer.copy_from_slice(&sealed);
        opener.resume_at(0);
        let opened = opener.open_chunk(0, false, black_box(&mut buffer));
        black_box(opened.expect("it was sealed so").len());
    }
}

/// AES-256-CBC and HMAC-SHA-256 with keys at hand, of as many bytes as a message of that size needs.
fn primitives(size: usize, encrypts: bool) -> impl FnMut() {
    let mut buffer = vec![0; size.next_multiple_of(16)];
    let (key, iv) = (Array::from([1; 32]), Array::from([2; 16]));
    let mut encryptor = cbc::Encryptor::<Aes256Enc>::new(&key, &iv);
    let mut decryptor = cbc::Decryptor::<Aes256Dec>::new(&key, &iv);
    let mac = Hmac::<Sha256>::new_from_slice(&[3; 32]).expect("HMAC takes a key of any length");
    let head = [0; 32 + MESSAGE_HEAD];
    move || {
        let (blocks, _) = Array::slice_as_chunks_mut(black_box(&mut buffer[..]));
        match encrypts {
            true => encryptor.encrypt_blocks(blocks),
            false => decryptor.decrypt_blocks(blocks),
        }
        let mut mac = mac.clone();
        mac.update(&head);
        mac.update(&buffer);
        black_box(mac.finalize());
    }
}

fn all(criterion: &mut Criterion) {
    for size in SIZES {
        let mut group = criterion.benchmark_group("seal");
        group.throughput(Throughput::Bytes(size as u64));
        let id = |name: &str| BenchmarkId::new(name, size);
        group.bench_function(id("message"), |b| b.iter(sealing(size)));
        group.bench_function(id("open-message"), |b| b.iter(opening(size)));
        group.bench_function(id("chunk"), |b| b.iter(sealing_chunks(size)));
        group.bench_function(id("open-chunk"), |b| b.iter(opening_chunks(size)));
        group.bench_function(id("cbc-hmac"), |b| b.iter(primitives(size, true)));
        group.bench_function(id("hmac-cbc-back"), |b| b.iter(primitives(size, false)));
        group.finish();
    }
}

/// The nanoseconds of one call: the best of several rounds, since what disturbs only adds.
fn nanoseconds(mut work: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..15 {
        let (begun, mut calls) = (Instant::now(), 0u32);
        while begun.elapsed() < Duration::from_millis(20) {
            (0..64).for_each(|_| work());
            calls += 64;
        }
        best = best.min(begun.elapsed().as_secs_f64() * 1e9 / f64::from(calls));
    }
    best
}

fn shares() {
    println!("\n| bytes | what | ns | of that AES-CBC and HMAC | MB/s |\n|--:|---|--:|--:|--:|");
    for size in SIZES {
        let [sealing_alone, opening_alone] =
            [true, false].map(|encrypts| nanoseconds(primitives(size, encrypts)));
        for (what, took, alone) in [
            ("seal a message", nanoseconds(sealing(size)), sealing_alone),
            ("open a message", nanoseconds(opening(size)), opening_alone),
            ("seal a chunk", nanoseconds(sealing_chunks(size)), sealing_alone),
            ("open a chunk", nanoseconds(opening_chunks(size)), opening_alone),
        ] {
            let (share, rate) = (100.0 * alone / took, size as f64 * 1e3 / took);
            println!("| {size} | {what} | {took:.0} | {share:.0} % | {rate:.0} |");
        }
    }
}

criterion_group!(benches, all);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
    // `cargo test --benches` only wants to see that it runs
    if std::env::args().any(|argument| argument == "--bench") {
        shares();
    }
}
