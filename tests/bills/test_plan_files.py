"""Plans in a file, and how what is wrong in it is refused."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from llm_metering.bills import Assignment, Plan, PlanCharge, Tier, parse_plans, read_plans
from llm_metering.errors import PlanError

from .making import METERS_HERE

FILE = """
default_plan = "payg"

[[plans]]
name = "payg"
effective_from = 2026-01-01
currency = "EUR"
[[plans.charges]]
name = "Tokens"
meter = "tokens_total"
filters = { model = ["a", "b"], provider = "p" }
group_by = ["model"]
per = 1000
prices = { a = "0.002", "*" = 0.1 }

[[plans]]
name = "pro"
effective_from = 2026-01-01
currency = "EUR"
rounding = "half_even"
minimum = "20.00"
charges = [
  { name = "Fee", fixed = "9.90" },
  { name = "Models at cost", meter = "cost_total", markup = "0.20" },
]
[[plans.charges2]]
"""

TAIL = """
[[subjects]]
subject = "customer-42"
plan = "pro"
from = 2026-11-15
to = 2027-01-01
"""

PLAN = """[[plans]]
name = "pro"
effective_from = 2026-01-01
currency = "EUR"
"""
CHARGE = (
    PLAN
    + """[[plans.charges]]
name = "Tokens"
meter = "tokens_total"
"""
)
ROW = """[[subjects]]
subject = "c"
plan = "pro"
"""


def test_a_file_is_read():
    """All of a file arrives, its numbers by their digits."""
    book = parse_plans(FILE.replace("[[plans.charges2]]\n", "") + TAIL, meters=METERS_HERE)

    assert book.default_plan == "payg"
    assert book.assignments == (
        Assignment(
            subject="customer-42", plan="pro", start=date(2026, 11, 15), end=date(2027, 1, 1)
        ),
    )
    assert book.plans == (
        Plan(
            name="payg",
            effective_from=date(2026, 1, 1),
            currency="EUR",
            charges=(
                PlanCharge(
                    name="Tokens",
                    meter="tokens_total",
                    filters=(("model", ("a", "b")), ("provider", ("p",))),
                    group_by=("model",),
                    per=Decimal(1000),
                    prices={"a": Decimal("0.002"), "*": Decimal("0.1")},
                ),
            ),
        ),
        Plan(
            name="pro",
            effective_from=date(2026, 1, 1),
            currency="EUR",
            rounding="half_even",
            minimum=Decimal("20.00"),
            charges=(
                PlanCharge(name="Fee", fixed=Decimal("9.90")),
                PlanCharge(name="Models at cost", meter="cost_total", markup=Decimal("0.20")),
            ),
        ),
    )


def test_tiers_are_read():
    """Tiers have their ends, prices and fees, and a mode."""
    book = parse_plans(
        CHARGE
        + 'tiers = [ { up_to = 10, price = "0" }, { price = 0.1, flat_fee = 5 } ]\n'
        + 'tier_mode = "volume"\nincluded = 100\n'
    )

    [charge] = book.plans[0].charges
    assert charge.tiers == (
        Tier(up_to=Decimal(10)),
        Tier(price=Decimal("0.1"), flat_fee=Decimal(5)),
    )
    assert (charge.tier_mode, charge.included) == ("volume", 100)


def test_a_file_on_the_disk_is_named(tmp_path):
    """What is wrong in a file is refused with its path and line; one that is not there, with its path."""
    path = tmp_path / "plans.toml"
    path.write_text(CHARGE + 'price = "1"\nprise = "2"\n')

    with pytest.raises(PlanError) as caught:
        read_plans(path)
    assert str(caught.value).startswith(f"{path}:9: there is no 'prise' here; there are name, ")
    with pytest.raises(PlanError, match=r"none\.toml: cannot be read: No such file"):
        read_plans(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        pytest.param("", 1, "there is no [[plans]]", id="nothing"),
        pytest.param(
            "plan = 1\n" + PLAN,
            1,
            "there is no 'plan' here; there are default_plan, plans, subjects",
            id="unknown key",
        ),
        pytest.param(
            PLAN + "discount = 3\n",
            5,
            "there is no 'discount' here; there are name, ",
            id="unknown key of a plan",
        ),
        pytest.param("plans = 3\n", 1, "plans are tables in a list, got 3", id="no tables"),
        pytest.param("plans = [3]\n", 1, "a table is wanted, got 3", id="no table"),
        pytest.param(
            '[[plans]]\ncurrency = "EUR"\n',
            1,
            "name is a text that is not empty, got nothing",
            id="no name",
        ),
        pytest.param(
            PLAN.replace("EUR", "EURO"),
            4,
            "unknown currency 'EURO'; a code of ISO 4217 is wanted",
            id="unknown currency",
        ),
        pytest.param(
            PLAN.replace("2026-01-01", '"2026"'),
            3,
            "effective_from is a day such as 2026-01-01, got 2026",
            id="no day",
        ),
        pytest.param(
            PLAN.replace("2026-01-01", "2026-01-01T00:00:00Z"),
            3,
            "effective_from is a day such as 2026-01-01",
            id="a moment",
        ),
        pytest.param(
            PLAN + 'time_zone = "Berlin"\n', 5, "unknown time_zone 'Berlin'; ", id="unknown zone"
        ),
        pytest.param(
            PLAN + 'rounding = "nearest"\n',
            5,
            "unknown rounding 'nearest'; there are half_up, half_even, up, down",
            id="unknown rounding",
        ),
        pytest.param(
            PLAN + "minimum = -1\n", 5, "minimum is a number from 0, got -1", id="negative"
        ),
        pytest.param(
            PLAN + "minimum = nan\n", 5, "minimum is a number from 0, got NaN", id="no number"
        ),
        pytest.param(
            PLAN + "minimum = inf\n", 5, "minimum is a number from 0, got Infinity", id="infinite"
        ),
        pytest.param(
            PLAN + "minimum = 1e999999999\n",
            5,
            "minimum has at most 18 digits before and 18 behind its point",
            id="huge",
        ),
        pytest.param(
            PLAN + "minimum = 1e-30\n",
            5,
            "minimum has at most 18 digits before and 18 behind its point",
            id="tiny",
        ),
        pytest.param(
            PLAN + 'minimum = "20 EUR"\n',
            5,
            "minimum is a number from 0, such as \"0.002\", got '20 EUR'",
            id="text",
        ),
        pytest.param(
            PLAN + "minimum = true\n",
            5,
            'minimum is a number from 0, such as "0.002", got True',
            id="truth",
        ),
        pytest.param(
            PLAN + PLAN,
            7,
            "plan pro has two versions from 2026-01-01",
            id="two versions from one day",
        ),
        pytest.param(
            PLAN + PLAN.replace("2026-01-01", "2026-02-01") + 'time_zone = "Asia/Tokyo"\n',
            9,
            "plan pro is in UTC and in Asia/Tokyo; all versions have one time_zone",
            id="versions in two zones",
        ),
        pytest.param(
            CHARGE,
            5,
            "charge Tokens has none of price, prices, tiers, markup, fixed; one is wanted",
            id="no price",
        ),
        pytest.param(
            CHARGE + "price = 1\ntiers = [{ price = 1 }]\n",
            9,
            "charge Tokens has price and tiers of price, prices, tiers, markup, fixed; one is wanted",
            id="price and tiers",
        ),
        pytest.param(
            CHARGE + "price = -1\n", 8, "price is a number from 0, got -1", id="negative price"
        ),
        pytest.param(
            CHARGE + "price = 1\nper = 0\n", 9, "per is a number above 0, got 0", id="per nothing"
        ),
        pytest.param(
            CHARGE + "markup = 0.2\n",
            8,
            "markup is for cost_total, not for tokens_total",
            id="markup on tokens",
        ),
        pytest.param(
            CHARGE.replace("tokens_total", "cost_total") + "price = 1\n",
            8,
            "cost_total takes a markup, not price; 0 passes the cost on",
            id="price of cost",
        ),
        pytest.param(
            CHARGE.replace("tokens_total", "cost_total") + "markup = 1\nincluded = 3\n",
            9,
            "a markup has no allowance",
            id="allowance of cost",
        ),
        pytest.param(
            CHARGE.replace("tokens_total", "cost_total") + "markup = 1\nper = 3\n",
            9,
            "per is for a charge with prices of units, got 3",
            id="per of cost",
        ),
        pytest.param(
            CHARGE + "fixed = 1\n", 7, "a fixed fee has no meter", id="fixed with a meter"
        ),
        pytest.param(
            CHARGE + "price = 1\ntier_mode = 'volume'\n",
            9,
            "tier_mode is for a charge with tiers, got 'volume'",
            id="mode without tiers",
        ),
        pytest.param(CHARGE + "tiers = []\n", 5, "charge Tokens has none of", id="no tiers"),
        pytest.param(
            CHARGE + "tiers = [{ price = 1 }]\ntier_mode = 'stairs'\n",
            9,
            "unknown tier_mode 'stairs'; there are graduated and volume",
            id="unknown mode",
        ),
        pytest.param(
            CHARGE + "tiers = [{ up_to = 3 }, { price = 1 }]\n",
            8,
            "a tier has a price, a flat_fee, or both",
            id="a tier without price",
        ),
        pytest.param(
            CHARGE
            + "tiers = [\n{ up_to = 3, price = 1 },\n{ up_to = 3, price = 1 },\n{ price = 1 },\n]\n",
            10,
            "tiers ascend: up_to = 3 stands behind 3",
            id="tiers do not ascend",
        ),
        pytest.param(
            CHARGE + "tiers = [\n{ up_to = 3, price = 1 },\n{ up_to = 9, price = 1 },\n]\n",
            10,
            "what is above 9 has no price; the last tier has no up_to",
            id="no open end",
        ),
        pytest.param(
            CHARGE + "tiers = [\n{ price = 1 },\n{ up_to = 9, price = 1 },\n]\n",
            9,
            "a tier without up_to has no end, and is the last",
            id="a tier behind the open one",
        ),
        pytest.param(
            CHARGE + "tiers = [\n{ up_to = -1, price = 1 },\n{ price = 1 }]\n",
            9,
            "up_to is a number above 0, got -1",
            id="a negative tier",
        ),
        pytest.param(
            CHARGE + "tiers = [\n{ price = 1, to = 3 }]\n",
            9,
            "there is no 'to' here; there are up_to, price, flat_fee",
            id="unknown key of a tier",
        ),
        pytest.param(
            CHARGE + "price = 1\ngroup_by = ['subject']\n",
            9,
            "a bill is of one subject",
            id="by subject",
        ),
        pytest.param(
            CHARGE + "price = 1\ngroup_by = 3\n",
            9,
            "group_by is a list of texts, got 3",
            id="by a number",
        ),
        pytest.param(
            CHARGE + 'price = 1\ngroup_by = ["a\\"b"]\n',
            9,
            "group_by: 'a\"b' has a quote",
            id="by a key with a quote",
        ),
        pytest.param(
            CHARGE + "price = 1\nfilters = { model = 3 }\n",
            9,
            "model is a list of texts, got 3",
            id="filter by a number",
        ),
        pytest.param(
            CHARGE + "price = 1\nfilters = { subject = 'a' }\n",
            9,
            "filters: name subjects with the parameter subject",
            id="filter by subject",
        ),
        pytest.param(
            CHARGE + "prices = { a = 1 }\n",
            8,
            "prices are by the value of one key; name it in group_by",
            id="prices without a key",
        ),
        pytest.param(
            CHARGE + "group_by = 'model'\nprices = { a = -1 }\n",
            9,
            "the price of a is a number from 0, got -1",
            id="a negative price of a model",
        ),
        pytest.param(
            CHARGE + "group_by = 'model'\nprices = { a = 1 }\nincluded = 3\n",
            10,
            "with prices, what is included would depend on the order",
            id="prices with an allowance",
        ),
        pytest.param(
            CHARGE.replace("tokens_total", "tokens_all") + "price = 1\n",
            7,
            "unknown meter; there are cost_total, credits_total, tokens_total, ",
            id="unknown meter",
        ),
        pytest.param(
            CHARGE + "price = 1\n[[plans.charges]]\nname = 'Tokens'\nfixed = 1\n",
            10,
            "plan pro has two charges called 'Tokens'",
            id="two charges of one name",
        ),
        pytest.param(
            PLAN + "[[plans.charges]]\nfixed = 1\n",
            5,
            "name is a text that is not empty",
            id="a charge without a name",
        ),
        pytest.param(
            "default_plan = 'free'\n" + PLAN,
            1,
            "there is no plan 'free'; there are pro",
            id="no such default",
        ),
        pytest.param(
            PLAN + ROW.replace("pro", "free") + "from = 2026-02-01\n",
            7,
            "there is no plan 'free'; there are pro",
            id="assigned to no plan",
        ),
        pytest.param(PLAN + ROW, 5, "from is a day such as 2026-01-01, got None", id="from no day"),
        pytest.param(
            PLAN + ROW + "from = 2025-12-31\n",
            8,
            "c is on pro from 2025-12-31, and its first version is from 2026-01-01",
            id="before the first version",
        ),
        pytest.param(
            PLAN + ROW + "from = 2026-02-01\nto = 2026-02-01\n",
            9,
            "to = 2026-02-01 must be behind from = 2026-02-01",
            id="to before from",
        ),
        pytest.param(
            PLAN + ROW + "from = 2026-02-01\n" + ROW + "from = 2026-02-01\n",
            12,
            "c is on pro from 2026-02-01 already; from 2026-02-01 it would be on pro as well",
            id="twice from one day",
        ),
        pytest.param(
            PLAN + ROW + "from = 2026-02-01\nto = 2026-03-01\n" + ROW + "from = 2026-02-20\n",
            13,
            "c is on pro from 2026-02-01 already to 2026-03-01",
            id="overlapping",
        ),
        pytest.param(
            PLAN + ROW + "from = 2026-02-20\n" + ROW + "from = 2026-02-01\nto = 2026-03-01\n",
            12,
            "c is on pro from 2026-02-20 already",
            id="overlapping the other way round",
        ),
        pytest.param(
            "default_plan = 'p'\n"
            + PLAN
            + PLAN.replace('"pro"', '"p"')
            + "time_zone = 'Asia/Tokyo'\n"
            + ROW
            + "from = 2026-02-01\n",
            13,
            "pro is in UTC and p in Asia/Tokyo; all plans of c, and the default_plan, have one time_zone",
            id="in two zones",
        ),
        pytest.param("a = \n", 1, "", id="no TOML"),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(text, line, message):
    """What cannot be used is named with its line, and with what may stand there."""
    with pytest.raises(PlanError) as caught:
        parse_plans(text, "plans.toml", METERS_HERE)

    assert str(caught.value).startswith(f"plans.toml:{line}: {message}")


def test_meters_that_do_not_add_up_have_no_price():
    """A mean or a maximum of the user's own meters cannot be charged."""
    from llm_metering.meters import MeterDefinition

    own = MeterDefinition(slug="slowest", aggregation="MAX", value_property="$.duration_ms")

    with pytest.raises(PlanError, match=r"plans:7: values of slowest \(MAX\) do not add up"):
        parse_plans(
            CHARGE.replace("tokens_total", "slowest") + "price = 1\n",
            meters={"slowest": own, **METERS_HERE},
        )


def test_binary_fractions_are_refused():
    """A float in code is no exact price: 0.1 of them is not a tenth."""
    with pytest.raises(PlanError, match=r"price is a Decimal, got 0\.1"):
        PlanCharge(name="Tokens", meter="tokens_total", price=0.1)
