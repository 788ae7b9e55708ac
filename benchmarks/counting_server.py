"""An HTTP server that costs a client as little as one can: it counts events and answers 204.

It runs in a process of its own and obeys single lines on its standard input, each answered by
one line: `listen` (until then connections are refused), `hold` (requests are read and left
without an answer), `go`, `count`, `bytes`. `CountingServer` is the other end of those pipes.

Events are counted by the name of an attribute that each of them has once; nothing is parsed.
Amberflo's client compresses, and wants a 200: its bodies are kept and counted when asked for.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import zlib
from types import TracebackType
from typing import Self

OURS, AMBERFLOS = b'"specversion"', b'"uniqueId"'
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
BUFFER = 64 << 20


class CountingServer:
    """A running server, held from outside.

    Attributes:
        port: Where it is, on 127.0.0.1.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = int(self._answer())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()

    def tell(self, command: str) -> int:
        """Give it an order; returns how many events it has taken, or bytes for `bytes`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return int(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


class _State:
    def __init__(self) -> None:
        self.going = threading.Event()
        self.going.set()
        self.counted = 0
        self.bytes = 0
        self.packed: list[bytes] = []
        self._lock = threading.Lock()

    def take(self, body: memoryview, *, packed: bool) -> None:
        found = 0 if packed else bytes(body).count(OURS)
        if packed:
            self.packed.append(bytes(body))
        with self._lock:
            self.counted += found
            self.bytes += len(body)

    def count(self) -> int:
        unpacked = sum(zlib.decompress(body, 31).count(AMBERFLOS) for body in self.packed)
        return self.counted + unpacked


def _serve(connection: socket.socket, state: _State) -> None:
    buffer = memoryview(bytearray(BUFFER))
    filled = 0
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            received = connection.recv_into(buffer[filled:])
            if not received:
                return
            filled += received
            head = bytes(buffer[: min(filled, 4096)])
            end = head.find(b"\r\n\r\n") + 4
            length = LENGTH.search(head, 0, end) if end > 3 else None
            if length is None:
                continue
            whole = end + int(length[1])
            while filled < whole:
                received = connection.recv_into(buffer[filled:])
                if not received:
                    return
                filled += received
            state.going.wait()
            packed = head.startswith(b"POST /ingest")
            state.take(buffer[end:whole], packed=packed)
            connection.sendall(OK if packed else NO_CONTENT)
            filled = 0


def _accept(listener: socket.socket, state: _State) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, state), daemon=True).start()


def main() -> None:
    """Serve until the standard input ends."""
    state = _State()
    # Bound and not listening: the port is ours, and whoever connects is refused.
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    for line in sys.stdin:
        match line.strip():
            case "listen":
                listener.listen()
                threading.Thread(target=_accept, args=(listener, state), daemon=True).start()
            case "hold":
                state.going.clear()
            case "go":
                state.going.set()
        print(state.bytes if line.strip() == "bytes" else state.count(), flush=True)


if __name__ == "__main__":
    main()
