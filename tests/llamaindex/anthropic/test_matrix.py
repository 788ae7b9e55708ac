"""Every way into LlamaIndex with Anthropic's model: metered once, exactly, for whom it was."""

from __future__ import annotations

import pytest

import llm_metering
from tests.llamaindex.matrix import cells, check_cell


@pytest.mark.parametrize(("client", "entry", "way"), cells("anthropic"))
def test_what_is_metered_is_what_the_provider_booked(
    client, entry, way, provider, streams_ask, events_of
):
    """One event for each request, its counts those of the provider's books, its subject the caller's."""
    llm_metering.install()

    check_cell(client, entry, way, provider, streams_ask, events_of)
