"""Every way into LlamaIndex, with every kind of model: metered once, exactly, for whom it was.

Anthropic's column is in `anthropic/`, since its client needs an environment of its own.
"""

from __future__ import annotations

import pytest

import llm_metering
from tests.llamaindex.matrix import cells, check_cell

COLUMNS = ("openai", "openai_like", "responses", "ollama", "custom")
# Of these the entry points that are the integration's own.
MORE = ("completions", "azure", "gemini", "converse", "mistral", "langchain")
OWN = ("chat", "complete", "predict")


@pytest.mark.parametrize(("client", "entry", "way"), [*cells(*COLUMNS), *cells(*MORE, entries=OWN)])
def test_what_is_metered_is_what_the_provider_booked(
    client, entry, way, provider, streams_ask, events_of
):
    """One event for each request, its counts those of the provider's books, its subject the caller's."""
    llm_metering.install()

    check_cell(client, entry, way, provider, streams_ask, events_of)
