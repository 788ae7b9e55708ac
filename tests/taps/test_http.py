"""The taps of httpx and httpx2: everything passes as before, and is read along."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading

import httpx
import httpx2
import pytest

from llm_metering import taps
from llm_metering.calls import Report
from llm_metering.taps.http import PATCHES
from llm_metering.token_usage import TokenUsage
from tests.replaying import Replays, events, stored

USAGE = TokenUsage(input_tokens=8, output_tokens=3)
OTHER = TokenUsage(input_tokens=5, output_tokens=1)
BODY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 8, "completion_tokens": 3},
}


def chunk(delta, reason=None):
    choices = [{"index": 0, "delta": delta, "finish_reason": reason}]
    return {**BODY, "object": "chat.completion.chunk", "choices": choices, "usage": None}


STREAM = events(
    chunk({"content": "H"}),
    chunk({"content": "ï"}),
    chunk({}, "stop"),
    {**BODY, "object": "chat.completion.chunk", "choices": []},
    done=True,
)
EMBEDDINGS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "model": "e",
    "usage": {"prompt_tokens": 5, "total_tokens": 5},
}
SMALL = {**BODY, "id": "chatcmpl-2", "usage": {"prompt_tokens": 5, "completion_tokens": 1}}
LONG = events(*[chunk({"content": "a long answer"})] * 1000) + STREAM
JSON = "application/json"
SSE = "text/event-stream"
ANSWERS = {
    "body": (JSON, json.dumps(BODY), {}),
    "small": (JSON, json.dumps(SMALL), {}),
    "stream": (SSE, STREAM, {}),
    "long-stream": (SSE, LONG, {}),
    "unnamed-stream": (JSON, STREAM, {}),
    "gzip-body": (JSON, gzip.compress(json.dumps(BODY).encode()), {"Content-Encoding": "gzip"}),
    "gzip-stream": (SSE, gzip.compress(STREAM.encode()), {"Content-Encoding": "gzip"}),
    "twice-gzip": (
        SSE,
        gzip.compress(gzip.compress(STREAM.encode())),
        {"Content-Encoding": "gzip, gzip"},
    ),
    "embeddings": (JSON, json.dumps(EMBEDDINGS), {}),
    "page": ("text/html", "<html>usage</html>", {}),
}
GENERATED = sorted(set(ANSWERS) - {"embeddings", "page", "small"})
# No proxy of the environment, and no certificates, which take long to load.
OPTIONS = {"trust_env": False, "verify": False}
LIBRARIES = pytest.mark.parametrize(
    "library", [pytest.param(httpx, id="httpx"), pytest.param(httpx2, id="httpx2")]
)


@pytest.fixture(scope="module")
def replays(tmp_path_factory):
    with Replays(stored(tmp_path_factory.mktemp("answers"), ANSWERS)) as replays:
        yield replays


@pytest.fixture(autouse=True)
def no_tap_is_left():
    yield
    taps.remove()


@pytest.fixture
def call():
    """A call that is open in the context of the test."""
    call = taps.begin("key", object(), "some")
    yield call
    call.end()


def whole(library, url):
    with library.Client(**OPTIONS) as client:
        return client.post(url).content


def in_pieces(library, url):
    with library.Client(**OPTIONS) as client, client.stream("POST", url) as response:
        return b"".join(response.iter_bytes())


def in_lines(library, url):
    with library.Client(**OPTIONS) as client, client.stream("POST", url) as response:
        return "\n".join(response.iter_lines()).encode()


def async_whole(library, url):
    async def read():
        async with library.AsyncClient(**OPTIONS) as client:
            return (await client.post(url)).content

    return asyncio.run(read())


def async_in_pieces(library, url):
    async def read():
        async with (
            library.AsyncClient(**OPTIONS) as client,
            client.stream("POST", url) as response,
        ):
            return b"".join([piece async for piece in response.aiter_bytes()])

    return asyncio.run(read())


WAYS = [whole, in_pieces, in_lines, async_whole, async_in_pieces]


def ended(call):
    call.end()
    return call.complete(Report(), is_whole=True)


@LIBRARIES
@pytest.mark.parametrize("read", WAYS)
@pytest.mark.parametrize("name", GENERATED)
def test_read_along(replays, call, library, read, name):
    """However an answer is encoded and read, at once, in pieces, in lines or by await: it is seen."""
    content = read(library, replays.url(f"own/{name}"))

    report = ended(call)
    assert report.usage == USAGE
    assert report.response_id == "chatcmpl-1"
    assert report.is_final
    assert not report.flags
    assert b"chatcmpl-1" in content


@LIBRARIES
@pytest.mark.parametrize("read", WAYS)
@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_what_the_application_gets(replays, library, read, name):
    """With a tap, the application gets what it gets without one, to the byte."""
    without = read(library, replays.url(f"own/{name}"))
    call = taps.begin("key", object(), "some")

    tapped = read(library, replays.url(f"own/{name}"))

    assert any(patch.is_put for patch in PATCHES)
    assert tapped == without
    call.end()


@LIBRARIES
def test_not_within_a_call(replays, library):
    """What is read before a call, after it, or in another context is nobody's."""
    request = object()
    taps.begin("early", request, "some").end()
    whole(library, replays.url("own/body"))
    call = taps.begin("key", request, "some")
    thread = threading.Thread(target=whole, args=(library, replays.url("own/body")))
    thread.start()
    thread.join()
    report = ended(call)
    whole(library, replays.url("own/body"))

    assert report == Report()
    assert ended(call) == Report()


@LIBRARIES
@pytest.mark.parametrize("name", ["embeddings", "page"])
def test_other_requests_of_a_call(replays, call, library, name):
    """A cache that asks for embeddings, or a page that is fetched, is not taken for the answer."""
    whole(library, replays.url(f"own/{name}"))
    whole(library, replays.url("own/body"))

    assert ended(call).usage == USAGE


@LIBRARIES
def test_a_call_of_the_applications_own_between_two_chunks(replays, call, library):
    """What the application asks itself while it consumes a stream is not billed to the stream."""
    url = replays.url("own/stream")
    with library.Client(**OPTIONS) as client, client.stream("POST", url) as response:
        for _ in response.iter_bytes():
            whole(library, replays.url("own/small"))

    assert ended(call).usage == USAGE


@LIBRARIES
def test_two_answers(replays, call, library):
    """Of two answers, one after the other, nobody can say whose they are: both are left alone."""
    whole(library, replays.url("own/body"))
    whole(library, replays.url("own/small"))

    report = ended(call)
    assert report.usage is None
    assert report.flags == ("several_responses",)


@LIBRARIES
def test_a_refusal_comes_first(replays, call, library):
    """A request that was refused and tried again is not the answer."""
    refused = whole(library, replays.url("own/nothing"))
    whole(library, replays.url("own/body"))

    assert b"404" in refused
    assert ended(call).usage == USAGE


@LIBRARIES
def test_a_stream_that_is_left(replays, call, library):
    """Of a stream that the application leaves, what had passed is known, and that it is not all."""
    url = replays.url("own/long-stream")
    with library.Client(**OPTIONS) as client, client.stream("POST", url) as response:
        next(response.iter_bytes(chunk_size=700))

    call.end()
    report = call.complete(Report(), is_whole=False)
    assert report.response_id == "chatcmpl-1"
    assert report.usage is None


@LIBRARIES
def test_what_is_not_said_at_the_end(replays, call, library):
    """Of a call whose end nobody tells, what passed is known."""
    whole(library, replays.url("own/body"))

    assert call.complete(Report(is_final=False), is_whole=False).usage == USAGE


def test_a_call_within_a_call(replays):
    """A model that calls another one goes on with its own answer afterwards."""
    outer = taps.begin("outer", object(), "some")
    inner = taps.begin("inner", object(), "some")
    whole(httpx, replays.url("own/small"))
    inside = ended(inner)
    whole(httpx, replays.url("own/body"))

    assert inside.usage == OTHER
    assert ended(outer).usage == USAGE


def test_the_same_start_twice(replays):
    """A start that two handlers tell of is one call; the same key with another request is a new one."""
    request = object()
    first = taps.begin("key", request, "some")
    second = taps.begin("key", request, "some")
    third = taps.begin("key", object(), "some")

    assert first is second
    assert third is not first
    assert taps.find("key") is third
    for each in (first, third):
        each.end()


def test_nothing_is_kept(replays, call):
    """When a call is over, nothing of its request or its answer is held."""
    whole(httpx, replays.url("own/body"))

    ended(call)

    assert call.request is None
    assert call._bodies == []


def test_calls_are_forgotten():
    """A call that nobody holds on to any more is not kept by its key either."""
    call = taps.begin("key", object(), "some")
    taps.begin("another", object(), "some").end()
    call.end()
    del call

    assert taps.find("key") is None


@LIBRARIES
def test_taken_out(replays, library):
    """Taken out, the library is as it was; a stream that is being read goes on to be read."""
    call = taps.begin("key", object(), "some")
    url = replays.url("own/stream")
    with library.Client(**OPTIONS) as client, client.stream("POST", url) as response:
        pieces = response.iter_bytes(chunk_size=50)
        next(pieces)
        taps.remove()
        list(pieces)

    assert library.Response._get_content_decoder.__module__.startswith(library.__name__)
    assert not hasattr(library.Response._get_content_decoder, "__wrapped__")
    assert ended(call).usage == USAGE


@LIBRARIES
def test_a_decoder_of_another_make(replays, call, library, monkeypatch):
    """A decoder that gives back what we do not know is used as it is, and the tap says it failed."""

    class Odd:
        def decode(self, data):
            return Pieces([data])

        def flush(self):
            return Pieces([])

    class Pieces(list):
        """Neither bytes nor an iterator."""

    monkeypatch.setattr(library.Response, "_get_content_decoder", lambda self: Odd())
    taps.remove()
    taps.begin("key", call.request, "some")
    with library.Client(**OPTIONS) as client:
        request = client.build_request("POST", replays.url("own/body"))
        response = client.send(request, stream=True)
        decoder = response._get_content_decoder()
        decoded = [decoder.decode(b"{"), decoder.flush()]
        response.close()

    taps.remove()
    assert decoded == [[b"{"], []]
    assert ended(call).flags == ("tap_failed",)
