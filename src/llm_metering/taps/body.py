"""`Body`: one answer of a provider, read as its bytes pass.

An answer that is not streamed is kept until its call ends, which is the next thing that happens to
it. Of a stream, whose pieces must cost next to nothing, only the lines that say something about the
call are kept: the first two, which name it, those with a usage, and the one before the last of
these, which may say that the answer is finished. A usage is the total so far in every shape we know,
so of many the first few and the last suffice.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6; Ollama
and Cohere's v1 send one JSON object a line, and so do Amazon Bedrock's events reach us.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ClassVar, Final

from ..extract import StreamReader, read
from ..extract.reading import Reading

__all__ = ["Body"]

FIRST: Final = 2
REPORTS: Final = 3
LARGEST: Final = 16 << 20
"""An answer, or a line of one, that is longer in bytes is not read."""

_WHOLE: Final = b"{["
_DATA: Final = b"data:"
_STARTS: Final = (_DATA, b"{")
_USAGE: Final = b'"usage'
_is_report: Final = re.compile(rb'"usage(?:Metadata)?"\s*:\s*[^\sn]').match
"""What a server-sent event with a usage holds."""
_REPORTED: Final = re.compile(
    rb'"(?:usage|usageMetadata|eval_count|billed_units|amazon-bedrock-invocationMetrics)"'
    rb"\s*:\s*[^\sn]"
)
"""A usage that is not null. Inside of a text, a quote has a backslash before it."""


class Body:
    """Reads one answer; nothing here raises, whatever the bytes are.

    Args:
        has_lines: Whether it is known to come in lines.
        as_chunk: Makes of a line what a client of this provider yields.

    Attributes:
        has_lines: Whether it comes in lines, as streams do; `None` until it shows.
        is_over: Whether all of it has passed.
        is_lost: Whether something in it could not be read.
    """

    __slots__ = (
        *(
            "_as_chunk",
            "_before",
            "_first",
            "_is_under_way",
            "_last",
            "_length",
            "_parts",
            "_recent",
        ),
        *("_reports", "has_lines", "is_lost", "is_over"),
    )

    largest: ClassVar[int] = LARGEST

    def __init__(
        self, *, has_lines: bool = False, as_chunk: Callable[[bytes], object] = bytes
    ) -> None:
        self._as_chunk = as_chunk
        self.is_over = False
        self.is_lost = False
        self.has_lines: bool | None = True if has_lines else None
        self._is_under_way = False
        self._parts: list[bytes] = []
        self._length = 0
        self._recent = b""
        self._before: bytes | None = None
        self._first: list[bytes] = []
        self._reports: list[bytes] = []
        self._last: bytes | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next piece."""
        try:
            # Nearly all pieces of all streams: whole lines, and no usage in them.
            if self._is_under_way and not self._parts and piece[-1:] == b"\n":
                at = piece.find(_USAGE)
                while at >= 0 and _is_report(piece, at) is None:
                    at = piece.find(_USAGE, at + 1)
                if at < 0:
                    self._recent = piece
                    return
            elif self.is_lost or not piece:
                return
            if self.has_lines:
                self._lines(piece)
            else:
                self._unlined(piece)
        except Exception:
            self.lose()

    def end(self) -> None:
        """That was all."""
        if not self.is_over:
            self.is_over = True
            if self.has_lines:
                self.feed(b"\n")

    def reading(self) -> Reading | None:
        """What has passed so far says of its call; `None` if nothing has."""
        if self.is_lost:
            return None
        if not self.has_lines:
            # Half a body is none.
            return read(b"".join(self._parts)) if self._parts and self.is_over else None
        kept = self._kept()
        if not kept:
            return None
        reader = StreamReader()
        for line in kept:
            reader.feed(self._as_chunk(line))
        return reader.reading()

    def _kept(self) -> list[bytes]:
        kept = [*self._first, *self._reports]
        if self._before is not None and all(each is not self._before for each in kept):
            kept.insert(len(kept) - (self._last is None), self._before)
        if self._last is not None:
            kept.append(self._last)
        return kept

    def _unlined(self, piece: bytes) -> None:
        """Take a piece of what is not known to come in lines."""
        if self.has_lines is None:
            begun = piece.lstrip()
            if not begun:
                return
            self.has_lines = begun[0] not in _WHOLE
            if self.has_lines:
                self._lines(piece)
                return
        self._keep(piece)

    def _lines(self, piece: bytes) -> None:
        end = piece.rfind(b"\n") + 1
        if not end:
            self._keep(piece)
            return
        lines = piece if end == len(piece) else piece[:end]
        if self._parts:
            lines = b"".join([*self._parts, lines])
            self._parts, self._length = [], 0
        if end != len(piece):
            self._keep(piece[end:])
        for line in lines.splitlines(keepends=True):
            self._line(line)

    def _line(self, line: bytes) -> None:
        if not line.startswith(_STARTS):
            return
        if len(self._first) < FIRST:
            self._first.append(line)
            # Servers that send plain lines of JSON, such as Ollama, call their counts otherwise.
            self._is_under_way = len(self._first) == FIRST and line.startswith(_DATA)
        elif _REPORTED.search(line) is not None:
            self._before = _last_data(self._recent)
            if len(self._reports) < REPORTS:
                self._reports.append(line)
            else:
                self._last = line
        self._recent = line

    def _keep(self, piece: bytes) -> None:
        self._parts.append(piece)
        self._length += len(piece)
        if self._length > self.largest:
            self.lose()

    def lose(self) -> None:
        """Give it up."""
        self.is_lost = True
        self._is_under_way = False
        self._parts, self._first, self._reports = [], [], []
        self._before = self._last = None
        self._recent = b""


def _last_data(lines: bytes) -> bytes | None:
    found = None
    for line in lines.splitlines(keepends=True):
        if line.startswith(_STARTS):
            found = line
    return found
