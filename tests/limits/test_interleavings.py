"""Whatever happens in whatever order, a balance adds up and is burnt in the order of a model."""

from __future__ import annotations

import tempfile
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

from llm_metering.errors import BalanceExceeded
from llm_metering.events import UsageEvent, encode
from llm_metering.limits import (
    FEATURES,
    Amounts,
    Grant,
    Limits,
    LimitsSink,
    PostgresStore,
    Recurrence,
    SQLiteStore,
)
from llm_metering.limits.stores import postgres, sqlite
from llm_metering.limits.written import microseconds
from llm_metering.sinks.base import Envelope
from llm_metering.token_usage import TokenUsage

from .model import START, Model, hour
from .test_stores import Clock

SUBJECT = "acme"
LONGEST = 6


def no_prices():
    raise AssertionError("only tokens are granted here")


def envelope(number, tokens, at, reservation):
    """The event of a call."""
    event = UsageEvent(
        id=f"e{number}",
        source="tests",
        subject=SUBJECT,
        time=at,
        provenance="reported",
        status="completed",
        usage=TokenUsage(input_tokens=tokens, output_tokens=0),
        provider="openai",
        model="gpt-x",
        reservation_id=reservation,
    )
    return Envelope(event.id, encode(event))


class Interleavings(RuleBasedStateMachine):
    """`Limits` and the sink beside a model of one balance; processes die and others go on."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.model = Model(every=24)
        self.names = []
        self.open = {}
        self.mine = {}
        self.settled = set()
        self.stores = []
        self._prepare()
        self._start()

    def _prepare(self):
        self.folder = tempfile.TemporaryDirectory()
        self.patch.setattr(sqlite, "_now", lambda: microseconds(hour(self.model.now)))

    def _opened(self):
        return SQLiteStore(Path(self.folder.name) / "limits.db", FEATURES)

    def _start(self):
        """What a process has, of which none knows what another had in its memory."""
        self.stores.append(self._opened())
        self.limits = Limits(self.stores[-1], source="by hand")
        amounts = Amounts(FEATURES, prices=no_prices, credits=no_prices)
        self.sink = LimitsSink(self.limits, url="limits:", amounts=amounts)

    def teardown(self):
        for store in self.stores:
            store.close()
        self.patch.undo()
        self.folder.cleanup()

    def _reserved(self):
        return sum(amount for amount, ends_at in self.open.values() if ends_at > self.model.now)

    def _close(self, name):
        if name in self.open:
            self.open[name] = (self.open[name][0], 0)

    def _pass(self, hours):
        self.model.wait_until(self.model.now + hours)
        self._set_clock()

    def _set_clock(self):
        """SQLite's is that of the model."""

    @rule(
        amount=st.integers(1, 50),
        delay=st.integers(-3, 5),
        length=st.sampled_from([None, 4, 30]),
        priority=st.integers(1, 3),
        rollover=st.integers(0, 40),
        recurs=st.sampled_from([None, "DAY"]),
    )
    def grant(self, amount, delay, length, priority, rollover, recurs):
        at = hour(self.model.now + delay)
        ends_at = None if length is None else at + timedelta(hours=length)
        again = None if recurs is None else Recurrence(interval=recurs, anchor=START)
        made = self.limits.grant(
            SUBJECT,
            amount,
            priority=priority,
            effective_at=at,
            expires_at=ends_at,
            max_rollover=rollover,
            recurrence=again,
            usage_period=Recurrence(interval="DAY", anchor=START),
        )
        self.names.append(made.id)
        self.model.add(
            Grant(
                id=made.id,
                amount=amount,
                priority=priority,
                created_at=hour(self.model.now),
                effective_at=at,
                expires_at=ends_at,
                max_rollover=rollover,
                recurrence=again,
            )
        )

    @precondition(lambda self: self.names)
    @rule(number=st.integers(0, 20))
    def void_a_grant(self, number):
        name = self.names[number % len(self.names)]
        had_not_ended = self.model.ends[name] > self.model.now
        assert self.limits.void_grant(SUBJECT, name) == had_not_ended
        self.model.void(name)

    @rule(amount=st.integers(1, 40), hours=st.integers(1, LONGEST))
    def reserve(self, amount, hours):
        free = sum(self.model.left.values()) - self._reserved()
        if free < amount or not self.names:
            with pytest.raises(BalanceExceeded) as caught:
                self.limits.reserve(SUBJECT, amount, expires_in=hours * 3600)
            seen = caught.value.balance, caught.value.needed
            assert seen == (free if self.names else None, amount)
            return
        made = self.limits.reserve(SUBJECT, amount, expires_in=hours * 3600)
        self.mine[made.id] = made
        self.open[made.id] = (amount, self.model.now + hours)

    def _one(self, among, number):
        return list(among)[number % len(among)]

    @precondition(lambda self: self.mine)
    @rule(number=st.integers(0, 20), hours=st.integers(1, LONGEST))
    def renew(self, number, hours):
        name = self._one(self.mine, number)
        amount, ends_at = self.open[name]
        assert self.mine[name].renew(hours * 3600) == (ends_at > self.model.now)
        if ends_at > self.model.now:
            self.open[name] = (amount, max(ends_at, self.model.now + hours))

    @precondition(lambda self: self.mine)
    @rule(number=st.integers(0, 20))
    def void_a_reservation(self, number):
        name = self._one(self.mine, number)
        assert self.mine[name].void() == (self.open[name][1] > self.model.now)
        self._close(name)

    @precondition(lambda self: self.mine)
    @rule(number=st.integers(0, 20), used=st.integers(0, 60))
    def settle_by_hand(self, number, used):
        """Also what has ended, and what was settled before."""
        name = self._one(self.mine, number)
        self.mine[name].settle(used)
        if name not in self.settled:
            self.settled.add(name)
            self._close(name)
            self.model.burn(used)

    @rule(
        events=st.lists(
            st.tuples(
                st.integers(0, 12),
                st.integers(0, 60),
                st.integers(0, 40),
                st.one_of(st.none(), st.integers(0, 20)),
            ),
            min_size=1,
            max_size=4,
        )
    )
    def deliver(self, events):
        """Events of now or late ones, of reservations that may be somebody's who died; some again."""
        batch = []
        for number, used, late, place in events:
            name = None if place is None or not self.open else self._one(self.open, place)
            batch.append(envelope(number, used, hour(self.model.now - late), name))
            if number not in self.settled:
                self.settled.add(number)
                self._close(name)
                if self.names:
                    self.model.burn(used)
        delivery = self.sink.deliver(batch)
        assert delivery.accepted == {each.id for each in batch}

    @rule(hours=st.integers(1, 30))
    def wait(self, hours):
        self._pass(hours)

    @rule(lapses=st.booleans())
    def crash(self, lapses):
        """Nobody renews or settles by hand what the dead had reserved; it ends, or its event comes."""
        self.mine.clear()
        self._start()
        if lapses:
            self._pass(LONGEST)
            assert self.limits.reservations() == []

    @invariant()
    def it_adds_up(self):
        balance = self.limits.balance(SUBJECT)
        assert (
            balance.available == balance.granted - balance.used + balance.overage - balance.reserved
        )
        assert balance.reserved == self._reserved()

    @invariant()
    def it_is_burnt_in_the_order_of_the_model(self):
        balance, model = self.limits.balance(SUBJECT), self.model
        lives = {name: left for name, left in model.left.items() if model.ends[name] > model.now}
        assert {each.id: each.left for each in balance.grants} == lives
        assert (balance.used, balance.overage) == (model.usage, model.overage)
        assert balance.available == sum(lives.values()) - self._reserved()


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_it_holds_in_postgres(databases):
    """The same steps, in a database that is emptied for each example."""
    url = databases.new()

    class OnPostgres(Interleavings):
        def _prepare(self):
            self.folder = tempfile.TemporaryDirectory()
            self.clock = Clock(url)
            self.patch.setattr(postgres, "_NOW", "(SELECT moment FROM clock)")
            store = self._opened()
            self.stores.append(store)
            store.read([])
            with psycopg.connect(url, autocommit=True) as connection:
                for table in ("accounts", "reservations", "settled"):
                    connection.execute(f"DELETE FROM llm_metering_{table}")

        def _opened(self):
            return PostgresStore(url, FEATURES)

        def _set_clock(self):
            self.clock(self.model.now)

    run_state_machine_as_test(
        OnPostgres, settings=settings(max_examples=12, stateful_step_count=40, deadline=None)
    )
