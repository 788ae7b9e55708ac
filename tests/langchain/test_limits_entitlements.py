"""`enforce=True`, where an OpenMeter server says what there is."""

from __future__ import annotations

import asyncio

import pytest

import llm_metering
from llm_metering import BalanceExceeded
from llm_metering.langchain import MeteringHandler
from llm_metering.meters import METERS
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Refuse
from tests.books import owed, prompt
from tests.langchain.asking import gpt


@pytest.fixture
def server():
    with OpenMeterServer(meters=[METERS["tokens_total"].to_dict()]) as server:
        yield server


@pytest.fixture
def meter(home, server):
    """The default meter, whose usage the server counts, and whose balances it knows."""
    yield llm_metering.configure(
        home=home,
        sinks=server.sink_url,
        limits="on",
        entitlements=f"{server.sink_url}?features=tokens:llm_tokens",
        reserved_output_tokens=100,
        limit_deadline=30,
    )
    llm_metering.close()


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def ask(request, provider):
    """Asks once, for acme."""
    model = gpt(provider)
    config = {"callbacks": [MeteringHandler("acme", enforce=True)]}

    def ask():
        asked = prompt("acme"), config
        return asyncio.run(model.ainvoke(*asked)) if request.param else model.invoke(*asked)

    return ask


def used(provider):
    return sum(each.input + each.output for each in provider.entries)


def test_what_was_bought_there_covers_calls_here(meter, server, provider, ask):
    server.entitle("acme", "llm_tokens", meter="tokens_total", amount=10**9)

    ask()

    assert meter.flush()
    assert owed(provider)
    assert meter.balance("acme").available == 10**9 - used(provider)


def test_what_is_used_up_there_reaches_no_provider(meter, server, provider, ask):
    server.entitle("acme", "llm_tokens", meter="tokens_total", amount=50)

    with pytest.raises(BalanceExceeded, match="acme has 50 tokens left"):
        ask()

    assert provider.entries == []
    assert meter.flush()
    assert server.events == []
    assert meter.statistics()["open_calls"] == 0


def test_who_has_no_entitlement_there_has_nothing(meter, server, provider, ask):
    with pytest.raises(BalanceExceeded, match="acme has no grant"):
        ask()
    assert provider.entries == []


def test_while_the_server_says_nothing_calls_are_let_through(meter, server, provider, ask):
    server.entitle("acme", "llm_tokens", meter="tokens_total", amount=50)
    server.order(Refuse(503), to="list", times=None)

    ask()

    assert len(provider.entries) == 1
    assert sum(meter.statistics()["unanswered_entitlements"].values()) >= 1
    assert meter.statistics()["unchecked_calls"] == 1
