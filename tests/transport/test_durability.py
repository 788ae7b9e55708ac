"""What a power cut leaves: with `power` everything that was recorded, else all but the last second."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from llm_metering import Meter, TokenUsage, system
from llm_metering.errors import NotDurableError
from llm_metering.transport import journal as journal_module
from llm_metering.transport.alarms import Alarms
from llm_metering.transport.spool import Spool

from .harness import ScriptedSink, journal_for, record

USAGE = TokenUsage(input_tokens=1, output_tokens=1)


class Medium:
    """What a power cut would leave of a home's segments.

    Attributes:
        syncs: How often it was written to.
        sizes: Bytes of each file that are safe, by inode.
        fails: Whether it is broken.
    """

    def __init__(self, monkeypatch):
        self.syncs = 0
        self.sizes = {}
        self.fails = False
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        sync = system.sync_data

        def watched(descriptor):
            state = os.fstat(descriptor)
            self.entered.set()
            assert self.gate.wait(60)
            if self.fails:
                raise OSError(5, "Input/output error")
            sync(descriptor)
            self.syncs += 1
            self.sizes[state.st_ino] = state.st_size

        monkeypatch.setattr(system, "sync_data", watched)

    def has_all_of(self, home):
        """Whether no segment holds a byte that is not on it."""
        states = [path.stat() for path in Spool(home).folder.glob("*.seg")]
        return all(self.sizes.get(state.st_ino, 0) >= state.st_size for state in states)


@pytest.fixture
def medium(monkeypatch):
    """A medium that is watched."""
    return Medium(monkeypatch)


@pytest.fixture
def anyio_backend():
    return "asyncio"


def test_with_power_each_record_is_on_the_medium_when_it_returns(home, medium):
    """Whatever happens after `record` returned, the event is there after a power cut."""
    journal = journal_for(home, durability="power")
    for count in range(1, 4):
        record(journal)
        assert medium.has_all_of(home)
        assert medium.syncs == count
    journal.close()


def test_those_who_wait_share_a_sync(home, medium):
    """Many threads that record at once wait for one write to the medium, not for one each."""
    journal = journal_for(home, durability="power")
    record(journal)
    medium.gate.clear()
    medium.entered.clear()
    threads = [threading.Thread(target=record, args=[journal]) for _ in range(20)]
    threads[0].start()
    assert medium.entered.wait(60)
    for thread in threads[1:]:
        thread.start()
    while journal.recorded < 21:
        pass
    before = medium.syncs
    medium.gate.set()
    for thread in threads:
        thread.join()

    assert medium.has_all_of(home)
    assert medium.syncs - before < 6
    journal.close()


def test_by_default_nobody_waits_for_the_medium(home, medium):
    """An event is in a file when `record` returns, and on the medium a while later."""
    journal = journal_for(home)
    medium.gate.clear()
    record(journal, 3)  # would hang here
    medium.gate.set()
    journal.close()
    assert medium.has_all_of(home)


def test_a_medium_that_fails_stops_nobody(home, medium, caplog):
    """The call goes on, the failure is counted, and it is said that a power cut may lose events."""
    told = []
    medium.fails = True
    meter = Meter(
        home,
        [ScriptedSink()],
        source="tests",
        ledger=False,
        durability="power",
        on_error=told.append,
    )

    assert meter.record(USAGE, "customer-42") is not None

    assert [problem.kind for problem in told if problem.kind == "not_durable"] == ["not_durable"]
    medium.fails = False
    meter.close()
    assert meter.statistics()["failures"] == 1


def test_a_record_in_the_syncing_thread_does_not_wait_for_itself(home, medium, monkeypatch):
    """A finaliser that runs in the thread which syncs, and records, does not hang it."""
    told = []
    journal = journal_for(home, durability="power", alarms=Alarms(told.append))
    done = threading.Event()
    tell = journal._upkeep.tell_trouble

    def with_a_finaliser():
        if not done.is_set():
            done.set()
            record(journal)
        tell()

    monkeypatch.setattr(journal._upkeep, "tell_trouble", with_a_finaliser)
    record(journal)

    assert done.is_set()
    while journal.recorded < 2:
        pass
    journal.close()
    assert told == []  # as it would be of a wait that came to nothing


@pytest.mark.anyio
async def test_an_event_can_be_awaited_until_it_is_durable(home, medium):
    """`arecord` returns once the medium has the event; those who wait together share a sync."""
    async with Meter(home, [ScriptedSink()], source="tests", ledger=False) as meter:
        events = await asyncio.gather(*[meter.arecord(USAGE, "customer-42") for _ in range(50)])

        assert medium.has_all_of(home)
        assert len({event.id for event in events}) == 50
        assert medium.syncs < 50


@pytest.mark.anyio
async def test_the_event_loop_goes_on_while_the_medium_works(home, medium):
    """Whoever awaits durability leaves the loop to the others, with `power` too."""
    async with Meter(
        home, [ScriptedSink()], source="tests", ledger=False, durability="power"
    ) as meter:
        medium.gate.clear()
        waiting = asyncio.ensure_future(meter.arecord(USAGE, "customer-42"))
        while not medium.entered.is_set():
            await asyncio.sleep(0)
        assert not waiting.done()
        medium.gate.set()
        await waiting


@pytest.mark.anyio
async def test_who_awaits_is_told_that_the_medium_fails(home, medium):
    """The event is recorded; that it is not durable is an error of whoever asked for that."""
    async with Meter(home, [ScriptedSink()], source="tests", ledger=False) as meter:
        medium.fails = True
        with pytest.raises(NotDurableError, match="recorded"):
            await meter.arecord(USAGE, "customer-42")
        medium.fails = False
        assert meter.statistics()["recorded"] == 1


@pytest.mark.anyio
async def test_who_stops_waiting_stops_nobody_else(home, medium):
    """A cancelled wait leaves the event recorded, and the others their answer."""
    async with Meter(home, [ScriptedSink()], source="tests", ledger=False) as meter:
        medium.gate.clear()
        first, second = (
            asyncio.ensure_future(meter.arecord(USAGE, "customer-42")) for _ in range(2)
        )
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        medium.gate.set()

        await second
        assert first.cancelled()
        assert meter.statistics()["recorded"] == 2


def test_without_a_thread_the_caller_syncs(home, medium, monkeypatch):
    """At the end of an interpreter no thread can be begun: then who waits does the work."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    journal = journal_for(home, durability="power")
    record(journal)

    assert medium.has_all_of(home)
    assert journal_module.POWER_TIMEOUT > 0
    journal.close()
