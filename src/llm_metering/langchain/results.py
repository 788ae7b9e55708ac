"""What LangChain hands to a handler at the end of a call, read without trusting it.

Read in langchain-core 1.7.2, `langchain_core/outputs/llm_result.py` and
`langchain_core/language_models/chat_models.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..calls import Report
from ..errors import InvalidUsageError, UnknownUsageError
from ..extract import read_usage
from ..extract.flags import ZERO_USAGE, unknown_usage_flag
from ..extract.langchain import (
    extract_usage,
    extract_usage_of_headers,
    is_usage_of_headers,
    without_false_zeros,
)
from ..extract.reading import name_of
from ..token_usage import TokenUsage
from .texts import output_of

if TYPE_CHECKING:
    from langchain_core.outputs import Generation, LLMResult

__all__ = ["operation_of", "report_of"]

_FINISHED: Final = ("finish_reason", "stop_reason", "done_reason", "stopReason")
"""Where integrations of OpenAI, Gemini and others; of Anthropic and AWS; of Ollama; of Bedrock's
Converse say so."""

_OLLAMAS: Final = ("prompt_eval_count", "eval_count")
_AMAZONS: Final = "amazon-bedrock-invocationMetrics"


def report_of(response: LLMResult | None, reason: str, *, is_whole: bool = True) -> Report:
    """What a result says of its call.

    Args:
        response: What `on_llm_end` got, or what `on_llm_error` got if it got any.
        reason: Why the provider refused, if it did.
        is_whole: Whether the call ended by itself. If not, its usage is that of the whole call only
            where the provider had said why it stopped.
    """
    if response is None:
        # LangChain itself always hands one over. Who tells the handlers of an error without one is an
        # integration, and it may tell of the end with its usage next: ChatBedrock, where a guardrail
        # intervenes (langchain-aws 1.9.1, `llms/bedrock.py`).
        return Report(reason=reason, is_last=False)
    generation = _first_generation(response.generations)
    message = getattr(generation, "message", None)
    usage: object = getattr(message, "usage_metadata", None)
    metadata: Mapping[str, Any] = getattr(message, "response_metadata", None) or {}
    output: Mapping[str, Any] = response.llm_output or {}
    model = name_of(metadata.get("model_name")) or name_of(output.get("model_name"))
    response_id = _response_id(metadata, output)
    if isinstance(usage, Mapping) and usage.get("total_cost") == 0:
        # langchain-core 0.3.73 and later mark an answer of the cache so (`BaseChatModel`,
        # `_convert_cached_generations`); its usage is that of the call that filled the cache.
        return Report(model=model, response_id=response_id, cached=True, reason=reason)
    counts, flags = _counts(usage, response.generations, output)
    return Report(
        usage=counts,
        is_final=is_whole or any(metadata.get(name) for name in _FINISHED),
        model=model,
        response_id=response_id,
        output=lambda: output_of(response),
        flags=flags,
        reason=reason,
    )


def _response_id(metadata: Mapping[str, Any], output: Mapping[str, Any]) -> str | None:
    found = name_of(metadata.get("id")) or name_of(output.get("id"))
    if found is None and isinstance(amazons := metadata.get("ResponseMetadata"), Mapping):
        return name_of(amazons.get("RequestId"))
    return found


def _counts(
    usage: object, generations: Sequence[Sequence[Generation]], output: Mapping[str, Any]
) -> tuple[TokenUsage | None, tuple[str, ...]]:
    try:
        if usage is not None:
            return _known(extract_usage(usage), generations)
        for reported in _elsewhere(generations, output):
            if isinstance(reported, Mapping) and reported:
                read = extract_usage_of_headers if is_usage_of_headers(reported) else read_usage
                return _known(read(reported), generations)
    except InvalidUsageError:
        return None, ("invalid_usage",)
    except UnknownUsageError as error:
        return None, (unknown_usage_flag(error.keys),)
    return None, ()


def _known(
    counts: TokenUsage, generations: Sequence[Sequence[Generation]]
) -> tuple[TokenUsage, tuple[str, ...]]:
    if counts.input_tokens and counts.output_tokens:
        return counts, ()
    known = without_false_zeros(counts, has_output=_has_output(_first_generation(generations)))
    return known, () if known is counts else (ZERO_USAGE,)


def _elsewhere(
    generations: Sequence[Sequence[Generation]], output: Mapping[str, Any]
) -> Iterator[object]:
    """Where older integrations leave the usage, as their provider spelt it."""
    infos = [_info(generation) for group in generations[:1] for generation in group]
    # Of a stream that langchain-aws put together itself, each chunk is a generation: the last one
    # has the counts, of which its own sums leave out the cache.
    yield from (info[_AMAZONS] for info in infos[-1:] if _AMAZONS in info)
    yield from (output.get("token_usage"), output.get("usage"))
    info = infos[0] if infos else {}
    yield info.get("usage_metadata")
    # langchain-ollama 1.1.0 makes no usage of them where one is missing, and for completions never
    # (`chat_models.py`, `_get_usage_metadata_from_generation_info`; `llms.py`, `_generate`).
    message = getattr(_first_generation(generations), "message", None)
    metadata = getattr(message, "response_metadata", None) or info
    yield {name: metadata[name] for name in _OLLAMAS if metadata.get(name) is not None}


def _info(generation: Generation) -> Mapping[str, Any]:
    info = generation.generation_info
    return info if isinstance(info, Mapping) else {}


def _has_output(generation: object) -> bool:
    message = getattr(generation, "message", None)
    if message is None:
        return bool(getattr(generation, "text", ""))
    return bool(message.content or getattr(message, "tool_calls", ()))


def _first_generation(generations: Sequence[Sequence[Generation]]) -> Generation | None:
    # Never a sum over generations: with n > 1 each repeats the usage of the whole request.
    return next((first for group in generations for first in group[:1]), None)


def operation_of(response: LLMResult | None) -> str:
    """OpenTelemetry's `gen_ai.operation.name`, for a call whose start we were not told of."""
    generation = None if response is None else _first_generation(response.generations)
    return "text_completion" if generation and not hasattr(generation, "message") else "chat"
