#!/usr/bin/env python3
"""Writes the test vectors beside this file: frames, control, packets, handshake, refused.

This is a second implementation of docs/protocol.md, written from it and sharing nothing with the
Rust code, so that the vectors test that code and not themselves. It has no reader: what a frame
means stands here as JSON, and its bytes are made from that. Run it after a change of the protocol;
`cargo test -p fastport-wire --features std --test vectors` then checks both ways.
"""

import base64
import hashlib
import hmac
import json
import pathlib

HERE = pathlib.Path(__file__).parent
SAFE = 2**53 - 1  # larger numbers stand as decimal strings: not every JSON reader keeps them

# --- numbers, CBOR ----------------------------------------------------------------------------


def leb(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out) + bytes([n])


def cbor(value):
    def head(major, n):
        for size, info in ((None, n), (1, 24), (2, 25), (4, 26), (8, 27)):
            if size is None and n < 24:
                return bytes([major << 5 | n])
            if size and n < 1 << 8 * size:
                return bytes([major << 5 | info]) + n.to_bytes(size, "big")

    if value is True or value is False:
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return head(0, value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    assert isinstance(value, dict)
    return head(5, len(value)) + b"".join(cbor(k) + cbor(v) for k, v in value.items())


# --- frames -----------------------------------------------------------------------------------

DATA_FLAGS = {"counted": 1, "keep": 2, "sealed": 4, "readings": 8}
CAUSES = ["superseded", "overflow", "budget", "expired", "reader-gone", "link-lost", "other"]


def raw(kind, flags, body):
    return bytes([kind << 4 | flags]) + leb(len(body)) + body


def frame(f):
    kind = f["type"]
    unhex = bytes.fromhex
    if kind == "control":
        return raw(1, 0, unhex(f["body"]))
    if kind == "data":
        flags = sum(DATA_FLAGS[name] for name in f["flags"])
        return raw(2, flags, leb(f["topic"]) + unhex(f["payload"]))
    if kind == "ack":
        counts = [("durable", 1), ("central", 2)]
        flags = sum(bit for name, bit in counts if name in f) | (4 if f["repeat"] else 0)
        body = leb(int(f["taken"])) + b"".join(leb(int(f[n])) for n, _ in counts if n in f)
        return raw(3, flags, body)
    if kind == "time":
        return raw(4, 0, leb(f["unix_ms"]))
    if kind in ("ping", "pong"):
        return raw(5, 1 if kind == "pong" else 0, unhex(f["token"]))
    if kind == "topic":
        name = f["name"].encode()
        body = leb(f["id"]) + leb(len(name)) + name
        return raw(6, 8 if "schema" in f else 0, body + unhex(f.get("schema", "")))
    if kind == "chunk":
        flags = (1 if f["last"] else 0) | (4 if f["sealed"] else 0)
        return raw(7, flags, leb(f["stream"]) + leb(int(f["offset"])) + unhex(f["bytes"]))
    if kind == "credit":
        return raw(8, 0, leb(f["stream"]) + leb(int(f["bytes"])))
    if kind == "pack":
        return raw(10, 0, unhex(f["body"]))
    assert kind == "gap"
    body = leb(f["topic"] or 0) + leb(int(f["count"])) + bytes([CAUSES.index(f["cause"])])
    return raw(9, 0, body)


def data(topic, payload, *flags):
    return {"type": "data", "flags": list(flags), "topic": topic, "payload": payload}


def ack(taken, repeat=False, **counts):
    return {"type": "ack", "taken": taken, **counts, "repeat": repeat}


def frames():
    both = [
        ("an empty control map (not a message)", {"type": "control", "body": "a0"}),
        ("a 2-byte reading on an opened topic: 5 bytes", data(5, "0102", "readings")),
        ("data without flags and payload", data(1, "")),
        ("counted data", data(5, "6869", "counted")),
        ("counted data, kept as the last value", data(127, "31", "counted", "keep")),
        ("sealed data", data(128, "00ff", "sealed")),
        ("data with all flags", data(300, "07", "counted", "keep", "sealed", "readings")),
        ("data on the largest topic id", data(2**32 - 1, "2a")),
        ("data with a 2-byte length", data(1, "ab" * 127, "counted")),
        ("data with a 3-byte length", data(1, "00" * 16384)),
        ("ack of nothing", ack(0)),
        ("ack of 300 taken", ack(300)),
        ("ack of the largest count", ack(str(2**64 - 1))),
        ("ack with durable", ack(3, durable=2)),
        ("ack with central", ack(3, central=1)),
        ("ack with durable and central", ack(300, durable=200, central=127)),
        ("ack that asks for a repeat (serial lines only)", ack(3, repeat=True)),
        ("time", {"type": "time", "unix_ms": 1700000000000}),
        ("time zero", {"type": "time", "unix_ms": 0}),
        ("time of a gateway: when it took what follows", {"type": "time", "unix_ms": 1699996400000}),
        ("ping without token", {"type": "ping", "token": ""}),
        ("ping with the longest token", {"type": "ping", "token": "00112233445566778899aabbccddeeff"}),
        ("pong without token", {"type": "pong", "token": ""}),
        ("pong with token", {"type": "pong", "token": "09"}),
        ("topic", {"type": "topic", "id": 1, "name": "a/b"}),
        ("topic whose name is not ASCII", {"type": "topic", "id": 200, "name": "küche/°C"}),
        ("topic with schema", {"type": "topic", "id": 2, "name": "t", "schema": "0743"}),
        ("topic with an empty schema", {"type": "topic", "id": 2, "name": "t", "schema": ""}),
        ("chunk", {"type": "chunk", "stream": 1, "offset": 0, "last": False, "sealed": False, "bytes": "010203"}),
        ("last chunk, sealed", {"type": "chunk", "stream": 9, "offset": 1048576, "last": True, "sealed": True, "bytes": "ff"}),
        ("chunk at the largest offset", {"type": "chunk", "stream": 0, "offset": str(2**64 - 1), "last": True, "sealed": False, "bytes": ""}),
        ("credit", {"type": "credit", "stream": 1, "bytes": 65536}),
        ("pack: 40 times the frame 2103056869 (200 bytes) in an LZ4 block", {"type": "pack", "body": "c8015f21030568690500ab502103056869"}),
    ]
    for number, cause in enumerate(CAUSES):
        topic = 7 if number % 2 else None
        both.append((f"gap: {cause}", {"type": "gap", "topic": topic, "count": number + 1, "cause": cause}))
    both.append(("gap of a gateway: 70000 messages of a topic it opened", {"type": "gap", "topic": 5, "count": 70000, "cause": "expired"}))
    out = [{"name": n, "bytes": frame(f).hex(), "frame": f} for n, f in both]
    one_way = [
        ("padding before a frame is skipped", "0000005000", {"type": "ping", "token": ""}),
        ("a gap cause of a later version reads as other", "90030001ff", {"type": "gap", "topic": None, "count": 1, "cause": "other"}),
    ]
    out += [{"name": n, "bytes": b, "frame": f, "decode_only": True} for n, b, f in one_way]
    return {
        "about": "One frame each: its bytes in hex, and what it means; bytes in it are hex, numbers "
        "over 2^53-1 decimal strings. Every true prefix of the bytes asks for more. decode_only: "
        "writers make other bytes.",
        "vectors": out,
    }


# --- control messages -------------------------------------------------------------------------

KEYS = [
    "op", "request", "session", "topic", "id", "code", "text", "version", "method", "identity",
    "nonce", "proof", "epoch", "taken", "flags", "when_full", "keepalive", "count", "age", "schema",
    "data", "clock", "payload_limit", "retry", "name", "size", "offset", "digest", "tier", "linger",
    "resumed", "stream",
]  # fmt: skip
OPS = [
    "hello", "challenge", "proof", "welcome", "open", "close-topic", "subscribe", "unsubscribe",
    "history", "offer", "accept", "decline", "cancel", "create-session", "error", "bye", "ok",
    "emit", "status",
]  # fmt: skip
ERRORS = [
    None, "bad-frame", "frame-too-long", "bad-control", "unknown-message", "bad-json", "unexpected",
    "bad-version", "handshake-timeout", "not-authenticated", "method-not-allowed", "forbidden",
    "bad-topic", "unknown-id", "payload-too-long", "bad-ack", "limit-reached", "rate-limited",
    "tier-not-offered", "conflict", "unavailable", "bad-readings",
    "unsealed", "no-space", "damaged",
]  # fmt: skip
BYES = ["done", "shutting-down", "replaced", "silent", "too-slow", "removed", "after-error"]
METHODS = ["open", "password", "device-key", "certificate"]
WHEN_FULL = ["drop-oldest", "latest", "hold", "close"]
TIERS = ["taken", "durable", "central"]
FLAGS = {
    "hello": {"times": 1, "ack_durable": 2, "ack_central": 4, "streams": 8},
    "subscribe": {"no_local": 1, "no_last": 2},
    "offer": {"directory": 1, "sealed": 4},
    "emit": {"counted": 1, "keep": 2, "sealed": 4},
}
BINARY = {"nonce", "proof", "schema", "digest"}


def body(message):
    """The CBOR body of a message given as its JSON."""
    fields = {}
    flags = message.get("flags", 0)
    for key, value in message.items():
        if key in FLAGS.get(message["op"], {}):
            flags |= FLAGS[message["op"]][key] if value else 0
            fields["flags"] = flags
        elif key == "op":
            fields[key] = OPS.index(value)
        elif key == "code":
            fields[key] = (BYES if message["op"] == "bye" else ERRORS).index(value)
        elif key in ("method", "when_full", "tier"):
            fields[key] = {"method": METHODS, "when_full": WHEN_FULL, "tier": TIERS}[key].index(value)
        elif key in BINARY:
            fields[key] = base64.b64decode(value)
        elif key == "data64":
            fields["data"] = base64.b64decode(value)
        elif key == "data":
            fields["data"] = value.encode()
        else:
            fields[key] = value
    return cbor({KEYS.index(k): fields[k] for k in sorted(fields, key=KEYS.index)})


def b64(data):
    return base64.b64encode(data).decode()


PEER_NONCE = bytes(range(16))
RELAY_NONCE = bytes(range(16, 32))


def control():
    mac = b64(bytes(range(0xA0, 0xC0)))
    messages = [
        ("hello to an open session", {"op": "hello", "session": "home", "version": 2, "epoch": 1}),
        ("hello by password", {"op": "hello", "session": "home", "version": 2, "method": "password", "identity": "ann", "epoch": SAFE}),
        ("hello of a device that resumes, with all fields", {
            "op": "hello", "session": "plant", "version": 2, "method": "device-key",
            "identity": "pump-7", "nonce": b64(PEER_NONCE), "epoch": 81985529216486895 % SAFE, "taken": 41,
            "times": True, "ack_durable": True, "ack_central": True, "streams": True, "when_full": "hold",
            "keepalive": 30, "name": "pump firmware 1.2", "linger": 3600,
        }),
        ("hello by certificate", {"op": "hello", "session": "plant", "version": 2, "method": "certificate", "epoch": 5, "taken": 0, "when_full": "latest"}),
        ("challenge for a password", {"op": "challenge", "method": "password"}),
        ("challenge for a device key", {"op": "challenge", "method": "device-key", "nonce": b64(RELAY_NONCE)}),
        ("proof: the password `secret`", {"op": "proof", "proof": b64(b"secret")}),
        ("proof: a MAC", {"op": "proof", "proof": mac}),
        ("welcome, new", {"op": "welcome", "version": 2, "taken": 0, "payload_limit": 65536, "resumed": False}),
        ("welcome, resumed, with all fields", {
            "op": "welcome", "text": "fastportd 1.0.0", "version": 2, "proof": mac, "taken": 1000,
            "keepalive": 30, "clock": 1700000000000, "payload_limit": 1048576, "linger": 600, "resumed": True,
        }),
        ("welcome of a relay that takes PACK frames, as the peer does", {
            "op": "welcome", "version": 2, "taken": 0, "flags": 16, "payload_limit": 65536, "resumed": False,
        }),
        ("open", {"op": "open", "request": 1, "topic": "a/b"}),
        ("open, with schema and tier", {"op": "open", "request": 2, "topic": "plant/t", "schema": b64(b"\x07C"), "tier": "central"}),
        ("open, tier durable", {"op": "open", "request": 3, "topic": "plant/u", "tier": "durable"}),
        ("open, tier taken", {"op": "open", "request": 4, "topic": "plant/v", "tier": "taken"}),
        ("close-topic", {"op": "close-topic", "id": 5}),
        ("close-topic that wants an answer", {"op": "close-topic", "request": 9, "id": 300}),
        ("subscribe", {"op": "subscribe", "request": 1, "topic": "#"}),
        ("subscribe with history", {"op": "subscribe", "request": 2, "topic": "plant/+/t", "no_local": True, "no_last": True, "count": 10, "age": 60000}),
        ("unsubscribe", {"op": "unsubscribe", "request": 3, "topic": "plant/+/t"}),
        ("history of all", {"op": "history", "request": 4, "topic": "plant/#"}),
        ("history of the last hour, at most 100 each", {"op": "history", "request": 5, "topic": "plant/#", "count": 100, "age": 3600000}),
        ("offer", {"op": "offer", "topic": "files", "id": 1, "name": "log.txt", "size": 5000000000, "digest": b64(hashlib.sha256(b"").digest())}),
        ("offer of a directory, sealed", {"op": "offer", "topic": "files", "id": 3, "size": 10240, "directory": True, "sealed": True, "data64": b64(bytes(range(0xF0, 0x100)))}),
        ("offer of unknown size", {"op": "offer", "topic": "files", "id": 2}),
        ("accept", {"op": "accept", "id": 1}),
        ("accept from an offset", {"op": "accept", "id": 1, "offset": 4096}),
        ("accept, as the sender gets it", {"op": "accept", "id": 1, "offset": 4096, "stream": 300}),
        ("decline", {"op": "decline", "id": 1}),
        ("decline with its reason", {"op": "decline", "id": 1, "code": "forbidden"}),
        ("cancel", {"op": "cancel", "id": 1, "code": "unavailable"}),
        ("cancel of an offer, by its sender", {"op": "cancel", "id": 1, "stream": 0}),
        ("cancel of one receiver's part", {"op": "cancel", "id": 1, "code": "no-space", "stream": 300}),
        ("create-session, open", {"op": "create-session", "request": 1, "session": "guests"}),
        ("create-session with a first identity", {"op": "create-session", "request": 1, "session": "guests", "identity": "ann", "proof": b64("pässword".encode())}),
        ("ok", {"op": "ok", "request": 7}),
        ("ok to an open", {"op": "ok", "request": 1, "id": 5}),
        ("ok to a subscribe or history", {"op": "ok", "request": 2, "count": 12}),
        ("ok to a status", {"op": "ok", "request": 3, "text": "{\"peers\":2}"}),
        ("emit", {"op": "emit", "topic": "chat/room1", "data": "Hello!"}),
        ("emit of bytes, with all fields", {"op": "emit", "request": 8, "topic": "a", "counted": True, "keep": True, "sealed": True, "data64": "/wA="}),
        ("status", {"op": "status", "request": 3}),
    ]
    messages += [(f"error: {c}", {"op": "error", "code": c}) for c in ERRORS[1:]]
    messages += [
        ("error to a request, with all fields", {"op": "error", "request": 4294967295, "code": "rate-limited", "text": "too many requests", "retry": 2000}),
    ]
    messages += [(f"bye: {c}", {"op": "bye", "code": c}) for c in BYES]
    messages += [("bye with a hint", {"op": "bye", "code": "shutting-down", "retry": 5000})]
    vectors = [{"name": n, "body": body(m).hex(), "message": m} for n, m in messages]
    epoch = 2**64 - 1
    vectors.append({
        "name": "hello with the largest epoch", "needs_64_bit": True,
        "body": cbor({0: 0, 2: "s", 7: 2, 12: epoch}).hex(),
        "message": {"op": "hello", "session": "s", "version": 2, "epoch": epoch},
    })
    status = {"op": "status", "request": 7}
    vectors += [
        {"name": n, "body": b, "message": m, "decode_only": True}
        for n, b, m in [
            ("unknown keys are ignored", "a300120107186381" + "01", status),
            ("keys may come in any order", "a2010700" + "12", status),
            ("numbers may be longer than they need", "a2001812" + "011a00000007", status),
            ("a map of indefinite length", "bf00120107ff", status),
            ("a code of a later version stays a number", "a2000e0518c8", {"op": "error", "code": 200}),
        ]
    ]
    texts = [
        ('{"op":"emit","topic":"chat/room1","data":"Hello!"}', {"op": "emit", "topic": "chat/room1", "data": "Hello!"}),
        ('{"op":"emit","topic":"a","data":{ "x" : [1.0, "a b"] },"counted":true,"keep":false}', {"op": "emit", "topic": "a", "counted": True, "data": '{"x":[1.0,"a b"]}'}),
        ('{"op":"emit","topic":"a","data":null}', {"op": "emit", "topic": "a", "data": "null"}),
        ('{"op":"emit","topic":"a","data":21.50}', {"op": "emit", "topic": "a", "data": "21.50"}),
        ('{"op":"emit","topic":"a","data":"\\u00e9","unknown":[{}]}', {"op": "emit", "topic": "a", "data": "é"}),
        (' {"topic":"a","flags":2,"op":"emit","data64":"AP8="} ', {"op": "emit", "topic": "a", "keep": True, "data64": "AP8="}),
        ('{"op":"proof","password":"p\u00e4ss"}', {"op": "proof", "proof": b64("päss".encode())}),
        ('{"op":"hello","version":2,"session":"s","epoch":7,"method":1,"identity":"ann","times":true}', {"op": "hello", "session": "s", "version": 2, "method": "password", "identity": "ann", "epoch": 7, "times": True}),
        ('{"op":"bye","code":0}', {"op": "bye", "code": "done"}),
    ]
    return {
        "about": "vectors: the body of a CONTROL frame (CBOR, hex) and the same message as JSON. "
        "json: texts that people and pages may send, and the body each stands for. deliveries and "
        "gaps: what the relay sends to a peer that speaks JSON. decode_only: writers make other bytes.",
        "vectors": vectors,
        "json": [{"text": t, "body": body(m).hex()} for t, m in texts],
        "deliveries": [
            {"topic": "chat/room1", "flags": ["counted", "keep"], "payload": "48656c6c6f21", "time": 1700000000000,
             "text": '{"op":"data","topic":"chat/room1","data":"Hello!","counted":true,"keep":true,"time":1700000000000}'},
            {"topic": "a", "flags": [], "payload": "ff00", "time": None, "text": '{"op":"data","topic":"a","data64":"/wA="}'},
            {"topic": "a", "flags": ["sealed", "readings"], "payload": "", "time": None, "text": '{"op":"data","topic":"a","data":"","sealed":true,"readings":true}'},
        ],
        "gaps": [
            {"topic": None, "count": 3, "cause": "overflow", "text": '{"op":"gap","topic":null,"count":3,"cause":"overflow"}'},
            {"topic": "a", "count": 1, "cause": "superseded", "text": '{"op":"gap","topic":"a","count":1,"cause":"superseded"}'},
        ],
    }  # fmt: skip


# --- packets ----------------------------------------------------------------------------------


def crc16(data):
    """CRC-16/IBM-SDLC: polynomial 0x1021 reflected, from 0xffff, inverted at the end."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return crc ^ 0xFFFF


def cobs(data):
    out, block = bytearray(), bytearray()
    for at, byte in enumerate(data):
        if byte:
            block.append(byte)
        if not byte or (len(block) == 254 and at + 1 < len(data)):
            out += bytes([len(block) + 1]) + block
            block.clear()
    return bytes(out + bytes([len(block) + 1]) + block)


def packet(content, count):
    covered = 0 if content[:1] and content[0] >> 4 == 3 else count & 0xFFFFFFFF
    crc = crc16(content + covered.to_bytes(4, "little"))
    return cobs(content + crc.to_bytes(2, "little")) + b"\0"


def packets():
    assert crc16(b"123456789") == 0x906E
    reading, counted = frame(data(5, "0102", "readings")), frame(data(1, "07", "counted"))
    repeat, ping = frame(ack(3, repeat=True)), frame({"type": "ping", "token": ""})
    hello = raw(1, 0, body({"op": "hello", "session": "s", "version": 2, "epoch": 9}))
    bye = raw(1, 0, body({"op": "bye", "code": "shutting-down"}))
    status = raw(1, 0, body({"op": "status", "request": 1}))
    ends = raw(1, 0, body({"op": "error", "code": "unexpected"}))
    answer = raw(1, 0, body({"op": "error", "request": 1, "code": "unexpected"}))
    out = [
        ("a 2-byte reading on an opened topic: 9 bytes", reading, 0),
        ("the same after 1000 counted frames", reading, 1000),
        ("the first counted frame of an epoch", counted, 0),
        ("the second", counted, 1),
        ("the count's low 32 bits are all ones", counted, 2**32 - 1),
        ("an ack is covered with 0 whatever the count", repeat, 700),
        ("a ping after 3 counted frames", ping, 3),
        ("hello", hello, 0),
        ("254 bytes without zero, the CRC among them or after them", frame(data(1, "11" * 249)), 0),
        ("more than 254 bytes without zero", frame(data(1, "22" * 300)), 5),
        ("zeros", frame(data(1, "00" * 8)), 0),
        ("a frame with a 2-byte length and zeros in it", frame(data(1, "0033" * 200)), 2),
    ]
    good = lambda f: {"frame": f.hex(), "at_any_time": False}
    any_time = lambda f: {"frame": f.hex(), "at_any_time": True}
    bad = lambda e, **value: {"error": e, **value}
    flipped = bytearray(packet(counted, 0))
    flipped[3] ^= 0x40
    streams = [
        ("two packets", packet(counted, 0) + packet(ping, 0), 0, [good(counted), good(ping)]),
        ("zeros between packets are nothing", b"\0\0" + packet(ping, 0) + b"\0", 0, [good(ping)]),
        ("a listener who comes in the middle loses one packet", packet(counted, 0)[4:] + packet(ping, 0), 0, [bad("bad-checksum"), good(ping)]),
        ("a damaged packet harms only itself", bytes(flipped) + packet(ping, 0), 0, [bad("bad-checksum"), good(ping)]),
        ("a packet cut short by a zero", packet(counted, 0)[:3] + b"\0" + packet(ping, 0), 0, [bad("bad-checksum"), good(ping)]),
        ("a packet without its zero swallows the next", packet(counted, 0)[:-1] + packet(ping, 0) + packet(ping, 0), 0, [bad("bad-checksum"), good(ping)]),
        ("too short for a CRC", b"\x02\x50\0", 0, [bad("bad-checksum")]),
        ("a counted frame before this one was lost", packet(ping, 8), 7, [bad("bad-checksum")]),
        ("a repeat of what the receiver has", packet(counted, 6), 7, [bad("bad-checksum")]),
        ("an ack comes through although frames were lost", packet(repeat, 8), 7, [any_time(repeat)]),
        ("hello comes through at any count: the peer has started again", packet(hello, 0), 7, [any_time(hello)]),
        ("so does bye", packet(bye, 0), 7, [any_time(bye)]),
        ("so does an error that ends the link", packet(ends, 0), 7, [any_time(ends)]),
        ("an error to a request does not", packet(answer, 0), 7, [bad("bad-checksum")]),
        ("nor does another message", packet(status, 0), 7, [bad("bad-checksum")]),
        ("nor another frame", packet(ping, 0), 7, [bad("bad-checksum")]),
        ("good CRC over two frames", packet(ping + ping, 0), 0, [bad("trailing")]),
        ("good CRC over a part of a frame", packet(counted[:3], 0), 0, [bad("truncated")]),
        ("good CRC over nothing", packet(b"", 0), 0, [bad("truncated")]),
        ("good CRC over an unknown frame type", packet(b"\xb0\0", 0), 0, [bad("unknown-kind", value=11)]),
        ("longer than the receiver takes (64 bytes and CRC)", packet(frame(data(1, "11" * 62)), 0) + packet(ping, 0), 0, [bad("too-long"), good(ping)]),
        ("as long as the receiver takes", packet(frame(data(1, "11" * 61)), 0), 0, [good(frame(data(1, "11" * 61)))]),
    ]
    return {
        "about": "packets: a frame, the sender's count of counted frames before it, and the packet. "
        "streams: bytes as a receiver gets them that takes frames of up to 64 bytes, the number of "
        "counted frames it has taken, and what each packet gives. at_any_time: taken whatever the count.",
        "packets": [{"name": n, "frame": f.hex(), "count": c, "packet": packet(f, c).hex()} for n, f, c in out],
        "streams": [{"name": n, "bytes": b.hex(), "count": c, "gives": g} for n, b, c, g in streams],
    }  # fmt: skip


# --- handshake --------------------------------------------------------------------------------


def handshake():
    out = []
    for session, identity, epoch, key in [
        ("plant", "pump-7", 0x0123456789ABCDEF, bytes(range(32))),
        ("küche", "d", 0, b"\xff" * 32),
    ]:
        parts = [session.encode(), identity.encode(), epoch.to_bytes(8, "big"), PEER_NONCE, RELAY_NONCE]
        transcript = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        mac = lambda who: hmac.new(key, b"fastport.2 " + who + transcript, hashlib.sha256).hexdigest()
        out.append({
            "session": session, "identity": identity, "epoch": str(epoch), "key": key.hex(),
            "peer_nonce": PEER_NONCE.hex(), "relay_nonce": RELAY_NONCE.hex(),
            "transcript": transcript.hex(), "peer_proof": mac(b"peer"), "relay_proof": mac(b"relay"),
        })  # fmt: skip
    return {
        "about": "Method device-key: what both sides know, the transcript, and both proofs.",
        "vectors": out,
    }


# --- refused ----------------------------------------------------------------------------------


def refused():
    frame_cases = [
        ("padding has no flags", "0f00", "bad-flags", 15),
        ("unknown type 11", "b000", "unknown-kind", 11),
        ("unknown type 15", "ff00", "unknown-kind", 15),
        ("length over the reader's limit", "5041", "too-long", None),
        ("length over the reader's limit, told before the body comes", "208101", "too-long", None),
        ("length of more than 4 bytes", "50ffffffff", "too-long", None),
        ("length over 16 MiB", "5081808008", "too-long", None),
        ("length not in its shortest form", "508000", "bad-number", None),
        ("control has no flags", "1101a0", "bad-flags", 1),
        ("time has no flags", "410101", "bad-flags", 1),
        ("credit has no flags", "84020101", "bad-flags", 4),
        ("gap has no flags", "9103010100", "bad-flags", 1),
        ("pack has no flags", "a10101", "bad-flags", 1),
        ("ack with an unknown flag", "380101", "bad-flags", 8),
        ("ping with an unknown flag", "5200", "bad-flags", 2),
        ("topic with an unknown flag", "61030101" + "61", "bad-flags", 1),
        ("chunk with an unknown flag", "72020100", "bad-flags", 2),
        ("data without a topic id", "2000", "truncated", None),
        ("data on topic 0", "200100", "bad-id", None),
        ("topic id of more than 32 bits", "20058080808010", "bad-id", None),
        ("topic id not in its shortest form", "20028100", "bad-number", None),
        ("topic id that does not end", "200180", "truncated", None),
        ("ack without count", "3000", "truncated", None),
        ("ack that lacks a count its flags name", "310103", "truncated", None),
        ("ack with a count its flags do not name", "30020302", "trailing", None),
        ("count of more than 64 bits", "300affffffffffffffffff02", "bad-number", None),
        ("count of 11 bytes", "300b8080808080808080808001", "bad-number", None),
        ("time without value", "4000", "truncated", None),
        ("time with a byte too many", "40020101", "trailing", None),
        ("token of more than 16 bytes", "5011" + "00" * 17, "too-long", None),
        ("topic without name", "600101", "truncated", None),
        ("topic whose name is cut", "6003010961", "truncated", None),
        ("topic with id 0", "6003000161", "bad-id", None),
        ("topic whose name is not UTF-8", "60030101ff", "bad-text", None),
        ("topic with bytes behind its name, but no schema flag", "600401016107", "trailing", None),
        ("chunk without offset", "700101", "truncated", None),
        ("chunk of a stream of more than 32 bits", "7006808080801000", "bad-id", None),
        ("credit without bytes", "800101", "truncated", None),
        ("credit with a byte too many", "8003010101", "trailing", None),
        ("gap without cause", "90020101", "truncated", None),
        ("gap with a byte too many", "900401010000", "trailing", None),
    ]
    control_cases = [
        ("nothing", "", "bad-control", None),
        ("not a map", "00", "bad-control", None),
        ("an array", "820412", "bad-control", None),
        ("a map without op", "a0", "bad-control", None),
        ("an op that no version has yet", "a10018c8", "unknown-op", 200),
        ("a required field is missing: open without request", "a200040361" + "61", "bad-control", None),
        ("a required field is missing: hello without session", "a3000007020c01", "bad-control", None),
        ("a text where a number must be", "a20012016161", "bad-control", None),
        ("a number where a text must be", "a3000401010307", "bad-control", None),
        ("a text where bytes must be", "a2000203" + "61" + "61", "bad-control", None),
        ("a number over its width", "a20012011b0000000100000000", "bad-control", None),
        ("a negative number", "a200120120", "bad-control", None),
        ("a key twice", "a3001201070012", "bad-control", None),
        ("text that is not UTF-8", "a30004010103" + "61ff", "bad-control", None),
        ("cut short", "a2001201", "bad-control", None),
        ("bytes behind the map", "a20012010700", "bad-control", None),
        ("nested too deep", "a20012" + "1863" + "81" * 400, "bad-control", None),
        ("a text of indefinite length", "a30004010103" + "7f6161ff", "bad-control", None),
    ]
    json_cases = [
        ("nothing", "", "bad-json", None),
        ("not an object", "7", "bad-json", None),
        ("an array", '["status",1]', "bad-json", None),
        ("no op", "{}", "bad-json", None),
        ("not ended", '{"op":"status"', "bad-json", None),
        ("something behind it", '{"op":"status","request":1} x', "bad-json", None),
        ("a text where a number must be", '{"op":"status","request":"1"}', "bad-json", None),
        ("a negative number", '{"op":"status","request":-1}', "bad-json", None),
        ("a fraction", '{"op":"status","request":1.5}', "bad-json", None),
        ("a number over its width", '{"op":"status","request":4294967296}', "bad-json", None),
        ("a number where a truth value must be", '{"op":"emit","topic":"a","data":"","keep":1}', "bad-json", None),
        ("a key twice", '{"op":"status","request":1,"request":1}', "bad-json", None),
        ("two payloads", '{"op":"emit","topic":"a","data":"","data64":""}', "bad-json", None),
        ("two proofs", '{"op":"proof","password":"a","proof":""}', "bad-json", None),
        ("base64 without padding", '{"op":"emit","topic":"a","data64":"AA"}', "bad-json", None),
        ("base64 of another alphabet", '{"op":"emit","topic":"a","data64":"A_8="}', "bad-json", None),
        ("half of a surrogate pair", '{"op":"emit","topic":"a","data":"\\ud800"}', "bad-json", None),
        ("an unknown name", '{"op":"hello","version":2,"session":"s","epoch":1,"method":"magic"}', "bad-json", None),
        ("an unknown op", '{"op":"dance"}', "unknown-op", 255),
        ("a required field is missing", '{"op":"subscribe"}', "bad-control", None),
    ]
    neither = [
        ("", "empty-level"), ("/", "empty-level"), ("a//b", "empty-level"), ("/a", "empty-level"), ("a/", "empty-level"),
        ("a/\u0007", "control-character"), ("a\u007f", "control-character"),
        ("/".join(["a"] * 17), "too-deep"), ("a" * 256, "too-long"), ("é" * 128, "too-long"),
        ("a/b+", "wildcard-in-level"), ("a#", "wildcard-in-level"),
    ]  # fmt: skip
    case = lambda key: lambda name, value, error, number: {
        "name": name, key: value, "error": error, **({} if number is None else {"value": number})
    }  # fmt: skip
    return {
        "about": "What must be refused, and the error that names why; value: the number in it. "
        "frames are read with a limit of 64 bytes for the body. Packets are in packets.json.",
        "frames": [case("bytes")(*c) for c in frame_cases],
        "control": [case("body")(*c) for c in control_cases],
        "json": [case("text")(*c) for c in json_cases],
        "topics": [{"text": t, "error": e} for t, e in neither + [("a/+", "wildcard-in-level"), ("#", "wildcard-in-level")]],
        "filters": [{"text": t, "error": e} for t, e in neither + [("#/a", "hash-not-last"), ("a/#/#", "hash-not-last")]],
    }


def write(name, value):
    """As JSON with one vector a line, so that a change shows as such."""
    lines = []
    for key, part in value.items():
        if isinstance(part, str):
            lines.append(f" {json.dumps(key)}: {json.dumps(part)}")
        else:
            items = ",\n".join("  " + json.dumps(item, ensure_ascii=False) for item in part)
            lines.append(f" {json.dumps(key)}: [\n{items}\n ]")
    (HERE / f"{name}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


for make in (frames, control, packets, handshake, refused):
    write(make.__name__, make())
