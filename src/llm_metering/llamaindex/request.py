"""`Request`: one request to a provider, told to the call table of each meter that it is for."""

from __future__ import annotations

from uuid import uuid4

from msgspec.structs import replace

from ..calls import Call, CallStart, Outcome, Report
from ..errors import CallRefusedError
from ..subjects import Attribution
from .accounts import Teller
from .reserving import Passed, admit, admit_async

__all__ = ["Request", "Tellers"]

Tellers = list[tuple[Teller, Attribution]]
"""Who is told of a request, and who pays for it by what each of them knows."""


class Request:
    """One request, which is one event; or none at all, if nothing was asked.

    Args:
        start: What is known of it.
        tellers: Who is told.
        passed: What it has passed, or is to pass before it is made.

    Attributes:
        is_begun: Whether it was told of.
        passed: As above, until it is another one's.
    """

    __slots__ = ("_call", "_key", "_start", "_tellers", "is_begun", "passed")

    def __init__(self, start: CallStart, tellers: Tellers, passed: Passed | None = None) -> None:
        self._key = uuid4().hex
        self._start = start
        self._tellers = tellers
        self._call: Call | None = None
        self.is_begun = False
        self.passed = passed

    def begin(self) -> None:
        """It is about to be made."""
        self.is_begun = True
        first = self._start
        if self.passed is not None:
            first = replace(first, reservation=self.passed.reservation)
        for (account, meter, _), attribution in self._tellers:
            start = replace(first, attribution=attribution, teller=account.name, request=self)
            self._call = meter.calls.start(self._key, start)

    def hand_over(self) -> Passed | None:
        """What is reserved for it is another one's from now on, which asks in its place."""
        passed, self.passed = self.passed, None
        if passed is not None and self._call is not None:
            self._call.reservation = None
        return passed

    def admit(self) -> CallRefusedError | None:
        """Reserve what it may need; what to raise in its place, if it may not be made."""
        if self.passed is None or self._call is None:
            return None
        return admit(self.passed, self._call)

    async def admit_async(self) -> CallRefusedError | None:
        """`admit`, without blocking the event loop."""
        if self.passed is None or self._call is None:
            return None
        return await admit_async(self.passed, self._call)

    def end(self, outcome: Outcome, report: Report) -> None:
        """It is over."""
        if not self.is_begun:
            self.begin()
        for (account, meter, _), _ in self._tellers:
            meter.calls.end(self._key, outcome, report, teller=account.name)

    def drop(self) -> None:
        """It was not made."""
        if self.is_begun:
            for (_, meter, _), _ in self._tellers:
                meter.calls.withdraw(self._key)

    def refuse(self, reason: str) -> None:
        """It is not to be made."""
        for (_, meter, _), _ in self._tellers:
            meter.calls.refuse(self._key, self, reason)
