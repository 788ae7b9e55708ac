"""OpenRouter.

Source: openrouter 1.3.84, `openrouter/components/chatusage.py`, `servertoolusedetails.py`;
https://openrouter.ai/docs/use-cases/usage-accounting. Counts as OpenAI does, cache writes
included, whoever answers behind it; now and then it reports more reasoning than completion, which
is kept. `cost` is what it charged, in credits of one US dollar. An error in the middle of a stream
comes as a chunk with `error` and, often, the usage so far. Recognised by `provider` (who
answered), `native_finish_reason`, or `is_byok` and `cost_details` in the usage.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .dialect import Dialect
from .measures import numbers
from .reading import NOTHING
from .views import as_mapping

__all__ = ["DIALECT", "PROVIDER"]

PROVIDER: Final = "openrouter"


def _measures(usage: Mapping[str, Any]) -> Mapping[str, int | float]:
    tools = as_mapping(usage.get("server_tool_use_details") or usage.get("server_tool_use"))
    tools = tools or NOTHING
    return numbers(
        reported_cost=usage.get("cost"),
        web_search_requests=tools.get("web_search_requests"),
        web_fetch_requests=tools.get("web_fetch_requests"),
    )


DIALECT: Final = Dialect(
    provider=PROVIDER,
    body_marks=("provider",),
    choice_marks=("native_finish_reason",),
    usage_marks=("is_byok", "cost_details"),
    measures=_measures,
)
