"""Bills made of what the ledger says: of one subject, or of all in one pass."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TYPE_CHECKING, Final

from ..errors import BillError
from ..events import UNATTRIBUTED
from ..meters import MeterDefinition, UsageQuery, UsageRow
from ..prices import Charge
from .bill import Bill, BillPeriod
from .books import Part, PlanBook, month_of
from .making import Answers, make_bill
from .queries import ALL_METERS, queries_of

if TYPE_CHECKING:
    from ..ledger import Ledger

__all__ = ["Bills", "Days", "days_of", "make_bills"]

Days = tuple[date, date]
"""The first day of a bill, and the first day behind it."""

_MONTH: Final = re.compile(r"([0-9]{4})-([0-9]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bills:
    """The bills of many subjects, made of the same moment.

    Attributes:
        bills: The bills, by subject.
        refused: Who cannot be billed though there is usage, with the reason.
    """

    bills: tuple[Bill, ...]
    refused: Mapping[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Bill]:
        return iter(self.bills)

    def __len__(self) -> int:
        return len(self.bills)


def days_of(
    month: str | date | None = None,
    start: str | date | None = None,
    end: str | date | None = None,
) -> Days:
    """The days that a bill is asked for.

    >>> days_of("2026-12")
    (datetime.date(2026, 12, 1), datetime.date(2027, 1, 1))

    Args:
        month: A month such as `2026-11`, or a day of it.
        start: The first day, without a month.
        end: The first day behind; the end of that month if left out.

    Raises:
        BillError: If that is no month and no days of one.
    """
    if (month is None) == (start is None) or (month is not None and end is not None):
        raise BillError('name a month such as "2026-11", or the days by start and end')
    if month is not None:
        return month_of(_day("month", month, _MONTH))
    first = _day("start", start)
    last = month_of(first)[1] if end is None else _day("end", end)
    if not first < last <= month_of(first)[1]:
        raise BillError(
            f"a bill is of days of one month, and from {first} to {last} is none; allowance, "
            "minimum and fees are of months, so ask for a bill of each"
        )
    return first, last


def _day(what: str, value: object, pattern: re.Pattern[str] | None = None) -> date:
    if isinstance(value, str):
        text = f"{value}-01" if pattern and pattern.fullmatch(value) else value
        try:
            return date.fromisoformat(text)
        except ValueError:
            value = None if value is None else value
    elif type(value) is date:
        return value
    wanted = "a month such as 2026-11" if pattern else "a day such as 2026-11-15"
    raise BillError(f"{what} is {wanted}, got {value!r}")


def make_bills(
    ledger: Ledger,
    book: PlanBook,
    days: Days,
    subjects: Iterable[str] | None = None,
    *,
    meters: Mapping[str, MeterDefinition] = ALL_METERS,
    version: int | None = None,
) -> Bills:
    """The bills of subjects, of what the ledger has priced.

    Args:
        ledger: Has the usage.
        book: Has the plans.
        days: Which days, of one month.
        subjects: Who; everybody with a plan or with usage if left out.
        meters: The meters there are, by slug.
        version: Of prices; those that hold now if left out.

    Raises:
        BillError: If one of the subjects that were named cannot be billed.
        LedgerError: If the ledger cannot be read.
        QueryError: If there is no such version of prices.
    """
    named = None if subjects is None else tuple(dict.fromkeys(subjects))
    made: dict[str, Bill] = {}
    refused: dict[str, str] = {}
    for zone, some in _by_zone(book, named).items():
        asking = _Asking(
            ledger, book, BillPeriod(start=days[0], end=days[1], time_zone=zone), meters
        )
        for subject, answers, parts in asking.answers(some, named is not None, version):
            try:
                bill = _checked(subject, book, asking.period, parts, answers, meters, named)
            except BillError as error:
                if named is not None:
                    raise
                refused[subject] = str(error)
            else:
                if bill is not None:
                    made[subject] = bill
    order = sorted(made) if named is None else [each for each in named if each in made]
    return Bills(bills=tuple(made[each] for each in order), refused=dict(sorted(refused.items())))


def _by_zone(book: PlanBook, named: Sequence[str] | None) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for subject in book.subjects if named is None else named:
        found.setdefault(book.time_zone_of(subject), []).append(subject)
    if named is None and not found:
        # Nobody has an assignment; what the default plan says holds for everybody.
        found[book.default_time_zone or "UTC"] = []
    return found


def _checked(
    subject: str,
    book: PlanBook,
    period: BillPeriod,
    parts: Sequence[Part],
    answers: Answers,
    meters: Mapping[str, MeterDefinition],
    named: Sequence[str] | None,
) -> Bill | None:
    if named is None:
        if subject == UNATTRIBUTED and subject not in book.subjects:
            raise BillError("nobody was named to pay for these calls")
        if not answers.rows and not answers.charges and all(each.plan is None for each in parts):
            return None
        # Says that it is on no plan, where it is on none at all.
        zone = book.time_zone_of(subject)
        if zone != period.time_zone:
            return None
    return make_bill(subject, period, parts, answers, meters=meters)


class _Asking:
    def __init__(
        self,
        ledger: Ledger,
        book: PlanBook,
        period: BillPeriod,
        meters: Mapping[str, MeterDefinition],
    ) -> None:
        self.period = period
        self._ledger = ledger
        self._book = book
        self._meters = meters

    def answers(
        self, subjects: Sequence[str], only: bool, version: int | None
    ) -> Iterator[tuple[str, Answers, Sequence[Part]]]:
        """What is known of each subject, all at one moment; of others with usage too, unless only those."""
        start, end = self.period.start, self.period.end
        parts = {subject: self._book.parts(subject, start, end) for subject in subjects}
        others = self._book.parts("", start, end)
        # Many have the same questions: each is asked once.
        different = dict.fromkeys([*parts.values(), *([] if only else [others])])
        queries = list(
            dict.fromkeys(
                query for each in different for query in queries_of(self.period, each, self._meters)
            )
        )
        chosen = tuple(subjects) if only else None
        billing = self._ledger.billing(
            self.period.first_moment,
            self.period.end_moment,
            chosen,
            [replace(query, subjects=chosen) for query in queries],
            version=version,
        )
        rows: dict[str, dict[UsageQuery, list[UsageRow]]] = {}
        for query, report in zip(queries, billing.reports, strict=True):
            for subject, some in _rows_by_subject(report.rows).items():
                rows.setdefault(subject, {})[query] = some
        charges, credits = _by_subject(billing.charges), _by_subject(billing.credits)
        everybody = subjects if only else sorted({*subjects, *rows, *charges})
        for subject in everybody:
            answers = Answers(
                rows=rows.get(subject, {}),
                charges=charges.get(subject, ()),
                credits=credits.get(subject, ()),
                price_version=billing.version,
            )
            yield subject, answers, parts.get(subject, others)


def _rows_by_subject(rows: Iterable[UsageRow]) -> dict[str, list[UsageRow]]:
    found: dict[str, list[UsageRow]] = {}
    for row in rows:
        found.setdefault(row.subject or "", []).append(row)
    return found


def _by_subject(charges: Iterable[Charge]) -> dict[str, list[Charge]]:
    found: dict[str, list[Charge]] = {}
    for charge in charges:
        found.setdefault(charge.subject, []).append(charge)
    return found
