"""The ledger as a sink: exact under redelivery, honest when it cannot write."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from llm_metering.errors import LedgerError
from llm_metering.ledger import Ledger, _files
from llm_metering.meters import usage_query
from llm_metering.sinks import Delivery, Envelope
from llm_metering.system import forks
from llm_metering.token_usage import TokenUsage
from tests.factories import NOON, batch_of, envelope_of, make_event
from tests.forking import in_child

TOTALS = usage_query()


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "home" / "ledger.db"


@pytest.fixture
def ledger(path) -> Iterator[Ledger]:
    with closing(Ledger(path)) as ledger:
        yield ledger


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """The file as somebody else has it open."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def rollups(path: Path) -> list[tuple[object, ...]]:
    """Grain, calls, events and sums of every rollup, as an older library adds them up."""
    with opened(path) as connection:
        return connection.execute(
            "SELECT grain, window_start, sum(total_tokens), sum(input_tokens), sum(output_tokens),"
            " sum(cache_read_input_tokens), sum(reasoning_output_tokens), sum(calls), sum(events),"
            " min(first_time), max(last_time) FROM rollups"
            " GROUP BY grain, window_start, type, subject, provider, model, provenance, status"
            " ORDER BY grain, window_start, min(first_time)"
        ).fetchall()


def test_an_event_is_in_its_columns(ledger, path):
    """What queries ask for stands apart; the payload is kept as it came."""
    event = make_event(
        time=datetime(1970, 1, 1, 0, 0, 1, 2000, UTC),
        usage=TokenUsage(
            input_tokens=100,
            output_tokens=20,
            cache_read_input_tokens=64,
            cache_creation_input_tokens=3,
            reasoning_output_tokens=7,
        ),
        service_tier="flex",
    )

    ledger.deliver(batch_of([event]))

    with opened(path) as connection:
        [row] = connection.execute("SELECT * FROM events").fetchall()
    assert row == (
        *("tests", event.id, "llm.usage", "customer-42", 1_002_000),
        *("openai", "gpt-5-mini", "chat", "langchain", "reported", "completed"),
        *(120, 100, 20, 64, 3, 7, 1),
        envelope_of(event).payload.decode(),
        "flex",
    )


def test_what_nobody_knows_is_null(ledger, path):
    """An unknown count is no zero; it adds nothing to a sum, and the event is counted."""
    ledger.deliver(batch_of([make_event(usage=None, provider=None, model=None)]))

    with opened(path) as connection:
        [row] = connection.execute(
            "SELECT total_tokens, input_tokens, cache_read_input_tokens, provider, model FROM events"
        ).fetchall()
    assert row == (None,) * 5
    assert [(row[2:9]) for row in rollups(path)] == [(0, 0, 0, 0, 0, 1, 1)] * 2


def test_rollups_are_sums_by_quarter_of_an_hour_and_by_day(ledger, path):
    """Two grains, each with the sums of its windows and the times of first and last event."""
    noon = 1_795_262_400_000_000
    minute = 60_000_000
    assert noon == int(NOON.timestamp()) * 1_000_000

    first, second, last = noon + 15 * minute - 1_000_000, noon + 15 * minute, noon + 16 * minute

    ledger.deliver(
        batch_of(
            [
                make_event(time=NOON.replace(minute=15)),
                make_event(time=NOON.replace(minute=14, second=59)),
                make_event(time=NOON.replace(minute=16)),
                make_event(time=NOON.replace(minute=17), usage=None),
            ]
        )
    )

    assert rollups(path) == [
        (900, noon, 120, 100, 20, 0, 0, 1, 1, first, first),
        (900, noon + 15 * minute, 240, 200, 40, 0, 0, 2, 2, second, last),
        (900, noon + 15 * minute, 0, 0, 0, 0, 0, 1, 1, last + minute, last + minute),
        (86400, noon - 720 * minute, 360, 300, 60, 0, 0, 3, 3, first, last),
        (86400, noon - 720 * minute, 0, 0, 0, 0, 0, 1, 1, last + minute, last + minute),
    ]


def test_a_redelivered_event_counts_once(ledger, path):
    """However often and with whatever else it comes, and whatever it says the second time."""
    event, other = make_event(), make_event()
    changed = make_event(id=event.id, subject="somebody else")

    for batch in ([event], [event, other], [other, event], [changed]):
        ledger.deliver(batch_of(batch))

    assert ledger.query(TOTALS).total == 240
    assert [row[8] for row in rollups(path)] == [2, 2]


def test_the_same_id_of_another_source_is_another_event(ledger):
    """Identity is source and id."""
    event = make_event()

    ledger.deliver(batch_of([event]))
    ledger.deliver(batch_of([make_event(id=event.id, source="another")]))

    assert ledger.query(TOTALS).total == 240


def test_delivered_is_on_the_disk(ledger, path, tmp_path):
    """A process that is killed right after `deliver` leaves the batch to the next."""
    event = make_event()
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from llm_metering.ledger import Ledger\n"
        "from llm_metering.sinks import Envelope\n"
        "envelope = Envelope(sys.argv[2], sys.argv[3].encode())\n"
        "assert Ledger(Path(sys.argv[1])).deliver([envelope]).accepted\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    arguments = [str(path), event.id, envelope_of(event).payload.decode()]

    child = subprocess.run([sys.executable, "-c", code, *arguments], check=False)

    assert child.returncode == -signal.SIGKILL
    assert path.with_name("ledger.db-wal").exists()
    assert ledger.query(TOTALS).total == 120


def test_it_syncs_each_batch(ledger, path):
    """The journal forgets what was accepted, so accepted means that it survives a power cut."""
    ledger.deliver(batch_of([make_event()]))

    connection = ledger._handle._connection
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_nobody_else_may_read_it(ledger, path):
    """It names customers."""
    ledger.deliver(batch_of([make_event()]))

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert modes == {"ledger.db": 0o600, "ledger.db-wal": 0o600, "ledger.db-shm": 0o600}


def deliver_in_turns(arguments: tuple[Path, list[Envelope]]) -> int:
    """Deliver one by one, offering again what was not taken; how many were accepted."""
    path, batch = arguments
    accepted: set[str] = set()
    with closing(Ledger(path)) as ledger:
        while len(accepted) < len(batch):
            for envelope in batch:
                accepted |= ledger.deliver([envelope]).accepted
    return len(accepted)


def test_many_processes_share_it(path, ledger):
    """From its making on: four processes, half of whose events are the same, lose and double none."""
    common = batch_of([make_event() for _ in range(20)])
    jobs = [(path, common + batch_of([make_event() for _ in range(20)])) for _ in range(4)]

    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(deliver_in_turns, jobs)) == [40] * 4

    assert ledger.query(usage_query("calls_total")).total == 20 + 4 * 20


together: list[Any] = []
"""In a process of the pool: the barrier that all of them meet at."""


def meet_at(barrier: Any) -> None:
    """Note where the processes of the pool meet."""
    together.append(barrier)


def open_and_close(folder: Path) -> set[str | None]:
    """Deliver to a ledger after the other, each opened anew; returns what was in the way."""
    reasons: set[str | None] = set()
    for number in range(60):
        together[0].wait(60)
        for _ in range(6):
            with closing(Ledger(folder / str(number) / "ledger.db")) as ledger:
                reasons.add(ledger.deliver(batch_of([make_event()])).reason)
    return reasons


def test_many_that_open_and_close_it_wait_for_each_other(tmp_path):
    """Who makes it, and who is the last to close it, keeps the others waiting: no delivery fails of it."""
    context = get_context("spawn")
    with ProcessPoolExecutor(
        4, mp_context=context, initializer=meet_at, initargs=(context.Barrier(4),)
    ) as pool:
        found = list(pool.map(open_and_close, [tmp_path] * 4))

    assert found == [{None}] * 4


def test_many_may_make_it_at_once(tmp_path):
    """Whoever comes second finds it made: it waits at most, and is never held."""
    deliveries: list[Delivery] = []

    def deliver(path: Path, start: threading.Barrier) -> None:
        batch = batch_of([make_event()])
        with closing(Ledger(path)) as ledger:
            start.wait()
            for _ in range(100):
                delivery = ledger.deliver(batch)
                deliveries.append(delivery)
                if delivery.accepted:
                    break

    for round_ in range(10):
        path = tmp_path / str(round_) / "ledger.db"
        start = threading.Barrier(4)
        threads = [threading.Thread(target=deliver, args=(path, start)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with closing(Ledger(path)) as ledger:
            assert ledger.query(TOTALS).total == 4 * 120

    assert {delivery.reason for delivery in deliveries if delivery.hold} == set()


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param('"total_tokens":-1', "total_tokens", id="negative"),
        pytest.param('"total_tokens":1.5', "total_tokens", id="a fraction"),
        pytest.param('"total_tokens":"12"', "total_tokens", id="text"),
        pytest.param('"calls":true', "calls", id="true"),
        pytest.param(
            '"input_tokens":1000000000001', "input_tokens", id="more than a call can have"
        ),
        pytest.param('"calls":99999999999999999999999999', "calls", id="beyond SQLite's integers"),
    ],
)
def test_counts_that_are_none_are_rejected(ledger, data, reason):
    """They would make sums wrong for everybody, and a zero in their place would be a lie."""
    payload = (
        '{"id":"1","source":"s","type":"llm.usage","subject":"c","time":"2026-11-21T00:00:00Z",'
        f'"data":{{{data}}}}}'
    )

    delivery = ledger.deliver([Envelope("1", payload.encode()), envelope_of(make_event())])

    text = f"its {reason} is no whole number between 0 and 10^12"
    assert delivery.rejected == {("1", text)}
    assert ledger.query(TOTALS).total == 120


@pytest.mark.parametrize("time", ["1969-12-31T23:59:59Z", "9999-01-01T00:00:00Z"])
def test_times_no_call_can_have_are_rejected(ledger, time):
    """A window of theirs could not be named."""
    payload = envelope_of(make_event()).payload.replace(b"2026-11-21T12:00:00.000Z", time.encode())

    delivery = ledger.deliver([Envelope("1", payload)])

    assert delivery.rejected == {("1", "its time is not between 1970 and 9998")}


def test_words_that_are_none_are_unknown(ledger):
    """A model or provider that is no text, or an empty one, is nobody's."""
    payload = envelope_of(make_event()).payload
    batch = [
        Envelope("1", payload.replace(b'"gpt-5-mini"', b'""').replace(b'"openai"', b"[1]")),
    ]

    assert ledger.deliver(batch) == Delivery.all_accepted(batch)
    [row] = ledger.query(usage_query(group_by=["model", "provider"]))
    assert row.group_by == {"model": None, "provider": None}


def test_a_locked_ledger_is_tried_later(ledger, path, monkeypatch):
    """Somebody else's long transaction passes."""
    monkeypatch.setattr(_files, "BUSY_TIMEOUT", 0.01)
    batch = batch_of([make_event()])
    bad = Envelope("bad", b"{")
    ledger.deliver(batch_of([make_event()]))
    ledger.close()

    with opened(path) as other:
        other.execute("BEGIN IMMEDIATE")
        during = ledger.deliver([*batch, bad])
    after = ledger.deliver(batch)

    assert during == Delivery(
        retryable=frozenset({batch[0].id}),
        rejected=frozenset({("bad", "no CloudEvent: Input data was truncated")}),
        reason="another process keeps the ledger locked",
    )
    assert after == Delivery.all_accepted(batch)
    assert ledger.query(TOTALS).total == 240


def test_a_full_disk_is_tried_later(ledger, path):
    """Nothing of the batch is kept, and it goes on when there is room."""
    ledger.deliver(batch_of([make_event()]))
    connection = ledger._handle._connection
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")
    batch = batch_of([make_event(dimensions={"size": "x" * 100_000}), make_event()])

    during = ledger.deliver(batch)
    after = ledger.deliver(batch)

    assert during == Delivery.try_later(batch, "no space is left for the ledger")
    assert after == Delivery.all_accepted(batch)
    assert ledger.query(TOTALS).total == 360


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that other users can enter; pytest's own they cannot."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_nobody(work) -> bool:
    """Do `work` in a child without root's right to write everything."""

    def unprivileged() -> bool:
        if os.geteuid() == 0:
            os.setegid(65534)
            os.seteuid(65534)
        return work()

    return in_child(unprivileged)


def test_a_read_only_ledger_holds(public_folder):
    """Trying soon again changes no permission. Asking needs it too: SQLite shares a log there."""
    path = public_folder / "ledger.db"
    with closing(Ledger(path)) as ledger:
        ledger.deliver(batch_of([make_event()]))
    path.chmod(0o444)
    public_folder.chmod(0o555)
    batch = batch_of([make_event()])

    def work() -> bool:
        with closing(Ledger(path)) as ledger:
            reason = "this process may not write the ledger or its folder"
            with pytest.raises(LedgerError, match=reason):
                ledger.query(TOTALS)
            return ledger.deliver(batch) == Delivery.try_later(batch, reason, hold=True)

    assert as_nobody(work)


def test_a_folder_that_cannot_be_made_holds(public_folder):
    """The reason names the trouble."""
    public_folder.chmod(0o555)
    batch = batch_of([make_event()])

    def work() -> bool:
        reason = "the ledger's file or folder: Permission denied"
        with closing(Ledger(public_folder / "home" / "ledger.db")) as ledger:
            return ledger.deliver(batch) == Delivery.try_later(batch, reason, hold=True)

    assert as_nobody(work)


def test_a_newer_ledger_holds_and_cannot_be_asked(ledger, path):
    """Even if it becomes newer while it is open: an upgraded process shares the home."""
    first = batch_of([make_event()])
    ledger.deliver(first)
    with opened(path) as newer:
        newer.execute("UPDATE meta SET value = 7 WHERE key = 'oldest_writer'")
        newer.execute("PRAGMA user_version = 9")
    batch = batch_of([make_event()])

    delivery = ledger.deliver(batch)

    reason = (
        "the ledger was written by a newer llm-metering (schema 9, for 7 and later; this is 6);"
        " upgrade it here too"
    )
    assert delivery == Delivery.try_later(batch, reason, hold=True)
    with pytest.raises(LedgerError, match="newer llm-metering"):
        ledger.query(TOTALS)
    with opened(path) as newer:
        assert newer.execute("SELECT count(*) FROM events").fetchone() == (1,)


def test_a_newer_ledger_that_takes_old_writers_is_used(ledger, path):
    """A schema that only added something goes on being written, and stays what it is."""
    ledger.deliver(batch_of([make_event()]))
    ledger.close()
    with opened(path) as newer:
        newer.execute("ALTER TABLE events ADD COLUMN price TEXT")
        newer.execute("PRAGMA user_version = 9")

    assert ledger.deliver(batch_of([make_event()])).accepted
    assert ledger.query(TOTALS).total == 240
    with opened(path) as newer:
        assert newer.execute("PRAGMA user_version").fetchone() == (9,)


@pytest.mark.parametrize("version", [0, 3])
def test_another_applications_database_is_left_alone(ledger, path, version):
    """Its tables are not ours to extend, and not even its journal mode is changed."""
    path.parent.mkdir()
    with opened(path) as theirs:
        theirs.execute("CREATE TABLE invoices (number)")
        theirs.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()

    delivery = ledger.deliver(batch_of([make_event()]))

    assert delivery.retryable
    assert delivery.hold
    with pytest.raises(LedgerError):
        ledger.query(TOTALS)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(ledger, path):
    """Held until somebody looks at it."""
    path.parent.mkdir()
    path.write_bytes(b"not a database" * 100)

    delivery = ledger.deliver(batch_of([make_event()]))

    assert delivery.reason == "the ledger's file is no SQLite database"
    assert delivery.hold
    assert path.read_bytes() == b"not a database" * 100


def test_an_empty_file_becomes_a_ledger(ledger, path):
    """Such as one that another process has only just begun to make."""
    path.parent.mkdir()
    path.touch()

    assert len(ledger.query(TOTALS)) == 0
    assert ledger.deliver(batch_of([make_event()])).accepted
    assert ledger.query(TOTALS).total == 120


def test_a_removed_file_is_made_anew(ledger, path):
    """What is written into a file that has no name any more would be accepted and gone."""
    ledger.deliver(batch_of([make_event()]))
    for file in path.parent.iterdir():
        file.unlink()

    assert ledger.deliver(batch_of([make_event()])).accepted
    assert ledger.query(TOTALS).total == 120
    assert path.exists()


def test_asking_makes_nothing(ledger, path):
    """Where nothing was delivered there is nothing, not even a file afterwards."""
    assert list(ledger.query(TOTALS)) == []
    assert not path.parent.exists()


def locks_of(pid: int, path: Path) -> int:
    """How many locks a process holds on the ledger's files."""
    inodes = {str(file.stat().st_ino) for file in path.parent.iterdir()}
    rows = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    return sum(row[4] == str(pid) and row[5].rpartition(":")[2] in inodes for row in rows)


def test_a_forked_child_takes_locks_of_its_own(ledger, path):
    """Without, a process that closes the file last takes the child's log away under it."""
    ledger.deliver(batch_of([make_event()]))
    assert locks_of(os.getpid(), path)

    def work() -> bool:
        ledger.deliver(batch_of([make_event()]))
        return locks_of(os.getpid(), path) > 0

    assert in_child(work)
    assert ledger.query(TOTALS).total == 240


def test_a_fork_waits_for_a_batch_but_not_long(ledger, monkeypatch):
    """Forked in mid-batch, the child keeps its hands off; the parent goes on."""
    monkeypatch.setattr(forks, "FORK_PATIENCE", 0.01)
    batch = batch_of([make_event()])
    inside, leave = threading.Event(), threading.Event()

    def write() -> None:
        with ledger._handle.writing() as connection:
            connection.execute("BEGIN IMMEDIATE")
            inside.set()
            leave.wait(30)  # not for ever: a failing test must come to its end
            connection.execute("COMMIT")

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    inside.wait()

    def work() -> bool:
        delivery = ledger.deliver(batch)
        with pytest.raises(LedgerError, match="forked"):
            ledger.query(TOTALS)
        ledger.close()
        return delivery == Delivery.try_later(batch, delivery.reason, hold=True)

    assert in_child(work)
    leave.set()
    thread.join()
    assert ledger.deliver(batch) == Delivery.all_accepted(batch)


def test_a_question_keeps_no_batch_waiting(ledger):
    """Usage may be asked for seconds; what is recorded meanwhile is taken in."""
    first, second = batch_of([make_event()]), batch_of([make_event()])
    ledger.deliver(first)
    done = threading.Event()

    def write() -> None:
        ledger.deliver(second)
        done.set()

    with ledger._handle.reading() as connection:
        asked = connection.execute("SELECT rowid FROM events")
        assert asked.fetchone()
        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        assert done.wait(30)
    thread.join()
    assert ledger.query(TOTALS).total == 240


def test_a_fork_waits_for_a_question_but_not_long(ledger, monkeypatch):
    """Forked in the middle of one, the child keeps its hands off the connection it inherited."""
    monkeypatch.setattr(forks, "FORK_PATIENCE", 0.01)
    batch = batch_of([make_event()])
    ledger.deliver(batch)
    ledger.close()
    inside, leave = threading.Event(), threading.Event()

    def ask() -> None:
        with ledger._handle.reading() as connection:
            asked = connection.execute("SELECT rowid FROM events")
            inside.set()
            leave.wait(30)  # not for ever: a failing test must come to its end
            assert asked.fetchone()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    inside.wait()

    def work() -> bool:
        return ledger.deliver(batch).hold

    assert in_child(work)
    leave.set()
    thread.join()
    assert ledger.deliver(batch) == Delivery.all_accepted(batch)
    assert in_child(lambda: ledger.deliver(batch) == Delivery.all_accepted(batch))


def _as_if_forked(monkeypatch, ledger):
    """Make this process look like a child that no hook has run in."""
    monkeypatch.setattr(forks, "_fork_aware", {ledger._handle})
    monkeypatch.setattr(forks, "_pid", -1)


def test_a_fork_behind_pythons_back_is_noticed(ledger, monkeypatch):
    """As uWSGI forks: without hooks, so that an open connection was inherited."""
    batch = batch_of([make_event()])
    ledger.deliver(batch)
    _as_if_forked(monkeypatch, ledger)

    delivery = ledger.deliver(batch)

    assert delivery.hold
    assert "py-call-uwsgi-fork-hooks" in delivery.reason
    assert ledger._handle._connection is None


def test_a_fork_behind_pythons_back_before_any_use_is_harmless(ledger, monkeypatch):
    """Nothing was open, so nothing was inherited."""
    _as_if_forked(monkeypatch, ledger)

    assert ledger.deliver(batch_of([make_event()])).accepted


def test_asking_while_somebody_writes(ledger, path):
    """A reader sees what was committed, and waits for nobody."""
    ledger.deliver(batch_of([make_event()]))

    with opened(path) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM recent")
        other.execute("DELETE FROM quarters")
        assert ledger.query(TOTALS).total == 120


@pytest.mark.parametrize("count", [1, 49, 50, 51, 120])
def test_a_batch_of_any_size_is_stored_once(ledger, path, count):
    """However many rows a statement takes, each event of a batch is there, and once."""
    batch = batch_of(make_event() for _ in range(count))

    ledger.deliver(batch[: count // 2])
    assert ledger.deliver(batch) == Delivery.all_accepted(batch)

    with opened(path) as connection:
        stored = connection.execute("SELECT count(*), count(DISTINCT id) FROM events").fetchone()
    assert stored == (count, count)
    (row,) = ledger.query(TOTALS)
    assert row.value == 120 * count


def test_the_sources_of_a_ledger(ledger):
    """Each once and sorted; none while nothing was delivered."""
    assert ledger.sources() == []

    ledger.deliver(batch_of(make_event(source=each) for each in ("shop", "api", "shop", "web")))

    assert ledger.sources() == ["api", "shop", "web"]
