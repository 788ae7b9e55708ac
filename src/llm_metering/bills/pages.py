"""A bill as one page of HTML, to be looked at and to be printed.

Every text on it is escaped; it loads nothing and runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..errors import MissingExtraError
from ..prices import Reason
from .bill import Bill, BillLine
from .rounding import decimal_of

if TYPE_CHECKING:
    import jinja2

__all__ = ["WHY_UNBILLED", "details_of", "number", "to_html"]

_TEMPLATE: Final = "bill.html.jinja"

WHY_UNBILLED: Final = {
    "no_plan": "on no plan on these days",
    "no_price": "the charge has no price for it",
    "currency": "it cost something in another currency than the plan's",
    "negative": "the meter says less than nothing",
}
"""Why usage is on no line, for people."""

WHY_UNPRICED: Final[Mapping[Reason, str]] = {
    "unknown_usage": "nobody knows all that it used",
    "inconsistent_usage": "its counts contradict each other",
    "unknown_model": "no price is known",
    "unknown_price": "a part of its price is not known",
    "too_large": "it is more than can be worked out",
    "not_priced": "its price is not worked out yet",
}
"""Why usage has no price, for customers: which price list lacks it is none of their business."""


def to_html(bill: Bill, *, costs: bool = False) -> str:
    """The bill as one page.

    Args:
        bill: The bill.
        costs: Whether it shows costs and margin.

    Raises:
        MissingExtraError: If Jinja is not installed.
    """
    page = _environment().get_template(_TEMPLATE)
    return page.render(
        bill=bill,
        costs=costs,
        why_unbilled=WHY_UNBILLED,
        why_unpriced=WHY_UNPRICED,
        one_day=timedelta(days=1),
    )


@cache
def _environment() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtraError("Jinja", "bills") from error
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    filters: dict[str, Any] = {
        "number": number,
        "group": _group,
        "details": details_of,
        "quantities": _quantities,
    }
    environment.filters.update(filters)
    return environment


def number(value: Decimal | None) -> str:
    """A number to be read by people, with all its digits.

    >>> number(Decimal("1234567.50")), number(None)
    ('1,234,567.50', '-')
    """
    if value is None:
        return "-"
    return format(value, ",f")


def _group(values: Mapping[str, str | None]) -> str:
    return ", ".join(value or "unknown" for value in values.values())


def _quantities(values: Mapping[str, Decimal]) -> str:
    return ", ".join(f"{number(value)} {kind}" for kind, value in values.items())


def details_of(line: BillLine) -> str:
    """How the amount of a line came about, in a few words."""
    if line.kind == "minimum":
        return "up to the minimum of the plan"
    if line.kind == "included":
        return "included in the plan"
    if line.kind == "markup":
        # As percent: 0.2 is 20.
        percent = decimal_of(_percent(line.markup))
        return f"at cost + {number(percent)}%" if percent else "at cost"
    if line.kind in ("fixed", "flat_fee"):
        return f"{number(line.price)} a month" + (_tier(line) if line.is_tier else "")
    per = "" if line.per in (None, 1) else f" per {number(line.per)}"
    return f"{number(line.price)}{per}" + (_tier(line) if line.is_tier else "")


def _percent(markup: Decimal | None) -> Fraction:
    return Fraction(markup or 0) * 100


def _tier(line: BillLine) -> str:
    if line.up_to is None:
        return f", above {number(line.above)}" if line.above else ""
    return f", from {number(line.above)} to {number(line.up_to)}"
