//! The crates that `fastport-dev` and `fastport-firmware-client` install as sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::folder;
use crate::{Layer, ROOT};

/// The crates as the recipe's `do_install` lays them out.
fn installed() -> (tempfile::TempDir, PathBuf) {
    let folder = folder();
    let crates = folder.path().join("usr/share/fastport/crates");
    let script = Path::new(ROOT).join("yocto/install-crates.sh");
    run(Command::new(script).arg(&crates));
    (folder, crates)
}

/// Runs a command that is to succeed, and gives its output.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).expect("what it says is UTF-8")
}

fn manifest(path: &Path) -> toml::Table {
    let text =
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of the folders with a crate in them.
fn names(crates: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(crates).expect("the script made it");
    let paths = entries.map(|entry| entry.expect("it is readable").path());
    let folders = paths.filter(|path| path.is_dir());
    folders.map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect()
}

fn cargo(folder: &Path) -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(folder).env_remove("CARGO_TARGET_DIR");
    cargo
}

#[test]
fn the_sources_that_are_installed_are_a_workspace_of_the_same_version() {
    let read = |path: &str| -> toml::Table {
        let text = fs::read_to_string(Path::new(ROOT).join(path)).expect(path);
        text.parse().expect(path)
    };
    let (ours, theirs) = (read("Cargo.toml"), read("yocto/crates.toml"));
    assert_eq!(theirs["workspace"]["package"], ours["workspace"]["package"]);
    let dependencies = theirs["workspace"]["dependencies"].as_table().expect("a table");
    for (name, theirs) in dependencies {
        let mut expected = ours["workspace"]["dependencies"][name].clone();
        expected["path"] = name.clone().into();
        assert_eq!(*theirs, expected, "{name}");
    }
}

#[test]
fn what_an_installed_crate_takes_of_its_workspace_is_installed() {
    let (_folder, crates) = installed();
    let workspace = manifest(&crates.join("Cargo.toml"));
    let names = names(&crates);
    let mut looked_at = 0;
    for name in &names {
        let manifest = manifest(&crates.join(name).join("Cargo.toml"));
        let tables = ["dependencies", "dev-dependencies", "build-dependencies"];
        for table in tables.iter().filter_map(|table| manifest.get(*table)?.as_table()) {
            for (needed, what) in table {
                if what.get("workspace").is_none() && what.get("path").is_none() {
                    continue;
                }
                looked_at += 1;
                assert!(names.contains(needed), "{name} needs {needed}");
                let path = &workspace["workspace"]["dependencies"][needed]["path"];
                assert_eq!(path.as_str(), Some(&**needed), "{name} needs {needed}");
            }
        }
    }
    assert!(looked_at >= 4, "the client needs three, and the core one: {looked_at}");
}

#[test]
fn every_installed_crate_is_in_a_package() {
    let (_folder, crates) = installed();
    let (_, lines) = Layer::written().recipe();
    let files: Vec<_> = ["FILES:${PN}-dev", "FILES:${PN}-firmware-client"]
        .iter()
        .flat_map(|name| lines.iter().filter_map(move |line| line.value_of(name)))
        .flat_map(str::split_whitespace)
        .filter_map(|path| path.strip_prefix("${datadir}/fastport/crates/"))
        .map(str::to_owned)
        .collect();
    let mut expected = names(&crates);
    expected.insert("Cargo.toml".to_owned());
    assert_eq!(files.len(), expected.len(), "{files:?}");
    assert_eq!(files.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn cargo_reads_the_installed_workspace() {
    let (_folder, crates) = installed();
    let mut cargo = cargo(&crates);
    let out = run(cargo.args(["metadata", "--offline", "--no-deps", "--format-version", "1"]));
    let found: serde_json::Value = serde_json::from_str(&out).expect("cargo writes JSON");
    let packages = found["packages"].as_array().expect("a list of packages");
    let found = packages.iter().map(|package| package["name"].as_str().expect("a name").to_owned());
    assert_eq!(found.collect::<BTreeSet<_>>(), names(&crates));
}

#[test]
fn a_program_of_ones_own_compiles_with_the_installed_client() {
    let (folder, crates) = installed();
    let program = folder.path().join("program");
    fs::create_dir_all(program.join("src")).expect("the folder is writable");
    let client = crates.join("fastport-client");
    let manifest = format!(
        "[package]\nname = \"program\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\nfastport-client = {{ path = {client:?}, default-features = false }}\n"
    );
    fs::write(program.join("Cargo.toml"), manifest).expect("the folder is writable");
    fs::write(program.join("src/main.rs"), PROGRAM).expect("the folder is writable");
    // what the crates of this build are is known to be at hand
    fs::copy(Path::new(ROOT).join("Cargo.lock"), program.join("Cargo.lock")).expect("it is there");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("yocto-installed");
    run(cargo(&program).args(["check", "--offline", "--target-dir"]).arg(target));
}

const PROGRAM: &str = r#"
//! Compiled, never run.

fn main() {
    println!("{}", std::any::type_name::<fastport_client::Client>());
}
"#;
