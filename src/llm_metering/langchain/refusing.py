"""Whether a call is refused, because nobody pays or a budget is spent, and what else is not made then.

Read in langchain-core 1.7.2, `language_models/llms.py` (`generate`, `agenerate`): the prompts of a
completion model that are sent together have a run each, perhaps each for another payer. All are told
of before the request is made, asynchronously even those after one that was refused.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from .. import taps
from ..calls import Key
from ..errors import CallRefusedError
from ..meter import Meter
from ..subjects import Attribution, Rank
from .batches import Batch

__all__ = ["refusal_of", "remember_refused"]

# The parameters themselves, not their `id`, which could soon be another object's.
_refused: Final[deque[tuple[object, CallRefusedError]]] = deque(maxlen=16)


def refusal_of(
    meter: Meter,
    attribution: Attribution,
    key: Key,
    request: object,
    parameters: object,
    batch: Batch | None,
    provider: str | None,
    model: str | None,
) -> CallRefusedError | None:
    """What to raise in place of the call; it is counted, and others that were told forget it.

    Args:
        meter: Whose settings decide.
        attribution: Who pays, by what this handler knows.
        key: What the call is called by.
        request: Its request object.
        parameters: The parameters of the call, the same object for all that are sent together.
        batch: The calls that it was begun with.
        provider: Who would be asked.
        model: Which of its models.
    """
    refusal = attribution.refusal(provider, model)
    if batch is not None and refusal is None:
        others = (refused for each, refused in list(_refused) if each is parameters)
        refusal = next(others, None)
    is_for_nobody = attribution.rank is Rank.NOBODY
    if refusal is None and is_for_nobody and not meter.calls.is_paid(key, request):
        refusal = meter.missing_subjects.refusal(
            is_known=meter.calls.knows(key), flags=attribution.flags
        )
    if refusal is None:
        return None
    if batch is not None:
        batch.keys.pop(key, None)
        remember_refused(parameters, refusal)
    taps.forget(request)
    # In a guard of its own: it is refused even if it cannot be counted.
    with meter.guard("on_llm_start"):
        meter.calls.refuse(key, request, refusal.reason, batch=batch)
    return refusal


def remember_refused(parameters: object, refusal: CallRefusedError) -> None:
    """Those that were to be sent together with a call that was refused are not made either."""
    _refused.append((parameters, refusal))
