//! `tools/yocto-check.sh`, with stand-ins for bitbake and openembedded-core: what it runs, and what it says where
//! these are missing.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::ROOT;
use crate::support::{folder, write};

/// Runs the script in a folder of its own, without the part that needs Python.
fn check(folder: &Path, arguments: &[&Path]) -> Output {
    let mut script = Command::new(Path::new(ROOT).join("tools/yocto-check.sh"));
    script.env("DIST", folder.join("dist")).env("WORK", folder.join("work"));
    // who the stand-ins run as where the tests are root
    script.env("FASTPORT_TEST_PYTHON", "false").env("YOCTO_USER", "root");
    script.args(arguments).output().expect("the script is there")
}

/// An openembedded-core of which every program writes down how it is called, and succeeds unless it is `failing`.
fn stand_in(folder: &Path, failing: &str) {
    let bin = folder.join("bin");
    fs::create_dir(&bin).expect("the folder is writable");
    for name in ["bitbake", "bitbake-layers", "yocto-check-layer"] {
        let asked = folder.join("asked");
        let text = format!(
            "#!/bin/sh\necho \"{name} $*\" >>{}\necho 'FASTPORT_BOARD=\"qemu-virt-aarch64\"'\n\
             echo 'said by {name}'\n[ \"{name} $1\" != \"{failing}\" ]\n",
            asked.display()
        );
        let program = write(&bin, name, &text);
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    let text = format!("PATH={}:$PATH\ncd \"$1\" && test -e conf/auto.conf\n", bin.display());
    write(folder, "oe-init-build-env", &text);
}

#[test]
fn what_cannot_be_checked_is_said_to_be_skipped() {
    let folder = folder();
    let output = check(folder.path(), &[]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("SKIPPED: the recipe in bitbake's parser."), "{said}");
    assert!(said.contains("SKIPPED: bitbake -b, -p, -e, -n and yocto-check-layer."), "{said}");
}

#[test]
fn bitbake_reads_the_recipe_and_the_layer_is_checked_on_its_own() {
    let folder = folder();
    stand_in(folder.path(), "none");
    let output = check(folder.path(), &[folder.path()]);
    assert!(output.status.success(), "{output:?}");
    let layer = folder.path().join("dist/meta-fastport");
    let layer = layer.display();
    let asked = fs::read_to_string(folder.path().join("asked")).expect("they were called");
    let recipe =
        format!("{layer}/recipes-connectivity/fastport/fastport_{}.bb", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        asked,
        format!(
            "bitbake-layers add-layer {layer}\nbitbake -b {recipe} -e\nbitbake -p\nbitbake -e fastport\n\
             bitbake -n fastport\nbitbake-layers remove-layer {layer}\nyocto-check-layer --no-auto {layer}\n"
        )
    );
}

#[test]
fn a_step_that_fails_ends_the_check_with_what_it_said() {
    let folder = folder();
    stand_in(folder.path(), "bitbake -p");
    let output = check(folder.path(), &[folder.path()]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("said by bitbake") && said.contains("parse: failed: bitbake -p"),
        "{said}"
    );
}
