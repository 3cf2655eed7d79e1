//! What must hold for any message, any damage and any bytes.

mod support;

use fastport_seal::{
    CHUNK_HEAD, ChunkError, Content, Few, Freshness, OpenError, SealError, Sealer, SenderId,
    StreamOpener, StreamSealer, Unfinished, open, open_offer, sealed_chunk_len, sealed_len,
};
use proptest::prelude::*;

use self::support::{SENDER, home, key, name, open_copy, open_first, seal, sealer};

const CONTENT: Content<'static> = Content::message("a/b");

fn plain() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..600)
}

proptest! {
    #[test]
    fn what_was_sealed_opens_once(plain in plain(), counter in 0u64..1 << 40) {
        let sealed = seal(&mut sealer(&home(), SENDER, counter), CONTENT, &plain);
        prop_assert_eq!(sealed.len(), sealed_len(plain.len()));
        let mut senders = Few::new();
        let first = open_copy(&[home()], &mut senders, CONTENT, &sealed);
        prop_assert_eq!(first, Ok(plain));
        let second = open_copy(&[home()], &mut senders, CONTENT, &sealed);
        prop_assert_eq!(second, Err(OpenError::Replay { counter }));
    }

    #[test]
    fn one_bit_anywhere_is_called_altered(plain in plain(), at in any::<prop::sample::Index>()) {
        let mut sealed = seal(&mut sealer(&home(), SENDER, 7), CONTENT, &plain);
        let bit = at.index(sealed.len() * 8);
        sealed[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(open_first(&[home()], CONTENT, &sealed), Err(OpenError::Altered));
    }

    #[test]
    fn what_was_cut_anywhere_is_called_truncated(
        plain in plain(),
        at in any::<prop::sample::Index>(),
    ) {
        let sealed = seal(&mut sealer(&home(), SENDER, 7), CONTENT, &plain);
        let cut = &sealed[..at.index(sealed.len())];
        prop_assert_eq!(open_first(&[home()], CONTENT, cut), Err(OpenError::Truncated));
    }

    #[test]
    fn what_was_sealed_for_elsewhere_is_called_that(plain in plain()) {
        let scopes = [home(), key(1).scope("home")];
        for (scope, content, expected) in [
            (key(2).scope("home"), CONTENT, "unknown-key"),
            (key(0).scope("office"), CONTENT, "other-session"),
            (key(1).scope("office"), CONTENT, "other-session"),
            (home(), Content::message("a/c"), "other-topic"),
            (home(), Content::readings("a/b", b""), "other-topic"),
            (home(), Content::offer("a/b"), "other-topic"),
        ] {
            let sealed = seal(&mut sealer(&scope, SENDER, 7), content, &plain);
            let opened = open_first(&scopes, CONTENT, &sealed).map_err(name);
            prop_assert_eq!(opened, Err(expected));
        }
    }

    #[test]
    fn any_bytes_are_refused_and_make_nobody_known(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        begins_well in any::<bool>(),
    ) {
        let mut sealed = bytes;
        if begins_well && sealed.len() >= 8 {
            let good = seal(&mut sealer(&home(), SENDER, 7), CONTENT, b"");
            sealed[1..8].copy_from_slice(&good[1..8]);
        }
        let mut senders = Few::<0, 1>::new();
        let mut buffer = sealed.clone();
        let error = open(&[home()], &mut senders, CONTENT, Freshness::New, &mut buffer);
        let error = error.expect_err("nobody sealed it");
        // a sender that proves itself would find no room
        prop_assert_ne!(error, OpenError::TooManySenders);
        prop_assert_eq!(buffer, sealed);
    }

    #[test]
    fn chunks_open_in_their_place_only(plain in plain(), offset in 0u64..1 << 40, last: bool) {
        let (sealer, mut opener) = stream();
        let sealed = seal_chunk(&sealer, offset, last, &plain);
        opener.resume_at(offset);
        for (offset, last) in [(offset + 1, last), (offset, !last), (0, !last)] {
            let opened = opener.open_chunk(offset, last, &mut sealed.clone()).map(|_| ());
            prop_assert_eq!(opened, Err(ChunkError::Altered));
        }
        let (_, mut other) = stream_of(8);
        other.resume_at(offset);
        let opened = other.open_chunk(offset, last, &mut sealed.clone()).map(|_| ());
        prop_assert_eq!(opened, Err(ChunkError::Altered));
        let mut buffer = sealed.clone();
        let opened = opener.open_chunk(offset, last, &mut buffer).map(|plain| plain.to_vec());
        prop_assert_eq!(opened, Ok(plain));
    }

    #[test]
    fn a_damaged_chunk_is_called_altered_or_truncated(
        plain in plain(),
        at in any::<prop::sample::Index>(),
    ) {
        let (sealer, mut opener) = stream();
        let sealed = seal_chunk(&sealer, 0, false, &plain);
        let mut flipped = sealed.clone();
        let bit = at.index(sealed.len() * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
        let opened = opener.open_chunk(0, false, &mut flipped).map(|_| ());
        prop_assert_eq!(opened, Err(ChunkError::Altered));
        let mut cut = sealed[..at.index(sealed.len())].to_vec();
        let opened = opener.open_chunk(0, false, &mut cut).map(|_| ());
        prop_assert_eq!(opened, Err(ChunkError::Truncated));
    }
}

/// Both ends of the stream whose offer has that counter.
fn stream_of(counter: u64) -> (StreamSealer, StreamOpener) {
    let mut offer = [0; 64];
    let mut sealer = sealer(&home(), SENDER, counter);
    let (sealed, chunks) = sealer.seal_offer("files", &mut offer, 3).expect("reserved");
    let offer = &mut offer[..sealed.len];
    let mut senders = Few::<1, 1>::new();
    let opened = open_offer(&[home()], &mut senders, "files", Freshness::New, offer);
    (chunks, opened.expect("as it was sealed").1)
}

fn stream() -> (StreamSealer, StreamOpener) {
    stream_of(7)
}

fn seal_chunk(sealer: &StreamSealer, offset: u64, last: bool, plain: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0xee; sealed_chunk_len(plain.len())];
    buffer[CHUNK_HEAD..][..plain.len()].copy_from_slice(plain);
    sealer.seal_chunk(offset, last, &mut buffer, plain.len()).expect("long enough");
    buffer
}

#[test]
fn a_stream_without_its_last_chunk_is_unfinished() {
    let (sealer, mut opener) = stream();
    assert_eq!(opener.finish(), Err(Unfinished { bytes: 0 }));
    let mut chunk = seal_chunk(&sealer, 0, false, b"abc");
    opener.open_chunk(0, false, &mut chunk).expect("in its place");
    assert_eq!(opener.finish(), Err(Unfinished { bytes: 3 }));
    let mut chunk = seal_chunk(&sealer, 3, true, b"");
    opener.open_chunk(3, true, &mut chunk).expect("in its place");
    assert_eq!(opener.finish(), Ok(3));
    let mut chunk = seal_chunk(&sealer, 3, false, b"more");
    assert_eq!(opener.open_chunk(3, false, &mut chunk), Err(ChunkError::AfterEnd));
}

#[test]
fn a_missing_or_repeated_chunk_is_out_of_place() {
    let (sealer, mut opener) = stream();
    let first = seal_chunk(&sealer, 0, false, b"abc");
    opener.open_chunk(0, false, &mut first.clone()).expect("in its place");
    let again = opener.open_chunk(0, false, &mut first.clone()).map(|_| ());
    assert_eq!(again, Err(ChunkError::OutOfPlace { expected: 3 }));
    let mut third = seal_chunk(&sealer, 6, false, b"ghi");
    let third = opener.open_chunk(6, false, &mut third).map(|_| ());
    assert_eq!(third, Err(ChunkError::OutOfPlace { expected: 3 }));
    let mut second = seal_chunk(&sealer, 3, false, b"def");
    opener.open_chunk(3, false, &mut second).expect("the stream is where it was");
}

#[test]
fn messages_of_several_senders_may_come_in_any_order_within_the_window() {
    let (mut one, mut two) =
        (sealer(&home(), SENDER, 0), sealer(&home(), SenderId(*b"sender 2"), 500));
    let mut sealed: Vec<_> = (0..128u8).map(|n| seal(&mut one, CONTENT, &[n])).collect();
    sealed.extend((128..=255).map(|n| seal(&mut two, CONTENT, &[n])));
    sealed.reverse();
    let mut senders = Few::new();
    for (n, sealed) in (0..=255u8).rev().zip(&sealed) {
        assert_eq!(open_copy(&[home()], &mut senders, CONTENT, sealed), Ok(vec![n]));
    }
}

#[test]
fn what_is_behind_the_window_is_too_old_and_the_past_may_be() {
    let mut sealer = sealer(&home(), SENDER, 0);
    let sealed: Vec<_> = (0..200u8).map(|n| seal(&mut sealer, CONTENT, &[n])).collect();
    let mut senders = Few::new();
    open_copy(&[home()], &mut senders, CONTENT, &sealed[199]).expect("new");
    let old = open_copy(&[home()], &mut senders, CONTENT, &sealed[71]);
    assert_eq!(old, Err(OpenError::TooOld { counter: 71, oldest: 72 }));
    for at in [71, 199, 150] {
        let mut past = sealed[at].clone();
        open(&[home()], &mut senders, CONTENT, Freshness::Any, &mut past).expect("authentic");
    }
    // what came as the past does not come again as new
    let again = open_copy(&[home()], &mut senders, CONTENT, &sealed[150]);
    assert_eq!(again, Err(OpenError::Replay { counter: 150 }));
    assert_eq!(open_copy(&[home()], &mut senders, CONTENT, &sealed[72]), Ok(vec![72]));
}

#[test]
fn old_and_new_key_open_while_both_are_at_hand() {
    let (old, new) = (key(0).scope("home"), key(100).scope("home"));
    let by_old = seal(&mut sealer(&old, SENDER, 3), CONTENT, b"old");
    let by_new = seal(&mut sealer(&new, SENDER, 4), CONTENT, b"new");
    let both = [new.clone(), old];
    let mut senders = Few::new();
    assert_eq!(open_copy(&both, &mut senders, CONTENT, &by_new), Ok(b"new".to_vec()));
    assert_eq!(open_copy(&both, &mut senders, CONTENT, &by_old), Ok(b"old".to_vec()));
    let error = open_first(&[new], CONTENT, &by_old);
    assert_eq!(error, Err(OpenError::UnknownKey(key(0).id())));
}

#[test]
fn a_sender_that_there_is_no_room_for_is_refused_by_name() {
    let mut senders = Few::new();
    for n in 0..5u8 {
        let sealed = seal(&mut sealer(&home(), SenderId([n; 8]), 0), CONTENT, &[n]);
        let opened = open_copy(&[home()], &mut senders, CONTENT, &sealed);
        assert_eq!(opened, if n < 4 { Ok(vec![n]) } else { Err(OpenError::TooManySenders) });
    }
}

#[test]
fn nothing_is_sealed_without_a_reserved_counter_or_room() {
    let mut sealer = Sealer::new(&home(), SENDER, 10);
    let mut buffer = [0; sealed_len(3)];
    assert_eq!(sealer.seal(CONTENT, &mut buffer, 3), Err(SealError::NotReserved));
    sealer.reserved(11);
    let needs = sealed_len(3);
    assert_eq!(
        sealer.seal(CONTENT, &mut buffer[..needs - 1], 3),
        Err(SealError::NoRoom { needs }),
        "and no counter is lost"
    );
    assert_eq!(sealer.seal(CONTENT, &mut buffer, 3).map(|sealed| sealed.counter), Ok(10));
    assert_eq!(sealer.seal(CONTENT, &mut buffer, 3), Err(SealError::NotReserved));
}

#[test]
fn the_same_text_seals_to_other_bytes_each_time() {
    let mut sealer = sealer(&home(), SENDER, 0);
    let first = seal(&mut sealer, CONTENT, &[7; 64]);
    let second = seal(&mut sealer, CONTENT, &[7; 64]);
    let blocks =
        |sealed: &[u8]| sealed[22..22 + 64].chunks(16).map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert!(blocks(&first).iter().all(|block| !blocks(&second).contains(block)));
}

#[test]
fn keys_are_not_printed() {
    let shown = format!("{:?} {:?}", key(0), home());
    assert_eq!(shown, "SessionKey(KeyId(4d98)) Scope(KeyId(4d98))");
}
