"""An emulated arm64 machine with a hardware watchdog, driven over its serial console."""

import codecs
import json
import os
import re
import socket
import subprocess
import threading
import time


class Late(Exception):
    """Something did not happen within its time."""


class Machine:
    """Starts QEMU; everything that its console says goes to `log`, and every wait has a bound."""

    def __init__(self, folder, run, ports, log):
        self.log = log
        self.text = ""
        self.news = threading.Condition()
        self.watchdogs = 0
        self.number = 0
        qmp = os.path.join(run, "qmp")
        forwards = "".join(f",hostfwd=tcp:127.0.0.1:{port}-:{inner}" for port, inner in ports.items())
        self.process = subprocess.Popen(
            [
                "qemu-system-aarch64", "-M", "virt,gic-version=2", "-cpu", "cortex-a53", "-smp", "2", "-m", "512",
                "-accel", "tcg,thread=multi", "-nodefaults", "-display", "none", "-monitor", "none",
                "-serial", "stdio", "-qmp", f"unix:{qmp},server=on,wait=off",
                "-device", "i6300esb", "-action", "watchdog=reset",
                # written to until QEMU ends, and over resets; the file itself stays as it is
                "-drive", f"file={folder}/root.ext4,format=raw,if=none,id=disk,snapshot=on",
                "-device", "virtio-blk-pci,drive=disk",
                "-netdev", "user,id=net" + forwards, "-device", "virtio-net-pci,netdev=net,romfile=",
                "-kernel", f"{folder}/vmlinuz", "-initrd", f"{run}/initrd",
                "-append", "console=ttyAMA0 loglevel=4 panic=5 apparmor=0 audit=0 systemd.show_status=0",
            ],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._watch, args=(qmp,), daemon=True).start()

    def _listen(self):
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        while piece := os.read(self.process.stdout.fileno(), 4096):
            with self.news:
                self.text += decode(piece).replace("\r", "")
                self.news.notify_all()

    def _watch(self, path):
        until = time.monotonic() + 30
        events = socket.socket(socket.AF_UNIX)
        while True:
            try:
                events.connect(path)
                break
            except OSError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        events.sendall(b'{"execute":"qmp_capabilities"}\n')
        for line in events.makefile():
            if json.loads(line).get("event") == "WATCHDOG":
                self.log(f"[qemu] {line.strip()}")
                with self.news:
                    self.watchdogs += 1
                    self.news.notify_all()

    def wait(self, what, is_so, seconds):
        """Waits until `is_so()` is true; its value."""
        with self.news:
            if not self.news.wait_for(lambda: is_so() or self.process.poll() is not None, seconds):
                raise Late(f"{what}: not within {seconds} s; the console's end:\n{self.text[-3000:]}")
            value = is_so()
        if not value:
            raise Late(f"{what}: QEMU has ended; the console's end:\n{self.text[-3000:]}")
        return value

    def wait_for_shell(self, times, seconds):
        """Waits until the shell on the console has started that often."""
        self.wait("the shell", lambda: self.text.count("board: a shell") >= times, seconds)

    def run(self, command, seconds=240, is_shown=True, may_fail=False):
        """Runs a command in the machine; what it printed."""
        self.number += 1
        mark = f"<{self.number}:"
        start = len(self.text)
        # by way of a file, since programs speak differently to a terminal; and the mark is put together over
        # there, so that an echo is not taken for it
        line = (
            f"{{ {command}\n}} </dev/null >/run/output 2>&1; status=$?; cat /run/output; echo; "
            f'echo "<"{self.number}:$status">"\n'
        )
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()
        found = self.wait(command, lambda: re.search(mark + r"(\d+)>", self.text[start:]), seconds)
        output = self.text[start:start + found.start()].strip("\n")
        # the kernel speaks on the same line
        output = re.sub(r"(?m)^\[ *\d+\.\d+\] .*\n?", "", output)
        if is_shown:
            self.log(f"board# {command}")
            for text in output.splitlines():
                self.log(text)
        if found.group(1) != "0" and not may_fail:
            raise Late(f"{command}: status {found.group(1)}\n{output}")
        return output

    def begin(self, command):
        """Runs a command that the machine does not outlive."""
        self.log(f"board# {command}")
        self.process.stdin.write(f"{command}\n".encode())
        self.process.stdin.flush()

    def end(self):
        """Ends QEMU."""
        self.process.kill()
        self.process.wait()
