"""`llm-metering reprice`, and how costs look."""

import json
from datetime import timedelta

import pytest

from llm_metering.token_usage import TokenUsage

from .conftest import NOON, make_event, record

FILE = """
currency = "USD"

[[prices]]
provider = "openai"
model = "gpt-5-mini"
effective_from = 2025-01-01
per_million = {{ input = "{input}", output = "15" }}
"""


@pytest.fixture
def prices(tmp_path, monkeypatch):
    """Sets the price of input in the user's own file."""
    path = tmp_path / "own.toml"
    monkeypatch.setenv("LLM_METERING_PRICES", str(path))
    monkeypatch.setenv("LLM_METERING_PRICE_SOURCE", "off")

    def set_price(text="3"):
        path.write_text(FILE.format(input=text))

    set_price()
    return set_price


@pytest.fixture
def recorded(home):
    """Calls of 100 tokens in and 20 out: two that have a price and one that has none."""
    call = {"provider": "openai", "usage": TokenUsage(input_tokens=100, output_tokens=20)}
    record(
        home,
        make_event(**call),
        make_event(**call | {"subject": "zoo", "time": NOON + timedelta(days=1)}),
        make_event(**call | {"model": "new"}),
    )


def told(run, *options):
    return json.loads(run("reprice", "--format", "json", *options).stdout)


@pytest.mark.usefixtures("recorded")
def test_what_changes_is_shown_by_model(run, prices):
    """A dry run says the same and changes nothing; a second run finds nothing more."""
    assert told(run)["changes"] == []
    prices("6")

    dry = told(run, "--dry-run")
    assert dry["changes"] == [
        {
            "provider": "openai",
            "model": "gpt-5-mini",
            "currency": "USD",
            "events": 2,
            "before": "0.0012",
            "after": "0.0018",
            "difference": "0.0006",
            "newly_priced": 0,
            "no_longer_priced": 0,
        }
    ]
    assert (dry["events"], dry["unpriced"], dry["version"]) == (3, 1, None)
    shown = run("reprice").stdout
    assert "openai    gpt-5-mini  USD       0.0012  0.0018      0.0006       2" in shown
    assert "version 2 of prices has the changes" in shown
    assert told(run)["changes"] == []
    assert "0.0018" in run("usage", "--meter", "cost_total").stdout


@pytest.mark.usefixtures("recorded")
def test_some_events_alone(run, prices):
    """Of a period, of a subject, or without a price."""
    told(run)
    prices("6")
    assert [each["events"] for each in told(run, "--subject", "zoo")["changes"]] == [1]
    day = NOON.date().isoformat()
    assert told(run, "--unpriced-only")["events"] == 1
    assert [each["events"] for each in told(run, "--to", f"{day}T23:00Z")["changes"]] == [1]
    assert told(run)["changes"] == []


@pytest.mark.usefixtures("recorded")
def test_costs_in_the_table(run, prices):
    """A column as soon as somebody asked for costs, with a note of what has no price."""
    assert "cost" not in run("usage").stdout

    shown = run("usage", "--meter", "cost_total").stdout
    assert "note: cost_total is in USD" in shown
    assert "note: 1 event without a price, in no sum of cost_total" in shown

    table = run("usage").stdout
    assert "cost USD" in table
    [total] = [line for line in table.splitlines() if line.startswith("total")]
    assert total.split()[-1] == "0.0012"
    assert "0.0012" in run("top", "subject", "--meter", "cost_total", "--from", "2020-01").stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--from", "2026-02", "--to", "2026-01"], "--from (2026-02-01T00:00:00Z) must be before"),
        (["--from", "soon"], "--from 'soon'"),
        (["--book", "credits"], "name files with the setting prices that have credits"),
    ],
    ids=["order", "no time", "no credits"],
)
@pytest.mark.usefixtures("recorded", "prices")
def test_bad_input_is_one_line(run, options, message):
    """It names the option and what it may be."""
    result = run("reprice", *options)
    assert result.exit_code == 2
    assert message in result.stderr


@pytest.mark.usefixtures("recorded")
def test_without_prices(run, monkeypatch):
    """It says how to get some."""
    monkeypatch.setenv("LLM_METERING_PRICE_SOURCE", "off")
    result = run("reprice")
    assert (result.exit_code, "there are no prices" in result.stderr) == (2, True)


def test_a_home_without_events(run, prices):
    """Nothing is made."""
    assert "Nothing recorded yet" in run("reprice").stdout


@pytest.mark.usefixtures("recorded", "prices")
def test_prune_prices_first(run):
    """What has no body any more keeps the price it was given then."""
    run("usage")
    before = (NOON + timedelta(hours=1)).isoformat()
    assert run("prune", "--before", before, "--yes").exit_code == 0

    report = json.loads(run("usage", "--meter", "cost_total", "--format", "json").stdout)
    assert (report["data"][0]["value"], report["unpriced"]) == ("0.0012", 1)
    assert told(run)["without_body"] == 2
