//! Files between real tools through the real daemon: whole or not at all, whatever is cut or killed.

#![allow(clippy::panic, reason = "a failed expectation is what a test is for")]

mod large;
#[path = "../support/memory.rs"]
mod memory;
mod pace;
mod scene;
mod secrecy;
#[path = "../support/small_disk.rs"]
mod small_disk;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use self::scene::{
    Tool, assert_same, bytes, file, names, plain, recv, seal_keys, send, tool, wait_for_part,
};
use self::small_disk::SmallDisk;
use self::support::{DEADLINE, Daemon, SCHEMES, demo_config, folder};

#[test]
fn a_file_arrives_whole_under_its_name_over_every_transport() {
    let (_daemon_folder, daemon) = plain();
    for &scheme in SCHEMES {
        let (from, to) = (folder(), folder());
        let url = daemon.url(scheme);
        for length in [0, 1, 16_384, 3_000_001] {
            let source = file(from.path(), &format!("{length}.bin"), length);
            let receiver = recv(&url, to.path(), &["--count", "1"]);
            send(&url, &source, &[]).succeed();
            receiver.succeed();
            assert_same(&source, &to.path().join(format!("{length}.bin")));
        }
        assert!(names(to.path()).iter().all(|name| !name.starts_with('.')));
    }
}

#[test]
fn several_files_and_a_directory_arrive() {
    let (_daemon_folder, daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let files: Vec<PathBuf> =
        (1..10).map(|it| file(from.path(), &format!("{it}.bin"), it * 10_000)).collect();
    let tree = from.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).expect("ours");
    file(&tree.join("a/b"), "deep.bin", 100_000);
    file(&tree, "empty", 0);
    let mut arguments = vec!["send"];
    arguments.extend(files.iter().map(|it| it.to_str().expect("UTF-8")));
    arguments.extend([tree.to_str().expect("UTF-8"), "files/a"]);
    let receiver = recv(&url, to.path(), &["--count", "10"]);
    Tool::start(&url, &arguments).succeed();
    receiver.succeed();
    for source in &files {
        assert_same(source, &to.path().join(source.file_name().expect("a file")));
    }
    assert_same(&tree.join("a/b/deep.bin"), &to.path().join("tree/a/b/deep.bin"));
    assert_eq!(names(&to.path().join("tree")), ["a", "empty"]);
    assert_eq!(names(to.path()).len(), 10);
}

#[test]
fn standard_input_goes_to_standard_output() {
    let (_daemon_folder, daemon) = plain();
    let url = daemon.url("tcp");
    let sent = bytes(500_000, 3);
    let receiver = recv(&url, Path::new("-"), &["--count", "1"]);
    let mut sender =
        tool(&url, &["send", "-", "files/a"]).stdin(Stdio::piped()).spawn().expect("it is built");
    let mut input = sender.stdin.take().expect("piped");
    let (given, output) = std::thread::scope(|scope| {
        let given = scope.spawn(|| input.write_all(&sent).map(|()| drop(input)));
        let output = receiver.finish();
        (given.join(), output)
    });
    given.expect("no panic").expect("the tool reads it");
    assert!(output.status.success());
    assert!(output.stdout == sent, "{} bytes", output.stdout.len());
    Tool(Some(sender)).succeed();
}

#[test]
fn a_receiver_that_is_killed_goes_on_where_it_was() {
    let (_daemon_folder, daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let source = file(from.path(), "a.bin", 60_000_000);
    let receiver = recv(&url, to.path(), &[]);
    let sender = send(&url, &source, &[]);
    wait_for_part(to.path(), 1_000_000);
    receiver.kill();
    let begun = names(to.path());
    let receiver = recv(&url, to.path(), &["--count", "1"]);
    sender.succeed();
    receiver.succeed();
    assert!(begun == ["a.bin"] || begun[0].ends_with(".part"), "{begun:?}");
    assert_same(&source, &to.path().join("a.bin"));
    assert_eq!(names(to.path()), ["a.bin"]);
}

#[test]
fn a_sender_that_is_killed_goes_on_where_the_receiver_is() {
    let (_daemon_folder, daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let source = file(from.path(), "a.bin", 60_000_000);
    let receiver = recv(&url, to.path(), &["--count", "1"]);
    let sender = send(&url, &source, &[]);
    wait_for_part(to.path(), 1_000_000);
    sender.kill();
    send(&url, &source, &[]).succeed();
    receiver.succeed();
    assert_same(&source, &to.path().join("a.bin"));
    assert_eq!(names(to.path()), ["a.bin"]);
}

#[test]
fn a_relay_that_is_killed_costs_no_byte() {
    let (daemon_folder, mut daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let config = demo_config("").replacen("127.0.0.1:0", &daemon.address("tcp"), 1);
    let source = file(from.path(), "a.bin", 60_000_000);
    let receiver = recv(&url, to.path(), &["--count", "1"]);
    let sender = send(&url, &source, &[]);
    wait_for_part(to.path(), 1_000_000);
    daemon.signal("KILL");
    daemon.wait();
    let _daemon = Daemon::start(daemon_folder.path(), &config);
    sender.succeed();
    receiver.succeed();
    assert_same(&source, &to.path().join("a.bin"));
    assert_eq!(names(to.path()), ["a.bin"]);
}

#[test]
fn a_file_that_is_there_already_is_not_sent_again_and_another_of_its_name_gets_a_number() {
    let (_daemon_folder, daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let source = file(from.path(), "a.bin", 100_000);
    fs::copy(&source, to.path().join("a.bin")).expect("ours");
    let receiver = recv(&url, to.path(), &["--count", "2"]);
    send(&url, &source, &[]).succeed();
    assert_eq!(names(to.path()), ["a.bin"]);
    let source = file(from.path(), "a.bin", 200_000);
    send(&url, &source, &[]).succeed();
    let said = receiver.succeed();
    assert!(said.contains("which was here already"), "{said}");
    assert_eq!(names(to.path()), ["a (1).bin", "a.bin"]);
    assert_same(&source, &to.path().join("a (1).bin"));
}

#[test]
fn who_declines_is_told_of_and_the_sender_waits_for_others() {
    let (_daemon_folder, daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let source = file(from.path(), "a.bin", 100_000);
    fs::write(to.path().join("a.bin"), b"mine").expect("ours");
    let receiver = recv(&url, to.path(), &["--count", "1", "--when-exists", "decline"]);
    let output = send(&url, &source, &["--timeout", "3s"]).finish();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(124), "{said}");
    assert!(said.contains("it has a file of that name"), "{said}");
    let output = receiver.finish();
    assert_eq!(output.status.code(), Some(74));
    assert_eq!(fs::read(to.path().join("a.bin")).expect("there"), b"mine");
    assert_eq!(names(to.path()), ["a.bin"]);
}

#[test]
fn a_file_without_room_for_it_is_declined_and_one_that_fills_the_disk_is_removed() {
    let to = folder();
    let Some(small) = SmallDisk::mount(to.path(), "48m") else { return };
    let (_daemon_folder, daemon) = plain();
    let from = folder();
    let url = daemon.url("tcp");
    let source = file(from.path(), "large.bin", 60_000_000);
    let receiver = recv(&url, small.path(), &["--count", "1"]);
    let output = send(&url, &source, &["--timeout", "3s"]).finish();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("its disk is full"), "{said}");
    let output = receiver.finish();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(74), "{said}");
    assert!(said.contains("no room on the disk"), "{said}");

    let source = file(from.path(), "fits.bin", 45_000_000);
    let receiver = recv(&url, small.path(), &["--count", "1"]);
    let sender = send(&url, &source, &["--timeout", "20s"]);
    wait_for_part(small.path(), 500_000);
    fs::write(small.path().join("filling"), vec![0; 20_000_000]).expect("there is room as yet");
    let output = receiver.finish();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(74), "{said}");
    assert_eq!(names(small.path()), ["filling"], "what came has made room");
    let output = sender.finish();
    assert_eq!(output.status.code(), Some(124));
    assert!(String::from_utf8_lossy(&output.stderr).contains("its disk is full"));
}

#[test]
fn a_sender_that_is_interrupted_takes_its_offer_back() {
    let (_daemon_folder, daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let source = file(from.path(), "a.bin", 60_000_000);
    let receiver = recv(&url, to.path(), &["--count", "1"]);
    let sender = send(&url, &source, &[]);
    wait_for_part(to.path(), 1_000_000);
    sender.signal("INT");
    assert_eq!(sender.finish().status.code(), Some(130));
    let output = receiver.finish();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.contains("taken back by its sender"), "{said}");
    let left = names(to.path());
    assert!(left.len() == 1 && left[0].ends_with(".part"), "{left:?}");
}

#[test]
fn an_alarm_is_not_delayed_by_a_file() {
    let (_daemon_folder, daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let source = file(from.path(), "a.bin", 200_000_000);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let receiver = recv(&url, to.path(), &["--count", "1"]);
    let sender = send(&url, &source, &[]);
    wait_for_part(to.path(), 1_000_000);
    let delays = runtime.block_on(alarms(&url, 200));
    let is_under_way = names(to.path()).iter().any(|name| name.ends_with(".part"));
    sender.kill();
    receiver.kill();
    let median = delays[delays.len() / 2];
    println!("alarms beside a file: median {median:?}, last {:?}", delays[delays.len() - 1]);
    assert!(is_under_way || delays.len() == 200);
    assert!(median < Duration::from_millis(50), "{median:?}");
}

/// The delays of so many messages, in order.
async fn alarms(url: &str, count: usize) -> Vec<Duration> {
    use fastport_client::{Incoming, Options, SubscribeOptions, Target, init};
    let join = || async {
        let target = Target::parse(url).expect("a URL");
        init(Options::new(target, "demo")).await.expect("the daemon is there")
    };
    let (publisher, reader) = (join().await, join().await);
    let options = SubscribeOptions::default();
    let mut subscription = reader.subscribe("alarm", options).await.expect("an open session");
    let mut delays = Vec::new();
    for number in 0..count {
        let sent = Instant::now();
        publisher.emit("alarm", &number.to_be_bytes()).await.expect("it is there");
        let next = tokio::time::timeout(DEADLINE, subscription.next()).await;
        assert!(matches!(next, Ok(Some(Incoming::Message(_)))), "{next:?}");
        delays.push(sent.elapsed());
    }
    delays.sort();
    delays
}

#[test]
fn a_sealed_file_arrives_over_kills_of_both_ends_and_the_relay() {
    let (daemon_folder, mut daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let keys = seal_keys(from.path());
    let seal = ["--seal", keys.as_str()];
    for length in [0, 1, 16_352, 100_000] {
        let source = file(from.path(), &format!("{length}.bin"), length);
        let receiver = recv(&url, to.path(), &[&seal[..], &["--count", "1"]].concat());
        send(&url, &source, &seal).succeed();
        receiver.succeed();
        assert_same(&source, &to.path().join(format!("{length}.bin")));
    }
    let to = folder();
    let source = file(from.path(), "large.bin", 60_000_000);
    let config = demo_config("").replacen("127.0.0.1:0", &daemon.address("tcp"), 1);
    let (receiver, sender) = (recv(&url, to.path(), &seal), send(&url, &source, &seal));
    wait_for_part(to.path(), 1_000_000);
    receiver.kill();
    let receiver = recv(&url, to.path(), &[&seal[..], &["--count", "1"]].concat());
    wait_for_part(to.path(), 5_000_000);
    sender.kill();
    let sender = send(&url, &source, &seal);
    wait_for_part(to.path(), 10_000_000);
    daemon.signal("KILL");
    daemon.wait();
    let _daemon = Daemon::start(daemon_folder.path(), &config);
    sender.succeed();
    receiver.succeed();
    assert_same(&source, &to.path().join("large.bin"));
    assert_eq!(names(to.path()), ["large.bin"]);
}

#[test]
fn who_has_another_key_or_none_is_given_no_byte_of_a_sealed_file() {
    let (_daemon_folder, daemon) = plain();
    let (from, other, to) = (folder(), folder(), folder());
    let url = daemon.url("tcp");
    let (keys, others) = (seal_keys(from.path()), seal_keys(other.path()));
    let source = file(from.path(), "a.bin", 100_000);
    let _sender = send(&url, &source, &["--seal", &keys]);
    for more in [&["--seal", others.as_str()][..], &[]] {
        let output = recv(&url, to.path(), &[more, &["--count", "1"]].concat()).finish();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(65), "{said}");
        assert!(said.contains("a sealed file: its offer is refused"), "{said}");
        assert_eq!(names(to.path()), [""; 0]);
    }
}

#[test]
fn where_all_is_to_be_sealed_a_plain_file_is_not_taken() {
    let (_daemon_folder, daemon) = plain();
    let (from, to) = (folder(), folder());
    let url = daemon.url("tcp");
    let keys = seal_keys(from.path());
    let source = file(from.path(), "a.bin", 100_000);
    let _sender = send(&url, &source, &[]);
    let output = recv(&url, to.path(), &["--seal", &keys, "--count", "1"]).finish();
    assert_eq!(output.status.code(), Some(65));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not sealed"));
    assert_eq!(names(to.path()), [""; 0]);
}
