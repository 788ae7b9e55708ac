"""A usage without the response around it: whose it is, told by the names of its counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from ..errors import UnknownUsageError
from ..token_usage import TokenUsage
from . import (
    anthropic,
    bedrock_converse,
    bedrock_invoke,
    cohere,
    dialects,
    gemini,
    langchain,
    ollama,
    openai_responses,
)
from .views import as_mapping

__all__ = ["extract_usage", "reader_of"]

Reader = Callable[[Mapping[str, Any]], TokenUsage]

# The first of these names that a usage has decides. Google's `prompt_token_count` is also that of
# Llama on Bedrock, which counts a `generation` beside it.
_BY_NAME: Final[tuple[tuple[str, tuple[str, ...], Reader], ...]] = (
    ("openai.chat", ("prompt_tokens", "completion_tokens"), dialects.extract_usage),
    ("bedrock.converse", ("inputTokens", "outputTokens"), bedrock_converse.extract_usage),
    (
        "bedrock.invoke",
        ("generation_token_count", "inputTokenCount", "outputTokenCount", "inputTextTokenCount"),
        bedrock_invoke.extract_usage,
    ),
    (
        "gemini.generate_content",
        (
            *("promptTokenCount", "candidatesTokenCount", "totalTokenCount"),
            *("prompt_token_count", "candidates_token_count", "total_token_count"),
        ),
        gemini.extract_usage,
    ),
    ("cohere.chat", ("billed_units", "tokens"), cohere.extract_usage),
    ("ollama.chat", ("prompt_eval_count", "eval_count"), ollama.extract_usage),
)
_LANGCHAINS: Final = frozenset(
    [
        *("audio", "cache_read", "cache_creation", "reasoning"),
        *("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"),
    ]
)


def reader_of(usage: Mapping[str, Any]) -> tuple[str, Reader] | None:
    """The shape of a usage, and what reads it; `None` if no shape has these names."""
    for shape, names, reader in _BY_NAME:
        if any(name in usage for name in names):
            return shape, reader
    if "input_tokens" not in usage and "output_tokens" not in usage:
        return None
    # OpenAI, Anthropic and LangChain share these two names.
    if _is_langchains(usage):
        return "langchain", langchain.extract_usage
    if openai_responses.is_usage(usage):
        return "openai.responses", openai_responses.extract_usage
    return "anthropic.messages", anthropic.extract_usage


def _is_langchains(usage: Mapping[str, Any]) -> bool:
    for name in ("input_token_details", "output_token_details"):
        details = as_mapping(usage.get(name))
        # OpenAI's transcriptions have `input_token_details` with names of their own.
        if details is not None and (not details or not _LANGCHAINS.isdisjoint(details)):
            return True
    return False


def extract_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Read a usage of any known shape.

    Raises:
        UnknownUsageError: If it is in none of them.
        InvalidUsageError: If a count in it is no count.
    """
    found = reader_of(usage)
    if found is None:
        raise UnknownUsageError("known", keys=sorted(map(str, usage)))
    return found[1](usage)
