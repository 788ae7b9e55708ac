"""Records on disk: framed, checksummed, and found again behind damage.

A frame is twelve bytes of head (magic, kind, a reserved byte, length, CRC-32 of all the rest)
and the payload. Kinds a reader does not know are read over, so that a later version may add
private notes. Nothing here touches a file.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

__all__ = ["HEAD_SIZE", "Frame", "Kind", "Parsed", "encode_frame", "is_cut_short", "parse_frames"]

_HEAD: Final = struct.Struct("<HBBII")
_PREFIX: Final = struct.Struct("<HBBI")
_MAGIC: Final = 0x4D4C
_MAGIC_BYTES: Final = struct.pack("<H", _MAGIC)
HEAD_SIZE: Final = _HEAD.size

MAX_PAYLOAD: Final = 64 << 20
"""A longer length is damage, not a record."""


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


@dataclass(frozen=True, slots=True)
class Frame:
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
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a record of {len(payload)} bytes is above {MAX_PAYLOAD}")
    prefix = _PREFIX.pack(_MAGIC, kind, 0, len(payload))
    crc = zlib.crc32(payload, zlib.crc32(prefix))
    return prefix + crc.to_bytes(4, "little") + payload


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
    while size - position >= HEAD_SIZE:
        end = _end_of_frame(data, position)
        if end is None:
            if not final and _may_continue(data, position):
                break
            found = _next_frame(data, position + 1)
            if found is None:
                break
            corrupt += found - position
            position = found
            continue
        payload = data[position + HEAD_SIZE : end]
        frames.append(Frame(data[position + 2], base + position, base + end, payload))
        position = end
    return Parsed(frames, base + position, corrupt)


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
    actual = zlib.crc32(view[position : position + _PREFIX.size])
    actual = zlib.crc32(view[position + HEAD_SIZE : end], actual)
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
