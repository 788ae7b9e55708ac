"""Ways of a call that are taken less often: parsed streams, older forms of output, logs, replays."""

from __future__ import annotations

import asyncio

import openai
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage
from langgraph.graph import MessagesState, StateGraph
from pydantic import BaseModel

from llm_metering.langchain import MeteringHandler
from tests.langchain.clients import CLIENTS

new_gemini = pytest.mark.needs("google_genai_4")


class Answer(BaseModel):
    """What an answer is to be."""

    answer: str


@pytest.fixture
def config(meter):
    return {"callbacks": [MeteringHandler("acme", meter=meter)]}


def counts(event):
    return event.data["input_tokens"], event.data["output_tokens"]


def graph_of(model):
    """A graph of one node that asks a model."""

    async def node(state):
        return {"messages": [await model.ainvoke(state["messages"])]}

    return (
        StateGraph(MessagesState)
        .add_node(node)
        .set_entry_point("node")
        .set_finish_point("node")
        .compile()
    )


def test_a_stream_in_a_schema(config, meter, provider, events_of):
    """langchain-openai reads it through the SDK's parser, which has the usage at the very end."""
    model = CLIENTS["openai"](provider, temperature=0)

    for _ in model.stream("Hello", config, response_format={"type": "json_object"}):
        pass

    (event,) = events_of(meter)
    assert counts(event) == (provider.entry.input, provider.entry.output)


@pytest.mark.needs("openai_1")
@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("version", ["v0", "responses/v1", "v1"])
def test_each_output_version_of_responses(is_stream, version, config, meter, provider, events_of):
    """Under `v0` the message has the id of its part, and the answer that of the response."""
    model = CLIENTS["responses"](provider, output_version=version)

    if is_stream:
        list(model.stream("Hello", config))
    else:
        model.invoke("Hello", config)

    (event,) = events_of(meter)
    assert counts(event) == (provider.entry.input, provider.entry.output)
    assert event.data["response_id"] == f"resp_answer-{provider.entry.number}"


def test_a_filtered_answer_that_is_reported_as_an_error(config, meter, provider, events_of):
    """A structured answer that was filtered raises in the SDK, and was paid for."""
    model = CLIENTS["openai"](provider, model="gpt-x+filter").with_structured_output(
        Answer, method="json_schema"
    )

    with pytest.raises(openai.ContentFilterFinishReasonError):
        model.invoke("Hello", config)

    (event,) = events_of(meter)
    assert (event.data["status"], event.data["provenance"]) == ("failed", "reported")
    assert counts(event) == (provider.entry.input, provider.entry.output)


@pytest.mark.filterwarnings("ignore")
def test_a_log_of_a_run(config, meter, provider, events_of):
    """`astream_log` makes a stream of each call inside."""
    chain = CLIENTS["openai"](provider) | (lambda message: message)

    async def main():
        async for _ in chain.astream_log("Hello", config):
            pass

    asyncio.run(main())

    (event,) = events_of(meter)
    assert counts(event) == (provider.entry.input, provider.entry.output)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "version", ["v1", "v2", pytest.param("v3", marks=pytest.mark.needs("v3_events"))]
)
def test_a_hit_that_is_replayed(version, config, meter, provider, events_of):
    """Events of an answer of LangChain's cache look like those of the provider's."""
    graph = graph_of(CLIENTS["openai"](provider, cache=InMemoryCache()))

    async def ask():
        messages = {"messages": [HumanMessage("Hello", id="1")]}
        events = graph.astream_events(messages, config, version=version)
        async for _ in await events if version == "v3" else events:
            pass

    async def main():
        await ask()
        await ask()

    asyncio.run(main())

    first, second = events_of(meter)
    assert counts(first) == (provider.entry.input, provider.entry.output)
    assert (second.data["status"], counts(second)) == ("cached", (0, 0))


@pytest.mark.parametrize("behaviour", ["", "+nousage"])
def test_a_graph_turns_an_invoke_into_a_stream(behaviour, config, meter, provider, events_of):
    """The mode of an outer caller takes the usage of a call that did not ask for it: never a zero."""
    graph = graph_of(CLIENTS["openai"](provider, model=f"gpt-x{behaviour}", stream_usage=False))

    async def main():
        messages = {"messages": [HumanMessage("Hello")]}
        async for _ in graph.astream(messages, config, stream_mode="messages"):
            pass

    asyncio.run(main())

    (event,) = events_of(meter)
    assert event.data["provenance"] == "estimated"
    assert event.data["input_tokens"] > 0
    assert event.data["output_tokens"] > 0


@pytest.mark.parametrize(
    ("client", "model"),
    [
        pytest.param("completions", "gpt-x", id="openai"),
        pytest.param("bedrock completions", "amazon.titan-x", id="bedrock"),
        pytest.param("gemini completions", "gemini-x", id="gemini", marks=new_gemini),
    ],
)
def test_a_completion_model_whose_generate_is_called(
    client, model, config, meter, provider, events_of
):
    """LangChain's metadata names no model then, and what has no model has no price."""
    CLIENTS[client](provider).generate(["Hello"], **config)

    (event,) = events_of(meter)
    assert counts(event) == (provider.entry.input, provider.entry.output)
    assert event.data["request_model"].removeprefix("models/") == model


@new_gemini
@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_geminis_older_completions(way, config, meter, provider, events_of):
    """Their usage is in `generation_info` only."""
    model = CLIENTS["gemini completions"](provider)

    list(model.stream("Hello", config)) if way == "stream" else model.invoke("Hello", config)

    (event,) = events_of(meter)
    assert counts(event) == (provider.entry.input, provider.entry.output)
    assert event.data["provenance"] == "reported"
