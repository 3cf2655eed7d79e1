//! Device keys: 32 random bytes that a device and the relay both have.

use std::fmt;
use std::path::Path;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::secret_file::read_secret;
use crate::config::schema::{Problem, Raw, Value, quoted};
use crate::config::{ConfigError, Fault, FaultKind, Place};

/// A device key. Never printed, forgotten when dropped, compared in constant time.
#[derive(Clone)]
pub struct DeviceKey(Zeroizing<[u8; Self::BYTES]>);

impl DeviceKey {
    /// The bytes of a key: what HMAC-SHA-256 makes full use of.
    pub const BYTES: usize = 32;

    /// A new random key.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut key = Self(Zeroizing::new([0; Self::BYTES]));
        getrandom::fill(key.0.as_mut_slice())?;
        Ok(key)
    }

    /// The key of those 64 hexadecimal digits; none for any other text.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut key = Self(Zeroizing::new([0; Self::BYTES]));
        decode_hex(text, key.0.as_mut_slice()).then_some(key)
    }

    /// The key as 64 hexadecimal digits, for the file that a device gets.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(encode_hex(self.0.as_slice()))
    }

    /// Reads a key file: 64 hexadecimal digits, white space around them.
    ///
    /// # Errors
    /// [`ConfigError`] when the file cannot be read, others may read it, or it is no key.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = read_secret(path, MAX_FILE_BYTES)?;
        Self::from_hex(text.trim()).ok_or_else(|| {
            let place = Place::File { path: path.to_owned(), line: 1, column: 1 };
            let kind = FaultKind::BadValue(NOT_A_KEY.to_owned());
            ConfigError::Faults(vec![Fault { place, key: String::new(), kind }])
        })
    }

    /// The key, for a MAC.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceKey(..)")
    }
}

impl PartialEq for DeviceKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for DeviceKey {}

impl Value for DeviceKey {
    const EXPECTED: &'static str = "a key: 64 hexadecimal digits in quotes";

    fn read(raw: Raw<'_>) -> Result<Self, Problem> {
        let text = raw.text().ok_or_else(|| raw.wrong_type(Self::EXPECTED))?;
        // the message does not repeat what may be most of a key
        Self::from_hex(text).ok_or_else(|| Problem::bad(NOT_A_KEY))
    }

    fn toml(&self) -> String {
        quoted(self.to_hex().as_str())
    }
}

/// Fills `out` from twice as many hexadecimal digits; whether `text` was that.
pub(crate) fn decode_hex(text: &str, out: &mut [u8]) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    if text.len() != out.len() * 2 {
        return false;
    }
    out.iter_mut().zip(text.as_bytes().chunks_exact(2)).all(|(out, pair)| {
        let (Some(high), Some(low)) = (digit(pair[0]), digit(pair[1])) else { return false };
        *out = high << 4 | low;
        true
    })
}

pub(crate) fn encode_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        for half in [byte >> 4, byte & 0xf] {
            text.push(char::from(b"0123456789abcdef"[usize::from(half)]));
        }
    }
    text
}

const NOT_A_KEY: &str =
    "not a device key: a key is 64 hexadecimal digits; make one with `fastport key new`";
/// A key, and room for white space.
const MAX_FILE_BYTES: u64 = 1024;

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff";

    #[test]
    fn hexadecimal_digits_and_bytes_are_the_same_key() {
        let key = DeviceKey::from_hex(HEX).expect("64 digits");
        assert_eq!((key.as_bytes()[1], key.as_bytes()[31]), (1, 0xff));
        assert_eq!(key.to_hex().as_str(), HEX);
        assert_eq!(DeviceKey::from_hex(&HEX.to_uppercase()), Some(key));
        for wrong in
            ["", &HEX[1..], &format!("{HEX}0"), &HEX.replace('f', "g"), &"\u{e9}".repeat(32)]
        {
            assert_eq!(DeviceKey::from_hex(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn two_keys_are_not_the_same() {
        let (a, b) = (DeviceKey::generate().expect("randomness"), DeviceKey::generate());
        assert_ne!(a, b.expect("randomness"));
    }

    #[test]
    fn a_key_is_not_printed() {
        let key = DeviceKey::from_hex(HEX).expect("64 digits");
        assert_eq!(format!("{key:?} {:?}", Some(&key)), "DeviceKey(..) Some(DeviceKey(..))");
    }

    #[test]
    fn a_key_file_may_end_with_a_line_end_but_not_be_open_to_all() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("device.key");
        write(&path, format!("{HEX}\r\n")).expect("written");
        set_permissions(&path, Permissions::from_mode(0o600)).expect("ours");
        assert_eq!(DeviceKey::read(&path).ok(), DeviceKey::from_hex(HEX));
        write(&path, &HEX[2..]).expect("written");
        let error = DeviceKey::read(&path).expect_err("62 digits").to_string();
        assert_eq!(error, format!("{}:1:1: {NOT_A_KEY}", path.display()));
        set_permissions(&path, Permissions::from_mode(0o644)).expect("ours");
        assert!(matches!(DeviceKey::read(&path), Err(ConfigError::Exposed { mode: 0o644, .. })));
    }
}
