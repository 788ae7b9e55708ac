"""Who pays for what is asked for in a span, and what is done where nobody does."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

from msgspec.structs import replace

from ..errors import CallRefusedError
from ..subjects import CONFLICT, Attribution, Rank, attribute
from .accounts import Teller
from .frames import Frame

__all__ = ["attribution_of", "refusal_of"]

# Bound once: an enum's member costs as much to look up as a function to call.
_NOBODY: Final = Rank.NOBODY


def attribution_of(teller: Teller, frame: Frame) -> Attribution:
    """Who pays for a call that begins in a span, by what one handler knows."""
    account, meter, _ = teller
    who = partial(
        attribute,
        handler=account.subject,
        metadata=frame.tags,
        default=meter.subject,
        dimensions=account.dimensions,
        rules=meter.rules,
    )
    found = who(scope=frame.scope())
    if found.rank is _NOBODY and frame.around is not None:
        # Nobody was named where the stream was made; whoever reads it is better than nobody.
        found = who()
    if frame.is_contested and CONFLICT not in found.flags:
        found = replace(found, flags=(*found.flags, CONFLICT))
    return found


def refusal_of(
    told: Iterable[tuple[Teller, Attribution]], provider: str | None, model: str | None
) -> CallRefusedError | None:
    """What is to be raised in place of a call, if it is to be refused.

    Args:
        told: Who is told of it, and who pays by what each of them knows.
        provider: Who would be asked.
        model: Which of its models.
    """
    for (_, meter, _), attribution in told:
        if attribution.watchers:
            refused = attribution.refusal(provider, model)
            if refused is not None:
                return refused
        if attribution.rank is _NOBODY:
            refusal = meter.missing_subjects.refusal(flags=attribution.flags)
            if refusal is not None:
                return refusal
    return None
