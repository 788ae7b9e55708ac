"""A server that plays answers back, in a process of its own."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

__all__ = ["Replays", "events", "stored"]

SCRIPT = Path(__file__).parent / "replay_server.py"


class Replays:
    """Plays the answers of a folder back while it is open.

    Args:
        folder: Recordings, as `stored` writes them.
    """

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def url(self, name: str) -> str:
        """Where the answer of that name is played back."""
        return f"http://127.0.0.1:{self.port}/replay/{name}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        # It ends when its input does.
        self._process.communicate(timeout=20)


def stored(folder: Path, answers: dict[str, tuple[str, str | bytes, dict[str, str]]]) -> Path:
    """Write answers into a folder for `Replays`: content type, body and headers by name."""
    (folder / "own").mkdir(parents=True)
    entries = []
    for name, (kind, content, headers) in answers.items():
        body: dict[str, Any] = (
            {"text": content}
            if isinstance(content, str)
            else {"base64": base64.b64encode(content).decode()}
        )
        response = {"status": 200, "content_type": kind, "headers": headers, "body": body}
        (folder / "own" / f"{name}.json").write_text(json.dumps({"response": response}))
        entries.append({"file": f"own/{name}.json"})
    (folder / "manifest.json").write_text(json.dumps(entries))
    return folder


def events(*chunks: object, done: bool = False) -> str:
    """Server-sent events, named as Anthropic names its own."""
    lines = []
    for chunk in chunks:
        kind = chunk.get("type") if isinstance(chunk, dict) else None
        named = f"event: {kind}\n" if kind else ""
        lines.append(f"{named}data: {json.dumps(chunk)}\n\n")
    return "".join(lines) + ("data: [DONE]\n\n" if done else "")
