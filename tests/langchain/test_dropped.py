"""Handlers that LangChain replaces, loses or starves, and what is metered all the same.

Read in langchain-core 1.7.2, `runnables/config.py` (`ensure_config`) and `callbacks/manager.py`
(`handle_event`, `AsyncCallbackManager.on_llm_start`).
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.runnables import RunnableLambda
from langchain_openai import OpenAI
from langgraph.graph import START, MessagesState, StateGraph

import llm_metering
from llm_metering.langchain import MeteringHandler
from tests.books import billed, owed, prompt
from tests.langchain.asking import gpt


class Other(BaseCallbackHandler):
    """A handler of somebody else's."""


@pytest.fixture
def chained(default_meter, provider):
    """Run a model inside a chain that has our handler; the inner call has its own callbacks."""

    def chained(callbacks):
        llm = gpt(provider)
        inner = RunnableLambda(lambda text: llm.invoke(text, {"callbacks": callbacks}))
        inner.invoke(prompt("acme"), {"callbacks": [MeteringHandler("acme")]})

    return chained


REPLACED = [
    pytest.param([], id="none"),
    pytest.param([Other()], id="another's"),
]


@pytest.mark.parametrize("callbacks", REPLACED)
def test_a_handler_of_the_chain_is_taken_from_a_call_with_its_own(
    callbacks, chained, default_meter, provider, events_of
):
    """LangChain replaces the callbacks: the call is made, and a handler of the chain never hears."""
    chained(callbacks)

    assert len(provider.entries) == 1
    assert events_of(default_meter) == []


@pytest.mark.parametrize("callbacks", REPLACED)
def test_the_global_handler_is_not(callbacks, chained, default_meter, provider, events_of):
    """It is added to each run anew, after whatever the run replaced; only the payer is another."""
    llm_metering.install(subject="acme")
    chained(callbacks)

    assert billed(events_of(default_meter)) == owed(provider)


@pytest.mark.parametrize("callbacks", REPLACED)
def test_nor_in_a_node_of_a_graph(callbacks, default_meter, provider, events_of):
    """LangGraph merges the callbacks of a graph, and a model called in its node replaces them."""
    llm_metering.install()
    llm = gpt(provider)
    graph = StateGraph(MessagesState)
    graph.add_node(
        "node",
        lambda state: {"messages": [llm.invoke(state["messages"], {"callbacks": callbacks})]},
    )
    graph.add_edge(START, "node")
    graph.compile().invoke(
        {"messages": [("human", prompt("acme"))]},
        {"callbacks": [Other()], "metadata": {"subject": "acme"}},
    )

    assert billed(events_of(default_meter)) == owed(provider)


def start_thread(function, text):
    thread = threading.Thread(target=function, args=(text,))
    thread.start()
    thread.join()


def in_pool(function, text):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(function, text).result()


def in_executor(function, text):
    async def main():
        await asyncio.get_running_loop().run_in_executor(None, function, text)

    asyncio.run(main())


@pytest.mark.parametrize("way", [start_thread, in_pool, in_executor], ids=lambda way: way.__name__)
@pytest.mark.parametrize("installed", [False, True], ids=["handler of the chain", "global"])
def test_threads_that_copy_no_context(way, installed, default_meter, provider, events_of):
    """They inherit no callbacks; the global handler, and one the model itself has, are there."""
    if installed:
        llm_metering.install(subject="acme")
    bare, own = gpt(provider), gpt(provider, callbacks=[MeteringHandler("own")])

    def work(text):
        way(bare.invoke, text)
        way(own.invoke, prompt("own"))

    RunnableLambda(work).invoke(prompt("acme"), {"callbacks": [MeteringHandler("chain")]})

    books = owed(provider)
    if not installed:
        books.pop("acme")
    assert billed(events_of(default_meter)) == books


def completion_model(provider):
    """A model of the old kind."""
    return OpenAI(
        model="gpt-x",
        base_url=provider.openai_url,
        api_key="x",
        max_retries=0,
        default_headers={"Connection": "close"},
    )


class Seen(BaseCallbackHandler):
    """Notes the hooks it is called with."""

    def __init__(self, *, inline):
        self.run_inline = inline
        self.hooks = []

    def on_llm_start(self, *args, **kwargs):
        self.hooks.append("start")

    def on_llm_end(self, *args, **kwargs):
        self.hooks.append("end")


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "in the executor"])
def test_a_starved_start_of_an_async_completion_model(inline, meter, provider, events_of):
    """LangChain tells an inline handler of it and no other; of the end it tells all.

    https://github.com/langchain-ai/langchain/issues/39633. Ours is inline, so that it is never the
    one that is starved; a handler of the user's that is not inline is, and can have ours step back.
    """
    other = Seen(inline=False)
    handler = MeteringHandler("acme", meter=meter)
    handler.run_inline = inline
    llm = completion_model(provider)
    asyncio.run(llm.ainvoke(prompt("acme"), {"callbacks": [other, handler]}))

    assert billed(events_of(meter)) == owed(provider)
    assert other.hooks == (["end"] if inline else ["start", "end"])


def test_a_starved_handler_of_ours_bills_all_the_same(meter, provider, events_of):
    """Not inline beside one that is: the end is told without the start, and says so."""
    handler = MeteringHandler("acme", meter=meter)
    handler.run_inline = False
    llm = completion_model(provider)
    config = {"callbacks": [Seen(inline=True), handler]}
    asyncio.run(llm.ainvoke(prompt("acme"), config))

    (event,) = events_of(meter)
    assert (event.subject, event.data["flags"]) == ("acme", ["start_missing"])
    assert billed([event]) == owed(provider)


class Rude(BaseCallbackHandler):
    """A handler that fails in one hook."""

    def __init__(self, hook, *, insists, error=RuntimeError):
        self.raise_error = insists
        self.error = error
        setattr(self, hook, self.fail)

    def fail(self, *args, **kwargs):
        raise self.error


class AsyncRude(AsyncCallbackHandler):
    """The same, async."""

    def __init__(self, *, insists):
        self.raise_error = insists

    async def on_chat_model_start(self, *args, **kwargs):
        raise RuntimeError

    async def on_llm_end(self, *args, **kwargs):
        raise RuntimeError


HOOKS = ["on_chat_model_start", "on_llm_new_token", "on_llm_end"]


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_a_handler_that_fails_before_ours(hook, asynchronous, meter, provider, events_of):
    """LangChain logs that and goes on."""
    handlers = [Rude(hook, insists=False), AsyncRude(insists=False), MeteringHandler(meter=meter)]
    config = {"callbacks": handlers, "metadata": {"subject": "acme"}}

    async def main():
        return [chunk async for chunk in gpt(provider).astream(prompt("acme"), config)]

    if asynchronous:
        asyncio.run(main())
    else:
        list(gpt(provider).stream(prompt("acme"), config))

    assert billed(events_of(meter)) == owed(provider)


@pytest.mark.parametrize(
    "error", [RuntimeError, KeyboardInterrupt], ids=lambda error: error.__name__
)
def test_a_handler_that_insists_on_its_failure_at_the_end(error, meter, provider, sink):
    """The other handlers are told of no end then: the call is settled when the meter closes.

    Not before, since LangChain says nothing more of it; and not lost.
    """
    handlers = [Rude("on_llm_end", insists=True, error=error), MeteringHandler("acme", meter=meter)]
    with pytest.raises(error):
        gpt(provider).invoke(prompt("acme"), {"callbacks": handlers})
    assert len(meter.calls) == 1
    meter.close()

    (event,) = sink.events
    assert (event.subject, event.data["status"]) == ("acme", "aborted")


def test_behind_ours_it_costs_nothing(meter, provider, events_of):
    """What a handler insists on after ours was told changes no bill."""
    handlers = [MeteringHandler("acme", meter=meter), Rude("on_llm_end", insists=True)]
    with pytest.raises(RuntimeError):
        gpt(provider).invoke(prompt("acme"), {"callbacks": handlers})

    assert billed(events_of(meter)) == owed(provider)


def test_a_handler_that_insists_before_a_start_makes_no_call(meter, provider, events_of):
    """The call is not made, and ours, which comes after it, was told nothing."""
    handlers = [Rude("on_chat_model_start", insists=True), MeteringHandler("acme", meter=meter)]
    with pytest.raises(RuntimeError):
        gpt(provider).invoke(prompt("acme"), {"callbacks": handlers})

    assert provider.entries == []
    assert (len(meter.calls), events_of(meter)) == (0, [])


def test_a_handler_that_insists_after_ours_was_told_of_a_start(meter, provider, sink):
    """LangChain says no more of a call it then does not make: nothing is known of it, nor billed."""
    handlers = [MeteringHandler("acme", meter=meter), Rude("on_chat_model_start", insists=True)]
    with pytest.raises(RuntimeError):
        gpt(provider).invoke(prompt("acme"), {"callbacks": handlers})
    meter.close()

    assert provider.entries == []
    (event,) = sink.events
    assert (event.data["status"], event.data["provenance"]) == ("aborted", "missing")
    assert "total_tokens" not in event.data


def test_a_global_handler_that_was_switched_off_starves_nobody(default_meter, provider):
    """It stays registered, and LangChain prefers inline handlers where there are any."""
    llm_metering.install()
    llm_metering.uninstall()
    other = Seen(inline=False)
    asyncio.run(completion_model(provider).ainvoke("x", {"callbacks": [other]}))

    assert other.hooks == ["start", "end"]


@pytest.mark.parametrize("insists", [False, True], ids=["meekly", "insisting"])
def test_async_handlers_do_not_stop_each_other(insists, meter, provider, events_of):
    """In an async run all are told of an end at once, whichever fails."""
    rude = Rude("on_llm_end", insists=insists)
    handlers = [rude, MeteringHandler("acme", meter=meter)]

    async def main():
        await gpt(provider).ainvoke(prompt("acme"), {"callbacks": handlers})

    if insists:
        with pytest.raises(RuntimeError):
            asyncio.run(main())
    else:
        asyncio.run(main())

    assert billed(events_of(meter)) == owed(provider)
