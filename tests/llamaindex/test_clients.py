"""The models that the tests ask really ask the fake provider, once for each call."""

from __future__ import annotations

import pytest

from tests.llamaindex.asking import WAYS
from tests.llamaindex.clients import CLIENTS

NOT_HERE = "anthropic"
SHAPES = {
    "responses": "openai.responses",
    "completions": "openai.completions",
    "ollama": "ollama",
    "gemini": "gemini",
    "converse": "bedrock.converse",
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "client",
    [
        pytest.param(name, marks=pytest.mark.needs("litellm") if name == "litellm" else ())
        for name in CLIENTS
        if name != NOT_HERE
    ],
)
def test_a_client_asks_the_provider_once(client, way, provider):
    """Whatever LlamaIndex makes of a call, the provider's books have one entry, rightly named."""
    llm = CLIENTS[client](provider)
    WAYS[way](llm, "Hello [subject:customer-42]")

    entry = provider.entry
    assert (entry.status, entry.subject) == (200, "customer-42")
    assert entry.shape == SHAPES.get(client, "openai.chat")
    assert entry.output > 0
