"""Whether a call is refused because nobody pays, and what else is not made then.

Read in langchain-core 1.7.2, `language_models/llms.py` (`generate`, `agenerate`): the prompts of a
completion model that are sent together have a run each, perhaps each for another payer. All are told
of before the request is made, asynchronously even those after one that was refused.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from ..errors import MissingSubjectError
from ..meter import Meter
from ..subjects import Attribution, Rank

__all__ = ["batch_of", "refusal_of"]

# The parameters themselves, not their `id`, which could soon be another object's.
_refused: Final[deque[object]] = deque(maxlen=16)


def refusal_of(
    meter: Meter,
    attribution: Attribution,
    key: str,
    request: object,
    kwargs: Mapping[str, Any],
) -> MissingSubjectError | None:
    """What to raise in place of the call; it is counted, and others that were told forget it.

    Args:
        meter: Whose settings decide.
        attribution: Who pays, by what this handler knows.
        key: What the call is called by.
        request: Its request object.
        kwargs: What LangChain tells of its start.
    """
    batch = batch_of(kwargs)
    parameters = kwargs.get("invocation_params")
    if batch is not None and any(each is parameters for each in list(_refused)):
        refusal: MissingSubjectError | None = MissingSubjectError()
    elif attribution.rank is not Rank.NOBODY or meter.calls.is_paid(key, request):
        return None
    else:
        refusal = meter.missing_subjects.refusal()
    if refusal is None:
        return None
    if batch is not None:
        _refused.append(parameters)
    # In a guard of its own: it is refused even if it cannot be counted.
    with meter.guard("on_llm_start"):
        meter.calls.refuse(key, request, "no_subject", batch=batch)
    return refusal


def batch_of(kwargs: Mapping[str, Any]) -> int | None:
    """What the calls of one `generate` have in common: their very parameters.

    One that fails ends it, and of those that had been answered by then nobody is told
    (`language_models/chat_models.py`, `generate`).
    """
    parameters = kwargs.get("invocation_params")
    if parameters is None or kwargs.get("batch_size", 1) == 1:
        return None
    return id(parameters)
