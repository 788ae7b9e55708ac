"""Sums of costs, which are behind the rows and are brought up by who asks."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from llm_metering.ledger import Ledger, _cost_sums, _files, pricing
from llm_metering.meters import usage_query
from tests.factories import batch_of, make_event

from .pricer_process import QUESTIONS
from .pricing import Prices, card

PRICES = {"cost": Prices({"gpt-5-mini": card()})}
START = datetime(2026, 3, 1, tzinfo=UTC)
END = datetime(2026, 5, 1, tzinfo=UTC)
TABLES = dict(
    zip(
        QUESTIONS,
        (["cost_kind_days", "cost_kind_quarters"], ["cost_subject_days"], ["cost_months"]),
        strict=True,
    )
)


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """30 events of two months and three subjects, priced, in no sum yet."""
    monkeypatch.setattr(_cost_sums, "LAG", 5)
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.deliver(
            batch_of(
                make_event(subject=f"c-{number % 3}", time=START + timedelta(days=2 * number))
                for number in range(30)
            )
        )
        ledger.price(PRICES)
        yield ledger


def places(ledger):
    with closing(sqlite3.connect(ledger.path)) as connection:
        return dict(connection.execute("SELECT sums, through_place FROM cost_places"))


@pytest.mark.parametrize("query", QUESTIONS, ids=[each[0] for each in TABLES.values()])
def test_who_asks_brings_up_the_sums_that_it_reads(ledger, query):
    """And no others; what comes then is added row by row, until it is too much."""
    assert places(ledger) == {}
    first = ledger.query(query)
    assert places(ledger) == dict.fromkeys(TABLES[query], 30)

    ledger.deliver(batch_of(make_event(subject="c-0", time=START) for _ in range(4)))
    ledger.price(PRICES)
    assert ledger.query(query).total == first.total * 34 / 30
    assert places(ledger) == dict.fromkeys(TABLES[query], 30)

    ledger.deliver(batch_of(make_event(subject="c-0", time=START) for _ in range(2)))
    ledger.price(PRICES)
    assert ledger.query(query).total == first.total * 36 / 30
    assert places(ledger) == dict.fromkeys(TABLES[query], 36)
    assert ledger.recount() == []


def test_a_bill_brings_up_months_alone(ledger):
    billing = ledger.billing(START, END)
    assert places(ledger) == {"cost_months": 30}
    assert sum(each.events for each in billing.charges) == 30


def test_an_earlier_version_is_read_from_rows(ledger):
    """No sum says what it was."""
    ledger.query(QUESTIONS[0], version=1)
    ledger.billing(START, END, version=1)
    assert places(ledger) == {}


def test_a_long_pass_adds_up_months_on_its_way(tmp_path, monkeypatch):
    monkeypatch.setattr(pricing, "AT_ONCE", 10)
    monkeypatch.setattr(pricing, "CAREFULLY", 10)
    monkeypatch.setattr(_cost_sums, "AT_ONCE", 25)
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        ledger.deliver(batch_of(make_event() for _ in range(59)))
        ledger.price(PRICES)
        assert places(ledger) == {"cost_months": 50}


def test_a_ledger_that_cannot_be_written_is_answered_from(ledger, monkeypatch):
    """While another process has it locked, the rows are read, which says the same."""
    monkeypatch.setattr(_files, "BUSY_TIMEOUT", 0.01)
    by_rows = [ledger.query(query, version=1) for query in QUESTIONS]
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        found = ledger.query_all(QUESTIONS)
        charges = ledger.billing(START, END).charges
    assert [each.rows for each in found] == [each.rows for each in by_rows]
    assert sum(each.picos for each in charges) == sum(
        each.picos for each in ledger.billing(START, END, version=1).charges
    )
    assert places(ledger) == {}


@pytest.mark.parametrize("summed", [0, 7, 20, 30])
def test_answers_are_the_same_wherever_a_sum_ends(ledger, monkeypatch, summed):
    """Of whole and of broken months, for some and for all."""
    if summed:
        with ledger._handle.writing() as writer:
            writer.execute("UPDATE price_books SET through_place = ?", (summed,))
        monkeypatch.setattr(_cost_sums, "LAG", 0)
        ledger.query_all(QUESTIONS)
        with ledger._handle.writing() as writer:
            writer.execute("UPDATE price_books SET through_place = 30")
    monkeypatch.setattr(_cost_sums, "LAG", 30)
    middle = datetime(2026, 4, 4, 3, 15, tzinfo=UTC)
    for asked in (
        {"window": "DAY", "time_zone": "Asia/Kolkata"},
        {"window": "MONTH", "group_by": ["subject", "model"]},
        {"window": "DAY", "group_by": "subject", "start": middle},
        {"start": middle, "subject": ["c-0", "c-2"], "group_by": "model"},
        {"end": middle, "group_by": ["subject", "model"]},
        {"end": middle},
    ):
        query = usage_query("cost_total", **asked)
        assert ledger.query(query).rows == ledger.query(query, version=1).rows, asked
    for period in ((START, END), (START, middle), (middle, END)):
        for subjects in (None, ["c-1"]):
            now = ledger.billing(*period, subjects)
            then = ledger.billing(*period, subjects, version=1)
            assert now.charges == then.charges
    assert set(places(ledger).values()) == ({summed} if summed else set())
