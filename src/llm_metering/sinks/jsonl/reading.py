"""Reading events back from files of JSON lines."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ...events import CloudEvent
from .._payload import UnusableEventError, read_event
from .files import rotated_files

__all__ = ["EventReader", "read_events"]

_DIGEST = 16
"""Bytes that stand for an identity; the chance that two of 10**9 share one is 10**-21."""


class EventReader(Iterator[CloudEvent]):
    """The events of some files, as they are read; made by `read_events`.

    Attributes:
        read: The events it has returned.
        repeated: Those it left out because it had returned them.
        passed_over: Lines that hold no event: torn by a crash, or not ours. What they may have
            held was not accepted, so it stands elsewhere in the file.
    """

    def __init__(self, paths: list[Path], *, dedupe: bool) -> None:
        self.read = 0
        self.repeated = 0
        self.passed_over = 0
        self._seen: set[bytes] | None = set() if dedupe else None
        self._events = self._of(paths)

    def __repr__(self) -> str:
        return (
            f"<EventReader read={self.read} repeated={self.repeated}"
            f" passed_over={self.passed_over}>"
        )

    def __next__(self) -> CloudEvent:
        return next(self._events)

    def _of(self, paths: list[Path]) -> Iterator[CloudEvent]:
        for path in paths:
            for file in _files(path):
                with file:
                    for line in file:
                        event = self._read(line)
                        if event is not None:
                            self.read += 1
                            yield event

    def _read(self, line: bytes) -> CloudEvent | None:
        if not line.strip():
            return None
        try:
            event = read_event(line)
        except UnusableEventError:
            self.passed_over += 1
            return None
        if self._seen is not None:
            # The length tells "a" + "bc" from "ab" + "c".
            identity = f"{len(event.source)} {event.source}{event.id}"
            digest = hashlib.blake2b(identity.encode(), digest_size=_DIGEST).digest()
            if digest in self._seen:
                self.repeated += 1
                return None
            self._seen.add(digest)
        return event


def read_events(*paths: str | os.PathLike[str], dedupe: bool = True) -> EventReader:
    """The events that a `jsonl` sink has written, each once, in the order in which they were.

    What is written meanwhile may or may not be among them.

    Args:
        *paths: The file, or several. Of each, what it has become by being rotated is read first.
        dedupe: Whether an event that comes again, by `source` and `id`, is left out. That takes
            about 100 bytes of memory for each event; without it, none.

    Raises:
        FileNotFoundError: If there is neither such a file nor one that it became.
        OSError: If one cannot be read; from the iteration, too.
    """
    found = [Path(os.path.realpath(path)) for path in paths]
    for path in found:
        if not rotated_files(path):
            path.stat()
    return EventReader(found, dedupe=dedupe)


def _files(path: Path) -> Iterator[BinaryIO]:
    """The rotated files and the current one, opened; however often it is rotated meanwhile."""
    last = ""
    while True:
        newer = [each for each in rotated_files(path) if each.name > last]
        if not newer:
            current = _opened(path)
            # What was rotated before the current file was opened is to be read before it.
            if not any(each.name > last for each in rotated_files(path)):
                if current is not None:
                    yield current
                return
            if current is not None:
                current.close()
        for each in newer:
            last = each.name
            file = _opened(each)
            if file is not None:
                yield file


def _opened(path: Path) -> BinaryIO | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None  # deleted by `keep`, or rotated this moment
