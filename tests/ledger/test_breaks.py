"""Who works on a ledger for long lets others have their turn."""

import sqlite3
from contextlib import closing

import pytest

from llm_metering.ledger import Ledger, _breaks, _cost_sums, pricing
from tests.factories import batch_of, make_event

from .pricer_process import QUESTIONS
from .pricing import Prices, card


class Time:
    """A clock that each look at moves on, and a sleep in which another process writes."""

    def __init__(self, path):
        self.path = path
        self.now = 0.0
        self.turns = 0

    def monotonic(self):
        self.now += 0.15
        return self.now

    def sleep(self, seconds):
        assert seconds >= 0.1
        with closing(sqlite3.connect(self.path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        self.turns += 1


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(pricing, "CAREFULLY", 2)
    monkeypatch.setattr(pricing, "AT_ONCE", 2)
    monkeypatch.setattr(_cost_sums, "LAG", 0)
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.deliver(batch_of(make_event() for _ in range(40)))
        yield ledger


def test_pricing_makes_breaks(ledger, monkeypatch):
    """Outside its transactions, and not after each piece."""
    clock = Time(ledger.path)
    monkeypatch.setattr(_breaks, "time", clock)
    ledger.price({"cost": Prices({"gpt-5-mini": card()})})
    assert 2 < clock.turns < 20


def test_adding_up_makes_breaks(ledger, monkeypatch):
    ledger.price({"cost": Prices({"gpt-5-mini": card()})})
    monkeypatch.setattr(_cost_sums, "AT_ONCE", 2)
    clock = Time(ledger.path)
    monkeypatch.setattr(_breaks, "time", clock)
    ledger.query(QUESTIONS[1])
    assert 2 < clock.turns < 20
