"""The HTTP clients of the demo."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llm_metering.demo import loopback


class Handler(BaseHTTPRequestHandler):
    """Answers everything, and would keep connections open."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.clients.add(self.client_address)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *arguments):
        """Keep quiet."""


@pytest.fixture
def http_server():
    """A server that remembers from which ports it was asked."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.clients = set()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_no_connection_is_used_twice(http_server):
    """Each request has its own connection, since the model server may drop one that was used."""
    url = f"http://127.0.0.1:{http_server.server_port}"

    with loopback.client(10.0) as client:
        for _ in range(2):
            client.get(url)

    assert len(http_server.clients) == 2


def test_no_connection_is_used_twice_in_asyncio(http_server):
    """The same holds for the async client."""
    url = f"http://127.0.0.1:{http_server.server_port}"

    async def ask():
        async with loopback.async_client(10.0) as client:
            for _ in range(2):
                await client.get(url)

    asyncio.run(ask())

    assert len(http_server.clients) == 2
