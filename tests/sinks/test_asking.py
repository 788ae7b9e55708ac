"""Requests that ask a server something end when they have to, whatever the server does."""

from __future__ import annotations

import itertools
import socket
import threading

import pytest

from llm_metering.sinks.asking import Asker, UnreachableError

BEGINNING = b"HTTP/1.1 200 OK\r\n"


class Endless:
    """A server that begins an answer and never ends it, one byte at a time.

    Args:
        beginning: What it sends first.
        byte: What it sends then, again and again.
    """

    def __init__(self, beginning, byte):
        self._beginning, self._byte = beginning, byte
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}/"
        self.sent = 0
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._thread.join()
        self._listening.close()

    def _serve(self):
        with self._listening.accept()[0] as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(self._beginning)
            try:
                while True:
                    connection.sendall(self._byte)
                    self.sent += 1
                    self._pause()
            except OSError:
                return  # the client has gone

    @staticmethod
    def _pause():
        threading.Event().wait(0.001)


@pytest.mark.parametrize(
    ("beginning", "byte"),
    [
        pytest.param(BEGINNING, b"x", id="a header"),
        pytest.param(b"", b"x", id="a status line"),
        pytest.param(BEGINNING + b"Content-Length: 1000000\r\n\r\n", b"x", id="a body"),
        pytest.param(BEGINNING + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", id="chunks"),
    ],
)
def test_an_answer_that_does_not_end(beginning, byte, monkeypatch):
    """However small the pieces and however soon each one comes, the limit is for all of them."""
    monkeypatch.setenv("NO_PROXY", "*")
    # A clock that moves when it is looked at: no test depends on how fast a machine is.
    looks = itertools.count()

    with (
        Endless(beginning, byte) as server,
        Asker(limit=50, clock=lambda: float(next(looks))) as asker,
        pytest.raises(UnreachableError, match="no answer within 50 s"),
    ):
        asker.ask("GET", server.url)

    assert next(looks) < 100


def test_a_connection_that_is_used_again(monkeypatch):
    """Each request has the limit to itself, on the same connection, too."""
    monkeypatch.setenv("NO_PROXY", "*")
    looks = itertools.count()
    connections = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            with listening.accept()[0] as connection:
                connections.append(connection)
                while connection.recv(65536):
                    connection.sendall(BEGINNING + b"Content-Length: 2\r\n\r\n{}")

        thread = threading.Thread(target=serve)
        thread.start()
        with Asker(limit=50, clock=lambda: float(next(looks))) as asker:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
            replies = [asker.ask("GET", url) for _ in range(20)]
        thread.join()

    assert [reply.document for reply in replies] == [{}] * 20
    assert len(connections) == 1
    assert next(looks) > 50
