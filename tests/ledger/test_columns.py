"""Columns beside a ledger: who makes and reads them, and that they never outlive what they hold."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from datetime import timedelta

import pytest

from llm_metering.errors import LedgerError
from llm_metering.ledger import Ledger, _columns, _folding, _from_columns
from llm_metering.meters import MeterDefinition, usage_query
from llm_metering.sinks.base import Envelope
from tests.factories import NOON, batch_of, make_event

BY_FEATURE = usage_query(group_by="feature")
EXPECTED = [("chat", 240), ("search", 240)]


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """A ledger of four events, of which three are folded one by one."""
    monkeypatch.setattr(_from_columns, "FEWEST", 0)
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        for number in range(4):
            monkeypatch.setattr(_folding, "FOLD_AT", 1 if number < 3 else 100)
            fill(ledger, number)
        yield ledger


def fill(ledger, number, **values):
    feature = ("search", "chat")[number % 2]
    ledger.deliver(batch_of([make_event(**{"dimensions": {"feature": feature}} | values)]))


def answer(ledger):
    return [(row.group_by["feature"], row.value) for row in ledger.query(BY_FEATURE)]


def files(ledger):
    folder = _columns.folder_of(ledger.path)
    return sorted(folder.iterdir()) if folder.exists() else []


def test_columns_are_made_once(ledger):
    """Of what is folded; the next question reads them, and only its maker's user may."""
    assert answer(ledger) == EXPECTED
    made = [(each, each.stat().st_mtime_ns) for each in files(ledger)]
    assert len(made) == 3
    assert answer(ledger) == EXPECTED
    assert [(each, each.stat().st_mtime_ns) for each in files(ledger)] == made
    assert {each.stat().st_mode & 0o777 for each, _ in made} == {0o600}
    assert _columns.folder_of(ledger.path).stat().st_mode & 0o777 == 0o700


def test_an_answer_is_read_from_columns(ledger):
    """Bodies of what is folded are not read again."""
    answer(ledger)
    with closing(sqlite3.connect(ledger.path)) as connection:
        connection.execute("UPDATE events SET payload = '' WHERE rowid <= 3")
        connection.commit()

    assert answer(ledger) == EXPECTED


def test_without_duckdb_sqlite_answers(ledger, monkeypatch):
    """The same, and nothing is made."""
    monkeypatch.setitem(sys.modules, "duckdb", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    assert answer(ledger) == EXPECTED
    assert files(ledger) == []


def test_few_events_need_no_columns(ledger, monkeypatch):
    """SQLite reads them as quickly."""
    monkeypatch.setattr(_from_columns, "FEWEST", 5)

    assert answer(ledger) == EXPECTED
    assert files(ledger) == []


def test_questions_share_the_work(ledger, monkeypatch):
    """Each makes some, and is answered by SQLite until all are there."""
    monkeypatch.setattr(_columns, "MOST_AT_ONCE", 1)

    for made in (1, 2, 3, 3):
        assert answer(ledger) == EXPECTED
        assert len(files(ledger)) == made


def zeros(content):
    """A page of it was never written, as after a loss of power."""
    return content[:4] + bytes(200) + content[204:]


@pytest.mark.parametrize(
    "spoil",
    [lambda content: b"", lambda content: content[: len(content) // 2], zeros],
    ids=["nothing", "a piece", "zeros"],
)
def test_a_file_that_was_cut_off_is_made_anew(ledger, spoil):
    """The question is answered all the same."""
    answer(ledger)
    file = files(ledger)[1]
    file.write_bytes(spoil(file.read_bytes()))

    for made in (0, 3):
        assert answer(ledger) == EXPECTED
        assert len(files(ledger)) == made


def test_a_folder_that_cannot_be_made_is_done_without(ledger):
    """As where the ledger may only be read."""
    _columns.folder_of(ledger.path).write_text("in the way")

    assert answer(ledger) == EXPECTED


def test_columns_of_another_ledger_are_not_read(ledger, tmp_path):
    """One that was deleted and made anew has other events in the same places."""
    answer(ledger)
    ledger.close()
    for each in tmp_path.glob("ledger.db*"):
        if each.is_file():
            each.unlink()
    with closing(Ledger(ledger.path)) as anew:
        for number in range(4):
            fill(anew, 2 * number)
            with closing(sqlite3.connect(ledger.path)) as connection:
                assert connection.execute("SELECT count(*) FROM spans").fetchone() == (0,)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_folding, "FOLD_AT", 1)
            fill(anew, 0)

        assert answer(anew) == [("search", 600)]


def test_columns_of_another_ledger_with_the_same_ids_are_not_read(tmp_path, monkeypatch):
    """As of one that was made anew from an export after somebody had corrected it."""
    monkeypatch.setattr(_from_columns, "FEWEST", 0)
    monkeypatch.setattr(_folding, "FOLD_AT", 1)
    for number, expected in ((0, "search"), (1, "chat")):
        for each in tmp_path.glob("ledger.db*"):
            if each.is_file():
                each.unlink()
        with closing(Ledger(tmp_path / "ledger.db")) as ledger:
            fill(ledger, number, id="the same")

            assert answer(ledger) == [(expected, 120)]


def test_columns_of_what_a_backup_does_not_have_are_not_read(ledger, monkeypatch):
    """What came after it is gone; what comes then, in the same places, may end with the same event."""
    monkeypatch.setattr(_folding, "FOLD_AT", 1)
    fill(ledger, 0)
    ledger.close()
    backup = ledger.path.read_bytes()
    monkeypatch.setattr(_folding, "FOLD_AT", 2)
    fill(ledger, 0)
    fill(ledger, 1, id="the last")
    assert answer(ledger) == [("chat", 360), ("search", 480)]
    ledger.close()
    ledger.path.write_bytes(backup)
    fill(ledger, 1)
    fill(ledger, 1, id="the last")

    assert answer(ledger) == [("chat", 480), ("search", 360)]


def test_a_prune_says_where_bodies_are_left(ledger):
    """Of what it cannot delete, such as a folder in the place of a file."""
    answer(ledger)
    (_columns.folder_of(ledger.path) / "a folder").mkdir()

    with pytest.raises(LedgerError, match=r"ledger\.db-columns may have some: .*; delete it"):
        ledger.prune(NOON + timedelta(minutes=1))


def test_much_that_is_recent_is_left_to_sqlite(ledger, monkeypatch):
    """All of it would be in memory at once; older libraries fold nothing."""
    monkeypatch.setattr(_from_columns, "MOST_RECENT", 0)

    assert answer(ledger) == EXPECTED
    assert files(ledger) == []


@pytest.mark.parametrize("model", [None, 5, True, ""], ids=["null", "number", "true", "empty"])
def test_a_name_that_is_no_text_is_missing_on_both_sides(ledger, monkeypatch, model):
    """Events of somebody else's may have one; the column in the ledger has texts alone."""
    (envelope,) = batch_of([make_event(dimensions={"feature": "chat"})])
    event = json.loads(envelope.payload)
    event["data"]["model"] = model
    ledger.deliver([Envelope(id=envelope.id, payload=json.dumps(event).encode())])
    questions = [
        usage_query(group_by=["model", "feature"]),
        usage_query(group_by="feature", filters={"model": ""}),
        usage_query(
            MeterDefinition(slug="models", aggregation="UNIQUE_COUNT", value_property="$.model"),
            group_by="feature",
        ),
        usage_query(MeterDefinition(slug="most", aggregation="MAX", value_property="$.model")),
    ]
    quickly = [report.rows for report in ledger.query_all(questions)]
    monkeypatch.setattr(_from_columns, "FEWEST", 1000)

    assert quickly == [report.rows for report in ledger.query_all(questions)]
    assert [(row.group_by["feature"], row.value) for row in quickly[1]] == [("chat", 120)]


def test_columns_from_before_a_prune_are_not_read(ledger):
    """Bodies that were given up are given up there too."""
    answer(ledger)
    with closing(sqlite3.connect(ledger.path)) as connection:
        moment = int(NOON.timestamp()) * 1_000_000
        connection.execute("INSERT INTO meta VALUES ('pruned_before', ?)", (moment,))
        connection.commit()
    before = files(ledger)
    ledger.query(usage_query(group_by="feature", start=NOON))

    assert len(files(ledger)) == 3
    assert not set(files(ledger)) & set(before)
    _columns.forget_columns(ledger.path)
    assert files(ledger) == []
    _columns.forget_columns(ledger.path.with_name("none.db"))


def test_a_prune_deletes_columns(ledger):
    """What was in a body is nowhere any more."""
    answer(ledger)
    assert ledger.prune(NOON + timedelta(microseconds=1)).events == 4

    assert files(ledger) == []


@pytest.mark.parametrize(
    "dimensions",
    [
        pytest.param({f"key{number}": "x" for number in range(300)}, id="too many keys"),
        pytest.param({"/": "a", "~1": "b", "a[0]": "c", "0": "d"}, id="odd in pointers"),
        pytest.param({"Feature": "X", "feature": "x", "a.b": "c", "*": "d"}, id="odd"),
    ],
)
def test_keys_are_told_apart_or_left_to_sqlite(ledger, monkeypatch, dimensions):
    """Columns are the same in capitals, and not as many as one likes; keys are."""
    monkeypatch.setattr(_folding, "FOLD_AT", 1)
    ledger.deliver(batch_of([make_event(dimensions=dimensions)]))

    for key, value in list(dimensions.items())[:4]:
        rows = ledger.query(usage_query(group_by=key, filters={key: value}))
        assert [row.group_by[key] for row in rows] == [value]
