//! File names that come from outside.

use std::fmt;

/// A file's name that leads nowhere but into the folder it is put in, and is seen there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FileName(Box<str>);

/// Why a text is no file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NameError {
    /// It is empty.
    Empty,
    /// It has more than [`FileName::MAX`] bytes.
    TooLong,
    /// It begins with a dot: hidden, or `.` and `..`.
    Hidden,
    /// It has `/` or `\`.
    Separator,
    /// It has a control character, NUL among them.
    Control,
}

impl FileName {
    /// The most bytes: what file systems take, less a number against clashes.
    pub const MAX: usize = 240;

    /// Checks a name.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text {
            "" => Err(NameError::Empty),
            _ if text.len() > Self::MAX => Err(NameError::TooLong),
            _ if text.starts_with('.') => Err(NameError::Hidden),
            _ if text.contains(['/', '\\']) => Err(NameError::Separator),
            _ if text.chars().any(char::is_control) => Err(NameError::Control),
            _ => Ok(Self(text.into())),
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Another name, for the case that this one is taken: `name (1).ext`; 0: the name itself.
    #[must_use]
    pub fn numbered(&self, number: u32) -> String {
        if number == 0 {
            return self.0.to_string();
        }
        match self.0.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) {
            Some((stem, extension)) => format!("{stem} ({number}).{extension}"),
            None => format!("{} ({number})", self.0),
        }
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "it is empty",
            Self::TooLong => "it is longer than 240 bytes",
            Self::Hidden => "it begins with a dot",
            Self::Separator => "it has a separator of folders in it",
            Self::Control => "it has a control character in it",
        })
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_elsewhere_or_hides_is_refused() {
        let long = "x".repeat(FileName::MAX + 1);
        for (text, error) in [
            ("", NameError::Empty),
            (long.as_str(), NameError::TooLong),
            (".", NameError::Hidden),
            ("..", NameError::Hidden),
            (".bashrc", NameError::Hidden),
            ("../passwd", NameError::Hidden),
            ("a/../../b", NameError::Separator),
            ("/etc/passwd", NameError::Separator),
            ("a\\b", NameError::Separator),
            ("a\0b", NameError::Control),
            ("a\nb", NameError::Control),
        ] {
            assert_eq!(FileName::parse(text), Err(error), "{text:?}");
        }
        for text in ["a", "photo (1).jpg", "größe.txt", "a..b", "-rf", "x ".repeat(100).as_str()]
        {
            assert!(FileName::parse(text).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_name_that_is_taken_gets_a_number_before_its_extension() {
        for (text, expected) in
            [("a.tar.gz", "a.tar (2).gz"), ("README", "README (2)"), ("a.", "a (2).")]
        {
            let name = FileName::parse(text).expect("a name");
            assert_eq!(name.numbered(2), expected);
            assert_eq!(name.numbered(0), text);
        }
    }
}
