"""Usage as LangChain's messages carry it.

Source: langchain-core 1.7.2, `langchain_core/messages/ai.py`, `UsageMetadata`,
`InputTokenDetails` and `OutputTokenDetails`. LangChain's `input_tokens` and `output_tokens` are
inclusive, as ours are; the details are parts of them. Two providers' packages spell the parts
their own way: langchain-openai puts the service tier in front
(`langchain_openai/chat_models/base.py`, `_create_usage_metadata`: `flex_cache_read`,
`priority_reasoning`), langchain-anthropic and langchain-aws keep cache writes by their lifetime
(`ephemeral_5m_input_tokens`, `ephemeral_1h_input_tokens`) and leave `cache_creation` at 0 then;
langchain-anthropic 0.3.22 keeps their sum in it.

Most of them write 0 where the provider did not count (`_create_usage_metadata`; langchain-anthropic 1.7.7, `_create_usage_metadata`, for a
`message_delta` without input), which `without_false_zeros` undoes. langchain-xai adds the reasoning,
which xAI counts beside the completion, only where it is not called `flex_reasoning`; nor does
langchain-openai add it that calls xAI by its base URL.

What langchain-aws makes of the headers of Bedrock's InvokeModel has OpenAI's names and the cache
beside the prompt (langchain-aws 1.9.1, `llms/bedrock.py`, `prepare_output`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import InvalidUsageError, UnknownUsageError
from ..service_tiers import COMMON, in_mode, served_on
from ..token_usage import TokenUsage
from . import bedrock_converse
from .native import add, first, inside, tolerant
from .reading import NOTHING

__all__ = [
    "extract_usage",
    "extract_usage_of_headers",
    "is_usage_of_headers",
    "tier_of",
    "without_false_zeros",
]

_TOTALS: Final = ("input_tokens", "output_tokens", "total_tokens")
_TIERS: Final = ("", "flex_", "priority_")
_READ, _WRITTEN, _REASONING = (
    tuple(tier + name for tier in _TIERS) for name in ("cache_read", "cache_creation", "reasoning")
)


@tolerant
def extract_usage(usage: object) -> TokenUsage:
    """Read the `usage_metadata` of a message.

    Raises:
        UnknownUsageError: If it is not in LangChain's shape, or every count in it is null.
        InvalidUsageError: If a count is no count.
    """
    # First what nearly all of them are: to ask for a `Mapping` takes as long as to read one.
    if type(usage) is not dict and not isinstance(usage, Mapping):
        raise UnknownUsageError("LangChain", keys=[])
    ingoing = usage.get("input_token_details") or NOTHING
    outgoing = usage.get("output_token_details") or NOTHING
    total = usage.get("total_tokens")
    if (
        "input_tokens" not in usage
        or "output_tokens" not in usage
        or (total is None and all(usage.get(name) is None for name in _TOTALS))
        or not (type(ingoing) is dict or isinstance(ingoing, Mapping))
        or not (type(outgoing) is dict or isinstance(outgoing, Mapping))
    ):
        raise UnknownUsageError("LangChain", keys=sorted(map(str, usage)))
    counted, output = usage["input_tokens"], usage["output_tokens"]
    read = written = written_5m = written_1h = reasoning = None
    if ingoing:
        read = first(ingoing, *_READ)
        written = first(ingoing, *_WRITTEN)
        written_5m = ingoing.get("ephemeral_5m_input_tokens")
        written_1h = ingoing.get("ephemeral_1h_input_tokens")
        if not written and (written_5m or written_1h):
            written = _sum(written_5m, written_1h)
    if outgoing:
        reasoning = first(outgoing, *_REASONING)
        if reasoning and _is_beside(counted, output, reasoning, total):
            output += reasoning
    return TokenUsage(
        input_tokens=counted,
        output_tokens=output,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        cache_creation_5m_input_tokens=written_5m,
        cache_creation_1h_input_tokens=written_1h,
        reasoning_output_tokens=reasoning,
        input_audio_tokens=ingoing.get("audio"),
        output_audio_tokens=outgoing.get("audio"),
        reported_total_tokens=total,
        as_reported=True,
    )


def is_usage_of_headers(usage: Mapping[str, Any]) -> bool:
    """Whether this is what langchain-aws made of the headers of an InvokeModel."""
    return "cache_write_input_tokens" in usage


@tolerant
def extract_usage_of_headers(usage: Mapping[str, Any]) -> TokenUsage:
    """Read what langchain-aws made of the headers of an InvokeModel.

    Raises:
        InvalidUsageError: If a count is no count.
    """
    read, written = usage.get("cache_read_input_tokens"), usage["cache_write_input_tokens"]
    return TokenUsage(
        input_tokens=add(usage.get("prompt_tokens"), read, written),
        output_tokens=usage.get("completion_tokens"),
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
        reported_total_tokens=usage.get("total_tokens"),
        as_reported=True,
    )


def without_false_zeros(usage: TokenUsage, *, has_output: bool) -> TokenUsage:
    """The usage without the zeros that say no more than that nobody counted; itself if it has none.

    No call has a prompt of no tokens, and no answer that is not empty has none.
    """
    has_input = usage.input_tokens != 0 or not (has_output or usage.output_tokens)
    if has_input and (usage.output_tokens != 0 or not has_output):
        return usage
    counts: dict[str, int | None] = dict(usage.counts())
    # Zeros of details come from the same place.
    for name in [name for name, count in counts.items() if count == 0]:
        counts[name] = None
    # The total is a sum of LangChain's own over those zeros.
    return TokenUsage(**counts, as_reported=True)


def tier_of(
    metadata: Mapping[str, Any],
    flags: tuple[str, ...] = (),
    output: Mapping[str, Any] = NOTHING,
) -> tuple[str | None, tuple[str, ...]]:
    """The tier that a message's `response_metadata` names, and the flags with what is odd about it.

    What stands beside several generations, in `llm_output`, LangChain does not put into their
    messages.

    langchain-openai hands on what the response says (`chat_models/base.py`, `_create_chat_result`),
    langchain-anthropic the usage of one that was not streamed (`_format_output`), langchain-aws what
    Converse says (`chat_models/bedrock_converse.py`, `_parse_response`, `_parse_stream_event`).
    langchain-groq puts there what was asked for (`chat_models.py`, `_create_chat_result`).
    """
    word = metadata.get("service_tier")
    if word is None:
        word = output.get("service_tier")
    if word is not None:
        if metadata.get("model_provider") == "groq":
            return None, flags
        return served_on(_once(word), flags)
    if (usage := metadata.get("usage")) is not None:
        fields = inside(usage)
        tier, flags = served_on(fields.get("service_tier"), flags)
        return in_mode(tier, fields.get("speed"), flags)
    if "serviceTier" in metadata or "performanceConfig" in metadata:
        return bedrock_converse.tier_of(metadata, flags)
    return None, flags


def _once(word: object) -> object:
    """A word that the chunks of several choices named, which LangChain puts one behind the other.

    langchain-core 1.7.2, `utils/_merge.py`, `merge_dicts`.
    """
    if type(word) is not str or word in COMMON:
        return word
    if 0 < (length := (word + word).find(word, 1)) < len(word):
        return word[:length]
    return word


def _is_beside(prompt: object, completion: object, reasoning: object, total: object) -> bool:
    """Whether the provider's total says that the completion does not hold the reasoning."""
    if not (type(prompt) is type(completion) is type(reasoning) is type(total) is int):
        return False
    return completion >= 0 and total == prompt + completion + reasoning


def _sum(*counts: object) -> int:
    total = 0
    for count in counts:
        if count is None:
            continue
        if type(count) is not int:
            raise InvalidUsageError("a number of tokens written to the cache is no count")
        total += count
    return total
