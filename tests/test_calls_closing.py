"""Calls that nobody ends: each is closed once, when there is reason to, and none that is in flight."""

from __future__ import annotations

import asyncio
import gc
import weakref
from functools import partial

import pytest

from llm_metering.calls import CallTable, Report, Waits, current_task, owner_is_over
from llm_metering.calls.memory import REMEMBERED
from llm_metering.exchange import Output
from llm_metering.testing import FakeClock
from llm_metering.token_usage import TokenUsage
from tests.call_table import NOW, USAGE, Notebook, Words, by, call

WAITS = Waits()
ERROR = Report(is_last=False)


@pytest.fixture
def notes():
    return Notebook()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def table(notes, clock):
    return CallTable(notes, Words(), source="tests", now=lambda: NOW, clock=clock)


def told(notes):
    """How each call ended, where its counts come from, and its flags."""
    return [
        (event["data"]["status"], event["data"]["provenance"], event["data"].get("flags"))
        for event in notes.events
    ]


LEFT = ("aborted", "missing", ["left_behind"])


def test_a_call_whose_owner_is_over_is_closed_a_minute_later(table, notes, clock):
    """Its end may still come meanwhile: LangChain tells of it in a task of its own."""
    table.start("run", call(parent="owner"))
    owner_is_over("owner")
    clock.advance(WAITS.left - 1)
    assert table.sweep() == WAITS.sweep_every
    assert notes.events == []
    clock.advance(1)

    assert table.sweep() is None
    assert told(notes) == [LEFT]


def test_an_end_that_comes_after_its_owners_is_in_time(table, notes, clock):
    """It is billed as any other, and nothing is closed later."""
    table.start("run", call(parent="chain"))
    owner_is_over("chain")
    clock.advance(WAITS.left - 1)
    table.end("run", "completed", Report(usage=USAGE))
    clock.advance(WAITS.left)
    table.sweep()

    assert told(notes) == [("completed", "reported", None)]
    assert (notes.late, notes.counts) == ([], {})


def test_a_flush_waits_for_no_call_that_was_left(table, notes):
    """What was begun in a run that is over is settled; what is in flight is not cut."""
    table.start("left", call(parent="chain"))
    table.start("in flight", call(parent="another chain"))
    table.start("alone", call())
    owner_is_over("chain")
    table.settle_decided()

    assert told(notes) == [LEFT]
    assert (table.knows("left"), len(table)) == (True, 2)


def test_a_sign_of_life_after_its_owners_end_keeps_a_call_open(table, notes, clock):
    """A stream that a chain returned is read on by whoever has it; only silence closes it."""
    table.start("run", call(parent="chain"))
    owner_is_over("chain")
    for _ in range(5):
        clock.advance(WAITS.left - 1)
        table.piece("run", "word ")
        table.sweep()
        table.settle_decided()
    assert notes.events == []
    clock.advance(WAITS.left)
    table.sweep()

    assert told(notes) == [("aborted", "estimated", ["left_behind"])]
    assert notes.data["output_tokens"] == 5


def test_a_call_without_a_sign_of_life_is_closed_in_the_end(table, notes, clock):
    """After an hour, and never estimated: it may not have reached the provider."""
    table.start("run", call(asked=lambda: {"prompt": "four words in it"}))
    clock.advance(WAITS.silence - 1)
    table.sweep()
    assert notes.events == []
    clock.advance(1)
    table.sweep()

    assert told(notes) == [("aborted", "missing", ["gone_silent"])]
    assert "input_tokens" not in notes.data


def test_a_call_with_signs_of_life_goes_on_for_hours(table, notes, clock):
    """How long it takes is nobody's business, as long as something comes."""
    table.start("run", call())
    for _ in range(10):
        clock.advance(WAITS.silence - 1)
        table.piece("run", None)
        table.sweep()

    assert (len(table), notes.events) == (1, [])


@pytest.mark.parametrize("end", ["sweep", "flush", "exit"])
def test_an_error_that_may_not_be_the_last_word_waits_for_it(table, notes, clock, end):
    """Guardrails tell of an error, and then of the end with its usage; if none comes, it failed."""
    table.start("run", call())
    table.end("run", "failed", ERROR)
    clock.advance(WAITS.failure - 1)
    table.sweep()
    assert notes.events == []
    clock.advance(1)
    {"sweep": table.sweep, "flush": table.settle_decided, "exit": table.close}[end]()

    assert told(notes) == [("failed", "missing", None)]
    assert notes.counts == {}


@pytest.mark.parametrize("tellers", ["a", "ab", "aa"])
def test_the_usage_that_follows_an_error_is_billed_once(table, notes, tellers):
    """An error without, an end with usage: one event, of the end."""
    for teller in tellers:
        table.start("run", call(teller=teller))
    for teller in tellers:
        table.end("run", "failed", ERROR, teller=teller)
    for teller in tellers:
        table.end("run", "completed", Report(usage=USAGE), teller=teller)
    table.settle_decided()

    assert told(notes) == [("completed", "reported", None)]
    assert (notes.counts, notes.late, len(table)) == ({}, [], 0)


def test_an_error_that_is_told_twice_is_one_failure(table, notes):
    """As SageMaker's is; the second one is counted."""
    table.start("run", call())
    for _ in range(2):
        table.end("run", "failed", ERROR)
    table.settle_decided()

    assert told(notes) == [("failed", "missing", None)]
    assert notes.counts == {("ignored_signals", "failed"): 1}


def test_an_error_with_usage_waits_as_well(table, notes):
    """What is known by then may not be all: the end that follows has the last word."""
    table.start("run", call())
    table.end("run", "failed", Report(usage=USAGE, is_last=False))
    table.end("run", "completed", Report(usage=USAGE))

    assert told(notes) == [("completed", "reported", None)]


def test_an_error_with_usage_that_nothing_follows(table, notes):
    """What is known is known."""
    table.start("run", call())
    table.end("run", "failed", Report(usage=USAGE, is_last=False))
    table.settle_decided()

    assert told(notes) == [("failed", "reported", None)]


def test_a_refusal_that_waited_makes_no_event(table, notes):
    """It is counted, and its note is closed, as if it had come at once."""
    table.start("run", call())
    table.end("run", "refused", Report(reason="400", is_last=False))
    table.settle_decided()

    assert (notes.events, notes.closed) == ([], list(notes.opened))
    assert notes.counts == {("refused_calls", "400"): 1}


@pytest.mark.parametrize(
    "closed_by",
    [
        pytest.param(
            lambda table, clock: owner_is_over("chain") or table.settle_decided(), id="owner"
        ),
        pytest.param(
            lambda table, clock: clock.advance(WAITS.silence) or table.sweep(), id="sweep"
        ),
        pytest.param(lambda table, clock: table.close(), id="exit"),
    ],
)
def test_what_turns_up_after_a_close_is_listed(table, notes, clock, closed_by):
    """The call has its event; its usage is noted, once, and the bill does not change."""
    for teller in "ab":
        table.start("run", call(by("acme"), parent="chain", run_id="run", teller=teller))
    closed_by(table, clock)
    (event,) = notes.events
    for teller in "ab":
        report = Report(usage=TokenUsage(input_tokens=9), model="gpt-5-mini-1")
        table.end("run", "completed", report, teller=teller)

    assert notes.events == [event]
    assert notes.late == [
        {
            "id": event["id"],
            "run_id": "run",
            "subject": "acme",
            "model": "gpt-5-mini-1",
            "time": "2026-11-21T12:00:00.000Z",
            "input_tokens": 9,
        }
    ]
    assert notes.counts == {("ignored_signals", "completed"): 1}


def test_an_end_in_the_very_moment_of_a_close_is_late(table, notes):
    """The call is closed while another thread, which has seen it open, is about to settle it."""

    class Slow(TokenUsage):
        @property
        def total_tokens(self):
            table.close()
            return 29

    table.start("run", call(by("acme")))
    table.end("run", "completed", Report(usage=Slow(input_tokens=9, output_tokens=20)))

    assert told(notes) == [("aborted", "missing", ["open_at_exit"])]
    assert [(late["input_tokens"], late["output_tokens"]) for late in notes.late] == [(9, 20)]


@pytest.mark.parametrize(
    ("first", "late"),
    [
        pytest.param(Report(usage=USAGE), 0, id="all was reported"),
        pytest.param(Report(cached=True), 0, id="cached"),
        pytest.param(Report(), 1, id="nothing was reported"),
        pytest.param(Report(usage=USAGE, is_final=False), 1, id="the usage until then"),
        pytest.param(Report(usage=TokenUsage(input_tokens=1)), 1, id="half of it"),
    ],
)
def test_only_usage_that_is_not_in_the_event_is_late(table, notes, first, late):
    """A second end says nothing new where the first one had it all."""
    table.start("run", call())
    table.end("run", "completed", first)
    table.end("run", "completed", Report(usage=USAGE))
    table.end("run", "completed", Report(usage=USAGE))

    assert len(notes.events) == 1
    assert len(notes.late) == late


def test_a_closed_call_is_remembered_beyond_thousands_that_ended(table, notes):
    """Its end may come hours later, and must not look like that of a call nobody knows."""
    table.start("closed", call(parent="chain"))
    owner_is_over("chain")
    table.settle_decided()
    for number in range(REMEMBERED + 1):
        table.start(f"run-{number}", call())
        table.end(f"run-{number}", "refused", Report())

    assert table.knows("closed")
    assert not table.knows("run-0")


def test_what_cannot_be_closed_keeps_no_other_call_open(table, notes):
    """A bug of ours in settling one is counted; the next one is settled."""
    answers = [RuntimeError("secret"), Report(output=partial(Output, texts=["one two"]))]

    def so_far():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    for name in ("one", "two"):
        table.start(name, call(parent="chain", request=[name], so_far=so_far))
    owner_is_over("chain")
    table.settle_decided()

    assert [event["data"]["provenance"] for event in notes.events] == ["missing", "estimated"]
    assert notes.counts == {("failures", "so_far"): 1}


def test_nothing_is_kept_of_calls_that_have_ended(table):
    """A chain that runs for days makes any number of calls, each with its prompt."""

    class Request(list):
        """A prompt that can be referred to weakly."""

    request = Request(["the prompt"])
    gone = weakref.ref(request)
    table.start("run", call(parent="chain", request=request))
    table.end("run", "completed", Report(usage=USAGE))
    del request
    gc.collect()

    assert gone() is None
    owner_is_over("chain")


async def begin(table, name="run", pieces=0):
    """Start a call in this task, and wait until it is cancelled."""
    table.start(name, call(request=[name], task=current_task()))
    for _ in range(pieces):
        table.piece(name, "word ")
    await asyncio.Event().wait()


@pytest.mark.parametrize("pieces", [0, 3])
def test_a_call_is_over_with_its_cancelled_task(table, notes, pieces):
    """At once; it may have cost what had come until then."""

    async def main():
        task = asyncio.create_task(begin(table, pieces=pieces))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    provenance = "estimated" if pieces else "missing"
    assert told(notes) == [("aborted", provenance, None)]


def test_the_tasks_that_a_loop_cancels_at_its_end(table, notes):
    """They are never awaited again, and told of all the same."""

    async def main():
        _ = [asyncio.create_task(begin(table, f"run-{number}")) for number in range(3)]
        await asyncio.sleep(0)

    asyncio.run(main())

    assert told(notes) == [("aborted", "missing", None)] * 3


def test_a_task_that_is_over_may_leave_a_stream_to_others(table, notes):
    """Each step of a stream may run in a task of its own: that one has ended says nothing."""

    async def step():
        table.start("run", call(task=current_task()))
        table.piece("run", "word ")

    async def main():
        await asyncio.create_task(step())
        table.settle_decided()
        assert len(table) == 1
        table.end("run", "completed", Report(usage=USAGE))

    asyncio.run(main())

    assert told(notes) == [("completed", "reported", None)]


def test_a_task_that_is_over_leaves_behind_a_call_without_a_sign_of_life(table, notes):
    """A time limit inside the task has cut it short; the task itself was not cancelled."""

    async def limited():
        try:
            async with asyncio.timeout(0):
                await begin(table)
        except TimeoutError:
            return "too late"

    async def main():
        return await asyncio.create_task(limited())

    assert asyncio.run(main()) == "too late"
    assert notes.events == []
    table.settle_decided()

    assert told(notes) == [LEFT]


@pytest.mark.parametrize("producer", ["goes on", "is cancelled as well"])
def test_a_stream_that_another_task_produces(table, notes, producer):
    """It outlives the task that asked for it, if it goes on: its end brings the usage."""

    async def produce(ready, go_on):
        table.piece("run", "word ")
        ready.set()
        await go_on.wait()
        table.end("run", "completed", Report(usage=USAGE))

    async def ask(tasks, ready, go_on):
        table.start("run", call(task=current_task()))
        tasks.append(asyncio.create_task(produce(ready, go_on)))
        await asyncio.Event().wait()

    async def main():
        tasks, ready, go_on = [], asyncio.Event(), asyncio.Event()
        asker = asyncio.create_task(ask(tasks, ready, go_on))
        await ready.wait()
        asker.cancel()
        await asyncio.wait([asker])
        await asyncio.sleep(0)
        assert len(table) == 1
        if producer == "goes on":
            go_on.set()
        else:
            tasks[0].cancel()
        await asyncio.wait(tasks)

    asyncio.run(main())

    expected = ("completed", "reported") if producer == "goes on" else ("aborted", "estimated")
    assert told(notes) == [(*expected, None)]
    assert notes.late == []


class Task:
    """A task, as far as it is asked."""

    def __init__(self):
        self.callbacks = []
        self.is_done = False

    def add_done_callback(self, callback):
        self.callbacks.append(callback)

    def done(self):
        return self.is_done

    def cancelled(self):
        return True


def test_a_long_task_is_followed_once_for_all_its_calls(table, notes):
    """A worker that lives for days gathers no callbacks, and cancels only what is in flight."""
    task = Task()
    for number in range(100):
        table.start(f"run-{number}", call(task=task, request=[number]))
        if number:
            table.end(f"run-{number}", "completed", Report(usage=USAGE))
    (over,) = task.callbacks
    over(task)

    assert [status for status, *_ in told(notes)] == [*["completed"] * 99, "aborted"]
