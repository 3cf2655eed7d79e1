//! The source tree, and the rules laid on it.

use crate::paths::{Named, Source};
use crate::rules::Rules;
use std::fs;
use std::path::Path;

/// Source files and manifests, by their path from the root of the checkout.
pub(crate) struct Tree {
    files: Vec<(String, String)>,
}

impl Tree {
    pub(crate) fn of(files: Vec<(&str, &str)>) -> Self {
        Self { files: files.into_iter().map(|(p, t)| (p.to_owned(), t.to_owned())).collect() }
    }

    pub(crate) fn read(root: &Path) -> Self {
        let mut tree = Self { files: Vec::new() };
        tree.add(root, "Cargo.toml");
        tree.add_folder(root, "src");
        for package in names_in(&root.join("crates")) {
            tree.add(root, &format!("crates/{package}/Cargo.toml"));
            tree.add_folder(root, &format!("crates/{package}/src"));
        }
        tree
    }

    fn add(&mut self, root: &Path, path: &str) {
        let text = fs::read_to_string(root.join(path)).expect("the checkout can be read");
        self.files.push((path.to_owned(), text));
    }

    fn add_folder(&mut self, root: &Path, folder: &str) {
        for name in names_in(&root.join(folder)) {
            let path = format!("{folder}/{name}");
            if root.join(&path).is_dir() {
                self.add_folder(root, &path);
            } else if name.ends_with(".rs") {
                self.add(root, &path);
            }
        }
    }
}

/// What stands in a folder, sorted, so that findings come in the same order everywhere.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the checkout can be read");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.expect("the checkout can be read").file_name().to_string_lossy().into_owned()
    };
    let mut names: Vec<_> = entries.map(name).collect();
    names.sort();
    names
}

/// Everything in the tree that the rules do not allow, one line each.
pub(crate) fn check(rules: &Rules, tree: &Tree) -> Vec<String> {
    let mut faults = Vec::new();
    let mut sources = Vec::new();
    for (path, text) in &tree.files {
        if path.ends_with("Cargo.toml") {
            check_manifest(rules, path, text, &mut faults);
        } else {
            sources.push((Place::of(path), path.as_str(), Source::parse(text)));
        }
    }
    let test_files: Vec<_> = sources
        .iter()
        .flat_map(|(place, _, source)| source.declared.iter().map(move |module| (place, module)))
        .filter(|(_, module)| module.test)
        .map(|(place, module)| {
            (
                place.package.clone(),
                [&place.module[..], &module.inside, std::slice::from_ref(&module.name)].concat(),
            )
        })
        .collect();
    for (place, path, source) in &sources {
        let is_test = |(package, module): &(String, Vec<String>)| {
            *package == place.package && place.module.starts_with(module)
        };
        let is_test = test_files.iter().any(is_test);
        check_source(rules, &Checked { place, path, source, is_test }, &mut faults);
    }
    faults.dedup();
    faults
}

/// Where a file stands: which row of the table is its own, and which module it is.
struct Place {
    /// The name of the package in a path, `fastport_wire`.
    package: String,
    /// The row: a module, a program (`main`, `bin/…`) or a package.
    who: String,
    /// From the root of the package; empty for programs.
    module: Vec<String>,
    kind: Kind,
}

#[derive(PartialEq)]
enum Kind {
    /// `src/lib.rs` of the root package.
    Root,
    /// Another file of the root package's library.
    Module,
    /// A file of a program: `crate` is the program, `fastport` the library.
    Program,
    /// A file of another package.
    Package,
}

impl Place {
    fn of(path: &str) -> Self {
        let steps: Vec<_> = path.trim_end_matches(".rs").split('/').collect();
        let steps: Vec<_> = steps.into_iter().map(str::to_owned).collect();
        let (package, inner) = match steps.as_slice() {
            [crates, package, _src, inner @ ..] if crates == "crates" => {
                (package.replace('-', "_"), inner)
            }
            [_src, inner @ ..] => (ROOT.to_owned(), inner),
            [] => (ROOT.to_owned(), &[][..]),
        };
        let mut module = inner.to_vec();
        if module.last().is_some_and(|last| last == "mod" || last == "lib") {
            module.pop();
        }
        let (who, kind) = match inner {
            _ if package != ROOT => (package.clone(), Kind::Package),
            [bin, name, ..] if bin == "bin" => (format!("bin/{name}"), Kind::Program),
            [main] if main == "main" => (main.clone(), Kind::Program),
            [lib] if lib == "lib" => (lib.clone(), Kind::Root),
            _ => (module[0].clone(), Kind::Module),
        };
        if kind == Kind::Program {
            module.clear();
        }
        Self { package, who, module, kind }
    }
}

struct Checked<'a> {
    place: &'a Place,
    path: &'a str,
    source: &'a Source,
    is_test: bool,
}

fn check_source(rules: &Rules, file: &Checked<'_>, faults: &mut Vec<String>) {
    let Checked { place, path, source, .. } = file;
    let who = &place.who;
    if let Some(line) = source.moved {
        faults.push(format!("{path}:{line}: a module lies where its name says: no #[path]"));
    }
    if place.kind == Kind::Root {
        if source.has_items {
            faults.push(format!("{path}: it declares modules and nothing else"));
        }
        return;
    }
    if place.kind == Kind::Program && !source.declared.is_empty() {
        faults
            .push(format!("{path}: a program has no modules of its own; they go into src/lib.rs"));
    }
    let Some(allowed) = rules.names_of(who) else {
        faults.push(format!("{path}: `{who}` has no row in ARCHITECTURE.md"));
        return;
    };
    for named in &source.named {
        let at = format!("{path}:{}", named.line);
        match ours(rules, place, named) {
            Ours::Nothing => {}
            Ours::Everything => {
                faults.push(format!("{at}: `{who}` names everything at once; name what is needed"))
            }
            Ours::Renamed => {
                faults.push(format!("{at}: `{who}` takes the whole library under another name"));
            }
            Ours::Name(name) if name == *who || allowed.contains(&name) => {}
            Ours::Name(name) if rules.names_of(&name).is_none() && name != ROOT => {
                faults.push(format!("{at}: `{who}` names `{name}`, which has no row"));
            }
            Ours::Name(name) => {
                faults.push(format!("{at}: `{who}` names `{name}`, which its row does not allow"));
            }
        }
        if let Some(path) = done_without(rules, file, named) {
            faults.push(format!("{at}: `{who}` names `{path}`, and is to do without"));
        }
    }
}

/// What of ours a path leads to.
enum Ours {
    Nothing,
    Everything,
    Renamed,
    /// A module of the root package's library, or a package.
    Name(String),
}

fn ours(rules: &Rules, place: &Place, named: &Named) -> Ours {
    let path: Vec<_> = named.path.iter().map(String::as_str).collect();
    let Some((&first, rest)) = path.split_first() else { return Ours::Nothing };
    if first != place.package && first != ROOT && first.starts_with("fastport_") {
        let is_package = rules.names_of(first).is_some();
        return if is_package { Ours::Name(first.to_owned()) } else { Ours::Nothing };
    }
    if first == ROOT {
        return match place.kind {
            // a bare word is a variable
            Kind::Package if rest.is_empty() && !named.renamed => Ours::Nothing,
            Kind::Package => Ours::Name(ROOT.to_owned()),
            _ => in_library(rest, named),
        };
    }
    if place.kind != Kind::Module {
        return Ours::Nothing;
    }
    if first == "crate" {
        return in_library(rest, named);
    }
    let rest = if first == "self" { rest } else { &path[..] };
    let ups = rest.iter().take_while(|step| **step == "super").count();
    if ups > 0 && ups == place.module.len() + named.inside.len() {
        return in_library(&rest[ups..], named);
    }
    Ours::Nothing
}

/// `rest` stands behind `crate`, or what leads to the same place.
fn in_library(rest: &[&str], named: &Named) -> Ours {
    match rest {
        [] | ["self"] if named.renamed => Ours::Renamed,
        [] | ["self"] => Ours::Nothing,
        ["*", ..] => Ours::Everything,
        [name, ..] => Ours::Name((*name).to_owned()),
    }
}

/// The path of the table that this one lies at or below, if its row holds here.
fn done_without(rules: &Rules, file: &Checked<'_>, named: &Named) -> Option<String> {
    let rows = rules.without.iter().filter(|row| row.who == file.place.who);
    let in_force = rows.filter(|row| {
        let is_test = named.test || file.is_test;
        let is_excepted = row.except_modules.iter().any(|name| file.place.module.contains(name));
        !(row.except_tests && is_test || is_excepted)
    });
    let mut paths = in_force.flat_map(|row| &row.never);
    paths.find(|never| named.path.starts_with(never)).map(|never| never.join("::"))
}

fn check_manifest(rules: &Rules, path: &str, text: &str, faults: &mut Vec<String>) {
    let manifest: toml::Table = text.parse().expect("cargo has read this manifest before us");
    let who = match path.strip_prefix("crates/").and_then(|path| path.strip_suffix("/Cargo.toml")) {
        Some(package) => package.replace('-', "_"),
        None => ROOT.to_owned(),
    };
    if who != ROOT && rules.names_of(&who).is_none() {
        faults.push(format!("{path}: `{who}` has no row in ARCHITECTURE.md"));
        return;
    }
    for (key, spec) in dependencies(&manifest) {
        let package = spec.get("package").and_then(toml::Value::as_str).unwrap_or(key);
        let name = package.replace('-', "_");
        let is_ours = name == ROOT || rules.names_of(&name).is_some();
        if is_ours && key != package {
            faults.push(format!("{path}: `{package}` goes under another name, `{key}`"));
        }
        // the root package's modules have rows of their own
        if who == ROOT {
            continue;
        }
        let is_allowed = rules.names_of(&who).is_some_and(|names| names.contains(&name));
        if is_ours && !is_allowed {
            faults.push(format!("{path}: `{who}` names `{name}`, which its row does not allow"));
        }
        let mut without = rules.without.iter().filter(|row| row.who == who);
        if without.any(|row| row.never.iter().any(|never| *never == [name.as_str()])) {
            faults.push(format!("{path}: `{who}` names `{name}`, and is to do without"));
        }
    }
}

/// Every dependency in every table of a manifest, also those for some targets or for tests.
fn dependencies(manifest: &toml::Table) -> Vec<(&str, &toml::Value)> {
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let of_targets = targets.into_iter().flat_map(|targets| targets.values());
    let workspace = manifest.get("workspace");
    let places = of_targets.chain(workspace).filter_map(toml::Value::as_table).chain([manifest]);
    let tables = places.flat_map(|place| {
        ["dependencies", "dev-dependencies", "build-dependencies"]
            .into_iter()
            .filter_map(|kind| place.get(kind).and_then(toml::Value::as_table))
    });
    tables.flatten().map(|(key, spec)| (key.as_str(), spec)).collect()
}

/// The root package's library in a path.
const ROOT: &str = "fastport";
