"""Bills as JSON, CSV and HTML."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import jsonschema
import pytest

from llm_metering.bills import PlanCharge, Tier, pages
from llm_metering.errors import MissingExtraError
from llm_metering.prices import Reason, Unpriced

from .making import bill, charged, part, plan, tokens

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/reference/bill.schema.json").read_text())


def full(subject="customer-42", model="gpt-5"):
    """A bill with something in every section."""
    tiers = (Tier(up_to=Decimal(10), price=Decimal(2)), Tier(price=Decimal(1), flat_fee=Decimal(6)))
    one = plan(
        PlanCharge(name="Fee", fixed=Decimal(10)),
        tokens(group_by=("model",), included=Decimal(3), tiers=tiers, per=Decimal(1000)),
        PlanCharge(name="At cost", meter="cost_total", markup=Decimal("0.2")),
        PlanCharge(
            name="By model",
            meter="calls_total",
            group_by=("model",),
            prices={"other": Decimal(1)},
        ),
        minimum=Decimal(500),
    )
    return bill(
        part(None, 1, 4),
        part(one, 4, 31),
        usage=[
            {"": [(2, model)]},
            {
                "Tokens": [(90_000, "reported", model), (5, "estimated", model)],
                "At cost": [(Decimal("1.000000000001"), "reported", "EUR")],
                "By model": [(4, "reported", model)],
            },
        ],
        charges=[
            charged(model, input=1_000_000),
            charged(price=Unpriced("unknown_model", f"no price for {model}"), input=7, calls=2),
        ],
        unknown=[(model, "missing", "failed", 1)],
        subject=subject,
    )


def test_json_is_as_documented():
    """The JSON text has the documented schema, and money in it is text."""
    shown = json.loads(full().to_json(), parse_float=pytest.fail)

    jsonschema.Draft202012Validator(SCHEMA).validate(shown)
    assert shown["total"] == "450.00"
    assert shown["lines"][-1]["kind"] == "minimum"


def test_schema_is_closed():
    """What the schema does not name is not there: a key of a bill that is new is documented."""

    def objects(node):
        if isinstance(node, dict):
            if "properties" in node:
                yield node
            for each in node.values():
                yield from objects(each)
        elif isinstance(node, list):
            for each in node:
                yield from objects(each)

    assert all(each.get("additionalProperties") is False for each in objects(SCHEMA))


def test_the_digest_is_of_the_rest():
    """Who has the JSON can work the digest out: of all else, keys sorted, without blanks."""
    made = full()
    shown = json.loads(made.to_json())
    digest = shown.pop("digest")

    canonical = json.dumps(shown, sort_keys=True, separators=(",", ":")).encode()
    assert digest == f"sha256:{hashlib.sha256(canonical).hexdigest()}"
    assert made.digest in made.to_html()


def test_another_bill_has_another_digest():
    """A token more is another digest, also where the rounded total is the same."""
    one, other = (
        bill(part(plan(tokens(price=Decimal("0.0001")))), usage=[{"Tokens": [(used, "reported")]}])
        for used in (7, 8)
    )

    assert one.total == other.total
    assert one.digest != other.digest


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "'"])
def test_csv_holds_no_formula(sign):
    """A text that a spreadsheet would take for a formula has an apostrophe before it, and back again."""
    name = f"{sign}cmd|' /C calc'!A0"
    rows = list(csv.DictReader(io.StringIO(full(subject=name, model=name).to_csv(), newline="")))

    assert {row["subject"] for row in rows} == {f"'{name}"}
    for row in rows:
        assert not any(
            cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) for cell in row.values()
        )


def test_csv_adds_up():
    """Its numbered lines are those of the bill, their amounts its total."""
    made = full()
    rows = list(csv.DictReader(io.StringIO(made.to_csv(), newline="")))
    rows = [row for row in rows if row["line"]]

    assert [row["line"] for row in rows] == [str(n + 1) for n in range(len(made.lines))]
    assert sum(Decimal(row["amount"]) for row in rows) == made.total
    assert {row["currency"] for row in rows} == {"EUR"}


def test_csv_lists_what_is_on_no_line():
    """What has no price, is not charged or is unknown stands behind the lines, without an amount."""
    made = full()
    rows = list(csv.DictReader(io.StringIO(made.to_csv(), newline="")))[len(made.lines) :]

    assert {row["amount"] for row in rows} == {""}
    assert {row["line"] for row in rows} == {""}
    assert {row["subject"] for row in rows} == {"customer-42"}
    shown = [
        tuple(row[key] for key in ("kind", "name", "meter", "group", "quantity")) for row in rows
    ]
    unknown = "model=gpt-5; provenance=missing; status=failed"
    unpriced = "provider=p; model=m; provenance=reported; events=2"
    assert shown == [
        ("unbilled", "", "events", "reason=no_plan; model=gpt-5", "2"),
        ("unbilled", "By model", "calls_total", "reason=no_price; model=gpt-5", "4"),
        ("unknown_usage", "", "calls_total", unknown, "1"),
        ("unpriced", "no price for gpt-5", "cost_total", unpriced, ""),
    ]


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []
        self.attributes = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def read(page):
    reader = _Reader()
    reader.feed(page)
    return reader


@pytest.mark.parametrize("costs", [False, True], ids=["customer", "with costs"])
def test_html_runs_and_loads_nothing(costs):
    """The page has no script, no link and no image, whatever a subject or a model is called."""
    name = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    reader = read(full(subject=name, model=name).to_html(costs=costs))

    assert not {"script", "img", "link", "iframe", "object", "a"} & set(reader.tags)
    assert not [
        key for key, _ in reader.attributes if key.startswith("on") or key in ("src", "href")
    ]
    assert name in reader.text
    assert not re.search(r"url\(|@import", full().to_html(costs=costs))


def test_html_is_for_the_customer():
    """Costs and margin are on the page only where they are asked for; what is incomplete, always."""
    shown, inside = full().to_html(), full().to_html(costs=True)

    assert "Margin" not in shown
    for each in full().unpriced:
        assert each.why.detail not in shown
        assert each.why.detail in inside
    assert set(pages.WHY_UNPRICED) == set(get_args(Reason))
    assert "Margin" in inside
    for page in (shown, inside):
        assert "This bill is incomplete." in page
        assert "Without a price" in page
        assert "Calls of unknown usage" in page
        assert "Not charged" in page


def test_html_has_all_lines():
    """Each line and the total are on the page, and its tables name what their cells are about."""
    made = full()
    page = made.to_html(costs=True)
    reader = read(page)

    for line in made.lines:
        assert pages.details_of(line) in reader.text
    assert "450.00 EUR" in reader.text
    assert reader.tags.count("caption") == reader.tags.count("table") == 5
    assert all(key != "scope" or value in ("row", "col") for key, value in reader.attributes)
    assert ("lang", "en") in reader.attributes


def test_a_notebook_shows_all_of_it():
    """Lines, the total, and whatever is on no line or has no price; names are text there, too."""
    name = "<script>alert(1)</script>"
    made = full(subject=name, model=name)
    reader = read(made._repr_html_())

    assert "script" not in reader.tags
    assert name in reader.text
    for line in made.lines:
        assert pages.details_of(line) in reader.text
    for words in (
        "450.00",
        "Incomplete: ",
        "Not charged: ",
        "No price (cost): ",
        "Usage unknown: ",
    ):
        assert words in reader.text
    assert made.digest in reader.text


def test_html_needs_jinja(monkeypatch):
    """Without Jinja, the error says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    pages._environment.cache_clear()

    with pytest.raises(MissingExtraError, match=r"llm-metering\[bills\]"):
        full().to_html()


@pytest.mark.parametrize("shape", ["to_json", "to_csv", "to_html"])
def test_a_rerun_has_the_same_bytes(shape):
    """The same inputs make the same text."""
    assert getattr(full(), shape)() == getattr(full(), shape)()


def test_an_empty_bill_says_so():
    """Who used nothing owes nothing, and the page says it."""
    made = bill(part(plan(currency="JPY")))

    assert (str(made.total), made.lines) == ("0", ())
    assert "Nothing was charged." in made.to_html()
    assert made.to_csv().count("\n") == 1
