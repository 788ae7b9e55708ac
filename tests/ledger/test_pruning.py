"""Bodies are given up; what they counted, and that they were there, is not."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from llm_metering.errors import LedgerError, QueryError
from llm_metering.events import encode
from llm_metering.ledger import Ledger, _files, _folding, pruning
from llm_metering.meters import usage_query
from llm_metering.sinks import Delivery
from tests.factories import NOON, batch_of, envelope_of, make_event
from tests.ledger import old_library

DAY = timedelta(days=1)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path, monkeypatch) -> Iterator[Ledger]:
    """It folds ten events together."""
    monkeypatch.setattr(_folding, "FOLD_AT", 10)
    with closing(Ledger(path)) as ledger:
        yield ledger


def fill(ledger, number=25, **changes):
    """Events of so many days, the last of them yesterday; folded and recent ones."""
    yesterday = datetime.now(UTC).replace(microsecond=0) - DAY
    events = [
        make_event(time=yesterday - each * DAY, subject=f"customer-{each % 3}", **changes)
        for each in reversed(range(number))
    ]
    for each in events:
        assert ledger.deliver([envelope_of(each)]).accepted
    return events


def read(path: Path, question: str):
    """What somebody else reads in the file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def test_bodies_before_a_moment_are_given_up(ledger, path):
    """Of those alone, folded or not; columns, sums and answers stay."""
    events = fill(ledger)
    before = events[12].time
    columns = "source, id, type, subject, time, model, total_tokens, calls"
    kept = read(path, f"SELECT {columns} FROM events ORDER BY rowid")
    answers = [
        ledger.query(usage_query(group_by=group, window=window)).rows
        for group in ("subject", "model")
        for window in ("DAY", "MINUTE")
    ]

    pruned = ledger.prune(before)

    assert pruned.events == 12
    assert read(path, f"SELECT {columns} FROM events ORDER BY rowid") == kept
    assert [payload == "" for (payload,) in read(path, "SELECT payload FROM events")] == [
        each.time < before for each in events
    ]
    assert answers == [
        ledger.query(usage_query(group_by=group, window=window)).rows
        for group in ("subject", "model")
        for window in ("DAY", "MINUTE")
    ]
    assert ledger.recount() == []
    assert ledger.pruned_before() == before


def test_an_event_without_a_body_is_not_sent_as_an_empty_one(ledger):
    """It is none of those that can be read; and it is known that it is there."""
    events = fill(ledger, 5)
    ids = [each.id for each in events]
    ledger.prune(events[2].time)

    assert ledger.payloads(ids, source="tests") == {each.id: encode(each) for each in events[2:]}
    assert ledger.without_body([*ids, "another"], source="tests") == set(ids[:2])
    assert ledger.without_body(ids, source="of another") == set()
    assert {each for each, _ in ledger.moments(None, None, source="tests")} == set(ids)


def test_a_pruned_event_that_comes_again_is_no_event(ledger):
    """It is accepted, counts once, and stays without a body."""
    events = fill(ledger, 5)
    ledger.prune(datetime.now(UTC))
    batch = batch_of(events)

    assert ledger.deliver(batch) == Delivery.all_accepted(batch)
    assert ledger.query(usage_query("calls_total")).total == 5
    assert ledger.payloads([each.id for each in events], source="tests") == {}
    assert ledger.recount() == []


def test_a_late_event_keeps_its_body_until_it_is_pruned_again(ledger):
    """The moment stays the latest one, whatever is asked for later."""
    events = fill(ledger, 5)
    ledger.prune(events[4].time)
    late = make_event(time=events[0].time)
    ledger.deliver(batch_of([late]))

    assert set(ledger.payloads([late.id], source="tests")) == {late.id}
    assert ledger.prune(events[2].time).events == 1
    assert ledger.pruned_before() == events[4].time
    assert ledger.prune(events[4].time).events == 0


def test_the_moment_is_said_before_a_body_is_gone(ledger, path, monkeypatch):
    """Whoever reads an event without a body can read since when there are such; a new call goes on."""
    fill(ledger, 20)
    monkeypatch.setattr(pruning, "PIECE", 3)
    monkeypatch.setattr(pruning.time, "sleep", break_off(after=3))

    with pytest.raises(KeyboardInterrupt):
        ledger.prune(datetime.now(UTC))
    assert ledger.pruned_before() is not None
    [(without,)] = read(path, "SELECT count(*) FROM events WHERE payload = ''")
    assert 0 < without < 20

    monkeypatch.undo()
    assert ledger.prune(datetime.now(UTC)).events == 20 - without
    assert ledger.recount() == []


def break_off(*, after: int):
    """A pause that is interrupted when it is made so many times."""
    left = [after]

    def pause(_: float) -> None:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    return pause


def test_others_write_between_the_pieces(ledger, path, monkeypatch):
    """The ledger is free after each of them."""
    fill(ledger, 20)
    monkeypatch.setattr(pruning, "PIECE", 3)
    found = []

    def pause(seconds: float) -> None:
        with closing(Ledger(path)) as other:
            found.append(bool(other.deliver(batch_of([make_event()])).accepted))

    monkeypatch.setattr(pruning.time, "sleep", pause)
    ledger.prune(datetime.now(UTC))

    assert len(found) >= 7
    assert all(found)
    assert ledger.recount() == []


def test_an_older_library_keeps_its_hands_off(ledger, path):
    """It would send empty events, and answer as if they had no properties: it says to upgrade it."""
    events = fill(ledger, 3)
    old = Path(old_library.__file__)
    command = [sys.executable, str(old), "write", str(path), "2", "0", "5"]
    assert subprocess.run(command, check=False).returncode == 0
    ledger.prune(events[2].time)

    after = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (after.returncode, after.stderr) == (
        1,
        "the ledger was written by a newer llm-metering\n",
    )
    with pytest.MonkeyPatch.context() as patch, closing(Ledger(path)) as older:
        patch.setattr(_files, "SCHEMA_VERSION", 2)
        assert older.deliver(batch_of([make_event()])).hold
        with pytest.raises(LedgerError, match="schema 6, for 3 and later; this is 2"):
            older.payloads([events[0].id], source="tests")
    assert ledger.deliver(batch_of([make_event()])).accepted


def test_space_is_free_for_what_comes_or_given_back(ledger, path):
    """Without `compact` the file stays as large, and grows no more; with it, it is smaller."""
    fill(ledger, 300, dimensions={"note": "x" * 2000})
    ledger.close()
    before = path.stat().st_size

    pruned = ledger.prune(datetime.now(UTC))
    ledger.close()
    assert path.stat().st_size == pruned.size == before
    assert pruned.free > before / 2

    compacted = ledger.prune(datetime.now(UTC), compact=True)
    assert path.stat().st_size == compacted.size < before / 2
    assert compacted.free == 0
    assert ledger.recount() == []
    fill(ledger, 20)
    assert ledger.recount() == []


def test_a_ledger_that_lacks_events_is_not_compacted(ledger, path):
    """SQLite would number the others anew, and what is kept beside them would name others."""
    fill(ledger, 5)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DELETE FROM events WHERE rowid = 2")

    with pytest.raises(LedgerError, match="1 events were removed"):
        ledger.prune(datetime.now(UTC), compact=True)


@pytest.mark.parametrize(
    ("before", "message"),
    [
        pytest.param(NOON.replace(tzinfo=None), "needs a time zone", id="no zone"),
        pytest.param(datetime.now(UTC) + DAY, "is still to come", id="tomorrow"),
    ],
)
def test_a_moment_that_is_none_is_refused(ledger, before, message):
    """It names the moment; nothing is given up."""
    fill(ledger, 3)

    with pytest.raises(QueryError, match=message):
        ledger.prune(before)
    assert ledger.pruned_before() is None


def test_there_may_be_nothing_to_prune(ledger, path):
    """Nothing is made for it."""
    assert ledger.prune(NOON) == pruning.Pruned(events=0, free=0, size=0)
    assert ledger.pruned_before() is None
    assert not path.exists()


def test_it_waits_as_long_as_it_wrote(ledger, monkeypatch):
    """Else those who wait for the ledger would find it taken whenever they look."""
    fill(ledger, 20)
    monkeypatch.setattr(pruning, "PIECE", 5)
    ticks = iter(range(1000))
    monkeypatch.setattr(pruning.time, "monotonic", lambda: 3 * next(ticks))
    pauses: list[float] = []
    monkeypatch.setattr(pruning.time, "sleep", pauses.append)

    ledger.prune(datetime.now(UTC))

    assert len(pauses) >= 4
    assert min(pauses) >= 3
