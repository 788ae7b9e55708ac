"""LlamaIndex's embeddings: each request to the provider is one event, with the provider's count.

What is metered is compared with the books of a provider in another process.
"""

from __future__ import annotations

import pytest
from llama_index.core.callbacks import CallbackManager
from llama_index.core.storage.kvstore import SimpleKVStore

import llm_metering
from llm_metering import Meter, subject
from llm_metering.llamaindex import MeteringHandler, bind
from llm_metering.llamaindex.embeddings import asked
from tests.books import billed, owed
from tests.llamaindex.embedders import (
    EMBEDDERS,
    WAYS,
    every_way,
    http,
    local,
    named,
    several,
)

REPORTING = {
    "openai": "openai",
    "ollama": "ollama",
    "cohere": "cohere",
    "mistral": "mistral_ai",
    "bedrock": "aws.bedrock",
    "bedrock_body": "aws.bedrock",
    "http": "openai",
}
TEXTS = several(5)


def manager(*handlers):
    return CallbackManager(list(handlers))


@pytest.fixture
def installed(default_meter):
    """Every call is metered."""
    llm_metering.install()
    return default_meter


@every_way
@named(*REPORTING)
def test_each_request_is_one_exact_event(provider, meter, events_of, name, way):
    """Neither usage nor model is in an EmbeddingEndEvent: both come from the provider's answers."""
    if (name, way) == ("mistral", "atext"):
        way = "aquery"  # see test_an_integration_that_fails_over_its_answer_is_billed
    handler = MeteringHandler("acme", meter=meter, feature="search")
    embedding = EMBEDDERS[name](provider, embed_batch_size=2, callback_manager=manager(handler))

    vectors = WAYS[way](embedding, TEXTS)

    events = events_of(meter)
    assert billed(events) == owed(provider) != {}
    numbers = {float(entry.number) for entry in provider.entries}
    assert {vector[-1] for vector in vectors} == numbers
    assert len(events) == len(numbers)
    for event in events:
        assert (event.subject, event.data["feature"]) == ("acme", "search")
        assert event.data["provider"] == REPORTING[name]
        assert event.data["request_model"] == provider.entries[0].model
        assert (event.data["operation"], event.data["framework"]) == ("embeddings", "llamaindex")
        assert (event.data["status"], event.data["output_tokens"]) == ("completed", 0)
    assert meter.statistics()["open_calls"] == 0
    assert meter.statistics()["failures"] == 0


@named("mistral")
def test_an_integration_that_fails_over_its_answer_is_billed(provider, meter, events_of, name):
    """llama-index-embeddings-mistralai 0.6.0 asks, and then awaits what is no coroutine."""
    embedding = bind(EMBEDDERS[name](provider), "acme", meter=meter)

    with pytest.raises(TypeError, match="await"):
        WAYS["atext"](embedding, TEXTS)

    assert billed(events_of(meter)) == owed(provider) != {}


@every_way
@named("gemini")
def test_what_the_provider_does_not_report_is_counted(provider, meter, events_of, name, way):
    """Gemini's own API tells nothing of embeddings: the texts are counted, once a batch."""
    handler = MeteringHandler("acme", meter=meter)
    embedding = EMBEDDERS[name](provider, embed_batch_size=2, callback_manager=manager(handler))

    WAYS[way](embedding, TEXTS)

    events = events_of(meter)
    assert len(events) == (3 if way in ("batch", "abatch", "workers") else 1)
    for event in events:
        assert (event.data["provenance"], event.data["status"]) == ("estimated", "completed")
        assert (event.data["provider"], event.data["output_tokens"]) == ("gcp.gemini", 0)
        assert event.data["input_tokens"] > 0


@every_way
def test_a_local_model_is_estimated(meter, events_of, way):
    """Nobody is asked over a network: what it is worth is for the price list to say."""
    embedding = local(
        embed_batch_size=2, callback_manager=manager(MeteringHandler("a", meter=meter))
    )

    WAYS[way](embedding, TEXTS)

    events = events_of(meter)
    # A batch of a model that knows none is a call for each text.
    assert (
        len(events) == len(embedding.asked) == (5 if way in ("batch", "abatch", "workers") else 1)
    )
    for event in events:
        assert (event.data["provenance"], event.data["output_tokens"]) == ("estimated", 0)
        assert event.data["request_model"] == "local-x"
        assert 4 <= event.data["input_tokens"] <= 20


@every_way
def test_a_server_without_usage_is_estimated(provider, meter, events_of, way):
    """One that speaks OpenAI's API, and reports nothing: one event a batch all the same."""
    handler = MeteringHandler("acme", meter=meter)
    embedding = EMBEDDERS["openai"](provider, "nousage", callback_manager=manager(handler))

    WAYS[way](embedding, TEXTS)

    (event,) = events_of(meter)
    assert event.data["provenance"] == "estimated"
    assert event.data["model"] == "embed-x-2026-11"
    assert len(provider.entries) == 1


def test_what_is_counted_is_what_is_sent(provider):
    """OpenAI's integration sends a space in place of each line break."""
    texts = ["one\n\ntwo\n", "three"]

    assert asked(EMBEDDERS["openai"](provider), texts) == {"input": ["one  two ", "three"]}
    assert asked(http(provider), texts) == {"input": texts}


# In 0.12 the cache is not looked into for a batch.
@pytest.mark.needs("core_0_13")
@pytest.mark.parametrize("way", ["batch", "abatch", "workers"])
def test_a_cache_hit_is_no_event(provider, meter, events_of, way):
    """Events of a start and an end come for what the cache answered, too, with all the texts."""
    embedding = http(provider, embed_batch_size=4, embeddings_cache=SimpleKVStore())
    bind(embedding, "acme", meter=meter)

    WAYS[way](embedding, TEXTS[:2])
    WAYS[way](embedding, TEXTS)
    WAYS[way](embedding, TEXTS)

    # Two; then two others of the first batch, and the one of the second; then none.
    assert [len(provider.entries), len(events_of(meter))] == [3, 3]
    assert billed(events_of(meter)) == owed(provider)


@pytest.mark.parametrize("way", ["query", "aquery", "text", "atext"])
def test_a_cached_text_is_no_event(provider, meter, events_of, way):
    """Neither is one that is asked for alone."""
    embedding = bind(http(provider, embeddings_cache=SimpleKVStore()), "acme", meter=meter)

    for _ in range(3):
        WAYS[way](embedding, TEXTS)

    assert billed(events_of(meter)) == owed(provider)
    assert len(provider.entries) == 1


def test_only_texts_that_were_asked_for_are_counted(provider, meter, events_of):
    """Of a batch of which the cache knows a part, the rest."""
    texts = ["a few words", "and a great many words more than these few " * 40]
    embedding = EMBEDDERS["openai"](provider, "nousage", embeddings_cache=SimpleKVStore())
    bind(embedding, "acme", meter=meter)

    embedding.get_text_embedding(texts[1])
    embedding.get_text_embedding_batch(texts)

    long, short = (event.data["input_tokens"] for event in events_of(meter))
    assert short < 10
    assert long > 300


@pytest.mark.parametrize("method", ["_get_text_embedding", "_get_text_embeddings"])
@named("openai", "http")
def test_a_protected_method_is_metered(provider, meter, events_of, name, method):
    """No event is told of these, and of the second not even a span."""
    embedding = bind(EMBEDDERS[name](provider), "acme", meter=meter)

    getattr(embedding, method)(TEXTS[0] if method.endswith("embedding") else TEXTS)

    assert billed(events_of(meter)) == owed(provider)
    assert len(provider.entries) == 1


def test_a_method_that_makes_several_requests_is_several_events(provider, meter, events_of):
    """What an integration cuts up by itself: the provider bills requests, not batches."""
    embedding = bind(http(provider, each=True), "acme", meter=meter)

    embedding.get_text_embedding_batch(TEXTS)
    embedding.get_text_embedding_batch(TEXTS)

    assert len(events_of(meter)) == 10
    assert billed(events_of(meter)) == owed(provider)
    assert meter.statistics()["open_calls"] == 0


def test_several_answers_without_usage_are_one_estimated_event(provider, meter, events_of):
    """Which of the texts was whose is not known, so they are counted together."""
    embedding = bind(http(provider, model_name="embed-x+nousage", each=True), "acme", meter=meter)

    embedding.get_text_embedding("a text of a few words")
    embedding.get_text_embedding_batch(["a text of a few words"] * 3)

    one, three = (event.data for event in events_of(meter))
    assert len(provider.entries) == 4
    assert (one["provenance"], three["provenance"]) == ("estimated", "estimated")
    assert three["input_tokens"] == 3 * one["input_tokens"] > 9
    assert meter.statistics()["open_calls"] == 0


def test_an_answer_without_usage_beside_others_is_not_counted(provider, meter, events_of):
    """All texts would be counted for it, and others of them were paid for already."""
    embedding = bind(http(provider, each=True), "acme", meter=meter)

    embedding.get_text_embedding_batch([*TEXTS[:2], "x|nousage", "y|nousage"])

    events = events_of(meter)
    told = sorted(event.data["provenance"] for event in events)
    assert told == ["missing", "missing", "reported", "reported"]
    assert sum(event.data.get("input_tokens", 0) for event in events) == sum(
        entry.input for entry in provider.entries if entry.usage_sent
    )


def test_other_answers_are_not_taken_for_it(provider, meter, events_of):
    """An integration may sign in, or look for a model, before it asks for embeddings."""
    embedding = bind(http(provider, signs_in=True), "acme", meter=meter)

    embedding.get_text_embedding(TEXTS[0])

    (asked,) = [entry for entry in provider.entries if entry.shape == "openai.embeddings"]
    assert billed(events_of(meter)) == {"acme": (1, asked.input, 0)}


def test_without_taps_all_is_estimated(provider, home, sink, events_of):
    """Where answers are not to be read, the texts are counted."""
    with Meter(home=home, sinks=[sink], taps=False) as meter:
        bind(http(provider), "acme", meter=meter).get_text_embedding_batch(TEXTS)
        (event,) = events_of(meter)

    assert event.data["provenance"] == "estimated"


def test_nothing_asked_is_no_event(installed, events_of):
    """No texts, no request."""
    with subject("acme"):
        assert local().get_text_embedding_batch([]) == []
        assert local()._get_text_embeddings([]) == []

    assert events_of(installed) == []


def test_uninstalled_it_meters_nothing(provider, installed, events_of):
    """The methods stay watched, and find that nobody is to be told."""
    llm_metering.uninstall()

    with subject("acme"):
        http(provider).get_text_embedding(TEXTS[0])

    assert events_of(installed) == []


def test_a_large_answer_is_read(provider, meter, events_of):
    """A thousand vectors are megabytes around the one count."""
    embedding = bind(http(provider, dimensions=3072, embed_batch_size=600), "acme", meter=meter)

    vectors = embedding.get_text_embedding_batch(several(600))

    assert len(vectors) * len(vectors[0]) * 10 > 16 << 20
    assert billed(events_of(meter)) == owed(provider)
