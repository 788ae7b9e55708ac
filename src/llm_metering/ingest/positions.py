"""Where to go on in a partition: decided from what the ledger and the brokers say."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, NamedTuple

from ..ledger.intake_values import Bookmark, Omission

__all__ = ["ANEW", "LOST", "Start", "Watermarks", "anew", "digest_of", "in_words", "start_of"]

LOST: Final = "deleted before it was read"
ANEW: Final = "the topic was made anew; whether it had more records before is not known"

_DIGEST_BYTES: Final = 16


class Watermarks(NamedTuple):
    """The first offset that a partition has, and the one behind its last."""

    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Where to begin.

    Attributes:
        offset: The first record to ask for.
        omission: What cannot be read any more, and has to be written down before.
        check: The record that has to be found at `offset`, which was read already.
    """

    offset: int
    omission: Omission | None = None
    check: Bookmark | None = None


def start_of(position: int | None, bookmark: Bookmark | None, marks: Watermarks) -> Start:
    """Where to begin.

    Args:
        position: The first offset that was not read yet; `None` if nothing ever was.
        bookmark: The last record that was read.
        marks: What the partition has.

    >>> start_of(None, None, Watermarks(5, 9)).offset
    5
    >>> lost = start_of(3, None, Watermarks(5, 9)).omission
    >>> (lost.kind, lost.first, lost.end) if lost else None
    ('lost', 3, 5)
    """
    if position is None:
        return Start(offset=marks.low)
    if position > marks.high:
        return anew(position, marks)
    if position < marks.low:
        lost = marks.low - position
        return Start(
            offset=marks.low,
            omission=Omission(
                kind="lost", first=position, end=marks.low, records=lost, reason=LOST
            ),
        )
    if bookmark is not None and bookmark.offset >= marks.low:
        return Start(offset=bookmark.offset, check=bookmark)
    return Start(offset=position)


def anew(position: int, marks: Watermarks) -> Start:
    """Where to begin in a partition that is not the one that was read up to `position`.

    At its beginning: what was read before, the ledger recognises.
    """
    unknown = Omission(kind="anew", first=position, end=None, records=None, reason=ANEW)
    return Start(offset=marks.low, omission=unknown)


def in_words(omission: Omission, where: str) -> str:
    """What a person has to know of it, who looks at `where`."""
    if omission.kind == "lost" and omission.end is not None:
        return (
            f"LOST: {omission.records} records at most of {where} (offsets {omission.first} to "
            f"{omission.end - 1}) were deleted before they were read"
        )
    return (
        f"{where} was made anew, or cut off: it is read again from its beginning, and whether it "
        f"had records from offset {omission.first} on that were not read is not known"
    )


def digest_of(key: bytes | None, value: bytes | None, timestamp: int) -> bytes:
    """What a record is known again by; nothing of its content can be read from it."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for part in (key, value):
        digest.update(b"-" if part is None else b"%d:" % len(part) + part)
    digest.update(b"%d" % timestamp)
    return digest.digest()
