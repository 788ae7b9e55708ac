"""Bars over time: each window has its place, and none is lost where several share one."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from llm_metering.cli.render import amount
from llm_metering.cli.usage.sparks import Axis, Series, Sparklines, bars, slot_of
from llm_metering.meters import window_bounds

from .conftest import NOON
from .test_render import draw

ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Pacific/Apia"]


@pytest.mark.parametrize(
    ("values", "shown", "in_ascii"),
    [
        pytest.param([1, 4, None, 7], "▂▄·▇", "-+.#", id="scaled by the largest"),
        pytest.param([0, 5], "▁▇", "_#", id="zero is a bar"),
        pytest.param([0, 0], "▁▁", "__", id="nothing but zero"),
        pytest.param([None, None], "··", "..", id="nothing"),
        pytest.param([-3, 0, 3], "▁▄▇", "_=#", id="below zero"),
        pytest.param([10**30, 10**15], "▇▁", "#_", id="huge"),
        pytest.param([0.25, 0.5], "▄▇", "=#", id="fractions"),
    ],
)
def test_bars(values, shown, in_ascii):
    """The highest bar is the largest value; a window without usage is not a small one."""
    assert bars(values) == shown
    assert len(bars(values, ascii_only=True)) == len(in_ascii)
    assert bars(values, ascii_only=True).isascii()


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 1, 1)),
    st.sampled_from(["MINUTE", "HOUR", "DAY", "MONTH"]),
    st.sampled_from(ZONES),
)
def test_windows_side_by_side_have_numbers_side_by_side(moment, window, name):
    """The window after one has the number after its own, whatever clocks do."""
    zone = ZoneInfo(name)
    start, end = window_bounds(moment.replace(tzinfo=UTC), window, zone)

    # Between two days that meet, no number is left out but for a day that clocks skipped.
    after = slot_of(end, window, zone) - slot_of(start, window, zone)
    assert after == 1 or (name, window) == ("Pacific/Apia", "DAY")


def axis(days, **changes):
    """So many days from one on."""
    return Axis(
        **{
            "window": "DAY",
            "zone": UTC,
            "start": NOON,
            "end": NOON.replace(hour=0) + timedelta(days=days),
            **changes,
        }
    )


def series(values, *names):
    """Usage of days from the first on; `None` is none."""
    start = NOON.replace(hour=0)
    known = {start + timedelta(days=n): v for n, v in enumerate(values) if v is not None}
    return Series(names=names or ("acme",), values=known, total=sum(known.values()))


@given(st.lists(st.none() | st.integers(0, 10**9), min_size=1, max_size=90), st.integers(1, 70))
def test_every_window_is_in_a_bar(values, width):
    """However few cells there are, bars are as many at most, and none is empty that has usage."""
    line = axis(len(values)).line(series(values), width, adds_up=True, ascii_only=False)
    each = axis(len(values)).windows_each(width)

    assert len(line) <= width
    pieces = [values[at : at + each] for at in range(0, len(values), each)]
    assert [bar == "·" for bar in line] == [
        all(value is None for value in piece) for piece in pieces
    ]
    assert line == bars(
        [
            None
            if all(value is None for value in piece)
            else sum(value for value in piece if value is not None)
            for piece in pieces
        ]
    )


def test_what_does_not_add_up_is_not_added():
    """Windows of an average share a bar as the largest of them."""
    values = [4, 1, 1, 1, 2, 2]

    assert axis(6).line(series(values), 3, adds_up=True, ascii_only=False) == bars([5, 2, 4])
    assert axis(6).line(series(values), 3, adds_up=False, ascii_only=False) == bars([4, 1, 2])


def lines(*rows, days, number=amount, total=True):
    """Sparklines of groups."""
    together = [
        sum(filter(None, column)) or None for column in zip(*(v for _, v in rows), strict=True)
    ]
    return Sparklines(
        titles=("subject",),
        unit="total",
        series=[series(values, name) for name, values in rows],
        total=series(together, "total") if total else None,
        axis=axis(days),
        number=number,
        adds_up=True,
    )


def test_a_line_for_each_group():
    """A group's total, its bars on a scale of their own, its peak and when that was."""
    drawn = draw(lines(("acme", [1, None, 7]), ("zoo", [None, 3000, 1500]), days=3))

    assert [line.rstrip() for line in drawn.splitlines()] == [
        "subject  total        peak     at",
        "─────────────────────────────────",
        "acme         8  ▂·▇      7  11-23",
        "zoo      4,500  ·▇▄  3,000  11-22",
        "─────────────────────────────────",
        "total    4,508  ▁▇▄  3,000  11-22",
        "",
        "2026-11-21 to 2026-11-23 (UTC); a bar is a day; each line has its own scale",
    ]


@given(
    width=st.integers(20, 140),
    days=st.integers(1, 400),
    rows=st.lists(
        st.tuples(st.text("ab東", min_size=1, max_size=50), st.integers(0, 10**14)),
        min_size=1,
        max_size=3,
    ),
)
def test_no_number_is_cut_whatever_the_width(width, days, rows):
    """Totals are there in full, and no line is longer than the terminal is wide."""
    shown = lines(*((name, [value] + [1] * (days - 1)) for name, value in rows), days=days)

    drawn = draw(shown, width)

    assert max(map(cell_len, drawn.splitlines())) <= width
    flat = re.sub(r"\n", "", drawn)
    for _, value in rows:
        assert f"{value + days - 1:,}" in flat
