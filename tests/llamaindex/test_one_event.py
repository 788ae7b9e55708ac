"""One call of a provider is one event, however many of its methods LlamaIndex calls for it."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from llama_index.core.base.llms.types import CompletionResponse
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import MockLLM
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

import llm_metering
from llm_metering import subject
from llm_metering.langchain import MeteringHandler as LangChainHandler
from llm_metering.llamaindex import MeteringHandler, advice, bind
from tests.books import billed, owed, prompt
from tests.llamaindex.asking import WAYS, messages
from tests.llamaindex.clients import CLIENTS
from tests.llamaindex.custom import HttpLLM

ASK = PromptTemplate("{who}")


class Usage(BaseModel):
    """A field of the user's own, named and filled as providers do."""

    prompt_tokens: int = 7
    completion_tokens: int = 7
    total_tokens: int = 14


class Invoice(BaseModel):
    """What a user asks a model for: it has a `usage`, and an `id`."""

    id: str = "chatcmpl-user"
    model: str = "gpt-4o"
    usage: Usage = Usage()
    choices: list[str] = []


@pytest.fixture
def installed(default_meter):
    """Every call is metered."""
    llm_metering.install()
    return default_meter


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["ollama", "custom", "openai_like", "mistral", "converse"])
def test_methods_inside_of_methods_are_one_call(provider, meter, events_of, name, way):
    """`Ollama.complete` calls its own `chat`, a `CustomLLM`'s `achat` three of its methods.

    LlamaIndex tells of an end of each; `OpenAILike` has two spans for one call.
    """
    handler = MeteringHandler("acme", meter=meter)
    options = {"additional_kwargs": ASKED} if name == "openai_like" else {}
    llm = CLIENTS[name](provider, callback_manager=CallbackManager([handler]), **options)

    WAYS[way](llm, prompt("acme"))

    assert billed(events_of(meter)) == owed(provider)
    assert len(events_of(meter)) == 1
    assert meter.statistics()["open_calls"] == 0


ASKED = {"stream_options": {"include_usage": True}}


@pytest.mark.parametrize("way", ["chat", "achat", "complete", "stream_chat", "astream_chat"])
def test_a_structured_model_is_the_model_inside(provider, installed, events_of, way):
    """Its `raw` is the user's own object: a `usage` in that is none, nor its `id` a response's."""
    llm = CLIENTS["openai"](provider, "tools", additional_kwargs=ASKED).as_structured_llm(Invoice)

    with subject("acme"):
        WAYS[way](llm, prompt("acme"))

    assert billed(events_of(installed)) == owed(provider)
    assert {event.data["response_id"] for event in events_of(installed)}.isdisjoint(
        {"chatcmpl-user"}
    )


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_structured_predict_is_the_call_it_makes(provider, installed, events_of, is_async):
    """The wrapper tells of a start and an end of its own, and asks nobody."""
    llm = CLIENTS["openai"](provider, "tools")

    for _ in range(2):  # what is learnt of the first call holds for the second
        with subject("acme"):
            if is_async:
                asyncio.run(llm.astructured_predict(Invoice, ASK, who=prompt("acme")))
            else:
                llm.structured_predict(Invoice, ASK, who=prompt("acme"))

    assert billed(events_of(installed)) == owed(provider)
    assert len(events_of(installed)) == 2
    assert installed.statistics()["open_calls"] == 0


class Routing(HttpLLM):
    """Asks a small model where to go, and then a provider by itself."""

    small: object

    @llm_completion_callback()
    def complete(self, prompt_: str, formatted: bool = False, **kwargs) -> CompletionResponse:
        """Two calls."""
        self.small.chat(messages(prompt_))
        answer = httpx.post(
            f"{self.url}/chat/completions", json=self._body(prompt_), trust_env=False
        ).json()
        return CompletionResponse(text=answer["choices"][0]["message"]["content"], raw=answer)


def test_a_model_that_asks_by_itself_as_well_is_two_calls(provider, installed, events_of):
    """The usage in its answer is another one than that of the model it asked."""
    llm = Routing(url=provider.openai_url, model="gpt-x", small=CLIENTS["openai"](provider))

    with subject("acme"):
        llm.complete(prompt("acme"))

    assert billed(events_of(installed)) == owed(provider)
    assert len(events_of(installed)) == 2


class Passing(HttpLLM):
    """Hands on what another model answered, in an object of its own."""

    inner: object
    copies: bool

    @llm_completion_callback()
    def complete(self, prompt_: str, formatted: bool = False, **kwargs) -> CompletionResponse:
        """One call."""
        raw = self.inner.complete(prompt_).raw
        return CompletionResponse(text="…", raw=dict(raw) if self.copies else raw)


@pytest.mark.parametrize("copies", [False, True], ids=["the same object", "a copy"])
def test_a_model_that_hands_on_an_answer_is_the_one_inside(provider, installed, events_of, copies):
    """Its usage is that of the call inside, told a second time."""
    inner = CLIENTS["custom"](provider)
    llm = Passing(url="", model="gpt-x", inner=inner, copies=copies)

    with subject("acme"):
        llm.complete(prompt("acme"))

    assert billed(events_of(installed)) == owed(provider)


class Voting(HttpLLM):
    """Asks another model three times, and tells of what all of them have cost."""

    inner: object

    @llm_completion_callback()
    def complete(self, prompt_: str, formatted: bool = False, **kwargs) -> CompletionResponse:
        """Three calls."""
        usages = [self.inner.complete(prompt_).raw["usage"] for _ in range(3)]
        names = ("prompt_tokens", "completion_tokens", "total_tokens")
        usage = {name: sum(each[name] for each in usages) for name in names}
        return CompletionResponse(text="…", raw={"usage": usage})


def test_a_model_that_tells_of_a_sum_is_the_calls_inside(provider, installed, events_of):
    """It asked nobody else: its usage is theirs, told a second time."""
    llm = Voting(url="", model="gpt-x", inner=CLIENTS["custom"](provider))

    with subject("acme"):
        llm.complete(prompt("acme"))

    assert billed(events_of(installed)) == owed(provider)
    assert len(events_of(installed)) == 3


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_stream_of_streams_that_is_left_is_one_call(provider, installed, events_of, is_async):
    """The outermost is told of it first, and knows the usage so far that the inner one has handed on."""
    llm = CLIENTS["custom"](provider, "cumulative+slow")

    async def leave():
        stream = await llm.astream_chat(messages("?"))
        for _ in range(3):
            await anext(stream)
        await stream.aclose()

    if is_async:
        asyncio.run(leave())
    else:
        stream = llm.stream_chat(messages("?"))
        for _ in range(3):
            next(stream)
        stream.close()
        del stream
    gc.collect()

    (event,) = events_of(installed)
    assert (event.data["status"], event.data["provenance"]) == ("aborted", "partial")


def test_a_cached_answer_that_is_used_again_is_what_it_is(installed, events_of):
    """Two calls one after another are two, though they hand on one and the same object."""
    raw = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}}],
        "usage": {"prompt_tokens": 8, "completion_tokens": 1, "total_tokens": 9},
    }

    class Reusing(MockLLM):
        @llm_completion_callback()
        def complete(self, prompt_, formatted=False, **kwargs):
            return CompletionResponse(text="Hi", raw=raw)

    for _ in range(2):
        Reusing().complete("?")

    assert [event.data["input_tokens"] for event in events_of(installed)] == [8, 8]
    assert "repeated_answer" in events_of(installed)[1].data["flags"]


def test_a_model_asked_in_a_bare_thread_is_flagged_where_its_answer_is_handed_on(
    provider, installed, events_of
):
    """A thread that copies no context knows nothing of the call around it: two events, and a sign."""
    inner = bind(CLIENTS["custom"](provider), "acme")

    class Delegating(HttpLLM):
        @llm_completion_callback()
        def complete(self, prompt_, formatted=False, **kwargs):
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(inner.complete, prompt_).result()

    with subject("acme"):
        Delegating(url="", model="gpt-x").complete(prompt("acme"))

    first, second = events_of(installed)
    assert billed([first]) == owed(provider)
    assert second.data["flags"] == ["repeated_answer"]


@pytest.mark.parametrize("way", ["chat", "stream_chat", "complete"])
@pytest.mark.parametrize(
    "metered", ["llamaindex", "langchain", "both", "global", "global and llamaindex"]
)
def test_a_langchain_model_inside_is_one_event(provider, default_meter, events_of, way, metered):
    """LlamaIndex's wrapper has no usage; LangChain's call has, and is for whoever pays outside."""
    if "global" in metered:
        llm_metering.install()
    own = "llamaindex" in metered or metered == "both"
    handlers = [MeteringHandler("acme")] if own else []
    llm = CLIENTS["langchain"](provider, callback_manager=CallbackManager(handlers))
    if metered in ("langchain", "both"):
        llm._llm.callbacks = [LangChainHandler("acme")]

    with subject("acme"):
        WAYS[way](llm, prompt("acme"))

    assert billed(events_of(default_meter)) == owed(provider)


@pytest.mark.parametrize("is_global", [False, True], ids=["handler", "install"])
def test_a_llamaindex_model_inside_of_langchain_is_one_event(
    provider, default_meter, events_of, is_global
):
    """The model of LangChain's that only hands on is left out, and its handler's subject pays."""
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage
    from langchain_core.outputs import ChatGeneration, ChatResult

    inner = CLIENTS["openai"](provider)

    class Handing(BaseChatModel):
        @property
        def _llm_type(self):
            return "handing"

        def _generate(self, asked, stop=None, run_manager=None, **kwargs):
            answer = inner.chat(messages(asked[0].content))
            message = AIMessage(answer.message.content)
            return ChatResult(generations=[ChatGeneration(message=message)])

    if is_global:
        llm_metering.install()

    Handing().invoke(prompt("acme"), config={"callbacks": [LangChainHandler("acme")]})

    assert billed(events_of(default_meter)) == owed(provider)


def test_litellm_that_reports_by_itself_is_warned_of(provider, installed, caplog, monkeypatch):
    """Its OpenMeter callback would bill each call a second time, under an id of its own."""
    monkeypatch.setattr(advice, "_said", set())
    monkeypatch.setitem(
        sys.modules, "litellm", types.SimpleNamespace(success_callback=["openmeter"])
    )

    class LiteLLM(MockLLM):
        pass

    LiteLLM.__module__ = "llama_index.llms.litellm.base"
    with caplog.at_level(logging.WARNING, "llm_metering"):
        LiteLLM().complete("?")
        LiteLLM().complete("?")

    said = [each.message for each in caplog.records if "OpenMeter" in each.message]
    assert len(said) == 1
    assert 'Take "openmeter" out of litellm.success_callback' in said[0]
