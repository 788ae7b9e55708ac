"""A server that answers as providers do on a bad day; real HTTP, and never an answer.

The model server of the other tests answers every request it understands. What it cannot do is
refuse for want of quota, stay silent, or die in the middle of a stream.
"""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

__all__ = ["UnrulyProvider"]


class UnrulyProvider:
    """Listens on 127.0.0.1 for as long as the `with` block lasts.

    What it does with a request stands in the base URL: `url("429")` refuses each with that
    status, in the shape of OpenAI's errors
    (https://platform.openai.com/docs/guides/error-codes); `url("silent")` never answers;
    `url("stall")` streams `pieces` and falls silent; `url("die")` streams them and closes the
    connection in the middle of the answer.

    Attributes:
        requests: How many requests came in.
        arrived: Set with each request, for a test to wait for and clear.
        pieces: What it streams.
    """

    pieces = ("one ", "two ", "three ")

    def __init__(self) -> None:
        self.requests = 0
        self.arrived = threading.Event()
        self._over = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, behaviour: str) -> str:
        """The base URL of OpenAI's clients for that behaviour."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{behaviour}/v1"

    def come_in(self) -> None:
        """Note a request. For the request handler."""
        self.requests += 1
        self.arrived.set()

    def stay_silent(self) -> None:
        """Block until the test is over. For the request handler."""
        self._over.wait()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], provider: UnrulyProvider) -> None:
        self.provider = provider
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.close_connection = True
        behaviour = self.path.split("/")[1]
        provider = self.server.provider
        if behaviour in ("stall", "die"):
            self._stream(provider.pieces)
        provider.come_in()
        if behaviour in ("silent", "stall"):
            provider.stay_silent()
        elif behaviour != "die":
            self._refuse(int(behaviour))

    def _refuse(self, status: int) -> None:
        error = {"message": "no", "type": "some_error", "param": None, "code": "some_code"}
        body = json.dumps({"error": error}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, pieces: tuple[str, ...]) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces:
            delta = {"index": 0, "delta": {"role": "assistant", "content": piece}}
            chunk = {"id": "c", "object": "chat.completion.chunk", "model": "m", "created": 1}
            data = f"data: {json.dumps({**chunk, 'choices': [delta]})}\n\n".encode()
            with contextlib.suppress(OSError):  # the client has left
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
