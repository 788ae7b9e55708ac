"""`Biller`: bills by the settings: their plans, their prices, their ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Final, TypeAlias

from ..errors import ConfigurationError, LedgerError
from .asking import Bills, Days, days_of, make_bills
from .books import PlanBook
from .plan_files import read_plans

if TYPE_CHECKING:
    from ..ledger import Ledger
    from ..meters import Book
    from ..prices import PriceList
    from ..settings import Settings

_TRIES: Final = 3

ListsOf: TypeAlias = "Callable[..., Mapping[Book, PriceList]]"

__all__ = ["PATIENCE", "Biller", "bills_of"]

PATIENCE: Final = 10.0
"""Seconds in which the ledger should have what was recorded."""


def bills_of(
    settings: Settings,
    ledger: Ledger | None,
    take_in: Callable[[float], bool],
    lists_of: ListsOf,
    subjects: Iterable[str] | None = None,
    month: str | date | None = None,
    *,
    start: str | date | None = None,
    end: str | date | None = None,
    version: int | None = None,
    allow_incomplete: bool = False,
) -> Bills:
    """The bills of a meter, everything that it recorded so far included; `Meter.bills`.

    Args:
        settings: The meter's.
        ledger: Its ledger, if it is on.
        take_in: Brings the ledger what was recorded, in so many seconds; whether nothing was left.
        lists_of: Opens the prices of books.
        subjects: Who.
        month: Which month.
        start: The first day.
        end: The first day behind.
        version: Of prices.
        allow_incomplete: Whether they are made although something was left.

    Raises:
        LedgerError: If the ledger is off, or lacks usage.
    """
    if ledger is None:
        raise LedgerError("the ledger is switched off, so there is nothing to bill")
    biller = Biller(settings, ledger)
    # Before anybody waits: what is wrong in a file is said at once.
    biller.plans()
    lists = lists_of("cost", "credits") if version is None else {}
    if not take_in(PATIENCE) and not allow_incomplete:
        raise LedgerError(
            "the ledger has not taken all that was recorded, so bills would be short; "
            "`llm-metering status` says why; allow_incomplete=True bills what there is"
        )
    return biller.bills(lists, subjects, month, start=start, end=end, version=version)


class Biller:
    """Makes bills.

    Args:
        settings: Name the plans and the prices.
        ledger: Has the usage.
    """

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger

    def plans(self) -> PlanBook:
        """The plans as their file has them now.

        Raises:
            ConfigurationError: If no file is named.
            PlanError: If it cannot be used.
        """
        if self._settings.plans is None:
            raise ConfigurationError(
                "plans", "no file of plans is named; set LLM_METERING_PLANS, or plans in the file"
            )
        return read_plans(self._settings.plans, self._settings.meters)

    def bills(
        self,
        lists: Mapping[Book, PriceList],
        subjects: Iterable[str] | None = None,
        month: str | date | None = None,
        *,
        start: str | date | None = None,
        end: str | date | None = None,
        version: int | None = None,
    ) -> Bills:
        """Work out what has no price yet, and make the bills.

        Args:
            lists: The prices, by book.
            subjects: Who; everybody if left out.
            month: Which month.
            start: The first day, without a month.
            end: The first day behind.
            version: Of prices; nothing is worked out then.

        Raises:
            ConfigurationError: As `plans`.
            PlanError: As `plans`.
            BillError: As `make_bills` and `days_of`.
            LedgerError: As `make_bills`.
            QueryError: As `make_bills`.
        """
        days: Days = days_of(month, start, end)
        book = self.plans()
        named = None if subjects is None else tuple(subjects)
        for _ in range(_TRIES):
            if lists:
                self._ledger.price(lists)
            made = make_bills(
                self._ledger,
                book,
                days,
                named,
                meters=self._settings.meters,
                version=version,
            )
            # What is recorded in between has no price yet, and would make a bill incomplete.
            if not (lists and any(bill.has_unseen_usage for bill in made)):
                break
        return made
