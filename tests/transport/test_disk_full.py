"""A disk that takes nothing: events wait in memory, are counted, and are written when it is back.

The full disk is a limit on the size of files (RLIMIT_FSIZE), which the kernel enforces in the
middle of a write, for root too.
"""

from __future__ import annotations

import json
import logging
import threading
import time

import pytest

from llm_metering.transport import disk_or_memory
from llm_metering.transport.recovery import settle_writer
from llm_metering.transport.spool import Spool
from llm_metering.transport.status import home_status

from .harness import (
    ids_on_disk,
    journal_for,
    let_go,
    record,
    run_child,
    unique,
)

PRELUDE = """
import json, os, resource, sys, time
from pathlib import Path
from llm_metering.transport.status import home_status
from tests.transport.harness import *

home = Path(sys.argv[1])

def allow(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def until_written(journal):
    while journal.held:
        time.sleep(0.05)

sink = ScriptedSink()
journal = journal_for(home, sink)
shipper = shipper_for(journal, sink)
result = {}
"""


def run(code, home):
    """What the child left in `result`, and what it wrote to stderr; it is killed at its end."""
    end = "\nprint(json.dumps(result), flush=True)\nos.kill(os.getpid(), 9)\n"
    stdout, stderr = run_child(PRELUDE + code + end, home).communicate(timeout=60)
    assert stdout, stderr
    return json.loads(stdout), stderr


@pytest.mark.parametrize("before", [0, 2], ids=["from the start", "later"])
def test_what_the_disk_refused_is_written_when_it_takes_again(home, before):
    """Events recorded on a full disk are on it a while after there is room, by themselves."""
    result, stderr = run(
        f"""
before = record(journal, {before})
allow(0)
held = record(journal, 5)
result["held"], result["recorded"] = journal.held, home_status(home)["recorded"]
while journal._place.trouble:  # until it was told
    time.sleep(0.01)
allow(resource.RLIM_INFINITY)
until_written(journal)
result["ids"] = before + held + record(journal)
""",
        home,
    )

    assert (result["held"], result["recorded"]) == (5, before)
    assert unique(ids_on_disk(home)) == unique(result["ids"])
    assert stderr.count("cannot be written") == 1


@pytest.mark.parametrize("room", [0, 100], ids=["nothing fits", "a part fits"])
def test_a_limit_on_the_size_of_files_begins_a_new_segment(home, room):
    """A write that does not fit is undone, and made whole in the next segment."""
    result, _ = run(
        f"""
result["ids"] = record(journal, 2)
allow(journal.segments()[-1].size + {room})
result["ids"] += record(journal, 3)
result["held"] = journal.held
""",
        home,
    )

    assert result["held"] == 0
    assert settle_writer(Spool(home), Spool(home).segments()[0].writer)
    assert unique(ids_on_disk(home)) == unique(result["ids"])
    assert home_status(home)["damage"] == {
        "torn_bytes": 0,
        "corrupt_bytes": 0,
        "unreadable_records": 0,
        "unreadable_segments": 0,
        "quarantined_segments": 0,
    }


def test_what_was_accepted_on_a_full_disk_is_not_sent_again(home):
    """An acknowledgement that can't be written is remembered, and written when it can."""
    result, _ = run(
        """
result["ids"] = record(journal, 2)
allow(0)
pump(shipper)
result["settled"] = shipper.own_settled
journal.close()
result["nothing_left"] = pump(shipper)
allow(resource.RLIM_INFINITY)
shipper.finish_close()
result["taken"] = sink.taken
""",
        home,
    )

    assert result["taken"] == result["ids"]
    assert (result["settled"], result["nothing_left"]) == (2, True)
    sink = home_status(home)["sinks"][0]
    assert (sink["recorded"], sink["acked"], sink["pending"]) == (2, 2, 0)
    assert Spool(home).segments() == []


@pytest.mark.parametrize("room", [pytest.param(0, id="no room"), pytest.param(100, id="a part")])
def test_a_dead_letter_that_cannot_be_written_stays_pending(home, room):
    """A rejected event is dead only when it is whole in the dead-letter file."""
    result, stderr = run(
        f"""
result["ids"] = record(journal)
sink.answers.extend([reject] * 2)
allow({room})
pump(shipper)
result["pending"] = home_status(home)["sinks"][0]["pending"]
result["state"] = shipper.standing.state
allow(resource.RLIM_INFINITY)
shipper._clock.now += 2
pump(shipper)
""",
        home,
    )

    assert (result["pending"], result["state"]) == (1, "backoff")
    sink = home_status(home)["sinks"][0]
    assert (sink["acked"], sink["pending"], sink["dead"]) == (0, 0, 1)
    (letters,) = (home / "journal" / "v1" / "dead").iterdir()
    lines = letters.read_text().splitlines()
    assert json.loads(lines[-1])["event"]["id"] == result["ids"][0]
    assert len(lines) == (1 if room == 0 else 2)
    assert stderr.count("Traceback") == 1


def test_beyond_the_bound_events_are_dropped_and_counted(home, monkeypatch):
    """Memory is no disk: what does not fit is counted by reason, for good."""
    monkeypatch.setattr(disk_or_memory, "HELD_LIMIT", 3)
    journal = journal_for(home)
    obstacle = block(home)
    ids = record(journal, 5)
    assert (journal.held, dict(journal.dropped)) == (3, {"disk_full": 2})

    obstacle.unlink()
    journal.close()
    let_go(journal)

    assert ids_on_disk(home) == ids[:3]
    assert home_status(home)["dropped"] == {"disk_full": 2}


def test_what_is_held_at_close_is_still_written(home):
    """A journal that was closed on a full disk writes what it holds once there is room."""
    journal = journal_for(home)
    obstacle = block(home)
    ids = record(journal, 3)
    journal.close()
    assert journal.held == 3
    time.sleep(1.6)  # until the syncing thread has heard of the end
    assert journal.held == 3

    obstacle.unlink()
    while journal.held:
        time.sleep(0.05)

    assert ids_on_disk(home) == ids


def test_a_writer_whose_disk_is_full_for_long_stays_alive(home):
    """However long it has a lock and no segment: nobody takes the lock away, nor settles its calls."""
    result, _ = run(
        """
from llm_metering.transport.recovery import settle_writer, tidy

allow(0)
under_way = note_open(journal)
os.utime(Spool(home).lock_path(journal.writer), (0, 0))
tidy(Spool(home))
allow(resource.RLIM_INFINITY)
until_written(journal)
result["settled"] = settle_writer(Spool(home), journal.writer)
result["events"] = ids_on_disk(home)
result["open_calls"] = home_status(home)["open_calls"]
""",
        home,
    )

    assert result == {"settled": False, "events": [], "open_calls": 1}


def test_calls_that_cannot_be_settled_on_a_full_disk_are_settled_later(home):
    """The segment of interrupted calls appears whole, or not at all; then it is tried again."""
    result, _ = run(
        """
from llm_metering.transport.recovery import settle_writer

result["open"] = [note_open(journal) for _ in range(3)]
writer = journal.writer
let_go(journal)
allow(100)
result["refused"] = 0
try:
    settle_writer(Spool(home), writer)
except OSError:
    result["refused"] = 1
result["before"] = ids_on_disk(home)
allow(resource.RLIM_INFINITY)
result["settled"] = settle_writer(Spool(home), writer)
""",
        home,
    )

    assert (result["refused"], result["before"], result["settled"]) == (1, [], True)
    assert unique(ids_on_disk(home)) == unique(result["open"])
    assert list(Spool(home).folder.glob("*.tmp")) == []


class RecordsElsewhere(logging.Handler):
    """A log handler during whose work another thread records."""

    def __init__(self, journal):
        super().__init__()
        self.journal = journal
        self.done = threading.Event()

    def emit(self, line):
        other = threading.Thread(target=record, args=[self.journal], daemon=True)
        other.start()
        other.join(20)
        if not other.is_alive():
            self.done.set()


def test_trouble_is_logged_outside_the_lock(home):
    """Recording never waits for somebody's log handler."""
    journal = journal_for(home)
    obstacle = block(home)
    handler = RecordsElsewhere(journal)
    logging.getLogger("llm_metering").addHandler(handler)
    try:
        record(journal)
        assert handler.done.wait(30)
    finally:
        logging.getLogger("llm_metering").removeHandler(handler)
        obstacle.unlink()
        journal.close()


def block(home):
    """Put a file where the journals' folder is to be; removing it lets them work."""
    obstacle = home / "journal"
    obstacle.touch()
    return obstacle
