"""ULIDs: ids of 128 bits in 26 signs, as OpenMeter's API has them.

Source: https://github.com/ulid/spec; the first 48 bits are milliseconds since 1970, as in a UUIDv7, so one
is made of the other.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Final

from .event_ids import new_event_id

__all__ = ["new_ulid", "ulid_of"]

_SIGNS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_LENGTH: Final = 26


def new_ulid() -> str:
    """A new one, later than those before."""
    return _text(uuid.UUID(new_event_id()).int)


def ulid_of(name: str) -> str:
    """The one of a name, the same each time; there is no time in it.

    >>> ulid_of("tokens_total")
    '7HJF540MJ90HJFQF1CQ7NA574J'
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return _text(int.from_bytes(digest[:16], "big"))


def _text(number: int) -> str:
    return "".join(_SIGNS[number >> 5 * place & 31] for place in reversed(range(_LENGTH)))
