"""OpenAI's responses API, and what else reports `input_tokens` with `input_tokens_details`.

Source: openai 3.54.0, `openai/types/responses/response_usage.py`, `response.py`,
`response_stream_event.py`, `compacted_response.py`, `openai/types/decision.py`,
`openai/types/realtime/realtime_response_usage.py` (which spells `input_token_details`).
Inclusive: the input holds what was read from and written to the cache, the output the reasoning.
What a hosted tool's own model used (`tool_usage.image_gen`) is not in it: it has no place in one
event of one model, and is flagged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..errors import UnknownUsageError
from ..service_tiers import served_on
from ..token_usage import TokenUsage
from .dialect import Dialect
from .errors import reason_of
from .flags import UNCOUNTED_USAGE
from .measures import numbers
from .native import attempt, tolerant
from .reading import NOTHING, Ending, Reading, moment, name_of
from .views import as_mapping

__all__ = ["DIALECT", "PROVIDER", "extract_usage", "is_usage", "read"]

PROVIDER: Final = "openai"
SHAPE: Final = "openai.responses"
DIALECT: Final = Dialect(provider=PROVIDER)

Recognise = Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], Dialect]

_OPERATIONS: Final = {
    "response": "chat",
    "realtime.response": "chat",
    "response.compaction": "compaction",
}
_UNENDED: Final = frozenset(["queued", "in_progress"])
_DETAILS: Final = (
    *("input_tokens_details", "output_tokens_details"),
    *("input_token_details", "output_token_details"),
)


def is_usage(usage: Mapping[str, Any]) -> bool:
    """Whether a usage with `input_tokens` or `output_tokens` is OpenAI's; Anthropic's has them too."""
    return not usage.keys().isdisjoint(_DETAILS) or (
        "total_tokens" in usage and "cache_read_input_tokens" not in usage
    )


@tolerant
def extract_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Read the `usage` of a response.

    Raises:
        UnknownUsageError: If neither input nor output is counted in it.
        InvalidUsageError: If a count is no count.
    """
    input_tokens, output_tokens = usage.get("input_tokens"), usage.get("output_tokens")
    if input_tokens is None and output_tokens is None:
        raise UnknownUsageError("OpenAI responses", keys=sorted(map(str, usage)))
    details = usage.get("input_tokens_details") or usage.get("input_token_details")
    ingoing = NOTHING if details is None else as_mapping(details) or NOTHING
    details = usage.get("output_tokens_details") or usage.get("output_token_details")
    outgoing = NOTHING if details is None else as_mapping(details) or NOTHING
    read, written = ingoing.get("cached_tokens"), ingoing.get("cache_write_tokens")
    if read is None and written is None and ingoing:
        # Perplexity's responses have Anthropic's names there.
        read = ingoing.get("cache_read_input_tokens")
        written = ingoing.get("cache_creation_input_tokens")
    return TokenUsage(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        reasoning_output_tokens=outgoing.get("reasoning_tokens"),
        input_audio_tokens=ingoing.get("audio_tokens"),
        input_image_tokens=ingoing.get("image_tokens"),
        output_audio_tokens=outgoing.get("audio_tokens"),
        output_image_tokens=outgoing.get("image_tokens"),
        reported_total_tokens=usage.get("total_tokens"),
        as_reported=True,
    )


def _openai(
    _body: Mapping[str, Any], _usage: Mapping[str, Any], _choice: Mapping[str, Any]
) -> Dialect:
    return DIALECT


def read(body: Mapping[str, Any], recognise: Recognise = _openai) -> Reading | None:
    """Read a response, or the event of a stream that holds one.

    Args:
        body: What the provider answered.
        recognise: Says whose body it is, from the body and its usage.
    """
    kind = body.get("object")
    if kind is None or not isinstance(kind, str):
        inner = body.get("response")
        if inner is not None:
            return _read_event(body, inner, recognise)
        if "answers" not in body:
            return None
        operation = "decision"
    elif (known := _OPERATIONS.get(kind)) is None:
        return None
    else:
        operation = known
    reported = body.get("usage")
    usage = None if reported is None else as_mapping(reported)
    if operation == "decision" and (usage is None or not is_usage(usage)):
        return None
    dialect = recognise(body, usage or NOTHING, NOTHING)
    counts, flags = attempt(extract_usage, reported if usage is None else usage)
    measures = NOTHING if usage is None else dialect.measures(usage)
    if (tools := body.get("tool_usage")) is not None:
        measures, flags = _with_tools(as_mapping(tools) or NOTHING, measures, flags)
    tier, flags = served_on(body.get("service_tier"), flags)
    status = body.get("status")
    ending, reason = _ending(status, body)
    created = body.get("created_at")
    return Reading(
        shape=SHAPE,
        provider=dialect.provider,
        operation=operation,
        usage=counts,
        is_final=not (isinstance(status, str) and status in _UNENDED),
        model=name_of(body.get("model")),
        response_id=name_of(body.get("id")),
        service_tier=tier,
        created=moment(created) if created else None,
        measures=measures,
        ending=ending,
        reason=reason,
        flags=flags,
    )


def _read_event(event: Mapping[str, Any], inner: object, recognise: Recognise) -> Reading | None:
    kind = event.get("type")
    response = as_mapping(inner)
    if response is None or not isinstance(kind, str) or not kind.startswith("response."):
        return None
    return read(response, recognise) if "response" not in response else None


def _with_tools(
    tools: Mapping[str, Any], measures: Mapping[str, int | float], flags: tuple[str, ...]
) -> tuple[Mapping[str, int | float], tuple[str, ...]]:
    searches = (as_mapping(tools.get("web_search")) or NOTHING).get("num_requests")
    images = as_mapping(tools.get("image_gen")) or NOTHING
    if any(images.get(name) for name in ("input_tokens", "output_tokens", "total_tokens")):
        flags = (*flags, UNCOUNTED_USAGE)
    return {**measures, **numbers(web_search_requests=searches)}, flags


def _ending(status: object, body: Mapping[str, Any]) -> tuple[Ending, str]:
    if status == "failed":
        return "failed", reason_of(body.get("error"))
    if status == "cancelled":
        return "failed", "cancelled"
    if isinstance(status, str) and status in _UNENDED:
        return "unfinished", ""
    return "completed", ""
