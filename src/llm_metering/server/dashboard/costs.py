"""`/costs`: what calls cost, what is charged for them, and what is left."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from ...bills import Bill
from ...bills.asking import Bills
from ...meter import Meter
from ..desk import Desk, ReaderOfAll, TheDesk
from ..parameters import check_parameters
from ..problems import Refusal
from .inside import InsidePages
from .pages import Content
from .panel import named_meter, usage_panel
from .views import Defaults, read_view

__all__ = ["Month", "month_of", "router"]

router = APIRouter(include_in_schema=False)

_MONTH: Final = re.compile(r"(?!0000)([0-9]{4})-(0[1-9]|1[0-2])")
_MOST_BILLS: Final = 100
_NOT_HERE: Final = 501


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """A month, and those beside it.

    Attributes:
        text: Such as `2026-11`.
        first: Its first day.
        before: The month before.
        after: The one behind.
    """

    text: str
    first: date
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sum:
    """What bills of one currency come to."""

    currency: str
    charged: Decimal
    cost: Decimal
    margin: Decimal | None
    unknown: int


def month_of(text: str | None, today: date) -> Month:
    """The month of a text; this one, if there is none.

    Raises:
        Refusal: If it is no month (400).
    """
    text = text or f"{today:%Y-%m}"
    if not _MONTH.fullmatch(text) or not 1970 <= int(text[:4]) < 9990:
        raise Refusal(400, "month is one such as 2026-11")
    first = date(int(text[:4]), int(text[5:]), 1)
    number = first.year * 12 + first.month - 1
    before, after = (f"{each // 12:04}-{each % 12 + 1:02}" for each in (number - 1, number + 1))
    return Month(text=text, first=first, before=before, after=after)


@router.get("/costs")
async def costs(
    request: Request, desk: TheDesk, pages: InsidePages, _caller: ReaderOfAll
) -> Response:
    """Of a month, in the time zones of the plans. Needs `read`, of everybody."""
    now = desk.now()
    check_parameters(request, ["month"])
    month = month_of(request.query_params.get("month"), now.date())
    words = pages.words(request)
    known: dict[str, Any] = {"title": "Costs", "is_inside": True, "now": now, "month": month}

    async def work() -> Content:
        parameters = [
            ("meter", "cost_total"),
            ("from", f"{month.text}-01"),
            ("to", f"{month.after}-01"),
            ("windowSize", "DAY"),
        ]
        view = read_view(parameters, Defaults(meter="cost_total"), now)
        found: dict[str, Any] = {"view": view, "cost_problem": None}
        try:
            meter = named_meter(await run_in_threadpool(desk.meters.all), "cost_total")
            found.update(await usage_panel(desk, pages, words, view, meter))
        except Refusal as refusal:
            found["cost_problem"] = refusal.detail
        return {**found, **await _bills(desk, month)}

    return await pages.answer(request, "costs", known, work)


async def _bills(desk: Desk, month: Month) -> Content:
    def made(meter: Meter) -> Bills:
        return meter.bills(month.text, allow_incomplete=True)

    try:
        found = await desk.allowance.ask(made)
    except Refusal as refusal:
        has_plans = desk.meter.settings.plans is not None
        problem = refusal.detail if has_plans or refusal.status != _NOT_HERE else None
        return {"bills": None, "bill_problem": problem, "sums": []}
    ranked = sorted(found, key=lambda bill: (-bill.total, bill.subject))
    return {
        "bills": ranked[:_MOST_BILLS],
        "bill_problem": None,
        "sums": _sums(ranked),
        "refused": dict(list(found.refused.items())[:_MOST_BILLS]),
        "refused_count": len(found.refused),
        "left_out": max(len(ranked) - _MOST_BILLS, 0),
    }


def _sums(bills: Sequence[Bill]) -> list[_Sum]:
    """What they come to, by currency; a margin that nobody can say is not in the sum, and is counted."""
    found = []
    for currency in sorted({bill.currency for bill in bills}):
        some = [bill for bill in bills if bill.currency == currency]
        margins = [bill.margin.amount for bill in some]
        known = [each for each in margins if each is not None]
        found.append(
            _Sum(
                currency=currency,
                charged=sum((bill.total for bill in some), Decimal(0)),
                cost=sum((bill.cost.get(currency, Decimal(0)) for bill in some), Decimal(0)),
                margin=sum(known, Decimal(0)) if known else None,
                unknown=len(some) - len(known),
            )
        )
    return found
