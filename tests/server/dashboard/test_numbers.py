"""What a page makes of reports and of what is counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from llm_metering.ledger import ListedEvent
from llm_metering.meters import UsageReport, UsageRow, usage_query
from llm_metering.server.dashboard.event_lines import line_of
from llm_metering.server.dashboard.forms import local_path
from llm_metering.server.dashboard.health import findings, worst
from llm_metering.server.dashboard.shares import shares_of
from llm_metering.server.dashboard.tops import top_of
from llm_metering.server.dashboard.words import Words

START, END = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
WORDS = Words.for_header("en")


def report(values, key="model", meter="tokens_total", currency=None):
    """A report by a key."""
    return UsageReport(
        query=usage_query(meter, group_by=key),
        rows=tuple(
            UsageRow(
                value=value,
                window_start=START,
                window_end=END,
                subject=name if key == "subject" else None,
                group_by={} if key == "subject" else {key: name},
            )
            for name, value in values.items()
        ),
        currency=currency,
    )


def test_the_largest_come_first_and_the_others_are_one():
    """Nothing is missing from the sum."""
    top = top_of(report({"a": 1, "b": 50, None: 30, "c": 19}), "model", 2)
    assert [(each.name, each.value, each.share, each.length) for each in top.places] == [
        ("b", 50, 0.5, 100.0),
        (None, 30, 0.3, 60.0),
    ]
    assert (top.others, top.rest, top.rest_share) == (2, 20, 0.2)


def test_subjects_are_ranked_as_other_keys_are():
    """And amounts of money as counts are."""
    found = report({"x": Decimal("0.25"), "y": Decimal("0.75")}, "subject", "cost_total", "USD")
    top = top_of(found, "subject")
    assert [(each.name, each.share) for each in top.places] == [("y", 0.75), ("x", 0.25)]
    assert top_of(report({}), "model").places == ()
    assert top_of(report({"a": 0}), "model").places[0].share is None


def test_each_part_of_the_calls_is_shown():
    """Also what the events do not say, and of which nothing is known."""
    shares = shares_of(
        report({"reported": 6, "missing": 2, None: 2}, "provenance", "calls_total"),
        report({"reported": 90, None: 10}, "provenance"),
    )
    shown = {each.kind: (each.calls, each.share, each.token_share) for each in shares.parts}
    assert shown == {
        "reported": (6, 0.6, 0.9),
        "partial": (0, 0.0, 0.0),
        "estimated": (0, 0.0, 0.0),
        "missing": (2, 0.2, 0.0),
        "other": (2, 0.2, 0.1),
    }
    assert sum(each.percent for each in shares.parts) == pytest.approx(100)
    nothing = shares_of(report({}, "provenance"), report({}, "provenance"))
    assert {each.share for each in nothing.parts} == {None}


def statistics(*, sinks=(), **changes):
    """What `status` says of a home in which all is well, but for the changes."""
    return {
        "recorded": 10,
        "dropped": {"disk_full": 0},
        "open_calls": 0,
        "failures": 0,
        "flags": {"subject_conflict": 0, "unattributed": 0},
        "damage": {"torn_bytes": 0, "corrupt_bytes": 0},
        "late_usage": {"calls": 0, "input_tokens": 0, "output_tokens": 0},
        "sinks": [sink(**each) for each in sinks],
    } | changes


def sink(**changes):
    """A sink that has all it is owed, but for the changes."""
    return {
        "name": "openmeter",
        "state": "ok",
        "reason": None,
        "recorded": 10,
        "acked": 10,
        "pending": 0,
        "dead": 0,
        "dropped": 0,
        "suspect": 0,
        "oldest_pending_seconds": None,
    } | changes


@pytest.mark.parametrize(
    ("told", "level", "words"),
    [
        ({}, "good", None),
        ({"sinks": [{}]}, "good", None),
        ({"sinks": [{"acked": 9, "pending": 1, "oldest_pending_seconds": 5.0}]}, "good", None),
        ({"damage": {"torn_bytes": 12}}, "good", None),
        ({"sinks": [{"acked": 9}]}, "bad", "do not add up"),
        ({"sinks": [{"acked": 11, "pending": -1}]}, "bad", "do not add up"),
        ({"sinks": [{"state": "paused", "reason": "401"}]}, "bad", "paused: 401"),
        ({"sinks": [{"state": "backoff", "reason": "503"}]}, "notice", "again: 503"),
        ({"sinks": [{"acked": 8, "dead": 2}]}, "bad", "refused 2 events for good"),
        ({"sinks": [{"acked": 9, "dropped": 1}]}, "bad", "1 event never came"),
        ({"sinks": [{"suspect": 3}]}, "notice", "may have been taken"),
        (
            {"sinks": [{"acked": 9, "pending": 1, "oldest_pending_seconds": 7200.0}]},
            "notice",
            "the oldest for 2 h",
        ),
        ({"dropped": {"disk_full": 4}}, "bad", "4 events could not be recorded"),
        ({"damage": {"corrupt_bytes": 1}}, "bad", "damaged"),
        ({"failures": 2}, "notice", "failed 2 times"),
        ({"flags": {"unattributed": 7}}, "notice", "pay for 7 calls"),
        (
            {"late_usage": {"calls": 1, "input_tokens": 5}},
            "notice",
            "usage of 1 calls came too late",
        ),
    ],
    ids=str,
)
def test_what_somebody_should_look_at_is_said(told, level, words):
    """And nothing where there is nothing."""
    found = findings(statistics(**told), WORDS)
    assert worst(found) == level
    assert [words in each.text for each in found] == ([True] if words else [])


def test_the_worst_comes_first():
    """Whatever else there is."""
    found = findings(statistics(failures=1, sinks=[{"acked": 8, "dead": 2}]), WORDS)
    assert [each.level for each in found] == ["bad", "notice"]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "text",
        {"model": 5, "total_tokens": "many", "input_tokens": True, "flags": "x"},
        {"model": None, "provenance": ["reported"], "status": {}, "flags": [1, None, {}]},
        {"flags": ["x"] * 1000},
    ],
    ids=lambda each: str(each)[:30],
)
def test_whatever_an_event_holds_it_is_shown(data):
    """Another program's events are no reason to show none."""
    payload = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "x"}
    line = line_of(
        ListedEvent(
            id="1",
            source="s",
            type="t",
            subject="x",
            time=START,
            arrived_at=None,
            payload=json.dumps({**payload, "data": data}).encode(),
        )
    )
    assert line.model is None
    assert line.total_tokens is line.input_tokens is None
    assert len(line.flags) <= 20
    assert all(isinstance(each, str) for each in line.flags)


def test_a_large_event_is_cut():
    """A page of fifty is to be read."""
    event = ListedEvent(
        id="1",
        source="s",
        type="t",
        subject="x",
        time=START,
        arrived_at=START,
        payload=b'{"data": {"model": "' + b"m" * 50_000 + b'"}}',
    )
    line = line_of(event)
    assert (len(line.text), line.is_cut) == (8000, True)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/costs?month=2026-11", "/costs?month=2026-11"),
        ("/", "/"),
        ("", "/"),
        ("costs", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/\t/evil.example", "/"),
        ("/a\r\nSet-Cookie: x=y", "/"),
    ],
)
def test_nobody_is_sent_elsewhere(text, path):
    """After signing in."""
    assert local_path(text) == path
