//! What must hold for any bytes that are taken for something sealed: the body of the fuzz target
//! `seal`, and on a stable compiler of the test `corpus` in fastport-seal.

use fastport_seal::{
    CHUNK_HEAD, Content, Few, Freshness, MESSAGE_HEAD, OpenError, Scope, Sealer, SenderId,
    SessionKey, open, open_offer, sealed_chunk_len, sealed_len,
};

/// Input: what to do, then bytes. They are opened as a message and as a chunk; they are sealed and
/// opened again; and what was sealed is changed by them. Nothing opens that was not sealed so.
pub(crate) fn seal(data: &[u8]) {
    let Some((&what, bytes)) = data.split_first() else { return };
    let scopes = [SessionKey::new([1; 32]).scope("home"), SessionKey::new([2; 32]).scope("home")];
    match what % 4 {
        0 => nobody_sealed(&scopes, bytes),
        1 => opens_again(&scopes, bytes),
        2 => no_change_passes(&scopes, bytes),
        _ => chunks(&scopes, bytes),
    }
}

const CONTENT: Content<'static> = Content::readings("a/b", b"\x20\xfe\x00");

fn sealer(scope: &Scope) -> Sealer {
    let mut sealer = Sealer::new(scope, SenderId(*b"a sender"), 0);
    sealer.reserved(16);
    sealer
}

fn sealed(scope: &Scope, plain: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; sealed_len(plain.len())];
    buffer[MESSAGE_HEAD..][..plain.len()].copy_from_slice(plain);
    sealer(scope).seal(CONTENT, &mut buffer, plain.len()).expect("counters are reserved");
    buffer
}

fn nobody_sealed(scopes: &[Scope], bytes: &[u8]) {
    let mut senders = Few::<0, 1>::new();
    for freshness in [Freshness::New, Freshness::Any] {
        let mut buffer = bytes.to_vec();
        let error = open(scopes, &mut senders, CONTENT, freshness, &mut buffer).map(|_| ());
        assert!(!matches!(error, Ok(()) | Err(OpenError::TooManySenders)), "a forgery");
        assert_eq!(buffer, bytes);
    }
}

fn opens_again(scopes: &[Scope], plain: &[u8]) {
    let mut senders = Few::<2, 1>::new();
    for scope in scopes {
        let mut buffer = sealed(scope, plain);
        let opened = open(scopes, &mut senders, CONTENT, Freshness::New, &mut buffer);
        assert_eq!(opened.expect("sealed for here").plain, plain);
    }
}

/// Exclusive-or of the input with something sealed, cut or made as long as the input says.
fn no_change_passes(scopes: &[Scope], bytes: &[u8]) {
    let good = sealed(&scopes[0], &[7; 40]);
    let mut changed = good.clone();
    changed.resize(bytes.len(), 0);
    changed.iter_mut().zip(bytes).for_each(|(byte, change)| *byte ^= change);
    if changed != good {
        nobody_sealed(scopes, &changed);
    }
}

fn chunks(scopes: &[Scope], bytes: &[u8]) {
    let Some((offset, plain)) = bytes.split_first_chunk::<8>() else { return };
    let (offset, last) = (u64::from_be_bytes(*offset), bytes.len().is_multiple_of(2));
    let mut offer = vec![0; sealed_len(0)];
    let (_, sealer) =
        sealer(&scopes[0]).seal_offer("files", &mut offer, 0).expect("counters are reserved");
    let mut senders = Few::<1, 1>::new();
    let (_, mut opener) = open_offer(scopes, &mut senders, "files", Freshness::New, &mut offer)
        .expect("sealed for here");
    opener.resume_at(offset);
    let opened = opener.open_chunk(offset, last, &mut plain.to_vec()).map(|_| ());
    assert!(opened.is_err(), "a forgery");

    let mut buffer = vec![0; sealed_chunk_len(plain.len())];
    buffer[CHUNK_HEAD..][..plain.len()].copy_from_slice(plain);
    sealer.seal_chunk(offset, last, &mut buffer, plain.len()).expect("long enough");
    let opened = opener.open_chunk(offset, last, &mut buffer).map(|plain| plain.to_vec());
    match offset.checked_add(plain.len() as u64) {
        Some(_) => assert_eq!(opened.as_deref(), Ok(plain)),
        None => assert!(opened.is_err()),
    }
}
