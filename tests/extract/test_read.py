"""`read` takes whatever there is, tells whose it is by its shape, and raises nothing."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import get_args

import pytest
from langchain_core.messages import AIMessage
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, CompletionResponse

from llm_metering.events import MEASURES
from llm_metering.exchange import Output
from llm_metering.extract import output, read
from llm_metering.extract.flags import unknown_usage_flag
from llm_metering.extract.reading import Ending, Reading
from llm_metering.token_usage import TokenUsage
from tests.extract.test_bodies import CASES

USAGE = {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}
COUNTS = TokenUsage(input_tokens=8, output_tokens=2, reported_total_tokens=10)
BODY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "gpt-5-mini",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Blue."},
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
}
STREAM = "".join(
    f"data: {json.dumps(each)}\n\n"
    for each in (
        {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"content": "Blue."}}]},
        {"id": "chatcmpl-1", "choices": [], "usage": USAGE},
    )
)


def test_what_a_body_says():
    """All that a body says of its call."""
    assert read(BODY) == Reading(
        shape="openai.chat",
        provider="openai",
        operation="chat",
        usage=COUNTS,
        model="gpt-5-mini",
        response_id="chatcmpl-1",
        created=read(BODY).created,
    )
    assert read(BODY).created.isoformat() == "2026-09-21T14:13:20+00:00"


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(BODY, id="a dict"),
        pytest.param(json.dumps(BODY), id="JSON"),
        pytest.param(f"\n  {json.dumps(BODY, indent=2)}\n", id="JSON with space around it"),
        pytest.param(json.dumps(BODY).encode(), id="bytes"),
        pytest.param(bytearray(json.dumps(BODY).encode()), id="a bytearray"),
        pytest.param(memoryview(json.dumps(BODY).encode()), id="a memoryview"),
        pytest.param(b"\xef\xbb\xbf" + json.dumps(BODY).encode(), id="bytes with a mark"),
        pytest.param("\ufeff" + json.dumps(BODY), id="text with a mark"),
        pytest.param(SimpleNamespace(**BODY), id="an object"),
        pytest.param(
            SimpleNamespace(**{**BODY, "usage": SimpleNamespace(**USAGE)}), id="objects in it"
        ),
        pytest.param({**BODY, "usage": SimpleNamespace(**USAGE)}, id="a dict with an object in it"),
        pytest.param(STREAM, id="a stream"),
        pytest.param(STREAM.encode(), id="a stream as bytes"),
        pytest.param(STREAM.splitlines(), id="the lines of a stream"),
        pytest.param(STREAM.replace("data: ", "").replace("\n\n", "\n"), id="lines of JSON"),
        pytest.param([BODY], id="a list of chunks"),
        pytest.param(json.dumps([BODY]), id="an array of chunks"),
        pytest.param(
            ChatResponse(message=ChatMessage(content="Blue."), raw=BODY), id="LlamaIndex, chat"
        ),
        pytest.param(CompletionResponse(text="Blue.", raw=BODY), id="LlamaIndex, completion"),
    ],
)
def test_in_whatever_it_comes(response):
    """A response is read alike in whatever it comes."""
    assert (read(response).usage, read(response).shape) == (COUNTS, "openai.chat")
    assert read(response).response_id == "chatcmpl-1"
    assert output(response).texts == ["Blue."]


def test_a_message_of_langchain():
    """A message of LangChain carries its usage in LangChain's own shape."""
    message = AIMessage(
        "Blue.",
        usage_metadata={
            "input_tokens": 8,
            "output_tokens": 2,
            "total_tokens": 10,
            "input_token_details": {"cache_read": 4},
        },
        response_metadata={"model_name": "gpt-5-mini", "id": "chatcmpl-1"},
    )

    reading = read(message)

    assert reading.usage == TokenUsage(
        input_tokens=8, output_tokens=2, cache_read_input_tokens=4, reported_total_tokens=10
    )
    assert (reading.model, reading.response_id) == ("gpt-5-mini", "chatcmpl-1")
    assert read(AIMessage("Blue.")).usage is None
    assert read(AIMessage("Blue.")).flags == ()


def test_a_response_of_llamaindex_without_its_raw():
    """Where LlamaIndex lost the provider's response, the counts it kept beside it are read."""
    kept = {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}

    with_counts = CompletionResponse(text="Blue.", additional_kwargs=kept)
    without = CompletionResponse(text="Blue.")

    assert read(with_counts).usage == COUNTS
    assert (read(without).usage, read(without).shape) == (None, "unknown")
    assert read(without).flags


@pytest.mark.parametrize(
    ("usage", "flags"),
    [
        pytest.param({"prompt_tokens": -8}, ("invalid_usage",), id="a negative count"),
        pytest.param("8 tokens", ("invalid_usage",), id="text"),
        pytest.param(
            {"tokens": 8, "the user's words": 1}, ("unknown_usage:tokens",), id="other names"
        ),
        pytest.param({"prompt_tokens": None, "completion_tokens": None}, (), id="nulls"),
        pytest.param({}, (), id="empty"),
        pytest.param(None, (), id="null"),
    ],
)
def test_a_usage_that_cannot_be_read(usage, flags):
    """A usage that cannot be read leaves the body's usage unknown and flagged; none is no oddity."""
    reading = read({**BODY, "usage": usage})

    assert (reading.usage, reading.flags, reading.shape) == (None, flags, "openai.chat")


@pytest.mark.parametrize(
    ("marks", "provider"),
    [
        pytest.param({"is_byok": False, "prompt_cache_hit_tokens": 0}, "openrouter", id="DeepSeek"),
        pytest.param(
            {"cache_read_input_tokens": 4, "prompt_cache_hit_tokens": 4}, "litellm", id="LiteLLM"
        ),
        pytest.param(
            {"is_byok": False, "search_context_size": "low"}, "openrouter", id="Perplexity"
        ),
    ],
)
def test_who_passes_on_what_others_answer(marks, provider):
    """Who stands in between is told first, whatever marks of those behind it are left."""
    assert read({**BODY, "usage": {**USAGE, **marks}}).provider == provider


class Unreadable:
    def __getattribute__(self, name):
        raise RuntimeError(name)


class Unclean(dict):
    def get(self, *args):
        raise RuntimeError("no")

    __getitem__ = __contains__ = keys = items = get


def nested(depth):
    inner = {}
    for _ in range(depth):
        inner = {"raw": inner, "message": {}}
    return inner


RAW_OF_ITSELF = {"message": {}}
RAW_OF_ITSELF["raw"] = {"raw": RAW_OF_ITSELF}

ODD = [
    *(None, 0, 7, 2.5, True, "", " ", "hello", "{broken", "[", "null", "7", b"", b"\xff\xfe"),
    *(object(), object, len, Unreadable(), Unclean(a=1), iter(()), {}, [], (), set(), {1, 2}),
    *([None], [[]], [[[]]], {"choices": None}, {"choices": []}, {"usage": None}, {"usage": 5}),
    *({1: 2}, {None: None}, {("a",): 1}, {"choices": [Unreadable()]}, {"usage": Unreadable()}),
    *(nested(100_000), RAW_OF_ITSELF, "[" * 100_000, '{"a":' * 100_000, f'{{"a": {"1" * 5000}}}'),
    *({"usage": {"prompt_tokens": 10**5000}}, {"data": [{"embedding": []}], "usage": {"a": 1}}),
    *(sys, read, Reading, RuntimeError("no"), {"created": 10**400, "choices": []}),
    *({"choices": [], "model": "\ud800", "id": "x" * 5000}, {"object": [], "choices": [[]]}),
]


@pytest.mark.parametrize(
    "odd", [pytest.param(odd, id=f"{type(odd).__name__} {n}") for n, odd in enumerate(ODD)]
)
def test_raises_nothing(odd):
    """Whatever comes, a reading comes back: without counts, and flagged where it is unknown."""
    reading = read(odd)

    assert reading.usage is None
    assert reading.ending in get_args(Ending)
    assert reading.shape != "unknown" or reading.flags
    assert isinstance(output(odd), Output)


@pytest.mark.parametrize(
    ("keys", "flag"),
    [
        pytest.param([], "unknown_usage", id="none"),
        pytest.param(["b", "a"], "unknown_usage:a,b", id="sorted"),
        pytest.param(
            [f"k{n:02}" for n in range(20)],
            "unknown_usage:" + ",".join(f"k{n:02}" for n in range(12)),
            id="many",
        ),
        pytest.param(["a b", "ä", "1a", "", 5, None, "x" * 41, "a.b-c_1"], "unknown_usage:a.b-c_1"),
        pytest.param(["x" * 40], f"unknown_usage:{'x' * 40}", id="long"),
        pytest.param(["ok\n", "a,b"], "unknown_usage", id="a line feed, a comma"),
    ],
)
def test_flag_of_the_unknown(keys, flag):
    """The flag holds the names of keys, as far as they look like names."""
    assert unknown_usage_flag(keys) == flag


@pytest.mark.parametrize("case", CASES)
def test_measures_are_what_events_carry(case):
    """What is measured beside tokens has a name that an event can carry."""
    assert read(case.get("body", case.get("chunks"))).measures.keys() <= MEASURES


@pytest.mark.parametrize(
    "cost",
    [
        *("0.5", None, True, -1, [], {}),
        pytest.param(float("nan"), id="nan"),
        pytest.param(float("inf"), id="inf"),
        pytest.param(10**400, id="huge"),
    ],
)
def test_measures_that_are_no_numbers(cost):
    """A cost that no event could carry is left out."""
    reading = read({**BODY, "usage": {**USAGE, "cost": cost, "is_byok": False}})

    assert (dict(reading.measures), reading.provider) == ({}, "openrouter")
    assert reading.usage == COUNTS


def test_tokens_of_another_model_are_flagged():
    """Tokens that a tool's own model used, or that drew an image's lines, are not in the counts."""
    spent = {"input_tokens": 5, "output_tokens": 100, "total_tokens": 105}
    usage = {"input_tokens": 8, "output_tokens": 2, "total_tokens": 10}
    response = {"object": "response", "usage": usage, "tool_usage": {"image_gen": spent}}
    images = {"created": 1, "data": [{"b64_json": ""}], "usage": usage, "svg_usage": spent}

    for body in (response, images):
        assert (read(body).usage, read(body).flags) == (COUNTS, ("uncounted_usage",))


def test_a_response_under_way():
    """A response that is still queued or being made has reported nothing that is final."""
    for status in ("queued", "in_progress"):
        reading = read({"object": "response", "status": status, "usage": None})
        assert (reading.ending, reading.is_final) == ("unfinished", False)
