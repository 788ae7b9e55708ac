"""Several meters' answers in one table, and the notes below it."""

from dataclasses import replace

from llm_metering.cli.tally import (
    Line,
    call_notes,
    delivery_notes,
    key_notes,
    note_queries,
    tally,
    total_notes,
    totals,
)
from llm_metering.meters import UsageRow, usage_query

from .conftest import NOON


def row(value, *, subject=None, start=NOON, **group_by):
    """A row of a report."""
    return UsageRow(
        value=value, window_start=start, window_end=start, subject=subject, group_by=group_by
    )


def test_meters_stand_side_by_side():
    """Rows of one group become one line, in a stable order."""
    reports = {
        "tokens_total": [
            row(7, subject="b", model=None),
            row(5, subject="b", model="m"),
            row(3, subject="a", model="m"),
        ],
        "calls_total": [row(1, subject="b", model="m"), row(4, subject="a", model="m")],
    }

    lines = tally(reports, ("subject", "model"), windowed=False)

    assert lines == [
        Line(None, ("a", "m"), {"tokens_total": 3, "calls_total": 4}),
        Line(None, ("b", "m"), {"tokens_total": 5, "calls_total": 1}),
        Line(None, ("b", None), {"tokens_total": 7}),
    ]
    assert totals(lines) == {"tokens_total": 15, "calls_total": 5}


def test_what_nobody_knows_is_no_zero():
    """A meter without a row for a group knows nothing of it, which is not a 0."""
    reports = {
        "tokens_total": [row(5, subject="b"), row(0, subject="c")],
        "calls_total": [row(2, subject="a"), row(1, subject="b"), row(1, subject="c")],
    }

    lines = tally(reports, ("subject",), windowed=False)

    assert lines == [
        Line(None, ("a",), {"calls_total": 2}),
        Line(None, ("b",), {"tokens_total": 5, "calls_total": 1}),
        Line(None, ("c",), {"tokens_total": 0, "calls_total": 1}),
    ]
    assert totals(lines[:1]) == {"calls_total": 2}


def test_windows_come_first():
    """With windows the lines are in the order of time."""
    later = NOON.replace(hour=13)
    reports = {"calls_total": [row(1, start=later, model="a"), row(2, model="b")]}

    lines = tally(reports, ("model",), windowed=True)

    assert [(line.window_start, line.keys) for line in lines] == [(NOON, ("b",)), (later, ("a",))]


def test_doubtful_calls_are_named():
    """Estimated, partial, missing and unattributed calls are counted in a sentence each."""
    by_provenance = [
        row(92, provenance="reported"),
        row(1, provenance="estimated"),
        row(1200, provenance="missing"),
        row(3, provenance="partial"),
    ]

    notes = call_notes([by_provenance, [row(1202, subject="unattributed")]])

    assert [note.partition(":")[0] for note in notes] == [
        "1 call estimated",
        "3 calls partial",
        "1,200 calls missing",
        "1,202 calls without a subject",
    ]
    assert call_notes([by_provenance[:1], []]) == []
    assert call_notes([by_provenance[:1]]) == []
    assert call_notes([]) == []


def test_notes_are_asked_for_as_the_table_is():
    """The notes are about the same events; whoever chose other subjects hears of no unattributed calls."""
    question = usage_query(
        "calls_total", window="HOUR", group_by="model", start=NOON, filters={"model": "m"}
    )

    everybody, unattributed = note_queries(question)
    (chosen,) = note_queries(replace(question, subjects=("acme",)))

    whole = replace(question, window=None)
    assert everybody == replace(whole, group_by=("provenance",))
    assert unattributed == replace(whole, group_by=(), subjects=("unattributed",))
    assert chosen == replace(whole, group_by=("provenance",), subjects=("acme",))
    assert len(note_queries(replace(question, subjects=("acme", "unattributed")))) == 2


def test_a_total_that_is_not_its_parts_is_explained():
    """Where a call has output but no known input, the columns do not add up, and a note says why."""
    whole = {"tokens_input": 5, "tokens_output": 2, "tokens_total": 7}

    assert total_notes(whole) == []
    assert total_notes({}) == []
    assert total_notes({"tokens_total": 7}) == []
    assert len(total_notes({**whole, "tokens_output": 3})) == 1
    assert len(total_notes({"tokens_output": 3})) == 1


def test_undelivered_events_are_named():
    """What the ledger lacks is said; what another sink lacks is no matter here."""
    counts = {"pending": 2, "dead": 1, "dropped": 3}
    sinks = [{"url": "ledger:", **counts}, {"url": "openmeter+https://x", **counts}]

    notes = delivery_notes({"sinks": sinks})

    assert [note.partition(";")[0] for note in notes] == [
        "2 events recorded and not in the ledger yet",
        "1 event refused by the ledger",
        "3 events dropped before they reached the ledger",
    ]
    elsewhere = delivery_notes({"sinks": sinks[1:]}, url="openmeter+https://x", place="openmeter")
    assert elsewhere[0].startswith("2 events recorded and not in openmeter yet; ")


def test_a_key_that_no_event_has_is_said():
    """A misspelt key is no error, since dimensions have any name; a field may be unknown."""
    lines = [Line(None, (None, None, None)), Line(None, (None, "search", None))]

    (note,) = key_notes(lines, ("featrue", "feature", "model"))

    assert "'featrue'" in note
    assert key_notes([], ("featrue",)) == []
