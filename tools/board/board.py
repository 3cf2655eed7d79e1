"""The proof on a booted board: the package under load, over hangs of the daemon and of the machine.

    board.py FOLDER RUN PROGRAMS SCRIPTS TRANSCRIPT PACKAGE

FOLDER has kernel and root, RUN the initrd and the keys of this run, PROGRAMS the host's own build; each file of
SCRIPTS is run in the machine at the end. PACKAGE is said of the package in the transcript's first line.
tools/board-test.sh prepares all that.
"""

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time

from machine import Late, Machine

CENTRAL = """
[daemon]
state = "{run}/central"

[board]
enabled = false

[limits]
linger = "1h"

[[listen]]
kind = "tcp"
address = "127.0.0.1:{plain}"

[[listen]]
kind = "tls"
address = "127.0.0.1:{tls}"
certificate = "{run}/central.pem"
key = "{run}/central.key"

[access]
credentials = "{run}/credentials.toml"

[[session]]
name = "demo"
open = true

[central]
enabled = true
"""


class Test:
    """The host's side: its central instance, its publishers, and what they find."""

    def __init__(self, folder, run, programs, transcript, package):
        self.began = time.monotonic()
        self.file = open(transcript, "w", encoding="utf-8")
        self.log(f"package {package}")
        self.run_folder, self.programs = run, programs
        port = int(os.environ["BOARD_PORT"])
        self.plain, self.tls, self.board = port, port + 1, f"tcp://127.0.0.1:{port + 2}"
        self.central = None
        self.machine = Machine(folder, run, {port + 2: 7470}, self.log)

    def log(self, text):
        line = f"{time.monotonic() - self.began:6.1f} {text}"
        print(line, flush=True)
        self.file.write(line + "\n")
        self.file.flush()

    def title(self, text):
        self.log("")
        self.log(f"== {text}")

    # --- the host's central instance and its tools

    def start_central(self):
        self.log("host# fastportd --config central.toml &")
        config = os.path.join(self.run_folder, "central.toml")
        with open(config, "w", encoding="utf-8") as file:
            file.write(CENTRAL.format(run=self.run_folder, plain=self.plain, tls=self.tls))
        os.makedirs(f"{self.run_folder}/central", exist_ok=True)
        with open(f"{self.run_folder}/central.log", "a", encoding="utf-8") as out:
            self.central = subprocess.Popen(
                [f"{self.programs}/fastportd", "--config", config], stdin=subprocess.DEVNULL, stderr=out
            )

    def stop_central(self):
        self.log("host# kill -TERM %central")
        self.central.terminate()
        self.central.wait(30)

    def tool(self, url, words, lines=None):
        """Starts the tool on the host; `lines` are what it reads, one each 20 ms."""
        self.log(f"host# fastport --url {url} {' '.join(words)}")
        process = subprocess.Popen(
            [f"{self.programs}/fastport", "--url", url, "--connect-timeout", "60s", *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for line in lines or ():
            process.stdin.write(f"{line}\n")
            process.stdin.flush()
            time.sleep(0.02)
        return process

    def finish(self, process, seconds):
        output, _ = process.communicate(timeout=seconds)
        for line in output.splitlines():
            self.log(line)
        if process.returncode:
            raise Late(f"the tool on the host ended with {process.returncode}")
        return output

    def publish(self, topic, first, last, wait, seconds):
        """Publishes numbers at the board, one each 20 ms, and waits until they are where they are to be."""
        words = ["pub", topic, "--lines", "--wait", wait, "--timeout", f"{seconds}s"]
        process = self.tool(self.board, words, range(first, last + 1))
        self.finish(process, seconds + 30)
        self.log(f"{last - first + 1} messages published, {wait}")

    def stored(self, topic):
        """What the central instance has stored of a topic of the board, in order."""
        path = f"file:{self.run_folder}/central/central.db?mode=ro"
        store = sqlite3.connect(path, uri=True, timeout=10)
        try:
            query = "SELECT payload FROM messages WHERE topic = ? ORDER BY id"
            rows = store.execute(query, (f"gateways/board/{topic}",))
            return [int(bytes(row[0])) for row in rows]
        finally:
            store.close()

    def expect_stored(self, topic, last, seconds):
        """Each of 1 to `last` came once and in order."""
        until = time.monotonic() + seconds
        while len(self.stored(topic)) < last and time.monotonic() < until:
            time.sleep(0.5)
        found = self.stored(topic)
        if found != list(range(1, last + 1)):
            missing = sorted(set(range(1, last + 1)) - set(found))
            raise Late(f"{topic}: {len(found)} stored of {last}, missing {missing[:20]}")
        self.log(f"central.db: {topic}: {last} stored, each once and in order")

    # --- the board

    def until(self, command, seconds):
        """Runs a command on the board until it succeeds."""
        loop = f"for n in $(seq {seconds}); do if {command}; then break; fi; sleep 1; done; {command}"
        return self.machine.run(loop, seconds * 2 + 30, is_shown=False)

    def until_linked(self):
        self.until("fastport uplink status | grep -q ': ready for'", 180)
        self.machine.run("fastport uplink status")

    def install(self):
        self.title("the package")
        self.machine.wait_for_shell(1, 600)
        run = self.machine.run
        run("uname -srm; nproc; grep MemTotal /proc/meminfo; systemctl --version | head -n 1")
        run("dpkg -i /root/board/fastport.deb", 600)
        run("install -m 640 -g fastport /root/board/gateway.key /root/board/central.pem /etc/fastport/")
        run("cp /root/board/gateway.toml /etc/fastport/ && cat /etc/fastport/gateway.toml")
        run("STATE_DIRECTORY=/var/lib/fastport fastportd --check --config /etc/fastport/gateway.toml")

    def start(self):
        self.title("the service, from start to READY, with an uplink over TLS")
        run = self.machine.run
        run("systemctl restart fastportd", 240)
        self.watch_memory()
        run("systemctl is-active fastportd; systemctl is-enabled fastportd")
        run("/root/board/ready-time")
        self.until_linked()
        score = run("systemd-analyze security --no-pager fastportd | tail -n 1")
        self.expect_at_most("exposure", re.search(r": ([0-9.]+) ", score), 1.5)

    def watch_memory(self):
        """Until the machine is reset, over restarts of the daemon."""
        self.machine.run("/root/board/watch-memory >/dev/null 2>&1 &", is_shown=False)

    def expect_memory(self):
        """The most that it had since it is watched, with the uplink up, is within what is promised."""
        self.until("[ -s /run/memory ]", 60)
        memory = self.machine.run("cat /run/memory")
        self.expect_at_most("KiB of PSS", re.search(r"most PSS so far: (\d+) KiB", memory), 6144)

    def expect_at_most(self, what, found, limit):
        if not found or float(found.group(1)) > limit:
            raise Late(f"{what}: {found.group(1) if found else 'no figure'}, at most {limit} is promised")
        self.log(f"{found.group(1)} of at most {limit} {what}")

    def exchange(self):
        self.title("messages of the host arrive, and a command comes down")
        self.publish("sensors/host", 1, 500, "central", 300)
        self.expect_stored("sensors/host", 500, 120)
        run = self.machine.run
        run("fastport sub 'commands/#' --count 1 --timeout 240s >/run/command 2>&1 &")
        self.until("fastport status | grep -q 'sessions.demo.peers *[3-9]'", 120)
        central = f"tcp://127.0.0.1:{self.plain}"
        self.finish(self.tool(central, ["pub", "gateways/board/commands/lamp", "on", "--counted"]), 240)
        self.until("grep -q lamp /run/command", 120)
        run("cat /run/command")
        self.expect_memory()

    def hang(self):
        self.title("the daemon is stopped (SIGSTOP) while the host publishes")
        topic, words = "sensors/hang", ["--lines", "--wait", "central", "--timeout", "600s"]
        process = self.tool(self.board, ["pub", topic, *words], range(1, 201))
        self.machine.run("kill -STOP $(systemctl show -P MainPID fastportd)")
        for number in range(201, 401):
            process.stdin.write(f"{number}\n")
        process.stdin.flush()
        self.log("400 messages published, half of them to a daemon that stands still")
        self.until("[ $(systemctl show -P NRestarts fastportd) = 1 ] && systemctl is-active -q fastportd", 240)
        self.machine.run("journalctl -o short --no-hostname --no-pager -u fastportd | grep -E 'atchdog|last run|READY|ready|journal ends'")
        self.finish(process, 600)
        self.expect_stored(topic, 400, 120)
        self.expect_memory()

    def freeze(self):
        self.title("the central instance is away; PID 1 freezes; the hardware watchdog resets the machine")
        self.stop_central()
        self.publish("sensors/freeze", 1, 400, "taken", 300)
        self.machine.run("fastport uplink status | grep -E ':|waiting'")
        # the daemon goes on for the twenty seconds up to the reset: what is on its way to the disk comes there
        self.machine.run("cat /proc/sys/kernel/random/boot_id; cat /proc/uptime")
        self.machine.begin("kill -SEGV 1")
        self.machine.wait("the hardware watchdog", lambda: self.machine.watchdogs, 180)
        self.machine.wait_for_shell(2, 600)
        self.log("the machine is up again, by itself")
        self.until("systemctl is-active -q fastportd", 240)
        self.watch_memory()
        run = self.machine.run
        run("cat /proc/sys/kernel/random/boot_id; cat /proc/uptime")
        run("journalctl -o short --no-hostname --no-pager -u fastportd | grep -E 'last run|journal ends|ready'")
        self.start_central()
        self.until_linked()
        self.expect_stored("sensors/freeze", 400, 240)
        self.publish("sensors/after", 1, 50, "central", 300)
        self.expect_stored("sensors/after", 50, 120)
        self.expect_memory()

    def scripts(self, folder):
        for name in sorted(os.listdir(folder)):
            self.title(name)
            self.machine.run(f"bash /root/board/guest.d/{name}", int(os.environ.get("SCRIPT_SECONDS", "300")))


def main():
    folder, run, programs, scripts, transcript, package = sys.argv[1:]
    # by timeout(1): QEMU and the central instance end with this
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("out of time"))
    test = Test(folder, run, programs, transcript, package)
    try:
        test.start_central()
        test.install()
        test.start()
        test.exchange()
        test.hang()
        test.freeze()
        test.scripts(scripts)
        test.title(f"all of it in {time.monotonic() - test.began:.0f} s")
    except (Late, subprocess.TimeoutExpired) as error:
        test.log(f"FAILED: {error}")
        try:
            test.machine.run("journalctl --no-pager -n 40 -u fastportd", 60, may_fail=True)
        except Late:
            pass
        return 1
    finally:
        test.machine.end()
        if test.central and test.central.poll() is None:
            test.central.kill()
    return 0


sys.exit(main())
