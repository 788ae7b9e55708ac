"""`Reading`: the ledger, asked in threads of its own, so that no question keeps events from coming in."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from ..errors import (
    CatalogueError,
    LedgerError,
    MeterError,
    MissingExtraError,
    PriceError,
    QueryError,
)
from ..ledger import Ledger
from ..meter import Meter
from ..meters import UsageQuery, UsageReport
from .problems import Refusal
from .threads import Threads

__all__ = ["Reading"]

AT_ONCE: Final = 4
"""Questions that are worked on at once; others wait for their turn."""

MOST_WAITING: Final = 64
"""Questions that wait; who comes then is told to come again."""

TIME_LIMIT: Final = 30.0
"""Seconds for an answer: whoever asks has gone by then, and others wait for the thread."""

T = TypeVar("T")


class Reading:
    """What the ledger of a home says.

    Args:
        meter: Of the home.
    """

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._path = meter.settings.home / "ledger.db"
        self._threads = Threads("reading", at_once=AT_ONCE, most_waiting=MOST_WAITING)
        self._mine = threading.local()

    def __repr__(self) -> str:
        return f"<Reading {self._path}>"

    async def ask(self, function: Callable[[Ledger], T]) -> T:
        """What a function makes of the ledger, worked out in one of the threads.

        Raises:
            Refusal: If the question makes no sense (400), too many wait (503), the ledger cannot be
                read now (503), or there is none here (501).
        """
        if not self._meter.settings.ledger:
            raise Refusal(501, "this server keeps no ledger; ask where its sinks keep usage")
        return await self._threads.run(lambda: self._worked_out(function))

    def usage(self, ledger: Ledger, query: UsageQuery) -> UsageReport:
        """Answer a question in a function that `ask` was given; what costs are asked for is priced first.

        Raises:
            QueryError: If the question makes no sense.
            LedgerError: If the ledger cannot be read.
        """
        return self.usages(ledger, [query])[0]

    def usages(self, ledger: Ledger, queries: Sequence[UsageQuery]) -> list[UsageReport]:
        """Answer several questions at one moment, as `usage` does one.

        Raises:
            QueryError: If a question makes no sense.
            LedgerError: If the ledger cannot be read.
        """
        books = sorted({query.meter.book for query in queries if query.meter.book is not None})
        if books:
            # What could not be priced now is told of in the report.
            with contextlib.suppress(LedgerError):
                self._meter.price(*books)
        return ledger.query_all(queries)

    def close(self) -> None:
        """End the threads, when the questions under way are answered."""
        self._threads.close()

    def _worked_out(self, function: Callable[[Ledger], T]) -> T:
        ledger = getattr(self._mine, "ledger", None)
        if ledger is None:
            # Of one object one question is answered at a time.
            ledger = self._mine.ledger = Ledger(self._path, time_limit=TIME_LIMIT)
        try:
            return function(ledger)
        except (QueryError, MeterError) as error:
            raise Refusal(400, str(error)) from error
        except (PriceError, MissingExtraError) as error:
            raise Refusal(503, "the server's prices cannot be used now") from error
        except (LedgerError, CatalogueError) as error:
            raise Refusal(
                503, "the ledger cannot be read now", headers={"Retry-After": "5"}
            ) from error
