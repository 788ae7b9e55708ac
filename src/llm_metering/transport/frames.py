"""Records on disk: framed, checksummed, and found again behind damage.

A frame is twelve bytes of head (magic, kind, a reserved byte, length, CRC-32 of all the rest)
and the payload. Kinds a reader does not know are read over, so that a later version may add
private notes. Nothing here touches a file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final
from zlib import crc32

import msgspec

__all__ = [
    "HEAD_SIZE",
    "Frame",
    "Kind",
    "Parsed",
    "encode_frame",
    "is_cut_short",
    "parse_frames",
    "read_frames",
]

_HEAD: Final = struct.Struct("<HBBII")
_PREFIX: Final = struct.Struct("<HBBI")
_pack_prefix: Final = _PREFIX.pack
_MAGIC: Final = 0x4D4C
_MAGIC_BYTES: Final = struct.pack("<H", _MAGIC)
_NUMBERS: Final = struct.Struct("<QI")
"""The same head: all that the checksum covers as one number, and the checksum."""
_HEADS_KEPT: Final = 4096
_heads: Final[dict[int, tuple[int, int, int]]] = {}
"""Heads that were read lately. Events are of few lengths, so that most are known by then."""
_PREFIX_SIZE: Final = _PREFIX.size
HEAD_SIZE: Final = _HEAD.size

MAX_PAYLOAD: Final = 64 << 20
"""A longer length is damage, not a record."""


WINDOW: Final = 64 << 10
"""Bytes that are read at once: what was just copied from the page cache is still in the
processor's own when it is parsed, copied and joined."""


class Kind(IntEnum):
    """What a frame holds. Only events are ever shown to a sink.

    Attributes:
        HEADER: The first frame of a segment: version, writer, source, debts.
        EVENT: A CloudEvent in JSON.
        OPEN: A call has started; the payload is the event to record if this process dies
            before the call ends.
        CLOSED: The call of that id ended without an event; the payload is the id.
        COUNT: Something to be counted in `status`, such as a failure of our own.
    """

    HEADER = 1
    EVENT = 2
    OPEN = 3
    CLOSED = 4
    COUNT = 5


# A Struct, as every record of a backlog becomes one: it is made in a tenth of the time that a
# frozen dataclass takes. `gc=False`: it holds nothing that could refer back to it.
class Frame(msgspec.Struct, frozen=True, gc=False):
    """One record.

    Attributes:
        kind: A `Kind`, or a number this version does not know.
        start: Where the frame begins in its segment.
        end: Where the next one begins.
        payload: What it holds.
    """

    kind: int
    start: int
    end: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a stretch of a segment holds.

    Attributes:
        frames: The whole records.
        end: Where reading goes on; bytes behind it were no whole record.
        corrupt: Bytes that were passed over because no record begins in them.
    """

    frames: list[Frame]
    end: int
    corrupt: int


def encode_frame(kind: Kind, payload: bytes) -> bytes:
    """Frame `payload`.

    Raises:
        ValueError: If it is longer than any reader would believe.
    """
    size = len(payload)
    if size > MAX_PAYLOAD:
        raise ValueError(f"a record of {size} bytes is above {MAX_PAYLOAD}")
    prefix = _pack_prefix(_MAGIC, kind, 0, size)
    return prefix + crc32(payload, crc32(prefix)).to_bytes(4, "little") + payload


def parse_frames(data: bytes, base: int = 0, *, final: bool = True) -> Parsed:
    """Read the frames in `data`, which begins at offset `base` of its segment.

    Damage in the middle is passed over by looking for the next valid frame; a torn tail is
    left unread.

    Args:
        data: A stretch of a segment, beginning at a frame.
        base: Its offset in the segment.
        final: Nothing follows `data`. Otherwise an incomplete frame at its end may be
            whole once more is read, and is not searched for a frame inside it.
    """
    frames: list[Frame] = []
    position = corrupt = 0
    size = len(data)
    # One pass in plain sight, without a call for each frame: this loop is a good part of what
    # draining a backlog costs.
    unpack, checksum, heads = _NUMBERS.unpack_from, crc32, _heads
    while size - position >= HEAD_SIZE:
        prefix, crc = unpack(data, position)
        kind, length, seed = heads.get(prefix) or _read_head(prefix)
        start = position + HEAD_SIZE
        end = start + length
        if length >= 0 and end <= size:
            payload = data[start:end]
            if checksum(payload, seed) == crc:
                frames.append(Frame(kind, base + position, base + end, payload))
                position = end
                continue
        if not final and _may_continue(data, position):
            break
        found = _next_frame(data, position + 1)
        if found is None:
            break
        corrupt += found - position
        position = found
    return Parsed(frames, base + position, corrupt)


def _read_head(prefix: int) -> tuple[int, int, int]:
    """The kind, the length (-1 if it is no head) and the checksum so far, of the first 8 bytes."""
    encoded = prefix.to_bytes(_PREFIX_SIZE, "little")
    magic, kind, _, length = _PREFIX.unpack(encoded)
    if magic != _MAGIC or length > MAX_PAYLOAD:
        return 0, -1, 0
    if len(_heads) >= _HEADS_KEPT:
        _heads.clear()
    head = _heads[prefix] = kind, length, crc32(encoded)
    return head


def read_frames(read: Callable[[int, int], bytes], offset: int, size: int | None) -> Parsed:
    """Read on in a segment, as far as one window goes, or one frame that is larger.

    Args:
        read: Gives so many bytes at an offset, or as many as there are.
        offset: Where a frame begins.
        size: Where the segment ends; `None` while that is not known.

    Returns:
        Nothing that is further than `offset` once there is nothing more.
    """
    window = WINDOW
    while True:
        wanted = window if size is None else min(window, size - offset)
        data = read(wanted, offset) if wanted > 0 else b""
        final = size is not None and offset + len(data) >= size
        parsed = parse_frames(data, offset, final=final)
        if parsed.frames or parsed.end > offset or len(data) < window:
            return parsed
        window *= 2


def is_cut_short(data: bytes) -> bool:
    """Whether `data`, the whole of a file, is the start of one frame and holds no other."""
    return _may_continue(data, 0) and not parse_frames(data).frames


def _end_of_frame(data: bytes, position: int) -> int | None:
    """Where the frame at `position` ends; `None` if no whole, valid frame is there."""
    magic, _, _, length, crc = _HEAD.unpack_from(data, position)
    end: int = position + HEAD_SIZE + length
    if magic != _MAGIC or length > MAX_PAYLOAD or end > len(data):
        return None
    view = memoryview(data)
    actual = crc32(view[position : position + _PREFIX_SIZE])
    actual = crc32(view[position + HEAD_SIZE : end], actual)
    return end if actual == crc else None


def _may_continue(data: bytes, position: int) -> bool:
    magic, _, _, length, _ = _HEAD.unpack_from(data, position)
    return bool(
        magic == _MAGIC and length <= MAX_PAYLOAD and position + HEAD_SIZE + length > len(data)
    )


def _next_frame(data: bytes, position: int) -> int | None:
    while (position := data.find(_MAGIC_BYTES, position)) >= 0:
        if len(data) - position < HEAD_SIZE:
            return None
        if _end_of_frame(data, position) is not None:
            return position
        position += 1
    return None
