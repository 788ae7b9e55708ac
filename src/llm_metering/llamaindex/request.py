"""`Request`: one request to a provider, told to the call table of each meter that it is for."""

from __future__ import annotations

from uuid import uuid4

from msgspec.structs import replace

from ..calls import CallStart, Outcome, Report
from ..subjects import Attribution
from .accounts import Teller

__all__ = ["Request", "Tellers"]

Tellers = list[tuple[Teller, Attribution]]
"""Who is told of a request, and who pays for it by what each of them knows."""


class Request:
    """One request, which is one event; or none at all, if nothing was asked.

    Args:
        start: What is known of it.
        tellers: Who is told.
    """

    __slots__ = ("_key", "_start", "_tellers", "is_begun")

    def __init__(self, start: CallStart, tellers: Tellers) -> None:
        self._key = uuid4().hex
        self._start = start
        self._tellers = tellers
        self.is_begun = False

    def begin(self) -> None:
        """It is about to be made."""
        self.is_begun = True
        for (account, meter), attribution in self._tellers:
            start = replace(self._start, attribution=attribution, teller=account.name, request=self)
            meter.calls.start(self._key, start)

    def end(self, outcome: Outcome, report: Report) -> None:
        """It is over."""
        if not self.is_begun:
            self.begin()
        for (account, meter), _ in self._tellers:
            meter.calls.end(self._key, outcome, report, teller=account.name)

    def drop(self) -> None:
        """It was not made."""
        if self.is_begun:
            for (_, meter), _ in self._tellers:
                meter.calls.withdraw(self._key)

    def refuse(self, reason: str) -> None:
        """It is not to be made."""
        for (_, meter), _ in self._tellers:
            meter.calls.refuse(self._key, self, reason)
