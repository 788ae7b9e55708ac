"""What a settled call is billed for: what was reported, and for the rest what we counted."""

from __future__ import annotations

from typing import Final

from ..events import Provenance, Status
from ..exchange import Counted
from ..token_usage import TokenUsage
from .values import Reported

__all__ = ["counts_of", "needs_counting"]

_UNREADABLE: Final = ("unknown_usage", "invalid_usage")
"""The flags of usage that was reported and not taken."""
_NO_TOKENS: Final = TokenUsage(input_tokens=0, output_tokens=0)
_NOTHING_KNOWN: Final = TokenUsage()


def needs_counting(status: Status, report: Reported) -> bool:
    """Whether something is not known that could be counted."""
    usage = report.usage
    if usage is not None and usage.total_tokens is not None and report.is_final:
        return False
    # What was reported and cannot be read is not replaced by a guess: it is missing, and flagged.
    return (
        status != "cached"
        and report.is_countable
        and not any(flag.startswith(_UNREADABLE) for flag in report.flags)
    )


def counts_of(
    status: Status, report: Reported, counted: Counted | None
) -> tuple[TokenUsage | None, Provenance, str | None]:
    """The counts of a call, where they come from, and how we counted if we did.

    Args:
        status: How the call ended.
        report: What the provider said of it.
        counted: What we counted ourselves; `None` if nothing could be counted or need be.
    """
    if status == "cached":
        return _NO_TOKENS, "reported", None
    usage = report.usage
    if usage is not None and counted is None and report.is_final and usage.total_tokens is not None:
        return usage, "reported", None
    if usage is None or usage == _NOTHING_KNOWN:
        if counted is None or (counted.input_tokens, counted.output_tokens) == (None, None):
            return None, "missing", None
        return _estimate(counted), "estimated", counted.method
    if counted is None:
        return usage, "partial", None
    return _complete(usage, counted, is_final=report.is_final)


def _estimate(counted: Counted) -> TokenUsage:
    return TokenUsage(
        input_tokens=counted.input_tokens,
        output_tokens=counted.output_tokens,
        reasoning_output_tokens=counted.reasoning_output_tokens,
    )


def _complete(
    usage: TokenUsage, counted: Counted, *, is_final: bool
) -> tuple[TokenUsage, Provenance, str | None]:
    """The provider's counts, and ours where it has none; an unfinished count of its is a minimum."""
    counts: dict[str, int | None] = dict(usage.counts())
    before = dict(counts)
    if usage.input_tokens is None:
        counts["input_tokens"] = counted.input_tokens
    if usage.output_tokens is None:
        counts["output_tokens"] = counted.output_tokens
    elif not is_final and counted.output_tokens is not None:
        # What was generated up to the provider's last word, and what arrived: each is a minimum.
        counts["output_tokens"] = max(usage.output_tokens, counted.output_tokens)
    method = counted.method if counts != before else None
    # A total stated for the beginning of a call is none of the whole call.
    stated = usage.reported_total_tokens if is_final else None
    completed = TokenUsage(**counts, reported_total_tokens=stated, as_reported=True)
    return completed, "partial", method
