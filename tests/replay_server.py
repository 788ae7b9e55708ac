"""A server that plays recorded answers back, byte for byte; it imports nothing of ours.

It is started as `python replay_server.py FOLDER`, prints its port, and ends with its standard input.
A request to `/replay/<name>/<anything>` is answered with the recording of that name: its status,
its content type, its headers and its body, which for a stream goes out in chunks that are cut
anywhere. The name is the file's, without its ending; of a file with several calls, the number of the
call is added to it.
"""

from __future__ import annotations

import base64
import itertools
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

PIECES = (1, 700, 40, 1300, 7, 260)
"""The lengths of the chunks, over and over, so that events and characters are cut."""


def load(folder: Path) -> dict[str, dict]:
    """The answers by name."""
    answers = {}
    for entry in json.loads((folder / "manifest.json").read_text()):
        recorded = json.loads((folder / entry["file"]).read_text())
        name = entry["file"].removesuffix(".json")
        if "interactions" in recorded:
            for number, each in enumerate(recorded["interactions"]):
                answers[f"{name}-{number}"] = each["response"]
        else:
            answers[name] = recorded["response"]
    return answers


def body_of(answer: dict) -> bytes:
    body = answer["body"]
    return base64.b64decode(body["base64"]) if "base64" in body else body["text"].encode()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


class Replay(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers: dict[str, dict]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self._answer()
        if answer is None:
            self.send_error(404)
            return
        kind = answer["content_type"] or "application/json"
        content = body_of(answer)
        self.send_response(answer["status"])
        self.send_header("Content-Type", kind)
        # So that no client is left with a connection which it would have to close.
        self.send_header("Connection", "close")
        for name, value in (answer.get("headers") or {}).items():
            self.send_header(name, value if isinstance(value, str) else value[0])
        if "stream" not in kind:
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in pieces_of(content):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def _answer(self) -> dict | None:
        parts = unquote(self.path).split("/")
        return self.answers.get("/".join(parts[2:4])) if parts[1:2] == ["replay"] else None

    def log_message(self, *args: object) -> None:
        """Nothing is logged: the test says what went wrong."""


def pieces_of(content: bytes):
    start = 0
    for length in itertools.cycle(PIECES):
        if start >= len(content):
            return
        yield content[start : start + length]
        start += length


def main() -> None:
    Replay.answers = load(Path(sys.argv[1]))
    server = Server(("127.0.0.1", 0), Replay)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
