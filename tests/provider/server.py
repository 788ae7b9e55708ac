"""The provider's server: real HTTP/1.1, one thread a connection, streams in chunks."""

from __future__ import annotations

import json
import re
import select
import socket
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from .calls import Call, Frame
from .ledger import Entry, Ledger
from .shapes import Route, Shape, route_of

__all__ = ["Server"]

_MARKS: Final = {
    name: re.compile(rb"\[" + name.encode() + rb":([^\]\\\"]+)\]") for name in ("call", "subject")
}
NONE: Final[Mapping[str, str]] = {}
_PATIENCE: Final = 60.0
_SLOW: Final = 10


class Server(ThreadingHTTPServer):
    """Listens on a free port of 127.0.0.1."""

    daemon_threads = True
    block_on_close = False
    # A thousand clients may come at once.
    request_queue_size = 1024

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.ledger = Ledger()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; a fault of ours is."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _ClientLeftError(Exception):
    """The client broke off."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # A piece goes out when it is written, not when the next one is.
    disable_nagle_algorithm = True
    server: Server
    request_name = "request"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/ledger":
            self._send(200, self.server.ledger.since(int(query.partition("=")[2] or 0)))
        elif path == "/modules":
            self._send(200, sorted({name.partition(".")[0] for name in sys.modules}))
        elif path.startswith("/v1beta/models/"):
            # Older clients of Gemini look a model up before they ask it.
            limits = {"inputTokenLimit": 100_000, "outputTokenLimit": 1_000}
            self._send(200, {"name": path.removeprefix("/v1beta/"), **limits})
        else:
            self._send(404, {"error": f"no {path}"})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/forget":
            self._send(200, self.server.ledger.forget())
            return
        body = json.loads(raw or b"{}")
        route = route_of(self.path, body)
        if route is None:
            self._send(404, {"error": f"no {self.path}"})
            return
        call = Call(self._entry(route, raw, body), body)
        self.request_name = f"request-{call.entry.number}"
        try:
            self._answer(call, route)
        except (_ClientLeftError, OSError):
            call.entry.left = True
            self.close_connection = True
        finally:
            call.entry.open = False

    def _entry(self, route: Route, raw: bytes, body: dict[str, Any]) -> Entry:
        found = {name: mark.search(raw) for name, mark in _MARKS.items()}
        marks = {name: match[1].decode() if match else None for name, match in found.items()}
        facts = {"path": self.path.partition("?")[0], "shape": route.shape.name, **marks}
        return self.server.ledger.open(
            **facts, model=route.model, streamed=route.streamed, user=body.get("user")
        )

    def _answer(self, call: Call, route: Route) -> None:
        status = self._refusal(call)
        if status:
            call.entry.status = status
            self._send(status, route.shape.error(call, status))
            return
        call.entry.status = 200
        if "search_units" not in route.shape.tells:
            call.entry.input = call.input
        for name in route.shape.tells - {"reasoning"}:
            setattr(call.entry, name, getattr(call, name))
        if route.streamed and route.shape.frames is not None:
            self._stream(call, route.shape)
        else:
            self._answer_at_once(call, route.shape)

    def _refusal(self, call: Call) -> int:
        """The status that a request is refused with; 0 if it is not."""
        if call.has("429once"):
            entry = call.entry
            key = "/".join(map(str, (entry.path, entry.model, entry.call)))
            return 429 if self.server.ledger.refuses(key) else 0
        if call.has("errmid") and not call.entry.streamed:
            return 500
        return call.traits.get("refuse", 0)

    def _answer_at_once(self, call: Call, shape: Shape) -> None:
        self._wait_a_little(call)
        answer, text = shape.answer(call)
        entry = call.entry
        if not (shape.name.endswith(("embeddings", "embed", "rerank")) or call.embeds):
            entry.output, entry.pieces = call.output, 1
            entry.reasoning = call.reasoning if "reasoning" in shape.tells else 0
        if call.has("hang"):
            self._wait_for_the_end()
        if call.has("die"):
            self.close_connection = True
            return
        entry.text_bytes = len(text.encode())
        headers = shape.headers(call) if shape.headers else {}
        told = json.dumps(answer)
        entry.usage_sent = bool(headers) or "usage" in told or "eval_count" in answer
        entry.usage_sent = entry.usage_sent or "search_units" in told
        self._send(200, answer, headers, cut=call.has("cut"))

    def _stream(self, call: Call, shape: Shape) -> None:
        self.send_response(200)
        self.send_header("Content-Type", shape.stream_type)
        self.send_header("Transfer-Encoding", "chunked")
        self._end_headers()
        assert shape.frames is not None
        assert shape.error_frame is not None
        for frame in shape.frames(call):
            if frame.tokens:
                if call.edge("hang") == call.entry.pieces:
                    self._wait_for_the_end()
                if call.edge("die") == call.entry.pieces:
                    return
                if call.edge("errmid") == call.entry.pieces:
                    self._write(call, shape, shape.error_frame(call))
                    break
                self._wait_a_little(call)
            self._write(call, shape, frame)
        self.wfile.write(b"0\r\n\r\n")

    def _write(self, call: Call, shape: Shape, frame: Frame) -> None:
        if self._has_left(0):
            raise _ClientLeftError
        entry = call.entry
        # In the books before it is sent: who has read it may look it up.
        if frame.tokens:
            entry.pieces += 1
            entry.output += frame.tokens
            entry.reasoning = call.reasoning if "reasoning" in shape.tells else 0
            entry.text_bytes += len(frame.text.encode())
        entry.usage_sent = entry.usage_sent or frame.tells_usage
        self.wfile.write(b"%x\r\n%s\r\n" % (len(frame.data), frame.data))

    def _wait_a_little(self, call: Call) -> None:
        if call.has("slow") and self._has_left((call.traits["slow"] or _SLOW) / 1000):
            raise _ClientLeftError

    def _wait_for_the_end(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            if self._has_left(0.5):
                break
        raise _ClientLeftError

    def _has_left(self, seconds: float) -> bool:
        """Whether the client closes the connection, now or within so many seconds."""
        readable, _, _ = select.select([self.connection], [], [], seconds)
        if not readable:
            return False
        return not self.connection.recv(1, socket.MSG_PEEK)

    def _send(
        self, status: int, answer: Any, headers: Mapping[str, str] = NONE, *, cut: bool = False
    ) -> None:
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        if status == 429:
            # For SDKs that would else wait for seconds.
            self.send_header("retry-after-ms", "1")
        self._end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)

    def _end_headers(self) -> None:
        self.send_header("x-amzn-RequestId", self.request_name)
        # A connection for each request: many clients never close theirs, and the garbage collector
        # that does it for them warns.
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
