"""`flush_after`: what a function recorded is shipped when it returns, whatever it does."""

from __future__ import annotations

import asyncio
import inspect
import logging

import pytest

import llm_metering
from llm_metering import flushing
from llm_metering.sinks.memory import MemorySink
from tests.metering import call
from tests.transport.harness import ScriptedSink, down


@pytest.fixture
def sink():
    """The only sink of the default meter."""
    return MemorySink()


@pytest.fixture
def meter(home, sink):
    """The default meter."""
    yield llm_metering.configure(home=home, sinks=[sink], ledger=False, source="tests")
    llm_metering.close(0)


@pytest.fixture(autouse=True)
def not_logged_yet(monkeypatch):
    """Each test begins a minute of its own."""
    monkeypatch.setattr(flushing, "_next_log", 0.0)


@llm_metering.flush_after
def handled(meter):
    """Meter two calls."""
    call(meter, 2)
    return "answered"


@llm_metering.flush_after(timeout=9.0)
def handled_in_time(meter):
    """The same, with a time of its own."""
    call(meter, 2)
    return "answered"


@llm_metering.flush_after
async def handled_async(meter):
    """The same, on an event loop."""
    await asyncio.sleep(0)
    call(meter, 2)
    return "answered"


@llm_metering.flush_after(timeout=9.0)
async def handled_async_in_time(meter):
    """The same, with a time of its own."""
    call(meter, 2)
    return "answered"


@pytest.mark.parametrize("function", [handled, handled_in_time], ids=["bare", "with a time"])
def test_a_function_ships_before_it_returns(meter, sink, function):
    """What was recorded is in the sink by then, and the result is the function's own."""
    assert function(meter) == "answered"

    assert len(sink.events) == 2


@pytest.mark.parametrize(
    "function", [handled_async, handled_async_in_time], ids=["bare", "with a time"]
)
def test_a_coroutine_function_ships_before_it_returns(meter, sink, function):
    """It stays a coroutine function, whatever looks at it."""
    assert inspect.iscoroutinefunction(function)

    assert asyncio.run(function(meter)) == "answered"

    assert len(sink.events) == 2


def test_the_loop_goes_on_meanwhile(home, monkeypatch):
    """While a coroutine function's flush waits, other tasks run."""
    beats = []

    class Watched(ScriptedSink):
        def deliver(self, batch, /):
            before = len(beats)
            while len(beats) < before + 3:  # for ever, if the loop stands still
                pass
            return super().deliver(batch)

    async def beat():
        while True:
            beats.append(1)
            await asyncio.sleep(0.001)

    async def main(meter):
        heart = asyncio.create_task(beat())
        await handled_async(meter)
        heart.cancel()

    sink = Watched()
    meter = llm_metering.configure(home=home, sinks=[sink], ledger=False, source="tests")
    asyncio.run(main(meter))
    llm_metering.close(0)

    assert len(sink.taken) == 2


class Odd(BaseException):
    """What no `except Exception` catches."""


@pytest.mark.parametrize("error", [ValueError, Odd, SystemExit], ids=lambda error: error.__name__)
def test_it_ships_though_the_function_raises(meter, sink, error):
    """The error is the function's own, and what was recorded before it is in the sink."""

    @llm_metering.flush_after
    def broken():
        call(meter)
        raise error("as it does")

    @llm_metering.flush_after
    async def broken_async():
        broken()

    with pytest.raises(error, match="as it does"):
        broken()
    assert len(sink.events) == 1
    with pytest.raises(error, match="as it does"):
        asyncio.run(broken_async())
    assert len(sink.events) == 2


def test_what_could_not_be_shipped_is_said_once_a_minute(home, caplog):
    """Each call returns as it would, and one of them says that the events are on disk."""
    sink = ScriptedSink(*[down] * 50)
    meter = llm_metering.configure(home=home, sinks=[sink], ledger=False, source="tests")

    @llm_metering.flush_after(timeout=0.05)
    def hasty():
        call(meter)
        return 42

    with caplog.at_level(logging.WARNING, "llm_metering"):
        assert [hasty(), hasty(), asyncio.run(_wrapped(hasty))] == [42, 42, 42]
    llm_metering.close(0)

    said = [each.getMessage() for each in caplog.records if "could be shipped" in each.getMessage()]
    assert said == ["not all that was recorded could be shipped within 0.05 seconds; it is on disk"]


async def _wrapped(function):
    return function()


@pytest.mark.parametrize("function", [handled, handled_async], ids=["sync", "async"])
def test_a_flush_that_fails_hurts_nobody(meter, monkeypatch, caplog, function):
    """A failure of ours is logged by its name alone, and the function's result is returned."""

    def fail(timeout):
        raise RuntimeError("with a secret")

    async def fail_async(timeout):
        fail(timeout)

    monkeypatch.setattr(flushing, "flush", fail)
    monkeypatch.setattr(flushing, "aflush", fail_async)

    result = function(meter)
    if inspect.iscoroutine(result):
        result = asyncio.run(_awaited(result))

    assert result == "answered"
    assert "the flush failed: RuntimeError" in caplog.text
    assert "secret" not in caplog.text


async def _awaited(coroutine):
    return await coroutine


def test_it_takes_methods_and_their_signature(meter, sink):
    """A method is decorated as a function is, and keeps its name, signature and docstring."""

    class Service:
        @llm_metering.flush_after
        def answer(self, question: str, *, twice: bool = False) -> str:
            """Answer."""
            call(meter)
            return question * (1 + twice)

    assert Service().answer("why?", twice=True) == "why?why?"
    assert len(sink.events) == 1
    assert str(inspect.signature(Service.answer)) == (
        "(self, question: 'str', *, twice: 'bool' = False) -> 'str'"
    )
    assert (Service.answer.__name__, Service.answer.__doc__) == ("answer", "Answer.")
