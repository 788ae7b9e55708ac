"""What is on a bill."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest

from llm_metering.bills import PlanCharge, Tier, Unbilled, UnknownUsage
from llm_metering.errors import BillError
from llm_metering.prices import PriceCard, Unpriced

from .making import bill, charged, part, plan, tokens

AT_COST = PlanCharge(name="Models at cost", meter="cost_total", markup=Decimal("0.20"))
UNKNOWN_MODEL = Unpriced("unknown_model", "no price list for m")
ANTHROPIC = PriceCard.per_million(
    "anthropic",
    "claude-sonnet-4-5",
    {"input": "3", "cache_write": "3.75", "output": "15"},
)


def amounts(made):
    return [(line.kind, line.name, str(line.quantity), str(line.amount)) for line in made.lines]


def test_the_anthropic_bill_is_passed_on_exactly():
    """3 input, 12,304 cache write and 550 output tokens cost $0.054399, as Anthropic's console says."""
    cost = charged(
        "claude-sonnet-4-5",
        price=ANTHROPIC,
        provider="anthropic",
        input=3,
        cache_write=12_304,
        output=550,
    )
    passed_on = PlanCharge(name="Models", meter="cost_total", markup=Decimal(0))

    made = bill(
        part(plan(passed_on, currency="USD")),
        usage=[{"Models": [(Decimal("0.054399"), "reported", "USD")]}],
        charges=[cost],
    )

    assert made.to_dict()["lines"][0]["exact"] == "0.054399"
    assert made.to_dict()["cost"]["amounts"] == {"USD": "0.054399"}
    assert made.total == Decimal("0.05")
    assert made.margin.amount == Decimal("-0.004399")
    assert [(kind.kind, str(kind.amount)) for kind in made.costs[0].kinds] == [
        ("cache_write", "0.04614"),
        ("input", "0.000009"),
        ("output", "0.00825"),
    ]


def test_a_markup_is_on_the_cost():
    """A cost of 10 with a fifth on top is 12, and the margin is what was put on top."""
    made = bill(
        part(plan(AT_COST)),
        usage=[{"Models at cost": [(Decimal(8), "reported"), (Decimal(2), "estimated")]}],
        charges=[charged(input=8_000_000), charged(provenance="estimated", input=2_000_000)],
    )

    [line] = made.lines
    assert (line.quantity, line.markup, line.amount) == (10, Decimal("0.20"), Decimal("12.00"))
    assert line.provenance == {"reported": 8, "estimated": 2}
    assert (made.margin.amount, made.margin.percent) == (2, Decimal("16.67"))
    assert made.is_complete


def test_bills_and_charges_can_be_members_of_a_set():
    """What is equal counts once, whatever groups and quantities it has."""

    def made(tokens):
        charges = [charged(input=tokens)]
        return charges[0], bill(
            part(plan(AT_COST)),
            usage=[{"Models at cost": [(Decimal(tokens) / 1_000_000, "reported")]}],
            charges=charges,
        )

    pairs = [made(8_000_000), made(8_000_000), made(9_000_000)]
    assert [len(set(each)) for each in zip(*pairs, strict=True)] == [2, 2]
    assert len({line for _, bill in pairs for line in (*bill.lines, *bill.costs)}) == 4


def test_unpriced_usage_makes_a_markup_incomplete():
    """What nobody knows the cost of is not charged at cost: the bill says so, and lists it."""
    made = bill(
        part(plan(AT_COST)),
        usage=[{"Models at cost": [(Decimal(8), "reported")]}],
        charges=[charged(input=8_000_000), charged("new", price=UNKNOWN_MODEL, calls=3, input=5)],
    )

    assert not made.is_complete
    assert made.incomplete == (
        (
            "Models at cost is a markup on what it cost, and of 3 events nobody knows that; they are not "
            "charged"
        ),
    )
    [unpriced] = made.unpriced
    assert (unpriced.model, unpriced.calls, unpriced.quantities) == ("new", 3, {"input": 5})
    assert made.margin.amount is None
    assert made.margin.why_not == "some usage has no price, so the cost is that of the rest"
    assert made.cost == {"EUR": 8}


def test_unpriced_usage_may_be_of_days_without_the_markup():
    """Where plans change within the month, it is not said that all of it is left out, nor said twice."""
    dearer = PlanCharge(name=AT_COST.name, meter="cost_total", markup=Decimal("0.30"))
    unpriced = charged("new", price=UNKNOWN_MODEL, input=5)

    made = bill(
        part(plan(AT_COST), end=8),
        part(plan(dearer), 8, 15),
        part(plan(tokens(price=Decimal(1))), 15),
        charges=[unpriced],
    )
    stayed = bill(part(plan(AT_COST), end=15), part(plan(AT_COST), 15), charges=[unpriced])

    assert made.incomplete == (
        (
            "Models at cost is a markup on what it cost, and of 1 event of the period nobody knows "
            "that; those on the days with this charge are not charged"
        ),
    )
    assert stayed.incomplete == (
        "Models at cost is a markup on what it cost, and of 1 event nobody knows that; it is not charged",
    )


def test_unpriced_usage_is_listed_where_no_cost_is_needed():
    """A plan of fixed prices is complete without costs, and its bill lists what has none."""
    made = bill(
        part(plan(tokens(price=Decimal(1)))),
        usage=[{"Tokens": [(5, "reported")]}],
        charges=[charged("new", price=UNKNOWN_MODEL, input=5)],
    )

    assert made.is_complete
    assert [each.model for each in made.unpriced] == ["new"]
    assert made.margin.amount is None


@pytest.mark.parametrize(
    ("filters", "is_complete"),
    [
        pytest.param((("model", ("other",)),), True, id="another model"),
        pytest.param((("model", ("m", "other")),), False, id="that model"),
        pytest.param((("provider", ("p",)),), False, id="that provider"),
        pytest.param((("feature", ("search",)),), False, id="nobody knows"),
    ],
)
def test_a_markup_is_incomplete_by_what_it_is_about(filters, is_complete):
    """Unpriced usage that a markup's filters leave out does not make it incomplete."""
    charge = PlanCharge(name="Some", meter="cost_total", markup=Decimal(0), filters=filters)
    made = bill(part(plan(charge)), charges=[charged(price=UNKNOWN_MODEL, input=5)])

    assert made.is_complete is is_complete


def test_a_cost_in_another_currency_is_not_charged_as_if_it_were_not():
    """Dollars are no euros: they are on no line, and the bill is incomplete."""
    card = PriceCard.per_million("p", "m", {"input": "1"})
    made = bill(
        part(plan(AT_COST)),
        usage=[
            {"Models at cost": [(Decimal(8), "reported", "USD"), (Decimal(1), "reported", "EUR")]}
        ],
        charges=[charged(price=card, input=8_000_000), charged(input=1_000_000)],
    )

    assert amounts(made) == [("markup", "Models at cost", "1", "1.20")]
    assert [(each.reason, each.quantity, each.unit) for each in made.unbilled] == [
        ("currency", 8, "USD")
    ]
    assert made.incomplete == ("some usage is on no line",)
    assert made.cost == {"EUR": 1, "USD": 8}
    assert made.margin.why_not == "the cost is in EUR and USD, the bill in EUR"


def test_credits_without_a_worth_make_it_incomplete():
    """Where a plan sells credits, usage that nobody knows the credits of is listed."""
    credits = PlanCharge(name="Credits", meter="credits_total", price=Decimal("0.01"))
    made = bill(
        part(plan(credits)),
        usage=[{"Credits": [(Decimal("12.5"), "reported")]}],
        charges=[charged(input=5)],
        credits=[charged("new", price=UNKNOWN_MODEL, input=5)],
    )

    assert made.total == Decimal("0.13")
    assert [(each.of, each.model) for each in made.unpriced] == [("credits", "new")]
    assert made.incomplete == (
        "Credits is its credits, and of 1 event nobody knows that; it is not charged",
    )
    # The cost is known all the same.
    assert made.margin.amount == Decimal("0.129995")


def test_prices_by_model_leave_none_out():
    """Each model has its price; one that has none is listed, and not given away."""
    by_model = tokens(
        group_by=("model",), per=Decimal(1000), prices={"a": Decimal(2), "b": Decimal("0.5")}
    )
    used = [
        (1000, "reported", "a"),
        (3000, "partial", "b"),
        (70, "reported", "c"),
        (9, "reported", None),
    ]

    made = bill(part(plan(by_model)), usage=[{"Tokens": used}])

    assert amounts(made) == [
        ("usage", "Tokens", "1000", "2.00"),
        ("usage", "Tokens", "3000", "1.50"),
    ]
    assert [(each.reason, each.group, each.quantity) for each in made.unbilled] == [
        ("no_price", {"model": None}, 9),
        ("no_price", {"model": "c"}, 70),
    ]
    assert not made.is_complete


def test_the_rest_has_a_price():
    """`*` is the price of every model that has none of its own."""
    by_model = tokens(group_by=("model",), prices={"a": Decimal(2), "*": Decimal(1)})

    made = bill(
        part(plan(by_model)),
        usage=[{"Tokens": [(1, "reported", "a"), (1, "reported", "c"), (1, "reported", None)]}],
    )

    assert made.total == 4
    assert made.is_complete


def test_days_without_a_plan_are_not_forgotten():
    """Usage on days on which a subject is on no plan is listed, and the bill incomplete."""
    made = bill(
        part(None, 1, 15),
        part(plan(tokens(price=Decimal(1))), 15, 31),
        usage=[{"": [(7, "gpt-5")]}, {"Tokens": [(2, "reported")]}],
    )

    assert made.total == 2
    assert made.unbilled == (
        Unbilled(
            reason="no_plan",
            start=date(2026, 11, 1),
            end=date(2026, 11, 15),
            meter="events",
            group={"model": "gpt-5"},
            quantity=Decimal(7),
        ),
    )
    assert not made.is_complete


def test_a_plan_change_splits_the_month():
    """Fees, minimum and allowance are prorated by days, and tiers begin anew."""
    tiers = (Tier(up_to=Decimal(10), price=Decimal(2)), Tier(price=Decimal(1), flat_fee=Decimal(6)))
    one = plan(
        PlanCharge(name="Fee", fixed=Decimal(30)), tokens(price=Decimal(1), included=Decimal(31))
    )
    other = plan(PlanCharge(name="Fee", fixed=Decimal(60)), tokens(tiers=tiers), name="max")

    made = bill(
        part(one, 1, 16),
        part(other, 16, 31),
        usage=[{"Tokens": [(20, "reported")]}, {"Tokens": [(15, "reported")]}],
    )

    assert amounts(made) == [
        ("fixed", "Fee", "None", "15.00"),
        ("included", "Tokens", "15", "0.00"),
        ("usage", "Tokens", "5", "5.00"),
        ("fixed", "Fee", "None", "30.00"),
        ("usage", "Tokens", "10", "20.00"),
        ("usage", "Tokens", "5", "5.00"),
        ("flat_fee", "Tokens", "None", "3.00"),
    ]


@pytest.mark.parametrize(
    ("used", "expected"),
    [
        pytest.param(0, ["20.00"], id="nothing used"),
        pytest.param(15, ["15.00", "5.00"], id="less"),
        pytest.param(20, ["20.00"], id="as much"),
        pytest.param(21, ["21.00"], id="more"),
    ],
)
def test_a_minimum_is_filled_up(used, expected):
    """What is missing to the minimum is a line of its own."""
    made = bill(
        part(plan(tokens(price=Decimal(1)), minimum=Decimal(20))),
        usage=[{"Tokens": [(used, "reported")]}],
    )

    assert [str(line.amount) for line in made.lines] == expected
    assert made.total == max(used, 20)


def test_a_minimum_is_compared_with_the_rounded_total():
    """19.996 is 20.00 when it is rounded: nothing is missing."""
    made = bill(
        part(plan(tokens(price=Decimal("19.996")), minimum=Decimal(20))),
        usage=[{"Tokens": [(1, "reported")]}],
    )

    assert [line.kind for line in made.lines] == ["usage"]
    assert made.total == Decimal("20.00")


def test_an_allowance_and_tiers_are_filled_in_order():
    """Groups fill the allowance, then the tiers, one behind the other; reported counts come first."""
    charge = tokens(
        group_by=("model",),
        included=Decimal(10),
        tiers=(Tier(up_to=Decimal(10), price=Decimal(2)), Tier(price=Decimal(1))),
    )
    made = bill(
        part(plan(charge)),
        usage=[{"Tokens": [(9, "estimated", "a"), (6, "reported", "a"), (8, "reported", "b")]}],
    )

    shown = [
        (line.kind, line.group["model"], int(line.quantity), line.up_to, dict(line.provenance))
        for line in made.lines
    ]
    assert shown == [
        ("included", "a", 10, None, {"reported": 6, "estimated": 4}),
        ("usage", "a", 5, 10, {"estimated": 5}),
        ("usage", "b", 5, 10, {"reported": 5}),
        ("usage", "b", 3, None, {"reported": 3}),
    ]
    assert made.total == 23


def test_calls_of_unknown_usage_are_listed():
    """A call whose usage nobody knows, and one whose process died, are named with their number."""
    made = bill(
        part(plan(tokens(price=Decimal(1)))),
        unknown=[
            ("b", "missing", "failed", 2),
            ("a", "estimated", "interrupted", 1),
            ("a", "reported", "completed", 90),
        ],
    )

    assert made.unknown_usage == (
        UnknownUsage(model="a", provenance="estimated", status="interrupted", calls=Decimal(1)),
        UnknownUsage(model="b", provenance="missing", status="failed", calls=Decimal(2)),
    )
    assert made.total == 0


def test_a_sum_below_nothing_is_not_charged():
    """Where a meter of other events says less than nothing, nothing is paid out; it is listed."""
    made = bill(
        part(plan(tokens(price=Decimal(1)))),
        usage=[{"Tokens": [(-5, "reported"), (9, "estimated")]}],
    )

    assert (made.total, made.lines) == (0, ())
    assert [(each.reason, each.quantity) for each in made.unbilled] == [("negative", 4)]


def test_fractions_of_a_unit_are_exact():
    """A quantity that the ledger has as a float is charged by its digits."""
    made = bill(
        part(plan(tokens(price=Decimal(10)))),
        usage=[{"Tokens": [(0.1, "reported"), (0.2, "partial")]}],
    )

    assert made.lines[0].exact == Fraction(3)


def test_two_currencies_are_two_bills():
    """A bill is in one currency; who changes it in a month gets two."""
    with pytest.raises(
        BillError,
        match=r"customer-42 is on plans of several currencies .*\(pro in EUR, max in USD\); ask for",
    ):
        bill(part(plan(), 1, 15), part(plan(name="max", currency="USD"), 15, 31))


def test_nobody_is_billed_without_a_plan():
    """A month without any plan is refused."""
    with pytest.raises(
        BillError, match="is on no plan from 2026-11-01 to 2026-12-01, so it cannot"
    ):
        bill(part(None))


def test_calls_that_a_cache_answered_have_no_currency():
    """They cost nothing, so they do not keep a margin in euros from being known."""
    nothing = PriceCard(provider="", model="", rates={})
    made = bill(part(plan()), charges=[charged(price=nothing), charged(input=1_000_000)])

    assert made.cost == {"EUR": 1}
    assert made.margin.amount == -1
    assert made.margin.percent is None


def test_usage_that_was_never_priced_is_listed():
    """Events that came after the prices were worked out are no silence: the bill is incomplete."""
    made = bill(
        part(plan(AT_COST)),
        usage=[{"Models at cost": [(Decimal(8), "reported")]}],
        charges=[charged(input=8_000_000)],
        late=3,
    )

    [unpriced] = made.unpriced
    assert (unpriced.why.reason, unpriced.events, unpriced.calls) == ("not_priced", 3, None)
    assert not made.is_complete
    assert made.margin.amount is None
