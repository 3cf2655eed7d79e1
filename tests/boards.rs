//! The boards' files: what each sets follows from what it states, `fastportd --board` uses them, and
//! `docs/boards.md` shows them. `UPDATE_DOCS=1 cargo test --test boards` writes its table anew.
#![allow(clippy::panic, reason = "a failed expectation is what a test is for")]

mod support;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use fastport::config::boards::{MODEL_FILE, NAMES};
use fastport::config::hardware::Storage;
use fastport::config::{BoardFile, Bytes, Ciphers, Config};

use support::{fastportd, folder, run, write};

fn source(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// The configuration that a board's file gives.
fn config_of(name: &str) -> Config {
    let board = BoardFile::choose(OsStr::new(name), Path::new(MODEL_FILE)).expect(name);
    Config::load_on(Some(&board), None, std::iter::empty()).expect(name)
}

/// What `--board auto` makes of a model.
fn detected(model: &str) -> Result<String, String> {
    let folder = folder();
    let file = write(folder.path(), "model", &format!("{model}\0"));
    let board = BoardFile::choose(OsStr::new("auto"), &file).map_err(|error| error.to_string())?;
    let name = board.path.file_stem().expect("a file has a name");
    Ok(name.to_string_lossy().into_owned())
}

fn mib(bytes: Option<Bytes>) -> u64 {
    bytes.expect("every board states it").0 / Bytes::mib(1).0
}

#[test]
fn every_file_is_built_in_and_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("board-configs");
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut files: Vec<String> = entries
        .map(|entry| entry.expect("it is readable").path())
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    files.sort();
    assert_eq!(files, NAMES);
    for name in NAMES {
        let (status, out, err) = run(fastportd().args(["--board", name, "--check"]));
        assert_eq!((status, &*err), (Some(0), ""), "{name}: {out}");
    }
}

#[test]
fn every_board_states_what_it_is() {
    let cross: toml::Table = source("Cross.toml").parse().expect("Cross.toml is TOML");
    let targets = cross["target"].as_table().expect("a table of targets");
    for name in NAMES {
        let hardware = config_of(name).board.hardware;
        assert!(hardware.name.is_some() && hardware.ram.is_some(), "{name}");
        let target = hardware.target.expect("every board states it");
        assert!(targets.contains_key(&target), "{name}: {target} is not in Cross.toml");
        let is_generic = name.starts_with("generic-");
        assert_eq!(hardware.models.is_empty(), is_generic, "{name}: models");
        assert_eq!(hardware.storage.is_none(), is_generic, "{name}: storage");
        for fact in [hardware.aes.is_none(), hardware.sha2.is_none(), hardware.watchdog.is_none()] {
            assert_eq!(fact, is_generic, "{name}: instructions, watchdog");
        }
        for sensor in &hardware.sensors {
            let kind = sensor.split_once('/').map(|(kind, _)| kind);
            assert!(matches!(kind, Some("thermal" | "hwmon")), "{name}: {sensor}");
        }
    }
}

#[test]
fn cross_installs_libsystemd_where_it_can_be_linked() {
    let cross: toml::Table = source("Cross.toml").parse().expect("Cross.toml is TOML");
    let targets = cross["target"].as_table().expect("a table of targets");
    // cargo's target, and Debian's name for its libraries
    let mut multiarch = BTreeMap::from([
        ("aarch64-unknown-linux-gnu", "aarch64-linux-gnu"),
        ("armv7-unknown-linux-gnueabihf", "arm-linux-gnueabihf"),
        ("riscv64gc-unknown-linux-gnu", "riscv64-linux-gnu"),
    ]);
    for (target, settings) in targets {
        if target.contains("-musl") {
            assert_eq!(settings.as_table().map(toml::Table::len), Some(0), "{target}: nothing");
            continue;
        }
        let multiarch = multiarch.remove(&**target).expect(target);
        let list = |value: &toml::Value| -> Vec<String> {
            let list = value.as_array().expect(target).iter();
            list.map(|it| it.as_str().expect(target).to_owned()).collect()
        };
        let commands = list(&settings["pre-build"]);
        let of_target =
            commands.iter().position(|it| it == "dpkg --add-architecture $CROSS_DEB_ARCH");
        let install = commands.iter().position(|it| {
            let words: Vec<_> = it.split_whitespace().collect();
            it.starts_with("apt-get update && apt-get install --assume-yes ")
                && words.contains(&"pkg-config")
                && words.contains(&"libsystemd-dev:$CROSS_DEB_ARCH")
        });
        assert!(of_target.is_some() && of_target < install, "{target}: {commands:?}");
        let mut variables = list(&settings["env"]["passthrough"]);
        variables.sort();
        let folder = format!("PKG_CONFIG_LIBDIR=/usr/lib/{multiarch}/pkgconfig");
        assert_eq!(variables, ["PKG_CONFIG_ALLOW_CROSS=1".to_owned(), folder], "{target}");
    }
    assert!(multiarch.is_empty(), "Cross.toml lacks {multiarch:?}");
    assert_eq!(cross["build"]["env"]["passthrough"], toml::Value::from(vec!["SOURCE_DATE_EPOCH"]));
}

#[test]
fn a_boards_budgets_fit_its_memory_and_the_units() {
    let unit = source("systemd/fastportd.service");
    let high = unit.lines().find_map(|line| line.strip_prefix("MemoryHigh=")?.strip_suffix('M'));
    let high: u64 = high.and_then(|high| high.parse().ok()).expect("the unit has it in MiB");
    for name in NAMES {
        let config = config_of(name);
        let ram = mib(config.board.hardware.ram);
        let spool = LANES * mib(Some(config.uplink.spool.memory));
        let passwords = PASSWORD_CHECK_MIB * u64::from(config.access.password_checks);
        let most = mib(Some(config.limits.memory)) + spool + passwords + PROGRAM_MIB;
        assert!(most <= ram / 4, "{name}: {most} MiB of {ram}");
        assert!(most <= high, "{name}: {most} MiB, but the unit has {high}");
    }
}

#[test]
fn a_boards_threads_fit_its_cores() {
    for name in NAMES {
        let config = config_of(name);
        let cores = config.board.hardware.cores.expect("every board states it");
        assert!(config.daemon.workers <= cores, "{name}");
        assert!(config.access.password_checks <= cores, "{name}");
    }
}

#[test]
fn a_boards_ciphers_follow_from_its_instructions() {
    for name in NAMES {
        let config = config_of(name);
        let expected = match config.board.hardware.aes {
            Some(true) => Ciphers::Aes,
            Some(false) => Ciphers::ChaCha20,
            None => Ciphers::Auto,
        };
        assert_eq!(config.daemon.ciphers, expected, "{name}");
    }
}

#[test]
fn a_boards_watchdogs_can_be_set_as_it_says() {
    for name in NAMES {
        let config = config_of(name);
        let hardware = &config.board.hardware;
        let times = (hardware.watchdog_reset, hardware.watchdog_longest);
        match times {
            // systemd feeds it after half of the time
            (Some(reset), Some(longest)) => assert!(reset < longest, "{name}"),
            (None, None) => assert_eq!(hardware.watchdog, None, "{name}"),
            _ => panic!("{name}: one of {times:?} is missing"),
        }
        let service = config.daemon.watchdog.expect("every board sets it");
        assert!((Duration::from_secs(15)..=Duration::from_secs(60)).contains(&service), "{name}");
    }
}

#[test]
fn a_boards_spool_spares_its_storage() {
    for name in NAMES {
        let config = config_of(name);
        let (disk, daily) = (config.uplink.spool.disk.0, config.uplink.spool.flash_per_day.0);
        let most = match config.board.hardware.storage {
            Some(Storage::Virtual) => {
                assert_eq!(daily, 0, "{name}: a disk of no limit");
                continue;
            }
            Some(Storage::Emmc) => Bytes::mib(256),
            // what is not known is taken to be the worst
            Some(Storage::SdCard) | None => Bytes::mib(128),
        };
        assert!((1..=most.0).contains(&daily), "{name}: {daily} bytes a day");
        let days = config.uplink.spool.max_age.as_secs() / 86_400;
        assert!(disk <= daily * days, "{name}: the spool never fills its {disk} bytes");
    }
}

#[test]
fn a_board_is_known_by_what_its_device_tree_states() {
    for (model, expected) in [
        ("Raspberry Pi Zero W Rev 1.1", "raspberry-pi-zero-w"),
        ("Raspberry Pi Zero 2 W Rev 1.0", "raspberry-pi-zero-2w"),
        ("Raspberry Pi 3 Model B Rev 1.2", "raspberry-pi-3"),
        ("Raspberry Pi 3 Model B Plus Rev 1.3", "raspberry-pi-3"),
        ("Raspberry Pi 3 Model A Plus Rev 1.0", "raspberry-pi-zero-2w"),
        ("Raspberry Pi 4 Model B Rev 1.4", "raspberry-pi-4"),
        ("Raspberry Pi 400 Rev 1.0", "raspberry-pi-4"),
        ("Raspberry Pi 5 Model B Rev 1.1", "raspberry-pi-5"),
        ("TI AM335x BeagleBone Black", "beaglebone-black"),
        ("OrangePi Zero3", "orange-pi-zero3"),
        ("StarFive VisionFive 2 v1.3B", "visionfive-2"),
        ("linux,dummy-virt", "qemu-virt-aarch64"),
    ] {
        assert_eq!(detected(model).as_deref(), Ok(expected), "{model}");
    }
    for name in NAMES {
        for model in config_of(name).board.hardware.models {
            assert_eq!(detected(&model).as_deref(), Ok(name), "{model}");
        }
    }
}

#[test]
fn a_board_that_is_not_known_is_told_with_those_that_are() {
    for (model, nearest) in [
        // another processor, another amount of memory: no board is taken for another
        ("StarFive VisionFive 2 Lite", "visionfive-2"),
        ("Raspberry Pi 2 Model B Rev 1.1", "raspberry-pi-"),
        ("Orange Pi Zero3", "orange-pi-zero3"),
    ] {
        let error = detected(model).expect_err(model);
        assert!(error.contains(&format!("did you mean {nearest}")), "{error}");
    }
    let error = detected("Toaster").expect_err("there is none");
    assert!(!error.contains("did you mean"), "{error}");
    assert!(NAMES.iter().all(|name| error.contains(name)), "{error}");

    let (status, _, err) = run(fastportd().args(["--board", "rasberry-pi-4", "--check"]));
    assert_eq!(status, Some(78));
    assert!(err.contains("did you mean raspberry-pi-4?") && err.contains("visionfive-2"), "{err}");
    let (status, _, err) =
        run(fastportd().args(["--board=auto", "--board-model=/nowhere/model", "--check"]));
    assert_eq!(status, Some(78));
    assert!(err.contains("/nowhere/model: this machine has no device tree"), "{err}");
}

#[test]
fn the_daemon_finds_its_board_by_the_environment() {
    let folder = folder();
    let model = write(folder.path(), "model", "Raspberry Pi 4 Model B Rev 1.5\0");
    let mut command = fastportd();
    command.env("FASTPORT_BOARD", "auto").arg("--board-model").arg(model);
    let (status, out, err) = run(command.arg("--print-config"));
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("name = \"Raspberry Pi 4 Model B\""), "{out}");
}

#[test]
fn the_configuration_overrides_its_board_key_by_key() {
    let folder = folder();
    let path = write(
        folder.path(),
        "gateway.toml",
        "[uplink.spool]\nmemory = \"2MiB\"\n[board]\ninterval = \"1m\"\n",
    );
    let mut command = fastportd();
    command.env("FASTPORT_DAEMON_WORKERS", "3").args(["--board", "raspberry-pi-5"]);
    let (status, out, err) = run(command.arg("--config").arg(&path).arg("--print-config"));
    assert_eq!(status, Some(0), "{err}");
    let config = Config::parse(&out, &path, std::iter::empty()).expect("what is printed loads");
    let mut expected = config_of("raspberry-pi-5");
    expected.daemon.workers = 3;
    expected.uplink.spool.memory = Bytes::mib(2);
    expected.board.interval = Duration::from_secs(60);
    assert_eq!(config, expected);
}

#[test]
fn a_board_of_ones_own_is_a_file() {
    let folder = folder();
    let board = write(folder.path(), "toaster.toml", "[limits]\nmemory = \"4MiB\"\n");
    let (status, out, err) = run(fastportd().arg("--board").arg(&board).arg("--print-config"));
    assert_eq!(status, Some(0), "{err}");
    assert!(out.contains("memory = \"4MiB\""), "{out}");

    let text = "[limits]\nmemroy = 1\n[[listen]]\nkind = \"tcp\"\n";
    let board = write(folder.path(), "wrong.toml", text);
    let (status, _, err) = run(fastportd().arg("--board").arg(&board).arg("--check"));
    assert_eq!(status, Some(78));
    let place =
        format!("{}:2:1: limits.memroy: unknown key; did you mean limits.memory?", board.display());
    assert!(err.contains(&place), "{err}");
    assert!(err.contains("wrong.toml:3:1: listen: not a matter of the board"), "{err}");
}

#[test]
fn the_documentation_shows_the_boards_as_they_are() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/boards.md");
    let page = fs::read_to_string(&path).expect("docs/boards.md is there");
    let (before, rest) = page.split_once(BEGIN).expect("the page has the beginning");
    let (_, after) = rest.split_once(END).expect("the page has the end");
    let fresh = format!("{before}{BEGIN}{}{END}{after}", tables());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &fresh).expect("the page is writable");
    } else {
        assert!(page == fresh, "docs/boards.md is old; UPDATE_DOCS=1 cargo test --test boards");
    }
}

/// The tables of `docs/boards.md`.
fn tables() -> String {
    let all: BTreeMap<_, _> = NAMES.into_iter().map(|name| (name, config_of(name))).collect();
    let mut text = String::from(
        "\n| `--board` | for | target | least RAM | cores | AES, SHA-256 instructions | watchdog, its \
         longest | storage |\n|---|---|---|--:|--:|---|---|---|\n",
    );
    for (name, config) in &all {
        let it = &config.board.hardware;
        let yes = |fact: Option<bool>| fact.map_or("?", |it| if it { "yes" } else { "no" });
        let watchdog = it.watchdog.as_ref().zip(it.watchdog_longest);
        let watchdog = watchdog.map_or("?".to_owned(), |(driver, longest)| {
            format!("`{driver}`, {} s", longest.as_secs())
        });
        writeln!(
            text,
            "| `{name}` | {} | `{}` | {} MiB | {} | {}, {} | {watchdog} | {} |",
            it.name.as_deref().unwrap_or("?"),
            it.target.as_deref().unwrap_or("?"),
            mib(it.ram),
            it.cores.unwrap_or_default(),
            yes(it.aes),
            yes(it.sha2),
            it.storage.map_or("?", Storage::name),
        )
        .expect("a String takes all");
    }
    text.push_str(
        "\nWhat they set:\n\n| `--board` | threads | ciphers | `limits.memory` | password checks | spool in \
         memory, a lane | spool on disk | flash a day | `WatchdogSec` | `RuntimeWatchdogSec` |\n\
         |---|--:|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for (name, config) in &all {
        let spool = &config.uplink.spool;
        let seconds =
            |time: Option<Duration>| time.map_or("?".into(), |it| format!("{} s", it.as_secs()));
        let daily =
            if spool.flash_per_day.0 == 0 { "any".into() } else { spool.flash_per_day.to_string() };
        writeln!(
            text,
            "| `{name}` | {} | {} | {} | {} | {} | {} | {daily} | {} | {} |",
            config.daemon.workers,
            config.daemon.ciphers.name(),
            config.limits.memory,
            config.access.password_checks,
            spool.memory,
            spool.disk,
            seconds(config.daemon.watchdog),
            seconds(config.board.hardware.watchdog_reset),
        )
        .expect("a String takes all");
    }
    text.push_str("\nHow they are known, what their kernels show, and what of it is unsure:\n\n");
    for (name, config) in &all {
        let it = &config.board.hardware;
        let list = |list: &[String]| match list {
            [] => "none".to_owned(),
            list => list.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", "),
        };
        let file = source(&format!("board-configs/{name}.toml"));
        let notes: Vec<_> = file.lines().map_while(|line| line.strip_prefix("# ")).collect();
        let notes = notes.join(" ");
        writeln!(
            text,
            "- `{name}`: {}. Models: {}. Sensors: {}.",
            notes.trim_end_matches('.'),
            list(&it.models),
            list(&it.sensors)
        )
        .expect("a String takes all");
    }
    text.push('\n');
    text
}

/// `alarm`, `normal` and `bulk`.
const LANES: u64 = 3;
/// What a check takes while it runs (docs/credentials.md).
const PASSWORD_CHECK_MIB: u64 = 19;
/// The program and a few journals; generous (docs/footprint.md).
const PROGRAM_MIB: u64 = 16;
const BEGIN: &str = "<!-- from board-configs/; tests/boards.rs compares -->\n";
const END: &str = "<!-- end -->";
