"""`llm-metering bill`: what it prints, what it writes, and how it ends."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llm_metering.token_usage import TokenUsage

from .conftest import NOON, make_event, record

PLANS = """
default_plan = "payg"

[[plans]]
name = "payg"
effective_from = 2026-01-01
currency = "EUR"
[[plans.charges]]
name = "Tokens"
meter = "tokens_total"
group_by = ["model"]
per = 1000
price = "1"
"""

AT_COST = PLANS.replace('"tokens_total"', '"cost_total"').replace(
    'per = 1000\nprice = "1"', 'markup = "0.2"'
)


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def plans(tmp_path, monkeypatch):
    path = tmp_path / "plans.toml"
    path.write_text(PLANS)
    monkeypatch.setenv("LLM_METERING_PLANS", str(path))
    monkeypatch.setenv("LLM_METERING_PRICE_SOURCE", "off")
    return path


def test_a_bill_in_the_terminal(home, run, plans):
    """What finished processes left is on it, with its lines, total, cost and what has no price."""
    record(home, make_event(), make_event(model="gpt-5", provenance="estimated"))

    result = run("bill", "acme", "--month", "2026-11")

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "Bill of acme, 2026-11-01 to 2026-11-30 (UTC)"
    assert "Tokens  gpt-5-mini  11-01 to 11-30  1 per 1,000     1,200  1.20" in lines
    assert any(line.startswith("total ") and line.endswith("2.40") for line in lines)
    assert "of Tokens, gpt-5: 1,200 estimated" in lines
    assert "Without a price" in lines
    assert "margin: - (some usage has no price, so the cost is that of the rest)" in lines
    assert lines[-1].startswith("sha256:")


def test_the_how_to_shows_a_real_bill(home, run, plans, monkeypatch):
    """The plans of the how-to and two calls make the bill that it shows, digest and all."""
    page = (Path(__file__).parents[2] / "docs/how-to/bill-customers.md").read_text()
    plans.write_text(page.split("```toml\n")[1].split("```")[0])
    prices = plans.with_name("prices.toml")
    prices.write_text(
        'currency = "USD"\nsource = "our contract"\n[[prices]]\nprovider = "openai"\n'
        'model = "gpt-5-mini"\nper_million = { input = "0.25", output = "2" }\n'
    )
    monkeypatch.setenv("LLM_METERING_PRICES", str(prices))
    calls = ((3, 900_000, 15_000), (20, 560_000, 40_000))
    record(
        home,
        *(
            make_event(
                subject="customer-42",
                provider="openai",
                time=datetime(2026, 11, day, tzinfo=UTC),
                usage=TokenUsage(input_tokens=given, output_tokens=generated),
            )
            for day, given, generated in calls
        ),
    )

    result = run("bill", "customer-42", "--month", "2026-11")

    shown = page.split("```text\n")[1].split("```")[0]
    assert [line.rstrip() for line in result.stdout.splitlines()] == shown.splitlines()


def test_json_is_the_bill(home, run, plans, monkeypatch):
    """The standard output is the bill and nothing else; a note about the prices is beside it."""
    prices = plans.with_name("prices.toml")
    prices.write_text(
        'currency = "EUR"\n[[prices]]\nprovider = "p"\nmodel = "m"\nper_million = { input = 1, output = 1 }\n'
    )
    monkeypatch.setenv("LLM_METERING_PRICES", str(prices))
    record(home, make_event())

    result = run("bill", "acme", "--month", "2026-11", "--format", "json")

    shown = json.loads(result.stdout)
    assert (shown["subject"], shown["total"]) == ("acme", "1.20")
    assert shown["digest"].startswith("sha256:")
    assert "costs by version 1 of the prices\n" in result.stderr


def test_a_month_that_is_not_over_is_said_beside(home, run, plans, monkeypatch):
    """Usage may still come: a note says so, and the bill's bytes do not."""
    from llm_metering.cli import bill as command

    class Then(datetime):
        @classmethod
        def now(cls, tz=None):
            return NOON.astimezone(tz)

    class After(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 12, 1, tzinfo=UTC)

    record(home, make_event())
    arguments = ("bill", "acme", "--month", "2026-11", "--format", "csv")
    monkeypatch.setattr(command, "datetime", Then)
    during = run(*arguments)
    monkeypatch.setattr(command, "datetime", After)
    after = run(*arguments)

    assert during.stdout == after.stdout
    assert "so far: 2026-12-01 has not begun in UTC, and usage may still come\n" in during.stderr
    assert "so far" not in after.stderr


@pytest.mark.parametrize("kind", ["json", "csv", "html"])
def test_a_bill_goes_into_a_file(home, run, plans, tmp_path, kind):
    """The same bill again is the same file; another one is not written over it without --force."""
    record(home, make_event())
    path = tmp_path / "bills" / f"acme.{kind}"
    arguments = ("bill", "acme", "--month", "2026-11", "--format", kind, "--output", path)

    assert run(*arguments).exit_code == 0
    first = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert run(*arguments).exit_code == 0
    assert path.read_bytes() == first
    record(home, make_event())
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert f"{path} holds another bill" in refused.stderr
    assert path.read_bytes() == first
    assert run(*arguments, "--force").exit_code == 0
    assert path.read_bytes() != first
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_all_go_into_a_folder(home, run, plans, tmp_path):
    """A file for each subject, whatever it is called; none of them lies elsewhere."""
    names = ["acme", "../up", "a/b", "..", "A" * 300, "A" * 300 + "b", "ü%2F"]
    record(home, *(make_event(subject=name) for name in names))
    folder = tmp_path / "bills"

    result = run("bill", "--all", "--month", "2026-11", "--format", "json", "--output", folder)

    assert result.exit_code == 0
    files = sorted(folder.iterdir())
    assert sorted(json.loads(each.read_text())["subject"] for each in files) == sorted(names)
    assert {each.name for each in files} >= {"acme.json", "%2E%2E%2Fup.json", "%2E%2E.json"}
    assert not (tmp_path / "up.json").exists()


def test_all_are_lines(home, run, plans):
    """As JSON each is a line; as CSV there is one line of titles; in the terminal a line each."""
    record(home, make_event(subject="a"), make_event(subject="b"))
    arguments = ("bill", "--all", "--month", "2026-11", "--format")

    lines = run(*arguments, "json").stdout.splitlines()
    rows = list(csv.DictReader(io.StringIO(run(*arguments, "csv").stdout)))
    table = run(*arguments, "table").stdout

    assert [json.loads(line)["subject"] for line in lines] == ["a", "b"]
    assert [(row["subject"], row["line"], row["kind"], row["amount"]) for row in rows] == [
        (subject, *cells)
        for subject in ("a", "b")
        for cells in (("1", "usage", "1.20"), ("", "unpriced", ""))
    ]
    assert [line.split()[:3] for line in table.splitlines()[2:]] == [
        ["a", "EUR", "1.20"],
        ["b", "EUR", "1.20"],
    ]


def test_an_incomplete_bill_has_an_exit_code(home, run, plans):
    """A bill that lacks what nobody knows the cost of ends with 1, and says it on both outputs."""
    plans.write_text(AT_COST)
    record(home, make_event())

    result = run("bill", "acme", "--month", "2026-11")

    assert result.exit_code == 1
    assert "This bill is incomplete:" in result.stdout
    assert "incomplete: acme: Tokens is a markup on what it cost" in result.stderr


def test_who_cannot_be_billed_has_an_exit_code(home, run, plans):
    """With --all the others are billed; who is on no plan is named, and the exit code is 1."""
    row = '[[subjects]]\nsubject = "a"\nplan = "payg"\nfrom = 2026-01-01\n'
    plans.write_text(PLANS.replace('default_plan = "payg"', "") + row)
    record(home, make_event(subject="a"), make_event(subject="b"))

    result = run("bill", "--all", "--month", "2026-11", "--format", "json")

    assert result.exit_code == 1
    assert [json.loads(line)["subject"] for line in result.stdout.splitlines()] == ["a"]
    assert "not billed: b: b is on no plan, so it cannot be billed" in result.stderr


def test_usage_that_is_not_in_the_ledger_yet_has_an_exit_code(home, run, plans, monkeypatch):
    """A bill that lacks recorded usage ends with 3, and says what to look at."""
    from llm_metering.cli import bill as command

    record(home, make_event())
    run("bill", "acme", "--month", "2026-11")
    record(home, make_event())
    (home / "ledger.db").chmod(0o600)
    monkeypatch.setattr(command, "take_in", lambda settings, patience: False)

    result = run("bill", "acme", "--month", "2026-11", "--format", "json")

    assert result.exit_code == 3
    assert json.loads(result.stdout)["total"] == "1.20"
    assert "not all in the ledger, and so not on the bill; `llm-metering status`" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--month", "2026-11"], "name a subject, or --all", id="nobody"),
        pytest.param(["a", "--all", "--month", "2026-11"], "name a subject, or --all", id="both"),
        pytest.param(["a"], "name a month such as", id="no month"),
        pytest.param(
            ["a", "--month", "November"], "month is a month such as 2026-11", id="no such month"
        ),
        pytest.param(
            ["a", "--from", "2026-11-15", "--to", "2027-01-01"],
            "a bill is of days of one month",
            id="two months",
        ),
        pytest.param(
            ["--all", "--month", "2026-11", "--format", "html"],
            "name a folder with --output",
            id="pages in the terminal",
        ),
        pytest.param(
            ["a", "--month", "2026-11", "--output", "x"],
            "choose --format json, csv or html",
            id="a table in a file",
        ),
    ],
)
def test_wrong_options_are_one_line(home, run, plans, arguments, message):
    """What cannot be done is one line that says what can, and exit code 2."""
    result = run("bill", *arguments)

    assert result.exit_code == 2
    assert result.stderr.startswith("llm-metering: ")
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_wrong_plan_is_one_line(home, run, plans):
    """A plan that cannot be used is named by file and line before anything else is done."""
    plans.write_text(PLANS.replace('"EUR"', '"EURO"'))

    result = run("bill", "acme", "--month", "2026-11")

    assert result.exit_code == 2
    assert result.stderr.startswith(f"llm-metering: {plans}:7: unknown currency 'EURO'; ")
    assert not home.exists()


def test_nothing_was_recorded(home, run, plans):
    """Where nothing was ever recorded a bill is one of nothing, and no home is made."""
    result = run("bill", "acme", "--month", "2026-11", "--format", "json")

    assert (result.exit_code, json.loads(result.stdout)["total"]) == (0, "0.00")
    assert not home.exists()
