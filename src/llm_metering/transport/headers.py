"""The first record of a segment: who wrote it, and which sinks its events are owed to."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Final

import msgspec

from ..sinks.base import Sink
from .frames import Kind, encode_frame, parse_frames

__all__ = [
    "VERSION",
    "Debt",
    "Header",
    "Unreadable",
    "debt_of",
    "make_header",
    "read_header",
    "stand_in_header",
]

VERSION: Final = 1
_FIRST_READ: Final = 64 * 1024


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


class Unreadable(Enum):
    """Why a segment has no header that can be used.

    Attributes:
        GONE: There is no such file, or it cannot be looked into now.
        EMPTY: Nothing was written to it.
        FOREIGN: It is in a format of another version of this library.
        DAMAGED: It does not begin with a header.
    """

    GONE = "gone"
    EMPTY = "empty"
    FOREIGN = "foreign"
    DAMAGED = "damaged"


class _Versioned(msgspec.Struct):
    version: int


# Made at import, here and wherever a struct is read: with `decode(…, type=…)`, two threads that are
# the first to read a struct, at the same moment, end the process with a SIGSEGV (msgspec 0.22.0).
_headers: Final = msgspec.json.Decoder(Header)
_versions: Final = msgspec.json.Decoder(_Versioned)


def read_header(path: Path) -> Header | Unreadable:
    """The header of a segment, or why there is none."""
    try:
        with open(path, "rb") as file:
            start = file.read(_FIRST_READ)
            payload = _first_payload(start)
            if payload is None and len(start) == _FIRST_READ:
                payload = _first_payload(start + file.read())  # very many debts
    except OSError:
        return Unreadable.GONE
    if payload is None:
        return Unreadable.DAMAGED if start else Unreadable.EMPTY
    try:
        if _versions.decode(payload).version != VERSION:
            return Unreadable.FOREIGN
        return _headers.decode(payload)
    except (ValueError, RecursionError):
        return Unreadable.DAMAGED


def _first_payload(start: bytes) -> bytes | None:
    frames = parse_frames(start, final=False).frames
    if not frames or frames[0].kind != Kind.HEADER or frames[0].start != 0:
        return None
    return frames[0].payload


def stand_in_header(header: Header, room: int) -> bytes | None:
    """A header frame for another segment of the same writer, no longer than `room` bytes.

    Args:
        header: That of a segment whose header can be read.
        room: Bytes before the first record of the other one.

    Returns:
        The frame; `None` if there is no room even without what is only for people.
    """
    brief = msgspec.structs.replace(header, pid=0, host="")
    frames = (each.frame() for each in (header, brief))
    return next((frame for frame in frames if len(frame) <= room), None)
