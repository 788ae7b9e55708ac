"""The ledger as a reader, by example: windows, groups, what is read for an answer, what is refused."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from llm_metering.errors import QueryError
from llm_metering.events import UsageEvent
from llm_metering.ledger import Ledger, _folding
from llm_metering.ledger._files import open_for_reading
from llm_metering.ledger._queries import answer
from llm_metering.meters import (
    METERS,
    MeterDefinition,
    UsageReport,
    UsageRow,
    usage_query,
    window_bounds,
)
from llm_metering.sinks import Envelope
from llm_metering.token_usage import TokenUsage
from tests.factories import NOON, batch_of, envelope_of, make_event
from tests.ledger.plain_answers import order

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


def test_what_nobody_knows_has_no_row(ledger, monkeypatch):
    """As on OpenMeter: nothing is not 0, neither before nor after a fold. An explicit 0 is a value."""
    nothing = TokenUsage(input_tokens=0, output_tokens=0)
    fill(ledger, make_event(usage=None), make_event(), make_event(usage=nothing, model="free"))

    for _ in range(2):
        rows = ledger.query(usage_query(group_by=["model", "provenance"])).rows

        assert [(*row.group_by.values(), row.value) for row in rows] == [
            ("free", "reported", 0),
            ("gpt-5-mini", "reported", 120),
        ]
        assert ledger.query(usage_query("calls_total")).total == 3
        monkeypatch.setattr(_folding, "FOLD_AT", 1)
        fill(ledger, make_event(usage=None, type="other"))


def test_other_events_are_not_metered(ledger):
    """A meter looks at one type only."""
    fill(ledger, make_event(type="llm.refund"), make_event())

    assert ledger.query(usage_query()).total == 120


@pytest.mark.parametrize(
    ("written", "group"),
    [
        pytest.param('"search"', "search", id="text"),
        pytest.param('"Zoë \\u00e9"', "Zoë é", id="letters"),
        pytest.param('""', None, id="an empty text"),
        pytest.param("1", "1", id="a number"),
        pytest.param("1.50", "1.5", id="a fraction"),
        pytest.param("2.0", "2", id="a whole fraction"),
        pytest.param("0.30000000000000004", "0.30000000000000004", id="a long fraction"),
        pytest.param("18446744073709551616", "18446744073709551616", id="a number of 65 bits"),
        pytest.param("true", "true", id="true"),
        pytest.param("false", "false", id="false"),
        pytest.param("null", "null", id="null"),
        pytest.param('{"a":[1]}', None, id="an object"),
        pytest.param("[1]", None, id="an array"),
    ],
)
def test_any_key_of_data_groups(ledger, written, group):
    """As the text of a scalar; what is empty or no scalar is lacking."""
    payload = envelope_of(make_event(id="with")).payload
    payload = payload.replace(b'"calls":1', f'"calls":1,"feature":{written}'.encode())
    ledger.deliver([Envelope("with", payload)])
    fill(ledger, make_event(model="lacks it"))

    rows = ledger.query(usage_query(group_by=["model", "feature"])).rows

    assert [row.group_by for row in rows] == [
        {"model": "gpt-5-mini", "feature": group},
        {"model": "lacks it", "feature": None},
    ]


@pytest.mark.parametrize("key", ["x); DROP TABLE events --", "a.b", "a[0]", "*", "Zoë", "id", " "])
def test_a_key_is_never_sql_nor_a_path(ledger, key):
    """It is the name of a key, whatever it looks like."""
    fill(ledger, make_event(dimensions={key: "found"}))

    assert [row.group_by for row in ledger.query(usage_query(group_by=key))] == [{key: "found"}]


@pytest.mark.parametrize("key", ['a"b', "a'b", "a\\b", "a\nb"])
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


def tables_of(ledger: Ledger, **question: Any) -> set[str]:
    """The tables that an answer was read from."""
    seen: set[str] = set()

    def note(action: int, table: str | None, *_: object) -> int:
        if action == sqlite3.SQLITE_READ and table:
            seen.add(table)
        return sqlite3.SQLITE_OK

    with closing(open_for_reading(ledger.path)) as connection:
        connection.set_authorizer(note)
        answer(connection, usage_query(**question))
    return seen & {
        *("kind_days", "kind_quarters", "subject_days", "days", "quarters", "places", "events")
    }


OWN = {"value_property": "$.cache_creation_input_tokens", "group_by": {"m": "$['model']"}}
BERLIN = {"time_zone": "Europe/Berlin"}


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        pytest.param({}, {"kind_days"}, id="everything"),
        pytest.param({"window": "MONTH", "group_by": "model"}, {"kind_days"}, id="months"),
        pytest.param({"start": NEW_YEAR, "end": NEW_YEAR + DAY}, {"kind_days"}, id="a day"),
        pytest.param({"window": "DAY", "group_by": "subject"}, {"subject_days"}, id="of all"),
        pytest.param(
            {"window": "DAY", "group_by": ["subject", "model"]},
            {"subject_days", "days"},
            id="of all by model",
        ),
        pytest.param({"window": "DAY", "subject": "a"}, {"days"}, id="of one"),
        pytest.param({"filters": {"status": "completed"}}, {"kind_days"}, id="filtered"),
        pytest.param({"window": "HOUR", "subject": "a"}, {"quarters"}, id="hours of one"),
        pytest.param({"window": "HOUR"}, {"kind_quarters"}, id="hours"),
        pytest.param(
            {"window": "HOUR", "group_by": "subject"},
            {"subject_days", "quarters"},
            id="hours of all",
        ),
        pytest.param({"start": NOON}, {"kind_days", "kind_quarters"}, id="from noon, then by day"),
        pytest.param(
            {"window": "MONTH", "subject": "a", **BERLIN},
            {"kind_days", "days", "quarters"},  # the first for the days on which anything was
            id="months there",
        ),
        pytest.param(
            {"window": "DAY", "subject": "a", **BERLIN}, {"kind_days", "quarters"}, id="days there"
        ),
        pytest.param(
            {"window": "DAY", "time_zone": "Africa/Abidjan"}, {"kind_days"}, id="days as in UTC"
        ),
        pytest.param(
            {"meter": MeterDefinition(slug="own", **OWN), "group_by": "m", "filters": {"m": "x"}},
            {"kind_days"},
            id="an own sum",
        ),
        pytest.param(
            {"meter": MeterDefinition(slug="own", aggregation="COUNT", estimates=False)},
            {"kind_days"},
            id="an own count without estimates",
        ),
        pytest.param({"window": "MINUTE"}, {"events"}, id="minutes"),
        pytest.param(
            {"window": "MINUTE", "subject": "a"}, {"places", "events"}, id="minutes of one"
        ),
        pytest.param({"start": NOON + MINUTE}, {"events"}, id="from a minute"),
        pytest.param({"end": NOON + timedelta(microseconds=1)}, {"events"}, id="to a moment"),
        pytest.param({"group_by": ["model", "feature"]}, {"events"}, id="by a dimension"),
        pytest.param({"filters": {"framework": "langchain"}}, {"events"}, id="by a mere column"),
        pytest.param(
            {"meter": MeterDefinition(slug="own", aggregation="MAX", **OWN)},
            {"events"},
            id="another aggregation",
        ),
    ],
)
def test_rollups_answer_what_they_can(ledger, question, expected):
    """The tables with the fewest rows that fit; events answer everything else."""
    fill(ledger, make_event(), make_event(time=NEW_YEAR))

    assert tables_of(ledger, **question) - {"kinds"} == expected


def steps_of(ledger: Ledger, **question: Any) -> int:
    """How much of SQLite's work an answer takes."""
    count = 0

    def step() -> None:
        nonlocal count
        count += 1

    with closing(open_for_reading(ledger.path)) as connection:
        connection.set_progress_handler(step, 10)
        answer(connection, usage_query(**question))
    return count


@pytest.mark.parametrize(
    "question",
    [
        pytest.param({"subject": "a", "window": "HOUR"}, id="rollups of one"),
        pytest.param({"subject": "a", "group_by": "feature"}, id="events of one"),
        pytest.param(
            {"start": NOON, "end": NOON + DAY, "group_by": "feature"}, id="events of a day"
        ),
        pytest.param({"start": NOON, "end": NOON + HOUR}, id="rollups of an hour"),
    ],
)
def test_a_question_reads_what_it_is_about(ledger, monkeypatch, question):
    """Ten times as many events of others, at other times, make no more work."""
    monkeypatch.setattr(_folding, "FOLD_AT", 20)
    fill(ledger, *(make_event(subject="a") for _ in range(20)))
    steps = []
    for count in (20, 180):
        fill(ledger, *(make_event(time=NOON + 2 * DAY, subject="b") for _ in range(count)))
        # A fold of what two batches left at most stands behind each.
        for _ in range(10):
            fill(ledger, make_event(time=NOON + 2 * DAY, subject="b"))
        steps.append(steps_of(ledger, **question))

    assert steps[1] < 1.5 * steps[0]


OF_BODIES = {"group_by": "feature"}
OF_COLUMNS = {"group_by": "framework", "window": "MINUTE"}


def test_pruned_bodies_are_never_missing_from_an_answer(ledger, tmp_path):
    """What needs them is refused, with the moment from which on it can be asked."""
    dimensions = {"feature": "search"}
    fill(ledger, *(make_event(time=NOON + n * DAY, dimensions=dimensions) for n in range(2)))
    ledger.close()
    pruned = NOON + DAY
    with closing(sqlite3.connect(tmp_path / "ledger.db")) as connection:
        moment = int(pruned.timestamp()) * 1_000_000
        connection.execute("INSERT INTO meta VALUES ('pruned_before', ?)", (moment,))
        connection.execute("UPDATE events SET payload = '' WHERE time < ?", (moment,))
        connection.commit()

    assert ledger.query(usage_query()).total == 240
    assert ledger.query(usage_query(**OF_COLUMNS)).total == 240
    assert ledger.query(usage_query(start=pruned, **OF_BODIES)).total == 120
    for start in (None, pruned - timedelta(microseconds=1)):
        with pytest.raises(QueryError, match=r"before 2026-11-22T12:00:00Z were pruned.*ask from "):
            ledger.query(usage_query(start=start, **OF_BODIES))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([2**62, 2**62, 2**62], 3 * 2**62, id="beyond 64 bits"),
        pytest.param([2**53, 1], 2**53 + 1, id="beyond a float"),
        pytest.param([-5, 2], -3, id="below nothing"),
        pytest.param([1.5, 1.5], 3, id="fractions that make a whole"),
        pytest.param([2**53, 1, 0.5], 2**53 + 2, id="with a fraction"),
    ],
)
def test_sums_are_exact(ledger, values, expected):
    """Whole numbers add up as they do on paper, and are `int` again."""
    for number, value in enumerate(values):
        payload = envelope_of(make_event(id=f"{number}")).payload
        payload = payload.replace(b'"calls":1', f'"calls":1,"credits":{value}'.encode())
        ledger.deliver([Envelope(f"{number}", payload)])

    (row,) = ledger.query(usage_query(MeterDefinition(slug="c", value_property="$.credits")))

    assert (row.value, type(row.value)) == (expected, type(expected))


def test_a_number_too_large_is_no_value(ledger):
    """A float cannot hold it, written with an exponent or with all its digits."""
    for number, value in enumerate(["7", "1" + "0" * 400, "-1" + "0" * 400, "1e400"]):
        payload = envelope_of(make_event(id=f"{number}")).payload
        payload = payload.replace(b'"calls":1', f'"calls":1,"credits":{value}'.encode())
        ledger.deliver([Envelope(f"{number}", payload)])

    for aggregation in ("SUM", "AVG", "MIN", "MAX", "LATEST"):
        meter = MeterDefinition(slug="c", aggregation=aggregation, value_property="$.credits")

        assert [row.value for row in ledger.query(usage_query(meter))] == [7]


@pytest.mark.parametrize(
    ("written", "key"),
    [
        pytest.param(r"caf\u00e9", "café", id="no ASCII"),
        pytest.param(r"\ud83d\ude00", "😀", id="a pair"),
        pytest.param(r"a\/b", "a/b", id="slash"),
        pytest.param(r"a\u003cb", "a<b", id="as in HTML"),
    ],
)
def test_a_key_is_found_however_it_is_written(ledger, written, key):
    """Encoders of JSON write some signs as escapes, each in its own way."""
    payload = envelope_of(make_event(id="1")).payload
    added = rf'"calls":1,"{written}":"x\\\\u00e9\"\n","more":{{"{written}":7}}'
    ledger.deliver([Envelope("1", payload.replace(b'"calls":1', added.encode()))])
    meter = MeterDefinition(slug="c", value_property=f"$.more['{key}']")

    (row,) = ledger.query(usage_query(meter, group_by=key))

    assert (row.value, row.group_by) == (7, {key: 'x\\\\u00e9"\n'})


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


def test_rows_of_no_window_come_by_their_first_event(ledger):
    """Without a start each group has its own, and that is what they are ordered by."""
    fill(ledger, make_event(time=NOON + HOUR, subject="a"), make_event(subject="b"))

    assert [row.subject for row in ledger.query(usage_query(group_by="subject"))] == ["b", "a"]
