//! What bitbake's own parser makes of the recipe (`tools/yocto-parse.py`).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{folder, python, write};
use crate::{Layer, Line, ROOT};

/// What the parser says of a layer with these arguments.
fn parsed(layer: &Layer, arguments: &[&str]) -> Value {
    let mut parser = Command::new(python());
    parser.arg(Path::new(ROOT).join("tools/yocto-parse.py")).arg(layer.path(""));
    let output = parser.args(arguments).output().expect("Python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "run `make test`, which installs what it needs: {said}");
    serde_json::from_slice(&output.stdout).expect("it writes JSON")
}

/// The board that the recipe sets up for a machine beside a line of `local.conf`.
fn board(layer: &Layer, machine: &str, line: &str) -> String {
    let found = parsed(layer, &["--machine", machine, "--local", line, "FASTPORT_BOARD"]);
    found["variables"]["FASTPORT_BOARD"].as_str().expect("it is set").to_owned()
}

#[test]
fn bitbake_takes_every_line_and_its_fetcher_every_source() {
    let layer = Layer::written();
    let found = parsed(&layer, &["PN", "PV"]);
    assert_eq!(found["variables"]["PN"], "fastport");
    assert_eq!(found["variables"]["PV"], env!("CARGO_PKG_VERSION"));
    assert_eq!(found["functions"], serde_json::json!(["do_install"]));
    let crates = layer.crates();
    let sums = crates.iter().filter(|line| matches!(line, Line::Set { flag: Some(_), .. }));
    assert_eq!(found["sources"]["kinds"], serde_json::json!({ "file": 2, "crate": sums.count() }));
}

#[test]
fn a_machine_has_its_board_and_a_local_conf_the_last_word() {
    let layer = Layer::written();
    let (_, lines) = layer.recipe();
    let table: BTreeMap<_, _> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Set { name, flag: None, value } => {
                Some((name.strip_prefix("FASTPORT_BOARD_DEFAULT:")?, value.as_str()))
            }
            _ => None,
        })
        .collect();
    for (machine, expected) in table {
        assert_eq!(board(&layer, machine, ""), expected, "{machine}");
    }
    assert_eq!(board(&layer, "a-machine-of-ones-own", ""), "");
    for line in [
        // as README.md of the layer has it; names of recipes come before machines in OVERRIDES
        "FASTPORT_BOARD:pn-fastport = \"auto\"",
        "FASTPORT_BOARD = \"auto\"",
        "FASTPORT_BOARD:raspberrypi4-64 = \"auto\"",
    ] {
        assert_eq!(board(&layer, "raspberrypi4-64", line), "auto", "{line}");
    }
}

#[test]
fn do_install_puts_everything_where_the_unit_and_the_packages_look() {
    let layer = Layer::written();
    let folder = folder();
    let image = folder.path().join("image");
    let files = layer.path("recipes-connectivity/fastport/files");
    let set = |name: &str, path: &Path| format!("{name} = \"{}\"", path.display());
    let lines = [set("D", &image), set("S", Path::new(ROOT)), set("UNPACKDIR", &files)];
    let mut arguments: Vec<_> = lines.iter().flat_map(|line| ["--local", line.as_str()]).collect();
    arguments.push("do_install");
    let found = parsed(&layer, &arguments);
    // the group is the image's, which bitbake makes before
    let tools = folder.path().join("tools");
    fs::create_dir(&tools).expect("the folder is writable");
    let stand_in = write(&tools, "chgrp", "#!/bin/sh\n");
    fs::set_permissions(stand_in, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").expect("a PATH"));
    let body = found["variables"]["do_install"].as_str().expect("a function");
    let mut shell = Command::new("sh");
    let output = shell.args(["-ec", body]).env("PATH", path).output().expect("a shell runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let drop_in = image.join("usr/lib/systemd/system/fastportd.service.d/board.conf");
    let drop_in = fs::read_to_string(drop_in).expect("the machine has a board");
    assert_eq!(drop_in, "[Service]\nEnvironment=FASTPORT_BOARD=qemu-virt-aarch64\n");
    for file in [
        "usr/lib/systemd/system/fastportd.service",
        "usr/lib/tmpfiles.d/fastport.conf",
        "etc/fastport/gateway.toml",
        "usr/share/fastport/crates/Cargo.toml",
        "usr/share/fastport/crates/fastport-client/src/lib.rs",
    ] {
        assert!(image.join(file).is_file(), "{file}");
    }
}
