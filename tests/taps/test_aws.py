"""The tap of botocore: answers of Amazon Bedrock's InvokeModel, whole and streamed."""

from __future__ import annotations

import base64
import json
import struct
import zlib

import botocore.config
import botocore.session
import pytest

from llm_metering import taps
from llm_metering.calls import Report
from llm_metering.taps.aws import PATCHES
from llm_metering.token_usage import TokenUsage
from tests.replaying import Replays, stored

USAGE = TokenUsage(input_tokens=5, output_tokens=10)
METRICS = {"inputTokenCount": 5, "outputTokenCount": 10, "invocationLatency": 1}
TITAN = {
    "inputTextTokenCount": 5,
    "results": [{"tokenCount": 10, "outputText": "Hello", "completionReason": "FINISH"}],
}
PIECES = [
    {"outputText": "Hel", "index": 0, "totalOutputTextTokenCount": None, "inputTextTokenCount": 5},
    *({"outputText": "l", "index": 0} for _ in range(5)),
    {
        "outputText": "o",
        "index": 0,
        "totalOutputTextTokenCount": 10,
        "completionReason": "FINISH",
        "amazon-bedrock-invocationMetrics": METRICS,
    },
]


def message(payload: dict, **headers: str) -> bytes:
    """One message of the encoding application/vnd.amazon.eventstream."""
    packed = b"".join(
        struct.pack("!B", len(name)) + name + b"\x07" + struct.pack("!H", len(value)) + value
        for name, value in (
            (f":{k.replace('_', '-')}".encode(), v.encode()) for k, v in headers.items()
        )
    )
    content = json.dumps(payload).encode()
    prelude = struct.pack("!II", 16 + len(packed) + len(content), len(packed))
    prelude += struct.pack("!I", zlib.crc32(prelude))
    whole = prelude + packed + content
    return whole + struct.pack("!I", zlib.crc32(whole))


def chunk(piece: dict) -> bytes:
    content = base64.b64encode(json.dumps(piece).encode()).decode()
    return message({"bytes": content}, event_type="chunk", message_type="event")


STREAM = b"".join(map(chunk, PIECES))
EVENTS = "application/vnd.amazon.eventstream"
ANSWERS = {
    "body": ("application/json", json.dumps(TITAN), {}),
    "stream": (EVENTS, STREAM, {}),
    "odd": (EVENTS, chunk({"what": "nothing known"}), {}),
}


@pytest.fixture(scope="module")
def replays(tmp_path_factory):
    with Replays(stored(tmp_path_factory.mktemp("answers"), ANSWERS)) as replays:
        yield replays


@pytest.fixture(autouse=True)
def no_tap_is_left(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield
    taps.remove()
    assert not any(patch.is_put for patch in PATCHES)


def client(url):
    return botocore.session.get_session().create_client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id="x",
        aws_secret_access_key="x",
        config=botocore.config.Config(retries={"max_attempts": 0}),
    )


def whole(url):
    with_body = client(url).invoke_model(modelId="amazon.titan", body="{}")["body"]
    return json.loads(with_body.read())


def in_pieces(url):
    with_body = client(url).invoke_model(modelId="amazon.titan", body="{}")["body"]
    return json.loads(b"".join(with_body.iter_chunks(9)))


def streamed(url):
    answer = client(url).invoke_model_with_response_stream(modelId="amazon.titan", body="{}")
    return [json.loads(event["chunk"]["bytes"]) for event in answer["body"]]


WAYS = [
    pytest.param(whole, "body", TITAN, id="whole"),
    pytest.param(in_pieces, "body", TITAN, id="in pieces"),
    pytest.param(streamed, "stream", PIECES, id="streamed"),
]


@pytest.mark.parametrize(("ask", "name", "expected"), WAYS)
def test_read_along(replays, ask, name, expected):
    """The answer is read as the application reads it, who gets what it gets without a tap."""
    call = taps.begin("key", object(), "amazon_bedrock")

    answer = ask(replays.url(f"own/{name}"))

    call.end()
    assert answer == expected
    assert call.complete(Report(), is_whole=True).usage.counts() == USAGE.counts()


@pytest.mark.parametrize(("ask", "name", "expected"), WAYS)
def test_not_within_a_call(replays, ask, name, expected):
    """What is read outside of a call is nobody's."""
    call = taps.begin("key", object(), "amazon_bedrock")
    call.end()

    assert ask(replays.url(f"own/{name}")) == expected
    assert call.complete(Report(), is_whole=True) == Report()


def test_what_is_not_known(replays):
    """An answer in no known shape says nothing."""
    call = taps.begin("key", object(), "amazon_bedrock")

    streamed(replays.url("own/odd"))

    call.end()
    assert call.complete(Report(), is_whole=True).usage is None
