"""A server that takes signed batches of usage events and counts each event once.

    LLM_METERING_WEBHOOK_SECRET=whsec_… python examples/webhook_receiver.py usage.db 8000

It needs Python alone. What it has stands in the table `usage` of the SQLite file.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import make_server

TOLERANCE = 300
"""Seconds that a request may be old: an older one may have been caught and sent again."""

TABLE = """CREATE TABLE IF NOT EXISTS usage (
    source TEXT, id TEXT, subject TEXT, time TEXT, data TEXT, UNIQUE (source, id)
)"""


def receiver(database: str, secrets: str) -> Callable[..., Iterable[bytes]]:
    """Make the application; `secrets` are one or several, parted by spaces."""
    keys = [base64.b64decode(secret.removeprefix("whsec_")) for secret in secrets.split()]
    with sqlite3.connect(database) as connection:
        connection.execute(TABLE)

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if not is_signed(environ, body, keys):
            start_response("401 Unauthorized", [("Content-Length", "0")])
            return []
        rows = [
            (
                event["source"],
                event["id"],
                event["subject"],
                event["time"],
                json.dumps(event["data"]),
            )
            for event in json.loads(body)
        ]
        # One transaction, on disk before the answer: after a 2xx nobody sends these again.
        with sqlite3.connect(database) as connection:
            connection.executemany("INSERT OR IGNORE INTO usage VALUES (?, ?, ?, ?, ?)", rows)
        start_response("204 No Content", [])
        return []

    return application


def is_signed(environ: dict[str, Any], body: bytes, keys: list[bytes]) -> bool:
    """Whether the request was made with one of the keys, and just now."""
    name = environ.get("HTTP_WEBHOOK_ID", "")
    timestamp = environ.get("HTTP_WEBHOOK_TIMESTAMP", "")
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > TOLERANCE:
        return False
    signed = f"{name}.{timestamp}.".encode() + body
    expected = [b"v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)) for key in keys]
    given = environ.get("HTTP_WEBHOOK_SIGNATURE", "").encode().split()
    return any(hmac.compare_digest(one, other) for one in expected for other in given)


if __name__ == "__main__":
    file, port = sys.argv[1:]
    application = receiver(file, os.environ["LLM_METERING_WEBHOOK_SECRET"])
    with make_server("127.0.0.1", int(port), application) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}/usage", flush=True)
        server.serve_forever()
