"""From a call to a bill: recorded, kept in the ledger, priced, billed."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from llm_metering import Meter
from llm_metering.bills.asking import days_of
from llm_metering.errors import BillError, ConfigurationError, LedgerError, PlanError, QueryError
from llm_metering.token_usage import TokenUsage

PRICES = """
currency = "USD"
[[prices]]
provider = "anthropic"
model = "claude-sonnet-4-5"
per_million = { input = "3", cache_write = "3.75", output = "15" }
"""

PLANS = """
[[plans]]
name = "passed on"
effective_from = 2026-01-01
currency = "USD"
rounding = "half_even"
[[plans.charges]]
name = "Models at cost"
meter = "cost_total"
group_by = ["model"]
markup = "0"

[[plans]]
name = "pro"
effective_from = 2026-01-01
currency = "USD"
time_zone = "Europe/Berlin"
[[plans.charges]]
name = "Tokens"
meter = "tokens_total"
per = 1000
price = "1"

[[subjects]]
subject = "anthropic-user"
plan = "passed on"
from = 2026-01-01

[[subjects]]
subject = "berlin"
plan = "pro"
from = 2026-01-01

[[subjects]]
subject = "changing"
plan = "passed on"
from = 2026-02-01
to = 2026-11-10
"""

# litellm#9812: what Anthropic's console showed for this answer.
ANSWER = {
    "id": "msg_01",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "…"}],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 3,
        "cache_creation_input_tokens": 12_304,
        "cache_read_input_tokens": 0,
        "output_tokens": 550,
    },
}
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def plans(tmp_path):
    path = tmp_path / "plans.toml"
    path.write_text(PLANS)
    return path


@pytest.fixture
def meter(tmp_path, plans):
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES)
    with Meter(
        tmp_path / "home", sinks=(), plans=plans, prices=[prices], price_source="off"
    ) as meter:
        yield meter


def tokens(count):
    return TokenUsage(input_tokens=count, output_tokens=0)


def test_the_anthropic_bill(meter):
    """An answer of 3 + 12,304 written to the cache + 550 tokens is $0.054399, to the last digit."""
    meter.record(ANSWER, "anthropic-user", time=NOON)

    bill = meter.bill("anthropic-user", "2026-11")

    shown = json.loads(bill.to_json())
    assert shown["cost"]["amounts"] == {"USD": "0.054399"}
    [line] = shown["lines"]
    assert (line["exact"], line["quantity"], line["amount"]) == ("0.054399", "0.054399", "0.05")
    assert line["group"] == {"model": "claude-sonnet-4-5"}
    assert line["provenance"] == {"reported": "0.054399"}
    assert bill.margin.amount == Decimal("-0.004399")
    assert bill.is_complete
    [cost] = bill.costs
    assert {kind.kind: str(kind.amount) for kind in cost.kinds} == {
        "input": "0.000009",
        "cache_write": "0.04614",
        "output": "0.00825",
    }
    assert cost.source == "prices.toml"


def test_a_late_event_changes_a_bill_and_a_duplicate_does_not(meter):
    """What is recorded later for a day of the month is on the next bill of it; what comes again, once."""
    first = {"time": NOON, "idempotency_key": "call-1"}
    meter.record(tokens(1000), "berlin", **first)
    before = meter.bill("berlin", "2026-11")
    meter.record(tokens(1000), "berlin", **first)
    again = meter.bill("berlin", "2026-11")
    meter.record(tokens(500), "berlin", time=datetime(2026, 11, 2, tzinfo=UTC))
    after = meter.bill("berlin", "2026-11")

    assert before.total == Decimal("1.00")
    assert again.to_json() == before.to_json()
    assert after.total == Decimal("1.50")


def test_usage_of_other_months_changes_no_bill(meter):
    """A bill of a month that is over is the same for ever, whatever is priced for other months."""
    meter.record(ANSWER, "anthropic-user", time=NOON)
    before = meter.bill("anthropic-user", "2026-11")
    meter.record(ANSWER, "anthropic-user", time=datetime(2026, 12, 1, tzinfo=UTC))
    meter.bill("anthropic-user", "2026-12")

    assert meter.bill("anthropic-user", "2026-11").to_json() == before.to_json()


def test_months_are_those_of_the_plan(meter):
    """An hour before midnight in UTC it is the next month in Berlin."""
    meter.record(tokens(3000), "berlin", time=datetime(2026, 10, 31, 23, 30, tzinfo=UTC))

    assert meter.bill("berlin", "2026-10").total == 0
    assert meter.bill("berlin", "2026-11").total == 3


def test_unpriced_usage_is_listed(meter):
    """A model that no list knows, and a call of unknown usage, are named; the bill is incomplete."""
    meter.record(ANSWER, "anthropic-user", time=NOON)
    meter.record(tokens(7), "anthropic-user", model="unheard-of", provider="nobody", time=NOON)
    meter.record({"nothing": "known"}, "anthropic-user", time=NOON)

    bill = meter.bill("anthropic-user", "2026-11")

    assert {(each.model, each.why.reason) for each in bill.unpriced} == {
        ("unheard-of", "unknown_model"),
        (None, "unknown_usage"),
    }
    assert [(each.provenance, each.calls) for each in bill.unknown_usage] == [("missing", 1)]
    assert bill.incomplete == (
        (
            "Models at cost is a markup on what it cost, and of 2 events nobody knows that; they are not "
            "charged"
        ),
    )
    assert bill.cost == {"USD": Decimal("0.054399")}


def test_days_without_a_plan_are_listed(meter):
    """Usage after a plan has ended is on no line, and is not forgotten."""
    meter.record(ANSWER, "changing", time=datetime(2026, 11, 3, tzinfo=UTC))
    meter.record(ANSWER, "changing", time=NOON)

    bill = meter.bill("changing", "2026-11")

    assert [(line.kind, str(line.quantity)) for line in bill.lines] == [("markup", "0.054399")]
    assert [(each.reason, each.quantity) for each in bill.unbilled] == [("no_plan", 1)]
    assert bill.cost == {"USD": Decimal("0.108798")}


def test_all_are_billed_at_once(meter):
    """Everybody with a plan or usage has the bill that they have alone; who cannot be billed is named."""
    meter.record(ANSWER, "anthropic-user", time=NOON)
    meter.record(tokens(3000), "berlin", time=NOON)
    meter.record(ANSWER, "stranger", time=NOON)
    meter.record(ANSWER, time=NOON)

    made = meter.bills("2026-11")

    assert {bill.subject: bill.to_json() for bill in made} == {
        subject: meter.bill(subject, "2026-11").to_json()
        for subject in ("anthropic-user", "berlin", "changing")
    }
    assert {subject: text.partition(",")[0] for subject, text in made.refused.items()} == {
        "stranger": "stranger is on no plan",
        "unattributed": "nobody was named to pay for these calls",
    }


def test_a_default_plan_is_for_everybody(meter, plans):
    """With a default plan, who has no assignment is billed by it; what nobody pays for is not."""
    alone = PLANS[: PLANS.index('[[plans]]\nname = "pro"')]
    plans.write_text('default_plan = "passed on"\n' + alone)
    meter.record(ANSWER, "stranger", time=NOON)
    meter.record(ANSWER, time=NOON)

    made = meter.bills("2026-11")

    assert [(bill.subject, bill.total) for bill in made] == [("stranger", Decimal("0.05"))]
    assert list(made.refused) == ["unattributed"]
    assert meter.bill("unheard-of", "2026-11").total == 0


def test_days_of_a_month(meter):
    """A bill may be of some days; together they are the month."""
    for day in (1, 14, 15, 30):
        meter.record(tokens(1000), "berlin", time=datetime(2026, 11, day, 12, tzinfo=UTC))

    first = meter.bill("berlin", start="2026-11-01", end="2026-11-15")
    second = meter.bill("berlin", start="2026-11-15")

    assert (first.total, second.total) == (2, 2)
    assert (str(second.period.end), second.period.time_zone) == ("2026-12-01", "Europe/Berlin")


@pytest.mark.parametrize(
    ("days", "message"),
    [
        pytest.param({}, "name a month such as", id="nothing"),
        pytest.param(
            {"month": "2026-11", "start": "2026-11-01"}, "name a month such as", id="both"
        ),
        pytest.param(
            {"month": "2026-13"}, "month is a month such as 2026-11, got '2026-13'", id="no month"
        ),
        pytest.param(
            {"month": NOON}, "month is a month such as 2026-11, got datetime", id="a moment"
        ),
        pytest.param(
            {"start": "yesterday"},
            "start is a day such as 2026-11-15, got 'yesterday'",
            id="no day",
        ),
        pytest.param(
            {"start": "2026-11-15", "end": "2026-12-02"},
            "a bill is of days of one month",
            id="two months",
        ),
        pytest.param(
            {"start": "2026-11-15", "end": "2026-11-15"},
            "a bill is of days of one month",
            id="no days",
        ),
    ],
)
def test_what_is_no_period_is_refused(days, message):
    """A bill is of a month or of days of one; anything else is refused with what may stand there."""
    with pytest.raises(BillError, match=message):
        days_of(**days)


def test_prices_that_change_make_a_new_version(meter, plans, tmp_path):
    """What was priced stays as it was; a bill of an older version of the prices is the older bill."""
    meter.record(ANSWER, "anthropic-user", time=NOON)
    before = meter.bill("anthropic-user", "2026-11")
    prices = tmp_path / "prices.toml"
    prices.write_text(PRICES.replace('"3"', '"6"'))
    meter.flush()
    with Meter(
        tmp_path / "home", sinks=(), plans=plans, prices=[prices], price_source="off"
    ) as other:
        other.record(ANSWER, "anthropic-user", time=NOON)
        after = other.bill("anthropic-user", "2026-11")
        old = other.bill("anthropic-user", "2026-11", version=before.price_version)

    assert after.cost == {"USD": Decimal("0.108807")}
    assert after.price_version > before.price_version
    assert old.cost == before.cost
    # The second event is not in these prices: nobody takes it for free.
    assert [(each.why.reason, each.events) for each in old.unpriced] == [("not_priced", 1)]
    assert not old.is_complete


def test_what_is_wrong_is_said_at_once(meter, plans, tmp_path):
    """Without plans, with wrong ones, with unknown versions or nobody to bill, the error says which."""
    meter.record(ANSWER, "berlin", time=NOON)
    meter.bill("berlin", "2026-11")
    with pytest.raises(QueryError, match="version"):
        meter.bill("berlin", "2026-11", version=99)
    with pytest.raises(BillError, match="stranger is on no plan"):
        meter.bill("stranger", "2026-11")
    plans.write_text("plan = 3")
    with pytest.raises(PlanError, match=r"plans\.toml:1: there is no 'plan' here"):
        meter.bill("berlin", "2026-11")
    with (
        Meter(tmp_path / "other", sinks=()) as other,
        pytest.raises(ConfigurationError, match="plans: no file of plans is named; set LLM_METER"),
    ):
        other.bill("berlin", "2026-11")
    with (
        Meter(tmp_path / "third", sinks=["memory:"], ledger=False, plans=plans) as third,
        pytest.raises(LedgerError, match="the ledger is switched off, so there is nothing to bill"),
    ):
        third.bill("berlin", "2026-11")
