"""What events cost: priced once, kept, added up, and told to whoever asks."""

import sqlite3
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from llm_metering.errors import QueryError
from llm_metering.ledger import Ledger
from llm_metering.ledger._queries import reports
from llm_metering.meters import usage_query
from llm_metering.prices import PriceCard, Unpriced
from llm_metering.token_usage import TokenUsage
from tests.factories import NOON, batch_of, make_event

from .pricing import Prices, card

PRICES = Prices({"gpt-5-mini": card()})
CALL = Decimal("0.0006")
"""What `make_event` costs: 100 tokens of input and 20 of output."""


@pytest.fixture
def ledger(tmp_path):
    with closing(Ledger(tmp_path / "ledger.db")) as ledger:
        yield ledger


def fill(ledger, *events):
    assert len(ledger.deliver(batch_of(events)).accepted) == len({each.id for each in events})


def cost(ledger, **asked):
    return ledger.query(usage_query("cost_total", **asked))


def test_the_sum_of_what_events_cost(ledger):
    """By subject and model, exactly, with its currency; and nothing before anybody priced."""
    fill(ledger, make_event(), make_event(subject="zoo"), make_event(model="other"))
    assert (cost(ledger).rows, cost(ledger).unpriced) == ((), 3)

    done = ledger.price({"cost": PRICES})

    assert (done.events, done.unpriced) == ({"cost": 3}, {"cost": 1})
    report = cost(ledger, group_by=["subject", "model"])
    assert [(row.subject, row.group_by["model"], row.value) for row in report] == [
        ("customer-42", "gpt-5-mini", CALL),
        ("zoo", "gpt-5-mini", CALL),
    ]
    assert (report.total, report.currency, report.unpriced) == (2 * CALL, "USD", 1)


def test_no_price_is_no_zero(ledger):
    """A group without a price has no row; what used nothing costs 0, in whatever currency."""
    nothing = TokenUsage(input_tokens=0, output_tokens=0)
    fill(ledger, make_event(usage=None), make_event(usage=nothing), make_event(model="other"))
    ledger.price({"cost": Prices({"gpt-5-mini": card(currency="EUR")})})

    assert [(row.value, row.group_by) for row in cost(ledger, group_by="model")] == [
        (0, {"model": "gpt-5-mini"})
    ]
    assert (cost(ledger).currency, cost(ledger).unpriced) == (None, 2)
    fill(ledger, make_event())
    ledger.price({"cost": Prices({"gpt-5-mini": card(currency="EUR")})})
    assert (cost(ledger).currency, cost(ledger).total) == ("EUR", CALL)


def test_an_event_keeps_its_price(ledger):
    """Another list is for what is priced from then on; both versions are there to be seen."""
    fill(ledger, make_event())
    ledger.price({"cost": PRICES})
    fill(ledger, make_event())
    dearer = Prices({"gpt-5-mini": card(input="6", output="30")}, version="2")

    ledger.price({"cost": dearer})

    assert cost(ledger).total == 3 * CALL
    versions = [(each.number, each.list_version) for each in ledger.price_versions()]
    assert versions == [(1, "1"), (2, "2")]
    assert ledger.query(usage_query("cost_total"), version=1).total == CALL
    assert ledger.query(usage_query("cost_total"), version=2).total == 3 * CALL
    with pytest.raises(QueryError, match="there is no version 3 of prices; there are 1 to 2"):
        ledger.query(usage_query("cost_total"), version=3)


def test_a_ledger_that_is_not_there_has_no_version(tmp_path):
    """An unknown version is refused there too: an empty answer would be a bill of nothing."""
    with closing(Ledger(tmp_path / "none.db")) as none:
        with pytest.raises(QueryError, match="no version 99 of prices; nothing was priced yet"):
            none.billing(NOON, NOON + timedelta(days=1), version=99)
        with pytest.raises(QueryError, match="no version 99 of prices; nothing was priced yet"):
            none.query(usage_query("cost_total"), version=99)
        assert none.billing(NOON, NOON + timedelta(days=1)).charges == []


def test_what_was_priced_is_priced_again(ledger):
    """Those that were chosen, with what changed; the version before is still what it was."""
    fill(ledger, make_event(), make_event(subject="zoo"), make_event(model="new"))
    ledger.price({"cost": PRICES})
    dearer = Prices({"gpt-5-mini": card(input="6", output="30"), "new": card("new")}, version="2")
    planned = ledger.reprice(dearer, dry_run=True)
    assert (planned.version, len(planned.changes), cost(ledger).total) == (None, 2, 2 * CALL)

    done = ledger.reprice(dearer, subjects=["zoo"])

    [change] = done.changes
    assert (change.before, change.after, change.events) == (CALL, 2 * CALL, 1)
    assert (done.version, cost(ledger).total) == (2, 3 * CALL)
    done = ledger.reprice(dearer, unpriced_only=True)
    [change] = done.changes
    assert (change.model, change.newly_priced, change.before) == ("new", 1, 0)
    assert ledger.reprice(dearer).version == 4
    assert ledger.reprice(dearer).version is None
    totals = [ledger.query(usage_query("cost_total"), version=each).total for each in range(1, 5)]
    assert totals == [2 * CALL, 3 * CALL, 4 * CALL, 5 * CALL]
    assert (cost(ledger, group_by=["subject", "model"]).total, ledger.recount()) == (5 * CALL, [])
    bills = [ledger.billing(NOON, NOON + timedelta(days=1), version=each) for each in (1, 4)]
    assert [sum(each.picos or 0 for each in bill.charges) for bill in bills] == [
        1_200_000_000,
        3_000_000_000,
    ]


def test_several_currencies_are_not_added_up(ledger):
    """The error says what to do; by currency, and of one, there are sums."""
    euros = card("other", currency="EUR")
    fill(ledger, make_event(), make_event(model="other"))
    ledger.price({"cost": Prices({"gpt-5-mini": card(), "other": euros})})

    with pytest.raises(QueryError, match=r"\(EUR, USD\); group or filter by currency"):
        cost(ledger)

    report = cost(ledger, group_by="currency")
    assert [(row.group_by, row.value) for row in report] == [
        ({"currency": "EUR"}, CALL),
        ({"currency": "USD"}, CALL),
    ]
    with pytest.raises(QueryError, match="do not add up"):
        _ = report.total
    one = cost(ledger, filters={"currency": "EUR"})
    assert (one.total, one.currency) == (CALL, "EUR")


def test_prices_by_time_tier_and_size(ledger):
    """Each event by those of its own moment, tier and input; the list is asked once for each."""
    prices = Prices(
        {"m": [card("m"), card("m", above=200_000, input="6", output="22.5")]},
        changes={"new": [(NOON, card("new"))]},
        tiers={("m", "batch"): card("m", input="1.5", output="7.5")},
    )
    large = TokenUsage(input_tokens=200_001, output_tokens=0)
    fill(
        ledger,
        *(make_event(model="m") for _ in range(5)),
        make_event(model="m", usage=large),
        make_event(model="new", time=NOON - timedelta(seconds=1)),
        make_event(model="new", time=NOON),
    )

    ledger.price({"cost": prices})

    report = cost(ledger, group_by="model")
    assert {row.group_by["model"]: row.value for row in report} == {
        "m": 5 * CALL + Decimal("1.200006"),
        "new": CALL,
    }
    assert (report.unpriced, prices.asked) == (1, 3)


def test_sums_are_exact_beyond_64_bits(ledger):
    """Four events of almost the most that one may cost."""
    dear = card(input="46000000000", output="0")
    fill(ledger, *(make_event() for _ in range(4)))
    ledger.price({"cost": Prices({"gpt-5-mini": dear})})

    assert cost(ledger).total == 4 * 4_600_000
    assert all(row.value == 4 * 4_600_000 for row in cost(ledger, group_by=["subject", "model"]))


def test_credits_are_a_book_of_their_own(ledger):
    """Beside money, with a list of its own, and no cost that a provider has reported is in it."""
    fill(ledger, make_event(), make_event(measures={"reported_cost": 0.5}))
    credits = Prices({"gpt-5-mini": card(currency="credits", input="1000000", output="0")})

    ledger.price({"cost": PRICES, "credits": credits})

    report = ledger.query(usage_query("credits_total"))
    assert (report.total, report.currency) == (200, "credits")
    assert cost(ledger).total == CALL + Decimal("0.5")
    fill(ledger, make_event())
    with pytest.raises(QueryError, match="has USD for openai gpt-5-mini, where credits are wanted"):
        ledger.price({"credits": PRICES})


def test_bodies_that_were_pruned(ledger):
    """What was priced before keeps its price; of the others nobody knows tier and kinds."""
    fill(ledger, make_event())
    ledger.price({"cost": PRICES})
    fill(ledger, make_event())
    ledger.prune(NOON + timedelta(microseconds=1))

    ledger.price({"cost": PRICES})

    assert (cost(ledger).total, cost(ledger).unpriced) == (CALL, 1)
    charges = ledger.billing(NOON, NOON + timedelta(days=1)).charges
    assert {each.price.detail for each in charges if isinstance(each.price, Unpriced)} == {
        "its body was pruned before it was priced"
    }


def test_a_bill_is_of_one_moment(ledger):
    """Charges by subject, model, provenance and price; what has no price; answers; the version."""
    searched = TokenUsage(input_tokens=100, output_tokens=20, reasoning_output_tokens=5)
    fill(
        ledger,
        make_event(usage=searched),
        make_event(),
        make_event(provenance="estimated"),
        make_event(model="other"),
        make_event(
            quantity=2.5, unit="pages", usage=None, provenance="reported", model=None, provider=None
        ),
        make_event(time=NOON + timedelta(days=1)),
    )
    ledger.price({"cost": PRICES})
    calls = usage_query("calls_total", start=NOON, end=NOON + timedelta(hours=1))

    bill = ledger.billing(NOON, NOON + timedelta(hours=1), ["customer-42"], [calls])

    assert [
        (each.provenance, each.model, dict(each.quantities), each.picos, each.events)
        for each in bill.charges
    ] == [
        ("reported", None, {"pages": Decimal("2.5")}, None, 1),
        ("estimated", "gpt-5-mini", {"input": 100, "output": 20}, 600_000_000, 1),
        ("reported", "gpt-5-mini", {"input": 200, "output": 35, "reasoning": 5}, 1_200_000_000, 2),
        ("reported", "other", {"input": 100, "output": 20}, None, 1),
    ]
    assert isinstance(bill.charges[1].price, PriceCard)
    assert (bill.version, bill.versions["cost"].list_name, bill.waiting) == (
        1,
        "tests",
        {"cost": 0},
    )
    assert bill.reports[0].total == sum(each.calls for each in bill.charges)
    assert ledger.billing(NOON, NOON + timedelta(hours=1), version=1).charges == bill.charges
    assert ledger.billing(NOON, NOON + timedelta(hours=1), ["nobody"]).charges == []


def test_what_came_since_is_waiting(ledger):
    """A bill says how many events of its period no pass has priced yet."""
    fill(ledger, make_event())
    ledger.price({"cost": PRICES})
    fill(ledger, make_event(), make_event(subject="zoo"), make_event(time=NOON - timedelta(days=9)))

    bill = ledger.billing(NOON, NOON + timedelta(hours=1), ["customer-42"])

    assert (bill.waiting, sum(each.events for each in bill.charges)) == ({"cost": 1}, 1)


def test_every_way_to_an_answer_is_the_same(ledger):
    """From sums and from rows: windows, zones, subjects, keys, odd bounds."""
    events = [
        make_event(
            time=NOON + timedelta(hours=7 * number, minutes=11 * number),
            subject=f"customer-{number % 3}",
            model=("gpt-5-mini", "other", "none")[number % 3 if number % 5 else 0],
            provenance=("reported", "estimated")[number % 2],
        )
        for number in range(240)
    ]
    fill(ledger, *events)
    ledger.price(
        {"cost": Prices({"gpt-5-mini": card(), "other": card("other", input="1", output="2")})}
    )
    ways = 0
    for window in (None, "HOUR", "DAY", "MONTH"):
        for zone in ("UTC", "Europe/Berlin", "Asia/Kathmandu"):
            for keys in ((), ("subject",), ("model", "subject"), ("provenance",)):
                for bounds in (
                    {},
                    {"start": "2026-11-25T00:00Z", "end": "2027-01-12T00:00Z"},
                    {"start": "2026-11-30T23:00Z", "end": "2026-12-31T23:00Z"},
                    {"start": "2026-12-02T00:00Z", "end": "2027-01-03T00:00Z"},
                    {"start": "2026-11-25T03:07:01Z"},
                ):
                    for subject in (None, "customer-1"):
                        query = usage_query(
                            "cost_total",
                            window=window,
                            time_zone=zone,
                            group_by=keys,
                            subject=subject,
                            **bounds,
                        )
                        with ledger._reading() as connection:
                            first, *others = reports(connection, query)
                        ways += len(others)
                        assert all(each == first for each in others), query
                        assert first.rows or first.unpriced
    assert ways > 300


def test_a_ledger_of_schema_3_is_read_as_it_is(tmp_path):
    """Nothing in it is priced; whoever prices brings it to ours, and nothing it added up changes."""
    path = tmp_path / "ledger.db"
    with closing(Ledger(path)) as ledger:
        fill(ledger, make_event())
    with closing(sqlite3.connect(path)) as connection:
        tables = [
            name
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            if name.startswith(("cost", "price_")) or name in ("seals", "links", "arrivals")
        ]
        connection.execute("DROP TRIGGER events_arrive")
        for name in tables:
            connection.execute(f"DROP TABLE {name}")
        connection.execute("ALTER TABLE events DROP COLUMN plain_tier")
        connection.execute("PRAGMA user_version = 3")
        connection.commit()
    assert len(tables) == 12
    with closing(Ledger(path)) as ledger:
        assert (cost(ledger).rows, cost(ledger).unpriced) == ((), 1)
        bill = ledger.billing(NOON, NOON + timedelta(hours=1))
        assert (bill.version, bill.charges, bill.waiting) == (0, [], {"cost": 1})
        ledger.price({"cost": PRICES})
        assert (cost(ledger).total, ledger.recount()) == (CALL, [])


def test_no_ledger_is_made(tmp_path):
    """To price, or to ask, makes no file."""
    with closing(Ledger(tmp_path / "none.db")) as ledger:
        assert ledger.price({"cost": PRICES}).events == {}
        assert ledger.billing(NOON, NOON + timedelta(hours=1)).charges == []
        assert cost(ledger).rows == ()
    assert not Path(tmp_path / "none.db").exists()
