"""A bill as JSON and CSV.

In CSV, a text that begins with a sign with which spreadsheets begin a formula has an apostrophe
before it, and so has one that begins with an apostrophe: each text has one form and is no formula
(https://owasp.org/www-community/attacks/CSV_Injection). JSON has all texts as they are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from ..meters import rfc3339
from ..meters.frames import csv_cell
from .beside import CostLine, Unbilled, UnpricedUsage
from .bill import Bill, BillLine
from .rounding import decimal_of

__all__ = ["COLUMNS", "digest_of", "text_of", "to_csv", "to_dict", "to_json"]

COLUMNS: Final = (
    *("subject", "line", "kind", "name", "plan", "plan_from", "from", "to", "meter", "group"),
    *("quantity", "reported", "partial", "estimated", "unknown", "price", "per", "above", "up_to"),
    *("markup", "exact", "amount", "currency"),
)
"""The columns of the CSV text."""

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "'")


def text_of(number: Decimal | None) -> str | None:
    """A number without an exponent.

    >>> text_of(Decimal("1E+2")), text_of(Decimal("0.50"))
    ('100', '0.50')
    """
    return None if number is None else format(number, "f")


def digest_of(bill: Bill) -> str:
    """SHA-256 of the bill's JSON, its keys sorted, in ASCII and without blanks."""
    canonical = json.dumps(_content(bill), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def to_dict(bill: Bill) -> dict[str, Any]:
    """The bill as JSON has it, its digest last."""
    return {**_content(bill), "digest": f"sha256:{bill.digest}"}


def to_json(bill: Bill) -> str:
    """The bill as JSON text, in ASCII."""
    return json.dumps(to_dict(bill), indent=2) + "\n"


def to_csv(bill: Bill) -> str:
    """The lines of the bill as CSV text, and behind them what is on none."""
    rows = [",".join(COLUMNS)]
    for place, line in enumerate(bill.lines, 1):
        shown = _line(line)
        stated = shown.get("provenance", {})
        cells = {
            **shown,
            **{key: stated.get(key) for key in ("reported", "partial", "estimated", "unknown")},
            "subject": bill.subject,
            "line": place,
            "group": _named(line.group),
            "currency": bill.currency,
        }
        rows.append(_row(cells))
    rows += [_row({"subject": bill.subject, **cells}) for cells in _beside(bill)]
    return "".join(f"{row}\n" for row in rows)


def _beside(bill: Bill) -> Iterator[dict[str, Any]]:
    """What is on no line. It has neither the number of a line nor an amount: nobody charges it."""
    for left in bill.unbilled:
        yield {
            **_unbilled(left),
            "kind": "unbilled",
            "name": left.charge,
            "group": _named({"reason": left.reason, **left.group}),
            "currency": left.unit,
        }
    for unknown in bill.unknown_usage:
        about = {"model": unknown.model, "provenance": unknown.provenance, "status": unknown.status}
        yield {
            "kind": "unknown_usage",
            "meter": "calls_total",
            "group": _named(about),
            "quantity": text_of(unknown.calls),
        }
    for each in bill.unpriced:
        about = {"provider": each.provider, "model": each.model, "provenance": each.provenance}
        yield {
            "kind": "unpriced",
            "name": each.why.detail,
            # How much it is, nobody knows: the quantity stays empty.
            "meter": f"{each.of}_total",
            "group": _named({**about, "events": str(each.events)}),
        }


def _named(group: Mapping[str, str | None]) -> str:
    return "; ".join(f"{key}={value or ''}" for key, value in group.items())


def _row(cells: Mapping[str, Any]) -> str:
    return ",".join(_cell(cells.get(column)) for column in COLUMNS)


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return csv_cell(f"'{text}" if text.startswith(_FORMULA) else text)


def _content(bill: Bill) -> dict[str, Any]:
    period = bill.period
    return {
        "subject": bill.subject,
        "period": {
            "from": period.start.isoformat(),
            "to": period.end.isoformat(),
            "time_zone": period.time_zone,
            "first_moment": rfc3339(period.first_moment),
            "end_moment": rfc3339(period.end_moment),
        },
        "currency": bill.currency,
        "lines": [_line(line) for line in bill.lines],
        "total": text_of(bill.total),
        "incomplete": list(bill.incomplete),
        "unbilled": [_unbilled(each) for each in bill.unbilled],
        "unknown_usage": [
            {
                "model": each.model,
                "provenance": each.provenance,
                "status": each.status,
                "calls": text_of(each.calls),
            }
            for each in bill.unknown_usage
        ],
        "cost": {
            "is_complete": bill.is_cost_complete,
            "amounts": {currency: text_of(amount) for currency, amount in bill.cost.items()},
            "lines": [_cost(line) for line in bill.costs],
        },
        "unpriced": [_unpriced(each) for each in bill.unpriced],
        "margin": {
            "amount": text_of(bill.margin.amount),
            "percent_of_total": text_of(bill.margin.percent),
            "why_not": bill.margin.why_not,
        },
    }


def _line(line: BillLine) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "kind": line.kind,
        "name": line.name,
        "plan": line.plan,
        "plan_from": line.plan_from.isoformat(),
        "from": line.start.isoformat(),
        "to": line.end.isoformat(),
    }
    if line.meter is not None:
        shown |= {"meter": line.meter, "group": dict(line.group)}
    for key, number in (
        ("quantity", line.quantity),
        ("per", line.per),
        ("price", line.price),
        ("markup", line.markup),
    ):
        if number is not None:
            shown[key] = text_of(number)
    if line.is_tier:
        shown |= {"above": text_of(line.above), "up_to": text_of(line.up_to)}
    if line.provenance:
        shown["provenance"] = _texts(line.provenance)
    return {**shown, "exact": text_of(decimal_of(line.exact)), "amount": text_of(line.amount)}


def _texts(numbers: Mapping[str, Decimal]) -> dict[str, str | None]:
    return {key: text_of(number) for key, number in numbers.items()}


def _unbilled(each: Unbilled) -> dict[str, Any]:
    return {
        "reason": each.reason,
        "from": each.start.isoformat(),
        "to": each.end.isoformat(),
        "plan": each.plan,
        "charge": each.charge,
        "meter": each.meter,
        "group": dict(each.group),
        "quantity": text_of(each.quantity),
        "unit": each.unit,
    }


def _cost(line: CostLine) -> dict[str, Any]:
    since = line.effective_from
    return {
        "provider": line.provider,
        "model": line.model,
        "service_tier": line.service_tier,
        "above_input_tokens": line.above_input_tokens,
        "source": line.source,
        "effective_from": since and rfc3339(since),
        "calls": line.calls,
        "events": line.events,
        "kinds": [
            {
                "kind": each.kind,
                "quantity": text_of(each.quantity),
                "price": text_of(each.price),
                "amount": text_of(each.amount),
            }
            for each in line.kinds
        ],
        "currency": line.currency,
        "amount": text_of(line.amount),
    }


def _unpriced(each: UnpricedUsage) -> dict[str, Any]:
    return {
        "of": each.of,
        "provider": each.provider,
        "model": each.model,
        "provenance": each.provenance,
        "reason": each.why.reason,
        "detail": each.why.detail,
        "calls": each.calls,
        "events": each.events,
        "quantities": _texts(each.quantities),
    }
