"""Whether two events of one identity say the same, and if not, in what they differ."""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from ..ledger.staging_values import Differing

__all__ = ["differences", "is_same"]

_numbers: Final = msgspec.json.Decoder(dict[str, Any])


def is_same(each: Differing) -> bool:
    """Whether two events differ in how they are written alone: spaces, order, escapes."""
    if each.columns or not each.stored:
        return False
    try:
        one, other = (
            json.dumps(json.loads(payload), sort_keys=True)
            for payload in (each.payload, each.stored)
        )
    except (ValueError, RecursionError):
        return False
    return one == other


def differences(each: Differing) -> list[str]:
    """The names of what a person would call other numbers."""
    names = list(each.columns)
    if each.stored:
        new, old = (_numbers.decode(payload)["data"] for payload in (each.payload, each.stored))
        names += [
            name
            for name in sorted({*new, *old})
            if name not in names
            and new.get(name) != old.get(name)
            and isinstance(new.get(name, old.get(name)), int)
        ]
    return names
