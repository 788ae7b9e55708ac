"""What the application asks a provider itself, near a metered call, is not that call's."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import suppress
from typing import Any
from uuid import uuid4

import openai
import pytest
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from llm_metering.langchain import MeteringHandler
from llm_metering.taps import call as tapped
from llm_metering.taps.body import Body
from tests.langchain.clients import CLIENTS

USAGE = {"input_tokens": 100, "output_tokens": 20, "total_tokens": 120}


@pytest.fixture
def handler(meter):
    return MeteringHandler("acme", meter=meter)


class Local(BaseChatModel):
    """A model that asks nobody over HTTP."""

    @property
    def _llm_type(self):
        return "local"

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        message = AIMessage("Hello there", usage_metadata=USAGE)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        for word in ("Hello", " there"):
            yield ChatGenerationChunk(message=AIMessageChunk(word))
        yield ChatGenerationChunk(message=AIMessageChunk("", usage_metadata=USAGE))


def ask(provider, **options):
    """Ask the provider without LangChain."""
    with openai.OpenAI(base_url=provider.openai_url, api_key="x") as client:
        client.chat.completions.create(
            model="gpt-x", messages=[{"role": "user", "content": "own"}], **options
        )


async def a_ask(provider):
    async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="x") as client:
        await client.chat.completions.create(
            model="gpt-x", messages=[{"role": "user", "content": "own"}]
        )


async def give_up(model, provider, config, prompt="Hello"):
    """Call a model, and leave it by a time limit once the provider was asked."""
    asked = len(provider.so_far)

    async def end():
        while len(provider.so_far) == asked:
            await asyncio.sleep(0.01)
        limit.reschedule(0)

    with suppress(TimeoutError):
        async with asyncio.timeout(20) as limit:
            watching = asyncio.create_task(end())
            await model.ainvoke(prompt, config)
    await watching


def in_its_task(provider):
    """Awaited by itself, in the task of the call."""
    return a_ask(provider)


async def in_another_task(provider):
    """Awaited in a task of its own, which copies the context."""
    await asyncio.create_task(a_ask(provider))


@pytest.mark.parametrize("ask_again", [in_its_task, in_another_task], ids=["task", "another-task"])
@pytest.mark.parametrize("client", ["openai", "anthropic"])
def test_after_a_call_that_was_given_up(client, ask_again, meter, handler, provider, events_of):
    """LangChain tells nothing of an `ainvoke` cut by a time limit; the next answer is another's."""
    model = CLIENTS[client](provider, model="gpt-x+slow3000")

    async def main():
        await give_up(model, provider, {"callbacks": [handler]})
        await ask_again(provider)

    asyncio.run(main())
    meter.calls.close()

    (event,) = events_of(meter)
    assert (event.data["status"], event.data["provenance"]) == ("aborted", "missing")
    assert "response_id" not in event.data


def test_after_a_call_that_followed_one_given_up(meter, handler, provider, events_of):
    """A call of LangChain's in between is billed for its own answer, and what comes then is nobody's."""
    config = {"callbacks": [handler]}

    async def main():
        await give_up(CLIENTS["openai"](provider, model="gpt-x+slow3000"), provider, config)
        await CLIENTS["openai"](provider).ainvoke("Hello [call:second]", config)
        await a_ask(provider)

    asyncio.run(main())
    meter.calls.close()

    second, first = events_of(meter)
    (entry,) = [each for each in provider.entries if each.call == "second"]
    assert (second.data["input_tokens"], second.data["output_tokens"]) == (
        entry.input,
        entry.output,
    )
    assert (first.data["status"], first.data["provenance"]) == ("aborted", "missing")


def test_between_the_chunks_of_a_model_that_asks_nobody(meter, handler, provider, events_of):
    """Of a stream that no tap sees: what comes after its first chunk is not its answer."""
    for number, _ in enumerate(Local().stream("Hello", {"callbacks": [handler]})):
        if number == 0:
            ask(provider)

    (event,) = events_of(meter)
    assert (event.data["input_tokens"], event.data["output_tokens"]) == (100, 20)
    assert "response_id" not in event.data


class Twice(Local):
    """A model that asks a provider for each of the two parts of its answer."""

    ask: Any

    def _stream(self, messages, stop=None, run_manager=None, **kwargs):
        for word in ("Hello", " there"):
            self.ask()
            yield ChatGenerationChunk(message=AIMessageChunk(word))


def test_an_answer_made_of_two(meter, handler, provider, events_of):
    """One that follows another may be a part of the call as well: neither is taken for the whole."""
    list(Twice(ask=lambda: ask(provider)).stream("Hello", {"callbacks": [handler]}))

    (event,) = events_of(meter)
    assert event.data["provenance"] == "estimated"
    assert "several_responses" in event.data["flags"]


def test_calls_that_share_a_run_id(meter, handler, provider, events_of):
    """Whose answer it was cannot be told; what comes after both is nobody's, and not kept."""
    config = {"callbacks": [handler], "run_id": uuid4()}
    model = CLIENTS["openai"](provider)
    streams = [model.stream("Hello", config) for _ in range(2)]
    for stream in streams:
        next(stream)
    for stream in streams:
        list(stream)

    current = tapped.current()
    assert current is None or current.is_over
    assert [event.data["flags"] for event in events_of(meter)] == [["run_id_reused"]] * 2


@pytest.mark.needs("v3_events")
def test_between_the_events_of_a_model_that_asks_nobody(meter, handler, provider, events_of):
    """A v3 stream tells of its text as events alone, which are its pieces as well."""
    for number, _ in enumerate(
        Local().stream_events("Hello", {"callbacks": [handler]}, version="v3")
    ):
        if number == 2:
            ask(provider)

    (event,) = events_of(meter)
    assert (event.data["input_tokens"], event.data["output_tokens"]) == (100, 20)
    assert "response_id" not in event.data


def test_nothing_is_kept_of_calls_given_up(meter, handler, provider):
    """A task that gives up call after call keeps none of their prompts once they are closed."""
    model = CLIENTS["openai"](provider, model="gpt-x+slow3000")
    prompts = []

    async def main():
        for number in range(3):
            prompt = HumanMessage(f"Hello {number}")
            prompts.append(weakref.ref(prompt))
            await give_up(model, provider, {"callbacks": [handler]}, [prompt])
            del prompt
        meter.calls.close()
        gc.collect()
        # The last error's traceback holds the last one.
        assert [prompt() for prompt in prompts[:-1]] == [None, None]

    asyncio.run(main())


@pytest.mark.parametrize("client", ["openai", "anthropic"])
def test_nothing_is_kept_of_an_answer(client, handler, provider):
    """A task that lives on after its call, as of a session does, holds nothing of what was read."""
    model = CLIENTS[client](provider)

    async def main():
        await model.ainvoke("Hello", {"callbacks": [handler]})
        gc.collect()
        assert not [each for each in gc.get_objects() if type(each) is Body]

    asyncio.run(main())
