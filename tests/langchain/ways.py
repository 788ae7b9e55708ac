"""The ways in which LangChain's users ask a model, sync and async, alone and in graphs."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, MessagesState, StateGraph


async def gathered(chunks):
    return [chunk async for chunk in chunks]


async def v3(llm, text, config):
    stream = await llm.astream_events(text, config, version="v3")
    return [event async for event in stream]


def graph_of(llm):
    """A graph of one node that asks the model, sync or async."""

    def node(state):
        return {"messages": [llm.invoke(state["messages"])]}

    async def anode(state):
        return {"messages": [await llm.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("node", RunnableLambda(node, anode))
    graph.add_edge(START, "node")
    return graph.compile()


def said(text):
    return {"messages": [HumanMessage(text)]}


WAYS = {
    "invoke": lambda llm, text, config: llm.invoke(text, config),
    "ainvoke": lambda llm, text, config: asyncio.run(llm.ainvoke(text, config)),
    "stream": lambda llm, text, config: list(llm.stream(text, config)),
    "astream": lambda llm, text, config: asyncio.run(gathered(llm.astream(text, config))),
    "batch": lambda llm, text, config: llm.batch([text], config),
    "abatch": lambda llm, text, config: asyncio.run(llm.abatch([text], config)),
    "chain": lambda llm, text, config: (RunnableLambda(str) | llm).invoke(text, config),
    "astream_events": lambda llm, text, config: asyncio.run(
        gathered(llm.astream_events(text, config, version="v2"))
    ),
    "stream_events v3": pytest.param(
        lambda llm, text, config: list(llm.stream_events(text, config, version="v3")),
        marks=pytest.mark.needs("v3_events"),
    ),
    "astream_events v3": pytest.param(
        lambda llm, text, config: asyncio.run(v3(llm, text, config)),
        marks=pytest.mark.needs("v3_events"),
    ),
    "graph": lambda llm, text, config: graph_of(llm).invoke(said(text), config),
    "graph, async": lambda llm, text, config: asyncio.run(
        graph_of(llm).ainvoke(said(text), config)
    ),
    "graph, messages": lambda llm, text, config: list(
        graph_of(llm).stream(said(text), config, stream_mode="messages")
    ),
}
# LangChain warns of its third version, and of coroutines of its own that it leaves where one of
# several handlers raises.
every_way = pytest.mark.parametrize(
    "way",
    [
        pytest.param(way, id=name)
        if callable(way)
        else pytest.param(*way.values, marks=way.marks, id=name)
        for name, way in WAYS.items()
    ],
)
