//! The Debian package and the tarball under a real systemd: installed, upgraded under load, removed.
#![allow(clippy::panic, reason = "what a test relies on and does not get fails it")]

mod support;
#[path = "support/systemd.rs"]
mod systemd;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What each scenario begins with.
const BEGIN: &str = r#"
set -eu
journal() { journalctl --no-pager -o cat -u fastportd; }
# waits until a command succeeds
until_ok() { for _ in $(seq 600); do if "$@" >/dev/null 2>&1; then return; fi; sleep 0.05; done; echo "never: $*"; journal; exit 1; }
no() { if "$@" >/dev/null 2>&1; then echo "should not be: $*"; exit 1; fi; }
pid() { systemctl show -P MainPID fastportd; }
"#;

/// Connects to every address again and again; prints how often it could, and each time that it could not.
const CONNECT: &str = r#"
import os, socket, time

places = [("127.0.0.1", 7470), ("127.0.0.1", 7471), "/run/fastport/peers.sock"]
made = 0
while not os.path.exists("/run/enough"):
    time.sleep(0.001)
    for place in places:
        family = socket.AF_UNIX if isinstance(place, str) else socket.AF_INET
        with socket.socket(family) as link:
            link.settimeout(20)
            try:
                link.connect(place)
                made += 1
            except OSError as error:
                print("refused:", place, error)
print("connected" if made > 100 else "hardly connected", made)
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_fastportd")).parent().expect("it lies in a folder")
}

/// Runs one of the project's scripts, which must succeed, with the programs of this build.
fn script(name: &str, dist: &Path, arguments: &[&str], version: &str) {
    let output = Command::new(root().join(name))
        .args(arguments)
        .env("DIST", dist)
        .env("FAST", "1")
        .env("VERSION", version)
        .env("PROGRAMS", programs())
        .stdin(Stdio::null())
        .output()
        .expect("the script is there");
    let (text, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{text}\n{errors}", output.status);
}

fn deb(dist: &Path, version: &str) -> PathBuf {
    script("tools/deb.sh", dist, &[], version);
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "riscv64" => "riscv64",
        other => panic!("what does Debian call {other}?"),
    };
    dist.join(format!("fastport_{version}_{architecture}.deb"))
}

/// Runs a scenario under systemd; its output, or none where there is no systemd to run.
fn under_systemd(name: &str, scenario: &str, bound: &[(&Path, &str)]) -> Option<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let connect = systemd::file(folder.path(), "connect.py", CONNECT);
    let scenario = systemd::file(folder.path(), "scenario", &format!("{BEGIN}{scenario}"));
    let own = [(&*connect, "/mnt/connect.py"), (&*scenario, "/mnt/scenario")];
    systemd::run(name, 180, &[bound, &own].concat(), &["bash", "/mnt/scenario"])
}

#[test]
fn a_debian_package_is_installed_upgraded_under_load_removed_and_purged() {
    let scenario = r#"
dpkg -i /mnt/old.deb >/dev/null
systemctl is-enabled fastportd
systemctl is-active fastportd
stat -c '%n %U %G %a' /etc/fastport /var/lib/fastport /run/fastport/peers.sock
[ "$(dpkg-query -W -f '${Conffiles}' fastport | grep -c gateway.toml)" = 1 ]
fastport pub install/works yes --counted --wait taken --timeout 20s
fastport --url unix:/run/fastport/peers.sock status | grep -q '^peers '
dpkg -L fastport | grep -qx /usr/share/man/man8/fastportd.8.gz
dpkg -L fastport | grep -qx /usr/share/man/man1/fastport-pub.1.gz
bash -c '. /usr/share/bash-completion/completions/fastport; complete -p fastport' >/dev/null
echo '# changed here' >>/etc/fastport/gateway.toml

echo "held: $(systemctl show -P NFileDescriptorStore fastportd)"
# a message each 5 ms, and a connection each ms, while it is installed again, and upgraded
fastport sub 'load/#' --raw >/run/came 2>/run/said &
reader=$!
until_ok sh -c 'fastport status | grep "sessions.demo.peers *2"'
python3 /mnt/connect.py >/run/connections &
connections=$!
( n=0; until [ -e /run/upgraded ]; do n=$((n + 1)); echo "$n "; sleep 0.005; done; echo $n >/run/total ) |
    fastport pub load/n --lines --wait taken --timeout 120s &
writer=$!
for deb in old new; do
    before=$(pid)
    dpkg -i /mnt/$deb.deb >/dev/null 2>&1
    [ "$(pid)" != "$before" ]
    systemctl is-active --quiet fastportd
done
touch /run/upgraded
wait $writer
touch /run/enough
wait $connections
total=$(cat /run/total)
[ "$total" -gt 100 ]
until_ok sh -c "tr -s ' ' '\\n' </run/came | grep -qx $total"
kill $reader
tr -s ' ' '\n' </run/came | grep . >/run/numbers
cat /run/connections /run/said
seq "$total" | cmp - /run/numbers
echo "each of $total messages once, in order"
dpkg-query -W -f 'upgraded to ${Version}\n' fastport
grep -q 'changed here' /etc/fastport/gateway.toml

dpkg -r fastport >/dev/null
no systemctl is-active fastportd
no test -e /usr/bin/fastportd
no test -e /usr/lib/systemd/system/fastportd.service
no test -e /run/fastport
test -e /etc/fastport/gateway.toml
test -e /var/lib/fastport
no python3 -c 'import socket; socket.create_connection(("127.0.0.1", 7470))'
dpkg -i /mnt/new.deb >/dev/null 2>&1
systemctl is-active --quiet fastportd
grep -q 'changed here' /etc/fastport/gateway.toml
dpkg -P fastport >/dev/null 2>&1
no systemctl is-active fastportd
no test -e /etc/fastport
no test -e /var/lib/fastport
no test -e /etc/systemd/system/multi-user.target.wants/fastportd.service
no dpkg-query -W fastport
echo purged
"#;
    let dist = tempfile::tempdir().expect("a temporary folder");
    let (old, new) = (deb(dist.path(), "0.0.1"), deb(dist.path(), "0.0.2"));
    let bound = [(&*old, "/mnt/old.deb"), (&*new, "/mnt/new.deb")];
    let Some(text) = under_systemd("package", scenario, &bound) else { return };
    for word in [
        "enabled\nactive\n",
        "/etc/fastport root fastport 750\n",
        "/var/lib/fastport fastport fastport 750\n",
        "/run/fastport/peers.sock fastport fastport 660\n",
        // three sockets, one journal
        "held: 4\n",
        "connected ",
        " messages once, in order\n",
        "upgraded to 0.0.2\n",
        "purged\n",
    ] {
        assert!(text.contains(word), "{word:?} is missing:\n{text}");
    }
    assert!(!text.contains("refused") && !text.contains("hardly"), "{text}");
}

#[test]
fn the_tarball_installs_itself_upgrades_itself_and_goes_without_a_trace() {
    let scenario = r#"
tar xzf /mnt/fastport.tar.gz -C /root
cd /root/fastport-*
cat doc/source
list() { find /etc /usr/local /var/lib -xdev \( -name '*fastport*' -o -path '*fastport/*' \) | sort; }
list >/run/before
# as on a distribution that gives serial lines to another group
groupdel dialout
./install.sh
systemctl is-active fastportd
systemctl is-enabled fastportd
systemctl show -P ExecStart fastportd | grep -o 'path=[^ ]*'
stat -c '%n %U %G %a' /etc/fastport /var/lib/fastport
/usr/local/bin/fastport pub install/works yes --counted --wait taken --timeout 20s
echo '# changed here' >>/etc/fastport/gateway.toml
before=$(pid)
./install.sh >/dev/null
[ "$(pid)" != "$before" ]
systemctl is-active --quiet fastportd
./install.sh uninstall
no systemctl is-active fastportd
no test -e /usr/local/bin/fastportd
grep -q 'changed here' /etc/fastport/gateway.toml
./install.sh purge
list | cmp - /run/before && echo 'no trace'

ROOT=/root/image PREFIX=/usr ./install.sh
cd /root/image
ls usr/bin/fastportd usr/share/man/man8/fastportd.8 etc/fastport/gateway.toml etc/sysusers.d/fastport.conf
grep ExecStart= etc/systemd/system/multi-user.target.wants/fastportd.service
"#;
    let dist = tempfile::tempdir().expect("a temporary folder");
    script("tools/tarball.sh", dist.path(), &["x86_64-unknown-linux-musl"], "0.0.1");
    let archive = dist.path().join("fastport-0.0.1-x86_64-unknown-linux-musl.tar.gz");
    container_has_its_files(&archive);
    let bound = [(&*archive, "/mnt/fastport.tar.gz")];
    let Some(text) = under_systemd("tarball", scenario, &bound) else { return };
    for word in [
        // its programs were given to tools/tarball.sh
        "unknown\n",
        "active\nenabled\npath=/usr/local/bin/fastportd\n",
        "/etc/fastport root fastport 750\n",
        "/var/lib/fastport fastport fastport 750\n",
        "no trace\n",
        "etc/sysusers.d/fastport.conf\n",
        "ExecStart=/usr/bin/fastportd --config /etc/fastport/gateway.toml\n",
    ] {
        assert!(text.contains(word), "{word:?} is missing:\n{text}");
    }
}

/// Each path that the Dockerfile copies is in the archive, which is what it is built from.
fn container_has_its_files(archive: &Path) {
    let output = Command::new("tar").arg("tzf").arg(archive).output().expect("there is a tar");
    let list = String::from_utf8_lossy(&output.stdout);
    let files: Vec<_> = list
        .lines()
        .filter_map(|path| path.split_once('/'))
        .map(|(_, path)| path.trim_end_matches('/'))
        .collect();
    let recipe = std::fs::read_to_string(root().join("Dockerfile")).expect("it is there");
    let mut copied = 0;
    for line in recipe.lines().filter_map(|line| line.strip_prefix("COPY ")) {
        let words: Vec<_> = line.split(' ').filter(|word| !word.starts_with("--")).collect();
        let (_, sources) = words.split_last().expect("a COPY has a destination");
        for source in sources {
            assert!(files.contains(source), "{source} is not in {}", archive.display());
            copied += 1;
        }
    }
    assert!(copied >= 4, "{copied}");
}
