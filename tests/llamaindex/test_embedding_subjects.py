"""Who pays for embeddings of LlamaIndex: frozen where the call was begun."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.callbacks import CallbackManager
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.instrumentation.dispatcher import instrument_tags
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index_instrumentation import DispatcherSpanMixin, get_dispatcher

import llm_metering
from llm_metering import Meter, subject
from llm_metering.errors import MissingSubjectError
from llm_metering.llamaindex import MeteringHandler, bind
from llm_metering.sinks.memory import MemorySink
from tests.books import billed, owed
from tests.llamaindex.embedders import (
    WAYS,
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


@pytest.fixture
def strict(home, sink):
    """Every call is metered, and what nobody pays for is refused."""
    meter = llm_metering.configure(home=home, sinks=[sink], on_missing_subject="raise")
    llm_metering.install()
    yield meter
    llm_metering.uninstall()
    llm_metering.close()


def test_who_pays_is_settled_when_the_call_begins(provider, installed, events_of):
    """Batches are asked for in tasks of their own, which have copied the context."""
    embedding = http(provider, embed_batch_size=1, num_workers=3)

    async def one(name):
        with subject(name):
            await embedding.aget_text_embedding_batch(several(4, name))

    async def main():
        await asyncio.gather(*(one(f"customer-{number}") for number in range(12)))

    asyncio.run(main())

    assert billed(events_of(installed)) == owed(provider)
    assert len(provider.entries) == 48


def test_many_threads(provider, installed, events_of):
    """One object for all customers, each in a thread of its own."""
    embedding = http(provider, embed_batch_size=2)

    def one(name):
        with subject(name):
            embedding.get_text_embedding_batch(several(3, name))
            embedding.get_query_embedding(several(1, name)[0])

    names = [f"customer-{number}" for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, names))

    assert billed(events_of(installed)) == owed(provider)
    assert len(provider.entries) == 48


def test_a_bound_object_needs_no_context(provider, meter, events_of):
    """A bare thread knows of no subject: the object does."""
    embedding = bind(http(provider), "acme", meter=meter)
    thread = threading.Thread(target=embedding.get_text_embedding, args=[TEXTS[0]])

    thread.start()
    thread.join()

    assert billed(events_of(meter)) == owed(provider)


def test_tags_say_who_pays(provider, installed, events_of):
    """`instrument_tags` are LlamaIndex's own way to say so."""
    with instrument_tags({"llm_metering_subject": "acme"}):
        WAYS["abatch"](http(provider, embed_batch_size=2), TEXTS)

    assert billed(events_of(installed)) == owed(provider)


def test_a_handler_of_a_query_engine_holds_for_its_question(provider, meter, events_of):
    """An engine embeds the question with the model of the index."""
    embedding = http(provider)
    index = VectorStoreIndex.from_documents([Document(text="Berlin.")], embed_model=embedding)
    assert events_of(meter) == []
    engine = RetrieverQueryEngine.from_args(
        index.as_retriever(),
        llm=MockLLM(),
        callback_manager=manager(MeteringHandler("acme", meter=meter)),
    )

    engine.query("Where? [subject:acme]")

    (event,) = [each for each in events_of(meter) if each.data["operation"] == "embeddings"]
    assert billed([event]) == {"acme": owed(provider)["acme"]}


@pytest.mark.parametrize("is_async", [False, True], ids=["run", "arun"])
def test_an_ingestion_pipeline_is_metered(provider, installed, events_of, is_async):
    """What it embeds is a transformation like others."""
    embedding = http(provider, embed_batch_size=2)
    pipeline = IngestionPipeline(transformations=[SentenceSplitter(), embedding])
    documents = [Document(text=text) for text in TEXTS]

    with subject("acme"):
        if is_async:
            asyncio.run(pipeline.arun(documents=documents))
        else:
            pipeline.run(documents=documents)

    assert billed(events_of(installed)) == owed(provider)
    assert len(provider.entries) == 3


def test_a_call_in_two_meters_is_one_event_in_each(provider, installed, tmp_path, events_of):
    """Under one id, so that it counts once wherever their books meet."""
    home = tmp_path / "other"
    home.mkdir(mode=0o700)
    own = MemorySink()
    with Meter(home=home, sinks=[own]) as other:
        bind(http(provider), "acme", meter=other).get_text_embedding(TEXTS[0])
        assert other.flush()

    (first,), (second,) = own.events, events_of(installed)
    assert (first.id, first.subject) == (second.id, second.subject)


def test_a_stream_that_embeds_belongs_to_who_began_it(provider, installed, events_of):
    """A generator of a query engine may embed as it is read, by somebody else, in tasks of its own."""
    embedding = http(provider, embed_batch_size=1)

    class Engine(DispatcherSpanMixin):
        @get_dispatcher(__name__).span
        def begin(self):
            async def stream():
                yield await embedding.aget_text_embedding_batch(TEXTS[:2])

            return stream()

    with subject("acme"):
        stream = Engine().begin()

    async def read():
        with subject("beta"):
            async for _ in stream:
                pass

    asyncio.run(read())

    assert billed(events_of(installed)) == owed(provider)
    assert len(provider.entries) == 2


@every_way
def test_a_call_that_nobody_pays_for_is_refused(provider, strict, events_of, way):
    """Before the provider is asked."""
    with pytest.raises(MissingSubjectError):
        WAYS[way](http(provider), TEXTS)

    assert (provider.entries, events_of(strict)) == ([], [])
    assert strict.statistics()["refused_calls"] >= 1
    assert strict.statistics()["open_calls"] == 0


def test_what_the_cache_answers_is_not_refused(provider, strict, events_of):
    """It costs nobody anything."""
    embedding = http(provider, embeddings_cache=SimpleKVStore())
    with subject("acme"):
        embedding.get_text_embedding(TEXTS[0])

    embedding.get_text_embedding(TEXTS[0])

    assert billed(events_of(strict)) == owed(provider)


def test_a_refusal_is_not_left_behind(provider, strict, events_of):
    """The next call of the same context is not refused with it."""
    with pytest.raises(MissingSubjectError):
        http(provider).get_text_embedding(TEXTS[0])

    with subject("acme"):
        http(provider).get_text_embedding(TEXTS[0])

    assert billed(events_of(strict)) == owed(provider)
