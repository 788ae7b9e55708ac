"""The bytes of a stream, as they come over the wire, cut into the JSON objects it consists of.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6 (events end
with an empty line, `data` lines of one event are joined with a line feed, a line that begins with a
colon is a comment); newline-delimited JSON (Ollama, Cohere v1); one JSON array that grows (Vertex).
`[DONE]` is OpenAI's way to say that this was all.

What comes in may be cut anywhere, or be the lines that `iter_lines()` of an HTTP client yields,
without their ends. A complete JSON object says itself where it ends, so each is handed on as soon
as it is whole. A large one is tried only when it has doubled since the last try, or its line ends, so
that it is not parsed over and over; what is held back for that comes with `rest`.
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
_SMALL: Final = 16_384


class Wire:
    """Cuts one stream into JSON objects.

    Attributes:
        is_done: Whether the stream said that this was all.
    """

    def __init__(self) -> None:
        self.is_done = False
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._json = json.JSONDecoder()
        self._parts: list[str] = []
        self._length = 0
        self._tried = 0
        self._data: list[str] = []
        self._data_length = 0
        self._data_tried = 0
        self._has_lines = False
        self._is_events: bool | None = None

    def feed(self, piece: str | bytes | bytearray | memoryview) -> Iterator[dict[str, Any]]:
        """Take the next piece, and yield the objects that it completes."""
        text = piece if isinstance(piece, str) else self._decode(bytes(piece))
        if self._is_events is None:
            begun = (self._pending() + text).lstrip(" \t\r\n\ufeff")
            if not begun:
                return
            self._is_events = begun[0] not in "{["
            text = begun
            self._hold("")
        if self._is_events:
            yield from self._events(text)
        else:
            self._append(text)
            if "}" in text and _is_due(self._length, self._tried):
                yield from self._objects()

    def rest(self) -> Iterator[dict[str, Any]]:
        """Yield what is whole by now, but was held back since it may not have been."""
        if self._is_events is None or self._length <= max(self._tried, _SMALL):
            return
        if self._is_events:
            yield from self._whole_line()
        else:
            yield from self._objects()

    # --- what has come of an object or a line

    def _pending(self) -> str:
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    def _hold(self, text: str) -> None:
        self._parts, self._length, self._tried = [text] if text else [], len(text), 0

    def _append(self, text: str) -> None:
        # The first part stays long enough to tell how the line begins.
        if self._length < _SMALL:
            self._pending()
            self._parts = [f"{self._parts[0]}{text}" if self._parts else text]
        else:
            self._parts.append(text)
        self._length += len(text)

    # --- server-sent events

    def _events(self, text: str) -> Iterator[dict[str, Any]]:
        if "\n" not in text and "\r" not in text:
            yield from self._event_piece(text)
            return
        self._has_lines = True
        text = self._pending() + text
        # What ends in a CR may go on with the LF that belongs to it.
        held = "\r" if text.endswith("\r") else ""
        lines = text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        self._hold(lines.pop() + held)
        for line in lines:
            yield from self._line(line)
        yield from self._whole_line()

    def _event_piece(self, piece: str) -> Iterator[dict[str, Any]]:
        """A line without its end, or a part of one; which of them shows only in what follows."""
        if not piece:
            if self._data:
                self._hold("")
                yield from self._end_event()
            return
        if self._length and not self._has_lines and self._begins_line(piece):
            line = self._pending()
            self._hold("")
            yield from self._line(line)
        self._append(piece)
        if _is_due(self._length, self._tried) and piece.rstrip().endswith(("}", "]")):
            yield from self._whole_line()

    def _begins_line(self, piece: str) -> bool:
        begun = self._parts[0]
        if begun.startswith("data:"):
            # The rest of an object that was cut may begin with anything but, with luck, this.
            return piece.startswith("data:")
        return ":" in begun and piece.startswith(_FIELDS)

    def _whole_line(self) -> Iterator[dict[str, Any]]:
        """The object that a line without its end already holds."""
        if not self._parts or not self._parts[0].startswith("data:"):
            return
        self._tried = self._length
        if (found := self._completed_by(self._pending().removesuffix("\r")[5:])) is not None:
            self._hold("")
            yield found

    def _line(self, line: str) -> Iterator[dict[str, Any]]:
        if not line:
            yield from self._end_event()
        elif line.startswith("data:"):
            data = line[5:]
            # Some servers send no empty line between events, and none after the last.
            length = self._data_length + len(data)
            is_due = not self._data or _is_due(length, self._data_tried)
            found = self._completed_by(data) if is_due else None
            if found is not None:
                yield found
            else:
                self._data.append(data)
                self._data_length = length
                if is_due and data.rstrip().endswith("}"):
                    self._data_tried = length

    def _end_event(self) -> Iterator[dict[str, Any]]:
        """An empty line: the data so far is all, and was tried unless it was held back."""
        held = self._data if self._data_length > max(self._data_tried, _SMALL) else []
        self._forget_data()
        if held and (found := self._parse("\n".join(held)) or self._parse(held[-1])) is not None:
            yield found

    def _forget_data(self) -> None:
        self._data, self._data_length, self._data_tried = [], 0, 0

    def _completed_by(self, data: str) -> dict[str, Any] | None:
        """The object that is whole with this line of data."""
        if len(data) < _SMALL and data.strip() == _DONE:
            self.is_done = True
        if not data.rstrip().endswith("}"):
            return None
        found = self._parse("\n".join([*self._data, data]))
        if found is None and self._data:
            found = self._parse(data)  # what came before was never whole
        if found is not None:
            self._forget_data()
        return found

    def _parse(self, text: str) -> dict[str, Any] | None:
        try:
            found = self._json.decode(text.strip())
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    # --- JSON, one object after the other

    def _objects(self) -> Iterator[dict[str, Any]]:
        text, position = self._pending(), 0
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
        self._hold(text[position:])
        self._tried = self._length


def _is_due(length: int, tried: int) -> bool:
    """Whether to try what has this length now, and was tried in vain when it had the other."""
    return length < _SMALL or length >= 2 * tried
