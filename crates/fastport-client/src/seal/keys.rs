//! The keys of a session, and the file that holds them.

use std::fmt;

use fastport_seal::{KeyId, SessionKey};
use zeroize::Zeroizing;

/// The keys that are at hand in a session: the first seals, all open. At least one, at most
/// [`KeyRing::MOST`], and no two of one id.
#[derive(Debug, Clone)]
pub struct KeyRing(Vec<SessionKey>);

/// Why a text is no key ring, or a change makes none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyRingError {
    /// That line is neither 64 hexadecimal digits nor a comment.
    BadLine(usize),
    /// There is no key in it.
    Empty,
    /// There are more keys than a ring has.
    TooMany,
    /// Two keys have this id: one key twice, or two that cannot be told apart.
    Twice(KeyId),
    /// There is no key of that id.
    Unknown,
    /// The first key seals; put another first before.
    InUse,
}

impl fmt::Display for KeyRingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadLine(line) => write!(
                f,
                "line {line} is no key: a key is 64 hexadecimal digits; make one with \
                 `fastport key new --seal`"
            ),
            Self::Empty => {
                f.write_str("there is no key in it; make one with `fastport key new --seal`")
            }
            Self::TooMany => write!(f, "more than {} keys; remove old ones", KeyRing::MOST),
            Self::Twice(id) => write!(f, "two keys of id {id}; keep one of them"),
            Self::Unknown => f.write_str("there is no key of that id"),
            Self::InUse => f.write_str("it is the key that seals; put another first before"),
        }
    }
}

impl std::error::Error for KeyRingError {}

impl KeyRing {
    /// The most keys.
    pub const MOST: usize = 8;

    /// A ring of one key.
    #[must_use]
    pub fn new(key: SessionKey) -> Self {
        Self(vec![key])
    }

    /// The keys in the text of a key file: one in each line, as 64 hexadecimal digits; what follows a
    /// `#`, and empty lines, are for people.
    ///
    /// # Errors
    /// [`KeyRingError`], which never repeats what may be a key.
    pub fn parse(text: &str) -> Result<Self, KeyRingError> {
        // room for all: growing would leave copies behind
        let mut ring = Self(Vec::with_capacity(Self::MOST));
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            ring.add(from_hex(line).ok_or(KeyRingError::BadLine(at + 1))?)?;
        }
        if ring.0.is_empty() { Err(KeyRingError::Empty) } else { Ok(ring) }
    }

    /// The text for a key file.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.0.len() * LINE));
        for (at, key) in self.0.iter().enumerate() {
            key.as_bytes().iter().for_each(|byte| push_hex(&mut text, *byte));
            text.push_str(if at == 0 { "  # seals, " } else { "  # opens, " });
            text.push_str(&key.id().to_string());
            text.push('\n');
        }
        text
    }

    /// The keys' ids, that of the one that seals first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.0.iter().map(SessionKey::id)
    }

    /// The keys, the one that seals first.
    pub fn keys(&self) -> &[SessionKey] {
        &self.0
    }

    /// Takes in a key that opens.
    ///
    /// # Errors
    /// [`KeyRingError::TooMany`], [`KeyRingError::Twice`].
    pub fn add(&mut self, key: SessionKey) -> Result<(), KeyRingError> {
        let id = key.id();
        if self.ids().any(|known| known == id) {
            return Err(KeyRingError::Twice(id));
        }
        if self.0.len() == Self::MOST {
            return Err(KeyRingError::TooMany);
        }
        self.0.push(key);
        Ok(())
    }

    /// Has the key of that id seal.
    ///
    /// # Errors
    /// [`KeyRingError::Unknown`].
    pub fn put_first(&mut self, id: &str) -> Result<(), KeyRingError> {
        let at = self.place(id)?;
        self.0[..=at].rotate_right(1);
        Ok(())
    }

    /// Forgets a key that does not seal.
    ///
    /// # Errors
    /// [`KeyRingError::Unknown`], [`KeyRingError::InUse`].
    pub fn remove(&mut self, id: &str) -> Result<(), KeyRingError> {
        match self.place(id)? {
            0 => Err(KeyRingError::InUse),
            at => {
                self.0.remove(at);
                Ok(())
            }
        }
    }

    fn place(&self, id: &str) -> Result<usize, KeyRingError> {
        self.ids().position(|known| known.to_string() == id).ok_or(KeyRingError::Unknown)
    }
}

fn from_hex(text: &str) -> Option<SessionKey> {
    let digits = text.as_bytes();
    if digits.len() != 2 * SessionKey::BYTES {
        return None;
    }
    let digit = |at: usize| char::from(digits[at]).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let mut bytes = Zeroizing::new([0; SessionKey::BYTES]);
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(2 * at)? << 4 | digit(2 * at + 1)?;
    }
    Some(SessionKey::new(*bytes))
}

fn push_hex(text: &mut String, byte: u8) {
    for half in [byte >> 4, byte & 0xf] {
        text.push(char::from(b"0123456789abcdef"[usize::from(half)]));
    }
}

/// The bytes of a key's line.
const LINE: usize = 2 * SessionKey::BYTES + 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> SessionKey {
        SessionKey::new([byte; 32])
    }

    #[test]
    fn a_ring_is_what_its_text_says() {
        let mut ring = KeyRing::new(key(1));
        ring.add(key(2)).expect("another");
        let text = ring.to_text();
        let again = KeyRing::parse(&text).expect("written so");
        assert!(again.ids().eq([key(1).id(), key(2).id()]));
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.len() < LINE));
    }

    #[test]
    fn what_is_no_key_is_refused_and_not_repeated() {
        let digits = "00".repeat(32);
        for (text, error) in [
            (String::new(), KeyRingError::Empty),
            ("# nothing\n\n".to_owned(), KeyRingError::Empty),
            (format!("{digits}\n{}", &digits[1..]), KeyRingError::BadLine(2)),
            (format!("\n{}g", &digits[1..]), KeyRingError::BadLine(2)),
            (format!("{digits}\n{digits}"), KeyRingError::Twice(SessionKey::new([0; 32]).id())),
        ] {
            assert_eq!(KeyRing::parse(&text).map(|_| ()), Err(error), "{text}");
        }
        let many: String =
            (0..9u8).map(|byte| KeyRing::new(key(byte)).to_text().to_string()).collect();
        assert_eq!(KeyRing::parse(&many).map(|_| ()), Err(KeyRingError::TooMany));
    }

    #[test]
    fn a_key_is_changed_in_three_steps() {
        let (old, new) = (key(1), key(2));
        let mut ring = KeyRing::new(old.clone());
        ring.add(new.clone()).expect("another");
        assert_eq!(ring.remove(&old.id().to_string()), Err(KeyRingError::InUse));
        ring.put_first(&new.id().to_string()).expect("it is there");
        assert!(ring.ids().eq([new.id(), old.id()]));
        ring.remove(&old.id().to_string()).expect("it does not seal");
        assert!(ring.ids().eq([new.id()]));
        assert_eq!(ring.put_first("0000"), Err(KeyRingError::Unknown));
    }
}
