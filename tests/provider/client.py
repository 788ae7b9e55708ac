"""`Provider`: the provider's process, its addresses, and its books as they are now."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .ledger import Entry

__all__ = ["Provider", "Totals"]

PROJECT = Path(__file__).parents[2]
WAIT = 20.0


@dataclass(frozen=True)
class Totals:
    """Tokens of several entries together."""

    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    reasoning: int = 0


class Provider:
    """The provider, as long as the `with` block lasts.

    Attributes:
        url: Its address; for the clients of Anthropic, Gemini and Ollama.
        openai_url: The base URL of OpenAI's clients.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self._since = 0
        self.url = ""

    def __enter__(self) -> Self:
        # A new interpreter without the packages of this one: `-S` leaves them out, so that the
        # provider could not import them if it wanted to.
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-m", "tests.provider"],
            cwd=PROJECT,
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process is not None
        self._process.communicate(timeout=WAIT)

    @property
    def openai_url(self) -> str:
        """The base URL of OpenAI's clients."""
        return f"{self.url}/v1"

    def begin(self) -> None:
        """Begin a new test: forget who was refused once, look at no older entry."""
        self._since = self._ask("/forget", b"")

    @property
    def so_far(self) -> list[Entry]:
        """The entries of this test, those of requests that are still answered included."""
        return [Entry(**entry) for entry in self._ask(f"/ledger?since={self._since}")]

    @property
    def entries(self) -> list[Entry]:
        """The entries of this test, once no request is answered any longer."""
        return self.wait_until(lambda entries: not any(entry.open for entry in entries))

    @property
    def entry(self) -> Entry:
        """The one entry of this test, likewise."""
        (entry,) = self.entries
        return entry

    @property
    def totals(self) -> Totals:
        """All tokens of this test, likewise."""
        return self.totals_of(self.entries)

    @staticmethod
    def totals_of(entries: list[Entry]) -> Totals:
        """The tokens of these entries together."""
        names = Totals.__dataclass_fields__
        return Totals(**{name: sum(getattr(each, name) for each in entries) for name in names})

    def wait_until(self, holds: Any) -> list[Entry]:
        """The entries of this test, once something holds of them."""
        deadline = time.monotonic() + WAIT
        while not holds(entries := self.so_far):
            assert time.monotonic() < deadline, f"it never came to hold: {entries}"
            time.sleep(0.01)
        return entries

    def modules(self) -> list[str]:
        """The packages that the provider's process has imported."""
        return list(self._ask("/modules"))

    def _ask(self, path: str, body: bytes | None = None) -> Any:
        with self._opener.open(self.url + path, body, timeout=WAIT) as answer:
            return json.load(answer)
