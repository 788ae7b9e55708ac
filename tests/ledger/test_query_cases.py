"""Every way to an answer, where clocks are set, and over values of every kind."""

from __future__ import annotations

from datetime import timedelta

import pytest

from llm_metering.meters import MeterDefinition, usage_query
from tests.ledger.test_query_laws import CHANGES, DAY, HOUR, MINUTE, check_every_way, ledger_of

ODDITIES = [
    *(None, True, False, 0, -3, 7, 7.0, 2.5, 1e3, 2**53 + 1, 2**62, -(2**62), 2**70, 0.1),
    *("", "7", "07", "-2.50", "1e2", " 7", "7 ", "nan", "inf", "0x7", "1_0", "null", "x", "é"),
    *([], [5], {}, {"b": [4, "x"]}, {"b": ["0.5"]}, {"b": [None]}, {"b": 1}, {"b": [True]}),
]


def event(number, moment, subject="a", **data):
    return {
        "specversion": "1.0",
        "id": f"event-{number}",
        "source": "tests",
        "type": "llm.usage",
        "subject": subject,
        "time": moment.isoformat(),
        "data": {"provenance": "reported", **data},
    }


@pytest.mark.parametrize("zone", CHANGES)
def test_windows_where_clocks_are_set(zone):
    """Hours, days and months of a zone, of periods that begin and end at any quarter or between."""
    change = CHANGES[zone]
    moments = [
        change + number * HOUR / 4 + late
        for number in [*range(-120, 120, 7), *range(-10, 10), -3000, 3000]
        for late in (timedelta(0), timedelta(microseconds=1), 7 * MINUTE)
    ]
    earliest = CHANGES["America/Los_Angeles"] - 8 * HOUR
    events = [
        event(number, max(moment, earliest), "ab"[number % 2], model="mn"[number % 3 // 2], calls=1)
        for number, moment in enumerate(moments)
    ]
    quarter = change.replace(minute=15, second=0)
    periods = [
        {},
        {"start": max(quarter - DAY, earliest), "end": quarter + DAY + 3 * HOUR},
        {"start": max(quarter - 3000 * HOUR, earliest), "end": quarter + 3000 * HOUR},
        {"start": quarter, "end": quarter + HOUR},
        {"end": max(change.replace(minute=0, second=0), earliest + HOUR)},
        {"start": max(change - 31 * MINUTE, earliest)},
    ]
    with ledger_of(events, fold_at=40) as ledger:
        for window in (None, "HOUR", "DAY", "MONTH"):
            for number, period in enumerate(periods):
                question = {"window": window, "time_zone": zone, **period}
                group_by = [(), "subject", "model"][number % 3]
                check_every_way(ledger, events, usage_query("calls_total", **question))
                check_every_way(
                    ledger, events, usage_query("calls_total", group_by=group_by, **question)
                )


@pytest.mark.parametrize(
    "aggregation", ["SUM", "COUNT", "UNIQUE_COUNT", "AVG", "MIN", "MAX", "LATEST"]
)
@pytest.mark.parametrize("path", ["$.v", "$.v.b[0]"], ids=["outer", "inner"])
def test_values_of_every_kind(aggregation, path):
    """SQLite and DuckDB read the same numbers and texts; of two latest the one that came last counts."""
    noon = CHANGES["UTC"]
    events = [
        event(number, noon + (number // 2) * MINUTE, v=value, k=f"{number % 4}", w=value)
        # Sums of these are what they are on paper, in whatever order.
        for number, value in enumerate(each for each in ODDITIES if each not in (2**70, 0.1))
    ]
    # Alone in its group, so that nothing hides it.
    events += [
        event(f"alone {number}", noon, v=value, k=f"alone {number}", w=value)
        for number, value in enumerate(ODDITIES)
    ]
    events += [
        event(f"tie {value}", noon, k="tie", v=value if path == "$.v" else {"b": [value]})
        for value in (1, 3, 2)
    ]
    events += [event("nothing", noon, k="nothing"), event("guess", noon, k="0", v=1e6)]
    events[-1]["data"]["provenance"] = "partial"
    meter = MeterDefinition(
        slug="own",
        aggregation=aggregation,
        value_property=None if aggregation == "COUNT" else path,
        estimates=False,
        group_by={"inner": "$.w.b[0]"},
    )
    with ledger_of(events, fold_at=30) as ledger:
        for group_by in (["k"], ["w"], ["inner"], [], ["k", "w"]):
            filters = {} if {"k", "w"} & set(group_by) else {"k": ["0", "1", "2", "3"]}
            query = usage_query(meter, group_by=group_by, filters=filters)
            assert check_every_way(ledger, events, query) == 2
        # Nothing but null: no number of different texts, and so no row.
        only = usage_query(meter, filters={"k": "alone 0"})
        check_every_way(ledger, events, only)
