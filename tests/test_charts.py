"""`UsageReport.plot`: a report as a chart."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import altair
import pytest

from llm_metering.errors import MissingExtraError, QueryError
from llm_metering.meters import MeterDefinition, UsageReport, UsageRow, usage_query
from llm_metering.meters.time_axis import ticks

HOUR = timedelta(hours=1)
START = datetime(2026, 10, 24, 22, tzinfo=UTC)  # midnight in Berlin, of a day of 25 hours
BERLIN = ZoneInfo("Europe/Berlin")
MEAN = MeterDefinition(
    slug="mean_ms", aggregation="AVG", value_property="$.duration_ms", group_by={"model": "$.model"}
)


def hourly(rows, *, make=UsageReport, window="HOUR", **asked):
    """A report of `(hour, model, value)`."""
    asked = {"group_by": "model", "time_zone": "Europe/Berlin", **asked}
    query = usage_query(window=window, **asked)
    found = [
        UsageRow(
            value=value,
            window_start=START + hour * HOUR,
            window_end=START + (hour + 1) * HOUR,
            group_by=dict.fromkeys(query.keys, model),
        )
        for hour, model, value in rows
    ]
    return make(query=query, rows=tuple(found))


def drawn(chart):
    """The data that a chart draws."""
    return chart.to_dict()["data"]["values"]


def stacks(chart):
    """From where to where each group's bar goes, by the hour it starts."""
    return {
        ((each["start"] - START.timestamp() * 1000) / 3_600_000, each["group"]): (
            each["low"],
            each["high"],
        )
        for each in drawn(chart)
    }


def test_bars_are_stacked_from_start_to_end():
    """Groups stand on each other, the largest below; each bar is as wide as its window."""
    report = hourly([(0, "a", 10), (0, "b", 5), (1, "b", 1)])

    chart = report.plot()

    assert stacks(chart) == {(0, "a"): (0, 10), (0, "b"): (10, 15), (1, "b"): (0, 1)}
    assert {each["end"] - each["start"] for each in drawn(chart)} == {3_600_000}


def test_window_without_usage_is_a_gap():
    """There is no bar of height 0, and none is as wide as two windows."""
    chart = hourly([(0, "a", 1), (5, "a", 1)]).plot()

    assert sorted(stacks(chart)) == [(0, "a"), (5, "a")]
    assert {each["end"] - each["start"] for each in drawn(chart)} == {3_600_000}


def test_axis_is_as_long_as_the_period_asked_for():
    """What was not used before and after is seen, too."""
    chart = hourly([(3, "a", 1)], start=START, end=START + 24 * HOUR).plot()

    first = START.timestamp() * 1000
    domain = chart.to_dict()["encoding"]["x"]["scale"]["domain"]
    assert domain == [first, first + 24 * 3_600_000]


def test_negative_values_hang_below():
    """A correction is not taken off the bar of another group."""
    chart = hourly([(0, "a", 10), (0, "b", -4), (0, "c", 3), (0, "d", -1)]).plot()

    assert stacks(chart) == {
        (0, "a"): (0, 10),
        (0, "c"): (10, 13),
        (0, "d"): (-1, 0),
        (0, "b"): (-5, -1),
    }


def test_fifty_groups_are_nine_and_the_others():
    """The largest have colours, the legend says how many others there are, and all is drawn."""
    report = hourly([(0, f"m{place:02}", place) for place in range(50)])

    chart = report.plot()

    scale = chart.to_dict()["encoding"]["color"]["scale"]
    assert scale["domain"] == [*(f"m{place}" for place in range(49, 40, -1)), "other (41 more)"]
    assert len(set(scale["range"])) == 10
    assert stacks(chart)[0, "other (41 more)"][1] == sum(range(50))


def test_means_are_neither_stacked_nor_put_together():
    """Each stands at its own height, and those that are left out are only counted."""
    chart = hourly([(0, f"m{place}", place + 0.5) for place in range(12)], meter=MEAN).plot(top=2)

    assert stacks(chart) == {(0, "m11"): (11.5, 11.5), (0, "m10"): (10.5, 10.5)}
    made = chart.to_dict()
    assert made["mark"]["type"] == "rule"
    assert "10 more are not shown" in made["title"]["subtitle"][-1]


def test_without_window_a_bar_for_each_group():
    """Sorted by size, with the others last, however many they are."""
    report = hourly([(0, "a", 1), (0, "b", 20), (0, "c", 3), (0, None, 30)], window=None)

    data = drawn(report.plot(top=2))

    assert [(each["group"], each["high"]) for each in data] == [
        *[("(none)", 30), ("b", 20), ("other (2 more)", 4)]
    ]


def test_groups_of_one_name_stay_apart():
    """A name that holds what stands between two names is no other group's."""
    query = usage_query(group_by=["model", "feature"])
    window = {"window_start": START, "window_end": START + HOUR}
    rows = [
        UsageRow(value=2, group_by={"model": "a / b", "feature": "c"}, **window),
        UsageRow(value=1, group_by={"model": "a", "feature": "b / c"}, **window),
    ]

    data = drawn(UsageReport(query=query, rows=tuple(rows)).plot())

    assert [each["group"] for each in data] == ["a / b / c", "a / b / c (2)"]


def test_money_is_drawn_and_told_exactly():
    """Decimals are drawn, and shown with all their digits, the currency and what has no price."""
    cents = Decimal("0.0543990")
    report = hourly(
        [(0, "a", cents), (0, "b", cents * 2)],
        make=lambda **given: UsageReport(**given, currency="USD", unpriced=3),
    )

    made = report.plot().to_dict()

    data = made["data"]["values"]
    assert [each["value"] for each in data] == ["0.1087980", "0.0543990"]
    assert data[-1]["high"] == float(cents * 3)
    assert made["encoding"]["y"]["axis"]["title"] == "USD per hour"
    assert made["title"]["subtitle"][-1] == "without 3 events of no price"


def test_several_currencies_are_not_stacked():
    """A euro on a dollar would be nothing."""
    amounts = [(0, "EUR", Decimal("0.5")), (0, "USD", Decimal(2))]

    chart = hourly(amounts, meter="cost_total", group_by="currency").plot(top=1)

    assert stacks(chart) == {(0, "USD"): (2, 2)}


def test_axis_shows_the_clocks_of_the_zone():
    """Ticks are round local times: on the day of 25 hours, six hours lie between two once, then seven."""
    found = ticks(START, START + 25 * HOUR, BERLIN, most=5)

    assert found == [
        (START, "25 Oct"),
        (START + 7 * HOUR, "06:00"),
        (START + 13 * HOUR, "12:00"),
        (START + 19 * HOUR, "18:00"),
        (START + 25 * HOUR, "26 Oct"),
    ]


@pytest.mark.parametrize(
    ("span", "labels"),
    [
        pytest.param(timedelta(minutes=9), ["25 Oct", "00:01", "00:02"], id="minutes"),
        pytest.param(timedelta(days=9), ["25 Oct", "26 Oct", "27 Oct"], id="days"),
        pytest.param(timedelta(days=60), ["26 Oct", "2 Nov", "9 Nov"], id="weeks"),
        pytest.param(timedelta(days=200), ["Nov", "Dec", "2027"], id="months"),
        pytest.param(timedelta(days=3000), ["2027", "2028", "2029"], id="years"),
        pytest.param(timedelta(days=30_000), ["2035", "2044", "2053"], id="decades"),
    ],
)
def test_ticks_are_few(span, labels):
    """A dozen at most, whatever the period."""
    found = ticks(START, START + span, BERLIN)

    assert [label for _, label in found][:3] == labels
    assert len(found) <= 13


def test_skipped_hour_has_no_tick():
    """Where clocks go forward, the time they skip is not on the axis."""
    start = datetime(2026, 3, 28, 23, tzinfo=UTC)

    found = ticks(start, start + 5 * HOUR, BERLIN, most=5)

    assert [label for _, label in found] == ["29 Mar", "01:00", "03:00", "04:00", "05:00", "06:00"]


@pytest.mark.parametrize(
    "report",
    [
        pytest.param(hourly([(0, "a", 10), (3, "<b>&", 5)]), id="over time"),
        pytest.param(hourly([(0, "a", 10), (0, "<b>&", 5)], window=None), id="by group"),
        pytest.param(hourly([(0, None, 0)], group_by=()), id="zeros"),
        pytest.param(hourly([(0, "a", 1.5)], meter=MEAN), id="means"),
        pytest.param(hourly([]), id="nothing"),
    ],
)
def test_saved_without_a_browser(report, tmp_path):
    """PNG and SVG are made in this process, and hold a picture with the chart's own words."""
    chart = report.plot()
    chart.save(str(tmp_path / "usage.png"))
    chart.save(str(tmp_path / "usage.svg"))

    png = (tmp_path / "usage.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(png[16:20], "big") > 600  # its width
    texts = {each.text for each in ElementTree.parse(tmp_path / "usage.svg").iter() if each.text}
    assert any(report.query.meter.slug in text for text in texts)
    assert report.rows or "nothing was used" in texts


def test_labels_of_the_axis_are_drawn(tmp_path):
    """What is drawn below the axis are the local times, not those of UTC."""
    hourly([(hour, "a", 10) for hour in range(25)]).plot().save(str(tmp_path / "usage.svg"))

    text = (tmp_path / "usage.svg").read_text()
    shown = re.findall(r">(25 Oct|26 Oct|\d\d:\d\d)<", text)
    assert shown[0] == "25 Oct"
    assert {"06:00", "12:00", "18:00"} <= set(shown)
    assert "22:00" not in shown


@pytest.mark.parametrize("window", ["HOUR", None])
def test_a_notebook_needs_no_network(window):
    """It is shown as a picture that loads nothing, unless another renderer was chosen."""
    chart = hourly([(0, "a", 10)], window=window).plot().properties(width=300)

    shown = chart._repr_mimebundle_(None, None)

    assert set(shown) == {"text/html", "image/svg+xml", "text/plain"}
    assert 'alt="tokens_total (Input and output tokens)"' in shown["text/html"]
    assert re.findall(r"https?:", shown["text/html"]) == []
    assert shown["image/svg+xml"].startswith("<svg")
    assert "href" not in shown["image/svg+xml"]
    with altair.renderers.enable("mimetype"):
        assert "image/svg+xml" not in chart._repr_mimebundle_(None, None)


def test_same_report_same_chart():
    """A chart of the same report is the same, byte for byte."""
    rows = [(hour, model, hour + 1) for hour in range(3) for model in ("a", "b")]

    assert hourly(rows).plot().to_json() == hourly(rows).plot().to_json()


@pytest.mark.parametrize("top", [0, 10, 2.5, "9"])
def test_impossible_number_of_groups(top):
    """What is no number of groups that colours tell apart is refused, and named."""
    with pytest.raises(QueryError, match=f"from 1 to 9, got {top!r}"):
        hourly([(0, "a", 1)]).plot(top=top)


def test_too_many_windows():
    """A chart of bars thinner than a pixel is refused, with what to ask instead."""
    report = hourly([(hour, f"m{group}", 1) for hour in range(2_300) for group in range(9)])

    with pytest.raises(QueryError, match="20,700 bars cannot be read; ask for a larger window"):
        report.plot()


def test_altair_is_asked_for():
    """Without Altair the error says what to install; the report itself needs it for nothing else."""
    program = (
        "import sys; sys.modules['altair'] = None\n"
        "from llm_metering.meters import UsageReport, usage_query\n"
        "report = UsageReport(query=usage_query())\n"
        "report._repr_html_()\n"
        "try: report.plot()\n"
        "except ImportError as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert issubclass(MissingExtraError, ImportError)
    assert done.stdout.strip() == (
        "MissingExtraError altair is not installed; run: pip install 'llm-metering[notebook]'"
    )
