"""The journal's folder: what its files are called, what they hold, who may touch them.

::

    <home>/journal/v1/
      <writer>.lock                     held while that process (or its journal) lives
      <writer>.dead                     the same file, once its open calls were settled
      <writer>.<number>.seg             a segment: frames, appended by its writer alone
      <writer>.<number>.<debt>.ack      how far one sink has come in it; locked by its shipper
      <debt>.sink                       how a sink stands, for `status`
      dead/<debt>.ndjson                events a sink will never take, with its reason
      kept/<writer>.<number>.seg        a segment that every sink has had, until it is too old
      bad/<writer>.<number>.seg         a damaged segment as it was found, for a person
      counters.json, counters.lock      what segments counted that are gone from here

A writer is one journal of one process. A debt is a sink that the writer's events are owed to.
"""

from __future__ import annotations

import os
import struct
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .. import system
from ..errors import HomeError
from .frames import HEAD_SIZE, is_cut_short
from .headers import VERSION, Debt, Header, Unreadable, debt_of, make_header, read_header
from .retention import Retention

__all__ = [
    "ACK_SIZE",
    "VERSION",
    "Ack",
    "Debt",
    "Header",
    "SegmentName",
    "Spool",
    "debt_of",
    "make_header",
    "read_segment_name",
]

_DEFAULT_RETENTION: Final = Retention()

_START: Final = 64 * 1024
"""Of a segment; where there is more, there is something in it."""


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """A segment; they sort by the age of their writer, then by number."""

    writer: str
    number: int

    def __str__(self) -> str:
        return f"{self.writer}.{self.number:06d}"


def read_segment_name(file: str) -> SegmentName | None:
    """The segment in a file of that name; `None` if it is no segment's."""
    stem, _, suffix = file.rpartition(".")
    writer, _, number = stem.rpartition(".")
    if suffix == "seg" and writer and number.isdecimal():
        return SegmentName(writer, int(number))
    return None


@dataclass(slots=True)
class Ack:
    """How far one sink has come in one segment.

    Attributes:
        offset: Everything before it is settled for this sink: accepted or dead.
        dead: Of that, the events the sink will never take.
        dropped: Of that, the events given up for lack of room, or by a person.
        retries: Deliveries that had to be tried again.
        doubtful: Everything before it, as far as it is not settled, may have been taken by the
            sink, which did not say so.
        since: When that began, in whole seconds since 1970.
    """

    offset: int = 0
    dead: int = 0
    dropped: int = 0
    retries: int = 0
    doubtful: int = 0
    since: int = 0

    def encode(self, place: str) -> bytes:
        """In a fixed size, to be overwritten in place by one small write.

        Args:
            place: The name of the file; in another one it is not believed.
        """
        counts = (self.offset, self.dead, self.dropped, self.retries)
        body = _ACK.pack(b"ack1", *counts, self.doubtful, self.since, bytes(8))
        return body + _checksum(body, place)

    @classmethod
    def decode(cls, data: bytes, place: str) -> Ack:
        """Read what `encode` wrote.

        A lost, damaged or misplaced record means "nothing is settled yet": the events are sent again
        under the same ids, which a sink that deduplicates does not count twice.
        """
        body, crc = data[: _ACK.size], data[_ACK.size : _ACK.size + 4]
        if len(body) < _ACK.size or _checksum(body, place) != crc:
            return cls()
        magic, *numbers, _ = _ACK.unpack(body)
        return cls(*numbers) if magic == b"ack1" else cls()


def _checksum(body: bytes, place: str) -> bytes:
    return zlib.crc32(body, zlib.crc32(place.encode())).to_bytes(4, "little")


_ACK: Final = struct.Struct("<4sQQQQQQ8s")
ACK_SIZE: Final = _ACK.size + 4


class Spool:
    """The folder of the journals of one home.

    Args:
        home: The home; the folder is made when something is written.
        retention: What becomes of segments that every sink has had.
    """

    def __init__(self, home: Path, *, retention: Retention = _DEFAULT_RETENTION) -> None:
        self.home = home
        self.retention = retention
        self.folder = home / "journal" / f"v{VERSION}"
        self._headers: dict[SegmentName, Header] = {}

    def make(self) -> None:
        """Make the folder, private to its owner.

        Raises:
            HomeError: If it cannot be made or written to.
        """
        try:
            system.make_private_folder(self.home)
            system.make_private_folder(self.folder)
            probe = self.folder / f"probe.{os.getpid()}.{threading.get_ident()}.tmp"
            lock = system.lock_file(probe)
            if lock is not None:
                system.unlock_file(lock)
            probe.unlink(missing_ok=True)  # another thread of ours may have been here too
        except OSError as error:
            raise HomeError(
                f"{self.home} cannot be written ({error.strerror or error}); set LLM_METERING_HOME"
                " (or home=) to a folder that this user may write to"
            ) from error
        if lock is None:
            raise HomeError(
                f"{self.home} is on a file system without file locks (flock); set LLM_METERING_HOME"
                " (or home=) to a folder on a local disk"
            )

    def segment_path(self, name: SegmentName) -> Path:
        """Where a segment is."""
        return self.folder / f"{name}.seg"

    def ack_path(self, name: SegmentName, debt_key: str) -> Path:
        """Where a sink's place in a segment is kept."""
        return self.folder / f"{name}.{debt_key}.ack"

    def lock_path(self, writer: str) -> Path:
        """The file that a writer holds locked while it lives."""
        return self.folder / f"{writer}.lock"

    def dead_mark(self, writer: str) -> Path:
        """The file that says that a writer has ended and its open calls are settled."""
        return self.folder / f"{writer}.dead"

    def sink_path(self, debt_key: str) -> Path:
        """Where a sink's standing is kept."""
        return self.folder / f"{debt_key}.sink"

    def dead_letters_path(self, debt_key: str) -> Path:
        """Where a sink's rejected events are kept."""
        return self.folder / "dead" / f"{debt_key}.ndjson"

    @property
    def kept_folder(self) -> Path:
        """Where segments are that every sink has had."""
        return self.folder / "kept"

    @property
    def bad_folder(self) -> Path:
        """Where damaged segments are, as they were found."""
        return self.folder / "bad"

    def kept_path(self, name: SegmentName) -> Path:
        """Where a segment is once every sink has had it."""
        return self.kept_folder / f"{name}.seg"

    def bad_path(self, name: SegmentName) -> Path:
        """Where a damaged segment is, as it was found."""
        return self.bad_folder / f"{name}.seg"

    def segments(self) -> list[SegmentName]:
        """All segments there are, oldest writer first."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        found = list(filter(None, map(read_segment_name, names)))
        present = set(found)
        # A copy first: another sink's thread may add a header while names are compared.
        for name in list(self._headers):
            if name not in present:
                self._headers.pop(name, None)
        return sorted(found)

    def segments_of(self, writer: str) -> list[SegmentName]:
        """The segments of one writer, in order."""
        return [name for name in self.segments() if name.writer == writer]

    def header(self, name: SegmentName) -> Header | None:
        """A segment's header; `None` if it is gone, torn, or of a version we do not know."""
        if (known := self._headers.get(name)) is not None:
            return known
        header = read_header(self.segment_path(name))
        if isinstance(header, Unreadable):
            return None
        self._headers[name] = header
        return header

    def is_damaged(self, name: SegmentName) -> bool:
        """Whether a segment does not begin with a header, of whatever version.

        While its writer lives, the header may only just be written.
        """
        return self.header(name) is None and (
            read_header(self.segment_path(name)) is Unreadable.DAMAGED
        )

    def is_empty(self, name: SegmentName) -> bool:
        """Whether a segment has nothing in it: its writer died before it had written a header.

        Or in the middle of that. Nothing is appended behind a header that is not whole.
        """
        try:
            with open(self.segment_path(name), "rb") as file:
                start = file.read(_START)
        except FileNotFoundError:
            return True
        if len(start) == _START:
            return False
        return len(start) < HEAD_SIZE or is_cut_short(start)

    def is_finished(self, writer: str) -> bool:
        """Whether a writer has ended and its open calls were settled."""
        return self.dead_mark(writer).exists()

    def read_ack(self, name: SegmentName, debt_key: str) -> Ack:
        """A sink's place in a segment, as last written."""
        try:
            path = self.ack_path(name, debt_key)
            return Ack.decode(path.read_bytes(), path.name)
        except OSError:
            return Ack()

    def debts(self) -> Iterator[Debt]:
        """Every sink that any segment here is owed to."""
        seen: set[str] = set()
        for name in self.segments():
            header = self.header(name)
            for debt in header.debts if header else ():
                if debt.key not in seen:
                    seen.add(debt.key)
                    yield debt
