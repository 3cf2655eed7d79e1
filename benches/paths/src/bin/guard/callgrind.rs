//! Runs a path under callgrind and reads what it counted: instructions by address.
//!
//! The format is that of <https://valgrind.org/docs/manual/cl-format.html>, with `positions: instr
//! line` (`--dump-instr=yes`).

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Failure;

/// Instructions by where they are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// In the program, by the address in its file.
    pub(crate) program: BTreeMap<u64, u64>,
    /// In libraries, by function.
    pub(crate) libraries: BTreeMap<String, u64>,
}

/// What one run of a path came to.
#[derive(Debug)]
pub(crate) struct Run {
    /// That reached their readers.
    pub(crate) messages: u64,
    pub(crate) counts: Counts,
}

/// Runs `program NAME MESSAGES` under callgrind, whose file goes to `out` and stays there.
pub(crate) fn run(program: &Path, name: &str, messages: u64, out: &Path) -> Result<Run, Failure> {
    let done = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg("--quiet")
        .arg("--dump-instr=yes")
        .arg(format!("--toggle-collect={MEASURED}"))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .args([name, &messages.to_string()])
        // the environment lies on the stack and so moves it; and the C library would choose its copy
        // routines by the processor it finds
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GLIBC_TUNABLES", PLAIN_PROCESSOR)
        .output()
        .map_err(|error| format!("valgrind cannot be run: {error}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        return Err(format!("{name}: {}\n{said}", done.status).into());
    }
    let messages = said.lines().find_map(|line| line.strip_prefix("messages ")?.parse().ok());
    let messages = messages.ok_or_else(|| format!("{name} says no number of messages: {said}"))?;
    let program = program.to_str().ok_or("the program's path is not UTF-8")?;
    let counts =
        parse(&fs::read_to_string(out)?, program).map_err(|why| format!("{name}: {why}"))?;
    if counts.program.is_empty() {
        return Err(format!("{name}: nothing was counted; is there a function {MEASURED}?").into());
    }
    Ok(Run { messages, counts })
}

/// Reads callgrind's file; `program` is the object whose instructions are told by address.
pub(crate) fn parse(text: &str, program: &str) -> Result<Counts, String> {
    let mut parser = Parser::default();
    for (number, line) in text.lines().enumerate() {
        parser.line(line, program).ok_or_else(|| format!("line {}: {line}", number + 1))?;
    }
    Ok(parser.counts)
}

#[derive(Default)]
struct Parser<'a> {
    counts: Counts,
    /// names by number: `ob=(6) /usr/bin/true` the first time, then `ob=(6)`
    objects: HashMap<&'a str, &'a str>,
    functions: HashMap<&'a str, &'a str>,
    object: &'a str,
    function: &'a str,
    address: u64,
    /// the next cost line is of a call: what the callee cost is told there as well
    is_call: bool,
    is_body: bool,
}

impl<'a> Parser<'a> {
    fn line(&mut self, line: &'a str, program: &str) -> Option<()> {
        if let Some(name) = line.strip_prefix("ob=") {
            self.object = named(&mut self.objects, name)?;
            self.is_body = true;
        } else if let Some(name) = line.strip_prefix("cob=") {
            named(&mut self.objects, name)?;
        } else if let Some(name) = line.strip_prefix("fn=") {
            self.function = named(&mut self.functions, name)?;
            self.is_body = true;
        } else if let Some(name) = line.strip_prefix("cfn=") {
            named(&mut self.functions, name)?;
        } else if line.starts_with("calls=") {
            self.is_call = true;
        } else if self.is_body && line.starts_with(|first| "0123456789+-*".contains(first)) {
            self.cost(line, program)?;
        }
        Some(())
    }

    /// `ADDRESS LINE INSTRUCTIONS`, where the address may be relative to the one before.
    fn cost(&mut self, line: &str, program: &str) -> Option<()> {
        let mut words = line.split(' ');
        let address = words.next()?;
        self.address = match address.split_at_checked(1)? {
            ("*", "") => self.address,
            ("+", more) => self.address.checked_add(more.parse().ok()?)?,
            ("-", less) => self.address.checked_sub(less.parse().ok()?)?,
            _ => u64::from_str_radix(address.strip_prefix("0x")?, 16).ok()?,
        };
        let instructions: u64 = words.nth(1)?.parse().ok()?;
        if std::mem::take(&mut self.is_call) || instructions == 0 {
            return Some(());
        }
        if self.object == program {
            *self.counts.program.entry(self.address).or_insert(0) += instructions;
        } else {
            *self.counts.libraries.entry(self.function.to_owned()).or_insert(0) += instructions;
        }
        Some(())
    }
}

fn named<'a>(names: &mut HashMap<&'a str, &'a str>, text: &'a str) -> Option<&'a str> {
    match text.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            Some(name)
        }
        None => names.get(text).copied(),
    }
}

/// The function while which callgrind counts.
const MEASURED: &str = "run_path::measured";
/// SSE2 and nothing newer: the same routines of the C library on every x86-64.
const PLAIN_PROCESSOR: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX2,-AVX,-BMI2,-MOVBE,-ERMS,-FSRM,\
     -SSE4_2,-SSE4_1,-SSSE3,-RTM,-AVX_Fast_Unaligned_Load,-Fast_Unaligned_Copy";

#[cfg(test)]
mod tests {
    use super::*;

    const OUT: &str = "# callgrind format\n\
        positions: instr line\nevents: Ir\nsummary: 77\n\n\
        ob=(6) /bin/run-path\nfl=(2) /a/cmp.rs\nfn=(21) run_path::measured\nfi=(3) /a/range.rs\n\
        0x1cd26 16 1\n+2 0 2\n* 0 1\ncfi=(4) /a/route.rs\ncfn=(19) round\ncalls=1 0x40484 227\n\
        +3 * 55\nfe=(2)\n-5 * 4\n\n\
        fn=(19)\n0x40484 227 5\ncob=(1) /lib/libc.so.6\ncfn=(30) memcpy\ncalls=2 0x10\n+4 227 40\n\n\
        ob=(1)\nfl=(9) ???\nfn=(30)\n0x10 0 30\n+8 0 10\n\ntotals: 77\n";

    #[test]
    fn instructions_are_counted_where_they_are_and_not_again_at_the_call() {
        let counts = parse(OUT, "/bin/run-path").expect("well formed");
        let program = [(0x1cd26, 5), (0x1cd28, 3), (0x40484, 5)];
        assert_eq!(counts.program, BTreeMap::from(program));
        assert_eq!(counts.libraries, BTreeMap::from([("memcpy".to_owned(), 40)]));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_with_its_line() {
        let without_name = OUT.replace(" run_path::measured", "");
        assert_eq!(parse(&without_name, "x"), Err("line 8: fn=(21)".to_owned()));
        let without_count = OUT.replace("+2 0 2", "+2 0");
        assert_eq!(parse(&without_count, "x"), Err("line 11: +2 0".to_owned()));
    }
}
