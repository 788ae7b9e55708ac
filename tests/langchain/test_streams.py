"""Streams: what their chunks report, however they end; LangChain's sum of it where that is wrong."""

from __future__ import annotations

import asyncio
import gc
from uuid import uuid4

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import HumanMessage

from llm_metering import Meter
from llm_metering.langchain import MeteringHandler
from tests.langchain.scripted import Scripted, chunk, usage
from tests.metering import count_of

VLLM = [(100, 1), (100, 9), (100, 20), (100, 20)]
GEMINI = [(100, 5), (0, 7), (-20, 8)]


def totals():
    """A stream of vLLM with `continuous_usage_stats`: the total so far on each chunk."""
    texts = ["one ", "two ", "three", ""]
    return [
        chunk(text, used=usage(*counts), **({"finish_reason": "stop"} if i > 1 else {}))
        for i, (text, counts) in enumerate(zip(texts, VLLM, strict=True))
    ]


def told_again():
    """A stream whose finishing chunk has the usage, and its trailing chunk again."""
    used = usage(100, 20, input_token_details={"cache_read": 64})
    return [
        chunk("one two"),
        chunk(used=used, finish_reason="stop", model_name="served"),
        chunk(used=dict(used)),
    ]


def parts():
    """A stream of langchain-google-genai, which makes parts of totals."""
    return [
        chunk(text, used=usage(*counts), model_provider="google_genai", **more)
        for text, counts, more in zip(
            ["one ", "two ", "three"], GEMINI, [{}, {}, {"finish_reason": "STOP"}], strict=True
        )
    ]


def at_the_end():
    """A stream of OpenAI: why it ended, then the usage."""
    return [
        chunk("one "),
        chunk("two"),
        chunk(finish_reason="stop", model_name="served"),
        chunk(used=usage(100, 20, output_token_details={"reasoning": 7})),
    ]


def without():
    """A stream that reports nothing."""
    return [chunk("one "), chunk("two", finish_reason="stop")]


def stream(llm, config):
    return merged(llm.stream("x", config))


def astream(llm, config):
    async def main():
        return merged([each async for each in llm.astream("x", config)])

    return asyncio.run(main())


def invoke(llm, config):
    return llm.invoke("x", config, stream=True)


def ainvoke(llm, config):
    return asyncio.run(llm.ainvoke("x", config, stream=True))


def merged(chunks):
    first, *rest = chunks
    for each in rest:
        first += each
    return first


every_way = pytest.mark.parametrize(
    "way", [stream, astream, invoke, ainvoke], ids=lambda way: way.__name__
)


def counts_of(event):
    """Input and output of an event; `None` for what it does not know."""
    return event.data.get("input_tokens"), event.data.get("output_tokens")


def summary(event):
    """How a call ended, where its counts come from, and what was odd."""
    return event.data["status"], event.data["provenance"], event.data.get("flags", [])


@every_way
@pytest.mark.parametrize(
    ("script", "wrong"),
    [
        pytest.param(totals, (400, 50), id="totals so far"),
        pytest.param(told_again, (200, 40), id="told again"),
    ],
)
def test_totals_are_billed_once(way, script, wrong, meter, events_of):
    """LangChain adds up what each chunk reports; the application sees that, the bill the last."""
    handler = MeteringHandler("acme", meter=meter)

    answer = way(Scripted(script=script), {"callbacks": [handler]})

    (event,) = events_of(meter)
    assert (answer.usage_metadata["input_tokens"], answer.usage_metadata["output_tokens"]) == wrong
    assert counts_of(event) == (100, 20)
    assert summary(event) == ("completed", "reported", ["cumulative_usage"])


@every_way
def test_parts_are_added_up(way, meter, events_of):
    """Gemini's chunks hold parts, one of them below 0; together they are what was used."""
    handler = MeteringHandler("acme", meter=meter)

    way(Scripted(script=parts), {"callbacks": [handler]})

    (event,) = events_of(meter)
    assert counts_of(event) == (80, 20)
    assert summary(event) == ("completed", "reported", [])


@every_way
@pytest.mark.parametrize("handlers", [1, 2])
@pytest.mark.parametrize("same", [True, False], ids=["one handler", "several handlers"])
@pytest.mark.parametrize("script", [at_the_end, parts], ids=lambda script: script.__name__)
def test_a_chunk_that_is_told_twice_is_one_report(way, handlers, same, script, meter, events_of):
    """A handler that LangChain was given twice gets each chunk twice: these are no totals."""
    handler = MeteringHandler("acme", meter=meter)
    others = [handler if same else MeteringHandler("acme", meter=meter) for _ in range(handlers)]

    way(Scripted(script=script), {"callbacks": [handler, *others]})

    (event,) = events_of(meter)
    assert counts_of(event) == ((100, 20) if script is at_the_end else (80, 20))
    assert summary(event) == ("completed", "reported", [])


def test_the_details_of_totals_are_the_last_ones_too(meter, events_of):
    """The parts of a total are added up by LangChain as well."""
    list(
        Scripted(script=told_again).stream(
            "x", {"callbacks": [MeteringHandler("acme", meter=meter)]}
        )
    )

    (event,) = events_of(meter)
    assert event.data["cache_read_input_tokens"] == 64
    assert (event.data["total_tokens"], event.data["reported_total_tokens"]) == (120, 120)
    assert event.data["model"] == "served"


@pytest.mark.parametrize(
    ("script", "left_after", "expected", "provenance", "flags"),
    [
        pytest.param(at_the_end, 4, (100, 20), "reported", [], id="after the usage"),
        pytest.param(totals, 3, (100, 20), "reported", ["cumulative_usage"], id="totals, all"),
        pytest.param(parts, 3, (80, 20), "reported", [], id="parts, all"),
        pytest.param(parts, 2, (100, 12), "partial", [], id="parts, some"),
        pytest.param(totals, 2, (100, 9), "partial", ["cumulative_usage"], id="totals, some"),
    ],
)
@pytest.mark.parametrize("is_async", [False, True], ids=["close", "aclose"])
def test_a_stream_that_is_left(
    script, left_after, expected, provenance, flags, is_async, meter, events_of
):
    """What the consumer left is billed as far as was reported: in full, once why it ended was said."""
    llm = Scripted(script=script)
    config = {"callbacks": [MeteringHandler("acme", meter=meter)]}

    async def leave():
        chunks = llm.astream("x", config)
        for _ in range(left_after):
            await anext(chunks)
        await chunks.aclose()

    if is_async:
        asyncio.run(leave())
    else:
        chunks = llm.stream("x", config)
        for _ in range(left_after):
            next(chunks)
        chunks.close()

    (event,) = events_of(meter)
    assert counts_of(event) == expected
    assert summary(event) == ("aborted", provenance, flags)


def test_a_stream_that_is_left_before_its_usage(meter, events_of):
    """A consumer that breaks on the finish reason leaves before OpenAI's usage: we count."""
    chunks = Scripted(script=at_the_end).stream(
        "x", {"callbacks": [MeteringHandler("acme", meter=meter)]}
    )
    for each in chunks:
        if each.response_metadata.get("finish_reason"):
            break
    del chunks, each
    gc.collect()

    (event,) = events_of(meter)
    assert summary(event) == ("aborted", "estimated", [])
    assert event.data["output_tokens"] == count_of("x", "one two").output_tokens


class Slow(AsyncCallbackHandler):
    """A handler of somebody else's that waits when the usage is told, longer than the task lives."""

    def __init__(self):
        self.told = asyncio.Event()

    async def on_llm_new_token(self, token, *, chunk=None, **kwargs):
        if chunk.message.usage_metadata is not None:
            self.told.set()
            await asyncio.Event().wait()


def test_the_chunk_that_was_being_delivered_counts(meter, events_of):
    """LangChain's message of what was received lacks the chunk that a cancelled task waited for."""
    llm = Scripted(script=at_the_end)
    handler = MeteringHandler("acme", meter=meter)

    async def main():
        slow = Slow()

        async def consume():
            return [each async for each in llm.astream("x", {"callbacks": [handler, slow]})]

        task = asyncio.create_task(consume())
        await slow.told.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    (event,) = events_of(meter)
    assert counts_of(event) == (100, 20)
    assert summary(event) == ("aborted", "reported", [])


@pytest.mark.parametrize(
    ("script", "expected", "provenance", "flags"),
    [
        pytest.param(at_the_end, (100, 20), "reported", [], id="reported"),
        pytest.param(totals, (100, 20), "reported", ["cumulative_usage"], id="totals"),
        pytest.param(parts, (80, 20), "reported", [], id="parts"),
    ],
)
def test_a_call_that_nobody_ends_has_what_its_chunks_said(
    script, expected, provenance, flags, home, sink
):
    """LangChain tells nobody of a cancelled `ainvoke`; its chunks had told of the usage."""

    async def main(handler):
        reached = asyncio.Event()
        llm = Scripted(script=script, waits=True, reached=reached)
        task = asyncio.create_task(llm.ainvoke("x", {"callbacks": [handler]}, stream=True))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Meter(home=home, sinks=[sink]) as meter:
        asyncio.run(main(MeteringHandler("acme", meter=meter)))

    (event,) = sink.events
    assert counts_of(event) == expected
    status, provenance_, flags_ = summary(event)
    assert (status, provenance_) == ("aborted", provenance)
    assert set(flags) <= set(flags_)


def test_chunks_that_langchain_cannot_merge(home, sink):
    """A detail that is no whole number: the stream raises at its end, and tells of none."""

    def script():
        odd = usage(100, 20, input_token_details={"cache_read": 1.5})
        return [chunk("one", used=odd), chunk("two", used=odd)]

    with (
        Meter(home=home, sinks=[sink]) as meter,
        pytest.raises(ValueError, match="Unknown value types"),
    ):
        stream(Scripted(script=script), {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = sink.events
    status, provenance, flags = summary(event)
    assert (status, provenance) == ("aborted", "missing")
    assert "invalid_usage" in flags
    assert meter.statistics()["failures"] == 0


def test_what_the_application_does_to_a_chunk_changes_nothing(meter, events_of):
    """It is given the very message, and may put what it likes into it."""
    config = {"callbacks": [MeteringHandler("acme", meter=meter)]}
    chunks = Scripted(script=told_again).stream("x", config)

    for each in chunks:
        if each.usage_metadata is not None:
            each.usage_metadata["input_tokens"] = 7

    (event,) = events_of(meter)
    assert counts_of(event) == (100, 20)


@every_way
def test_a_stream_without_usage_is_counted(way, meter, events_of):
    """Nothing is reported: input and output are counted from the text, and it says so."""
    way(Scripted(script=without), {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert summary(event) == ("completed", "estimated", [])
    counted = count_of("x", "one two")
    assert counts_of(event) == (counted.input_tokens, counted.output_tokens)


@pytest.mark.parametrize(
    "blocks",
    [
        pytest.param([{"type": "text", "text": "one two three"}], id="text"),
        pytest.param(
            [{"type": "thinking", "thinking": "one two three"}], id="Anthropic's thinking"
        ),
        pytest.param([{"type": "reasoning", "reasoning": "one two three"}], id="reasoning"),
    ],
)
def test_pieces_in_blocks_are_counted(blocks, meter, home, sink):
    """Whatever the kind of block: what was generated is output, reasoning that is shown too."""

    async def main(handler):
        reached = asyncio.Event()
        llm = Scripted(script=lambda: [chunk(blocks)], waits=True, reached=reached)
        task = asyncio.create_task(llm.ainvoke("x", {"callbacks": [handler]}, stream=True))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main(MeteringHandler("acme", meter=meter)))
    meter.close()

    (event,) = sink.events
    assert event.data["provenance"] == "estimated"
    assert event.data["output_tokens"] == count_of("x", "one two three").output_tokens


def test_text_that_an_integration_tells_of(meter, events_of):
    """It hands over the text of its chunk, which is a kind of str of LangChain's own."""
    handler, run = MeteringHandler("acme", meter=meter), uuid4()

    handler.on_chat_model_start(
        {},
        [[HumanMessage("x")]],
        run_id=run,
        metadata={"ls_provider": "openai", "ls_model_name": "tiny"},
    )
    for text in ("one ", "two ", "three"):
        piece = chunk(text)
        handler.on_llm_new_token(piece.text, chunk=piece, run_id=run)
    meter.calls.close()

    (event,) = events_of(meter)
    assert event.data["provenance"] == "estimated"
    assert event.data["output_tokens"] == count_of("x", "one two three").output_tokens
