"""Pricing events: what each of them costs, worked out once and kept.

An event is priced by whoever asks for costs next, with the prices of then, and keeps what it was priced
with. It is done for some events at a time: they are read and priced while nobody waits, and written in
one transaction with the place up to which that was done. So a process that dies in between leaves nothing
half, and of two that price at once one finds the place moved and goes on from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import TIMEOUT_MAX
from typing import Any, Final, NamedTuple

from ..events import EVENT_TYPE
from ..handoff import result_of
from ..meters import Book
from ..prices import PriceList
from . import _cost_sums
from ._costs import (
    ROW_COLUMNS,
    insert_rows,
    known_names,
    number_names,
    through_of,
    version_of,
)
from ._files import check_version
from ._handle import Handle
from ._pricer import BOOKS, EVENT_COLUMNS, Priced, Pricer

__all__ = ["AT_ONCE", "PricedNow", "price"]

AT_ONCE: Final = 20_000
"""Events of one transaction, which takes some hundredths of a second: who writes waits for that."""

_EVENTS: Final = f"""
    SELECT {EVENT_COLUMNS.replace("payload", "CAST(payload AS BLOB)")} FROM events
    WHERE rowid > :behind AND rowid <= :through AND type = :type ORDER BY rowid
    """
_PICOS: Final = ROW_COLUMNS.index("picos")
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


class _Piece(NamedTuple):
    """Some events, priced and not yet written.

    Attributes:
        behind: The place before the first.
        through: The last place.
        rows: What they cost.
    """

    behind: int
    through: int
    rows: list[Priced]


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
        self.events = 0
        self.unpriced = 0

    def run(self) -> None:
        """Price all there is. Of many pieces one is written while the next is worked out."""
        with ThreadPoolExecutor(1, "llm-metering-price") as other:
            writing: Future[bool] | None = None
            behind: int | None = None
            while True:
                piece, is_last = self._next(behind)
                if writing is not None and not result_of(writing, TIMEOUT_MAX):
                    # Somebody else has priced some of it.
                    piece, is_last = self._next(None)
                if piece is None:
                    return
                piece = self._numbered(piece)
                behind = piece.through
                if not is_last:
                    writing = self._begun(other, piece)
                    continue
                writing = None
                if not self._write(piece):
                    behind = None

    def _begun(self, other: ThreadPoolExecutor, piece: _Piece) -> Future[bool]:
        """The writing of a piece, begun, or done where no thread can be: when the interpreter ends."""
        try:
            return other.submit(self._write, piece)
        except RuntimeError:
            done: Future[bool] = Future()
            done.set_result(self._write(piece))
            return done

    def _next(self, behind: int | None) -> tuple[_Piece | None, bool]:
        """The next piece, and whether it is the last; `None` if there is none.

        Args:
            behind: Where it begins; as the ledger says if left out.
        """
        with self._handle.reading() as reader:
            assert reader is not None
            reader.execute("BEGIN")
            check_version(reader)
            if behind is None:
                behind = through_of(reader, self._book)
            (end,) = reader.execute(_END).fetchone()
            if behind >= end:
                return None, True
            if self._pricer is None:
                cards, kinds = known_names(reader)
                self._pricer = Pricer(
                    self._book, self._prices, cards=cards, kinds=kinds, event_type=EVENT_TYPE
                )
            through = min(end, behind + AT_ONCE)
            asked = {"behind": behind, "through": through, "type": EVENT_TYPE}
            found: list[Any] = reader.execute(_EVENTS, asked).fetchall()
        return _Piece(behind, through, self._pricer.rows(found)), through == end

    def _numbered(self, piece: _Piece) -> _Piece:
        """The piece with numbers for what was new in it, which are the ledger's from now on."""
        assert self._pricer is not None
        cards, kinds = self._pricer.cards, self._pricer.kinds
        if not cards.new and not kinds.new:
            return piece
        with self._handle.writing() as writer:
            writer.execute("BEGIN IMMEDIATE")
            check_version(writer)
            rows = number_names(writer, piece.rows, cards, kinds)
            writer.execute("COMMIT")
        return piece._replace(rows=rows)

    def _write(self, piece: _Piece) -> bool:
        """Write a piece; whether nobody else did so before."""
        behind, through, rows = piece
        with self._handle.writing() as writer:
            writer.execute("BEGIN IMMEDIATE")
            check_version(writer)
            if through_of(writer, self._book) != behind:
                writer.execute("ROLLBACK")
                return False
            if rows:
                version = version_of(writer, self._book, self._prices)
                insert_rows(writer, self._book, version, rows)
            writer.execute(_MOVE, (BOOKS[self._book], through))
            writer.execute("COMMIT")
        # The sums of bills are made while the next piece is priced; the others are left to who asks.
        months = BOOKS[self._book], "cost_months"
        _cost_sums.sum_up(self._handle, [months], least=_cost_sums.AT_ONCE)
        self.events += len(rows)
        self.unpriced += sum(row[_PICOS] is None for row in rows)
        return True
