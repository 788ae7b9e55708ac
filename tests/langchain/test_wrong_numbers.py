"""Numbers that cannot be, and numbers that are not there: an event for each call, and its reason.

The provider generated what stands in its books; what it tells its client is nonsense, or nothing.
Whatever a client makes of that, the call is in our events once: with the provider's numbers where
they can be counts, and else flagged, partial, estimated or failed; never as a plausible zero.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from llm_metering.langchain import MeteringHandler
from tests.books import booked, metered
from tests.langchain.asking import WAYS
from tests.langchain.clients import CLIENTS

# google-genai inherits from a class of aiohttp's that asks not to be inherited from, and pydantic
# warns as OpenAI's and Anthropic's SDKs hand on what it should not be.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession"),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings"),
]

WAYS_TO_ASK = ["invoke", "ainvoke", "stream", "astream"]
every_way = pytest.mark.parametrize("way", WAYS_TO_ASK)
every_client = pytest.mark.parametrize(
    ("client", "model"),
    [
        pytest.param("openai", "gpt-x", id="openai"),
        pytest.param("responses", "gpt-x", id="responses"),
        pytest.param("anthropic", "claude-x", id="anthropic"),
        pytest.param("gemini", "gemini-x", id="gemini", marks=pytest.mark.needs("google_genai_4")),
        pytest.param("ollama", "llama", id="ollama"),
    ],
)


@pytest.fixture
def ask(provider, meter, events_of):
    """Ask a model once, whether its client can bear the answer or not: the event, and the entry."""

    def ask(client, way, **options):
        llm = CLIENTS[client](provider, **options)
        # What the application gets is the client's affair: a ValidationError, a TypeError.
        with suppress(Exception):
            WAYS[way](llm, "hello", {"callbacks": [MeteringHandler("acme", meter=meter)]})
        (event,) = events_of(meter)
        return event, provider.entry

    return ask


def reasons(event):
    """Why an event's numbers are not simply the provider's."""
    found = set(event.data.get("flags", ()))
    if event.data["provenance"] != "reported":
        found.add(event.data["provenance"])
    if event.data["status"] != "completed":
        found.add(event.data["status"])
    return found


@every_way
@every_client
def test_negative_counts(client, model, way, ask):
    """They are not clamped to 0, nor added up with others: the count is missing, and flagged."""
    event, _ = ask(client, way, model=f"{model}+negative")

    assert reasons(event) == {"missing", "invalid_usage"}
    assert "output_tokens" not in event.data


@every_way
@every_client
def test_counts_that_are_no_whole_numbers(client, model, way, ask):
    """Half a token is no count. Some clients fail on it: the call was made all the same."""
    event, _ = ask(client, way, model=f"{model}+nonint")

    if event.data["status"] == "completed":
        assert reasons(event) == {"missing", "invalid_usage"}
    else:
        # What the client fails on, a tap has seen; not with google-genai's aiohttp.
        unseen = [{"failed", "missing"}] if client == "gemini" else []
        assert reasons(event) in [{"failed", "missing", "invalid_usage"}, *unseen]
        assert event.data.get("output_tokens") != 0


@every_way
@every_client
def test_whole_numbers_as_floats(client, model, way, ask):
    """`40.0` is 40, as JSON has but one kind of number."""
    event, entry = ask(client, way, model=f"{model}+float")

    assert reasons(event) == set()
    assert metered(event) == booked(entry)


@every_way
@every_client
def test_counts_in_quotes(client, model, way, ask):
    """Either the client reads them, and they are exact, or it fails, and they are not known."""
    event, entry = ask(client, way, model=f"{model}+text")

    if event.data["status"] == "completed":
        assert reasons(event) == set()
        assert metered(event) == booked(entry)
    else:
        unseen = [{"failed", "missing"}] if client == "gemini" else []
        assert reasons(event) in [{"failed", "missing", "invalid_usage"}, *unseen]


@every_way
@pytest.mark.parametrize(
    ("client", "model"),
    [
        pytest.param("openai", "gpt-x", id="openai"),
        pytest.param("responses", "gpt-x", id="responses"),
        pytest.param("gemini", "gemini-x", id="gemini", marks=pytest.mark.needs("google_genai_4")),
    ],
)
def test_counts_that_contradict_each_other(client, model, way, ask):
    """More read from the cache than went in, and a total of its own: kept as they came, and flagged."""
    event, entry = ask(client, way, model=f"{model}+contradict")

    assert reasons(event) == {"usage_inconsistent"}
    assert metered(event)[:2] == booked(entry)[:2]
    assert metered(event).cached == entry.input + 5


@every_way
@every_client
def test_no_usage_at_all(client, model, way, ask):
    """It is estimated from the text, in both directions, and says so.

    langchain-anthropic makes zeros of it, which are no counts of a call with an answer.
    """
    event, _ = ask(client, way, model=f"{model}+nousage")

    assert reasons(event) == {"estimated", *(["zero_usage"] if client == "anthropic" else [])}
    assert event.data["input_tokens"] > 0
    assert event.data["output_tokens"] > 0
    assert event.data["count_method"]


@every_way
@pytest.mark.parametrize(
    ("client", "model"),
    [
        pytest.param("openai", "gpt-x", id="openai"),
        # langchain-openai 0.3.35 fails where the count is missing.
        pytest.param("responses", "gpt-x", id="responses", marks=pytest.mark.needs("openai_1")),
        pytest.param("gemini", "gemini-x", id="gemini", marks=pytest.mark.needs("google_genai_4")),
        pytest.param("ollama", "llama", id="ollama"),
    ],
)
def test_half_of_the_usage(client, model, way, ask):
    """Integrations write 0 for a prompt that was not counted: ours is taken, the output is exact.

    A tap has seen that nobody said 0; but of google-genai's aiohttp it sees nothing, and streams of
    Gemini's say nothing to us while they do not count the prompt.
    """
    event, entry = ask(client, way, model=f"{model}+half")

    found = reasons(event) - {"usage_inconsistent"}
    is_unseen = client == "gemini" and way != "invoke"
    assert found == {"partial", *(["zero_usage"] if is_unseen else [])}
    assert event.data["output_tokens"] == entry.output
    assert 0 < event.data["input_tokens"] < entry.input
    assert event.data["count_method"]


@every_way
def test_half_of_anthropics_usage(way, ask):
    """langchain-anthropic adds the cached tokens to the 0 it makes of it.

    That sum looks like a prompt that came out of the cache as a whole; a tap has seen that it is none.
    """
    event, entry = ask("anthropic", way, model="claude-x+half")

    assert reasons(event) - {"usage_inconsistent"} == {"partial"}
    assert event.data["output_tokens"] == entry.output
    assert event.data["count_method"]


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_anthropics_older_streams(way, ask):
    """`message_delta` with the output only: langchain-anthropic says 0 of the input.

    https://github.com/langchain-ai/langchain/issues/32461. A tap has read it in `message_start`.
    """
    event, entry = ask("anthropic", way, model="claude-x+oldapi")

    assert reasons(event) == set()
    assert metered(event) == booked(entry)


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize(
    ("client", "options"),
    [
        pytest.param("openai", {"stream_usage": False}, id="openai"),
        pytest.param("openai", {"stream_usage": None}, id="openai, as it is for a base URL"),
        pytest.param("azure", {"stream_usage": False}, id="azure"),
        pytest.param("deepseek", {"stream_usage": False}, id="deepseek"),
        pytest.param("groq", {"model": "llama-x"}, id="groq"),
        pytest.param("mistral", {"model": "mistral-x"}, id="mistral"),
        pytest.param("completions", {}, id="completions"),
    ],
)
def test_a_stream_without_usage_is_never_zero(client, options, way, ask):
    """Whoever did not ask, or was not answered, has an estimate."""
    event, _ = ask(client, way, **options)

    assert reasons(event) == {"estimated"}
    assert event.data["input_tokens"] > 0
    assert event.data["output_tokens"] > 0


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_anthropic_always_tells(way, ask):
    """`stream_usage=False` has langchain-anthropic pass over what was sent; a tap reads it."""
    event, entry = ask("anthropic", way, stream_usage=False)

    assert reasons(event) == set()
    assert metered(event) == booked(entry)


@every_way
@pytest.mark.parametrize("status", [400, 401, 429])
@every_client
def test_a_refusal_costs_nothing(client, model, status, way, provider, meter, events_of):
    """No event, and a count of what was refused, by its status."""
    llm = CLIENTS[client](provider, model=f"{model}+refuse{status}")
    with suppress(Exception):
        WAYS[way](llm, "hello", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    assert events_of(meter) == []
    assert meter.statistics()["refused_calls"] == 1
    assert provider.totals.input == 0


@every_way
@pytest.mark.parametrize("client", ["openai", "responses", "anthropic"])
def test_what_an_sdk_tries_again_is_one_call(client, way, provider, meter, events_of):
    """Refused, and answered at the second attempt: billed as the provider bills it."""
    model = "claude-x" if client == "anthropic" else "gpt-x"
    llm = CLIENTS[client](provider, model=f"{model}+429once", max_retries=2)
    WAYS[way](llm, "hello", {"callbacks": [MeteringHandler("acme", meter=meter)]})

    (event,) = events_of(meter)
    refused, answered = provider.entries
    assert (refused.status, answered.status) == (429, 200)
    assert reasons(event) == set()
    assert metered(event) == booked(answered)
