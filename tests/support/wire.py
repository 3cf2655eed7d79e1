"""A wire between two network namespaces that delays, loses, doubles, reorders and resets as told.

What `tc netem` does, for kernels without it: a TUN device in each namespace, and this process
between them. Usage, as root:

    wire.py NAMESPACE-A ADDRESS-A NAMESPACE-B ADDRESS-B

Addresses are IPv4, with a prefix that both share. In A, IPv6 leads into the wire too, and ends there.
Each line of the standard input is a JSON object that says how the wire is from now on; "ok" is
printed when it is so. Its keys are `ab` and `ba`, each an object for one direction, both optional:

    delay_ms, jitter_ms   how long a packet takes; jitter reorders
    loss, duplicate       the share of packets that are lost, or come twice, 0 to 1
    rate_kbit             how fast it is; up to 16 KiB wait, more is dropped
    reset                 true: TCP segments are answered by RST instead, on both sides
"""

import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
QUEUE_BYTES = 16 * 1024
TCP, RST, ACK, SYN = 6, 0x04, 0x10, 0x02


def run(*command):
    subprocess.run(command, check=True)


def open_tun(namespace, address, with_ipv6):
    name = f"fp{os.getpid() % 100000}{'a' if with_ipv6 else 'b'}"
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    run("ip", "link", "set", name, "netns", namespace)
    run("ip", "-n", namespace, "address", "add", address, "dev", name)
    run("ip", "-n", namespace, "link", "set", name, "up")
    run("ip", "-n", namespace, "link", "set", "lo", "up")
    if with_ipv6:
        run("ip", "-n", namespace, "address", "add", "fd77::1/64", "dev", name, "nodad")
        run("ip", "-n", namespace, "route", "add", "default", "dev", name)
    return tun


class Way:
    """One direction."""

    def __init__(self, out, back):
        self.out, self.back = out, back
        self.waiting, self.order = [], 0
        self.rule, self.free_at, self.queued = {}, 0.0, 0

    def take(self, packet, now):
        rule = self.rule
        if packet[0] >> 4 != 4:
            return
        if rule.get("reset"):
            answer_with_resets(packet, self.out, self.back)
            return
        for _ in range(2 if random.random() < rule.get("duplicate", 0) else 1):
            if random.random() >= rule.get("loss", 0):
                self.send(packet, now)

    def send(self, packet, now):
        start = now
        if "rate_kbit" in self.rule:
            if self.queued + len(packet) > QUEUE_BYTES:
                return
            start = max(now, self.free_at)
            self.free_at = start + len(packet) * 8 / (self.rule["rate_kbit"] * 1000)
            start = self.free_at
        delay = self.rule.get("delay_ms", 0) + random.random() * self.rule.get("jitter_ms", 0)
        self.order += 1
        self.queued += len(packet)
        heapq.heappush(self.waiting, (start + delay / 1000, self.order, packet))

    def deliver(self, now):
        while self.waiting and self.waiting[0][0] <= now:
            packet = heapq.heappop(self.waiting)[2]
            self.queued -= len(packet)
            write(self.out, packet)


def write(tun, packet):
    try:
        os.write(tun, packet)
    except OSError:
        pass  # a full queue loses packets, as wires do


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def answer_with_resets(packet, out, back):
    """RST to both ends of a TCP segment's connection (RFC 9293, section 3.10.7)."""
    head = (packet[0] & 15) * 4
    if packet[9] != TCP or len(packet) < head + 20:
        return
    source, target = packet[12:16], packet[16:20]
    tcp = packet[head:]
    sport, dport, seq, ack, offset, flags = struct.unpack("!HHIIBB", tcp[:14])
    if flags & RST:
        return
    length = len(tcp) - (offset >> 4) * 4 + (1 if flags & SYN else 0)
    if flags & ACK:
        reset(back, target, source, dport, sport, ack, 0, RST)
        reset(out, source, target, sport, dport, seq, 0, RST)
    else:
        reset(back, target, source, dport, sport, 0, (seq + length) & 0xFFFFFFFF, RST | ACK)


def reset(tun, source, target, sport, dport, seq, ack, flags):
    tcp = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 5 << 4, flags, 0, 0, 0)
    pseudo = source + target + struct.pack("!BBH", 0, TCP, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, TCP, 0) + source + target
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    write(tun, ip + tcp)


def main():
    namespace_a, address_a, namespace_b, address_b = sys.argv[1:]
    a, b = open_tun(namespace_a, address_a, True), open_tun(namespace_b, address_b, False)
    ways = {a: Way(b, a), b: Way(a, b)}
    print("ok", flush=True)
    heard = b""
    while True:
        now = time.monotonic()
        due = [way.waiting[0][0] for way in ways.values() if way.waiting]
        pause = max(0, min(due) - now) if due else None
        ready = select.select([a, b, 0], [], [], pause)[0]
        now = time.monotonic()
        if 0 in ready:
            more = os.read(0, 65536)
            if not more:
                return
            *lines, heard = (heard + more).split(b"\n")
            for line in lines:
                told = json.loads(line)
                ways[a].rule, ways[b].rule = told.get("ab", {}), told.get("ba", {})
                print("ok", flush=True)
        for tun in (a, b):
            try:
                while tun in ready:
                    ways[tun].take(os.read(tun, 65536), now)
            except BlockingIOError:
                pass
            ways[tun].deliver(time.monotonic())


main()
