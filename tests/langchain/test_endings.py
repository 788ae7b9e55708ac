"""Every way a call ends, or is left: one event each, of what the provider says it sent.

The provider runs in a process of its own and keeps its own ledger. LangGraph's tests are those of the
commonest end in production: a client that disconnects in the middle of an agent's answer.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any, TypedDict

import anyio
import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langgraph.graph import END, START, StateGraph

from llm_metering.langchain import MeteringHandler

WAIT = 20.0
# Of a call that is given up; no clock of a test gets there on its own.
LIMIT = 200.0
QUESTION = "what is it"
PROMPT = ChatPromptTemplate.from_template("{question}")

# LangChain and LangGraph warn of what is new in them.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The v3 streaming protocol on Pregel"),
    pytest.mark.filterwarnings("ignore:.*model_stream_v3. is in beta"),
]


@pytest.fixture
def model(chat, provider):
    """Make a model of the provider that behaves in a certain way."""

    def model(behaviour="", **overrides):
        return chat(base_url=provider.openai_url, model=f"gpt-x{behaviour}", **overrides)

    return model


@pytest.fixture
def config(meter):
    return {"callbacks": [MeteringHandler("acme", meter=meter)]}


class State(TypedDict, total=False):
    """What goes through a graph."""

    answer: str


def graph_of(llm, *, sibling=None, is_async=True):
    """A graph whose one node asks the model; another one may run beside it."""

    async def ask(state):
        return {"answer": (await llm.ainvoke(QUESTION)).content}

    def ask_at_once(state):
        return {"answer": llm.invoke(QUESTION).content}

    graph = StateGraph(State)
    graph.add_node("ask", ask if is_async else ask_at_once)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    if sibling is not None:
        graph.add_node("sibling", sibling)
        graph.add_edge(START, "sibling")
    return graph.compile()


async def pieces_came(meter, count):
    """Wait until the call in flight has received so many pieces with text."""
    async with asyncio.timeout(WAIT):
        while True:
            calls = list(meter.calls._open.values())
            if calls:
                told = (calls[0].pieces, calls[0].other_pieces)
                if max(sum(map(bool, pieces)) for pieces in told) >= count:
                    return
            await asyncio.sleep(0.01)


async def request_came(provider):
    """Wait until the provider has a request in hand."""
    await asyncio.to_thread(provider.wait_until, lambda entries: any(e.status for e in entries))


async def connection_closed(provider):
    """Wait until the provider knows that its client is gone.

    A loop that ends before leaves the connection in the client's pool, where the provider cannot
    tell it from one that is in use.
    """
    await asyncio.to_thread(
        provider.wait_until, lambda entries: not any(entry.open for entry in entries)
    )


async def loop_waits():
    """Wait until every other task of this loop waits for something outside of it."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(0)
    while loop._ready:
        await asyncio.sleep(0)


async def time_passes(when):
    """Let the loop's clock jump by `2 * LIMIT` when it is time."""
    await when
    loop = asyncio.get_running_loop()
    clock = loop.time
    loop.time = lambda: clock() + 2 * LIMIT


async def cancelled(work, when):
    """Do `work` in a task of its own, and cancel that when it is time."""
    task = asyncio.create_task(work)
    await when
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def told(event):
    """How the call ended, where its counts come from, and what was odd."""
    return event.data["status"], event.data["provenance"], event.data.get("flags")


def is_exact(event, entry):
    """Whether an event has what the provider's ledger has."""
    counts = entry.input, entry.output, entry.cached, entry.reasoning
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "reasoning_output_tokens")
    return tuple(event.data[name] for name in names) == counts


ABORTED = ("aborted", "estimated", None)


@pytest.mark.parametrize("how", ["close", "break", "collected"])
def test_a_stream_that_is_left(how, meter, model, config, provider, events_of):
    """LangChain tells of it as it is closed, with the pieces until then."""
    chunks = model("+hang3").stream(QUESTION, config)
    for _ in range(3):
        next(chunks)
    if how == "close":
        chunks.close()
    elif how == "break":
        for _ in chunks:
            break
    del chunks
    gc.collect()

    (event,) = events_of(meter)
    assert told(event) == ABORTED
    assert event.data["output_tokens"] > 0
    assert provider.entry.left


def test_a_stream_that_is_left_after_its_usage(meter, model, config, provider, events_of):
    """LangChain tells of an error, with the usage in it: nothing is unknown."""
    chunks = model().stream(QUESTION, config)
    while next(chunks).usage_metadata is None:
        pass
    chunks.close()

    (event,) = events_of(meter)
    assert told(event) == ("aborted", "reported", None)
    assert is_exact(event, provider.entry)


def test_a_stream_that_is_left_at_its_finish_reason(meter, model, config, provider, events_of):
    """OpenAI's usage comes in a chunk of its own behind it, which nobody asked for any more."""
    chunks = model().stream(QUESTION, config)
    while not next(chunks).response_metadata.get("finish_reason"):
        pass
    chunks.close()

    (event,) = events_of(meter)
    assert told(event) == ABORTED
    assert event.data["output_tokens"] > 0


@pytest.mark.parametrize("how", ["aclose", "break", "cancel"])
def test_an_async_stream_that_is_left(how, meter, model, config, events_of):
    """At once, when the loop collects it, or inside the wait for the next piece."""

    async def consume(limit=None):
        chunks = model("+hang2").astream(QUESTION, config)
        text = ""
        async for chunk in chunks:
            text += chunk.content
            if limit and text:
                break
        if how == "aclose":
            await chunks.aclose()

    async def main():
        if how == "cancel":
            await cancelled(consume(), pieces_came(meter, 2))
        else:
            await consume(1)

    asyncio.run(main())

    (event,) = events_of(meter)
    assert told(event) == ABORTED
    assert event.data["output_tokens"] > 0


def test_a_chain_whose_stream_is_closed_reads_to_the_end(meter, model, config, provider, events_of):
    """It swallows the exit and drains its input: the provider generated all, and says so."""
    chunks = (PROMPT | model() | StrOutputParser()).stream({"question": QUESTION}, config)
    next(chunks)
    chunks.close()

    (event,) = events_of(meter)
    assert told(event) == ("completed", "reported", None)
    assert is_exact(event, provider.entry)


def test_an_async_chain_whose_stream_is_closed(meter, model, config, events_of):
    """That one does not drain; its model's stream is collected a moment later."""

    async def main():
        chain = PROMPT | model("+hang2") | StrOutputParser()
        chunks = chain.astream({"question": QUESTION}, config)
        async for text in chunks:
            if text:
                break
        await chunks.aclose()

    asyncio.run(main())

    (event,) = events_of(meter)
    assert told(event) == ABORTED


@pytest.mark.parametrize("inside", ["bare", "chain", "graph"])
@pytest.mark.parametrize("how", ["cancel", "wait_for", "timeout"])
def test_a_cancelled_ainvoke(how, inside, meter, sink, model, config, provider):
    """LangChain is silent: its task or what is around it tells. Nothing came, so nothing is known."""
    llm = model("+hang")
    runnable = {
        "bare": llm,
        "chain": RunnableLambda(lambda _: QUESTION) | llm,
        "graph": graph_of(llm),
    }[inside]
    question: Any = {"answer": ""} if inside == "graph" else QUESTION

    async def limited():
        async with asyncio.timeout(LIMIT):
            await runnable.ainvoke(question, config)

    def waited():
        return asyncio.wait_for(runnable.ainvoke(question, config), LIMIT)

    async def main():
        if how == "cancel":
            await cancelled(runnable.ainvoke(question, config), request_came(provider))
            return
        clock = asyncio.create_task(time_passes(request_came(provider)))
        with pytest.raises(TimeoutError):
            await (waited() if how == "wait_for" else asyncio.create_task(limited()))
        await clock

    asyncio.run(main())
    is_told_at_once = how != "timeout" or inside != "bare"
    assert len(meter.calls) == (0 if is_told_at_once else 1)
    assert meter.flush()

    (event,) = sink.events
    flags = None if is_told_at_once else ["left_behind"]
    assert told(event) == ("aborted", "missing", flags)
    assert meter.statistics()["open_calls"] == 0
    assert provider.entry.left


def test_a_cancelled_ainvoke_that_streams_inside(meter, model, config, events_of):
    """LangChain drops the pieces; what was told of each is what is known."""

    async def main():
        work = model("+hang2").ainvoke(QUESTION, config, stream=True)
        await cancelled(work, pieces_came(meter, 2))

    asyncio.run(main())
    assert len(meter.calls) == 0

    (event,) = events_of(meter)
    assert told(event) == ABORTED
    assert event.data["output_tokens"] > 0


@pytest.mark.parametrize("mode", ["messages", "values", "v2 events"])
@pytest.mark.parametrize("how", ["step cancelled", "aclose", "cancel"])
def test_a_graph_whose_reader_leaves(how, mode, meter, model, config, provider, events_of):
    """A client disconnects in the middle of an agent's answer: nothing is said of the model's call."""
    graph = graph_of(model("+hang2"))

    def open_stream():
        if mode == "v2 events":
            return graph.astream_events({"answer": ""}, config, version="v2")
        return graph.astream({"answer": ""}, config, stream_mode=mode)

    async def consume():
        async for _ in open_stream():
            pass

    async def main():
        when = request_came(provider) if mode == "values" else pieces_came(meter, 2)
        if how == "cancel":
            await cancelled(consume(), when)
            return
        stream = open_stream()
        if mode == "values":
            await anext(stream)  # the state before the first node
        step = asyncio.ensure_future(anext(stream))
        await when
        if how == "aclose" and mode != "values":
            await step
            await stream.aclose()
            return
        while step.done():
            step = asyncio.ensure_future(anext(stream))
            await loop_waits()
        step.cancel()
        await asyncio.wait([step])
        del stream, step
        gc.collect()
        await connection_closed(provider)

    asyncio.run(main())
    assert len(meter.calls) == 0

    (event,) = events_of(meter)
    assert told(event) == (("aborted", "missing", None) if mode == "values" else ABORTED)
    assert provider.entry.left


@pytest.mark.needs("langgraph_1")
def test_a_graph_that_a_web_server_cancels_reads_to_the_end(
    meter, model, config, provider, events_of
):
    """Starlette cancels by a scope of anyio's, which LangGraph's nodes survive: billed in full."""
    graph = graph_of(model("+slow20+pieces20", stream_usage=True))

    async def consume():
        async for _ in graph.astream({"answer": ""}, config, stream_mode="messages"):
            pass

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(consume)
            await pieces_came(meter, 2)
            group.cancel_scope.cancel()
        assert len(meter.calls) == 1
        async with asyncio.timeout(WAIT):
            while len(meter.calls):
                await asyncio.sleep(0.01)

    asyncio.run(main())

    (event,) = events_of(meter)
    assert told(event) == ("completed", "reported", None)
    assert is_exact(event, provider.entry)
    assert provider.entry.pieces == 20


# With older versions the connection is left open until it is collected.
@pytest.mark.needs("langgraph_1")
@pytest.mark.parametrize("asked", ["model", "chain", "graph's events"])
def test_what_else_a_web_server_cancels_is_cut_off(
    asked, meter, model, config, provider, events_of
):
    """A scope of anyio's ends the stream of a model, of a chain, and a graph's events at once."""
    llm = model("+hang2")

    def open_stream():
        if asked == "graph's events":
            return graph_of(llm).astream_events({"answer": ""}, config, version="v2")
        runnable = llm if asked == "model" else PROMPT | llm | StrOutputParser()
        return runnable.astream(QUESTION if asked == "model" else {"question": QUESTION}, config)

    async def consume():
        async for _ in open_stream():
            pass

    async def main():
        async with anyio.create_task_group() as group:
            group.start_soon(consume)
            await pieces_came(meter, 2)
            group.cancel_scope.cancel()

    asyncio.run(main())

    (event,) = events_of(meter)
    assert told(event) == ABORTED
    assert provider.entry.left


def test_a_graph_whose_stream_is_dropped(meter, model, config, provider, events_of):
    """Nobody closes it but the garbage collector."""

    async def main():
        stream = graph_of(model("+hang2")).astream({"answer": ""}, config, stream_mode="messages")
        await anext(stream)
        await pieces_came(meter, 2)
        del stream
        gc.collect()
        async with asyncio.timeout(WAIT):
            while len(meter.calls):
                await asyncio.sleep(0.01)
        await connection_closed(provider)

    asyncio.run(main())

    (event,) = events_of(meter)
    assert told(event) == ABORTED
    assert provider.entry.left


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "invoked"])
def test_a_graph_in_which_another_node_fails(streamed, meter, model, config, provider, events_of):
    """LangGraph cancels its siblings; the call of one of them is over as well."""

    class SiblingError(Exception):
        """What the other node raises."""

    async def fail(state):
        await (pieces_came(meter, 2) if streamed else request_came(provider))
        raise SiblingError

    async def run():
        graph = graph_of(model("+hang2"), sibling=fail)
        if not streamed:
            await graph.ainvoke({"answer": ""}, config)
        async for _ in graph.astream({"answer": ""}, config, stream_mode="messages"):
            pass

    with pytest.raises(SiblingError):
        asyncio.run(run())

    (event,) = events_of(meter)
    assert told(event) == (ABORTED if streamed else ("aborted", "missing", None))


def test_a_sync_graph_whose_reader_leaves_reads_to_the_end(
    meter, model, config, provider, events_of
):
    """Its thread goes on, and so does the provider: the call completes."""
    stream = graph_of(model(), is_async=False).stream(
        {"answer": ""}, config, stream_mode="messages"
    )
    next(stream)
    del stream
    gc.collect()

    (event,) = events_of(meter)
    assert told(event) == ("completed", "reported", None)
    assert is_exact(event, provider.entry)


@pytest.mark.needs("v3_events")
def test_a_sync_v3_stream_that_is_dropped(meter, sink, model, config):
    """Nobody is told, and nothing is around it: it is in flight until the meter closes."""
    stream = model("+hang3").stream_events(QUESTION, config, version="v3")
    for _, _ in zip(range(3), stream, strict=False):
        pass
    del stream
    gc.collect()
    assert meter.flush()
    assert (sink.events, len(meter.calls)) == ([], 1)
    meter.close()

    (event,) = sink.events
    assert told(event) == ("aborted", "estimated", ["open_at_exit"])


@pytest.mark.needs("v3_events")
def test_a_stream_that_is_never_consumed_is_no_call(meter, model, config, provider, events_of):
    """Nothing was asked of the provider."""

    async def main():
        model().stream_events(QUESTION, config, version="v3")
        await model().astream_events(QUESTION, config, version="v3")
        graph_of(model()).astream({"answer": ""}, config)
        model().stream(QUESTION, config)
        model().astream(QUESTION, config)

    asyncio.run(main())
    gc.collect()

    assert events_of(meter) == []
    assert provider.so_far == []


@pytest.mark.needs("v3_events")
def test_an_async_v3_stream_whose_reader_leaves_reads_to_the_end(
    meter, model, config, provider, events_of
):
    """The task that produces it goes on, even if the one that asked for it is cancelled."""

    async def consume(first):
        stream = await model("+slow20").astream_events(QUESTION, config, version="v3")
        async for event in stream:
            if event["event"] == "content-block-delta":
                first.set()

    async def main():
        first = asyncio.Event()
        await cancelled(consume(first), first.wait())
        async with asyncio.timeout(WAIT):
            while len(meter.calls):
                await asyncio.sleep(0.01)

    asyncio.run(main())

    (event,) = events_of(meter)
    assert told(event) == ("completed", "reported", None)
    assert is_exact(event, provider.entry)
    assert meter.statistics()["late_usage"]["calls"] == 0


@pytest.mark.needs("v3_events")
def test_an_async_v3_stream_that_is_closed(meter, model, config, provider, events_of):
    """LangChain tells of an error and hands over nothing."""

    async def main():
        stream = await model("+hang2").astream_events(QUESTION, config, version="v3")
        async for event in stream:
            if event["event"] == "content-block-delta":
                break
        await pieces_came(meter, 2)
        # Until the task behind it waits for the next piece: cancelled earlier, it would go on to wait.
        await loop_waits()
        await stream.aclose()

    asyncio.run(main())

    (event,) = events_of(meter)
    assert told(event) == ABORTED
    assert provider.entry.left


@pytest.mark.needs("v3_events")
def test_the_text_of_an_async_v3_stream_then_the_end_of_the_loop(
    meter, model, config, provider, events_of
):
    """The end is told, and then an error for the same run: the first one has the usage."""

    async def main():
        stream = await model().astream_events(QUESTION, config, version="v3")
        async for _ in stream.text:
            pass

    asyncio.run(main())

    (event,) = events_of(meter)
    assert told(event) == ("completed", "reported", None)
    assert is_exact(event, provider.entry)
