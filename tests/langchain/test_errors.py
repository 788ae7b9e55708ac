"""Calls that raise: what was used all the same, wherever it is said, and what costs nothing."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from uuid import uuid4

import httpx
import openai
import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from openai.types.chat import ChatCompletion

from llm_metering.langchain import MeteringHandler
from tests.langchain.scripted import Scripted, chunk, usage
from tests.langchain.test_streams import counts_of, every_way, summary

BODY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_790_000_000,
    "model": "served",
    "choices": [
        {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "{"}}
    ],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 64},
    },
}
REFUSAL = {"error": {"message": "no", "type": "invalid_request_error", "code": "bad"}}
REQUEST = httpx.Request("POST", "http://127.0.0.1/v1/chat/completions")


def http(status=200, body=BODY):
    """A response of a server, as OpenAI's client holds it."""
    return httpx.Response(status, json=body, request=REQUEST)


def with_response(error, response):
    """An error to which langchain-openai has attached the response that it is about."""
    error.response = response
    return error


def length(completion=BODY):
    """The error of a structured answer that was cut by its length."""
    return openai.LengthFinishReasonError(completion=ChatCompletion.model_validate(completion))


def content_filter():
    """The error of a structured answer that was cut for what it says."""
    error = openai.ContentFilterFinishReasonError()
    error.completion = ChatCompletion.model_validate(BODY)
    return error


def in_body():
    """An error of whose answer LangChain hands over the body."""
    return with_response(ValueError(), http())


def in_mapping():
    """An error with the answer as botocore holds it."""
    return with_response(ValueError(), {"usage": BODY["usage"], "model": "served"})


def in_cause():
    """An integration's own error, raised from the client's."""
    error = ValueError()
    error.__cause__ = length()
    return error


def in_error_body():
    """An error in the middle of OpenRouter's streams carries the usage up to it."""
    return openai.APIError("broke", REQUEST, body={**REFUSAL, "usage": BODY["usage"]})


@pytest.mark.parametrize(
    "error",
    [length, content_filter, in_body, in_mapping, in_cause, in_error_body],
    ids=lambda error: error.__name__,
)
@pytest.mark.parametrize("has_response", [True, False], ids=["core told", "a bare error"])
def test_a_billed_answer_that_is_reported_as_an_error(error, has_response, meter, events_of):
    """The application gets an exception, the provider bills: the usage is in the error somewhere."""
    handler = MeteringHandler("acme", meter=meter)
    raised, run = error(), uuid4()

    if has_response:
        llm = Scripted(script=lambda: [raised])
        with pytest.raises(type(raised)):
            llm.invoke("x", {"callbacks": [handler]}, stream=True)
    else:
        handler.on_chat_model_start({}, [[HumanMessage("x")]], run_id=run)
        handler.on_llm_error(raised, run_id=run)
        meter.calls.close()

    (event,) = events_of(meter)
    assert counts_of(event) == (100, 20)
    assert (event.data["status"], event.data["provenance"]) == ("failed", "reported")
    assert meter.statistics()["failures"] == 0


@pytest.mark.parametrize("error", [length, in_body], ids=lambda error: error.__name__)
def test_all_that_the_answer_says_is_in_the_event(error, meter, events_of):
    """Its model, its id, its parts."""
    llm = Scripted(script=lambda: [error()])

    with pytest.raises((openai.LengthFinishReasonError, ValueError)):
        llm.invoke("x", {"callbacks": [MeteringHandler("acme", meter=meter)]}, stream=True)

    (event,) = events_of(meter)
    assert (event.data["model"], event.data["response_id"]) == ("served", "chatcmpl-1")
    assert event.data["cache_read_input_tokens"] == 64
    assert event.data["reported_total_tokens"] == 120


@every_way
def test_the_usage_that_was_seen_goes_before_the_one_in_the_error(way, meter, events_of):
    """A stream had reported all; what the client put together of it knows no usage."""
    without = {name: value for name, value in BODY.items() if name != "usage"}
    llm = Scripted(
        script=lambda: [
            chunk("{"),
            chunk(finish_reason="length"),
            chunk(used=usage(100, 21)),
            length(without),
        ]
    )

    with pytest.raises(openai.LengthFinishReasonError):
        way(llm, {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert counts_of(event) == (100, 21)
    assert summary(event) == ("failed", "reported", [])


@every_way
def test_a_stream_that_breaks_after_parts(way, meter, events_of):
    """What was reported up to then is a minimum: the event is partial."""
    llm = Scripted(
        script=lambda: [
            chunk("one ", used=usage(100, 5), model_provider="google_genai"),
            chunk("two ", used=usage(0, 7), model_provider="google_genai"),
            ConnectionError(),
        ]
    )

    with pytest.raises(ConnectionError):
        way(llm, {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    assert event.data["input_tokens"] == 100
    assert event.data["output_tokens"] >= 12
    assert summary(event) == ("failed", "partial", [])


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(REFUSAL, id="an error"),
        pytest.param(
            {**REFUSAL, "usage": {"prompt_tokens": 0, "completion_tokens": 0}}, id="zeros"
        ),
        pytest.param({**REFUSAL, "usage": None}, id="null"),
        pytest.param({**REFUSAL, "usage": {"prompt_tokens": None}}, id="nulls"),
        pytest.param("no", id="text"),
        pytest.param([], id="a list"),
    ],
)
def test_a_refusal_costs_nothing(body, meter, events_of):
    """Whatever the body says, if it does not say that something was used."""
    error = openai.BadRequestError("no", response=http(400, body), body=body)

    with pytest.raises(openai.BadRequestError):
        Scripted(script=lambda: [error]).invoke(
            "x", {"callbacks": [MeteringHandler("acme", meter=meter)]}, stream=True
        )

    assert events_of(meter) == []
    assert meter.statistics()["refused_calls"] == 1


def test_a_refusal_in_an_error_of_the_integration(meter, events_of):
    """langchain-google-genai raises an error of its own, which has no status, from the client's."""
    error = RuntimeError("Error calling model")
    error.__cause__ = openai.RateLimitError("no", response=http(429, REFUSAL), body=REFUSAL)

    with pytest.raises(RuntimeError):
        Scripted(script=lambda: [error]).invoke(
            "x", {"callbacks": [MeteringHandler("acme", meter=meter)]}, stream=True
        )

    assert events_of(meter) == []
    assert meter.statistics()["refused_calls"] == 1


def test_a_refusal_that_was_charged_is_an_event(meter, events_of):
    """A 4xx with a usage beside it: something was generated first."""
    body = {**REFUSAL, "usage": BODY["usage"]}
    error = openai.BadRequestError("no", response=http(400, body), body=body)

    with pytest.raises(openai.BadRequestError):
        Scripted(script=lambda: [error]).invoke(
            "x", {"callbacks": [MeteringHandler("acme", meter=meter)]}, stream=True
        )

    (event,) = events_of(meter)
    assert counts_of(event) == (100, 20)
    assert event.data["status"] == "failed"


class NastyError(Exception):
    """An exception that wants to be left alone."""

    @property
    def completion(self):
        raise RuntimeError("not yours")

    body = response = completion


class Unread:
    """A response whose body is still to come."""

    headers = SimpleNamespace()
    status_code = 200

    def json(self):
        raise RuntimeError("not read yet")

    text = property(json)


def loop():
    """An exception that is its own cause, three times removed."""
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    return first


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(NastyError, id="properties that raise"),
        pytest.param(lambda: with_response(ValueError(), Unread()), id="a body to come"),
        pytest.param(
            lambda: with_response(
                ValueError(), httpx.Response(200, stream=httpx.SyncByteStream(), request=REQUEST)
            ),
            id="a stream not read",
        ),
        pytest.param(lambda: with_response(ValueError(), "text"), id="a text for a response"),
        pytest.param(loop, id="a loop of causes"),
        pytest.param(lambda: length({**BODY, "usage": None}), id="a completion without usage"),
    ],
)
@pytest.mark.parametrize("has_response", [True, False], ids=["core told", "a bare error"])
def test_an_error_that_says_nothing(error, has_response, meter, events_of):
    """It is no failure of ours: an event without counts, and the application's own exception."""
    handler = MeteringHandler("acme", meter=meter)
    raised, run = error(), uuid4()

    handler.on_chat_model_start({}, [[HumanMessage("x")]], run_id=run)
    response = {"response": LLMResult(generations=[[]])} if has_response else {}
    handler.on_llm_error(raised, run_id=run, **response)
    meter.calls.close()

    (event,) = events_of(meter)
    assert event.data["status"] in ("failed", "aborted")
    assert event.data["provenance"] == "missing"
    assert meter.statistics()["failures"] == 0


def test_langchains_message_of_what_came_is_read_where_no_chunk_was_told(meter, events_of):
    """A handler that joined late has the merged message alone."""
    handler, run = MeteringHandler("acme", meter=meter), uuid4()
    message = AIMessageChunk(
        "one two", usage_metadata=usage(100, 20), response_metadata={"finish_reason": "stop"}
    )
    http_error = ChatGeneration(message=AIMessage("", response_metadata={"body": REFUSAL}))

    handler.on_chat_model_start({}, [[HumanMessage("x")]], run_id=run)
    generations = [[ChatGenerationChunk(message=message)], [http_error]]
    handler.on_llm_error(
        asyncio.CancelledError(), run_id=run, response=LLMResult(generations=generations)
    )

    (event,) = events_of(meter)
    assert counts_of(event) == (100, 20)
    assert summary(event) == ("aborted", "reported", [])


def test_an_error_quotes_nothing(meter, home, events_of, caplog):
    """The body of an answer is read for its numbers; no word of it is written down."""
    secret = "what-the-user-said"
    choices = [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": secret}}
    ]
    error = with_response(ValueError(secret), http(200, {**BODY, "choices": choices}))

    with pytest.raises(ValueError, match=secret):
        Scripted(script=lambda: [error]).invoke(
            secret, {"callbacks": [MeteringHandler("acme", meter=meter)]}, stream=True
        )

    (event,) = events_of(meter)
    written = b"".join(path.read_bytes() for path in home.rglob("*") if path.is_file())
    assert counts_of(event) == (100, 20)
    assert secret.encode() not in written
    assert secret not in caplog.text
