"""Embeddings of one framework inside of the other's: one request is one event, of whoever asks."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.embeddings import Embeddings
from langchain_openai import OpenAIEmbeddings
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.callbacks import CallbackManager

import llm_metering
from llm_metering import subject
from llm_metering.langchain import metered_embeddings
from llm_metering.llamaindex import MeteringHandler
from tests.books import billed, owed
from tests.llamaindex.embedders import EMBEDDERS, WAYS, LocalEmbedding, several

TEXTS = several(3)
every_way = pytest.mark.parametrize("way", WAYS)


class LangChains(BaseEmbedding):
    """Hands on to LangChain, as llama-index-embeddings-langchain 0.6.0 does (`base.py`)."""

    inner: Embeddings

    def _get_query_embedding(self, query):
        return self.inner.embed_query(query)

    async def _aget_query_embedding(self, query):
        return await self.inner.aembed_query(query)

    def _get_text_embedding(self, text):
        return self.inner.embed_documents([text])[0]

    async def _aget_text_embedding(self, text):
        return (await self.inner.aembed_documents([text]))[0]

    def _get_text_embeddings(self, texts):
        return self.inner.embed_documents(texts)


class LlamaIndexs(Embeddings):
    """The reverse: LangChain's interface to an embedding of LlamaIndex."""

    def __init__(self, inner):
        self.inner = inner

    def embed_documents(self, texts):
        return self.inner.get_text_embedding_batch(texts)

    def embed_query(self, text):
        return self.inner.get_query_embedding(text)

    async def aembed_documents(self, texts):
        return await self.inner.aget_text_embedding_batch(texts)


def openai(provider):
    return OpenAIEmbeddings(
        model="embed-x",
        api_key="x",
        base_url=provider.openai_url,
        check_embedding_ctx_length=False,
        chunk_size=2,
        default_headers={"Connection": "close"},
    )


@pytest.fixture
def installed(default_meter):
    """Every call is metered."""
    llm_metering.install()
    return default_meter


@every_way
def test_langchains_inside_is_exact(provider, installed, events_of, way):
    """Nothing of LangChain's is metered, which cuts the texts up: each request is an event."""
    with subject("acme"):
        WAYS[way](LangChains(inner=openai(provider)), TEXTS)

    assert billed(events_of(installed)) == owed(provider) != {}


@every_way
def test_metered_langchains_inside_is_the_event(provider, installed, events_of, way):
    """It is metered by itself, and says so: LlamaIndex's call around it is none."""
    metered = metered_embeddings(openai(provider), feature="search")
    with subject("acme"):
        WAYS[way](LangChains(inner=metered), TEXTS)

    events = events_of(installed)
    assert billed(events) == owed(provider) != {}
    assert {(event.data["framework"], event.data["feature"]) for event in events} == {
        ("langchain", "search")
    }
    assert installed.statistics()["open_calls"] == 0


def test_the_handler_around_pays(provider, home, sink, events_of):
    """LangChain's has no subject of its own, and would else be refused."""
    meter = llm_metering.configure(home=home, sinks=[sink], on_missing_subject="raise")
    try:
        handler = CallbackManager([MeteringHandler("acme")])
        metered = metered_embeddings(openai(provider))
        LangChains(inner=metered, callback_manager=handler).get_text_embedding(TEXTS[0])
        assert billed(events_of(meter)) == owed(provider)
    finally:
        llm_metering.close()


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", ["openai", "local"])
def test_llamaindexs_inside_is_the_event(provider, installed, events_of, name, is_async):
    """Two layers of ours, one call, for whom the outer one is billed."""
    local = LocalEmbedding(model_name="local-x")
    inner = local if name == "local" else EMBEDDERS[name](provider)
    metered = metered_embeddings(LlamaIndexs(inner), "acme")

    if is_async:
        asyncio.run(metered.aembed_documents(TEXTS[:1]))
    else:
        metered.embed_documents(TEXTS[:1])

    (event,) = events_of(installed)
    assert (event.subject, event.data["framework"]) == ("acme", "llamaindex")
    if name == "openai":
        assert billed([event]) == owed(provider)
