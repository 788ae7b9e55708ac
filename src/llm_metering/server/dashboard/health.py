"""Whether the meter is right, from what `status` says of a home."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from .words import Words

__all__ = ["Finding", "Level", "adds_up", "findings", "worst"]

Level = Literal["good", "notice", "bad"]
"""Nothing to do; to be looked at; usage is held up, refused or lost."""

LATE: Final = 300.0
"""Seconds after which an event that waits is told of."""

_OUTCOMES: Final = ("acked", "pending", "dead", "dropped")
_LEVELS: Final[tuple[Level, ...]] = ("good", "notice", "bad")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something to be looked at.

    Attributes:
        level: How bad it is.
        text: What it is.
        path: Where there is more.
    """

    level: Level
    text: str
    path: str = "/delivery"


def worst(found: Sequence[Finding]) -> Level:
    """The worst of them."""
    return max((each.level for each in found), key=_LEVELS.index, default="good")


def adds_up(sink: Mapping[str, Any]) -> bool:
    """Whether every event that was recorded for a sink is somewhere."""
    counts: list[int] = [sink[outcome] for outcome in _OUTCOMES]
    # A count below 0 is how a double acknowledgement would hide in a sum that fits.
    return sum(counts) == sink["recorded"] and min(counts) >= 0


def findings(statistics: Mapping[str, Any], words: Words) -> list[Finding]:
    """What somebody should look at, the worst first."""
    found = [*_of_sinks(statistics, words), *_of_home(statistics, words)]
    return sorted(found, key=lambda each: -_LEVELS.index(each.level))


def _of_sinks(statistics: Mapping[str, Any], words: Words) -> Iterator[Finding]:
    for sink in statistics["sinks"]:
        name = words.text(sink["name"])
        if not adds_up(sink):
            yield Finding(
                level="bad",
                text=f"the counts of {name} do not add up: {words.number(sink['recorded'])} recorded, "
                + ", ".join(f"{words.number(sink[each])} {each}" for each in _OUTCOMES),
            )
        if sink["state"] == "paused":
            reason = words.text(sink["reason"]) if sink["reason"] else "no reason is known"
            yield Finding(level="bad", text=f"{name} is paused: {reason}")
        elif sink["state"] == "backoff":
            reason = f": {words.text(sink['reason'])}" if sink["reason"] else ""
            yield Finding(level="notice", text=f"{name} is tried again and again{reason}")
        if sink["dead"]:
            yield Finding(
                level="bad",
                text=f"{name} has refused {_events(sink['dead'], words)} for good",
                path="/delivery#dead",
            )
        if sink["dropped"]:
            yield Finding(
                level="bad", text=f"{_events(sink['dropped'], words)} never came to {name}"
            )
        if sink["suspect"]:
            yield Finding(
                level="notice",
                text=f"{_events(sink['suspect'], words)} may have been taken by {name} or not",
            )
        oldest = sink["oldest_pending_seconds"]
        if oldest is not None and oldest > LATE:
            yield Finding(
                level="notice",
                text=f"{_events(sink['pending'], words)} still to be delivered to {name}, the oldest for "
                f"{words.span(oldest)}",
            )


def _of_home(statistics: Mapping[str, Any], words: Words) -> Iterator[Finding]:
    lost = sum(statistics["dropped"].values())
    if lost:
        yield Finding(level="bad", text=f"{_events(lost, words)} could not be recorded")
    # What a process that was killed had half written is no damage.
    damage = sum(count for what, count in statistics["damage"].items() if what != "torn_bytes")
    if damage:
        yield Finding(level="bad", text="some of the journal is damaged")
    if statistics["failures"]:
        yield Finding(
            level="notice",
            text=f"metering itself has failed {words.number(statistics['failures'])} times",
        )
    unattributed = statistics["flags"].get("unattributed", 0)
    if unattributed:
        yield Finding(
            level="notice",
            text=f"nobody was named to pay for {words.number(unattributed)} calls",
            path="/events?subject=unattributed",
        )
    late = statistics["late_usage"]["calls"]
    if late:
        yield Finding(
            level="notice",
            text=f"usage of {words.number(late)} calls came too late to be in their events "
            "(llm-metering late)",
        )


def _events(count: int, words: Words) -> str:
    return f"{words.number(count)} {'event' if count == 1 else 'events'}"
