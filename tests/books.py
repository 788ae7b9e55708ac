"""Two books of the same calls: what we billed, and what the provider says it sent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from llm_metering.events import CloudEvent
from tests.provider.client import Provider
from tests.provider.ledger import Entry

__all__ = ["Bill", "Counts", "billed", "booked", "metered", "owed", "prompt"]

Bill = dict[str | None, tuple[int, int, int]]
"""By subject: calls, tokens of input, tokens of output."""


class Counts(NamedTuple):
    """Tokens of a call; what nobody told is 0 here, as it is in the books."""

    input: int
    output: int
    cached: int = 0
    written: int = 0
    written_5m: int = 0
    written_1h: int = 0
    reasoning: int = 0


_NAMES: Final = (
    *("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    *("cache_creation_5m_input_tokens", "cache_creation_1h_input_tokens"),
    "reasoning_output_tokens",
)


def metered(event: CloudEvent) -> Counts:
    """What an event says was used."""
    return Counts(*(event.data.get(name) or 0 for name in _NAMES))


def booked(entry: Entry) -> Counts:
    """What the provider's books say was used."""
    return Counts(*(getattr(entry, name) for name in Counts._fields))


def prompt(subject: str) -> str:
    """A prompt that tells the provider whom it works for."""
    return f"Work for [subject:{subject}]."


def _sum(entries: Iterable[tuple[str | None, int, int]]) -> Bill:
    sums: Bill = {}
    for subject, used_in, used_out in entries:
        calls, all_in, all_out = sums.get(subject, (0, 0, 0))
        sums[subject] = (calls + 1, all_in + used_in, all_out + used_out)
    return sums


def billed(events: Iterable[CloudEvent]) -> Bill:
    """What we say, every count of it the provider's own."""
    events = list(events)
    assert {event.data["provenance"] for event in events} <= {"reported"}
    return _sum(
        (event.subject, event.data["input_tokens"], event.data["output_tokens"]) for event in events
    )


def owed(provider: Provider) -> Bill:
    """What the provider says."""
    return _sum((entry.subject, entry.input, entry.output) for entry in provider.entries)
