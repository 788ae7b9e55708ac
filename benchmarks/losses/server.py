"""The fake server, in a process of its own: it answers each client in its protocol, and keeps books.

It is told what to do by lines on its standard input, and answers each with a line of JSON. Until
`up` its port is taken and refuses connections, as that of a server which is not there does.

    python -m benchmarks.losses.server FAULT TIMES
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from .protocols import ANSWERS, Answer, Arrival, answer_to, arrivals

__all__ = ["main"]


class Books:
    """What came; thread-safe.

    Args:
        fault: What happens to the first requests with events: `refuse` answers 500 and keeps
            nothing, `drop` keeps them and breaks the connection, `none` is no fault.
        times: To how many requests.
    """

    def __init__(self, fault: str, times: int) -> None:
        self._lock = threading.Lock()
        self._fault = fault
        self._left = times
        self._hits = 0
        self._came: Counter[Arrival] = Counter()
        self._numbers: set[int] = set()
        self._errors: list[str] = []

    def take(self, path: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        """Decide on a request with events; `None` breaks the connection."""
        try:
            events = arrivals(path, headers, body)
        except Exception as error:
            # The run is worth nothing then, and says so.
            with self._lock:
                self._errors.append(f"{path}: {type(error).__name__}: {error}")
            return Answer(400)
        with self._lock:
            hit = self._left > 0
            self._left -= hit
            self._hits += hit
            if hit and self._fault == "refuse":
                return Answer(500, b"{}")
            self._came.update(events)
            self._numbers.update(event.number for event in events)
            return None if hit and self._fault == "drop" else ANSWERS[path]

    def count(self) -> dict[str, Any]:
        """How many events came, each counted once, and how many with repetitions."""
        with self._lock:
            return {"numbers": len(self._numbers), "receipts": self._came.total()}

    def all(self) -> dict[str, Any]:
        """Every event with its ids, the faults so far, and what could not be read."""
        with self._lock:
            came = [[event.number, event.id, times] for event, times in self._came.items()]
            return {"came": came, "faults": self._hits, "errors": self._errors}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, books: Books) -> None:
        self.books = books
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.server_bind()

    def up(self) -> None:
        """Listen, and serve in a thread."""
        self.server_activate()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that was killed in the middle of a request is what is tested here.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        body = self._read_body()
        path = self.path.partition("?")[0]
        answer: Answer | None = answer_to(self.command, path)
        if self.command == "POST" and path in ANSWERS:
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = self.server.books.take(path, headers, body)
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        if answer.status != 204:
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_POST = _serve  # noqa: N815

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self._read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            body += self._read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _read(self, length: int) -> bytes:
        data = self.rfile.read(length)
        if len(data) < length:
            raise ConnectionAbortedError("the client went away in the middle of its request")
        return data

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def main(fault: str, times: int) -> None:
    """Serve until standard input ends."""
    books = Books(fault, times)
    server = _Server(books)
    print(json.dumps({"url": f"http://127.0.0.1:{server.server_port}"}), flush=True)
    for line in sys.stdin:
        order = line.strip()
        answer: dict[str, Any] = {}
        if order == "up":
            server.up()
        elif order == "count":
            answer = books.count()
        elif order == "all":
            answer = books.all()
        else:
            raise ValueError(f"no such order: {order!r}")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
