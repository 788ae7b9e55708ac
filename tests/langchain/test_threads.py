"""Inline and in executors, under several event loops, copied, pickled, mutated: one state, exact sums.

Read in langchain-core 1.7.2, `callbacks/manager.py` (`_ahandle_event_for_handler`, `_run_coros`).
"""

from __future__ import annotations

import asyncio
import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler, CallbackManager
from langchain_core.language_models.fake_chat_models import (
    FakeMessagesListChatModel,
    GenericFakeChatModel,
)
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

import llm_metering
from llm_metering import Meter, subject
from llm_metering.langchain import MeteringHandler
from tests.books import billed, owed, prompt
from tests.langchain.asking import gpt

WAIT = 20.0


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "in the executor"])
def test_the_scope_is_seen_where_the_handler_runs(inline, meter, provider, events_of):
    """On the loop's thread, or in its executor under a copy of the context."""
    handler = MeteringHandler(meter=meter)
    handler.run_inline = inline
    threads = set()
    start = handler._start

    def noting(*args):
        threads.add(threading.current_thread() is threading.main_thread())
        return start(*args)

    handler._start = noting

    async def one(name):
        with subject(name):
            await gpt(provider).ainvoke(prompt(name), {"callbacks": [handler]})
            return [
                chunk
                async for chunk in gpt(provider).astream(prompt(name), {"callbacks": [handler]})
            ]

    async def main():
        await asyncio.gather(*(one(f"customer-{number}") for number in range(5)))

    asyncio.run(main())

    assert threads == {inline}
    assert billed(events_of(meter)) == owed(provider)


class AsyncModel(GenericFakeChatModel):
    """A model that needs no thread to answer, not even to look up an address."""

    async def _agenerate(self, *args, **kwargs):
        return self._generate(*args, **kwargs)


def test_a_full_executor_does_not_hold_up_the_call(meter, events_of):
    """Others' handlers wait for a thread of the executor; an inline one needs none."""
    used = {"input_tokens": 30, "output_tokens": 20, "total_tokens": 50}
    llm = AsyncModel(messages=iter([AIMessage("x", usage_metadata=used)]))
    handler = MeteringHandler("acme", meter=meter)
    release = threading.Event()

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        blocked = loop.run_in_executor(None, release.wait)
        try:
            # It would not return, were the only thread of the executor needed.
            async with asyncio.timeout(WAIT):
                await llm.ainvoke("x", {"callbacks": [handler]})
            assert not blocked.done()
        finally:
            release.set()
            await blocked

    asyncio.run(main())

    assert billed(events_of(meter)) == {"acme": (1, 30, 20)}


def test_one_handler_under_many_event_loops(meter, provider, events_of):
    """It owns nothing that is bound to a loop: loops one after the other, and at the same time."""
    handler = MeteringHandler(meter=meter)

    def loop_of(name):
        async def main():
            with subject(name):
                await gpt(provider).ainvoke(prompt(name), {"callbacks": [handler]})

        asyncio.run(main())

    loop_of("first")
    loop_of("second")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(loop_of, [f"side-by-side-{number}" for number in range(8)]))

    assert billed(events_of(meter)) == owed(provider)


class Async(AsyncCallbackHandler):
    """A handler that LangChain runs in a loop of its own when the run is sync."""

    def __init__(self):
        self.loops = set()

    async def on_llm_end(self, *args, **kwargs):
        self.loops.add(id(asyncio.get_running_loop()))


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_beside_an_async_handler(asynchronous, meter, provider, events_of):
    """Its loop, made for each dispatch, is none of ours."""
    other = Async()
    config = {"callbacks": [other, MeteringHandler("acme", meter=meter)]}
    llm = gpt(provider)
    chain = RunnableLambda(lambda text: llm.invoke(text))
    if asynchronous:
        asyncio.run(chain.ainvoke(prompt("acme"), config))
    else:
        chain.invoke(prompt("acme"), config)

    assert other.loops
    assert billed(events_of(meter)) == owed(provider)


@pytest.mark.parametrize("shared", [True, False], ids=["one handler", "a handler each"])
def test_many_threads_and_one_handler(shared, meter, provider, events_of):
    """No count is lost or doubled, whoever shares what."""
    one = MeteringHandler(meter=meter)

    def work(number):
        name = f"customer-{number % 7}"
        handler = one if shared else MeteringHandler(meter=meter)
        config = {"callbacks": [handler], "metadata": {"subject": name}}
        if number % 3:
            gpt(provider).invoke(prompt(name), config)
        else:
            list(gpt(provider).stream(prompt(name), config))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(60)))

    assert billed(events_of(meter)) == owed(provider)
    assert len(meter.calls) == 0


COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_is_the_handler(copied, meter):
    """Not one of its own, which would not know what the first has been told."""
    handler = MeteringHandler("acme", meter=meter, feature="x")
    handlers = copied([handler, handler])

    assert handlers[0] is handlers[1] is handler
    assert {handler: 1}[handlers[0]] == 1


MODEL_COPIES = {
    "bound": lambda llm: llm.with_config(tags=["x"]),
    "copy": copy.copy,
    "model_copy": lambda llm: llm.model_copy(),
    "deepcopy": copy.deepcopy,
    "deep model_copy": lambda llm: llm.model_copy(deep=True),
    "pickle": lambda llm: pickle.loads(pickle.dumps(llm)),
}


@pytest.mark.parametrize("copied", MODEL_COPIES.values(), ids=MODEL_COPIES)
def test_a_copied_model_shares_the_handler(copied, meter, events_of):
    """Frameworks copy models with all they hold; a lock in a handler would make that fail."""
    used = {"input_tokens": 30, "output_tokens": 20, "total_tokens": 50}
    answers = [AIMessage("x", usage_metadata=used)] * 2
    llm = FakeMessagesListChatModel(
        responses=answers, callbacks=[MeteringHandler("acme", meter=meter)]
    )
    for each in (llm, copied(llm)):
        each.invoke("x")

    assert billed(events_of(meter)) == {"acme": (2, 60, 40)}


def test_managers_can_be_merged(meter):
    """LangChain puts handlers into sets for that, and asks whether two are equal."""
    handler, other = MeteringHandler("a", meter=meter), MeteringHandler("a", meter=meter)
    merged = CallbackManager([handler]).merge(CallbackManager([handler, other]))

    assert len(merged.handlers) == 2
    assert {id(each) for each in merged.handlers} == {id(handler), id(other)}


class Meddler(BaseCallbackHandler):
    """Changes the metadata that all handlers of a run share."""

    run_inline = True

    def __init__(self, when, **changes):
        self.changes = changes
        self.metadata = {}
        setattr(self, when, self.meddle)

    def meddle(self, *args, metadata=None, **kwargs):
        self.metadata = metadata if metadata is not None else self.metadata
        self.metadata.update(self.changes)


def test_metadata_that_a_handler_before_ours_changed(meter, provider, events_of):
    """One dict is shared by all: what it says when we are told is what counts."""
    config = {
        "callbacks": [
            Meddler("on_chat_model_start", subject="changed"),
            MeteringHandler(meter=meter),
        ],
        "metadata": {"subject": "acme"},
    }
    gpt(provider).invoke(prompt("changed"), config)

    assert billed(events_of(meter)) == owed(provider)


def test_metadata_that_is_changed_after_the_start(home, sink, provider, events_of):
    """Who pays and what it is grouped by are copied when the call starts."""
    with Meter(home=home, sinks=[sink], metadata_dimensions=["feature"]) as meter:
        metadata = {"subject": "acme", "feature": "search"}
        meddler = Meddler("on_chat_model_start")
        config = {"callbacks": [meddler, MeteringHandler(meter=meter)], "metadata": metadata}
        chunks = gpt(provider).stream(prompt("acme"), config)
        next(chunks)
        meddler.metadata.clear()
        meddler.metadata.update(subject="somebody", feature="other")
        list(chunks)

        (event,) = events_of(meter)
        assert event.data["feature"] == "search"
        assert billed([event]) == owed(provider)


def test_a_handler_changes_nothing_of_the_metadata(meter, provider):
    """Others see what the application said, and LangChain's own."""
    meddler = Meddler("on_chat_model_start")
    metadata = {"subject": "acme", "feature": ["x"]}
    config = {"callbacks": [MeteringHandler(meter=meter), meddler], "metadata": metadata}
    gpt(provider).invoke("x", config)

    assert {key: meddler.metadata[key] for key in metadata} == metadata
    assert metadata == {"subject": "acme", "feature": ["x"]}
    assert not {key for key in meddler.metadata if "metering" in key}


def test_a_task_that_outlives_its_scope(default_meter, provider, events_of):
    """What was begun in a scope is its, also when it goes on after the scope was left."""
    llm_metering.install()

    async def main():
        with subject("acme"):
            task = asyncio.create_task(gpt(provider).ainvoke(prompt("acme")))
        with subject("other"):
            await asyncio.gather(task, gpt(provider).ainvoke(prompt("other")))

    asyncio.run(main())

    assert billed(events_of(default_meter)) == owed(provider)
