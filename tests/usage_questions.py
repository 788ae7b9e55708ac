"""Months of events, meters and questions, for tests that hold one back end of usage against another.

Events are plain CloudEvents. Their times crowd around what is odd in calendars: clocks that are set
back or forward, midnights that do not exist, ends of months. No two events are in one second, since
OpenMeter has no say in which of them is the latest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from hypothesis import strategies as st

from llm_metering.meters import METERS, MeterDefinition, UsageQuery, UsageReport, usage_query
from llm_metering.meters.definitions import Aggregation

__all__ = ["ALL_METERS", "ZONES", "differences", "events", "questions"]

ZONES = (
    *("UTC", "Europe/Berlin", "America/New_York", "America/St_Johns", "Asia/Kolkata"),
    *("Asia/Kathmandu", "Pacific/Chatham", "Pacific/Apia", "Antarctica/Troll"),
    # No midnight on the day on which clocks are set forward.
    *("America/Havana", "America/Santiago", "Africa/Cairo", "Asia/Beirut"),
    # Half an hour at a time.
    "Australia/Lord_Howe",
)
_ODD_MOMENTS = tuple(
    datetime.fromisoformat(moment + "Z")
    for moment in (
        *("2026-03-08T05:00", "2026-03-08T07:00", "2026-03-28T22:00", "2026-03-29T01:00"),
        *("2026-04-04T15:00", "2026-04-05T03:00", "2026-04-23T22:00", "2026-09-06T04:00"),
        *("2026-10-03T15:30", "2026-10-25T00:00", "2026-10-25T01:00", "2026-10-29T21:00"),
        *("2026-11-01T05:00", "2026-11-01T06:00", "2026-02-28T23:00", "2026-12-31T23:00"),
        *("2026-11-30T18:30", "2026-10-31T22:00", "2026-11-01T00:00", "2026-12-01T00:00"),
    )
)
_SUBJECTS = (
    "acme",
    "beta",
    "Müller & Söhne 🏭",
    'it\'s "quoted" \\',
    "ACME",
    "a,b",
    "éa",
    "z" * 40,
)
_MODELS = ("gpt-5-mini", "claude-sonnet-5", "gpt-5-mini", "gpt-5", "modèle", "", None)
_TEAMS = ("red", "blue", "", "Ünïcode 🏭", "null", "1", None)
_PROVENANCES = ("reported", "reported", "reported", "estimated", "partial", "missing", None)
_ODD_VALUES: tuple[Any, ...] = (
    *(1, 2, 3, 0, -4, 2.5, 0.1, 1e-7, 12345678.9, 1e3, 1e15, 10**12, True, False, None),
    *("7", "2.5", "+5", ".5", "5.", "1e3", "00012", " 5", "5 ", "1_000", "0x10", "1e", "", "-"),
    *(
        "inf",
        "-Infinity",
        "NaN",
        "1e400",
        "many",
        "null",
        "\uff11",
        "5\n",
        [1],
        {"a": 1},
        [],
        "1,5",
    ),
)
_ODD_TEXTS: tuple[Any, ...] = (
    *("x", "x", "y", "", "null", "true", None, True, False, 1, "1", 1.0, 1.5, 1e3, 0.00001, 1e15),
    *(
        2**53,
        10**20,
        -1,
        -0.0,
        1e-7,
        [1],
        {"b": 1},
        "Zoë\n🏭",
        "a\\b",
        '"',
    ),
)
_AGGREGATIONS: tuple[Aggregation, ...] = (
    *("SUM", "AVG", "MIN", "MAX", "LATEST", "UNIQUE_COUNT", "COUNT"),
)
_OWN_KEYS = {"kind": "$.kind", "deep": "$.a['b c'].d", "first": "$.list[0]"}
_LLM_KEYS = {"model": "$.model", "provenance": "$.provenance", "team": "$.team"}


def _own_meters() -> Iterator[MeterDefinition]:
    for aggregation in _AGGREGATIONS:
        for name, path in (("seconds", "$.seconds"), ("nested", "$['gpu use'][1].s")):
            yield MeterDefinition(
                slug=f"gpu_{name}_{aggregation.lower()}",
                event_type="gpu.job",
                aggregation=aggregation,
                value_property=None if aggregation == "COUNT" else path,
                group_by={**_OWN_KEYS, "provenance": "$.provenance"},
                estimates=name == "seconds",
            )
        for estimates in (True, False):
            yield MeterDefinition(
                slug=f"llm_{aggregation.lower()}{'' if estimates else '_reported'}",
                aggregation=aggregation,
                value_property=None if aggregation == "COUNT" else "$.total_tokens",
                group_by=_LLM_KEYS,
                estimates=estimates,
            )


ALL_METERS = (*METERS.values(), *METERS.values(), *_own_meters())
"""The built-in meters, twice, since most will ask them, and those of users."""


def events(number: int, seed: int) -> list[dict[str, Any]]:
    """CloudEvents, each with a time, source and id of its own, in no order of time."""
    made: list[dict[str, Any]] = []
    seconds: set[int] = set()
    for place in range(number):
        # Each from a chance of its own: fewer events are the first of these.
        chance = Random(f"{seed}/{place}")
        time = _time(chance)
        while int(time.timestamp()) in seconds:
            time += timedelta(seconds=1)
        seconds.add(int(time.timestamp()))
        own = chance.random() < 0.4
        made.append(
            {
                "specversion": "1.0",
                "id": f"{seed}-{place}",
                "source": "tests",
                "type": "gpu.job" if own else "llm.usage",
                "subject": chance.choice(_SUBJECTS),
                "time": time.isoformat().replace("+00:00", "Z"),
                "data": _gpu(chance) if own else _call(chance),
            }
        )
    return made


def _time(chance: Random) -> datetime:
    if chance.random() < 0.6:
        moment = chance.choice(_ODD_MOMENTS)
        moment += timedelta(seconds=chance.choice((-3600, -1800, -60, -1, 0, 1, 60, 1800, 3600)))
        moment += timedelta(seconds=chance.randrange(-5400, 5400) * (chance.random() < 0.5))
    else:
        moment = datetime(2026, 9, 1, tzinfo=UTC) + timedelta(seconds=chance.randrange(92 * 86400))
    return moment + timedelta(microseconds=chance.choice((0, 0, 1, 500_000, 999_999)))


def _known(pairs: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in pairs.items() if value is not None}


def _call(chance: Random) -> dict[str, Any]:
    count = [chance.choice((None, 0, 1, chance.randrange(10**6))) for _ in range(5)]
    return _known(
        {
            "model": chance.choice(_MODELS),
            "provider": chance.choice(("openai", "anthropic", None)),
            "operation": chance.choice(("chat", "embeddings", None)),
            "framework": chance.choice(("langchain", "llamaindex", None)),
            "provenance": chance.choice(_PROVENANCES),
            "status": chance.choice(("completed", "failed", None)),
            "total_tokens": count[0],
            "input_tokens": count[1],
            "output_tokens": count[2],
            "cache_read_input_tokens": count[3],
            "reasoning_output_tokens": count[4],
            "calls": chance.choice((1, 1, 1, None)),
            "team": chance.choice(_TEAMS),
        }
    )


def _gpu(chance: Random) -> dict[str, Any]:
    data: dict[str, Any] = {
        "provenance": chance.choice(_PROVENANCES),
        "kind": chance.choice(_ODD_TEXTS),
        "a": {"b c": {"d": chance.choice(_ODD_TEXTS)}},
        "list": [chance.choice(_ODD_TEXTS), "second"],
        "gpu use": [0, {"s": chance.choice(_ODD_VALUES)}],
    }
    if chance.random() < 0.9:
        data["seconds"] = chance.choice(_ODD_VALUES)
    for key in ("kind", "a", "list", "gpu use"):
        if chance.random() < 0.1:
            del data[key]
    return {key: value for key, value in data.items() if key == "seconds" or value is not None}


@st.composite
def questions(draw: st.DrawFn) -> UsageQuery:
    """A question that makes sense, about any meter."""
    meter = draw(st.sampled_from(ALL_METERS))
    keys = sorted(meter.group_by)
    start, end = draw(_periods)
    filtered = draw(st.lists(st.sampled_from(keys), max_size=2, unique=True))
    return usage_query(
        meter,
        subject=draw(_subjects),
        window=draw(st.sampled_from([None, "MINUTE", "HOUR", "DAY", "DAY", "MONTH", "MONTH"])),
        start=start,
        end=end,
        group_by=draw(st.lists(st.sampled_from([*keys, "subject"]), max_size=3, unique=True)),
        filters={
            key: draw(
                st.lists(st.sampled_from(_values(meter, key)), min_size=1, max_size=4, unique=True)
            )
            for key in filtered
        },
        time_zone=draw(st.sampled_from(ZONES)),
    )


_subjects = st.one_of(
    st.none(),
    st.none(),
    st.sampled_from(_SUBJECTS),
    st.lists(st.sampled_from([*_SUBJECTS, "nobody"]), min_size=1, max_size=5, unique=True),
    # More than a server is asked for at once, those that there are at both ends.
    st.just((*_SUBJECTS[:4], *(f"nobody-{number}" for number in range(120)), *_SUBJECTS[4:])),
)


@st.composite
def _periods(draw: st.DrawFn) -> tuple[datetime | None, datetime | None]:
    """From and to, if at all, mostly at odd moments, some within a second."""
    moments = st.builds(
        lambda moment, seconds, part: moment + timedelta(seconds=seconds, microseconds=part),
        st.sampled_from([*_ODD_MOMENTS, datetime(2026, 9, 15, tzinfo=UTC)]),
        st.sampled_from([0, 0, 0, -900, 900, 1, -1, 3601, -86400, 86400]),
        st.sampled_from([0, 0, 0, 1, 999_999]),
    )
    start, end = draw(st.one_of(st.none(), moments)), draw(st.one_of(st.none(), moments))
    if start and end:
        start, end = min(start, end), max(start, end)
        if end - start < timedelta(seconds=2):
            end = start + timedelta(days=31)
    return start, end


_periods = _periods()


def _values(meter: MeterDefinition, key: str) -> list[str]:
    known: dict[str, tuple[str | None, ...]] = {
        "model": _MODELS,
        "team": _TEAMS,
        "provenance": _PROVENANCES,
        "provider": ("openai", "anthropic", None),
        "operation": ("chat", "embeddings", None),
        "framework": ("langchain", "llamaindex", None),
        "status": ("completed", "failed", None),
    }
    odd = ("x", "y", "", "null", "true", "1", "1.5", "1000", "9007199254740992", "Zoë\n🏭", "[1]")
    return sorted({each or "" for each in known.get(key, odd)} | {"nothing has this"})


def differences(one: UsageReport, other: UsageReport) -> str | None:
    """What is different in two reports; sums of fractions may be so in their last digits."""
    if one.query != other.query:
        return f"{one.query} is not {other.query}"
    rows = [
        {
            (row.window_start, row.window_end, row.subject, *row.group_by.items()): row.value
            for row in each
        }
        for each in (one, other)
    ]
    if list(rows[0]) != list(rows[1]):
        lacking = [sorted(map(str, a.keys() - b.keys())) for a, b in (rows, rows[::-1])]
        return f"only here: {lacking[0]}, only there: {lacking[1]}" if any(lacking) else "order"
    for place, value in rows[0].items():
        if not _same(value, rows[1][place], one.query.meter):
            return f"{place}: {value!r} and {rows[1][place]!r}"
    return None


def _same(one: float, other: float, meter: MeterDefinition) -> bool:
    if meter.event_type == "llm.usage" and meter.aggregation != "AVG":
        return one == other and type(one) is type(other)
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
