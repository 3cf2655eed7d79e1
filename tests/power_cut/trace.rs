//! What a process wrote, from strace's text.

use std::collections::HashMap;
use std::path::Path;

/// Something that changed files, or the workload's word of where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The file is there, and empty if it was not.
    Create {
        name: String,
    },
    /// Bytes at a place.
    Write {
        name: String,
        at: usize,
        bytes: Vec<u8>,
    },
    Truncate {
        name: String,
        length: usize,
    },
    Sync {
        name: String,
    },
    Unlink {
        name: String,
    },
    Rename {
        from: String,
        to: String,
    },
    StepBegun(usize),
    StepDone(usize),
}

impl Event {
    pub(crate) fn changes_disk(&self) -> bool {
        !matches!(self, Self::StepBegun(_) | Self::StepDone(_))
    }
}

/// The events of files in `folder`, in their order.
pub(crate) fn parse(text: &str, folder: &Path) -> Vec<Event> {
    let mut open: HashMap<u64, String> = HashMap::new();
    let mut events = Vec::new();
    for line in text.lines() {
        let Some(call) = Call::parse(line) else { continue };
        let name = |text: &str| {
            let path = String::from_utf8(unhex(text)).ok()?;
            let name = Path::new(&path).strip_prefix(folder).ok()?;
            Some(name.to_str()?.to_owned())
        };
        let number = |at: usize| call.arguments.get(at).and_then(|text| text.parse::<u64>().ok());
        let file = number(0).and_then(|fd| open.get(&fd).cloned());
        match (call.name, file) {
            ("openat", _) => {
                let Some(name) = call.arguments.get(1).and_then(|text| name(text)) else {
                    continue;
                };
                open.insert(call.result, name.clone());
                if call.arguments.iter().any(|text| text.contains("O_CREAT")) && name != MARKS {
                    events.push(Event::Create { name });
                }
            }
            ("close", Some(_)) => drop(open.remove(&number(0).unwrap())),
            ("write", Some(name)) if name == MARKS => {
                let word = String::from_utf8(unhex(&call.arguments[1])).unwrap();
                let (what, step) = word.trim().split_once(' ').unwrap();
                let step = step.parse().unwrap();
                events.push(match what {
                    "begun" => Event::StepBegun(step),
                    _ => Event::StepDone(step),
                });
            }
            ("pwrite64", Some(name)) => {
                let mut bytes = unhex(&call.arguments[1]);
                bytes.truncate(usize::try_from(call.result).unwrap());
                let at = usize::try_from(number(3).unwrap()).unwrap();
                events.push(Event::Write { name, at, bytes });
            }
            ("write", Some(name)) => panic!("a write to {name} without a place"),
            ("ftruncate", Some(name)) => {
                let length = usize::try_from(number(1).unwrap()).unwrap();
                events.push(Event::Truncate { name, length });
            }
            ("fsync" | "fdatasync", Some(name)) => events.push(Event::Sync { name }),
            ("unlink", _) => {
                if let Some(name) = name(&call.arguments[0]) {
                    events.push(Event::Unlink { name });
                }
            }
            ("rename", _) => {
                let names = (name(&call.arguments[0]), name(&call.arguments[1]));
                if let (Some(from), Some(to)) = names {
                    events.push(Event::Rename { from, to });
                }
            }
            _ => {}
        }
    }
    events
}

struct Call<'a> {
    name: &'a str,
    arguments: Vec<String>,
    result: u64,
}

impl<'a> Call<'a> {
    /// `1234 pwrite64(3, "\x00", 1, 0) = 1`; none: a failed call, a signal, an exit.
    fn parse(line: &'a str) -> Option<Self> {
        assert!(!line.contains("unfinished"), "one thread only: {line:.80}");
        let line = line.trim_start_matches(|letter: char| letter.is_ascii_digit()).trim_start();
        let (name, rest) = line.split_once('(')?;
        let (arguments, result) = rest.rsplit_once(" = ")?;
        let result = result.split_whitespace().next()?.parse().ok()?;
        let arguments = arguments.trim_end().trim_end_matches(')');
        let arguments = arguments.split(", ").map(str::to_owned).collect();
        Some(Self { name, arguments, result })
    }
}

/// The bytes of `"\x61\x62"`.
fn unhex(text: &str) -> Vec<u8> {
    let text = text.trim_matches('"');
    let pairs = text.split("\\x").skip(1);
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// The workload's file for where it is.
pub(crate) const MARKS: &str = "marks";
