"""`StreamReader`: a stream of any provider, read chunk by chunk as it passes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ..exchange import Output
from .assembly import Assembler
from .flags import SEVERAL_RESPONSES, UNKNOWN_USAGE, ZERO_USAGE, unknown_body_flag
from .reading import NOTHING, Reading
from .shapes import Shape, find, is_zero, read_as, read_error, stream_of
from .views import as_mapping, copy_of
from .wire import Wire

__all__ = ["StreamReader"]

_BYTES: Final = (str, bytes, bytearray, memoryview)
_DEEPEST: Final = 4


class StreamReader:
    """Reads one stream: its usage, its text and how it ended.

    `feed` takes whatever a client yields: objects of the providers' SDKs, dicts, or the bytes or
    lines of the wire. Nothing here raises, whatever that holds.

    >>> reader = StreamReader()
    >>> reader.feed('data: {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}')
    >>> reader.feed('data: {"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 1}}')
    >>> reader.reading().usage.counts()
    {'input_tokens': 8, 'output_tokens': 1}
    """

    def __init__(self) -> None:
        self._shape: Shape | None = None
        self._assembler: Assembler | None = None
        self._whole: Mapping[str, Any] | None = None
        self._error: Reading | None = None
        self._unknown: Mapping[str, Any] | None = None
        self._is_odd = False
        self._are_several = False
        self._wire: Wire | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the provider said that this was all, or that it could not go on."""
        try:
            return (
                self._error is not None
                or self._whole is not None
                or (self._wire is not None and self._wire.is_done)
                or (self._assembler is not None and self._assembler.has_ended)
            )
        except Exception:
            return False

    def feed(self, chunk: object) -> None:
        """Take the next chunk, or the next piece of the wire."""
        try:
            self._feed(chunk, 0)
        except Exception:
            self._is_odd = True

    def reading(self) -> Reading:
        """What the stream has said of its call so far."""
        try:
            self._take_rest()
            return self._reading()
        except Exception:
            return Reading(shape="unknown", is_final=False, flags=(UNKNOWN_USAGE,))

    def output(self) -> Output:
        """The text that has arrived so far."""
        try:
            self._take_rest()
            if self._assembler is not None:
                return self._assembler.output()
            if self._are_several:
                return Output()
            found = None if self._whole is None else find(self._whole)
            if found is not None and found[0] is not None and self._whole is not None:
                return found[0].output(self._whole)
        except Exception:
            self._is_odd = True
        return Output()

    def _take_rest(self) -> None:
        """Take what the wire holds back until it is sure to be whole."""
        if self._wire is not None:
            for piece in self._wire.rest():
                self._take(piece, 0)

    def _feed(self, chunk: object, depth: int) -> None:
        if isinstance(chunk, _BYTES):
            self._wire = self._wire or Wire()
            for piece in self._wire.feed(chunk):
                self._take(piece, depth)
        elif (fields := as_mapping(chunk)) is not None:
            self._take(fields, depth)
        elif chunk is not None:
            self._is_odd = True

    def _take(self, chunk: Mapping[str, Any], depth: int) -> None:
        if self._assembler is not None and self._shape is not None:
            if self._shape.matches_chunk(chunk):
                self._assembler.feed(chunk)
                return
        elif (shape := stream_of(chunk)) is not None:
            self._shape, self._assembler = shape, shape.stream()
            self._assembler.feed(chunk)
            return
        inner = _unwrapped(chunk) if depth < _DEEPEST else None
        if inner is not None:
            self._feed(inner, depth + 1)
        elif (error := read_error(chunk)) is not None:
            self._error = self._error or error
        elif self._assembler is not None:
            # What the provider's SDK makes of the chunks beside them, or sends to keep alive.
            self._assembler.feed(chunk)
        elif (found := find(chunk)) is not None:
            # A server that does not stream answers with all of it at once.
            self._are_several = self._are_several or self._is_another(found[1])
            self._whole = copy_of(chunk)
        else:
            self._unknown = self._unknown or chunk

    def _is_another(self, reading: Reading) -> bool:
        """Whether a whole body is another one than that before it, not its later state."""
        before = None if self._whole is None else find(self._whole)
        if before is None:
            return False
        return reading.response_id is None or reading.response_id != before[1].response_id

    def _reading(self) -> Reading:
        reading: Reading | None = None
        if self._assembler is not None and self._shape is not None:
            reading = read_as(self._shape, self._assembler.body())
            if reading is not None:
                reading = self._judged(reading, self._assembler)
        elif self._whole is not None and (found := find(self._whole)) is not None:
            reading = found[1]
            if self._are_several:
                flags = (*reading.flags, SEVERAL_RESPONSES)
                reading = replace(reading, usage=None, measures=NOTHING, flags=flags)
        if reading is None:
            return self._unread()
        if self._error is not None and reading.ending == "completed":
            reading = replace(reading, ending="failed", reason=self._error.reason)
        return reading

    def _judged(self, reading: Reading, assembler: Assembler) -> Reading:
        flags = reading.flags
        if assembler.has_several:
            flags = (*flags, SEVERAL_RESPONSES)
        if is_zero(reading.usage) and assembler.output() and ZERO_USAGE not in flags:
            flags = (*flags, ZERO_USAGE)
        # What a stream that was cut says last is that the answer is in progress.
        ending = "completed" if reading.ending == "unfinished" else reading.ending
        return replace(reading, is_final=assembler.is_final, ending=ending, flags=flags)

    def _unread(self) -> Reading:
        if self._error is not None:
            return self._error
        flags: tuple[str, ...] = ()
        if self._unknown is not None:
            flags = (unknown_body_flag(self._unknown),)
        elif self._is_odd or self._assembler is not None:
            flags = (UNKNOWN_USAGE,)
        return Reading(shape="unknown", is_final=False, flags=flags)


def _unwrapped(chunk: Mapping[str, Any]) -> object:
    """The provider's own chunk inside of what a client wraps it in; `None` if there is none."""
    # Mistral's SDK puts it into `data`, clients of server-sent events as text; LlamaIndex into
    # `raw`, and the helper of OpenAI's client into `chunk`.
    for name in ("data", "raw", "chunk"):
        inner = chunk.get(name)
        if isinstance(inner, str):
            return json.loads(inner) if inner.lstrip().startswith("{") else None
        if inner is not None and as_mapping(inner) is not None:
            return inner
    return None
