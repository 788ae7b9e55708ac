"""The ledger as a reader: rollups, events and a plain sum in Python say the same."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.errors import QueryError
from llm_metering.events import UsageEvent
from llm_metering.ledger import Ledger
from llm_metering.ledger._queries import answer, tables
from llm_metering.meters import (
    METERS,
    UsageQuery,
    UsageReport,
    UsageRow,
    usage_query,
    window_bounds,
)
from llm_metering.sinks import Envelope
from llm_metering.token_usage import TokenUsage
from tests.factories import NOON, batch_of, envelope_of, make_event

NEW_YEAR = datetime(2027, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def ledger(tmp_path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        yield ledger


def fill(ledger: Ledger, *events: UsageEvent) -> None:
    assert len(ledger.deliver(batch_of(events)).accepted) == len(events)


def test_all_usage_of_all_time(ledger):
    """Without a period: from the minute of the first event to the end of that of the last."""
    fill(
        ledger,
        make_event(time=NOON + timedelta(seconds=59), subject="a"),
        make_event(time=NOON + HOUR + timedelta(seconds=59), subject="b"),
    )

    assert ledger.query(usage_query()).rows == (
        UsageRow(value=240, window_start=NOON, window_end=NOON + HOUR + MINUTE),
    )


def test_a_period_is_half_open(ledger):
    """The first moment counts, the last does not; the row says the period that was asked for."""
    fill(ledger, *(make_event(time=NOON + n * HOUR) for n in range(3)))

    for end in (NOON + 2 * HOUR, NOON + 2 * HOUR - timedelta(microseconds=1)):
        assert ledger.query(usage_query(start=NOON + HOUR, end=end)).rows == (
            UsageRow(value=120, window_start=NOON + HOUR, window_end=end),
        )


@pytest.mark.parametrize(
    ("window", "starts"),
    [
        ("MINUTE", [NEW_YEAR - MINUTE, NEW_YEAR, NEW_YEAR + 31 * DAY]),
        ("HOUR", [NEW_YEAR - HOUR, NEW_YEAR, NEW_YEAR + 31 * DAY]),
        ("DAY", [NEW_YEAR - DAY, NEW_YEAR, NEW_YEAR + 31 * DAY]),
        ("MONTH", [NEW_YEAR - 31 * DAY, NEW_YEAR, NEW_YEAR + 31 * DAY]),
    ],
)
def test_windows(ledger, window, starts):
    """One row per window that had an event, in order; those without have none."""
    moment = timedelta(microseconds=1000)
    fill(
        ledger,
        make_event(time=NEW_YEAR - moment),
        make_event(time=NEW_YEAR),
        make_event(time=NEW_YEAR + moment),
        make_event(time=NEW_YEAR + 31 * DAY),
    )

    rows = ledger.query(usage_query(window=window)).rows

    assert [row.window_start for row in rows] == starts
    assert [(row.window_start, row.window_end) for row in rows] == [
        window_bounds(start, window) for start in starts
    ]
    assert [row.value for row in rows] == [120, 240, 120]


def test_subjects_are_told_apart_where_they_were_named(ledger):
    """As a filter of one or several, and as a key of `group_by`; never inside `group_by`."""
    fill(ledger, *(make_event(subject=subject) for subject in ("a", "b", "b", "c")))

    def usage(**question: Any) -> list[tuple[str | None, int]]:
        report = ledger.query(usage_query(**question))
        assert all(row.group_by == {} for row in report)
        return [(row.subject, row.value) for row in report]

    assert usage() == [(None, 480)]
    assert usage(subject="b") == [("b", 240)]
    assert usage(subject=["c", "b", "nobody"]) == [("b", 240), ("c", 120)]
    assert usage(group_by="subject") == [("a", 120), ("b", 240), ("c", 120)]


def test_every_meter(ledger):
    """Each sums its own count."""
    usage = TokenUsage(
        input_tokens=100, output_tokens=20, cache_read_input_tokens=64, reasoning_output_tokens=7
    )
    fill(ledger, make_event(usage=usage), make_event(usage=None))

    assert {slug: ledger.query(usage_query(slug)).total for slug in METERS} == {
        "tokens_total": 120,
        "tokens_input": 100,
        "tokens_output": 20,
        "tokens_cached": 64,
        "tokens_reasoning": 7,
        "calls_total": 2,
    }


def test_what_nobody_knows_has_no_row(ledger):
    """As on OpenMeter: nothing is not 0. The calls are seen, and an explicit 0 is a value."""
    fill(ledger, make_event(usage=None), make_event())

    rows = ledger.query(usage_query(group_by="provenance")).rows

    assert [(row.group_by, row.value) for row in rows] == [
        ({"provenance": "missing"}, 0),
        ({"provenance": "reported"}, 120),
    ]


def test_other_events_are_not_metered(ledger):
    """A meter looks at one type only."""
    fill(ledger, make_event(type="llm.refund"), make_event())

    assert ledger.query(usage_query()).total == 120


@pytest.mark.parametrize(
    ("written", "group"),
    [
        pytest.param('"search"', "search", id="text"),
        pytest.param('"Zoë \\u00e9"', "Zoë é", id="letters"),
        pytest.param('""', "", id="an empty text"),
        pytest.param("1", "1", id="a number"),
        pytest.param("1.5", "1.5", id="a fraction"),
        pytest.param("true", "true", id="true"),
        pytest.param("false", "false", id="false"),
        pytest.param("null", None, id="null"),
        pytest.param('{"a":[1]}', '{"a":[1]}', id="an object"),
    ],
)
def test_any_key_of_data_groups(ledger, written, group):
    """As text, and apart from the events that lack it."""
    payload = envelope_of(make_event(id="with")).payload
    payload = payload.replace(b'"calls":1', f'"calls":1,"feature":{written}'.encode())
    ledger.deliver([Envelope("with", payload)])
    fill(ledger, make_event(model="lacks it"))

    rows = ledger.query(usage_query(group_by=["model", "feature"])).rows

    assert [row.group_by for row in rows] == [
        {"model": "gpt-5-mini", "feature": group},
        {"model": "lacks it", "feature": None},
    ]


@pytest.mark.parametrize("key", ["x'); DROP TABLE events --", "a.b", "a[0]", "*", "Zoë", "id", " "])
def test_a_key_is_never_sql_nor_a_path(ledger, key):
    """It is the name of a key, whatever it looks like."""
    fill(ledger, make_event(dimensions={key: "found"}))

    assert [row.group_by for row in ledger.query(usage_query(group_by=key))] == [{key: "found"}]


@pytest.mark.parametrize("key", ['a"b', "a\\b", "a\nb"])
def test_a_key_no_path_can_hold_is_refused(ledger, key):
    """SQLite's paths cannot quote it in all versions."""
    fill(ledger, make_event(dimensions={key: "lost"}))

    with pytest.raises(QueryError, match=r"group_by: .* has a quote, a backslash or a control"):
        ledger.query(usage_query(group_by=key))


def test_an_event_that_sqlite_cannot_read_keeps_no_question_from_its_answer(ledger, tmp_path):
    """SQLite takes less nesting than Python does; such a payload has no keys for it."""
    fill(ledger, make_event(dimensions={"feature": "search"}))
    ledger.close()
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        connection.execute("UPDATE events SET payload = '[' || payload")
        connection.commit()

    assert ledger.query(usage_query(group_by="feature")).rows[0].group_by == {"feature": None}


def sources(query: UsageQuery) -> list[int]:
    """Grains in seconds of the tables that a question can be answered from."""
    return [table.grain // 1_000_000 for table in tables(query)]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        pytest.param({}, [86400, 900, 0], id="everything"),
        pytest.param({"window": "MONTH", "group_by": "model"}, [86400, 900, 0], id="months"),
        pytest.param({"window": "HOUR"}, [900, 0], id="hours"),
        pytest.param({"window": "MINUTE"}, [0], id="minutes"),
        pytest.param({"start": NEW_YEAR, "end": NEW_YEAR + DAY}, [86400, 900, 0], id="a day"),
        pytest.param({"start": NOON, "window": "DAY"}, [900, 0], id="from noon"),
        pytest.param({"start": NOON + MINUTE}, [0], id="from a minute"),
        pytest.param({"end": NOON + timedelta(microseconds=1)}, [0], id="to a moment"),
        pytest.param({"group_by": ["model", "feature"]}, [0], id="by a dimension"),
        pytest.param({"group_by": "operation"}, [0], id="by what is not rolled up"),
    ],
)
def test_rollups_answer_what_they_can(question, expected):
    """The coarsest that fits comes first; events answer everything."""
    assert sources(usage_query(**question)) == expected


counts = st.none() | st.integers(0, 1000)
usages = st.none() | st.builds(
    TokenUsage,
    input_tokens=counts,
    output_tokens=counts,
)
steps = st.sampled_from([MINUTE, 15 * MINUTE, HOUR, DAY, 28 * DAY, timedelta(microseconds=1000)])
moments = st.builds(
    lambda step, times, off: NEW_YEAR + step * times + off,
    steps,
    st.integers(-3, 3),
    st.sampled_from([timedelta(0), timedelta(0), timedelta(milliseconds=1), -MINUTE]),
)
events = st.builds(
    make_event,
    time=moments,
    usage=usages,
    subject=st.sampled_from(["a", "b", "Zoë"]),
    model=st.sampled_from([None, "m", "n"]),
    provider=st.sampled_from([None, "openai"]),
    status=st.sampled_from(["completed", "aborted"]),
    type=st.sampled_from(["llm.usage", "llm.usage", "other"]),
    dimensions=st.sampled_from([{}, {"feature": "search"}, {"feature": ""}]),
)
KEYS = ["subject", "model", "provider", "provenance", "status", "feature", "framework"]


@st.composite
def questions(draw: st.DrawFn) -> UsageQuery:
    start, end = draw(st.none() | moments), draw(st.none() | moments)
    if start and end and start >= end:
        start, end = (end, start) if end < start else (None, end)
    return usage_query(
        draw(st.sampled_from(list(METERS))),
        subject=draw(st.none() | st.sampled_from(["a", ["b", "nobody"]])),
        window=draw(st.sampled_from([None, "MINUTE", "HOUR", "DAY", "MONTH"])),
        start=start,
        end=end,
        group_by=draw(st.lists(st.sampled_from(KEYS), max_size=3)),
    )


def floor(moment: datetime, window: str) -> datetime:
    """When the window of `moment` starts, said in another way than the ledger does."""
    fields = {"second": 0, "microsecond": 0}
    if window != "MINUTE":
        fields["minute"] = 0
    if window in ("DAY", "MONTH"):
        fields["hour"] = 0
    if window == "MONTH":
        fields["day"] = 1
    return moment.replace(**fields)


def add_up(delivered: list[UsageEvent], query: UsageQuery) -> list[UsageRow]:
    """The answer, worked out event by event."""
    groups: dict[tuple[Any, ...], list[UsageEvent]] = defaultdict(list)
    keys = [key for key in query.group_by if key != "subject"]
    for event in {event.id: event for event in reversed(delivered)}.values():
        values = event.data()
        if (
            event.type == query.meter.event_type
            and (query.subjects is None or event.subject in query.subjects)
            and (query.start is None or query.start <= event.time)
            and (query.end is None or event.time < query.end)
        ):
            window = floor(event.time, query.window) if query.window else None
            subject = event.subject if query.by_subject else None
            groups[window, subject, *(values.get(key) for key in keys)].append(event)
    rows = []
    for (window, subject, *values), members in groups.items():
        first, last = (pick(event.time for event in members) for pick in (min, max))
        name = query.meter.value_property.removeprefix("$.")
        rows.append(
            UsageRow(
                value=sum(event.data().get(name, 0) for event in members),
                window_start=window or query.start or floor(first, "MINUTE"),
                window_end=(
                    window_bounds(window, query.window)[1]
                    if window and query.window
                    else query.end or floor(last, "MINUTE") + MINUTE
                ),
                subject=subject,
                group_by=dict(zip(keys, values, strict=True)),
            )
        )
    return rows


def order(row: UsageRow) -> tuple[Any, ...]:
    texts = [row.subject, *row.group_by.values()]
    return row.window_start, row.window_end, [(text is not None, text or "") for text in texts]


@settings(max_examples=150, deadline=None)
@given(
    delivered=st.lists(events, max_size=25),
    again=st.data(),
    asked=st.lists(questions(), min_size=1, max_size=8),
)
def test_every_way_to_an_answer_gives_the_same(delivered, again, asked):
    """Day rollups, quarter-hour rollups, events and a plain sum agree, redelivery or not."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Ledger(Path(folder) / "ledger.db")) as ledger,
    ):
        ledger.deliver(batch_of(delivered))
        if delivered:
            ledger.deliver(batch_of(again.draw(st.lists(st.sampled_from(delivered), max_size=5))))
        for query in asked:
            expected = sorted(add_up(delivered, query), key=order)
            assert sorted(ledger.query(query), key=order) == expected
            with ledger._handle.reading() as connection:
                for table in tables(query) if connection else ():
                    assert sorted(answer(connection, query, table), key=order) == expected


def test_rows_come_in_order(ledger):
    """By time, then subject, then group; what has no value first."""
    fill(
        ledger,
        *(
            make_event(time=NOON + hour, subject=subject, model=model)
            for hour in (HOUR, timedelta(0))
            for subject in ("b", "a")
            for model in ("m", None)
        ),
    )

    report: UsageReport = ledger.query(usage_query(window="HOUR", group_by=["subject", "model"]))

    assert list(report.rows) == sorted(report.rows, key=order)
    assert len(report) == 8
