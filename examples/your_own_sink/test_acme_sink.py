"""The contract that every sink of llm-metering keeps, for Acme's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llm_metering.sinks import open_sink
from llm_metering.testing import RemoteSinkContract, SinkBench


class FakeAcme(BaseHTTPRequestHandler):
    """Keeps each record once; says 503 while it is away."""

    server: Acme

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self.server.is_away:
            self.server.records |= {record["id"]: record for record in body["records"]}
        self.send_response(503 if self.server.is_away else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Acme(ThreadingHTTPServer):
    """Acme's server."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeAcme)
        self.records: dict[str, dict[str, object]] = {}
        self.is_away = False

    def go(self, *, away: bool) -> None:
        self.is_away = away


class TestAcme(RemoteSinkContract):
    """All of the contract; it needs no more than a bench."""

    @pytest.fixture
    def bench(self) -> Iterator[SinkBench]:
        with Acme() as acme:
            thread = threading.Thread(target=acme.serve_forever, args=(0.05,))
            thread.start()
            yield SinkBench(
                sink=open_sink(f"acme+http://127.0.0.1:{acme.server_port}/v1", source="tests"),
                arrived=lambda: [name.partition("/")[2] for name in acme.records],
                go_away=lambda: acme.go(away=True),
                come_back=lambda: acme.go(away=False),
            )
            acme.shutdown()
            thread.join()
