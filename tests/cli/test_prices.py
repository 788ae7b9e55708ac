"""`llm-metering prices`: what models cost, why, and what has no price."""

import json

import pytest

from llm_metering.token_usage import TokenUsage

from .conftest import NOON, make_event, record

PRICES = """\
currency = "EUR"
[[prices]]
provider = "openai"
model = "gpt-5-mini"
source = "our contract"
per_million = { input = "0.20", cache_read = "0.02", output = "1.50" }
per_unit = { web_search_requests = "0.01" }
[[prices]]
provider = "openai"
model = "gpt-5-mini"
above_input_tokens = 100000
per_million = { input = "0.40", cache_read = "0.04", output = "3" }
per_unit = { web_search_requests = "0.01" }
[[prices]]
provider = "acme"
model = "future"
effective_from = 2027-01-01
per_million = { input = "1", output = "1" }
"""


@pytest.fixture(autouse=True)
def own_prices(tmp_path, monkeypatch):
    """A price file, and no other source of prices."""
    path = tmp_path / "prices.toml"
    path.write_text(PRICES, encoding="utf-8")
    monkeypatch.setenv("LLM_METERING_PRICES", str(path))
    monkeypatch.setenv("LLM_METERING_PRICE_SOURCE", "off")
    return path


def test_list_shows_what_models_cost(run):
    """Each card is a line: by size, with its kinds, its currency and where it comes from."""
    result = run("prices", "list", "gpt-5-mini")

    assert result.exit_code == 0
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[:4] for line in lines[2:]] == [
        ["openai", "gpt-5-mini", "-", "-"],
        ["openai", "gpt-5-mini", "-", "100000"],
    ]
    assert "input 0.2, cache_read 0.02, output 1.5" in result.stdout
    assert "web_search_requests 0.01  EUR  our contract" in result.stdout


def test_an_empty_list_says_so(run):
    """A provider whose models no list has is named, so that a mistyped one is seen."""
    result = run("prices", "list", "--provider", "opnai")

    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "prices.toml: no price of provider opnai\n"


def test_list_in_json_has_prices_as_text(run):
    """Prices are decimals by their digits; each says since when it holds."""
    result = run("prices", "list", "--at", "2027-02-01", "--format", "json")

    report = json.loads(result.stdout)
    assert [each["model"] for each in report["prices"]] == ["gpt-5-mini", "gpt-5-mini", "future"]
    assert report["prices"][2] == {
        "provider": "acme",
        "model": "future",
        "serviceTier": None,
        "aboveInputTokens": 0,
        "currency": "EUR",
        "perMillion": {"input": "1", "output": "1"},
        "perUnit": {},
        "validFrom": "2027-01-01T00:00:00+00:00",
        "validTo": None,
        "isOwn": True,
        "source": "prices.toml",
    }
    assert report["version"].startswith("prices.toml ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["nope"], "no price for nope: nobody knows who served nope", id="unknown"),
        pytest.param(
            ["openai/nope"], "no price for openai/nope: prices.toml has no price", id="prefix"
        ),
        pytest.param(["gpt-5-mini", "--tier", "flex"], "on flex", id="tier"),
        pytest.param(["future", "--at", "2026-12-31"], "before 2027-01-01", id="not-yet"),
        pytest.param(["gpt-5-mini", "--provider", "azure"], "has no price of azure", id="provider"),
    ],
)
def test_list_says_which_model_has_no_price(run, arguments, says):
    """The reason stands on the standard error, and the exit code is 1."""
    result = run("prices", "list", *arguments)

    assert result.exit_code == 1
    assert says in result.stderr


def test_explain_adds_up_an_event_of_the_ledger(run, home):
    """Each kind with its price, and the sum; a count within another is priced once."""
    event = make_event(provider="openai", id="event-1")
    record(home, event)

    result = run("prices", "explain", "event-1", "--format", "json")

    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["time"] == NOON.isoformat()
    assert report["lines"] == [
        {"kind": "cache_read", "quantity": "64", "price": "0.00000002", "cost": "0.00000128"},
        {"kind": "input", "quantity": "936", "price": "0.0000002", "cost": "0.0001872"},
        {"kind": "reasoning", "quantity": "7", "price": "0.0000015", "cost": "0.0000105"},
        {"kind": "output", "quantity": "193", "price": "0.0000015", "cost": "0.0002895"},
    ]
    assert (report["cost"], report["currency"]) == ("0.00048848", "EUR")
    assert report["card"]["source"] == "our contract"


def test_explain_shows_a_call_that_was_never_made(run):
    """Counts by their names in events; the size decides about the card."""
    counts = ["--count", "input_tokens=200000", "--count", "output_tokens=0"]

    result = run("prices", "explain", "--provider", "openai", "--model", "gpt-5-mini", *counts)

    assert result.exit_code == 0
    assert "holds always (your own)" in result.stdout
    assert result.stdout.rstrip().endswith("0.08 EUR")


def test_explain_says_why_there_is_no_price(run):
    """Exit code 1, with the reason."""
    result = run("prices", "explain", "--model", "openai/gpt-9", "--count", "input_tokens=1")

    assert result.exit_code == 1
    assert "no price: nobody knows its output (unknown_usage)" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["explain"], "the id of an event is wanted", id="nothing"),
        pytest.param(["explain", "e", "--model", "m"], "leave the options out", id="both"),
        pytest.param(["explain", "e"], "there is no event 'e' in the ledger", id="no-event"),
        pytest.param(
            ["explain", "--model", "m", "--count", "tokens=1"], "there is no 'tokens'; there are calls",
            id="unknown-count",
        ),
        pytest.param(
            ["explain", "--model", "m", "--count", "input_tokens=-1"], "input_tokens=N is wanted", id="minus"
        ),
        pytest.param(["list", "--at", "soon"], "--at 'soon' is no moment", id="no-moment"),
        pytest.param(["import", "none.json", "--output", "x.toml"], "none.json: cannot be read", id="no-file"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(run, arguments, says):
    """Exit code 2, and one line that says what is wanted."""
    result = run("prices", *arguments)

    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_mistake_in_a_price_file_is_named_with_its_line(run, own_prices):
    """Whatever is asked."""
    own_prices.write_text(PRICES.replace("output = ", "outptu = ", 1), encoding="utf-8")

    result = run("prices", "list")

    assert result.exit_code == 2
    assert f"{own_prices}:6: no kind of token is 'outptu'" in result.stderr


def test_missing_names_what_was_used_and_has_no_price(run, home):
    """By provider, model and tier, most calls first; what has a price is not there."""
    assert run("prices", "missing").stdout.startswith("Nothing recorded yet")
    used = TokenUsage(input_tokens=1, output_tokens=1)
    record(
        home,
        make_event(provider="openai"),
        make_event(provider="openai", service_tier="default"),
        *(make_event(provider="openai", service_tier="flex") for _ in range(3)),
        make_event(provider="acme", model="future", usage=used),
        *(make_event(provider="acme", model="unheard-of", usage=used) for _ in range(2)),
    )

    result = run("prices", "missing", "--format", "json")
    table = run("prices", "missing")
    later = run("prices", "missing", "--at", "2027-01-01", "--format", "json")

    missing = json.loads(result.stdout)["missing"]
    assert [tuple(each.values())[:5] for each in missing] == [
        ("openai", "gpt-5-mini", "flex", 3, "unknown_price"),
        ("acme", "unheard-of", None, 2, "unknown_model"),
        ("acme", "future", None, 1, "unknown_model"),
    ]
    assert (result.exit_code, table.exit_code) == (1, 1)
    assert "unheard-of" in table.stdout
    models = [each["model"] for each in json.loads(later.stdout)["missing"]]
    assert models == ["gpt-5-mini", "unheard-of"]


def test_import_writes_a_file_that_is_read(run, tmp_path, monkeypatch):
    """A list in LiteLLM's shape becomes a price file, and overwrites none unasked."""
    entry = {
        "litellm_provider": "acme",
        "input_cost_per_token": 1e-06,
        "output_cost_per_token": 2e-06,
    }
    given, made = tmp_path / "models.json", tmp_path / "made.toml"
    given.write_text(json.dumps({"one": entry, "two": {"litellm_provider": "acme"}}))

    first = run("prices", "import", given, "--output", made)
    again = run("prices", "import", given, "--output", made)
    forced = run("prices", "import", given, "--output", made, "--force", "--format", "json")
    monkeypatch.setenv("LLM_METERING_PRICES", str(made))
    listed = run("prices", "list", "one")

    assert first.exit_code == 0
    assert "two    it has no price that a row can hold" in first.stdout
    assert "1 rows of 1 models in" in first.stderr
    assert again.exit_code == 2
    assert "it is there already; --force overwrites it" in again.stderr
    left_out = [{"model": "two", "what": "it has no price that a row can hold"}]
    assert json.loads(forced.stdout) == {
        "models": 1,
        "rows": 1,
        "file": str(made),
        "leftOut": left_out,
    }
    assert "input 1, output 2" in listed.stdout
