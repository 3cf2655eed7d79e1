//! What `fastport status` says of an uplink: each figure by its name, and that it is one.
#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
#[path = "support/site.rs"]
mod site;
mod support;

use std::process::Command;
use std::time::{Duration, Instant};

use fastport_client::init;
use serde_json::Value;
use site::Site;

/// Of a message; what is published is more than memory and disk hold.
const PAYLOAD: [u8; 1000] = [b'x'; 1000];
const MESSAGES: usize = 6_000;
/// Where the lane's figures are.
const LANE: &str = "/uplink/lanes/normal";
/// Until a figure is there.
const WITHIN: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_figure_of_an_uplink_has_its_name_in_both_forms_of_status() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut site = Site::new(folder.path());
    site.gateway_lines =
        "spool.memory = '64KiB'\nspool.disk = '2MiB'\n\n[[uplink.rule]]\nfilter = 'up/#'"
            .to_owned();
    let central = site.start_central();
    let gateway = site.start_gateway();
    let device = init(site.device("device")).await.expect("the gateway is there");
    let url = site.device("device").target.to_string();
    wait_for(&url, LANE, &[("link", |lane| lane["link"] == "ready")]);
    drop(central);
    for _ in 0..MESSAGES {
        device.emit_counted("up/n", &PAYLOAD).await.expect("published");
    }
    wait_for(
        &url,
        LANE,
        &[
            ("unacknowledged", |lane| lane["unacknowledged"].as_u64() > Some(0)),
            ("oldest_seconds", |lane| lane["oldest_seconds"].as_u64() > Some(0)),
            ("failures", |lane| lane["failures"]["unreachable"].as_u64() > Some(0)),
        ],
    );
    wait_for(&url, "/uplink", &[("dropped", |uplink| dropped(uplink) > 0)]);
    let spool = status(&url)["uplink"]["spool"].take();
    let rows = &spool["lanes"]["normal"];
    for (name, value) in [
        ("bytes", &spool["bytes"]),
        ("flash_today", &spool["flash_today"]),
        ("held", &rows["held"]),
        ("oldest_seconds", &rows["oldest_seconds"]),
    ] {
        assert!(value.as_u64() > Some(0), "{name}: {spool}");
    }
    let central = site.start_central();
    wait_for(
        &url,
        LANE,
        &[
            ("round_trip_ms", |lane| lane["round_trip_ms"].is_u64()),
            ("drain_rate", |lane| lane["drain_rate"].as_u64() > Some(0)),
            ("reconnects", |lane| lane["reconnects"].as_u64() > Some(0)),
        ],
    );
    has_a_line_for_each(&url);
    drop((central, gateway));
}

/// Whether a figure is as it should be.
type IsSo = fn(&Value) -> bool;

/// Waits until each of these figures was seen as it should be, all at once or one by one.
fn wait_for(url: &str, place: &str, figures: &[(&str, IsSo)]) {
    let (until, mut missing) = (Instant::now() + WITHIN, figures.to_vec());
    while !missing.is_empty() {
        let status = status(url);
        let part = status.pointer(place).expect("there is an uplink");
        missing.retain(|(_, is_so)| !is_so(part));
        let names: Vec<_> = missing.iter().map(|(name, _)| name).collect();
        assert!(Instant::now() < until, "{names:?}: {part}");
    }
}

/// Messages that made room on the disk, of all causes.
fn dropped(uplink: &Value) -> u64 {
    let causes = uplink["spool"]["lanes"]["normal"]["dropped"].as_object();
    causes.into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
}

/// The form for people.
fn has_a_line_for_each(url: &str) {
    let text = run(url, &["status"]);
    let lane = "link round_trip_ms unacknowledged oldest_seconds drain_rate connects reconnects";
    let rows = "held oldest_seconds appended acknowledged dropped.";
    let names = lane.split(' ').map(|name| format!("uplink.lanes.normal.{name}"));
    let names =
        names.chain(rows.split(' ').map(|name| format!("uplink.spool.lanes.normal.{name}")));
    let more = ["uplink.spool.bytes", "uplink.spool.flash_today", "journal_bytes"];
    for name in names.chain(more.map(str::to_owned)) {
        assert!(text.lines().any(|line| line.starts_with(&name)), "{name}:\n{text}");
    }
}

fn status(url: &str) -> Value {
    serde_json::from_str(&run(url, &["status", "--json"])).expect("JSON")
}

fn run(url: &str, arguments: &[&str]) -> String {
    let mut tool = support::without_settings(Command::new(env!("CARGO_BIN_EXE_fastport")));
    let output = tool.args(["--url", url, "--session", "home"]).args(arguments).output();
    let output = output.expect("the tool is built");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout).expect("text")
}
