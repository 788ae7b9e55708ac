"""The metrics: names, units, and where each number stands in the statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from ..transport.policy import SinkState

__all__ = ["ERRORS", "INSTRUMENTS", "Instrument", "Point", "Read", "Statistics"]

MOST_NAMES: Final = 50
"""Of sinks, reasons or flags; what is beyond is summed up under `other`."""

_SINK: Final = "llm_metering.sink.name"
_STATES: Final = get_args(SinkState)

Statistics = Mapping[str, Any]
Point = tuple[float, Mapping[str, str]]
Points = Iterable[Point]
Read = Callable[[Statistics], Points]


Kind = Literal["counter", "up_down_counter", "gauge"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """A metric.

    Attributes:
        name: Its name.
        kind: Whether it only grows, can be summed up, or neither.
        unit: In UCUM.
        description: One line for people.
        read: Its points, from the statistics.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    read: Read


def _home(name: str) -> Read:
    return lambda statistics: [(statistics.get(name, 0), {})]


def _named(name: str, attribute: str) -> Read:
    return lambda statistics: _bounded(statistics.get(name, {}), attribute)


def _sinks(name: str) -> Read:
    def read(statistics: Statistics) -> Points:
        counts: Counter[str] = Counter()
        # Two sinks of one name, from two configurations, are one here.
        for row in statistics["sinks"]:
            counts[row["name"]] += row.get(name, 0)
        return _bounded(counts, _SINK)

    return read


def _bounded(counts: Mapping[str, int], attribute: str) -> Iterator[tuple[int, dict[str, str]]]:
    names = sorted(counts)
    for name in names[:MOST_NAMES]:
        yield counts[name], {attribute: name}
    if len(names) > MOST_NAMES:
        yield sum(counts[name] for name in names[MOST_NAMES:]), {attribute: "other"}


def _oldest(statistics: Statistics) -> Points:
    ages: dict[str, float] = {}
    for row in statistics["sinks"][:MOST_NAMES]:
        # Nothing waits, so the oldest has waited for no time.
        age = row["oldest_pending_seconds"] or 0.0
        ages[row["name"]] = max(age, ages.get(row["name"], 0.0))
    return [(age, {_SINK: name}) for name, age in ages.items()]


def _states(statistics: Statistics) -> Points:
    counts: Counter[tuple[str, str]] = Counter()
    for row in statistics["sinks"][:MOST_NAMES]:
        for state in _STATES:
            counts[row["name"], state] += row["state"] == state
    return [
        (count, {_SINK: name, "llm_metering.sink.state": state})
        for (name, state), count in counts.items()
    ]


def _unreadable(statistics: Statistics) -> Points:
    return [(statistics["damage"]["unreadable_segments"], {})]


def _late(statistics: Statistics) -> Points:
    return [(statistics["late_usage"]["calls"], {})]


INSTRUMENTS: Final = (
    Instrument(
        "llm_metering.events.recorded", "counter", "{event}", "Events owed to a sink",
        _sinks("recorded"),
    ),
    Instrument(
        "llm_metering.events.acked", "counter", "{event}", "Events a sink has", _sinks("acked")
    ),
    Instrument(
        "llm_metering.events.pending", "up_down_counter", "{event}",
        "Events that a sink will be offered", _sinks("pending"),
    ),
    Instrument(
        "llm_metering.events.dead", "up_down_counter", "{event}",
        "Events that a sink refused for good", _sinks("dead"),
    ),
    Instrument(
        "llm_metering.events.dropped", "counter", "{event}", "Events given up, by reason",
        _named("dropped", "llm_metering.drop.reason"),
    ),
    Instrument(
        "llm_metering.events.held", "up_down_counter", "{event}",
        "Records in memory that no disk has taken", _home("held_in_memory"),
    ),
    Instrument(
        "llm_metering.calls.open", "up_down_counter", "{call}", "Calls that have not ended",
        _home("open_calls"),
    ),
    Instrument(
        "llm_metering.calls.refused", "counter", "{call}",
        "Calls that a provider refused, or that were refused since nobody pays",
        _home("refused_calls"),
    ),
    Instrument(
        "llm_metering.calls.late", "counter", "{call}",
        "Calls whose usage came after their event, and is on no bill", _late,
    ),
    Instrument(
        "llm_metering.failures", "counter", "{failure}", "Failures to meter", _home("failures")
    ),
    Instrument(
        "llm_metering.flags", "counter", "{event}", "Events by flag",
        _named("flags", "llm_metering.flag"),
    ),
    Instrument(
        "llm_metering.segments.unreadable", "up_down_counter", "{segment}",
        "Segments of the journal that cannot be read", _unreadable,
    ),
    Instrument(
        "llm_metering.sink.dropped", "counter", "{event}", "Events given up for a sink",
        _sinks("dropped"),
    ),
    Instrument(
        "llm_metering.sink.retries", "counter", "{retry}", "Deliveries tried again",
        _sinks("retries"),
    ),
    Instrument(
        "llm_metering.sink.suspect", "up_down_counter", "{event}",
        "Events sent without a clear answer", _sinks("suspect"),
    ),
    Instrument(
        "llm_metering.sink.oldest_pending", "gauge", "s",
        "How long the oldest pending event has waited", _oldest,
    ),
    Instrument(
        "llm_metering.sink.state", "up_down_counter", "1",
        "1 for the state that a sink is in, 0 for the others", _states,
    ),
)  # fmt: skip

ERRORS: Final = Instrument(
    "llm_metering.statistics.errors",
    "counter",
    "{error}",
    "Times that these numbers could not be read",
    lambda _: (),
)
