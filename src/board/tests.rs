use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use fastport_wire::{Readings, Topic, Value};
use tempfile::TempDir;

use super::*;

/// A root directory with the files that a test writes.
struct Tree(TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let tree = Self(TempDir::new().expect("the system gives temporary directories"));
        for (path, text) in files {
            tree.write(path, text);
        }
        tree
    }

    fn write(&self, path: &str, text: &str) {
        let file = self.0.path().join(path);
        let parent = file.parent().expect("tests write files below the root");
        fs::create_dir_all(parent).expect("the directory is ours");
        fs::write(file, text).expect("the directory is ours");
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.0.path().join(path)).expect("the test wrote it");
    }

    fn board(&self) -> Board {
        Board::discover(self.0.path())
    }
}

/// Topic, unit and value of everything that can be read.
fn values(board: &mut Board) -> Vec<(String, &'static str, String)> {
    let read = |sensor: &mut Sensor| {
        let value = sensor.read().ok()?.to_string();
        Some((sensor.topic().to_owned(), sensor.schema().unit, value))
    };
    board.sensors_mut().iter_mut().filter_map(read).collect()
}

fn value_of(board: &mut Board, topic: &str) -> Result<Value, SensorError> {
    let sensor = board.sensors_mut().iter_mut().find(|sensor| sensor.topic() == topic);
    sensor.expect("the test wrote its file").read()
}

const MEMINFO: &str = "MemTotal:        1000 kB\nMemFree:          100 kB\n\
    MemAvailable:     600 kB\nSwapTotal:        200 kB\nSwapFree:         150 kB\n";

#[test]
fn a_small_board_has_these_sensors_and_values() {
    let tree = Tree::new(&[
        ("proc/loadavg", "0.52 0.39 0.16 1/87 9924\n"),
        ("proc/stat", "cpu  30 0 0 70 0 0 0 0 0 0\n"),
        ("proc/uptime", "1697.86 3177.64\n"),
        ("proc/meminfo", MEMINFO),
        ("sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq", "1500000\n"),
        ("sys/class/thermal/thermal_zone0/type", "cpu-thermal\n"),
        ("sys/class/thermal/thermal_zone0/temp", "48312\n"),
        ("sys/class/thermal/cooling_device0/type", "gpio-fan\n"),
        ("sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
        ("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n"),
        ("sys/class/hwmon/hwmon2/name", "ina219\n"),
        ("sys/class/hwmon/hwmon2/in1_input", "5012\n"),
        ("sys/class/hwmon/hwmon2/curr1_input", "-250\n"),
        ("sys/class/hwmon/hwmon2/power1_input", "1253000\n"),
        ("sys/class/hwmon/hwmon2/intrusion0_input", "1\n"),
        ("sys/class/hwmon/hwmon3/name", "sht3x\n"),
        ("sys/class/hwmon/hwmon3/temp1_input", "-5250\n"),
        ("sys/class/hwmon/hwmon3/temp1_label", "Outside / North\n"),
        ("sys/class/hwmon/hwmon3/humidity1_input", "45100\n"),
        ("sys/class/hwmon/hwmon3/fan1_input", "1200\n"),
        ("sys/class/net/eth0/statistics/rx_bytes", "123456789\n"),
        ("sys/class/net/eth0/statistics/tx_errors", "3\n"),
        ("sys/class/net/lo/statistics/rx_bytes", "5\n"),
    ]);
    let values = values(&mut tree.board());
    let values: Vec<(&str, &str, &str)> =
        values.iter().map(|(topic, unit, value)| (topic.as_str(), *unit, value.as_str())).collect();
    assert_eq!(
        values,
        [
            ("$board/load/1", "", "0.52"),
            ("$board/load/5", "", "0.39"),
            ("$board/load/15", "", "0.16"),
            ("$board/cpu/busy", "/", "0.300"),
            ("$board/cpu/frequency/policy0", "Hz", "1500000000"),
            ("$board/uptime", "s", "1697.86"),
            ("$board/memory/available", "B", "614400"),
            ("$board/memory/used", "B", "409600"),
            ("$board/swap/used", "B", "51200"),
            ("$board/thermal/cpu-thermal", "Cel", "48.312"),
            ("$board/power/under-voltage", "", "true"),
            ("$board/hwmon/ina219/in1", "V", "5.012"),
            ("$board/hwmon/ina219/curr1", "A", "-0.250"),
            ("$board/hwmon/ina219/power1", "W", "1.253000"),
            ("$board/hwmon/sht3x/outside-north", "Cel", "-5.250"),
            ("$board/hwmon/sht3x/fan1", "1/min", "1200"),
            ("$board/hwmon/sht3x/humidity1", "%RH", "45.100"),
            ("$board/net/eth0/rx-bytes", "B", "123456789"),
            ("$board/net/eth0/tx-errors", "count", "3"),
        ]
    );
}

#[test]
fn storage_is_listed_once_for_each_real_file_system() {
    let tree = Tree::new(&[
        (
            "proc/mounts",
            "proc /proc proc rw 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/root / ext4 rw 0 0\n\
             /dev/root /again ext4 rw 0 0\n/dev/loop0 /snap squashfs ro 0 0\nubi0:data \
             /my\\040data ubifs rw 0 0\n/dev/gone /gone vfat rw 0 0\nbroken\n",
        ),
        ("my data/file", ""),
    ]);
    let mut board = tree.board();
    let topics: Vec<&str> = board.sensors().iter().map(Sensor::topic).collect();
    assert_eq!(
        topics,
        [
            "$board/storage/root/free",
            "$board/storage/root/used",
            "$board/storage/my-data/free",
            "$board/storage/my-data/used",
            "$board/storage/gone/free",
            "$board/storage/gone/used",
        ]
    );
    assert_eq!(value_of(&mut board, "$board/storage/gone/free"), Err(SensorError::Missing));
    for name in ["root", "my-data"] {
        let mut steps =
            |figure: &str| match value_of(&mut board, &format!("$board/storage/{name}/{figure}")) {
                Ok(Value::Int(value)) => Some(value.coefficient),
                _ => None,
            };
        assert!(steps("free").is_some_and(|bytes| bytes >= 0));
        assert!(steps("used").is_some_and(|share| (0..=1000).contains(&share)));
    }
}

#[test]
fn names_that_repeat_are_numbered_in_their_order() {
    let mut files = Vec::new();
    for number in [10, 2, 0] {
        files.push((format!("sys/class/thermal/thermal_zone{number}/type"), "acpitz".to_owned()));
        files.push((format!("sys/class/thermal/thermal_zone{number}/temp"), number.to_string()));
    }
    for number in [0, 1] {
        files.push((format!("sys/class/hwmon/hwmon{number}/name"), "nvme".to_owned()));
        files.push((format!("sys/class/hwmon/hwmon{number}/temp1_input"), number.to_string()));
    }
    let files: Vec<(&str, &str)> =
        files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let tree = Tree::new(&files);
    let values: BTreeMap<String, String> =
        values(&mut tree.board()).into_iter().map(|(topic, _, value)| (topic, value)).collect();
    let expected = [
        ("$board/hwmon/nvme-2/temp1", "0.001"),
        ("$board/hwmon/nvme/temp1", "0.000"),
        ("$board/thermal/acpitz", "0.000"),
        ("$board/thermal/acpitz-2", "0.002"),
        ("$board/thermal/acpitz-3", "0.010"),
    ];
    let expected = expected.map(|(topic, value)| (topic.to_owned(), value.to_owned()));
    assert_eq!(values, BTreeMap::from(expected));
}

#[test]
fn a_thermal_zone_is_not_listed_again_as_a_hardware_monitor() {
    let tree = Tree::new(&[
        ("sys/devices/virtual/thermal/thermal_zone0/type", "cpu-thermal"),
        ("sys/devices/virtual/thermal/thermal_zone0/temp", "48312"),
        ("sys/devices/virtual/thermal/thermal_zone0/hwmon0/name", "cpu_thermal"),
        ("sys/devices/virtual/thermal/thermal_zone0/hwmon0/temp1_input", "48312"),
    ]);
    let root = tree.0.path();
    for (class, device) in
        [("thermal/thermal_zone0", "thermal_zone0"), ("hwmon/hwmon0", "thermal_zone0/hwmon0")]
    {
        let link = root.join("sys/class").join(class);
        fs::create_dir_all(link.parent().expect("it has a class")).expect("the directory is ours");
        symlink(root.join("sys/devices/virtual/thermal").join(device), link)
            .expect("the directory is ours");
    }
    let board = tree.board();
    let topics: Vec<&str> = board.sensors().iter().map(Sensor::topic).collect();
    assert_eq!(topics, ["$board/thermal/cpu-thermal"]);
}

#[test]
fn bad_content_is_an_error_that_is_counted_and_the_sensor_stays() {
    const TEMP: &str = "sys/class/thermal/thermal_zone0/temp";
    const TOPIC: &str = "$board/thermal/thermal_zone0";
    let tree = Tree::new(&[(TEMP, "1")]);
    let mut board = tree.board();
    let mut count = 0;
    for (text, error) in [
        ("", SensorError::Empty),
        (" \n", SensorError::Empty),
        ("warm", SensorError::NotANumber),
        ("1.5", SensorError::NotANumber),
        ("1 2", SensorError::NotANumber),
        ("99999999999999999999", SensorError::OutOfRange),
        ("-99999999999999999999", SensorError::OutOfRange),
        (&"9".repeat(100_000), SensorError::OutOfRange),
    ] {
        tree.write(TEMP, text);
        assert_eq!(value_of(&mut board, TOPIC), Err(error), "{text:.20}");
        assert!(board.sample().is_empty());
        count += 2;
        assert_eq!(board.sensors()[0].errors(), count);
        assert_eq!(board.sensors()[0].last_error(), Some(error));
    }
    fs::write(tree.0.path().join(TEMP), [0xff, 0xfe]).expect("the directory is ours");
    assert_eq!(value_of(&mut board, TOPIC), Err(SensorError::NotANumber));
    tree.remove(TEMP);
    assert_eq!(value_of(&mut board, TOPIC), Err(SensorError::Missing));
    fs::create_dir(tree.0.path().join(TEMP)).expect("the directory is ours");
    let is_a_directory = 21;
    assert_eq!(value_of(&mut board, TOPIC), Err(SensorError::Unreadable(is_a_directory)));
    fs::remove_dir(tree.0.path().join(TEMP)).expect("the test made it");
    tree.write(TEMP, "20000");
    assert_eq!(value_of(&mut board, TOPIC), Ok(Value::int(20_000, -3)));
    assert_eq!(board.sample().len(), 1);
}

#[test]
fn a_switch_is_0_or_1() {
    let alarm = "sys/class/hwmon/hwmon0/in0_lcrit_alarm";
    let tree = Tree::new(&[("sys/class/hwmon/hwmon0/name", "rpi_volt"), (alarm, "0\n")]);
    let mut board = tree.board();
    let topic = "$board/power/under-voltage";
    assert_eq!(value_of(&mut board, topic), Ok(Value::Bool(false)));
    tree.write(alarm, "2\n");
    assert_eq!(value_of(&mut board, topic), Err(SensorError::OutOfRange));
}

#[test]
fn the_cpu_share_is_of_the_time_between_two_reads() {
    let tree = Tree::new(&[("proc/stat", "cpu  100 0 0 900 0 0 0 0 0 0\n")]);
    let mut board = tree.board();
    let mut busy = |text: &str| {
        tree.write("proc/stat", text);
        value_of(&mut board, "$board/cpu/busy").map(|value| value.to_string())
    };
    assert_eq!(busy("cpu  100 0 0 900 0 0 0 0 0 0\n"), Ok("0.100".to_owned()));
    assert_eq!(busy("cpu  175 0 0 925 0 0 0 0 0 0\n"), Ok("0.750".to_owned()));
    // no time has passed, then idle time has gone backwards
    assert_eq!(busy("cpu  175 0 0 925 0 0 0 0 0 0\n"), Ok("0.750".to_owned()));
    assert_eq!(busy("cpu  185 0 0 915 0 0 0 0 0 0\n"), Ok("1.000".to_owned()));
    assert_eq!(busy("cpu  x\n"), Err(SensorError::NotANumber));
}

#[test]
fn a_value_is_published_when_it_moves_beyond_its_dead_band_or_is_due_again() {
    let temp = "sys/class/thermal/thermal_zone0/temp";
    let tree = Tree::new(&[(temp, "20000")]);
    let mut board = tree.board().with_refresh(4);
    let mut sample = |text: &str| {
        tree.write(temp, text);
        board.sample().len()
    };
    assert_eq!(sample("20000"), 1); // the first
    assert_eq!(sample("20500"), 0); // within half a degree
    assert_eq!(sample("19500"), 0);
    assert_eq!(sample("20501"), 1); // beyond it
    assert_eq!(sample("20001"), 0); // from there, not from the first
    assert_eq!(sample("20501"), 0);
    assert_eq!(sample("gone"), 0);
    assert_eq!(sample("20501"), 1); // the fourth since
}

#[test]
fn a_sample_is_a_payload_of_its_sensors_schema() {
    let tree = Tree::new(&[("sys/class/thermal/thermal_zone0/temp", "48312")]);
    let mut board = tree.board();
    let sample = board.sample()[0];
    let schema = *board.sensors()[sample.sensor].schema();
    assert_eq!(sample.payload().len(), 3);
    let readings = Readings::decode(&schema, sample.payload()).expect("well formed");
    let values: Vec<Value> = readings.iter().map(|reading| reading.value).collect();
    assert_eq!(values, [Value::int(48_312, -3)]);
}

#[test]
fn limits_are_held_and_what_is_left_out_is_counted() {
    let names: Vec<String> = (0..MAX_SENSORS + 5)
        .map(|number| format!("sys/class/thermal/thermal_zone{number}/temp"))
        .chain((0..12).map(|number| format!("sys/class/net/veth{number}/statistics/rx_bytes")))
        .collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let board = Tree::new(&files).board();
    assert_eq!(board.sensors().len(), MAX_SENSORS);
    // five zones, four interfaces over their limit, one counter each of the other eight
    assert_eq!(board.left_out(), 5 + 4 + 8);
}

#[test]
fn hardware_interfaces_come_before_others() {
    let names: Vec<String> = (0..8)
        .map(|number| format!("sys/class/net/br{number}/statistics/rx_bytes"))
        .chain(["sys/class/net/wlan0/statistics/rx_bytes".to_owned()])
        .chain(["sys/class/net/wlan0/device/uevent".to_owned()])
        .collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    let board = Tree::new(&files).board();
    assert_eq!(board.sensors()[0].topic(), "$board/net/wlan0/rx-bytes");
    assert_eq!((board.sensors().len(), board.left_out()), (8, 1));
}

#[test]
fn nothing_at_all_is_a_board_without_sensors() {
    let tree = Tree::new(&[]);
    assert!(tree.board().sensors().is_empty());
    assert!(tree.board().sample().is_empty());
}

#[test]
fn this_machine_can_be_read() {
    let mut board = Board::discover(Path::new("/"));
    for sensor in board.sensors() {
        let topic = Topic::parse(sensor.topic()).expect("sensors have well-formed topics");
        assert!(topic.is_reserved());
    }
    for topic in ["$board/load/1", "$board/cpu/busy", "$board/memory/available", "$board/uptime"] {
        let value = value_of(&mut board, topic);
        assert!(matches!(value, Ok(Value::Int(it)) if it.coefficient >= 0), "{topic}: {value:?}");
    }
    let readable = values(&mut board).len();
    let published = board.sample().len();
    assert!(published >= 4 && published <= board.sensors().len());
    assert!(readable >= 4);
    // all readable sensors were published once, and the uptime waits for its refresh
    let again = board.sample();
    assert!(again.len() < published, "{again:?}");
}
