"""Price files of one's own: what they say, and what is refused in them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from llm_metering.errors import MissingExtraError, PriceError
from llm_metering.prices import Chain, Cost, ModelPrices, PriceCard, Unpriced, cost_of, opening
from llm_metering.prices.opening import open_credits, open_prices
from llm_metering.prices.tables import PriceTable

FILE = """\
currency = "EUR"
source = "our contract"

[[prices]]
provider = "openai"
model = "gpt-5-mini"
per_million = { input = "0.25", cache_read = 0.025, output = 2 }
per_unit = { web_search_requests = "0.01" }

[[prices]]
provider = "openai"
model = "gpt-5-mini"
effective_from = 2026-03-01
per_million = { input = "0.20", output = "1.50" }

[[prices]]
provider = "openai"
model = "gpt-5-mini"
effective_from = 2026-03-01
above_input_tokens = 1000
per_million = { input = "0.40", output = "3.00" }

[[prices]]
provider = "openai"
model = "gpt-5-mini"
effective_from = 2026-06-01T00:00:00+02:00
service_tier = "batch"
per_million = { input = "0.10", output = "0.75" }

[[prices]]
provider = "google"
model = "gemini-x"
effective_from = 2026-05-01
source = "https://example.org/prices"
per_million = { input = "1", output = "0" }

[[credits]]
provider = "openai"
model = "gpt-5-mini"
per_million = { input = 1000, output = 8000 }

[[aliases]]
provider = "azure"
model = "Assistant-Prod"
is = "gpt-5-mini"
of = "openai"
"""


def day(month, of=1):
    """Midnight of a day of 2026, in UTC."""
    return datetime(2026, month, of, tzinfo=UTC)


@pytest.fixture
def prices(tmp_path):
    """The price list of `FILE` alone."""
    path = tmp_path / "prices.toml"
    path.write_text(FILE, encoding="utf-8")
    return open_prices([path], "off")


def cost(prices, time, *, provider="openai", model="gpt-5-mini", tier=None, **counts):
    """What a call costs."""
    data = {"provider": provider, "model": model, "service_tier": tier, **counts}
    data = {"input_tokens": 1000, "output_tokens": 100, **data}
    return cost_of(
        {key: value for key, value in data.items() if value is not None}, prices, time=time
    )


@pytest.mark.parametrize(
    ("time", "counts", "amount"),
    [
        pytest.param(day(1), {}, "0.00045", id="always"),
        pytest.param(day(1), {"cache_read_input_tokens": 400}, "0.00036", id="cached"),
        pytest.param(day(1), {"web_search_requests": 2}, "0.02045", id="searches"),
        pytest.param(day(2, 28), {"model": "gpt-5-mini-2025-08-07"}, "0.00045", id="a-dated-name"),
        pytest.param(day(3), {}, "0.00035", id="from-a-day-on"),
        pytest.param(day(3), {"input_tokens": 1001}, "0.0007004", id="above-a-size"),
        pytest.param(datetime(2026, 5, 31, 22, tzinfo=UTC), {"tier": "batch"}, "0.000175", id="batch"),
        pytest.param(day(7), {"tier": "default"}, "0.00035", id="the-usual-tier"),
        pytest.param(day(1), {"provider": "azure", "model": "assistant-prod"}, "0.00045", id="alias"),
        pytest.param(
            day(5), {"provider": "vertex_ai", "model": "gemini-x"}, "0.001", id="family-of-providers"
        ),
    ],
)  # fmt: skip
def test_a_file_says_what_a_call_costs(prices, time, counts, amount):
    """By date, size, tier and kind, by the digits that are written."""
    found = cost(prices, time, **counts)

    assert isinstance(found, Cost)
    assert (found.amount, found.currency) == (Decimal(amount), "EUR")


@pytest.mark.parametrize(
    ("time", "asked", "reason", "since", "until"),
    [
        pytest.param(day(5, 31), {"tier": "batch"}, "unknown_price", day(3), "later", id="no-batch-yet"),
        pytest.param(day(7), {"tier": "flex"}, "unknown_price", "earlier", None, id="no-such-tier"),
        pytest.param(
            day(4), {"provider": "gcp", "model": "gemini-x"}, "unknown_model", None, day(5), id="not-yet"
        ),
        pytest.param(day(7), {"model": "gpt-5"}, "unknown_model", None, None, id="another-model"),
        pytest.param(day(7), {"provider": "groq"}, "unknown_model", None, None, id="of-somebody-else"),
        pytest.param(day(7), {"model": None}, "unknown_model", None, None, id="no-model"),
    ],
)  # fmt: skip
def test_what_a_file_does_not_say_is_unpriced(prices, time, asked, reason, since, until):
    """Another model, an earlier day, another tier: no price, and never the usual tier's."""
    found = cost(prices, time, **asked)
    tiers = datetime(2026, 5, 31, 22, tzinfo=UTC)

    assert isinstance(found, Unpriced)
    assert found.reason == reason
    assert found.valid_from == (tiers if since == "earlier" else since)
    assert found.valid_to == (tiers if until == "later" else until)


def test_own_prices_go_before_the_cost_that_a_provider_reports(prices):
    """A cost in the answer counts only where the user has no price."""
    assert cost(prices, day(1), reported_cost=9.0).amount == Decimal("0.00045")
    assert cost(prices, day(1), model="gpt-5", reported_cost=9.0).amount == 9


def test_cards_say_where_they_come_from(prices):
    """A row's source, else that of its file."""
    contract = prices.find("openai", "gpt-5-mini", time=day(1), service_tier=None)
    row = prices.find("google", "gemini-x", time=day(7), service_tier=None)

    assert isinstance(contract, ModelPrices)
    assert isinstance(row, ModelPrices)
    assert (contract.cards[0].source, row.cards[0].source) == (
        "our contract",
        "https://example.org/prices",
    )
    assert (contract.valid_from, contract.valid_to, contract.is_own) == (None, day(3), True)
    assert (row.valid_from, row.valid_to) == (day(5), None)


def test_a_source_nobody_names_is_the_name_of_the_file(tmp_path):
    """It changes with neither the folder nor the line: rows at one price stay one line of a bill."""
    found = []
    text = FILE.replace('source = "our contract"\n', "")
    for folder, written in (("a", text), ("b", "# moved\n\n" + text)):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "prices.toml"
        path.write_text(written, encoding="utf-8")
        found += [
            open_prices([path], "off").find("openai", "gpt-5-mini", time=day(of), service_tier=None)
            for of in (1, 3)
        ]

    assert all(isinstance(each, ModelPrices) for each in found)
    assert found[:2] == found[2:]
    assert {card.source for each in found for card in each.cards} == {"prices.toml"}


@pytest.mark.parametrize(
    ("times", "tier", "detail"),
    [
        pytest.param(
            (day(6), day(12, 31)),
            "flex",
            "prices.toml has no price of openai gpt-5-mini on flex from 2026-05-31T22:00:00Z on",
            id="tier",
        ),
        pytest.param(
            (day(1), day(4)),
            None,
            "prices.toml has no price of gcp gemini-x before 2026-05-01",
            id="not-yet",
        ),
    ],
)
def test_a_reason_is_the_same_for_all_of_its_period(prices, times, tier, detail):
    """Whichever event is looked up first, the bill lists the same words."""
    who = ("openai", "gpt-5-mini") if tier else ("google", "gemini-x")
    found = [prices.find(*who, time=each, service_tier=tier) for each in times]

    assert all(isinstance(each, Unpriced) for each in found)
    assert {each.detail for each in found} == {detail}


def test_credits_are_worth_what_the_file_says(tmp_path):
    """A row of credits is a card in credits, at one's own aliases too; without one there is no list."""
    path = tmp_path / "prices.toml"
    path.write_text(FILE, encoding="utf-8")
    credits = open_credits([path])
    assert credits is not None

    worth = cost(credits, day(7), provider="azure", model="assistant-prod")

    assert (worth.amount, worth.currency) == (Decimal("1.8"), "credits")
    assert open_credits([]) is None


def test_files_add_up_and_name_their_contents(tmp_path):
    """Two files are one list; its version changes with what they say, and with nothing else."""
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text(FILE, encoding="utf-8")
    two.write_text(row(model="other"), encoding="utf-8")

    both = open_prices([one, two], "off")
    again = open_prices([one, two], "off")
    two.write_text(row(model="another"), encoding="utf-8")

    assert isinstance(both.find("p", "other", time=day(1), service_tier=None), ModelPrices)
    assert (both.name, both.version) == ("one.toml + two.toml", again.version)
    assert open_prices([one, two], "off").version != both.version


def row(extra="", **changed):
    """A file with one row of prices."""
    keys = {"provider": "p", "model": "m", **changed}
    lines = [f'{key} = "{value}"' for key, value in keys.items()]
    per_million = "" if "per_million" in extra else 'per_million = { input = "1", output = "2" }\n'
    return 'currency = "USD"\n[[prices]]\n' + "\n".join(lines) + f"\n{per_million}{extra}\n"


ROW = '[[prices]]\nprovider = "p"\nmodel = "m"\nper_million = { input = 1, cache_read = 1, output = 1 }\n'
WITHOUT_CACHE = ROW.replace("cache_read = 1, ", "")
USD = 'currency = "USD"\n'


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        pytest.param(ROW, 1, 'currency is missing, such as currency = "USD"', id="no-currency"),
        pytest.param('currency = "EURO"\n' + ROW, 1, "unknown currency 'EURO'", id="currency"),
        pytest.param("currency = [1]\n", 1, "currency is a text, got [1]", id="currency-is-a-list"),
        pytest.param(USD + "\npirces = 1", 3, "there is no 'pirces'; there are currency", id="top-key"),
        pytest.param(USD + "prices = 1", 2, "tables are wanted, each under [[prices]]", id="no-table"),
        pytest.param(row('tier = "x"'), 6, "there is no 'tier'; there are provider", id="row-key"),
        pytest.param(row(model=" "), 4, "model is a text", id="blank-model"),
        pytest.param(USD + "[[prices]]\nmodel = 'm'", 2, "provider is missing", id="no-provider"),
        pytest.param(USD + "[[prices]]\nprovider = 'm'", 2, "model is missing", id="no-model"),
        pytest.param(
            USD + "[[prices]]\nprovider = 'p'\nmodel = 'm'", 2, "per_million is missing", id="no-prices"
        ),
        pytest.param(
            row('per_million = { input = "1" }'), 5, "output is missing; write 0", id="no-output"
        ),
        pytest.param(
            row("[prices.per_million]\noutput = 1\nthinking = 1\ninput = 1"), 7,
            "no kind of token is 'thinking'; there are input, cache_read", id="unknown-kind",
        ),
        pytest.param(
            row("per_unit = { output = 1 }"), 6, "'output' has its price in per_million", id="kind-as-unit"
        ),
        pytest.param(row("per_unit = 1"), 6, "per_unit is a table of prices", id="units-no-table"),
        pytest.param(
            row("per_million = { input = -1, output = 1 }"), 5, "a number from 0", id="negative"
        ),
        pytest.param(row("per_million = { input = nan, output = 1 }"), 5, "got 'NaN'", id="nan"),
        pytest.param(row("per_million = { input = inf, output = 1 }"), 5, "got 'Infinity'", id="inf"),
        pytest.param(row("per_million = { input = true, output = 1 }"), 5, "got 'True'", id="switch"),
        pytest.param(
            row('per_million = { input = "1e-3", output = 1 }'), 5, "got '1e-3'", id="exponent-as-text"
        ),
        pytest.param(
            row('per_million = { input = "0.0000001", output = 1 }'), 5,
            "input: a price of one has at most 12 decimals", id="too-fine",
        ),
        pytest.param(
            row("effective_from = 2026-01-01T00:00:00"), 6,
            "a date such as 2026-01-01 is wanted, or a time with its offset, got '2026-01-01 00:00:00'",
            id="naive-time",
        ),
        pytest.param(row('effective_from = "2026-01-01"'), 6, "a date such as", id="date-as-text"),
        pytest.param(row("above_input_tokens = -1"), 6, "a whole number from 0, got -1", id="below-none"),
        pytest.param(
            row("above_input_tokens = 5"), 2, "p m above 5 has no prices for calls with less input",
            id="no-smaller",
        ),
        pytest.param(
            row('service_tier = "batch"'), 2, "p m on batch has no prices for the usual tier at that time",
            id="tier-alone",
        ),
        pytest.param(
            USD + ROW + "effective_from = 2026-03-01\n" + ROW + "effective_from = 2026-02-28\n"
            'service_tier = "batch"',
            7, "p m on batch from 2026-02-28 has no prices for the usual tier at that time",
            id="tier-before-the-usual",
        ),
        pytest.param(
            USD + WITHOUT_CACHE + WITHOUT_CACHE + 'service_tier = "batch"\n' + ROW
            + "effective_from = 2026-09-01", 6,
            "p m on batch has no price for cache_read, which calls on the usual tier have",
            id="tier-lacks-a-kind-of-later",
        ),
        pytest.param(USD + ROW + ROW, 6, "p m is there already, at", id="twice"),
        pytest.param(
            USD + ROW + ROW.replace('"p"', '"P"').replace('"m"', '"M"'), 6, "is there already", id="by-case"
        ),
        pytest.param(
            USD + ROW + "effective_from = 2026-01-01\n" + ROW + "effective_from = 2026-01-01T02:00:00+02:00",
            7, "p m from 2026-01-01 is there already", id="one-moment-twice",
        ),
        pytest.param(
            USD + ROW + ROW + 'service_tier = "default"', 6, "p m is there already", id="usual-tier-twice"
        ),
        pytest.param(
            USD + ROW + WITHOUT_CACHE + 'service_tier = "batch"', 6,
            "p m on batch has no price for cache_read, which calls on the usual tier have",
            id="tier-lacks-a-kind",
        ),
        pytest.param(
            USD + ROW + WITHOUT_CACHE + "above_input_tokens = 9", 6,
            "p m above 9 has no price for cache_read, which calls with less input have",
            id="size-lacks-a-kind",
        ),
        pytest.param(USD + "[[aliases]]\nmodel = 'a'", 2, "is is missing", id="alias-of-nothing"),
        pytest.param(
            USD + "[[aliases]]\nmodel = 'a'\nis = 'b'\n[[aliases]]\nmodel = 'A'\nis = 'c'", 5,
            "a has an alias already", id="alias-twice",
        ),
        pytest.param(
            "[[credits]]\nprovider = 'p'\nmodel = 'm'\nper_million = { input = 1 }", 4,
            "output is missing", id="credits-too",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_with_its_line(tmp_path, text, line, says):
    """The error names the file, the line, the value and what is wanted."""
    path = tmp_path / "prices.toml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(PriceError) as raised:
        open_prices([path], "off")

    assert str(raised.value).startswith(f"{path}:{line}: ")
    assert says in str(raised.value)


def test_a_tier_follows_the_kinds_of_the_usual_one(tmp_path):
    """A row of a tier answers for the usual rows of its own time alone."""
    path = tmp_path / "prices.toml"
    batch = 'service_tier = "batch"\n'
    later = "effective_from = 2026-09-01\n"
    path.write_text(
        USD + WITHOUT_CACHE + WITHOUT_CACHE + batch + ROW + later + ROW + batch + later, "utf-8"
    )

    assert open_prices([path], "off").find("p", "m", time=day(9), service_tier="batch").cards


def test_one_row_in_two_files_is_refused(tmp_path):
    """The error names both places."""
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text(USD + ROW, encoding="utf-8")
    two.write_text(USD + "\n" + ROW, encoding="utf-8")

    with pytest.raises(PriceError, match="is there already") as raised:
        open_prices([one, two], "off")

    assert str(raised.value) == f"{two}:3: p m is there already, at {one}:2"


def table(name, *cards):
    """A list of prices per million for input alone."""
    return PriceTable(name, "1", cards)


def card(model, price, **more):
    """A card of provider `p`."""
    rates = {"input": Decimal(price), "output": Decimal(price)}
    return PriceCard(provider="p", model=model, rates=rates, **more)


def test_the_first_list_that_knows_a_model_says_what_it_costs():
    """The next is asked for other models, and for the time before the first list's prices begin."""
    own = table("own", card("a", 5, effective_from=day(3)))
    both = Chain(
        [own, table("public", card("a", 1), card("a", 2, service_tier="batch"), card("b", 3))]
    )

    def found(model, time, tier=None):
        answer = both.find("p", model, time=time, service_tier=tier)
        price = answer.cards[0].price("input") if isinstance(answer, ModelPrices) else answer.reason
        return price, answer.valid_from, answer.valid_to

    assert found("a", day(2)) == (1, None, day(3))
    assert found("a", day(3)) == (5, day(3), None)
    assert found("b", day(3)) == (3, None, None)
    # Not the public price of a batch: this user pays prices of his own.
    assert found("a", day(4), "batch") == ("unknown_price", day(3), None)
    assert found("a", day(2), "batch") == (2, None, day(3))
    assert found("c", day(2)) == ("unknown_model", None, None)


def test_without_any_prices_no_model_has_one(monkeypatch):
    """`auto` takes genai-prices where it is installed; who insists on it is told what to install."""
    monkeypatch.setattr(opening, "is_installed", lambda: False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    nothing = open_prices([])

    assert isinstance(nothing.find("openai", "gpt-4o", time=day(1), service_tier=None), Unpriced)
    with pytest.raises(MissingExtraError, match=r"pip install 'llm-metering\[prices\]'"):
        open_prices([], "genai-prices")


def test_the_files_of_the_documentation_are_files(tmp_path):
    """Each example of a price file on the page about them is one."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "prices.md"
    examples = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    files = [text for text in examples if "[[" in text]
    for text in files:
        path = tmp_path / "prices.toml"
        path.write_text(text, encoding="utf-8")
        open_prices([path], "off")

    assert len(files) == 3
