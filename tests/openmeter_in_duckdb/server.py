"""The query API over HTTP on 127.0.0.1: v1 and v3, lists of meters and questions."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, Self
from urllib.parse import parse_qsl, urlsplit

from .engine import Query, Row
from .requests import RefusedError, query_of_v1, query_of_v3
from .responses import document_v1, document_v3, meter_v1, meter_v3

__all__ = ["Engine", "QueryServer"]


class Engine(Protocol):
    """What computes the answers."""

    def rows(self, meter: Mapping[str, Any], query: Query) -> list[Row]: ...

    def knows_zone(self, name: str) -> bool: ...


class QueryServer:
    """A server for as long as the `with` block lasts.

    Args:
        engine: Keeps the events and computes the answers.

    Attributes:
        meters: Those there are, in the words of v1; set them at any time.
        asked: Every question so far: path and body.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.meters: Sequence[Mapping[str, Any]] = ()
        self.asked: list[tuple[str, Any]] = []

    def __enter__(self) -> Self:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(server.list_meters, self.path)

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                self._answer(server.query, self.path, self.headers.get("Content-Type"), body)

            def _answer(self, method: Any, *arguments: Any) -> None:
                try:
                    status, document = 200, method(*arguments)
                except RefusedError as refused:
                    status = refused.status
                    document = {"type": "about:blank", "status": status, "detail": str(refused)}
                content = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                """Tests are quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def list_meters(self, path: str) -> Any:
        parts = urlsplit(path)
        asked = dict(parse_qsl(parts.query))
        if parts.path == "/api/v1/meters" and asked.keys() <= {"page", "pageSize"}:
            page, size = int(asked.get("page", 1)), int(asked.get("pageSize", 100))
            if not 1 <= size <= 1000:
                raise RefusedError("pageSize is at most 1000")
            return [meter_v1(*each) for each in self._page(page, size)]
        if parts.path == "/api/v3/openmeter/meters" and asked.keys() <= {
            "page[number]",
            "page[size]",
        }:
            page, size = int(asked.get("page[number]", 1)), int(asked.get("page[size]", 100))
            if not 1 <= size <= 100:
                raise RefusedError("page[size] is at most 100")
            meters = [meter_v3(*each) for each in self._page(page, size)]
            total = len(self.meters)
            return {
                "data": meters,
                "meta": {"page": {"number": page, "size": size, "total": total}},
            }
        raise RefusedError("no such page", 404)

    def query(self, path: str, content_type: str | None, body: bytes) -> Any:
        if content_type != "application/json":
            raise RefusedError("header Content-Type has unexpected value", 415)
        asked = json.loads(body)
        self.asked.append((path, asked))
        match path.split("/"):
            case ["", "api", "v1", "meters", name, "query"]:
                meter = self._meter("slug", name)
                query = query_of_v1(asked, meter, self.engine.knows_zone)
                return document_v1(asked, query, self.engine.rows(meter, query))
            case ["", "api", "v3", "openmeter", "meters", name, "query"]:
                meter = self._meter("id", name)
                query = query_of_v3(asked, meter, self.engine.knows_zone)
                return document_v3(asked, query, self.engine.rows(meter, query))
        raise RefusedError("no such page", 404)

    def _page(self, number: int, size: int) -> list[tuple[int, Mapping[str, Any]]]:
        return list(enumerate(self.meters))[(number - 1) * size : number * size]

    def _meter(self, key: str, name: str) -> Mapping[str, Any]:
        for each in enumerate(self.meters):
            if meter_v1(*each)[key] == name:
                return each[1]
        raise RefusedError(f"meter not found: {name}", 404)
