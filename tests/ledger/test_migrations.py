"""A ledger of an older schema becomes one of ours, and an older library goes on writing to it."""

from __future__ import annotations

import re
import sqlite3
import threading
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from llm_metering.ledger import Ledger, _files, _folding
from llm_metering.meters import usage_query
from llm_metering.token_usage import TokenUsage
from tests.factories import NOON, batch_of, make_event

from .older_rows import insert_as_before


def old_ledger(path: Path, *events, schema: int = 1) -> Path:
    """A ledger as a library of an older schema has left it, with these events."""
    with closing(sqlite3.connect(path)) as connection:
        script = Path(__file__).with_name(f"schema_{schema}.sql")
        connection.executescript(script.read_text("utf-8"))
        insert_as_before(connection, (each.payload for each in batch_of(events)))
        connection.commit()
    assert version(path) == schema
    return path


def version(path: Path) -> int:
    """The version of its schema."""
    with closing(sqlite3.connect(path)) as connection:
        (found,) = connection.execute("PRAGMA user_version").fetchone()
    return found


def schema(path: Path) -> list[tuple[str, str, str]]:
    """All that it is made of, whatever the comments and line breaks; and what it was made with."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT type, name, ifnull(sql, '') FROM sqlite_master")
        parts = [(kind, name, plain(sql)) for kind, name, sql in found]
        meta = connection.execute("SELECT key, value FROM meta").fetchall()
    return sorted([*parts, *(("meta", key, str(value)) for key, value in meta)])


def plain(sql: str) -> str:
    """A statement without comments and with single spaces."""
    return " ".join(re.sub(r"--[^\n]*", "", sql).split())


def test_a_reader_asks_an_old_ledger_for_topics(tmp_path):
    """It has no table of them, and none were read into it."""
    with closing(Ledger(old_ledger(tmp_path / "old.db", make_event()))) as ledger:
        assert not ledger.is_fed_by_topics()
    assert version(tmp_path / "old.db") == 1


@pytest.mark.parametrize("before", [1, 2, 3, 4, 5])
def test_a_migrated_ledger_is_as_a_new_one(tmp_path, before):
    """Tables, indexes, triggers, views, who may write; and each version has its step."""
    old = old_ledger(tmp_path / "old.db", make_event(), schema=before)
    new = tmp_path / "new.db"

    for path in (old, new):
        with closing(Ledger(path)) as ledger:
            assert ledger.deliver(batch_of([make_event()])).accepted

    assert schema(old) == schema(new)
    assert version(old) == version(new) == _files.SCHEMA_VERSION
    assert set(_files._STEPS) == set(range(2, _files.SCHEMA_VERSION + 1))
    assert {name for _, name, _ in schema(new)} > {"ingest_positions", "ingest_omissions"}


@pytest.mark.parametrize("before", [1, 2])
def test_all_is_counted_anew_from_the_events(tmp_path, before):
    """What was known then is folded, and a count that nobody knows is none; also of an empty ledger."""
    days = [timedelta(days=number % 4, minutes=7 * number) for number in range(60)]
    events = [
        make_event(
            time=NOON - day,
            subject=f"customer-{number % 5}",
            model=("m", None)[number % 2],
            usage=None if number % 6 == 0 else TokenUsage(input_tokens=number),
        )
        for number, day in enumerate(days)
    ]
    for name, some in (("filled", events), ("empty", ())):
        path = old_ledger(tmp_path / name, *some, schema=before)
        with closing(Ledger(path)) as ledger:
            with ledger._handle.writing():
                pass
            assert ledger.recount() == []
            with closing(sqlite3.connect(path)) as connection:
                folded = connection.execute("SELECT count(*) FROM places").fetchone()
                recent = connection.execute("SELECT count(*) FROM recent").fetchone()
            assert (folded, recent) == ((len(some),), (0,))
            ledger.deliver(batch_of([*some[:3], make_event()]))
            assert ledger.recount() == []


def test_the_events_of_a_big_ledger_lie_in_spans(tmp_path):
    """As many side by side as are folded together, whether they were migrated or folded."""
    path = old_ledger(tmp_path / "ledger.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(
            """
            INSERT INTO events (source, id, type, subject, time, payload)
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 70000)
            SELECT 's', i, 'llm.usage', 'c', i, '{}' FROM n
            """
        )
    with closing(Ledger(path)) as ledger:
        ledger.deliver(batch_of([make_event()]))
        assert ledger.recount() == []
    with closing(sqlite3.connect(path)) as connection:
        spans = connection.execute(
            "SELECT through_place, first_time, last_time FROM spans"
        ).fetchall()
    assert _folding.FOLD_AT == 20_000
    assert spans == [
        (20000, 1, 20000),
        (40000, 20001, 40000),
        (60000, 40001, 60000),
        (70000, 60001, 70000),
    ]


def test_answers_stay_the_same(tmp_path):
    """Before it is migrated it can be asked, and afterwards it says the same."""
    events = [make_event(subject=f"customer-{number % 3}") for number in range(20)]
    path = old_ledger(tmp_path / "ledger.db", *events)
    questions = [usage_query(group_by=["subject", "model"]), usage_query(window="MINUTE")]

    with closing(Ledger(path)) as ledger:
        before = [ledger.query(each).rows for each in questions]
        assert version(path) == 1
        ledger.deliver(batch_of(events))
        after = [ledger.query(each).rows for each in questions]

    assert version(path) == _files.SCHEMA_VERSION
    assert before == after
    assert sum(row.value for row in after[0]) == 20 * 120


def test_an_older_library_may_still_write(tmp_path, monkeypatch):
    """Beside a newer one in the same home, and without taking the schema back."""
    path = tmp_path / "ledger.db"
    with closing(Ledger(path)) as ledger:
        ledger.deliver(batch_of([make_event()]))

    monkeypatch.setattr(_files, "SCHEMA_VERSION", 1)
    with closing(Ledger(path)) as older:
        assert older.deliver(batch_of([make_event()])).accepted
        assert older.query(usage_query()).total == 240

    assert version(path) == 6


def test_a_newer_ledger_that_lets_us_write_is_left_as_it_is(tmp_path):
    """Nothing is migrated backwards."""
    path = tmp_path / "ledger.db"
    with closing(Ledger(path)) as ledger:
        ledger.deliver(batch_of([make_event()]))
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("CREATE TABLE of_tomorrow (x)")
        newer.execute("PRAGMA user_version = 9")
    before = schema(path)

    with closing(Ledger(path)) as ledger:
        assert ledger.deliver(batch_of([make_event()])).accepted

    assert (version(path), schema(path)) == (9, before)


def test_a_migration_is_whole_or_not_there(tmp_path):
    """What stops it in the middle leaves the file as it was."""
    path = old_ledger(tmp_path / "ledger.db", make_event())
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE ingest_omissions (somebody TEXT)")
    before = schema(path)

    with closing(Ledger(path)) as ledger:
        assert ledger.deliver(batch_of([make_event()])).retryable

    assert (version(path), schema(path)) == (1, before)


def test_many_may_migrate_it_at_once(tmp_path):
    """Whoever comes second finds it done."""
    for number in range(5):
        path = old_ledger(tmp_path / f"{number}.db", make_event())
        start = threading.Barrier(4)
        taken = []

        def deliver(path=path, start=start, taken=taken):
            with closing(Ledger(path)) as ledger:
                batch = batch_of([make_event()])
                start.wait()
                while not ledger.deliver(batch).accepted:
                    pass
                taken.append(batch)

        threads = [threading.Thread(target=deliver) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert (version(path), len(taken)) == (_files.SCHEMA_VERSION, 4)
        with closing(Ledger(path)) as ledger:
            assert ledger.query(usage_query()).total == 5 * 120
