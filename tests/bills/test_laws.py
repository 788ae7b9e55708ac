"""What holds of every bill, whatever the plan and the usage."""

from __future__ import annotations

import decimal
import itertools
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_metering.bills import PlanCharge, Tier
from llm_metering.bills.amounts import allowance_of, segments_of
from llm_metering.bills.rounding import ROUNDINGS, allotted, decimal_of, rounded
from llm_metering.prices import MINOR_UNITS

from .making import bill, part, plan, tokens

BY_MODE = {
    "half_up": decimal.ROUND_HALF_UP,
    "half_even": decimal.ROUND_HALF_EVEN,
    "up": decimal.ROUND_UP,
    "down": decimal.ROUND_DOWN,
}
PROVENANCES = ("reported", "partial", "estimated")

prices = st.decimals("0", "20", places=4)
quantities = st.one_of(st.integers(0, 3_000_000), st.integers(0, 40))
groups = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(PROVENANCES), quantities),
    max_size=6,
    unique_by=lambda used: used[:2],
)


@st.composite
def tiers(draw):
    ends = draw(st.lists(st.integers(1, 2_000_000), max_size=4, unique=True))
    fees = st.sampled_from([Decimal(0), Decimal("1.5")])
    return tuple(
        Tier(up_to=end and Decimal(end), price=draw(prices), flat_fee=draw(fees))
        for end in [*sorted(ends), None]
    )


@st.composite
def measured(draw, name="Tokens"):
    per = draw(st.sampled_from([Decimal(1), Decimal(1000), Decimal(1_000_000)]))
    included = Decimal(draw(st.sampled_from([0, 0, 10, 100_000])))
    by = draw(st.sampled_from([(), ("model",)]))
    kind = draw(st.sampled_from(["price", "graduated", "volume"]))
    of = {"price": draw(prices)} if kind == "price" else {"tiers": draw(tiers()), "tier_mode": kind}
    # Charges of their own usage each: the same question has one answer.
    filters = (("feature", (name,)),)
    return tokens(name=name, per=per, included=included, group_by=by, filters=filters, **of)


@st.composite
def plans(draw):
    charges = [draw(measured(f"Tokens {n}")) for n in range(draw(st.integers(0, 3)))]
    if draw(st.booleans()):
        charges.append(PlanCharge(name="Fee", fixed=draw(prices)))
    if draw(st.booleans()):
        markup = draw(st.decimals("0", "2", places=2))
        charges.append(PlanCharge(name="Cost", meter="cost_total", markup=markup))
    return plan(
        *charges,
        currency=draw(st.sampled_from(["EUR", "USD", "JPY", "KWD"])),
        rounding=draw(st.sampled_from(ROUNDINGS)),
        minimum=draw(st.sampled_from([Decimal(0), Decimal(20), Decimal("0.004")])),
    )


@st.composite
def billed(draw):
    """Parts of a month, and what was used in each."""
    one = draw(plans())
    change = draw(st.sampled_from([None, 2, 15, 30]))
    other = draw(plans())
    spans = [(1, 31, one)]
    if change is not None:
        same = {"currency": one.currency, "name": "other"}
        changed = plan(*other.charges, **same, rounding=other.rounding, minimum=other.minimum)
        spans = [(1, change, one), (change, 31, changed)]
    used = [{charge.name: draw(groups) for charge in of.charges} for _, _, of in spans]
    for (_, _, of), each in zip(spans, used, strict=True):
        for charge in of.charges:
            if charge.markup is not None:
                cost = draw(st.decimals("0", "500", places=12))
                each[charge.name] = [(cost, "reported", of.currency)]
            elif not charge.group_by:
                # Without a key, a row for each provenance.
                each[charge.name] = [
                    (sum(q for _, p, q in each[charge.name] if p == name), name)
                    for name in PROVENANCES
                ]
            else:
                each[charge.name] = [(q, p, model) for model, p, q in each[charge.name]]
    return [part(of, start, end) for start, end, of in spans], used


def reference(charge: PlanCharge, used, before: int, until: int) -> Decimal:
    """What a charge costs by its definition, in one number and without lines."""
    share = Decimal(until - before) / 30
    if charge.fixed is not None:
        return charge.fixed * share
    amount = sum((Decimal(each[0]) for each in used), Decimal(0))
    if charge.markup is not None:
        return amount + amount * charge.markup
    free = int(charge.included) * until // 30 - int(charge.included) * before // 30
    left = max(amount - free, Decimal(0))
    if charge.price is not None:
        return left * charge.price / charge.per
    total, below = Decimal(0), Decimal(0)
    for tier in charge.tiers:
        top = left if tier.up_to is None else tier.up_to
        if charge.tier_mode == "volume":
            if 0 < left <= top:
                return left * tier.price / charge.per + tier.flat_fee * share
            continue
        inside = min(left, top) - below
        if inside > 0:
            total += inside * tier.price / charge.per + tier.flat_fee * share
        below = top
    return total


@given(billed())
@settings(max_examples=250, deadline=None)
def test_a_bill_is_what_its_plan_says(case):
    """Lines add up to the total, which is the plan's sum rounded once; each is off by less than a unit."""
    parts, used = case
    made = bill(*parts, usage=used)
    currency = parts[0].plan.currency
    unit = Decimal(1).scaleb(-MINOR_UNITS[currency])
    with decimal.localcontext(prec=120):
        mode = BY_MODE[parts[-1].plan.rounding]
        exact = least = Decimal(0)
        for each, amounts in zip(parts, used, strict=True):
            before, until, days = each.days
            least += each.plan.minimum * (until - before) / days
            for charge in each.plan.charges:
                exact += reference(charge, amounts[charge.name], before, until)
        # Thirds have no end: what was cut off behind 100 digits must not be taken for a rest.
        exact, least = (each.quantize(Decimal("1E-90")).normalize() for each in (exact, least))
        expected = max(exact.quantize(unit, mode), least.quantize(unit, mode))

    assert made.total == expected
    assert sum((line.amount for line in made.lines), Decimal(0)) == made.total
    for line in made.lines:
        assert abs(Fraction(line.amount) - line.exact) < Fraction(unit)
        assert line.amount.as_tuple().exponent == unit.as_tuple().exponent


@given(billed())
@settings(max_examples=60, deadline=None)
def test_the_same_inputs_make_the_same_bytes(case):
    """A bill made again is the same in every shape, in whatever order the ledger answered."""
    parts, used = case
    turned = [{name: list(rows)[::-1] for name, rows in reversed(each.items())} for each in used]

    one, other = bill(*parts, usage=used), bill(*parts, usage=turned)

    assert one.to_json() == other.to_json()
    assert one.to_csv() == other.to_csv()
    assert one.digest == other.digest


@given(billed())
@settings(max_examples=100, deadline=None)
def test_no_usage_is_lost_between_lines(case):
    """What a charge's lines count together, and by provenance, is what was used."""
    parts, used = case
    made = bill(*parts, usage=used)

    for each, amounts in zip(parts, used, strict=True):
        for charge in each.plan.charges:
            lines = [
                line
                for line in made.lines
                if (line.name, line.start, line.plan) == (charge.name, each.start, each.plan.name)
            ]
            rows = amounts[charge.name] if charge.meter else []
            counted = sum((line.quantity or Decimal(0) for line in lines), Decimal(0))
            assert counted == sum(Decimal(row[0]) for row in rows)
            for name in PROVENANCES:
                stated = sum((line.provenance.get(name, Decimal(0)) for line in lines), Decimal(0))
                assert stated == sum(Decimal(row[0]) for row in rows if row[1] == name)


def graduated(charge: PlanCharge, quantity: int) -> Fraction:
    found = segments_of(charge, [{"reported": Fraction(quantity)}])
    return sum((each.exact for each in found), Fraction(0))


@given(tiers(), st.integers(0, 2_500_000), st.integers(0, 1000))
@settings(max_examples=150, deadline=None)
def test_graduated_prices_never_fall(given_tiers, quantity, more):
    """Who uses more pays no less, and one unit more costs its tier's price, and its fee once."""
    charge = tokens(tiers=given_tiers)

    assert graduated(charge, quantity + more) >= graduated(charge, quantity)
    step = graduated(charge, quantity + 1) - graduated(charge, quantity)
    tier = next(each for each in given_tiers if each.up_to is None or quantity < each.up_to)
    is_first = quantity == 0 or any(each.up_to == quantity for each in given_tiers)
    assert step == Fraction(tier.price) + (Fraction(tier.flat_fee) if is_first else 0)


@given(tiers(), st.integers(1, 2_500_000))
@settings(max_examples=150, deadline=None)
def test_volume_prices_are_one_price(given_tiers, quantity):
    """All of a quantity has the price of the tier that it reaches, its last unit included."""
    charge = tokens(tiers=given_tiers, tier_mode="volume")
    tier = next(each for each in given_tiers if each.up_to is None or quantity <= each.up_to)

    assert graduated(charge, quantity) == quantity * Fraction(tier.price) + Fraction(tier.flat_fee)


@given(measured(), groups)
@settings(max_examples=100, deadline=None)
def test_groups_change_no_total(charge, used):
    """A charge costs the same, whether its groups are told apart or not."""
    apart = [{provenance: Fraction(q)} for _, provenance, q in used]
    together = [{"reported": sum((Fraction(q) for *_, q in used), Fraction(0))}]

    one, other = (
        sum(
            (each.exact for each in segments_of(charge, groups, allowance=Fraction(1000))),
            Fraction(0),
        )
        for groups in (apart, together)
    )

    assert one == other


@given(st.decimals("0", "1000000", places=2), st.sets(st.integers(2, 30)))
def test_an_allowance_is_whole_again(included, days):
    """The parts of a month have together what the month has, to the last digit."""
    charge = tokens(price=Decimal(1), included=included)
    edges = [1, *sorted(days), 31]
    parts = [part(None, *edge).days for edge in itertools.pairwise(edges)]

    assert sum(allowance_of(charge, *each) for each in parts) == Fraction(included)


@given(
    st.lists(st.fractions(0, 3, max_denominator=10_000), max_size=60),
    st.sampled_from(ROUNDINGS),
    st.sampled_from([0, 2, 3]),
)
def test_lines_add_up_however_they_are_rounded(amounts, rounding, digits):
    """Each line is its amount rounded up or down, and together they are the rounded sum."""
    total = rounded(sum(amounts, Fraction(0)), digits, rounding)
    units = allotted(amounts, total, digits)

    assert sum(units) == total
    for amount, unit in zip(amounts, units, strict=True):
        assert abs(amount * 10**digits - unit) < 1


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        pytest.param("0.125", {"half_up": 13, "half_even": 12, "up": 13, "down": 12}, id="even"),
        pytest.param("0.135", {"half_up": 14, "half_even": 14, "up": 14, "down": 13}, id="odd"),
        pytest.param("0.1251", {"half_up": 13, "half_even": 13, "up": 13, "down": 12}, id="above"),
        pytest.param("0.1249", {"half_up": 12, "half_even": 12, "up": 13, "down": 12}, id="below"),
        pytest.param("0.12", {"half_up": 12, "half_even": 12, "up": 12, "down": 12}, id="whole"),
    ],
)
def test_halves_are_rounded_by_the_rule(amount, expected):
    """A half goes up, to the even unit, always up or always down."""
    assert {rule: rounded(Fraction(amount), 2, rule) for rule in ROUNDINGS} == expected


@pytest.mark.parametrize(
    ("quantity", "expected"),
    [
        pytest.param(9, 18, id="below"),
        pytest.param(10, 20, id="the last unit"),
        pytest.param(11, 11 + 3, id="the first of the next"),
    ],
)
def test_a_tier_has_its_last_unit(quantity, expected):
    """`up_to` is in the tier, with volume prices too."""
    ends = (
        Tier(up_to=Decimal(10), price=Decimal(2)),
        Tier(price=Decimal(1), flat_fee=Decimal(3)),
    )

    assert graduated(tokens(tiers=ends, tier_mode="volume"), quantity) == expected


def test_many_small_lines_are_not_nothing():
    """Fifty lines of 0.004 are 0.20: the total is rounded once, not each line to 0.00."""
    models = [(4, "reported", f"m{n:02}") for n in range(50)]
    made = bill(
        part(plan(tokens(price=Decimal("0.001"), group_by=("model",)))), usage=[{"Tokens": models}]
    )

    assert made.total == Decimal("0.20")
    assert [line.amount for line in made.lines] == [Decimal("0.01")] * 20 + [Decimal("0.00")] * 30


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        pytest.param(Fraction("0.054399"), "0.054399", id="with an end"),
        pytest.param(Fraction(1, 3), "0.333333333333", id="without an end"),
        pytest.param(
            Fraction(123456789012345678901234567890), "123456789012345678901234567890", id="long"
        ),
        pytest.param(Fraction(-5, 2), "-2.5", id="negative"),
    ],
)
def test_numbers_keep_their_digits(number, expected):
    """A number is written with all its digits, beyond the 28 of Python's decimals too."""
    assert format(decimal_of(number), "f") == expected
