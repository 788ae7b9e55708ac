"""What a ledger says of costs: the part of `Ledger` that is about prices."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from ..errors import QueryError
from ..meters import Book, UsageQuery, UsageReport, read_moment
from ..prices import PriceList
from ._cost_parts import sums_of
from ._cost_sums import behind, sum_up
from ._files import UnavailableError, check_version
from ._from_costs import check_price_version
from ._handle import Handle
from ._pricer import BOOKS
from .billing import Billing, PriceVersion, billing, currencies, price_versions
from .pricing import PricedNow
from .pricing import price as price_events
from .repricing import Chosen, Repriced
from .repricing import reprice as reprice_events

__all__ = ["PricedEvents"]


class PricedEvents:
    """What events of a ledger cost: they are priced, priced again, and made bills of.

    Args:
        path: The ledger's file.
        keys: What its events are signed with.
    """

    def __init__(
        self, path: Path, *, keys: Iterable[bytes] = (), time_limit: float | None = None
    ) -> None:
        self.path = path
        self.time_limit = time_limit
        self.keys = tuple(keys)
        self._handle = Handle(path, self.keys)

    def price(self, lists: Mapping[Book, PriceList]) -> PricedNow:
        """Work out what each event costs that has not been priced yet, and keep it.

        What was priced keeps its price, whatever other lists say later; `reprice` prices it anew. It
        takes the ledger for some tenths of a second at a time. If it is broken off, what was done
        stays done.

        Args:
            lists: What models cost, for each book that is to be kept: `cost` in money, `credits` in
                credits.

        Raises:
            QueryError: If a list has money in the book of credits, or the other way round.
            LedgerError: If the file cannot be written, or a newer library wrote it.
        """
        if not self.path.exists():
            return PricedNow(events={}, unpriced={})
        return price_events(self._handle, lists)

    def reprice(
        self,
        prices: PriceList,
        *,
        book: Book = "cost",
        start: datetime | None = None,
        end: datetime | None = None,
        subjects: Iterable[str] | None = None,
        unpriced_only: bool = False,
        dry_run: bool = False,
    ) -> Repriced:
        """Price again what was priced, by another list, under a new version of prices.

        What was said before can still be asked for by its version. Events whose body was pruned are
        left as they are. If it is broken off, what was done stays done; call it again.

        Args:
            prices: What models cost.
            book: What is priced.
            start: First moment that counts, with a time zone.
            end: First moment that no longer counts.
            subjects: Only these; everybody if left out.
            unpriced_only: Only events that have no price.
            dry_run: Say what would change, and change nothing.

        Raises:
            QueryError: If the period is none, or the list has money in the book of credits.
            LedgerError: If the file cannot be written, or a newer library wrote it.
        """
        first, last = read_moment("start", start), read_moment("end", end)
        if first is not None and last is not None and first >= last:
            raise QueryError(f"start ({first}) must be before end ({last})")
        chosen = Chosen(
            start=first,
            end=last,
            subjects=None if subjects is None else tuple(dict.fromkeys(subjects)),
            unpriced_only=unpriced_only,
        )
        if not self.path.exists():
            return Repriced(version=None, events=0, unpriced=0, without_body=0, changes=())
        return reprice_events(self._handle, book, prices, chosen, dry_run=dry_run)

    def billing(
        self,
        start: datetime,
        end: datetime,
        subjects: Iterable[str] | None = None,
        queries: Iterable[UsageQuery] = (),
        *,
        version: int | None = None,
    ) -> Billing:
        """What bills of a period are made of, all as it was at one moment.

        Args:
            start: First moment that counts, with a time zone.
            end: First moment that no longer counts.
            subjects: Only these; everybody if left out.
            queries: Questions that are answered as well.
            version: Of prices, as in `query`.

        Raises:
            QueryError: If the period is none, or as in `query`.
            LedgerError: If the file cannot be read, or a newer library wrote it.
        """
        first, last = read_moment("start", start), read_moment("end", end)
        if first is None or last is None or first >= last:
            raise QueryError(f"start ({first}) must be before end ({last})")
        chosen = None if subjects is None else tuple(dict.fromkeys(subjects))
        queries = tuple(queries)
        if version is None:
            self._sum_up(queries, "cost_months")
        with self._reading() as connection:
            if connection is None:
                if version is not None:
                    check_price_version(None, version)
                return Billing(
                    start=first,
                    end=last,
                    charges=[],
                    credits=[],
                    reports=[UsageReport(query=query) for query in queries],
                    version=0,
                    versions={},
                    waiting={},
                )
            return billing(
                connection, first, last, subjects=chosen, queries=queries, version=version
            )

    def price_versions(self) -> list[PriceVersion]:
        """The versions of prices that events were ever priced with, in order.

        Raises:
            LedgerError: If the file cannot be read, or a newer library wrote it.
        """
        with self._reading() as connection:
            return price_versions(connection) if connection else []

    def currencies(self) -> tuple[str, ...]:
        """The currencies that events were ever priced in, sorted.

        Raises:
            LedgerError: If the file cannot be read, or a newer library wrote it.
        """
        with self._reading() as connection:
            return currencies(connection) if connection else ()

    def _sum_up(self, queries: Iterable[UsageQuery], *tables: str) -> None:
        """Bring up the sums that are read for questions, and more, where they are far behind."""
        wanted = {(book, table) for book in BOOKS.values() for table in tables}
        for query in queries:
            if query.meter.book is not None:
                wanted |= {(BOOKS[query.meter.book], table) for table in sums_of(query)}
        if not wanted:
            return
        with self._reading() as connection:
            lacking = behind(connection, sorted(wanted)) if connection else []
        # A ledger that cannot be written now is answered from as it is, row by row.
        with contextlib.suppress(UnavailableError):
            sum_up(self._handle, lacking)

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        """Lend the ledger as it is at this moment; `None` while nothing was delivered to it."""
        with self._handle.reading() as connection:
            if connection is None:
                yield None
                return
            connection.execute("BEGIN")
            yield connection if check_version(connection) else None
