"""What is known under an id, for who asks very often."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from llm_metering.errors import LedgerError
from llm_metering.ledger import KnownEvents, Ledger
from tests.factories import batch_of, make_event


@pytest.fixture
def path(tmp_path):
    """Where the ledger will be."""
    return tmp_path / "ledger.db"


@pytest.fixture
def known(path):
    """What is known of it."""
    with closing(KnownEvents(path)) as known:
        yield known


def deliver(path, *events):
    """Have the ledger take events."""
    with closing(Ledger(path)) as ledger:
        assert len(ledger.deliver(batch_of(events)).accepted) == len(events)


def test_it_knows_what_was_delivered_and_nothing_else(path, known):
    """From the first event on, and of one source alone."""
    events = [make_event() for _ in range(3)]
    source = events[0].source
    ids = [event.id for event in events]
    assert known.payloads(ids, source=source) == {}

    deliver(path, *events[:2])
    found = known.payloads(ids, source=source)
    assert set(found) == set(ids[:2])
    assert json.loads(found[ids[0]])["id"] == ids[0]
    assert known.payloads(ids, source="another") == {}

    deliver(path, events[2])
    assert set(known.payloads(ids, source=source)) == set(ids)


def test_a_ledger_that_was_replaced_is_read_anew(path, known):
    """Not the file that is gone."""
    event = make_event()
    deliver(path, event)
    assert known.payloads([event.id], source=event.source)
    for file in path.parent.iterdir():
        file.unlink()
    assert known.payloads([event.id], source=event.source) == {}

    other = make_event()
    deliver(path, other)
    assert set(known.payloads([event.id, other.id], source=event.source)) == {other.id}


def test_who_makes_the_ledger_is_waited_for(path, known):
    """SQLite itself does not, where the journal mode is about to change."""
    event = make_event()
    found = []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        asking = threading.Thread(
            target=lambda: found.append(known.payloads([event.id], source=event.source))
        )
        asking.start()
        asking.join(0.05)
        connection.execute("ROLLBACK")
        asking.join()

    assert found == [{}]


def test_a_file_of_somebody_else_is_no_ledger(path, known):
    """It is told, and nothing is made of it."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE events (id TEXT)")
    with pytest.raises(LedgerError, match="another application"):
        known.payloads(["1"], source="app")


def test_a_forked_child_has_a_connection_of_its_own(path, known):
    """SQLite's locks are those of a process."""
    event = make_event()
    deliver(path, event)
    known.payloads([event.id], source=event.source)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if known.payloads([event.id], source=event.source) else 2
        finally:
            os._exit(status)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert known.payloads([event.id], source=event.source)


def test_threads_ask_one_after_another(tmp_path):
    """Whichever of them asked first, and so has opened the file."""
    event = make_event()
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.deliver(batch_of([event]))
    with closing(KnownEvents(tmp_path / "ledger.db")) as known:
        for _ in range(3):
            with ThreadPoolExecutor(1) as thread:
                found = thread.submit(known.payloads, [event.id], source="tests").result()
            assert list(found) == [event.id]
