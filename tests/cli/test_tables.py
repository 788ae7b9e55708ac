"""What people see of usage."""

from dataclasses import replace

import pytest
from rich.console import Group

from llm_metering.cli.tally import Line
from llm_metering.cli.usage.asking import Question
from llm_metering.cli.usage.tables import UsageTable
from llm_metering.meters import METERS, MeterDefinition, UsageReport

from .conftest import NOON
from .test_render import draw

AVERAGE = MeterDefinition(slug="waiting", aggregation="AVG", value_property="$.duration_ms")
OTHER = MeterDefinition(slug="images", event_type="image", aggregation="COUNT")
METERS = {**METERS, "waiting": AVERAGE, "images": OTHER}
QUESTION = Question(meters=METERS, filters={}, asked_at=NOON)
TABLE = UsageTable(
    question=QUESTION,
    columns={"tokens_input": "input", "calls_total": "calls"},
    keys=("subject", "model"),
)
LINE = Line(NOON, ("acme", None), {"tokens_input": 1234567, "calls_total": 2})


def drawn(table, *lines, remarks=()):
    """The lines of a table on paper."""
    return draw(Group(*table.view([], lines, remarks))).splitlines()


@pytest.mark.parametrize(
    ("window", "zone", "shown"),
    [
        ("MINUTE", "UTC", "2026-11-21 12:00 "),
        ("HOUR", "Asia/Tokyo", "2026-11-21 21:00 "),
        ("DAY", "Pacific/Kiritimati", "2026-11-22 "),
        ("MONTH", "UTC", "2026-11 "),
    ],
)
def test_usage_with_windows(window, zone, shown):
    """Windows are named by their start in the zone, as exactly as their size asks for."""
    table = replace(TABLE, window=window, question=replace(QUESTION, time_zone=zone))

    head, _, first, _, total, _, note = drawn(table, LINE, remarks=["x"])

    assert head.startswith(f"{window.lower()} ({zone}) ")
    assert first.startswith(shown)
    assert first.split()[-4:] == ["acme", "-", "1,234,567", "2"]
    assert total.split() == ["total", "1,234,567", "2"]
    assert note == "note: x"


def test_numbers_for_people():
    """Short numbers stand above the exact sums."""
    shown = drawn(replace(TABLE, human=True), replace(LINE, window_start=None))

    assert shown[2].split() == ["acme", "-", "1.23", "M", "2"]
    assert shown[-1] == "exactly: input 1,234,567, calls 2"


def test_averages_have_no_sum():
    """What does not add up has no line of sums."""
    table = replace(TABLE, columns={"waiting": "waiting"}, human=True)

    assert [line.split() for line in drawn(table, Line(None, ("acme", "m"), {"waiting": 0.5}))] == [
        ["subject", "model", "waiting"],
        ["─" * 23],
        ["acme", "m", "0.5"],
    ]


def test_notes_are_about_calls():
    """Below a meter of another type of event nothing is said about calls, nor asked."""
    assert [query.meter.slug for query in TABLE.queries()] == [
        *("tokens_input", "calls_total"),
        *("calls_total", "calls_total"),
    ]
    images = replace(TABLE, columns={"images": "images"})
    (query,) = images.queries()
    assert query.meter is OTHER
    assert images.remarks([UsageReport(query=query)], []) == []
