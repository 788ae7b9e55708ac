"""`Reservation`: something that was reserved by hand, to be settled or given back."""

from __future__ import annotations

import os
from decimal import Decimal
from types import TracebackType
from typing import Self

from ..errors import InvalidArgumentError
from .features import Feature
from .stores import AccountKey, LimitStore, Settlement

__all__ = ["Reservation"]


class Reservation:
    """A part of a balance that nobody else gets until it is settled, given back, or ends.

    A context manager: what was not settled inside is given back at its end. ::

        with llm_metering.reserve("customer-42", 5_000) as reservation:
            completion = client.chat.completions.create(...)
            reservation.settle(completion.usage.total_tokens)

    Or let the event settle it, which says how much was used: `record(completion,
    subject="customer-42", reservation=reservation)`.

    Attributes:
        id: Names it; an event with this `reservation_id` settles it.
        subject: Whose balance.
        unit: What it is counted in: `tokens`, `credits`, or the code of a currency.
        amount: How much.
    """

    def __init__(
        self,
        store: LimitStore,
        *,
        id: str,
        key: AccountKey,
        feature: Feature,
        amount: int | Decimal,
        source: str,
    ) -> None:
        self._store = store
        self._key = key
        self._feature = feature
        self._source = source
        self._is_open = True
        self._process = os.getpid()
        self.id = id
        self.subject = key.subject
        self.unit = feature.shown
        self.amount = amount

    def __repr__(self) -> str:
        return f"<Reservation {self.id} of {self.amount} {self.unit} for {self.subject!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A forked child leaves the block as well: what is reserved is its parent's.
        if self._is_open and self._process == os.getpid():
            self.void()

    def settle(self, amount: int | Decimal | str) -> None:
        """Burn what was used, be it more or less than was reserved; a second time changes nothing.

        Args:
            amount: How much; what the balance does not have of it is overage.

        Raises:
            InvalidArgumentError: If that is no amount.
            LimitStoreError: If the store cannot be used now; nothing was burnt then.
        """
        parts = self._feature.parts(amount)
        self._store.settle(
            [
                Settlement(
                    source=self._source,
                    id=self.id,
                    reservation=self.id,
                    amounts={self._key: parts},
                )
            ]
        )
        self._is_open = False

    def renew(self, seconds: float) -> bool:
        """Let it count for so many seconds from now on; whether it was still there.

        Raises:
            InvalidArgumentError: If `seconds` is not above 0.
            LimitStoreError: If the store cannot be used now.
        """
        if not 0 < seconds < 10**9:
            raise InvalidArgumentError("seconds is more than 0")
        return bool(self._store.renew([self.id], seconds))

    def handed_over(self) -> str:
        """Its id, for an event that settles it; the end of the context manager leaves it alone."""
        self._is_open = False
        return self.id

    def void(self) -> bool:
        """Give it back; whether it was still there.

        Raises:
            LimitStoreError: If the store cannot be used now; it ends by itself then.
        """
        self._is_open = False
        return self._store.release(self.id)
