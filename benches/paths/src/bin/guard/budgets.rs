//! The file of budgets: instructions per message of each path, and the functions they are spent in.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Deserialize;

use crate::source::Functions;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budgets {
    #[serde(rename = "measured-with")]
    pub(crate) measured_with: MeasuredWith,
    /// By the paths' names.
    pub(crate) path: BTreeMap<String, Budget>,
}

/// What the figures depend on beside the source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MeasuredWith {
    /// Instructions are counted of one kind of processor.
    pub(crate) arch: String,
    pub(crate) rustc: String,
    /// Copies and compares; allocates.
    pub(crate) libc: String,
    /// Counts.
    pub(crate) valgrind: String,
}

/// Of one path.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Budget {
    /// Per message.
    pub(crate) instructions: f64,
    /// Per message, of the functions that have at least [`LEAST_SHARE`] of them.
    pub(crate) functions: BTreeMap<String, f64>,
}

impl Budget {
    /// What is measured now, as a budget.
    pub(crate) fn of(functions: &Functions) -> Self {
        let instructions = functions.values().map(|function| function.instructions).sum();
        let shares = functions.iter().map(|(name, function)| (name.clone(), function.instructions));
        let functions = shares.filter(|&(_, own)| own >= instructions * LEAST_SHARE).collect();
        Self { instructions, functions }
    }
}

impl MeasuredWith {
    /// What is another one here.
    pub(crate) fn differences(&self, here: &Self) -> Vec<String> {
        let pairs = [
            (&self.rustc, &here.rustc),
            (&self.libc, &here.libc),
            (&self.valgrind, &here.valgrind),
        ];
        let differs = pairs.into_iter().filter(|(recorded, here)| recorded != here);
        differs.map(|(recorded, here)| format!("{recorded}, here {here}")).collect()
    }
}

impl Budgets {
    /// The file's text.
    pub(crate) fn to_toml(&self) -> String {
        let MeasuredWith { arch, rustc, libc, valgrind } = &self.measured_with;
        let mut text = format!(
            "{HEAD}[measured-with]\narch = \"{arch}\"\nrustc = \"{rustc}\"\nlibc = \"{libc}\"\n\
             valgrind = \"{valgrind}\"\n"
        );
        for (name, budget) in &self.path {
            let mut functions: Vec<_> = budget.functions.iter().collect();
            functions.sort_by(|one, other| other.1.total_cmp(one.1));
            let list: String =
                functions.into_iter().fold(String::new(), |mut list, (name, own)| {
                    // writing to a String does not fail
                    writeln!(list, "\"{name}\" = {own:.2}").unwrap_or_default();
                    list
                });
            let total = budget.instructions;
            let entry = format!(
                "\n[path.{name}]\ninstructions = {total:.2}\n[path.{name}.functions]\n{list}"
            );
            text.push_str(&entry);
        }
        text
    }
}

/// Of a path's instructions. What is less moves with every build and says little.
pub(crate) const LEAST_SHARE: f64 = 0.01;
const HEAD: &str = "\
# Instructions per message of each path (src/lib.rs), and of these the functions that have a hundredth
# or more. `make instructions` compares; `UPDATE_BUDGETS=1 make instructions` writes this file anew.
# What a change here costs or saves belongs into its commit message.

";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Function;

    fn functions(list: &[(&str, f64)]) -> Functions {
        let function = |instructions| Function { instructions, lines: BTreeMap::new() };
        list.iter().map(|&(name, own)| (name.to_owned(), function(own))).collect()
    }

    #[test]
    fn a_file_that_is_written_reads_the_same() {
        let budget = Budget::of(&functions(&[("<a as b::C<'_>>::d", 75.25), ("memcpy", 24.75)]));
        let word = |text: &str| text.to_owned();
        let measured_with = MeasuredWith {
            arch: word("x86_64"),
            rustc: word("rustc 1.95.0 (59807616e 2026-04-14)"),
            libc: word("glibc 2.36"),
            valgrind: word("valgrind-3.19.0"),
        };
        let path = BTreeMap::from([(word("route-1-1"), budget)]);
        let budgets = Budgets { measured_with, path };
        assert_eq!(toml::from_str(&budgets.to_toml()), Ok(budgets));
    }

    #[test]
    fn a_budget_is_the_sum_and_the_functions_that_matter() {
        let budget = Budget::of(&functions(&[("a", 98.5), ("b", 1.0), ("c", 0.5)]));
        let functions = BTreeMap::from([("a".to_owned(), 98.5), ("b".to_owned(), 1.0)]);
        assert_eq!(budget, Budget { instructions: 100.0, functions });
    }

    #[test]
    fn another_compiler_or_libc_is_named() {
        let recorded = MeasuredWith { rustc: "rustc 1.95".to_owned(), ..MeasuredWith::default() };
        assert_eq!(recorded.differences(&recorded), Vec::<String>::new());
        let here = MeasuredWith { rustc: "rustc 1.96".to_owned(), ..recorded.clone() };
        assert_eq!(recorded.differences(&here), ["rustc 1.95, here rustc 1.96"]);
    }
}
