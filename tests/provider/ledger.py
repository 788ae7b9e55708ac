"""The provider's books: an entry for each request."""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Entry", "Ledger"]


@dataclass(kw_only=True)
class Entry:
    """What one request cost, and what its client was sent.

    Attributes:
        number: Which request of the process it is.
        path: What was asked for.
        shape: The API.
        model: As the client named it.
        streamed: Whether pieces were asked for.
        call: The `[call:…]` of the request.
        subject: Its `[subject:…]`.
        user: Its `user`, where the API has one.
        status: The HTTP status.
        input: Tokens of the prompt, those of the cache included.
        output: Tokens generated so far, reasoning included.
        cached: Of the input, those read from the cache.
        written: Of the input, those written to the cache; `written_5m` and `written_1h` by how
            long they are kept.
        reasoning: Of the output, those of reasoning.
        search_units: What reranking is billed by, in place of tokens.
        text_bytes: Bytes of text sent.
        pieces: Pieces of output sent.
        usage_sent: Whether the client was told the whole usage.
        left: Whether the client broke off before the end.
        open: Whether it is still being answered.
    """

    number: int
    path: str
    shape: str
    model: str
    streamed: bool
    call: str | None = None
    subject: str | None = None
    user: str | None = None
    status: int = 0
    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    written_5m: int = 0
    written_1h: int = 0
    reasoning: int = 0
    search_units: int = 0
    text_bytes: int = 0
    pieces: int = 0
    usage_sent: bool = False
    left: bool = False
    open: bool = True


@dataclass
class Ledger:
    """All entries, and which requests were refused once."""

    entries: list[Entry] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, **facts: Any) -> Entry:
        """A request came in."""
        with self.lock:
            entry = Entry(number=len(self.entries), **facts)
            self.entries.append(entry)
            return entry

    def refuses(self, key: str) -> bool:
        """Whether this is the first request of that kind."""
        with self.lock:
            is_first = key not in self.refused
            self.refused.add(key)
            return is_first

    def forget(self) -> int:
        """Forget who was refused once; the number of the next request."""
        with self.lock:
            self.refused.clear()
            return len(self.entries)

    def since(self, number: int) -> list[dict[str, Any]]:
        """The entries from that number on."""
        with self.lock:
            return [asdict(entry) for entry in self.entries[number:]]
