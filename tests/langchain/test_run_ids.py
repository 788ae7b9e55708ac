"""What LangChain tells more than once, twice in two ways, or under one run id: each call is one event."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import openai
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult, Generation, LLMResult
from langchain_core.runnables import RunnableLambda
from typer.testing import CliRunner

from llm_metering.cli.app import app
from llm_metering.langchain import MeteringHandler

WAIT = 20.0
USAGE = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}


@pytest.fixture
def handler(meter):
    return MeteringHandler("acme", meter=meter)


@pytest.fixture
def model(chat, provider):
    """Make a model of the provider that behaves in a certain way."""

    def model(behaviour="", **overrides):
        return chat(base_url=provider.openai_url, model=f"gpt-x{behaviour}", **overrides)

    return model


def told(event):
    """How the call ended, where its counts come from, and what was odd."""
    return event.data["status"], event.data["provenance"], event.data.get("flags")


def totals(events):
    """Input and output of all events together."""
    names = ("input_tokens", "output_tokens")
    return tuple(sum(event.data[name] for event in events) for name in names)


class GuardrailError(Exception):
    """What an integration tells of by itself."""


class Guarded(BaseChatModel):
    """Tells the handlers of an error, as `ChatBedrock` does where a guardrail intervenes.

    langchain-aws 1.9.1, `llms/bedrock.py` and `chat_models/bedrock.py`: then the answer is returned
    as any other.
    """

    fails: bool = False

    @property
    def _llm_type(self):
        return "guarded"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        run_manager.on_llm_error(GuardrailError())
        if self.fails:
            # SageMaker's endpoints tell of it twice, before it is raised.
            run_manager.on_llm_error(GuardrailError())
            raise GuardrailError
        message = AIMessage("Sorry, I cannot", usage_metadata=USAGE)
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages, stop=None, run_manager=None, **kwargs):
        return await asyncio.to_thread(self._generate, messages, stop, run_manager.get_sync())


ways = pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda llm, config: llm.invoke("x", config), id="invoke"),
        pytest.param(lambda llm, config: asyncio.run(llm.ainvoke("x", config)), id="ainvoke"),
    ],
)


@ways
@pytest.mark.parametrize("handlers", [1, 2], ids=["one handler", "two handlers"])
def test_a_guardrail_that_intervenes_is_billed(call, handlers, meter, handler, events_of):
    """The error has no usage, the end that follows it has: one event, completed."""
    others = [MeteringHandler("acme", meter=meter) for _ in range(handlers - 1)]

    call(Guarded(), {"callbacks": [handler, *others]})

    (event,) = events_of(meter)
    assert told(event) == ("completed", "reported", None)
    assert totals([event]) == (100, 20)
    status = meter.statistics()
    assert (status["ignored_signals"], status["late_usage"]["calls"]) == ({}, 0)


@ways
def test_an_error_that_is_told_twice_is_one_failure(call, meter, handler, events_of):
    """The last one is LangChain's own, which settles the call at once."""
    with pytest.raises(GuardrailError):
        call(Guarded(fails=True), {"callbacks": [handler]})
    assert len(meter.calls) == 0

    (event,) = events_of(meter)
    assert told(event) == ("failed", "missing", None)


class TwoEnds(BaseLLM):
    """Tells the handlers of the end by itself, with the usage; then LangChain does, without.

    langchain-aws 1.9.1, `llms/bedrock.py`.
    """

    @property
    def _llm_type(self):
        return "two ends"

    def _generate(self, prompts, stop=None, run_manager=None, **kwargs):
        output = {"usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}}
        result = LLMResult(generations=[[Generation(text="a")]], llm_output=output)
        run_manager.on_llm_end(result)
        return LLMResult(generations=[[Generation(text="a")]])


def test_a_call_with_two_ends(meter, handler, events_of):
    """The first one has the usage; the second is counted, and changes nothing."""
    TwoEnds().invoke("x", {"callbacks": [handler]})

    (event,) = events_of(meter)
    assert told(event) == ("completed", "reported", None)
    assert totals([event]) == (100, 20)
    assert meter.statistics()["ignored_signals"] == {"completed": 1}


@pytest.mark.parametrize("streamed", [False, True], ids=["invoked", "streamed"])
def test_a_fixed_run_id_for_one_call_after_the_other(
    streamed, meter, handler, model, provider, events_of
):
    """LangChain passes it on as it is: two calls, one run id, two events."""
    config = {"callbacks": [handler], "run_id": uuid4()}
    for _ in range(3):
        if streamed:
            list(model().stream("x", dict(config)))
        else:
            model().invoke("x", dict(config))

    events = events_of(meter)
    assert [told(event) for event in events] == [("completed", "reported", None)] * 3
    assert {event.data["run_id"] for event in events} == {str(config["run_id"])}
    assert totals(events) == (provider.totals.input, provider.totals.output)


@pytest.mark.parametrize("way", ["threads", "tasks", "streams in threads", "streams in tasks"])
@pytest.mark.parametrize("twice", [False, True], ids=["told once", "told twice"])
def test_a_fixed_run_id_for_calls_at_the_same_time(
    twice, way, meter, handler, model, provider, events_of
):
    """However their ends are interleaved: an event each, and together what the provider sent."""
    config = {"callbacks": [handler] * (1 + twice), "run_id": uuid4()}
    llm = model("+slow5")
    count = 6

    async def one():
        if way == "tasks":
            await llm.ainvoke("x", dict(config))
        else:
            _ = [chunk async for chunk in llm.astream("x", dict(config))]

    async def main():
        await asyncio.gather(*(one() for _ in range(count)))

    def work(barrier):
        barrier.wait()
        if way == "threads":
            llm.invoke("x", dict(config))
        else:
            list(llm.stream("x", dict(config)))

    if "tasks" in way:
        asyncio.run(main())
    else:
        barrier = threading.Barrier(count, timeout=WAIT)
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(work, [barrier] * count))

    events = events_of(meter)
    assert [told(event)[:2] for event in events] == [("completed", "reported")] * count
    assert all(event.data.get("flags") in (None, ["run_id_reused"]) for event in events)
    assert len({event.id for event in events}) == count
    assert totals(events) == (provider.totals.input, provider.totals.output)
    status = meter.statistics()
    assert (status["ignored_signals"], status["late_usage"]["calls"]) == ({}, 0)


def test_a_batch_of_prompts_of_which_one_fails(meter, handler, model, provider, events_of):
    """Of one answered before it LangChain tells nobody: an event, of which nothing is known.

    The one behind it was never sent, and is none.
    """

    class Twice(type(model())):
        """Answers the first prompt, and fails at the second."""

        def _generate(self, messages, *args, **kwargs):
            if messages[0].content == "bad":
                raise GuardrailError
            return super()._generate(messages, *args, **kwargs)

    llm = Twice(**{**model().__dict__, "base_url": provider.openai_url, "api_key": "x"})
    prompts = [[HumanMessage(text)] for text in ("good", "bad", "never asked")]
    with pytest.raises(GuardrailError):
        llm.generate(prompts, callbacks=[handler])

    events = events_of(meter)
    assert [told(event) for event in events] == [
        ("failed", "missing", None),
        ("failed", "missing", ["sibling_failed"]),
    ]
    assert len(provider.entries) == 1


def test_a_batch_of_prompts_of_which_one_fails_asynchronously(
    meter, handler, model, provider, events_of
):
    """There the others are told of, after the error: they are whole."""

    async def main():
        prompts = [[HumanMessage(text)] for text in ("one", "two")]
        llm = model("+429once")
        with pytest.raises(openai.RateLimitError):
            await llm.agenerate(prompts, callbacks=[handler])

    asyncio.run(main())

    (event,) = events_of(meter)
    assert told(event) == ("completed", "reported", None)
    assert totals([event]) == (provider.totals.input, provider.totals.output)
    assert meter.statistics()["refused_calls"] == 1


class RudeAtTheEnd(BaseCallbackHandler):
    """A handler of somebody else's that keeps the end from ours."""

    raise_error = True
    run_inline = True

    def on_llm_end(self, response, **kwargs):
        raise GuardrailError


def test_an_end_that_another_handler_keeps_from_us(meter, handler, model, provider, events_of):
    """The chain around the call fails of it, and what the provider sent was seen."""
    chain = RunnableLambda(lambda text: text) | model()
    with pytest.raises(GuardrailError):
        chain.invoke("x", {"callbacks": [RudeAtTheEnd(), handler]})

    (event,) = events_of(meter)
    assert told(event) == ("aborted", "reported", ["left_behind"])
    assert totals([event]) == (provider.totals.input, provider.totals.output)


def test_a_call_that_outlives_its_chain_is_not_cut_by_a_flush(
    meter, handler, model, provider, events_of
):
    """It was left in the background, in a task that runs."""
    tasks = []

    async def main():
        async def ask_in_the_background(text):
            tasks.append(asyncio.create_task(model("+slow30").ainvoke(text)))
            async with asyncio.timeout(WAIT):
                while not len(meter.calls):
                    await asyncio.sleep(0)

        await RunnableLambda(ask_in_the_background).ainvoke("x", {"callbacks": [handler]})
        assert await meter.aflush()
        await tasks[0]

    asyncio.run(main())

    (event,) = events_of(meter)
    assert told(event) == ("completed", "reported", None)
    assert totals([event]) == (provider.totals.input, provider.totals.output)


def test_usage_that_comes_after_its_call_was_closed(
    meter, handler, model, provider, events_of, home
):
    """Of a thread that outlives its chain nobody knows: its call has its event, and its usage is listed."""
    threads = []
    closed = threading.Event()

    def hold(response):
        assert closed.wait(WAIT)

    def ask_in_the_background(text):
        ask = model(http_client=client).invoke
        context = contextvars.copy_context()
        threads.append(threading.Thread(target=context.run, args=(ask, text)))
        threads[0].start()
        provider.wait_until(lambda entries: any(entry.status for entry in entries))

    with httpx.Client(event_hooks={"response": [hold]}) as client:
        RunnableLambda(ask_in_the_background).invoke("x", {"callbacks": [handler]})
        assert meter.flush()
        closed.set()
        threads[0].join(WAIT)

    (event,) = events_of(meter)
    assert told(event) == ("aborted", "missing", ["left_behind"])
    entry = provider.entry
    counts = {"input_tokens": entry.input, "output_tokens": entry.output}
    assert meter.statistics()["late_usage"] == {"calls": 1, **counts}
    meter.close()
    shown = CliRunner().invoke(app, ["late", "--home", str(home), "--format", "json"])
    listed = json.loads(shown.stdout)
    assert listed["subjects"] == [{"subject": "acme", "calls": 1, **counts}]
    (call,) = listed["calls"]
    assert call.pop("time")
    assert call == {
        "id": event.id,
        "subject": "acme",
        "run_id": event.data["run_id"],
        "model": "gpt-x-2026-11",
        **counts,
    }
