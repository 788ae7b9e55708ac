"""Who pays for what is asked for in a span, and what is done where nobody does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from ..errors import MissingSubjectError
from ..subjects import Attribution, Rank, attribute
from .accounts import Teller
from .frames import Frame

__all__ = ["attribution_of", "refusal_of"]

# Bound once: an enum's member costs as much to look up as a function to call.
_NOBODY: Final = Rank.NOBODY


def attribution_of(teller: Teller, frame: Frame) -> Attribution:
    """Who pays for a call that begins in a span, by what one handler knows."""
    account, meter = teller
    return attribute(
        handler=account.subject,
        metadata=frame.tags,
        default=meter.subject,
        dimensions=account.dimensions,
        rules=meter.rules,
        scope=frame.scope(),
    )


def refusal_of(told: Iterable[tuple[Teller, Attribution]]) -> MissingSubjectError | None:
    """What is to be raised in place of a call that nobody pays for, if it is to be refused."""
    for (_, meter), attribution in told:
        if attribution.rank is _NOBODY:
            refusal = meter.missing_subjects.refusal(flags=attribution.flags)
            if refusal is not None:
                return refusal
    return None
