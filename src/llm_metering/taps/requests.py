"""`TappedRequests`: a call that may ask its provider many times, each answer one of its own.

A call for embeddings is cut into requests, and these may run at the same time. What the provider
bills is a request, so each answer is told of as it ends. Which answers are those that were asked for
(and not a token to sign in with, or a list of models) is for whoever is told to say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Final

from ..extract import read
from ..extract.embeddings import without_output
from ..extract.reading import Reading
from .body import Body
from .call import TappedCall

__all__ = ["Begin", "TappedRequests", "Told"]

Told = Callable[[Reading | None], None]
"""Is told what an answer says, once it has ended; `None` if it could not be read. It never raises."""

Begin = Callable[[], Told]
"""An answer begins; it never raises."""

LARGEST: Final = 256 << 20
"""Two thousand vectors of three thousand numbers, each written out, are half of that in bytes."""


def _may_be_one(headers: Mapping[str, str] | None) -> bool:
    """Whether it is JSON. The first call of a local model may download the model."""
    kind = ((headers or {}).get("content-type") or "").lower()
    return not kind or "json" in kind or kind.startswith("text/")


def _nobody() -> Told:
    return lambda _: None


class TappedRequests(TappedCall):
    """A call, and who is told of each answer that is read while it runs.

    Args:
        request: What it is begun with.
        provider: Who is asked.
        outer: The call that it is begun in.
        begin: Told of each answer.
        read_body: Reads the body of one.
        framework: Whose call it is.
        is_read: Whether answers are read at all.
    """

    __slots__ = ("_begin", "_read_body")

    def __init__(
        self,
        request: object,
        provider: str | None,
        outer: TappedCall | None,
        *,
        begin: Begin,
        read_body: Callable[[bytes], Reading],
        framework: str,
        is_read: bool,
    ) -> None:
        super().__init__(request, provider, outer, framework=framework, is_read=is_read)
        self._begin = begin
        self._read_body = read_body

    def end(self) -> None:
        """The call has ended."""
        super().end()
        # Contexts that were copied meanwhile go on holding it, and would hold the texts.
        self._begin = _nobody

    def body(
        self,
        *,
        has_lines: bool,
        as_chunk: Callable[[bytes], object] = bytes,
        headers: Mapping[str, str] | None = None,
    ) -> Body | None:
        """What reads the answer that now begins; `None` if nothing is to be read."""
        if self.is_over or not self._is_read or not _may_be_one(headers):
            return None
        told = self._begin()
        return _Answer(told, self._read_body, headers, has_lines=has_lines, as_chunk=as_chunk)


class _Answer(Body):
    """An answer that somebody is told of when it ends."""

    __slots__ = ("_headers", "_read_body", "_told")

    largest: ClassVar[int] = LARGEST

    def __init__(
        self,
        told: Told,
        read_body: Callable[[bytes], Reading],
        headers: Mapping[str, str] | None,
        *,
        has_lines: bool,
        as_chunk: Callable[[bytes], object],
    ) -> None:
        super().__init__(has_lines=has_lines, as_chunk=as_chunk)
        self._told = told
        self._read_body = read_body
        self._headers = headers

    def end(self) -> None:
        if not self.is_over:
            super().end()
            self._told(self.reading())
            self._parts = []

    def reading(self) -> Reading | None:
        if self.has_lines or self.is_lost:
            return super().reading()
        reading = self._read_body(b"".join(self._parts)) if self._parts else None
        if self._headers is not None and (reading is None or reading.usage is None):
            # Bedrock's own count; not each of its models has one.
            headers = {name.lower(): value for name, value in self._headers.items()}
            counted = read({"ResponseMetadata": {"HTTPHeaders": headers}, "body": None})
            if counted.usage is not None:
                return without_output(counted)
        return reading
