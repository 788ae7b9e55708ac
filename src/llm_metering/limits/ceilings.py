"""How many tokens may come out of a call, by what it says itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

__all__ = ["output_limit"]

_LIMITS: Final = (
    # OpenAI's, in the order of its own precedence, and of those who speak its API; Anthropic's.
    *("max_completion_tokens", "max_output_tokens", "max_tokens", "max_tokens_to_sample"),
    # Gemini, Bedrock's Converse, Ollama, and models run with transformers.
    *("maxOutputTokens", "maxTokens", "num_predict", "max_new_tokens"),
    # What LangChain says of any of them.
    "ls_max_tokens",
)
_INSIDE: Final = (
    *("generation_config", "generationConfig", "inferenceConfig", "inference_config", "options"),
    *("model_kwargs", "pipeline_kwargs", "extra_body"),
)
"""Where parameters hold others."""
_CHOICES: Final = ("n", "candidate_count", "candidateCount", "best_of")


def output_limit(*given: object) -> int | None:
    """The most tokens that an answer may have, all its choices together.

    >>> output_limit({"model": "gpt-5-mini", "max_completion_tokens": 200, "n": 2})
    400

    Args:
        *given: Parameters of the call; what is said first goes before what is said later.

    Returns:
        `None` if nothing says so.
    """
    tables = list(_tables(given))
    limit = _first(tables, _LIMITS)
    if limit is None:
        return None
    return limit * (_first(tables, _CHOICES) or 1)


def _tables(given: Iterable[object]) -> Iterator[Mapping[Any, Any]]:
    for each in given:
        if isinstance(each, Mapping):
            yield each
            yield from _tables(each.get(name) for name in _INSIDE)


def _first(tables: Iterable[Mapping[Any, Any]], names: Iterable[str]) -> int | None:
    for table in tables:
        for name in names:
            value = table.get(name)
            # -1 and 0 are "as many as there may be" somewhere.
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return None
