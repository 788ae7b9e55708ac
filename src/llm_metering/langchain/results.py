"""What LangChain hands to a handler at the end of a call, read without trusting it.

Read in langchain-core 1.7.2, `langchain_core/outputs/llm_result.py` and
`langchain_core/language_models/chat_models.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..calls import Outcome, Report
from ..errors import InvalidUsageError, UnknownUsageError
from ..events import is_unicode
from ..extract.langchain import extract_usage
from ..subjects import MAX_LENGTH

if TYPE_CHECKING:
    from langchain_core.outputs import Generation, LLMResult

__all__ = ["is_empty_piece", "operation_of", "outcome_of", "report_of", "text_of"]


def outcome_of(error: BaseException) -> tuple[Outcome, str]:
    """How a call ended that raised.

    The SDKs of OpenAI, Anthropic, Mistral and others carry the status of a refusal as
    `status_code` (openai 3.54.0, `openai/_exceptions.py`, `APIStatusError`).
    """
    if isinstance(error, GeneratorExit | asyncio.CancelledError | KeyboardInterrupt | SystemExit):
        return "aborted", ""
    status = getattr(error, "status_code", None)
    # 408 is a request that timed out on its way: whether it was worked on nobody knows.
    if isinstance(status, int) and 400 <= status < 500 and status != 408:
        return "refused", str(status)
    return "failed", ""


def report_of(response: LLMResult | None, reason: str) -> Report:
    """What a result says of its call.

    Args:
        response: What `on_llm_end` got, or what `on_llm_error` got if it got any.
        reason: Why the provider refused, if it did.
    """
    if response is None:
        return Report(reason=reason)
    generation = _first_generation(response.generations)
    message = getattr(generation, "message", None)
    usage: object = getattr(message, "usage_metadata", None)
    metadata: Mapping[str, Any] = getattr(message, "response_metadata", None) or {}
    output: Mapping[str, Any] = response.llm_output or {}
    model = text_of(metadata.get("model_name")) or text_of(output.get("model_name"))
    response_id = text_of(metadata.get("id")) or text_of(output.get("id"))
    if isinstance(usage, Mapping) and usage.get("total_cost") == 0:
        # langchain-core 0.3.73 and later mark an answer of the cache so (`BaseChatModel`,
        # `_convert_cached_generations`); its usage is that of the call that filled the cache.
        return Report(model=model, response_id=response_id, cached=True, reason=reason)
    flags: tuple[str, ...] = ()
    counts = None
    if usage is not None:
        try:
            counts = extract_usage(usage)
        except InvalidUsageError:
            flags = ("invalid_usage",)
        except UnknownUsageError:
            flags = ("unknown_usage",)
    return Report(usage=counts, model=model, response_id=response_id, flags=flags, reason=reason)


def _first_generation(generations: Sequence[Sequence[Generation]]) -> Generation | None:
    # Never a sum over generations: with n > 1 each repeats the usage of the whole request.
    return next((first for group in generations for first in group[:1]), None)


def is_empty_piece(token: object, chunk: object) -> bool:
    """Whether a streamed piece holds no output, as the one that carries the usage does."""
    return not token and not getattr(getattr(chunk, "message", None), "tool_call_chunks", None)


def operation_of(response: LLMResult | None) -> str:
    """OpenTelemetry's `gen_ai.operation.name`, for a call whose start we were not told of."""
    generation = None if response is None else _first_generation(response.generations)
    return "text_completion" if generation and not hasattr(generation, "message") else "chat"


def text_of(value: object) -> str | None:
    """A name that a server or a user chose, made fit to be written down."""
    if not isinstance(value, str) or not value:
        return None
    # A server may send anything: half a character, with which no event could be written, or a
    # name without an end.
    value = value[:MAX_LENGTH]
    return value if is_unicode(value) else value.encode(errors="replace").decode()
