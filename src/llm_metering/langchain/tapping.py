"""What a tap has read of the answer of a call, beside what LangChain says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .. import taps
from ..calls import Outcome, Report
from ..meter import Meter
from ..taps import TappedCall
from .seen import Seen

__all__ = ["begin", "complete", "give_up", "saw_answer"]


def begin(
    meter: Meter, request: object, provider: str | None, seen: Seen, kwargs: Mapping[str, Any]
) -> Callable[[], Report]:
    """Have the answer of a call read; what is returned says what is known of the call by then."""
    # The answers of several prompts could not be told apart.
    if kwargs.get("batch_size") != 1 or not meter.settings.taps:
        return seen.report
    seen.tapped = tapped = taps.begin(request, provider)
    return partial(_so_far, seen, tapped)


def complete(seen: Seen | None, outcome: Outcome, report: Report) -> tuple[Outcome, Report]:
    """How a call ended and what it used, with what LangChain has lost of it."""
    tapped = None if seen is None else seen.tapped
    if tapped is None:
        return outcome, report
    if report.is_last:
        tapped.end()
    report = tapped.complete(report, is_whole=outcome == "completed")
    if outcome == "completed" and tapped.has_failed:
        outcome = "failed"
    return outcome, report


def give_up(seen: Seen | None) -> None:
    """What was read cannot be told to be of this call, which has ended."""
    if seen is not None and seen.tapped is not None:
        seen.tapped.give_up()


def saw_answer(seen: Seen | None) -> bool:
    """Whether the provider's answer to a call came over the wire, as far as it was read."""
    return seen is not None and seen.tapped is not None and seen.tapped.saw_answer


def _so_far(seen: Seen, tapped: TappedCall) -> Report:
    return tapped.closed(seen.report())
