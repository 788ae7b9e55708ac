"""On which tier a call was served, through LangChain's real clients.

A server in another process sends answers of our own.
"""

from __future__ import annotations

import gc
import json
import warnings

import pytest

from llm_metering import Meter
from llm_metering.langchain import MeteringHandler
from llm_metering.langchain.seen import Seen
from llm_metering.sinks.memory import MemorySink
from tests.langchain.recorded_clients import model_for
from tests.langchain.scripted import Scripted, chunk, usage
from tests.replaying import Replays, stored
from tests.tiered import ANSWERS, TIERS, interaction_of

NAMES = [
    pytest.param(name, marks=pytest.mark.needs("google_genai_4"))
    if name.startswith("gemini")
    else name
    for name in TIERS
]
KEPT = {
    *("openai", "openai-choices", "openai-plain", "openai-stream", "openai-choices-stream"),
    *("responses", "responses-stream", "anthropic", "anthropic-fast"),
    *("converse", "converse-latency"),
}
"""Of which LangChain itself hands on what the provider said."""


@pytest.fixture(scope="module")
def replays(tmp_path_factory):
    with Replays(stored(tmp_path_factory.mktemp("answers"), ANSWERS)) as replays:
        yield replays


@pytest.fixture(params=[True], ids=["taps"])
def data_of(request, replays, home):
    """Ask for an answer by its name; the data of the one event."""
    sink = MemorySink()
    with Meter(home=home, sinks=[sink], ledger=False, taps=request.param) as meter:

        def data_of(name, **options):
            interaction = interaction_of(name)
            model = model_for(interaction, replays.url(interaction.name))
            config = {"callbacks": [MeteringHandler("acme", meter=meter)]}
            if interaction.is_stream:
                list(model.stream("Hello", config, **options))
            else:
                model.invoke("Hello", config, **options)
            assert meter.flush()
            (event,) = sink.events
            return event.data

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield data_of
            gc.collect()


@pytest.mark.parametrize("name", NAMES)
def test_the_tier(data_of, name):
    """It is what the provider said, whatever LangChain makes of it; the counts are as ever."""
    data = data_of(name)

    assert data.get("service_tier") == TIERS[name]
    assert (data["input_tokens"], data["output_tokens"]) == (40, 20)
    assert data["cache_read_input_tokens"] == 10
    if not name.startswith(("anthropic", "gemini", "converse")):
        assert data["reasoning_output_tokens"] == 5
    expected = ["invalid_service_tier"] if name == "openai-odd" else []
    assert data.get("flags", []) == expected


@pytest.mark.parametrize("data_of", [False], ids=["no taps"], indirect=True)
@pytest.mark.parametrize("name", NAMES)
def test_without_taps(data_of, name):
    """Then it is what LangChain hands on; what was asked for, as of Groq, is not taken for it."""
    assert data_of(name).get("service_tier") == (TIERS[name] if name in KEPT else None)


def test_what_is_asked_for_is_no_answer(data_of):
    """A call that asks for one tier and is served on another one has been served on the other."""
    assert data_of("openai-plain", service_tier="priority")["service_tier"] == "default"


class BrokenOffError(Exception):
    """A stream that broke off; what was answered by then may be in it."""

    completion: object = None


def last(**metadata):
    """The last chunk of a stream, as langchain-openai makes it."""
    metadata |= {"model_name": "m-1", "finish_reason": "stop"}
    return chunk("Blue.", used=usage(8, 2), **metadata)


def test_a_stream_that_broke_off(meter, events_of):
    """What the chunks had named by then is the tier of what is billed."""
    model = Scripted(script=lambda: [last(service_tier="flex"), BrokenOffError()])

    with pytest.raises(BrokenOffError):
        list(model.stream("Hello", {"callbacks": [MeteringHandler("acme", meter=meter)]}))

    (event,) = events_of(meter)
    assert (event.data["status"], event.data["service_tier"]) == ("failed", "flex")


def test_an_error_that_holds_the_answer(meter, events_of):
    """The tier of an answer that was paid for and not handed on is in what was raised."""
    error = BrokenOffError()
    error.completion = json.loads(ANSWERS["openai"][1])
    model = Scripted(script=lambda: [error])

    with pytest.raises(BrokenOffError):
        list(model.stream("Hello", {"callbacks": [MeteringHandler("acme", meter=meter)]}))

    (event,) = events_of(meter)
    assert (event.data["total_tokens"], event.data["service_tier"]) == (60, "flex")


def test_a_stream_that_nobody_ends():
    """What was seen of it says on which tier it was served."""
    piece = last(service_tier="flex")
    seen = Seen("chat")
    seen.take_chunk(piece, piece.message.usage_metadata, piece.message.response_metadata)

    assert seen.so_far().service_tier == "flex"
