"""`enforce=True`, where a model of one framework asks by one of the other: one call, reserved once."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from llama_index.core.llms import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    CustomLLM,
    LLMMetadata,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from pydantic import Field

import llm_metering
from llm_metering import BalanceExceeded, Meter, subject
from llm_metering.langchain import MeteringHandler as LangChainHandler
from llm_metering.limits import Limits
from tests.books import billed, owed
from tests.llamaindex.asking import messages
from tests.llamaindex.clients import CLIENTS
from tests.llamaindex.limiting import configured, is_clean

__all__ = ["configured"]

ASKED = "[subject:acme]"
ANSWER = 60


class OfLangChain(BaseChatModel):
    """A model of LangChain's that has one of LlamaIndex's answer."""

    inner: object

    @property
    def _llm_type(self):
        return "of-langchain"

    def _generate(self, asked, stop=None, run_manager=None, **kwargs):
        return _result(self.inner.chat(messages(asked[0].content)))

    async def _agenerate(self, asked, stop=None, run_manager=None, **kwargs):
        return _result(await self.inner.achat(messages(asked[0].content)))


def _result(answer):
    return ChatResult(generations=[ChatGeneration(message=AIMessage(answer.message.content))])


class OfLlamaIndex(CustomLLM):
    """A model of LlamaIndex's that has one of LangChain's answer."""

    inner: object = Field(exclude=True)

    @property
    def metadata(self):
        return LLMMetadata(model_name="of-llamaindex")

    @llm_chat_callback()
    def chat(self, asked, **kwargs):
        return _answer(self.inner.invoke(asked[0].content))

    @llm_chat_callback()
    async def achat(self, asked, **kwargs):
        return _answer(await self.inner.ainvoke(asked[0].content))

    @llm_completion_callback()
    def complete(self, prompt, formatted=False, **kwargs):
        return CompletionResponse(text=self.inner.invoke(prompt).content)

    @llm_completion_callback()
    def stream_complete(self, prompt, formatted=False, **kwargs):
        raise NotImplementedError


def _answer(answer):
    return ChatResponse(message=ChatMessage(content=answer.content, role="assistant"))


def of_langchain(provider):
    model = OfLangChain(inner=CLIENTS["openai"](provider))
    return lambda: model.invoke(ASKED), lambda: model.ainvoke(ASKED)


def of_llamaindex(provider):
    model = OfLlamaIndex(inner=CLIENTS["langchain"](provider)._llm)
    return lambda: model.chat(messages(ASKED)), lambda: model.achat(messages(ASKED))


@pytest.fixture(params=[of_langchain, of_llamaindex], ids=["langchain", "llamaindex"])
def ask(request, provider):
    """Asks once by the outer model; awaited, if it is told to."""

    def ask(*, awaited):
        at_once, later = request.param(provider)

        async def wait():
            return await later()

        with subject("acme"):
            return asyncio.run(wait()) if awaited else at_once()

    return ask


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def awaited(request):
    return request.param


@pytest.fixture
def holds(monkeypatch):
    """All that is reserved."""
    holds = []
    hold = Limits.hold
    monkeypatch.setattr(
        Limits, "hold", lambda self, asked: holds.append(asked) or hold(self, asked)
    )
    return holds


@pytest.fixture
def limited(configured):
    meter = configured(reserved_output_tokens=ANSWER)
    llm_metering.install(enforce=True)
    return meter


def test_what_covers_one_call_covers_it(ask, awaited, provider, limited, holds, events_of):
    limited.grant("acme", 2 * ANSWER - 1)

    ask(awaited=awaited)

    assert billed(events_of(limited)) == owed(provider)
    assert [hold.subject for hold in holds] == ["acme"]
    assert limited.balance("acme").used == sum(
        each.input + each.output for each in provider.entries
    )
    is_clean(limited, refused=0)


def test_what_does_not_cover_it_reaches_nobody(ask, awaited, provider, limited, events_of):
    limited.grant("acme", 1)

    with pytest.raises(BalanceExceeded):
        ask(awaited=awaited)

    assert provider.entries == []
    assert events_of(limited) == []
    is_clean(limited, refused=1)


@pytest.fixture(params=["refused by its balance", "refused by another handler", "interrupted"])
def unmade(request, provider, limited, monkeypatch, tmp_path):
    """Fails to make a call of LangChain's for globex, in this context."""
    model = CLIENTS["langchain"](provider)._llm
    config = {"metadata": {"subject": "globex"}}
    another = Meter(tmp_path / "another", (), limits="on")
    if request.param != "refused by its balance":
        limited.grant("globex", 10**6)
    if request.param == "refused by another handler":
        config["callbacks"] = [LangChainHandler(meter=another, enforce=True)]

    def interrupted(hold):
        raise KeyboardInterrupt

    def unmade():
        with monkeypatch.context() as patch:
            if request.param == "interrupted":
                patch.setattr(limited.limits.store, "reserve", interrupted)
            with pytest.raises((BalanceExceeded, KeyboardInterrupt)):
                model.invoke(ASKED, config=config)

    yield unmade
    another.close()


def test_a_call_that_is_not_made_is_around_no_other(unmade, provider, limited, events_of):
    """What comes next in its context is paid by whom it says."""
    limited.grant("acme", 10**6)
    unmade()
    assert provider.entries == []

    with subject("acme"):
        CLIENTS["openai"](provider).chat(messages(ASKED))

    assert billed(events_of(limited)) == owed(provider)


def test_one_that_somebody_else_pays_for_is_reserved_for_him(provider, limited, holds):
    """What covers the outer call is no cover for another payer's."""
    limited.grant("acme", 10**6)
    inner = CLIENTS["langchain"](provider)._llm

    class ForAnother(OfLlamaIndex):
        @llm_chat_callback()
        def chat(self, asked, **kwargs):
            with subject("globex"):
                config = {"metadata": {"subject": "globex"}}
                return _answer(self.inner.invoke(asked[0].content, config=config))

    with subject("acme"), pytest.raises(BalanceExceeded, match="globex"):
        ForAnother(inner=inner).chat(messages(ASKED))

    assert provider.entries == []
    assert [hold.subject for hold in holds] == ["acme"]
    is_clean(limited, refused=1)
