"""`UsageReport._repr_html_`: a report as a notebook shows it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from llm_metering.meters import MeterDefinition, UsageReport, UsageRow, usage_query

HOUR = timedelta(hours=1)
START = datetime(2026, 10, 24, 23, tzinfo=UTC)  # an hour before Berlin's clocks go back


class Page(HTMLParser):
    """The text of each cell, of the caption and of the paragraphs, as a browser would show it."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open = [], []
        self.rows, self.caption, self.paragraphs = [], "", []
        self.styles = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open.append(tag)
        self.styles.setdefault(tag, []).append(dict(attrs).get("style", ""))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "p":
            self.paragraphs.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
        elif "caption" in self.open:
            self.caption += data
        elif "p" in self.open:
            self.paragraphs[-1] += data


def report_of(values, *, make=UsageReport, **asked):
    """A report with one row an hour for each value, of the subject or model it is keyed by."""
    query = usage_query(**asked)
    rows = [
        UsageRow(
            value=value,
            window_start=START + place * HOUR,
            window_end=START + (place + 1) * HOUR,
            subject="acme" if query.by_subject else None,
            group_by=dict.fromkeys(query.keys, name),
        )
        for place, (name, value) in enumerate(values)
    ]
    return make(query=query, rows=tuple(rows))


def test_table_has_a_row_for_each_row():
    """Windows in the query's zone, names, values with separators, the sum, and a caption."""
    report = report_of(
        [("gpt-5", 1_234_567), ("gpt-5-mini", 8), (None, 1)],
        window="HOUR",
        group_by=["subject", "model"],
        start=START,
        time_zone="Europe/Berlin",
    )

    page = Page(report._repr_html_())

    assert page.caption == (
        "tokens_total (Input and output tokens), from 2026-10-25 01:00 (Europe/Berlin)"
    )
    assert page.rows == [
        ["hour (Europe/Berlin)", "subject", "model", "tokens_total"],
        ["2026-10-25 01:00", "acme", "gpt-5", "1,234,567"],
        ["2026-10-25 02:00 +0200", "acme", "gpt-5-mini", "8"],
        ["2026-10-25 02:00 +0100", "acme", "(none)", "1"],
        ["total", "", "", "1,234,576"],
    ]


def test_names_are_text():
    """What subjects, models and filters are called is shown, and never markup or a trick."""
    name = "<script>alert(1)</script>&\u202egpt"
    report = report_of([(name, 1)], group_by="model", filters={"feature": name}, subject=name)

    page = Page(report._repr_html_())

    shown = r"<script>alert(1)</script>&\u202egpt"
    assert "script" not in page.tags
    assert [name for _, name, _ in page.rows[1:2]] == [shown]
    assert page.caption.count(shown) == 2


def test_numbers_stand_right_and_text_left():
    """Also where the page's own style sheet has it otherwise, as JupyterLab's has."""
    report = report_of([("gpt-5", 1)], group_by="model")

    page = Page(report._repr_html_())

    assert [style.split(";")[0] for style in page.styles["td"]] == [
        *["text-align: left", "text-align: right"],
        *["text-align: left", "text-align: right"],
    ]


def test_no_colour_of_its_own():
    """A table takes the colours of the theme around it, so that it can be read in light and dark."""
    text = report_of([("gpt-5", 1)], group_by="model")._repr_html_()

    styles = " ".join(style for styles in Page(text).styles.values() for style in styles)
    assert "#" not in styles
    assert "background" not in styles
    assert styles.replace("currentColor", "").count("olor") == 0


def test_long_report_is_cut_in_its_middle():
    """Sixty rows are shown, the first and the last, and how many are between them is said."""
    report = report_of([(f"m{place}", 1) for place in range(1_100)], group_by="model")

    page = Page(report._repr_html_())

    assert len(page.rows) == 1 + 60 + 1 + 1
    assert [row[0] for row in page.rows[30:33]] == ["m29", "… 1,040 more rows …", "m1070"]
    assert page.rows[-1] == ["total", "1,100"]
    assert "to_pandas()" in page.paragraphs[-1]


def test_values_that_do_not_add_up_have_no_total():
    """A mean of means would be no mean."""
    mean = MeterDefinition(slug="mean_ms", aggregation="AVG", value_property="$.duration_ms")

    page = Page(report_of([("a", 1.5), ("b", 2.5)], meter=mean, group_by="model")._repr_html_())

    assert page.rows[-1] == ["b", "2.5"]


def test_money_is_written_in_full():
    """Decimals keep their digits, their currency is named, and what has no price is counted."""
    report = report_of(
        [("gpt-5", Decimal("0.0543990")), ("gpt-5-mini", Decimal("1E-7"))],
        make=lambda **given: UsageReport(**given, currency="USD", unpriced=1_203),
        group_by="model",
    )

    page = Page(report._repr_html_())

    assert page.rows[0] == ["model", "tokens_total (USD)"]
    assert [row[-1] for row in page.rows[1:]] == ["0.0543990", "0.0000001", "0.0543991"]
    assert page.paragraphs == ["1,203 events have no price, and no part in these figures."]


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        pytest.param({}, "llm-metering doctor", id="everything"),
        pytest.param(
            {"subject": "acme", "start": START}, "Ask without start and end, subject", id="narrow"
        ),
    ],
)
def test_empty_report_says_so(asked, hint):
    """A report without rows says that nothing was used, and what to try."""
    page = Page(report_of([], **asked)._repr_html_())

    assert page.rows == []
    assert page.paragraphs[0].endswith("nothing was used.")
    assert any(each.startswith(hint) for each in page.paragraphs[1:])


def test_several_currencies_have_no_total():
    """Amounts of several currencies stand beside each other."""
    amounts = [("EUR", Decimal("0.5")), ("USD", Decimal(2))]

    page = Page(report_of(amounts, meter="cost_total", group_by="currency")._repr_html_())

    assert page.rows[1:] == [["EUR", "0.5"], ["USD", "2"]]


def test_nothing_priced_is_not_nothing_used():
    """Usage without a price leaves a report of money without rows, and that is what it says."""
    report = report_of([], make=lambda **given: UsageReport(**given, unpriced=2))

    page = Page(report._repr_html_())

    assert page.paragraphs[0].endswith("nothing has a price.")
    assert page.paragraphs[1] == "2 events have no price, and no part in these figures."
