"""What a provider or a user's own model may hand over: the event is there, the application untouched."""

from __future__ import annotations

import contextlib

import pytest
from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from pydantic import BaseModel

from llm_metering.llamaindex import MeteringHandler
from tests.books import booked, metered, prompt
from tests.llamaindex.asking import WAYS, messages
from tests.llamaindex.clients import CLIENTS

ASKED = {"stream_options": {"include_usage": True}}


@pytest.fixture
def acme(meter):
    """A callback manager with a handler for acme."""
    return CallbackManager([MeteringHandler("acme", meter=meter)])


class Answering(CustomLLM):
    """Answers with whatever it is given."""

    raw: object = None
    kwargs: dict | None = None

    @property
    def metadata(self):
        """What LlamaIndex wants to know of a model."""
        return LLMMetadata(model_name="answering")

    @llm_completion_callback()
    def complete(self, prompt_, formatted=False, **kwargs):
        return CompletionResponse(text="Hello", raw=self.raw, additional_kwargs=self.kwargs or {})

    @llm_completion_callback()
    def stream_complete(self, prompt_, formatted=False, **kwargs):
        def gen():
            text = ""
            for delta in ("Hel", "lo"):
                text += delta
                yield CompletionResponse(text=text, delta=delta, raw=self.raw)

        return gen()

    @llm_chat_callback()
    def chat(self, messages, **kwargs):
        return ChatResponse(message=ChatMessage(content="Hello"), raw=self.raw)


class Hostile:
    """Looks like an answer, until it is looked at."""

    @property
    def usage(self):
        raise RuntimeError("do not touch")


class Own(BaseModel):
    """A user's own object with a field that is called like a provider's."""

    usage: str = "free of charge"


def counted(usage):
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}}],
        "usage": usage,
    }


@pytest.mark.parametrize(
    ("raw", "provenance"),
    [
        pytest.param("text", "estimated", id="text"),
        pytest.param(b"bytes", "estimated", id="bytes"),
        pytest.param([1, 2], "estimated", id="list"),
        pytest.param(object(), "estimated", id="object"),
        pytest.param({}, "estimated", id="empty dict"),
        pytest.param({"anything": 1}, "estimated", id="dict of the user's own"),
        pytest.param(Own(), "estimated", id="a field called usage"),
        pytest.param({"usage": {"tokens_in": 3}}, "missing", id="usage in no known shape"),
        pytest.param(
            counted({"prompt_tokens": -1, "completion_tokens": 2}), "missing", id="negative"
        ),
        pytest.param(
            counted({"prompt_tokens": "8", "completion_tokens": 2}),
            "missing",
            id="text for a count",
        ),
        pytest.param(
            counted({"prompt_tokens": 8.5, "completion_tokens": 2}), "missing", id="half a token"
        ),
        pytest.param(counted({"prompt_tokens": 8}), "partial", id="half a usage"),
        pytest.param(
            counted({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}),
            "estimated",
            id="zeros beside a text",
        ),
    ],
)
@pytest.mark.parametrize("way", ["complete", "chat", "stream_complete"])
def test_whatever_a_model_hands_on(meter, acme, events_of, way, raw, provenance):
    """The answer reaches the application, and one event says what is known of it."""
    llm = Answering(raw=raw, callback_manager=acme)

    assert WAYS[way](llm, "Hi")

    (event,) = events_of(meter)
    assert event.data["provenance"] == provenance
    assert event.data["status"] == "completed"
    assert meter.statistics()["failures"] == 0


def test_an_object_that_cannot_be_looked_at(meter, acme, events_of):
    """A property of somebody else's class may raise."""
    assert Answering(raw=Hostile(), callback_manager=acme).complete("Hi").text == "Hello"

    (event,) = events_of(meter)
    assert event.data["status"] == "completed"


def test_zeros_are_flagged(meter, acme, events_of):
    """LiteLLM's integration makes them where a provider reported nothing."""
    raw = counted({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
    Answering(raw=raw, callback_manager=acme).complete("Hi")

    (event,) = events_of(meter)
    assert "zero_usage" in event.data["flags"]
    assert event.data["output_tokens"] > 0


def test_a_contradiction_is_kept_and_flagged(meter, acme, events_of):
    """The provider's own total is in the event, beside the sum of its parts."""
    raw = counted({"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 99})
    Answering(raw=raw, callback_manager=acme).complete("Hi")

    (event,) = events_of(meter)
    assert event.data["reported_total_tokens"] == 99
    assert "usage_inconsistent" in event.data["flags"]


def test_counts_beside_the_answer_are_taken_where_there_is_none_in_it(meter, acme, events_of):
    """Some integrations put them into `additional_kwargs` alone."""
    kwargs = {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}
    Answering(raw=None, kwargs=kwargs, callback_manager=acme).complete("Hi")

    (event,) = events_of(meter)
    assert (event.data["input_tokens"], event.data["output_tokens"]) == (8, 2)


@pytest.mark.parametrize("behaviour", ["negative", "nonint", "text", "half", "nousage", "float"])
@pytest.mark.parametrize("way", ["chat", "stream_chat"])
def test_numbers_that_cannot_be(provider, meter, acme, events_of, behaviour, way):
    """Through a real client: what can be read is, the rest is flagged, and nothing is made up."""
    llm = CLIENTS["openai"](provider, behaviour, callback_manager=acme, additional_kwargs=ASKED)

    with contextlib.suppress(ValueError):  # LlamaIndex's own code fails over some of it
        WAYS[way](llm, prompt("acme"))
    (event,) = events_of(meter)
    (entry,) = provider.entries

    if behaviour in ("float", "text"):  # OpenAI's client makes numbers of them
        assert metered(event)[:2] == booked(entry)[:2]
    elif behaviour == "half":
        assert event.data["provenance"] == "partial"
    elif behaviour == "nousage":
        assert event.data["provenance"] == "estimated"
    else:
        assert event.data["provenance"] == "missing"
        assert [flag for flag in event.data["flags"] if flag.startswith("invalid_usage")]
    assert meter.statistics()["failures"] == 0


def test_no_text_is_in_an_event(provider, meter, acme, events_of):
    """Neither what was asked nor what was answered."""
    llm = CLIENTS["openai"](provider, "nousage", callback_manager=acme)
    answer = llm.chat(messages("a very private question"))

    text = str(events_of(meter))
    assert "private" not in text
    assert answer.message.content not in text


@pytest.mark.parametrize("way", ["chat", "stream_chat"])
def test_an_answer_that_we_fail_to_read_ends_its_call(
    provider, meter, acme, events_of, way, monkeypatch
):
    """Nothing stays open for an hour because of a fault of ours: the event says what is missing."""

    def fail(*_):
        raise RuntimeError("ours")

    monkeypatch.setattr("llm_metering.llamaindex.seen.Seen.report", fail)
    monkeypatch.setattr("llm_metering.taps.TappedCall.complete", fail)
    WAYS[way](CLIENTS["openai"](provider, callback_manager=acme), prompt("acme"))

    (event,) = events_of(meter)
    assert (event.data["status"], event.data["provenance"]) == ("completed", "missing")
    assert event.data["flags"] == ["unknown_usage"]
    assert meter.statistics()["open_calls"] == 0
    assert meter.statistics()["failures"] >= 1
