"""The flags that reading a response can raise."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from .views import as_mapping

__all__ = [
    "INVALID_USAGE",
    "SEVERAL_RESPONSES",
    "UNCOUNTED_USAGE",
    "UNKNOWN_USAGE",
    "ZERO_USAGE",
    "unknown_body_flag",
    "unknown_usage_flag",
]

INVALID_USAGE: Final = "invalid_usage"
UNKNOWN_USAGE: Final = "unknown_usage"
UNCOUNTED_USAGE: Final = "uncounted_usage"
"""The response reports tokens of another model beside its own; they are not in the counts."""
SEVERAL_RESPONSES: Final = "several_responses"
"""What was taken for one response holds several; the counts are those of one of them, or none."""
ZERO_USAGE: Final = "zero_usage"
"""The provider reports no tokens at all, beside an answer that has some."""

_USAGES: Final = ("usage", "usage_metadata", "usageMetadata", "meta")
_MOST_KEYS: Final = 12
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")


def unknown_body_flag(body: Mapping[str, Any]) -> str:
    """The flag of a body in no known shape: the keys of its usage, if it has what looks like one.

    >>> unknown_body_flag({"id": "x", "usage": {"tokens_in": 3}})
    'unknown_usage:tokens_in'
    """
    for name in _USAGES:
        usage = as_mapping(body.get(name))
        if usage:
            return unknown_usage_flag(usage)
    return unknown_usage_flag(body)


def unknown_usage_flag(keys: Iterable[object]) -> str:
    """The flag of a usage in no known shape, with the names of the keys it has.

    A key that does not look like a name is left out: it could be a piece of an answer.

    >>> unknown_usage_flag(["tokens_out", "tokens_in", "what the user said"])
    'unknown_usage:tokens_in,tokens_out'
    """
    names = sorted(key for key in keys if isinstance(key, str) and _NAME.fullmatch(key))
    return f"{UNKNOWN_USAGE}:{','.join(names[:_MOST_KEYS])}" if names else UNKNOWN_USAGE
