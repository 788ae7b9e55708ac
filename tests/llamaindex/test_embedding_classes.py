"""Classes of embeddings: made later, around one another, of pictures, sparse; each request once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import httpx
import pytest
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.base.embeddings.base_sparse import BaseSparseEmbedding
from llama_index.core.callbacks import CallbackManager
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index_instrumentation import get_dispatcher

import llm_metering
from llm_metering import Meter, subject
from llm_metering.errors import MissingSubjectError
from llm_metering.llamaindex import MeteringHandler, bind
from tests.books import billed, owed
from tests.llamaindex.embedders import (
    WAYS,
    HttpEmbedding,
    LocalEmbedding,
    every_way,
    http,
    several,
)

TEXTS = several(5)


def manager(*handlers):
    return CallbackManager(list(handlers))


@pytest.fixture
def installed(default_meter):
    """Every call is metered."""
    llm_metering.install()
    return default_meter


def test_a_dispatcher_that_does_not_propagate_hides_nothing(provider, installed, events_of):
    """A user may cut a dispatcher off from the root, where our handlers are."""
    dispatcher = get_dispatcher("llama_index.core.base.embeddings.base")
    dispatcher.propagate = False
    try:
        with subject("acme"):
            http(provider).get_text_embedding_batch(TEXTS)
    finally:
        dispatcher.propagate = True

    assert billed(events_of(installed)) == owed(provider)
    assert len(provider.entries) == 1


def test_a_class_made_later_is_metered(provider, installed, events_of):
    """A class of the user's own, below another one that asks."""

    class Shouting(HttpEmbedding):
        def _get_text_embeddings(self, texts):
            return super()._get_text_embeddings([text.upper() for text in texts])

        async def _aget_text_embeddings(self, texts):
            return await super()._aget_text_embeddings([text.upper() for text in texts])

    embedding = Shouting(model_name="embed-x", url=provider.url)
    with subject("acme"):
        for way in WAYS.values():
            way(embedding, TEXTS)

    events = events_of(installed)
    assert len(events) == len(provider.entries) == len(WAYS)
    assert sum(event.data["input_tokens"] for event in events) == provider.totals.input


def test_a_class_of_its_own_that_is_made_later_is_metered(meter, events_of):
    """All that were there were watched when the handler was made; this one is as it is made."""
    handler = MeteringHandler("acme", meter=meter)

    class Late(BaseEmbedding):
        def _get_text_embedding(self, text):
            return [1.0]

        def _get_query_embedding(self, query):
            return [1.0]

        async def _aget_query_embedding(self, query):
            return [1.0]

        async def _aget_text_embeddings(self, texts):
            return [[1.0]] * len(texts)

    for way in WAYS.values():
        way(Late(callback_manager=manager(handler)), ["a text"])

    assert len(events_of(meter)) == len(WAYS)
    assert not hasattr(Late._get_text_embedding.__wrapped__, "__llm_metering_watched__")


def test_methods_are_watched_once():
    """A class that is below two others is come upon twice."""
    method = vars(Pictures)["_get_image_embedding"]

    assert hasattr(method, "__llm_metering_watched__")
    assert not hasattr(method.__wrapped__, "__llm_metering_watched__")


class Direct(HttpEmbedding):
    """Asks in the methods that LlamaIndex itself has, past its cache, its batches and its events."""

    def get_text_embedding(self, text):
        return self._embed([text])[0]

    def get_text_embedding_batch(self, texts, show_progress=False, **kwargs):
        if self.each:
            return super().get_text_embedding_batch(texts, show_progress, **kwargs)
        return self._embed(texts)


@pytest.mark.parametrize("way", ["text", "batch"])
@pytest.mark.parametrize("goes_on", [False, True], ids=["itself", "by another"])
def test_a_method_that_is_llamaindexs_own(provider, installed, events_of, way, goes_on):
    """Its answers are seen; where it has LlamaIndex's own method ask, that is the one call."""
    embedding = Direct(model_name="embed-x", url=provider.url, each=goes_on)

    with subject("acme"):
        WAYS[way](embedding, TEXTS)

    assert billed(events_of(installed)) == owed(provider) != {}


def test_a_method_around_a_cache_asks_nobody(provider, installed, events_of):
    """It is LlamaIndex's own, or goes on to it, and what the cache answers is not told."""
    cache = SimpleKVStore()
    cache.put(TEXTS[0], {"x": [1.0]}, collection="embeddings")

    class Around(HttpEmbedding):
        def get_text_embedding(self, text):
            return super().get_text_embedding(text)

    embedding = Around(model_name="embed-x", url=provider.url, embeddings_cache=cache)
    with subject("acme"):
        assert embedding.get_text_embedding(TEXTS[0]) == [1.0]

    assert (provider.entries, events_of(installed)) == ([], [])


class Adapted(LocalEmbedding):
    """An adapter around another embedding, as llama-index-embeddings-adapter has one."""

    inner: HttpEmbedding

    def _get_text_embedding(self, text):
        return self.inner._get_text_embedding(text)

    async def _aget_query_embedding(self, query):
        return await self.inner._aget_query_embedding(query)


@every_way
def test_an_embedding_inside_of_another_is_one_event(provider, installed, events_of, way):
    """Whoever asks the provider counts, not what is around it."""
    adapted = Adapted(model_name="adapter", inner=http(provider))
    with subject("acme"):
        WAYS[way](adapted, TEXTS)

    assert billed(events_of(installed)) == owed(provider)


def test_the_handler_of_the_outer_one_holds(provider, meter, events_of):
    """What is inside has none of its own."""
    handler = MeteringHandler("acme", meter=meter)
    adapted = Adapted(inner=http(provider), callback_manager=manager(handler))

    adapted.get_text_embedding(TEXTS[0])

    assert billed(events_of(meter)) == owed(provider)


def test_what_is_refused_inside_was_not_asked_by_the_outer_one(
    provider, installed, events_of, tmp_path
):
    """The inner one has a meter of its own, which refuses what nobody pays for."""
    home = tmp_path / "other"
    home.mkdir(mode=0o700)
    with Meter(home=home, sinks=[], on_missing_subject="raise") as other:
        inner = bind(http(provider), meter=other)
        with pytest.raises(MissingSubjectError):
            Adapted(inner=inner).get_text_embedding(TEXTS[0])

    assert (provider.entries, events_of(installed)) == ([], [])
    assert installed.statistics()["open_calls"] == 0


class Pictures(MultiModalEmbedding, LocalEmbedding):
    """Embeds pictures as well; for these LlamaIndex has the older callbacks alone."""

    url: str = ""

    def _get_image_embedding(self, img_file_path):
        answer = httpx.post(
            f"{self.url}/v2/embed", json={"model": "embed-x", "texts": [], "images": ["x"]}
        )
        return answer.json()["embeddings"]["float"]

    async def _aget_image_embedding(self, img_file_path):
        return self._get_image_embedding(img_file_path)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_pictures_are_metered(provider, meter, events_of, is_async):
    """No event of the instrumentation tells of them."""
    embedding = bind(Pictures(url=provider.url), "acme", meter=meter)

    if is_async:
        asyncio.run(embedding.aget_image_embedding_batch(["a.png", "b.png"]))
    else:
        embedding.get_image_embedding_batch(["a.png", "b.png"])

    events = events_of(meter)
    assert len(events) == 2
    assert [event.data["provenance"] for event in events] == ["reported"] * 2
    assert sum(event.data["input_tokens"] for event in events) == provider.totals.input


class LocalPictures(Pictures):
    """Asks nobody, so that there is nothing to count."""

    def _get_image_embedding(self, img_file_path):
        return [1.0]


def test_a_picture_is_not_counted_as_its_path(meter, events_of):
    """What it is worth nobody says: the event has no counts."""
    bind(LocalPictures(), "acme", meter=meter).get_image_embedding("a.png")

    (event,) = events_of(meter)
    assert event.data["provenance"] == "missing"


class Sparse(BaseSparseEmbedding):
    """A sparse embedding that asks a provider."""

    url: str = ""

    def _get_text_embedding(self, text):
        if self.url:
            httpx.post(f"{self.url}/v1/embeddings", json={"model": "embed-x", "input": [text]})
        return {1: 0.5}

    def _get_query_embedding(self, query):
        return self._get_text_embedding(query)

    async def _aget_text_embedding(self, text):
        return self._get_text_embedding(text)

    async def _aget_query_embedding(self, query):
        return self._get_text_embedding(query)


@every_way
def test_sparse_embeddings_are_embeddings(provider, meter, events_of, way):
    """A weight for each token, or a number for each dimension: what is sent and billed is the same."""
    sparse = bind(Sparse(url=provider.url), "acme", meter=meter)

    WAYS[way](sparse, TEXTS)

    assert billed(events_of(meter)) == owed(provider) != {}


def test_a_local_sparse_embedding_is_estimated(meter, events_of):
    """As any other on this machine."""
    bind(Sparse(), "acme", meter=meter).get_text_embedding(TEXTS[0])

    (event,) = events_of(meter)
    assert (event.data["provenance"], event.data["operation"]) == ("estimated", "embeddings")


FIRST = """
import asyncio, sys
import llm_metering

llm_metering.install("acme")
assert "llama_index.core" not in sys.modules

from llama_index.core.schema import NodeWithScore, TextNode
from tests.llamaindex.embedders import HttpEmbedding
from tests.llamaindex.test_rerankers import HttpRerank

way, url = sys.argv[1:]
embedding, reranker = HttpEmbedding(model_name="embed-x", url=url), HttpRerank(url=url)
nodes = [NodeWithScore(node=TextNode(text="[subject:acme]"))]
ways = {
    "protected": lambda: embedding._get_text_embedding("[subject:acme]"),
    "async": lambda: asyncio.run(embedding._aget_query_embedding("[subject:acme]")),
    "public": lambda: embedding.get_text_embedding("[subject:acme]"),
    "reranker": lambda: reranker.postprocess_nodes(nodes, query_str="?"),
}
ways[way]()
ways[way]()
meter = llm_metering.get_meter()
print(meter.statistics()["recorded"], meter.statistics()["open_calls"])
llm_metering.close()
"""


@pytest.mark.parametrize("way", ["protected", "async", "public", "reranker"])
def test_the_first_call_of_a_process_is_metered(provider, home, way):
    """`install()` waits for LlamaIndex to be imported and used: the first call is begun by then."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIRST, way, provider.url],
        env={**os.environ, "LLM_METERING_HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.stdout.split() == ["2", "0"], run.stderr
    assert len(provider.entries) == 2
