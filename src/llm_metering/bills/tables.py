"""A bill as a table in a notebook; to send it to somebody there is `Bill.to_html`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from ..meters.html import html_table
from .bill import Bill, BillLine
from .pages import WHY_UNBILLED, details_of, number

__all__ = ["bill_table"]

_DAY: Final = timedelta(days=1)


def bill_table(bill: Bill) -> str:
    """The lines and the total, and beneath them what is on no line, the cost and the margin."""
    period = bill.period
    last = period.end - _DAY
    return html_table(
        caption=f"Bill of {bill.subject}, {period.start} to {last} ({period.time_zone})",
        texts=["item", "group", "price"],
        numbers=["quantity", bill.currency],
        rows=[_cells(line) for line in bill.lines],
        total=["total", "", "", "", number(bill.total)],
        notes=_notes(bill),
    )


def _cells(line: BillLine) -> list[str]:
    return [
        line.name,
        ", ".join(value or "unknown" for value in line.group.values()),
        details_of(line),
        "" if line.quantity is None else number(line.quantity),
        number(line.amount),
    ]


def _notes(bill: Bill) -> Iterator[str]:
    for reason in bill.incomplete:
        yield f"Incomplete: {reason}"
    for left in bill.unbilled:
        of = ", ".join(value or "unknown" for value in left.group.values())
        what = " ".join(each for each in (left.unit, left.charge or left.meter, of) if each)
        yield f"Not charged: {number(left.quantity)} {what}: {WHY_UNBILLED[left.reason]}"
    for each in bill.unpriced:
        what = each.model or "no model"
        yield f"No price ({each.of}): {each.events:,} events of {what}; {each.why.detail}"
    for unknown in bill.unknown_usage:
        yield f"Usage unknown: {unknown.calls:,} calls of {unknown.model or 'no model'}"
    costs = " + ".join(f"{number(cost)} {code}" for code, cost in bill.cost.items())
    margin = bill.margin.amount
    rest = "" if margin is None else f", margin {number(margin)} {bill.currency}"
    yield f"Cost of what has a price: {costs or 'nothing'}{rest}"
    yield f"sha256:{bill.digest}"
