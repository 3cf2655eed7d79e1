"""Carries text between lines and a WebSocket, with a client library that fastPort did not write.

Each line of stdin is sent as a text message. Each message that comes is a line of stdout: text as it
is, which JSON on one line can be; anything else as `binary` and its length. The first line is the
subprotocol, the last one `closed` and the close code. End of input closes the connection.
"""

import sys
import threading

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

url, subprotocols = sys.argv[1], sys.argv[2:]


def say(line):
    print(line, flush=True)


def receive(socket):
    try:
        for message in socket:
            say(message if isinstance(message, str) else f"binary {len(message)}")
    except ConnectionClosed:
        pass  # without a close frame; the code says it
    say(f"closed {socket.protocol.close_code}")


with connect(url, subprotocols=subprotocols or None, open_timeout=30, close_timeout=30) as socket:
    say(socket.subprotocol)
    receiver = threading.Thread(target=receive, args=(socket,))
    receiver.start()
    try:
        for line in sys.stdin:
            socket.send(line.rstrip("\n"))
    except ConnectionClosed:
        pass
    socket.close()
    receiver.join()
