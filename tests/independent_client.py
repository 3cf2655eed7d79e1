"""A client of another making: written from docs/protocol.md alone, with Python's standard library.

    independent_client.py TCP_HOST:PORT WEBSOCKET_HOST:PORT [SCENARIO ...]

Runs the scenarios, or those that are named, against a running relay and says `ok NAME` for each, or
`FAILED NAME` and ends with what is wrong. The sessions `demo` (open, retaining five messages of a
topic or more) and `locked` (identity `pump-1`, the key below, which may publish on `pumps/pump-1/#`)
must be there. tests/independent_client.rs starts such a relay.
"""

import base64
import hashlib
import hmac
import json
import os
import socket
import sys
import time

KEY = bytes(range(32))
TIMEOUT = 30

CONTROL, DATA, ACK, TIME, PING, TOPIC, CHUNK, CREDIT, GAP = range(1, 10)
COUNTED, KEEP, SEALED, READINGS = 1, 2, 4, 8

OPS = [
    "hello", "challenge", "proof", "welcome", "open", "close-topic", "subscribe", "unsubscribe",
    "history", "offer", "accept", "decline", "cancel", "create-session", "error", "bye", "ok",
    "emit", "status",
]
KEYS = [
    "op", "request", "session", "topic", "id", "code", "text", "version", "method", "identity",
    "nonce", "proof", "epoch", "taken", "flags", "when_full", "keepalive", "count", "age",
    "schema", "data", "clock", "payload_limit", "retry", "name", "size", "offset", "digest",
    "tier", "linger", "resumed", "stream",
]
CODES = dict(enumerate([
    None, "bad-frame", "frame-too-long", "bad-control", "unknown-message", "bad-json",
    "unexpected", "bad-version", "handshake-timeout", "not-authenticated", "method-not-allowed",
    "forbidden", "bad-topic", "unknown-id", "payload-too-long", "bad-ack", "limit-reached",
    "rate-limited", "tier-not-offered", "conflict", "unavailable", "bad-readings",
    "unsealed", "no-space", "damaged",
]))
REASONS = ["done", "shutting-down", "replaced", "silent", "too-slow", "removed", "after-error"]
SUPERSEDED, OVERFLOW, READER_GONE, LINK_LOST = 0, 1, 4, 5
DROP_OLDEST, LATEST, HOLD, CLOSE = range(4)


def leb(number):
    out = bytearray()
    while True:
        out.append(number & 0x7F | (0x80 if number > 0x7F else 0))
        number >>= 7
        if not number:
            return bytes(out)


def unleb(body, at):
    value = shift = 0
    while True:
        byte = body[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def frame(kind, flags=0, body=b""):
    return bytes([kind << 4 | flags]) + leb(len(body)) + body


def cbor_head(major, number):
    for size, code in ((1, 24), (2, 25), (4, 26), (8, 27)):
        if number < 24:
            return bytes([major << 5 | number])
        if number < 1 << 8 * size:
            return bytes([major << 5 | code]) + number.to_bytes(size, "big")
    raise ValueError(number)


def cbor(value):
    if value is True or value is False:
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return cbor_head(0, value)
    if isinstance(value, bytes):
        return cbor_head(2, len(value)) + value
    if isinstance(value, str):
        return cbor_head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return cbor_head(4, len(value)) + b"".join(map(cbor, value))
    pairs = b"".join(cbor(key) + cbor(value[key]) for key in sorted(value))
    return cbor_head(5, len(value)) + pairs


def uncbor(body, at=0):
    major, low = body[at] >> 5, body[at] & 31
    at += 1
    if major == 7:
        return {20: False, 21: True}[low], at
    if low >= 24:
        size = 1 << low - 24
        low, at = int.from_bytes(body[at:at + size], "big"), at + size
    if major == 0:
        return low, at
    if major in (2, 3):
        text = body[at:at + low]
        return (text.decode() if major == 3 else text), at + low
    assert major == 5, f"a map, not {body.hex()}"
    pairs = {}
    for _ in range(low):
        key, at = uncbor(body, at)
        assert key not in pairs, "a key twice"
        pairs[key], at = uncbor(body, at)
    return pairs, at


def control(op, **keys):
    message = {KEYS.index(key): value for key, value in keys.items() if value is not None}
    return frame(CONTROL, 0, cbor({0: OPS.index(op), **message}))


class Closed(Exception):
    """The relay closed the connection."""


class Stream:
    """Bytes over TCP."""

    def __init__(self, address, receive_buffer=None):
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(TIMEOUT)
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def more(self):
        try:
            data = self.socket.recv(65536)
        except ConnectionError:
            raise Closed from None
        if not data:
            raise Closed
        self.buffer += data

    def take(self, length):
        while len(self.buffer) < length:
            self.more()
        taken, self.buffer = self.buffer[:length], self.buffer[length:]
        return taken

    def frame(self):
        """The next frame: type, flags, body."""
        first = self.take(1)[0]
        if first == 0:
            return self.frame()
        length = shift = 0
        while True:
            byte = self.take(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return first >> 4, first & 15, self.take(length)

    def close(self):
        self.socket.close()


class WebSocket(Stream):
    """RFC 6455, as much of it as a client needs."""

    def __init__(self, address):
        super().__init__(address)
        key = base64.b64encode(os.urandom(16)).decode()
        request = [
            "GET / HTTP/1.1", f"Host: {address[0]}:{address[1]}", "Upgrade: websocket",
            "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Protocol: fastport.2", "", "",
        ]
        self.send("\r\n".join(request).encode())
        while b"\r\n\r\n" not in self.buffer:
            self.more()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode().split("\r\n")
        assert " 101 " in lines[0], lines
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
        accept = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
        assert headers["sec-websocket-accept"] == base64.b64encode(accept).decode()
        assert headers["sec-websocket-protocol"] == "fastport.2"
        self.pings = 0

    def write(self, opcode, payload):
        mask = os.urandom(4)
        length = len(payload)
        if length < 126:
            head = bytes([0x80 | opcode, 0x80 | length])
        else:
            head = bytes([0x80 | opcode, 0x80 | 126]) + length.to_bytes(2, "big")
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        self.send(head + mask + masked)

    def read(self):
        """The next message: `str`, or `bytes`."""
        first, length = self.take(2)
        if length >= 126:
            length = int.from_bytes(self.take(2 if length == 126 else 8), "big")
        payload = self.take(length)
        assert first & 0x80, "this relay sends no fragments"
        match first & 15:
            case 1:
                return payload.decode()
            case 2:
                return payload
            case 8:
                raise Closed
            case 9:
                self.pings += 1
                self.write(10, payload)
        return self.read()

    def say(self, **message):
        self.write(1, json.dumps(message).encode())

    def hear(self, op=None, **expected):
        message = self.read()
        assert isinstance(message, str), f"text, not {message!r}"
        message = json.loads(message)
        if op:
            expected["op"] = op
            assert {key: message.get(key) for key in expected} == expected, (message, expected)
        return message


class Peer:
    """A peer over frames; it holds what it has to hold to come back."""

    def __init__(self, address, session="demo", epoch=None, **hello):
        self.address, self.session, self.wishes = address, session, hello
        self.epoch = int.from_bytes(os.urandom(8), "big") if epoch is None else epoch
        self.taken = 0
        self.requests = 0
        self.sent = []  # counted frames that are not acknowledged: (number, bytes)
        self.count = 0  # counted frames sent in the epoch
        self.ids = {}
        self.schemas = {}
        self.clock = None
        self.link = None

    def connect(self, receive_buffer=None, **more):
        self.link = Stream(self.address, receive_buffer)
        self.names = {}  # of this link
        self.clock = None
        hello = {**self.wishes, **more}
        taken = self.taken or None
        self.say("hello", version=2, session=self.session, epoch=self.epoch, taken=taken, **hello)
        return self

    def welcome(self):
        message = self.control("welcome")
        assert message["version"] == 2, message
        if message["resumed"]:
            for number, data in self.sent:
                if number > message["taken"]:
                    self.link.send(data)
            self.sent = [(number, data) for number, data in self.sent if number > message["taken"]]
        else:
            assert message["taken"] == 0, message
            self.taken = self.count = 0
            self.sent, self.ids = [], {}
        self.limit = message["payload_limit"]
        return message

    def join(self, **more):
        self.connect(**more).welcome()
        return self

    def say(self, op, **keys):
        self.link.send(control(op, **keys))

    def next(self, wants_acks=False, wants_pings=False):
        """What comes next that is not for the client itself: (kind, ...)."""
        while True:
            kind, flags, body = self.link.frame()
            if kind == CONTROL:
                message, end = uncbor(body)
                assert end == len(body)
                message = {KEYS[key]: value for key, value in message.items()}
                message["op"] = OPS[message["op"]]
                return ("control", message)
            if kind == DATA:
                topic, at = unleb(body, 0)
                assert topic in self.names, f"DATA of {topic} before its TOPIC"
                self.taken += flags & COUNTED
                return ("data", self.names[topic], flags, body[at:])
            if kind == TOPIC:
                topic, at = unleb(body, 0)
                length, at = unleb(body, at)
                self.names[topic] = body[at:at + length].decode()
                schema = body[at + length:]
                assert bool(schema) == bool(flags & READINGS)
                self.schemas[topic] = schema
            elif kind == ACK:
                taken, at = unleb(body, 0)
                more = []
                while at < len(body):
                    number, at = unleb(body, at)
                    more.append(number)
                assert taken <= self.count, "acknowledged what was not sent"
                self.sent = [(number, data) for number, data in self.sent if number > taken]
                if wants_acks:
                    return ("ack", flags, taken, *more)
            elif kind == TIME:
                self.clock, _ = unleb(body, 0)
            elif kind == PING and not flags:
                if wants_pings:
                    return ("ping", body)
                self.link.send(frame(PING, 1, body))
            elif kind == PING:
                return ("pong", body)
            elif kind == GAP:
                topic, at = unleb(body, 0)
                count, at = unleb(body, at)
                assert not topic or topic in self.names, "GAP before its TOPIC"
                return ("gap", self.names.get(topic), count, body[at])
            else:
                raise AssertionError(f"frame of type {kind}")

    def control(self, op):
        what, message, *_ = self.next()
        assert what == "control" and message["op"] == op, (op, what, message)
        return message

    def ask(self, op, **keys):
        """A request; its answer, and what came before it."""
        self.requests += 1
        self.say(op, request=self.requests, **keys)
        return self.answer(self.requests)

    def answer(self, request):
        before = []
        while True:
            got = self.next()
            if got[0] == "control" and got[1]["op"] in ("ok", "error"):
                message = got[1]
                assert message.get("request") == request, (request, message)
                return message, before
            before.append(got)

    def ok(self, op, **keys):
        message, before = self.ask(op, **keys)
        assert message["op"] == "ok", message
        return message, before

    def refused(self, code, op, **keys):
        message, _ = self.ask(op, **keys)
        assert message["op"] == "error" and CODES[message["code"]] == code, (code, message)

    def open(self, topic, **keys):
        message, _ = self.ok("open", topic=topic, **keys)
        self.ids[topic] = message["id"]
        assert self.names[message["id"]] == topic, "TOPIC comes before OK"
        return message["id"]

    def subscribe(self, topic, **keys):
        return self.ok("subscribe", topic=topic, **keys)

    def publish(self, topic, payload, flags=0):
        data = frame(DATA, flags, leb(self.ids[topic]) + payload)
        if flags & COUNTED:
            self.count += 1
            self.sent.append((self.count, data))
        self.link.send(data)

    def acknowledge(self):
        self.link.send(frame(ACK, 0, leb(self.taken)))

    def until_acknowledged(self):
        while self.sent:
            got = self.next(wants_acks=True)
            assert got[0] == "ack", got

    def flush(self):
        """The relay has read all that was sent."""
        token = os.urandom(4)
        self.link.send(frame(PING, 0, token))
        got = self.next()
        assert got == ("pong", token), got

    def flush_reading(self, got):
        """As flush, but deliveries come before the answer."""
        self.link.send(frame(PING, 0, b"r"))
        while (one := self.next()) != ("pong", b"r"):
            got.append(one[3])

    def data(self, count):
        got = [self.next() for _ in range(count)]
        assert all(one[0] == "data" for one in got), got
        return [one[3] for one in got]

    def cut(self):
        """Without a word."""
        self.link.close()

    def ends(self, code):
        """The relay ends the link with this ERROR."""
        while True:
            got = self.next()
            if got[0] == "control" and got[1]["op"] == "error" and "request" not in got[1]:
                break
        assert CODES[got[1]["code"]] == code, (code, got)
        self.is_over()
        return got[1]

    def bye(self, reason):
        while True:
            got = self.next()
            if got[0] == "control":
                break
        assert got[1]["op"] == "bye" and REASONS[got[1]["code"]] == reason, (reason, got)
        self.is_over()
        return got[1]

    def is_over(self):
        try:
            got = self.next()
        except Closed:
            return
        # behind its ERROR its sender may say this
        assert got[1]["op"] == "bye" and REASONS[got[1]["code"]] == "after-error", got
        self.is_over()


SCENARIOS = []


def scenario(run):
    SCENARIOS.append(run)
    return run


@scenario
def the_example_of_the_document(tcp, _ws):
    link = Stream(tcp)
    # HELLO of section 18, for the session `demo` instead of `home`
    link.send(bytes.fromhex("100da40000026464656d6f07020c07"))
    kind, flags, body = link.frame()
    assert (kind, flags) == (CONTROL, 0)
    welcome, _ = uncbor(body)
    assert (welcome[0], welcome[7], welcome[13], welcome[30]) == (3, 2, 0, False), welcome
    link.send(bytes.fromhex("100aa3000401010363612f62"))
    kind, flags, body = link.frame()
    topic, at = unleb(body, 0)
    assert (kind, flags, body[at:]) == (TOPIC, 0, b"\x03a/b")
    assert link.frame() == (CONTROL, 0, cbor({0: 16, 1: 1, 4: topic}))
    link.send(frame(DATA, 1, leb(topic) + b"hi") + frame(DATA, 0, leb(topic) + b"!"))
    assert link.frame() == (ACK, 0, b"\x01")
    link.send(bytes.fromhex("5000"))
    assert link.frame() == (PING, 1, b"")
    link.send(bytes.fromhex("1005a2000f0500"))
    try:
        raise AssertionError(link.frame())
    except Closed:
        pass


@scenario
def publish_and_subscribe(tcp, _ws):
    reader, publisher = Peer(tcp).join(), Peer(tcp).join()
    message, before = reader.subscribe("ps/+/temp")
    assert message["count"] == 0 and not before
    publisher.open("ps/a/temp")
    publisher.open("ps/a/other")
    publisher.publish("ps/a/temp", b"1", COUNTED)
    publisher.publish("ps/a/other", b"2", COUNTED)
    publisher.publish("ps/a/temp", b"3", COUNTED | SEALED)
    publisher.publish("ps/a/temp", b"4")
    publisher.until_acknowledged()
    got = [reader.next() for _ in range(3)]
    assert got == [
        ("data", "ps/a/temp", COUNTED, b"1"),
        ("data", "ps/a/temp", COUNTED | SEALED, b"3"),
        ("data", "ps/a/temp", 0, b"4"),
    ], got
    assert reader.taken == 2
    reader.acknowledge()
    reader.flush()
    # one delivery, however many filters; a second SUBSCRIBE replaces the first
    reader.subscribe("ps/#")
    reader.subscribe("ps/+/temp")
    publisher.publish("ps/a/temp", b"5")
    assert reader.data(1) == [b"5"]
    reader.ok("unsubscribe", topic="ps/#")
    reader.ok("unsubscribe", topic="ps/+/temp")
    # of what is not subscribed, too
    reader.ok("unsubscribe", topic="ps/+/temp")
    reader.refused("bad-topic", "unsubscribe", topic="a/#/b")
    publisher.publish("ps/a/temp", b"6")
    publisher.flush()
    reader.flush()


@scenario
def what_a_peer_publishes_itself(tcp, _ws):
    peer = Peer(tcp).join()
    peer.open("own/a")
    peer.subscribe("own/a")
    peer.publish("own/a", b"1")
    assert peer.data(1) == [b"1"]
    peer.subscribe("own/a", flags=1)
    peer.publish("own/a", b"2")
    peer.flush()


@scenario
def a_publisher_resumes(tcp, _ws):
    reader = Peer(tcp, when_full=HOLD, linger=30).join()
    reader.subscribe("resume/p")
    publisher = Peer(tcp, linger=30).join()
    publisher.open("resume/p")
    expected = []
    for round_ in range(20):
        for number in range(5):
            payload = b"%d.%d" % (round_, number)
            publisher.publish("resume/p", payload, COUNTED)
            expected.append(payload)
        # some of it may be lost with the link, and all acknowledgements
        publisher.cut()
        message = publisher.connect().welcome()
        assert message["resumed"] is True, message
        assert message["taken"] <= publisher.count
    publisher.until_acknowledged()
    assert reader.data(len(expected)) == expected
    publisher.publish("resume/p", b"end", COUNTED)
    assert reader.data(1) == [b"end"], "something came twice"
    publisher.say("bye", code=0)


@scenario
def a_reader_resumes(tcp, _ws):
    reader = Peer(tcp, when_full=HOLD, linger=30).join()
    reader.subscribe("resume/r/#")
    publisher = Peer(tcp).join()
    publisher.open("resume/r/1")
    publisher.open("resume/r/2")
    got, expected = [], []
    for round_ in range(20):
        for number in range(4):
            payload = b"%d.%d" % (round_, number)
            publisher.publish(f"resume/r/{1 + number % 2}", payload, COUNTED)
            expected.append(payload)
        publisher.until_acknowledged()
        got += reader.data(round_ % 3)
        if round_ % 2:
            reader.acknowledge()
            reader.flush_reading(got)
        reader.cut()
        message = reader.connect().welcome()
        assert message["resumed"] is True, message
    got += reader.data(len(expected) - len(got))
    assert got == expected
    publisher.publish("resume/r/1", b"end", COUNTED)
    assert reader.data(1) == [b"end"]


@scenario
def what_cannot_be_resumed_begins_anew(tcp, _ws):
    peer = Peer(tcp, linger=30)
    # an epoch that the relay does not know, whatever the count
    peer.taken = 7
    assert peer.connect().welcome()["resumed"] is False
    peer.open("anew/a")
    peer.flush()
    peer.cut()
    # a count that cannot be
    peer.taken = 99
    assert peer.connect().welcome()["resumed"] is False
    # its state is gone: nothing is open
    peer.link.send(frame(DATA, 0, b"\x01x"))
    peer.ends("unknown-id")
    # after BYE `done` nothing is held, after another BYE the state is
    peer.join()
    peer.open("anew/a")
    peer.say("bye", code=0)
    peer.is_over()
    assert peer.connect().welcome()["resumed"] is False
    peer.open("anew/a")
    peer.say("bye", code=1)
    peer.is_over()
    assert peer.connect().welcome()["resumed"] is True
    # nor without linger
    brief = Peer(tcp).join()
    brief.flush()
    brief.cut()
    assert brief.connect().welcome()["resumed"] is False


@scenario
def a_newer_link_replaces_an_older_one(tcp, _ws):
    old = Peer(tcp, name="board", linger=30).join()
    old.flush()
    new = Peer(tcp, name="board", linger=30).join()
    old.bye("replaced")
    # the same epoch: the state goes over
    new.open("replaced/a")
    newest = Peer(tcp, name="board", linger=30, epoch=new.epoch)
    newest.ids = new.ids
    newest.connect()
    message = newest.control("welcome")
    assert message["resumed"] is True, message
    new.bye("replaced")
    newest.publish("replaced/a", b"1", COUNTED)
    newest.until_acknowledged()


@scenario
def history_and_last_values(tcp, _ws):
    publisher = Peer(tcp, flags=1).join()
    for topic in ("past/a", "past/b", "past/none"):
        publisher.open(topic)
    for number in range(5):
        publisher.publish("past/a", b"a%d" % number, COUNTED | (KEEP if number == 3 else 0))
        publisher.publish("past/b", b"b%d" % number)
    publisher.flush_reading([])
    reader = Peer(tcp, flags=1).join()
    # not without asking
    message, before = reader.subscribe("past/+")
    assert [one[3] for one in before] == [b"a3"] and message["count"] == 1, before
    assert reader.clock, "TIME was asked for"
    message, before = reader.subscribe("past/+", flags=2)
    assert not before and message["count"] == 0
    message, before = reader.ok("history", topic="past/#", count=2)
    assert message["count"] == 4
    assert [one[3] for one in before if one[1] == "past/a"] == [b"a3", b"a4"], before
    assert [one[3] for one in before if one[1] == "past/b"] == [b"b3", b"b4"], before
    message, before = reader.ok("history", topic="past/a")
    assert [one[3] for one in before] == [b"a%d" % number for number in range(5)], before
    message, before = reader.ok("history", topic="past/a", age=60_000, count=1)
    assert [one[3] for one in before] == [b"a4"], before
    message, before = reader.ok("history", topic="nobody/ever")
    assert message["count"] == 0 and not before
    message, before = reader.subscribe("past/b", count=3)
    assert [one[3] for one in before] == [b"b2", b"b3", b"b4"] and message["count"] == 3
    # HISTORY needs no subscription, and makes none
    other = Peer(tcp).join()
    other.ok("history", topic="past/a", count=1)
    publisher.publish("past/a", b"live")
    publisher.flush()
    other.flush()
    assert reader.data(1) == [b"live"]


def flood(publisher, topic, messages, size, flags):
    for number in range(messages):
        publisher.publish(topic, number.to_bytes(4, "big") + bytes(size - 4), flags)


@scenario
def a_slow_reader_is_told_of_every_drop(tcp, _ws):
    for when_full, cause in ((DROP_OLDEST, OVERFLOW), (LATEST, SUPERSEDED)):
        reader = Peer(tcp, when_full=when_full).join(receive_buffer=4096)
        topic = f"slow/{when_full}"
        reader.subscribe(topic)
        publisher = Peer(tcp).join()
        publisher.open(topic)
        messages, size = 4000, 4000
        flood(publisher, topic, messages, size, 0)
        publisher.flush()
        delivered = dropped = 0
        last = -1
        while delivered + dropped < messages:
            got = reader.next()
            if got[0] == "gap":
                assert got[1] in (topic, None) and got[3] == cause, got
                dropped += got[2]
                last += got[2]
            else:
                number = int.from_bytes(got[3][:4], "big")
                assert number == last + 1, f"{number} after {last} without a GAP between"
                last, delivered = number, delivered + 1
        assert dropped > 0, "the reader was not slow"
        assert last == messages - 1
        publisher.publish(topic, b"end.")
        assert reader.data(1) == [b"end."]


@scenario
def a_slow_reader_that_holds_slows_its_publisher(tcp, _ws):
    reader = Peer(tcp, when_full=HOLD).join(receive_buffer=4096)
    reader.subscribe("slow/hold")
    publisher = Peer(tcp).join()
    publisher.open("slow/hold")
    messages, size = 4000, 4000
    # what the relay does not read waits here
    publisher.link.socket.setblocking(False)
    unsent = b"".join(
        frame(DATA, COUNTED, leb(publisher.ids["slow/hold"]) + number.to_bytes(4, "big")
              + bytes(size - 4))
        for number in range(messages)
    )
    reader.link.socket.settimeout(0.01)
    next_number, total, quiet = 0, 0, 0
    while total < len(unsent) and quiet < 20:
        try:
            total += publisher.link.socket.send(unsent[total:total + 65536])
            quiet = 0
        except BlockingIOError:
            quiet += 1
            time.sleep(0.01)
    assert total < len(unsent), "the publisher was not slowed"
    reader.link.socket.settimeout(TIMEOUT)
    while next_number < messages:
        try:
            while total < len(unsent):
                total += publisher.link.socket.send(unsent[total:total + 65536])
        except BlockingIOError:
            pass
        got = reader.next()
        assert got[0] == "data", got
        assert int.from_bytes(got[3][:4], "big") == next_number
        next_number += 1
        if next_number % 16 == 0:
            reader.acknowledge()


@scenario
def a_slow_reader_that_wants_it_is_closed(tcp, _ws):
    reader = Peer(tcp, when_full=CLOSE).join(receive_buffer=4096)
    reader.subscribe("slow/close")
    publisher = Peer(tcp).join()
    publisher.open("slow/close")
    flood(publisher, "slow/close", 4000, 4000, 0)
    publisher.flush()
    reader.bye("too-slow")


@scenario
def clocks(tcp, _ws):
    before = int(time.time() * 1000)
    peer = Peer(tcp, flags=1)
    message = peer.connect().welcome()
    assert message["clock"] >= before
    peer.open("clock/a")
    peer.subscribe("clock/a")
    peer.publish("clock/a", b"x")
    peer.data(1)
    assert before <= peer.clock <= int(time.time() * 1000)


@scenario
def tiers(tcp, _ws):
    peer = Peer(tcp, flags=6).join()
    peer.refused("tier-not-offered", "open", topic="tier/a", tier=1)
    peer.refused("tier-not-offered", "open", topic="tier/a", tier=2)
    peer.open("tier/a", tier=0)
    peer.publish("tier/a", b"x", COUNTED)
    # what is not promised is 0
    assert peer.next(wants_acks=True) == ("ack", 3, 1, 0, 0)


@scenario
def schemas(tcp, _ws):
    schema = bytes.fromhex("24fe0343656c")
    publisher, other, reader = Peer(tcp).join(), Peer(tcp).join(), Peer(tcp).join()
    reader.subscribe("schema/a")
    topic = publisher.open("schema/a", schema=schema)
    assert publisher.schemas[topic] == schema
    assert other.open("schema/a") == topic, "an id is the same for all"
    assert other.schemas[topic] == schema
    other.refused("conflict", "open", topic="schema/a", schema=bytes.fromhex("24ff0343656c"))
    other.refused("bad-readings", "open", topic="schema/b", schema=b"\xff")
    publisher.publish("schema/a", bytes.fromhex("b221"), READINGS)
    assert reader.next() == ("data", "schema/a", READINGS, bytes.fromhex("b221"))
    assert reader.schemas[topic] == schema


@scenario
def requests_and_answers(tcp, _ws):
    peer = Peer(tcp).join()
    # unknown keys are ignored, whatever they hold; padding is skipped
    peer.link.send(bytes(3) + frame(CONTROL, 0, cbor({0: 18, 1: 77, 99: [{"x": [b""]}], 100: "y"})))
    message, _ = peer.answer(77)
    json.loads(message["text"])
    # unknown messages are answered
    peer.link.send(frame(CONTROL, 0, cbor({0: 200, 1: 78})))
    assert CODES[peer.answer(78)[0]["code"]] == "unknown-message"
    peer.link.send(frame(CONTROL, 0, cbor({0: 200})))
    assert CODES[peer.answer(0)[0]["code"]] == "unknown-message"
    # a key is missing
    peer.link.send(frame(CONTROL, 0, cbor({0: 4, 1: 79})))
    assert CODES[peer.answer(79)[0]["code"]] == "bad-control"
    for topic in ("", "a//b", "a/", "a/+", "#", "a\x01", "x" * 256, "/".join("a" * 17)):
        peer.refused("bad-topic", "open", topic=topic)
    for topic in ("", "a/#/b", "a+/b", "a#"):
        peer.refused("bad-topic", "subscribe", topic=topic)
        peer.refused("bad-topic", "history", topic=topic)
    peer.refused("forbidden", "open", topic="$board/x")
    peer.refused("forbidden", "create-session", session="mine")
    # answers in the order of the requests
    peer.say("open", request=1001, topic="order/a")
    peer.say("subscribe", request=1002, topic="order/a")
    peer.say("unsubscribe", request=1003, topic="order/a")
    for request in (1001, 1002, 1003):
        assert peer.answer(request)[0]["op"] == "ok"
    peer.open("order/b")
    peer.ok("close-topic", id=peer.ids["order/b"])
    peer.refused("unknown-id", "close-topic", id=peer.ids["order/b"])
    peer.open("order/b")
    # without a request there is no answer
    peer.say("close-topic", id=peer.ids["order/b"])
    peer.flush()
    peer.publish("order/b", b"x")
    peer.ends("unknown-id")


@scenario
def emit(tcp, _ws):
    peer, reader = Peer(tcp).join(), Peer(tcp).join()
    reader.subscribe("emit/#")
    peer.say("emit", topic="emit/a", data=b"1")
    peer.ok("emit", topic="emit/a", data=b"2", flags=COUNTED | KEEP | SEALED)
    got = [reader.next() for _ in range(2)]
    assert got == [
        ("data", "emit/a", 0, b"1"), ("data", "emit/a", COUNTED | KEEP | SEALED, b"2"),
    ], got
    # not counted among the publisher's own
    peer.open("emit/a")
    peer.publish("emit/a", b"3", COUNTED)
    peer.until_acknowledged()
    peer.refused("forbidden", "emit", topic="$mine", data=b"")
    peer.refused("payload-too-long", "emit", topic="emit/a", data=bytes(peer.limit + 1))
    peer.ok("emit", topic="emit/" + "a" * 250, data=bytes(peer.limit))
    # without a request: 0 is answered, and the link goes on
    for code, topic, data in (
        ("bad-topic", "a//b", b""), ("forbidden", "$mine", b""),
        ("payload-too-long", "emit/a", bytes(peer.limit + 1)),
    ):
        peer.say("emit", topic=topic, data=data)
        message, _ = peer.answer(0)
        assert CODES[message["code"]] == code, (code, message)
    peer.flush()


@scenario
def a_stream_goes_through_and_its_ends_are_told(tcp, _ws):
    sender = Peer(tcp).join()
    receiver = Peer(tcp).join(flags=8)
    receiver.ok("subscribe", topic="files/a")
    sender.say("offer", topic="files/a", id=7, name="x.bin", size=3)
    offer = receiver.control("offer")
    assert (offer["topic"], offer["name"], offer["size"]) == ("files/a", "x.bin", 3)
    receiver.say("accept", id=offer["id"], offset=0)
    accept = sender.control("accept")
    assert (accept["id"], accept["offset"]) == (7, 0)
    stream = accept["stream"]
    receiver.link.send(frame(CREDIT, 0, leb(offer["id"]) + leb(1000)))
    kind, flags, body = sender.link.frame()
    assert (kind, flags, body) == (CREDIT, 0, leb(stream) + leb(3)), "no more than there is"
    sender.link.send(frame(CHUNK, 1, leb(stream) + leb(0) + b"abc"))
    kind, flags, body = receiver.link.frame()
    assert (kind, flags, body) == (CHUNK, 1, leb(offer["id"]) + leb(0) + b"abc")
    receiver.say("accept", id=offer["id"], offset=3)
    accept = sender.control("accept")
    assert (accept["id"], accept["offset"], accept["stream"]) == (7, 3, stream)
    sender.say("cancel", id=7, stream=0)
    assert receiver.control("cancel")["id"] == offer["id"]
    # what belongs to no stream is passed over, and a stream that is no more is said to be so
    for op in ("decline", "cancel"):
        receiver.say(op, id=99)
    for kind, body in ((CHUNK, leb(99) + leb(0) + b"abc"), (CREDIT, leb(99) + leb(1000))):
        receiver.link.send(frame(kind, 0, body))
    receiver.say("accept", id=99)
    message = receiver.control("cancel")
    assert (message["id"], CODES[message["code"]]) == (99, "unknown-id")
    receiver.flush()


@scenario
def what_ends_a_link(tcp, _ws):
    for code, data in (
        ("bad-frame", b"\xf0\x00"),
        ("bad-frame", b"\x13\x00"),
        ("bad-frame", b"\x20\x01\x00"),
        ("bad-frame", b"\x50\x81\x00"),
        ("frame-too-long", b"\x20\xff\xff\xff\x03"),
        ("frame-too-long", frame(PING, 0, bytes(17))),
        ("bad-control", frame(CONTROL, 0, b"\x80")),
        ("unexpected", frame(TIME, 0, b"\x01")),
        ("unexpected", frame(TOPIC, 0, b"\x01\x01a")),
        ("unexpected", frame(GAP, 0, b"\x00\x01\x01")),
        ("unexpected", control("hello", version=2, session="demo", epoch=1)),
        ("unexpected", control("ok", request=1)),
        ("unknown-id", frame(DATA, 0, b"\x05x")),
        ("bad-ack", frame(ACK, 0, b"\x01")),
        ("bad-ack", frame(ACK, 4, b"\x00")),
    ):
        peer = Peer(tcp).join()
        peer.link.send(data)
        peer.ends(code)
    peer = Peer(tcp).join()
    peer.open("ends/a")
    peer.publish("ends/a", bytes(peer.limit))
    peer.flush()
    peer.publish("ends/a", bytes(peer.limit + 1))
    peer.ends("payload-too-long")


@scenario
def handshakes(tcp, _ws):
    peer = Peer(tcp)
    for code, hello in (
        ("bad-version", dict(version=3, session="demo", epoch=1)),
        ("bad-control", dict(version=2, session="demo", epoch=1, method=9)),
        ("bad-control", dict(version=2, session="locked", epoch=1, method=2, identity="pump-1",
                             nonce=bytes(15))),
        ("bad-control", dict(version=2, session="x" * 65, epoch=1)),
        ("not-authenticated", dict(version=2, session="nowhere", epoch=1)),
    ):
        peer.link = Stream(tcp)
        peer.say("hello", **hello)
        message = peer.ends(code)
        if code == "bad-version":
            assert "2" in message["text"], "it names the versions there are"
    peer.link = Stream(tcp)
    peer.link.send(frame(PING))
    peer.ends("unexpected")


def transcript(session, identity, epoch, peer_nonce, relay_nonce):
    parts = (session.encode(), identity.encode(), epoch.to_bytes(8, "big"), peer_nonce, relay_nonce)
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


@scenario
def device_keys(tcp, _ws):
    for session, identity, key, right in (
        ("locked", "pump-1", KEY, True), ("locked", "pump-1", bytes(32), False),
        ("locked", "nobody", KEY, False), ("nowhere", "pump-1", KEY, False),
    ):
        peer = Peer(tcp, session, epoch=5)
        peer.link, peer.names = Stream(tcp), {}
        nonce = os.urandom(16)
        peer.say("hello", version=2, session=session, epoch=5, method=2, identity=identity,
                 nonce=nonce)
        challenge = peer.control("challenge")
        assert challenge["method"] == 2 and len(challenge["nonce"]) == 16
        said = transcript(session, identity, 5, nonce, challenge["nonce"])
        mac = lambda side: hmac.digest(key, b"fastport.2 " + side + said, "sha256")
        peer.say("proof", proof=mac(b"peer"))
        if right:
            assert peer.welcome()["proof"] == mac(b"relay")
            peer.refused("forbidden", "open", topic="others/a")
            peer.open("pumps/pump-1/speed")
        else:
            peer.ends("not-authenticated")


@scenario
def passwords(tcp, _ws):
    # wrong ones only: each right one would cost the test a hash of its own
    for identity in ("pump-1", "nobody"):
        peer = Peer(tcp, "locked", epoch=5)
        peer.link = Stream(tcp)
        peer.say("hello", version=2, session="locked", epoch=5, method=1, identity=identity)
        challenge = peer.control("challenge")
        assert challenge["method"] == 1
        peer.say("proof", proof=b"wrong")
        peer.ends("not-authenticated")


@scenario
def keepalive(tcp, _ws):
    peer = Peer(tcp, keepalive=2)
    message = peer.connect().welcome()
    assert message["keepalive"] == 2
    assert peer.next(wants_pings=True) == ("ping", b"")
    # any byte is a sign of life
    peer.link.send(b"\x00")
    assert peer.next(wants_pings=True) == ("ping", b"")
    peer.bye("silent")


@scenario
def a_conversation_in_json(_tcp, ws):
    page = WebSocket(ws)
    page.say(op="hello", version=2, session="demo", epoch=48151623, times=True)
    welcome = page.hear("welcome", version=2, taken=0, resumed=False)
    assert welcome["payload_limit"] > 0
    page.say(op="emit", topic="chat/room1", data="Good morning", keep=True)
    page.say(op="subscribe", request=1, topic="chat/#")
    first = page.hear("data", topic="chat/room1", data="Good morning", keep=True)
    assert abs(first["time"] - time.time() * 1000) < 60_000, first
    page.hear("ok", request=1, count=1)
    page.say(op="emit", topic="chat/room1", data="Hello!")
    page.hear("data", topic="chat/room1", data="Hello!", counted=None)
    page.say(op="emit", request=2, topic="chat/room1", data={"from": "ann", "text": "Hi"},
             counted=True)
    both = sorted((page.hear() for _ in range(2)), key=lambda message: message["op"])
    assert both[1] == {"op": "ok", "request": 2}, both
    assert json.loads(both[0]["data"]) == {"from": "ann", "text": "Hi"} and both[0]["counted"]
    page.say(op="ack", taken=1)
    page.say(op="emit", topic="chat/room1", data64="AP8=")
    page.hear("data", data64="AP8=", data=None)
    # what is wrong is answered, and the link goes on
    page.write(1, b"hello")
    page.hear("error", request=0, code="bad-json")
    page.say(op="dance", request=7)
    page.hear("error", request=7, code="unknown-message")
    page.say(op="dance")
    page.hear("error", request=0, code="unknown-message")
    page.say(op="subscribe", request=8)
    page.hear("error", request=8, code="bad-control")
    page.say(op="emit", topic="a//b", data="")
    page.hear("error", request=0, code="bad-topic")
    page.say(op="bye", code="done")
    try:
        raise AssertionError(page.read())
    except Closed:
        pass


@scenario
def json_resumes(_tcp, ws):
    epoch = int.from_bytes(os.urandom(6), "big")
    hello = dict(op="hello", version=2, session="demo", epoch=epoch, linger=30, when_full="hold")
    other = WebSocket(ws)
    other.say(op="hello", session="demo")
    other.hear("welcome")
    page = WebSocket(ws)
    page.say(**hello)
    page.hear("welcome", resumed=False)
    page.say(op="subscribe", request=1, topic="json/#")
    page.hear("ok")
    for number in range(3):
        other.say(op="emit", request=number + 1, topic="json/a", data=str(number), counted=True)
        other.hear("ok")
    page.hear("data", data="0")
    page.hear("data", data="1")
    page.close()
    other.say(op="emit", request=9, topic="json/a", data="3", counted=True)
    other.hear("ok")
    page = WebSocket(ws)
    page.say(**hello, taken=1)
    page.hear("welcome", resumed=True)
    for number in ("1", "2", "3"):
        page.hear("data", topic="json/a", data=number)
    page.say(op="ack", taken=99)
    page.hear("error", code="bad-ack", request=None)


@scenario
def json_keepalive(_tcp, ws):
    page = WebSocket(ws)
    page.say(op="hello", session="demo", keepalive=2)
    page.hear("welcome", keepalive=2)
    other = WebSocket(ws)
    other.say(op="hello", session="demo")
    other.hear("welcome")
    page.say(op="subscribe", request=1, topic="alive/a")
    page.hear("ok")
    until = time.time() + 5
    while time.time() < until and page.pings < 2:
        page.socket.settimeout(0.2)
        try:
            page.more()
        except TimeoutError:
            pass
        if page.buffer:
            page.socket.settimeout(TIMEOUT)
            other.say(op="emit", topic="alive/a", data="x")
            page.hear("data", data="x")
    assert page.pings == 2, page.pings


@scenario
def frames_over_websocket(tcp, ws):
    link = WebSocket(ws)
    link.write(2, control("hello", version=2, session="demo", epoch=9))
    assert link.read()[0] >> 4 == CONTROL
    # several frames in one message, and text from a peer that gets frames
    link.write(2, control("open", request=1, topic="ws/a") + control("subscribe", request=2,
                                                                     topic="ws/a"))
    link.say(op="emit", request=3, topic="ws/a", data="x")
    got = b""
    while cbor({0: 16, 1: 3}) not in got:
        message = link.read()
        assert isinstance(message, bytes), "frames only"
        got += message
    # a frame spread over messages
    link.write(2, frame(PING)[:1])
    while cbor({0: 14, 5: 1})[1:] not in link.read():
        pass


def main():
    tcp, ws = ((host, int(port)) for host, port in
               (address.rsplit(":", 1) for address in sys.argv[1:3]))
    scenarios = {run.__name__: run for run in SCENARIOS}
    for name in sys.argv[3:] or scenarios:
        try:
            scenarios[name](tcp, ws)
        except BaseException:
            print("FAILED", name, flush=True)
            raise
        print("ok", name, flush=True)


main()
