"""The gate in front of calls, while its store is out of reach, slow, or shared."""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import contextlib
import os
import threading
import time
from contextlib import closing
from datetime import UTC, datetime

import pytest

from llm_metering.calls import Call, CallStart
from llm_metering.errors import BalanceExceeded, LimitStoreError, LimitsUnavailable
from llm_metering.exchange import Counted
from llm_metering.limits import (
    FEATURES,
    AccountKey,
    Amounts,
    Estimates,
    Feature,
    Gate,
    Hold,
    Limits,
    PostgresStore,
    Settlement,
    SQLiteStore,
)
from llm_metering.subjects import Attribution, Rank
from llm_metering.testing import FakeClock

from .servers import server


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def limits(tmp_path):
    with closing(SQLiteStore(tmp_path / "limits.db", FEATURES)) as store:
        limits = Limits(store, source="tests")
        limits.grant("acme", 100_000)
        yield limits


def gate_of(limits, clock, notes, **more):
    rates = ("requests_per_minute", "tokens_per_minute")
    estimates = Estimates(
        limits,
        Amounts(FEATURES, prices=lambda: None, credits=lambda: None),
        count=lambda exchange: Counted(input_tokens=10, output_tokens=0, method="tests"),
        ceiling=more.pop("ceiling", 100),
        **{name: more.pop(name) for name in rates if name in more},
    )
    return Gate(limits, estimates, note=notes.append, clock=clock, **{"deadline": 5.0, **more})


@pytest.fixture
def notes():
    return []


@pytest.fixture
def gate(limits, clock, notes):
    with closing(gate_of(limits, clock, notes)) as gate:
        yield gate


def call_for(gate, subject="acme"):
    """A call that is about to be made."""
    start = CallStart(
        attribution=Attribution(subject=subject, rank=Rank.HANDLER), reservation=gate.prepare()
    )
    return Call.begin(object(), start, 0.0)


def test_a_store_that_is_out_of_reach_is_left_alone_for_a_second(
    gate, limits, clock, notes, monkeypatch
):
    asked = []

    def fail(hold):
        asked.append(hold)
        raise LimitStoreError("down")

    with monkeypatch.context() as patch:
        patch.setattr(limits.store, "reserve", fail)
        assert [gate.admit(call_for(gate)) for _ in range(5)] == [None] * 5
        assert asyncio.run(gate.admit_async(call_for(gate))) is None
    assert len(asked) == 1
    assert notes == ["LimitStoreError"] + ["unavailable"] * 5

    clock.advance(1.1)
    call = call_for(gate)
    assert gate.admit(call) is None
    assert limits.balance("acme").reserved == 100
    assert len(notes) == 6


def test_a_store_that_is_late_again_and_again_is_left_alone(limits, clock, notes, monkeypatch):
    go_on = threading.Event()
    reserve = limits.store.reserve
    monkeypatch.setattr(limits.store, "reserve", lambda hold: go_on.wait() and reserve(hold))
    with closing(gate_of(limits, clock, notes, deadline=0.01)) as gate:

        async def ask(times):
            return [await gate.admit_async(call_for(gate)) for _ in range(times)]

        assert asyncio.run(ask(5)) == [None] * 5
        assert notes == ["timeout"] * 3 + ["unavailable"] * 2
        go_on.set()
        clock.advance(1.1)
    # What was reserved too late was given back.
    assert limits.reservations() == []


def test_the_end_waits_for_no_store_that_does_not_answer(limits, clock, notes, monkeypatch):
    go_on, reserving = threading.Event(), threading.Semaphore(0)
    reserve, release = limits.store.reserve, limits.store.release

    def reserve_slowly(hold):
        reserving.release()
        return go_on.wait() and reserve(hold)

    held = Hold(id="held", subject="acme", amounts={AccountKey("acme", "tokens"): 7}, seconds=60)
    limits.hold(held)
    monkeypatch.setattr(limits.store, "reserve", reserve_slowly)
    monkeypatch.setattr(limits.store, "release", lambda id: go_on.wait() and release(id))
    gate = gate_of(limits, clock, notes, deadline=60.0)
    given_back = threading.Event()

    async def close_while_calls_wait():
        # More than there are threads: some wait in a store, the others for a thread.
        calls = [asyncio.ensure_future(gate.admit_async(call_for(gate))) for _ in range(12)]
        for _ in range(8):
            assert await asyncio.to_thread(reserving.acquire, timeout=30)
        gate.give_back("held", given_back.set)
        gate.close(time.monotonic())
        assert not go_on.is_set()
        go_on.set()
        return await asyncio.gather(*calls)

    assert asyncio.run(close_while_calls_wait()) == [None] * 12
    assert notes == ["closed"] * 4
    assert given_back.wait(30)
    assert limits.balance("acme").reserved == 8 * 100


@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("policy", ["allow", "refuse"])
def test_a_fault_of_ours_fails_no_call(limits, clock, notes, policy, awaited, monkeypatch):
    """It is as if nobody knew what is left."""
    with closing(gate_of(limits, clock, notes, on_store_error=policy)) as gate:
        call = call_for(gate)
        monkeypatch.setattr(Gate, "_is_new", lambda self, call: 1 / 0)
        refusal = asyncio.run(gate.admit_async(call)) if awaited else gate.admit(call)
    if policy == "refuse":
        assert isinstance(refusal, LimitsUnavailable)
        assert "ZeroDivisionError" in str(refusal)
    else:
        assert (refusal, notes) == (None, ["ZeroDivisionError"])


def test_the_end_waits_for_no_slice_either(limits, clock, notes, monkeypatch):
    """What is leased ahead and not used is given back behind it, as soon as the store answers."""
    gate = gate_of(limits, clock, notes, slices=True)
    for _ in range(30):
        assert gate.admit(call_for(gate)) is None
    leased = limits.balance("acme").reserved
    assert leased > 30 * 100
    go_on, lessen = threading.Event(), limits.store.lessen
    given_back = threading.Event()

    def lessen_slowly(*given):
        assert go_on.wait(30)
        lessen(*given)
        given_back.set()

    monkeypatch.setattr(limits.store, "lessen", lessen_slowly)
    gate.close(time.monotonic())
    assert limits.balance("acme").reserved == leased
    go_on.set()
    assert given_back.wait(30)
    assert limits.balance("acme").reserved == 30 * 100


def test_calls_that_begin_together_start_one_thread(gate, monkeypatch):
    """Of two, the end would wait for one, and leave the other at what it gives back."""
    started = []
    start = threading.Thread.start

    def slow(thread):
        if thread.name == "llm-metering-give-back":
            started.append(thread)
            time.sleep(0.1)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", slow)
    together = threading.Barrier(8)

    def begin():
        together.wait()
        gate.prepare()

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(started) == 1


def test_a_closed_gate_starts_no_threads(gate, limits):
    gate.close()
    before = threading.active_count()
    started = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", started.append)
        gate.leases.begin("late")
    assert (started, threading.active_count()) == ([], before)


def test_what_nobody_says_anything_of_is_refused(gate, notes):
    refusal = gate.admit(call_for(gate, "nobody"))
    assert isinstance(refusal, BalanceExceeded)
    assert notes == []


def test_a_database_that_goes_away_and_comes_back(clock, notes):
    """Calls go on without it, one waits for it no longer than its deadline, and it is used again."""
    with server() as databases:
        url = databases.new()
        with closing(PostgresStore(url, FEATURES)) as store:
            limits = Limits(store, source="tests")
            limits.grant("acme", 100_000)
            with closing(gate_of(limits, clock, notes, deadline=30.0)) as gate:
                assert gate.admit(call_for(gate)) is None
                databases.cut_off(url)
                # Who finds out that the connections are gone sees to it that nobody else has to.
                assert [gate.admit(call_for(gate)) for _ in range(3)] == [None] * 3
                assert notes == ["LimitStoreError", "unavailable", "unavailable"]
                clock.advance(1.1)
                reserved = limits.balance("acme").reserved
                assert gate.admit(call_for(gate)) is None
                assert limits.balance("acme").reserved == reserved + 100


def test_what_is_given_back_within_garbage_collection_waits_for_no_lock(gate, limits):
    """A finaliser may run where its thread holds the lock that all pools of threads share."""
    call = call_for(gate)
    assert gate.admit(call) is None
    done = threading.Event()
    with concurrent.futures.thread._global_shutdown_lock:
        call.reservation.release(done.set)
    assert done.wait(20)
    assert limits.reservations() == []


def test_a_call_may_ask_for_more_than_there_could_be(gate, notes):
    start = CallStart(
        attribution=Attribution(subject="acme", rank=Rank.HANDLER),
        reservation=gate.prepare(),
        output_limit=1 << 70,
    )
    assert isinstance(gate.admit(Call.begin(object(), start, 0.0)), BalanceExceeded)
    assert notes == []


def test_a_feature_of_a_model_counts_calls_by_the_name_that_was_asked_for():
    features = {"premium": Feature(key="premium", unit="tokens", models=("gpt-x",))}
    amounts = Amounts(features, prices=lambda: None, credits=lambda: None)
    answered = {"model": "gpt-x-2026-08-06", "request_model": "gpt-x", "total_tokens": 5}
    assert amounts.of(answered, datetime.now(UTC), ["premium"]) == {"premium": 5}
    assert amounts.of({**answered, "request_model": "y"}, datetime.now(UTC), ["premium"]) == {}


def test_a_feature_that_others_know_holds_up_nobody(tmp_path):
    """Another process has it in its settings: what it reserved can be settled here."""
    key = AccountKey("acme", "premium")
    theirs = {**FEATURES, "premium": Feature(key="premium", unit="tokens")}
    with (
        closing(SQLiteStore(tmp_path / "limits.db", theirs)) as there,
        closing(SQLiteStore(tmp_path / "limits.db", FEATURES)) as here,
    ):
        limits = Limits(there, source="tests", features=theirs)
        limits.grant("acme", 100, "premium")
        assert there.reserve(Hold(id="r", amounts={key: 60}, seconds=60)) is None
        used = Settlement(
            source="s", id="e", reservation="r", amounts={AccountKey("b", "tokens"): 1}
        )
        here.settle([used])
        assert limits.balance("acme", "premium").available == 100
        assert there.reserve(Hold(id="again", amounts={key: 100}, seconds=60)) is None


def test_who_pays_after_all_is_asked_where_slices_are_leased(limits, clock, notes):
    """The part of who was thought to pay is given back once, and the other one's balance decides."""
    limits.grant("poor", 50)
    with closing(gate_of(limits, clock, notes, slices=True)) as gate:
        for _ in range(30):
            assert gate.admit(call_for(gate)) is None
        call = call_for(gate)
        assert gate.admit(call) is None
        assert "/" in call.reservation.id
        before = limits.balance("acme").reserved
        call.attribution = Attribution(subject="poor", rank=Rank.HANDLER)
        assert isinstance(gate.admit(call), BalanceExceeded)
        assert notes == []
        assert "/" not in call.reservation.id
        again = call_for(gate)
        assert gate.admit(again) is None
        assert limits.balance("acme").reserved == before


def test_a_forked_child_gives_nothing_back(gate, limits):
    call = call_for(gate)
    assert gate.admit(call) is None
    with limits.reserve("acme", 5):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                call.reservation.release(lambda: None)
                gate.close()
            os._exit(0)
        os.waitpid(child, 0)
    assert limits.balance("acme").reserved == 100
