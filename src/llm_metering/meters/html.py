"""Reports as HTML tables, as a notebook shows them.

Nothing in them has a colour of its own: JupyterLab's style sheet gives tables those of its theme,
light or dark, and other pages give theirs. What matters, such as on which side numbers stand, is in
`style` attributes, since a page that does not trust its notebook drops `<style>` elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import chain
from typing import TYPE_CHECKING, Final

from .labels import amount, period_label, plain, window_label
from .windows import time_zone_of

if TYPE_CHECKING:
    from .queries import UsageQuery
    from .reports import UsageReport, UsageRow

__all__ = [
    "MOST_ROWS",
    "about",
    "cells_of",
    "html_table",
    "period_of",
    "report_html",
    "text_titles",
    "value_title",
]

MOST_ROWS: Final = 60
"""A report that is longer is shown by its first and its last rows."""

_CAPTION: Final = "caption-side: top; text-align: left; padding: 0 0 0.4em 0; white-space: nowrap"
_TEXT: Final = "text-align: left; vertical-align: top; white-space: pre-wrap"
_NUMBER: Final = "text-align: right; vertical-align: top; white-space: nowrap; font-variant-numeric: tabular-nums"
_SUM: Final = "; font-weight: bold; border-top: 1px solid currentColor"
_LEFT_OUT: Final = "text-align: center; opacity: 0.7"
_NOTE: Final = "margin: 0.3em 0 0 0; max-width: 60em"

Row = Sequence[str]


def html_table(
    *,
    caption: str,
    texts: Sequence[str],
    numbers: Sequence[str],
    rows: Iterable[Row],
    total: Row | None = None,
    notes: Iterable[str] = (),
    left_out: tuple[int, int] | None = None,
) -> str:
    """A table as HTML; all that is handed over is text, and shown as text.

    Args:
        caption: What stands above it.
        texts: Titles of the columns of text.
        numbers: Titles of the columns of numbers, which stand right of the others.
        rows: The cells of each row.
        total: The cells of the last row, which stands apart.
        notes: Sentences below it.
        left_out: After how many rows how many are left out.
    """
    styles = [_TEXT] * len(texts) + [_NUMBER] * len(numbers)
    after, hidden = left_out or (-1, 0)

    def cells(row: Row, tag: str, more: str = "") -> str:
        made = (
            f'<{tag} style="{style}{more}">{escape(cell)}</{tag}>'
            for cell, style in zip(row, styles, strict=True)
        )
        return f"<tr>{''.join(made)}</tr>"

    def body() -> Iterator[str]:
        for place, row in enumerate(rows):
            if place == after:
                yield (
                    f'<tr><td colspan="{len(styles)}" style="{_LEFT_OUT}">'
                    f"… {hidden:,} more {'row' if hidden == 1 else 'rows'} …</td></tr>"
                )
            yield cells(row, "td")

    foot = "" if total is None else f"<tfoot>{cells(total, 'td', _SUM)}</tfoot>"
    return (
        f'<div><table><caption style="{_CAPTION}">{escape(caption)}</caption>'
        f"<thead>{cells([*texts, *numbers], 'th')}</thead>"
        f"<tbody>{''.join(body())}</tbody>{foot}</table>{_paragraphs(notes)}</div>"
    )


def report_html(report: UsageReport) -> str:
    """The work of `UsageReport._repr_html_`."""
    query = report.query
    caption = f"{about(query)}, {period_of(query)}"
    notes = list(_notes(report))
    if not report.rows:
        hints = [*notes, *_hints(query)]
        found = "nothing was used." if not notes else "nothing has a price."
        return f"<div><p>{escape(caption)}: <b>{found}</b></p>{_paragraphs(hints)}</div>"
    texts = list(text_titles(query))
    hidden = len(report.rows) - MOST_ROWS
    half = MOST_ROWS // 2
    left_out = None
    rows: Iterable[UsageRow] = report.rows
    if hidden > 0:
        rows = chain(report.rows[:half], report.rows[-half:])
        left_out = (half, hidden)
        notes.append("to_pandas(), to_polars(), to_arrow() and to_csv() have all rows.")
    total = None
    if report.adds_up and texts:
        total = ["total", *[""] * (len(texts) - 1), amount(report.total)]
    return html_table(
        caption=caption,
        texts=texts,
        numbers=[value_title(report)],
        rows=(cells_of(query, row) for row in rows),
        total=total,
        notes=notes,
        left_out=left_out,
    )


def about(query: UsageQuery) -> str:
    """What a question is about, in words: the meter, and whose usage of what."""
    parts = [query.meter.slug]
    if query.meter.description:
        parts.append(f" ({query.meter.description})")
    if query.subjects is not None:
        parts.append(f" of {_few(query.subjects)}")
    for key, values in query.filters:
        parts.append(f", {plain(key)} {_few(values)}")
    return "".join(parts)


def period_of(query: UsageQuery) -> str:
    """The period of a question, and its zone."""
    if query.start is None and query.end is None:
        return f"all time ({query.time_zone})"
    return period_label(query.start, query.end, query.time_zone)


def value_title(report: UsageReport) -> str:
    """What to call the values of a report: its meter, and the currency of money."""
    currency = report.currency
    slug = report.query.meter.slug
    return f"{slug} ({plain(currency)})" if currency else slug


def _few(names: Sequence[str], most: int = 5) -> str:
    shown = [plain(name) if name else "(none)" for name in names[:most]]
    more = len(names) - most
    return " or ".join(shown) + (f" or {more:,} more" if more > 0 else "")


def text_titles(query: UsageQuery) -> Iterator[str]:
    """Titles of the columns that name a row."""
    if query.window is not None:
        yield f"{query.window.lower()} ({query.time_zone})"
    if query.by_subject:
        yield "subject"
    for key in query.keys:
        yield plain(key)


def cells_of(query: UsageQuery, row: UsageRow) -> list[str]:
    """The cells of a row: its names, and its value."""
    cells = []
    if query.window is not None:
        cells.append(window_label(row.window_start, query.window, time_zone_of(query.time_zone)))
    if query.by_subject:
        cells.append("" if row.subject is None else plain(row.subject))
    for key in query.keys:
        name = row.group_by.get(key)
        cells.append("(none)" if name is None else plain(name))
    return [*cells, amount(row.value)]


def _notes(report: UsageReport) -> Iterator[str]:
    unpriced = report.unpriced
    if unpriced:
        events = "1 event has" if unpriced == 1 else f"{unpriced:,} events have"
        yield f"{events} no price, and no part in these figures."


def _hints(query: UsageQuery) -> Iterator[str]:
    asked = [
        name
        for name, given in (
            ("start and end", query.start or query.end),
            ("subject", query.subjects),
            ("filters", query.filters),
        )
        if given
    ]
    if asked:
        yield f"Ask without {', '.join(asked)} to see what there is."
    yield (
        "llm-metering doctor looks for what would lose usage here, and llm-metering status shows "
        "what was recorded and where it is."
    )


def _paragraphs(sentences: Iterable[str]) -> str:
    return "".join(f'<p style="{_NOTE}">{escape(each)}</p>' for each in sentences)
