"""asyncio: loops come and go, and none of them waits for us or is waited for."""

from __future__ import annotations

import asyncio
import signal

import pytest

import llm_metering
from llm_metering.sinks.base import Delivery
from tests.transport.harness import ScriptedSink

from .children import assert_all_counted, meter_call


@pytest.fixture
def meter():
    """The default meter."""
    yield llm_metering.get_meter()
    llm_metering.close()


async def work() -> list[str]:
    """Meter calls from several tasks, from a thread, and from a callback of the loop."""
    loop = asyncio.get_running_loop()
    soon = loop.create_future()
    loop.call_soon(lambda: soon.set_result(meter_call()))

    async def task() -> str:
        await asyncio.sleep(0)
        return meter_call()

    tasks = await asyncio.gather(*(task() for _ in range(5)))
    return [*tasks, await soon, await asyncio.to_thread(meter_call)]


def test_one_loop_after_another(home, server, meter):
    """What is recorded and flushed in loops that are closed again is counted as ever."""

    async def main(flushed):
        ids = await work()
        assert await llm_metering.aflush() or not flushed
        return ids

    ids = [each for _ in range(3) for each in asyncio.run(main(True))]
    assert len(server.events) == len(ids) == 21
    ids += asyncio.run(work())  # the loop is closed with its events not shipped
    assert asyncio.run(llm_metering.aclose())

    assert_all_counted(home, server, ids)


def test_a_loop_that_is_left_and_taken_up_again(home, server, meter):
    """Between two runs of a loop nobody of ours needs it."""
    with asyncio.Runner() as runner:
        ids = runner.run(work())
        assert meter.flush()
        ids += runner.run(work())
        assert runner.run(meter.aflush())

    assert_all_counted(home, server, ids)


class Awaited(ScriptedSink):
    """Takes a batch when the loop has gone on for a while, and never while it stands still."""

    def __init__(self, beats: list[None]) -> None:
        super().__init__()
        self._beats = beats

    def deliver(self, batch, /) -> Delivery:
        enough = len(self._beats) + 5
        while len(self._beats) < enough:
            pass
        return super().deliver(batch)


@pytest.mark.parametrize("verb", ["aflush", "aclose"])
def test_the_loop_goes_on_while_it_is_waited(home, verb):
    """Waiting for sinks is done on another thread; the loop's other tasks run."""
    beats: list[None] = []
    sink = Awaited(beats)
    meter = llm_metering.configure(home=home, sinks=[sink], ledger=False)

    async def heart() -> None:
        while True:
            beats.append(None)
            await asyncio.sleep(0.001)

    async def main() -> bool:
        beating = asyncio.create_task(heart())
        meter_call()
        done = await getattr(meter, verb)(timeout=30)
        beating.cancel()
        return done

    assert asyncio.run(main())
    llm_metering.close()
    assert len(sink.taken) == 1


def test_a_signal_handler_may_record(home, server, meter):
    """Also in the midst of a record of the same thread; each of them is counted once."""
    ids: list[str] = []
    before = signal.signal(signal.SIGALRM, lambda *_: ids.append(meter_call()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
        for _ in range(300):
            own = meter_call()
            ids.append(own)
        signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    llm_metering.close()

    assert len(ids) > 300, "the signal came"
    assert_all_counted(home, server, ids)
