"""What a response reports beside tokens, as far as it is a number."""

from __future__ import annotations

from collections.abc import Mapping

from ..token_usage import MAX_COUNT

__all__ = ["numbers"]


def numbers(**candidates: object) -> Mapping[str, int | float]:
    """Those of the candidates that an event can carry under their name in `MEASURES`.

    >>> numbers(reported_cost=0.25, images=None, audio_seconds="12")
    {'reported_cost': 0.25}
    """
    return {
        name: value
        for name, value in candidates.items()
        if isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value <= MAX_COUNT  # which neither infinity nor NaN is
    }
