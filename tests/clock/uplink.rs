//! The time of what a gateway takes to a central instance: taken before its clock was set, in boots that are
//! over, while either clock is stepped.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastport_client::{Client, Tier, init};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::TEN_YEARS;
use super::site::Site;
use super::support::skip::skip;
use super::support::{DEADLINE, Daemon, without_settings};
use super::time_travel::{FakeClock, at_1970};

/// More than the lanes' memory takes at half a second of traffic, so that the disk is used.
const SPOOL: &str = "[uplink.spool]\nmemory = \"64KiB\"\nmax_age = \"1h\"";
/// Every message; two of them are more than a packet.
const PAYLOAD: usize = 800;
/// Between two messages.
const PAUSE: Duration = Duration::from_millis(5);
/// More messages than stay in memory, half of what may.
const IN_MEMORY: usize = 64 * 1024 / PAYLOAD;
/// For so long messages come, one after the other, each time.
const TRAFFIC: Duration = Duration::from_millis(1500);
/// The machine's clock may be corrected while we look, and is read in milliseconds.
const SLACK_MS: i64 = 200;

/// A gateway and its central instance, each with a clock of its own.
struct Machines {
    site: Site,
    folder: PathBuf,
    gateway_clock: FakeClock,
    central_clock: FakeClock,
}

impl Machines {
    /// `None` where clocks cannot be stepped, or boots not be played.
    fn new(folder: &Path) -> Option<Self> {
        let mut site = Site::new(folder);
        site.gateway_lines = SPOOL.to_owned();
        site.central_lines = "keep = \"1h\"".to_owned();
        let gateway_clock = FakeClock::new(&folder.join("gateway"), at_1970())?;
        let central_clock = FakeClock::new(&folder.join("central"), 0)?;
        Some(Self { site, folder: folder.to_owned(), gateway_clock, central_clock })
    }

    /// Starts the gateway in that boot of its machine, and waits until it is ready.
    fn start_gateway(&self, boot: &Boot) -> Daemon {
        let path = self.folder.join("gateway/gateway.toml");
        fs::write(&path, self.site.gateway_config()).expect("the test's folder is writable");
        Daemon::spawn(&mut boot.command(&self.gateway_clock.fastportd(&path)))
    }

    fn start_central(&self) -> Daemon {
        let path = self.folder.join("central/gateway.toml");
        fs::write(&path, self.site.central_config()).expect("the test's folder is writable");
        Daemon::spawn(&mut self.central_clock.fastportd(&path))
    }
}

/// A boot of a machine: an id, and a time since then that begins anew. An older kernel leaves a program that is
/// run so in the machine's time, and only the id is another one.
struct Boot {
    id: PathBuf,
    /// What the boot's clock is beyond this machine's.
    beyond: i64,
}

impl Boot {
    /// `None` where none can be played, which it says.
    fn new(folder: &Path, name: &str) -> Option<Self> {
        let id = folder.join(name);
        fs::write(&id, format!("{name}\n")).expect("the test's folder is writable");
        let up = fs::read_to_string("/proc/uptime").expect("Linux tells it");
        let up: i64 = up.split('.').next().and_then(|text| text.parse().ok()).expect("seconds");
        let boot = Self { id, beyond: JUST_BOOTED - up };
        let seen = boot.command(Command::new("cat").arg(BOOT_ID)).output();
        if seen.is_ok_and(|seen| seen.stdout == format!("{name}\n").as_bytes()) {
            return Some(boot);
        }
        skip("a boot of its own needs root, and time namespaces (Linux 5.6)");
        None
    }

    /// The command in that boot.
    fn command(&self, inner: &Command) -> Command {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--time", "--boottime", &self.beyond.to_string()]);
        command.args(["sh", "-c", &format!("mount --bind \"$0\" {BOOT_ID} && exec \"$@\"")]);
        command.arg(&self.id).arg(inner.get_program()).args(inner.get_args());
        let mut command = without_settings(command);
        for (name, value) in inner.get_envs().filter_map(|(name, value)| Some((name, value?))) {
            command.env(name, value);
        }
        command
    }
}

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// Seconds that every boot is old when its gateway starts, more or less.
const JUST_BOOTED: i64 = 50;

/// What a device published, each message with the time at which the gateway took it.
struct Device {
    client: Client,
    taken: Vec<Range<i64>>,
}

impl Device {
    async fn new(site: &Site) -> Self {
        let client = init(site.device("device")).await.expect("the gateway is there");
        Self { client, taken: Vec::new() }
    }

    /// Publishes for some time, and waits until each is where the tier says; their numbers.
    async fn run(&mut self, tier: Tier) -> Range<usize> {
        let first = self.taken.len();
        // with it the device is back at a gateway that was started again
        self.publish(tier).await;
        let until = Instant::now() + TRAFFIC;
        let mut ticks = tokio::time::interval(PAUSE);
        while Instant::now() < until {
            ticks.tick().await;
            self.publish(tier).await;
        }
        first..self.taken.len()
    }

    async fn publish(&mut self, tier: Tier) {
        let number = u32::try_from(self.taken.len()).expect("they are few");
        let payload = [&number.to_be_bytes()[..], &[7; PAYLOAD]].concat();
        let begun = now_ms();
        let sent = self.client.emit_counted("up/a", &payload).await.expect("published");
        let taken = self.client.wait(sent, tier);
        timeout(DEADLINE, taken).await.expect("in time").expect("taken");
        self.taken.push(begun..now_ms());
    }

    async fn uplink(&self) -> Value {
        let text = self.client.status().await.expect("figures");
        let mut figures: Value = serde_json::from_str(&text).expect("JSON");
        figures["uplink"].take()
    }

    /// Waits until so many messages are acknowledged by the central instance; its lane's figures.
    async fn wait_for_all(&self) -> Value {
        let latest = Instant::now() + DEADLINE;
        loop {
            let mut figures = self.uplink().await;
            let lane = &figures["lanes"]["normal"];
            let held = figures["spool"]["lanes"]["normal"]["held"].as_u64();
            if lane["link"] == "ready" && lane["unacknowledged"] == 0 && held == Some(0) {
                return figures.take();
            }
            assert!(Instant::now() < latest, "{figures:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asserts that the figures tell of no loss.
    fn assert_whole(figures: &Value) {
        for dropped in ["/lanes/normal/dropped", "/spool/lanes/normal/dropped"] {
            let dropped = figures.pointer(dropped).expect("it is told");
            let mut numbers = dropped.as_object().expect("by cause").values();
            assert!(numbers.all(|number| number == 0), "{figures:#}");
        }
    }

    /// Asserts the times that the central instance has of some messages, which are `beyond` seconds from those at
    /// which they were taken.
    fn assert_stamps(&self, when: &str, stored: &[i64], numbers: Range<usize>, beyond: i64) {
        assert!(numbers.len() > 50, "{when}: {} messages", numbers.len());
        for number in numbers {
            let (stamp, taken) = (stored[number] - beyond * 1000, &self.taken[number]);
            let is_right = (taken.start - SLACK_MS..=taken.end + SLACK_MS).contains(&stamp);
            assert!(is_right, "{when}: {number} taken {taken:?} is stamped {stamp}");
        }
    }
}

/// The stamps that the central instance holds; its messages are all there, once and in order, and no gap.
fn stamps(store: &Path, messages: usize) -> Vec<i64> {
    let database = rusqlite::Connection::open(store).expect("the store is there");
    let gaps = "SELECT count(*) FROM gaps";
    let gaps: i64 = database.query_row(gaps, [], |row| row.get(0)).expect("the view is there");
    assert_eq!(gaps, 0, "something did not come");
    let held = "SELECT payload, stamp FROM messages ORDER BY id";
    let mut held = database.prepare(held).expect("the view is there");
    let rows = held.query_map([], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?)));
    let (mut numbers, mut stamps) = (Vec::new(), Vec::new());
    for row in rows.expect("rows") {
        let (payload, stamp) = row.expect("a row");
        numbers.push(u32::from_be_bytes(payload[..4].try_into().expect("a number")) as usize);
        stamps.push(stamp);
    }
    assert!(numbers.iter().copied().eq(0..messages), "of {messages}: {numbers:?}");
    stamps
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the tests' machine has a clock");
    i64::try_from(now.as_millis()).expect("this year")
}

fn stop(mut daemon: Daemon, signal: &str) {
    daemon.signal(signal);
    daemon.wait();
    let log = daemon.log();
    assert!(!log.contains("our bug"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_for_the_clock_and_for_the_uplink_over_restarts_and_boots_has_its_right_time() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    let Some(machines) = Machines::new(path) else { return };
    let boots = ["dark", "first", "second"].map(|name| Boot::new(path, name));
    let [Some(dark), Some(first), Some(second)] = boots else { return };

    // a boot in which nobody ever knows the time
    let gateway = machines.start_gateway(&dark);
    let mut device = Device::new(&machines.site).await;
    let never = device.run(Tier::Taken).await;
    stop(gateway, "TERM");

    // one in which the clock is set after a restart and a crash
    let gateway = machines.start_gateway(&first);
    let at_boot = device.run(Tier::Taken).await;
    stop(gateway, "TERM");
    let gateway = machines.start_gateway(&first);
    let restarted = device.run(Tier::Taken).await;
    stop(gateway, "KILL");
    let gateway = machines.start_gateway(&first);
    let killed = device.run(Tier::Taken).await;
    machines.gateway_clock.set(0);
    let set = device.run(Tier::Taken).await;
    let figures = device.uplink().await;
    assert!(figures["spool"]["lanes"]["normal"]["held"].as_u64() > Some(500), "{figures:#}");
    assert_eq!(figures["lanes"]["normal"]["connects"], 0, "{figures:#}");
    stop(gateway, "TERM");

    // and one in which it is set when the central instance is about to come
    machines.gateway_clock.set(at_1970());
    let gateway = machines.start_gateway(&second);
    let again = device.run(Tier::Taken).await;
    machines.gateway_clock.set(0);
    let last = device.run(Tier::Taken).await;
    let central = machines.start_central();
    let figures = device.wait_for_all().await;
    Device::assert_whole(&figures);
    stop(central, "TERM");
    stop(gateway, "TERM");

    let stamps = stamps(&machines.site.store(), device.taken.len());
    // what only the journal had when its boot ended is stamped when the next one puts it on disk
    let next = device.taken[never.end - 1].end..=device.taken[at_boot.end - 1].end;
    let told = stamps[never].iter().skip_while(|stamp| **stamp == 0);
    let told: Vec<_> = told.collect();
    println!("{} of a boot without a time are stamped in the next", told.len());
    assert!(told.iter().all(|stamp| next.contains(stamp)), "{next:?}: {told:?}");
    assert!(told.len() < IN_MEMORY, "{told:?}");
    let phases = [
        ("at 1970", at_boot),
        ("after a restart", restarted),
        ("after a crash", killed),
        ("set", set),
        ("at 1970 in the next boot", again),
        ("set again", last),
    ];
    for (name, numbers) in phases {
        device.assert_stamps(name, &stamps, numbers, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn steps_of_ten_years_at_either_end_cost_the_uplink_neither_its_link_nor_a_message() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path();
    let Some(machines) = Machines::new(path) else { return };
    let Some(boot) = Boot::new(path, "boot") else { return };
    let gateway = machines.start_gateway(&boot);
    let mut device = Device::new(&machines.site).await;
    let mut phases = vec![("at 1970", device.run(Tier::Taken).await, 0)];
    machines.gateway_clock.set(0);
    let central = machines.start_central();
    device.wait_for_all().await;

    let (here, there) = (&machines.gateway_clock, &machines.central_clock);
    // what the clock shows after each step, and what the gateway makes of it: a clock that falls behind what it
    // knows for certain is not believed
    let steps = [
        ("set", here, 0, 0),
        ("ten years ahead", here, TEN_YEARS, TEN_YEARS),
        ("right", here, 0, 0),
        ("ten years behind", here, -TEN_YEARS, 0),
        ("1970 again", here, at_1970(), 0),
        ("right again", here, 0, 0),
        ("the central instance ten years ahead", there, TEN_YEARS, 0),
        ("the central instance ten years behind", there, -TEN_YEARS, 0),
        ("the central instance right", there, 0, 0),
    ];
    for (name, clock, shown, believed) in steps {
        clock.set(shown);
        phases.push((name, device.run(Tier::Central).await, believed));
        let figures = device.wait_for_all().await;
        Device::assert_whole(&figures);
        let lane = &figures["lanes"]["normal"];
        assert_eq!(
            (&lane["connects"], &lane["reconnects"]),
            (&1.into(), &0.into()),
            "{name}: {lane:#}"
        );
    }
    stop(central, "TERM");
    stop(gateway, "TERM");
    let stamps = stamps(&machines.site.store(), device.taken.len());
    for (name, numbers, beyond) in phases {
        device.assert_stamps(name, &stamps, numbers, beyond);
    }
}
