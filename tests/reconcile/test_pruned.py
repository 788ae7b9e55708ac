"""A server is compared with what is known of events, and never with what is not."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta

import pytest

from llm_metering.errors import LedgerError
from llm_metering.ledger import Ledger

from .conftest import NOON, Shop

MINUTE = timedelta(minutes=1)


@pytest.fixture(params=["", "shape=kind"], ids=["call", "kind"])
def shop(request, tmp_path, server):
    """An application with events of three minutes, of which the first has no bodies any more."""
    shop = Shop(tmp_path / "home", server, request.param)
    shop.record(180)
    with closing(Ledger(shop.home / "ledger.db")) as ledger:
        assert ledger.prune(NOON + MINUTE).events == 60
    return shop


def test_a_span_without_bodies_is_refused(shop):
    """What was sent of them is not known: sums without them would be too small. It says since when."""
    with (
        pytest.raises(LedgerError, match=r"before 2026-11-21T12:01:00\+00:00 were given up"),
        shop.reconciling(),
    ):
        pass


def test_a_span_after_that_is_compared(shop):
    """And the others are known as ours where the server lists them."""
    with shop.reconciling(start=NOON + MINUTE) as reconciler:
        reconciler.compare()
        reconciler.add_totals()
        known = reconciler.span.knows([event["id"] for event in shop.server.events])

    assert reconciler.findings == {}
    assert reconciler.span.total == 120
    assert reconciler.meters
    assert known == {event["id"] for event in shop.server.events}


def test_bodies_that_are_given_up_meanwhile(shop):
    """It ends, instead of comparing with a part of them."""
    with shop.reconciling(start=NOON + MINUTE) as reconciler:
        with closing(Ledger(shop.home / "ledger.db")) as ledger:
            ledger.prune(NOON + 2 * MINUTE)
        with pytest.raises(LedgerError, match="given up meanwhile"):
            reconciler.compare()
