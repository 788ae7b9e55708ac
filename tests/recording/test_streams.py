"""`metered_stream`: however a stream of a provider's own client is read and left, it is billed once."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import pickle

import anthropic
import openai
import pytest

import llm_metering
from llm_metering import Meter
from llm_metering.errors import InvalidArgumentError, MeteringError, SubjectError
from llm_metering.recording import tally
from tests.forking import in_child

PROMPT = [{"role": "user", "content": "Count to ten"}]


@pytest.fixture
def ask(client):
    """Start a stream of OpenAI's chat API."""

    def ask(**more):
        settings = {"stream_options": {"include_usage": True}, "max_tokens": 12} | more
        return client.chat.completions.create(
            model="tiny", messages=PROMPT, stream=True, **settings
        )

    return ask


def only(events):
    """The one event there must be."""
    (event,) = events()
    return event


def test_a_stream_that_is_read_to_its_end_is_reported(meter, events, ask, model_server):
    """The provider's last chunk holds the counts; they are the server's own."""
    before = model_server.counters()
    chunks = list(meter.metered_stream(ask(), subject="acme"))
    after = model_server.wait_until_idle()

    assert chunks[-1].usage is not None
    data = only(events).data
    assert (data["provenance"], data["status"]) == ("reported", "completed")
    assert data["output_tokens"] == after.predicted - before.predicted
    assert data["input_tokens"] == after.prompt - before.prompt
    assert data["response_id"] == chunks[0].id
    assert data["calls"] == 1
    assert "time_to_first_token_ms" in data


def test_the_stream_is_read_as_before(meter, ask):
    """Its chunks, its attributes and its repr are there; it is closed with its block."""
    plain = ask()
    stream = meter.metered_stream(plain, subject="acme")

    assert stream.response is plain.response
    assert "MeteredStream" in repr(stream)
    with stream as entered:
        assert next(iter(entered)).object == "chat.completion.chunk"
    assert plain.response.is_closed
    assert next(stream, None) is None


def test_a_stream_without_usage_is_counted(meter, events, ask):
    """Nobody asked for usage: the answer is counted, and with the request the prompt."""
    request = {"model": "gpt-5-mini", "messages": PROMPT}
    stream = ask(stream_options=None)
    text = "".join(
        chunk.choices[0].delta.content or ""
        for chunk in meter.metered_stream(stream, "acme", model="gpt-5-mini", request=request)
    )
    assert text
    data = only(events).data
    assert (data["provenance"], data["status"]) == ("estimated", "completed")
    assert data["total_tokens"] == data["input_tokens"] + data["output_tokens"]
    assert data["output_tokens"] > 0
    assert data["count_method"]


def test_the_fix_for_a_stream_without_usage_is_told_once(meter, ask, caplog, monkeypatch):
    """Not for each call: a service would write nothing else."""
    monkeypatch.setattr(tally, "_hint_given", False)
    with caplog.at_level(logging.WARNING, logger="llm_metering"):
        for _ in range(3):
            list(meter.metered_stream(ask(stream_options=None), "acme"))

    (record,) = caplog.records
    assert "include_usage" in record.getMessage()


def leave_by_close(stream):
    next(stream)
    next(stream)
    stream.close()


def leave_by_break(stream):
    for number, _ in enumerate(stream):
        if number == 1:
            break


def leave_by_block(stream):
    with stream:
        next(stream)
        next(stream)


def leave_by_error(stream):
    next(stream)
    next(stream)
    with pytest.raises(ZeroDivisionError), stream:
        _ = 1 // 0


@pytest.mark.parametrize("leave", [leave_by_close, leave_by_break, leave_by_block, leave_by_error])
def test_a_stream_that_is_left_is_billed_for_what_came(meter, events, ask, leave):
    """Closed, broken off, left by an error, collected: aborted and estimated, once."""
    stream = meter.metered_stream(ask(max_tokens=50), subject="acme")
    leave(stream)
    del stream
    gc.collect()

    data = only(events).data
    assert (data["provenance"], data["status"]) == ("estimated", "aborted")
    assert 0 < data["output_tokens"] < 50
    assert "total_tokens" not in data


def test_a_stream_that_is_left_unread_has_no_count(meter, events, ask):
    """It may have cost something; nobody knows what, and it is said so."""
    meter.metered_stream(ask(), subject="acme").close()

    data = only(events).data
    assert (data["provenance"], data["status"]) == ("missing", "aborted")


def test_leaving_after_the_last_word_is_no_abort(meter, events, ask):
    """All counts had arrived; the application only did not ask whether there was more."""
    stream = meter.metered_stream(ask(), subject="acme")
    for chunk in stream:
        if chunk.usage is not None:
            break
    stream.close()

    data = only(events).data
    assert (data["provenance"], data["status"]) == ("reported", "completed")


def test_a_provider_that_dies_in_mid_stream(meter, events, unruly):
    """The error is the application's; what had come is billed as failed."""
    with openai.OpenAI(base_url=unruly.url("die"), api_key="x", max_retries=0) as client:
        stream = client.chat.completions.create(model="m", messages=PROMPT, stream=True)
        received = []
        with pytest.raises(openai.APIConnectionError):
            received.extend(meter.metered_stream(stream, subject="acme"))

    data = only(events).data
    assert (data["provenance"], data["status"]) == ("estimated", "failed")
    assert data["output_tokens"] == 4  # "one two three ": the last space is one, too
    assert data["model"] == "m"


def test_an_error_in_the_stream_is_a_failure_and_not_free(meter, events):
    """Groq reports a failed tool call inside a stream that has begun, as a 400."""
    chunks = [
        {
            "id": "c",
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"content": "one two three"}}],
        },
        {"error": {"message": "no", "code": "tool_use_failed", "status_code": 400}},
    ]
    assert list(meter.metered_stream(iter(chunks), subject="acme")) == chunks

    data = only(events).data
    assert (data["provenance"], data["status"], data["output_tokens"]) == ("estimated", "failed", 3)


def test_a_stream_that_is_nothing_but_a_refusal_is_free(meter, events):
    """The provider took no token."""
    chunks = [{"error": {"message": "no", "code": 429}}]
    list(meter.metered_stream(iter(chunks), subject="acme"))

    assert events() == []
    assert meter.statistics()["refused_calls"] == 1
    assert meter.statistics()["open_calls"] == 0


def test_who_pays_is_decided_when_it_is_wrapped(meter, events, ask):
    """What the scope is when it is read, or collected, changes nothing."""
    with llm_metering.subject("opener", feature="search"):
        stream = meter.metered_stream(ask())
    with llm_metering.subject("reader"):
        list(stream)

    event = only(events)
    assert (event.subject, event.data["feature"]) == ("opener", "search")


@pytest.mark.parametrize(
    "thing",
    [
        pytest.param(None, id="None"),
        pytest.param(42, id="number"),
        pytest.param({"id": "x"}, id="dict"),
        pytest.param("text", id="string"),
        pytest.param(b"bytes", id="bytes"),
    ],
)
def test_what_is_no_stream_is_refused(meter, events, thing):
    """At once, and without an event."""
    with pytest.raises(InvalidArgumentError):
        meter.metered_stream(thing, subject="acme")
    with pytest.raises(SubjectError):
        meter.metered_stream(iter([]), subject="")

    assert events() == []
    assert meter.statistics()["open_calls"] == 0


def test_a_coroutine_is_refused_with_the_fix(meter):
    """The async clients return one, and `await` is easily forgotten."""

    async def create():
        """Never runs."""

    with pytest.raises(InvalidArgumentError, match="await"):
        meter.metered_stream(create(), subject="acme")


def test_a_chunk_that_cannot_be_read_does_not_stop_the_stream(meter, events):
    """Metering is never the application's problem."""

    class Odd:
        @property
        def __dict__(self):
            raise RuntimeError

    chunks = [Odd(), None, 3, "data: nonsense", b"\xff", {"choices": "none"}, []]
    assert list(meter.metered_stream(iter(chunks), subject="acme")) == chunks
    assert len(events()) == 1


def claude_asks(claude, **more):
    return claude.messages.create(model="tiny", max_tokens=12, messages=PROMPT, stream=True, **more)


def test_anthropic_streams_are_reported(meter, events, claude):
    """Input comes at the start, output at the end: the event has both."""
    stream = meter.metered_stream(claude_asks(claude), subject="acme")
    received = list(stream)

    start, delta = received[0].message.usage, received[-2].usage
    data = only(events).data
    assert (data["provenance"], data["status"]) == ("reported", "completed")
    assert data["input_tokens"] == start.input_tokens + (start.cache_read_input_tokens or 0)
    assert data["output_tokens"] == delta.output_tokens


def test_an_aborted_anthropic_stream_has_its_input_reported(meter, events, claude):
    """The provider counted the input before the first word; the rest is counted by us."""
    stream = meter.metered_stream(claude_asks(claude), subject="acme")
    start = next(stream).message.usage
    for event in stream:
        if event.type == "content_block_delta":
            break
    stream.close()

    data = only(events).data
    assert (data["provenance"], data["status"]) == ("partial", "aborted")
    assert data["input_tokens"] == start.input_tokens + (start.cache_read_input_tokens or 0)
    assert 0 < data["output_tokens"] < 12
    assert data["total_tokens"] == data["input_tokens"] + data["output_tokens"]


def test_a_stream_manager_is_entered_and_read(meter, events, claude):
    """Anthropic's helper yields more kinds of events than the provider sent; none counts twice."""
    with meter.metered_stream(
        claude.messages.stream(model="tiny", max_tokens=12, messages=PROMPT), subject="acme"
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_message()

    assert "text" in kinds
    data = only(events).data
    assert (data["provenance"], data["status"]) == ("reported", "completed")
    assert data["output_tokens"] == final.usage.output_tokens


def test_openai_responses_streams_are_reported(meter, events, client):
    """Their counts are in the last event."""
    stream = client.responses.create(model="tiny", input="Hello", max_output_tokens=8, stream=True)
    received = list(meter.metered_stream(stream, subject="acme"))

    usage = received[-1].response.usage
    data = only(events).data
    assert data["provenance"] == "reported"
    assert (data["input_tokens"], data["output_tokens"]) == (
        usage.input_tokens,
        usage.output_tokens,
    )


@pytest.fixture
async def aclient(model_server):
    """OpenAI's async client."""
    async with openai.AsyncOpenAI(
        base_url=model_server.openai_url, api_key="x", max_retries=0
    ) as client:
        yield client


def aask(client, **more):
    settings = {"stream_options": {"include_usage": True}, "max_tokens": 12} | more
    return client.chat.completions.create(model="tiny", messages=PROMPT, stream=True, **settings)


@pytest.mark.anyio
async def test_an_async_stream_is_reported(meter, sink, aclient):
    """As its sync sister."""
    stream = meter.metered_stream(await aask(aclient), subject="acme")
    chunks = [chunk async for chunk in stream]
    assert await meter.aflush()

    (event,) = sink.events
    assert event.data["provenance"] == "reported"
    assert event.data["output_tokens"] == chunks[-1].usage.completion_tokens


@pytest.mark.anyio
@pytest.mark.parametrize("way", ["aclose", "close", "block", "break"])
async def test_an_async_stream_that_is_left_is_billed_for_what_came(meter, sink, aclient, way):
    """Closed by either name, left with its block, or dropped."""
    stream = meter.metered_stream(await aask(aclient, max_tokens=50), subject="acme")
    if way == "block":
        async with stream:
            await anext(stream)
            await anext(stream)
    else:
        await anext(stream)
        await anext(stream)
        if way != "break":
            await getattr(stream, way)()
    del stream
    gc.collect()
    assert await meter.aflush()

    (event,) = sink.events
    assert (event.data["provenance"], event.data["status"]) == ("estimated", "aborted")


@pytest.mark.anyio
async def test_a_cancelled_reader_has_its_stream_billed(meter, sink, unruly):
    """A web server cancels the task of a client that has gone."""
    async with openai.AsyncOpenAI(
        base_url=unruly.url("stall"), api_key="x", max_retries=0
    ) as client:
        stream = await client.chat.completions.create(model="m", messages=PROMPT, stream=True)
        received = []

        async def read():
            async for chunk in meter.metered_stream(stream, subject="acme"):
                received.append(chunk)  # noqa: PERF401  # what came before the cancellation stays

        task = asyncio.create_task(read())
        while len(received) < 3:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await stream.close()
    assert await meter.aflush()

    (event,) = sink.events
    assert (event.data["provenance"], event.data["status"]) == ("estimated", "aborted")
    assert event.data["output_tokens"] == 4


@pytest.mark.anyio
async def test_an_async_anthropic_manager(meter, sink, model_server):
    """The async helper is entered with `async with`."""
    async with (
        anthropic.AsyncAnthropic(
            base_url=model_server.base_url, api_key="x", max_retries=0
        ) as client,
        meter.metered_stream(
            client.messages.stream(model="tiny", max_tokens=8, messages=PROMPT), subject="acme"
        ) as stream,
    ):
        async for _ in stream:
            pass
    assert await meter.aflush()

    (event,) = sink.events
    assert event.data["provenance"] == "reported"


def test_lines_of_a_raw_answer_are_read(meter, events, model_server):
    """Whoever talks HTTP by hand hands over the lines as they come."""
    import httpx

    body = {
        "model": "tiny",
        "messages": PROMPT,
        "max_tokens": 8,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with httpx.stream("POST", f"{model_server.openai_url}/chat/completions", json=body) as response:
        lines = list(meter.metered_stream(response.iter_lines(), subject="acme"))

    assert lines[0].startswith("data: ")
    data = only(events).data
    assert (data["provenance"], data["status"]) == ("reported", "completed")


def test_a_process_that_is_killed_in_mid_stream_leaves_an_interrupted_call(home):
    """The note of its start is in the journal; the next process records what it says."""
    chunks = [{"object": "chat.completion.chunk", "choices": [{"delta": {"content": "one"}}]}]

    def die():
        meter = Meter(home, sinks=(), source="tests")
        stream = meter.metered_stream(iter(chunks * 3), subject="acme")
        next(stream)
        os._exit(0)

    assert in_child(die)
    with Meter(home, sinks=()) as meter:
        (row,) = meter.usage("calls_total", group_by=["status"]).rows
        assert (row.subject, row.group_by) == (None, {"status": "interrupted"})


class Either:
    """A stream that can be read with `for` and with `async for`, as LiteLLM's can."""

    def __init__(self):
        self.chunks = iter(
            [
                {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "one"}}]},
                {"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 1}},
            ]
        )

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.chunks)

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        for chunk in self.chunks:
            return chunk
        raise StopAsyncIteration


def test_a_stream_of_both_kinds_is_read_with_for(meter, events):
    """As the application does, so do we."""
    assert len(list(meter.metered_stream(Either(), subject="acme"))) == 2

    assert only(events).data["provenance"] == "reported"


@pytest.mark.anyio
async def test_a_stream_of_both_kinds_is_read_with_async_for(meter, sink):
    """The wrapper that nobody holds any more is not the end of it."""
    received = []
    async for chunk in meter.metered_stream(Either(), subject="acme"):
        gc.collect()
        received.append(chunk)
    assert await meter.aflush()

    (event,) = sink.events
    assert len(received) == 2
    assert (event.data["provenance"], event.data["status"]) == ("reported", "completed")


def test_a_stream_that_is_copied_is_no_endless_recursion(meter):
    """Debuggers and frameworks copy whatever they see."""
    stream = meter.metered_stream(iter([]), subject="acme")
    with pytest.raises(TypeError):
        pickle.dumps(stream)
    list(stream)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"dimensions": {"model": "x"}}, id="our key as a dimension"),
        pytest.param({"dimensions": {"feature": 3}}, id="a dimension that is no string"),
        pytest.param({"model": "gpt\ud800"}, id="half a character"),
        pytest.param({"request": "text"}, id="a request that is none"),
    ],
)
def test_bad_arguments_are_told_at_once(meter, events, arguments):
    """A call that could not be started would be billed to nobody, for ever and in silence."""
    with pytest.raises(MeteringError):
        meter.metered_stream(iter([]), subject="acme", **arguments)

    assert events() == []
    assert meter.statistics()["failures"] == 0


def test_a_stream_that_is_open_when_the_meter_closes_is_billed_for_what_came(meter, sink, claude):
    """At exit nobody says how it ended; what was reported and what arrived are known all the same."""
    stream = meter.metered_stream(claude_asks(claude), subject="acme")
    start = next(stream).message.usage
    for event in stream:
        if event.type == "content_block_delta":
            break
    assert meter.close()

    (event,) = sink.events
    assert (event.data["provenance"], event.data["status"]) == ("partial", "aborted")
    assert event.data["flags"] == ["open_at_exit"]
    assert event.data["input_tokens"] == start.input_tokens + (start.cache_read_input_tokens or 0)
    assert event.data["output_tokens"] > 0
    stream.close()


def test_the_request_is_counted_as_it_was(meter, events):
    """The application adds the answer to its messages while we count."""
    messages = [{"role": "user", "content": "Hello"}]
    request = {"model": "gpt-4o-mini", "messages": messages}
    chunks = [{"object": "chat.completion.chunk", "choices": [{"delta": {"content": "one"}}]}]
    stream = meter.metered_stream(iter(chunks), "acme", request=request)
    messages.append({"role": "assistant", "content": "word " * 2000})
    list(stream)

    assert 0 < only(events).data["input_tokens"] < 20


def test_a_stream_that_is_wrapped_twice_is_one_call(meter, events, ask):
    """A wrapper is left as it is, and the stream inside is known."""
    plain = ask()
    first = meter.metered_stream(plain, subject="acme")

    assert meter.metered_stream(first, subject="other") is first
    assert meter.metered_stream(plain, subject="other") is first
    list(first)
    assert only(events).subject == "acme"


def test_a_stream_that_times_out_and_goes_on_is_read_to_its_end(meter, events):
    """The wrapper ends nothing that goes on without it."""

    class Slow:
        def __init__(self):
            self.steps = iter(["one ", TimeoutError(), "two ", TimeoutError(), "three"])

        def __iter__(self):
            return self

        def __next__(self):
            step = next(self.steps)
            if isinstance(step, Exception):
                raise step
            return {"object": "chat.completion.chunk", "choices": [{"delta": {"content": step}}]}

    stream = meter.metered_stream(Slow(), subject="acme")
    received = []
    while True:
        try:
            received.append(next(stream))
        except TimeoutError:
            continue
        except StopIteration:
            break

    assert len(received) == 3
    assert only(events).data["output_tokens"] == 3


def test_a_stream_that_stops_without_an_end_says_so(meter, events):
    """A proxy that cuts a stream does it without an error."""
    chunks = [{"object": "chat.completion.chunk", "choices": [{"delta": {"content": "one"}}]}]
    list(meter.metered_stream(iter(chunks), subject="acme"))

    assert only(events).data["flags"] == ["unfinished_stream"]


def test_a_stream_without_a_chunk_is_not_estimated(meter, events):
    """There was no sign of life: an estimate of its input would be invented."""
    list(meter.metered_stream(iter([]), "acme", request={"messages": PROMPT}))

    data = only(events).data
    assert (data["provenance"], data["flags"]) == ("missing", ["empty_stream"])


def test_a_helper_that_is_read_past_the_wrapper_is_billed(meter, events, claude):
    """Anthropic's own example reads `text_stream`; its helper knows the counts in the end."""
    with meter.metered_stream(
        claude.messages.stream(model="tiny", max_tokens=12, messages=PROMPT), subject="acme"
    ) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()

    assert text
    data = only(events).data
    assert (data["provenance"], data["status"]) == ("reported", "completed")
    assert data["output_tokens"] == final.usage.output_tokens


def test_a_refusal_of_a_manager_is_free(meter, events, unruly):
    """It asks the provider when it is entered."""
    url = unruly.url("429").removesuffix("/v1")
    with (
        anthropic.Anthropic(base_url=url, api_key="x", max_retries=0) as client,
        pytest.raises(anthropic.RateLimitError),
        meter.metered_stream(
            client.messages.stream(model="m", max_tokens=5, messages=PROMPT), subject="acme"
        ),
    ):
        raise AssertionError("entered")

    assert events() == []
    assert meter.statistics()["refused_calls"] == 1


def test_a_stream_that_times_out_and_stops_has_failed(meter, events):
    """A generator is over once it has raised; that is no answer that was completed."""

    def chunks():
        yield {"object": "chat.completion.chunk", "choices": [{"delta": {"content": "one"}}]}
        raise TimeoutError

    stream = meter.metered_stream(chunks(), subject="acme")
    next(stream)
    with pytest.raises(TimeoutError):
        next(stream)
    assert next(stream, None) is None

    data = only(events).data
    assert (data["provenance"], data["status"]) == ("estimated", "failed")
