//! From TOML text and environment variables to the tables that describe themselves.
//!
//! It promises: every key is known or reported, every report has its place, any text gives values
//! or faults and never a panic.

use std::collections::{BTreeMap, BTreeSet};
use std::iter;
use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Fault, FaultKind, Place};
use super::schema::{Fields, Problem, Raw, Reload, Scalar, Tables, Visit};

/// What was found while reading, and where everything was written.
pub(crate) struct Findings<'a> {
    text: &'a str,
    path: PathBuf,
    /// Variables that no key has taken yet.
    variables: BTreeMap<String, String>,
    /// The names of the variables that keys outside lists have.
    known_variables: Vec<String>,
    /// The path of each key, without the index of lists.
    known: BTreeSet<String>,
    /// Unknown keys: where, their path, and the keys that their table has.
    unknown: Vec<(Range<usize>, String, Vec<&'static str>)>,
    /// Where each line of `text` begins.
    lines: Vec<usize>,
    places: BTreeMap<String, Written>,
    faults: Vec<Fault>,
    /// The entries of lists in which something is wrong, as `listen[0]`.
    faulty_entries: BTreeSet<String>,
}

/// Where a key is written.
enum Written {
    /// At that byte.
    File(usize),
    /// In that variable.
    Variable(String),
}

/// Reads `text` and then `variables` into `fields`. Faults are in the result, not reported yet.
///
/// `variables` are those that begin with [`PREFIX`]; each has to be that of a key.
pub(crate) fn read<'a>(
    text: &'a str,
    path: &Path,
    variables: BTreeMap<String, String>,
    fields: &mut dyn Fields,
) -> Findings<'a> {
    let mut findings = Findings {
        text,
        path: path.to_owned(),
        variables,
        known_variables: Vec::new(),
        known: BTreeSet::new(),
        unknown: Vec::new(),
        lines: iter::once(0).chain(text.match_indices('\n').map(|(end, _)| end + 1)).collect(),
        places: BTreeMap::new(),
        faults: Vec::new(),
        faulty_entries: BTreeSet::new(),
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let place = findings.place(error.span().unwrap_or(0..0).start);
        findings.add(place, String::new(), FaultKind::Syntax(error.message().to_owned()));
    }
    // what was recovered from text that is not TOML would be reported wrongly
    if errors.is_empty() {
        Reader {
            findings: &mut findings,
            table: Some(document.get_ref()),
            path: String::new(),
            schema_path: String::new(),
            in_list: false,
            keys: Vec::new(),
        }
        .read(fields);
        findings.report_unknown();
    }
    findings
}

impl Findings<'_> {
    /// Whether nothing was wrong so far.
    pub(crate) fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether something is wrong in the entry of a list at `path`, as `listen[0]`.
    pub(crate) fn has_fault_in(&self, path: &str) -> bool {
        self.faulty_entries.contains(path)
    }

    /// Whether the file or a variable sets `key`.
    pub(crate) fn sets(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// Adds a fault at `key`, or at the innermost table around it that is written.
    pub(crate) fn report(&mut self, key: &str, kind: FaultKind) {
        let place = self.place_of(key);
        self.add(place, key.to_owned(), kind);
    }

    fn add(&mut self, place: Place, key: String, kind: FaultKind) {
        if let Some(end) = key.find(']') {
            self.faulty_entries.insert(key[..=end].to_owned());
        }
        self.faults.push(Fault { place, key, kind });
    }

    /// Where `key` is written, or the innermost table around it.
    pub(crate) fn place_of(&self, key: &str) -> Place {
        let mut around = key;
        loop {
            match self.places.get(around) {
                Some(Written::File(offset)) => return self.place(*offset),
                Some(Written::Variable(name)) => return Place::Variable(name.clone()),
                None => {}
            }
            match around.rfind(['.', '[']) {
                Some(end) => around = &around[..end],
                None => return self.place(0),
            }
        }
    }

    /// All faults, in the order of their places.
    pub(crate) fn into_faults(mut self) -> Vec<Fault> {
        self.faults.sort_by(|a, b| a.place.cmp(&b.place));
        self.faults
    }

    #[cfg(test)]
    pub(crate) const fn known(&self) -> &BTreeSet<String> {
        &self.known
    }

    #[cfg(test)]
    pub(crate) fn known_variables(&self) -> &[String] {
        &self.known_variables
    }

    /// The place of the byte at `offset`.
    pub(crate) fn place(&self, offset: usize) -> Place {
        // the first line begins at 0, so there is always one
        let line = self.lines.partition_point(|&start| start <= offset);
        let start = self.lines.get(line.wrapping_sub(1)).copied().unwrap_or_default();
        let column = 1 + self.text.get(start..offset).map_or(0, |before| before.chars().count());
        Place::File { path: self.path.clone(), line, column }
    }

    fn report_unknown(&mut self) {
        for (span, key, siblings) in std::mem::take(&mut self.unknown) {
            let place = self.place(span.start);
            let (table, name) = key.rsplit_once('.').unwrap_or(("", &key));
            // the same name in another table is the likelier meaning than another name in this one
            let elsewhere = || {
                let is_same = |path: &&String| path.rsplit('.').next() == Some(name);
                let depth = |path: &&String| path.matches('.').count();
                let same: Vec<_> = self.known.iter().filter(is_same).collect();
                let least = same.iter().map(depth).min();
                let mut nearest = same.iter().filter(|path| Some(depth(path)) == least);
                nearest.next().filter(|_| nearest.next().is_none()).map(|path| (*path).clone())
            };
            let nearest = nearest(name, siblings.iter().copied())
                .map(|name| if table.is_empty() { name } else { format!("{table}.{name}") })
                .or_else(elsewhere);
            let known = siblings;
            self.add(place, key, FaultKind::UnknownKey { nearest, known });
        }
        for name in std::mem::take(&mut self.variables).into_keys() {
            let known = self.known_variables.iter().map(String::as_str);
            let kind = FaultKind::UnknownVariable { nearest: nearest(&name, known) };
            self.add(Place::Variable(name), String::new(), kind);
        }
    }
}

/// Reads one table.
struct Reader<'f, 't, 'd> {
    findings: &'f mut Findings<'t>,
    /// None: not written; its keys can still come from variables.
    table: Option<&'d DeTable<'d>>,
    /// With the index of lists: `listen[0]`.
    path: String,
    /// Without: `listen`.
    schema_path: String,
    in_list: bool,
    /// The keys that the table has shown.
    keys: Vec<&'static str>,
}

/// A key of a table: its paths, and its value when it is written.
struct Met<'d> {
    path: String,
    schema_path: String,
    value: Option<&'d Spanned<DeValue<'d>>>,
}

impl<'d> Reader<'_, '_, 'd> {
    fn read(mut self, fields: &mut dyn Fields) {
        fields.fields(&mut self);
        let Some(table) = self.table else { return };
        for key in table.keys() {
            let name: &str = key.get_ref();
            if !self.keys.contains(&name) {
                let path = join(&self.path, name);
                self.findings.unknown.push((key.span(), path, self.keys.clone()));
            }
        }
    }

    fn meet(&mut self, name: &'static str) -> Met<'d> {
        self.keys.push(name);
        let path = join(&self.path, name);
        let written = self.table.and_then(|table| table.get_key_value(name));
        if let Some((key, value)) = written {
            // the span of a table made by dotted keys is not where an operator would look
            let span = if value.get_ref().is_table() { key.span() } else { value.span() };
            self.findings.places.insert(path.clone(), Written::File(span.start));
        }
        let schema_path = join(&self.schema_path, name);
        Met { path, schema_path, value: written.map(|(_, value)| value) }
    }

    fn wrong_type(&mut self, path: &str, expected: &'static str, value: &DeValue<'_>) {
        let kind = FaultKind::WrongType { expected, found: value.type_str() };
        self.findings.report(path, kind);
    }

    fn read_inner(
        &mut self,
        fields: &mut dyn Fields,
        table: Option<&'d DeTable<'d>>,
        path: String,
        schema_path: String,
        in_list: bool,
    ) {
        let findings = &mut *self.findings;
        Reader { findings, table, path, schema_path, in_list, keys: Vec::new() }.read(fields);
    }
}

impl Visit for Reader<'_, '_, '_> {
    fn key(&mut self, name: &'static str, _: Reload, scalar: &mut dyn Scalar) {
        let Met { path, schema_path, value } = self.meet(name);
        self.findings.known.insert(schema_path);
        if let Some(value) = value
            && let Err(problem) = scalar.assign(Raw::File(value.get_ref()))
        {
            let place = self.findings.place(problem.span.unwrap_or(value.span()).start);
            self.findings.add(place, path.clone(), problem.kind);
        }
        if self.in_list {
            return;
        }
        let variable = variable_of(&path);
        self.findings.known_variables.push(variable.clone());
        let Some(text) = self.findings.variables.remove(&variable) else { return };
        self.findings.places.insert(path.clone(), Written::Variable(variable));
        if let Err(Problem { kind, .. }) = scalar.assign(Raw::Variable(&text)) {
            self.findings.report(&path, kind);
        }
    }

    fn table(&mut self, name: &'static str, fields: &mut dyn Fields) {
        let Met { path, schema_path, value } = self.meet(name);
        let table = value.and_then(|value| value.get_ref().as_table());
        if let (Some(value), None) = (value, table) {
            self.wrong_type(&path, "a table", value.get_ref());
        }
        self.read_inner(fields, table, path, schema_path, self.in_list);
    }

    fn tables(&mut self, name: &'static str, _: Reload, list: &mut dyn Tables) {
        let Met { path, schema_path, value } = self.meet(name);
        let Some(value) = value else {
            // nothing to read, but its keys are known
            list.each(&mut |fields| {
                self.read_inner(fields, None, path.clone(), schema_path.clone(), true);
            });
            return;
        };
        let Some(items) = value.get_ref().as_array() else {
            self.wrong_type(&path, "a list of tables", value.get_ref());
            return;
        };
        list.clear();
        for (index, item) in items.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let place = Written::File(item.span().start);
            self.findings.places.insert(path.clone(), place);
            match item.get_ref().as_table() {
                None => self.wrong_type(&path, "a table", item.get_ref()),
                table => self.read_inner(list.push(), table, path, schema_path.clone(), true),
            }
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// The environment variable that overrides the key at `path`.
pub(crate) fn variable_of(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "_").to_uppercase())
}

/// What `name` was probably meant to be.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let distance = |known: &str| strsim::damerau_levenshtein(known, name);
    let best = known.min_by_key(|known| distance(known))?;
    // one slip in three letters is a slip; more is another word
    let most = (best.len().max(name.len()) / 3).max(1);
    (distance(best) <= most).then(|| best.to_owned())
}

/// What the variables begin with that override keys.
pub(crate) const PREFIX: &str = "FASTPORT_";
