"""A server that stands where a broker of Kafka would, and takes no password."""

from __future__ import annotations

import socket
import struct
import threading
from typing import Self

__all__ = ["RefusingBroker"]

PATIENCE = 20.0


class RefusingBroker:
    """Listens where a broker would, asks for a password, and takes none.

    Its answers are those of https://kafka.apache.org/protocol.html: ApiVersions, SaslHandshake,
    SaslAuthenticate.

    Args:
        words: What it says of a password.
    """

    def __init__(self, words: str) -> None:
        self._words = words.encode()

    def __enter__(self) -> Self:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.bootstrap = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(PATIENCE)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as requests:
                while size := requests.read(4):
                    request = requests.read(int.from_bytes(size))
                    api = int.from_bytes(request[:2])
                    answer = request[4:8] + self._answer(api, int.from_bytes(request[2:4]))
                    connection.sendall(struct.pack(">i", len(answer)) + answer)

    def _answer(self, api: int, version: int) -> bytes:
        if api == 18:
            ranges = [(0, 0, 8), (3, 0, 4), (17, 0, 1), (18, 0, 3), (22, 0, 1), (36, 0, 1)]
            if version < 3:
                entries = b"".join(struct.pack(">hhh", *each) for each in ranges)
                return struct.pack(">hi", 0, len(ranges)) + entries
            entries = b"".join(struct.pack(">hhhb", *each, 0) for each in ranges)
            return struct.pack(">hb", 0, len(ranges) + 1) + entries + struct.pack(">ib", 0, 0)
        if api == 17:
            return struct.pack(">hih", 0, 1, 5) + b"PLAIN"
        assert api == 36, api
        said = struct.pack(">hh", 58, len(self._words)) + self._words
        return said + struct.pack(">i", 0) + (struct.pack(">q", 0) if version >= 1 else b"")
