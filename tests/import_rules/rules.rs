//! The two tables of `ARCHITECTURE.md`, read from its Markdown.

/// Who may name whom, and what some must do without.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Each module of the root package, each of its programs, each package, with what it may name.
    allowed: Vec<(String, Vec<String>)>,
    pub(crate) without: Vec<Without>,
}

/// One row of the second table.
#[derive(Debug)]
pub(crate) struct Without {
    pub(crate) who: String,
    /// Paths, by segments; what lies below one is refused too.
    pub(crate) never: Vec<Vec<String>>,
    /// Modules (files) the row does not hold for.
    pub(crate) except_modules: Vec<String>,
    pub(crate) except_tests: bool,
}

impl Rules {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut allowed: Vec<(String, Vec<String>)> = Vec::new();
        for [who, names, _why] in table(text, "Allowed imports")? {
            let who = one_name(&who)?;
            if allowed.iter().any(|(other, _)| *other == who) {
                return Err(format!("`{who}` stands twice in the table"));
            }
            allowed.push((who, names_in(&names)?));
        }
        for (who, names) in &allowed {
            if let Some(name) = names.iter().find(|name| !allowed.iter().any(|(w, _)| w == *name)) {
                return Err(format!("the row `{who}` allows `{name}`, which has no row"));
            }
        }
        let mut without = Vec::new();
        for [who, never, except, _why] in table(text, "Done without")? {
            let except_tests = except.split(',').any(|word| word.trim() == "tests");
            let modules: Vec<_> = except.split(',').filter(|word| word.trim() != "tests").collect();
            without.push(Without {
                who: one_name(&who)?,
                never: names_in(&never)?
                    .iter()
                    .map(|path| path.split("::").map(str::to_owned).collect())
                    .collect(),
                except_modules: names_in(&modules.join(","))?,
                except_tests,
            });
        }
        Ok(Self { allowed, without })
    }

    /// What a row allows; none where there is no such row.
    pub(crate) fn names_of(&self, who: &str) -> Option<&[String]> {
        self.allowed.iter().find(|(row, _)| row == who).map(|(_, names)| names.as_slice())
    }

    /// The rows that allow a name.
    pub(crate) fn who_names(&self, name: &str) -> Vec<&str> {
        let rows = self.allowed.iter().filter(|(_, names)| names.iter().any(|n| n == name));
        rows.map(|(who, _)| who.as_str()).collect()
    }

    /// A way from a row back to itself, if there is one.
    pub(crate) fn circle(&self) -> Option<String> {
        self.allowed.iter().find_map(|(who, _)| self.circle_from(&mut vec![who]))
    }

    fn circle_from<'a>(&'a self, way: &mut Vec<&'a str>) -> Option<String> {
        for name in self.names_of(way.last()?)? {
            if let Some(at) = way.iter().position(|step| step == name) {
                return Some(format!("{} → {name}", way[at..].join(" → ")));
            }
            way.push(name);
            if let Some(circle) = self.circle_from(way) {
                return Some(circle);
            }
            way.pop();
        }
        None
    }
}

/// The rows of the first table below a heading, each of `N` cells, the last of them a reason.
fn table<const N: usize>(text: &str, heading: &str) -> Result<Vec<[String; N]>, String> {
    let title = format!("## {heading}");
    let mut lines = text.lines().skip_while(|line| line.trim() != title);
    lines.next().ok_or(format!("no section \"{heading}\""))?;
    let rows: Vec<_> = lines
        .take_while(|line| !line.starts_with("## "))
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .collect();
    if rows.len() < 2 {
        return Err(format!("no table in the section \"{heading}\""));
    }
    // the first two are the head and the line below it
    rows[2..].iter().map(|row| cells(row)).collect()
}

fn cells<const N: usize>(row: &str) -> Result<[String; N], String> {
    let inner = row.trim().trim_start_matches('|').trim_end_matches('|');
    let cells: Vec<_> = inner.split('|').map(|cell| cell.trim().to_owned()).collect();
    let count = cells.len();
    let cells: [String; N] =
        cells.try_into().map_err(|_| format!("{count} cells instead of {N} in: {row}"))?;
    if cells[N - 1].is_empty() {
        return Err(format!("no reason in: {row}"));
    }
    Ok(cells)
}

fn one_name(cell: &str) -> Result<String, String> {
    match names_in(cell)?.as_slice() {
        [name] => Ok(name.clone()),
        names => Err(format!("{} names where one belongs: {cell}", names.len())),
    }
}

/// Names in backticks between commas; a dash or nothing stands for none.
fn names_in(cell: &str) -> Result<Vec<String>, String> {
    if matches!(cell.trim(), "" | "–" | "-") {
        return Ok(Vec::new());
    }
    let name = |word: &str| {
        let name = word.trim().strip_prefix('`').and_then(|word| word.strip_suffix('`'));
        name.map(str::to_owned).ok_or(format!("{word:?} is not a name in backticks"))
    };
    cell.split(',').map(name).collect()
}
