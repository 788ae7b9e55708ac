"""Folding changes no answer, and one that fails loses and doubles nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.ledger import Ledger, _folding
from llm_metering.ledger.intake import Intake
from llm_metering.ledger.intake_values import Bookmark, Stretch
from llm_metering.sinks import Delivery
from llm_metering.token_usage import TokenUsage
from tests.factories import NOON, batch_of, envelope_of, make_event
from tests.forking import in_child

TABLES = ("quarters", "days", "subject_days", "kind_days", "kind_quarters")
COUNTS = (
    "sum(total_tokens), sum(input_tokens), sum(output_tokens), sum(cache_read_input_tokens),"
    " sum(cache_creation_input_tokens), sum(reasoning_output_tokens), sum(calls)"
)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def ledger(path) -> Iterator[Ledger]:
    with closing(Ledger(path)) as ledger:
        yield ledger


@pytest.fixture
def soon(monkeypatch) -> int:
    """How many events are folded together: few enough for a test."""
    monkeypatch.setattr(_folding, "FOLD_AT", 4)
    return 4


def read(path: Path, question: str) -> list[tuple[object, ...]]:
    """What somebody else reads in the file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def folded_and_recent(path: Path) -> tuple[int, int]:
    """How many events are in rollups, and how many are recent."""
    [(folded, recent)] = read(
        path, "SELECT (SELECT count(*) FROM places), (SELECT count(*) FROM recent)"
    )
    return folded, recent  # type: ignore[return-value]


counts = st.none() | st.integers(0, 9)
events = st.builds(
    make_event,
    # Quarters, days and years apart, and in no order.
    time=st.builds(
        lambda minutes, days: NOON + timedelta(minutes=minutes, days=days),
        st.integers(-900, 900),
        st.sampled_from([0, 0, 1, -400]),
    ),
    usage=st.none()
    | st.builds(
        TokenUsage,
        input_tokens=st.integers(9, 99),
        output_tokens=counts,
        cache_read_input_tokens=counts,
    ),
    subject=st.sampled_from(["a", "b", "Zoë"]),
    model=st.sampled_from(["m", "n", None]),
    status=st.sampled_from(["completed", "failed"]),
    source=st.sampled_from(["one", "another"]),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(events, max_size=9), max_size=6), st.data())
def test_rollups_and_what_is_recent_are_what_the_events_say(batches, data):
    """Whenever a fold comes between late, repeated and unknown ones; and older libraries read the same."""
    taken = []
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Ledger(Path(folder) / "ledger.db")) as ledger,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(_folding, "FOLD_AT", data.draw(st.integers(1, 12)))
        for batch in batches:
            taken += batch
            again = data.draw(st.lists(st.sampled_from(taken), max_size=4)) if taken else []
            ledger.deliver(batch_of([*batch, *again]))
            assert ledger.recount() == []
        if not taken:
            return
        sums = ", ".join(f"sum({each})" for each in ("input_tokens", "output_tokens", "events"))
        for grain in (900, 86400):
            [found] = read(ledger.path, f"SELECT {sums} FROM rollups WHERE grain = {grain}")
            assert found == (
                sum(event.usage.input_tokens for event in taken if event.usage),
                sum(event.usage.output_tokens or 0 for event in taken if event.usage),
                len(taken),
            )


def test_enough_of_what_is_recent_is_folded(ledger, path, soon):
    """Not before, and what comes after that is recent again."""
    found = []
    for size in (soon - 1, 1, 1):
        ledger.deliver(batch_of(make_event() for _ in range(size)))
        found.append(folded_and_recent(path))

    assert found == [(0, 3), (4, 0), (4, 1)]
    for table in TABLES:
        assert read(path, f"SELECT {COUNTS}, sum(events) FROM {table}") == [
            (480, 400, 80, None, None, None, 4, 4)
        ]
    assert read(path, "SELECT through_place, first_time, last_time FROM spans") == [
        (4, *[int(NOON.timestamp()) * 1_000_000] * 2)
    ]


def test_what_a_broker_had_is_folded_too(path, soon):
    """It is taken in with its positions, and counts the same."""
    log = [envelope_of(make_event(time=NOON + timedelta(days=day))).payload for day in range(5)]
    stretch = Stretch(
        partition=0,
        expected=None,
        next_offset=len(log),
        bookmark=Bookmark(len(log) - 1, b"digest"),
        events=list(enumerate(log)),
    )
    with closing(Intake(path)) as intake:
        intake.commit("cluster", "topic", [stretch], now=NOON)

    assert folded_and_recent(path) == (5, 0)
    with closing(Ledger(path)) as ledger:
        assert ledger.recount() == []


def test_what_an_older_library_left_is_folded_in_pieces(ledger, path, monkeypatch):
    """It folds nothing itself; who comes next does not stand still for all of it."""
    monkeypatch.setattr(_folding, "FOLD_AT", 10**6)
    ledger.deliver(batch_of(make_event() for _ in range(25)))
    monkeypatch.setattr(_folding, "FOLD_AT", 4)

    found = []
    for _ in range(4):
        ledger.deliver(batch_of([make_event()]))
        found.append(folded_and_recent(path))
        assert ledger.recount() == []

    assert found == [(8, 18), (16, 11), (28, 0), (28, 1)]


def test_a_repeated_event_is_no_event_after_it_was_folded(ledger, path, soon):
    """Whatever it says the second time, alone, in a batch with others, and twice in one."""
    first = [make_event() for _ in range(soon)]
    ledger.deliver(batch_of(first))
    changed = make_event(id=first[0].id, subject="somebody else", time=NOON + timedelta(days=9))

    for batch in ([changed], first, [changed, make_event(), changed]):
        ledger.deliver(batch_of(batch))

    assert folded_and_recent(path) == (4, 1)
    assert ledger.recount() == []


def test_a_late_event_is_added_to_a_rollup_of_long_ago(ledger, path, soon):
    """It lies behind all others, and counts in its own window."""
    day = timedelta(days=1)
    ledger.deliver(batch_of(make_event(time=NOON + number * day) for number in range(soon)))
    ledger.deliver(batch_of(make_event(time=NOON) for _ in range(soon)))

    rows = read(path, "SELECT total_tokens, events FROM days ORDER BY window_start")
    assert rows == [(600, 5), (120, 1), (120, 1), (120, 1)]
    assert ledger.recount() == []


def test_a_fold_that_finds_no_room_is_done_later(ledger, path, soon, monkeypatch):
    """The batch before it is accepted all the same, since it is there and counts."""
    monkeypatch.setattr(_folding, "FOLD_AT", 10**6)
    many = batch_of(make_event(subject=f"customer-{number}" * 20) for number in range(200))
    ledger.deliver(many)
    connection = ledger._handle._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    monkeypatch.setattr(_folding, "FOLD_AT", 201)
    batch = batch_of([make_event()])

    during = ledger.deliver(batch), folded_and_recent(path), ledger.recount()
    connection.execute("PRAGMA max_page_count = 1000000")
    after = ledger.deliver(batch), folded_and_recent(path), ledger.recount()

    assert during == (Delivery.all_accepted(batch), (0, 201), [])
    assert after == (Delivery.all_accepted(batch), (201, 0), [])


def test_a_fold_that_somebody_keeps_out_is_done_later(ledger, path, soon, monkeypatch):
    """It does not make the batch before it one to be tried again."""
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            inside.set()
            leave.wait(30)

    def keep_out(connection: sqlite3.Connection) -> None:
        threading.Thread(target=hold, daemon=True).start()
        inside.wait()
        connection.execute("PRAGMA busy_timeout = 10")
        fold(connection)

    fold = _folding._fold
    monkeypatch.setattr(_folding, "_fold", keep_out)
    batch = batch_of(make_event() for _ in range(soon))

    assert ledger.deliver(batch) == Delivery.all_accepted(batch)
    assert folded_and_recent(path) == (0, 4)
    leave.set()
    monkeypatch.setattr(_folding, "_fold", fold)
    ledger._handle._connection.execute("PRAGMA busy_timeout = 20000")
    ledger.deliver(batch)
    assert folded_and_recent(path) == (4, 0)


def test_two_that_find_it_due_fold_once(ledger, path, soon, monkeypatch):
    """Who comes second finds it done, and leaves what is recent by then."""
    fold = _folding._fold

    def be_second(connection: sqlite3.Connection) -> None:
        fold(connection)
        connection.execute("BEGIN")
        connection.execute("COMMIT")
        fold(connection)

    monkeypatch.setattr(_folding, "_fold", be_second)
    ledger.deliver(batch_of(make_event() for _ in range(soon)))

    assert read(path, "SELECT count(*) FROM spans") == [(1,)]
    assert ledger.recount() == []


def test_a_fork_interrupts_a_fold(ledger, path, soon, monkeypatch):
    """It can be done another time, and a child that is forked amid one could not use the ledger."""
    fold = _folding._fold
    started = threading.Event()

    def take_long(connection: sqlite3.Connection) -> None:
        monkeypatch.setattr(_folding, "_fold", fold)
        connection.execute("BEGIN IMMEDIATE")
        started.set()
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
        ).fetchall()

    monkeypatch.setattr(_folding, "_fold", take_long)
    batch = batch_of(make_event() for _ in range(soon))
    thread = threading.Thread(target=ledger.deliver, args=(batch,), daemon=True)
    thread.start()
    started.wait()

    assert in_child(lambda: bool(ledger.deliver(batch_of([make_event()])).accepted))
    thread.join()
    assert folded_and_recent(path) == (5, 0)
    assert ledger.recount() == []


DIE = """
import os, signal, sys
from pathlib import Path
from llm_metering.ledger import Ledger, _folding
from llm_metering.sinks import Envelope

path, left = Path(sys.argv[1]), int(sys.argv[2])
_folding.FOLD_AT = 4
ledger, fold = Ledger(path), _folding._fold

def look(statement):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

def fold_and_die(connection):
    connection.set_trace_callback(look)
    fold(connection)

_folding._fold = fold_and_die
batch = [Envelope(line, line.encode()) for line in sys.stdin.read().splitlines()]
ledger.deliver(batch)
"""


def test_a_process_that_is_killed_in_a_fold_leaves_all_of_it(tmp_path):
    """Before each statement of it, from the first to the last; the next one folds what is there."""
    batch = batch_of(make_event(time=NOON + timedelta(days=number)) for number in range(5))
    lines = b"\n".join(envelope.payload for envelope in batch)
    ended = []
    for number in range(1, 30):
        path = tmp_path / f"{number}.db"
        child = subprocess.run(
            [sys.executable, "-c", DIE, str(path), str(number)], input=lines, check=False
        )
        with closing(Ledger(path)) as ledger, pytest.MonkeyPatch.context() as patch:
            assert ledger.recount() == []
            assert sum(folded_and_recent(path)) == 5
            patch.setattr(_folding, "FOLD_AT", 4)
            ledger.deliver(batch)
            assert ledger.recount() == []
            assert folded_and_recent(path) == (5, 0)
        ended.append(child.returncode)
        if not child.returncode:
            break

    assert set(ended[:-1]) == {-signal.SIGKILL}
    assert ended[-1] == 0
    assert len(ended) > len(_folding._FOLD)


DELIVER = """
import sys
from pathlib import Path
from llm_metering.ledger import Ledger, _folding
from tests.factories import batch_of, make_event

_folding.FOLD_AT = 40
with_ids = open(sys.argv[2], "w")
ledger = Ledger(Path(sys.argv[1]))
while True:
    batch = batch_of(make_event(subject=f"customer-{number}") for number in range(15))
    accepted = ledger.deliver(batch).accepted
    print(*accepted, file=with_ids, flush=True)
"""


def test_processes_that_are_killed_at_any_moment_lose_nothing_they_had_accepted(tmp_path, path):
    """Two write and fold side by side; what either was told is accepted is there, and counted once."""
    accepted: set[str] = set()
    for round_ in range(2):
        notes = [tmp_path / f"{round_}-{number}" for number in range(2)]
        children = [
            subprocess.Popen([sys.executable, "-c", DELIVER, str(path), str(note)])
            for note in notes
        ]
        try:
            while not all(note.exists() and note.stat().st_size > 3000 for note in notes):
                if any(child.poll() is not None for child in children):
                    break
        finally:
            for child in children:
                os.kill(child.pid, signal.SIGKILL)
                child.wait()
        assert [child.returncode for child in children] == [-signal.SIGKILL] * 2
        for note in notes:
            whole = note.read_text("utf-8").rpartition("\n")[0]
            accepted.update(whole.split())
        with closing(Ledger(path)) as ledger:
            assert ledger.recount() == []
        assert accepted <= {each for (each,) in read(path, "SELECT id FROM events")}


def test_a_reader_beside_a_writer_that_folds_sees_whole_batches(path, soon):
    """At any moment each table, with what is recent, has every event that was committed, and once."""
    stop = threading.Event()
    size = 3

    def write() -> None:
        with closing(Ledger(path)) as ledger:
            while not stop.is_set():
                ledger.deliver(batch_of(make_event(subject=f"s{each}") for each in range(size)))

    question = "SELECT (SELECT count(*) FROM events), " + ", ".join(
        f"(SELECT ifnull(sum(events), 0) FROM {table}) + (SELECT count(*) FROM recent)"
        for table in TABLES
    )
    with closing(Ledger(path)) as ledger:
        ledger.deliver(batch_of(make_event() for _ in range(size)))
    thread = threading.Thread(target=write)
    thread.start()
    seen = set()
    try:
        until = time.monotonic() + 30
        while len(seen) <= 20 and time.monotonic() < until:
            [found] = read(path, question)
            seen.add(found)
    finally:
        stop.set()
        thread.join()

    assert len(seen) > 20
    assert all(len(set(each)) == 1 and each[0] % size == 0 for each in seen)
