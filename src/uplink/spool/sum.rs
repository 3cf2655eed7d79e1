//! Checksums of rows: SQLite has none, and flash that wears out changes bits.

/// CRC-32 as in IEEE 802.3.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sum(u32);

impl Sum {
    pub(super) const fn new() -> Self {
        Self(u32::MAX)
    }

    #[must_use]
    pub(super) fn bytes(self, bytes: &[u8]) -> Self {
        let step = |crc: u32, byte: &u8| {
            let [low, ..] = crc.to_le_bytes();
            TABLE[usize::from(low ^ byte)] ^ (crc >> 8)
        };
        Self(bytes.iter().fold(self.0, step))
    }

    #[must_use]
    pub(super) fn number(self, number: i64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// Tells none from every number.
    #[must_use]
    pub(super) fn optional(self, number: Option<i64>) -> Self {
        match number {
            Some(number) => self.bytes(&[1]).number(number),
            None => self.bytes(&[0]),
        }
    }

    /// Bytes with their length, so that what follows cannot be taken for theirs.
    #[must_use]
    pub(super) fn text(self, text: Option<&[u8]>) -> Self {
        match text {
            Some(text) => {
                let length = i64::try_from(text.len()).unwrap_or(i64::MAX);
                self.optional(Some(length)).bytes(text)
            }
            None => self.optional(None),
        }
    }

    /// As it is stored: signed, so that it takes four bytes of a row.
    pub(super) fn finish(self) -> i64 {
        i64::from((!self.0).cast_signed())
    }
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut at = 0;
    let mut byte = 0_u32;
    while at < table.len() {
        let mut crc = byte;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_the_standard() {
        let sum = Sum::new().bytes(b"123456789").finish();
        assert_eq!(sum, i64::from(0xcbf4_3926_u32.cast_signed()));
    }
}
