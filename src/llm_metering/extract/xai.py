"""xAI.

Source: https://docs.x.ai/docs/key-information/consumption-and-rate-limits ("reasoning token
consumption will be counted separately from completion_tokens, but will be counted in the
total_tokens"), https://docs.x.ai/developers/cost-tracking, xai-sdk 1.21.0
`xai_sdk/proto/v6/usage_pb2.pyi`. Additive in chat completions: the reasoning is beside
`completion_tokens`. Where the total is prompt + completion, someone in between has put it in
already. Some models report cached tokens beside the prompt; the total proves it, or the numbers
are kept as they are. The responses API is inclusive.

`cost_in_usd_ticks` is what was charged, in 10^-10 US dollars. Recognised by this name and by
`num_sources_used`.
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

PROVIDER: Final = "x_ai"
_TICKS: Final = 10**10


@tolerant
def extract_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Read the `usage` of a chat completion.

    Raises:
        UnknownUsageError: If neither prompt nor completion is counted in it.
        InvalidUsageError: If a count is no count.
    """
    read = openai_chat.extract_usage(usage)
    completion, reasoning = usage.get("completion_tokens"), read.reasoning_output_tokens
    if completion is None or not reasoning:
        reasoning = 0
    elif read.output_tokens == completion and read.total_tokens != read.reported_total_tokens:
        read = replace(read, output_tokens=completion + reasoning, as_reported=True)
    prompt, cached, total = read.input_tokens, read.cache_read_input_tokens, read.total_tokens
    if prompt is None or total is None or not cached or cached <= prompt:
        return read
    if total + cached != read.reported_total_tokens:
        return read
    return replace(read, input_tokens=prompt + cached, as_reported=True)


def _measures(usage: Mapping[str, Any]) -> Mapping[str, int | float]:
    ticks = usage.get("cost_in_usd_ticks")
    tools = as_mapping(usage.get("server_side_tool_usage_details")) or NOTHING
    return numbers(
        reported_cost=ticks / _TICKS if type(ticks) is int else None,
        web_search_requests=tools.get("web_search_calls"),
        code_execution_requests=tools.get("code_interpreter_calls"),
    )


DIALECT: Final = Dialect(
    provider=PROVIDER,
    usage_marks=("cost_in_usd_ticks", "num_sources_used"),
    extract_usage=extract_usage,
    measures=_measures,
)
