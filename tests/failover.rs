//! A gateway with several central instances, of which the favourite does not serve, or asks to wait.

#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

#[path = "support/access.rs"]
mod access;
#[path = "support/site.rs"]
mod site;
mod support;

use std::path::Path;
use std::time::Duration;

use fastport_client::{Client, Tier, init};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use self::site::Site;
use self::support::{DEADLINE, Daemon};

/// A relay that knows the gateway, and is no central instance: it welcomes it and stores nothing.
fn no_central(folder: &Path) -> Daemon {
    let site = site(folder);
    let config = site.central_config().replace("enabled = true\ncommit", "enabled = false\ncommit");
    Daemon::start(&folder.join("central"), &config)
}

fn site(folder: &Path) -> Site {
    std::fs::create_dir_all(folder).expect("the test's folder is writable");
    Site::new(folder)
}

/// The gateway of a site, as patient as it is without being told.
fn start_gateway(folder: &Path, site: &Site) -> Daemon {
    let config = site
        .gateway_config()
        .replace("retry_first = \"20ms\"", "")
        .replace("retry_most = \"200ms\"", "");
    Daemon::start(&folder.join("gateway"), &config)
}

async fn device(site: &Site) -> Client {
    init(site.device("device")).await.expect("the gateway is there")
}

async fn emit(client: &Client, number: u32) {
    let count = client.emit_counted("plant/a", &number.to_be_bytes()).await.expect("published");
    let held = client.wait(count, Tier::Central);
    timeout(DEADLINE, held).await.expect("in time").expect("held there");
}

async fn figures(client: &Client) -> Value {
    let text = client.status().await.expect("figures");
    serde_json::from_str(&text).expect("JSON")
}

/// The lane's figures, once they are as they should be.
async fn until(client: &Client, what: &str, lane: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let latest = Instant::now() + DEADLINE;
    loop {
        let figures = figures(client).await["uplink"]["lanes"][lane].clone();
        if is_so(&figures) {
            return figures;
        }
        assert!(Instant::now() < latest, "{what}: {figures:#}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn number(lane: &Value, name: &str) -> u64 {
    lane[name].as_u64().unwrap_or_else(|| panic!("{name}: {lane:#}"))
}

/// What the log has of links.
fn links(gateway: &mut Daemon) -> Vec<String> {
    let log = gateway.log();
    log.lines().filter(|line| line.contains("uplink")).map(str::to_owned).collect()
}

#[tokio::test]
async fn a_favourite_that_welcomes_and_does_not_serve_is_left_for_the_next() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let favourite = no_central(&folder.path().join("other"));
    let mut site = site(folder.path());
    site.first_central = format!("\"{}\", ", favourite.url("tcp"));
    let central = site.start_central();
    let mut gateway = start_gateway(folder.path(), &site);
    let here = device(&site).await;
    let begun = Instant::now();
    for number in 0..20 {
        emit(&here, number).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let lane = until(&here, "a link", "normal", |lane| lane["link"] == "ready").await;
    assert_eq!(lane["central"], central.url("tcp"));
    assert!(number(&lane, "attempts") <= 4, "{lane:#}");
    let lines = links(&mut gateway);
    assert!(lines.len() <= 5, "{lines:#?}");
}

#[tokio::test]
async fn links_that_do_not_hold_anywhere_are_made_less_and_less_often_and_said_once() {
    const WINDOW: Duration = Duration::from_secs(5);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let others = ["one", "two"].map(|name| no_central(&folder.path().join(name)));
    let mut site = site(folder.path());
    site.first_central = others.iter().map(|other| format!("\"{}\", ", other.url("tcp"))).collect();
    let mut gateway = start_gateway(folder.path(), &site);
    let here = device(&site).await;
    here.emit_counted("plant/a", b"1").await.expect("published");
    let lane = until(&here, "it fails", "normal", |lane| number(lane, "connects") >= 4).await;
    let (begun, before) = (Instant::now(), number(&lane, "attempts"));
    let is_over = |_: &Value| begun.elapsed() >= WINDOW;
    let lane = until(&here, "time passes", "normal", is_over).await;
    // three for each round, of which there would be 20 a second without waits
    let attempts = number(&lane, "attempts") - before;
    assert!(attempts <= 45, "{attempts} in {WINDOW:?}: {lane:#}");
    assert!(number(&lane, "retry_level") >= 4, "{lane:#}");
    // the third is not there: a line for it, and two for each of the others
    let lines = links(&mut gateway);
    assert!(lines.len() <= 6, "{lines:#?}");

    // one that is there then is found, and said
    let central = site.start_central();
    let found = |lane: &Value| lane["link"] == "ready" && lane["central"] == central.url("tcp");
    until(&here, "it is found", "normal", found).await;
    gateway.wait_for_times("uplink ready", 3);
    emit(&here, 2).await;
}

/// Each of three lanes is a gateway of its own to a central instance that lets one in each second.
#[tokio::test]
async fn a_favourite_that_names_a_turn_is_come_back_to_then_and_not_before() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let other = self::site(&folder.path().join("other"));
    let other_central = other.start_central();
    let mut site = site(folder.path());
    site.more_central = format!(", \"{}\"", other_central.url("tcp"));
    let lanes = ["alarm", "normal", "bulk"];
    site.gateway_lines += &lanes
        .map(|lane| format!("\n[[uplink.rule]]\nfilter = \"{lane}/#\"\nlane = \"{lane}\""))
        .concat();
    let paced = site.central_config().replace("connects_per_second = 0", "connects_per_second = 1");
    let central = Daemon::start(&folder.path().join("central"), &paced);
    let gateway = start_gateway(folder.path(), &site);
    let here = device(&site).await;
    let mut attempts = 0;
    for lane in lanes {
        let lane = until(&here, "its turn", lane, |lane| lane["link"] == "ready").await;
        assert_eq!(lane["central"], central.url("tcp"), "{lane:#}");
        attempts += number(&lane, "attempts");
    }
    let there = init(site.operator("operator")).await.expect("it is no gateway");
    let paced = figures(&there).await["central"]["paced"].as_u64().expect("a figure");
    // two were told a time, and one of them may have been early or late
    assert!(paced >= 2 && attempts == 3 + paced && attempts <= 6, "{attempts}, {paced} told");
    drop(gateway);
}

#[tokio::test]
async fn a_goodbye_that_names_a_time_is_waited_for_before_another_serves() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let other = self::site(&folder.path().join("other"));
    let other_central = other.start_central();
    let mut site = site(folder.path());
    site.more_central = format!(", \"{}\"", other_central.url("tcp"));
    let mut central = site.start_central();
    let gateway = start_gateway(folder.path(), &site);
    let here = device(&site).await;
    emit(&here, 1).await;
    central.signal("TERM");
    let lost = until(&here, "goodbye", "normal", |lane| lane["link"] != "ready").await;
    let (begun, before) = (Instant::now(), number(&lost, "attempts"));
    central.wait();
    // it said a second, and is not back by then
    let found = |lane: &Value| lane["central"] == other_central.url("tcp");
    let lane = until(&here, "the other", "normal", found).await;
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}: {lane:#}", begun.elapsed());
    assert!(number(&lane, "attempts") - before <= 2, "{lane:#}");
    emit(&here, 2).await;
    drop(gateway);
}
