"""`Meter`: wired together, flushed, closed, replaced; and never in the application's way."""

from __future__ import annotations

import pytest

from llm_metering.errors import ConfigurationError, LedgerError
from llm_metering.meter import Meter
from tests.metering import call, start
from tests.transport.harness import ScriptedSink, down, events_on_disk, ids_on_disk


@pytest.fixture
def sink():
    return ScriptedSink()


@pytest.fixture
def meter(home, sink):
    """A meter with one sink, and no ledger beside it."""
    meter = Meter(home, [sink], source="tests", ledger=False)
    yield meter
    meter.close(0)


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.anyio
async def test_an_async_block_closes_what_it_opened(home, sink):
    """`async with` ships everything and closes the sinks."""
    async with Meter(home, [sink], source="tests", ledger=False) as meter:
        call(meter)

    assert (len(sink.taken), sink.closings) == (1, 1)


def test_a_block_closes_what_it_opened(home, sink):
    """So does `with`; nothing but the books is left."""
    with Meter(home, [sink], source="tests", ledger=False) as meter:
        call(meter, 2)

    assert (len(sink.taken), sink.closings) == (2, 1)
    assert ids_on_disk(home) == []
    assert meter.close()


def test_for_ever_is_a_timeout(meter, sink):
    """Whoever wants to wait without end may say so."""
    call(meter)

    assert meter.flush(float("inf"))
    call(meter)
    assert meter.close(float("inf"))
    assert len(sink.taken) == 2


def test_closing_settles_calls_in_flight(home, sink):
    """Nobody will say how they ended: they are aborted, and counted."""
    with Meter(home, [sink], source="tests", ledger=False) as meter:
        start(meter)
        sink.answers.extend([down] * 100)
        meter.close(0.01)

    (event,) = events_on_disk(home)
    assert (event["data"]["status"], event["data"]["flags"]) == ("aborted", ["open_at_exit"])
    assert meter.statistics()["open_calls"] == 0


def test_a_meter_used_after_close_records_to_disk(meter, sink, home):
    """A call that begins or ends later is on disk, for the next process."""
    assert meter.close()
    call(meter, 2)

    assert len(ids_on_disk(home)) == 2
    assert sink.taken == []
    with Meter(home, [sink], source="tests", ledger=False) as heir:
        (shipper,) = heir._transport.shippers
        assert shipper.drain(deadline=float("inf"))
        assert sink.taken == [], "its writer lives"
        meter._journal.close()
        assert shipper.drain(deadline=float("inf"))
    assert len(sink.taken) == 2


class Clumsy(ScriptedSink):
    """A sink that cannot even be closed."""

    def close(self):
        raise OSError("connection lost")


def test_a_sink_that_cannot_be_closed_is_nobodys_problem(home, sink):
    """What one sink raises on closing reaches neither the application nor the other sinks."""
    meter = Meter(home, [Clumsy(name="clumsy"), sink], source="tests", ledger=False)
    call(meter)

    assert meter.close()
    assert sink.closings == 1


def test_statistics_of_a_fresh_meter(home, sink):
    """Before the first call every sink has its row, and every count is zero."""
    with Meter(home, [sink], source="tests") as meter:
        statistics = meter.statistics()

    assert (statistics["home"], statistics["recorded"]) == (str(home), 0)
    assert [row["name"] for row in statistics["sinks"]] == ["ledger", "scripted"]
    for row in statistics["sinks"]:
        assert (row["state"], row["reason"], row["oldest_pending_seconds"]) == ("ok", None, None)
        assert {row[key] for key in ("recorded", "acked", "pending", "dead", "dropped")} == {0}


def test_asking_for_usage_without_a_ledger_says_so(meter):
    """Where the ledger is off, usage is kept elsewhere."""
    with pytest.raises(LedgerError, match="switched off"):
        meter.usage()


def test_usage_holds_everything_recorded_so_far(home):
    """Also what no thread has shipped yet."""
    with Meter(home, source="tests", sinks=()) as meter:
        call(meter, 3)

        assert meter.usage("calls_total").rows[0].value == 3


def test_draining_ships_what_a_dead_process_left(home, sink):
    """Not only this process's own events; and one sink may be named."""
    dead = Meter(home, [ScriptedSink()], source="tests", ledger=False)
    call(dead, 2)
    dead.close(0)
    with Meter(home, [sink], source="tests", ledger=False) as meter:
        call(meter)
        with pytest.raises(ConfigurationError):
            meter.drain(1, sink="nobody")
        assert meter.drain(10, sink=sink.name)

        assert len(sink.taken) >= 1
        assert [row["pending"] for row in meter.statistics()["sinks"]] == [0]
