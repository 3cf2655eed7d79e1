//! The Yocto layer, as far as it can be looked at without openembedded-core: `tools/yocto-layer.sh` writes it, what
//! it names is there, pinned and well-formed, bitbake's own parser takes it (`parser`), and what it installs as
//! sources can be used (`installed`).
#![allow(clippy::panic, reason = "a failed expectation is what a test is for")]

mod check;
mod installed;
mod parser;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use fastport::config::boards::NAMES;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const RECIPES: &str = "recipes-connectivity/fastport";

/// The layer in a folder of its own.
struct Layer(tempfile::TempDir);

impl Layer {
    fn written() -> Self {
        let folder = tempfile::tempdir().expect("temporary folders can be made");
        let layer = Self(folder);
        let mut script = Command::new(Path::new(ROOT).join("tools/yocto-layer.sh"));
        let output = script.arg(layer.path("")).output().expect("the script is there");
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        layer
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join("meta-fastport").join(path)
    }

    fn recipe(&self) -> (PathBuf, Vec<Line>) {
        let path = self.path(&format!("{RECIPES}/fastport_{}.bb", env!("CARGO_PKG_VERSION")));
        let lines = parsed(&path);
        (path, lines)
    }

    fn crates(&self) -> Vec<Line> {
        parsed(&self.path(&format!("{RECIPES}/fastport-crates.inc")))
    }
}

/// A line of a recipe, with the lines that continue it.
#[derive(Debug, PartialEq)]
enum Line {
    /// `NAME[FLAG] = "VALUE"`, with overrides in the name.
    Set { name: String, flag: Option<String>, value: String },
    /// `inherit` and `require`.
    Word { word: String, rest: String },
    /// A function in shell.
    Function { name: String, body: String },
}

impl Line {
    fn value_of(&self, wanted: &str) -> Option<&str> {
        match self {
            Self::Set { name, flag: None, value } if name == wanted => Some(value),
            _ => None,
        }
    }
}

/// Reads a recipe or a configuration of bitbake's; fails at the first line that bitbake would not take.
fn parsed(path: &Path) -> Vec<Line> {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, first)) = lines.next() {
        let place = format!("{}:{}: {first}", path.display(), number + 1);
        assert_eq!(first, first.trim(), "{place}: begins or ends with a space");
        if first.is_empty() || first.starts_with('#') {
            continue;
        }
        if let Some(name) = first.strip_suffix("() {") {
            let mut body = String::new();
            loop {
                let (_, line) = lines.next().unwrap_or_else(|| panic!("{place}: has no end"));
                if line == "}" {
                    break;
                }
                body = body + line + "\n";
            }
            found.push(Line::Function { name: name.to_owned(), body });
            continue;
        }
        let mut line = first.to_owned();
        while line.ends_with('\\') {
            line.pop();
            let (_, next) = lines.next().unwrap_or_else(|| panic!("{place}: continues nowhere"));
            assert_eq!(next.trim_end(), next, "{place}: a space behind what continues it");
            line = line + " " + next.trim_start();
        }
        found.push(statement(&line, &place));
    }
    found
}

fn statement(line: &str, place: &str) -> Line {
    let line = line.strip_prefix("export ").unwrap_or(line);
    for word in ["inherit", "require"] {
        if let Some(rest) = line.strip_prefix(word).and_then(|rest| rest.strip_prefix(' ')) {
            return Line::Word { word: word.to_owned(), rest: rest.to_owned() };
        }
    }
    let operators = [" ??= ", " ?= ", " += ", " =+ ", " .= ", " := ", " = "];
    let at = operators.iter().filter_map(|it| Some((line.find(it)?, *it))).min();
    let (at, operator) = at.unwrap_or_else(|| panic!("{place}: sets nothing"));
    let (key, value) = (&line[..at], &line[at + operator.len()..]);
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let value = value.unwrap_or_else(|| panic!("{place}: the value is not in quotes"));
    assert!(!value.contains('"'), "{place}: a quote within quotes");
    assert_eq!(value.matches("${").count(), value.matches('}').count(), "{place}: braces");
    let (name, flag) = match key.split_once('[') {
        None => (key, None),
        Some((name, flag)) => {
            let flag = flag.strip_suffix(']').unwrap_or_else(|| panic!("{place}: the flag"));
            (name, Some(flag.to_owned()))
        }
    };
    let fits = |it: char| it.is_ascii_alphanumeric() || "_-:${}.".contains(it);
    assert!(!name.is_empty() && name.chars().all(fits), "{place}: no name of a variable");
    Line::Set { name: name.to_owned(), flag, value: value.to_owned() }
}

#[test]
fn every_crate_of_the_lock_file_is_pinned_by_its_checksum_and_no_other() {
    let text = fs::read_to_string(Path::new(ROOT).join("Cargo.lock")).expect("it is there");
    let lock: toml::Table = text.parse().expect("Cargo.lock is TOML");
    let packages = lock["package"].as_array().expect("a list of packages");
    let text = |package: &toml::Value, key: &str| Some(package.get(key)?.as_str()?.to_owned());
    let mut expected = BTreeMap::new();
    for package in packages.iter().filter(|package| package.get("source").is_some()) {
        let name = text(package, "name").expect("every package has one");
        let version = text(package, "version").expect("every package has one");
        let sum = text(package, "checksum").expect("every crate of a registry has one");
        expected.insert(format!("{name}-{version}"), (format!("{name}/{version}"), sum));
    }
    let lines = Layer::written().crates();
    let uris: BTreeSet<_> = lines
        .iter()
        .filter_map(|line| line.value_of("SRC_URI"))
        .flat_map(str::split_whitespace)
        .map(|uri| uri.strip_prefix("crate://crates.io/").expect(uri).to_owned())
        .collect();
    let mut sums = BTreeMap::new();
    for line in lines {
        if let Line::Set { name, flag: Some(flag), value } = line {
            assert_eq!(name, "SRC_URI");
            sums.insert(flag.strip_suffix(".sha256sum").expect(&flag).to_owned(), value);
        }
    }
    assert!(expected.len() > 100, "{}", expected.len());
    assert_eq!(uris, expected.values().map(|(uri, _)| uri.clone()).collect());
    assert_eq!(sums, expected.into_iter().map(|(crate_, (_, sum))| (crate_, sum)).collect());
}

#[test]
fn a_crate_without_a_checksum_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("temporary folders can be made");
    let lock = folder.path().join("Cargo.lock");
    let text =
        "[[package]]\nname = \"stray\"\nversion = \"1.0.0\"\nsource = \"git+https://x.example\"\n";
    fs::write(&lock, text).expect("the folder is writable");
    let mut script = Command::new(Path::new(ROOT).join("tools/yocto-crates.sh"));
    let output = script.arg(&lock).output().expect("the script is there");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("stray 1.0.0 comes from git+https://x.example"), "{said}");
}

#[test]
fn what_the_recipe_names_is_in_the_layer() {
    let layer = Layer::written();
    let (path, lines) = layer.recipe();
    let expand =
        |text: &str| text.replace("${PV}", env!("CARGO_PKG_VERSION")).replace("${BPN}", "fastport");
    let folder = path.parent().expect("a file is in a folder");
    let mut named = 0;
    for line in &lines {
        match line {
            Line::Set { name, flag: None, value }
                if ["SRC_URI", "FASTPORT_SOURCE"].contains(&&**name) =>
            {
                for file in value.split_whitespace().filter_map(|uri| uri.strip_prefix("file://")) {
                    named += 1;
                    let file = folder.join("files").join(expand(file));
                    assert!(file.exists(), "{}", file.display());
                }
            }
            Line::Word { word, rest } if word == "require" => {
                named += 1;
                assert!(folder.join(expand(rest)).exists(), "{rest}");
            }
            Line::Function { name, body } => {
                assert_eq!(name, "do_install:append");
                // ${S} is where the sources are
                let paths = body.split_whitespace().filter_map(|word| word.strip_prefix("${S}/"));
                for source in paths.filter(|path| !path.contains('$')) {
                    named += 1;
                    assert!(Path::new(ROOT).join(source).exists(), "{source}");
                }
            }
            _ => {}
        }
    }
    assert_eq!(named, 6, "the sources, a file, the crates, and three of the sources");
    for name in ["README.md", "SECURITY.md", "conf/layer.conf", "LICENSE-MIT", "LICENSE-APACHE"] {
        assert!(layer.path(name).exists(), "{name}");
    }
}

#[test]
fn the_licences_are_those_that_the_recipe_knows() {
    let (_, lines) = Layer::written().recipe();
    let value = |name: &str| lines.iter().find_map(|line| line.value_of(name)).expect(name);
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).expect("it is there");
    assert!(manifest.contains(&format!("license = \"{}\"", value("LICENSE"))));
    let mut looked_at = 0;
    for entry in value("LIC_FILES_CHKSUM").split_whitespace() {
        let entry = entry.strip_prefix("file://").expect(entry);
        let (file, sum) = entry.split_once(";md5=").expect(entry);
        let output = Command::new("md5sum").current_dir(ROOT).arg(file).output();
        let output = output.expect("coreutils has it").stdout;
        assert!(String::from_utf8_lossy(&output).starts_with(sum), "{file}: another md5");
        looked_at += 1;
    }
    assert_eq!(looked_at, 2);
}

#[test]
fn the_features_and_boards_that_the_recipe_offers_exist() {
    let manifest = fs::read_to_string(Path::new(ROOT).join("Cargo.toml")).expect("it is there");
    let manifest: toml::Table = manifest.parse().expect("Cargo.toml is TOML");
    let features = manifest["features"].as_table().expect("a table of features");
    let (_, lines) = Layer::written().recipe();
    let default = lines.iter().find_map(|line| line.value_of("PACKAGECONFIG")).expect("a default");
    let mut offered = BTreeSet::new();
    let mut boards = 0;
    for line in &lines {
        let Line::Set { name, flag, value } = line else { continue };
        if let ("PACKAGECONFIG", Some(flag)) = (&**name, flag) {
            assert!(value.starts_with(&format!("--features {flag},,")), "{value}");
            assert!(features.contains_key(flag), "Cargo.toml has no feature {flag}");
            offered.insert(flag.as_str());
        }
        if name.starts_with("FASTPORT_BOARD_DEFAULT:") {
            assert!(NAMES.contains(&&**value), "no board {value}");
            boards += 1;
        }
    }
    assert!(default.split_whitespace().all(|feature| offered.contains(feature)), "{default}");
    assert!(boards > 0 && offered.len() > 2);
}

#[test]
fn the_layer_says_which_series_it_is_for_and_what_it_needs() {
    let lines = parsed(&Layer::written().path("conf/layer.conf"));
    let value = |name: &str| lines.iter().find_map(|line| line.value_of(name)).expect(name);
    assert_eq!(value("LAYERSERIES_COMPAT_fastport"), "wrynose blacksail");
    assert_eq!(value("LAYERDEPENDS_fastport"), "core");
    assert_eq!(value("BBFILE_COLLECTIONS"), "fastport");
    assert_eq!(value("BBFILE_PATTERN_fastport"), "^${LAYERDIR}/");
}

#[test]
fn kas_finds_the_layer_where_the_readme_runs_it() {
    let layer = Layer::written();
    let read = |path: &str| fs::read_to_string(layer.path(path)).expect(path);
    // relative to where kas runs; without it, the git checkout around the file would be the layer
    assert!(read("kas/qemuarm64.yml").contains("\n  meta-fastport:\n    path: meta-fastport\n"));
    assert!(layer.path("").ends_with("meta-fastport"));
    assert!(read("README.md").contains("\nkas build meta-fastport/kas/qemuarm64.yml\n"));
}
