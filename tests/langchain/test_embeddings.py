"""`metered_embeddings`: LangChain has no callback for embeddings, and its classes drop the usage.

What is metered is compared with the books of a provider in another process.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
import pickle
import threading
from concurrent.futures import Executor, ThreadPoolExecutor

import httpx
import pytest
import tiktoken
from langchain_aws import BedrockEmbeddings
from langchain_cohere import CohereEmbeddings
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_google_genai import GoogleGenerativeAIEmbeddings
from langchain_mistralai import MistralAIEmbeddings
from langchain_ollama import OllamaEmbeddings
from langchain_openai import AzureOpenAIEmbeddings, OpenAIEmbeddings
from tenacity import RetryError
from tokenizers import Tokenizer, models

import llm_metering
from llm_metering import Meter, subject
from llm_metering.errors import InvalidArgumentError, MissingSubjectError, SubjectError
from llm_metering.langchain import metered_embeddings
from llm_metering.sinks.memory import MemorySink

pytestmark = [
    # Of langchain-cohere's and google-genai's own.
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession"),
]

TEXTS = ["one", "two and a bit", "three"]
WAIT = 20.0
# The event loop of a test ends before its connections would.
CLOSE = {"Connection": "close"}


@pytest.fixture(autouse=True)
def bytes_for_tokens(monkeypatch):
    """OpenAIEmbeddings cuts texts by tiktoken, whose data has to be fetched: a byte a token will do."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding(
        "cl100k_base", pat_str=r"[\s\S]", mergeable_ranks=ranks, special_tokens={}
    )
    monkeypatch.setitem(tiktoken.registry.ENCODINGS, "cl100k_base", encoding)


to_close = []


@pytest.fixture(autouse=True)
def closed():
    """The clients that keep their connections are closed."""
    yield
    while to_close:
        to_close.pop().close()


class SameThread(Executor):
    """Does at once what it is given."""

    def map(self, function, *iterables, **settings):
        return map(function, *iterables)


def openai(provider, model="embed-x", **settings):
    url = provider.openai_url
    return OpenAIEmbeddings(
        model=model, api_key="x", base_url=url, default_headers=CLOSE, **settings
    )


def openai_texts(provider, model="embed-x", **settings):
    return openai(provider, model, check_embedding_ctx_length=False, **settings)


def azure(provider, model="embed-x", **settings):
    return AzureOpenAIEmbeddings(
        azure_deployment=model,
        model=model,
        azure_endpoint=provider.url,
        api_key="x",
        default_headers=CLOSE,
        **settings,
    )


def ollama(provider, model="embed-x"):
    return OllamaEmbeddings(
        model=model, base_url=provider.url, client_kwargs={"headers": {**CLOSE}}
    )


def cohere(provider, model="embed-x"):
    embeddings = CohereEmbeddings(
        model=model, cohere_api_key="x", base_url=provider.url, max_retries=1
    )
    # Instead of threads that would outlive the test.
    embeddings.client._executor = SameThread()
    for client in (embeddings.client, embeddings.async_client):
        client._client_wrapper.httpx_client.httpx_client.headers.update(CLOSE)
    return embeddings


def mistral(provider, model="embed-x"):
    settings = {"base_url": f"{provider.openai_url}/", "headers": CLOSE, "timeout": WAIT}
    return MistralAIEmbeddings(
        model=model,
        api_key="x",
        client=httpx.Client(**settings),
        async_client=httpx.AsyncClient(**settings),
        tokenizer=Tokenizer(models.BPE()),
        wait_time=0,
    )


def bedrock(provider, model="amazon.titan-embed-x"):
    embeddings = BedrockEmbeddings(
        model_id=model,
        endpoint_url=provider.url,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    to_close.append(embeddings.client)
    return embeddings


def bedrock_body(provider, model="amazon.titan-embed-x"):
    return bedrock(provider, f"{model}+noheaders")


def gemini(provider, model="embed-x"):
    return GoogleGenerativeAIEmbeddings(
        model=model, google_api_key="x", base_url=provider.url, additional_headers=CLOSE
    )


EXACT = {
    openai: "openai",
    openai_texts: "openai",
    azure: "azure.ai.openai",
    ollama: "ollama",
    cohere: "cohere",
    mistral: "mistral_ai",
    bedrock: "aws.bedrock",
    bedrock_body: "aws.bedrock",
}


def embed_documents(embeddings):
    return embeddings.embed_documents(TEXTS)


def embed_query(embeddings):
    return [embeddings.embed_query(TEXTS[0])]


def aembed_documents(embeddings):
    return asyncio.run(embeddings.aembed_documents(TEXTS))


def aembed_query(embeddings):
    return [asyncio.run(embeddings.aembed_query(TEXTS[0]))]


WAYS = [embed_documents, embed_query, aembed_documents, aembed_query]
every_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
every_client = pytest.mark.parametrize("make", EXACT, ids=lambda make: make.__name__)


def counts(events):
    """What each request took, sorted, since some are made at the same time."""
    return sorted((event.data["input_tokens"], event.data["output_tokens"]) for event in events)


def books(provider):
    """The same from the provider's books."""
    return sorted((entry.input, entry.output) for entry in provider.entries if entry.status == 200)


@every_way
@every_client
def test_each_request_is_one_exact_event(make, way, provider, meter, events_of):
    """Where a client hands out what the provider counted, the events are the provider's books."""
    metered = metered_embeddings(make(provider), "acme", meter=meter, feature="search")

    vectors = way(metered)

    events = events_of(meter)
    assert counts(events) == books(provider) != []
    for event in events:
        del event.data["input_tokens"], event.data["prompt_tokens"], event.data["total_tokens"]
        event.data.pop("reported_total_tokens", None)
        event.data.pop("billed_input_tokens", None)
        event.data.pop("response_id", None)
        assert event.data.pop("duration_ms") >= 0
        assert "embed-x" in event.data.pop("model", "embed-x")
        assert event.data == {
            "request_model": provider.entries[0].model,
            "provider": EXACT[make],
            "operation": "embeddings",
            "output_tokens": 0,
            "completion_tokens": 0,
            "calls": 1,
            "provenance": "reported",
            "status": "completed",
            "framework": "langchain",
            "feature": "search",
        }
        assert (event.subject, event.type) == ("acme", "llm.usage")
    numbers = [entry.number for entry in provider.entries]
    assert {vector[2] for vector in vectors} == set(map(float, numbers))


@pytest.mark.needs("google_genai_4")
@every_way
def test_what_the_provider_does_not_report_is_counted(way, provider, meter, events_of):
    """Gemini's own API tells nothing of embeddings: the texts are counted, and the event says so."""
    way(metered_embeddings(gemini(provider), "acme", meter=meter))

    (event,) = events_of(meter)
    assert (event.data["provenance"], event.data["status"]) == ("estimated", "completed")
    assert event.data["provider"] == "gcp.gemini"
    asked = TEXTS if "documents" in way.__name__ else TEXTS[:1]
    assert 0 < event.data["input_tokens"] < sum(map(len, asked)) / 2
    assert event.data["output_tokens"] == 0
    assert event.data["count_method"]


@every_way
def test_any_other_object_is_one_estimated_event_a_call(way, meter, events_of):
    """A local model, or a client we do not know: the texts are counted, off the calling thread."""
    metered = metered_embeddings(DeterministicFakeEmbedding(size=4), "acme", meter=meter)

    vectors = way(metered)

    assert vectors == way(DeterministicFakeEmbedding(size=4))
    (event,) = events_of(meter)
    assert (event.subject, event.data["operation"]) == ("acme", "embeddings")
    assert (event.data["provenance"], event.data["status"]) == ("estimated", "completed")
    asked = TEXTS if "documents" in way.__name__ else TEXTS[:1]
    expected = sum(len(text) for text in asked) / 4
    assert expected <= event.data["input_tokens"] <= expected + len(asked) * 2
    assert event.data["output_tokens"] == 0


def test_tokens_count_exactly_without_usage(provider, meter, events_of):
    """OpenAIEmbeddings sends tokens, not texts: their number is the count."""
    metered_embeddings(openai(provider, "embed-x+nousage"), "a", meter=meter).embed_documents(TEXTS)

    (event,) = events_of(meter)
    assert event.data["input_tokens"] == sum(map(len, TEXTS))
    assert event.data["provenance"] == "estimated"


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("make", [openai, openai_texts, azure], ids=lambda make: make.__name__)
def test_a_call_that_is_cut_into_requests_is_an_event_each(
    make, is_async, provider, meter, events_of
):
    """One provider request is one event, however many `embed_documents` makes."""
    metered = metered_embeddings(make(provider, chunk_size=2), "acme", meter=meter)

    texts = [f"text {number}" for number in range(5)]
    vectors = (
        asyncio.run(metered.aembed_documents(texts)) if is_async else metered.embed_documents(texts)
    )

    assert len(vectors) == 5
    events = events_of(meter)
    assert len(events) == 3
    assert counts(events) == books(provider)
    assert {event.subject for event in events} == {"acme"}


def test_what_is_said_with_the_call_reaches_the_client(provider, meter, events_of):
    """Arguments beyond the texts are the client's: chunk size and model of this one call."""
    metered = metered_embeddings(openai(provider), "acme", meter=meter)

    metered.embed_documents(TEXTS, chunk_size=1, model="embed-y")

    assert [entry.model for entry in provider.entries] == ["embed-y"] * 3
    assert [event.data["request_model"] for event in events_of(meter)] == ["embed-y"] * 3


def test_the_users_object_stays_as_it_is(provider, meter, events_of):
    """The copy is tapped, not the object, nor its client: calls past the copy are not metered."""
    embeddings = openai(provider)
    client, async_client, before = embeddings.client, embeddings.async_client, {**vars(embeddings)}

    metered = metered_embeddings(embeddings, "acme", meter=meter)

    assert vars(embeddings) == before
    assert (embeddings.client, embeddings.async_client) == (client, async_client)
    assert "create" not in vars(client)
    embeddings.embed_query("x")
    assert events_of(meter) == []
    metered.embed_query("x")
    assert counts(events_of(meter)) == books(provider)[-1:]


def test_attributes_pass_through(provider, meter):
    """A namespace is made of `embeddings.model`; and what is set is heeded, by the copy alone."""
    embeddings = openai(provider)
    metered = metered_embeddings(embeddings, "acme", meter=meter)

    metered.chunk_size = 1
    metered.embed_documents(TEXTS)

    assert isinstance(metered, Embeddings)
    assert (metered.model, metered.chunk_size, embeddings.chunk_size) == ("embed-x", 1, 1000)
    assert len(provider.entries) == 3
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = metered.no_such_thing


def test_other_methods_are_metered_too(provider, meter, events_of):
    """What a class offers beside LangChain's interface asks the same client."""
    metered = metered_embeddings(cohere(provider), "acme", meter=meter)

    metered.embed(TEXTS, input_type="search_query")

    assert counts(events_of(meter)) == books(provider) != []


def test_in_a_vector_store(provider, meter, events_of):
    """Documents and queries of a vector store and of its retriever are on the bill."""
    store = InMemoryVectorStore(metered_embeddings(openai(provider), "acme", meter=meter))

    store.add_texts(TEXTS)
    store.similarity_search("one", k=1)
    store.as_retriever().invoke("two")
    asyncio.run(store.asimilarity_search("one", k=1))

    assert counts(events_of(meter)) == books(provider)
    assert len(provider.entries) == 4


def test_nothing_asked_nothing_billed(provider, meter, events_of):
    """No texts, no request, no event."""
    assert metered_embeddings(openai(provider), "a", meter=meter).embed_documents([]) == []
    fake = metered_embeddings(DeterministicFakeEmbedding(size=4), "a", meter=meter)
    assert fake.embed_documents([]) == []

    assert events_of(meter) == []
    assert meter.statistics()["open_calls"] == 0


def test_who_pays_is_decided_when_the_call_starts(provider, meter, default_meter, events_of):
    """The scope at the start of a call holds for all its requests; without one, the default pays."""
    meter.subject = "house"
    metered = metered_embeddings(openai(provider, chunk_size=1), meter=meter)

    with subject("scoped", feature="search"):
        metered.embed_documents(TEXTS[:2])
        embedding = asyncio.run(later(metered))
    assert len(embedding) == 3
    metered.embed_query("x")

    payers = [(event.subject, event.data.get("feature")) for event in events_of(meter)]
    assert payers == [("scoped", "search")] * 2 + [("inner", "search"), ("house", None)]


async def later(metered):
    with subject("inner"):
        task = asyncio.create_task(metered.aembed_query("x"))
    with subject("too late"):
        return await task


def test_many_payers_at_once(provider, meter, events_of):
    """Threads and tasks share one metered object: each payer is billed what was sent for them."""
    metered = metered_embeddings(openai_texts(provider, chunk_size=1), meter=meter)
    payers = [f"customer-{number}" for number in range(6)]

    def ask(payer):
        with subject(payer):
            metered.embed_documents([f"[subject:{payer}] {number}" for number in range(4)])

    async def aask(payer):
        with subject(payer):
            await metered.aembed_query(f"[subject:{payer}]")

    async def main():
        await asyncio.gather(
            *(asyncio.to_thread(ask, payer) for payer in payers),
            *(aask(payer) for payer in payers * 2),
        )

    asyncio.run(main())

    events = events_of(meter)
    assert len(events) == 6 * (4 + 2)
    billed = sorted((event.subject, event.data["input_tokens"]) for event in events)
    assert billed == sorted((entry.subject, entry.input) for entry in provider.entries)
    assert meter.statistics()["open_calls"] == 0


def test_nobody_pays_is_kept_and_flagged(provider, meter, events_of):
    """Without any payer the event is there, and says so."""
    metered_embeddings(openai(provider), meter=meter).embed_query("x")

    (event,) = events_of(meter)
    assert (event.subject, event.data["flags"]) == ("unattributed", ["unattributed"])


@every_way
@pytest.mark.parametrize("make", [openai, None], ids=["openai", "another"])
def test_nobody_pays_is_refused_where_that_is_set(make, way, home, provider):
    """`on_missing_subject="raise"`: before anything is sent; with a payer all is as ever."""
    embeddings = make(provider) if make else DeterministicFakeEmbedding(size=4)
    sink = MemorySink()
    with Meter(home=home, sinks=[sink], on_missing_subject="raise") as meter:
        metered = metered_embeddings(embeddings, meter=meter)

        with pytest.raises(MissingSubjectError):
            way(metered)
        assert provider.entries == []
        with subject("acme"):
            way(metered)

        assert meter.statistics()["failures"] == 0
    assert [event.subject for event in sink.events] == ["acme"]


def test_another_method_is_refused_as_well(home, provider):
    """What goes past LangChain's interface goes past no rule about who pays."""
    with Meter(home=home, sinks=[MemorySink()], on_missing_subject="raise") as meter:
        metered = metered_embeddings(cohere(provider), meter=meter)

        with pytest.raises(MissingSubjectError):
            metered.embed(TEXTS, input_type="search_query")

    assert provider.entries == []


class Parallel(OpenAIEmbeddings):
    """A user's subclass with bare threads, which know nothing of the caller's context."""

    def embed_documents(self, texts, chunk_size=None, **kwargs):
        with ThreadPoolExecutor(2) as pool:
            return [vector for (vector,) in pool.map(self._one, texts)]

    def _one(self, text):
        return super().embed_documents([text])


def test_bare_threads_in_a_call_are_the_calls(provider, meter, events_of):
    """Requests of threads without the context are billed once, to the payer of the call."""
    embeddings = Parallel(model="embed-x", api_key="x", base_url=provider.openai_url)
    metered = metered_embeddings(embeddings, meter=meter)

    with subject("acme"):
        metered.embed_documents(TEXTS)

    events = events_of(meter)
    assert counts(events) == books(provider)
    assert [event.subject for event in events] == ["acme"] * 3


def test_bare_threads_of_several_payers_are_nobodys(provider, meter, events_of):
    """Where calls of two payers are under way, such a request is on neither bill, and flagged."""
    both = threading.Barrier(2)

    class Waiting(Parallel):
        def _one(self, text):
            both.wait(WAIT)
            return super()._one(text)

    embeddings = Waiting(model="embed-x", api_key="x", base_url=provider.openai_url)
    metered = metered_embeddings(embeddings, meter=meter)

    def call(payer):
        with subject(payer):
            metered.embed_documents(["x"])

    threads = [threading.Thread(target=call, args=[payer]) for payer in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)

    events = events_of(meter)
    assert counts(events) == books(provider)
    assert len(events) == 2
    assert {event.subject for event in events} >= {"unattributed"}


class Past(OpenAIEmbeddings):
    """A user's subclass that goes past the client."""

    def embed_documents(self, texts, chunk_size=None, **kwargs):
        if texts == ["fail"]:
            raise RuntimeError("before any request")
        return [[1.0] for _ in texts]


def test_what_goes_past_the_client_is_not_lost(meter, events_of):
    """A call whose requests we did not see is counted as a whole; unless it failed without one."""
    metered = metered_embeddings(Past(model="embed-x", api_key="x"), "acme", meter=meter)

    assert metered.embed_documents(TEXTS) == [[1.0]] * 3
    with pytest.raises(RuntimeError):
        metered.embed_documents(["fail"])

    (event,) = events_of(meter)
    assert event.data["provenance"] == "estimated"
    assert event.data["input_tokens"] > 0


@every_client
def test_a_refusal_is_counted_and_not_billed(make, provider, meter, events_of):
    """A 4xx answer costs nothing: no event, and the application gets its error."""
    embeddings = make(
        provider, "amazon.titan-embed+refuse400" if "bed" in make.__name__ else "x+refuse400"
    )
    metered = metered_embeddings(embeddings, "acme", meter=meter)

    with pytest.raises(Exception) as theirs:  # noqa: PT011
        embeddings.embed_query("x")
    with pytest.raises(type(theirs.value)):
        metered.embed_query("x")

    assert events_of(meter) == []
    assert meter.statistics()["refused_calls"] * 2 == len(provider.entries)


class Failing(Embeddings):
    """A client we do not know, which fails."""

    def __init__(self, error):
        self.error = error

    def embed_documents(self, texts):
        raise self.error

    def embed_query(self, text):
        raise self.error


class RefusedError(Exception):
    status_code = 429


def test_any_other_object_that_fails(meter, events_of):
    """A refusal that its error tells of makes no event; any other failure may have cost something."""
    for error in (RefusedError("quota"), RuntimeError("lost")):
        metered = metered_embeddings(Failing(error), "acme", meter=meter)
        with pytest.raises(type(error)) as raised:
            metered.embed_query("x")
        assert raised.value is error
        with pytest.raises(type(error)):
            asyncio.run(metered.aembed_query("x"))

    events = events_of(meter)
    assert [event.data["status"] for event in events] == ["failed"] * 2
    assert [event.data["provenance"] for event in events] == ["missing"] * 2
    assert meter.statistics()["refused_calls"] == 2


@pytest.mark.parametrize("make", [openai, ollama], ids=lambda make: make.__name__)
def test_a_lost_answer_is_an_event_without_counts(make, provider, meter, events_of):
    """The request arrived and the answer did not: it may have cost something, nobody knows what."""
    settings = {"max_retries": 0} if make is openai else {}
    metered = metered_embeddings(make(provider, "embed-x+die", **settings), "acme", meter=meter)

    with pytest.raises(Exception):  # noqa: B017, PT011
        metered.embed_query("x")

    (event,) = events_of(meter)
    assert (event.data["status"], event.data["provenance"]) == ("failed", "missing")
    assert "input_tokens" not in event.data


@pytest.mark.needs("mistralai_1")
def test_a_server_that_fails_may_have_worked(provider, meter, events_of):
    """An httpx client hands out a 500 as an answer: it is no refusal, and no answer either."""
    metered = metered_embeddings(mistral(provider, "embed-x+refuse500"), "acme", meter=meter)

    # langchain-mistralai before 1.0 looks for vectors in the error.
    with pytest.raises((RetryError, KeyError)):
        asyncio.run(metered.aembed_query("x"))

    outcomes = [(event.data["status"], event.data["provenance"]) for event in events_of(meter)]
    assert outcomes == [("failed", "missing")] * len(provider.entries)
    assert meter.statistics()["refused_calls"] == 0


def test_a_failing_chunk_leaves_the_ones_before_it_on_the_bill(provider, meter, events_of):
    """The first of two requests was answered and paid for; LangChain throws its vectors away."""

    class Half(OpenAIEmbeddings):
        @property
        def _invocation_params(self):
            return {"model": self.model}

    metered = metered_embeddings(
        Half(
            model="embed-x",
            api_key="x",
            base_url=provider.openai_url,
            chunk_size=1,
            max_retries=0,
            check_embedding_ctx_length=False,
        ),
        "acme",
        meter=meter,
    )
    client = metered.client
    create = client.create

    def refuse_the_second(**kwargs):
        return create(
            **{**kwargs, "model": "embed-x" + "+refuse429" * (kwargs["input"] == ["two"])}
        )

    vars(metered._embeddings)["client"] = type(
        "Client", (), {"create": staticmethod(refuse_the_second)}
    )
    with pytest.raises(Exception, match="429"):
        metered.embed_documents(["one", "two", "three"])

    assert counts(events_of(meter)) == books(provider)
    assert len(provider.entries) == 2
    assert meter.statistics()["refused_calls"] == 1


def test_what_the_client_retries_is_one_event(provider, meter, events_of):
    """OpenAI's client tries again by itself after a 429: one answer, one event."""
    metered_embeddings(openai(provider, "embed-x+429once"), "acme", meter=meter).embed_query("x")

    assert [entry.status for entry in provider.entries] == [429, 200]
    assert counts(events_of(meter)) == books(provider)


def test_what_langchain_retries_is_seen_each_time(provider, meter, events_of):
    """MistralAIEmbeddings retries around its client: the refusal is counted, the answer billed."""
    metered_embeddings(mistral(provider, "embed-x+429once"), "acme", meter=meter).embed_query("x")

    assert [entry.status for entry in provider.entries] == [429, 200]
    assert counts(events_of(meter)) == books(provider)
    assert meter.statistics()["refused_calls"] == 1


@pytest.mark.parametrize("make", [openai, mistral, ollama, cohere], ids=lambda make: make.__name__)
def test_a_cancelled_call_is_aborted(make, provider, meter, events_of):
    """Who waits no more may have to pay all the same: one event, without counts."""
    metered = metered_embeddings(make(provider, "embed-x+hang"), "acme", meter=meter)

    async def main():
        task = asyncio.create_task(metered.aembed_query("x"))
        await asyncio.to_thread(provider.wait_until, lambda entries: len(entries) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())

    (event,) = events_of(meter)
    assert (event.data["status"], event.data["provenance"]) == ("aborted", "missing")
    assert event.subject == "acme"


@pytest.mark.parametrize(
    ("trait", "flags"),
    [("half", None), ("negative", None), ("contradict", ["usage_inconsistent"])],
    ids=["total alone", "negative output", "other total"],
)
def test_odd_usage_is_read_as_it_is(trait, flags, provider, meter, events_of):
    """The counts are the provider's, never bent; where they contradict each other, it is flagged."""
    metered = metered_embeddings(openai(provider, f"embed-x+{trait}"), "acme", meter=meter)

    assert len(metered.embed_query("x")) == 3

    (event,) = events_of(meter)
    assert counts([event]) == books(provider)
    assert event.data.get("flags") == flags


def test_metered_again_it_is_metered_once(provider, meter, events_of):
    """What was said last holds, and what was not said again stays."""
    once = metered_embeddings(openai(provider), "one", meter=meter, feature="a", team="x")
    twice = metered_embeddings(once, "two", feature="b")

    twice.embed_query("x")
    metered_embeddings(once).embed_query("x")

    first, second = events_of(meter)
    assert (first.subject, first.data["feature"], first.data["team"]) == ("two", "b", "x")
    assert (second.subject, second.data["feature"]) == ("one", "a")
    assert counts([first, second]) == books(provider)


class Around(Embeddings):
    """A user's wrapper."""

    def __init__(self, inner):
        self.inner = inner

    def embed_documents(self, texts):
        return self.inner.embed_documents(texts)

    def embed_query(self, text):
        return self.inner.embed_query(text)


class Maker(Around):
    """A wrapper that makes what it asks while it is asked."""

    def embed_query(self, text):
        return self.inner().embed_query(text)


def test_a_wrapper_around_what_is_metered_counts_nothing_twice(provider, meter, events_of):
    """The one inside is exact already; an estimate around it would be a second bill."""
    inner = metered_embeddings(openai(provider), "inner", meter=meter)

    metered_embeddings(Around(Around(inner)), "outer", meter=meter).embed_query("x")
    metered_embeddings(Maker(lambda: inner), "outer", meter=meter).embed_query("x")

    exact, estimated = events_of(meter)
    assert (exact.subject, exact.data["provenance"]) == ("outer", "reported")
    assert counts([exact]) == books(provider)[:1]
    assert (estimated.subject, estimated.data["provenance"]) == ("outer", "estimated")


class Keeper(Around):
    """A wrapper that leaves work to a context that outlives the call."""

    def embed_query(self, text):
        self.context = contextvars.copy_context()
        return [1.0]


def test_what_a_call_leaves_behind_is_no_part_of_it(provider, meter, events_of):
    """A context copied during a call does not keep later calls in it from the bill."""
    later = metered_embeddings(openai(provider), "later", meter=meter)
    keeper = Keeper(None)
    metered_embeddings(keeper, "acme", meter=meter).embed_query("x")

    keeper.context.run(later.embed_query, "x")

    events = events_of(meter)
    assert sorted(event.subject for event in events) == ["acme", "later"]
    assert counts(events)[-1:] == books(provider)


def test_copies_and_pickles_are_metered(meter, events_of):
    """As well as what they stand for can be copied; in this process for the same account."""
    metered = metered_embeddings(DeterministicFakeEmbedding(size=4), "acme", meter=meter, team="x")

    for copied in (
        copy.copy(metered),
        copy.deepcopy(metered),
        pickle.loads(pickle.dumps(metered)),
    ):
        assert copied is not metered
        assert copied.embed_query("x") == metered.embed_query("x")

    events = events_of(meter)
    assert [(event.subject, event.data["team"]) for event in events] == [("acme", "x")] * 6


def test_a_copy_of_a_tapped_object_is_metered_once(provider, meter, events_of):
    """The copy is tapped itself, not around the tap of the first."""
    copied = copy.copy(metered_embeddings(openai(provider), "acme", meter=meter))

    copied.embed_query("x")

    assert counts(events_of(meter)) == books(provider) != []


def test_pickled_into_another_process(default_meter, events_of):
    """There is no such account there: it records with the default meter, for the same payer."""
    metered = metered_embeddings(DeterministicFakeEmbedding(size=4), "acme", team="x")
    pickled = pickle.dumps(metered)
    del metered

    pickle.loads(pickled).embed_query("x")

    (event,) = events_of(default_meter)
    assert (event.subject, event.data["team"]) == ("acme", "x")


def test_the_default_meter_of_the_moment(provider, home, tmp_path):
    """`configure()` puts another meter in place: calls that begin later are its."""
    one, two = MemorySink(), MemorySink()
    llm_metering.configure(home=home, sinks=[one])
    try:
        metered = metered_embeddings(openai(provider), "acme")
        metered.embed_query("x")
        llm_metering.configure(home=tmp_path / "2", sinks=[two])
        metered.embed_query("x")
        assert llm_metering.flush()
    finally:
        llm_metering.close()

    assert counts(one.events) + counts(two.events) == books(provider)


def test_our_failure_is_not_the_applications(provider, meter, monkeypatch):
    """Whatever breaks in the meter, the vectors come, and `status` has the failure."""
    metered = metered_embeddings(openai(provider), "acme", meter=meter)
    other = metered_embeddings(DeterministicFakeEmbedding(size=4), "acme", meter=meter)

    def broken(*args, **kwargs):
        raise RuntimeError("ours")

    for name in ("start", "end"):
        with monkeypatch.context() as patch:
            patch.setattr(type(meter.calls), name, broken)
            assert len(metered.embed_query("x")) == 3
            assert len(other.embed_query("x")) == 4

    assert meter.statistics()["failures"] >= 3


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        pytest.param({"embeddings": object()}, InvalidArgumentError, id="no embeddings"),
        pytest.param({"subject": " "}, SubjectError, id="no subject"),
        pytest.param({"feature": 3}, SubjectError, id="no dimension"),
    ],
)
def test_mistakes_are_told_where_they_are_made(arguments, error, meter):
    """When it is metered, not when it is asked."""
    embeddings = arguments.pop("embeddings", DeterministicFakeEmbedding(size=4))
    with pytest.raises(error):
        metered_embeddings(embeddings, meter=meter, **arguments)


def test_no_text_is_written_anywhere(provider, meter, home, events_of):
    """Neither a text nor a key is in a file of ours."""
    text, key = "the-secret-question", "sk-the-secret-key"
    exact = openai(provider).model_copy(update={"openai_api_key": key})
    metered_embeddings(exact, "acme", meter=meter).embed_query(text)
    metered_embeddings(DeterministicFakeEmbedding(size=4), "acme", meter=meter).embed_query(text)
    assert len(events_of(meter)) == 2

    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert b"acme" in written
    assert text.encode() not in written
    assert key.encode() not in written
