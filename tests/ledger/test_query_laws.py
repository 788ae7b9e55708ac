"""Whatever is asked, every way to an answer gives the one that plain Python works out."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.events import new_event_id
from llm_metering.ledger import Ledger, _folding, _from_columns, _from_events
from llm_metering.ledger._files import SCHEMA_VERSION, open_for_writing
from llm_metering.ledger._folding import fold_if_due
from llm_metering.ledger._queries import ways
from llm_metering.ledger._rows import inserts, read_row
from llm_metering.meters import METERS, MeterDefinition, UsageQuery, usage_query
from tests.ledger.older_rows import insert_as_before
from tests.ledger.plain_answers import answer_of

AT_ONCE = 5
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
CHANGES = {
    "UTC": datetime(2026, 11, 1, tzinfo=UTC),
    "Europe/Berlin": datetime(2026, 10, 25, 1, tzinfo=UTC),
    "America/New_York": datetime(2026, 3, 8, 7, tzinfo=UTC),
    "Australia/Lord_Howe": datetime(2026, 4, 4, 15, tzinfo=UTC),
    "Asia/Kathmandu": datetime(2026, 1, 31, 18, 15, tzinfo=UTC),
    "Pacific/Apia": datetime(2011, 12, 30, 10, tzinfo=UTC),
    "America/St_Johns": datetime(2010, 11, 7, 2, 31, tzinfo=UTC),
    "Africa/Monrovia": datetime(1972, 1, 7, 0, 44, 30, tzinfo=UTC),
    "America/Santiago": datetime(2026, 9, 6, 4, tzinfo=UTC),
    "America/Los_Angeles": datetime(1970, 1, 1, 8, tzinfo=UTC),
}
"""A moment near which something is odd, by time zone: clocks change, a day is left out, a year begins."""

names = st.sampled_from(["", "m", "n", "Zoë"])
counts = st.integers(0, 1000) | st.just(10**12)
oddities = st.sampled_from(
    [
        *(None, True, False, 0, -3, 7, 2.5, 1e3, 2**53 + 1, 2**62, -(2**62), 2**70, 1e300, 0.1),
        *("", "7", "07", "-2.50", "1e2", " 7", "7 ", "nan", "inf", "0x7", "1_0", "null", "x", "é"),
        *([], [5], {}, {"b": [4, "x"]}, {"b": [None]}, {"b": 1}),
    ]
)
datas = st.fixed_dictionaries(
    {"provenance": st.sampled_from(["reported", "estimated", "partial", "missing"])},
    optional={
        **dict.fromkeys(("model", "provider", "status", "operation"), names),
        **dict.fromkeys(("total_tokens", "cache_creation_input_tokens", "calls"), counts),
        "feature": oddities,
        "v": st.sampled_from([1, 2, 2.5, "4", "0.25", None, "x"]),
        "huge": st.sampled_from([2**62, 2**63 - 1, -(2**63), 1]),
        "a": oddities,
    },
)
steps = st.sampled_from([MINUTE, 15 * MINUTE, HOUR, DAY, 28 * DAY, timedelta(milliseconds=1)])
offsets = st.builds(
    lambda step, times, off: step * times + off,
    steps,
    st.integers(-3, 3),
    st.sampled_from([timedelta(0), timedelta(0), timedelta(milliseconds=1), -MINUTE]),
)
GROUP_BY = {
    "m": "$.model",
    "feature": "$.feature",
    "inner": "$.a.b[0]",
    "tokens": "$['total_tokens']",
}


def moments(zone: str) -> st.SearchStrategy[datetime]:
    """Moments near the one at which something is odd, none of them before 1970."""
    earliest = datetime(1970, 1, 1, tzinfo=UTC)
    return offsets.map(lambda offset: max(CHANGES[zone] + offset, earliest))


def cloud_events(zone: str) -> st.SearchStrategy[dict[str, Any]]:
    """Events of any shape that the ledger takes."""
    return st.builds(
        lambda moment, subject, kind, data: {
            "specversion": "1.0",
            "id": new_event_id(),
            "source": "tests",
            "type": kind,
            "subject": subject,
            "time": moment.isoformat(),
            "data": data,
        },
        moments(zone),
        st.sampled_from(["a", "b", "Zoë"]),
        st.sampled_from(["llm.usage", "llm.usage", "other"]),
        datas,
    )


@st.composite
def own_meters(draw: st.DrawFn) -> MeterDefinition:
    """Meters of a configuration."""
    aggregation = draw(
        st.sampled_from(["SUM", "SUM", "COUNT", "UNIQUE_COUNT", "AVG", "MIN", "MAX", "LATEST"])
    )
    paths = ["$.total_tokens", "$.cache_creation_input_tokens", "$.v", "$.huge", "$.a.b[0]"]
    if aggregation == "UNIQUE_COUNT":
        paths += ["$.feature", "$.model"]
    return MeterDefinition(
        slug="own",
        event_type=draw(st.sampled_from(["llm.usage", "other"])),
        aggregation=aggregation,
        value_property=None if aggregation == "COUNT" else draw(st.sampled_from(paths)),
        group_by=GROUP_BY,
        estimates=draw(st.booleans()),
    )


@st.composite
def questions(draw: st.DrawFn, zone: str) -> UsageQuery:
    start, end = draw(st.none() | moments(zone)), draw(st.none() | moments(zone))
    if start and end and start >= end:
        start, end = (end, start) if end < start else (None, end)
    meter = draw(st.sampled_from(list(METERS.values())) | own_meters())
    rolled_up = ["model", "provider", "provenance", "status", "m"]
    others = ["operation", "feature", "inner", "tokens", "v"]
    keys = st.sampled_from(rolled_up + draw(st.sampled_from([[], others])))
    asked = st.sampled_from(["", "m", "n", "reported", "null", "7", "true", "completed", "4"])
    return usage_query(
        meter,
        subject=draw(st.none() | st.sampled_from(["a", ["b", "nobody"]])),
        window=draw(st.sampled_from([None, "MINUTE", "HOUR", "DAY", "MONTH"])),
        start=start,
        end=end,
        group_by=draw(st.lists(st.just("subject") | keys, max_size=3)),
        filters=draw(st.dictionaries(keys, st.lists(asked, min_size=1, max_size=4), max_size=2)),
        time_zone=draw(st.sampled_from([zone, zone, "UTC"])),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[UsageQuery]]:
    zone = draw(st.sampled_from(list(CHANGES)))
    delivered = draw(st.lists(cloud_events(zone), max_size=20))
    if delivered:
        # Again, with other content: what was there first stays.
        for each in draw(st.lists(st.sampled_from(delivered), max_size=3)):
            delivered.append({**each, "data": {"total_tokens": 77}})
    return delivered, draw(st.lists(questions(zone), min_size=1, max_size=8))


def payload(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


@contextmanager
def ledger_of(events: list[dict[str, Any]], *, fold_at: int) -> Iterator[Ledger]:
    """A ledger that took in some events, a few at a time."""
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.object(_folding, "FOLD_AT", fold_at),
        patch.object(_from_columns, "FEWEST", 0),
    ):
        path = Path(folder) / "ledger.db"
        with closing(open_for_writing(path)) as connection:
            # What `deliver` does, but for the syncs, for which a busy disk takes long.
            connection.execute("PRAGMA synchronous = OFF")
            insert(connection, events, at_once=AT_ONCE)
        with closing(Ledger(path)) as ledger:
            yield ledger


def insert(connection: sqlite3.Connection, events: list[dict[str, Any]], *, at_once: int) -> None:
    for start in range(0, len(events), at_once):
        connection.execute("BEGIN")
        rows = [read_row(payload(each)) for each in events[start : start + at_once]]
        for statement, parameters in inserts(rows, most_parameters=999):
            connection.execute(statement, parameters)
        connection.execute("COMMIT")
        if connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,):
            fold_if_due(connection)


def check_every_way(ledger: Ledger, events: list[dict[str, Any]], query: UsageQuery) -> int:
    """Compare the answers with the expected one; how many ways there are to it."""
    expected = answer_of(events, query)
    assert list(ledger.query(query)) == expected
    with ledger._reading() as connection:
        if connection is None:
            return 0
        answers = [list(rows) for rows in ways(connection, query)]
        assert answers == [expected] * len(answers)
        return len(answers)


@settings(max_examples=40, deadline=None)
@given(case=cases(), fold_at=st.integers(1, 12))
def test_every_way_to_an_answer_gives_the_same(case, fold_at):
    """Days, quarters of an hour, what is recent, columns and bodies of events agree with plain Python."""
    events, asked = case
    with ledger_of(events, fold_at=fold_at) as ledger:
        for query in asked:
            is_of_bodies = _from_events.needs_bodies(query)
            is_found_by_duckdb = is_of_bodies and query.subjects is None
            assert check_every_way(ledger, events, query) >= (2 if is_found_by_duckdb else 1)


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
@settings(max_examples=12, deadline=None)
@given(case=cases())
def test_a_ledger_of_an_older_schema_answers_unchanged(version, case):
    """Whoever may not write it gets the same answers, and it stays as it is."""
    events, asked = case
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(
                (Path(__file__).parent / f"schema_{version}.sql").read_text("utf-8")
            )
            insert_as_before(connection, map(payload, events))
            connection.commit()
        path.chmod(0o400)
        with closing(Ledger(path)) as ledger:
            for query in asked:
                check_every_way(ledger, events, query)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA user_version").fetchone() == (version,)
