"""The price lists that the settings name, opened when costs are asked for, and the ledger priced by them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from .settings import Settings

if TYPE_CHECKING:
    from .ledger import Ledger
    from .meters import Book
    from .prices import PriceList

__all__ = ["PriceBooks"]


class PriceBooks:
    """The lists of a configuration, each opened once.

    Args:
        settings: Name the user's own files, and where other prices come from.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._lists: dict[Book, PriceList | None] = {}

    @property
    def prices(self) -> PriceList:
        """What models cost.

        Raises:
            PriceError: If something in a file is wrong; the message names the line.
            MissingExtraError: If prices are to come from what is not installed.
        """
        found = self._list("cost")
        assert found is not None
        return found

    @property
    def credits(self) -> PriceList | None:
        """How many credits tokens are worth; `None` if no file says.

        Raises:
            PriceError: As `prices`.
        """
        return self._list("credits")

    def list_of(self, book: Book) -> PriceList | None:
        """The list of a book; `None` if nothing has been said about prices at all.

        Raises:
            PriceError: As `prices`.
            MissingExtraError: As `prices`.
        """
        if book == "credits":
            return self.credits
        from .prices.genai import is_installed

        settings = self._settings
        nowhere = settings.price_source == "off" or (
            settings.price_source == "auto" and not is_installed()
        )
        # Priced by nothing, events would have to be priced again as soon as there is something.
        return None if nowhere and not settings.prices else self.prices

    def price(self, ledger: Ledger, *books: Book) -> None:
        """Price what the ledger has and nobody has priced; a book without a list stays as it is.

        Raises:
            PriceError: As `prices`.
            MissingExtraError: As `prices`.
            QueryError: If a list has money in the book of credits, or the other way round.
            LedgerError: If the ledger cannot be written now.
        """
        lists = self.lists_of(*books)
        if lists:
            ledger.price(lists)

    def lists_of(self, *books: Book) -> dict[Book, PriceList]:
        """The lists of those books that have one.

        Raises:
            PriceError: As `prices`.
            MissingExtraError: As `prices`.
        """
        return {book: found for book in books if (found := self.list_of(book)) is not None}

    def _list(self, book: Book) -> PriceList | None:
        # Here, not above: most processes ask for no costs.
        from .prices.opening import open_credits, open_prices

        settings = self._settings
        with self._lock:
            if book not in self._lists:
                self._lists[book] = (
                    open_credits(settings.prices)
                    if book == "credits"
                    else open_prices(settings.prices, settings.price_source)
                )
            return self._lists[book]
