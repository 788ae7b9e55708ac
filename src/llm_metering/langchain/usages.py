"""A usage as LangChain and its integrations leave it, read into counts and flags.

Read in langchain-core 1.7.2, `langchain_core/language_models/chat_models.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec.structs import replace

from ..errors import InvalidUsageError, UnknownUsageError
from ..extract import read_usage
from ..extract.flags import INVALID_USAGE, ZERO_USAGE, unknown_usage_flag
from ..extract.langchain import (
    extract_usage,
    extract_usage_of_headers,
    is_usage_of_headers,
    without_false_zeros,
)
from ..token_usage import TokenUsage

__all__ = ["NOTHING_FOUND", "Found", "is_cached", "read_counts", "read_foreign"]


class Found(msgspec.Struct, frozen=True):
    """What a usage says, if it could be read; and what was odd about it."""

    usage: TokenUsage | None = None
    flags: tuple[str, ...] = ()

    def flagged(self, *flags: str) -> Found:
        """The same, with more flags."""
        return replace(self, flags=(*self.flags, *flags)) if flags else self

    def judged(self, *, has_answer: bool) -> Found:
        """The same without zeros that cannot be true, flagged.

        Args:
            has_answer: Whether there was an answer that cannot have cost nothing.
        """
        usage = self.usage
        if usage is None or (usage.input_tokens and usage.output_tokens):
            return self
        known = without_false_zeros(usage, has_output=has_answer)
        return self if known is usage else Found(known, (*self.flags, ZERO_USAGE))


NOTHING_FOUND: Final = Found()


def is_cached(usage: object) -> bool:
    """Whether an answer came out of LangChain's cache, so that its usage is an earlier call's.

    `BaseChatModel._convert_cached_generations` of langchain-core 0.3.73 and later marks it so; an
    answer that had no usage is left with the mark alone.
    """
    if type(usage) is not dict and not isinstance(usage, Mapping):
        return False
    cost = usage.get("total_cost")
    return (
        cost is not None
        and isinstance(cost, int | float)
        and not isinstance(cost, bool)
        and cost == 0
    )


def read_counts(usage: object) -> Found:
    """Read a usage in LangChain's own shape; one without anything in it is none."""
    if not usage:
        return NOTHING_FOUND
    try:
        return Found(extract_usage(usage))
    except InvalidUsageError:
        return Found(flags=(INVALID_USAGE,))
    except UnknownUsageError as error:
        return Found(flags=(unknown_usage_flag(error.keys),))


def read_foreign(usage: object) -> Found:
    """Read a usage as its provider spelt it."""
    if not usage or not isinstance(usage, Mapping):
        return NOTHING_FOUND
    try:
        read = extract_usage_of_headers if is_usage_of_headers(usage) else read_usage
        return Found(read(usage))
    except InvalidUsageError:
        return Found(flags=(INVALID_USAGE,))
    except UnknownUsageError as error:
        return Found(flags=(unknown_usage_flag(error.keys),))
