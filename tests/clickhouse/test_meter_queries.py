"""The query API in DuckDB against the engine that OpenMeter asks, on the same events and questions."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_metering.remote_usage.questions import questions_of
from tests.clickhouse.engine import ClickHouseEngine
from tests.openmeter_in_duckdb import DuckDBEngine
from tests.openmeter_in_duckdb.engine import Query, Row
from tests.openmeter_in_duckdb.requests import query_of_v1
from tests.usage_questions import events, questions

EXAMPLES = int(os.environ.get("USAGE_EXAMPLES", "40"))
NO_MIDNIGHT = frozenset(["America/Havana", "America/Santiago", "Africa/Cairo", "Asia/Beirut"])


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory) -> Iterator[ClickHouseEngine]:
    """ClickHouse with OpenMeter's table."""
    engine = ClickHouseEngine(tmp_path_factory.mktemp("clickhouse"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def duckdb() -> Iterator[DuckDBEngine]:
    """DuckDB with a table of the same events."""
    engine = DuckDBEngine()
    yield engine
    engine.close()


def by_place(rows: list[Row], query: Query) -> dict[tuple[object, ...], float]:
    """Rows by window and group."""
    # ClickHouse says of the day before one without a midnight, and of that one, that they end an
    # hour off; what it counts in them is right.
    no_end = query.window == "DAY" and query.zone in NO_MIDNIGHT
    return {
        (row.start, 0 if no_end else row.end, *sorted(row.groups.items())): row.value
        for row in rows
    }


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    number=st.integers(0, 300),
    seed=st.integers(0, 10**6),
    asked=st.lists(questions(), min_size=1, max_size=12),
)
def test_both_engines_say_the_same(clickhouse, duckdb, number, seed, asked):
    """Windows, zones, groups, filters and odd values: only hours of Lord Howe are left out.

    There, on a day on which clocks are set by half an hour, ClickHouse's hours begin at half past.
    """
    made = events(number, seed)
    for engine in (clickhouse, duckdb):
        engine.clear()
        engine.add(made)
    for question in asked:
        meter = question.meter.to_dict()
        for each in questions_of(question, "v1", None):
            query = query_of_v1(each.body, meter, duckdb.knows_zone)
            if query.window == "HOUR" and query.zone == "Australia/Lord_Howe":
                continue
            expected, found = (
                by_place(engine.rows(meter, query), query) for engine in (clickhouse, duckdb)
            )
            assert found.keys() == expected.keys()
            for place, value in expected.items():
                assert math.isclose(found[place], value, rel_tol=1e-12), (place, value)
