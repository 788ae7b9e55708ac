"""Numbers, money and times as the reader writes them."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_metering.server.dashboard.words import Words

NOON = datetime(2026, 11, 21, 12, 30, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("accepted", "tag"),
    [
        ("de-DE,de;q=0.9,en;q=0.8", "de-DE"),
        ("xx-nonsense,fr;q=0.5,it;q=0.7", "it"),
        ("en;q=0.1,de;q=0", "en"),
        ("*", "en-US"),
        ("", "en-US"),
        ("pt-BR", "pt-BR"),
        ("zh-Hans-CN", "zh-Hans-CN"),
        ("../../etc/passwd", "en-US"),
        ("de;q=nan", "en-US"),
        ("de;q=2", "en-US"),
        ("<script>", "en-US"),
    ],
)
def test_a_locale_is_the_best_that_the_browser_names(accepted, tag):
    """What is none is passed over."""
    assert Words.for_header(accepted).tag == tag


@given(st.text(max_size=300))
def test_whatever_a_browser_sends_is_no_error(accepted):
    """There is a locale for everybody, and it can write."""
    words = Words.for_header(accepted)
    assert words.number(1234.5)
    assert words.moment(NOON)
    assert words.axis_numbers["decimal"]


@pytest.mark.parametrize(
    ("tag", "number", "short", "money", "share", "moment"),
    [
        ("en-US", "1,234,567.5", "1.23M", "$1,234.50", "12.5%", "Nov 21, 2026, 12:30\u202fPM"),
        ("de-DE", "1.234.567,5", "1,23\xa0Mio.", "1.234,50\xa0$", "12,5%", "21.11.2026, 12:30"),
        ("en-IN", "12,34,567.5", "12.35L", "$1,234.50", "12.5%", "21 Nov 2026, 12:30\u202fpm"),
        (
            *("fr-FR", "1\u202f234\u202f567,5", "1,23\xa0M", "1\u202f234,50\xa0$US"),
            *("12,5%", "21 nov. 2026, 12:30"),
        ),
        ("ja-JP", "1,234,567.5", "123.46万", "$1,234.50", "12.5%", "2026/11/21, 12:30"),
    ],
)
def test_each_reader_has_numbers_and_dates_of_their_own(tag, number, short, money, share, moment):
    """As the Unicode consortium's data say."""
    words = Words.for_header(tag)
    assert words.number(1_234_567.5) == number
    assert words.short(1_234_567.5) == short
    assert words.money(Decimal("1234.5"), "USD") == money
    assert words.percent(0.125) == share
    assert words.moment(NOON) == moment


@given(st.integers(-(10**30), 10**30))
def test_no_digit_of_a_count_is_lost(count):
    """However large it is; and what no page has room for is no error."""
    words = Words.for_header("en")
    assert words.number(count).replace(",", "") == str(count)
    assert words.short(count)
    assert words.number(10**300) == words.number(1e300) == "1e+300"


@given(st.decimals(0, 10**12, places=12))
def test_an_amount_is_never_far_from_what_is_shown(amount):
    """To a coin, and to two digits where it is less than some coins."""
    shown = Words.for_header("en").money(amount, "USD")
    value = Decimal(shown.replace(",", "").removeprefix("$"))
    assert abs(value - amount) <= max(Decimal("0.005"), Decimal("5E-13"))
    if amount >= Decimal("1E-11"):
        assert value > 0
        assert abs(value - amount) <= amount / 10


def test_amounts_of_what_is_no_currency_have_their_name():
    """Credits are no money; and some money has no coins."""
    words = Words.for_header("en")
    assert words.money(Decimal("1.5"), "credits") == "1.5 credits"
    assert words.money(Decimal("1234.6"), "JPY") == "¥1,235"
    assert words.money(None, "USD") == words.number(None) == words.percent(None) == "-"


def test_what_clocks_show_twice_has_its_offset():
    """The hour that comes again at the end of summer."""
    words = Words.for_header("de")
    first = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)
    shown = [words.window(first + timedelta(hours=n), "HOUR", "Europe/Berlin") for n in range(3)]
    assert shown == ["25.10.2026, 02:00 +0200", "25.10.2026, 02:00 +0100", "25.10.2026, 03:00"]
    assert words.window(first, "DAY", "Europe/Berlin") == "25.10.2026"
    assert words.window(first, "MONTH", "Europe/Berlin") == "Okt. 2026"


def test_an_axis_is_labelled_in_the_readers_way():
    """Days, months and times of the day."""
    labels = Words.for_header("en-US").tick_labels
    assert labels.day(date(2026, 11, 2)) == "Nov 2"
    assert labels.month(date(2026, 11, 2)) == "Nov"
    assert labels.clock(NOON) == "12:30\u202fPM"
    assert Words.for_header("de").tick_labels.day(date(2026, 11, 2)) == "2. Nov."
    assert Words.for_header("en-IN").axis_numbers["grouping"][:3] == [3, 2, 2]
