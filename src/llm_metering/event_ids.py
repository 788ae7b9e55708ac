"""The ids of events: minted when a call starts, or worked out from the user's own key."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from itertools import count
from typing import Final

__all__ = ["keyed_event_id", "minted_at", "new_event_id"]

_VARIANT: Final = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}
"""By any digit, one that begins with the bits 10."""


_RANDOM: Final = 8
"""Random bytes of an id, of which two bits give way to the variant."""
_IN_STOCK: Final = 4096

_Stock = tuple[bytes, int, Iterator[int]]


def _new_stock() -> _Stock:
    # For many at once: the kernel's call gives the interpreter's lock up, which beside a thread
    # that computes takes milliseconds to come back.
    return os.urandom(_RANDOM * _IN_STOCK), os.getpid(), count(step=_RANDOM)


_stock: _Stock = b"", 0, count()


def new_event_id() -> str:
    """Mint the id of a call that starts now: a UUIDv7 (RFC 9562, section 5.7).

    Ids ordered by time keep the ledger's unique index in cache; random ones insert several
    times slower. Twelve bits behind the milliseconds are their fraction (section 6.2, method 3):
    ids of one machine are in the order of its clock, to a quarter of a microsecond. The random part comes from the kernel, and no part of it is used twice, nor by
    a forked child that has a copy of what its parent had in stock.
    """
    global _stock
    ticks = (time.time_ns() << 12) // 1_000_000 & 0xFFF_FFFF_FFFF_FFFF
    while True:
        stock, pid, places = _stock
        place = next(places)  # in one step, so that no two threads have the same
        random = stock[place : place + _RANDOM]
        if len(random) == _RANDOM and pid == os.getpid():
            break
        _stock = _new_stock()
    when, rest = f"{ticks:015x}", random.hex()
    # Cut and joined: `uuid.UUID` and its `str` take four times as long.
    return f"{when[:8]}-{when[8:12]}-7{when[12:]}-{_VARIANT[rest[0]]}{rest[1:4]}-{rest[4:]}"


def minted_at(event_id: str) -> float | None:
    """When an id of `new_event_id` was minted, in seconds since 1970; `None` for any other id.

    >>> minted_at("0192d5e8-7c00-7000-8000-000000000000"), minted_at("resp_1")
    (1730165636.096, None)
    """
    if len(event_id) != 36 or event_id[14] != "7":
        return None
    try:
        return int(event_id[:8] + event_id[9:13], 16) / 1000
    except ValueError:
        return None


def keyed_event_id(source: str, key: str) -> str:
    """The id of what the user calls `key`: a UUIDv8 (RFC 9562, section 5.8), the same everywhere.

    >>> keyed_event_id("shop", "order-1") == keyed_event_id("shop", "order-1")
    True
    """
    # A length in front keeps ("a", "bc") and ("ab", "c") apart.
    digest = hashlib.sha256(f"{len(source)}:{source}{key}".encode()).digest()
    value = int.from_bytes(digest[:16]) & ~(0xF000 << 64) & ~(0xC000 << 48)
    return str(uuid.UUID(int=value | 8 << 76 | 0x8000 << 48))
