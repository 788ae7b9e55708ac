"""On which tier a call was served, in its provider's own word, which has a price of its own.

Providers call the tiers `default`, `standard` or `on_demand` (the plain one), `batch`, `flex`,
`priority`, `scale`, …; a new word is kept as well as a known one. What a word costs is not said here.
Some say beside the tier that a call ran in a mode that costs more (Anthropic's `speed`, Amazon
Bedrock's `performanceConfig`): on the plain tier that mode's word is the tier's.

`auto` is what a request asks for, and no answer; some echo it until they know, or for ever.
"""

from __future__ import annotations

import re
from typing import Final

from .errors import InvalidArgumentError

__all__ = [
    "COMMON",
    "INVALID_SERVICE_TIER",
    "PLAIN",
    "SERVICE_TIER_DIFFERS",
    "agreed",
    "check_service_tier",
    "in_mode",
    "served_on",
]

INVALID_SERVICE_TIER: Final = "invalid_service_tier"
"""The flag of a tier that is no word; it was dropped."""
SERVICE_TIER_DIFFERS: Final = "service_tier_differs"
"""The flag of a call of which two tiers are said; the provider's own, nearest to it, stands."""

PLAIN: Final = frozenset(["default", "standard", "on_demand"])
"""What providers call the tier of a call that nothing was said of."""

_NO_ANSWER: Final = frozenset(
    ["", "auto", "unspecified", "service_tier_unspecified", "traffic_type_unspecified"]
)
_WORD: Final = re.compile(r"[a-z0-9][a-z0-9_.:-]{0,39}")
COMMON: Final = frozenset([*PLAIN, "batch", "flex", "priority", "scale", "fast", "performance"])
"""What nearly all responses say that say something."""

_Flags = tuple[str, ...]


def served_on(word: object, flags: _Flags = ()) -> tuple[str | None, _Flags]:
    """The tier that a provider names, in lower case, and the flags with what is odd about it.

    >>> served_on("ON_DEMAND_FLEX"), served_on("auto"), served_on({"a": 1})
    (('on_demand_flex', ()), (None, ()), (None, ('invalid_service_tier',)))
    """
    if word is None:
        return None, flags
    if type(word) is str and word in COMMON:
        return word, flags
    # An SDK's enum is a string, too, and its value the provider's word. Speakeasy's SDKs (Mistral,
    # OpenRouter) put an object where nothing was sent.
    text = str.lower(word) if isinstance(word, str) else None
    if text in _NO_ANSWER or type(word).__name__ == "Unset":
        return None, flags
    if text is None or _WORD.fullmatch(text) is None:
        return None, (*flags, INVALID_SERVICE_TIER)
    return text, flags


def in_mode(tier: str | None, mode: object, flags: _Flags = ()) -> tuple[str | None, _Flags]:
    """The tier of a call that ran in a mode which the provider names beside it.

    >>> in_mode("standard", "fast"), in_mode(None, "standard"), in_mode("priority", "fast")
    (('fast', ()), (None, ()), ('priority', ('service_tier_differs',)))
    """
    word, flags = served_on(mode, flags)
    if word is None or word in PLAIN or word == tier:
        return tier, flags
    if tier is None or tier in PLAIN:
        return word, flags
    return tier, (*flags, SERVICE_TIER_DIFFERS)


def agreed(served: str | None, said: str | None, flags: _Flags = ()) -> tuple[str | None, _Flags]:
    """The tier of a call of which somebody else than its provider says one, too.

    A response out of a batch does not always say so: what was said stands where the response names
    the plain tier or none.

    Args:
        served: What the response names.
        said: What was said beside it.
        flags: What is odd so far.

    >>> agreed("default", "batch"), agreed("priority", "batch")
    (('batch', ()), ('priority', ('service_tier_differs',)))
    """
    if said is None or served == said:
        return served, flags
    if served is None or (served in PLAIN and said not in PLAIN):
        return said, flags
    # Vertex AI puts how a call is paid for in front.
    if served in PLAIN or served.removeprefix("on_demand_") == said:
        return served, flags
    return served, (*flags, SERVICE_TIER_DIFFERS)


def check_service_tier(said: object) -> str | None:
    """The tier that an argument names, in lower case.

    Raises:
        InvalidArgumentError: If it names none.
    """
    if said is None:
        return None
    tier, _ = served_on(said)
    if tier is None:
        raise InvalidArgumentError(
            "service_tier is the tier that the call was served on, a word of at most 40 letters,"
            ' digits and _.:- such as "batch", "flex", "priority" or "default";'
            f" got {'no answer: ' + repr(str(said)) if _is_no_answer(said) else type(said).__name__}"
        )
    return tier


def _is_no_answer(said: object) -> bool:
    return isinstance(said, str) and str.lower(said) in _NO_ANSWER
