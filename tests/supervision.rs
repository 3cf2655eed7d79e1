//! The daemon under a real systemd, as its unit starts it: what hangs is ended and named, what only
//! waits is left alone, and what systemd holds outlives a restart.

#![allow(clippy::print_stdout, reason = "what was found is said")]

mod support;
#[path = "support/systemd.rs"]
mod systemd;

use std::path::{Path, PathBuf};

/// What every scenario begins with: the unit as it is shipped, with a watchdog of two seconds.
const BEGIN: &str = r#"
set -eu
systemd-sysusers /mnt/fastport.sysusers
mkdir -p /etc/fastport /etc/systemd/system/fastportd.service.d
cp /mnt/gateway.toml /etc/fastport/gateway.toml
printf '[Service]\nWatchdogSec=2s\nRestartSec=1s\n' >/etc/systemd/system/fastportd.service.d/test.conf
faults() { printf 'Environment=FAULT_FILE=/run/fault\n' >>/etc/systemd/system/fastportd.service.d/test.conf; }
start() { systemctl daemon-reload; systemctl start fastportd; }
restarts() { systemctl show -P NRestarts fastportd; }
pid() { systemctl show -P MainPID fastportd; }
journal() { journalctl --no-pager -o cat -u fastportd; }
# waits until a command succeeds; late: for longer than a disk stalls
until_late() { for _ in $(seq 160); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.5; done; echo "never: $*"; journal; exit 1; }
until_ok() { for _ in $(seq 200); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.05; done; echo "never: $*"; journal; exit 1; }
has_restarted() { [ "$(restarts)" -ge 1 ] && systemctl is-active --quiet fastportd; }
said() { journal | grep -q -- "$1"; }
"#;

const CONFIG: &str = r#"
listen = [{ kind = "tcp", address = "127.0.0.1:7470" }]
session = [{ name = "demo", open = true }]
board = { enabled = false }
"#;

/// The same with something to do for the uplink, to which nobody answers: neither the name server, nor the
/// address that needs none.
const UPLINK: &str = r#"
listen = [
    { kind = "tcp", address = "127.0.0.1:7470" },
    { kind = "unix", path = "/run/fastport/peers" },
]
session = [{ name = "demo", open = true }]
board = { enabled = false }
[uplink]
central = ["tcp://central.invalid:7470", "tcp://10.255.255.1:7470"]
connect_timeout = "1s"
[[uplink.rule]]
filter = "up/#"
"#;

/// Starts with [`UPLINK`] in a network that swallows all that leaves the machine, with messages that wait;
/// `try_on`: attempts come to their end, and others begin.
const SILENCE: &str = r#"
ip route add 10.255.255.0/24 dev lo
echo nameserver 10.255.255.53 >/etc/resolv.conf
figures() { fastport --url unix:/run/fastport/peers status --json; }
count() { figures | grep -oE "\"$1\":[0-9]+" | head -n 1 | cut -d: -f2; }
attempts() { count attempts; }
has_tried() { [ "$(attempts)" -ge "$1" ]; }
start
fastport --url unix:/run/fastport/peers pub --counted up/a x
until_ok has_tried 2
figures | grep -oE '"failures":[{][^}]*[}]' | head -n 1
try_on() { before=$(attempts); sleep 7; echo "attempts: $before, $(attempts)"; has_tried $((before + 2)); }
"#;

/// Stops one thread of the daemon as a debugger does, until the daemon is gone.
const STOP_THREAD: &str = r#"
import ctypes, os, sys

ATTACH, ALL_KINDS = 16, 0x40000000      # PTRACE_ATTACH, __WALL
threads = f"/proc/{sys.argv[1]}/task"
name = lambda thread: open(f"{threads}/{thread}/comm").read()
thread = next(int(thread) for thread in os.listdir(threads) if name(thread).startswith("tokio"))
libc = ctypes.CDLL(None, use_errno=True)
if libc.ptrace(ATTACH, thread, None, None):
    sys.exit(f"ptrace: {os.strerror(ctypes.get_errno())}")
print("stopped", flush=True)
while True:
    _, status = os.waitpid(thread, ALL_KINDS)
    if os.WIFSIGNALED(status) or os.WIFEXITED(status):
        break
"#;

/// Runs a scenario; its output, or none where there is no systemd to run.
fn under_systemd(name: &str, config: &str, script: &str) -> Option<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, text: &str| systemd::file(folder.path(), name, text);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bound = [
        (PathBuf::from(env!("CARGO_BIN_EXE_fastportd")), "/usr/bin/fastportd"),
        (PathBuf::from(env!("CARGO_BIN_EXE_fastport")), "/usr/bin/fastport"),
        (root.join("systemd/fastportd.service"), "/etc/systemd/system/fastportd.service"),
        (root.join("systemd/fastportd.socket"), "/etc/systemd/system/fastportd.socket"),
        (root.join("systemd/fastport.sysusers"), "/mnt/fastport.sysusers"),
        (file("gateway.toml", config), "/mnt/gateway.toml"),
        (file("stop-thread.py", STOP_THREAD), "/mnt/stop-thread.py"),
        (file("scenario", &format!("{BEGIN}{script}")), "/mnt/scenario"),
    ];
    let bound = bound.each_ref().map(|(source, target)| (&**source, *target));
    systemd::run(name, 150, &bound, &["bash", "/mnt/scenario"])
}

/// A fault leads to a restart, and the next run names it.
fn is_ended_and_named(fault: &str, part: &str, config: &str) {
    let script = format!(
        r#"
printf 'Environment=FAULT_DISK_DEADLINE_SECONDS=5\n' >>/etc/systemd/system/fastportd.service.d/test.conf
faults; start
echo {fault} >/run/fault.new
mv /run/fault.new /run/fault
until_ok said 'makes no progress'
# the next run must find no fault
rm -f /run/fault
until_ok has_restarted
until_ok said 'the last run did not end in order'
journal | grep -E 'makes no progress|last run|Watchdog'
echo "result: $(restarts)"
fastport status | grep last_run
"#
    );
    let Some(text) = under_systemd(fault, config, &script) else { return };
    assert!(text.contains(&format!("part=\"{part}\"")), "{text}");
    assert!(text.contains(&format!("the watchdog: {part} made no progress")), "{text}");
    assert!(text.contains("result: 1\n"), "{text}");
}

#[test]
fn an_idle_daemon_is_left_alone() {
    let script = r#"
start
sleep 7
echo "restarts: $(restarts)"
systemctl status --no-pager fastportd | grep -i 'status:'
"#;
    let Some(text) = under_systemd("idle", CONFIG, script) else { return };
    assert!(text.contains("restarts: 0\n"), "{text}");
    assert!(text.contains("0 peers, 0 messages/s"), "{text}");
}

#[test]
fn an_uplink_to_which_nobody_answers_is_no_hang() {
    let script = format!(
        r#"
{SILENCE}
try_on
echo "restarts: $(restarts), waiting: $(count unacknowledged)"
"#
    );
    let Some(text) = under_systemd("silence", UPLINK, &script) else { return };
    println!("{text}");
    assert!(text.contains("restarts: 0, waiting: 1\n"), "{text}");
}

#[test]
fn systemctl_status_shows_the_rate_the_uplink_and_what_waits_for_it() {
    let config = format!(
        r#"
{CONFIG}
[uplink]
central = ["tcp://127.0.0.1:1"]
spool.disk = 0

[[uplink.rule]]
filter = "a/#"
"#
    );
    let script = r#"
start
( while sleep 0.05; do fastport pub --counted a/b x || exit; done ) &
shows() { systemctl show -P StatusText fastportd | grep -qE "$1"; }
until_late shows '[1-9][0-9]* messages/s.*uplink: normal (waiting|connecting); spool: [1-9][0-9]* messages in memory, 0 on disk'
systemctl show -P StatusText fastportd
echo "restarts: $(restarts)"
"#;
    let Some(text) = under_systemd("status line", &config, script) else { return };
    println!("{text}");
    assert!(text.contains("restarts: 0\n"), "{text}");
}

#[test]
fn a_loop_that_does_not_end_is_ended_and_named() {
    is_ended_and_named("busy", "a fault on purpose", CONFIG);
}

#[test]
fn one_of_several_threads_that_stops_is_found_and_named() {
    let config = format!("daemon = {{ workers = 2 }}\n{CONFIG}");
    is_ended_and_named("blocked", "a fault on purpose", &config);
}

#[test]
fn a_session_that_is_deadlocked_is_ended_and_named() {
    is_ended_and_named("deadlock", "a session's lock", CONFIG);
}

#[test]
fn a_thread_that_never_comes_back_from_a_disk_is_found_and_named() {
    is_ended_and_named("dead", "the spool's disk", CONFIG);
}

#[test]
fn a_disk_that_stalls_for_a_minute_is_no_hang() {
    is_left_alone("disk", "fastport status >/dev/null");
}

#[test]
fn a_disk_that_stalls_for_a_minute_while_a_session_waits_for_it_is_no_hang() {
    is_left_alone("journal", "true");
}

/// A minute of a fault costs no restart; `meanwhile` works while it lasts.
fn is_left_alone(fault: &str, meanwhile: &str) {
    let script = format!(
        r#"
faults; start
before=$(pid)
echo {fault} >/run/fault.new
mv /run/fault.new /run/fault
until_ok said 'the disk stalls'
{meanwhile}
stalled=$SECONDS
until_late said 'the disk is back'
[ "$(pid)" = "$before" ]
# seen by the watchdog, which looks every 0.4 s
until_ok sh -c 'fastport status --json | grep -E "\"slowest_disk_ms\":(59|6[0-9])[0-9]{{3}}"'
fastport status | grep '^watchdog'
echo "stalled for $((SECONDS - stalled)) s, restarts: $(restarts)"
"#
    );
    let Some(text) = under_systemd(fault, CONFIG, &script) else { return };
    println!("{text}");
    assert!(text.contains("restarts: 0\n"), "{text}");
}

#[test]
fn one_thread_that_is_stopped_while_the_others_run_is_found_and_named() {
    let config = format!("daemon = {{ workers = 3 }}\n{CONFIG}");
    let script = r#"
start
python3 /mnt/stop-thread.py "$(pid)" &
until_ok has_restarted
until_ok said 'the last run did not end in order'
journal | grep 'last run'
echo "result: $(restarts)"
"#;
    let Some(text) = under_systemd("stopped thread", &config, script) else { return };
    assert!(text.contains("the watchdog: a thread that is stopped made no progress"), "{text}");
    assert!(text.contains("result: 1\n"), "{text}");
}

#[test]
fn a_file_in_memory_is_held_over_a_crash_and_a_restart() {
    let script = r#"
faults; start
until_ok said 'in the held file runs=0'
kill -KILL "$(pid)"
until_ok has_restarted
until_ok said 'in the held file runs=1'
systemctl restart fastportd
until_ok said 'in the held file runs=2'
echo "held: $(systemctl show -P NFileDescriptorStore fastportd)"
"#;
    let Some(text) = under_systemd("held", CONFIG, script) else { return };
    // the file and the listener's socket; the same again is not held twice
    assert!(text.contains("held: 2\n"), "{text}");
}

#[test]
fn the_unit_gives_state_and_secrets_and_a_reload_and_a_stop_end_well() {
    let config = format!("access.credentials = \"$CREDENTIALS_DIRECTORY/peers\"\n{CONFIG}");
    let script = r#"
echo '# nobody' >/etc/fastport/peers
chmod 600 /etc/fastport/peers
printf 'LoadCredential=peers:/etc/fastport/peers\n' >>/etc/systemd/system/fastportd.service.d/test.conf
start
before=$(pid)
systemctl reload fastportd
until_ok said 'configuration reloaded'
[ "$(pid)" = "$before" ]
fastport status | grep -E '^(reloads|reload_errors) '
systemctl stop fastportd
echo "result: $(systemctl show -P Result fastportd), $(systemctl show -P ExecMainStatus fastportd)"
ls -ld /var/lib/fastport
start
if said 'did not end in order'; then echo 'taken for cut off'; fi
"#;
    let Some(text) = under_systemd("unit", &config, script) else { return };
    assert!(text.contains("result: success, 0\n"), "{text}");
    assert!(text.contains("/var/lib/fastport"), "{text}");
    assert!(!text.contains("taken for cut off"), "{text}");
    let figures: Vec<_> = text.lines().filter(|line| line.starts_with("reload")).collect();
    assert_eq!(figures.len(), 2, "{text}");
    assert!(figures.iter().any(|line| line.ends_with(" 1")), "{text}");
}

#[test]
fn a_disk_that_is_slow_while_the_daemon_stops_is_waited_for() {
    let config = format!("daemon = {{ drain = \"0s\" }}\n{CONFIG}");
    // longer than the unit's limit, and than the daemon asks for at first
    let script = r#"
printf 'TimeoutStopSec=2s\nEnvironment=FAULT_FLUSH_SECONDS=8\n' >>/etc/systemd/system/fastportd.service.d/test.conf
start
systemctl stop fastportd
echo "result: $(systemctl show -P Result fastportd)"
journal | grep stopped
"#;
    let Some(text) = under_systemd("flush", &config, script) else { return };
    assert!(text.contains("result: success\n") && text.contains("INFO stopped"), "{text}");
}

#[test]
fn a_dead_network_is_no_hang() {
    let script = format!(
        r#"
{SILENCE}
ip link set lo down
try_on
echo "restarts: $(restarts), waiting: $(count unacknowledged)"
"#
    );
    let Some(text) = under_systemd("network", UPLINK, &script) else { return };
    println!("{text}");
    assert!(text.contains("restarts: 0, waiting: 1\n"), "{text}");
}

#[test]
fn a_stopped_process_is_ended_by_systemd_and_the_next_run_says_so() {
    let script = r#"
start
kill -STOP "$(pid)"
until_ok has_restarted
until_ok said 'the last run did not end in order'
journal | grep 'last run'
"#;
    let Some(text) = under_systemd("stopped", CONFIG, script) else { return };
    assert!(text.contains("killed, by the watchdog or by somebody"), "{text}");
}

#[test]
fn a_task_that_panics_is_started_again_alone_and_the_daemon_when_it_goes_on() {
    let script = r#"
faults; start
before=$(pid)
echo panic >/run/fault
until_ok said 'panicked and is started again'
[ "$(pid)" = "$before" ]
rm /run/fault
echo "restarts: $(restarts)"
fastport status | grep '^panics '
"#;
    let Some(text) = under_systemd("panic", CONFIG, script) else { return };
    assert!(text.contains("restarts: 0\n"), "{text}");
    assert!(!text.contains("panics            0"), "{text}");
}

/// Connects all the time, one link after another, over three restarts: each must be welcomed.
const WELCOMED: &str = r#"
( for _ in $(seq 40); do
      fastport --connect-timeout 20s pub a/b x || { echo refused; exit 1; }
  done; echo welcomed ) >/run/clients 2>&1 &
clients=$!
for _ in 1 2 3; do systemctl restart fastportd; done
wait "$clients"
cat /run/clients
"#;

#[test]
fn sockets_of_the_daemon_s_own_are_held_until_no_listener_is_at_their_address() {
    let script = format!(
        r#"
start
{WELCOMED}
# the new address overlaps with the old one
sed -i s/127.0.0.1:7470/0.0.0.0:7470/ /etc/fastport/gateway.toml
systemctl restart fastportd
until_ok said 'no listener any more address=127.0.0.1:7470'
fastport pub a/b x
echo "held: $(systemctl show -P NFileDescriptorStore fastportd)"
systemctl stop fastportd
fastport pub a/b x 2>/dev/null || echo "stopped: $?"
"#
    );
    let Some(text) = under_systemd("own sockets", CONFIG, &script) else { return };
    assert!(text.contains("welcomed\n") && !text.contains("refused"), "{text}");
    assert!(text.contains("held: 1\n") && text.contains("stopped: 69\n"), "{text}");
}

#[test]
fn a_restart_with_inherited_sockets_refuses_nobody() {
    let script = format!(
        r#"
systemctl daemon-reload
sed -i '/7471/d' /etc/systemd/system/fastportd.socket 2>/dev/null || true
systemctl start fastportd.socket
systemctl start fastportd
{WELCOMED}
systemctl reload fastportd
systemctl stop fastportd.socket fastportd
journal | grep -c 'INFO ready' | sed 's/^/starts: /'
"#
    );
    let Some(text) = under_systemd("sockets", CONFIG, &script) else { return };
    assert!(text.contains("welcomed\n") && !text.contains("refused"), "{text}");
    assert!(text.contains("starts: 4\n"), "{text}");
}
