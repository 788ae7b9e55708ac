"""OpenAI's chat completions, legacy completions and embeddings, and all that speak like them.

Source: openai 3.54.0, `openai/types/completion_usage.py`, `openai/types/chat/chat_completion.py`,
`openai/types/completion.py`, `openai/types/create_embedding_response.py`. Inclusive:
`prompt_tokens` holds the cached, written, audio and image tokens, `completion_tokens` the
reasoning, audio and rejected prediction. An embedding reports no completion: where its total is
its prompt, its output is the 0 that follows.

Servers that speak like OpenAI put more beside it; `dialects.py` knows whose marks these are.
What several of them share is read here: a count of cached tokens at the top of the usage, the
spelling `prompt_token_details`, and reasoning *beside* `completion_tokens`, which the provider's
own total then proves. A total that proves nothing is kept as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..errors import UnknownUsageError
from ..service_tiers import in_mode, served_on
from ..token_usage import TokenUsage
from .dialect import Dialect
from .errors import reason_of
from .native import attempt, first, tolerant
from .reading import NOTHING, Reading, moment, name_of
from .views import as_mapping

__all__ = ["DIALECT", "PROVIDER", "extract_usage", "read", "usage_in"]

PROVIDER: Final = "openai"
SHAPE: Final = "openai.chat"
DIALECT: Final = Dialect(provider=PROVIDER)

Recognise = Callable[[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]], Dialect]

_CACHED: Final = (
    "cached_tokens",  # Together, Moonshot
    "prompt_cache_hit_tokens",  # DeepSeek
    "num_cached_tokens",  # Mistral
    "cache_read_input_tokens",  # LiteLLM
)
_COUNTS: Final = ("prompt_tokens", "completion_tokens")


@tolerant
def extract_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Read the `usage` of a body.

    Raises:
        UnknownUsageError: If neither prompt nor completion nor total is counted in it.
        InvalidUsageError: If a count is no count.
    """
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
    if prompt is None and completion is None:
        if (total := usage.get("total_tokens")) is None:
            raise UnknownUsageError("OpenAI chat", keys=sorted(map(str, usage)))
        return TokenUsage(reported_total_tokens=total, as_reported=True)
    total = usage.get("total_tokens")
    details = usage.get("prompt_tokens_details") or usage.get("prompt_token_details")
    ingoing = NOTHING if details is None else as_mapping(details) or NOTHING
    details = usage.get("completion_tokens_details")
    outgoing = NOTHING if details is None else as_mapping(details) or NOTHING
    cached = ingoing.get("cached_tokens")
    if cached is None:
        cached = first(usage, *_CACHED)
    reasoning = outgoing.get("reasoning_tokens")
    if completion is None:
        if total == prompt and type(prompt) is int:
            completion = 0
    elif reasoning and total is not None and _is_beside(prompt, completion, reasoning, total):
        completion += reasoning
    return TokenUsage(
        input_tokens=prompt,
        output_tokens=completion,
        cache_read_input_tokens=cached,
        cache_creation_input_tokens=ingoing.get("cache_write_tokens"),
        reasoning_output_tokens=reasoning,
        input_audio_tokens=ingoing.get("audio_tokens"),
        input_image_tokens=ingoing.get("image_tokens"),
        input_video_tokens=ingoing.get("video_tokens"),
        output_audio_tokens=outgoing.get("audio_tokens"),
        output_image_tokens=outgoing.get("image_tokens"),
        reported_total_tokens=total,
        as_reported=True,
    )


def _is_beside(prompt: object, completion: object, reasoning: object, total: object) -> bool:
    """Whether the provider's total says that the completion does not hold the reasoning."""
    if not (type(prompt) is type(completion) is type(reasoning) is type(total) is int):
        return False
    return completion >= 0 and total != prompt + completion == total - reasoning


def usage_in(body: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The usage of a body or a chunk, wherever it is; `None` if it is not there."""
    usage = body.get("usage")
    if usage is None:
        # Groq's streams report it there alone; what an unstreamed body has there is no usage.
        groq = body.get("x_groq")
        if groq is None:
            return None
        usage = (as_mapping(groq) or NOTHING).get("usage")
    return as_mapping(usage)


def _of_embeddings(usage: Mapping[str, Any]) -> TokenUsage:
    """The usage of embeddings, of which some (Voyage's) report the total alone."""
    read = extract_usage(usage)
    if read.input_tokens is None and read.output_tokens is None:
        return TokenUsage(
            input_tokens=read.reported_total_tokens,
            output_tokens=0,
            reported_total_tokens=read.reported_total_tokens,
        )
    return read


def _openai(
    _body: Mapping[str, Any], _usage: Mapping[str, Any], _choice: Mapping[str, Any]
) -> Dialect:
    return DIALECT


def read(body: Mapping[str, Any], recognise: Recognise = _openai) -> Reading | None:
    """Read a body, or a chunk of a stream, of this shape.

    Args:
        body: What the provider answered.
        recognise: Says whose body it is, from the body, its usage and its first choice.
    """
    choices = body.get("choices")
    usage = usage_in(body)
    if isinstance(choices, list | tuple):
        choice = (as_mapping(choices[0]) or NOTHING) if choices else NOTHING
        operation: str | None = _operation(body.get("object"), choice)
    else:
        choice = NOTHING
        items = body.get("data")
        if isinstance(items, list | tuple) and _are_embeddings(items):
            operation = "embeddings"
        elif usage is not None and not usage.keys().isdisjoint(_COUNTS):
            operation = None
        else:
            return None
    dialect = recognise(body, usage or NOTHING, choice)
    extract = _of_embeddings if operation == "embeddings" else extract_usage
    counts, flags = attempt(
        dialect.extract_usage or extract, body.get("usage") if usage is None else usage
    )
    tier: str | None = None
    if (
        body.get("service_tier") is not None
        or dialect is not DIALECT
        or (usage is not None and "service_tier" in usage)
    ):
        tier, flags = _tier(body, usage or NOTHING, flags)
    reason = _failure(choice, body)
    created = body.get("created")
    return Reading(
        shape=SHAPE,
        provider=dialect.provider,
        operation=operation,
        usage=counts,
        model=name_of(body.get("model")),
        response_id=name_of(body.get("id")),
        service_tier=tier,
        created=moment(created) if created else None,
        measures=NOTHING if usage is None else dialect.measures(usage),
        ending="failed" if reason else "completed",
        reason=reason,
        flags=flags,
    )


def _tier(
    body: Mapping[str, Any], usage: Mapping[str, Any], flags: tuple[str, ...]
) -> tuple[str | None, tuple[str, ...]]:
    word = body.get("service_tier_used")  # Cerebras, beside what was asked for
    if word is None:
        word = body.get("service_tier")
    if word is None:
        word = usage.get("service_tier")  # Mistral; LiteLLM, of Anthropic's models
    tier, flags = served_on(word, flags)
    mode = usage.get("speed")  # LiteLLM, likewise
    return (tier, flags) if mode is None else in_mode(tier, mode, flags)


def _operation(kind: object, choice: Mapping[str, Any]) -> str:
    if kind == "text_completion":
        return "text_completion"
    if kind is None and "text" in choice and "message" not in choice and "delta" not in choice:
        return "text_completion"
    return "chat"


def _are_embeddings(items: list[Any] | tuple[Any, ...]) -> bool:
    return bool(items) and "embedding" in (as_mapping(items[0]) or NOTHING)


def _failure(choice: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    """The short name of what went wrong in the course of the answer; empty if nothing did."""
    if choice.get("finish_reason") == "error":
        return reason_of(choice.get("error"))
    if (groq := body.get("x_groq")) is not None:
        failed = (as_mapping(groq) or NOTHING).get("error")
        return reason_of(failed) if failed else ""
    return ""
