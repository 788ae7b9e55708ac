"""Rerankers of LlamaIndex: one event a request, with the units that the provider bills."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.callbacks import CallbackManager
from llama_index.core.callbacks.schema import CBEventType
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor import LLMRerank, SimilarityPostprocessor
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, TextNode

import llm_metering
from llm_metering import subject
from llm_metering.errors import MissingSubjectError
from llm_metering.llamaindex import MeteringHandler, bind
from tests.books import billed, owed
from tests.llamaindex.clients import CLIENTS
from tests.llamaindex.embedders import EMBEDDERS, LocalEmbedding

needs_cohere = pytest.mark.needs("cohere_rerank")
dispatcher = get_dispatcher(__name__)
NODES = [NodeWithScore(node=TextNode(text=text), score=0.1) for text in ("one", "two", "three")]
QUERY = "which? [subject:acme]"


def at_once(reranker, nodes=NODES, query=QUERY):
    """At once."""
    return reranker.postprocess_nodes(nodes, query_str=query)


def in_a_loop(reranker, nodes=NODES, query=QUERY):
    """In an event loop, which has a thread do it."""
    return asyncio.run(reranker.apostprocess_nodes(nodes, query_str=query))


every_way = pytest.mark.parametrize("way", [at_once, in_a_loop], ids=lambda way: way.__name__)


def cohere(provider, model="rerank-x", **options):
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    given = {"api_key": "x", "base_url": provider.url, "max_retries": 1}
    return CohereRerank(model=model, **{**given, **options})


class HttpRerank(BaseNodePostprocessor):
    """A reranker of the user's own, which asks with httpx."""

    url: str
    model: str = "rerank-x"
    tells: bool = True
    has_callback: bool = True

    def _start(self, nodes, query):
        if self.tells:
            event = ReRankStartEvent(query=query, nodes=nodes, top_n=2, model_name=self.model)
            dispatcher.event(event)

    def _asked(self, nodes, query):
        documents = [node.text for node in nodes]
        return {"model": self.model, "query": query.query_str, "documents": documents}

    def _postprocess_nodes(self, nodes, query_bundle=None):
        self._start(nodes, query_bundle)
        if self.has_callback:
            with self.callback_manager.event(CBEventType.RERANKING):
                pass
        answer = httpx.post(f"{self.url}/v2/rerank", json=self._asked(nodes, query_bundle))
        answer.raise_for_status()
        if self.tells:
            dispatcher.event(ReRankEndEvent(nodes=nodes))
        return nodes


class AsyncRerank(HttpRerank):
    """One that has a way of its own in an event loop, around which there is no span."""

    async def _apostprocess_nodes(self, nodes, query_bundle=None):
        self._start(nodes, query_bundle)
        async with httpx.AsyncClient() as client:
            url = f"{self.url}/v2/rerank"
            answer = await client.post(url, json=self._asked(nodes, query_bundle))
        answer.raise_for_status()
        return nodes


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


def units(events):
    """What we say."""
    return [(event.subject, event.data["search_units"]) for event in events]


def booked(provider):
    """What the provider says."""
    return [(entry.subject, entry.search_units) for entry in provider.entries]


@needs_cohere
@every_way
def test_a_call_is_one_event_with_its_search_units(provider, meter, events_of, way):
    """Cohere bills reranking by the search unit, and LlamaIndex hands on neither that nor a token."""
    reranker = bind(cohere(provider), "acme", meter=meter, feature="search")

    nodes = way(reranker)

    (event,) = events_of(meter)
    assert [node.text for node in nodes] == ["three", "two"]
    assert units([event]) == booked(provider)
    assert event.data["operation"] == "rerank"
    assert (event.data["provider"], event.data["request_model"]) == ("cohere", "rerank-x")
    assert (event.data["framework"], event.data["feature"]) == ("llamaindex", "search")
    assert (event.data["status"], event.data["provenance"]) == ("completed", "missing")
    assert "input_tokens" not in event.data
    assert meter.statistics()["open_calls"] == 0


@needs_cohere
def test_what_is_not_reported_is_not_invented(provider, meter, events_of):
    """One event, without units: of what a reranker costs the texts say nothing."""
    at_once(bind(cohere(provider, "rerank-x+nousage"), "acme", meter=meter))

    (event,) = events_of(meter)
    assert event.data["provenance"] == "missing"
    assert event.data.keys().isdisjoint({"search_units", "input_tokens", "total_tokens"})


@needs_cohere
def test_a_refused_call_is_no_event(provider, meter, events_of):
    """It costs nothing."""
    from cohere.errors import BadRequestError

    with pytest.raises(BadRequestError):
        at_once(bind(cohere(provider, "rerank-x+refuse400"), "acme", meter=meter))

    assert events_of(meter) == []
    assert meter.statistics()["refused_calls"] == 1


@every_way
def test_a_lost_answer_is_a_failed_event(provider, meter, events_of, way):
    """Whether it was worked on nobody knows."""
    with pytest.raises(httpx.HTTPError):
        way(bind(HttpRerank(url=provider.url, model="rerank-x+die"), "acme", meter=meter))

    (event,) = events_of(meter)
    assert (event.data["status"], event.data["provenance"]) == ("failed", "missing")


@pytest.mark.parametrize("kind", [HttpRerank, AsyncRerank], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("tells", [True, False], ids=["told", "untold"])
@every_way
def test_a_reranker_of_the_users_own(provider, meter, events_of, way, tells, kind):
    """Whether it tells of itself or not: the provider's answer does."""
    way(bind(kind(url=provider.url, tells=tells), "acme", meter=meter))

    assert units(events_of(meter)) == booked(provider)
    assert len(provider.entries) == 1


class OpenRerank(HttpRerank):
    """A server that ranks, and writes its usage as OpenAI does."""

    def _postprocess_nodes(self, nodes, query_bundle=None):
        self._start(nodes, query_bundle)
        asked = {"model": "embed-x", "input": [node.text for node in nodes]}
        httpx.post(f"{self.url}/v1/rankings", json=asked).raise_for_status()
        return nodes


def test_tokens_of_a_reranker_are_taken(provider, meter, events_of):
    """Some bill by the token, and say so; who they are that does not say."""
    at_once(bind(OpenRerank(url=provider.url), "acme", meter=meter))

    (event,) = events_of(meter)
    assert event.data["input_tokens"] == provider.entry.input
    assert (event.data["operation"], event.data["provenance"]) == ("rerank", "reported")
    assert "provider" not in event.data


def test_a_handler_of_its_own(provider, meter, events_of):
    """It takes a callback manager, as models do."""
    handler = MeteringHandler("acme", meter=meter)
    at_once(HttpRerank(url=provider.url, callback_manager=CallbackManager([handler])))

    assert units(events_of(meter)) == booked(provider)


def test_in_a_query_engine(provider, installed, events_of):
    """Beside the question's embedding and the model's answer it is a call of its own."""
    index = VectorStoreIndex(
        [each.node for each in NODES], embed_model=LocalEmbedding(model_name="local-x")
    )
    engine = RetrieverQueryEngine.from_args(
        index.as_retriever(),
        llm=CLIENTS["openai"](provider),
        node_postprocessors=[HttpRerank(url=provider.url)],
    )

    with subject("acme"):
        engine.query(QUERY)

    events = [event for event in events_of(installed) if event.data["provenance"] != "estimated"]
    assert [event.data["operation"] for event in events] == ["rerank", "chat"]
    assert units(events[:1]) == booked(provider)[:1]
    assert billed(events[1:])["acme"][1:] == (provider.entries[1].input, provider.entries[1].output)


def test_a_model_that_ranks_is_the_event_of_the_model(provider, installed, events_of):
    """LLMRerank asks a model, and that call is metered."""
    reranker = LLMRerank(llm=CLIENTS["openai"](provider), choice_batch_size=10)

    with subject("acme"):
        at_once(reranker)

    (event,) = events_of(installed)
    assert event.data["operation"] == "chat"
    assert billed([event]) == owed(provider)


class TellingRerank(BaseNodePostprocessor):
    """Tells that it reranks, and has somebody else do it, as StructuredLLMRerank does."""

    asks: object = None

    def _postprocess_nodes(self, nodes, query_bundle=None):
        dispatcher.event(ReRankStartEvent(query=query_bundle, nodes=nodes, top_n=2, model_name="m"))
        if self.asks is not None:
            self.asks()
        dispatcher.event(ReRankEndEvent(nodes=nodes))
        return nodes


@pytest.mark.parametrize("what", ["model", "embedding"])
def test_what_asks_in_its_place_is_the_event(provider, installed, events_of, what):
    """A reranker that tells of itself and asks a model, or compares embeddings."""
    llm, embedding = CLIENTS["openai"](provider), EMBEDDERS["openai"](provider)
    asks = {
        "model": lambda: llm.complete(QUERY),
        "embedding": lambda: embedding.get_text_embedding(QUERY),
    }

    with subject("acme"):
        at_once(TellingRerank(asks=asks[what]))

    assert billed(events_of(installed)) == owed(provider)


def test_a_reranker_whose_answers_we_do_not_see(meter, events_of):
    """It says that it reranks, and asks by a way we know nothing of: the call is an event."""
    at_once(bind(TellingRerank(), "acme", meter=meter))

    (event,) = events_of(meter)
    assert (event.data["operation"], event.data["provenance"]) == ("rerank", "missing")


def test_a_model_in_this_process_is_no_event(meter, events_of):
    """A cross-encoder on this machine asks nobody, and has no unit to be billed by."""

    class SentenceTransformerRerank(TellingRerank):
        """By its module it is the one of the integration."""

    SentenceTransformerRerank.__module__ = "llama_index.postprocessor.sbert_rerank.base"

    at_once(bind(SentenceTransformerRerank(), "acme", meter=meter))

    assert events_of(meter) == []


@pytest.mark.parametrize(
    ("nodes", "query"),
    [
        pytest.param([], QUERY, id="no nodes"),
        pytest.param(NODES, None, id="no query"),
    ],
)
@needs_cohere
def test_nothing_to_rank_is_no_event(provider, installed, events_of, nodes, query):
    """The start of it is told before it is found that nobody need be asked."""
    with subject("acme"):
        if query is None:
            with pytest.raises(ValueError, match="query"):
                at_once(cohere(provider), nodes, query)
        else:
            assert at_once(cohere(provider), nodes, query) == []

    assert (provider.entries, events_of(installed)) == ([], [])
    assert installed.statistics()["open_calls"] == 0


def test_other_postprocessors_are_none(installed, events_of):
    """Most of them ask nobody."""
    with subject("acme"):
        SimilarityPostprocessor(similarity_cutoff=0.05).postprocess_nodes(NODES)

    assert events_of(installed) == []


@needs_cohere
@every_way
def test_a_call_that_nobody_pays_for_is_refused(provider, strict, events_of, way):
    """Before the provider is asked."""
    with pytest.raises(MissingSubjectError):
        way(cohere(provider))

    assert (provider.entries, events_of(strict)) == ([], [])
    assert strict.statistics()["refused_calls"] == 1


def test_a_refusal_that_cannot_be_made_is_taken_back(provider, strict, events_of):
    """A reranker without a callback cannot be stopped: it is billed to nobody, and no other call is refused for it."""
    at_once(HttpRerank(url=provider.url, has_callback=False))
    handler = CallbackManager([MeteringHandler("acme")])
    CLIENTS["openai"](provider, callback_manager=handler).complete(QUERY)

    first, second = events_of(strict)
    assert (first.data["flags"], first.data["search_units"]) == (
        ["unattributed"],
        provider.entries[0].search_units,
    )
    assert second.subject == "acme"


def test_many_at_once(provider, installed, events_of):
    """Each for the customer it was begun for."""

    async def one(name):
        with subject(name):
            query = f"which? [subject:{name}]"
            await AsyncRerank(url=provider.url).apostprocess_nodes(NODES, query_str=query)

    async def main():
        await asyncio.gather(*(one(f"customer-{number}") for number in range(20)))

    asyncio.run(main())

    assert sorted(units(events_of(installed))) == sorted(booked(provider))
