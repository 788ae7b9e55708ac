"""What a server answers, as the report that the ledger gives."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from llm_metering.errors import QueryError
from llm_metering.meters import METERS, MeterDefinition, usage_query
from llm_metering.remote_usage.reading import read_rows
from llm_metering.testing import OpenMeterServer
from tests.openmeter_in_duckdb import DuckDBEngine, QueryServer
from tests.remote_usage.conftest import remote_of, usage_event

TEN = datetime(2026, 11, 21, 10, tzinfo=UTC)
REPORTED = MeterDefinition(
    slug="tokens_total",
    value_property="$.total_tokens",
    group_by=METERS["tokens_total"].group_by,
    estimates=False,
)


def test_rows_are_those_of_the_ledger(remote):
    """Whole numbers are ints, what is missing is None and comes first, windows are in UTC."""
    report = remote.query(usage_query(window="HOUR", group_by=["model", "subject"]))

    assert [
        (row.window_start.hour, row.subject, *row.group_by.values(), row.value) for row in report
    ] == [
        (10, "acme", "a", 100),
        (10, "acme", "b", 20),
        (11, "acme", None, 3),
    ]
    assert all(type(row.value) is int and row.window_start.tzinfo is UTC for row in report)
    assert report.total == 123


def test_estimates_can_be_left_out(remote):
    """By the server's key for the provenance, also where that is filtered by as well."""
    assert remote.query(usage_query(REPORTED)).total == 103
    only = usage_query(REPORTED, filters={"provenance": ["reported", "estimated"]})
    assert remote.query(only).total == 100


def test_events_that_lack_a_key_are_found(remote):
    """Alone, with others, and where the key is one of the groups."""
    period = {"start": TEN, "end": "2026-11-22T00:00:00Z"}
    for wanted, total in ((["", "b"], 23), ([""], 3), (["nothing", "a"], 100)):
        report = remote.query(usage_query(filters={"model": wanted}, **period))
        assert (report.total, len(report)) == (total, 1)
    report = remote.query(usage_query(filters={"model": ["", "b"]}, group_by="model", **period))
    assert [row.group_by["model"] for row in report] == [None, "b"]


def test_v3_cannot_join_averages_or_times(built_in):
    """What lacks a key and what does not is two groups there, of which no average is made.

    Nor is it told when the events of a group without a value were.
    """
    meter = {**built_in[0], "aggregation": "AVG"}
    query = usage_query(
        MeterDefinition(
            slug=meter["slug"],
            aggregation="AVG",
            value_property="$.total_tokens",
            group_by=meter["groupBy"],
        ),
        filters={"model": ["", "a"]},
    )
    with OpenMeterServer(meters=[meter]) as server:
        server.preload(
            [usage_event("1", total_tokens=1, model="a"), usage_event("2", total_tokens=3)]
        )

        assert remote_of(server.url, "v1").query(query).rows[0].value == 2
        with pytest.raises(QueryError, match="v3 cannot ask AVG"):
            remote_of(server.url, "v3").query(query)
    with OpenMeterServer(meters=built_in) as server:
        query = usage_query(filters={"model": ["", "a"]}, start=TEN)
        assert remote_of(server.url, "v1").query(query).rows == ()
        with pytest.raises(QueryError, match="give start and end"):
            remote_of(server.url, "v3").query(query)


def test_bounds_are_whole_seconds(remote):
    """A server has no others: the report says what was asked of it."""
    start = TEN.replace(microsecond=700_000)
    report = remote.query(usage_query(start=start, end="2026-11-21T11:30:00.9Z"))

    assert (report.query.start, report.query.end) == (
        TEN,
        datetime(2026, 11, 21, 11, 30, tzinfo=UTC),
    )
    assert report.rows[0].window_start == TEN
    assert report.total == 120
    with pytest.raises(QueryError, match=r"in one second \(2026-11-21T10:00:00Z\)"):
        remote.query(usage_query(start=TEN, end=start))


def test_many_subjects_are_asked_for_in_pieces(api):
    """A server takes a hundred at once."""
    subjects = [f"customer-{number:03}" for number in range(201)]
    engine = DuckDBEngine()
    engine.add({**usage_event(name, total_tokens=1), "subject": name} for name in subjects)
    with QueryServer(engine) as server:
        server.meters = [METERS["tokens_total"].to_dict()]
        report = remote_of(server.url, api).query(usage_query(subject=subjects[::-1]))

        assert [row.subject for row in report] == subjects
        assert len(server.asked) == 3
    engine.close()


@pytest.mark.parametrize("aggregation", ["COUNT", "UNIQUE_COUNT"])
def test_a_count_of_nothing_has_no_row(api, aggregation):
    """SQL answers it with a row of 0, which the ledger does not have."""
    path = None if aggregation == "COUNT" else "$.model"
    meter = MeterDefinition(slug="some", aggregation=aggregation, value_property=path)
    with OpenMeterServer(meters=[meter.to_dict()]) as server:
        assert remote_of(server.url, api).query(usage_query(meter)).rows == ()


def test_days_beside_one_without_a_midnight_end_where_they_end():
    """ClickHouse says of them that they end an hour off, and counts rightly."""
    query = usage_query(window="DAY", time_zone="America/Havana")
    listed = [
        {
            "value": 1,
            "windowStart": f"2026-03-0{day}T05:00:00Z",
            "windowEnd": end,
            "subject": None,
            "groupBy": {},
        }
        for day, end in ((7, "2026-03-08T04:00:00Z"), (8, "2026-03-09T05:00:00Z"))
    ]

    ends = [row.window_end.isoformat() for row in read_rows(listed, query, {})]

    assert ends == ["2026-03-08T05:00:00+00:00", "2026-03-09T04:00:00+00:00"]


def test_there_may_be_more_meters_than_a_list_shows(api, built_in):
    """v3 lists a hundred at once, and v1 a thousand."""
    others = [{**built_in[0], "slug": f"other_{number}"} for number in range(1001)]
    with OpenMeterServer(meters=[*others, built_in[0]]) as server:
        assert remote_of(server.url, api).query(usage_query()).rows == ()


def test_meters_are_listed_once(server, api):
    """And again after a minute, or when one seems wrong."""
    now = [0.0]
    remote = remote_of(server.url, api, clock=lambda: now[0])

    def lists() -> int:
        return sum(request.method == "GET" for request in server.received)

    remote.query(usage_query())
    remote.query(usage_query("calls_total"))
    assert lists() == 1
    with pytest.raises(QueryError):
        remote.query(usage_query(group_by="unheard_of"))
    assert lists() == 2
    now[0] = 61.0
    remote.query(usage_query())
    assert lists() == 3
