//! The common name in a certificate's subject. X.509 is read by rustls's own webpki, which leaves the
//! subject in DER; a parser of all of X.509 was 100 KB of the program for this one field.

/// The common name in a subject, given without the tag and length of its outer SEQUENCE. `None`: there is
/// none, or more than one (whom would it mean), or it is no text that is ASCII or UTF-8.
pub(super) fn common_name(mut subject: &[u8]) -> Option<&str> {
    let mut found = None;
    while !subject.is_empty() {
        let mut attributes = take(&mut subject, SET)?;
        while !attributes.is_empty() {
            let mut attribute = take(&mut attributes, SEQUENCE)?;
            if take(&mut attribute, OBJECT_IDENTIFIER)? != COMMON_NAME {
                continue;
            }
            let tag = *attribute.first()?;
            let text = take(&mut attribute, tag)?;
            if found.is_some() || !attribute.is_empty() || !TEXTS.contains(&tag) {
                return None;
            }
            found = Some(std::str::from_utf8(text).ok()?);
        }
    }
    found
}

/// Takes the contents of the first element, which has that tag.
fn take<'a>(der: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    let (&[found, first], rest) = der.split_first_chunk::<2>()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(&length, rest)| (length.into(), rest))?,
        0x82 => {
            let (&length, rest) = rest.split_first_chunk::<2>()?;
            (u16::from_be_bytes(length).into(), rest)
        }
        // no name is so long
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length).filter(|_| found == tag)?;
    *der = rest;
    Some(contents)
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// 2.5.4.3, RFC 5280 appendix A.1.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// `UTF8String`, `NumericString`, `PrintableString`, `IA5String`, `VisibleString`: those that are UTF-8 as
/// they stand.
const TEXTS: [u8; 5] = [0x0c, 0x12, 0x13, 0x16, 0x1a];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One attribute in a set of its own: the last byte of its type, the tag of its value, the value.
    fn attribute(kind: u8, tag: u8, value: &[u8]) -> Vec<u8> {
        let length = u8::try_from(value.len()).expect("short");
        let mut der = vec![0x31, length + 9, 0x30, length + 7, 0x06, 3, 0x55, 4, kind, tag, length];
        der.extend_from_slice(value);
        der
    }

    #[test]
    fn the_common_name_is_found_among_others() {
        let subject = [attribute(10, 0x0c, b"Plant"), attribute(3, 0x0c, b"gw-7")].concat();
        assert_eq!(common_name(&subject), Some("gw-7"));
        assert_eq!(common_name(&attribute(3, 0x13, b"gw-7")), Some("gw-7"));
        assert_eq!(common_name(&attribute(10, 0x0c, b"Plant")), None);
        assert_eq!(common_name(b""), None);
    }

    #[test]
    fn two_names_are_none() {
        let subject = [attribute(3, 0x0c, b"a"), attribute(3, 0x0c, b"b")].concat();
        assert_eq!(common_name(&subject), None);
    }

    #[test]
    fn what_is_not_text_is_no_name() {
        assert_eq!(common_name(&attribute(3, 0x0c, b"\xff")), None);
        assert_eq!(common_name(&attribute(3, 0x1e, b"\0a")), None, "BMPString");
    }

    #[test]
    fn long_names_have_long_lengths() {
        let name = "n".repeat(300);
        let value = [&[0x0c, 0x82, 1, 44][..], name.as_bytes()].concat();
        let sequence = [&[0x30, 0x82, 1, 53, 6, 3, 0x55, 4, 3][..], &value].concat();
        let subject = [&[0x31, 0x82, 1, 57][..], &sequence].concat();
        assert_eq!(common_name(&subject), Some(name.as_str()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_name_or_none(bytes: Vec<u8>) {
            common_name(&bytes);
        }

        #[test]
        fn a_subject_that_ends_early_has_no_name(cut in 1usize..15) {
            let subject = attribute(3, 0x0c, b"gw-7");
            prop_assert_eq!(common_name(&subject[..cut.min(subject.len() - 1)]), None);
        }
    }
}
