"""Notices of balances go through the sinks, and count as usage nowhere."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

import msgspec
import pytest

from llm_metering.limits import Balance, BalanceNotice
from llm_metering.meter import Meter
from llm_metering.sinks import open_sink
from llm_metering.sinks.base import Envelope
from llm_metering.sinks.shapes import SHAPES, wire_form
from tests.factories import envelope_of, make_event
from tests.sinks.lago_server import KEY, LagoServer

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture
def notice():
    balance = Balance(
        subject="acme",
        feature="tokens",
        unit="tokens",
        granted=100,
        used=80,
        reserved=0,
        available=20,
        overage=0,
        is_soft_limit=False,
        resets_at=None,
        as_of=NOW,
        grants=(),
    )
    notice = BalanceNotice(id="0198c0de-0000-7000-8000-00000000000a", threshold=80, balance=balance)
    return Envelope(notice.id, notice.event("tests", NOW))


@pytest.mark.parametrize("event_type", [None, "prompt"])
@pytest.mark.parametrize("event_id", ["call", "response"])
@pytest.mark.parametrize("shape", SHAPES)
def test_openmeter_gets_it_as_it_is(shape, event_id, event_type, notice):
    """Under the type of usage, a meter that counts events would count it."""
    form = wire_form(shape, event_type=event_type, event_id=event_id)
    [sent] = [notice.payload] if form is None else form.encode(notice.payload)
    assert msgspec.json.decode(sent) == msgspec.json.decode(notice.payload)


def test_lago_is_not_told(notice):
    """One of its metrics may count events."""
    event = make_event(subject="sub_acme")
    with LagoServer() as server:
        url = server.base
        with closing(open_sink(url, source="tests", lago_api_key=KEY)) as sink:
            alone = sink.deliver([notice])
            beside = sink.deliver([notice, envelope_of(event)])
        assert [transaction for _, transaction in server.events] == [event.id]
    assert (alone.accepted, alone.unasked) == ({notice.id}, True)
    assert (beside.accepted, beside.unasked) == ({notice.id, event.id}, False)


def test_the_ledger_counts_no_call(home):
    """And it is there once, however often it was told."""
    with Meter(home, (), source="tests", limits="on", balance_thresholds=[50]) as meter:
        meter.grant("acme", 100)
        meter.record(make_event().usage, "acme")
        assert meter.flush()
        assert meter.flush()
        (row,) = meter.usage("calls_total")
        assert row.value == 1
        assert meter.usage("tokens_total").rows[0].value == 120
        assert meter.statistics()["recorded"] == 2
