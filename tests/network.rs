//! The uplink over a network that misbehaves: dead links are found in time, slow ones are left alone,
//! what comes back is used at once, and nothing is lost on the way.
#![allow(clippy::print_stdout, reason = "what it found is shown")]

#[path = "support/namespaces.rs"]
mod namespaces;
#[path = "support/scene.rs"]
mod scene;
mod support;

use std::time::{Duration, Instant};

use fastport_client::{Incoming, SubscribeOptions, Tier, init};
use namespaces::{FAR, FAR_NAME, NEAR, are_possible};
use scene::{SETTLE, Scene, Site};
use tokio::time::{sleep, timeout};

use self::Fault::{Bearable, Deadly};

/// A dead link is found within this.
const FOUND: Duration = Duration::from_secs(10);
/// A network that is back is used within this.
const BACK: Duration = Duration::from_secs(2);
/// For so long a wire is bad that must not be taken for dead: longer than a dead one would live.
const BAD: Duration = Duration::from_secs(14);
/// An outage has some length.
const OUTAGE: Duration = Duration::from_secs(3);

/// What happens to the wire, as `wire.py` has it.
enum Fault {
    /// The link is dead then.
    Deadly(&'static str),
    /// It is bad, and goes on.
    Bearable(&'static str),
}

/// A test for each promise, of one fault after the other.
macro_rules! faults {
    ($($promise:ident: $($fault:expr),+;)+) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            for fault in [$($fault),+] {
                suffer(stringify!($promise), fault).await;
            }
        }
    )+};
}

faults! {
    a_black_hole_is_found_and_left_behind: Deadly(r#"{"ab":{"loss":1},"ba":{"loss":1}}"#);
    a_link_that_loses_one_way_is_found_and_left_behind:
        Deadly(r#"{"ab":{"loss":1}}"#), Deadly(r#"{"ba":{"loss":1}}"#);
    refused_and_reset_connections_are_tried_again:
        Deadly(r#"{"ab":{"reset":true},"ba":{"reset":true}}"#);
    a_fifth_of_the_packets_lost_is_no_dead_link:
        Bearable(r#"{"ab":{"loss":0.2},"ba":{"loss":0.2}}"#);
    eight_hundred_milliseconds_there_and_back_are_no_dead_link:
        Bearable(r#"{"ab":{"delay_ms":400},"ba":{"delay_ms":400}}"#);
    packets_out_of_order_and_doubled_change_nothing:
        Bearable(r#"{"ab":{"jitter_ms":40,"duplicate":0.2},"ba":{"jitter_ms":40,"duplicate":0.2}}"#);
    sixty_four_kilobits_are_enough: Bearable(r#"{"ab":{"rate_kbit":64},"ba":{"rate_kbit":64}}"#);
}

/// Runs a device over a wire that is good, then as `fault` says, then good again.
async fn suffer(promise: &str, fault: Fault) {
    let Some((mut site, mut scene)) = begin(promise).await else { return };
    match fault {
        Deadly(rule) => {
            site.wires.tell(rule);
            let begun = Instant::now();
            scene.wait_for_link(false, FOUND).await;
            let found = begun.elapsed();
            sleep(OUTAGE).await;
            site.wires.tell("{}");
            let mended = Instant::now();
            scene.wait_for_link(true, BACK).await;
            println!("{promise}: {rule}: found after {found:?}, back after {:?}", mended.elapsed());
        }
        Bearable(rule) => {
            let (before, held) = (scene.connects().await, scene.held());
            site.wires.tell(rule);
            sleep(BAD).await;
            assert_eq!(scene.connects().await, before, "{promise}: a false alarm");
            assert!(scene.held() > held, "{promise}: nothing came through");
            site.wires.tell("{}");
        }
    }
    scene.end(&mut site).await;
}

/// A site whose link has carried its first messages; `None` where none can be made.
async fn begin(promise: &str) -> Option<(Site, Scene)> {
    let mut site = prepare(promise, FAR)?;
    site.start();
    let scene = Scene::begin(&site).await;
    Some((site, scene))
}

/// A site that has not been started, whose gateway knows the central instance by that name; `None`
/// where none can be made.
fn prepare(promise: &str, far: &str) -> Option<Site> {
    are_possible(promise).then(|| Site::new(far))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ipv6_address_that_leads_nowhere_costs_a_moment() {
    let Some(mut site) = prepare("IPv6 that leads nowhere", FAR_NAME) else { return };
    site.wires.set_hosts(&format!("fd77::2 {FAR_NAME}\n{FAR} {FAR_NAME}\n"));
    site.start();
    let started = Instant::now();
    let mut scene = Scene::begin(&site).await;
    println!("IPv6 that leads nowhere: a link after {:?}", started.elapsed());
    assert!(started.elapsed() < BACK, "{:?}", started.elapsed());
    scene.end(&mut site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_nobody_resolves_are_asked_again() {
    let Some(mut site) = prepare("DNS that fails", FAR_NAME) else { return };
    site.wires.set_hosts("127.0.0.1 localhost\n");
    site.start();
    let mut scene = Scene::wait_in_vain(&site).await;
    site.wires.set_hosts(&format!("{FAR} {FAR_NAME}\n"));
    let mended = Instant::now();
    scene.wait_for_link(true, BACK).await;
    println!("DNS that fails: back after {:?}", mended.elapsed());
    scene.end(&mut site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_changes_is_left_behind() {
    let Some((mut site, mut scene)) = begin("address change").await else { return };
    let before = scene.connects().await;
    let device = site.wires.near_device();
    site.wires.ip_near(&["address", "delete", &format!("{NEAR}/24"), "dev", &device]);
    site.wires.ip_near(&["address", "add", "10.77.0.3/24", "dev", &device]);
    let changed = Instant::now();
    // found by the link's silence, and then used at once
    scene.wait_for_connects(before + 1, FOUND + BACK).await;
    println!("address change: back after {:?}", changed.elapsed());
    scene.end(&mut site).await;
}

/// Messages that wait for the central instance.
const BACKLOG: u64 = 100_000;
/// Until the first of them, and until an alarm.
const FRESH: Duration = Duration::from_secs(1);
const LANES: &str = "
[[uplink.rule]]
filter = \"alarm\"
lane = \"alarm\"

[[uplink.rule]]
filter = \"n\"
when_full = \"slow-publisher\"

[[uplink.rule]]
filter = \"live\"
";
/// Live values while the backlog drains, one on the other.
const LIVE: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_overtakes_a_hundred_thousand_messages_on_a_slow_line() {
    let Some(mut site) = prepare("fresh first", FAR) else { return };
    site.rules = LANES;
    site.wires.tell(r#"{"ab":{"loss":1},"ba":{"loss":1}}"#);
    site.start();
    let mut scene = Scene::silent(&site).await;
    let device = init(site.options("gateway")).await.expect("the gateway is there");
    for number in 1..=BACKLOG {
        device.emit_counted("n", number.to_string().as_bytes()).await.expect("published");
    }
    device.flush(Tier::Taken).await.expect("the gateway has all");
    let reader = init(site.options("central")).await.expect("the central instance is there");
    let mut alarms =
        reader.subscribe("alarm", SubscribeOptions::default()).await.expect("it may be read");
    site.wires.tell(r#"{"ab":{"rate_kbit":256},"ba":{"rate_kbit":256}}"#);
    scene.wait_for_link(true, BACK).await;
    let up = Instant::now();
    scene.wait_for_held(1).await;
    let first = up.elapsed();
    // the line is busy by now
    scene.wait_for_held(2_000).await;
    let raised = Instant::now();
    device.emit_counted("alarm", b"fire").await.expect("published");
    let alarm = timeout(SETTLE, alarms.next()).await.expect("in time").expect("the reader goes on");
    let overtook = raised.elapsed();
    assert!(matches!(alarm, Incoming::Message(_)), "{alarm:?}");
    // of the lane of the backlog; without delivery, so that they have no place in its order
    let mut values =
        reader.subscribe("live", SubscribeOptions::default()).await.expect("it may be read");
    let mut slowest = Duration::ZERO;
    for number in 0..LIVE {
        let published = Instant::now();
        device.emit("live", number.to_string().as_bytes()).await.expect("published");
        let value = timeout(SETTLE, values.next()).await.expect("in time");
        let Some(Incoming::Message(value)) = value else { panic!("{value:?}") };
        assert_eq!(&value.payload[..], number.to_string().as_bytes());
        slowest = slowest.max(published.elapsed());
    }
    let waiting = usize::try_from(BACKLOG).expect("few") - scene.held();
    println!(
        "fresh first: draining after {first:?}, the alarm after {overtook:?}, {LIVE} live values \
         after {slowest:?} at most, {waiting} behind them"
    );
    assert!(slowest < FRESH, "{slowest:?}");
    assert!(first < FRESH && overtook < FRESH, "{first:?}, {overtook:?}");
    assert!(waiting > 0, "nothing was overtaken");
    site.wires.tell("{}");
    scene.wait_for_held(usize::try_from(BACKLOG).expect("few")).await;
    assert_eq!(*scene.held.lock().expect("no panic"), (1..=BACKLOG).collect::<Vec<_>>());
}
