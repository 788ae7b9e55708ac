"""A stand-in for OpenMeter's ingest API: real HTTP, strict about requests, breakable at will.

What it does is what OpenMeter's handlers do
(https://github.com/openmeterio/openmeter/blob/main/openmeter/ingest/httpdriver/ingest.go), with
deduplication left out, as it is there by default: a test sees what was sent twice.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jsonschema
import yaml

BATCH = "application/cloudevents-batch+json"
PATHS = {"/api/v1/events": 204, "/api/v3/openmeter/events": 202}
SPEC_VARIABLE = "LLM_METERING_OPENMETER_SPEC"
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True, slots=True)
class Request:
    """A request as it came in.

    Attributes:
        path: Its path.
        headers: Its headers; names in any case find them.
        body: Its body.
        status: What was answered; 0 where the connection was closed without an answer.
        client: The port that it came from, which tells connections apart.
    """

    path: str
    headers: Message
    body: bytes
    status: int
    client: int

    @property
    def ids(self) -> list[str]:
        """The ids of the events in the body."""
        return [event["id"] for event in json.loads(self.body)]


@dataclass(slots=True)
class _Order:
    """What to do with the next requests instead of the usual."""

    times: int
    status: int | None = None  # None: store, then hang up
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class OpenMeterStub:
    """An OpenMeter server on 127.0.0.1, for as long as the `with` block lasts.

    >>> with OpenMeterStub() as stub:
    ...     stub.url.startswith("openmeter+http://127.0.0.1:")
    True

    A request that OpenMeter would refuse gets its 400 and is noted in `violations`: a wrong path,
    another Content-Type (a charset behind it is enough), a body that is not valid against
    `tests/schemas/cloudevent.json`, nor, where the environment variable
    LLM_METERING_OPENMETER_SPEC names OpenMeter's own document, against `components.schemas.Event`
    of that. One invalid event refuses its whole batch, and nothing of it is stored.

    Args:
        token: The bearer token to ask for; without one, anybody may send.

    Attributes:
        requests: Every request, in the order in which they were answered.
        events: Every stored event, in order, as often as it was sent.
        violations: Why requests were refused as wrong.
    """

    def __init__(self, token: str | None = None) -> None:
        self.requests: list[Request] = []
        self.events: list[dict[str, Any]] = []
        self.violations: list[str] = []
        self._token = token
        self._orders: list[_Order] = []
        self._changed = threading.Condition()
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._placeholder: socket.socket | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.down()
        if self._placeholder is not None:
            self._placeholder.close()

    @property
    def base(self) -> str:
        """The server's address: `http://127.0.0.1:…`; the same through `down` and `up`."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The URL of the sink that sends here."""
        return f"openmeter+{self.base}"

    def unique(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The stored events by source and id, first one wins: what a server counts that dedupes."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        with self._changed:
            for event in self.events:
                found.setdefault((event["source"], event["id"]), event)
        return found

    def wait_for(self, count: int, timeout: float = 10.0) -> bool:
        """Wait until that many different events are stored.

        Args:
            count: Different events.
            timeout: Seconds.

        Returns:
            Whether they came.
        """
        with self._changed:
            return self._changed.wait_for(lambda: len(self.unique()) >= count, timeout)

    def down(self) -> None:
        """Go away: open connections are cut, new ones refused, the port stays ours."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.shutdown()
        server.server_close()
        server.cut()
        assert self._thread is not None
        self._thread.join()
        # Bound and not listening, it refuses, and nobody else is given the port.
        self._placeholder = socket.socket()
        self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._placeholder.bind(("127.0.0.1", self.port))

    def up(self) -> None:
        """Listen, again on the same port, with all that is stored."""
        if self._server is not None:
            return
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()

    def answer_next(
        self,
        status: int,
        headers: Mapping[str, str] | None = None,
        times: int = 1,
        body: bytes = b"",
    ) -> None:
        """Answer the next requests like this and store nothing of them.

        Args:
            status: Of the answer.
            headers: Of the answer.
            times: How many requests.
            body: Of the answer.
        """
        with self._changed:
            self._orders.append(_Order(times, status, headers or {}, body))

    def drop_after_accept(self, times: int = 1) -> None:
        """Store the next requests' events, then hang up without an answer.

        Args:
            times: How many requests.
        """
        with self._changed:
            self._orders.append(_Order(times))

    def take(self, path: str, headers: Message, body: bytes, client: int) -> _Order | None:
        """Decide on a request and keep it; `None` hangs up. For the request handler."""
        with self._changed:
            order = self._orders[0] if self._orders else None
            if order is not None:
                order.times -= 1
                if order.times == 0:
                    self._orders.pop(0)
            if order is None or order.status is None:
                answer = self._ingest(path, headers, body)
                # Hanging up comes after accepting: what is wrong is refused all the same.
                if order is not None and answer.status in PATHS.values():
                    answer.status = None
            else:
                answer = order
            self.requests.append(Request(path, headers, body, answer.status or 0, client))
            self._changed.notify_all()
        return None if answer.status is None else answer

    def _ingest(self, path: str, headers: Message, body: bytes) -> _Order:
        if self._token is not None and headers["Authorization"] != f"Bearer {self._token}":
            return _problem(401, "Unauthorized", "no valid token")
        if path not in PATHS:
            return self._refuse(404, f"no such path: {path}")
        if headers["Content-Type"] != BATCH:
            return self._refuse(400, f"invalid content type: {headers['Content-Type']}")
        try:
            events = json.loads(body, parse_constant=_refuse_constant)
        except ValueError as error:
            return self._refuse(400, f"no JSON: {error}")
        if not isinstance(events, list):
            return self._refuse(400, "a batch is an array")
        for event in events:
            for validator in _validators():
                for problem in validator.iter_errors(event):
                    return self._refuse(400, f"request body has an error: {problem.message}")
        self.events += events
        return _Order(1, PATHS[path])

    def _refuse(self, status: int, detail: str) -> _Order:
        self.violations.append(detail)
        return _problem(status, "Bad Request", detail)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], stub: OpenMeterStub) -> None:
        self.stub = stub
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or was cut, is no news."""

    def cut(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):  # the client was faster
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.server.stub.take(self.path, self.headers, body, self.client_address[1])
        if answer is None or answer.status is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a test reads `requests`."""


def _problem(status: int, title: str, detail: str) -> _Order:
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    headers = {"Content-Type": "application/problem+json"}
    return _Order(1, status, headers, json.dumps(document).encode())


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


@functools.cache
def _validators() -> tuple[jsonschema.protocols.Validator, ...]:
    ours = Path(__file__).parent / "schemas" / "cloudevent.json"
    schemas = [json.loads(ours.read_text("utf-8"))]
    if path := os.environ.get(SPEC_VARIABLE):
        schemas.append(openmeter_schema(Path(path), "Event"))
    formats = jsonschema.FormatChecker(formats=())
    formats.checks("date-time")(lambda text: not isinstance(text, str) or _is_time(text))
    return tuple(jsonschema.Draft202012Validator(s, format_checker=formats) for s in schemas)


def _is_time(text: str) -> bool:
    return _RFC3339.fullmatch(text) is not None


@functools.cache
def openmeter_schema(path: Path, name: str) -> dict[str, Any]:
    """A schema of OpenMeter's own document, as JSON Schema.

    Args:
        path: The document, OpenAPI 3.0.
        name: The schema below `components.schemas`.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the other takes ten seconds
    schemas = yaml.load(path.read_text("utf-8"), loader)["components"]["schemas"]
    schema: dict[str, Any] = {**_as_json_schema(schemas[name]), "components": {"schemas": {}}}
    missing = _references(schema)
    while missing:
        wanted = missing.pop()
        if wanted not in schema["components"]["schemas"]:
            converted = _as_json_schema(schemas[wanted])
            schema["components"]["schemas"][wanted] = converted
            missing |= _references(converted)
    return schema


def _references(node: Any) -> set[str]:
    if isinstance(node, dict):
        found = {node["$ref"].rpartition("/")[2]} if isinstance(node.get("$ref"), str) else set()
        return found.union(*(_references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(_references(value) for value in node))
    return set()


def _as_json_schema(node: Any) -> Any:
    """Turn OpenAPI 3.0's dialect into JSON Schema's: nothing may be null that does not say so."""
    if isinstance(node, list):
        return [_as_json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    converted = {
        key: value if key in ("example", "default", "enum") else _as_json_schema(value)
        for key, value in node.items()
    }
    if converted.get("additionalProperties") == {}:
        # An empty schema takes anything but null in OpenAPI 3.0.
        converted["additionalProperties"] = {"not": {"type": "null"}}
    if converted.pop("nullable", False):
        converted["type"] = [converted["type"], "null"]
        if "enum" in converted:
            converted["enum"] = [*converted["enum"], None]
    return converted
