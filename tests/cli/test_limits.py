"""`llm-metering grant`, `balance` and `limits`: what they print, what they change, and how they end."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from llm_metering.limiting import quiet_limiting
from llm_metering.settings import load_settings
from tests.limits.servers import server

from .conftest import make_event, record
from .operating import Site
from .terminals import Terminal, text_of

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
FAR = "2199-01-01"


@pytest.fixture
def home(tmp_path):
    """A home that is not there yet."""
    return tmp_path / "home"


@pytest.fixture
def limiting(run, home):
    """What an application has of the limits of `home`."""
    return quiet_limiting(load_settings(home=home))


def used(home, limiting, *events):
    """Leave events in the journal that are owed to balances, as a process does that was killed."""
    record(home, *events, sinks=[limiting.sink])


def answer(done, code=0):
    """What a command said in JSON, and that it said nothing else."""
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def test_a_balance_as_the_page_has_it(run, home, limiting, monkeypatch):
    """Grants in the order in which they are used, what a finished process left burnt: as documented."""
    shown = PAGE.read_text("utf-8").split("## balance\n")[1].split("```text\n")[1].split("```")[0]
    run("grant", "acme", "100000", "--expires", FAR, "--key", "order-1007")
    run("grant", "acme", "50_000", "--priority", "1", "--key", "order-1008")
    limiting.limits.reserve("acme", 700)
    used(home, limiting, make_event(), make_event(subject="somebody else"))

    done = run("balance", "acme")

    assert done.exit_code == 0
    assert [line.rstrip() for line in done.stdout.splitlines()] == shown.splitlines()


def test_it_fits_a_terminal(run, home, limiting):
    """In 80 columns no line of a balance or of the list is wrapped or cut."""
    limits = limiting.limits
    limits.grant("customer-42", 1_000_000, recurrence="MONTH", key="plan")
    limits.grant("customer-42", 20, "money")
    limits.reserve("customer-42", 700)

    for arguments in (("balance", "customer-42"), ("limits", "list", "--reservations")):
        with Terminal(home, *arguments, columns=80, LLM_METERING_HOME=str(home)) as terminal:
            code, came = terminal.finish()
        lines = text_of(came).splitlines()
        assert code == 0
        assert max(map(len, lines)) <= 80
        # A block of lines, which it would be where a line does not fit, has no titles above it.
        assert any(line.startswith(("grant ", "subject ")) for line in lines)
        assert any("999,300" in line for line in lines)


def test_a_grant_prints_itself_and_the_balance(run, home):
    """The JSON has both, and the first grant of a home says on the other output who takes part when."""
    first = run(
        *("grant", "acme", "5.50", "--unit", "money", "--every", "Month", "--anchor", "2026-11-01"),
        *("--time-zone", "Europe/Berlin", "--expires", FAR, "--max-rollover", "2"),
        *("--priority", "7", "--soft-limit", "--format", "json"),
    )
    second = run("grant", "acme", "10")

    told = answer(first)
    assert set(told) == {"home", "grant", "balance", "pending"}
    grant, balance = told["grant"], told["balance"]
    assert (grant["amount"], grant["left"], grant["priority"]) == ("5.5", "5.5", 7)
    assert (grant["recurrence"], grant["max_rollover"]) == ("MONTH", "2")
    assert grant["expires_at"] == "2198-12-31T23:00:00.000Z"
    assert balance["grants"] == [grant]
    assert (balance["unit"], balance["available"], balance["is_soft_limit"]) == ("USD", "5.5", True)
    # Midnight in Berlin, whether its clocks are put forward or not.
    assert balance["resets_at"][11:] in ("22:00:00.000Z", "23:00:00.000Z")
    assert "processes that run already take part after their next start" in first.stderr
    assert second.stderr == ""
    assert second.stdout.startswith("acme is granted 10 tokens: ")


def test_limits_that_are_on_have_no_first_grant(run, home, monkeypatch):
    """Where the setting says so, every process takes part already."""
    monkeypatch.setenv("LLM_METERING_LIMITS", "on")

    done = run("grant", "acme", "10")

    assert (done.exit_code, done.stderr) == (0, "")


def test_a_key_is_granted_once(run):
    """A script that runs again grants nothing more, and one that asks for another amount is told so."""
    first = answer(run("grant", "acme", "10", "--key", "order-1", "--format", "json"))
    again = answer(run("grant", "acme", "10", "--key", "order-1", "--format", "json"))
    other = run("grant", "acme", "11", "--key", "order-1")

    assert again["grant"]["id"] == first["grant"]["id"]
    assert again["balance"]["granted"] == 10
    assert other.exit_code == 2
    assert "the grant of key 'order-1' was of 10 tokens, not 11" in other.stderr


def test_moments_of_a_grant(run):
    """What is to come is not there yet; days are those of the time zone; a period can be told apart."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    told = answer(
        run(
            *("grant", "acme", "10", "--effective", tomorrow.isoformat(), "--format", "json"),
            *("--expires", FAR, "--time-zone", "Asia/Tokyo"),
        )
    )
    table = run("balance", "acme").stdout
    day = answer(run("grant", "other", "10", "--period", "day", "--format", "json"))

    assert (told["balance"]["granted"], told["balance"]["available"]) == (0, 0)
    assert told["grant"]["expires_at"] == "2198-12-31T15:00:00.000Z"
    assert f"from {tomorrow:%Y-%m-%d %H:%M}, until 2198-12-31 15:00" in table
    assert "recurrence" not in day["grant"]
    next_day = datetime.fromisoformat(day["balance"]["resets_at"])
    assert next_day - datetime.fromisoformat(day["grant"]["effective_at"]) == timedelta(days=1)


def test_what_is_left_can_be_taken_back(run):
    """Once; of a grant that is not there, or has ended, the answer is no."""
    made = answer(run("grant", "acme", "10", "--format", "json"))
    arguments = ("grant", "acme", "--void", made["grant"]["id"], "--format", "json")

    other_unit = answer(run(*arguments, "--unit", "credits"), code=1)
    first = answer(run(*arguments))
    again = run("grant", "acme", "--void", made["grant"]["id"])

    assert other_unit["voided"] is False
    assert first["voided"] is True
    assert (first["balance"]["available"], first["balance"]["grants"]) == (0, [])
    assert again.exit_code == 1
    assert again.stdout.startswith(f"acme has no grant {made['grant']['id']} that could be taken")


def test_usage_before_a_grant_is_burnt_before_it(run, home, limiting):
    """A grant is for what comes behind it, even one that would be used first."""
    limiting.limits.grant("acme", 2000)
    used(home, limiting, make_event())

    told = answer(run("grant", "acme", "5000", "--priority", "1", "--format", "json"))

    lefts = {each["amount"]: each["left"] for each in told["balance"]["grants"]}
    assert lefts == {5000: 5000, 2000: 800}


def test_a_script_can_ask_for_an_amount(run):
    """Exit code 0 if that much is available, 1 if less; nobody who has nothing has anything."""
    run("grant", "acme", "10")

    codes = [run("balance", "acme", "--check", each).exit_code for each in ("0", "10", "11")]

    assert codes == [0, 0, 1]
    assert run("balance", "nobody", "--check", "1").exit_code == 1
    assert run("balance", "acme", "--check", "1.5").exit_code == 2


def test_nobody_was_granted_anything(run, home, monkeypatch):
    """The answers are friendly, the JSON has the usual shape, and nothing is made."""
    balance = run("balance", "acme")
    as_json = answer(run("balance", "acme", "--format", "json"))
    listed = run("limits", "list")
    void = run("grant", "acme", "--void", "x")
    monkeypatch.setenv("LLM_METERING_DEFAULT_GRANT", "100000 tokens per month")
    to_come = run("balance", "acme")

    assert (balance.exit_code, balance.stdout) == (0, "acme was granted nothing yet\n")
    assert (as_json["available"], as_json["grants"], as_json["pending"]) == (0, [], 0)
    assert (listed.exit_code, listed.stdout) == (0, "Nobody was granted anything yet\n")
    assert void.exit_code == 1
    assert "brings it 100000 tokens per month" in to_come.stdout
    assert answer(run("limits", "list", "--format", "json"))["balances"] == []
    assert not home.exists()


def test_another_unit_is_named(run):
    """Who asks for the wrong unit hears of the right one."""
    run("grant", "acme", "1", "--unit", "money")

    done = run("balance", "acme")

    assert done.stdout == "acme was granted no tokens; it has a balance of: money\n"


def test_the_list_and_its_orders(run, home, limiting):
    """Who has the least left comes first, or the first by name; all that was recorded is burnt."""
    for name, amount in (("b", 1300), ("a", 100_000), ("c", 50)):
        run("grant", name, amount)
    used(home, limiting, *(make_event(subject=name) for name in "ab"))

    told = answer(run("limits", "list", "--format", "json"))
    by_name = answer(run("limits", "list", "--by", "subject", "--format", "json"))
    one = answer(run("limits", "list", "b", "--format", "json"))
    table = run("limits", "list").stdout.splitlines()

    assert [(each["subject"], each["used"]) for each in told["balances"]] == [
        *(("b", 1200), ("a", 1200)),
        ("c", 0),
    ]
    assert [each["subject"] for each in by_name["balances"]] == ["a", "b", "c"]
    assert [each["subject"] for each in one["balances"]] == ["b"]
    assert "rates" not in told
    assert table[0].split() == [
        *("subject", "of", "resets", "on", "granted", "used", "reserved", "available", "overage")
    ]
    assert table[2].split() == ["b", "tokens", "never", "1,300", "1,200", "0", "100", "0"]


def test_open_reservations(run, limiting):
    """They are listed with what they hold and until when; or that there are none."""
    limiting.limits.grant("acme", 5, "money")
    none = run("limits", "list", "--reservations").stdout
    held = limiting.limits.reserve("acme", "0.25", "money")

    told = answer(run("limits", "list", "acme", "--reservations", "--format", "json"))
    table = run("limits", "list", "--reservations").stdout

    assert none.splitlines()[-1] == "Nothing is reserved"
    (each,) = told["reservations"]
    assert each.pop("ends_at") > told["balances"][0]["as_of"]
    assert each == {"id": held.id, "subject": "acme", "feature": "money", "amount": "0.25"}
    assert table.splitlines()[-1].split()[:3] == [held.id, "acme", "money"]


def test_a_feature_that_no_setting_names(run, limiting, monkeypatch, tmp_path):
    """Its balances are not shown, and that is said."""
    file = tmp_path / "features.toml"
    file.write_text('[features.mini]\nunit = "tokens"\nmodels = ["gpt-5-mini"]\n')
    monkeypatch.setenv("LLM_METERING_CONFIG", str(file))
    assert answer(run("grant", "acme", "10", "--unit", "mini", "--format", "json"))["grant"]
    monkeypatch.delenv("LLM_METERING_CONFIG")

    done = run("limits", "list")

    assert "note: there are balances of features that no setting names: mini" in done.stdout


def test_rates_are_set_kept_and_cleared(run, limiting, monkeypatch):
    """Each alone; 0 and --clear go back to the settings; a gate holds calls to them."""

    def rates(*arguments):
        told = answer(run("limits", "set", "acme", *arguments, "--format", "json"))
        return told["rates"]["requests_per_minute"], told["rates"]["tokens_per_minute"]

    assert rates("--requests-per-minute", "60") == (60, None)
    assert rates("--tokens-per-minute", "1000") == (60, 1000)
    terms = limiting.limits.terms("acme")
    assert (terms.requests_per_minute, terms.tokens_per_minute) == (60, 1000)
    assert rates("--requests-per-minute", "0") == (None, 1000)
    monkeypatch.setenv("LLM_METERING_REQUESTS_PER_MINUTE", "7")
    assert rates("--clear") == (7, None)
    shown = run("limits", "list", "acme").stdout.splitlines()
    assert shown[-2:] == [
        "acme may begin 7 requests a minute, by the settings",
        "acme may begin any number of tokens a minute",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["grant", "acme"], "say how much", id="no amount"),
        pytest.param(["grant", "acme", "many"], "an amount is a number", id="no number"),
        pytest.param(["grant", "acme", "1.5"], "1.5 tokens is finer than 1", id="half a token"),
        pytest.param(["grant", "acme", "0"], "amount is more than 0", id="nothing"),
        pytest.param(["grant", "acme", "1", "--unit", "cups"], "unit is one of", id="unit"),
        pytest.param(["grant", "acme", "1", "--priority", "300"], "from 1 to 255", id="priority"),
        pytest.param(["grant", "acme", "1", "--expires", "2026-01"], "behind", id="over"),
        pytest.param(["grant", "acme", "1", "--max-rollover", "-2"], "from 0", id="rollover"),
        pytest.param(["grant", "acme", "1", "--anchor", "now"], "say --every", id="anchor"),
        pytest.param(["grant", "acme", "1", "--expires", "soon"], "--expires 'soon'", id="moment"),
        pytest.param(["grant", "acme", "1", "--time-zone", "Mars"], "Mars", id="time zone"),
        pytest.param(["grant", "acme", "1", "--void", "x"], "--unit alone", id="void and amount"),
        pytest.param(["grant", "acme", "--void", "x", "--key", "k"], "--unit alone", id="void"),
        pytest.param(["grant", "", "1"], "subject", id="subject"),
        pytest.param(["balance", "acme", "--unit", "cups"], "unit is one of", id="balance"),
        pytest.param(["limits", "set", "acme"], "or --clear", id="no rate"),
        pytest.param(
            ["limits", "set", "acme", "--clear", "--tokens-per-minute", "1"],
            "or --clear",
            id="both",
        ),
    ],
)
def test_wrong_options_are_one_line(run, home, arguments, message):
    """What cannot be done is one line that says what can, exit code 2, and no home."""
    done = run(*arguments)

    assert done.exit_code == 2
    assert done.stderr.startswith("llm-metering: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not home.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        *(["grant", "acme", "1"], ["balance", "acme"], ["limits", "list"]),
        ["limits", "set", "acme", "--clear"],
    ],
)
def test_limits_that_are_off(run, home, monkeypatch, arguments):
    """There is nothing to ask, and one line says where that comes from."""
    monkeypatch.setenv("LLM_METERING_LIMITS", "off")

    done = run(*arguments)

    assert done.exit_code == 2
    assert "limits: they are off (environment LLM_METERING_LIMITS)" in done.stderr
    assert not home.exists()


def test_what_is_not_burnt_is_said(run, home, limiting, monkeypatch, tmp_path):
    """A balance that lacks recorded usage ends with 3, unless there is too little anyway."""
    from llm_metering.cli.limits import common

    run("grant", "acme", "5", "--unit", "money")
    used(home, limiting, make_event(provider="openai"))
    broken = tmp_path / "prices.toml"
    broken.write_text("this is no price list")
    monkeypatch.setenv("LLM_METERING_PRICES", str(broken))
    monkeypatch.setattr(common, "_PATIENCE", 0.2)

    table = run("balance", "acme", "--unit", "money")
    told = answer(run("balance", "acme", "--unit", "money", "--format", "json"), code=3)
    listed = run("limits", "list")
    enough = run("balance", "acme", "--unit", "money", "--check", "5")
    too_little = run("balance", "acme", "--unit", "money", "--check", "6")

    assert table.exit_code == 3
    assert "note: 1 events are not burnt, so more seems to be left than is: " in table.stdout
    assert str(broken) in table.stdout
    assert (told["pending"], told["used"]) == (1, "0")
    assert (listed.exit_code, enough.exit_code, too_little.exit_code) == (3, 3, 1)


def test_a_living_process_burns_its_own(run, home):
    """Beside an application that runs, and behind its death, nothing is burnt twice or forgotten."""
    run("grant", "acme", "1000")
    with Site(home).application(3, how="flushed"):
        during = answer(run("balance", "acme", "--format", "json"))
    behind = answer(run("balance", "acme", "--format", "json"))

    # 10 in and 0, 1 and 2 out.
    assert (during["used"], during["pending"]) == (33, 0)
    assert (behind["used"], behind["pending"], behind["available"]) == (33, 0, 967)


def test_nothing_else_is_sent(run, home, limiting, monkeypatch, tmp_path):
    """To look at a balance delivers to no other sink, not even to the ledger."""
    lines = tmp_path / "usage.jsonl"
    monkeypatch.setenv("LLM_METERING_SINKS", f"jsonl://{lines}")
    run("grant", "acme", "5000")
    used(home, limiting, make_event())

    assert answer(run("balance", "acme", "--format", "json"))["used"] == 1200

    assert not lines.exists()
    assert not (home / "ledger.db").exists()


def test_balances_in_postgresql(run, home, monkeypatch):
    """They need no home on this machine, and make none."""
    with server() as databases:
        monkeypatch.setenv("LLM_METERING_LIMITS", databases.new())

        made = answer(run("grant", "acme", "10", "--format", "json"))
        told = answer(run("balance", "acme", "--format", "json"))
        doctor = run("doctor", "--no-send", "--format", "json")

    assert told["grants"] == [made["grant"]]
    found = {(each["check"], each["sink"]): each for each in json.loads(doctor.stdout)["findings"]}
    assert found["sink.reachable", "limits"]["found"].startswith("1 balances are in postgres")
    assert not home.exists()


def test_the_doctor_asks_the_store(run, home):
    """That balances can be asked for is a finding; so is a file that is none of ours."""

    def about_limits():
        told = json.loads(run("doctor", "--no-send", "--format", "json").stdout)
        return [
            (each["level"], each["found"])
            for each in told["findings"]
            if (each["check"], each["sink"]) == ("sink.reachable", "limits")
        ]

    assert about_limits() == []
    run("grant", "acme", "10")
    assert about_limits() == [("ok", "1 balances are in the home")]
    (home / "limits.db").write_text("something else, and not in SQLite's format" * 100)
    ((level, found),) = about_limits()
    assert level == "failure"
    assert "limits.db" in found


def test_the_doctor_knows_a_contradiction(run, home, monkeypatch):
    """Calls cannot be held to limits that are off; applications would not start."""
    monkeypatch.setenv("LLM_METERING_LIMITS", "off")
    monkeypatch.setenv("LLM_METERING_ENFORCE", "on")

    done = run("doctor", "--no-send", "--format", "json")

    assert done.exit_code == 1
    levels = {each["check"]: each["level"] for each in json.loads(done.stdout)["findings"]}
    assert levels["settings.enforce"] == "failure"
