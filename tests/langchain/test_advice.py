"""What a user is told of streams that report nothing: once, and only where there is a cure."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_openai import ChatOpenAI

from llm_metering import Meter
from llm_metering.langchain import MeteringHandler
from llm_metering.langchain import advice as advice_module
from tests.langchain.test_streams import summary

SAID = "stream_usage=True"


@pytest.fixture(autouse=True)
def unsaid(monkeypatch):
    """Nothing was said in this process yet."""
    monkeypatch.setattr(advice_module, "_told", set())


@pytest.fixture
def openai_chat(provider):
    """A model of OpenAI's API behind another address."""

    def chat(kind=ChatOpenAI, **more):
        settings = {"model": "gpt-x", "base_url": provider.openai_url, "api_key": "x", **more}
        return kind(**{"default_headers": {"Connection": "close"}, **settings})

    return chat


def said(caplog):
    """The advice that was logged."""
    return [record.getMessage() for record in caplog.records if SAID in record.getMessage()]


def stream(llm, config, **more):
    list(llm.stream("x", config, **more))


def astream(llm, config, **more):
    async def main():
        return [each async for each in llm.astream("x", config, **more)]

    asyncio.run(main())


def streamed_invoke(llm, config, **more):
    llm.invoke("x", config, stream=True, **more)


class Ours(ChatOpenAI):
    """A model of somebody's own."""


@pytest.mark.parametrize(
    "way", [stream, astream, streamed_invoke], ids=lambda way: getattr(way, "__name__", "")
)
def test_a_stream_behind_another_address(way, openai_chat, meter, events_of, caplog):
    """langchain-openai asks for usage at OpenAI's own address alone; the cure is said, once."""
    config = {"callbacks": [MeteringHandler("acme", meter=meter)]}

    for _ in range(3):
        way(openai_chat(), config)

    assert {summary(event) for event in map(frozen, events_of(meter))} == {
        ("completed", "estimated", ())
    }
    (message,) = said(caplog)
    assert "ChatOpenAI" in message


def frozen(event):
    """An event whose flags can be put into a set."""
    event.data["flags"] = tuple(event.data.get("flags", ()))
    return event


@pytest.mark.parametrize(
    ("make", "way"),
    [
        pytest.param(lambda chat: chat(stream_usage=True), stream, id="asked for"),
        pytest.param(
            lambda chat: chat(), lambda llm, c: stream(llm, c, stream_usage=True), id="in the call"
        ),
        pytest.param(
            lambda chat: chat(model_kwargs={"stream_options": {"include_usage": True}}),
            stream,
            id="as the API has it",
        ),
        pytest.param(
            lambda chat: chat(model="gpt-x+nousage", stream_usage=True),
            stream,
            id="not heeded by the server",
        ),
        pytest.param(lambda chat: chat(), lambda llm, c: llm.invoke("x", c), id="no stream"),
        pytest.param(
            lambda chat: chat(model="gpt-x+nousage"),
            lambda llm, c: llm.invoke("x", c),
            id="no stream, no usage",
        ),
        pytest.param(lambda chat: chat(model="gpt-x+cumulative"), stream, id="told unasked"),
    ],
)
def test_nothing_is_said_where_there_is_nothing_to_cure(
    make, way, openai_chat, meter, events_of, caplog
):
    """Usage was told, or was asked for in vain, or nothing was streamed."""
    way(make(openai_chat), {"callbacks": [MeteringHandler("acme", meter=meter)]})

    assert len(events_of(meter)) == 1
    assert said(caplog) == []


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        pytest.param(Ours, {}, id="a class of somebody's own"),
        pytest.param(ChatOpenAI, {"stream_usage": False}, id="switched off"),
    ],
)
def test_other_models_of_openai(kind, more, openai_chat, meter, events_of, caplog):
    """Whoever is made of langchain-openai's model has its default."""
    stream(openai_chat(kind, **more), {"callbacks": [MeteringHandler("acme", meter=meter)]})

    assert len(events_of(meter)) == 1
    (message,) = said(caplog)
    assert kind.__name__ in message


@pytest.mark.parametrize("stream_usage", [True, False])
def test_anthropics_streams_report_unless_told_not_to(stream_usage, provider, home, sink, caplog):
    """There the usage is on by default, and only who switched it off is told.

    A tap sees it all the same: with one there is nothing to say.
    """
    llm = ChatAnthropic(
        model="claude-x", base_url=provider.url, api_key="x", stream_usage=stream_usage
    )

    with Meter(home=home, sinks=[sink], taps=False) as meter:
        stream(llm, {"callbacks": [MeteringHandler("acme", meter=meter)]})
        assert meter.flush()

    (event,) = sink.events
    assert event.data["provenance"] == ("reported" if stream_usage else "estimated")
    assert len(said(caplog)) == (not stream_usage)


OPENAIS = ["langchain", "chat_models", "openai", "ChatOpenAI"]
DEEPSEEKS = ["langchain_deepseek", "chat_models", "ChatDeepSeek"]
OPENROUTERS = ["langchain_openrouter", "chat_models", "ChatOpenRouter"]


@pytest.mark.parametrize(
    ("model", "is_said"),
    [
        pytest.param({"id": OPENAIS, "kwargs": {}}, True, id="by default off"),
        pytest.param({"id": DEEPSEEKS, "repr": "ChatDeepSeek()"}, True, id="not serializable"),
        pytest.param(
            {"id": DEEPSEEKS, "repr": "ChatDeepSeek(stream_usage=True)"}, False, id="likewise, on"
        ),
        pytest.param({"id": OPENROUTERS, "repr": "ChatOpenRouter()"}, False, id="by default on"),
        pytest.param(
            {"id": OPENROUTERS, "repr": "ChatOpenRouter(stream_usage=False)"},
            True,
            id="switched off",
        ),
        pytest.param(None, False, id="nothing"),
        pytest.param({}, False, id="empty"),
        pytest.param({"id": "ChatOpenAI"}, False, id="a text for a path"),
        pytest.param({"id": []}, False, id="no path"),
        pytest.param({"id": ["openai", 7]}, False, id="no name"),
        pytest.param({"id": [["openai"], "ChatOther"]}, False, id="a path in a path"),
        pytest.param({"id": OPENAIS, "kwargs": ["stream_usage"]}, True, id="a list for arguments"),
        pytest.param({"id": ["other", "ChatOther"], "kwargs": {}}, False, id="not known to us"),
    ],
)
def test_what_a_model_says_of_itself(model, is_said, meter, events_of, caplog):
    """LangChain's serialization is anything for models of one's own: no guess, and no failure."""
    handler, run = MeteringHandler("acme", meter=meter), uuid4()
    answer = ChatGeneration(message=AIMessage("a", response_metadata={"id": "1"}))

    handler.on_chat_model_start(model, [[HumanMessage("x")]], run_id=run)
    handler.on_llm_new_token("a", run_id=run)
    handler.on_llm_end(LLMResult(generations=[[answer]]), run_id=run)

    (event,) = events_of(meter)
    assert summary(event) == ("completed", "estimated", [])
    assert meter.statistics()["failures"] == 0
    assert len(said(caplog)) == is_said
