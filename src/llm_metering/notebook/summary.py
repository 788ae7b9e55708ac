"""`CellUsage`: what a cell used and cost, as it is shown below it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from ..errors import CallRefusedError
from ..events import UsageEvent
from ..meters.html import html_table
from ..meters.labels import UNKNOWN, amount, plain
from ..prices import Cost, Unpriced
from .budget import Budget, total_of

__all__ = ["CellUsage"]

_COUNTS: Final[Mapping[str, str]] = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cached": "cache_read_input_tokens",
}
"""The columns of counts; what was read from a cache is part of the input."""

_Known = tuple[UsageEvent, Cost | Unpriced]


@dataclass(frozen=True, kw_only=True, repr=False)
class CellUsage:
    """What one cell used.

    Attributes:
        subject: Who was to pay.
        dimensions: What usage is grouped by besides.
        calls: The calls that are over, each with what it cost.
        in_flight: How many are not over.
        refusals: What was raised in place of calls.
        budget: What the cell was allowed to spend, if that was bounded.
    """

    subject: str
    dimensions: Mapping[str, str]
    calls: Sequence[_Known]
    in_flight: int = 0
    refusals: Sequence[CallRefusedError] = ()
    budget: Budget | None = None

    @property
    def spent(self) -> dict[str, Decimal]:
        """What is known to have been spent, by currency."""
        return total_of(cost for _, cost in self.calls)

    @property
    def unpriced(self) -> int:
        """How many of the calls have no known cost."""
        return sum(isinstance(cost, Unpriced) for _, cost in self.calls)

    def __repr__(self) -> str:
        lines = [self._caption()]
        if self.calls:
            texts, numbers, rows, total = self._table()
            lines += _as_text([*texts, *numbers], [*rows, *([total] if total else [])], len(texts))
        return "\n".join([*lines, *self._notes()])

    def _repr_html_(self) -> str:
        texts, numbers, rows, total = self._table()
        if not self.calls:
            texts = numbers = ()
        return html_table(
            caption=self._caption(),
            texts=texts,
            numbers=numbers,
            rows=rows,
            total=total,
            notes=self._notes(),
        )

    def _caption(self) -> str:
        named = "".join(f", {plain(key)}={plain(name)}" for key, name in self.dimensions.items())
        made = self.calls or self.in_flight
        return f"This cell, paid by {plain(self.subject)}{named}" + ("" if made else ": no calls")

    def _table(self) -> tuple[Sequence[str], Sequence[str], list[list[str]], list[str] | None]:
        groups: dict[tuple[str, str], list[_Known]] = {}
        for event, cost in self.calls:
            model = event.model or event.request_model
            name = plain(model) if model else f"({plain(event.unit or 'no model')})"
            groups.setdefault((name, event.subject), []).append((event, cost))
        is_paid_by_others = any(payer != self.subject for _, payer in groups)
        is_all_reported = all(event.provenance == "reported" for event, _ in self.calls)
        has_units = any(event.quantity is not None for event, _ in self.calls)
        texts = ["model", *(["paid by"] if is_paid_by_others else [])]
        if not is_all_reported:
            texts.append("counts")
        numbers = ["calls", *_COUNTS, *(["other units"] if has_units else []), "cost"]

        def cells(known: Sequence[_Known]) -> list[str]:
            events = [event for event, _ in known]
            calls = sum(event.data().get("calls", 0) for event in events)
            return [
                amount(calls),
                *(_count(events, name) for name in _COUNTS.values()),
                *([_units(events)] if has_units else []),
                _cost(known),
            ]

        rows = []
        for (name, payer), known in sorted(groups.items()):
            row = [name, *([plain(payer)] if is_paid_by_others else [])]
            if not is_all_reported:
                row.append(_provenance(known))
            rows.append([*row, *cells(known)])
        total = None
        if len(rows) > 1:
            total = ["total", *[""] * (len(texts) - 1), *cells(self.calls)]
        return texts, numbers, rows, total

    def _notes(self) -> Iterator[str]:
        ended = Counter(event.status for event, _ in self.calls)
        odd = [f"{count:,} {status}" for status, count in ended.items() if status != "completed"]
        if odd:
            yield f"Of these calls, not completed: {', '.join(sorted(odd))}."
        missing = sum(event.provenance == "missing" for event, _ in self.calls)
        if missing:
            yield f"{_number(missing, 'call')} of unknown usage: the counts above are without it."
        reasons = Counter(cost.detail for _, cost in self.calls if isinstance(cost, Unpriced))
        for why, count in sorted(reasons.items()):
            yield f"Without a price: {count:,}, since {plain(why)}."
        if self.in_flight:
            still = "is" if self.in_flight == 1 else "are"
            yield (
                f"{_number(self.in_flight, 'call')} {still} still in flight, and not in these "
                "figures: usage() has them once they are over."
            )
        yield from self._budget_notes()

    def _budget_notes(self) -> Iterator[str]:
        if self.budget is not None:
            currency = self.budget.currency
            spent = self.spent.get(currency or "", Decimal(0))
            left = self.budget.amount - spent
            how = f"{amount(left)} left" if left >= 0 else f"{amount(-left)} over it"
            known = "at least " if self.unpriced else ""
            yield (
                f"Budget {amount(self.budget.amount)}{f' {currency}' if currency else ''}: "
                f"{known}{amount(spent)} spent, {how}."
            )
        for why, count in Counter(str(each) for each in self.refusals).items():
            yield f"Refused {'once' if count == 1 else f'{count:,} times'}: {plain(why)}."


def _number(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def _count(events: Iterable[UsageEvent], name: str) -> str:
    known = [
        count
        for event in events
        if event.usage is not None and (count := getattr(event.usage, name)) is not None
    ]
    return amount(sum(known)) if known else UNKNOWN


def _units(events: Iterable[UsageEvent]) -> str:
    sums: dict[str, Decimal] = {}
    for event in events:
        if event.quantity is not None:
            unit = event.unit or ""
            sums[unit] = sums.get(unit, Decimal(0)) + Decimal(str(event.quantity))
    return ", ".join(f"{amount(number)} {plain(unit)}" for unit, number in sorted(sums.items()))


def _cost(known: Iterable[_Known]) -> str:
    costs = [cost for _, cost in known]
    sums = total_of(costs)
    unpriced = sum(isinstance(cost, Unpriced) for cost in costs)
    parts = [f"{amount(money)} {currency}" for currency, money in sorted(sums.items())]
    if unpriced == len(costs):
        return "no price"
    if unpriced:
        parts.append(f"{unpriced:,} without a price")
    return " + ".join(parts) or "0"


def _provenance(known: Iterable[_Known]) -> str:
    found = Counter(event.provenance for event, _ in known)
    if len(found) == 1:
        return next(iter(found))
    return ", ".join(f"{count:,} {name}" for name, count in sorted(found.items()))


def _as_text(titles: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> list[str]:
    lines = [titles, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place < texts else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
