//! The real daemon on files as a loss of power leaves them: it starts, says what it set aside, and what
//! it has goes up to a central instance, once and in order.

use std::path::Path;
use std::time::{Duration, Instant};

use fastport_client::{Client, init};
use rusqlite::Connection;
use serde_json::Value;

use crate::image::{Disk, Image, Wanted};
use crate::site::Site;
use crate::support::{DEADLINE, Daemon};
use crate::workload::Known;
use crate::{Random, boundaries, open, recorded};

/// A rule for each lane: what an image has of it goes up.
const RULES: &str = "
spool = { disk = '1MiB' }
[[uplink.rule]]
filter = 'of/alarm'
lane = 'alarm'
[[uplink.rule]]
filter = 'of/bulk'
lane = 'bulk'
[[uplink.rule]]
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_daemon_starts_on_what_a_loss_of_power_leaves_and_sends_it_once_and_in_order() {
    let Some(events) = recorded() else { return };
    let boundaries = boundaries(&events);
    let known = Known::of_workload();
    let (mut random, mut disk, mut from) = (Random(3), Disk::default(), 0);
    let (mut rows, mut set_aside, mut slowest) = (0, 0, Duration::ZERO);
    for number in 1..=IMAGES {
        let at = boundaries[boundaries.len() * number / IMAGES - 1];
        events[from..=at].iter().for_each(|event| disk.take(event));
        from = at + 1;
        let image = match number % 4 {
            0 => disk.flipped(&mut random),
            kind => {
                let mut images = disk.images(&mut random, Wanted { synced: true, some: true });
                images.swap_remove((images.len() - 1).min(kind + 1))
            }
        };
        let seen = open(&image, known.limits());
        let went = go_up(&image).await;
        for lane in seen.ids() {
            let of_lane = went.ids.iter().copied().filter(|id| lane.binary_search(id).is_ok());
            let mut of_lane: Vec<u64> = of_lane.collect();
            if seen.is_damaged {
                // damage that shows while it goes up has what was sent sent again
                of_lane.sort_unstable();
                of_lane.dedup();
            }
            assert_eq!(of_lane, lane, "write {at}, {}", image.name);
        }
        let expected: usize = seen.ids().iter().map(Vec::len).sum();
        let is_right = if seen.is_damaged { usize::ge } else { usize::eq };
        assert!(is_right(&went.ids.len(), &expected), "write {at}, {}", image.name);
        assert_eq!(went.is_set_aside, seen.is_damaged, "write {at}, {}:\n{}", image.name, went.log);
        rows += expected;
        set_aside += u32::from(went.is_set_aside);
        slowest = slowest.max(went.start);
    }
    println!(
        "{IMAGES} starts, the slowest {slowest:?}; {set_aside} set aside; {rows} rows went up"
    );
    assert!(rows > 100 && set_aside > 0);
    assert!(slowest < START, "{slowest:?}");
}

/// What became of an image.
struct Went {
    start: Duration,
    log: String,
    is_set_aside: bool,
    /// What came to the central instance, in its order.
    ids: Vec<u64>,
}

/// Starts a gateway on an image, and waits until all it has is at a central instance.
async fn go_up(image: &Image) -> Went {
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut site = Site::new(folder.path());
    site.gateway_lines = RULES.to_owned();
    let state = folder.path().join("gateway/state");
    for (name, bytes) in &image.files {
        std::fs::write(state.join(name.replace("spool.sqlite", "spool.db")), bytes).unwrap();
    }
    let central = site.start_central();
    let began = Instant::now();
    let mut gateway = site.start_gateway();
    let start = began.elapsed();
    let client = init(site.device("looks")).await.unwrap();
    all_went_up(&client, &mut gateway).await;
    let log = gateway.kill();
    drop(central);
    let is_set_aside = log.contains("set aside");
    Went { start, is_set_aside, ids: held(&site.store()), log }
}

async fn all_went_up(client: &Client, gateway: &mut Daemon) {
    let until = Instant::now() + DEADLINE;
    loop {
        let figures: Value = serde_json::from_str(&client.status().await.unwrap()).unwrap();
        let uplink = &figures["uplink"];
        let all = |part: &str, name: &str, value: Value| {
            let lanes = uplink[part]["lanes"].as_object().or(uplink[part].as_object());
            lanes.is_some_and(|lanes| lanes.values().all(|lane| lane[name] == value))
        };
        if all("lanes", "link", "ready".into()) && all("spool", "held", 0.into()) {
            return;
        }
        assert!(Instant::now() < until, "{uplink:#}\n{}", gateway.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The messages that a central instance has.
fn held(store: &Path) -> Vec<u64> {
    let database = Connection::open(store).unwrap();
    let mut query = database.prepare("SELECT payload FROM message ORDER BY id").unwrap();
    let payloads = query.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    payloads.map(|payload| u64::from_le_bytes(*payload.unwrap().first_chunk().unwrap())).collect()
}

/// Starts of the daemon, each on an image of its own.
const IMAGES: usize = 20;
/// From the start to READY, on a machine with other work.
const START: Duration = Duration::from_secs(10);
