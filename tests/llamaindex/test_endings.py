"""Every way a LlamaIndex call can end: each makes one event with what is known, or a count."""

from __future__ import annotations

import asyncio
import gc

import pytest
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.llms import CompletionResponse, MockLLM
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.workflow import StartEvent, StopEvent, Workflow, step
from workflows.errors import WorkflowCancelledByUser

import llm_metering
from llm_metering import Meter, subject
from llm_metering.llamaindex import MeteringHandler
from llm_metering.sinks.memory import MemorySink
from tests.books import billed, owed, prompt
from tests.llamaindex.asking import messages
from tests.llamaindex.clients import CLIENTS

ASKED = {"stream_options": {"include_usage": True}}
ASK = messages(prompt("acme"))


@pytest.fixture
def acme(meter):
    """A callback manager with a handler for acme."""
    return CallbackManager([MeteringHandler("acme", meter=meter)])


def one(events):
    (event,) = events
    return event.data


@pytest.mark.parametrize("leave", ["close", "forget", "raise"])
def test_a_stream_that_its_reader_leaves_is_billed_for_what_is_known(
    provider, meter, acme, events_of, leave
):
    """LlamaIndex tells of an exception and of no end; the chunk with the usage was never read."""
    llm = CLIENTS["openai"](provider, "slow", callback_manager=acme, additional_kwargs=ASKED)
    stream = llm.stream_chat(ASK)
    for _ in range(3):
        next(stream)

    if leave == "close":
        stream.close()
    elif leave == "raise":
        with pytest.raises(RuntimeError):
            stream.throw(RuntimeError("the application's own"))
    del stream
    gc.collect()

    data = one(events_of(meter))
    assert data["provenance"] == "estimated"
    assert data["status"] == ("failed" if leave == "raise" else "aborted")
    assert data["input_tokens"] > 0
    assert data["output_tokens"] > 0
    assert meter.statistics()["open_calls"] == 0


def test_what_was_reported_before_it_was_left_is_billed_as_reported(
    provider, meter, acme, events_of
):
    """Each chunk carries the usage so far; what it was in the end the provider has not said."""
    llm = CLIENTS["openai"](
        provider, "cumulative+slow", callback_manager=acme, additional_kwargs=ASKED
    )
    stream = llm.stream_chat(ASK)
    for _ in range(3):
        next(stream)
    stream.close()

    data = one(events_of(meter))
    (entry,) = provider.entries
    assert (data["provenance"], data["status"]) == ("partial", "aborted")
    assert data["input_tokens"] == entry.input


def test_usage_in_every_chunk_is_no_sum(provider, meter, acme, events_of):
    """The last one is that of the call."""
    llm = CLIENTS["openai"](provider, "cumulative", callback_manager=acme, additional_kwargs=ASKED)

    list(llm.stream_chat(ASK))

    assert billed(events_of(meter)) == owed(provider)


def test_an_async_stream_that_is_left(provider, meter, acme, events_of):
    """`break` finalises the generator when the loop ends; what was known then is billed."""

    async def main():
        llm = CLIENTS["openai"](provider, "slow", callback_manager=acme, additional_kwargs=ASKED)
        stream = await llm.astream_chat(ASK)
        seen = 0
        async for _ in stream:
            seen += 1
            if seen == 3:
                break

    asyncio.run(main())
    gc.collect()

    assert one(events_of(meter))["status"] == "aborted"


@pytest.mark.parametrize("name", ["openai", "responses", "custom"])
def test_a_stream_outlives_the_task_that_it_was_made_in(provider, default_meter, events_of, name):
    """It may be read by another task much later: a flush between the two does not close its call."""
    llm_metering.install()
    options = {"additional_kwargs": ASKED} if name == "openai" else {}

    async def begin():
        with subject("acme"):
            return await CLIENTS[name](provider, **options).astream_chat(ASK)

    async def main():
        stream = await asyncio.create_task(begin())
        await asyncio.sleep(0)  # until the end of the task was told of
        default_meter.flush()
        assert default_meter.statistics()["open_calls"] == 1
        return [piece async for piece in stream]

    asyncio.run(main())

    assert billed(events_of(default_meter)) == owed(provider)


@pytest.mark.parametrize("streams", [False, True], ids=["at once", "streamed"])
def test_a_task_that_is_cancelled(provider, meter, acme, events_of, streams):
    """A web server cancels the task of a client that has gone."""
    begun = asyncio.Event()

    async def ask():
        llm = CLIENTS["openai"](
            provider, "hang1", callback_manager=acme, additional_kwargs=ASKED, timeout=30
        )
        if not streams:
            asyncio.get_running_loop().call_later(0.3, begun.set)
            await llm.achat(ASK)
        async for _ in await llm.astream_chat(ASK):
            begun.set()

    async def main():
        task = asyncio.create_task(ask())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    data = one(events_of(meter))
    assert (data["status"], data["provenance"]) == (
        "aborted",
        "estimated" if streams else "missing",
    )


def test_a_workflow_that_is_cancelled(provider, default_meter, events_of):
    """`cancel_run` and a workflow's own time limit cancel the task of its step."""
    llm_metering.install()

    class Asks(Workflow):
        @step
        async def ask(self, event: StartEvent) -> StopEvent:
            llm = CLIENTS["openai"](provider, "hang1", additional_kwargs=ASKED)
            async for _ in await llm.astream_chat(ASK):
                begun.set()
            return StopEvent()

    async def main():
        with subject("acme"):
            handler = Asks(timeout=None).run()
        await begun.wait()
        await handler.cancel_run()
        with pytest.raises(WorkflowCancelledByUser):
            await handler

    begun = asyncio.Event()
    asyncio.run(main())
    gc.collect()

    data = one(events_of(default_meter))
    assert (data["status"], data["provenance"]) == ("aborted", "estimated")
    assert events_of(default_meter)[0].subject == "acme"


@pytest.mark.parametrize("name", ["openai", "ollama", "responses"])
def test_a_stream_that_was_never_asked_for_is_no_call(provider, meter, acme, events_of, name):
    """These integrations send their request at the first step; LlamaIndex tells of a start before."""
    llm = CLIENTS[name](provider, callback_manager=acme)

    stream = llm.stream_chat(ASK)
    assert meter.statistics()["open_calls"] == 1
    del stream
    gc.collect()

    assert events_of(meter) == []
    assert provider.entries == []
    assert meter.statistics()["ignored_signals"] == {"never_sent": 1}
    assert meter.statistics()["open_calls"] == 0


def test_a_stream_that_is_kept_and_never_ended_is_billed_at_the_end(provider, home, sink):
    """Nobody tells of it any more; the meter settles it as it closes."""
    meter = Meter(home=home, sinks=[sink])
    manager = CallbackManager([MeteringHandler("acme", meter=meter)])
    llm = CLIENTS["openai"](provider, callback_manager=manager, additional_kwargs=ASKED)
    stream = llm.stream_chat(ASK)
    next(stream)
    next(stream)

    meter.close()

    data = one(sink.events)
    assert (data["status"], data["flags"]) == ("aborted", ["open_at_exit"])
    stream.close()


@pytest.mark.parametrize(
    ("behaviour", "status", "provenance"),
    [
        pytest.param("die3", "failed", "estimated", id="connection lost"),
        pytest.param("errmid3", "failed", "estimated", id="error in the stream"),
        pytest.param("errusage+errmid3", "failed", "partial", id="error with usage"),
    ],
)
def test_a_stream_that_breaks(provider, meter, acme, events_of, behaviour, status, provenance):
    """What had come is billed; an error that carries a usage is believed."""
    llm = CLIENTS["openai"](provider, behaviour, callback_manager=acme, additional_kwargs=ASKED)

    with pytest.raises(Exception):  # noqa: B017, PT011  # whatever the SDK raises
        list(llm.stream_chat(ASK))

    data = one(events_of(meter))
    assert data["status"] == status
    assert data["provenance"] in (provenance, "reported")
    assert data["output_tokens"] >= 0


@pytest.mark.parametrize("streams", [False, True], ids=["at once", "streamed"])
@pytest.mark.parametrize("name", ["openai", "openai_like", "ollama"])
def test_a_refusal_costs_nothing(provider, meter, acme, events_of, name, streams):
    """It is counted, once, though `OpenAILike` drops two spans for it."""
    llm = CLIENTS[name](provider, "refuse429", callback_manager=acme)

    with pytest.raises(Exception, match="429"):
        list(llm.stream_chat(ASK)) if streams else llm.chat(ASK)

    assert events_of(meter) == []
    assert meter.statistics()["refused_calls"] == 1
    assert meter.statistics()["open_calls"] == 0


def test_a_connection_that_is_lost_before_an_answer(provider, meter, acme, events_of):
    """Whether it was paid for nobody can say: a failed event, nothing invented."""
    llm = CLIENTS["openai"](provider, callback_manager=acme, api_base="http://127.0.0.1:9/v1")

    with pytest.raises(Exception, match="Connection"):
        llm.chat(ASK)

    data = one(events_of(meter))
    assert (data["status"], data["provenance"]) == ("failed", "missing")


def test_a_retry_of_the_client_is_one_call(provider, meter, acme, events_of):
    """LlamaIndex tells of one start and one end; the first answer was a refusal."""
    llm = CLIENTS["openai"](provider, "429once", callback_manager=acme, max_retries=2)

    llm.chat(ASK)

    refused, answered = provider.entries
    assert (refused.input, refused.output) == (0, 0)
    assert billed(events_of(meter)) == {"acme": (1, answered.input, answered.output)}


class Raising(BaseCallbackHandler):
    """Somebody else's handler, at a budget or on a bad day: LlamaIndex lets it break the call."""

    def __init__(self):
        super().__init__([], [])

    def on_event_start(self, event_type, payload=None, event_id="", parent_id="", **kwargs):
        return event_id

    def on_event_end(self, event_type, payload=None, event_id="", **kwargs):
        if event_type.value == "llm":
            raise RuntimeError("over budget")

    def start_trace(self, trace_id=None):
        pass

    def end_trace(self, trace_id=None, trace_map=None):
        pass


@pytest.mark.parametrize("streams", [False, True], ids=["at once", "streamed"])
@pytest.mark.parametrize("first", [False, True], ids=["behind", "in front"])
def test_a_handler_of_the_callbacks_that_raises_hides_no_call(
    provider, meter, events_of, streams, first
):
    """The call was paid for, the application gets an error, and LlamaIndex tells of no end."""
    ours = MeteringHandler("acme", meter=meter)
    handlers = [Raising(), ours] if first else [ours, Raising()]
    llm = CLIENTS["openai"](
        provider, callback_manager=CallbackManager(handlers), additional_kwargs=ASKED
    )

    with pytest.raises(RuntimeError, match="over budget"):
        list(llm.stream_chat(ASK)) if streams else llm.chat(ASK)
    gc.collect()

    assert billed(events_of(meter)) == owed(provider)


def test_a_chat_without_a_piece_is_flagged(meter, acme, events_of):
    """Whether anything was generated nobody can say: the prompt is not counted either."""

    class Silent(MockLLM):
        @llm_chat_callback()
        def stream_chat(self, messages, **kwargs):
            def gen():
                yield from ()

            return gen()

    assert list(Silent(callback_manager=acme).stream_chat(ASK)) == []

    data = one(events_of(meter))
    assert (data["provenance"], data["flags"]) == ("missing", ["empty_stream"])


def test_a_completion_without_a_piece_is_a_call_all_the_same(meter, acme, events_of):
    """LlamaIndex fails over it and tells of no end: its event demands a response."""

    class Silent(MockLLM):
        @llm_completion_callback()
        def stream_complete(self, prompt_, formatted=False, **kwargs):
            def gen():
                yield from ()

            return gen()

    with pytest.raises(ValueError, match="LLMCompletionEndEvent"):
        list(Silent(callback_manager=acme).stream_complete("?"))
    gc.collect()

    data = one(events_of(meter))
    assert data["provenance"] == "missing"
    assert "input_tokens" not in data


def test_an_iterator_that_is_no_generator_is_a_call_as_well(meter, acme, events_of):
    """LlamaIndex takes it for an answer, and fails."""

    class Odd(MockLLM):
        @llm_completion_callback()
        def stream_complete(self, prompt_, formatted=False, **kwargs):
            return iter([CompletionResponse(text="Hi", delta="Hi")])

    with pytest.raises(ValueError, match="LLMCompletionEndEvent"):
        Odd(callback_manager=acme).stream_complete("?")

    assert one(events_of(meter))["provenance"] == "missing"
    assert meter.statistics()["open_calls"] == 0


def test_agents_stream_by_default_and_are_asked_for_their_usage(provider, home):
    """Without `stream_options` an agent of LlamaIndex is not metered at all, only estimated."""
    sink = MemorySink()
    meter = llm_metering.configure(home=home, sinks=[sink], request_stream_usage=True)
    llm_metering.install()
    try:

        def lookup(city: str) -> str:
            """Look a city up."""
            return f"{city} is large."

        async def main():
            agent = FunctionAgent(tools=[lookup], llm=CLIENTS["openai_like"](provider, "tools"))
            with subject("acme"):
                await agent.run(user_msg=prompt("acme"))

        asyncio.run(main())
        assert meter.flush()
        assert len(sink.events) == 2
        assert {event.subject for event in sink.events} == {"acme"}
        assert sum(event.data["input_tokens"] for event in sink.events) == provider.totals.input
    finally:
        llm_metering.uninstall()
        llm_metering.close()
