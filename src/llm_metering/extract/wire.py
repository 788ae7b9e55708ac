"""The bytes of a stream, as they come over the wire, cut into the JSON objects it consists of.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6 (events end
with an empty line, `data` lines of one event are joined with a line feed, a line that begins with a
colon is a comment); newline-delimited JSON (Ollama, Cohere v1); one JSON array that grows (Vertex).
`[DONE]` is OpenAI's way to say that this was all.

What comes in may be cut anywhere, or be the lines that `iter_lines()` of an HTTP client yields,
without their ends. A complete JSON object says itself where it ends, so each is handed on as soon
as it is whole.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["Wire"]

_SPACE: Final = " \t\r\n,[]\x1e\ufeff"
_FIELDS: Final = ("data:", "event:", "id:", "retry:", ":")
_DONE: Final = "[DONE]"


class Wire:
    """Cuts one stream into JSON objects.

    Attributes:
        is_done: Whether the stream said that this was all.
    """

    def __init__(self) -> None:
        self.is_done = False
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._json = json.JSONDecoder()
        self._pending = ""
        self._data: list[str] = []
        self._has_lines = False
        self._is_events: bool | None = None

    def feed(self, piece: str | bytes | bytearray | memoryview) -> Iterator[dict[str, Any]]:
        """Take the next piece, and yield the objects that it completes."""
        text = piece if isinstance(piece, str) else self._decode(bytes(piece))
        if self._is_events is None:
            begun = (self._pending + text).lstrip(" \t\r\n\ufeff")
            if not begun:
                return
            self._is_events = begun[0] not in "{["
            self._pending, text = "", begun
        if self._is_events:
            yield from self._events(text)
        else:
            self._pending += text
            if "}" in text:
                yield from self._objects()

    # --- server-sent events

    def _events(self, text: str) -> Iterator[dict[str, Any]]:
        if "\n" not in text and "\r" not in text:
            yield from self._event_piece(text)
            return
        self._has_lines = True
        text = self._pending + text
        # What ends in a CR may go on with the LF that belongs to it.
        held = "\r" if text.endswith("\r") else ""
        lines = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._pending = lines.pop() + held
        for line in lines:
            yield from self._line(line)
        yield from self._whole_line(self._pending.removesuffix("\r"))

    def _event_piece(self, piece: str) -> Iterator[dict[str, Any]]:
        """A line without its end, or a part of one; which of them shows only in what follows."""
        if not piece:
            if self._data:
                self._pending, self._data = "", []
            return
        if self._pending and not self._has_lines and self._begins_line(piece):
            yield from self._line(self._pending)
            self._pending = ""
        self._pending += piece
        yield from self._whole_line(self._pending)

    def _begins_line(self, piece: str) -> bool:
        if self._pending.startswith("data:"):
            # The rest of an object that was cut may begin with anything but, with luck, this.
            return piece.startswith("data:")
        return ":" in self._pending and piece.startswith(_FIELDS)

    def _whole_line(self, line: str) -> Iterator[dict[str, Any]]:
        """The object that a line without its end already holds."""
        if not line.startswith("data:"):
            return
        if (found := self._completed_by(line[5:])) is not None:
            self._pending = ""
            yield found

    def _line(self, line: str) -> Iterator[dict[str, Any]]:
        if not line:
            self._data = []
        elif line.startswith("data:"):
            # Some servers send no empty line between events, and none after the last.
            if (found := self._completed_by(line[5:])) is not None:
                yield found
            else:
                self._data.append(line[5:])

    def _completed_by(self, data: str) -> dict[str, Any] | None:
        """The object that is whole with this line of data."""
        if data.strip() == _DONE:
            self.is_done = True
        if not data.rstrip().endswith("}"):
            return None
        found = self._parse("\n".join([*self._data, data]))
        if found is None and self._data:
            found = self._parse(data)  # what came before was never whole
        if found is not None:
            self._data = []
        return found

    def _parse(self, text: str) -> dict[str, Any] | None:
        try:
            found = self._json.decode(text.strip())
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    # --- JSON, one object after the other

    def _objects(self) -> Iterator[dict[str, Any]]:
        text, position = self._pending, 0
        while True:
            while position < len(text) and text[position] in _SPACE:
                position += 1
            if position == len(text):
                break
            try:
                found, position = self._json.raw_decode(text, position)
            except (ValueError, RecursionError) as error:
                # An object that is not whole yet breaks off at the end. One that breaks off before
                # the next begins never will be: go on with the next.
                broken = getattr(error, "pos", position)
                position_of_next = text.find("\n{", max(broken, position + 1))
                if position_of_next < 0:
                    break
                position = position_of_next + 1
                continue
            if isinstance(found, dict):
                yield found
        self._pending = text[position:]
