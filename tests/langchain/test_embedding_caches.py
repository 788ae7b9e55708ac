"""`metered_embeddings` and what stands around other embeddings: what a cache answers costs nothing."""

from __future__ import annotations

import asyncio

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.stores import InMemoryByteStore

from llm_metering.langchain import metered_embeddings
from llm_metering.langchain.embeddings import MeteredEmbeddings

try:
    from langchain.embeddings.cache import CacheBackedEmbeddings
except ImportError:  # since langchain 1.0 it has a package of its own
    cache = pytest.importorskip("langchain_classic.embeddings.cache")
    CacheBackedEmbeddings = cache.CacheBackedEmbeddings

TEXTS = ["one", "two and a bit", "three"]


def cached(embeddings):
    return CacheBackedEmbeddings.from_bytes_store(
        embeddings, InMemoryByteStore(), key_encoder="sha256", query_embedding_cache=True
    )


def inside(embeddings, meter):
    return cached(metered_embeddings(embeddings, "acme", meter=meter))


def outside(embeddings, meter):
    return metered_embeddings(cached(embeddings), "acme", meter=meter)


def both(embeddings, meter):
    return metered_embeddings(
        cached(metered_embeddings(embeddings, "inner", meter=meter)), "acme", meter=meter
    )


@pytest.mark.parametrize("place", [inside, outside, both], ids=lambda place: place.__name__)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_what_the_cache_answers_makes_no_event(place, is_async, meter, events_of):
    """Wherever the meter is put, it stands behind the cache: only what was asked for is billed."""
    embeddings = place(DeterministicFakeEmbedding(size=4), meter)

    def ask(texts):
        if is_async:
            return asyncio.run(embeddings.aembed_documents(texts))
        return embeddings.embed_documents(texts)

    first = ask(TEXTS[:2])
    assert ask(TEXTS[:2]) == first
    (event,) = events_of(meter)
    ask(TEXTS)
    assert embeddings.embed_query("q") == embeddings.embed_query("q")

    events = events_of(meter)
    assert [event.subject for event in events] == ["acme"] * 3
    assert events[0] == event
    assert events[1].data["input_tokens"] < event.data["input_tokens"]


def test_a_cache_stays_a_cache(meter):
    """What is metered behind is a cache as before, on the same store; the user's stays unmetered."""
    users = cached(DeterministicFakeEmbedding(size=4))

    metered = metered_embeddings(users, "acme", meter=meter)

    assert isinstance(metered, CacheBackedEmbeddings)
    assert isinstance(metered, Embeddings)
    assert metered.document_embedding_store is users.document_embedding_store
    assert isinstance(metered.underlying_embeddings, MeteredEmbeddings)
    assert isinstance(users.underlying_embeddings, DeterministicFakeEmbedding)
