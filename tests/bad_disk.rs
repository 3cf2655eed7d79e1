//! A gateway that starts while the disk of its state is full, read only or holds a damaged spool: it
//! serves its local peers, says what is wrong, and goes on where it was once the disk is well again.
#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
#[path = "support/lane.rs"]
mod lane;
#[path = "support/site.rs"]
mod site;
#[path = "support/small_disk.rs"]
mod small_disk;
mod support;

use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fastport_client::{Client, Incoming, SubscribeOptions, Tier, init};
use tempfile::TempDir;
use tokio::time::timeout;

use self::lane::{lane, wait};
use self::site::Site;
use self::small_disk::SmallDisk;
use self::support::{DEADLINE, Daemon, fastportd};

/// Messages of a life: more than memory holds without the disk.
const MANY: u64 = 1_500;
/// Those of a life whose disk is not to be had: memory holds them.
const FEW: u64 = 300;
const SPOOL: &str = "spool = { disk = '2MiB', memory = '128KiB' }
    [[uplink.rule]]
    filter = 'up/#'
    when_full = 'slow-publisher'
    ";
const NOT_TO_BE_HAD: &str = "the spool is not to be had";
/// Attempts of a lane that are seen to come to nothing.
const ATTEMPTS: u64 = 5;

/// A gateway whose state is on a disk of its own, and its central instance.
struct Scene {
    site: Site,
    // unmounted before its folder goes
    disk: SmallDisk,
    _folder: TempDir,
}

impl Scene {
    /// Its journals are in memory, and without systemd they end with the process. None, where nothing can
    /// be mounted.
    fn new() -> Option<Self> {
        let folder = support::folder();
        let mut site = Site::new(folder.path());
        site.gateway_lines = SPOOL.to_owned();
        site.gateway_journal = "memory";
        let disk = SmallDisk::mount(&folder.path().join("gateway/state"), "4m")?;
        Some(Self { site, disk, _folder: folder })
    }

    fn start(&self) -> Daemon {
        let state = self.disk.path().to_str().expect("a plain name");
        self.site.start_gateway_with(&[("FASTPORT_DAEMON_STATE", state)])
    }

    async fn device(&self, name: &str) -> Client {
        init(self.site.device(name)).await.expect("the gateway is there")
    }

    /// A peer that wants nothing kept.
    async fn guest(&self, name: &str) -> Client {
        let options = self.site.device(name);
        let options = fastport_client::Options { linger: 0, ..options };
        timeout(DEADLINE, init(options)).await.expect("in time").expect("let in")
    }

    fn spool(&self) -> PathBuf {
        self.disk.path().join("spool.db")
    }

    /// An earlier life without a central instance, which left all its messages on the disk; how many.
    async fn leave_rows(&self) -> u64 {
        let mut gateway = self.start();
        let device = self.device("before").await;
        let last = publish(&device, 0..MANY).await;
        wait(&device, last, Tier::Taken).await;
        gateway.signal("TERM");
        assert_eq!(gateway.wait(), Some(0));
        let sql = rusqlite::Connection::open(self.spool()).expect("the spool is there");
        let rows =
            sql.query_row("SELECT count(*) FROM rows_normal", [], |row| row.get::<_, u64>(0));
        assert_eq!(rows.expect("the table is there"), MANY, "what was in memory is lost");
        MANY
    }

    /// What the central instance has, in its order.
    fn stored(&self) -> Vec<u64> {
        let database = rusqlite::Connection::open(self.site.store()).expect("the store is there");
        database.busy_timeout(DEADLINE).expect("a setting");
        let mut query = database
            .prepare("SELECT payload FROM messages ORDER BY id")
            .expect("the view is there");
        let rows = query.query_map([], |row| row.get::<_, Vec<u8>>(0)).expect("rows");
        rows.map(|payload| {
            let text = String::from_utf8(payload.expect("a row")).expect("text");
            text.trim_end_matches('x').parse().expect("a number")
        })
        .collect()
    }

    /// Peers here hear each other, whatever the disk does.
    async fn check_relay(&self) {
        let (listener, speaker) = (self.guest("listener").await, self.guest("speaker").await);
        let heard = listener.subscribe("news", SubscribeOptions::default()).await;
        let mut heard = heard.expect("the session is open");
        speaker.emit("news", b"the disk is bad").await.expect("open");
        let news = timeout(DEADLINE, heard.next()).await.expect("in time");
        assert!(matches!(news, Some(Incoming::Message(_))), "{news:?}");
    }

    /// The lane tries, says why nothing goes up, and nothing does.
    async fn check_it_waits(&self) {
        let client = self.guest("onlooker").await;
        let latest = Instant::now() + DEADLINE;
        loop {
            let lane = lane(&client).await;
            assert_eq!(lane["connects"], 0, "{lane:#}");
            let tries = lane["failures"]["here"].as_u64();
            if lane["error"] == "the spool cannot be read" && tries >= Some(ATTEMPTS) {
                break;
            }
            assert!(Instant::now() < latest, "{lane:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(self.stored().is_empty(), "sent before the rows");
    }
}

async fn publish(client: &Client, numbers: Range<u64>) -> u64 {
    let mut last = 0;
    for number in numbers {
        let payload = format!("{number}{:x<60}", "");
        let sent = timeout(DEADLINE, client.emit_counted("up/a", payload.as_bytes())).await;
        last = sent.expect("nobody waits").expect("published");
    }
    last
}

/// A wrong count of free pages: it is found, and all rows can be read.
fn damage(spool: &Path) {
    assert!(!spool.with_extension("db-wal").exists(), "all is in the file");
    let file = fs::OpenOptions::new().write(true).open(spool).expect("the spool is there");
    file.write_all_at(&77_u32.to_be_bytes(), FREE_PAGES).expect("within the file");
}

/// Where SQLite's file has the number of free pages.
const FREE_PAGES: u64 = 36;

/// The gateway starts and serves, `until` the disk is well again; all that it acknowledged arrives behind
/// what the earlier life left, none twice.
async fn start_serve_and_go_on(scene: &Scene, rows: u64, mend: impl FnOnce(&SmallDisk)) -> Daemon {
    let central = scene.site.start_central();
    let mut gateway = scene.start();
    let said = gateway.wait_for(NOT_TO_BE_HAD);
    assert!(said.contains("ERROR") && said.contains("spool.db"), "{said}");
    assert!(said.contains("make room"), "{said}");
    scene.check_relay().await;
    scene.check_it_waits().await;
    let device = scene.device("device").await;
    let last = publish(&device, rows..rows + FEW).await;
    wait(&device, last, Tier::Taken).await;
    assert!(scene.stored().is_empty(), "sent before the rows");
    mend(&scene.disk);
    wait(&device, last, Tier::Central).await;
    assert_eq!(scene.stored(), (0..rows + FEW).collect::<Vec<_>>(), "{}", gateway.log());
    gateway.wait_for("the spool works again");
    drop(central);
    gateway
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_starts_on_a_full_disk_without_a_spool() {
    let Some(scene) = Scene::new() else { return };
    scene.disk.fill();
    start_serve_and_go_on(&scene, 0, SmallDisk::make_room).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_spool_on_a_full_disk_is_saved_once_there_is_room() {
    let Some(scene) = Scene::new() else { return };
    let rows = scene.leave_rows().await;
    damage(&scene.spool());
    scene.disk.fill();
    let mut gateway = start_serve_and_go_on(&scene, rows, SmallDisk::make_room).await;
    gateway.wait_for("the spool was damaged; it is set aside");
    gateway.wait_for(&format!("{rows} messages saved, 0 lost"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_failed_rescue_wrote_leaves_the_room_to_others() {
    let Some(scene) = Scene::new() else { return };
    scene.leave_rows().await;
    damage(&scene.spool());
    scene.disk.fill();
    // for some of it
    let ballast = fs::OpenOptions::new().write(true).open(scene.disk.path().join("ballast"));
    let ballast = ballast.expect("it is there");
    let length = ballast.metadata().expect("it is there").len();
    ballast.set_len(length - 64 * 1024).expect("shorter");
    let mut gateway = scene.start();
    gateway.wait_for(NOT_TO_BE_HAD);
    let left = |ending: &str| scene.disk.path().join(format!("spool.db.{ending}")).exists();
    let is_free = || {
        let written = fs::write(scene.disk.path().join("other"), [0; 48 * 1024]);
        written.is_ok() && !left("saving")
    };
    let latest = Instant::now() + DEADLINE;
    // a rescue is tried again now and then, and takes the room meanwhile
    while !is_free() {
        assert!(Instant::now() < latest, "there is no room");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(!left("saved"), "it cannot be whole");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_starts_on_a_disk_that_is_read_only_and_its_rows_go_first_when_it_is_not() {
    let Some(scene) = Scene::new() else { return };
    let rows = scene.leave_rows().await;
    scene.disk.set_read_only(true);
    start_serve_and_go_on(&scene, rows, |disk| disk.set_read_only(false)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_spool_on_a_disk_that_is_read_only_is_saved_when_it_is_not() {
    let Some(scene) = Scene::new() else { return };
    let rows = scene.leave_rows().await;
    damage(&scene.spool());
    scene.disk.set_read_only(true);
    let mend = |disk: &SmallDisk| disk.set_read_only(false);
    let mut gateway = start_serve_and_go_on(&scene, rows, mend).await;
    gateway.wait_for("the spool was damaged; it is set aside");
}

/// Its counts can be read, and no row may go before it is noted as sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_on_a_full_disk_go_up_once_there_is_room() {
    let Some(scene) = Scene::new() else { return };
    let rows = scene.leave_rows().await;
    scene.disk.fill();
    let central = scene.site.start_central();
    let mut gateway = scene.start();
    scene.check_relay().await;
    gateway.wait_for("the spool fails: messages wait in memory");
    let device = scene.device("device").await;
    let last = publish(&device, rows..rows + FEW).await;
    wait(&device, last, Tier::Taken).await;
    scene.disk.make_room();
    wait(&device, last, Tier::Central).await;
    assert_eq!(scene.stored(), (0..rows + FEW).collect::<Vec<_>>(), "{}", gateway.log());
    drop(central);
}

#[test]
fn a_state_that_is_no_folder_is_the_operators_to_mend() {
    let folder = support::folder();
    let mut site = Site::new(folder.path());
    site.gateway_lines = SPOOL.to_owned();
    site.gateway_journal = "memory";
    let config = support::write(folder.path(), "gateway.toml", &site.gateway_config());
    let state = support::write(folder.path(), "state", "a file");
    let mut command = fastportd();
    command.arg("--config").arg(config).env("FASTPORT_DAEMON_STATE", state);
    let (code, _, said) = support::run(&mut command);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("uplink.spool: the spool"), "{said}");
}
