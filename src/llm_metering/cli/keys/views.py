"""What is shown of keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ...meters.moments import rfc3339
from ..render import UNKNOWN, Listing, plain

if TYPE_CHECKING:
    from ...access import ApiKey

__all__ = ["bounds", "key_json", "keys_view", "state"]


def key_json(key: ApiKey, now: datetime) -> dict[str, Any]:
    """A key, in what a program reads."""
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "sources": _sorted(key.sources),
        "subjects": _sorted(key.subjects),
        "signed_subjects": key.signed_subjects,
        "requests_per_minute": key.requests_per_minute,
        "created_at": rfc3339(key.created_at),
        "expires_at": _moment(key.expires_at),
        "revoked_at": _moment(key.revoked_at),
        "successor": key.successor,
        "state": state(key, now),
    }


def state(key: ApiKey, now: datetime) -> str:
    """Whether it holds: `holds`, `expired` or `revoked`."""
    if key.revoked_at is not None:
        return "revoked"
    if key.expires_at is not None and now >= key.expires_at:
        return "expired"
    return "holds"


def keys_view(keys: Sequence[ApiKey], now: datetime) -> Listing:
    """A line for each."""
    return Listing(
        ("key", "name", "may", "for", "state", "until"),
        (),
        [
            (
                key.id,
                plain(key.name),
                ", ".join(sorted(key.scopes)),
                bounds(key),
                state(key, now),
                _moment(key.expires_at) or UNKNOWN,
            )
            for key in keys
        ],
    )


def bounds(key: ApiKey) -> str:
    """What it is bound to, for people."""
    parts = []
    for what, names in (("source", key.sources), ("subject", key.subjects)):
        if names is not None:
            parts.append(f"{what} {_few(names)}")
    if key.signed_subjects:
        parts.append("signed subjects")
    if key.requests_per_minute is not None:
        parts.append(f"{key.requests_per_minute} requests a minute")
    return "; ".join(parts) or "everything"


def _few(names: Iterable[str], most: int = 3) -> str:
    listed = sorted(names)
    more = len(listed) - most
    shown = ", ".join(map(plain, listed[:most]))
    return f"{shown} and {more} more" if more > 0 else shown


def _sorted(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else rfc3339(moment)
