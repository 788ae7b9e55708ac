"""The journal's folder: what its files are called, what they hold, who may touch them.

::

    <home>/journal/v1/
      <writer>.lock                     held while that process (or its journal) lives
      <writer>.dead                     the same file, once its open calls were settled
      <writer>.<number>.seg             a segment: frames, appended by its writer alone
      <writer>.<number>.<debt>.ack      how far one sink has come in it; locked by its shipper
      <debt>.sink                       how a sink stands, for `status`
      dead/<debt>.ndjson                events a sink will never take, with its reason
      counters.json, counters.lock      what deleted segments counted

A writer is one journal of one process. A debt is a sink that the writer's events are owed to.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from .. import system
from ..errors import HomeError
from ..sinks.base import Sink
from .frames import HEAD_SIZE, Kind, encode_frame, is_cut_short, parse_frames

__all__ = ["VERSION", "Ack", "Debt", "Header", "SegmentName", "Spool", "debt_of"]

VERSION: Final = 1
_HEADER_READ: Final = 64 * 1024


class Debt(msgspec.Struct, frozen=True):
    """A sink that events are owed to.

    Attributes:
        key: Its identity, in a form that can be part of a file's name.
        name: How `status` calls it.
        url: Where it delivers, without secrets.
        account: Whose books it writes.
    """

    key: str
    name: str
    url: str
    account: str


def debt_of(sink: Sink) -> Debt:
    """The debt that `sink` settles; a new key or password changes nothing about it."""
    identity = f"{len(sink.url)}:{sink.url}{sink.account}".encode()
    key = hashlib.sha256(identity).hexdigest()[:16]
    return Debt(key, sink.name, sink.url, sink.account)


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first record of a segment.

    Attributes:
        version: Of the format of this folder.
        writer: The journal that wrote it.
        source: The CloudEvents source of all its events.
        debts: The sinks its events are owed to; the segment goes when each has them.
        created: When, in RFC 3339.
        pid: The writer's process, for people.
        host: The writer's machine, for people.
    """

    version: int
    writer: str
    source: str
    debts: tuple[Debt, ...]
    created: str
    pid: int
    host: str

    def frame(self) -> bytes:
        """The header as the first frame of a file."""
        return encode_frame(Kind.HEADER, msgspec.json.encode(self))


# Made at import, here and wherever a struct is read: with `decode(…, type=…)`, two threads that are
# the first to read a struct, at the same moment, end the process with a SIGSEGV (msgspec 0.22.0).
_headers: Final = msgspec.json.Decoder(Header)


def make_header(*, writer: str, source: str, debts: Sequence[Debt], created: str) -> Header:
    """A header for this process."""
    return Header(
        version=VERSION,
        writer=writer,
        source=source,
        debts=tuple(debts),
        created=created,
        pid=os.getpid(),
        host=socket.gethostname(),
    )


@dataclass(frozen=True, slots=True, order=True)
class SegmentName:
    """A segment; they sort by the age of their writer, then by number."""

    writer: str
    number: int

    def __str__(self) -> str:
        return f"{self.writer}.{self.number:06d}"


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

    def encode(self) -> bytes:
        """In a fixed size, to be overwritten in place by one small write."""
        counts = (self.offset, self.dead, self.dropped, self.retries)
        body = _ACK.pack(b"ack1", *counts, self.doubtful, self.since, bytes(8))
        return body + zlib.crc32(body).to_bytes(4, "little")

    @classmethod
    def decode(cls, data: bytes) -> Ack:
        """Read what `encode` wrote.

        A lost or damaged record means "nothing is settled yet": the events are sent again
        under the same ids, which a sink that deduplicates does not count twice.
        """
        body, crc = data[: _ACK.size], data[_ACK.size : _ACK.size + 4]
        if len(body) < _ACK.size or zlib.crc32(body).to_bytes(4, "little") != crc:
            return cls()
        magic, *numbers, _ = _ACK.unpack(body)
        return cls(*numbers) if magic == b"ack1" else cls()


_ACK: Final = struct.Struct("<4sQQQQQQ8s")
ACK_SIZE: Final = _ACK.size + 4


class Spool:
    """The folder of the journals of one home.

    Args:
        home: The home; the folder is made when something is written.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
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

    def segments(self) -> list[SegmentName]:
        """All segments there are, oldest writer first."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return []
        found = []
        for file in names:
            stem, _, suffix = file.rpartition(".")
            writer, _, number = stem.rpartition(".")
            if suffix == "seg" and writer and number.isdecimal():
                found.append(SegmentName(writer, int(number)))
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
        try:
            with open(self.segment_path(name), "rb") as file:
                start = file.read(_HEADER_READ)
        except OSError:
            return None
        frames = parse_frames(start, final=False).frames if len(start) >= HEAD_SIZE else []
        if not frames or frames[0].kind != Kind.HEADER or frames[0].start != 0:
            return None
        try:
            header = _headers.decode(frames[0].payload)
        except msgspec.DecodeError:
            return None
        if header.version != VERSION:
            return None
        self._headers[name] = header
        return header

    def is_empty(self, name: SegmentName) -> bool:
        """Whether a segment has nothing in it: its writer died before it had written a header.

        Or in the middle of that. Nothing is appended behind a header that is not whole.
        """
        try:
            with open(self.segment_path(name), "rb") as file:
                start = file.read(_HEADER_READ)
        except FileNotFoundError:
            return True
        if len(start) == _HEADER_READ:
            return False
        return len(start) < HEAD_SIZE or is_cut_short(start)

    def is_finished(self, writer: str) -> bool:
        """Whether a writer has ended and its open calls were settled."""
        return self.dead_mark(writer).exists()

    def read_ack(self, name: SegmentName, debt_key: str) -> Ack:
        """A sink's place in a segment, as last written."""
        try:
            return Ack.decode(self.ack_path(name, debt_key).read_bytes())
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
