"""v3 streams: their text is told in two ways and counted once, their usage in the last event."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from llm_metering import Meter
from llm_metering.langchain import MeteringHandler
from tests.langchain.scripted import Scripted, chunk, usage
from tests.langchain.test_streams import at_the_end, counts_of, summary, told_again, totals
from tests.metering import count_of

pytestmark = [
    pytest.mark.needs("v3_events"),
    pytest.mark.filterwarnings("ignore::langchain_core._api.beta_decorator.LangChainBetaWarning"),
]

tells = pytest.mark.parametrize("tells", [True, False], ids=["tells of chunks", "events only"])


def read(llm, config):
    """All of a sync v3 stream."""
    return llm.stream_events("x", config, version="v3").output


def aread(llm, config):
    """All of an async one."""

    async def main():
        return await (await llm.astream_events("x", config, version="v3")).output

    return asyncio.run(main())


both = pytest.mark.parametrize("way", [read, aread], ids=["sync", "async"])


@both
@tells
def test_the_usage_of_a_v3_stream(way, tells, meter, events_of):
    """What the chunks reported, whichever hooks tell of it."""
    llm = Scripted(script=at_the_end, tells=tells)

    way(llm, {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert counts_of(event) == (100, 20)
    assert summary(event) == ("completed", "reported", [])
    assert event.data["model"] == "served"
    assert event.data["time_to_first_token_ms"] <= event.data["duration_ms"]


@both
@pytest.mark.parametrize("script", [totals, told_again], ids=lambda script: script.__name__)
def test_totals_in_a_v3_stream(way, script, meter, events_of):
    """LangChain adds them up for the last event too; integrations that tell of chunks tell better."""
    way(Scripted(script=script, tells=True), {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert counts_of(event) == (100, 20)
    assert summary(event) == ("completed", "reported", ["cumulative_usage"])


def parts_with_details():
    """A stream of Gemini, which tells of its cache in the first chunk."""
    return [
        chunk(
            "one ",
            used=usage(100, 5, input_token_details={"cache_read": 64}),
            model_provider="google_genai",
        ),
        chunk(
            "two",
            used=usage(0, 15, input_token_details={"cache_read": 0}),
            model_provider="google_genai",
            finish_reason="STOP",
        ),
    ]


@both
def test_the_details_of_parts_in_a_v3_stream(way, meter, events_of):
    """LangChain takes the last part's details for those of all: 0 tokens read from the cache."""
    llm = Scripted(script=parts_with_details, tells=True)

    answer = way(llm, {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert answer.usage_metadata["input_token_details"]["cache_read"] == 0
    assert counts_of(event) == (100, 20)
    assert event.data["cache_read_input_tokens"] == 64
    assert summary(event) == ("completed", "reported", [])


def tool_call():
    """A stream that speaks and calls a tool."""
    called = chunk()
    called.message.tool_call_chunks = [
        {"name": "look_up", "args": '{"q": 1}', "id": "1", "index": 1, "type": "tool_call_chunk"}
    ]
    return [chunk("one "), chunk("two three "), called]


@tells
@pytest.mark.parametrize(
    ("steps", "text"),
    [
        pytest.param(4, "one two three ", id="text"),
        pytest.param(6, 'one two three look_up{"q": 1}', id="tool call"),
    ],
)
def test_the_text_of_a_v3_stream_is_counted_once(tells, steps, text, home, sink):
    """A stream that is dropped is told to nobody; its text had come as tokens and as events."""
    with Meter(home=home, sinks=[sink]) as meter:
        llm = Scripted(script=tool_call, tells=tells)
        config = {"callbacks": [MeteringHandler("acme", meter=meter)]}
        events = iter(llm.stream_events("x", config, version="v3"))
        for _ in range(steps):
            next(events)

    (event,) = sink.events
    assert (event.data["status"], event.data["provenance"]) == ("aborted", "estimated")
    assert event.data["output_tokens"] == count_of("x", text).output_tokens


@tells
def test_a_v3_stream_that_is_closed(tells, meter, events_of):
    """LangChain hands over nothing of what was received: it is what was told on the way."""
    reached = asyncio.Event()
    llm = Scripted(script=lambda: [chunk("one "), chunk("two ")], tells=tells, waits=True)
    llm.reached = reached
    handler = MeteringHandler("acme", meter=meter)

    async def main():
        events = await llm.astream_events("x", {"callbacks": [handler]}, version="v3")
        await anext(aiter(events))
        await reached.wait()
        await events.aclose()

    asyncio.run(main())

    (event,) = events_of(meter)
    assert summary(event) == ("aborted", "estimated", [])
    assert event.data["output_tokens"] == count_of("x", "one two ").output_tokens


@tells
def test_the_text_is_read_and_the_loop_ends(tells, meter, events_of):
    """LangChain then tells of the end, and of an error after it: the first one counts."""
    llm = Scripted(script=at_the_end, tells=tells)
    handler = MeteringHandler("acme", meter=meter)

    async def main():
        events = await llm.astream_events("x", {"callbacks": [handler]}, version="v3")
        return "".join([text async for text in events.text])

    assert asyncio.run(main()) == "one two"

    (event,) = events_of(meter)
    assert counts_of(event) == (100, 20)
    assert event.data["provenance"] == "reported"


@tells
@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), RuntimeError()], ids=["cancelled", "broke"]
)
def test_only_an_error_although_the_usage_was_told(tells, error, meter, events_of):
    """A loop that ends when all was read cancels who would tell of it: the answer was complete."""
    handler = MeteringHandler("acme", meter=meter)
    run = uuid4()
    finish = {
        "event": "message-finish",
        "usage": usage(100, 20),
        "metadata": {"model_name": "served", "finish_reason": "stop"},
    }

    handler.on_chat_model_start({}, [[HumanMessage("x")]], run_id=run)
    if tells:
        handler.on_llm_new_token("one", chunk=chunk("one"), run_id=run)
    handler.on_stream_event(finish, run_id=run)
    handler.on_llm_error(error, run_id=run, response=LLMResult(generations=[]))

    (event,) = events_of(meter)
    assert counts_of(event) == (100, 20)
    assert event.data["provenance"] == "reported"
    assert event.data["model"] == "served"
    assert event.data["status"] == ("failed" if isinstance(error, RuntimeError) else "completed")


@both
def test_a_v3_stream_that_breaks(way, meter, events_of):
    """What came until then is its event."""
    llm = Scripted(script=lambda: [chunk("one "), chunk("two "), ConnectionError()], tells=True)

    with pytest.raises(ConnectionError):
        way(llm, {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert summary(event) == ("failed", "estimated", [])
    assert event.data["output_tokens"] == count_of("x", "one two ").output_tokens


@pytest.mark.parametrize(
    "event",
    [
        pytest.param({}, id="empty"),
        pytest.param({"event": "content-block-delta"}, id="no delta"),
        pytest.param({"event": "content-block-delta", "delta": "text"}, id="a text for a delta"),
        pytest.param({"event": "content-block-delta", "delta": {"text": 7}}, id="a number"),
        pytest.param({"event": "content-block-start", "content": None}, id="no block"),
        pytest.param({"event": "message-finish", "usage": [1]}, id="a list for a usage"),
        pytest.param({"event": ["message-finish"]}, id="a list for a name"),
        pytest.param([], id="a list"),
        pytest.param(None, id="nothing"),
    ],
)
def test_an_event_of_another_protocol_is_passed_over(event, meter, events_of):
    """It reaches nobody; what the end says is billed."""
    handler = MeteringHandler("acme", meter=meter)
    run = uuid4()

    handler.on_chat_model_start({}, [[HumanMessage("x")]], run_id=run)
    handler.on_stream_event(event, run_id=run)
    message = AIMessage("a", usage_metadata=usage(100, 20))
    handler.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=run)

    (recorded,) = events_of(meter)
    assert counts_of(recorded) == (100, 20)
