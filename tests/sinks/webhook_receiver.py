"""A company's own server: it verifies with the official library and keeps a ledger of its own."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks import Webhook, WebhookVerificationError


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What it is told to answer; `stores` is whether it keeps the events all the same."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    stores: bool = False
    cuts: bool = False


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as it came."""

    method: str
    path: str
    headers: Message
    body: bytes
    client: int


class WebhookReceiver:
    """Listens on a port of its own while the `with` block lasts.

    `secret` is what it verifies with; without one it takes what is not signed. `poison` is an id
    for which it refuses a whole batch.
    """

    def __init__(self, secret: str | None = None) -> None:
        self.secret = secret
        self.token: str | None = None
        self.poison: str | None = None
        self.received: list[Request] = []
        self.arrivals: list[str] = []
        self.ledger: dict[tuple[str, str], dict[str, Any]] = {}
        self.orders: list[Answer] = []
        self.port = 0
        self._server: _Server | None = None
        self._placeholder: socket.socket | None = None

    @property
    def url(self) -> str:
        return f"cloudevents+http://127.0.0.1:{self.port}/usage"

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, *_: object) -> None:
        self.down()
        if self._placeholder is not None:
            self._placeholder.close()

    def up(self) -> None:
        if self._placeholder is not None:
            self._placeholder.close()
        self._server = _Server(self.port, self)
        self.port = self._server.server_port
        self._server.begin()

    def down(self) -> None:
        if self._server is not None:
            self._server.end()
            self._server = None
            # Bound and not listening: connections are refused, and nobody else gets the port.
            self._placeholder = socket.socket()
            self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._placeholder.bind(("127.0.0.1", self.port))

    def take(self, request: Request) -> Answer:
        """What becomes of a request."""
        self.received.append(request)
        order = self.orders.pop(0) if self.orders else None
        if order is not None and not order.stores:
            return order
        if request.method != "POST":
            return Answer(status=405)
        if self.token and request.headers["Authorization"] != f"Bearer {self.token}":
            return Answer(status=401)
        try:
            events = self._verified(request)
        except WebhookVerificationError:
            return Answer(status=401)
        if any(event["id"] == self.poison for event in events):
            return Answer(status=422)
        for event in events:
            self.arrivals.append(event["id"])
            self.ledger.setdefault((event["source"], event["id"]), event)
        return order or Answer(status=204)

    def _verified(self, request: Request) -> list[dict[str, Any]]:
        if self.secret is None:
            events: list[dict[str, Any]] = json.loads(request.body)
            return events
        verified: list[dict[str, Any]] = Webhook(self.secret).verify(
            request.body, dict(request.headers.items())
        )
        return verified

    def count(self) -> Counter[str]:
        """How often each event came, repeats included."""
        return Counter(self.arrivals)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, port: int, receiver: WebhookReceiver) -> None:
        self.receiver = receiver
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def begin(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the client was faster

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def close_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        request = Request(
            method=self.command,
            path=self.path,
            headers=self.headers,
            body=self.rfile.read(int(self.headers.get("Content-Length", "0"))),
            client=self.client_address[1],
        )
        answer = self.server.receiver.take(request)
        if answer.cuts:
            self.close_connection = True
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_POST = do_OPTIONS = do_GET = _serve  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a test reads `received`."""
