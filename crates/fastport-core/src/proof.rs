//! Device keys: each side shows that it has the key by a MAC over what both said.
//!
//! HMAC-SHA-256 (RFC 2104, FIPS 180-4) over a label and the transcript: session, identity, epoch
//! (8 bytes, big-endian), the peer's nonce, the relay's nonce, each with its length in 2 bytes,
//! big-endian, before it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a device key.
pub const KEY_BYTES: usize = 32;
/// Bytes of each side's nonce.
pub const NONCE_BYTES: usize = 16;
/// Bytes of a proof.
pub const PROOF_BYTES: usize = 32;
/// SHA-256's block.
const BLOCK_BYTES: usize = 64;

/// What both sides said before the proofs.
#[derive(Debug, Clone, Copy)]
pub struct Transcript<'a> {
    /// The session's name.
    pub session: &'a str,
    /// The identity's name.
    pub identity: &'a str,
    /// The link epoch.
    pub epoch: u64,
    /// Of the HELLO.
    pub peer_nonce: &'a [u8],
    /// Of the CHALLENGE.
    pub relay_nonce: &'a [u8],
}

/// Whose proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The peer's, in PROOF.
    Peer,
    /// The relay's, in WELCOME.
    Relay,
}

/// The proof of `side`.
#[must_use]
pub fn prove(key: &[u8; KEY_BYTES], side: Side, transcript: &Transcript<'_>) -> [u8; PROOF_BYTES] {
    mac(key, side, transcript).finalize().into_bytes().into()
}

/// Whether `proof` is the one of `side`, in time that does not depend on where it differs.
#[must_use]
pub fn verify(
    key: &[u8; KEY_BYTES],
    side: Side,
    transcript: &Transcript<'_>,
    proof: &[u8],
) -> bool {
    mac(key, side, transcript).verify_slice(proof).is_ok()
}

fn mac(key: &[u8; KEY_BYTES], side: Side, transcript: &Transcript<'_>) -> Hmac<Sha256> {
    // HMAC pads a short key with zeros to a block; done here, no length can be wrong
    let mut block = [0; BLOCK_BYTES];
    block[..KEY_BYTES].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(match side {
        Side::Peer => b"fastport.2 peer",
        Side::Relay => b"fastport.2 relay",
    });
    for part in [
        transcript.session.as_bytes(),
        transcript.identity.as_bytes(),
        &transcript.epoch.to_be_bytes(),
        transcript.peer_nonce,
        transcript.relay_nonce,
    ] {
        // the longest part is a name of at most 64 bytes
        let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
        mac.update(&length.to_be_bytes());
        mac.update(part);
    }
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRANSCRIPT: Transcript<'_> = Transcript {
        session: "plant",
        identity: "sensor-17",
        epoch: 7,
        peer_nonce: &[1; NONCE_BYTES],
        relay_nonce: &[2; NONCE_BYTES],
    };

    #[test]
    fn a_proof_holds_for_its_side_key_and_transcript_only() {
        let key = [9; KEY_BYTES];
        let proof = prove(&key, Side::Peer, &TRANSCRIPT);
        assert!(verify(&key, Side::Peer, &TRANSCRIPT, &proof));
        assert!(!verify(&key, Side::Relay, &TRANSCRIPT, &proof));
        assert!(!verify(&[8; KEY_BYTES], Side::Peer, &TRANSCRIPT, &proof));
        let later = Transcript { relay_nonce: &[3; NONCE_BYTES], ..TRANSCRIPT };
        assert!(!verify(&key, Side::Peer, &later, &proof));
        assert!(!verify(&key, Side::Peer, &TRANSCRIPT, &proof[..31]));
    }

    #[test]
    fn parts_cannot_be_moved_between_fields() {
        let key = [9; KEY_BYTES];
        let shifted = Transcript { session: "plants", identity: "ensor-17", ..TRANSCRIPT };
        assert_ne!(prove(&key, Side::Peer, &TRANSCRIPT), prove(&key, Side::Peer, &shifted));
    }
}
