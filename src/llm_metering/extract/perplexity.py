"""Perplexity's Sonar models.

Source: perplexityai 0.46.1, `perplexity/types/shared/usage_info.py`;
https://docs.perplexity.ai/getting-started/pricing. Additive for deep research: `citation_tokens`
(what the searches brought in, billed as input) are beside `prompt_tokens`, and `reasoning_tokens`
beside `completion_tokens`. Each is priced by itself, as the `cost` of its responses shows, and the
provider's own total leaves both out. Ours holds them, so that the two totals differ. Streams repeat
the usage so far with every chunk. Recognised by `search_context_size`, `num_search_queries` and
`citation_tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ..errors import InvalidUsageError
from ..token_usage import TokenUsage
from . import openai_chat
from .dialect import Dialect
from .measures import numbers
from .native import tolerant
from .reading import NOTHING
from .views import as_mapping

__all__ = ["DIALECT", "PROVIDER", "extract_usage"]

PROVIDER: Final = "perplexity"


@tolerant
def extract_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Read the `usage` of a chat completion.

    Raises:
        UnknownUsageError: If neither prompt nor completion is counted in it.
        InvalidUsageError: If a count is no count.
    """
    read = openai_chat.extract_usage(usage)
    citations, reasoning = usage.get("citation_tokens"), usage.get("reasoning_tokens")
    if citations is not None:
        read = replace(
            read,
            input_tokens=_sum(read.input_tokens, citations),
            tool_use_input_tokens=citations,
            as_reported=True,
        )
    if reasoning is not None and read.reasoning_output_tokens is None:
        read = replace(
            read,
            output_tokens=_sum(read.output_tokens, reasoning),
            reasoning_output_tokens=reasoning,
            as_reported=True,
        )
    return read


def _sum(count: int | None, part: object) -> int | None:
    if type(part) is not int:
        raise InvalidUsageError("a number of tokens is no count")
    return None if count is None else count + part


def _measures(usage: Mapping[str, Any]) -> Mapping[str, int | float]:
    return numbers(
        reported_cost=(as_mapping(usage.get("cost")) or NOTHING).get("total_cost"),
        web_search_requests=usage.get("num_search_queries"),
    )


DIALECT: Final = Dialect(
    provider=PROVIDER,
    usage_marks=("search_context_size", "num_search_queries", "citation_tokens"),
    extract_usage=extract_usage,
    measures=_measures,
)
