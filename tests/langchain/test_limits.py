"""`enforce=True`: a call that its payer's balance does not cover is refused before it is made."""

from __future__ import annotations

import asyncio
import gc
import pickle
import sqlite3
import threading
import warnings
from contextlib import closing
from datetime import UTC, datetime

import pytest
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_openai import OpenAI

import llm_metering
from llm_metering import BalanceExceeded, Meter, RateExceeded
from llm_metering.errors import ConfigurationError, LimitsUnavailable, MissingSubjectError
from llm_metering.langchain import MeteringHandler
from llm_metering.limits import gate as gates
from tests.books import billed, owed, prompt
from tests.langchain.asking import gpt
from tests.langchain.ways import every_way, gathered

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*is in beta", "ignore:coroutine 'ahandle_event' was never awaited"
)


@pytest.fixture(autouse=True, scope="module")
def no_coroutine_left():
    """Those coroutines are held by the tracebacks; another module would be warned of them."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        gc.collect()


@pytest.fixture
def configured(home, sink):
    """Makes the default meter."""

    def configured(**more):
        # A busy machine may be late; where that matters it is asked for.
        given = {"limits": "on", "limit_deadline": 30}
        return llm_metering.configure(home=home, sinks=[sink], **{**given, **more})

    yield configured
    llm_metering.uninstall()
    llm_metering.close()


@pytest.fixture
def limited(configured):
    """The default meter, with balances."""
    return configured()


def is_clean(meter, *, refused):
    """Nothing is open, nothing is reserved, nothing failed, and refusals were counted."""
    meter.gate.close()  # what is given back is given back by a thread
    meter.flush()
    seen = meter.statistics()
    assert (len(meter.calls), seen["open_calls"], seen["failures"]) == (0, 0, 0)
    assert (seen["refused_calls"], seen["unchecked_calls"]) == (refused, 0)
    assert meter.limits.reservations() == []
    assert len(meter.gate.leases) == 0


def used(provider):
    return sum(entry.input + entry.output for entry in provider.entries)


def with_handler(subject="acme", **more):
    return {"callbacks": [MeteringHandler(subject, enforce=True, **more)]}


@every_way
@pytest.mark.parametrize("installed", [False, True], ids=["handler", "global"])
def test_a_call_that_is_not_covered_is_not_made(way, installed, limited, provider):
    """The error says what is left and what is needed, and the provider is not asked."""
    limited.grant("acme", 50, recurrence="MONTH")
    llm = gpt(provider, max_tokens=60)
    config = {}
    if installed:
        llm_metering.install("acme", enforce=True)
    else:
        config = with_handler()

    with pytest.raises(BalanceExceeded) as caught:
        way(llm, prompt("acme"), config)

    assert provider.entries == []
    error = caught.value
    assert (error.subject, error.unit, error.balance) == ("acme", "tokens", 50)
    assert 60 < error.needed < 100
    assert error.resets_at > datetime.now(UTC)
    is_clean(limited, refused=1)
    assert limited.statistics()["recorded"] == 0
    assert limited.balance("acme").used == 0


@every_way
@pytest.mark.parametrize("installed", [False, True], ids=["handler", "global"])
def test_a_call_that_is_covered_is_made_and_burnt(way, installed, limited, provider, events_of):
    """One reservation, which its one event settles."""
    limited.grant("acme", 1_000_000_000)
    config = {}
    if installed:
        llm_metering.install("acme", enforce=True)
    else:
        config = with_handler()

    way(gpt(provider), prompt("acme"), config)

    balance = limited.balance("acme")
    assert balance.used == used(provider) > 0
    assert (balance.reserved, balance.available) == (0, 1_000_000_000 - balance.used)
    (event,) = events_of(limited)
    assert event.data["reservation_id"]
    assert billed([event]) == owed(provider)
    is_clean(limited, refused=0)


def test_what_is_reserved_during_a_call_is_its_estimate(limited, provider):
    """Input as it is counted, and the most that may come out; nobody else gets it meanwhile."""
    limited.grant("acme", 1_000)
    seen = []

    class Watching(BaseCallbackHandler):
        def on_llm_new_token(self, *args, **kwargs):
            seen.append(limited.limits.balance("acme").reserved)

    config = {"callbacks": [MeteringHandler("acme", enforce=True), Watching()]}
    list(gpt(provider, max_tokens=200).stream(prompt("acme"), config))

    (reserved,) = set(seen)
    assert 200 < reserved < 230
    is_clean(limited, refused=0)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, 1024),
        ({"max_tokens": 300}, 300),
        ({"max_tokens": 300, "n": 2}, 600),
        ({"max_completion_tokens": 70}, 70),
    ],
)
def test_the_most_that_may_come_out_is_what_the_call_says(parameters, expected, limited, provider):
    limited.grant("acme", 1)
    with pytest.raises(BalanceExceeded) as caught:
        gpt(provider, **parameters).invoke("", with_handler())
    assert expected <= caught.value.needed < expected + 20


def test_the_ceiling_is_a_setting(configured, provider):
    configured(reserved_output_tokens=10).grant("acme", 1)
    with pytest.raises(BalanceExceeded) as caught:
        gpt(provider).invoke("", with_handler())
    assert 10 <= caught.value.needed < 30


def test_handlers_together_reserve_once(limited, provider):
    """A global one and several of its own: a balance that covers one call covers it."""
    limited.grant("acme", 100)
    llm_metering.install("acme", enforce=True)
    config = {"callbacks": [MeteringHandler("acme", enforce=True) for _ in range(3)]}

    gpt(provider, max_tokens=60).invoke(prompt("acme"), config)

    assert limited.balance("acme").used == used(provider)
    is_clean(limited, refused=0)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("theirs", [10**9, 5], ids=["covered", "not covered"])
def test_who_pays_by_another_handler_is_asked(asynchronous, theirs, limited, provider):
    """The reservation of who was thought to pay first is given back, though that one enforces alone."""
    limited.grant("shared", 1_000_000_000)
    limited.grant("acme", theirs)
    llm_metering.install(enforce=True)
    llm_metering.get_meter().subject = "shared"
    llm = gpt(provider, max_tokens=60)
    config = {"callbacks": [MeteringHandler("acme")]}

    def ask():
        if asynchronous:
            return asyncio.run(llm.ainvoke(prompt("acme"), config))
        return llm.invoke(prompt("acme"), config)

    if theirs == 5:
        with pytest.raises(BalanceExceeded, match="acme has 5"):
            ask()
        assert provider.entries == []
    else:
        ask()
    is_clean(limited, refused=int(theirs == 5))
    assert limited.balance("shared").used == 0
    assert limited.balance("acme").used == used(provider)


def test_without_enforce_nothing_is_refused_and_all_is_burnt(limited, provider):
    limited.grant("acme", 5)
    gpt(provider).invoke(prompt("acme"), {"callbacks": [MeteringHandler("acme")]})
    balance = limited.balance("acme")
    assert (balance.used, balance.overage) == (used(provider), used(provider) - 5)


def test_the_setting_enforces_everywhere(configured, provider):
    meter = configured(enforce=True)
    meter.grant("acme", 5)
    with pytest.raises(BalanceExceeded):
        gpt(provider).invoke(prompt("acme"), {"callbacks": [MeteringHandler("acme")]})
    assert provider.entries == []


def test_without_a_grant_nobody_calls(limited, provider):
    """And with one by default everybody does, but for nobody."""
    with pytest.raises(BalanceExceeded, match="acme has no grant"):
        gpt(provider).invoke(prompt("acme"), with_handler())
    assert provider.entries == []
    limited.grant("acme", 1_000_000_000)
    gpt(provider).invoke(prompt("acme"), with_handler())
    assert len(provider.entries) == 1


def test_a_grant_by_default_is_made_once(configured, provider):
    meter = configured(default_grant="5000 tokens per month")
    for _ in range(3):
        gpt(provider).invoke(prompt("acme"), with_handler())
    balance = meter.balance("acme")
    assert (balance.granted, len(balance.grants)) == (5000, 1)
    assert balance.grants[0].recurrence.interval == "MONTH"
    with pytest.raises(BalanceExceeded, match="unattributed has no grant"):
        gpt(provider).invoke(prompt("acme"), with_handler(None))


def test_nobody_is_refused_for_the_reason_that_is_first(configured, provider):
    configured(on_missing_subject="raise")
    with pytest.raises(MissingSubjectError):
        gpt(provider).invoke(prompt("acme"), with_handler(None))


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_batch_is_refused_as_one(asynchronous, limited, provider):
    """Prompts that are sent together: those that fit are given back, where one does not."""
    limited.grant("acme", 250)
    llm = OpenAI(
        model="gpt-x", base_url=provider.openai_url, api_key="x", max_retries=0, max_tokens=100
    )
    prompts = [prompt("acme")] * 3
    callbacks = with_handler()["callbacks"]

    async def aask():
        await llm.agenerate(prompts, callbacks=callbacks)

    with pytest.raises(BalanceExceeded):
        asyncio.run(aask()) if asynchronous else llm.generate(prompts, callbacks=callbacks)
    assert provider.entries == []
    limited.flush()
    limited.gate.close()
    assert limited.limits.reservations() == []
    assert limited.balance("acme").available == 250
    assert len(limited.calls) == 0


def test_an_agent_stops_where_the_balance_ends(limited, provider):
    """Each of its calls is reserved by itself."""
    limited.grant("acme", 30)
    agent = create_agent(gpt(provider, max_tokens=60), tools=[])
    with pytest.raises(BalanceExceeded):
        agent.invoke({"messages": [HumanMessage(prompt("acme"))]}, with_handler())
    assert provider.entries == []
    is_clean(limited, refused=1)


def test_a_refusal_of_the_providers_gives_back(limited, provider):
    limited.grant("acme", 1_000_000_000)
    with pytest.raises(Exception, match="429"):
        gpt(provider, "gpt-x+refuse429").invoke(prompt("acme"), with_handler())
    limited.flush()
    limited.gate.close()
    assert limited.limits.reservations() == []
    assert limited.balance("acme").available == 1_000_000_000


def test_a_stream_that_is_left_is_settled(limited, provider):
    limited.grant("acme", 1_000_000_000)
    stream = gpt(provider).stream(prompt("acme"), with_handler())
    next(stream)
    stream.close()
    limited.flush()
    balance = limited.balance("acme")
    assert (balance.reserved, balance.used > 0) == (0, True)


def test_a_task_that_is_cancelled_while_it_waits_reserves_nothing(limited, provider, monkeypatch):
    """Nobody asked the provider, and what the thread reserves by then is given back."""
    limited.grant("acme", 1_000_000_000)
    asked, go_on = threading.Event(), threading.Event()
    reserve = limited.limits.store.reserve

    def slow(hold):
        asked.set()
        go_on.wait()
        return reserve(hold)

    monkeypatch.setattr(limited.limits.store, "reserve", slow)

    async def main():
        task = asyncio.create_task(gpt(provider).ainvoke(prompt("acme"), with_handler()))
        await asyncio.to_thread(asked.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()

    asyncio.run(main())
    assert provider.entries == []
    is_clean(limited, refused=0)


class Guardrail(BaseCallbackHandler):
    """Somebody else's, which refuses every call."""

    raise_error = True
    run_inline = True

    def on_chat_model_start(self, *args, **kwargs):
        raise PermissionError("theirs")


@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("installed", [False, True], ids=["handler", "global"])
def test_what_a_handler_before_ours_refuses_reserves_nothing(installed, awaited, limited, provider):
    """The global handler is behind all others; one of a call's stands where it is listed."""
    limited.grant("acme", 10**9)
    if installed:
        llm_metering.install("acme", enforce=True)
        config = {"callbacks": [Guardrail()]}
    else:
        config = {"callbacks": [Guardrail(), MeteringHandler("acme", enforce=True)]}
    model = gpt(provider)

    def ask():
        asked = prompt("acme"), config
        return asyncio.run(model.ainvoke(*asked)) if awaited else model.invoke(*asked)

    with pytest.raises(PermissionError):
        ask()
    assert provider.entries == []
    is_clean(limited, refused=0)
    assert limited.statistics()["recorded"] == 0


def break_gates(monkeypatch):
    """All gates have a fault."""

    def admit(self, call):
        raise RuntimeError("ours")

    async def admit_async(self, call):
        raise RuntimeError("ours")

    monkeypatch.setattr(gates.Gate, "admit", admit)
    monkeypatch.setattr(gates.Gate, "admit_async", admit_async)


@pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])
def test_a_fault_of_ours_loses_no_call(awaited, limited, provider, monkeypatch):
    """It is made as if nobody held it to a balance, and metered."""
    limited.grant("acme", 10**9)
    break_gates(monkeypatch)
    model, asked = gpt(provider), (prompt("acme"), with_handler())
    if awaited:
        asyncio.run(model.ainvoke(*asked))
    else:
        model.invoke(*asked)
    limited.flush()
    assert len(provider.entries) == 1
    assert limited.balance("acme").used == used(provider) > 0
    assert limited.statistics()["failures"] == 1


def test_ctrl_c_while_a_call_waits_leaves_nothing(limited, provider, monkeypatch):
    """Nobody has asked the provider, so nobody pays."""
    limited.grant("acme", 10**9)
    reserve = limited.limits.store.reserve

    def interrupted(hold):
        reserve(hold)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(limited.limits.store, "reserve", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gpt(provider).invoke(prompt("acme"), with_handler())
    assert provider.entries == []
    is_clean(limited, refused=0)
    assert limited.statistics()["recorded"] == 0


def test_a_store_that_is_slow_does_not_hold_a_loop(configured, provider, monkeypatch):
    """Behind the deadline the call is let through, which is counted; the loop goes on meanwhile."""
    meter = configured(limit_deadline=0.05)
    meter.grant("acme", 1_000_000_000)
    go_on = threading.Event()
    reserve = meter.limits.store.reserve
    monkeypatch.setattr(meter.limits.store, "reserve", lambda hold: go_on.wait() and reserve(hold))
    turns = []

    async def main():
        async def turn():
            while True:
                turns.append(None)
                await asyncio.sleep(0.001)

        other = asyncio.create_task(turn())
        await gpt(provider).ainvoke(prompt("acme"), with_handler())
        other.cancel()

    asyncio.run(main())
    assert len(turns) > 5
    go_on.set()
    meter.gate.close()
    meter.flush()
    assert meter.statistics()["unchecked_calls"] == 1
    assert meter.balance("acme").used == used(provider)
    assert meter.limits.reservations() == []


@pytest.mark.parametrize("policy", ["allow", "refuse"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_store_that_is_broken(policy, asynchronous, configured, home, provider):
    """By default calls go on, and are counted; a setting refuses them."""
    meter = configured(on_limit_store_error=policy)
    meter.grant("acme", 1_000_000_000)
    llm = gpt(provider)

    def ask():
        if asynchronous:
            return asyncio.run(llm.ainvoke(prompt("acme"), with_handler()))
        return llm.invoke(prompt("acme"), with_handler())

    with closing(sqlite3.connect(home / "limits.db")) as database:
        database.execute("ALTER TABLE reservations RENAME TO gone")
    if policy == "refuse":
        with pytest.raises(LimitsUnavailable):
            ask()
        assert provider.entries == []
    else:
        ask()
        assert len(provider.entries) == 1
        assert meter.statistics()["unchecked_calls"] == 1
    with closing(sqlite3.connect(home / "limits.db")) as database:
        database.execute("ALTER TABLE gone RENAME TO reservations")
    assert meter.balance("acme").used == used(provider)


def test_calls_a_minute(configured, provider):
    """The first ones pass, and the next is told when it may."""
    meter = configured(requests_per_minute=2)
    meter.grant("acme", 1_000_000_000)
    for _ in range(2):
        gpt(provider).invoke(prompt("acme"), with_handler())
    with pytest.raises(RateExceeded, match="2 requests a minute") as caught:
        gpt(provider).invoke(prompt("acme"), with_handler())
    assert len(provider.entries) == 2
    assert 0 < (caught.value.retry_at - datetime.now(UTC)).total_seconds() <= 30
    meter.limits.set_rates("acme", requests_per_minute=10)
    gpt(provider).invoke(prompt("acme"), with_handler())
    is_clean(meter, refused=1)


def test_tokens_a_minute(configured, provider):
    meter = configured(tokens_per_minute=100)
    meter.grant("acme", 1_000_000_000)
    llm = gpt(provider, max_tokens=60)
    llm.invoke(prompt("acme"), with_handler())
    with pytest.raises(RateExceeded, match="100 tokens a minute"):
        llm.invoke(prompt("acme"), with_handler())
    with pytest.raises(RateExceeded, match="alone is more"):
        gpt(provider, max_tokens=200).invoke(prompt("acme"), with_handler())
    assert len(provider.entries) == 1


def test_money_is_held_to_prices(configured, provider, tmp_path):
    """The estimate is what the call may cost; without a price it is not made."""
    prices = tmp_path / "prices.toml"
    prices.write_text(
        'currency = "USD"\n[[prices]]\nprovider = "openai"\nmodel = "gpt-x"\nsource = "test"\n'
        "per_million = { input = 1_000_000, cache_read = 1_000_000, output = 2_000_000 }\n"
    )
    meter = configured(prices=[prices], price_source="off")
    meter.grant("acme", 150, "money")
    with pytest.raises(BalanceExceeded, match="USD") as caught:
        gpt(provider, max_tokens=100).invoke("", with_handler())
    assert caught.value.needed > 200
    gpt(provider, max_tokens=20).invoke(prompt("acme"), with_handler())
    (entry,) = provider.entries
    assert meter.balance("acme", "money").used == entry.input + 2 * entry.output
    with pytest.raises(llm_metering.MeteringError, match="gpt-y"):
        gpt(provider, "gpt-y").invoke(prompt("acme"), with_handler())
    assert len(provider.entries) == 1


def test_a_soft_limit_is_only_told_of(configured, provider, caplog):
    notices = []
    meter = configured(on_threshold=notices.append)
    meter.grant("acme", 5, soft_limit=True)
    gpt(provider).invoke(prompt("acme"), with_handler())
    balance = meter.balance("acme")
    assert balance.overage == used(provider) - 5
    (notice,) = notices
    assert (notice.threshold, notice.balance.subject) == (100, "acme")
    assert "acme has used 100 %" in caplog.text


def test_a_handler_that_enforces_makes_the_default_meter_anew(home, provider, monkeypatch):
    """No setting says anything of limits, and one argument is enough."""
    monkeypatch.setenv("LLM_METERING_HOME", str(home))
    try:
        config = with_handler()
        llm_metering.grant("acme", 5)
        with pytest.raises(BalanceExceeded):
            gpt(provider).invoke(prompt("acme"), config)
        assert llm_metering.balance("acme").available == 5
    finally:
        llm_metering.close()
    # Who comes later finds that something was granted here.
    with Meter(home, ()) as meter:
        assert meter.balance("acme").available == 5


def test_a_meter_without_limits_enforces_nothing(home):
    with Meter(home, ()) as meter, pytest.raises(ConfigurationError, match="limits='on'"):
        MeteringHandler("acme", meter=meter, enforce=True)


def test_a_handler_is_pickled_with_its_strictness(limited, provider):
    limited.grant("acme", 5)
    copy = pickle.loads(pickle.dumps(MeteringHandler("acme", enforce=True)))
    with pytest.raises(BalanceExceeded) as caught:
        gpt(provider).invoke(prompt("acme"), {"callbacks": [copy]})
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.balance) == (str(caught.value), 5)


@pytest.mark.parametrize("name", ["ainvoke", "astream"])
def test_an_async_call_does_not_ask_the_store_on_its_loop(name, limited, provider, monkeypatch):
    """Whoever asks is a thread of ours."""
    limited.grant("acme", 1_000_000_000)
    threads = []
    admit = gates.Gate._admit
    monkeypatch.setattr(
        gates.Gate,
        "_admit",
        lambda self, call, *more: (
            threads.append(threading.current_thread().name) or admit(self, call, *more)
        ),
    )
    llm = gpt(provider)
    if name == "ainvoke":
        asyncio.run(llm.ainvoke(prompt("acme"), with_handler()))
    else:
        asyncio.run(gathered(llm.astream(prompt("acme"), with_handler())))
    (thread,) = threads
    assert thread.startswith("llm-metering-limits")


def test_a_sync_call_within_a_loop_is_refused_too(limited, provider):
    """As in a notebook's cell."""
    limited.grant("acme", 5)

    async def main():
        gpt(provider).invoke(prompt("acme"), with_handler())

    with pytest.raises(BalanceExceeded):
        asyncio.run(main())
    assert provider.entries == []
    is_clean(limited, refused=1)
