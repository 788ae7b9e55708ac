"""What a tap has read of the answer of a call, beside what LangChain says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from .. import taps
from ..calls import Outcome, Report
from ..meter import Meter
from ..taps import TappedCall
from .seen import Seen

__all__ = ["begin", "complete"]


def begin(
    meter: Meter, request: object, provider: str | None, seen: Seen, kwargs: Mapping[str, Any]
) -> TappedCall | None:
    """Have the answer of a call read."""
    # The answers of several prompts could not be told apart.
    if kwargs.get("batch_size") == 1:
        seen.tapped = taps.begin(
            request, provider, framework="langchain", is_read=meter.settings.taps
        )
    return seen.tapped


def complete(tapped: TappedCall, outcome: Outcome, report: Report) -> tuple[Outcome, Report]:
    """How a call ended and what it used, with what LangChain has lost of it."""
    if report.is_last:
        tapped.end()
    report = tapped.complete(report, is_whole=outcome == "completed")
    if tapped.holds_another:
        # A model of another framework was asked in its place, which was metered there.
        report = replace(report, left_out="inner_call")
    if outcome == "completed" and tapped.has_failed:
        outcome = "failed"
    return outcome, report
