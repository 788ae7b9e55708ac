"""What LangChain hands to a handler at the end of a call, as a report for the call table.

The order in which a usage is looked for: the totals of a stream whose chunks held totals, which
LangChain has added up; the message; what the integration says of the request; what was seen on
the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..calls import Report
from .answers import Answer
from .seen import Seen
from .texts import output_of
from .usages import NOTHING_FOUND, Found, read_counts, read_foreign

if TYPE_CHECKING:
    from langchain_core.outputs import LLMResult

__all__ = ["found_in", "operation_of", "report_of"]


def report_of(response: LLMResult | None, seen: Seen | None = None) -> Report:
    """What the result of a call that ended by itself says of it.

    Args:
        response: What `on_llm_end` got.
        seen: What was seen of the call before; `None` if its start was not.
    """
    answer = Answer(response)
    if answer.is_marked_as_cached:
        return Report(model=answer.model, response_id=answer.response_id, cached=True)
    if not answer.usage and answer.is_bare and seen is not None and not seen.reports:
        return Report(cached=True, flags=("unmarked_cache_hit",))
    found = found_in(answer, seen)
    if found.usage is None and seen is not None:
        found = seen.found().flagged(*found.flags)
    found = found.judged(has_answer=answer.has_output)
    tier, flags = answer.served_on(found.flags)
    return Report(
        usage=found.usage,
        model=answer.model,
        response_id=answer.response_id,
        service_tier=tier,
        output=lambda: output_of(response),
        flags=flags,
    )


def found_in(answer: Answer, seen: Seen | None) -> Found:
    """The usage in an answer, unless LangChain has made it wrongly of that of the chunks.

    It adds up what may be totals; and in v3 streams it adds up the counts of parts alone, and
    takes the last one's details for all (`language_models/_compat_bridge.py`, `_accumulate_usage`).
    """
    stream = seen if seen is not None and seen.reports > 1 else None
    if stream is not None and (stream.usage.is_cumulative or stream.usage.is_contradictory):
        return stream.found()
    found = read_counts(answer.usage)
    if found.usage is not None:
        return found if stream is None else _detailed(found, stream)
    for usage in answer.native_usages():
        if usage:
            native = read_foreign(usage)
            found = Found(native.usage, tuple(dict.fromkeys((*found.flags, *native.flags))))
            if found.usage is not None:
                return found
    return found or NOTHING_FOUND


def _detailed(found: Found, seen: Seen) -> Found:
    """What the parts of a stream amount to, if that is what was found in its end."""
    ours = read_counts(seen.usage.usage())
    if ours.usage is None or found.usage is None:
        return found
    is_same = (ours.usage.input_tokens, ours.usage.output_tokens) == (
        found.usage.input_tokens,
        found.usage.output_tokens,
    )
    return ours if is_same else found


def operation_of(response: LLMResult | None) -> str:
    """OpenTelemetry's `gen_ai.operation.name`, for a call whose start we were not told of."""
    answer = Answer(response)
    is_completion = answer.generation is not None and answer.message is None
    return "text_completion" if is_completion else "chat"
