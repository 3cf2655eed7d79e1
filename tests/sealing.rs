//! Sealing with the real binaries: what is sealed opens with the key only, what an attacker in the
//! relay's place could do shows by its name, and the relay has neither text nor key.

#[path = "support/memory.rs"]
mod memory;
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};

use fastport_wire::control::ErrorCode;
use fastport_wire::frame::DataFlags;
use tempfile::TempDir;

use self::memory::{find_in_memory, key_and_digits};
use self::support::peer::{Event, Peer};
use self::support::{DEADLINE, Daemon, finish};

/// Sessions as any other, and one for sealed payloads only.
const CONFIG: &str = r#"
board = { enabled = false }
listen = [{ kind = "tcp", address = "127.0.0.1:0" }]
session = [
    { name = "home", open = true },
    { name = "office", open = true },
    { name = "bulk", open = true, when_full = "hold" },
    { name = "vault", open = true, sealed = true },
]
"#;

/// A daemon, and a folder with the keys `home.seal` and `other.seal`.
struct Site {
    daemon: Daemon,
    folder: TempDir,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let daemon = Daemon::start(folder.path(), CONFIG);
        let site = Self { daemon, folder };
        for name in ["home.seal", "other.seal"] {
            let made = site.run("home", &["key", "new", "--seal", &site.path(name)]);
            assert!(printed(made).ends_with(" seals\n"));
        }
        site
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn tool(&self, session: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fastport"));
        command.args(["--url", &self.daemon.url("tcp"), "--session", session]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, session: &str, arguments: &[&str]) -> Output {
        let child = self.tool(session, arguments).spawn().expect("the tool is built");
        finish(child, DEADLINE)
    }

    /// Publishes `text` on `a`, sealed with the key of that name.
    fn publish(&self, session: &str, key: &str, text: &str) {
        let key = self.path(key);
        printed(self.run(session, &["--seal", &key, "pub", "--keep", "a", text]));
    }

    fn join(&self, session: &str) -> Peer {
        Peer::join(&self.daemon.address("tcp"), session)
    }
}

/// What a tool printed that must have succeeded.
fn printed(output: Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {error}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// A `fastport sub` under way.
struct Reader {
    child: Child,
    out: Receiver<String>,
    error: Receiver<String>,
    said: Vec<String>,
}

impl Reader {
    fn start(mut tool: Command) -> Self {
        let mut child = tool.spawn().expect("the tool is built");
        let out = lines(child.stdout.take().expect("piped"));
        let error = lines(child.stderr.take().expect("piped"));
        Self { child, out, error, said: Vec::new() }
    }

    /// The next message that it prints.
    fn line(&self) -> String {
        self.out.recv_timeout(DEADLINE).expect("a message comes")
    }

    /// Waits until it says `words`.
    fn wait_for(&mut self, words: &str) {
        while !self.said.last().is_some_and(|line| line.contains(words)) {
            let line = self.error.recv_timeout(DEADLINE);
            assert!(line.is_ok(), "{words:?} was not said: {:#?}", self.said);
            self.said.extend(line);
        }
    }

    /// Ends it; its last word, and the messages that nobody has asked for.
    fn end(mut self) -> (String, Vec<String>) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &pid]).status();
        assert!(sent.is_ok_and(|status| status.success()));
        assert!(finish(self.child, DEADLINE).status.success());
        self.said.extend(self.error.iter());
        (self.said.pop().unwrap_or_default(), self.out.iter().collect())
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let mut kept = BufReader::new(from).lines().map_while(Result::ok);
        kept.all(|line| sender.send(line).is_ok())
    });
    lines
}

#[test]
fn what_is_sealed_opens_with_the_key_and_is_unreadable_without() {
    let site = Site::new();
    let mut relay = site.join("home");
    relay.subscribe("a");
    site.publish("home", "home.seal", "a secret text");
    let payload = relay.next_payload();
    assert_eq!(payload.len(), 22 + 16 + 16);
    assert!(!payload.windows(6).any(|bytes| bytes == b"secret"));

    let key = site.path("home.seal");
    let opened = site.run("home", &["--seal", &key, "sub", "--count", "1", "a"]);
    assert_eq!(printed(opened), "a a secret text\n");
    let plain = site.run("home", &["sub", "--count", "1", "a"]);
    assert_eq!(printed(plain), "a (sealed, 54 bytes)\n");
}

#[test]
fn readings_are_sealed_with_their_schema() {
    let site = Site::new();
    let key = site.path("home.seal");
    let publish = ["--seal", &key, "pub", "--keep", "--unit", "Cel", "--scale", "-2", "t", "21.37"];
    printed(site.run("home", &publish));
    let opened = site.run("home", &["--seal", &key, "sub", "--count", "1", "t"]);
    assert_eq!(printed(opened), "t 21.37 Cel\n");
    // the same number under another unit would be another reading: the relay cannot make it that
    let mut relay = site.join("office");
    let schema = b"\x20\xfe\x01K";
    let topic = relay.open_with("t", Some(schema));
    let mut home = site.join("home");
    let sealed = home.subscribe("t").into_iter().find_map(|event| match event {
        Event::Data { payload, .. } => Some(payload),
        _ => None,
    });
    let flags = DataFlags::SEALED.with(DataFlags::READINGS).with(DataFlags::KEEP);
    relay.publish(topic, flags, &sealed.expect("it is kept"));
    let mut reader = Reader::start(site.tool("office", &["--seal", &key, "sub", "t"]));
    reader.wait_for("(other-session: 1 so far)");
    assert!(reader.end().1.is_empty());
}

#[test]
fn what_a_relay_could_do_to_messages_is_refused_by_name_and_gives_no_text() {
    let site = Site::new();
    let key = site.path("home.seal");
    let mut relay = site.join("home");
    relay.subscribe("a");
    site.publish("home", "home.seal", "first");
    let first = relay.next_payload();
    let mut reader = Reader::start(site.tool("home", &["--seal", &key, "sub", "a", "b"]));
    assert_eq!(reader.line(), "a first", "its last value, and so it listens");
    // another life of the sender, whose counters are 4096 further
    site.publish("home", "home.seal", "second");
    let second = relay.next_payload();
    assert_eq!(reader.line(), "a second");

    let [a, b] = ["a", "b"].map(|topic| relay.open(topic));
    relay.publish(a, DataFlags::SEALED, &second);
    reader.wait_for("(replay: 1 so far)");
    relay.publish(a, DataFlags::SEALED, &first);
    reader.wait_for("(too-old: 1 so far)");
    relay.publish(a, DataFlags::SEALED, &second[..second.len() - 1]);
    reader.wait_for("(truncated: 1 so far)");
    let mut flipped = second.clone();
    flipped[25] ^= 0x10;
    relay.publish(a, DataFlags::SEALED, &flipped);
    reader.wait_for("(altered: 1 so far)");
    relay.publish(b, DataFlags::SEALED, &second);
    reader.wait_for("(other-topic: 1 so far)");
    relay.publish(a, DataFlags::NONE, b"not sealed at all");
    reader.wait_for("(unsealed: 1 so far)");
    site.publish("home", "other.seal", "by another key");
    reader.wait_for("(unknown-key: 1 so far)");
    let mut office = site.join("office");
    office.subscribe("a");
    site.publish("office", "home.seal", "of another session");
    relay.publish(a, DataFlags::SEALED, &office.next_payload());
    reader.wait_for("(other-session: 1 so far)");

    // and what is right still opens
    site.publish("home", "home.seal", "third");
    assert_eq!(reader.line(), "a third");
    let (summary, more) = reader.end();
    assert!(summary.contains("opened 3; refused: truncated 1, unknown-key 1, other-session 1"));
    assert!(summary.ends_with("other-topic 1, altered 1, replay 1, too-old 1, unsealed 1"));
    assert_eq!(more, Vec::<String>::new());
}

#[test]
fn what_an_uplink_brought_under_other_names_opens_where_these_are_known() {
    let site = Site::new();
    let mut home = site.join("home");
    home.subscribe("a");
    site.publish("home", "home.seal", "from the cellar");
    let sealed = home.next_payload();
    let mut central = site.join("office");
    let topic = central.open("gateways/cellar/a");
    central.publish(topic, DataFlags::SEALED.with(DataFlags::KEEP), &sealed);
    let key = site.path("home.seal");
    let names = ["--seal-session", "home", "--seal-prefix", "gateways/+"];
    let seal = [&["--seal", &key], &names[..]].concat();
    let opened = site.run("office", &[&seal[..], &["sub", "--count", "1", "gateways/#"]].concat());
    assert_eq!(printed(opened), "gateways/cellar/a from the cellar\n");
    // and the other way
    central.subscribe("gateways/cellar/b");
    printed(site.run("office", &[&seal[..], &["pub", "gateways/cellar/b", "down"]].concat()));
    let topic = home.open("b");
    home.publish(topic, DataFlags::SEALED.with(DataFlags::KEEP), &central.next_payload());
    let opened = site.run("home", &["--seal", &key, "sub", "--count", "1", "b"]);
    assert_eq!(printed(opened), "b down\n");
}

#[test]
fn sealed_and_plain_topics_lie_in_one_session() {
    let site = Site::new();
    let key = site.path("home.seal");
    let seal = ["--seal", &key, "--seal-topic", "secret/#"];
    for (topic, text) in [("secret/a", "sealed"), ("open", "plain")] {
        printed(site.run("home", &[&seal[..], &["pub", "--keep", topic, text]].concat()));
    }
    let shown = printed(site.run("home", &["sub", "--count", "2", "#"]));
    assert!(shown.contains("open plain\n") && shown.contains("secret/a (sealed, "), "{shown}");
    let shown = site.run("home", &[&seal[..], &["sub", "--count", "2", "#"]].concat());
    let mut shown: Vec<String> = printed(shown).lines().map(str::to_owned).collect();
    shown.sort_unstable();
    assert_eq!(shown, ["open plain", "secret/a sealed"]);
}

#[test]
fn a_session_for_sealed_data_refuses_others() {
    let site = Site::new();
    let refused = site.run("vault", &["pub", "--wait", "taken", "a", "plain"]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(77), "{error}");
    assert!(error.contains("takes sealed messages only"), "{error}");
    let mut peer = site.join("vault");
    let topic = peer.open("a");
    peer.publish(topic, DataFlags::NONE, b"plain");
    assert_eq!(peer.refused(), ErrorCode::Unsealed);

    site.publish("vault", "home.seal", "sealed");
    let key = site.path("home.seal");
    let opened = site.run("vault", &["--seal", &key, "sub", "--count", "1", "a"]);
    assert_eq!(printed(opened), "a sealed\n");
}

#[test]
fn no_counter_is_used_twice_whatever_ends_the_sender() {
    let site = Site::new();
    let key = site.path("home.seal");
    let mut relay = site.join("home");
    relay.subscribe("a");
    let mut seen = BTreeSet::new();
    let mut note = |payload: Vec<u8>| assert!(seen.insert(payload[8..22].to_vec()), "used twice");
    for _ in 0..3 {
        site.publish("home", "home.seal", "x");
        note(relay.next_payload());
    }
    // killed while it publishes, and two at one time
    for _ in 0..2 {
        let start = || {
            let mut tool = site.tool("home", &["--seal", &key, "pub", "--lines", "--counted", "a"]);
            let mut child = tool.stdin(Stdio::piped()).spawn().expect("the tool is built");
            let mut input = child.stdin.take().expect("piped");
            input.write_all("line\n".repeat(50).as_bytes()).expect("the tool reads");
            (child, input)
        };
        let mut both = [start(), start()];
        for _ in 0..100 {
            note(relay.next_payload());
        }
        for (child, _) in &mut both {
            child.kill().expect("the child is ours");
            child.wait().expect("it ended");
        }
    }
    let senders: BTreeSet<&[u8]> = seen.iter().map(|head| &head[..8]).collect();
    assert_eq!(senders.len(), 2, "a place is found again, and a second one where it is taken");
    assert_eq!(seen.len(), 203);
}

#[test]
fn many_messages_arrive_once_and_in_order() {
    let site = Site::new();
    let key = site.path("home.seal");
    printed(site.run("bulk", &["--seal", &key, "pub", "--keep", "a", "begin"]));
    let reader = Reader::start(site.tool("bulk", &["--seal", &key, "sub", "a"]));
    assert_eq!(reader.line(), "a begin", "its last value, and so it listens");
    let mut tool = site.tool("bulk", &["--seal", &key, "pub", "--lines", "--wait", "taken", "a"]);
    let mut publisher = tool.stdin(Stdio::piped()).spawn().expect("the tool is built");
    let input: String = (0..MANY).map(|number| format!("{number}\n")).collect();
    let mut stdin = publisher.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    for number in 0..MANY {
        assert_eq!(reader.line(), format!("a {number}"));
    }
    writer.join().expect("no panic").expect("the tool reads it all");
    printed(finish(publisher, DEADLINE));
    assert_eq!(reader.end(), (String::new(), Vec::new()), "none is refused");
}

/// More than two spans of counters.
const MANY: u32 = 10_000;

#[test]
fn a_key_is_changed_while_messages_of_both_open() {
    let site = Site::new();
    let [key, theirs] = ["home.seal", "theirs.seal"].map(|name| site.path(name));
    let change = |words: &[&str]| printed(site.run("home", &[words, &["--seal", &key]].concat()));
    site.publish("home", "home.seal", "by the old key");
    let ids = change(&["key", "add"]);
    let id = |line: usize| ids.lines().nth(line).expect("two keys")[..4].to_owned();
    let (old, new) = (id(0), id(1));
    assert_eq!(ids, format!("{old} seals\n{new} opens\n"));
    // a receiver has both before a sender uses the new one
    fs::copy(&key, &theirs).expect("the folder is ours");
    assert_eq!(change(&["key", "use", &new]), format!("{new} seals\n{old} opens\n"));
    let mut reader = Reader::start(site.tool("home", &["--seal", &theirs, "sub", "a"]));
    assert_eq!(reader.line(), "a by the old key");
    site.publish("home", "home.seal", "by the new key");
    assert_eq!(reader.line(), "a by the new key");
    assert_eq!(change(&["key", "remove", &old]), format!("{new} seals\n"));
    site.publish("home", "other.seal", "by neither");
    reader.wait_for("unknown-key");
    reader.end();
    let refused = site.run("home", &["key", "remove", &new, "--seal", &key]);
    assert_eq!(refused.status.code(), Some(65));
    assert_eq!(change(&["key", "list"]), format!("{new} seals\n"));
}

#[test]
fn a_key_that_others_may_read_and_a_state_that_cannot_be_written_are_refused() {
    let site = Site::new();
    let key = site.path("home.seal");
    let state = site.path("gateway.toml");
    let blocked = ["--seal", &key, "--seal-state", &state, "pub", "a", "x"];
    let output = site.run("home", &blocked);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(74), "{error}");
    assert!(error.contains("gateway.toml"), "{error}");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(&key, mode).expect("the file is ours");
    let output = site.run("home", &["--seal", &key, "pub", "a", "x"]);
    assert_eq!(output.status.code(), Some(65));
    let output = site.run("home", &["--seal-topic", "a", "pub", "a", "x"]);
    assert_eq!(output.status.code(), Some(64), "which keys?");
}

#[test]
fn the_relay_never_has_the_text_or_the_key() {
    let site = Site::new();
    let mut relay = site.join("home");
    relay.subscribe("#");
    let text = "zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich";
    let plain = "the quick brown fox jumps over the lazy dog, and is not sealed";
    site.publish("home", "home.seal", text);
    let sealed = relay.next_payload();
    printed(site.run("home", &["pub", "--keep", "plain", plain]));
    assert_eq!(relay.next_payload(), plain.as_bytes());
    let key = site.path("home.seal");
    let opened = site.run("home", &["--seal", &key, "sub", "--count", "1", "a"]);
    assert_eq!(printed(opened), format!("a {text}\n"));

    let (key, digits) = key_and_digits(Path::new(&key));
    let wanted = [&sealed[..], plain.as_bytes(), text.as_bytes(), &key, digits.as_bytes()];
    let found = find_in_memory(site.daemon.pid(), &wanted);
    assert_eq!(found, [true, true, false, false, false], "what it keeps is found, and no more");
}
