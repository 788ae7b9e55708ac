"""`llm-metering top`: the largest users of a period, and all the others."""

import json
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llm_metering.cli.top.ranked import RankingTable, bar, growth
from llm_metering.cli.top.ranking import Ranking
from llm_metering.cli.usage.asking import Question
from llm_metering.meters import METERS, UsageReport, UsageRow
from llm_metering.token_usage import TokenUsage

from .conftest import NOON, make_event, record
from .terminals import Terminal, text_of
from .test_cli import in_terminal, words
from .test_render import draw
from .test_usage_options import table_of

DAY = timedelta(days=1)


def used(subject, tokens, **changes):
    """A call of so many tokens."""
    usage = TokenUsage(input_tokens=tokens, output_tokens=0)
    return make_event(subject=subject, usage=usage, **changes)


def test_the_largest_and_the_others(run, home):
    """Rank, share, calls and growth of each, and one line for all that are not named."""
    record(
        home,
        used("big", 500),
        used("big", 100),
        used("mid", 300),
        used("small", 60),
        used("tiny", 40),
        used("big", 300, time=NOON - DAY),
        used("small", 80, time=NOON - DAY),
        used("elsewhere", 10**6, time=NOON - 3 * DAY),
    )
    period = ["--from", "2026-11-21", "--to", "2026-11-22"]

    done = run("top", "--limit", "2", *period)

    assert [line for line in table_of(done) if "█" not in "".join(line[4:])] == [
        ["#", "subject", "tokens_total", "share", "calls", "change"],
        ["1", "big", "600", "█" * 20, "60.0", "%", "2", "+100", "%"],
        ["2", "mid", "300", "█" * 10, "30.0", "%", "1", "new"],
        ["2", "others", "100", "10.0", "%", "2", "+25", "%"],
        ["total", "1,000", "100.0", "%", "5", "+163", "%"],
    ]
    assert "from 2026-11-21 00:00 to 2026-11-22 00:00 (UTC); change from the 1 d before" in (
        done.stdout
    )


def test_top_as_json(run, home):
    """The same for programs: exact numbers, shares as parts of 1."""
    record(
        home,
        used("big", 750),
        used("small", 250),
        used("small", 50, time=NOON - DAY),
        used("gone", 7, time=NOON - DAY),
    )

    done = run(
        *("top", "--limit", "1", "--from", "2026-11-21", "--to", "2026-11-22", "--format", "json")
    )

    assert json.loads(done.stdout) == {
        "meter": "tokens_total",
        "by": "subject",
        "from": "2026-11-21T00:00:00Z",
        "to": "2026-11-22T00:00:00Z",
        "before": "2026-11-20T00:00:00Z",
        "total": {"value": 1000, "calls": 2, "before": 57},
        "data": [
            {"rank": 1, "name": "big", "value": 750, "share": 0.75, "calls": 1, "before": None}
        ],
        "others": {"groups": 1, "share": 0.25, "value": 250, "calls": 1, "before": 57},
    }
    assert done.stderr == ""


def test_who_nobody_pays_for_is_always_there(run, home):
    """Calls without a subject have a line wherever they stand, and a note."""
    record(home, *(used(f"s{n}", 100 - n) for n in range(5)), used("unattributed", 1))

    done = run("top", "--limit", "2", "--from", "2026-11", "--to", "2026-12")

    assert [line[:2] for line in table_of(done)[1:]] == [
        *(["1", "s0"], ["2", "s1"], ["6", "unattributed"]),
        *(["3", "others"], ["total", "491"]),
    ]
    assert "note: 1 call without a subject" in done.stdout


def test_top_of_the_last_day(run, home):
    """Without a period it is the last 24 hours, until now."""
    now = datetime.now(UTC)
    record(
        home,
        used("now", 1, time=now - timedelta(hours=23)),
        used("before", 2, time=now - timedelta(hours=25)),
        used("now", 1, time=now - timedelta(hours=25)),
    )

    done = run("top", "--format", "json")

    (first,) = json.loads(done.stdout)["data"]
    assert (first["name"], first["value"], first["before"]) == ("now", 1, 1)


def test_top_by_another_key(run, home):
    """Models, dimensions and what events lack are ranked like subjects; filters and meters hold."""
    record(
        home,
        used("a", 5, model="x", dimensions={"plan": "gold"}),
        used("b", 6, model="x"),
        used("a", 20, model=None, dimensions={"plan": "gold"}),
    )
    period = ["--from", "2026-11-21", "--to", "2026-11-22"]

    def ranked(*options):
        return [line[1:3] for line in table_of(run("top", *options, *period))[1:-1]]

    assert ranked("model") == [["-", "20"], ["x", "11"]]
    assert ranked("plan") == [["gold", "25"], ["-", "6"]]
    assert ranked("model", "--filter", "plan=gold") == [["-", "20"], ["x", "5"]]
    assert ranked("model", "--subject", "a", "--subject", "b", "--meter", "calls_total") == [
        ["x", "2"],
        ["-", "1"],
    ]
    assert "no event here has 'modle'" in run("top", "modle", *period).stdout


def test_averages_are_ranked_without_shares(run, home, tmp_path):
    """What does not add up has no share and no sum of the others."""
    (tmp_path / "llm-metering.toml").write_text(
        '[meters.input_average]\naggregation = "AVG"\nvalue_property = "$.input_tokens"\n'
    )
    record(home, used("a", 10), used("a", 20), used("b", 40), used("c", 1))
    options = ["--meter", "input_average", "--from", "2026-11-21", "--to", "2026-11-22"]

    lines = table_of(run("top", "--limit", "2", *options))

    assert [[*line[:3], *line[-3:]] for line in lines[1:]] == [
        ["1", "b", "40", "-", "1", "new"],
        ["2", "a", "15", "-", "2", "new"],
        ["1", "other", "-", "-", "1", "-"],
    ]
    refused = run("top", "model", *options, "--subject", "a", "--subject", "b")
    assert refused.exit_code == 2
    assert "the values of input_average do not add up: choose one --subject" in refused.stderr


def test_nothing_to_rank(run, home):
    """A home without usage, and a period without any, say so."""
    assert run("top").stdout == "No usage found that fits the question\n"
    missing = home / "missing"
    assert run("top", "--home", missing).stdout == f"Nothing recorded yet in {missing}\n"
    assert not missing.exists()
    data = json.loads(run("top", "--format", "json").stdout)
    assert (data["data"], data["total"]) == ([], {"value": 0, "calls": 0, "before": 0})


def test_a_short_answer_is_for_people_alone(run, home, monkeypatch):
    """While the ledger does not take what was recorded, the table says so and JSON is refused."""
    monkeypatch.setattr("llm_metering.cli.usage.answers._WHOLE", 0.1)
    monkeypatch.setattr("llm_metering.cli.usage.answers._PART", 0.1)
    record(home, used("a", 5))
    assert run("top", "--from", "2026-11", "--format", "json").exit_code == 0
    record(home, used("a", 7))

    with closing(sqlite3.connect(home / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        table = run("top", "--from", "2026-11")
        data = run("top", "--from", "2026-11", "--format", "json")

    assert "note: 1 event recorded and not in the ledger yet" in table.stdout
    assert (data.exit_code, data.stdout) == (2, "")
    assert "the ledger has not taken all that was recorded" in data.stderr


@pytest.mark.parametrize("columns", [40, 58, 80, 120])
def test_top_in_a_terminal(columns, home):
    """Names are cut in their middle, numbers never; where these do not fit there are blocks."""
    long = "northwind-traders-" * 4
    record(home, used(long, 12_345_678), used("zoo", 7))

    seen = in_terminal(home, "top", "--from", "2026-11-21", columns=columns, NO_COLOR="1")

    text = re.sub(r"\x1b\[[\d;]*m", "", seen)
    assert max(map(cell_len, text.splitlines())) <= columns
    assert "12,345,678" in text
    if columns >= 58:
        assert re.search(r"1  no\S*…\S*s- ", text)
    else:
        assert long in text.replace("\n", "")


def test_top_for_people(run, home):
    """Short numbers stand above the exact sum."""
    record(home, used("a", 1_234_567))

    done = run("top", "--from", "2026-11-21", "--human")

    assert words(done.stdout.splitlines()[2])[2:4] == ["1.23", "M"]
    assert "exactly: tokens_total 1,234,567\n" in done.stdout


@pytest.mark.parametrize(
    ("value", "before", "shown"),
    [
        pytest.param(150, 100, "+50 %", id="more"),
        pytest.param(50, 100, "-50 %", id="less"),
        pytest.param(1000, 1001, "0 %", id="hardly less"),
        pytest.param(990, 99, "x 10", id="tenfold"),
        pytest.param(5, None, "new", id="nothing before"),
        pytest.param(5, 0, "new", id="zero before"),
        pytest.param(0, 5, "-100 %", id="nothing now"),
        pytest.param(0, None, "-", id="nothing at all"),
        pytest.param(None, None, "-", id="unknown"),
        pytest.param(5, -5, "-", id="below zero"),
    ],
)
def test_growth(value, before, shown):
    """Growth is in per cent, or in times where that is easier to read."""
    assert growth(value, before) == shown


def test_places_that_do_not_fit_are_among_the_others(home):
    """In a low window the total is still that of the places and the others."""
    record(home, *(used(f"s{n}", 100 - n) for n in range(8)))

    with Terminal(home, "top", "--from", "2026-11", "--watch", lines=12) as terminal:
        came, found = terminal.wait_for(r"(\d+) others +(\d+) ")
        terminal.end()

    values = [int(value) for value in re.findall(r"\d  s\d +(\d+) ", text_of(came))]
    others, rest = map(int, found.groups())
    assert len(values) + others == 8
    assert values
    assert sum(values) + rest == sum(100 - n for n in range(8))


@given(st.floats(0, 1), st.integers(1, 40))
def test_bars_are_as_long_as_their_part(part, width):
    """A bar is right to an eighth of a cell, and something is never shown as nothing."""
    long, ascii_long = bar(part, width), bar(part, width, ascii_only=True)

    assert len(long) <= width
    assert len(ascii_long) <= width
    assert bool(long) == bool(ascii_long) == (part > 0)
    eighths = 8 * long.count("█") + sum(" ▏▎▍▌▋▊▉".index(each) for each in long if each != "█")
    assert abs(eighths - part * width * 8) <= 1


@given(
    width=st.integers(20, 140),
    limit=st.integers(1, 5),
    rows=st.dictionaries(
        st.text("ab東", min_size=1, max_size=50), st.integers(0, 10**14), min_size=1, max_size=6
    ),
)
def test_the_total_is_all_of_them(width, limit, rows):
    """Places and others come to the total, and no number is cut, whatever the width."""
    question = Question(meters=METERS, filters={}, asked_at=NOON)
    ranking = Ranking(
        question=question,
        start=NOON - DAY,
        end=NOON,
        meter="tokens_total",
        key="subject",
        limit=limit,
    )
    found = tuple(
        UsageRow(value=value, window_start=NOON, window_end=NOON, subject=name)
        for name, value in rows.items()
    )
    reports = [UsageReport(query=query, rows=found) for query in ranking.queries()]

    top = ranking.top(reports)
    drawn = draw(RankingTable(ranking=ranking, top=top), width)

    assert len(top.places) + top.others == len(rows)
    assert sum(each.value for each in top.places) + top.rest.value == top.total.value
    assert top.total.value == sum(rows.values())
    assert [each.value for each in top.places] == sorted(rows.values(), reverse=True)[:limit]
    assert max(map(cell_len, drawn.splitlines())) <= width
    for value in [each.value for each in top.places] + [top.total.value]:
        assert f"{value:,}" in drawn
