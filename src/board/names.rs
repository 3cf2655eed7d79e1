//! Topic levels from names the kernel gives: safe in every filter, and each topic once.

use std::collections::BTreeSet;

/// The names given so far.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// `parent/level`, the level made safe, with `-2`, `-3` … behind it where that is taken.
    pub(super) fn add(&mut self, parent: &str, level: &str) -> String {
        let plain = format!("{parent}/{}", safe_level(level));
        let mut name = plain.clone();
        let mut number = 1;
        while !self.0.insert(name.clone()) {
            number += 1;
            name = format!("{plain}-{number}");
        }
        name
    }
}

/// Lower case; what is not `a-z`, `0-9`, `_`, `-` becomes one `-`, none at the ends; never empty.
fn safe_level(name: &str) -> String {
    let mut level = String::new();
    for character in name.chars() {
        match character.to_ascii_lowercase() {
            it @ ('a'..='z' | '0'..='9' | '_') => level.push(it),
            _ if level.is_empty() || level.ends_with('-') => {}
            _ => level.push('-'),
        }
        if level.len() == MAX_LEVEL {
            break;
        }
    }
    let level = level.trim_end_matches('-');
    if level.is_empty() { "unnamed".to_owned() } else { level.to_owned() }
}

/// Three levels of it stay far below a topic's 255 bytes.
const MAX_LEVEL: usize = 48;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_becomes_a_safe_level() {
        for (name, level) in [
            ("cpu-thermal", "cpu-thermal"),
            ("Core 0", "core-0"),
            ("+5V / #1", "5v-1"),
            ("\u{b0}C", "c"),
            ("a\u{fc}b", "a-b"),
            ("/", "unnamed"),
            ("", "unnamed"),
        ] {
            assert_eq!(safe_level(name), level, "{name:?}");
        }
        assert_eq!(safe_level(&"x".repeat(1000)).len(), MAX_LEVEL);
    }

    #[test]
    fn a_name_is_given_once() {
        let mut names = Names::default();
        assert_eq!(names.add("$board", "a b"), "$board/a-b");
        assert_eq!(names.add("$board", "A/B"), "$board/a-b-2");
        assert_eq!(names.add("$board", "a-b-2"), "$board/a-b-2-2");
    }
}
