"""Whose body it is, among all that speak OpenAI's API: the one place where they are listed.

A provider that is told from OpenAI by nothing in its bodies has no marks and is listed all the
same, so that the tests cover it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..token_usage import TokenUsage
from . import (
    azure,
    cerebras,
    crusoe,
    deepseek,
    fireworks,
    groq,
    huggingface,
    litellm,
    mistral,
    openai_chat,
    openrouter,
    perplexity,
    snowflake,
    together,
    writer,
    xai,
    zai,
)
from .dialect import Dialect

__all__ = ["DIALECTS", "extract_usage", "recognise"]

# Those that pass on what others answer come first: their own marks count more.
DIALECTS: Final = (
    litellm.DIALECT,
    openrouter.DIALECT,
    perplexity.DIALECT,
    xai.DIALECT,
    groq.DIALECT,
    deepseek.DIALECT,
    azure.DIALECT,
    mistral.DIALECT,
    cerebras.DIALECT,
    writer.DIALECT,
    zai.DIALECT,
    fireworks.DIALECT,
    together.DIALECT,
    huggingface.DIALECT,
    snowflake.DIALECT,
    crusoe.DIALECT,
)

_Ranked = tuple[int, Dialect]


def _by_mark(place: str) -> dict[str, _Ranked]:
    return {
        mark: (rank, dialect)
        for rank, dialect in enumerate(DIALECTS)
        for mark in getattr(dialect, place)
    }


_BODY_MARKS: Final = _by_mark("body_marks")
_CHOICE_MARKS: Final = _by_mark("choice_marks")
_USAGE_MARKS: Final = _by_mark("usage_marks")
_BODY_NAMES: Final = frozenset(_BODY_MARKS)
_CHOICE_NAMES: Final = frozenset(_CHOICE_MARKS)
_USAGE_NAMES: Final = frozenset(_USAGE_MARKS)


def recognise(
    body: Mapping[str, Any], usage: Mapping[str, Any], choice: Mapping[str, Any]
) -> Dialect:
    """The provider whose marks a body, its usage or its first choice bear; else OpenAI."""
    # Most bodies bear none, which these three tests find in a microsecond.
    if (
        _BODY_NAMES.isdisjoint(body)
        and _USAGE_NAMES.isdisjoint(usage)
        and _CHOICE_NAMES.isdisjoint(choice)
    ):
        return openai_chat.DIALECT
    found = [_BODY_MARKS[name] for name in _BODY_NAMES if body.get(name) is not None]
    found += [_CHOICE_MARKS[name] for name in _CHOICE_NAMES if name in choice]
    found += [_USAGE_MARKS[name] for name in _USAGE_NAMES if name in usage]
    return min(found, key=_rank)[1] if found else openai_chat.DIALECT


def _rank(ranked: _Ranked) -> int:
    return ranked[0]


def extract_usage(usage: Mapping[str, Any]) -> TokenUsage:
    """Read a usage that stands alone, by its own marks.

    Raises:
        UnknownUsageError: If neither prompt nor completion is counted in it.
        InvalidUsageError: If a count is no count.
    """
    dialect = recognise({}, usage, {})
    return (dialect.extract_usage or openai_chat.extract_usage)(usage)
