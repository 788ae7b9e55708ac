"""Agents and graphs: each call that any part of them makes to a model is one event, rightly billed.

How they are run decides how their models are: `stream_mode="messages"` and `astream_events` turn
every `invoke` inside into a stream (langchain-core 1.7.2, `language_models/chat_models.py`,
`_should_stream`), version "v3" into protocol events. What stands in the prompts names the payer
in the provider's books.
"""

from __future__ import annotations

import asyncio
from contextlib import nullcontext

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, SummarizationMiddleware
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Send
from pydantic import BaseModel

import llm_metering
from llm_metering import subject
from llm_metering.langchain import MeteringHandler

from .asking import gpt
from .bill_lines import asked, billed, booked

pytestmark = [
    pytest.mark.filterwarnings("ignore:astream_events version='v1' is deprecated"),
    pytest.mark.filterwarnings("ignore:The v3 streaming protocol on Pregel is experimental"),
    # langchain-openai's own, of a parsed answer.
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
]


@tool
def weather(place: str) -> str:
    """Tell the weather of a place."""
    return f"rain in {place}"


class Answer(BaseModel):
    """What is asked for."""

    place: str
    degrees: int


def question(payer="acme"):
    return {"messages": [HumanMessage(asked(payer))]}


def invoke(runnable, config, given):
    runnable.invoke(given, config)


def ainvoke(runnable, config, given):
    asyncio.run(runnable.ainvoke(given, config))


def batch(runnable, config, given):
    runnable.batch([given], config)


def abatch(runnable, config, given):
    asyncio.run(runnable.abatch([given], config))


def streamed(mode, *, is_async):
    def stream(runnable, config, given):
        list(runnable.stream(given, config, stream_mode=mode))

    def astream(runnable, config, given):
        exhaust(runnable.astream(given, config, stream_mode=mode))

    return pytest.param(astream if is_async else stream, id=f"{'a' * is_async}stream {mode}")


def exhaust(chunks):
    async def main():
        return [chunk async for chunk in chunks]

    return asyncio.run(main())


def events_v1(runnable, config, given):
    exhaust(runnable.astream_events(given, config, version="v1"))


def events_v2(runnable, config, given):
    exhaust(runnable.astream_events(given, config, version="v2"))


def events_v3(runnable, config, given):
    async def main():
        stream = await runnable.astream_events(given, config, version="v3")
        return [event async for event in stream]

    asyncio.run(main())


def sync_events_v3(runnable, config, given):
    list(runnable.stream_events(given, config, version="v3"))


V3 = [
    pytest.param(way, id=way.__name__, marks=pytest.mark.needs("v3_events"))
    for way in (events_v3, sync_events_v3)
]
GRAPH_WAYS = [
    *(
        pytest.param(way, id=way.__name__)
        for way in (invoke, ainvoke, batch, abatch, events_v1, events_v2)
    ),
    *(
        streamed(mode, is_async=is_async)
        for mode in ("values", "updates", "messages", "debug")
        for is_async in (False, True)
    ),
    *V3,
]
every_way = pytest.mark.parametrize("way", GRAPH_WAYS)


def handed_over(meter):
    """The handler names the payer."""
    return {"callbacks": [MeteringHandler("acme", meter=meter)]}, nullcontext()


def carried(meter):
    """The run's metadata does."""
    metadata = {"llm_metering_subject": "acme"}
    return {"callbacks": [MeteringHandler(meter=meter)], "metadata": metadata}, nullcontext()


def scoped(meter):
    """The scope does."""
    return {"callbacks": [MeteringHandler(meter=meter)]}, subject("acme")


def installed(meter):
    """Nobody handed a handler over, and the scope names the payer."""
    llm_metering.install()
    return {}, subject("acme")


every_payer = pytest.mark.parametrize(
    "named", [handed_over, carried, scoped, installed], ids=lambda named: named.__name__
)


def is_at_rest(meter):
    """Nothing was odd, nothing failed, nothing is left open."""
    status = meter.statistics()
    odd = (status["ignored_signals"], status["failures"], status["open_calls"])
    return odd == ({}, 0, 0)


@every_way
@every_payer
def test_an_agent_with_a_tool(way, named, provider, default_meter, events_of):
    """Two model calls, before and after the tool: two exact events on the right bill."""
    agent = create_agent(gpt(provider, "gpt-x+tools"), tools=[weather])

    config, scope = named(default_meter)
    with scope:
        way(agent, config, question())

    events = events_of(default_meter)
    assert billed(events) == booked(provider)
    assert [event.data["provenance"] for event in events] == ["reported"] * 2
    assert len({event.data["run_id"] for event in events}) == 2
    assert is_at_rest(default_meter)


def graph_of(*nodes, state=MessagesState):
    """A graph of these nodes, one after the other."""
    graph = StateGraph(state)
    names = [node.__name__ for node in nodes]
    for name, node in zip(names, nodes, strict=True):
        graph.add_node(name, node)
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    return graph.compile()


@every_way
@every_payer
def test_nodes_subgraphs_and_what_they_invoke(way, named, provider, default_meter, events_of):
    """A node, a graph inside a node, and one that is a node: each call is billed, to one payer."""
    model = gpt(provider)

    def ask(state):
        return {"messages": [model.invoke(state["messages"])]}

    inner = graph_of(ask)

    def delegate(state):
        return {"messages": inner.invoke(state)["messages"][-1:]}

    graph = StateGraph(MessagesState)
    graph.add_node("ask", ask)
    graph.add_node("delegate", delegate)
    graph.add_node("inner", inner)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", "delegate")
    graph.add_edge("delegate", "inner")
    graph.add_edge("inner", END)

    config, scope = named(default_meter)
    with scope:
        way(graph.compile(), config, question())

    events = events_of(default_meter)
    assert len(events) == 3
    assert billed(events) == booked(provider)
    assert is_at_rest(default_meter)


@every_way
def test_nodes_at_the_same_time(way, provider, meter, events_of):
    """Two nodes of one step and the tasks of a `Send`: five calls in threads, five events."""
    model = gpt(provider)

    def ask(state):
        return {"messages": [model.invoke(question()["messages"])]}

    graph = StateGraph(MessagesState)
    for name in ("left", "right", "each"):
        graph.add_node(name, ask)
        graph.add_edge(name, END)
    graph.add_edge(START, "left")
    graph.add_edge(START, "right")
    graph.add_conditional_edges(
        START, lambda state: [Send("each", state) for _ in range(3)], ["each"]
    )

    way(graph.compile(), {"callbacks": [MeteringHandler("acme", meter=meter)]}, question())

    events = events_of(meter)
    assert len(events) == 5
    assert billed(events) == booked(provider)
    assert is_at_rest(meter)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@every_payer
def test_a_tool_that_asks_a_model(is_async, named, provider, default_meter, events_of):
    """An agent inside a tool is no run of its own caller's: its calls are billed all the same."""
    inner = create_agent(gpt(provider, "gpt-y+tools"), tools=[weather])

    @tool
    def expert(place: str) -> str:
        """Ask an expert."""
        return inner.invoke(question())["messages"][-1].text

    @tool
    async def async_expert(place: str) -> str:
        """Ask an expert."""
        return (await inner.ainvoke(question()))["messages"][-1].text

    outer = create_agent(gpt(provider, "gpt-x+tools"), tools=[async_expert if is_async else expert])

    config, scope = named(default_meter)
    with scope:
        (ainvoke if is_async else invoke)(outer, config, question())

    events = events_of(default_meter)
    assert billed(events) == booked(provider)
    models = sorted(event.data["request_model"] for event in events)
    assert models == ["gpt-x+tools"] * 2 + ["gpt-y+tools"] * 2


@every_way
def test_what_middleware_asks_is_billed(way, provider, meter, events_of):
    """The summary of a long conversation is a model call that nobody sees, but for the bill."""
    summary = SummarizationMiddleware(
        gpt(provider, "gpt-s"), trigger=("messages", 4), keep=("messages", 2)
    )
    agent = create_agent(gpt(provider), tools=[weather], middleware=[summary])
    long = {"messages": [HumanMessage(asked("acme", f"{number}")) for number in range(6)]}

    way(agent, {"callbacks": [MeteringHandler("acme", meter=meter)]}, long)

    events = events_of(meter)
    assert billed(events) == booked(provider, "acme")
    assert sorted(event.data["request_model"] for event in events) == ["gpt-s", "gpt-x"]


@every_way
def test_middleware_that_falls_back(way, provider, meter, events_of):
    """The refused model costs nothing, the one behind it what it says."""
    fallback = ModelFallbackMiddleware(gpt(provider, "gpt-y+tools"))
    agent = create_agent(gpt(provider, "gpt-x+refuse429"), tools=[weather], middleware=[fallback])

    way(agent, {"callbacks": [MeteringHandler("acme", meter=meter)]}, question())

    events = events_of(meter)
    assert billed(events) == booked(provider)
    assert [event.data["request_model"] for event in events] == ["gpt-y+tools"] * 2
    assert meter.statistics()["refused_calls"] == 2


@every_way
def test_structured_output_of_an_agent(way, provider, meter, events_of):
    """The answer in a schema takes no other call than is on the bill."""
    agent = create_agent(gpt(provider, "gpt-x+tools"), tools=[weather], response_format=Answer)

    way(agent, {"callbacks": [MeteringHandler("acme", meter=meter)]}, question())

    events = events_of(meter)
    assert billed(events) == booked(provider)
    assert events


MODEL_WAYS = [
    *(
        pytest.param(way, id=way.__name__)
        for way in (invoke, ainvoke, batch, abatch, events_v1, events_v2)
    ),
    pytest.param(lambda model, config, given: list(model.stream(given, config)), id="stream"),
    pytest.param(lambda model, config, given: exhaust(model.astream(given, config)), id="astream"),
]


@pytest.mark.parametrize("way", MODEL_WAYS)
@pytest.mark.parametrize("method", ["json_schema", "function_calling", "json_mode"])
def test_structured_output_of_a_model(way, method, provider, meter, events_of):
    """Whichever way the schema is asked for, and whatever the parser says: one event."""
    model = gpt(provider, "gpt-x+tools").with_structured_output(
        Answer, method=method, include_raw=True
    )

    way(model, {"callbacks": [MeteringHandler("acme", meter=meter)]}, asked("acme", "json"))

    (event,) = events_of(meter)
    assert billed([event]) == booked(provider)
    assert event.data["provenance"] == "reported"


@pytest.mark.parametrize("way", MODEL_WAYS)
def test_runnables_in_parallel(way, provider, meter, events_of):
    """Three models at once, in threads or tasks: three events, under their own models."""
    models = {name: gpt(provider, f"gpt-{name}") for name in "xyz"}
    chain = RunnableLambda(lambda prompt: prompt) | RunnableParallel(**models)

    way(chain, {"callbacks": [MeteringHandler("acme", meter=meter)]}, asked("acme"))

    events = events_of(meter)
    assert billed(events) == booked(provider)
    assert sorted(event.data["request_model"] for event in events) == ["gpt-x", "gpt-y", "gpt-z"]
    assert is_at_rest(meter)


@pytest.mark.parametrize("is_async", [False, True], ids=["batch", "abatch"])
def test_a_batch_of_many_payers(is_async, provider, meter, events_of):
    """Each run of a batch has its own config, and each model call in it that run's payer."""
    agent = create_agent(gpt(provider, "gpt-x+tools"), tools=[weather])
    handler = MeteringHandler(meter=meter)
    payers = [f"customer-{number}" for number in range(8)]
    configs = [{"callbacks": [handler], "metadata": {"subject": payer}} for payer in payers]
    asks = [question(payer) for payer in payers]

    if is_async:
        asyncio.run(agent.abatch(asks, configs))
    else:
        agent.batch(asks, configs)

    events = events_of(meter)
    assert len(events) == 16
    assert billed(events) == booked(provider)
    assert is_at_rest(meter)
