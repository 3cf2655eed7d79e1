//! Sealed files: how what lies in the file lies in the stream, and what an offer says inside.
//!
//! Every chunk but the last has [`CONTENT`] bytes of the file. Offsets in the stream count what is sent,
//! those that are bound into the seals what is in the file.

use fastport_seal::{CHUNK_HEAD, StreamOpener, StreamSealer, sealed_chunk_len};
use fastport_wire::control::{self, Control, offers};
use fastport_wire::field::MAX_CHUNK;

use super::error::ReceiveError;
use super::name::FileName;

/// The bytes of the file in a chunk.
pub(super) const CONTENT: usize = 16_352;

/// The bytes of such a chunk, sealed.
pub(super) const SEALED: usize = sealed_chunk_len(CONTENT);

const _: () = assert!(SEALED <= MAX_CHUNK && sealed_chunk_len(CONTENT + 1) > MAX_CHUNK);

/// What an offer says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct About {
    pub(super) name: Box<str>,
    pub(super) size: u64,
    pub(super) digest: [u8; 32],
    pub(super) is_directory: bool,
}

impl About {
    /// As it is sealed: the offer as it would be unsealed, without topic and number.
    pub(super) fn encode(&self) -> Vec<u8> {
        let offer = control::Offer {
            topic: "",
            id: 0,
            name: Some(&self.name),
            size: Some(self.size),
            digest: Some(&self.digest),
            flags: self.is_directory.then_some(offers::DIRECTORY),
            ..Default::default()
        };
        let mut body = vec![0; control::BODY_ROOM + FileName::MAX];
        // a name is no longer than that
        let length = Control::from(offer).encode(&mut body).unwrap_or_default();
        body.truncate(length);
        body
    }

    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let Ok(Control::Offer(offer)) = Control::decode(body) else { return None };
        Some(Self {
            name: offer.name?.into(),
            size: offer.size?,
            digest: offer.digest?.try_into().ok()?,
            is_directory: offer.flags.unwrap_or(0) & offers::DIRECTORY != 0,
        })
    }
}

/// The length of the stream of a file that is so long.
pub(super) fn stream_size(size: u64) -> u64 {
    let rest = size % CONTENT as u64;
    let last = if rest > 0 || size == 0 {
        sealed_chunk_len(usize::try_from(rest).unwrap_or(CONTENT)) as u64
    } else {
        0
    };
    (size / CONTENT as u64).saturating_mul(SEALED as u64).saturating_add(last)
}

/// Where the chunk begins in the stream that has this place of the file at its front.
pub(super) fn to_stream(at: u64) -> u64 {
    at / CONTENT as u64 * SEALED as u64
}

/// The inverse of [`to_stream`]; `None`: no chunk begins there.
pub(super) fn to_file(at: u64) -> Option<u64> {
    at.is_multiple_of(SEALED as u64).then(|| at / SEALED as u64 * CONTENT as u64)
}

/// Seals a block of the file that begins at `at`: its chunks. `size` is the file's.
pub(super) fn seal(sealer: &StreamSealer, at: u64, block: &[u8], size: u64) -> Vec<Vec<u8>> {
    let mut sealed = Vec::new();
    let mut next = at;
    // of an empty file there is one chunk
    let empty: &[&[u8]] = if block.is_empty() { &[&[]] } else { &[] };
    for content in block.chunks(CONTENT).chain(empty.iter().copied()) {
        let mut chunk = vec![0; sealed_chunk_len(content.len())];
        chunk[CHUNK_HEAD..][..content.len()].copy_from_slice(content);
        let is_last = next + content.len() as u64 == size;
        let length = sealer.seal_chunk(next, is_last, &mut chunk, content.len());
        chunk.truncate(length.unwrap_or_default());
        next += content.len() as u64;
        sealed.push(chunk);
    }
    sealed
}

/// Opens a chunk that has to be the file's next.
pub(super) fn open(
    opener: &mut StreamOpener,
    chunk: &[u8],
    is_last: bool,
) -> Result<Vec<u8>, ReceiveError> {
    let mut buffer = chunk.to_vec();
    let at = opener.next_offset();
    let opened = opener.open_chunk(at, is_last, &mut buffer).map_err(ReceiveError::Chunk)?;
    Ok(opened.to_vec())
}

#[cfg(test)]
mod tests {
    use fastport_seal::{Few, Freshness, Sealer, SenderId, SessionKey, open_offer, sealed_len};

    use super::*;

    #[test]
    fn every_place_in_a_file_has_its_chunk_in_the_stream() {
        for (size, stream) in [
            (0, sealed_chunk_len(0) as u64),
            (1, sealed_chunk_len(1) as u64),
            (CONTENT as u64, SEALED as u64),
            (CONTENT as u64 + 1, (SEALED + sealed_chunk_len(1)) as u64),
            (3 * CONTENT as u64, 3 * SEALED as u64),
        ] {
            assert_eq!(stream_size(size), stream, "{size}");
        }
        for number in [0, 1, 1 << 30] {
            let at = number * CONTENT as u64;
            assert_eq!(to_file(to_stream(at)), Some(at));
        }
        assert_eq!(to_file(1), None);
    }

    /// What opens what `sealer` seals, and the other way round.
    fn pair() -> (StreamSealer, StreamOpener) {
        let scope = SessionKey::new([7; 32]).scope("home");
        let mut sealer = Sealer::new(&scope, SenderId(*b"sender 1"), 0);
        let up_to = sealer.wants().expect("nothing is reserved yet");
        sealer.reserved(up_to);
        let mut buffer = [0; sealed_len(2)];
        let (sealed, chunks) = sealer.seal_offer("t", &mut buffer, 2).expect("reserved");
        let mut senders = Few::<1, 1>::new();
        let sealed = &mut buffer[..sealed.len];
        let (_, opener) = open_offer(&[scope], &mut senders, "t", Freshness::New, sealed)
            .map_err(|error| format!("{error}"))
            .expect("its own");
        (chunks, opener)
    }

    #[test]
    fn a_file_opens_in_order_and_a_chunk_that_is_changed_moved_or_cut_does_not() {
        let size = 2 * CONTENT + 100;
        let file = vec![3; size];
        let (sealer, mut opener) = pair();
        let chunks = seal(&sealer, 0, &file, size as u64);
        let total: usize = chunks.iter().map(Vec::len).sum();
        assert_eq!((chunks.len(), total as u64), (3, stream_size(size as u64)));
        assert!(open(&mut opener, &chunks[1], false).is_err(), "moved to the front");
        let mut changed = chunks[0].clone();
        changed[1000] ^= 1;
        assert!(open(&mut opener, &changed, false).is_err());
        assert!(open(&mut opener, &chunks[0][..SEALED - 1], false).is_err());
        assert!(open(&mut opener, &chunks[0], true).is_err(), "it is not the last");
        let mut opened = open(&mut opener, &chunks[0], false).expect("as it was sealed");
        assert!(opener.finish().is_err(), "truncated");
        // another link goes on in the middle
        opener.resume_at(CONTENT as u64);
        opened.extend(open(&mut opener, &chunks[1], false).expect("as it was sealed"));
        opened.extend(open(&mut opener, &chunks[2], true).expect("as it was sealed"));
        assert_eq!(opener.finish().ok(), Some(size as u64));
        assert!(opened == file);
    }

    #[test]
    fn what_an_offer_says_comes_back() {
        let name = "ö".repeat(FileName::MAX / 2).into();
        let about = About { name, size: u64::MAX, digest: [7; 32], is_directory: true };
        let body = about.encode();
        assert!(body.len() <= 320, "{}", body.len());
        assert_eq!(About::decode(&body), Some(about));
    }
}
