"""OpenAI tells the usage of a stream to those who ask; LlamaIndex does not ask, so we do."""

from __future__ import annotations

import logging

import pytest
from llama_index.core.callbacks import CallbackManager
from llama_index.llms.azure_openai import AzureOpenAI
from llama_index.llms.openai import OpenAI
from llama_index.llms.openai_like import OpenAILike

from llm_metering import Meter
from llm_metering.llamaindex import MeteringHandler, advice
from llm_metering.llamaindex.frames import Frame
from llm_metering.llamaindex.stream_options import ask_for_usage
from tests.books import billed, owed, prompt
from tests.llamaindex.asking import WAYS, messages
from tests.llamaindex.clients import CLIENTS

OPTIONS = {"include_usage": True}
AZURE = {"engine": "e", "api_key": "x", "api_version": "2024-10-21"}


def asking(home, sink, **settings):
    return Meter(home=home, sinks=[sink], **settings)


@pytest.mark.parametrize("way", ["stream_chat", "astream_chat", "stream_complete"])
@pytest.mark.parametrize("name", ["openai", "openai_like", "azure"])
def test_streams_are_asked_for_their_usage(provider, home, sink, name, way):
    """Each request of a stream says `stream_options`, and its answer tells the usage."""
    with asking(home, sink, request_stream_usage=True) as meter:
        manager = CallbackManager([MeteringHandler("acme", meter=meter)])
        WAYS[way](CLIENTS[name](provider, callback_manager=manager), prompt("acme"))
        assert meter.flush()

    assert billed(sink.events) == owed(provider)


def test_what_is_not_streamed_is_asked_as_before(provider, home, sink):
    """OpenAI refuses the field in other requests; LlamaIndex leaves it out of them."""
    with asking(home, sink, request_stream_usage=True) as meter:
        manager = CallbackManager([MeteringHandler("acme", meter=meter)])
        llm = CLIENTS["openai"](provider, callback_manager=manager)
        list(llm.stream_chat(messages(prompt("acme"))))
        llm.chat(messages(prompt("acme")))
        assert meter.flush()

    assert billed(sink.events) == owed(provider)


def test_what_the_application_has_set_stays(provider, home, sink):
    """Somebody who says no is not overruled."""
    with asking(home, sink, request_stream_usage=True) as meter:
        manager = CallbackManager([MeteringHandler("acme", meter=meter)])
        own = {"stream_options": {"include_usage": False}}
        llm = CLIENTS["openai"](provider, callback_manager=manager, additional_kwargs=own)
        list(llm.stream_chat(messages("?")))
        assert meter.flush()

    assert llm.additional_kwargs == own
    assert sink.events[0].data["provenance"] == "estimated"


@pytest.mark.parametrize(
    ("model", "asked"),
    [
        pytest.param(lambda: OpenAI(api_key="x"), True, id="OpenAI"),
        pytest.param(
            lambda: OpenAI(api_key="x", api_base="https://eu.api.openai.com/v1"), True, id="Europe"
        ),
        pytest.param(
            lambda: AzureOpenAI(azure_endpoint="https://me.openai.azure.com", **AZURE),
            True,
            id="Azure",
        ),
        pytest.param(
            lambda: OpenAI(api_key="x", api_base="http://127.0.0.1:8000/v1"), False, id="vLLM"
        ),
        pytest.param(
            lambda: OpenAILike(model="m", api_key="x", api_base="https://openai.com.evil.example"),
            False,
            id="a name like it",
        ),
    ],
)
def test_by_default_only_openai_and_azure_are_asked(home, sink, model, asked):
    """Some servers that speak OpenAI's API refuse the field."""
    llm = model()
    with asking(home, sink) as meter:
        account = MeteringHandler("acme", meter=meter).account
        ask_for_usage(Frame("id", llm, None, None, account, {}))

    assert llm.additional_kwargs == ({"stream_options": OPTIONS} if asked else {})


@pytest.mark.parametrize("kind", ["nobody meters", "off"])
def test_a_model_that_is_not_metered_is_left_alone(home, sink, kind):
    """So is every model where the setting says no."""
    llm = OpenAI(api_key="x")
    with asking(home, sink, request_stream_usage=False) as meter:
        account = MeteringHandler("acme", meter=meter).account if kind == "off" else None
        ask_for_usage(Frame("id", llm, None, None, account, {}))

    assert llm.additional_kwargs == {}


def test_a_stream_that_came_without_is_advised_on_once(
    provider, meter, events_of, caplog, monkeypatch
):
    """With what to do about it."""
    monkeypatch.setattr(advice, "_said", set())
    manager = CallbackManager([MeteringHandler("acme", meter=meter)])
    llm = CLIENTS["openai_like"](provider, callback_manager=manager)

    with caplog.at_level(logging.WARNING, "llm_metering"):
        for _ in range(2):
            list(llm.stream_chat(messages("?")))

    assert [each.data["provenance"] for each in events_of(meter)] == ["estimated", "estimated"]
    said = [each.message for each in caplog.records if "did not ask for its usage" in each.message]
    assert len(said) == 1
    assert "OpenAILike" in said[0]
    assert "request_stream_usage" in said[0]
