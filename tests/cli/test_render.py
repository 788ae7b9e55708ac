"""How text, numbers and lists look: nothing is interpreted, no number is cut."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from llm_metering.cli.render import Listing, duration, plain


def draw(renderable, width=80):
    """What a terminal of that width shows, on a console that interprets what it may."""
    out = io.StringIO()
    Console(file=out, width=width).print(renderable)
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("größe 東京 [red]:smile:", "größe 東京 [red]:smile:", id="visible"),
        pytest.param("a\x1b[31mb", r"a\x1b[31mb", id="terminal command"),
        pytest.param("a\r\nb\tc", r"a\r\nb\tc", id="line break"),
        pytest.param("a\u202eb", r"a\u202eb", id="reversed writing"),
        pytest.param("a\u200bb", r"a\u200bb", id="invisible"),
        pytest.param("a\udcffb", r"a\udcffb", id="lone surrogate"),
        pytest.param("", '""', id="empty"),
        pytest.param(" a", '" a"', id="leading space"),
    ],
)
def test_text_is_shown_and_nothing_else(text, shown):
    """Whatever could act on the terminal, or be taken for something else, is made visible."""
    assert plain(text) == shown


@given(st.text())
def test_every_text_becomes_printable(text):
    """No text whatsoever sends a control character to the terminal."""
    assert plain(text).isprintable()
    assert plain(text)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3661, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_durations_have_two_units(seconds, shown):
    """An age is read at a glance."""
    assert duration(seconds) == shown


def test_a_listing_as_a_table():
    """Text stands left, numbers right, the sums apart."""
    listing = Listing(
        ("subject", "model"),
        ("input", "calls"),
        [("acme", "gpt", "1,200", "3"), ("[b]x[/b] :smile:", "-", "5", "11")],
        total=("total", "", "1,205", "14"),
    )

    assert draw(listing) == (
        "subject           model  input  calls\n"
        "─────────────────────────────────────\n"
        "acme              gpt    1,200      3\n"
        "[b]x[/b] :smile:  -          5     11\n"
        "─────────────────────────────────────\n"
        "total                    1,205     14\n"
    )


@pytest.mark.parametrize("width", [25, 40])
def test_long_text_is_wrapped_and_numbers_are_not(width):
    """In a narrow terminal a long name takes several lines, in full."""
    listing = Listing(("subject",), ("input",), [("x" * 70, "1,234,567,890")])

    drawn = draw(listing, width)

    assert "1,234,567,890" in drawn
    assert drawn.count("x") == 70
    assert "─" in drawn
    assert max(map(cell_len, drawn.splitlines())) <= width


def test_a_list_with_a_lead_is_never_wrapped():
    """A slug in two halves cannot be copied: each row is a block where the list is too wide."""
    listing = Listing(("meter", "value"), (), [("tokens_total", "$.total_tokens")], lead=1)

    assert draw(listing, width=28).splitlines()[2:] == ["tokens_total  $.total_tokens"]
    assert draw(listing, width=27).splitlines() == ["tokens_total", "  value  $.total_tokens"]


def test_numbers_wider_than_the_terminal_become_blocks():
    """Where a table would have to cut numbers, each row is a block of lines."""
    listing = Listing(
        ("subject", "model"), ("input", "output"), [("acme", "gpt", "1,234", "5,678")], None
    )

    assert draw(listing, width=24) == "acme / gpt\n  input   1,234\n  output  5,678\n"


@given(
    width=st.integers(min_value=30, max_value=140),
    rows=st.lists(
        st.tuples(st.text("ab 東", max_size=40), *[st.integers(0, 10**11)] * 6),
        min_size=1,
        max_size=4,
    ),
)
def test_no_number_is_ever_cut(width, rows):
    """Whatever the width, every number of every row is there in full, and no line is too long."""
    cells = [(plain(name), *(f"{number:,}" for number in numbers)) for name, *numbers in rows]
    listing = Listing(("subject",), [f"column{n}" for n in range(6)], cells)

    drawn = draw(listing, width)

    shown = re.findall(r"(?<![\d,a-z])\d[\d,]*", drawn)
    assert sorted(shown) == sorted(cell for row in cells for cell in row[1:])
    assert max(map(cell_len, drawn.splitlines())) <= width
