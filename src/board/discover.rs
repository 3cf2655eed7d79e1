//! Finds what a board can measure. What is not there is passed over.

use std::fs;
use std::path::{Path, PathBuf};

use fastport_wire::Schema;
use fastport_wire::schema::Kind;

use super::names::Names;
use super::source::{CpuTime, MAX_FILE, Mount, Source, read_start};
use super::{MAX_SENSORS, Sensor};

/// All sensors below `root`, and how many things were left out for a limit.
pub(super) fn all(root: &Path) -> (Vec<Sensor>, usize) {
    let mut finder =
        Finder { root: root.to_owned(), names: Names::default(), sensors: Vec::new(), left_out: 0 };
    finder.processor();
    finder.memory();
    finder.thermal_zones();
    finder.hardware_monitors();
    finder.storage();
    finder.network();
    (finder.sensors, finder.left_out)
}

struct Finder {
    root: PathBuf,
    names: Names,
    sensors: Vec<Sensor>,
    left_out: usize,
}

/// A unit, a scale and a dead band, the latter in steps of the scale.
#[derive(Clone, Copy)]
struct Quantity {
    unit: &'static str,
    scale: i8,
    dead_band: u64,
}

impl Finder {
    fn add(&mut self, parent: &str, level: &str, quantity: Quantity, source: Source) {
        let schema = Schema::int(quantity.unit, quantity.scale);
        self.add_with_schema(parent, level, schema, quantity.dead_band, source);
    }

    fn add_with_schema(
        &mut self,
        parent: &str,
        level: &str,
        schema: Schema<'static>,
        dead_band: u64,
        source: Source,
    ) {
        if self.sensors.len() == MAX_SENSORS {
            self.left_out += 1;
            return;
        }
        let topic = self.names.add(parent, level);
        self.sensors.push(Sensor::new(topic, schema, dead_band, source));
    }

    /// The path of a file below the root, if there is one.
    fn file(&self, path: &str) -> Option<PathBuf> {
        Some(self.root.join(path)).filter(|file| file.exists())
    }

    fn processor(&mut self) {
        if let Some(file) = self.file("proc/loadavg") {
            for (field, minutes) in ["1", "5", "15"].into_iter().enumerate() {
                let source = Source::Hundredths { file: file.clone(), field };
                self.add("$board/load", minutes, quantity::LOAD, source);
            }
        }
        if let Some(file) = self.file("proc/stat") {
            let source = Source::CpuBusy { file, before: CpuTime::default(), share: 0 };
            self.add("$board/cpu", "busy", quantity::CPU_BUSY, source);
        }
        let policies = self.root.join("sys/devices/system/cpu/cpufreq");
        for (name, policy) in entries(&policies, "policy") {
            let file = policy.join("scaling_cur_freq");
            if file.exists() {
                let source = Source::Integer(file);
                self.add("$board/cpu/frequency", &name, quantity::FREQUENCY, source);
            }
        }
        if let Some(file) = self.file("proc/uptime") {
            let source = Source::Hundredths { file, field: 0 };
            self.add("$board", "uptime", quantity::UPTIME, source);
        }
    }

    fn memory(&mut self) {
        let Some(file) = self.file("proc/meminfo") else { return };
        let source = |line, less| Source::Memory { file: file.clone(), line, less };
        let available = source("MemAvailable", None);
        let used = source("MemTotal", Some("MemAvailable"));
        let swap = source("SwapTotal", Some("SwapFree"));
        self.add("$board/memory", "available", quantity::MEMORY, available);
        self.add("$board/memory", "used", quantity::MEMORY, used);
        self.add("$board/swap", "used", quantity::MEMORY, swap);
    }

    fn thermal_zones(&mut self) {
        for (name, zone) in entries(&self.root.join("sys/class/thermal"), "thermal_zone") {
            let file = zone.join("temp");
            if file.exists() {
                let kind = line_of(&zone.join("type")).unwrap_or(name);
                self.add("$board/thermal", &kind, quantity::TEMPERATURE, Source::Integer(file));
            }
        }
    }

    fn hardware_monitors(&mut self) {
        for (name, monitor) in entries(&self.root.join("sys/class/hwmon"), "hwmon") {
            // the kernel shows most thermal zones here a second time
            let real = fs::canonicalize(&monitor).unwrap_or_default();
            if real
                .components()
                .any(|it| it.as_os_str().to_string_lossy().starts_with("thermal_zone"))
            {
                continue;
            }
            let chip = line_of(&monitor.join("name")).unwrap_or(name);
            let alarm = monitor.join("in0_lcrit_alarm");
            if chip == "rpi_volt" && alarm.exists() {
                let schema = Schema { kind: Kind::Bool, ..Schema::default() };
                let source = Source::Integer(alarm);
                self.add_with_schema("$board/power", "under-voltage", schema, 0, source);
            }
            self.channels(&chip, &monitor);
        }
    }

    /// The inputs of one hardware monitor, Documentation/hwmon/sysfs-interface of Linux.
    fn channels(&mut self, chip: &str, monitor: &Path) {
        let mut parent = None;
        for (prefix, quantity) in quantity::CHANNELS {
            for (name, file) in entries(monitor, prefix) {
                let Some(channel) = name.strip_suffix("_input") else { continue };
                let number = channel.strip_prefix(prefix).unwrap_or_default();
                if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
                    continue;
                }
                let label = line_of(&monitor.join(format!("{channel}_label")));
                let parent = parent.get_or_insert_with(|| self.names.add("$board/hwmon", chip));
                let parent = parent.clone();
                let level = label.as_deref().unwrap_or(channel);
                self.add(&parent, level, quantity, Source::Integer(file));
            }
        }
    }

    fn storage(&mut self) {
        let mounts = fs::read_to_string(self.root.join("proc/mounts")).unwrap_or_default();
        let mut devices: Vec<&str> = Vec::new();
        for line in mounts.lines() {
            let mut fields = line.split(' ');
            let (Some(device), Some(mount), Some(kind)) =
                (fields.next(), fields.next(), fields.next())
            else {
                continue;
            };
            let is_block = device.starts_with("/dev/") && !ALWAYS_FULL.contains(&kind);
            // a device mounted twice is one file system
            if !(is_block || FLASH.contains(&kind)) || devices.contains(&device) {
                continue;
            }
            if devices.len() == MAX_STORAGE {
                self.left_out += 1;
                continue;
            }
            devices.push(device);
            let mount = unescape(mount);
            let path = self.root.join(mount.trim_start_matches('/'));
            let name = if mount == "/" { "root" } else { mount.as_str() };
            let parent = self.names.add("$board/storage", name);
            let mount = Mount::new(path);
            let free = Source::StorageFree(mount.clone());
            self.add(&parent, "free", quantity::STORAGE_FREE, free);
            self.add(&parent, "used", quantity::STORAGE_USED, Source::StorageUsed(mount));
        }
    }

    fn network(&mut self) {
        let mut interfaces = entries(&self.root.join("sys/class/net"), "");
        interfaces
            .retain(|(name, interface)| name != "lo" && interface.join("statistics").exists());
        // hardware first, so that a host of many bridges and containers shows its own
        interfaces.sort_by_key(|(_, interface)| !interface.join("device").exists());
        self.left_out += interfaces.len().saturating_sub(MAX_INTERFACES);
        for (name, interface) in interfaces.into_iter().take(MAX_INTERFACES) {
            let parent = self.names.add("$board/net", &name);
            for (file, level, quantity) in quantity::COUNTERS {
                let file = interface.join("statistics").join(file);
                if file.exists() {
                    self.add(&parent, level, quantity, Source::Integer(file));
                }
            }
        }
    }
}

/// What is in a directory with names that begin so, by name and with numbers in their order; nothing
/// when it is not there.
fn entries(directory: &Path, prefix: &str) -> Vec<(String, PathBuf)> {
    let Ok(found) = fs::read_dir(directory) else { return Vec::new() };
    let mut entries: Vec<(String, PathBuf)> = found
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .filter(|(name, _)| name.starts_with(prefix))
        .take(MAX_ENTRIES)
        .collect();
    let number = |name: &str| {
        let digits = name.trim_start_matches(|it: char| !it.is_ascii_digit());
        let end = digits.find(|it: char| !it.is_ascii_digit()).unwrap_or(digits.len());
        digits.get(..end).and_then(|digits| digits.parse::<u64>().ok())
    };
    entries.sort_by_cached_key(|(name, _)| {
        let stem = name.trim_end_matches(|it: char| it.is_ascii_digit()).to_owned();
        let stem = if prefix.is_empty() { stem } else { String::new() };
        (stem, number(name), name.clone())
    });
    entries
}

/// A file's first line, if it has one.
fn line_of(file: &Path) -> Option<String> {
    let mut buffer = [0; MAX_FILE];
    let text = read_start(file, &mut buffer).ok()?;
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}

/// Undoes the octal escapes of `/proc/mounts`: space, tab, line feed, backslash.
fn unescape(mount: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(mount.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

/// Units, scales and dead bands. The scales are the kernel's own, so that its integers are used as
/// they are; a dead band is what seldom matters and often flickers.
mod quantity {
    use super::Quantity;

    const fn of(unit: &'static str, scale: i8, dead_band: u64) -> Quantity {
        Quantity { unit, scale, dead_band }
    }

    /// Half a degree: the step of the Raspberry Pi's sensor.
    pub(super) const TEMPERATURE: Quantity = of("Cel", -3, 500);
    /// RFC 8428 has no unit for it.
    pub(super) const LOAD: Quantity = of("", -2, 10);
    pub(super) const CPU_BUSY: Quantity = of("/", -3, 20);
    /// The kernel says kHz.
    pub(super) const FREQUENCY: Quantity = of("Hz", 3, 50_000);
    /// Changes always; comes with the refresh.
    pub(super) const UPTIME: Quantity = of("s", -2, u64::MAX);
    pub(super) const MEMORY: Quantity = of("B", 0, 4 << 20);
    pub(super) const STORAGE_FREE: Quantity = of("B", 0, 16 << 20);
    pub(super) const STORAGE_USED: Quantity = of("/", -3, 0);
    /// Channels of hardware monitors by the prefix of their files.
    pub(super) const CHANNELS: [(&str, Quantity); 6] = [
        ("temp", TEMPERATURE),
        ("in", of("V", -3, 20)),
        ("curr", of("A", -3, 20)),
        ("power", of("W", -6, 100_000)),
        ("fan", of("1/min", 0, 50)),
        ("humidity", of("%RH", -3, 500)),
    ];
    /// Counters of network interfaces: file, level.
    pub(super) const COUNTERS: [(&str, &str, Quantity); 4] = [
        ("rx_bytes", "rx-bytes", of("B", 0, 0)),
        ("tx_bytes", "tx-bytes", of("B", 0, 0)),
        ("rx_errors", "rx-errors", of("count", 0, 0)),
        ("tx_errors", "tx-errors", of("count", 0, 0)),
    ];
}

/// File systems on flash without a block device.
const FLASH: [&str; 3] = ["ubifs", "jffs2", "yaffs2"];
/// File systems that are made full.
const ALWAYS_FULL: [&str; 4] = ["squashfs", "iso9660", "erofs", "cramfs"];
/// Boards have two or three; more are a host's.
const MAX_STORAGE: usize = 8;
/// As above: each costs four sensors.
const MAX_INTERFACES: usize = 8;
/// Of a directory's entries: chips have some dozens.
const MAX_ENTRIES: usize = 1024;
