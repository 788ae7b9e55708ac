"""`enforce=True`: a call that its payer's balance does not cover is refused before it is made.

LlamaIndex swallows what its handlers of events raise, so each of its ways in is looked at.
"""

from __future__ import annotations

import asyncio
import pickle
import sqlite3
import threading
from contextlib import closing

import pytest
from llama_index.core import MockEmbedding
from llama_index.core.callbacks import CallbackManager
from pydantic import Field

import llm_metering
from llm_metering import BalanceExceeded, Meter, subject
from llm_metering.errors import ConfigurationError, LimitsUnavailable
from llm_metering.limits import gate as gates
from llm_metering.llamaindex import MeteringHandler, bind
from tests.books import booked, metered
from tests.llamaindex.asking import generated, messages
from tests.llamaindex.clients import CLIENTS
from tests.llamaindex.embedders import EMBEDDERS
from tests.llamaindex.matrix import SUBJECT, cells, enter_cell

ENOUGH = 10**9


@pytest.fixture
def configured(home, sink):
    """Makes the default meter."""

    def configured(**more):
        given = {"limits": "on", "limit_deadline": 30, "request_stream_usage": True}
        return llm_metering.configure(home=home, sinks=[sink], **{**given, **more})

    yield configured
    llm_metering.uninstall()
    llm_metering.close()


@pytest.fixture
def limited(configured):
    """The default meter, with balances, which holds every call of LlamaIndex to them."""
    meter = configured()
    llm_metering.install(enforce=True)
    return meter


def is_clean(meter):
    """Nothing is open, nothing is reserved, nothing failed."""
    meter.gate.close()  # what is given back is given back by a thread
    meter.flush()
    seen = meter.statistics()
    assert (len(meter.calls), seen["open_calls"], seen["failures"]) == (0, 0, 0)
    assert seen["unchecked_calls"] == 0
    assert meter.limits.reservations() == []
    assert len(meter.gate.leases) == 0


def used(provider):
    return sum(entry.input + entry.output for entry in provider.entries)


@pytest.mark.parametrize(
    ("client", "entry", "way"),
    [*cells("openai", "custom"), *cells("ollama", "responses", "langchain", entries=["chat"])],
)
def test_a_call_that_is_not_covered_is_not_made(client, entry, way, provider, limited):
    """The provider is asked nothing, and no event is made."""
    limited.grant(SUBJECT, 1)

    with pytest.raises(BalanceExceeded, match="customer-42 has 1 tokens left"):
        enter_cell(client, entry, way, provider)

    assert provider.entries == []
    is_clean(limited)
    seen = limited.statistics()
    assert seen["recorded"] == 0
    assert seen["refused_calls"] >= 1
    assert limited.balance(SUBJECT).used == 0


@pytest.mark.parametrize(
    ("client", "entry", "way"),
    [*cells("openai", "custom"), *cells("ollama", "responses", "langchain", entries=["chat"])],
)
def test_a_call_that_is_covered_is_made_and_burnt(client, entry, way, provider, limited, events_of):
    """Each event settles what was reserved for its call."""
    limited.grant(SUBJECT, ENOUGH)

    enter_cell(client, entry, way, provider)

    events = events_of(limited)
    assert sorted(map(metered, generated(events))) == sorted(map(booked, provider.entries))
    balance = limited.balance(SUBJECT)
    # What an index embeds on this machine is in no provider's books.
    total = sum(event.data["total_tokens"] for event in events)
    assert (balance.used, balance.reserved) == (total, 0)
    assert total >= used(provider)
    assert all(event.data["reservation_id"] for event in events)
    assert len({event.data["reservation_id"] for event in events}) == len(events)
    is_clean(limited)


@pytest.mark.parametrize(("client", "entry", "way"), cells("openai", "custom", entries=["chat"]))
def test_one_call_is_reserved_once(client, entry, way, provider, configured):
    """By whatever handlers: a balance that covers one call covers it."""
    meter = configured(reserved_output_tokens=60)
    llm_metering.install(enforce=True)
    meter.grant(SUBJECT, 110)
    handler = MeteringHandler(enforce=True)
    llm = CLIENTS[client](provider, callback_manager=CallbackManager([handler]))
    bind(llm, enforce=True)
    with subject(SUBJECT):
        llm.chat(messages("Work for [subject:customer-42]."))
    assert len(provider.entries) == 1
    assert meter.balance(SUBJECT).used == used(provider)
    is_clean(meter)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_handler_of_its_own_enforces_alone(asynchronous, provider, configured):
    """Others are not held to balances."""
    meter = configured()
    meter.grant("acme", 5)
    strict = CLIENTS["openai"](
        provider, callback_manager=CallbackManager([MeteringHandler("acme", enforce=True)])
    )
    lenient = CLIENTS["openai"](
        provider, callback_manager=CallbackManager([MeteringHandler("acme")])
    )

    def ask(llm):
        asked = messages("[subject:acme]")
        return asyncio.run(llm.achat(asked)) if asynchronous else llm.chat(asked)

    with pytest.raises(BalanceExceeded):
        ask(strict)
    assert provider.entries == []
    ask(lenient)
    assert meter.balance("acme").used == used(provider) > 5


def test_what_a_call_may_have_is_said_by_the_model(provider, limited):
    """Or by the call itself, which goes before."""
    limited.grant("acme", 1)
    llm = CLIENTS["openai"](provider, max_tokens=300)
    with subject("acme"), pytest.raises(BalanceExceeded) as caught:
        llm.chat(messages("?"))
    assert 300 < caught.value.needed < 330
    with subject("acme"), pytest.raises(BalanceExceeded) as caught:
        llm.chat(messages("?"), max_tokens=50)
    assert 50 < caught.value.needed < 80


def test_an_awaited_call_does_not_ask_the_store_on_its_loop(provider, limited, monkeypatch):
    limited.grant("acme", ENOUGH)
    threads = []
    admit = gates.Gate._admit
    monkeypatch.setattr(
        gates.Gate,
        "_admit",
        lambda self, call, *more: (
            threads.append(threading.current_thread().name) or admit(self, call, *more)
        ),
    )
    llm = CLIENTS["openai"](provider)
    with subject("acme"):
        asyncio.run(llm.achat(messages("[subject:acme]")))
    (thread,) = threads
    assert thread.startswith("llm-metering-limits")
    is_clean(limited)


def test_a_task_that_is_cancelled_while_it_waits_reserves_nothing(provider, limited, monkeypatch):
    limited.grant("acme", ENOUGH)
    asked, go_on = threading.Event(), threading.Event()
    reserve = limited.limits.store.reserve

    def slow(hold):
        asked.set()
        go_on.wait()
        return reserve(hold)

    monkeypatch.setattr(limited.limits.store, "reserve", slow)
    llm = CLIENTS["openai"](provider)

    async def main():
        with subject("acme"):
            task = asyncio.create_task(llm.achat(messages("[subject:acme]")))
        await asyncio.to_thread(asked.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()

    asyncio.run(main())
    assert provider.entries == []
    is_clean(limited)


def break_gates(monkeypatch):
    """All gates have a fault."""

    def admit(self, call):
        raise RuntimeError("ours")

    async def admit_async(self, call):
        raise RuntimeError("ours")

    monkeypatch.setattr(gates.Gate, "admit", admit)
    monkeypatch.setattr(gates.Gate, "admit_async", admit_async)


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("kind", ["model", "embeddings"])
def test_a_fault_of_ours_loses_no_call(kind, asynchronous, provider, limited, monkeypatch):
    """It is made as if nobody held it to a balance, and metered."""
    limited.grant("acme", ENOUGH)
    break_gates(monkeypatch)
    llm = CLIENTS["openai"](provider)
    embedder = EMBEDDERS["openai"](provider)
    ways = {
        ("model", False): lambda: llm.chat(messages("[subject:acme]")),
        ("model", True): lambda: asyncio.run(llm.achat(messages("[subject:acme]"))),
        ("embeddings", False): lambda: embedder.get_text_embedding("[subject:acme]"),
        ("embeddings", True): lambda: asyncio.run(embedder.aget_text_embedding("[subject:acme]")),
    }
    with subject("acme"):
        ways[kind, asynchronous]()
    limited.flush()
    assert len(provider.entries) == 1
    assert limited.balance("acme").used == used(provider) > 0
    assert limited.statistics()["failures"] >= 1


def test_ctrl_c_while_a_call_waits_leaves_nothing(provider, limited, monkeypatch):
    """Nobody has asked the provider, so nobody pays."""
    limited.grant("acme", 10**9)
    reserve = limited.limits.store.reserve

    def interrupted(hold):
        reserve(hold)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(limited.limits.store, "reserve", interrupted)
        with subject("acme"), pytest.raises(KeyboardInterrupt):
            CLIENTS["openai"](provider).chat(messages("[subject:acme]"))
    assert provider.entries == []
    is_clean(limited)
    assert limited.statistics()["recorded"] == 0


def test_a_stream_that_is_left_is_settled(provider, limited):
    limited.grant("acme", ENOUGH)
    llm = CLIENTS["openai"](provider)
    with subject("acme"):
        stream = llm.stream_chat(messages("[subject:acme]"))
        next(stream)
        stream.close()
    del stream
    limited.flush()
    balance = limited.balance("acme")
    assert (balance.reserved, balance.used > 0) == (0, True)


@pytest.mark.parametrize("policy", ["allow", "refuse"])
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_store_that_is_broken(policy, asynchronous, provider, configured, home):
    meter = configured(on_limit_store_error=policy, enforce=True)
    llm_metering.install()
    meter.grant("acme", ENOUGH)
    llm = CLIENTS["openai"](provider)

    def ask():
        asked = messages("[subject:acme]")
        with subject("acme"):
            return asyncio.run(llm.achat(asked)) if asynchronous else llm.chat(asked)

    with closing(sqlite3.connect(home / "limits.db")) as database:
        database.execute("ALTER TABLE reservations RENAME TO gone")
    if policy == "refuse":
        with pytest.raises(LimitsUnavailable):
            ask()
        assert provider.entries == []
    else:
        ask()
        assert len(provider.entries) == 1
        assert meter.statistics()["unchecked_calls"] >= 1
    with closing(sqlite3.connect(home / "limits.db")) as database:
        database.execute("ALTER TABLE gone RENAME TO reservations")
    assert meter.balance("acme").used == used(provider)


def test_a_meter_without_limits_enforces_nothing(home):
    with Meter(home, ()) as meter, pytest.raises(ConfigurationError, match="limits='on'"):
        MeteringHandler("acme", meter=meter, enforce=True)


def test_a_handler_is_pickled_with_its_strictness(provider, configured):
    configured().grant("acme", 5)
    copy = pickle.loads(pickle.dumps(MeteringHandler("acme", enforce=True)))
    assert copy.account.enforce
    llm = CLIENTS["openai"](provider, callback_manager=CallbackManager([copy]))
    with pytest.raises(BalanceExceeded):
        llm.chat(messages("?"))


class Counted(MockEmbedding):
    """Embeds on this machine, and notes what it was asked."""

    asked: list[str] = Field(default_factory=list)

    def _get_text_embedding(self, text):
        self.asked.append(text)
        return super()._get_text_embedding(text)

    async def _aget_text_embedding(self, text):
        self.asked.append(text)
        return super()._get_text_embedding(text)


@pytest.mark.parametrize(
    "embed",
    [
        lambda model: model.get_text_embedding("some words to embed"),
        lambda model: asyncio.run(model.aget_text_embedding("some words to embed")),
        lambda model: model.get_text_embedding_batch(["some words to embed"] * 3),
        lambda model: asyncio.run(model.aget_text_embedding_batch(["some words to embed"] * 3)),
    ],
    ids=["one", "one, async", "batch", "batch, async"],
)
def test_what_is_not_covered_is_not_embedded(embed, limited):
    limited.grant("acme", 2)
    model = Counted(embed_dim=3)
    with subject("acme"), pytest.raises(BalanceExceeded):
        embed(model)
    assert model.asked == []
    is_clean(limited)

    limited.grant("acme", 1000)
    with subject("acme"):
        embed(model)
    assert model.asked
    balance = limited.balance("acme")
    assert (balance.used > 0, balance.reserved) == (True, 0)
    is_clean(limited)
