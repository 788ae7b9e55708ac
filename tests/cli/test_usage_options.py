"""The options of `usage`, as they are typed."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from .conftest import NOON, make_event, record
from .test_cli import as_process, words


def table_of(done):
    """The cells of a table, line by line."""
    table = done.stdout.partition("\n\n")[0]
    return [words(line) for line in table.splitlines() if "─" not in line]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param(
            ["--meter", "tokens"],
            "unknown meter 'tokens'; there are tokens_total, tokens_input",
            id="meter",
        ),
        pytest.param(
            ["--window", "week"],
            "unknown window 'week'; there are MINUTE, HOUR, DAY, MONTH",
            id="window",
        ),
        pytest.param(
            ["--from", "2026-11-21", "--to", "2026-11-20"],
            "--from (2026-11-21T00:00:00Z) must be before --to (2026-11-20T00:00:00Z)",
            id="backwards",
        ),
        pytest.param(
            ["--from", "2026-11", "--to", "2026-11-01"], "must be before --to", id="empty period"
        ),
        pytest.param(["--to", "-1w"], "--to '-1w' is no moment; write a day", id="moment"),
        pytest.param(
            ["--time-zone", "Europe/Berlinn"],
            "unknown time_zone 'Europe/Berlinn'; write a name of the IANA database, such as UTC, "
            "Europe/Berlin or America/New_York; did you mean Europe/Berlin",
            id="zone",
        ),
        pytest.param(
            ["--filter", "model"], "--filter 'model' is no KEY=VALUE; write", id="filter without ="
        ),
        pytest.param(["--filter", "=x"], "--filter '=x' is no KEY=VALUE", id="filter without key"),
        pytest.param(
            ["--filter", "subject=a"], "choose subjects with --subject", id="filter of subjects"
        ),
        pytest.param(["--filter", "a'b=c"], "a quote", id="key that cannot be looked up"),
        pytest.param(["--group-by", ""], "group_by takes non-empty strings", id="empty key"),
        pytest.param(["--sparkline"], "--sparkline shows usage over time; say --window", id="bars"),
    ],
)
@pytest.mark.parametrize("command", ["usage", "top"])
def test_bad_input_is_one_line(command, options, message, run):
    """The value and the choices in one line, and exit code 2, even where there is nothing to ask."""
    if command == "top" and options[0] in ("--window", "--group-by", "--sparkline"):
        options = ["--from", "x"]
        message = "--from 'x' is no moment"

    done = run(command, *options)

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("llm-metering: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("window", ["HOUR", "hour", "Hour"])
def test_a_window_in_any_case(window, run, home):
    """The size of windows may be typed in any case."""
    record(home, make_event())

    assert table_of(run("usage", "--window", window))[0][:2] == ["hour", "(UTC)"]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        pytest.param(
            ["--from", "2026-11-01", "--to", "2026-11-30"],
            "from 2026-11-01 00:00 to 2026-11-30 00:00 (UTC)",
            id="both",
        ),
        pytest.param(
            ["--from", "2026-11", "--time-zone", "Europe/Berlin"],
            "from 2026-11-01 00:00 (Europe/Berlin)",
            id="from",
        ),
        pytest.param(["--to", "2026-12"], "to 2026-12-01 00:00 (UTC)", id="to"),
    ],
)
def test_the_period_stands_below_the_table(options, shown, run, home):
    """A day as the end is not in the answer, and nobody has to know that to see it."""
    record(home, make_event())

    assert run("usage", *options).stdout.splitlines()[-2:] == ["", shown]
    assert "(UTC)" not in run("usage").stdout


def test_a_meter_without_estimates_says_what_it_leaves_out(run, home, tmp_path):
    """The note about estimated calls would otherwise read as if the numbers had them."""
    (tmp_path / "llm-metering.toml").write_text(
        '[meters.exact]\nvalue_property = "$.total_tokens"\nestimates = false\n'
    )
    record(home, make_event(), make_event(provenance="estimated"))
    left_out = "note: exact leaves out what is estimated or partial\n"

    for shown in (
        run("usage", "--meter", "exact"),
        run("usage", "--meter", "exact", "--window", "day", "--sparkline"),
        run("top", "--meter", "exact", "--from", "2026-11-21", "--to", "2026-11-22"),
    ):
        assert left_out in shown.stdout
    assert left_out not in run("usage").stdout
    assert left_out not in run("usage", "--meter", "exact", "--filter", "model=x").stdout


def test_days_of_a_zone(run, home):
    """Days begin where the zone says, in the period as in the windows."""
    late = datetime(2026, 11, 20, 22, 30, tzinfo=UTC)  # still the 20th in Berlin
    record(home, *(make_event(time=late + timedelta(hours=n)) for n in range(3)))
    options = ["--window", "day", "--time-zone", "Europe/Berlin", "--meter", "calls_total"]

    assert table_of(run("usage", *options)) == [
        ["day", "(Europe/Berlin)", "subject", "model", "calls_total"],
        ["2026-11-20", "acme", "gpt-5-mini", "1"],
        ["2026-11-21", "acme", "gpt-5-mini", "2"],
        ["total", "3"],
    ]
    data = json.loads(run("usage", *options, "--from", "2026-11-21", "--format", "json").stdout)
    assert [data["from"], data["data"][0]["windowStart"]] == ["2026-11-20T23:00:00Z"] * 2
    assert [row["value"] for row in data["data"]] == [2]


def test_an_hour_that_clocks_show_twice(run, home):
    """At the end of summer time two hours have one name; the offset tells them apart."""
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    record(home, *(make_event(time=first + timedelta(hours=n)) for n in range(3)))

    lines = table_of(
        run("usage", "--window", "hour", "--time-zone", "Europe/Berlin", "--meter", "calls_total")
    )

    assert [line[:-3] for line in lines[1:-1]] == [
        ["2026-10-25", "02:00", "+0200"],
        ["2026-10-25", "02:00", "+0100"],
        ["2026-10-25", "03:00"],
    ]


def test_filters(run, home):
    """One of several values of a key, and of each key; an empty value is a key that is not there."""
    record(
        home,
        make_event(model="a", dimensions={"plan": "x"}),
        make_event(model="b", dimensions={"plan": "x"}),
        make_event(model="c", dimensions={"plan": "x=y"}),
        make_event(model="b"),
    )

    def models(*filters):
        options = [word for each in filters for word in ("--filter", each)]
        return [line[1] for line in table_of(run("usage", *options))[1:-1]]

    assert models("model=a", "model=b") == ["a", "b"]
    assert models("model=a", "model=b", "plan=x") == ["a", "b"]
    assert models("plan=x=y") == ["c"]
    assert models("plan=") == ["b"]
    assert run("usage", "--filter", "model=z").stdout == "No usage found that fits the question\n"


def test_usage_as_csv(run, home):
    """CSV is the report of one meter and all there is on the standard output."""
    record(home, make_event(), make_event(subject="größe", model=None))

    done = run("usage", "--format", "csv", "--group-by", "subject", "--group-by", "model")

    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert done.stderr == ""
    assert [(row["subject"], row["model"], row["value"]) for row in rows] == [
        ("acme", "gpt-5-mini", "1200"),
        ("größe", "", "1200"),
    ]


@pytest.mark.parametrize("output", ["json", "csv"])
@pytest.mark.parametrize("option", ["--watch", "--sparkline", "--human"])
def test_what_is_for_people_is_not_for_programs(option, output, run):
    """Options of the table are refused where no table is asked for."""
    done = run("usage", "--window", "day", "--format", output, option)

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        f"llm-metering: --format {output} is for programs; leave out --watch, --sparkline and "
        "--human\n"
    )


def test_own_meters(run, home, monkeypatch, tmp_path):
    """A meter of the configuration is asked for like a built-in one; averages have no sum."""
    (tmp_path / "llm-metering.toml").write_text(
        '[meters.input_average]\naggregation = "AVG"\nvalue_property = "$.input_tokens"\n'
    )
    record(home, make_event(), make_event(subject="zoo"))

    assert table_of(run("usage", "--meter", "input_average")) == [
        ["subject", "model", "input_average"],
        ["acme", "gpt-5-mini", "1,000"],
        ["zoo", "gpt-5-mini", "1,000"],
    ]
    assert "input_average" in run("usage", "--meter", "x").stderr


def test_sparklines(run, home):
    """A line for each subject from the first moment that was asked for to the last."""
    record(
        home,
        make_event(time=NOON),
        make_event(time=NOON + timedelta(days=2)),
        make_event(time=NOON + timedelta(days=2), subject="zoo"),
    )
    options = ["--window", "day", "--sparkline", "--meter", "calls_total"]

    done = run("usage", *options, "--from", "2026-11-20", "--to", "2026-11-24")

    assert table_of(done) == [
        ["subject", "calls_total", "peak", "at"],
        ["acme", "2", "·▇·▇", "1", "11-21"],
        ["zoo", "1", "···▇", "1", "11-23"],
        ["total", "3", "·▄·▇", "2", "11-23"],
    ]
    assert "2026-11-20 to 2026-11-23 (UTC); a bar is a day" in done.stdout


@pytest.mark.parametrize(
    ("variables", "is_ascii"),
    [
        pytest.param({"LC_ALL": "C"}, True, id="LC_ALL=C"),
        pytest.param({"LC_ALL": "", "LC_CTYPE": "", "LANG": "POSIX"}, True, id="LANG=POSIX"),
        pytest.param({"PYTHONIOENCODING": "latin-1", "LC_ALL": "C.UTF-8"}, True, id="latin-1"),
        pytest.param({"LC_ALL": "C.UTF-8", "LANG": "C"}, False, id="C.UTF-8"),
        pytest.param({"LC_ALL": "", "LC_CTYPE": "", "LANG": ""}, False, id="no locale"),
    ],
)
def test_bars_in_ascii(variables, is_ascii, home):
    """Where there is no other sign, bars and lines are drawn in ASCII."""
    record(home, make_event(), make_event(time=NOON + timedelta(days=1)))

    for command in ("usage --window day --sparkline", "top --from 2026-11"):
        done = as_process(home, *command.split(), **variables)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.isascii() == is_ascii
        assert ("#" * 2 in done.stdout) == is_ascii
