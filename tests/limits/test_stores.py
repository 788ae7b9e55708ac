"""What every store of accounts does."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from llm_metering import sqlite_files
from llm_metering.errors import LimitStoreError
from llm_metering.limits import (
    FEATURES,
    Account,
    AccountKey,
    Grant,
    Hold,
    PostgresStore,
    Recurrence,
    Settlement,
    SQLiteStore,
)
from llm_metering.limits.stores import postgres, sqlite
from llm_metering.limits.written import microseconds, read_account, written

from .model import START, Model, hour

KEY = AccountKey("acme", "tokens")
OTHER = AccountKey("acme", "money")


def make(moment):
    return Account(as_of=moment)


def grant(name, amount, *, now=START, **more):
    return Grant(id=name, amount=amount, created_at=now, effective_at=more.pop("at", now), **more)


def give(store, key, amount, **more):
    store.change(key, lambda account: account.add(grant("a", amount, **more)), make=make)


class Clock:
    """The clock of a store, which is set: `clock(3)` is three hours from the beginning."""

    def __init__(self, url=None):
        self.url = url
        self.moment = START
        if url is not None:
            self._tell("CREATE TABLE IF NOT EXISTS clock AS SELECT 0::bigint AS moment")
        self(0)

    def __call__(self, hours):
        self.moment = START + timedelta(hours=hours)
        if self.url is not None:
            self._tell(f"UPDATE clock SET moment = {microseconds(self.moment)}")

    def _tell(self, statement):
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    """Where a store is: a file, or the URL of a database."""
    if request.param == "sqlite":
        return tmp_path / "limits.db"
    return request.getfixturevalue("databases").new()


def store_at(place):
    """A store, as each process opens it."""
    kind = SQLiteStore if isinstance(place, Path) else PostgresStore
    return kind(place, FEATURES)


@pytest.fixture
def clock(place, monkeypatch):
    if isinstance(place, Path):
        clock = Clock()
        monkeypatch.setattr(sqlite, "_now", lambda: microseconds(clock.moment))
        return clock
    monkeypatch.setattr(postgres, "_NOW", "(SELECT moment FROM clock)")
    return Clock(place)


@pytest.fixture
def store(place):
    with closing(store_at(place)) as store:
        yield store


@pytest.fixture
def file(tmp_path):
    with closing(SQLiteStore(tmp_path / "limits.db", FEATURES)) as store:
        yield store


def test_what_is_reserved_is_not_reserved_twice(store, clock):
    """And what is used beyond it is burnt all the same."""
    give(store, KEY, 100)
    assert store.reserve(Hold(id="r1", amounts={KEY: 60}, seconds=60)) is None
    short = store.reserve(Hold(id="r2", amounts={KEY: 41}, seconds=60))
    assert (short.key, short.available, short.needed, short.changes_at) == (KEY, 40, 41, None)
    assert store.reserve(Hold(id="r1", amounts={KEY: 60}, seconds=60)) is None

    used = Settlement(source="s", id="e1", reservation="r1", amounts={KEY: 75})
    assert [set(store.settle([used])) for _ in range(2)] == [{KEY}, set()]
    held = store.read([KEY])[KEY]
    assert (held.account.left, held.reserved, held.account.usage) == (25, 0, 75)


def test_all_accounts_of_a_reservation_have_enough_or_none_is_touched(store, clock):
    give(store, KEY, 100)
    give(store, OTHER, 10**12)
    hold = Hold(id="r", amounts={KEY: 10, OTHER: 1_000_001}, seconds=60)
    assert store.reserve(hold).key == OTHER
    assert store.read([KEY])[KEY].reserved == 0
    missing = Hold(id="r", amounts={KEY: 10, AccountKey("zoo", "tokens"): 1}, seconds=60)
    assert store.reserve(missing).available is None
    fits = Hold(id="r", amounts={KEY: 10, OTHER: 1_000_000}, seconds=60)
    assert store.reserve(fits) is None
    assert {key: held.reserved for key, held in store.read([KEY, OTHER]).items()} == fits.amounts


def test_a_reservation_ends_unless_it_is_renewed(store, clock):
    give(store, KEY, 100)
    for name in ("kept", "left"):
        store.reserve(Hold(id=name, amounts={KEY: 50}, seconds=3600))
    clock(0.5)
    assert store.renew(["kept", "no such"], 3600) == {"kept"}
    clock(1)
    assert store.read([KEY])[KEY].reserved == 50
    assert store.renew(["left"], 3600) == set()
    assert store.reserve(Hold(id="next", amounts={KEY: 50}, seconds=60)) is None
    assert not store.release("left")
    assert store.release("kept")
    assert store.read([KEY])[KEY].reserved == 50


def test_time_passes_for_an_account_that_nobody_asks_for(store, clock):
    """Grants begin, end and come again between two questions; a refusal says when the next does."""
    daily = Recurrence(interval="DAY", anchor=START)
    give(store, KEY, 10, at=hour(5), recurrence=daily, expires_at=hour(49))
    short = store.reserve(Hold(id="r", amounts={KEY: 1}, seconds=60))
    assert (short.available, short.changes_at) == (0, hour(5))
    clock(6)
    assert store.reserve(Hold(id="r", amounts={KEY: 10}, seconds=60)) is None
    store.settle([Settlement(source="s", id="e", reservation="r", amounts={KEY: 10})])
    assert store.reserve(Hold(id="s", amounts={KEY: 1}, seconds=60)).changes_at == hour(24)
    clock(25)
    assert store.reserve(Hold(id="s", amounts={KEY: 1}, seconds=60)) is None
    clock(50)
    assert store.reserve(Hold(id="t", amounts={KEY: 1}, seconds=60)).available == 0
    assert store.read([KEY])[KEY].account.left == 0


def test_usage_without_an_account_is_passed_over(store, clock):
    assert store.settle([Settlement(source="s", id="e", amounts={KEY: 5})]) == {}
    assert store.read([KEY]) == {}


def test_a_store_of_somebody_newer_is_left_alone(file, tmp_path):
    give(file, KEY, 1)
    file.close()
    with closing(sqlite3.connect(tmp_path / "limits.db")) as connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(LimitStoreError, match="newer llm-metering"):
        give(file, KEY, 1)


def test_a_store_that_is_locked_says_so(file, tmp_path, monkeypatch):
    give(file, KEY, 1)
    file.close()
    monkeypatch.setattr(sqlite_files, "BUSY_TIMEOUT", 0.01)
    with closing(sqlite3.connect(tmp_path / "limits.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LimitStoreError, match="locked"):
            file.reserve(Hold(id="r", amounts={KEY: 1}, seconds=60))
        other.execute("ROLLBACK")
    assert file.reserve(Hold(id="r", amounts={KEY: 1}, seconds=60)) is None


def test_a_file_that_was_taken_away_is_made_anew(file, tmp_path):
    """What goes into a file that nobody finds any more would be gone."""
    give(file, KEY, 1)
    for name in ("", "-wal", "-shm"):
        (tmp_path / f"limits.db{name}").unlink()
    give(file, OTHER, 5)
    assert file.read([KEY, OTHER]).keys() == {OTHER}
    assert (tmp_path / "limits.db").stat().st_mode & 0o777 == 0o600


def test_a_forked_child_uses_the_store_as_well(store):
    """With a connection of its own: neither loses what the other wrote."""
    give(store, KEY, 1000)
    for number in range(3):
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                done = [
                    store.reserve(Hold(id=f"{number}-{each}", amounts={KEY: 1}, seconds=600))
                    for each in range(50)
                ]
                code = 0 if done == [None] * 50 else 2
            os._exit(code)
        for each in range(50):
            assert (
                store.reserve(Hold(id=f"p{number}-{each}", amounts={KEY: 1}, seconds=600)) is None
            )
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.read([KEY])[KEY].reserved == 300


def test_accounts_are_written_and_read_as_they_are():
    account = Account(as_of=START, period=Recurrence(interval="WEEK", anchor=START))
    account.add(
        grant(
            "a",
            10**30,
            recurrence=Recurrence(interval="MONTH", anchor=START, time_zone="Asia/Tokyo"),
        )
    )
    account.add(grant("ü", 5, expires_at=hour(9), priority=3, max_rollover=2))
    account.burn(7)
    account.void("a")
    assert read_account(written(account)) == account


def _take_and_settle(place, number, threads, rounds):
    """Reserve and settle from many threads; how often it was refused."""
    store = store_at(place)

    def work(thread):
        refused = 0
        for each in range(rounds):
            name = f"{number}-{thread}-{each}"
            while True:
                try:
                    short = store.reserve(Hold(id=name, amounts={KEY: 10}, seconds=600))
                    break
                except LimitStoreError:
                    continue
            if short is not None:
                refused += 1
                continue
            settlement = Settlement(source="s", id=name, reservation=name, amounts={KEY: 7})
            while True:
                try:
                    assert len(store.settle([settlement])) <= 1
                    break
                except LimitStoreError:
                    continue
        return refused

    with closing(store), ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, range(threads)))


def test_many_processes_take_from_one_account(place):
    """Never more is reserved than there is, and what is left is exact."""
    with closing(store_at(place)) as store:
        give(store, KEY, 7 * 250)
        seen = []
        done = threading.Event()

        def watch():
            while not done.is_set():
                held = store.read([KEY])[KEY]
                seen.append((held.account.left, held.reserved))

        watching = threading.Thread(target=watch)
        watching.start()
        context = multiprocessing.get_context("spawn")
        with context.Pool(4) as pool:
            refused = sum(
                pool.starmap(_take_and_settle, [(place, number, 16, 5) for number in range(4)])
            )
        done.set()
        watching.join()
        held = store.read([KEY])[KEY]
    assert held.reserved == 0
    assert held.account.left == 7 * 250 - 7 * (320 - refused)
    assert held.account.overage == 0
    assert held.account.left < 10 or not refused
    assert all(reserved <= left for left, reserved in seen)
    assert len({reserved for _, reserved in seen}) > 3


class Stores(RuleBasedStateMachine):
    """A store beside a model of one account, with a clock that is set."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.model = Model(every=24)
        self.open = {}
        self.settled = set()
        self.made = 0
        self._begin()

    def _begin(self):
        self.folder = tempfile.TemporaryDirectory()
        self.patch.setattr(sqlite, "_now", lambda: microseconds(hour(self.model.now)))
        self.store = SQLiteStore(Path(self.folder.name) / "limits.db", FEATURES)

    def teardown(self):
        self.store.close()
        self.patch.undo()
        self.folder.cleanup()

    def _make(self, moment):
        return Account(as_of=moment, period=Recurrence(interval="DAY", anchor=START))

    def _reserved(self):
        return sum(steps for steps, ends_at in self.open.values() if ends_at > self.model.now)

    @rule(
        amount=st.integers(1, 50),
        delay=st.integers(0, 5),
        length=st.sampled_from([None, 3, 30]),
        priority=st.integers(1, 3),
        rollover=st.integers(0, 40),
        recurs=st.sampled_from([None, "HOUR", "DAY"]),
    )
    def add(self, amount, delay, length, priority, rollover, recurs):
        self.made += 1
        at = hour(self.model.now + delay)
        made = Grant(
            id=f"g{self.made}",
            amount=amount,
            created_at=hour(self.model.now),
            effective_at=at,
            expires_at=None if length is None else at + timedelta(hours=length),
            priority=priority,
            max_rollover=rollover,
            recurrence=None if recurs is None else Recurrence(interval=recurs, anchor=START),
        )
        self.store.change(KEY, lambda account: account.add(made), make=self._make)
        self.model.add(made)

    @precondition(lambda self: self.made)
    @rule(number=st.integers(1, 5))
    def void(self, number):
        self.store.change(KEY, lambda account: account.void(f"g{number}"), make=self._make)
        self.model.void(f"g{number}")

    @rule(steps=st.integers(1, 40), hours=st.integers(1, 6))
    def reserve(self, steps, hours):
        name = f"r{len(self.open)}"
        free = sum(self.model.left.values()) - self._reserved()
        short = self.store.reserve(Hold(id=name, amounts={KEY: steps}, seconds=hours * 3600))
        if not self.made:
            assert short.available is None
        elif free < steps:
            assert (short.available, short.needed) == (free, steps)
        else:
            assert short is None
            self.open[name] = (steps, self.model.now + hours)

    @rule(number=st.integers(0, 5), hours=st.integers(1, 6))
    def renew(self, number, hours):
        name = f"r{number}"
        steps, ends_at = self.open.get(name, (0, 0))
        found = self.store.renew([name], hours * 3600)
        assert found == ({name} if ends_at > self.model.now else set())
        if found:
            self.open[name] = (steps, max(ends_at, self.model.now + hours))

    @rule(number=st.integers(0, 5))
    def release(self, number):
        name = f"r{number}"
        steps, ends_at = self.open.get(name, (0, 0))
        assert self.store.release(name) == (ends_at > self.model.now)
        if name in self.open:
            self.open[name] = (steps, 0)

    @rule(
        event=st.integers(0, 8),
        number=st.one_of(st.none(), st.integers(0, 5)),
        parts=st.integers(0, 60),
    )
    def settle(self, event, number, parts):
        """With a reservation or without, also one that has ended; and again."""
        name = None if number is None else f"r{number}"
        settlement = Settlement(source="s", id=f"e{event}", reservation=name, amounts={KEY: parts})
        is_new = event not in self.settled
        burnt = self.store.settle([settlement, settlement])
        assert set(burnt) == ({KEY} if is_new and self.made else set())
        if is_new:
            self.settled.add(event)
            if name in self.open:
                self.open[name] = (self.open[name][0], 0)
            if self.made:
                self.model.burn(parts)

    @rule(hours=st.integers(1, 30))
    def wait(self, hours):
        self.model.wait_until(self.model.now + hours)
        self._set_clock()

    def _set_clock(self):
        """SQLite's is that of the model."""

    @rule()
    def begin_anew(self):
        """As another process would find it."""
        self.store.close()

    @invariant()
    def it_is_as_the_model_says(self):
        held = self.store.read([KEY]).get(KEY)
        if not self.made:
            assert held is None
            return
        account = held.account
        assert {each.grant.id: each.left for each in account.holdings} == self.model.left
        assert (account.usage, account.overage) == (self.model.usage, self.model.overage)
        assert held.reserved == self._reserved()
        assert account.granted == account.left + account.burnt + account.lapsed


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_postgres_is_as_the_model_says(databases):
    """The same steps, in a database that is emptied for each example."""
    url = databases.new()

    class OnPostgres(Stores):
        def _begin(self):
            self.folder = tempfile.TemporaryDirectory()
            self.clock = Clock(url)
            self.patch.setattr(postgres, "_NOW", "(SELECT moment FROM clock)")
            self.store = PostgresStore(url, FEATURES)
            self.store.read([])
            with psycopg.connect(url, autocommit=True) as connection:
                for table in ("accounts", "reservations", "settled"):
                    connection.execute(f"DELETE FROM llm_metering_{table}")

        def _set_clock(self):
            self.clock(self.model.now)

    run_state_machine_as_test(
        OnPostgres, settings=settings(max_examples=12, stateful_step_count=30, deadline=None)
    )


def test_many_who_make_the_tables_at_once_make_them_once(databases, caplog):
    """Nobody stumbles over what another has made meanwhile."""
    for _ in range(4):
        url = databases.new()
        begin = threading.Barrier(8)

        def look(url=url, begin=begin):
            with closing(store_at(url)) as store:
                begin.wait()
                return store.keys()

        with ThreadPoolExecutor(8) as threads:
            assert [each.result() for each in [threads.submit(look) for _ in range(8)]] == [[]] * 8
    assert [record for record in caplog.records if record.name.startswith("psycopg")] == []


def test_what_is_committed_is_on_the_disk(databases):
    """Whatever the database has by default; one that waits for more is left as it is."""
    for default, expected in (("off", "on"), ("remote_write", "remote_write")):
        url = databases.new()
        name = url.partition("?")[0].rpartition("/")[2]
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = {default}")
        with closing(store_at(url)) as store, store._lent() as connection:
            assert connection.execute("SHOW synchronous_commit").fetchone() == (expected,)
