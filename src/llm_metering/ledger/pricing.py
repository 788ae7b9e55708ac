"""Pricing events: what each of them costs, worked out once and kept.

An event is priced by whoever asks for costs next, with the prices of then, and keeps what it was priced
with. It is done for some events at a time, in one transaction with the place up to which that was done. So
a process that dies in between leaves nothing half, and of two that price at once each goes on where the
other has stopped.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ..events import EVENT_TYPE
from ..meters import Book
from ..prices import PriceList
from . import _cost_sums
from ._breaks import Breaks
from ._costs import insert_rows, known_names, number_names, through_of, version_of
from ._files import check_version
from ._handle import Handle
from ._plain import insert_plain, left_over
from ._pricer import BOOKS, Pricer

__all__ = ["AT_ONCE", "CAREFULLY", "PricedNow", "price"]

AT_ONCE: Final = 20_000
"""Events of one transaction, which takes some hundredths of a second: who writes waits for that."""

CAREFULLY: Final = 5_000
"""The same where most are not plain, which takes several times as long."""

_ANY: Final = "SELECT 1 FROM events WHERE rowid > ? AND rowid <= ? AND type = ? LIMIT 1"
_UNPRICED: Final = """
    SELECT count(*) FROM costs WHERE book = ? AND place > ? AND place <= ? AND picos IS NULL
    """
_END: Final = "SELECT ifnull(max(rowid), 0) FROM events"
_MOVE: Final = """
    INSERT INTO price_books (book, through_place) VALUES (?, ?)
    ON CONFLICT (book) DO UPDATE SET through_place = excluded.through_place
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedNow:
    """What a pass over the ledger has done.

    Attributes:
        events: How many events were priced, or found to have no price, by book.
        unpriced: How many of these have none.
    """

    events: Mapping[Book, int]
    unpriced: Mapping[Book, int]


def price(handle: Handle, lists: Mapping[Book, PriceList]) -> PricedNow:
    """Price what has not been priced yet.

    Args:
        handle: The ledger, which is there.
        lists: What models cost, by book; a book without a list is left as it is.

    Raises:
        UnavailableError: If the ledger cannot be written now; what was done until then stays done.
        QueryError: If a list has money in the book of credits, or the other way round.
    """
    with handle.writing():
        pass  # opened for writing, a file of an older schema is brought to ours
    events, unpriced = {}, {}
    for book, prices in lists.items():
        done = _Pass(handle, book, prices)
        done.run()
        events[book], unpriced[book] = done.events, done.unpriced
    return PricedNow(events=events, unpriced=unpriced)


class _Pass:
    """A pass over what one book lacks.

    Args:
        handle: The ledger.
        book: The book.
        prices: Its list.
    """

    def __init__(self, handle: Handle, book: Book, prices: PriceList) -> None:
        self._handle = handle
        self._book = book
        self._prices = prices
        self._pricer: Pricer | None = None
        self._at_once = CAREFULLY
        self.events = 0
        self.unpriced = 0

    def run(self) -> None:
        """Price all there is."""
        breaks = Breaks()
        while self._piece():
            breaks.take_one_if_due()
            # The sums of bills; the others are left to who asks.
            months = BOOKS[self._book], "cost_months"
            _cost_sums.sum_up(self._handle, [months], least=_cost_sums.AT_ONCE)

    def _piece(self) -> bool:
        """Price some events; whether there were any."""
        with self._handle.writing() as writer:
            writer.execute("BEGIN IMMEDIATE")
            check_version(writer)
            behind = through_of(writer, self._book)
            (end,) = writer.execute(_END).fetchone()
            through = min(end, behind + self._at_once)
            if through > behind:
                self._price(writer, (behind, through))
                writer.execute(_MOVE, (BOOKS[self._book], through))
            writer.execute("COMMIT")
        return bool(through > behind)

    def _price(self, writer: sqlite3.Connection, places: tuple[int, int]) -> None:
        book = BOOKS[self._book]
        asked = (*places, EVENT_TYPE)
        if writer.execute(_ANY, asked).fetchone() is None:
            return
        pricer = self._pricer
        if pricer is None:
            cards, kinds = known_names(writer)
            pricer = self._pricer = Pricer(
                self._book, self._prices, cards=cards, kinds=kinds, event_type=EVENT_TYPE
            )
        version = version_of(writer, self._book, self._prices)
        plain = insert_plain(writer, book, version, places, pricer)
        events = left_over(writer, book, places, plain)
        rows = number_names(writer, pricer.rows(events), pricer.cards, pricer.kinds)
        insert_rows(writer, self._book, version, rows)
        self._at_once = AT_ONCE if plain > len(rows) else CAREFULLY
        self.events += plain + len(rows)
        (unpriced,) = writer.execute(_UNPRICED, (book, *places)).fetchone()
        self.unpriced += unpriced
