"""LiteLLM, the proxy and the library.

Source: litellm 1.109.1, `litellm/types/utils.py` (`Usage`, `PromptTokensDetailsWrapper`),
`litellm/llms/anthropic/chat/transformation.py` (`calculate_usage`). Inclusive, whoever answers
behind it: for Anthropic it adds what was read from and written to the cache to `prompt_tokens`, and
repeats both beside it under Anthropic's names. `cost` is what it thinks the call cost, where it is
told to say so. Its `_hidden_params` are no part of a body, and not read. Recognised by
Anthropic's names beside OpenAI's; what it passes on from others cannot be told from theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ..token_usage import TokenUsage
from . import openai_chat
from .dialect import Dialect
from .measures import numbers
from .native import tolerant
from .reading import NOTHING
from .views import as_mapping

__all__ = ["DIALECT", "PROVIDER", "extract_usage"]

PROVIDER: Final = "litellm"


@tolerant
def extract_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Read the `usage` of a chat completion.

    Raises:
        UnknownUsageError: If neither prompt nor completion is counted in it.
        InvalidUsageError: If a count is no count.
    """
    read = openai_chat.extract_usage(usage)
    details = as_mapping(usage.get("prompt_tokens_details")) or NOTHING
    written = read.cache_creation_input_tokens
    if written is None:
        written = details.get("cache_creation_tokens", usage.get("cache_creation_input_tokens"))
    lifetimes = as_mapping(details.get("cache_creation_token_details")) or NOTHING
    return replace(
        read,
        cache_creation_input_tokens=written,
        cache_creation_5m_input_tokens=lifetimes.get("ephemeral_5m_input_tokens"),
        cache_creation_1h_input_tokens=lifetimes.get("ephemeral_1h_input_tokens"),
        as_reported=True,
    )


def _measures(usage: Mapping[str, Any]) -> Mapping[str, int | float]:
    tools = as_mapping(usage.get("server_tool_use")) or NOTHING
    details = as_mapping(usage.get("prompt_tokens_details")) or NOTHING
    searches = tools.get("web_search_requests")
    return numbers(
        reported_cost=usage.get("cost"),
        web_search_requests=details.get("web_search_requests") if searches is None else searches,
    )


DIALECT: Final = Dialect(
    provider=PROVIDER,
    usage_marks=("cache_creation_input_tokens", "cache_read_input_tokens"),
    extract_usage=extract_usage,
    measures=_measures,
)
