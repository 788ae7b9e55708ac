"""Recorded answers of real providers, played back through LlamaIndex's real clients.

What a provider reported is what is billed, whatever LlamaIndex makes of it. Anthropic's recordings
are in the test of the same name in `anthropic/`, since its client needs an environment of its own.
"""

from __future__ import annotations

import asyncio

import pytest

from tests.extract.recorded import ABSENT, ANSWERS, FOLDER, params
from tests.llamaindex.recorded import expected_of, is_right, numbers_of, reported_by_llamaindex
from tests.llamaindex.recorded_clients import CLIENTS

# The clients warn of what is deprecated, and leave connections open when they fail.
pytestmark = pytest.mark.filterwarnings("ignore")

NOT_EXACT = {
    "google-vertex/gemini-generate-content-stream-reasoning-1": (
        "It was recorded without `alt=sse` and is one JSON array. LlamaIndex's client asks for events, "
        "fails over the first line, and closes the connection before the usage has come."
    ),
}
"""By name, why the counts cannot be what the provider reported."""

LOST_BY_LLAMAINDEX = {
    "azure-openai/openai-chat-unary-plain-1": "fails over a choice without a message",
    "cohere/cohere-v1-chat-stream-plain-1": "not in a usage, but in the event that ends a stream",
    "cohere/cohere-v1-chat-stream-plain-2": "not in a usage, but in the event that ends a stream",
    "google-vertex/gemini-generate-content-stream-reasoning-1": "fails over a JSON array",
    "google-vertex/gemini-generate-content-unary-plain-1": "fails over a refused prompt",
    "google-vertex/gemini-generate-content-unary-reasoning-1": "fails over a finish reason",
    "google-vertex/gemini-generate-content-unary-reasoning-2": "fails over a finish reason",
    "groq/openai-chat-stream-plain-1": "not in a usage, but in `x_groq`",
    "groq/openai-chat-stream-plain-2": "not in a usage, but in `x_groq`",
    "groq/openai-chat-stream-plain-3": "not in a usage, but in `x_groq`",
    "mistral/openai-chat-stream-plain-1": "not in a usage, but in the event around each chunk",
    "mistral/openai-chat-stream-plain-2": "not in a usage, but in the event around each chunk",
    "mistral/openai-chat-stream-plain-3": "not in a usage, but in the event around each chunk",
    "ollama/ollama-stream-plain-1": "a completion is asked for as a chat, and the answer is none",
    "openrouter/openai-chat-stream-reasoning-cost-1": "fails over an error that carries the usage",
}
"""By name, why LlamaIndex's own answer does not report what the provider did."""

GAPS = [
    name
    for name, reason in LOST_BY_LLAMAINDEX.items()
    # Of what was refused nothing was used.
    if not reason.startswith("not in a usage") and "refused" not in reason
]
"""What LlamaIndex does not hand on in any shape, so that a tap alone can see it."""

OPENAI_AND_OLLAMA = ("openai.chat", "openai.responses", "openai.completions", "ollama")
HERE = [
    each
    for each in ANSWERS
    if (each.api in CLIENTS or (each.provider, each.api) in CLIENTS)
    and each.api != "anthropic.messages"
    and not each.request["uri"].endswith("/rerank")
]
REPORTED = [each for each in HERE if each.expected]
SINGLE = [each for each in REPORTED if not each.name.startswith("sequences/")]
NOT_AWAITED = {
    "google-vertex": "google-genai awaits with aiohttp, which has no tap, and fails over the answer.",
    "cohere": "`Cohere.astream_chat` makes a plain stream and iterates over it as over an async one.",
}
"""By provider, what a client cannot do when it is awaited, or nobody can see of it."""
SPOT_CHECKS = list(
    {
        (each.provider, each.api, each.is_stream): each
        for each in REPORTED
        if each.provider not in NOT_AWAITED
    }.values()
)
STREAMS = [each for each in REPORTED if each.is_stream and each.name not in NOT_EXACT]
AWAITED = [each for each in STREAMS if each.provider not in NOT_AWAITED]


@pytest.mark.parametrize("interaction", params(REPORTED))
def test_exact(replayed, interaction):
    """What is metered is what the provider reported, or why it is not is known."""
    data = replayed.once(interaction).data

    if interaction.name in NOT_EXACT:
        assert data["provenance"] != "reported"
    else:
        assert numbers_of(data) == expected_of(interaction)
        assert data["provenance"] == "reported"
        assert data.get("service_tier") == interaction.tier
    assert "usage_differs" not in data.get("flags", ())
    assert "tap_failed" not in data.get("flags", ())


@pytest.mark.parametrize("interaction", params(each for each in HERE if each.expected is None))
def test_nothing_reported(replayed, interaction):
    """An answer that reports nothing is estimated, and says so."""
    assert replayed.once(interaction).data["provenance"] == "estimated"


@pytest.mark.timeout(300)
@pytest.mark.skipif(not FOLDER, reason=ABSENT)
def test_how_many_are_exact(replayed):
    """All but one, where LlamaIndex itself reports eleven in twelve; each that it loses has a reason."""
    ours = [each for each in SINGLE if numbers_of(replayed.once(each).data) == expected_of(each)]
    theirs = {
        each.name
        for each in SINGLE
        if is_right(each, reported_by_llamaindex(replayed.once(each).answers))
    }

    assert (len(ours), len(theirs), len(SINGLE)) == (179, 165, 180)
    assert {each.name for each in SINGLE} - theirs == LOST_BY_LLAMAINDEX.keys()
    # Of those whose clients need no environment but OpenAI's and Ollama's integrations:
    few = [each for each in SINGLE if each.api in OPENAI_AND_OLLAMA]
    assert sum(each in ours for each in few) == len(few) == 139
    assert sum(each.name in theirs for each in few) == 130


@pytest.mark.parametrize("interaction", params(SPOT_CHECKS))
def test_async(replayed, interaction):
    """Of each provider and API one, awaited: the same counts."""
    data = asyncio.run(replayed.acall(interaction))

    assert numbers_of(data) == expected_of(interaction)


@pytest.mark.parametrize("replayed", [False], ids=["no taps"], indirect=True)
@pytest.mark.parametrize("interaction", params(each for each in REPORTED if each.name in GAPS))
def test_without_taps(replayed, interaction):
    """It is the tap that repairs these: with the setting off, LlamaIndex's own count is what there is."""
    data = replayed.once(interaction).data

    assert numbers_of(data) != expected_of(interaction)


@pytest.mark.skipif(not FOLDER, reason=ABSENT)
def test_all_streams_at_once(replayed):
    """Streams consumed in turns on one event loop: none is billed for what another one used."""
    models = [replayed.model(each) for each in AWAITED]

    async def main():
        return await asyncio.gather(*map(replayed.acall, AWAITED, models))

    events = asyncio.run(main())

    assert [numbers_of(data) for data in events] == [expected_of(each) for each in AWAITED]


@pytest.mark.skipif(not FOLDER, reason=ABSENT)
def test_streams_in_one_thread(replayed):
    """Streams that one thread consumes in turns are told apart, each to its own provider's end."""
    chosen = [each for each in STREAMS if each.provider in ("cohere", "groq", "mistral", "openai")]
    open_ones = list(replayed.streams(chosen))
    left = [stream for _, stream in open_ones]
    while left:
        left = [stream for stream in left if next(stream, None) is not None]

    events = [replayed.event(name) for name, _ in open_ones]
    assert [numbers_of(data) for data in events] == [expected_of(each) for each in chosen]
