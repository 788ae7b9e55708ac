"""How bills look in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Final

from rich.console import RenderableType
from rich.text import Text

from .render import UNKNOWN, Listing, plain

if TYPE_CHECKING:
    from ..bills import Bill, BillLine
    from ..bills.asking import Bills

__all__ = ["bill_view", "bills_view"]

_WARNING: Final = "bold red"


def bill_view(bill: Bill) -> Iterator[RenderableType]:
    """A bill, with what it cost and what is left."""
    from ..bills.pages import details_of, number

    period = bill.period
    yield Text(
        f"Bill of {plain(bill.subject)}, {_days(period.start, period.end, year=True)} "
        f"({period.time_zone})",
        style="bold",
    )
    yield Text()
    if bill.incomplete:
        yield Text("This bill is incomplete:", style=_WARNING)
        yield from (Text(f"  {plain(reason)}", style=_WARNING) for reason in bill.incomplete)
        yield Text()
    yield Listing(
        ("item", "group", "days", "price"),
        ("quantity", bill.currency),
        [
            (
                plain(line.name),
                _group(line.group),
                _days(line.start, line.end),
                details_of(line),
                "" if line.quantity is None else number(line.quantity),
                number(line.amount),
            )
            for line in bill.lines
        ],
        total=("total", "", "", "", "", number(bill.total)),
    )
    yield from _estimates(bill.lines)
    yield from _left_out(bill)
    yield from _costs(bill)
    yield Text()
    yield Text(f"sha256:{bill.digest}", style="dim")


def bills_view(bills: Bills) -> Iterator[RenderableType]:
    """The totals of many bills."""
    from ..bills.pages import number

    if not bills.bills:
        yield Text("Nobody can be billed for these days")
        return
    yield Listing(
        ("subject", "currency", ""),
        ("total", "cost", "margin"),
        [
            (
                plain(each.subject),
                each.currency,
                "" if each.is_complete else "incomplete",
                number(each.total),
                " + ".join(f"{number(cost)} {code}" for code, cost in each.cost.items()) or "0",
                number(each.margin.amount),
            )
            for each in bills
        ],
    )


def _estimates(lines: Sequence[BillLine]) -> Iterator[RenderableType]:
    from ..bills.pages import number

    for line in lines:
        parts = [
            f"{number(quantity)} {name}"
            for name, quantity in line.provenance.items()
            if name != "reported"
        ]
        if parts:
            group = _group(line.group)
            name = f"{plain(line.name)}, {group}" if group else plain(line.name)
            yield Text(f"of {name}: {', '.join(parts)}", style="dim")


def _left_out(bill: Bill) -> Iterator[RenderableType]:
    from ..bills.pages import WHY_UNBILLED, number

    if bill.unbilled:
        yield Text()
        yield Text("Not charged", style="bold")
        yield Listing(
            ("what", "group", "days", "why"),
            ("quantity",),
            [
                (
                    plain(each.charge or each.meter),
                    _group(each.group),
                    _days(each.start, each.end),
                    WHY_UNBILLED[each.reason],
                    " ".join(filter(None, (number(each.quantity), each.unit))),
                )
                for each in bill.unbilled
            ],
        )
    if bill.unpriced:
        yield Text()
        yield Text("Without a price", style="bold")
        yield Listing(
            ("model", "provider", "why", "of"),
            ("events",),
            [
                (
                    _name(each.model),
                    _name(each.provider),
                    plain(each.why.detail),
                    each.of,
                    f"{each.events:,}",
                )
                for each in bill.unpriced
            ],
        )
    if bill.unknown_usage:
        yield Text()
        yield Text("Calls of unknown usage", style="bold")
        yield Listing(
            ("model", "counts", "ended"),
            ("calls",),
            [
                (_name(each.model), _name(each.provenance), _name(each.status), number(each.calls))
                for each in bill.unknown_usage
            ],
        )


def _costs(bill: Bill) -> Iterator[RenderableType]:
    from ..bills.pages import number

    yield Text()
    yield Text("What the providers charge", style="bold")
    if bill.costs:
        yield Listing(
            ("model", "provider", "source"),
            ("calls", "amount", ""),
            [
                (
                    _name(line.model),
                    _name(line.provider),
                    plain(line.source) if line.source else "",
                    f"{line.calls:,}",
                    number(line.amount),
                    line.currency,
                )
                for line in bill.costs
            ],
        )
    of = "" if bill.is_cost_complete else " of what has a price"
    for currency, amount in bill.cost.items():
        yield Text(f"cost{of}: {number(amount)} {currency}")
    margin = bill.margin
    if margin.amount is None:
        yield Text(f"margin: {UNKNOWN} ({margin.why_not})")
    else:
        percent = "" if margin.percent is None else f", {number(margin.percent)}% of the total"
        yield Text(f"margin: {number(margin.amount)} {bill.currency}{percent}")


def _name(name: str | None) -> str:
    return UNKNOWN if name is None else plain(name)


def _group(values: Mapping[str, str | None]) -> str:
    return ", ".join(_name(value) for value in values.values())


def _days(start: date, end: date, *, year: bool = False) -> str:
    """Days from the first to the last."""
    form = "%Y-%m-%d" if year else "%m-%d"
    return f"{start.strftime(form)} to {(end - timedelta(days=1)).strftime(form)}"
