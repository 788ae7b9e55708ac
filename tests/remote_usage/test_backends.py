"""Who answers `usage`: the ledger, or the server of a sink; the call and the report are the same."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import llm_metering
from llm_metering.errors import LedgerError, QueryError, RemoteUsageError
from llm_metering.meter import Meter
from llm_metering.sinks.memory import MemorySink
from llm_metering.testing import OpenMeterServer
from llm_metering.testing.faults import Refuse
from llm_metering.token_usage import TokenUsage

USAGE = TokenUsage(input_tokens=100, output_tokens=20)


@pytest.fixture
def server(built_in):
    """A server with the built-in meters, and no events."""
    with OpenMeterServer(meters=built_in) as server:
        yield server


@pytest.fixture
def make(home, server):
    """Makes meters, and closes them."""
    made = []

    def make(*sinks, **settings):
        made.append(Meter(home, sinks, source="tests", **settings))
        return made[-1]

    yield make
    for meter in made:
        meter.close(5)


def test_who_asks_the_ledger_alone_loads_no_http_client(home):
    """In a notebook, too, whose own client may be in the middle of something."""
    program = """
import sys
import llm_metering
llm_metering.configure(sinks=())
llm_metering.record(llm_metering.TokenUsage(input_tokens=1, output_tokens=1), "a")
llm_metering.usage()
llm_metering.close()
sys.exit("httpx" in sys.modules)
"""
    environment = {**os.environ, "LLM_METERING_HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False)

    assert done.returncode == 0


def record(meter, number=2):
    """Record calls of two subjects."""
    for each in range(number):
        meter.record(USAGE, f"customer-{each % 2}", model="gpt-5", provider="openai")


@pytest.mark.parametrize("api", ["v1", "v3"])
def test_both_give_one_report(make, server, api):
    """Everything recorded so far is in it, without a flush."""
    meter = make(f"{server.sink_url}?api={api}")
    record(meter, 3)
    question = {"window": "DAY", "group_by": ["subject", "model"], "time_zone": "Europe/Berlin"}

    ledger, remote = (meter.usage(**question, backend=name) for name in ("ledger", "openmeter"))

    assert ledger == remote == meter.usage(**question)
    assert [row.value for row in remote] == [240, 120]


def test_without_a_ledger_the_only_server_is_asked(make, server):
    """It need not be named."""
    meter = make(server.sink_url, MemorySink(), ledger=False)
    record(meter)

    assert meter.usage("calls_total").total == 2


def test_one_of_several_servers_is_named(make, server, built_in):
    """The error says which there are."""
    with OpenMeterServer(meters=built_in) as second:
        meter = make(f"{server.sink_url}?name=one", f"{second.sink_url}?name=two", ledger=False)
        with pytest.raises(LedgerError, match=r"switched off.*backend= can be one, two"):
            meter.usage()
        for name in ("one", "two"):
            assert meter.usage(backend=name).rows == ()
        with pytest.raises(LedgerError, match="switched off"):
            meter.usage(backend="ledger")


def test_nobody_can_be_asked(make):
    """No ledger, and no sink that answers."""
    meter = make(MemorySink(), ledger=False)
    with pytest.raises(LedgerError, match="none of them is an OpenMeter server"):
        meter.usage()
    with pytest.raises(QueryError, match="there is no ledger and no OpenMeter sink"):
        meter.usage(backend="memory")


def test_a_back_end_that_there_is_not(make, server):
    """The choices are named; a sink that only takes is none."""
    meter = make(server.sink_url, MemorySink())
    for name in ("openmetre", "memory", ""):
        with pytest.raises(
            QueryError, match=f"backend '{name}' cannot.*there are ledger, openmeter"
        ):
            meter.usage(backend=name)


def test_a_server_that_does_not_take_what_was_recorded(make, server, monkeypatch):
    """Its answer would be short, and is given only to those who say that they want it."""
    monkeypatch.setattr("llm_metering.backends.PATIENCE", 0.1)
    monkeypatch.setattr("llm_metering.backends._IMPATIENCE", 0.1)
    server.order(Refuse(503), times=None)
    meter = make(server.sink_url)
    record(meter)

    with pytest.raises(RemoteUsageError, match="server of sink openmeter has not taken all"):
        meter.usage(backend="openmeter")
    assert meter.usage(backend="openmeter", allow_incomplete=True).rows == ()
    monkeypatch.setattr("llm_metering.backends.PATIENCE", 60.0)
    assert meter.usage().total == 240
    server.clear()


def test_the_default_meter_asks_as_well(home, server):
    """`llm_metering.usage` takes the same."""
    llm_metering.configure(home=home, sinks=[server.sink_url], source="tests", ledger=False)
    llm_metering.record(USAGE, "customer-1")

    assert llm_metering.usage(backend="openmeter").total == 120
    llm_metering.close()
