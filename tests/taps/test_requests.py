"""`TappedRequests`: a call that may ask many times, and is told of each answer as it ends."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import threading
import weakref

import botocore.config
import botocore.session
import httpx
import httpx2
import pytest

from llm_metering import taps
from llm_metering.extract.embeddings import read_embeddings
from llm_metering.extract.reading import Reading
from llm_metering.taps import requests
from llm_metering.token_usage import TokenUsage
from tests.replaying import Replays, stored

EMBEDDINGS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5] * 50}],
    "model": "e",
    "usage": {"prompt_tokens": 5, "total_tokens": 5},
}
USAGE = TokenUsage(input_tokens=5, output_tokens=0, reported_total_tokens=5)
COHERES = {"id": "a", "embeddings": [[0.5]], "texts": ["x"], "response_type": "embeddings_floats"}
JSON = "application/json"
ANSWERS = {
    "embeddings": (JSON, json.dumps(EMBEDDINGS), {}),
    "unreported": (JSON, json.dumps({**EMBEDDINGS, "usage": None}), {}),
    "large": (JSON, json.dumps({**EMBEDDINGS, "filling": "x" * 9000}), {}),
    "weights": ("application/octet-stream", json.dumps(EMBEDDINGS), {}),
    "refused": (JSON, json.dumps(EMBEDDINGS), {}),
    "coheres": (JSON, json.dumps(COHERES), {"X-Amzn-Bedrock-Input-Token-Count": "7"}),
}
OPTIONS = {"trust_env": False, "verify": False}
LIBRARIES = pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda each: each.__name__)


@pytest.fixture(scope="module")
def replays(tmp_path_factory):
    with Replays(stored(tmp_path_factory.mktemp("answers"), ANSWERS, ("refused",))) as replays:
        yield replays


@pytest.fixture(autouse=True)
def no_tap_is_left(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield
    taps.remove()


class Heard:
    """What is told of a call's answers."""

    def __init__(self, **options):
        self.begun = 0
        self.told = []
        self.call = taps.follow(
            self, None, begin=self.begin, read_body=read_embeddings, framework="own", **options
        )

    def begin(self):
        self.begun += 1
        return self.told.append

    @property
    def usages(self):
        return [None if reading is None else reading.usage for reading in self.told]


def ask(library, url):
    with library.Client(**OPTIONS) as client:
        return client.post(url).content


@LIBRARIES
def test_each_answer_is_told_of(replays, library):
    """However many there are: of a call that generates no more than four are read."""
    heard = Heard()

    for _ in range(9):
        ask(library, replays.url("own/embeddings"))

    assert heard.usages == [USAGE] * 9
    heard.call.end()


@LIBRARIES
def test_an_answer_is_told_of_once(replays, library, monkeypatch):
    """Somebody patches over a tap, which then stays; it is put in again, and is there twice."""
    name = "_get_content_decoder"
    # As it is now it will be again.
    monkeypatch.setattr(library.Response, name, getattr(library.Response, name))
    Heard().call.end()
    ours = getattr(library.Response, name)
    monkeypatch.setattr(library.Response, name, lambda self: ours(self))
    taps.remove()

    heard = Heard()
    ask(library, replays.url("own/embeddings"))

    assert getattr(library.Response, name) is not ours
    assert heard.usages == [USAGE]
    heard.call.end()
    taps.remove()


def test_answers_at_the_same_time_are_told_apart(replays):
    """One begins while another is read: of a call that generates none of these would be believed."""
    heard = Heard()

    async def main():
        async with httpx.AsyncClient(**OPTIONS) as client:
            url = replays.url("own/embeddings")
            async with client.stream("POST", url) as first, client.stream("POST", url) as second:
                pieces = [first.aiter_bytes(), second.aiter_bytes()]
                await asyncio.gather(*(anext(each) for each in pieces))
                assert heard.begun == 2
                for each in pieces:
                    async for _ in each:
                        pass

    asyncio.run(main())

    assert heard.usages == [USAGE, USAGE]
    heard.call.end()


def test_a_thread_that_copied_the_context_is_in_the_call(replays):
    """Executors of frameworks copy it."""
    heard = Heard()
    context = contextvars.copy_context()

    url = replays.url("own/embeddings")
    thread = threading.Thread(target=context.run, args=[ask, httpx, url])
    thread.start()
    thread.join()

    assert heard.usages == [USAGE]
    heard.call.end()


@pytest.mark.parametrize("name", ["refused", "embeddings", "weights"])
def test_what_is_not_told(replays, name):
    """A refusal is no answer; nor is one that comes when the call is over, nor a file."""
    heard = Heard()
    if name == "embeddings":
        heard.call.end()

    ask(httpx, replays.url(f"own/{name}"))

    assert (heard.begun, heard.told) == (0, [])
    heard.call.end()


def test_an_answer_that_ends_in_the_middle_is_not_told_of(replays):
    """That it began is known, and the call is told how it ended."""
    heard = Heard()

    with (
        httpx.Client(**OPTIONS) as client,
        client.stream("POST", replays.url("own/embeddings")) as answer,
    ):
        next(answer.iter_bytes(9))

    assert (heard.begun, heard.told) == (1, [])
    heard.call.end()


def test_an_answer_too_large_to_keep_is_told_of_as_unread(replays, monkeypatch):
    """It passes, and what it said is not known."""
    monkeypatch.setattr(requests._Answer, "largest", 8000)
    heard = Heard()

    ask(httpx, replays.url("own/large"))

    assert heard.told == [None]
    heard.call.end()


def test_without_taps_nothing_is_read(replays):
    """Where the settings say so."""
    heard = Heard(is_read=False)

    ask(httpx, replays.url("own/embeddings"))

    assert heard.begun == 0
    heard.call.end()


def test_a_call_inside_has_its_own_answers(replays):
    """And the one around it goes on with its own afterwards, and knows that there was one."""
    outer, inner = Heard(), Heard()
    assert outer.call.holds_any

    ask(httpx, replays.url("own/embeddings"))
    inner.call.end()
    ask(httpx, replays.url("own/unreported"))

    assert (inner.usages, outer.usages) == ([USAGE], [None])
    assert isinstance(outer.told[0], Reading)
    outer.call.end()


def test_a_call_that_is_over_is_not_kept(replays):
    """A context that was copied meanwhile lives on, and would hold the texts."""
    heard = Heard()
    context = contextvars.copy_context()
    heard.call.end()
    reference = weakref.ref(heard)

    del heard
    gc.collect()

    assert reference() is None
    assert context is not None


def test_bedrocks_headers_count_what_the_body_does_not(replays):
    """Cohere's models on Bedrock answer without a count: it stands in a header."""
    heard = Heard()
    client = botocore.session.get_session().create_client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=replays.url("own/coheres"),
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=botocore.config.Config(retries={"max_attempts": 0}),
    )

    client.invoke_model(modelId="cohere.embed", body="{}")["body"].read()

    (reading,) = heard.told
    assert reading.usage.counts() == {"input_tokens": 7, "output_tokens": 0}
    assert reading.provider == "aws.bedrock"
    heard.call.end()
