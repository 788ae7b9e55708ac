"""Streams of the real integrations: what we metered is what the provider's books say."""

from __future__ import annotations

import asyncio
from functools import partial

import openai
import pytest
from langchain_core.caches import InMemoryCache
from pydantic import BaseModel

from llm_metering import Meter
from llm_metering.langchain import MeteringHandler
from tests.books import booked, metered
from tests.langchain.asking import WAYS
from tests.langchain.clients import CLIENTS
from tests.langchain.test_streams import summary

pytestmark = [
    pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning"),
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
]


def events(llm, asked, config):
    """A v3 stream."""
    return llm.stream_events(asked, config, version="v3").output


def aevents(llm, asked, config):
    """A v3 stream, async."""

    async def main():
        return await (await llm.astream_events(asked, config, version="v3")).output

    return asyncio.run(main())


def astream_events(llm, asked, config):
    """An async stream of events, as it was before."""

    async def main():
        return [each async for each in llm.astream_events(asked, config, version="v2")]

    return asyncio.run(main())


def client_of(name):
    """A client that leaves no connection open to an event loop that has ended."""
    if name in ("openai", "responses", "anthropic"):
        return partial(CLIENTS[name], default_headers={"Connection": "close"})
    return CLIENTS[name]


V3 = pytest.mark.needs("v3_events")
every_stream = pytest.mark.parametrize(
    "way",
    [
        pytest.param(WAYS["stream"], id="stream"),
        pytest.param(WAYS["astream"], id="astream"),
        pytest.param(astream_events, id="astream_events"),
        pytest.param(events, id="v3", marks=V3),
        pytest.param(aevents, id="async v3", marks=V3),
    ],
)
GEMINI = pytest.mark.needs("google_genai_4")


@every_stream
@pytest.mark.parametrize(
    ("client", "model", "flags"),
    [
        pytest.param("openai", "gpt-x", [], id="openai"),
        pytest.param("openai", "gpt-x+cumulative", ["cumulative_usage"], id="totals so far"),
        pytest.param("openai", "gpt-x+usageinfinish", ["cumulative_usage"], id="told again"),
        pytest.param("responses", "gpt-x", [], id="responses"),
        pytest.param("anthropic", "claude-x+twodeltas", ["cumulative_usage"], id="anthropic twice"),
        pytest.param("anthropic", "claude-x", [], id="anthropic"),
        pytest.param("gemini", "gemini-x", [], id="gemini", marks=GEMINI),
        pytest.param("gemini", "gemini-x+shrinking1", [], id="gemini less input", marks=GEMINI),
        # LangChain takes the input that is less, and keeps the total that was more.
        pytest.param(
            "gemini",
            "gemini-x+shrinking100000",
            ["usage_inconsistent"],
            id="gemini less altogether",
            marks=GEMINI,
        ),
        pytest.param("ollama", "llama", [], id="ollama"),
    ],
)
def test_a_stream_is_in_the_books_as_in_the_bill(way, client, model, flags, provider, home, sink):
    """Whatever LangChain adds up of it, in whichever of its ways it streams, and without a tap."""
    llm = client_of(client)(provider, model=model)

    with Meter(home=home, sinks=[sink], taps=False) as meter:
        way(llm, "hello", {"callbacks": [MeteringHandler("acme", meter=meter)]})
        assert meter.flush()

    (event,) = sink.events
    entry = provider.entry
    assert (metered(event).input, metered(event).output) == (entry.input, entry.output)
    assert metered(event).cached == (0 if client == "ollama" else entry.cached)
    assert summary(event) == ("completed", "reported", flags)


@pytest.mark.parametrize(
    ("client", "model", "flags"),
    [
        pytest.param("openai", "gpt-x", [], id="openai"),
        pytest.param("openai", "gpt-x+cumulative", ["cumulative_usage"], id="totals so far"),
        pytest.param("anthropic", "claude-x+twodeltas", ["cumulative_usage"], id="anthropic twice"),
    ],
)
def test_an_invoke_that_streams_is_in_the_books(client, model, flags, provider, meter, events_of):
    """Nobody reads its pieces but LangChain."""
    llm = client_of(client)(provider, model=model)

    llm.invoke("hello", {"callbacks": [MeteringHandler("acme", meter=meter)]}, stream=True)

    (event,) = events_of(meter)
    assert metered(event) == booked(provider.entry)
    assert summary(event) == ("completed", "reported", flags)


def read_to_the_usage(llm, config):
    """A consumer that leaves as the usage has come."""
    chunks = llm.stream("hello", config)
    for each in chunks:
        if each.usage_metadata:
            break
    chunks.close()


def aread_to_the_usage(llm, config):
    """The same, async."""

    async def main():
        chunks = llm.astream("hello", config)
        async for each in chunks:
            if each.usage_metadata:
                break
        await chunks.aclose()

    asyncio.run(main())


@pytest.mark.parametrize("leave", [read_to_the_usage, aread_to_the_usage], ids=["sync", "async"])
@pytest.mark.parametrize(
    ("client", "model"),
    [
        pytest.param("openai", "gpt-x", id="openai"),
        pytest.param("responses", "gpt-x", id="responses"),
        pytest.param("anthropic", "claude-x", id="anthropic"),
        pytest.param("ollama", "llama", id="ollama"),
    ],
)
def test_a_stream_that_is_left_when_its_usage_has_come(
    leave, client, model, provider, meter, events_of
):
    """The consumer left, and nothing is unknown: aborted, and as the books have it."""
    leave(
        client_of(client)(provider, model=model),
        {"callbacks": [MeteringHandler("acme", meter=meter)]},
    )

    (event,) = events_of(meter)
    entry = provider.entry
    assert (metered(event).input, metered(event).output) == (entry.input, entry.output)
    assert summary(event) == ("aborted", "reported", [])


@GEMINI
def test_a_stream_of_parts_that_is_left(provider, meter, events_of):
    """Gemini reports as it goes: the input is exact, the output a minimum, and the event says so."""
    llm = CLIENTS["gemini"](provider, model="gemini-x+pieces20+slow")
    chunks = llm.stream("hello", {"callbacks": [MeteringHandler("acme", meter=meter)]})
    for _ in range(3):
        next(chunks)
    chunks.close()

    (event,) = events_of(meter)
    entry = provider.entry
    assert metered(event).input == entry.input
    assert 0 < metered(event).output <= entry.output
    assert summary(event) == ("aborted", "partial", [])


class Verdict(BaseModel):
    """What is asked for in a certain form."""

    text: str


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
@pytest.mark.parametrize(
    ("model", "error"),
    [
        pytest.param("gpt-x+length", openai.LengthFinishReasonError, id="length"),
        pytest.param("gpt-x+filter", openai.ContentFilterFinishReasonError, id="content filter"),
    ],
)
def test_a_billed_answer_that_ends_in_an_error(way, model, error, provider, meter, events_of):
    """A structured answer that was cut is paid for, though the application gets none of it."""
    llm = client_of("openai")(provider, model=model).with_structured_output(
        Verdict, method="json_schema"
    )

    with pytest.raises(error):
        WAYS[way](llm, "hello", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert event.data["status"] == "failed"
    assert event.data["output_tokens"] > 0
    if way in ("invoke", "ainvoke"):
        # langchain-openai drops what the stream of a structured answer reports.
        assert metered(event) == booked(provider.entry)
        assert event.data["provenance"] == "reported"


@pytest.mark.parametrize("way", ["batch", "abatch"])
def test_completions_in_one_request(way, provider, meter, events_of):
    """Three prompts in one request of OpenAI's: one entry in the books, one event."""
    llm = CLIENTS["completions"](provider)
    config = {"callbacks": [MeteringHandler("acme", meter=meter)]}
    prompts = ["one", "two", "three"]

    if way == "batch":
        llm.batch(prompts, config)
    else:
        asyncio.run(llm.abatch(prompts, config))

    (event,) = events_of(meter)
    entry = provider.entry
    assert (metered(event).input, metered(event).output) == (entry.input, entry.output)
    assert summary(event) == ("completed", "reported", [])
    assert event.data["batch_size"] == 3


def test_answers_of_langchains_cache_are_in_no_books(provider, meter, events_of):
    """Of four questions the provider was asked two; together the events are what it generated."""
    llm = client_of("openai")(provider)
    llm.cache = InMemoryCache()
    config = {"callbacks": [MeteringHandler("acme", meter=meter)]}

    for _ in range(3):
        llm.invoke("hello", config)
    list(llm.stream("hello", config))

    recorded = events_of(meter)
    assert sum(metered(event).input for event in recorded) == provider.totals.input
    assert sum(metered(event).output for event in recorded) == provider.totals.output
    assert [event.data["status"] for event in recorded] == [
        "completed",
        "cached",
        "cached",
        "completed",
    ]
