"""Pricing events: what each of them costs, worked out once and kept.

An event is priced by whoever asks for costs next, with the prices of then, and keeps what it was priced
with. It is done for some events at a time: they are read and priced while nobody waits, and written in
one transaction with the sums and the place up to which that was done. So a process that dies in between
leaves nothing half, and of two that price at once one finds the place moved and goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ..events import EVENT_TYPE
from ..meters import Book
from ..prices import PriceList
from ._costs import (
    add_sums,
    insert_rows,
    known_names,
    number_names,
    through_of,
    version_of,
)
from ._files import check_version
from ._handle import Handle
from ._pricer import BOOKS, EVENT_COLUMNS, Pricer

__all__ = ["AT_ONCE", "PricedNow", "price"]

AT_ONCE: Final = 20_000
"""Events of one transaction, which takes two to three tenths of a second: who writes waits for that.
Of fewer, each page of the sums is written for fewer events."""

_EVENTS: Final = f"""
    SELECT {EVENT_COLUMNS.replace("payload", "CAST(payload AS BLOB)")} FROM events
    WHERE rowid > :behind AND rowid <= :through AND type = :type ORDER BY rowid
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
        events[book], unpriced[book] = _price(handle, book, prices)
    return PricedNow(events=events, unpriced=unpriced)


def _price(handle: Handle, book: Book, prices: PriceList) -> tuple[int, int]:
    pricer: Pricer | None = None
    events = unpriced = 0
    while True:
        with handle.reading() as reader:
            assert reader is not None
            reader.execute("BEGIN")
            check_version(reader)
            behind, (end,) = through_of(reader, book), reader.execute(_END).fetchone()
            if behind >= end:
                return events, unpriced
            if pricer is None:
                cards, kinds = known_names(reader)
                pricer = Pricer(book, prices, cards=cards, kinds=kinds, event_type=EVENT_TYPE)
            through = min(end, behind + AT_ONCE)
            asked = {"behind": behind, "through": through, "type": EVENT_TYPE}
            found: list[Any] = reader.execute(_EVENTS, asked).fetchall()
        rows = pricer.rows(found)
        with handle.writing() as writer:
            writer.execute("BEGIN IMMEDIATE")
            check_version(writer)
            if through_of(writer, book) != behind:
                # Somebody else has priced them.
                writer.execute("ROLLBACK")
                pricer = None
                continue
            numbered = number_names(writer, rows, pricer.cards, pricer.kinds)
            if numbered:
                version = version_of(writer, book, prices)
                insert_rows(writer, book, version, numbered)
                add_sums(writer, book, behind, through, version=version)
            writer.execute(_MOVE, (BOOKS[book], through))
            writer.execute("COMMIT")
        events += len(rows)
        unpriced += sum(row[5] is None for row in rows)
