"""Anthropic's model really asks the fake provider, once for each call."""

from __future__ import annotations

import pytest

from tests.llamaindex.asking import WAYS
from tests.llamaindex.clients import CLIENTS


@pytest.mark.parametrize("way", WAYS)
def test_it_asks_the_provider_once(way, provider):
    """Whatever LlamaIndex makes of a call, the provider's books have one entry, rightly named."""
    llm = CLIENTS["anthropic"](provider)
    WAYS[way](llm, "Hello [subject:customer-42]")

    entry = provider.entry
    assert (entry.status, entry.subject, entry.shape) == (200, "customer-42", "anthropic")
    assert entry.output > 0
