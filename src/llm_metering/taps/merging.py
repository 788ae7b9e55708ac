"""What a framework says of a call, made whole by what the provider was seen to send.

The provider's own bytes are the truth, if they are all there: LangChain adds up what the chunks of a
stream report, where many servers report totals so far; leaves out parts; and fails over answers that
were paid for. Both numbers are never added, and where they contradict each other it is flagged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from ..calls import Report
from ..extract.flags import INVALID_USAGE, SEVERAL_RESPONSES, UNKNOWN_USAGE, ZERO_USAGE
from ..extract.reading import Reading
from ..service_tiers import SERVICE_TIER_DIFFERS
from ..token_usage import TokenUsage

__all__ = ["completed", "is_whole_report"]

DIFFERS: Final = "usage_differs"
"""The framework and the provider's own answer have different counts; it is billed for the latter."""

_FAITHFUL: Final = frozenset(["azure", "deepseek", "openai", "xai"])
"""Of whose answers, if they are not streamed, LangChain hands on all that there is to bill:
langchain-openai 1.7.3, `langchain_openai/chat_models/base.py`, `_create_chat_result`."""

_UNREAD: Final = (UNKNOWN_USAGE, INVALID_USAGE)
"""Flags of counts that could not be read; whoever could read them has the better of it."""


def is_whole_report(report: Report, provider: str | None, is_stream: bool) -> bool:
    """Whether a report can have nothing to be added, so that nothing need be read."""
    return report.cached or (
        not is_stream
        and provider in _FAITHFUL
        and report.usage is not None
        and report.usage.total_tokens is not None
    )


def completed(
    report: Report, readings: Sequence[Reading], *, flags: tuple[str, ...], is_whole: bool
) -> Report:
    """A report, with what was read of the answers of its call.

    Args:
        report: What the framework says.
        readings: What the answers say.
        flags: What was odd about reading them.
        is_whole: Whether the call ended by itself.
    """
    if report.cached:
        return report
    if len(readings) > 1:
        # One of them may be of another call, which the application made by itself meanwhile.
        return replace(report, flags=(*report.flags, *flags, SEVERAL_RESPONSES))
    if not readings:
        return replace(report, flags=(*report.flags, *flags)) if flags else report
    reading = readings[0]
    seen, has_zero = _believed(reading.usage, report)
    usage, is_final, odd = _chosen(report, reading, seen, is_whole=is_whole)
    said, more = report.flags, reading.flags
    tier = reading.service_tier or report.service_tier
    if tier != report.service_tier is not None:
        odd = (*odd, SERVICE_TIER_DIFFERS)
    if seen is not None:
        said = _without(said, _UNREAD if has_zero else (*_UNREAD, ZERO_USAGE))
    elif usage is not None:
        more = _without(more, _UNREAD)  # the integration could read what we could not
    return replace(
        report,
        usage=usage,
        is_final=is_final,
        provider=report.provider or reading.provider,
        model=report.model or reading.model,
        response_id=report.response_id or reading.response_id,
        service_tier=tier,
        created=report.created or reading.created,
        measures={**reading.measures, **report.measures},
        is_countable=report.is_countable and reading.is_countable,
        flags=(*said, *(flag for flag in more if flag not in said), *flags, *odd),
    )


def _without(flags: tuple[str, ...], unwanted: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(flag for flag in flags if not flag.startswith(unwanted))


def _believed(seen: TokenUsage | None, report: Report) -> tuple[TokenUsage | None, bool]:
    """The counts that were seen, and whether one of them is a 0 that cannot be.

    Beside an answer that is not empty the framework's 0 was flagged; nor is the provider's believed.
    """
    if seen is None or ZERO_USAGE not in report.flags:
        return seen, False
    if 0 not in (seen.input_tokens, seen.output_tokens):
        return seen, False
    seen = dataclasses.replace(
        seen,
        input_tokens=seen.input_tokens or None,
        output_tokens=seen.output_tokens or None,
        as_reported=True,
    )
    return (seen if seen.counts() else None), True


def _chosen(
    report: Report, reading: Reading, seen: TokenUsage | None, *, is_whole: bool
) -> tuple[TokenUsage | None, bool, tuple[str, ...]]:
    """The usage that holds, whether it is that of the whole call, and what is odd about it."""
    said = report.usage
    if seen is None:
        return said, report.is_final, ()
    is_final = reading.is_final or (is_whole and seen.total_tokens is not None)
    if said is None:
        return seen, is_final, ()
    if seen.total_tokens is None and said.total_tokens is not None and not reading.is_final:
        # A stream that was cut before its last word passed us, but not before it passed them.
        return said, report.is_final, ()
    if not _contradict(said, seen):
        return _both(said, seen), is_final, ()
    # What was broken off, an integration may have tried again, and have the usage of that.
    return (seen, True, (DIFFERS,)) if reading.is_final else (said, report.is_final, (DIFFERS,))


def _contradict(said: TokenUsage, seen: TokenUsage) -> bool:
    return any(
        # A 0 is what integrations put where they left out what was reported.
        one and other is not None and one not in (other, left)
        for one, other, left in (
            (said.input_tokens, seen.input_tokens, _without_cache(seen)),
            (said.output_tokens, seen.output_tokens, None),
        )
    )


def _without_cache(usage: TokenUsage) -> int | None:
    """The tokens of input beside those of the cache, which Anthropic counts apart.

    Of a stream, LlamaIndex hands on these alone: llama-index-llms-anthropic 0.12.3, `base.py`,
    `stream_chat`.
    """
    if usage.input_tokens is None:
        return None
    cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    return usage.input_tokens - cached


def _both(said: TokenUsage, seen: TokenUsage) -> TokenUsage:
    """The counts of both; where they differ, the provider's."""
    if seen.total_tokens != said.total_tokens and (seen.total_tokens or said.total_tokens):
        # Whoever left out a count, or made one up, has parts of it that are not to be believed.
        return seen
    known, more = said.counts(), seen.counts()
    stated = seen.reported_total_tokens
    if known == more and stated in (None, said.reported_total_tokens):
        return said
    return TokenUsage(
        **{**known, **more},
        reported_total_tokens=said.reported_total_tokens if stated is None else stated,
        as_reported=True,
    )
