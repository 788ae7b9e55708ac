"""`Dialect`: how a server that speaks OpenAI's API differs from OpenAI, and how it is recognised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..token_usage import TokenUsage
from .reading import NOTHING

__all__ = ["Dialect"]


def _no_measures(_usage: Mapping[str, Any]) -> Mapping[str, int | float]:
    return NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """A provider behind OpenAI's API.

    It is recognised by the names of keys that no other provider sends; one without marks cannot
    be told from OpenAI by what it answers.

    Attributes:
        provider: OpenTelemetry's `gen_ai.provider.name`, or our own word where it has none.
        body_marks: Keys of a body, with anything but null in them.
        choice_marks: Keys of the first choice.
        usage_marks: Keys of the usage.
        extract_usage: Reads the usage, where the provider counts in its own way.
        measures: What the usage says beside tokens.
    """

    provider: str
    body_marks: tuple[str, ...] = ()
    choice_marks: tuple[str, ...] = ()
    usage_marks: tuple[str, ...] = ()
    extract_usage: Callable[[Mapping[str, Any]], TokenUsage] | None = None
    measures: Callable[[Mapping[str, Any]], Mapping[str, int | float]] = _no_measures
