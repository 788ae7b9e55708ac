"""Where LangChain's packages put the usage: whatever the client, what we metered is what was sent.

The clients are the real ones, the provider is `tests.provider`, and the counts that it generated
stand in its own books. Read in langchain-core 1.7.2, langchain-openai 1.7.3, -anthropic 1.7.7,
-google-genai 4.4.2, -ollama 1.1.0, -xai 1.3.0, -groq 1.1.3, -mistralai 1.1.6, -deepseek 1.1.1.
"""

from __future__ import annotations

import pytest

from llm_metering.langchain import MeteringHandler
from tests.books import booked, metered
from tests.langchain.asking import WAYS
from tests.langchain.clients import CLIENTS

# google-genai 2.34.0 inherits from a class of aiohttp's that asks not to be inherited from.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession")

EVERY_WAY = ["invoke", "ainvoke", "stream", "astream"]
AT_ONCE = ["invoke", "ainvoke"]
STREAMED = ["stream", "astream"]

new_gemini = pytest.mark.needs("google_genai_4")


@pytest.fixture
def ask(provider, meter, events_of):
    """Ask a model once: the event, and the entry of the provider's books."""

    def ask(client, way, asked="hello [call:a]", **options):
        llm = CLIENTS[client](provider, **options)
        WAYS[way](llm, asked, {"callbacks": [MeteringHandler("acme", meter=meter)]})
        (event,) = events_of(meter)
        return event, provider.entry

    return ask


def is_exact(event):
    """Whether an event says that the provider reported all of its counts, and nothing was odd."""
    return (event.data["status"], event.data["provenance"]) == ("completed", "reported") and (
        "flags" not in event.data
    )


def without(counts, *names):
    """The counts without those that a client throws away."""
    return counts._replace(**dict.fromkeys(names, 0))


@pytest.mark.parametrize("way", [*EVERY_WAY, "batch"])
@pytest.mark.parametrize(
    ("client", "lost"),
    [
        pytest.param("openai", (), id="openai"),
        pytest.param("responses", (), id="responses"),
        pytest.param("azure", (), id="azure"),
        pytest.param("anthropic", (), id="anthropic"),
        pytest.param("gemini", (), id="gemini", marks=new_gemini),
        pytest.param("ollama", (), id="ollama"),
        pytest.param("ollama completions", (), id="ollama completions"),
        pytest.param("xai", (), id="xai"),
        pytest.param("deepseek", (), id="deepseek"),
        # langchain-mistralai takes the three totals of a usage; its parts are read by a tap.
        pytest.param("mistral", (), id="mistral"),
    ],
)
def test_every_client_in_every_way(client, lost, way, ask):
    """At once or in pieces, in a loop or not: the provider's own numbers, to the token."""
    event, entry = ask(client, way)

    assert is_exact(event)
    assert metered(event) == without(booked(entry), *lost)
    assert event.data["run_id"]


@pytest.mark.parametrize("way", EVERY_WAY)
def test_groqs_totals(way, ask):
    """Groq tells the usage of a stream in `x_groq`, and nowhere else."""
    event, entry = ask("groq", way)

    assert is_exact(event)
    assert metered(event)[:2] == booked(entry)[:2]


@pytest.mark.parametrize("way", AT_ONCE)
def test_openais_older_completions(way, ask):
    """Their usage is in `llm_output` only, of which langchain-openai keeps the totals."""
    event, entry = ask("completions", way)

    assert is_exact(event)
    assert metered(event) == without(booked(entry), "cached", "reasoning")
    assert event.data["operation"] == "text_completion"


@pytest.mark.parametrize("options", [{}, {"stream_usage": True}], ids=["plain", "with usage"])
@pytest.mark.parametrize("way", STREAMED)
def test_openais_older_completions_in_pieces(way, options, ask):
    """langchain-openai drops the chunk with the usage of a stream that was asked for it.

    A tap reads it. Where nobody asked, the call is counted, and says so.
    """
    model_options = {"model_kwargs": {"stream_options": {"include_usage": True}}} if options else {}
    event, entry = ask("completions", way, **model_options)

    assert entry.usage_sent == bool(options)
    if options:
        assert is_exact(event)
        assert metered(event) == booked(entry)
    else:
        assert (event.data["status"], event.data["provenance"]) == ("completed", "estimated")
        assert event.data["output_tokens"] > 0


@pytest.mark.parametrize("way", EVERY_WAY)
@pytest.mark.parametrize("tier", ["flex", "priority"])
@pytest.mark.parametrize(
    "client",
    [
        pytest.param("openai", id="chat"),
        # Its name says how it is to be asked for, since the answer has no other tier.
        pytest.param("xai", id="xai"),
    ],
)
def test_a_service_tier_renames_the_parts(client, tier, way, ask):
    """`flex_cache_read` is `cache_read`, and `flex`, the rest of the input, no part of ours.

    langchain-xai adds the reasoning to the output only under its plain name; the provider's total
    says that it is missing then.
    """
    base = "grok+xai" if client == "xai" else "gpt-x"
    event, entry = ask(client, way, model=f"{base}+{tier}")

    assert is_exact(event)
    assert metered(event) == booked(entry)
    assert metered(event).cached
    assert metered(event).reasoning


@pytest.mark.needs("openai_1")
@pytest.mark.parametrize("way", EVERY_WAY)
@pytest.mark.parametrize("model", ["gpt-x+cache", "gpt-x+cache+flex"])
@pytest.mark.parametrize("client", ["openai", "responses"])
def test_openais_cache_writes(client, model, way, ask):
    """Under their plain name or that of the service tier."""
    event, entry = ask(client, way, model=model)

    assert is_exact(event)
    assert metered(event) == without(booked(entry), "written_5m", "written_1h")
    assert metered(event).written


@pytest.mark.parametrize("way", EVERY_WAY)
def test_a_service_tier_of_responses(way, ask):
    """Responses spell it as chat completions do."""
    event, entry = ask("responses", way, model="gpt-x+flex")

    assert is_exact(event)
    assert metered(event) == booked(entry)


@pytest.mark.parametrize("way", EVERY_WAY)
def test_xai_through_openais_client(way, ask):
    """xAI counts reasoning beside the completion; its total shows that to a client that adds none."""
    event, entry = ask("openai", way, model="grok+xai")

    assert is_exact(event)
    assert metered(event) == booked(entry)


@pytest.mark.parametrize("way", EVERY_WAY)
def test_anthropics_cache_writes(way, ask):
    """By their lifetime, beside a `cache_creation` of 0; or of their sum, in older versions."""
    event, entry = ask("anthropic", way, model="claude-x+cache")

    counts = metered(event)
    assert is_exact(event)
    assert counts == booked(entry)
    assert counts.written == counts.written_5m + counts.written_1h > counts.written_5m > 0


def test_anthropics_input_is_taken_once(ask):
    """`llm_output["usage"]` excludes the cache, `usage_metadata` includes it: never both."""
    event, entry = ask("anthropic", "invoke", model="claude-x+cache")

    assert metered(event).input == entry.input > entry.cached + entry.written > 0


@pytest.mark.parametrize("way", EVERY_WAY)
@pytest.mark.parametrize("client", ["openai", "completions"])
def test_several_choices_are_one_request(client, way, ask):
    """With n > 1 LangChain repeats the usage of the request on each choice, which is no sum."""
    if client == "completions" and way in STREAMED:
        way = "invoke"
    more = {"best_of": 3} if client == "completions" else {}
    event, entry = ask(client, way, n=3, **more)

    assert is_exact(event)
    assert metered(event)[:2] == booked(entry)[:2]


@new_gemini
@pytest.mark.parametrize("way", AT_ONCE)
def test_several_candidates_are_one_request(way, ask):
    """Gemini's, likewise."""
    event, entry = ask("gemini", way, n=2)

    assert is_exact(event)
    assert metered(event) == booked(entry)


@new_gemini
@pytest.mark.parametrize("way", EVERY_WAY)
@pytest.mark.parametrize(
    "model",
    [
        pytest.param("gemini-x+shrinking", id="counts that become smaller"),
        pytest.param("gemini-x+toolprompt", id="tokens of a tool's results"),
        pytest.param("gemini-x+length", id="cut"),
    ],
)
def test_geminis_running_totals(model, way, ask):
    """langchain-google-genai makes differences of them, some below 0; together they are exact."""
    event, entry = ask("gemini", way, model=model)

    assert is_exact(event)
    assert metered(event) == booked(entry)


@pytest.mark.parametrize("way", EVERY_WAY)
@pytest.mark.parametrize("client", ["ollama", "ollama completions"])
def test_ollama_without_the_count_of_the_prompt(client, way, ask):
    """langchain-ollama drops the whole usage then; what Ollama did count is exact all the same."""
    event, entry = ask(client, way, model="llama+nocache")

    assert (event.data["status"], event.data["provenance"]) == ("completed", "partial")
    assert event.data["output_tokens"] == entry.output
    assert event.data["input_tokens"] < entry.input
    assert event.data["count_method"]


@pytest.mark.parametrize("way", EVERY_WAY)
@pytest.mark.parametrize(
    ("client", "model"),
    [
        pytest.param("openai", "gpt-x+length", id="chat"),
        pytest.param("openai", "gpt-x+filter", id="chat, filtered"),
        # langchain-openai 0.3.35 drops the usage of a stream that ends so.
        pytest.param(
            "responses",
            "gpt-x+length",
            id="responses, incomplete",
            marks=pytest.mark.needs("openai_1"),
        ),
        pytest.param("anthropic", "claude-x+length", id="anthropic"),
        pytest.param("ollama", "llama+length", id="ollama"),
    ],
)
def test_an_answer_that_was_cut_is_billed(client, model, way, ask):
    """Its end is the provider's own, and its usage that of the whole call."""
    event, entry = ask(client, way, model=model)

    assert is_exact(event)
    assert metered(event) == booked(entry)


@pytest.mark.parametrize(
    ("client", "name"),
    [
        pytest.param("openai", "chatcmpl-answer-{}", id="openai"),
        pytest.param("responses", "resp_answer-{}", id="responses"),
        pytest.param("anthropic", "msg_answer-{}", id="anthropic"),
        pytest.param("gemini", "gem-answer-{}", id="gemini", marks=new_gemini),
        pytest.param("ollama", None, id="ollama"),
    ],
)
@pytest.mark.parametrize("way", ["invoke", "stream"])
def test_the_providers_name_for_the_answer(client, name, way, ask):
    """LangChain drops it in streams, where a tap reads it; its own, `lc_run-…`, is never taken."""
    event, entry = ask(client, way)

    assert event.data.get("response_id") == (name and name.format(entry.number))


@pytest.mark.parametrize("way", ["invoke", "stream"])
@pytest.mark.parametrize("client", ["openai", "responses", "azure", "anthropic"])
def test_the_model_that_was_asked_and_the_one_that_answered(client, way, ask):
    """Both are kept: an alias says nothing of the price."""
    event, entry = ask(client, way)

    assert event.data["request_model"] == entry.model
    assert event.data["model"] == f"{entry.model}-2026-11"


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_a_stream_that_was_not_asked_for_its_usage(way, ask):
    """As langchain-openai does it for every base URL of one's own: counted, and never zero."""
    event, entry = ask("openai", way, stream_usage=False)

    assert not entry.usage_sent
    assert (event.data["status"], event.data["provenance"]) == ("completed", "estimated")
    assert event.data["input_tokens"] > 0
    assert event.data["output_tokens"] > 0
    assert event.data["count_method"]


def test_two_calls_are_never_mixed_up(provider, meter, events_of):
    """Each event has the numbers of its own answer, known by the provider's name for it."""
    llm = CLIENTS["openai"](provider)
    config = {"callbacks": [MeteringHandler("acme", meter=meter)], "max_concurrency": 8}
    llm.batch([f"hello [call:{number}]" for number in range(40)], config)

    told = {event.data["response_id"]: metered(event) for event in events_of(meter)}
    assert told == {f"chatcmpl-answer-{e.number}": booked(e) for e in provider.entries}
    assert len(told) == 40
