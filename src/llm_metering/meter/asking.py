"""The part of `Meter` that can be asked: usage, what it cost, and bills."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Final

from ..backends import Backends
from ..errors import LedgerError
from ..price_books import PriceBooks
from ..settings import Settings
from ..sinks.base import Sink

if TYPE_CHECKING:
    from ..bills import Bill, Bills
    from ..ledger import Ledger
    from ..meters import Book, MeterDefinition, UsageReport
    from ..prices import PriceList

__all__ = ["FLUSH_TIMEOUT", "Asking"]

FLUSH_TIMEOUT: Final = 10.0


class Asking:
    """What is asked; the rest of the meter has the parts that it is made of."""

    settings: Settings
    _ledger: Ledger | None
    _books: PriceBooks
    _backends: Backends

    def _ship(self, sink: Sink, timeout: float) -> bool:
        """Bring a sink what was recorded; whether nothing was left."""
        raise NotImplementedError

    @property
    def prices(self) -> PriceList:
        """What models cost, by the settings `prices` and `price_source`; read when it is first used.

        Raises:
            PriceError: If something in a file is wrong; the message names the line.
            MissingExtraError: If prices are to come from what is not installed.
        """
        return self._books.prices

    @property
    def credits(self) -> PriceList | None:
        """How many credits tokens are worth, by the setting `prices`; `None` if no file says.

        Raises:
            PriceError: As in `prices`.
        """
        return self._books.credits

    def take_in(self, timeout: float = FLUSH_TIMEOUT) -> bool:
        """Bring into the ledger what the journal holds of this and of finished processes.

        Args:
            timeout: Seconds.

        Returns:
            Whether nothing was left.

        Raises:
            LedgerError: If the ledger is switched off.
        """
        if self._ledger is None:
            raise LedgerError("the ledger is switched off; usage is kept where your sinks keep it")
        return self._ship(self._ledger, timeout)

    def price(self, *books: Book) -> None:
        """Work out what the events in the ledger cost that nobody has priced yet.

        `usage` does so before it answers for costs.

        Args:
            *books: `cost`, `credits`; the former if left out.

        Raises:
            LedgerError: If the ledger is switched off or cannot be written.
            PriceError: As in `prices`.
            MissingExtraError: As in `prices`.
        """
        if self._ledger is None:
            raise LedgerError("the ledger is switched off; what usage costs is kept nowhere else")
        self._books.price(self._ledger, *(books or ("cost",)))

    def usage(
        self,
        meter: str | MeterDefinition = "tokens_total",
        subject: str | Iterable[str] | None = None,
        window: str | None = None,
        start: datetime | str | None = None,
        end: datetime | str | None = None,
        group_by: str | Iterable[str] = (),
        time_zone: str = "UTC",
        *,
        filters: Mapping[str, str | Iterable[str]] | None = None,
        allow_incomplete: bool = False,
        backend: str | None = None,
    ) -> UsageReport:
        """What was used, everything this process recorded so far included.

        An OpenMeter server shows some seconds later what it has acknowledged.

        Args:
            meter: Slug of a meter: `tokens_total`, `tokens_input`, `tokens_output`,
                `tokens_cached`, `tokens_reasoning`, `calls_total`, one of the setting `meters`, or,
                of the ledger alone, `cost_total` and `credits_total`, whose values are `Decimal`;
                or a `MeterDefinition` that is in no setting.
            subject: One or several subjects; all of them if left out.
            window: `MINUTE`, `HOUR`, `DAY` or `MONTH`; one row for the whole time if left out.
            start: First moment that counts: an aware datetime, or ISO 8601 with an offset.
            end: First moment that no longer counts.
            group_by: `subject`, `model`, `provider`, `operation`, `framework`, `provenance`,
                `status`, a dimension, or another key of the events' `data`.
            time_zone: Where hours, days and months begin: a name of the IANA database.
            filters: By such a key, the value or values of which an event must have one; `""` for a
                key that it lacks.
            allow_incomplete: Answer even while the back end does not take what was recorded.
            backend: Who answers: `ledger`, or the name of an OpenMeter sink, whose server is asked.
                Left out, the ledger, and where that is off the only such sink.

        Raises:
            QueryError: If the question makes no sense, or the server's meter cannot answer it.
            LedgerError: If the ledger is switched off, or does not take what was recorded: the
                answer would be short.
            RemoteUsageError: If the server does not take what was recorded, gives no answer, or
                counts something else under the meter's name.
        """
        from ..meters import usage_query

        query = usage_query(
            meter,
            subject=subject,
            window=window,
            start=start,
            end=end,
            group_by=group_by,
            filters=filters,
            time_zone=time_zone,
            meters=self.settings.meters,
        )
        return self._backends.usage(query, backend, allow_incomplete=allow_incomplete)

    def bill(
        self,
        subject: str,
        month: str | date | None = None,
        *,
        start: str | date | None = None,
        end: str | date | None = None,
        version: int | None = None,
        allow_incomplete: bool = False,
    ) -> Bill:
        """What a subject owes, by the plans of the setting `plans`.

        Args:
            subject: Who pays.
            month: A month such as `2026-11`, in the time zone of the subject's plan.
            start: Without a month, the first day; the last one is of the same month.
            end: The first day behind; the next month's if left out.
            version: Costs by this version of the prices; by the last one if left out.
            allow_incomplete: Make it even while the ledger does not take what was recorded.

        Raises:
            ConfigurationError: If no plans are named.
            PlanError: If the plans cannot be used; it names the line.
            PriceError: If the prices cannot be used; it names the line.
            BillError: If the subject cannot be billed for these days.
            LedgerError: If the ledger is switched off, or does not take what was recorded: the bill
                would be short.
            QueryError: If there is no such version of the prices.
        """
        made = self.bills(
            month,
            subjects=[subject],
            start=start,
            end=end,
            version=version,
            allow_incomplete=allow_incomplete,
        )
        return made.bills[0]

    def bills(
        self,
        month: str | date | None = None,
        *,
        subjects: Iterable[str] | None = None,
        start: str | date | None = None,
        end: str | date | None = None,
        version: int | None = None,
        allow_incomplete: bool = False,
    ) -> Bills:
        """What many subjects owe, made in one pass; who cannot be billed is named with the reason.

        Args:
            month: As in `bill`.
            subjects: Who; everybody with a plan or with usage if left out.
            start: As in `bill`.
            end: As in `bill`.
            version: As in `bill`.
            allow_incomplete: As in `bill`.

        Raises:
            ConfigurationError: As in `bill`.
            PlanError: As in `bill`.
            PriceError: As in `bill`.
            BillError: If these are no days of one month, or a subject that was named cannot be billed.
            LedgerError: As in `bill`.
            QueryError: As in `bill`.
        """
        from ..bills.biller import bills_of

        return bills_of(
            self.settings,
            self._ledger,
            self.take_in,
            self._books.lists_of,
            subjects,
            month,
            start=start,
            end=end,
            version=version,
            allow_incomplete=allow_incomplete,
        )
