//! From addresses to our functions, through the compiler's inlining: binutils' `addr2line` tells for
//! each address the functions that were inlined there.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Failure;
use crate::callgrind::Counts;

/// Where an instruction comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) function: String,
    /// The file from the root of the checkout and the line; `None`: not ours.
    pub(crate) line: Option<(String, u32)>,
}

/// Instructions by function.
pub(crate) type Functions = BTreeMap<String, Function>;

/// The instructions of a function, in it and in what was inlined from libraries.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Function {
    /// Per message.
    pub(crate) instructions: f64,
    /// The same by file and line.
    pub(crate) lines: BTreeMap<(String, u32), f64>,
}

/// Asks `addr2line` about addresses in `program`. `list` is a file to write them to; `root` is the
/// checkout, with which the files' names begin that are ours.
pub(crate) fn places(
    program: &Path,
    root: &str,
    addresses: impl Iterator<Item = u64>,
    list: &Path,
) -> Result<HashMap<u64, Place>, Failure> {
    fs::write(list, addresses.map(|address| format!("{address:#x}\n")).collect::<String>())?;
    let done = Command::new("addr2line")
        .args(["-a", "-f", "-i", "-C", "-e"])
        .arg(program)
        .arg(format!("@{}", list.display()))
        .output()
        .map_err(|error| format!("addr2line cannot be run: {error}"))?;
    if !done.status.success() {
        return Err(format!("addr2line: {}", String::from_utf8_lossy(&done.stderr)).into());
    }
    Ok(parse(&String::from_utf8_lossy(&done.stdout), root))
}

/// For each address a line with it, then the innermost function and its place in two lines, then
/// the function that this was inlined into, and so on.
fn parse(text: &str, root: &str) -> HashMap<u64, Place> {
    let mut found = HashMap::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(address) = address_of(line) else { continue };
        let mut place = None;
        while let Some(function) = lines.next_if(|line| address_of(line).is_none()) {
            let at = lines.next().unwrap_or_default();
            let is_ours = place.as_ref().is_some_and(|place: &Place| place.line.is_some());
            if !is_ours {
                place = Some(Place { function: short(function), line: line_of(at, root) });
            }
        }
        found.extend(place.map(|place| (address, place)));
    }
    found
}

fn address_of(line: &str) -> Option<u64> {
    u64::from_str_radix(line.strip_prefix("0x")?, 16).ok()
}

/// `/checkout/src/a.rs:17 (discriminator 2)`.
fn line_of(text: &str, root: &str) -> Option<(String, u32)> {
    let (file, line) = text.strip_prefix(root)?.strip_prefix('/')?.rsplit_once(':')?;
    let line = line.split(' ').next().and_then(|line| line.parse().ok());
    Some((file.to_owned(), line.unwrap_or(0)))
}

/// A function's name without the block it stands in, when that says no more than its module does:
/// `session::publish::<impl session::Session>::publish` is `session::publish::publish`.
fn short(name: &str) -> String {
    let mut name = name.to_owned();
    while let Some(start) = name.find("<impl ") {
        let Some(end) = name.get(start..).and_then(|rest| rest.find(">::")) else { break };
        name.replace_range(start..start + end + 3, "");
    }
    name
}

/// The functions that an average message runs through.
pub(crate) fn functions(counts: &Counts, places: &HashMap<u64, Place>, messages: u64) -> Functions {
    let mut functions = Functions::new();
    let mut add = |name: &str, line: Option<&(String, u32)>, instructions: u64| {
        let each = per_message(instructions, messages);
        let function = functions.entry(name.to_owned()).or_default();
        function.instructions += each;
        if let Some(line) = line {
            *function.lines.entry(line.clone()).or_insert(0.0) += each;
        }
    };
    for (address, &instructions) in &counts.program {
        match places.get(address) {
            Some(place) => add(&place.function, place.line.as_ref(), instructions),
            None => add("(no function)", None, instructions),
        }
    }
    for (name, &instructions) in &counts.libraries {
        add(name, None, instructions);
    }
    functions
}

/// A mean; the figures here are far below 2^52.
#[expect(clippy::cast_precision_loss, reason = "counts of instructions, of messages")]
fn per_message(instructions: u64, messages: u64) -> f64 {
    instructions as f64 / messages as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "0x0000000000000010\n\
        core::option::Option<T>::map\n/rustc/5980/library/core/src/option.rs:1\n\
        core::session::publish::<impl core::session::Session>::deliver\n/co/core/publish.rs:17\n\
        core::session::publish::<impl core::session::Session>::publish\n/co/core/publish.rs:9\n\
        0x0000000000000020\n\
        core::outbox::Outbox::push\n/co/core/outbox.rs:5 (discriminator 2)\n\
        0x0000000000000030\n\
        core::cmp::max\n/rustc/5980/library/core/src/cmp.rs:3\n\
        alloc::raw_vec::grow\n/rustc/5980/library/alloc/src/raw_vec.rs:?\n";

    #[test]
    fn what_is_inlined_from_a_library_is_counted_for_our_function_around_it() {
        let places = parse(SAID, "/co");
        let ours = |function: &str, file: &str, line| Place {
            function: function.to_owned(),
            line: Some((file.to_owned(), line)),
        };
        let deliver = ours("core::session::publish::deliver", "core/publish.rs", 17);
        assert_eq!(places.get(&0x10), Some(&deliver));
        assert_eq!(
            places.get(&0x20),
            Some(&ours("core::outbox::Outbox::push", "core/outbox.rs", 5))
        );
        let grow = Place { function: "alloc::raw_vec::grow".to_owned(), line: None };
        assert_eq!(places.get(&0x30), Some(&grow));
    }

    #[test]
    fn a_function_has_the_sum_of_its_addresses_per_message() {
        let counts = Counts {
            program: BTreeMap::from([(0x10, 30), (0x20, 8), (0x99, 1)]),
            libraries: BTreeMap::from([("memcpy".to_owned(), 5)]),
        };
        let functions = functions(&counts, &parse(SAID, "/co"), 10);
        let instructions: Vec<_> =
            functions.iter().map(|(name, function)| (&name[..], function.instructions)).collect();
        let expected = [
            ("(no function)", 0.1),
            ("core::outbox::Outbox::push", 0.8),
            ("core::session::publish::deliver", 3.0),
            ("memcpy", 0.5),
        ];
        assert_eq!(instructions, expected);
    }
}
