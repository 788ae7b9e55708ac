"""`enforce=True`: a call that its payer's balance does not cover is refused before it is made."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

import llm_metering
from llm_metering import BalanceExceeded
from tests.books import billed, owed, prompt
from tests.llamaindex.asking import WAYS, generated
from tests.llamaindex.clients import CLIENTS
from tests.llamaindex.limiting import configured, is_clean, limited, manager, tokens, used
from tests.llamaindex.matrix import cells, enter_cell

__all__ = ["configured", "limited"]

every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
ENTRIES = [*cells("openai_like"), *cells("custom", entries=["chat", "complete", "query engine"])]


@every_way
@pytest.mark.parametrize("installed", [False, True], ids=["handler", "global"])
def test_a_call_that_is_not_covered_is_not_made(way, installed, limited, provider):
    """The error says what is left and what is needed, and the provider is not asked."""
    limited.grant("acme", 50, recurrence="MONTH")
    options = {"max_tokens": 60}
    if installed:
        llm_metering.install("acme", enforce=True)
    else:
        options["callback_manager"] = manager("acme")
    llm = CLIENTS["openai_like"](provider, **options)

    with pytest.raises(BalanceExceeded) as caught:
        way(llm, prompt("acme"))

    assert provider.entries == []
    error = caught.value
    assert (error.subject, error.unit, error.balance) == ("acme", "tokens", 50)
    assert 60 < error.needed < 100
    assert error.resets_at > datetime.now(UTC)
    is_clean(limited, refused=1)
    assert limited.statistics()["recorded"] == 0
    assert limited.balance("acme").used == 0


@every_way
@pytest.mark.parametrize("installed", [False, True], ids=["handler", "global"])
@pytest.mark.parametrize("client", ["openai_like", "completions", "custom"])
def test_a_call_that_is_covered_is_made_and_burnt(
    client, way, installed, limited, provider, events_of
):
    """One reservation, which its one event settles; a balance that covers one call is enough."""
    limited.grant("acme", 1_100)
    options = {}
    if installed:
        llm_metering.install("acme", enforce=True)
    else:
        options["callback_manager"] = manager("acme")

    way(CLIENTS[client](provider, **options), prompt("acme"))

    balance = limited.balance("acme")
    assert balance.used == used(provider) > 0
    assert (balance.reserved, balance.available - balance.overage) == (0, 1_100 - balance.used)
    (event,) = events_of(limited)
    assert event.data["reservation_id"]
    assert billed([event]) == owed(provider)
    is_clean(limited, refused=0)


# A streaming chat engine asks in a thread of its own, which raises it as well as the reader.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(("client", "entry", "way"), ENTRIES)
def test_no_entry_point_leads_past_the_gate(client, entry, way, limited, provider, events_of):
    """Engines, agents and workflows raise what refuses the calls inside of them."""
    limited.grant("customer-42", 50)
    llm_metering.install(enforce=True)

    with pytest.raises(BalanceExceeded):
        enter_cell(client, entry, way, provider)

    assert provider.entries == []
    # An index of vectors has embedded its texts by then, which fits in.
    events = events_of(limited)
    assert generated(events) == []
    is_clean(limited, refused=1)
    assert limited.balance("customer-42").used == tokens(events)


@pytest.mark.parametrize(("client", "entry", "way"), ENTRIES)
def test_what_passes_is_settled_in_every_entry_point(
    client, entry, way, limited, provider, events_of
):
    """Each event names its reservation, nothing is left of one, and the balance is exact."""
    limited.grant("customer-42", 100_000)
    llm_metering.install(enforce=True)

    enter_cell(client, entry, way, provider)

    balance = limited.balance("customer-42")
    events = events_of(limited)
    assert (balance.used, balance.reserved) == (tokens(events), 0)
    assert tokens(generated(events)) == used(provider)
    assert len({event.data["reservation_id"] for event in events}) == len(events) > 0
    is_clean(limited, refused=0)
