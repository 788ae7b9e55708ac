"""However a model is called, a tap sees its answer, and nobody else's; and it can be switched off."""

from __future__ import annotations

import asyncio
import gc
from uuid import uuid4

import httpx
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableParallel
from langgraph.graph import MessagesState, StateGraph

import llm_metering
from llm_metering import Meter
from llm_metering.langchain import MeteringHandler
from llm_metering.taps.http import PATCHES
from tests.langchain.taps.answers import ANTHROPIC, MISTRAL


def invoked(llm, config):
    llm.model_copy(update={"streaming": True}).invoke("Hello", config)


def ainvoked(llm, config):
    asyncio.run(llm.model_copy(update={"streaming": True}).ainvoke("Hello", config))


def streamed(llm, config):
    list(llm.stream("Hello", config))


def astreamed(llm, config):
    async def main():
        return [chunk async for chunk in llm.astream("Hello", config)]

    asyncio.run(main())


def batched(llm, config):
    llm.model_copy(update={"streaming": True}).batch(["one", "two", "three"], config)


def abatched(llm, config):
    asyncio.run(llm.model_copy(update={"streaming": True}).abatch(["one", "two"], config))


def parallel(llm, config):
    llm = llm.model_copy(update={"streaming": True})
    RunnableParallel(a=llm, b=llm).invoke("Hello", config)


def piped(llm, config):
    list((llm | (lambda message: message)).stream("Hello", config))


def event_stream(llm, config):
    async def main():
        return [each async for each in llm.astream_events("Hello", config, version="v2")]

    asyncio.run(main())


def event_stream_v3(llm, config):
    list(llm.stream_events("Hello", config, version="v3"))


def graph_of(call):
    graph = StateGraph(MessagesState)
    graph.add_node("model", call)
    graph.set_entry_point("model")
    return graph.compile()


def graph(llm, config):
    compiled = graph_of(lambda state: {"messages": [llm.invoke(state["messages"])]})
    list(compiled.stream({"messages": ["Hello"]}, config, stream_mode="messages"))


def agraph(llm, config):
    async def node(state):
        return {"messages": [await llm.ainvoke(state["messages"])]}

    async def main():
        compiled = graph_of(node)
        stream = compiled.astream({"messages": ["Hello"]}, config, stream_mode="messages")
        return [each async for each in stream]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("way", "calls"),
    [
        *((invoked, 1), (ainvoked, 1), (streamed, 1), (astreamed, 1), (batched, 3), (abatched, 2)),
        *((parallel, 2), (piped, 1), (event_stream, 1), (graph, 1)),
        (agraph, 1),
        pytest.param(event_stream_v3, 1, marks=pytest.mark.needs("v3_events")),
    ],
)
def test_every_way(model, metered, way, calls):
    """However the model is called, in threads, tasks, graphs: each call has what its answer said.

    As a cache in front of a provider does, the server gives one answer to all: the later ones say so.
    """
    way(model("anthropic"), metered.config)

    assert len(metered.all) == calls
    for data in metered.all:
        assert {key: data.get(key) for key in ANTHROPIC} == ANTHROPIC
    flags = [data.get("flags") for data in metered.all]
    assert (flags.count(None), flags.count(["repeated_answer"])) == (1, calls - 1)


def test_two_handlers(model, meter, metered):
    """A call that two handlers are told of is tapped once."""
    callbacks = [*metered.config["callbacks"], MeteringHandler("customer-42", meter=meter)]

    list(model("anthropic").stream("Hello", {"callbacks": callbacks}))

    assert {key: metered.one.get(key) for key in ANTHROPIC} == ANTHROPIC


def test_two_meters(model, metered, tmp_path, sink):
    """A call that two meters record has the same counts in both."""
    with Meter(home=tmp_path / "other", sinks=[sink], source="other") as other:
        callbacks = [*metered.config["callbacks"], MeteringHandler("customer-42", meter=other)]
        list(model("anthropic").stream("Hello", {"callbacks": callbacks}))
        assert other.flush()
        found = metered.all

    assert len(found) == 2
    for data in found:
        assert {key: data.get(key) for key in ANTHROPIC} == ANTHROPIC


def test_several_prompts_at_once(model, metered):
    """Of `generate` with several prompts the answers can't be told apart: LangChain's word stands."""
    model("anthropic", streaming=True).generate(
        [[HumanMessage("one")], [HumanMessage("two")]], **metered.config
    )

    assert [data["output_tokens"] for data in metered.all] == [256, 256]
    assert all("response_id" not in data for data in metered.all)


def test_a_call_of_the_applications_own(model, metered, replays):
    """What the application asks a provider itself while it consumes a stream is not the stream's."""
    with httpx.Client(trust_env=False) as client:
        for number, _ in enumerate(model("anthropic-long").stream("Hello", metered.config)):
            if number < 9:
                client.post(replays.url("own/cohere"))

    assert {key: metered.one.get(key) for key in ANTHROPIC} == ANTHROPIC


def test_a_cache_hit(model, metered):
    """An answer of LangChain's cache is cached, though the call before it was tapped."""
    llm = model("mistral", cache=InMemoryCache())

    llm.invoke("Hello", metered.config)
    llm.invoke("Hello", metered.config)

    first, second = metered.all
    assert {key: first.get(key) for key in MISTRAL} == MISTRAL
    assert (second["status"], second["input_tokens"]) == ("cached", 0)


def test_nothing_reported(model, metered):
    """A stream without a usage is estimated; its id is the provider's all the same."""
    list(model("openai-unreported").stream("Hello", metered.config))

    assert metered.one["provenance"] == "estimated"
    assert metered.one["response_id"] == "chatcmpl-1"


def test_switched_off(home, sink, model):
    """With `taps=False` no library is touched, and LangChain's own word is what there is."""
    with Meter(home=home, sinks=[sink], taps=False) as meter:
        handler = MeteringHandler("customer-42", meter=meter)
        list(model("anthropic").stream("Hello", {"callbacks": [handler]}))
        assert meter.flush()

    assert not any(patch.is_put for patch in PATCHES)
    assert "response_id" not in sink.events[0].data


def test_uninstalled(default_meter, model, events_of):
    """`install()` puts the taps in when a call begins, `uninstall()` takes them out again."""
    llm_metering.install("customer-42")
    before = any(patch.is_put for patch in PATCHES)
    list(model("anthropic").stream("Hello"))
    during = all(patch.is_put for patch in PATCHES)
    gc.collect()
    llm_metering.uninstall()
    after = any(patch.is_put for patch in PATCHES)

    (event,) = events_of(default_meter)
    assert (before, during, after) == (False, True, False)
    assert {key: event.data.get(key) for key in ANTHROPIC} == ANTHROPIC


def test_a_handler_that_is_left(default_meter, metered, model):
    """After `uninstall()`, a call that is given a handler is tapped as before."""
    llm_metering.install()
    llm_metering.uninstall()

    list(model("anthropic").stream("Hello", metered.config))

    assert {key: metered.one.get(key) for key in ANTHROPIC} == ANTHROPIC


def test_a_tap_that_fails(model, metered, monkeypatch):
    """A tap that fails costs the application nothing and the event only what it would have added."""

    def fail(self, piece):
        raise RuntimeError

    monkeypatch.setattr("llm_metering.taps.body.Body._lines", fail)

    chunks = list(model("anthropic").stream("Hello", metered.config))

    assert chunks
    assert metered.one["output_tokens"] == 256
    assert metered.one["provenance"] == "partial"
    assert metered.one["flags"] == ["zero_usage", "tap_failed"]


def test_no_content(model, metered, home):
    """Nothing of an answer that a tap has read is written anywhere."""
    run_id = uuid4()
    list(model("anthropic").stream("Hello", {**metered.config, "run_id": run_id}))

    assert metered.one["run_id"] == str(run_id)
    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert str(run_id).encode() in written
    assert b"Hello there" not in written
