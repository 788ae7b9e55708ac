"""Who pays in LangGraph: its metadata reaches the calls of nodes, subgraphs, tasks and agents.

Read in langgraph 1.2.22, `_internal/_config.py` and `pregel/_algo.py`.
"""

from __future__ import annotations

import asyncio
import operator
from itertools import pairwise
from typing import Annotated, TypedDict

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph

import llm_metering
from llm_metering import Meter
from llm_metering.langchain import MeteringHandler
from tests.books import billed, owed, prompt
from tests.langchain.asking import gpt

DIMENSIONS = ["langgraph_node", "langgraph_step", "thread_id", "langgraph_triggers"]


class State(TypedDict):
    text: str
    answers: Annotated[list[str], operator.add]


def graph_of(*nodes, checkpointer=None):
    """A graph whose nodes run one after the other."""
    graph = StateGraph(State)
    for name, node in nodes:
        graph.add_node(name, node)
    graph.add_edge(START, nodes[0][0])
    for (before, _), (after, _) in pairwise(nodes):
        graph.add_edge(before, after)
    return graph.compile(checkpointer=checkpointer)


def asking(llm, config=None):
    """A node that asks the model, sync or async."""

    def node(state):
        return {"answers": [str(llm.invoke(state["text"], config).content)]}

    async def anode(state):
        return {"answers": [str((await llm.ainvoke(state["text"], config)).content)]}

    return RunnableLambda(node, anode)


@pytest.fixture
def meter(home, sink):
    """A meter that groups by LangGraph's own metadata."""
    with Meter(home=home, sinks=[sink], metadata_dimensions=DIMENSIONS) as meter:
        yield meter


@pytest.fixture
def handler(meter):
    return MeteringHandler(meter=meter)


@pytest.fixture
def books_agree(meter, events_of, provider):
    """Check that our bill is the provider's, and return the events."""

    def books_agree():
        events = events_of(meter)
        assert billed(events) == owed(provider)
        return events

    return books_agree


def config_of(name, handler, **configurable):
    return {
        "callbacks": [handler],
        "metadata": {"subject": name},
        "configurable": configurable,
    }


def start(name):
    return {"text": prompt(name), "answers": []}


WAYS = {
    "invoke": lambda graph, state, config: graph.invoke(state, config),
    "ainvoke": lambda graph, state, config: asyncio.run(graph.ainvoke(state, config)),
    "values": lambda graph, state, config: list(graph.stream(state, config)),
    "messages": lambda graph, state, config: list(
        graph.stream(state, config, stream_mode="messages")
    ),
    "batch": lambda graph, state, config: graph.batch([state], [config]),
}


@pytest.mark.parametrize("way", WAYS)
def test_nodes_and_their_names(way, handler, provider, books_agree):
    """The payer of the graph pays; the node, its step and the thread are dimensions, if listed."""
    llm = gpt(provider)
    graph = graph_of(("plan", asking(llm)), ("act", asking(llm)), checkpointer=InMemorySaver())
    WAYS[way](graph, start("acme"), config_of("acme", handler, thread_id="t-1"))

    events = books_agree()
    assert {event.subject for event in events} == {"acme"}
    assert [event.data["langgraph_node"] for event in events] == ["plan", "act"]
    assert [event.data["langgraph_step"] for event in events] == ["1", "2"]
    assert {event.data["thread_id"] for event in events} == {"t-1"}
    # A tuple of channels, which is no scalar.
    assert all("langgraph_triggers" not in event.data for event in events)
    assert all(event.data["flags"] == ["invalid_dimension"] for event in events)


def test_a_node_that_replaces_callbacks_and_metadata(handler, provider, books_agree):
    """As anywhere in LangChain, the outer metadata is hidden from that call, and found."""
    own = {"callbacks": [handler], "metadata": {"feature": "x"}}
    graph_of(("node", asking(gpt(provider), own))).invoke(start("acme"), config_of("acme", handler))

    (event,) = books_agree()
    assert (event.subject, event.data["langgraph_node"]) == ("acme", "node")


def test_a_subgraph_as_a_node_and_one_that_is_invoked(handler, provider, books_agree):
    """Both keep the payer; the innermost node is the dimension."""
    llm = gpt(provider)
    inner = graph_of(("inner", asking(llm)))

    def invoking(state):
        return {"answers": inner.invoke(state)["answers"]}

    graph_of(("sub", inner), ("call", invoking)).invoke(start("acme"), config_of("acme", handler))

    events = books_agree()
    assert {event.subject for event in events} == {"acme"}
    assert [event.data["langgraph_node"] for event in events] == ["inner", "inner"]


def test_a_subgraph_for_somebody_else(handler, provider, books_agree):
    """A graph invoked in a node with metadata of its own is billed by that."""
    llm = gpt(provider)
    inner = graph_of(("inner", asking(llm)))

    def invoking(state):
        state = {**state, "text": prompt("other")}
        return {"answers": inner.invoke(state, {"metadata": {"subject": "other"}})["answers"]}

    graph_of(("call", invoking), ("after", asking(llm))).invoke(
        start("acme"), config_of("acme", handler)
    )

    assert [event.subject for event in books_agree()] == ["other", "acme"]


def test_the_functional_api(handler, provider, books_agree):
    """`@entrypoint` and `@task`, the tasks side by side."""
    llm = gpt(provider)

    @task
    def ask(text):
        return llm.invoke(text).content

    @entrypoint()
    def work(text):
        return [future.result() for future in [ask(text), ask(text), ask(text)]]

    work.invoke(prompt("acme"), config_of("acme", handler))

    events = books_agree()
    assert [event.subject for event in events] == ["acme"] * 3


def test_each_run_of_a_graph_is_for_its_own_payer(handler, provider, books_agree):
    """Side by side in one loop."""
    graph = graph_of(("node", asking(gpt(provider))))
    names = [f"customer-{number}" for number in range(8)]

    async def main():
        await asyncio.gather(
            *(graph.ainvoke(start(name), config_of(name, handler)) for name in names)
        )

    asyncio.run(main())

    assert {event.subject for event in books_agree()} == set(names)


@pytest.mark.needs("langgraph_1")
def test_a_context_is_no_metadata(handler, provider, meter, events_of):
    """LangGraph's `context=` reaches nodes and no handler; a payer has to stand in the metadata."""

    class Context(TypedDict):
        subject: str

    graph = StateGraph(State, context_schema=Context)
    graph.add_node("node", asking(gpt(provider)))
    graph.add_edge(START, "node")
    graph.compile().invoke(start("x"), {"callbacks": [handler]}, context={"subject": "acme"})

    (event,) = events_of(meter)
    assert event.subject == "unattributed"


@tool
def look(text: str) -> str:
    """Look something up."""
    return f"seen {text}"


@pytest.mark.needs("create_agent")
@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("installed", [False, True], ids=["own handler", "global"])
def test_an_agent_its_tools_and_its_middleware(
    asynchronous, installed, home, sink, provider, events_of
):
    """All that an agent asks of models is its caller's, what a tool or a middleware asks included."""
    from langchain.agents import create_agent
    from langchain.agents.middleware import AgentMiddleware

    helper = gpt(provider, "gpt-helper")

    class Summary(AgentMiddleware):
        def before_model(self, state, runtime):
            helper.invoke(prompt("acme"))

        async def abefore_model(self, state, runtime):
            await helper.ainvoke(prompt("acme"))

    @tool
    def think(text: str) -> str:
        """Think about it."""
        return str(helper.invoke(prompt("acme")).content)

    meter = llm_metering.configure(home=home, sinks=[sink], metadata_dimensions=DIMENSIONS)
    agent = create_agent(gpt(provider, "gpt-x+tools"), [think, look], middleware=[Summary()])
    messages = {"messages": [HumanMessage(prompt("acme"))]}
    config = {"metadata": {"subject": "acme"}}
    if installed:
        llm_metering.install()
    else:
        config["callbacks"] = [MeteringHandler()]
    try:
        if asynchronous:
            asyncio.run(agent.ainvoke(messages, config))
        else:
            agent.invoke(messages, config)

        events = events_of(meter)
        assert billed(events) == owed(provider)
        assert {event.subject for event in events} == {"acme"}
        models = [event.data["request_model"] for event in events]
        assert models.count("gpt-x+tools") == 2
        assert models.count("gpt-helper") == 3
        nodes = {event.data["langgraph_node"] for event in events}
        assert nodes == {"model", "tools", "Summary.before_model"}
    finally:
        llm_metering.uninstall()
        llm_metering.close()
