#!/usr/bin/env python3
"""A second implementation of docs/sealing.md, written from it and sharing nothing with the Rust code.

    sealing.py write     writes sealing.json beside this file
    sealing.py compare   the same, and fails if the file says anything else
    sealing.py answer    reads one JSON request a line, answers each with one

It needs the Python package `cryptography`. `cargo test -p fastport-seal` runs the last two.
"""

import json
import pathlib
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import constant_time, hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

FILE = pathlib.Path(__file__).with_name("sealing.json")
KINDS = {"message": 0, "readings": 1, "offer": 2}

# --- keys ---------------------------------------------------------------------------------------


def expand(secret, info, length):
    return HKDFExpand(algorithm=hashes.SHA256(), length=length, info=info).derive(secret)


def extract(key):
    # HKDF-Extract is HMAC with the salt as its key
    return mac(b"fastport.2 seal", key)


def mac(key, data):
    h = HMAC(key, hashes.SHA256())
    h.update(data)
    return h.finalize()


class Scope:
    def __init__(self, key, session):
        prk = extract(key)
        self.key_id = expand(prk, b"key id", 2)
        out = expand(prk, b"session" + session.encode(), 34)
        self.secret, self.session_id = out[:32], out[32:]

    def place(self, kind, topic, schema):
        name = topic.encode()
        key = expand(self.secret, b"place", 32)
        return mac(key, bytes([KINDS[kind], len(name)]) + name + schema)

    def sender(self, sender):
        return Suite(expand(self.secret, b"sender" + sender, 96))

    def stream(self, sender, counter):
        return Suite(expand(self.secret, b"stream" + sender + counter.to_bytes(8, "big"), 96))


class Suite:
    def __init__(self, keys):
        self.cipher, self.mac, self.vectors = keys[:32], keys[32:64], keys[64:]

    def vector(self, number):
        block = Cipher(algorithms.AES(self.vectors), modes.ECB()).encryptor()
        return block.update(number.to_bytes(16, "big"))

    def seal(self, number, bound, plain):
        padded = plain + bytes(-len(plain) % 16)
        cbc = Cipher(algorithms.AES(self.cipher), modes.CBC(self.vector(number))).encryptor()
        body = cbc.update(padded) + cbc.finalize()
        return body + mac(self.mac, bound + body)[:16]

    def open(self, number, bound, body, tag):
        if not constant_time.bytes_eq(mac(self.mac, bound + body)[:16], tag):
            raise InvalidSignature
        cbc = Cipher(algorithms.AES(self.cipher), modes.CBC(self.vector(number))).decryptor()
        return cbc.update(body) + cbc.finalize()


# --- messages and chunks ------------------------------------------------------------------------


def shape(plain_length):
    pad, blocks = -plain_length % 16, (plain_length + 15) // 16
    return bytes([0x10 | pad, blocks % 256])


def seal_message(scope, sender, counter, kind, topic, schema, plain):
    place = scope.place(kind, topic, schema)
    head = shape(len(plain)) + scope.key_id + scope.session_id + place[:2]
    head += sender + counter.to_bytes(6, "big")
    return head + scope.sender(sender).seal(counter, place + head, plain)


def open_message(scope, kind, topic, schema, sealed):
    head, body, tag = sealed[:22], sealed[22:-16], sealed[-16:]
    sender, counter = head[8:16], int.from_bytes(head[16:22], "big")
    bound = scope.place(kind, topic, schema) + head
    padded = scope.sender(sender).open(counter, bound, body, tag)
    return padded[: len(padded) - (head[0] & 15)]


def seal_chunk(suite, offset, last, plain):
    head = shape(len(plain))
    bound = offset.to_bytes(8, "big") + bytes([last]) + head
    return head + suite.seal(offset, bound, plain)


def open_chunk(suite, offset, last, sealed):
    head, body, tag = sealed[:2], sealed[2:-16], sealed[-16:]
    bound = offset.to_bytes(8, "big") + bytes([last]) + head
    padded = suite.open(offset, bound, body, tag)
    return padded[: len(padded) - (head[0] & 15)]


# --- vectors ------------------------------------------------------------------------------------

KEY = bytes(range(32))
OTHER_KEY = bytes(range(32, 64))
SENDER = b"sender 1"


def message(what, plain, *, key=KEY, session="home", sender=SENDER, counter=0, kind="message",
            topic="boiler/temperature", schema=b""):
    scope = Scope(key, session)
    sealed = seal_message(scope, sender, counter, kind, topic, schema, plain)
    assert open_message(scope, kind, topic, schema, sealed) == plain
    return {
        "what": what, "key": key.hex(), "session": session, "sender": sender.hex(),
        "counter": counter, "kind": kind, "topic": topic, "schema": schema.hex(),
        "plain": plain.hex(), "sealed": sealed.hex(),
    }


def chunk(what, offset, last, plain):
    suite = Scope(KEY, "home").stream(SENDER, 7)
    sealed = seal_chunk(suite, offset, last, plain)
    assert open_chunk(suite, offset, last, sealed) == plain
    return {"what": what, "offset": offset, "last": last, "plain": plain.hex(), "sealed": sealed.hex()}


def flipped(sealed, at, bit=0):
    out = bytearray(sealed)
    out[at] ^= 1 << bit
    return bytes(out)


def refused(what, error, sealed):
    return {"what": what, "error": error, "sealed": sealed.hex()}


def vectors():
    scope = Scope(KEY, "home")
    suite = scope.sender(SENDER)

    def sealed(scope=scope, kind="message", topic="boiler/temperature", counter=5):
        return seal_message(scope, SENDER, counter, kind, topic, b"", b"a plain text of 26 bytes..")

    good = sealed()
    return {
        "about": "docs/sealing.md: session keys, what is derived from them, sealed messages and chunks. "
                 "Bytes are hexadecimal. Written by sealing.py.",
        "keys": {
            "key": KEY.hex(), "session": "home", "sender": SENDER.hex(),
            "key_id": scope.key_id.hex(), "session_id": scope.session_id.hex(),
            "secret": scope.secret.hex(),
            "place": scope.place("message", "boiler/temperature", b"").hex(),
            "cipher": suite.cipher.hex(), "mac": suite.mac.hex(), "vectors": suite.vectors.hex(),
            "first_vector": suite.vector(0).hex(),
        },
        "messages": [
            message("a first message", b"21.37"),
            message("nothing", b"", counter=1),
            message("one block", bytes(range(16)), counter=2),
            message("a block and a byte", bytes(range(17)), counter=3),
            message("readings under a schema", b"\xb2\x21", counter=4, kind="readings",
                    schema=bytes.fromhex("24fe0343656c")),
            message("readings under none", b"\xb2\x21", counter=5, kind="readings"),
            message("an offer", b"{}", counter=7, kind="offer", topic="files"),
            message("the last counter", b"x", counter=2**48 - 1),
            message("another sender", b"21.37", sender=bytes.fromhex("ffffffffffffffff")),
            message("another session", b"21.37", session="office"),
            message("another key", b"21.37", key=OTHER_KEY),
            message("another topic, not of ASCII", b"21.37", topic="kessel/wärme"),
            message("256 blocks, of which the head says 0", bytes(4096), counter=9),
        ],
        "stream": {
            "about": "the chunks of the stream whose offer is the message with counter 7 above",
            "key": KEY.hex(), "session": "home", "sender": SENDER.hex(), "counter": 7,
            "chunks": [
                chunk("the first", 0, False, bytes(range(256))),
                chunk("the second", 256, False, b"abc"),
                chunk("the last", 259, True, b"the end"),
                chunk("the last, of nothing", 266, True, b""),
                chunk("far behind", 2**40, False, b"far"),
            ],
        },
        "refused": {
            "about": "messages on boiler/temperature in session home, for who has the first key only",
            "messages": [
                refused("cut by a byte", "truncated", good[:-1]),
                refused("cut by a block", "truncated", good[:-16]),
                refused("longer by a block", "truncated", good + bytes(16)),
                refused("shorter than a head", "truncated", good[:21]),
                refused("empty", "truncated", b""),
                refused("another format", "unknown-format", b"\x20" + sealed(topic="a")[1:]),
                refused("another key", "unknown-key", sealed(Scope(OTHER_KEY, "home"))),
                refused("another session", "other-session", sealed(Scope(KEY, "office"))),
                refused("another topic", "other-topic", sealed(topic="boiler/pressure")),
                refused("sealed as readings", "other-topic", sealed(kind="readings")),
                refused("sealed as an offer", "other-topic", sealed(kind="offer")),
                refused("a bit of the format", "altered", flipped(good, 0, 7)),
                refused("a bit of the padding", "altered", flipped(good, 0)),
                refused("a bit of the number of blocks", "altered", flipped(good, 1)),
                refused("a bit of the key's id", "altered", flipped(good, 2)),
                refused("a bit of the session's id", "altered", flipped(good, 4)),
                refused("a bit of the place", "altered", flipped(good, 6)),
                refused("a bit of the sender", "altered", flipped(good, 8)),
                refused("a bit of the counter", "altered", flipped(good, 21)),
                refused("a bit of the content", "altered", flipped(good, 22)),
                refused("a bit of the tag", "altered", flipped(good, len(good) - 1)),
            ],
        },
    }


# --- answers ------------------------------------------------------------------------------------


def answer(request):
    """Opens what is sealed, or seals what is plain."""
    scope = Scope(bytes.fromhex(request["key"]), request["session"])
    sender, counter = bytes.fromhex(request["sender"]), request["counter"]
    schema = bytes.fromhex(request.get("schema", ""))
    if "offset" in request:
        suite, place = scope.stream(sender, counter), (request["offset"], request["last"])
        if "plain" in request:
            return {"sealed": seal_chunk(suite, *place, bytes.fromhex(request["plain"])).hex()}
        return {"plain": open_chunk(suite, *place, bytes.fromhex(request["sealed"])).hex()}
    content = (request["kind"], request["topic"], schema)
    if "plain" in request:
        plain = bytes.fromhex(request["plain"])
        return {"sealed": seal_message(scope, sender, counter, *content, plain).hex()}
    return {"plain": open_message(scope, *content, bytes.fromhex(request["sealed"])).hex()}


def main(word):
    if word == "answer":
        for line in sys.stdin:
            try:
                print(json.dumps(answer(json.loads(line))))
            except InvalidSignature:
                print(json.dumps({"error": "altered"}))
        return
    text = json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n"
    if word == "write":
        FILE.write_text(text, encoding="utf-8")
    elif FILE.read_text(encoding="utf-8") != text:
        sys.exit("sealing.json is not what sealing.py writes")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__))
