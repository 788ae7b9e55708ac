"""Meters, questions and answers, apart from where the answers are found."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone

import jsonschema
import pytest

from llm_metering.errors import MeterError, MeteringError, QueryError
from llm_metering.meters import (
    METERS,
    MeterDefinition,
    UsageQuery,
    UsageReport,
    UsageRow,
    usage_query,
    window_bounds,
)
from llm_metering.token_usage import TokenUsage
from tests.factories import make_event
from tests.openmeter_spec import openmeter_schema, spec_path

MIDNIGHT = datetime(2026, 11, 21, tzinfo=UTC)


def test_the_built_in_meters():
    """Slugs and properties are public: dashboards and OpenMeter servers are set up with them."""
    assert {
        slug: (meter.slug, meter.event_type, meter.aggregation, meter.value_property)
        for slug, meter in METERS.items()
    } == {
        "tokens_total": ("tokens_total", "llm.usage", "SUM", "$.total_tokens"),
        "tokens_input": ("tokens_input", "llm.usage", "SUM", "$.input_tokens"),
        "tokens_output": ("tokens_output", "llm.usage", "SUM", "$.output_tokens"),
        "tokens_cached": ("tokens_cached", "llm.usage", "SUM", "$.cache_read_input_tokens"),
        "tokens_reasoning": ("tokens_reasoning", "llm.usage", "SUM", "$.reasoning_output_tokens"),
        "calls_total": ("calls_total", "llm.usage", "SUM", "$.calls"),
    }


def test_a_question_is_checked_and_put_in_order():
    """Strings become times in UTC, single names become lists, doubles go."""
    query = usage_query(
        "tokens_input",
        subject="customer-42",
        window="DAY",
        start="2026-11-21T01:00+01:00",
        end=datetime(2026, 11, 22, 3, tzinfo=timezone(timedelta(hours=3))),
        group_by=["model", "feature", "model"],
    )

    assert query == UsageQuery(
        meter=METERS["tokens_input"],
        subjects=("customer-42",),
        window="DAY",
        start=MIDNIGHT,
        end=MIDNIGHT + timedelta(days=1),
        group_by=("model", "feature"),
    )


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        pytest.param({"value_property": ""}, "'' is no JSONPath of one place", id="empty path"),
        pytest.param(
            {"value_property": "$.a", "group_by": {"model": ""}},
            "'' is no JSONPath of one place",
            id="empty path of a key",
        ),
        pytest.param(
            {"value_property": "$.a", "group_by": ["model"]},
            r"JSONPaths by key is wanted for group_by, got \['model'\]",
            id="a list of keys",
        ),
    ],
)
def test_a_meter_that_makes_no_sense_is_refused(attributes, message):
    """The error names the meter, the value and what it may be."""
    with pytest.raises(MeterError, match=f"meter mine: {message}"):
        MeterDefinition(slug="mine", **attributes)


def test_a_question_without_anything_is_about_everything():
    """All tokens of everybody, of all time."""
    assert usage_query() == UsageQuery(meter=METERS["tokens_total"])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        pytest.param(
            {"meter": "tokens"}, "unknown meter 'tokens'; there are tokens_total, ", id="meter"
        ),
        pytest.param(
            {"window": "hour"},
            "unknown window 'hour'; there are MINUTE, HOUR, DAY, MONTH",
            id="window",
        ),
        pytest.param(
            {"time_zone": "Berlin"},
            "unknown time_zone 'Berlin'.*did you mean Europe/Berlin",
            id="time zone",
        ),
        pytest.param({"start": datetime(2026, 11, 21)}, "names no time zone", id="naive"),
        pytest.param(
            {"start": "2026-11-21"}, "start 2026-11-21 names no time zone; write it", id="a day"
        ),
        pytest.param({"end": "yesterday"}, "end 'yesterday' is no ISO 8601 time", id="words"),
        pytest.param({"end": date(2026, 11, 21)}, "a datetime or an ISO 8601 string", id="a date"),
        pytest.param({"end": 1_795_262_400}, "a datetime or an ISO 8601 string", id="seconds"),
        pytest.param({"end": "9999-12-31T23:00-05:00"}, "beyond the calendar", id="overflow"),
        pytest.param(
            {"start": MIDNIGHT, "end": MIDNIGHT},
            r"start \(2026-11-21T00:00:00Z\) must be before end \(2026-11-21T00:00:00Z\)",
            id="nothing between",
        ),
        pytest.param({"subject": ""}, "subject takes non-empty strings, got ''", id="nobody"),
        pytest.param({"subject": []}, "subject is an empty list", id="no subjects"),
        pytest.param({"subject": [42]}, "subject takes non-empty strings, got 42", id="a number"),
        pytest.param({"subject": 42}, "subject takes non-empty strings, got 42", id="no text"),
        pytest.param(
            {"filters": {"model": None}}, "model takes one or several strings", id="no value"
        ),
        pytest.param({"filters": ["model"]}, r"filters has .*, got \['model'\]", id="no filters"),
        pytest.param({"group_by": ["model", ""]}, "group_by takes non-empty strings", id="no key"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(parameters, message):
    """The error names the parameter and what it may be."""
    with pytest.raises(QueryError, match=message) as caught:
        usage_query(**parameters)

    assert isinstance(caught.value, MeteringError)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("window", "start", "end"),
    [
        ("MINUTE", "2026-12-31T23:59", "2027-01-01T00:00"),
        ("HOUR", "2026-12-31T23:00", "2027-01-01T00:00"),
        ("DAY", "2026-12-31", "2027-01-01"),
        ("MONTH", "2026-12-01", "2027-01-01"),
        ("MONTH", "2026-11-01", "2026-12-01"),
        ("MONTH", "2028-02-01", "2028-03-01"),
    ],
)
def test_windows_end_where_the_next_begins(window, start, end):
    """Months have different lengths, and years end."""
    first, last = (datetime.fromisoformat(text).replace(tzinfo=UTC) for text in (start, end))

    assert window_bounds(first, window) == (first, last)
    assert window_bounds(last - timedelta(microseconds=1), window) == (first, last)


@pytest.fixture
def report() -> UsageReport:
    """Two rows."""
    query = usage_query(
        window="HOUR",
        start=MIDNIGHT,
        end=MIDNIGHT + timedelta(days=1),
        group_by=["subject", "model"],
    )
    hour = timedelta(hours=1)
    rows = [
        UsageRow(
            value=value,
            window_start=MIDNIGHT,
            window_end=MIDNIGHT + hour,
            subject="customer-42",
            group_by={"model": model},
        )
        for value, model in [(100, None), (20, "gpt-5-mini")]
    ]
    return UsageReport(query=query, rows=tuple(rows))


def test_a_report_is_its_rows(report):
    """It is iterated, counted and summed."""
    assert [row.value for row in report] == [100, 20]
    assert len(report) == 2
    assert report.total == 120
    assert repr(report) == "<UsageReport tokens_total rows=2 total=120>"


def test_a_report_is_openmeters_meter_query_result(report):
    """The same JSON that a client of OpenMeter reads."""
    assert json.loads(report.to_json()) == report.to_dict()
    assert report.to_dict() == {
        "from": "2026-11-21T00:00:00Z",
        "to": "2026-11-22T00:00:00Z",
        "windowSize": "HOUR",
        "data": [
            {
                "value": 100,
                "windowStart": "2026-11-21T00:00:00Z",
                "windowEnd": "2026-11-21T01:00:00Z",
                "subject": "customer-42",
                "groupBy": {"model": None},
            },
            {
                "value": 20,
                "windowStart": "2026-11-21T00:00:00Z",
                "windowEnd": "2026-11-21T01:00:00Z",
                "subject": "customer-42",
                "groupBy": {"model": "gpt-5-mini"},
            },
        ],
    }


def test_what_was_not_asked_is_absent():
    """OpenMeter's document has no null for it."""
    assert UsageReport(query=usage_query()).to_dict() == {"data": []}


def test_openmeters_own_schema_agrees(report):
    """Checked where the environment variable names OpenMeter's API document."""
    spec = spec_path()
    if spec is not None:
        schema = openmeter_schema(spec, "MeterQueryResult")
        for each in (report, UsageReport(query=usage_query())):
            jsonschema.Draft202012Validator(schema).validate(each.to_dict())


def test_every_meter_counts_something_an_event_has():
    """A property that no event carries would be a meter that always says 0."""
    usage = TokenUsage(
        input_tokens=100, output_tokens=20, cache_read_input_tokens=64, reasoning_output_tokens=7
    )
    known = make_event(usage=usage).data()

    assert {meter.value_property.removeprefix("$.") for meter in METERS.values()} <= set(known)
