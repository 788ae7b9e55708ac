"""What a view shows of usage: the numbers, asked at one moment, and the chart and tables of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from fastapi import Response
from starlette.concurrency import run_in_threadpool

from ...ledger import Ledger
from ...meters import METERS, MeterDefinition, UsageQuery, UsageReport
from ..desk import Desk
from ..problems import Refusal
from ..questions import Asked, keys_of, question_of
from ..stored_meters import StoredMeter
from .charts import picture_of, pivot_of
from .pages import Content, Pages
from .shares import shares_of
from .tops import top_of
from .units import unit_of
from .views import PERIODS, View
from .words import Words

__all__ = ["csv_of", "named_meter", "question", "span_of", "usage_panel"]

_CALLS: Final = METERS["calls_total"]
_TOKENS: Final = METERS["tokens_total"]
_BESIDE: Final = (
    ("calls", _CALLS, "provenance"),
    ("tokens", _TOKENS, "provenance"),
    ("by_status", _CALLS, "status"),
)
_MOST_OFFERED: Final = 200
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Figures:
    usage: UsageReport
    total: UsageReport
    before: UsageReport | None
    tops: Mapping[str, UsageReport]
    calls: UsageReport
    tokens: UsageReport
    by_status: UsageReport


async def usage_panel(
    desk: Desk,
    pages: Pages,
    words: Words,
    view: View,
    meter: StoredMeter,
    *,
    tops: Sequence[str] = ("subject", "model"),
    shares: bool = True,
) -> Content:
    """What a page is to show of a view.

    Args:
        desk: Of the home.
        pages: Draw the chart.
        words: Of the reader.
        view: What is shown.
        meter: The view's meter.
        tops: The largest by which of these, as far as the meter has it.
        shares: Whether the reader may see how many calls and tokens there are besides.

    Raises:
        Refusal: If the question makes no sense (400), or cannot be answered now.
    """
    found = await desk.reading.ask(lambda ledger: _figures(desk, ledger, view, meter, tops, shares))
    report = _without_the_only(found.usage)
    unit = unit_of(meter.definition, report.currency)
    title = unit.name + (f" by {view.group_by}" if view.group_by else "")
    empty = not report.rows
    total = found.total.rows[0].value if len(found.total.rows) == 1 else None
    if len(found.total.rows) > 1 and found.total.adds_up:
        total = found.total.total
    ranked = {key: top_of(each, key) for key, each in found.tops.items()}
    subjects = found.tops.get("subject")
    return {
        "unit": unit,
        "total": total,
        "change": _change(total, found.before, words),
        "empty": empty,
        "picture": None if empty else await picture_of(report, title, pages.drawing, words),
        "pivot": None if empty else await run_in_threadpool(pivot_of, report, words),
        "unpriced": report.unpriced,
        "shares": shares_of(found.calls, found.tokens) if shares else None,
        "interrupted": sum(
            row.value for row in found.by_status.rows if row.group_by["status"] == "interrupted"
        ),
        "tops": ranked,
        "known_subjects": sorted({row.subject or "" for row in subjects.rows})[:_MOST_OFFERED]
        if subjects is not None
        else [],
    }


def _figures(
    desk: Desk,
    ledger: Ledger,
    view: View,
    meter: StoredMeter,
    tops: Sequence[str],
    shares: bool,
) -> _Figures:
    own = keys_of(meter.definition)
    asked: dict[str, UsageQuery | None] = {
        "usage": question(meter, view, view.asked(view.group_by, windowed=True)),
        "total": question(meter, view, view.asked()),
        **{
            key: question(meter, view, view.asked(key))
            for key in tops
            if key == "subject" or key in own
        },
    }
    if view.before is not None:
        asked["before"] = question(meter, view, view.asked(span=view.before))
    for name, counting, key in _BESIDE if shares else ():
        asked[name] = _of_calls(counting, view, key)
    queries = [query for query in asked.values() if query is not None]
    answers = iter(desk.reading.usages(ledger, queries))
    reports = {name: next(answers) if query is not None else None for name, query in asked.items()}
    nothing = UsageReport(query=UsageQuery(meter=meter.definition, window=view.window))
    return _Figures(
        usage=reports["usage"] or nothing,
        total=reports["total"] or nothing,
        before=reports.get("before"),
        tops={key: reports[key] or nothing for key in tops if key in reports},
        calls=reports.get("calls") or nothing,
        tokens=reports.get("tokens") or nothing,
        by_status=reports.get("by_status") or nothing,
    )


def _without_the_only(report: UsageReport) -> UsageReport:
    """A report of one subject without its name, which would stand before every group."""
    query = report.query
    if query.subjects is None or len(query.subjects) > 1 or "subject" in query.group_by:
        return report
    return replace(report, query=replace(query, subjects=None))


def _of_calls(counting: MeterDefinition, view: View, key: str) -> UsageQuery | None:
    stored = StoredMeter(id=counting.slug, definition=counting, name=counting.slug)
    return question(stored, view, view.asked(key, keys=keys_of(counting)))


def _change(total: Any, before: UsageReport | None, words: Words) -> str | None:
    """How much more or less than before, where that can be said."""
    if before is None or total is None or not before.adds_up or not before.rows:
        return None
    was = before.total
    if was <= 0:
        return None
    change = float(total) / float(was) - 1
    sign = "+" if change >= 0 else "-"
    return f"{sign}{words.percent(abs(change))} against"


async def csv_of(desk: Desk, view: View, meter: StoredMeter) -> Response:
    """The usage that a view shows, as CSV.

    Raises:
        Refusal: As `usage_panel`.
    """
    query = question(meter, view, view.asked(view.group_by, windowed=True))

    def written(ledger: Ledger) -> str:
        if query is None:
            return UsageReport(query=UsageQuery(meter=meter.definition)).to_csv()
        return _for_spreadsheets(desk.reading.usage(ledger, query).to_csv())

    headers = {"Content-Disposition": f'attachment; filename="{meter.slug}.csv"'}
    text = await desk.reading.ask(written)
    return Response(text, media_type="text/csv; charset=utf-8", headers=headers)


def _for_spreadsheets(text: str) -> str:
    """CSV in which no text is a formula (https://owasp.org/www-community/attacks/CSV_Injection).

    Who sends usage names subjects and models, and somebody else opens the file.
    """
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    for row in csv.reader(io.StringIO(text, newline="")):
        # The value is the last one, and a number.
        writer.writerow(
            [f"'{each}" if each.startswith(_FORMULA) else each for each in row[:-1]] + row[-1:]
        )
    return written.getvalue()


def named_meter(meters: Sequence[StoredMeter], slug: str) -> StoredMeter:
    """The meter of a slug.

    Raises:
        Refusal: If there is none (400).
    """
    for each in meters:
        if each.slug == slug:
            return each
    raise Refusal(400, f"there is no meter {slug[:100]}")


def question(meter: StoredMeter, view: View, asked: Asked) -> UsageQuery | None:
    """The question of a view to the ledger; `None` if the meter counts nothing of its period.

    Raises:
        QueryError: If it makes no sense.
        Refusal: If the meter has no such key (400).
    """
    query = question_of(meter, asked)
    if query is None:
        return None
    # Values of a view are named one by one, so that nothing has to be looked up for them.
    filters = tuple((key, view.filters[key]) for key in asked.conditions)
    return replace(query, filters=filters)


def span_of(view: View, words: Words) -> str:
    """What a view's period is called in a sentence."""
    title = PERIODS.get(view.period)
    if title is not None:
        low = f"{title[0].lower()}{title[1:]}"
        return {"last month": low, "this month": low, "all time": f"of {low}"}.get(
            low, f"in the {low}"
        )
    parts = [
        f"{word} {words.moment(moment, view.time_zone)}"
        for word, moment in (("from", view.start), ("until", view.end))
        if moment is not None
    ]
    return " ".join(parts)
