"""The fake server's side of HTTP: connections that are served, cut, held and reset."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from ..faults import Fault, Hang, Reset, Slow
from ..received import Received
from .desk import Desk, first_of
from .ingest import Answer

__all__ = ["ADMIN", "Admin", "Wire"]

ADMIN: Final = "/testing/"
"""Under this path the server speaks of itself; no request to it is noted."""

Admin = Callable[[str, str, bytes], Answer]

_POLL: Final = 0.02
_JOIN_TIMEOUT: Final = 5.0
_NO_BODY: Final = frozenset([204, 304])


class Wire(ThreadingHTTPServer):
    """An HTTP server on 127.0.0.1 in threads of its own.

    Args:
        port: Where to listen; 0 is any that is free.
        desk: Who decides.
        admin: Who answers under `ADMIN`.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, desk: Desk, admin: Admin) -> None:
        self.desk = desk
        self.admin = admin
        self._connections: dict[socket.socket, threading.Thread] = {}
        self._abrupt: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", port), _Handler)
        self._thread = threading.Thread(
            target=self.serve_forever,
            kwargs={"poll_interval": _POLL},
            name="openmeter-server",
            daemon=True,
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def begin(self) -> None:
        """Serve."""
        self._thread.start()

    def end(self) -> None:
        """Stop listening, cut what is open, and wait until nothing of it runs."""
        self.shutdown()
        self._thread.join()
        # A forked child may hold the socket as well, and would keep it listening.
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.server_close()
        with self._lock:
            connections = dict(self._connections)
        for connection, thread in connections.items():
            with contextlib.suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(_JOIN_TIMEOUT)

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(
            target=self.process_request_thread,
            args=(request, client_address),
            name="openmeter-connection",
            daemon=True,
        )
        with self._lock:
            self._connections[request] = thread
        thread.start()

    def reset(self, connection: socket.socket) -> None:
        """Have a connection end with a reset instead of a proper close."""
        # Closed with a linger of no seconds, a socket sends RST.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with self._lock:
            self._abrupt.add(connection)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            abrupt = request in self._abrupt
            self._abrupt.discard(request)
        if abrupt:
            self.close_request(request)
        else:
            super().shutdown_request(request)
        with self._lock:
            self._connections.pop(request, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that went away, or was cut, is no news; a function given by a test may fail.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Wire

    def _serve(self) -> None:
        body = self._read_body()
        if body is None:
            self.send_error(HTTPStatus.BAD_REQUEST)
            return
        path, _, query = self.path.partition("?")
        if path.startswith(ADMIN):
            self._send(_encode(self.server.admin(self.command, path, body)))
            return
        request = Received(
            method=self.command,
            path=path,
            query=query,
            headers=self.headers,
            body=body,
            client=self.client_address[1],
        )
        self._conduct(request)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815

    def _conduct(self, request: Received) -> None:
        desk = self.server.desk
        number, faults = desk.arrive(request)
        hang, reset = first_of(Hang, faults), first_of(Reset, faults)
        if hang is not None and hang.when == "before" and not desk.hang():
            return self._break_off()
        if reset is not None and reset.when == "before":
            return self._break_off()
        answer = desk.settle(number)
        if hang is not None and hang.when == "after" and not desk.hang():
            return self._break_off()
        if reset is not None and reset.when == "after":
            return self._break_off()
        data = _encode(answer)
        if reset is not None:
            self.close_connection = True
            # A reset could overtake what was sent; a proper close does not.
            return self._send(data[: len(data) // 2])
        desk.answered(number, answer)
        return self._send_slowly(data, faults)

    def _send_slowly(self, data: bytes, faults: tuple[Fault, ...]) -> None:
        slow = first_of(Slow, faults)
        if slow is None:
            return self._send(data)
        for start in range(0, len(data), slow.piece):
            if start:
                slow.wait(slow.seconds)
            self._send(data[start : start + slow.piece])
        return None

    def _send(self, data: bytes) -> None:
        self.wfile.write(data)

    def _break_off(self) -> None:
        self.close_connection = True
        self.server.reset(self.connection)

    def _read_body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return self._read_chunks()
        length = self.headers.get("Content-Length", "0")
        return self._read(int(length)) if length.isdecimal() else None

    def _read_chunks(self) -> bytes | None:
        body = b""
        while True:
            size = self.rfile.readline().partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size):
                return None
            body += self._read(int(size, 16))
            while self.rfile.readline().strip():
                pass  # behind the last chunk there may be trailers
            if not int(size, 16):
                return body

    def _read(self, length: int) -> bytes:
        data = self.rfile.read(length)
        if len(data) < length:
            raise ConnectionAbortedError("the client went away in the middle of its request")
        return data

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a test reads `received`."""


def _encode(answer: Answer) -> bytes:
    try:
        phrase = HTTPStatus(answer.status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {answer.status} {phrase}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items()]
    body = b"" if answer.status in _NO_BODY else answer.body
    if answer.status not in _NO_BODY:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body
