//! What a path costs now against its budget, and where the difference lies.

use std::fmt::Write;

use crate::budgets::{Budget, LEAST_SHARE};
use crate::source::{Function, Functions};

/// What a comparison came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// More than the limit over the budget: the check fails.
    Over,
    Within,
    /// More than the limit under it: the budget no longer guards.
    Under,
}

/// Compares what is measured with the budget; `limit` is a share of it.
pub(crate) fn judge(budget: f64, measured: f64, limit: f64) -> Verdict {
    if measured > budget * (1.0 + limit) {
        Verdict::Over
    } else if measured < budget * (1.0 - limit) {
        Verdict::Under
    } else {
        Verdict::Within
    }
}

/// How much more `measured` is than `budget`: `+3.1 %`.
pub(crate) fn change(budget: f64, measured: f64) -> String {
    let percent = (measured / budget - 1.0) * 100.0;
    // without the sign of what rounds to nothing
    if percent.abs() < 0.05 { "as before".to_owned() } else { format!("{percent:+.1} %") }
}

/// The functions that spend more than in `budget`, the most growth first, each with its lines that
/// spend most: what is to be looked at.
pub(crate) fn growth(budget: &Budget, measured: &Functions) -> String {
    let mut grown: Vec<_> = measured
        .iter()
        .map(|(name, now)| (name, now, budget.functions.get(name).copied()))
        .map(|(name, now, before)| (name, now, before, now.instructions - before.unwrap_or(0.0)))
        .filter(|&(.., more)| more >= budget.instructions * LEAST_SHARE)
        .collect();
    grown.sort_by(|one, other| other.3.total_cmp(&one.3));
    let mut text = String::new();
    for (name, now, before, more) in grown.into_iter().take(MOST_FUNCTIONS) {
        let before = before.map_or("not noted".to_owned(), |before| format!("{before:.1}"));
        let line = format!("      {more:+8.1}  {name}  ({before} -> {:.1})\n", now.instructions);
        text.push_str(&line);
        text.push_str(&lines(now));
    }
    let sum = |functions: f64, (name, before): (&String, &f64)| {
        let now = measured.get(name).map_or(0.0, |now| now.instructions);
        functions + (before - now).max(0.0)
    };
    let less = budget.functions.iter().fold(0.0, sum);
    if less >= budget.instructions * LEAST_SHARE {
        // writing to a String does not fail
        writeln!(text, "      {:+8.1}  in functions that spend less than before", -less)
            .unwrap_or_default();
    }
    text
}

fn lines(function: &Function) -> String {
    // the compiler gives line 0 to what it cannot say the line of
    let mut lines: Vec<_> = function.lines.iter().filter(|((_, line), _)| *line > 0).collect();
    lines.sort_by(|one, other| other.1.total_cmp(one.1));
    let most = lines.into_iter().take(MOST_LINES);
    let most: Vec<_> =
        most.map(|((file, line), own)| format!("{file}:{line} ({own:.1})")).collect();
    if most.is_empty() {
        String::new()
    } else {
        format!("                most in {}\n", most.join(", "))
    }
}

/// More than that many are a rewrite, not a place.
const MOST_FUNCTIONS: usize = 6;
/// Of one function.
const MOST_LINES: usize = 3;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// `lines` are of the first function.
    fn measured(list: &[(&str, f64)], lines: &[(u32, f64)]) -> Functions {
        let mut functions = Functions::new();
        for (at, &(name, instructions)) in list.iter().enumerate() {
            let lines = if at == 0 { lines } else { &[] };
            let lines = lines.iter().map(|&(line, own)| (("a.rs".to_owned(), line), own)).collect();
            functions.insert(name.to_owned(), Function { instructions, lines });
        }
        functions
    }

    fn budget(list: &[(&str, f64)]) -> Budget {
        let functions: BTreeMap<_, _> =
            list.iter().map(|&(name, own)| (name.to_owned(), own)).collect();
        Budget { instructions: functions.values().sum(), functions }
    }

    #[test]
    fn over_the_limit_is_told_from_under_it_and_from_what_is_within() {
        assert_eq!(judge(100.0, 105.0, 0.05), Verdict::Within);
        assert_eq!(judge(100.0, 105.1, 0.05), Verdict::Over);
        assert_eq!(judge(100.0, 95.0, 0.05), Verdict::Within);
        assert_eq!(judge(100.0, 94.9, 0.05), Verdict::Under);
        assert_eq!(judge(100.0, 119.0, 0.2), Verdict::Within);
        assert_eq!((change(80.0, 84.0), change(80.0, 72.0)), ("+5.0 %".into(), "-10.0 %".into()));
    }

    #[test]
    fn the_functions_that_grew_are_named_most_growth_first_with_their_lines() {
        let budget = budget(&[("deliver", 50.0), ("publish", 30.0), ("memcpy", 20.0)]);
        let now = measured(
            &[("deliver", 55.0), ("hash", 9.0), ("memcpy", 20.0), ("publish", 30.5)],
            &[(7, 1.0), (9, 40.0), (8, 12.0), (0, 6.0), (3, 2.0)],
        );
        let expected = [
            "          +9.0  hash  (not noted -> 9.0)",
            "          +5.0  deliver  (50.0 -> 55.0)",
            "                most in a.rs:9 (40.0), a.rs:8 (12.0), a.rs:3 (2.0)",
        ];
        assert_eq!(growth(&budget, &now).lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_moved_from_one_function_to_another_shows_at_both() {
        let budget = budget(&[("deliver", 50.0), ("publish", 50.0)]);
        let text = growth(&budget, &measured(&[("deliver", 80.0)], &[]));
        assert!(text.contains("+30.0  deliver  (50.0 -> 80.0)"), "{text}");
        assert!(text.contains("-50.0  in functions that spend less"), "{text}");
    }
}
